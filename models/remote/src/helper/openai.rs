//! OpenAI's protocol: events of a stream, a schema in `response_format`, and what OpenRouter adds: prices and credit.
//!
//! Services differ in what they know of schemas. The strict form is asked for first; one that refuses it is asked in an
//! older form (which the server of llama-cpp-python takes), then for any JSON, then for nothing, and what it took is
//! remembered. The reply is checked by whoever asked in any case.

use super::link::{Heard, Link, Listener};
use super::no;
use super::ollama::{longest, messages, vectors_of};
use peft_plan::helper::{Credit, Ended, Helper, HelperModel, OnPiece, Question, Said, Service, Setback};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU8, Ordering};

/// Forms of asking for JSON, the strictest first.
const FORMS: u8 = 4;

/// A service that speaks OpenAI's protocol.
pub(crate) struct OpenAiHelper {
    link: Link,
    service: Service,
    /// The strictest form that it has not refused.
    form: AtomicU8,
}

impl OpenAiHelper {
    pub(crate) fn new(link: Link, service: Service) -> Self {
        Self { link, service, form: AtomicU8::new(0) }
    }

    fn body(&self, model: &str, question: &Question, form: u8) -> Value {
        let mut body = json!({
            "model": model,
            "messages": messages(question.turns),
            "stream": true,
            "max_tokens": question.max_new_tokens,
            "temperature": question.temperature,
            "seed": question.seed,
        });
        match self.service {
            Service::OpenRouter => body["usage"] = json!({"include": true}),
            _ => body["stream_options"] = json!({"include_usage": true}),
        }
        if let Some(schema) = question.schema {
            match form {
                0 => {
                    body["response_format"] = json!({
                        "type": "json_schema",
                        "json_schema": {"name": "reply", "strict": true, "schema": schema},
                    });
                    if self.service == Service::OpenRouter {
                        body["provider"] = json!({"require_parameters": true});
                    }
                }
                1 => body["response_format"] = json!({"type": "json_object", "schema": schema}),
                2 => body["response_format"] = json!({"type": "json_object"}),
                _ => {}
            }
        }
        body
    }
}

impl Helper for OpenAiHelper {
    fn who(&self) -> String {
        self.link.who.clone()
    }

    fn service(&self) -> Service {
        self.service
    }

    fn models(&self) -> Result<Vec<HelperModel>, Setback> {
        let document = self.link.get("models")?;
        let list = document["data"].as_array();
        let list = list.ok_or_else(|| Setback::Nonsense("it lists no models; is the address right?".to_owned()))?;
        Ok(list.iter().filter_map(model).collect())
    }

    fn credit(&self) -> Result<Option<Credit>, Setback> {
        if self.service != Service::OpenRouter {
            return Ok(None);
        }
        let data = &self.link.get("key")?["data"];
        let used =
            data["usage"].as_f64().ok_or_else(|| Setback::Nonsense("it does not say what was used".to_owned()))?;
        Ok(Some(Credit { used, left: data["limit_remaining"].as_f64() }))
    }

    fn ask(&self, model: &str, question: &Question, on_piece: &mut OnPiece) -> Result<Said, Setback> {
        loop {
            let form = self.form.load(Ordering::Relaxed);
            let mut answer = Answer::new(question.max_new_tokens);
            let body = self.body(model, question, form);
            match self.link.stream("chat/completions", &body, &mut answer, on_piece) {
                Ok(()) => return Ok(answer.said),
                Err(setback)
                    if question.schema.is_some() && form + 1 < FORMS && is_about_form(&setback, self.service) =>
                {
                    // Whoever else asked at the same time may have been faster.
                    self.form.fetch_max(form + 1, Ordering::Relaxed);
                }
                Err(setback) => return Err(setback),
            }
        }
    }

    fn embed(&self, model: &str, texts: &[&str]) -> Result<Vec<Vec<f32>>, Setback> {
        let document =
            self.link.post("embeddings", &json!({"model": model, "input": texts, "encoding_format": "float"}))?;
        let data = document["data"].as_array().map(Vec::as_slice).unwrap_or_default();
        // In the order of their numbers, where they have numbers.
        let mut order: Vec<&Value> = data.iter().collect();
        order.sort_by_key(|entry| entry["index"].as_u64().unwrap_or(0));
        vectors_of(order.into_iter().map(|entry| &entry["embedding"]), texts.len())
    }
}

fn model(entry: &Value) -> Option<HelperModel> {
    // Prices are text: USD for a token. A negative one is that of a model whose price changes.
    let price = |name: &str| {
        let price = entry["pricing"][name].as_str()?.parse::<f64>().ok()?;
        (price.is_finite() && price >= 0.0).then_some(price)
    };
    let takes = entry["supported_parameters"].as_array();
    let takes_schema = takes.map(|known| known.iter().any(|name| name == "structured_outputs"));
    Some(HelperModel {
        name: entry["id"].as_str()?.to_owned(),
        context_tokens: entry["context_length"].as_u64().or_else(|| entry["meta"]["n_ctx_train"].as_u64()),
        prompt_price: price("prompt"),
        answer_price: price("completion"),
        takes_schema,
        ..HelperModel::default()
    })
}

/// A refusal that is about how JSON was asked for, and not about what was asked.
fn is_about_form(setback: &Setback, service: Service) -> bool {
    let about = |why: &str| no::is_about_schema(&no::Said { message: why.to_owned(), ..no::Said::default() });
    match setback {
        Setback::Declined(why) | Setback::Failed(why) => about(why),
        // No provider behind OpenRouter takes all parameters.
        Setback::NoModel(why) => service == Service::OpenRouter && why.to_lowercase().contains("requested parameters"),
        _ => false,
    }
}

struct Answer {
    said: Said,
    longest: usize,
    is_over: bool,
}

impl Answer {
    fn new(max_new_tokens: usize) -> Self {
        let said = Said { text: String::new(), ended: Ended::Stop, prompt_tokens: 0, generated_tokens: 0, cost: None };
        Self { said, longest: longest(max_new_tokens), is_over: false }
    }

    /// What a chunk or a whole answer holds.
    fn take(&mut self, event: &Value, part: &str) -> Result<String, Setback> {
        if let Some(said) = no::said(event) {
            return Err(no::meaning(200, &said, None));
        }
        let choice = &event["choices"][0];
        if let Some(said) = no::said(choice) {
            return Err(no::meaning(200, &said, None));
        }
        if let Some(refusal) = choice[part]["refusal"].as_str().filter(|refusal| !refusal.is_empty()) {
            return Err(Setback::Declined(format!("\"{}\"", no::clean(refusal))));
        }
        let piece = choice[part]["content"].as_str().unwrap_or_default().to_owned();
        self.said.text.push_str(&piece);
        if self.said.text.len() > self.longest {
            return Err(Setback::Nonsense("its answer has no end".to_owned()));
        }
        match choice["finish_reason"].as_str() {
            Some("error") => return Err(Setback::Failed("it says that it failed, and not why".to_owned())),
            Some("content_filter") => return Err(Setback::Declined("its filter stopped the answer".to_owned())),
            Some(reason) => {
                self.said.ended = if reason == "length" { Ended::Length } else { Ended::Stop };
                self.is_over = true;
            }
            None => {}
        }
        let usage = &event["usage"];
        if let Some(tokens) = usage["prompt_tokens"].as_u64() {
            self.said.prompt_tokens = tokens;
            self.said.generated_tokens = usage["completion_tokens"].as_u64().unwrap_or(0);
            self.said.cost = usage["cost"].as_f64().filter(|cost| cost.is_finite() && *cost >= 0.0);
        }
        Ok(piece)
    }
}

impl Listener for Answer {
    fn line(&mut self, line: &[u8]) -> Result<Heard, Setback> {
        // Comments are signs of life, and other fields of an event say nothing of the answer.
        let Some(data) = line.strip_prefix(b"data:").map(<[u8]>::trim_ascii) else {
            return match line.first() {
                Some(b'{') => self.document(&document_of(line)?),
                _ => Ok(Heard::Nothing),
            };
        };
        if data == b"[DONE]" {
            return if self.is_over {
                Ok(Heard::Over)
            } else {
                Err(Setback::Broken("it ended in the middle of the answer".to_owned()))
            };
        }
        let piece = self.take(&document_of(data)?, "delta")?;
        Ok(if piece.is_empty() { Heard::Nothing } else { Heard::Piece(piece) })
    }

    fn document(&mut self, document: &Value) -> Result<Heard, Setback> {
        let piece = self.take(document, "message")?;
        if self.is_over {
            Ok(Heard::Piece(piece))
        } else {
            Err(Setback::Nonsense("there is no answer in it".to_owned()))
        }
    }

    fn is_over(&self) -> bool {
        self.is_over
    }
}

fn document_of(bytes: &[u8]) -> Result<Value, Setback> {
    serde_json::from_slice(bytes).map_err(|error| {
        if error.is_eof() {
            Setback::Broken("half a document came".to_owned())
        } else {
            Setback::Nonsense("it answered something that is not JSON".to_owned())
        }
    })
}
