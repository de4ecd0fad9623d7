//! The vocabulary between a program that asks and a helper model that answers, wherever the model runs (S2.3, D8).
//!
//! A helper is Ollama, a service that speaks OpenAI's protocol, or a model in this process. Who asks sees none of that:
//! a [`Question`] goes out, a [`Said`] comes back, or a [`Setback`] that says whether asking again can help.

use crate::{Fault, Result, Turn};
use core::time::Duration;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::ops::ControlFlow;

/// What a helper is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The conversation so far.
    pub turns: &'a [Turn],
    /// What the answer must fit, as a JSON schema.
    pub schema: Option<&'a Value>,
    /// Longest answer, tokens.
    pub max_new_tokens: usize,
    /// 0 takes the likeliest token each time.
    pub temperature: f32,
    /// Another one gives another answer, where the helper can do that.
    pub seed: u64,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// The model was done.
    Stop,
    /// It reached the longest answer.
    Length,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Said {
    /// As the model wrote it.
    pub text: String,
    /// Why it ended.
    pub ended: Ended,
    /// Tokens of the question; 0 where the service does not count.
    pub prompt_tokens: u64,
    /// Tokens of the answer; 0 where the service does not count.
    pub generated_tokens: u64,
    /// What the service says it cost, in its own money (USD).
    pub cost: Option<f64>,
}

/// A model that a helper offers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HelperModel {
    /// As it is asked for.
    pub name: String,
    /// Bytes on this machine, where it is on this machine.
    pub bytes: Option<u64>,
    /// As its makers count it, such as `8B`.
    pub parameters: Option<String>,
    /// Longest conversation, tokens.
    pub context_tokens: Option<u64>,
    /// USD for a token of the question.
    pub prompt_price: Option<f64>,
    /// USD for a token of the answer.
    pub answer_price: Option<f64>,
    /// Whether it keeps to a JSON schema, where the service says so.
    pub takes_schema: Option<bool>,
}

/// What is left to spend at a service.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Credit {
    /// USD spent so far.
    pub used: f64,
    /// USD left; `None` is no limit.
    pub left: Option<f64>,
}

/// A question without an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Setback {
    /// Nobody is there.
    Absent(String),
    /// Nothing came for too long.
    Silent(Duration),
    /// The answer ended before it was over.
    Broken(String),
    /// A status that says: later.
    Busy(u16),
    /// Too many questions, and how long the service asks to wait.
    TooMany(Option<Duration>),
    /// Something came that is no answer.
    Nonsense(String),
    /// The service or the model failed, in its own words.
    Failed(String),
    /// The service does not answer this one question, in its own words.
    Declined(String),
    /// The question is too long for the model.
    TooLong(String),
    /// The service does not accept the key, or wants one.
    Key(String),
    /// There is no credit left.
    Credit(String),
    /// The service has no such model.
    NoModel(String),
    /// The person had enough.
    Enough,
}

/// What a setback means for the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The same question may be answered later.
    Again,
    /// This question will not be answered; others may.
    Question,
    /// No question will be answered until somebody does something.
    Everything,
}

impl Setback {
    /// What it means for the work.
    pub fn reach(&self) -> Reach {
        match self {
            Self::Absent(_)
            | Self::Silent(_)
            | Self::Broken(_)
            | Self::Busy(_)
            | Self::TooMany(_)
            | Self::Nonsense(_)
            | Self::Failed(_) => Reach::Again,
            Self::Declined(_) | Self::TooLong(_) => Reach::Question,
            Self::Key(_) | Self::Credit(_) | Self::NoModel(_) | Self::Enough => Reach::Everything,
        }
    }

    /// One word for counts and logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Absent(_) => "absent",
            Self::Silent(_) => "silent",
            Self::Broken(_) => "broken",
            Self::Busy(_) => "busy",
            Self::TooMany(_) => "too_many",
            Self::Nonsense(_) => "nonsense",
            Self::Failed(_) => "failed",
            Self::Declined(_) => "declined",
            Self::TooLong(_) => "too_long",
            Self::Key(_) => "key",
            Self::Credit(_) => "credit",
            Self::NoModel(_) => "no_model",
            Self::Enough => "enough",
        }
    }

    /// In a sentence's end, without who it was.
    pub fn reason(&self) -> String {
        match self {
            Self::Absent(why) => format!("nobody answers ({why})"),
            Self::Silent(time) => format!("it said nothing for {} s", time.as_secs().max(1)),
            Self::Broken(why) => format!("its answer broke off ({why})"),
            Self::Busy(status) => format!("it answered {status}"),
            Self::TooMany(Some(wait)) => format!("it asks to wait {} s (too many requests)", wait.as_secs()),
            Self::TooMany(None) => "it asks to wait (too many requests)".to_owned(),
            Self::Nonsense(why) => format!("what came is no answer: {why}"),
            Self::Failed(why) => format!("it failed: {why}"),
            Self::Declined(why) => format!("it does not answer this: {why}"),
            Self::TooLong(why) => format!("the question is too long for it: {why}"),
            Self::Key(why) => format!("it does not accept the key: {why}"),
            Self::Credit(why) => format!("there is no credit left: {why}"),
            Self::NoModel(why) => format!("it has no such model: {why}"),
            Self::Enough => "it was stopped".to_owned(),
        }
    }

    /// As a person meets it; `who` is the service, as in "Ollama at 127.0.0.1:11434".
    pub fn into_fault(self, who: &str, service: Service) -> Fault {
        let detail = format!("{who}: {}.", self.reason());
        let is_ollama = service == Service::Ollama;
        match self {
            Self::Absent(_) if is_ollama => Fault::new("PS-OLL-001", detail),
            Self::NoModel(_) if is_ollama => Fault::new("PS-OLL-002", detail),
            Self::NoModel(_) => Fault::new("PS-HELP-002", detail),
            Self::Key(_) => Fault::new("PS-OR-001", detail),
            Self::Credit(_) => Fault::new("PS-OR-002", detail),
            Self::Nonsense(_) | Self::Declined(_) | Self::TooLong(_) => Fault::new("PS-OR-003", detail),
            Self::Absent(_)
            | Self::Silent(_)
            | Self::Broken(_)
            | Self::Busy(_)
            | Self::TooMany(_)
            | Self::Failed(_)
            | Self::Enough => Fault::new("PS-HELP-001", detail),
        }
    }
}

/// Who runs the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// Ollama.
    Ollama,
    /// openrouter.ai.
    OpenRouter,
    /// Anything that speaks OpenAI's protocol: llama.cpp, LM Studio, vLLM, OpenAI.
    OpenAi,
    /// This program.
    Local,
}

impl Service {
    /// As it is typed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ollama => "ollama",
            Self::OpenRouter => "openrouter",
            Self::OpenAi => "openai",
            Self::Local => "local",
        }
    }
}

impl std::str::FromStr for Service {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self> {
        let all = [Self::Ollama, Self::OpenRouter, Self::OpenAi, Self::Local];
        all.into_iter().find(|service| service.as_str() == text).ok_or_else(|| {
            let detail = format!("`{text}` is no provider; there are ollama, openrouter, openai and local.");
            Fault::new("PS-CFG-001", detail)
        })
    }
}

/// Hears pieces of an answer while it is written; `Break` ends it.
pub type OnPiece<'a> = dyn FnMut(&str) -> ControlFlow<()> + 'a;

/// Whoever answers. Several threads may ask at the same time.
pub trait Helper: Sync {
    /// Who it is, for messages.
    fn who(&self) -> String;

    /// Who runs it.
    fn service(&self) -> Service;

    /// What it offers.
    fn models(&self) -> Result<Vec<HelperModel>, Setback>;

    /// What is left to spend, where that is known.
    fn credit(&self) -> Result<Option<Credit>, Setback>;

    /// Answer with `model`.
    fn ask(&self, model: &str, question: &Question, on_piece: &mut OnPiece) -> Result<Said, Setback>;

    /// A vector for each text, all of one length.
    fn embed(&self, model: &str, texts: &[&str]) -> Result<Vec<Vec<f32>>, Setback>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_must_do_ends_the_work_and_what_passes_does_not() {
        assert_eq!(Setback::Key(String::new()).reach(), Reach::Everything);
        assert_eq!(Setback::Credit(String::new()).reach(), Reach::Everything);
        assert_eq!(Setback::NoModel(String::new()).reach(), Reach::Everything);
        assert_eq!(Setback::Declined(String::new()).reach(), Reach::Question);
        assert_eq!(Setback::TooMany(None).reach(), Reach::Again);
        assert_eq!(Setback::Nonsense(String::new()).reach(), Reach::Again);
    }

    #[test]
    fn a_setback_has_the_code_of_its_service() {
        let code = |setback: Setback, service| setback.into_fault("it", service).code;
        assert_eq!(code(Setback::Absent("refused".into()), Service::Ollama), "PS-OLL-001");
        assert_eq!(code(Setback::Absent("refused".into()), Service::OpenAi), "PS-HELP-001");
        assert_eq!(code(Setback::NoModel("x".into()), Service::Ollama), "PS-OLL-002");
        assert_eq!(code(Setback::NoModel("x".into()), Service::OpenRouter), "PS-HELP-002");
        assert_eq!(code(Setback::Key("x".into()), Service::OpenRouter), "PS-OR-001");
        assert_eq!(code(Setback::Credit("x".into()), Service::OpenRouter), "PS-OR-002");
        assert_eq!(code(Setback::Nonsense("x".into()), Service::OpenAi), "PS-OR-003");
        assert_eq!("openrouter".parse::<Service>().expect("known"), Service::OpenRouter);
        assert_eq!("gpt".parse::<Service>().expect_err("unknown").code, "PS-CFG-001");
    }
}
