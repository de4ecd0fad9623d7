//! `data generate`: rows from chunks or from a wish, kept in the store before anything else happens (S2.3, S2.9).

use super::{Opened, read_text, write_rows};
use peft_plan::helper::Service;
use peft_plan::{Fault, Result};
use peft_storage::{NewCall, Store};
use peft_teach::ask_again::{Judged, weak_chunks};
use peft_teach::budget::Budget;
use peft_teach::chunk::Chunk;
use peft_teach::engine::{Event, Pace, Tally, run};
use peft_teach::generate::{Before, Generation, Kept, Ledger, Origin, Style};
use peft_teach::prompt::Wish;
use peft_teach::verdict::{Reason, Row};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

/// What is to be made.
#[derive(Clone, Debug)]
pub struct Request {
    /// The model that writes.
    pub model: String,
    /// What rows.
    pub wish: Wish,
    /// How answers are asked for.
    pub style: Style,
    /// Chunks, or nothing where rows come from the wish alone.
    pub chunks: Option<Vec<Chunk>>,
    /// Rows in all, without chunks.
    pub rows: usize,
    /// The project that the rows are for.
    pub project: Option<String>,
    /// Questions that judge the trained model; rows are made of the chunks that those lead to that were answered badly.
    pub judged: Option<Judged>,
    /// How questions are asked.
    pub pace: Pace,
    /// USD that may be spent in all.
    pub cap: Option<f64>,
    /// Forget what was made before.
    pub restarts: bool,
    /// Where the helper is, as it was typed: whoever goes on later asks there again.
    pub place: Option<String>,
    /// Rows that stay before those that are made.
    pub after: Option<PathBuf>,
    /// The file to write.
    pub out: PathBuf,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The file.
    pub out: String,
    /// Rows in it.
    pub rows: usize,
    /// Chunks, or batches of the wish.
    pub units: usize,
    /// Questions that were answered badly, where rows were made for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_questions: Option<usize>,
    /// Rows that this call did not take, by reason.
    pub rejected: BTreeMap<Reason, u64>,
    /// What happened.
    #[serde(flatten)]
    pub tally: Tally,
    /// Number of the job in the store.
    pub job: i64,
}

/// Makes the rows and writes them, also where it was stopped or the budget is spent. A fault leaves the file as it was
/// and what was made in the store.
pub fn generate(
    store: &Store,
    opened: &Opened,
    request: &Request,
    halt: &dyn Fn() -> bool,
    on_event: &mut dyn FnMut(&Event),
) -> Result<Report> {
    let Request { model, wish, style, rows, project, judged, pace, cap, restarts, out, place, after, .. } = request;
    wish.check()?;
    let price = opened.price(model)?;
    let is_free = matches!(opened.helper.service(), Service::Ollama | Service::Local);
    if cap.is_some() && price.is_none() && !is_free {
        let detail = format!("{} names no price for `{model}`, so a budget cannot be kept.", opened.who);
        return Err(Fault::new("PS-CFG-001", detail));
    }
    let chunks = targeted(request)?;
    let key = key(opened, request);
    let mut kept = settings(opened, request);
    kept["out"] = json!(absolute(out));
    kept["provider"] = json!(opened.helper.service().as_str());
    kept["place"] = json!(place);
    kept["after"] = json!(after.as_deref().map(absolute));
    if *restarts && let Some(job) = store.find_teaching_job(&key)? {
        // What it made is made anew; rows of other work, and what stood before both, stay.
        let known = store.teaching_settings(job)?.unwrap_or_default();
        kept["made_before"] = json!(made_by(store, job, &known)?);
        if after.is_none() {
            kept["after"] = known["after"].clone();
        }
        store.forget_teaching_job(job)?;
    }
    let job = store.teaching_job(&key, project.as_deref(), &kept)?;
    if after.is_some() && !*restarts {
        // Rows may have come since this work was begun: those of other work stay, its own are told from them.
        let mut now = store.teaching_settings(job)?.unwrap_or_default();
        now["after"] = kept["after"].take();
        store.put_teaching_settings(job, &now)?;
    }
    let (mut before, spent) = (before(store, job)?, store.teaching_cost(job)?.1);
    before.there = there(store, job)?.iter().filter_map(question).map(str::to_owned).collect();
    before.held_out = judged.iter().flat_map(|judged| judged.questions.clone()).collect();
    let mut ledger = StoreLedger { store, job };
    let origin = chunks.as_deref().map_or(Origin::Wish(*rows), Origin::Chunks);
    let mut work = Generation::new(wish, *style, origin, before, &mut ledger)?;
    let plan = (*pace, price.unwrap_or_default(), Budget::new(*cap, spent));
    let tally = run(&*opened.helper, model, &mut work, plan, halt, on_event)?;
    work.check(&tally, &opened.who)?;
    let (units, rejected) = (work.units(), work.rejected().clone());
    drop(work);
    let rows = write(store, job, out)?;
    let failed_questions = judged.as_ref().map(|judged| judged.failed.len());
    Ok(Report { out: out.display().to_string(), rows, units, failed_questions, rejected, tally, job })
}

/// The chunks that rows are made of: all of them, or those that bad answers lead to, the weakest first (B14).
fn targeted(request: &Request) -> Result<Option<Vec<Chunk>>> {
    let (Some(judged), Some(chunks)) = (&request.judged, &request.chunks) else { return Ok(request.chunks.clone()) };
    if judged.failed.is_empty() {
        let detail =
            format!("All {} questions were answered well: there is nothing to ask again.", judged.questions.len());
        return Err(Fault::new("PS-CFG-001", detail));
    }
    let weak = weak_chunks(&judged.failed, chunks);
    if weak.is_empty() {
        let detail = "No chunk has words of the questions that were answered badly; are they about other documents?";
        return Err(Fault::new("PS-CFG-001", detail));
    }
    Ok(Some(weak.iter().map(|weak| chunks[weak.chunk].clone()).collect()))
}

/// As a path is named from everywhere.
fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// The rows of a job as they are now, as people changed them and without those that they refused; before them those that
/// were there when it began, where that was asked for.
pub fn write(store: &Store, job: i64, out: &Path) -> Result<usize> {
    let mut all = there(store, job)?;
    for row in store.teaching_rows(job, true)? {
        all.push(row_of(row.content)?.to_json());
    }
    write_rows(out, all.into_iter())
}

/// The rows that stay before those of a job: all that were there and are not its own.
fn there(store: &Store, job: i64) -> Result<Vec<Value>> {
    let settings = store.teaching_settings(job)?.unwrap_or_default();
    let Some(after) = settings["after"].as_str().map(Path::new) else { return Ok(Vec::new()) };
    let text = read_text(after)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let row = |(index, line): (usize, &str)| {
        let line = line.trim_start_matches('\u{feff}');
        let row = serde_json::from_str(line).ok().filter(Value::is_object);
        row.ok_or_else(|| {
            let detail =
                format!("Line {} of the rows that are there is no JSON object: nothing can be added.", index + 1);
            Fault::new("PS-DATA-001", detail)
        })
    };
    let mut rows: Vec<Value> = lines.map(row).collect::<Result<_>>()?;
    let own = made_by(store, job, &settings)?;
    rows.retain(|row| !own.contains(&name_of(row)));
    Ok(rows)
}

/// Names of all rows that a job with these settings made, also before it was begun anew.
fn made_by(store: &Store, job: i64, settings: &Value) -> Result<HashSet<String>> {
    let before = settings["made_before"].as_array().into_iter().flatten();
    let mut names: HashSet<String> = before.filter_map(|name| name.as_str().map(str::to_owned)).collect();
    for content in store.teaching_wordings(job)? {
        names.insert(name_of(&row_of(content)?.to_json()));
    }
    Ok(names)
}

/// What a row is told from others by, wherever it stands.
fn name_of(row: &Value) -> String {
    peft_teach::key(&[&row.to_string()])
}

/// What a row asks, whoever wrote it.
fn question(row: &Value) -> Option<&str> {
    let first = || {
        let turns = row["messages"].as_array()?;
        turns.iter().find(|turn| turn["role"] == "user")?["content"].as_str()
    };
    ["instruction", "question", "user", "prompt"].iter().find_map(|name| row[*name].as_str()).or_else(first)
}

fn row_of(content: Value) -> Result<Row> {
    serde_json::from_value(content)
        .map_err(|error| Fault::new("PS-DB-004", format!("A row in the store cannot be read: {error}.")))
}

fn before(store: &Store, job: i64) -> Result<Before> {
    let units = store.teaching_units(job)?;
    let over: HashSet<String> = units.iter().filter(|unit| unit.is_over).map(|unit| unit.unit.clone()).collect();
    let open = units.into_iter().filter(|unit| !unit.is_over);
    let rounds: HashMap<String, u32> = open.map(|unit| (unit.unit, unit.rounds)).collect();
    let rows = store.teaching_rows(job, false)?.into_iter();
    // What a person refused was asked all the same, and is not asked again.
    let rows = rows.filter(|row| row.reason.is_none()).map(|row| Ok((row.unit, row_of(row.content)?)));
    Ok(Before { over, rounds, rows: rows.collect::<Result<_>>()?, held_out: Vec::new(), there: Vec::new() })
}

/// What makes the work the same work.
fn settings(opened: &Opened, request: &Request) -> Value {
    let Request { model, wish, style, chunks, rows, judged, .. } = request;
    let (temperature, seed) = (style.temperature, style.seed);
    let total = if chunks.is_some() { None } else { Some(rows) };
    let mut settings = json!({
        "kind": "generate", "who": opened.who, "model": model, "wish": wish, "temperature": temperature, "seed": seed,
        "rows": total,
    });
    if judged.is_some() {
        settings["asks_again"] = json!(true);
    }
    settings
}

fn key(opened: &Opened, request: &Request) -> String {
    // Chunks have keys of their own: a file that grew goes on with what is new.
    format!("{} {}", absolute(&request.out), settings(opened, request))
}

/// Keeps what comes in the store.
struct StoreLedger<'a> {
    store: &'a Store,
    job: i64,
}

impl Ledger for StoreLedger<'_> {
    fn keep(&mut self, kept: &Kept) -> Result<()> {
        let text = |reason: &Reason| json!(reason).as_str().unwrap_or_default().to_owned();
        let refused = kept
            .rejected
            .iter()
            .map(|(reason, draft)| (text(reason), json!({"exchanges": draft.exchanges, "evidence": draft.evidence})));
        self.store.keep_call(
            self.job,
            &NewCall {
                unit: kept.unit.to_owned(),
                round: kept.round,
                outcome: kept.outcome.to_owned(),
                raw: kept.raw.to_owned(),
                cost: kept.cost,
                is_over: kept.is_over,
                taken: kept.rows.iter().map(|row| json!(row)).collect(),
                refused: refused.collect(),
            },
        )
    }
}
