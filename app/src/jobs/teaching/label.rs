//! `data label`: answers of a teacher, kept in the store as they come (S1.1 to S1.6).

use super::{Opened, write_rows};
use peft_plan::Result;
use peft_storage::{NewCall, Store};
use peft_teach::budget::Budget;
use peft_teach::engine::{Event, Pace, Tally, run};
use peft_teach::label::{Heard, Labelling, Outcome, Sheet, Style};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::path::PathBuf;

/// What is to be labelled.
#[derive(Clone, Debug)]
pub struct Request {
    /// The model that answers.
    pub model: String,
    /// The rows.
    pub rows: Vec<Sheet>,
    /// Keep the answers that are there.
    pub skip_existing: bool,
    /// Rows at the same time.
    pub batch: usize,
    /// Generation options.
    pub style: Style,
    /// The file to write.
    pub out: PathBuf,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The file.
    pub out: String,
    /// Rows with an answer in it.
    pub rows: usize,
    /// Rows that kept the answer they had, by their names.
    pub skipped: Vec<String>,
    /// Rows without a usable answer, by their names, with the reason.
    pub failed: Vec<(String, String)>,
    /// What happened.
    #[serde(flatten)]
    pub tally: Tally,
}

/// Labels the rows and writes those that have an answer, in their order.
pub fn label(
    store: &Store,
    opened: &Opened,
    request: &Request,
    halt: &dyn Fn() -> bool,
    on_event: &mut dyn FnMut(&Event),
) -> Result<Report> {
    let Request { model, rows, skip_existing, batch, style, out } = request;
    let price = opened.price(model)?.unwrap_or_default();
    let (job, mut done) = resumed(store, opened, request)?;
    let keeps = |sheet: &Sheet| *skip_existing && sheet.is_labelled();
    let skipped: Vec<String> = rows.iter().filter(|sheet| keeps(sheet)).map(|sheet| sheet.id.clone()).collect();
    let open: Vec<&Sheet> = rows.iter().filter(|sheet| !keeps(sheet) && !done.contains_key(&unit(sheet))).collect();
    let mut failed = Vec::new();
    let mut on_answer = |heard: Heard| {
        let unit = unit(heard.sheet);
        store.keep_call(job, &call(&unit, &heard))?;
        match heard.outcome {
            Outcome::Labelled(fields) => drop(done.insert(unit, fields)),
            Outcome::Failed(why) => failed.push((heard.sheet.id.clone(), why)),
            Outcome::Again => {}
        }
        Ok(())
    };
    let mut work = Labelling::new(open, *style, &mut on_answer);
    let plan = (Pace { at_once: *batch, ..Pace::default() }, price, Budget::default());
    let tally = run(&*opened.helper, model, &mut work, plan, halt, on_event)?;
    drop(work);
    let labelled = rows
        .iter()
        .filter_map(|sheet| if keeps(sheet) { Some(sheet.fields.clone()) } else { done.get(&unit(sheet)).cloned() });
    let rows = write_rows(out, labelled.map(Value::Object))?;
    Ok(Report { out: out.display().to_string(), rows, skipped, failed, tally })
}

/// An answer as the store keeps it.
fn call(unit: &str, heard: &Heard) -> NewCall {
    let (outcome, raw, taken) = match &heard.outcome {
        Outcome::Labelled(fields) => ("answered", heard.raw, vec![Value::Object(fields.clone())]),
        Outcome::Again => ("answered", heard.raw, Vec::new()),
        Outcome::Failed(why) if heard.raw.is_empty() => ("failed", why.as_str(), Vec::new()),
        Outcome::Failed(_) => ("failed", heard.raw, Vec::new()),
    };
    NewCall {
        unit: unit.to_owned(),
        round: heard.round,
        outcome: outcome.to_owned(),
        raw: raw.to_owned(),
        cost: heard.cost,
        is_over: !taken.is_empty(),
        taken,
        refused: Vec::new(),
    }
}

/// A row's name in the store: the same row asked in another way is another one.
fn unit(sheet: &Sheet) -> String {
    let mut fields = sheet.fields.clone();
    fields.remove("assistant");
    format!("{} {}", sheet.line, Value::Object(fields))
}

/// Answered rows by their names in the store.
type Answered = HashMap<String, Map<String, Value>>;

/// The job, and the answers that an earlier call left in it. One that is whole begins anew.
fn resumed(store: &Store, opened: &Opened, request: &Request) -> Result<(i64, Answered)> {
    let Style { temperature, max_new_tokens, seed } = request.style;
    let out = std::path::absolute(&request.out).unwrap_or_else(|_| request.out.clone());
    let settings = json!({
        "kind": "label", "who": opened.who, "model": request.model, "out": out.display().to_string(),
        "temperature": temperature, "max_new_tokens": max_new_tokens, "seed": seed,
    });
    let key = settings.to_string();
    let mut job = store.teaching_job(&key, None, &settings)?;
    let mut done: HashMap<String, Map<String, Value>> = HashMap::new();
    for row in store.teaching_rows(job, true)? {
        if let Value::Object(fields) = row.content {
            done.insert(row.unit, fields);
        }
    }
    if !request.skip_existing && request.rows.iter().all(|sheet| done.contains_key(&unit(sheet))) {
        store.forget_teaching_job(job)?;
        job = store.teaching_job(&key, None, &settings)?;
        done.clear();
    }
    Ok((job, done))
}
