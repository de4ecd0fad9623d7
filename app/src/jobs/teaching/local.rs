//! A model in this process as a helper (D8): it labels, writes rows and makes vectors, and nothing leaves the computer.
//!
//! The model lives on a thread of its own. Questions that come at the same time and are asked in the same way are
//! answered together (S1.3); what one says does not depend on what is answered beside it.

use crate::jobs::answer::{Answerer, Answers, AskOptions, Form, Reply};
use crate::jobs::open_model;
use peft_models::engine::Engine;
use peft_models::generate::{Sampling, TOGETHER};
use peft_plan::helper::{Credit, Ended, Helper, HelperModel, OnPiece, Question, Said, Service, Setback};
use peft_plan::{Fault, Result, Turn};
use serde_json::Value;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

/// Between two looks at whether the person had enough.
const TICK: Duration = Duration::from_millis(200);
/// So long a question waits for others to be answered beside it: nothing, compared with an answer.
const GATHERING: Duration = Duration::from_millis(20);
/// Tokens that an answer must have room for.
const LEAST_ROOM: usize = 32;

/// What is loaded, and what it computes with.
#[derive(Clone, Debug)]
pub struct LocalModel {
    /// As after `--model`.
    pub model: String,
    /// An adapter on it.
    pub adapter: Option<PathBuf>,
    /// As after `--backend`.
    pub backend: String,
    /// Threads of the processor.
    pub threads: usize,
}

/// A loaded model that answers until this is dropped.
pub struct LocalHelper {
    name: String,
    context: usize,
    jobs: Sender<Job>,
}

impl LocalHelper {
    /// Loads the model; whatever is wrong with it comes back from here.
    pub fn open(what: LocalModel) -> Result<Self> {
        let name = what.model.clone();
        let (jobs, queue) = channel();
        let (ready, opened) = channel();
        let spawned = thread::Builder::new().name("teacher".to_owned()).spawn(move || {
            if let Err(fault) = work(&what, &queue, &ready) {
                // Whoever opened it waits for the first message and hears of this one.
                ready.send(Err(fault)).ok();
            }
        });
        spawned.map_err(|error| Fault::new("PS-APP-004", format!("A thread could not be started: {error}.")))?;
        let stopped = |_| Fault::new("PS-APP-004", "The model's thread ended before the model was loaded.");
        let context = opened.recv().map_err(stopped)??;
        Ok(Self { name, context, jobs })
    }
}

/// What the model's thread is asked.
enum Job {
    Ask(Asked),
    Embed(Vec<String>, Sender<Told>),
}

struct Asked {
    turns: Vec<Turn>,
    way: Way,
    to: Sender<Told>,
}

/// How a question is to be answered; equal ones can be answered together.
#[derive(Clone, Debug, PartialEq)]
struct Way {
    schema: Option<Value>,
    max_new_tokens: usize,
    temperature: f32,
    seed: u64,
}

/// What the model's thread says.
enum Told {
    Piece(String),
    Done(Reply),
    Embedded(Vec<Vec<f32>>),
    No(Setback),
}

impl Helper for LocalHelper {
    fn who(&self) -> String {
        "The model on this computer".to_owned()
    }

    fn service(&self) -> Service {
        Service::Local
    }

    fn models(&self) -> Result<Vec<HelperModel>, Setback> {
        let context_tokens = Some(self.context as u64);
        Ok(vec![HelperModel {
            name: self.name.clone(),
            context_tokens,
            takes_schema: Some(true),
            ..HelperModel::default()
        }])
    }

    fn credit(&self) -> Result<Option<Credit>, Setback> {
        Ok(None)
    }

    fn ask(&self, _model: &str, question: &Question, on_piece: &mut OnPiece) -> Result<Said, Setback> {
        let Question { turns, schema, max_new_tokens, temperature, seed } = *question;
        // The likeliest tokens are the same for every seed.
        let seed = if temperature > 0.0 { seed } else { 0 };
        let way = Way { schema: schema.cloned(), max_new_tokens, temperature, seed };
        let (to, from) = channel();
        self.jobs.send(Job::Ask(Asked { turns: turns.to_vec(), way, to })).map_err(|_| stopped())?;
        loop {
            match hear(&from, on_piece)? {
                Told::Piece(text) if on_piece(&text).is_break() => return Err(Setback::Enough),
                Told::Done(reply) => return said(reply),
                Told::No(setback) => return Err(setback),
                Told::Piece(_) | Told::Embedded(_) => {}
            }
        }
    }

    fn embed(&self, _model: &str, texts: &[&str]) -> Result<Vec<Vec<f32>>, Setback> {
        let (to, from) = channel();
        let texts = texts.iter().map(|&text| text.to_owned()).collect();
        self.jobs.send(Job::Embed(texts, to)).map_err(|_| stopped())?;
        match from.recv().map_err(|_| stopped())? {
            Told::Embedded(vectors) => Ok(vectors),
            Told::No(setback) => Err(setback),
            Told::Piece(_) | Told::Done(_) => Err(stopped()),
        }
    }
}

/// The next message, unless the person had enough before it came.
fn hear(from: &Receiver<Told>, on_piece: &mut OnPiece) -> Result<Told, Setback> {
    loop {
        match from.recv_timeout(TICK) {
            Ok(told) => return Ok(told),
            Err(RecvTimeoutError::Timeout) if on_piece("").is_break() => return Err(Setback::Enough),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(stopped()),
        }
    }
}

fn said(reply: Reply) -> Result<Said, Setback> {
    let ended = match reply.stop_reason.as_str() {
        "length" => Ended::Length,
        // All who heard it had enough.
        "cancelled" => return Err(Setback::Enough),
        _ => Ended::Stop,
    };
    let (prompt_tokens, generated_tokens) = (reply.prompt_tokens as u64, reply.tokens as u64);
    Ok(Said { text: reply.text, ended, prompt_tokens, generated_tokens, cost: None })
}

fn stopped() -> Setback {
    Setback::NoModel("it is not loaded any more".to_owned())
}

/// The model's thread: loads, says how much it reads, answers until nobody is left who could ask.
fn work(what: &LocalModel, queue: &Receiver<Job>, ready: &Sender<Result<usize>>) -> Result<()> {
    let base = open_model(&what.model)?;
    let engine = Engine::open(&what.backend, what.threads)?;
    let session = engine.session(&base, what.adapter.as_deref(), None)?;
    let mut model = Loaded {
        answerer: Answerer::new(&base, session, None, None)?,
        adapter: what.adapter.is_some(),
        limit: base.spec().max_positions,
    };
    ready.send(Ok(model.limit)).ok();
    let mut waiting = VecDeque::new();
    loop {
        if waiting.is_empty() {
            let Ok(job) = queue.recv() else { return Ok(()) };
            waiting.push_back(job);
        }
        while waiting.len() < TOGETHER {
            let Ok(job) = queue.recv_timeout(GATHERING) else { break };
            waiting.push_back(job);
        }
        match waiting.pop_front() {
            Some(Job::Embed(texts, to)) => drop(to.send(model.embed(&texts))),
            Some(Job::Ask(first)) => {
                let group = alike(first, &mut waiting);
                model.answer(group);
            }
            None => {}
        }
    }
}

/// `first`, and those that wait and are asked in the same way.
fn alike(first: Asked, waiting: &mut VecDeque<Job>) -> Vec<Asked> {
    let mut group = vec![first];
    for job in std::mem::take(waiting) {
        match job {
            Job::Ask(asked) if asked.way == group[0].way && group.len() < TOGETHER => group.push(asked),
            other => waiting.push_back(other),
        }
    }
    group
}

/// The model with what is needed to ask it.
struct Loaded<'a> {
    answerer: Answerer<'a>,
    adapter: bool,
    limit: usize,
}

impl Loaded<'_> {
    fn answer(&mut self, group: Vec<Asked>) {
        // One that is too long does not spoil the others.
        let (fitting, unfit): (Vec<_>, Vec<_>) =
            group.into_iter().map(|asked| (self.fits(&asked), asked)).partition(|(fit, _)| fit.is_ok());
        for (fit, asked) in unfit {
            asked.to.send(Told::No(fit.err().unwrap_or_else(stopped))).ok();
        }
        let Some((_, first)) = fitting.first() else { return };
        let options = options(&first.way);
        let asked: Vec<(&[Turn], bool)> = fitting.iter().map(|(_, asked)| (&asked.turns[..], self.adapter)).collect();
        let mut left = vec![false; fitting.len()];
        let mut on_text = |number: usize, piece: &str| {
            left[number] |= fitting[number].1.to.send(Told::Piece(piece.to_owned())).is_err();
            if left.iter().all(|left| *left) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        match self.answerer.ask(&asked, &options, &mut on_text) {
            Ok(replies) => {
                for ((_, asked), reply) in fitting.iter().zip(replies.replies) {
                    asked.to.send(Told::Done(reply)).ok();
                }
            }
            Err(fault) => fitting.iter().for_each(|(_, asked)| drop(asked.to.send(Told::No(setback(&fault))))),
        }
    }

    /// Nothing of a question is left out in silence.
    fn fits(&self, asked: &Asked) -> Result<(), Setback> {
        let tokens = self.answerer.wording().prompt(&asked.turns).map_err(|fault| setback(&fault))?.len();
        if tokens + LEAST_ROOM <= self.limit {
            return Ok(());
        }
        Err(Setback::TooLong(format!("it has {tokens} tokens, and the model reads {} with the answer", self.limit)))
    }

    fn embed(&mut self, texts: &[String]) -> Told {
        let vectors = texts.iter().map(|text| self.answerer.embed(text, self.adapter).map(|(vector, _)| vector));
        match vectors.collect::<Result<Vec<_>>>() {
            Ok(vectors) => Told::Embedded(vectors),
            Err(fault) => Told::No(setback(&fault)),
        }
    }
}

fn options(way: &Way) -> AskOptions {
    let Way { schema, max_new_tokens, temperature, seed } = way;
    AskOptions {
        sampling: Sampling { temperature: *temperature, seed: *seed, ..Sampling::default() },
        max_new_tokens: *max_new_tokens,
        stop: Vec::new(),
        form: schema.clone().map(Form::Schema),
    }
}

/// What is wrong with one question concerns that one; everything else may pass, or comes again and ends the work.
fn setback(fault: &Fault) -> Setback {
    if fault.entry().exit == 3 {
        Setback::Declined(fault.detail.clone())
    } else {
        Setback::Failed(fault.detail.clone())
    }
}

/// Who `name` means, as after `--teacher`: `provider:model`, or a model of this computer.
pub fn teacher(name: &str) -> (Service, &str) {
    match name.split_once(':').map(|(provider, model)| (provider.parse::<Service>(), model)) {
        Some((Ok(service), model)) if !Path::new(name).exists() => (service, model),
        _ => (Service::Local, name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use peft_plan::Role;
    use serde_json::json;

    fn starter() -> LocalHelper {
        let what = LocalModel { model: "starter".into(), adapter: None, backend: "cpu".into(), threads: 1 };
        LocalHelper::open(what).expect("the starter loads")
    }

    fn ask(helper: &LocalHelper, text: &str, schema: Option<&Value>) -> Result<Said, Setback> {
        let turns = [Turn::new(Role::User, text)];
        let question = Question { turns: &turns, schema, max_new_tokens: 24, temperature: 0.0, seed: 1 };
        helper.ask("starter", &question, &mut |_| ControlFlow::Continue(()))
    }

    #[test]
    fn a_local_model_answers_the_same_alone_and_beside_others_d8() {
        let helper = starter();
        let texts = ["What is the capital of France?", "Hello!", "What is 2 + 2?"];
        let alone: Vec<Said> = texts.iter().map(|text| ask(&helper, text, None).expect("an answer")).collect();
        let together: Vec<Said> = thread::scope(|scope| {
            let asking: Vec<_> = texts.iter().map(|text| scope.spawn(|| ask(&helper, text, None))).collect();
            asking.into_iter().map(|one| one.join().expect("no panic").expect("an answer")).collect()
        });
        assert_eq!(alone, together);
        assert!(alone.iter().all(|said| !said.text.is_empty() && said.generated_tokens > 0));
    }

    #[test]
    fn a_schema_is_kept_and_what_is_too_long_is_said_d8() {
        let helper = starter();
        let schema = json!({"type": "object", "properties": {"n": {"type": "boolean"}}, "required": ["n"], "additionalProperties": false});
        let said = ask(&helper, "Is it?", Some(&schema)).expect("an answer");
        let value: Value = serde_json::from_str(&said.text).expect("JSON");
        assert!(value["n"].is_boolean(), "{value}");
        assert!(matches!(ask(&helper, &"long ".repeat(20_000), None), Err(Setback::TooLong(_))));
        let mut heard = 0;
        let turns = [Turn::new(Role::User, "Tell me about cities.")];
        let question = Question { turns: &turns, schema: None, max_new_tokens: 200, temperature: 0.0, seed: 1 };
        let stopped = helper.ask("starter", &question, &mut |_| {
            heard += 1;
            ControlFlow::Break(())
        });
        assert_eq!((stopped, heard), (Err(Setback::Enough), 1));
        let vectors = helper.embed("starter", &["A cat.", "A longer text about a cat."]).expect("vectors");
        assert!(vectors.len() == 2 && vectors[0].len() == vectors[1].len() && vectors[0] != vectors[1]);
        let missing = LocalModel { model: "no/such".into(), adapter: None, backend: "cpu".into(), threads: 1 };
        assert_eq!(LocalHelper::open(missing).err().expect("not here").code, "PS-MODEL-001");
    }

    #[test]
    fn a_teacher_without_a_provider_is_a_local_model() {
        for local in ["starter", "Qwen/Qwen2.5-0.5B-Instruct", "C:\\models\\x"] {
            assert_eq!(teacher(local), (Service::Local, local));
        }
        assert_eq!(teacher("local:starter"), (Service::Local, "starter"));
        assert_eq!(teacher("ollama:llama3:8b"), (Service::Ollama, "llama3:8b"));
        assert_eq!(teacher("openrouter:a/b"), (Service::OpenRouter, "a/b"));
    }
}
