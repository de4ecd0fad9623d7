//! Answers of a teacher for rows that have none (S1.1 to S1.6).
//!
//! A row is a JSON object with `user`, and where it likes `system_hint`, `requires_json` and a schema. The teacher is shown
//! exactly the turns that a student will be shown (S1.2); the answer is added as `assistant`, and nothing else changes.

use crate::engine::{Ask, Progress, Work};
use crate::reply::json_value;
use peft_data::labelling_turns;
use peft_plan::helper::{Said, Setback};
use peft_plan::judge::fits_schema;
use peft_plan::{Fault, Result, Turn};
use serde_json::{Map, Value};
use std::sync::Arc;

/// Questions about one row.
const ROUNDS: u32 = 3;

/// A row of the file.
#[derive(Clone, Debug)]
pub struct Sheet {
    /// Its line, from 1.
    pub line: usize,
    /// Its own name, or its line.
    pub id: String,
    /// As it stands in the file.
    pub fields: Map<String, Value>,
}

impl Sheet {
    /// Rows of a JSONL text. PS-DATA-001 for a line that is none, PS-DATA-003 for a row that asks nothing.
    pub fn read(text: &str) -> Result<Vec<Self>> {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        lines.map(|(index, line)| Self::of_line(index + 1, line)).collect()
    }

    fn of_line(line: usize, text: &str) -> Result<Self> {
        let fields: Map<String, Value> = serde_json::from_str(text.trim_start_matches('\u{feff}'))
            .map_err(|error| Fault::new("PS-DATA-001", format!("Line {line} is not a JSON object: {error}.")))?;
        let id = match fields.get("id") {
            Some(Value::String(id)) => id.clone(),
            Some(Value::Number(id)) => id.to_string(),
            _ => format!("line {line}"),
        };
        if fields.get("user").and_then(Value::as_str).is_none_or(|user| user.trim().is_empty()) {
            let detail = format!("Line {line} has no `user`: there is nothing to ask the teacher.");
            return Err(Fault::new("PS-DATA-003", detail));
        }
        Ok(Self { line, id, fields })
    }

    /// It has an answer already.
    pub fn is_labelled(&self) -> bool {
        self.fields.get("assistant").and_then(Value::as_str).is_some_and(|answer| !answer.trim().is_empty())
    }

    /// What the teacher is shown.
    pub fn turns(&self) -> Vec<Turn> {
        labelling_turns(&self.fields)
    }

    /// What the answer must be: nothing, any JSON, or what a schema says.
    pub fn form(&self) -> Option<Value> {
        let wants = match self.fields.get("requires_json") {
            Some(Value::Bool(wants)) => *wants,
            Some(Value::String(wants)) => matches!(wants.trim(), "true" | "True" | "1" | "yes"),
            Some(Value::Number(wants)) => wants.as_f64().is_some_and(|wants| wants > 0.0),
            _ => false,
        };
        let schema = self.fields.get("json_schema").or_else(|| self.fields.get("schema"));
        let schema = match schema {
            // Some files hold the schema as text.
            Some(Value::String(text)) => serde_json::from_str(text).ok(),
            other => other.cloned(),
        };
        wants.then(|| schema.filter(Value::is_object).unwrap_or_else(|| Value::Object(Map::new())))
    }

    /// The row with its answer; `None` for an answer that is not what the row needs.
    pub fn labelled(&self, answer: &str) -> Option<Map<String, Value>> {
        let behind = answer.rfind("</think>").map_or(answer, |at| &answer[at + "</think>".len()..]).trim();
        let text = match self.form() {
            None if behind.is_empty() => return None,
            None => behind.to_owned(),
            Some(schema) => {
                let value = json_value(behind)?;
                if !fits_schema(&value, &schema) {
                    return None;
                }
                // As the teacher wrote it, where it wrote nothing else.
                if serde_json::from_str::<Value>(behind).is_ok() { behind.to_owned() } else { value.to_string() }
            }
        };
        let mut fields = self.fields.clone();
        fields.insert("assistant".to_owned(), Value::String(text));
        Some(fields)
    }
}

/// Generation options (S1.5).
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// 0 takes the likeliest token each time; what `--do-sample` is left out for.
    pub temperature: f32,
    /// Longest answer, tokens.
    pub max_new_tokens: usize,
    /// Another one gives other answers.
    pub seed: u64,
}

/// What an answer is to its row.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The row with its answer.
    Labelled(Map<String, Value>),
    /// It is not what the row needs, and the teacher is asked again.
    Again,
    /// There is no answer, and why.
    Failed(String),
}

/// An answer about a row, or that none came.
#[derive(Clone, Debug)]
pub struct Heard<'a> {
    /// The row.
    pub sheet: &'a Sheet,
    /// Counts the questions about it, from 0.
    pub round: u32,
    /// As it came; empty where nothing came.
    pub raw: &'a str,
    /// USD.
    pub cost: f64,
    /// What it is to the row.
    pub outcome: Outcome,
}

/// Hears of every answer, and keeps it.
pub type OnAnswer<'a> = dyn FnMut(Heard) -> Result<()> + 'a;

/// Labelling.
pub struct Labelling<'a> {
    /// What is to be asked.
    rows: Vec<&'a Sheet>,
    style: Style,
    next: usize,
    over: usize,
    labelled: usize,
    on_answer: &'a mut OnAnswer<'a>,
}

impl<'a> Labelling<'a> {
    /// Ask about `rows`.
    pub fn new(rows: Vec<&'a Sheet>, style: Style, on_answer: &'a mut OnAnswer<'a>) -> Self {
        Self { rows, style, next: 0, over: 0, labelled: 0, on_answer }
    }

    fn ask(&self, index: usize, round: u32) -> Ask {
        let row = self.rows[index];
        // A teacher that is asked again for what it gave before must be free to say something else.
        let temperature = if round == 0 { self.style.temperature } else { self.style.temperature.max(0.7) };
        Ask {
            unit: index.to_string(),
            round,
            turns: row.turns(),
            schema: row.form().filter(|form| form.as_object().is_some_and(|form| !form.is_empty())).map(Arc::new),
            max_new_tokens: self.style.max_new_tokens,
            temperature,
            // The same for all rows: a local teacher answers together what is asked in the same way.
            seed: (self.style.seed + u64::from(round)) & 0x7fff_ffff,
        }
    }
}

impl Work for Labelling<'_> {
    fn next(&mut self) -> Option<Ask> {
        let index = self.next;
        self.next += 1;
        (index < self.rows.len()).then(|| self.ask(index, 0))
    }

    fn answered(&mut self, ask: &Ask, said: &Said, cost: f64) -> Result<Option<Ask>> {
        let index: usize = ask.unit.parse().unwrap_or(0);
        let outcome = match self.rows[index].labelled(&said.text) {
            Some(fields) => Outcome::Labelled(fields),
            None if ask.round + 1 < ROUNDS => Outcome::Again,
            None => Outcome::Failed("the teacher's answer is empty or not the JSON that the row needs".to_owned()),
        };
        let is_again = outcome == Outcome::Again;
        self.over += usize::from(!is_again);
        self.labelled += usize::from(matches!(outcome, Outcome::Labelled(_)));
        let (sheet, round, raw) = (self.rows[index], ask.round, said.text.as_str());
        (self.on_answer)(Heard { sheet, round, raw, cost, outcome })?;
        Ok(is_again.then(|| self.ask(index, ask.round + 1)))
    }

    fn gave_up(&mut self, ask: &Ask, why: &Setback) -> Result<()> {
        let index: usize = ask.unit.parse().unwrap_or(0);
        self.over += 1;
        let outcome = Outcome::Failed(why.reason());
        (self.on_answer)(Heard { sheet: self.rows[index], round: ask.round, raw: "", cost: 0.0, outcome })
    }

    fn progress(&self) -> Progress {
        Progress { units: self.rows.len(), over: self.over, rows: self.labelled }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use peft_plan::Role;
    use serde_json::json;

    const ROWS: &str = r#"{"id":"r1","system_hint":"Réponds en québécois.","user":"Salut?","register":"casual"}
{"user":"Give a point.","requires_json":true,"json_schema":{"type":"object","properties":{"x":{"type":"number"}},"required":["x"]}}
{"id":3,"user":"Done?","assistant":"Yes."}"#;

    #[test]
    fn the_teacher_sees_what_the_student_will_see_s1_2() {
        let rows = Sheet::read(ROWS).expect("rows");
        let turns = rows[0].turns();
        assert_eq!((turns[0].role, turns[0].content.as_str()), (Role::System, "Réponds en québécois."));
        assert_eq!((turns.len(), turns[1].content.as_str()), (2, "Salut?"));
        let asked = &rows[1].turns()[0].content;
        assert!(asked.starts_with("Give a point.\n\nAnswer with valid JSON only"), "{asked}");
        assert!(rows[2].is_labelled() && !rows[0].is_labelled());
        assert_eq!((rows[1].id.as_str(), rows[2].id.as_str()), ("line 2", "3"));
    }

    #[test]
    fn an_answer_is_added_and_nothing_else_changes_s1_1() {
        let rows = Sheet::read(ROWS).expect("rows");
        let labelled = rows[0].labelled("<think>hm</think>\n Allo! ").expect("an answer");
        assert_eq!(Value::Object(labelled)["assistant"], "Allo!");
        assert_eq!(rows[0].labelled(" \n"), None);
        let json = rows[1].labelled("Here: ```json\n{\"x\": 2}\n```").expect("valid JSON");
        assert_eq!(json["assistant"], json!("{\"x\":2}"));
        assert_eq!(rows[1].labelled("{\"y\": 2}"), None, "it does not fit the schema");
        assert_eq!(rows[1].labelled("no JSON"), None);
    }

    #[test]
    fn a_row_that_asks_nothing_is_refused_by_its_line() {
        assert_eq!(Sheet::read("{\"user\":\" \"}").expect_err("blank").code, "PS-DATA-003");
        let fault = Sheet::read("{\"user\":\"a\"}\n[1]").expect_err("no object");
        assert!(fault.code == "PS-DATA-001" && fault.detail.contains("Line 2"), "{}", fault.detail);
    }
}
