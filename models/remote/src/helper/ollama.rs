//! Ollama's own protocol: lines of JSON, a schema as it is, and the length of the context with every question.

use super::link::{Heard, Link, Listener};
use super::no;
use peft_plan::Turn;
use peft_plan::helper::{Credit, Ended, Helper, HelperModel, OnPiece, Question, Said, Service, Setback};
use serde_json::{Value, json};

/// Shortest and longest context that is asked for, tokens.
const CONTEXT: (usize, usize) = (4096, 131_072);
/// Characters of a token, where text is dense.
const DENSE: usize = 3;

/// A running Ollama.
pub(crate) struct OllamaHelper {
    link: Link,
}

impl OllamaHelper {
    pub(crate) fn new(link: Link) -> Self {
        Self { link }
    }
}

impl Helper for OllamaHelper {
    fn who(&self) -> String {
        self.link.who.clone()
    }

    fn service(&self) -> Service {
        Service::Ollama
    }

    fn models(&self) -> Result<Vec<HelperModel>, Setback> {
        let document = self.link.get("api/tags")?;
        let list = document["models"].as_array();
        let list = list.ok_or_else(|| Setback::Nonsense("it lists no models; this may not be Ollama".to_owned()))?;
        let model = |entry: &Value| {
            Some(HelperModel {
                name: entry["name"].as_str().or_else(|| entry["model"].as_str())?.to_owned(),
                bytes: entry["size"].as_u64(),
                parameters: entry["details"]["parameter_size"].as_str().map(no::clean),
                context_tokens: entry["details"]["context_length"].as_u64(),
                takes_schema: Some(true),
                ..HelperModel::default()
            })
        };
        Ok(list.iter().filter_map(model).collect())
    }

    fn credit(&self) -> Result<Option<Credit>, Setback> {
        Ok(None)
    }

    fn ask(&self, model: &str, question: &Question, on_piece: &mut OnPiece) -> Result<Said, Setback> {
        let mut body = json!({
            "model": model,
            "messages": messages(question.turns),
            "stream": true,
            "options": {
                "num_predict": question.max_new_tokens,
                "temperature": question.temperature,
                "seed": question.seed,
                "num_ctx": context(question),
            },
        });
        if let Some(schema) = question.schema {
            body["format"] = schema.clone();
        }
        let mut answer = Answer::new(question.max_new_tokens);
        self.link.stream("api/chat", &body, &mut answer, on_piece)?;
        Ok(answer.said)
    }

    fn embed(&self, model: &str, texts: &[&str]) -> Result<Vec<Vec<f32>>, Setback> {
        let document = self.link.post("api/embed", &json!({"model": model, "input": texts, "truncate": true}))?;
        let vectors = document["embeddings"].as_array().map(Vec::as_slice).unwrap_or_default();
        vectors_of(vectors.iter(), texts.len())
    }
}

/// As both protocols write a conversation.
pub(super) fn messages(turns: &[Turn]) -> Vec<Value> {
    turns.iter().map(|turn| json!({"role": turn.role.as_str(), "content": turn.as_text()})).collect()
}

/// Room for question and answer in steps that double: another length loads the model anew.
fn context(question: &Question) -> usize {
    let characters: usize = question.turns.iter().map(|turn| turn.content.chars().count() + 16).sum();
    let needed = characters / DENSE + question.max_new_tokens;
    needed.clamp(CONTEXT.0, CONTEXT.1).next_power_of_two()
}

/// Vectors as a service sends them: one for each text, all of one length, all numbers.
pub(super) fn vectors_of<'a>(values: impl Iterator<Item = &'a Value>, wanted: usize) -> Result<Vec<Vec<f32>>, Setback> {
    let number = |value: &Value| value.as_f64().map(|value| value as f32).filter(|value| value.is_finite());
    let vector = |value: &Value| value.as_array()?.iter().map(number).collect::<Option<Vec<f32>>>();
    let vectors: Option<Vec<Vec<f32>>> = values.map(vector).collect();
    let vectors =
        vectors.ok_or_else(|| Setback::Nonsense("its vectors hold something else than numbers".to_owned()))?;
    let length = vectors.first().map_or(0, Vec::len);
    if vectors.len() != wanted || length == 0 || vectors.iter().any(|vector| vector.len() != length) {
        let why = format!("{} vectors came for {wanted} texts, or not all of one length", vectors.len());
        return Err(Setback::Nonsense(why));
    }
    Ok(vectors)
}

/// Longest answer in characters, for one of so many tokens.
pub(super) fn longest(max_new_tokens: usize) -> usize {
    4096 + max_new_tokens.saturating_mul(64)
}

struct Answer {
    said: Said,
    longest: usize,
}

impl Answer {
    fn new(max_new_tokens: usize) -> Self {
        let said = Said { text: String::new(), ended: Ended::Stop, prompt_tokens: 0, generated_tokens: 0, cost: None };
        Self { said, longest: longest(max_new_tokens) }
    }
}

impl Listener for Answer {
    fn line(&mut self, line: &[u8]) -> Result<Heard, Setback> {
        let event: Value = serde_json::from_slice(line)
            .map_err(|_| Setback::Nonsense("it answered something that is not JSON".to_owned()))?;
        if let Some(said) = no::said(&event) {
            return Err(no::meaning(200, &said, None));
        }
        let piece = event["message"]["content"].as_str().unwrap_or_default();
        self.said.text.push_str(piece);
        if self.said.text.len() > self.longest {
            return Err(Setback::Nonsense("its answer has no end".to_owned()));
        }
        if event["done"].as_bool() == Some(true) {
            self.said.ended = if event["done_reason"] == "length" { Ended::Length } else { Ended::Stop };
            self.said.prompt_tokens = event["prompt_eval_count"].as_u64().unwrap_or(0);
            self.said.generated_tokens = event["eval_count"].as_u64().unwrap_or(0);
            return Ok(Heard::Over);
        }
        Ok(if piece.is_empty() { Heard::Nothing } else { Heard::Piece(piece.to_owned()) })
    }

    fn document(&mut self, document: &Value) -> Result<Heard, Setback> {
        match self.line(document.to_string().as_bytes())? {
            Heard::Over => Ok(Heard::Piece(self.said.text.clone())),
            _ => Err(Setback::Broken("it ended without saying that it was over".to_owned())),
        }
    }

    fn is_over(&self) -> bool {
        false
    }
}
