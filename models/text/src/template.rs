//! A chat template: which one, compiled, and run over a conversation.

mod date;
mod environment;
mod json;
mod message;
mod python;
mod tags;

use crate::markers::{Kind, Part, Unmarked};
use crate::model_files;
use crate::spelling::Controls;
use crate::tokenizer::Tokenizer;
use date::Date;
use environment::Failure;
use message::NoWords;
use minijinja::{Environment, Value};
use peft_plan::{Fault, Result, Role, Turn, tools_of};
use std::path::Path;
use std::sync::Arc;

/// A built-in layout: its name, its text, and the end-of-turn marker it spells out, if it is not
/// the tokenizer's own end token.
type Named = (&'static str, &'static str, Option<&'static str>);

macro_rules! layout {
    ($name:literal, $end:expr) => {
        ($name, include_str!(concat!("../templates/", $name, ".jinja")), $end)
    };
}

const NAMED: [Named; 8] = [
    layout!("plain", None),
    layout!("chatml", Some("<|im_end|>")),
    layout!("llama3", Some("<|eot_id|>")),
    layout!("alpaca", None),
    layout!("gemma", Some("<end_of_turn>")),
    layout!("phi3", Some("<|end|>")),
    layout!("mistral", None),
    layout!("zephyr", None),
];

/// A compiled chat template, fitted to one tokenizer.
#[derive(Clone)]
pub struct ChatTemplate(Arc<Compiled>);

struct Compiled {
    name: String,
    source: String,
    env: Environment<'static>,
    /// The tokenizer's special tokens as variables.
    variables: Vec<(&'static str, String)>,
    terminator: Option<(u32, String)>,
    stop_ids: Vec<u32>,
    controls: Controls,
    /// What it takes for an answer that only calls tools; `None` where it does not write calls at all.
    writes_calls: Option<NoWords>,
    writes_reasoning: bool,
    writes_tools: bool,
    /// The layout that the model brings for conversations with tools.
    with_tools: Option<ChatTemplate>,
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ChatTemplate").field(&self.0.name).finish()
    }
}

impl ChatTemplate {
    /// The template that `choice` means for the model of `tokenizer`: `auto` (the model's own), the
    /// name of a built-in layout, or the path of a template file.
    pub fn resolve(choice: &str, tokenizer: &Tokenizer) -> Result<Self> {
        if choice == "auto" {
            let Some(source) = tokenizer.chat_template() else {
                return Err(Fault::new(
                    "PS-TMPL-001",
                    "The model brings no chat layout of its own (no `chat_template.jinja` and no \
                     `chat_template` in `tokenizer_config.json`); it is probably a base model.",
                ));
            };
            let mut template = Self::from_source("auto", source, tokenizer)?;
            if let (Some(source), Some(compiled)) = (tokenizer.tool_template(), Arc::get_mut(&mut template.0)) {
                compiled.with_tools = Some(Self::from_source("auto", source, tokenizer)?);
            }
            return Ok(template);
        }
        if let Some((name, source, end)) = NAMED.iter().find(|(name, ..)| *name == choice) {
            let source = match end {
                // On a model without this marker it would be ordinary letters, and no answer
                // would end with a token: the model's own end token takes its place.
                Some(end) if !is_added(tokenizer, end) => with_eos_for(source, end),
                _ => (*source).to_owned(),
            };
            return Self::from_source(name, &source, tokenizer);
        }
        let path = Path::new(choice);
        if path.is_file() || choice.contains(['/', '\\', '.']) {
            let source = model_files::template_text(path)?;
            return Self::from_source(choice, &source, tokenizer);
        }
        Err(Fault::new(
            "PS-CFG-001",
            format!(
                "There is no chat layout called `{choice}`. The built-in ones are {}; `auto` is \
                 the model's own, and the path of a `.jinja` file works too.",
                Self::names().collect::<Vec<_>>().join(", ")
            ),
        ))
    }

    /// Compiles a template given as text.
    pub fn from_source(name: &str, source: &str, tokenizer: &Tokenizer) -> Result<Self> {
        if source.len() as u64 > model_files::TEMPLATE_LIMIT {
            return Err(Fault::new("PS-TMPL-003", format!("The chat layout `{name}` is longer than 1 MB.")));
        }
        let env = environment::compile(tags::rewritten(source)).map_err(|failure| fault(name, failure))?;
        let special = tokenizer.special();
        let mut compiled = Compiled {
            name: name.to_owned(),
            source: source.to_owned(),
            env,
            variables: special.variables.clone(),
            terminator: None,
            stop_ids: special.stop_ids.clone(),
            controls: Controls::new(Vec::new()),
            writes_calls: None,
            writes_reasoning: false,
            writes_tools: false,
            with_tools: None,
        };
        compiled.terminator = compiled.find_terminator(tokenizer);
        if let Some((id, _)) = &compiled.terminator {
            compiled.stop_ids.push(*id);
            compiled.stop_ids.sort_unstable();
            compiled.stop_ids.dedup();
        }
        compiled.controls = compiled.find_controls(tokenizer);
        compiled.find_abilities();
        Ok(Self(Arc::new(compiled)))
    }

    /// The names of the built-in layouts.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMED.iter().map(|(name, ..)| *name)
    }

    /// What was asked for: `auto`, a name or a path.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The template's text, for exports and for the record of a run.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// Every id that ends a generation: those of the tokenizer and the end-of-turn token.
    pub fn stop_ids(&self) -> &[u32] {
        &self.0.stop_ids
    }

    /// The token with which this template ends an answer, if it is a token.
    pub fn end_of_turn(&self) -> Option<&str> {
        self.0.terminator.as_ref().map(|(_, text)| text.as_str())
    }

    /// Whether it writes the descriptions of tools that a conversation may use.
    pub fn writes_tools(&self) -> bool {
        self.0.writes_tools || self.0.with_tools.as_ref().is_some_and(Self::writes_tools)
    }

    /// The layout for `turns`: the model's own one for tools where they offer some and there is one.
    pub(crate) fn fitting(&self, turns: &[Turn]) -> &Self {
        self.0.with_tools.as_ref().filter(|_| !tools_of(turns).is_empty()).unwrap_or(self)
    }

    pub(crate) fn writes_calls(&self) -> bool {
        self.0.writes_calls.is_some()
    }

    pub(crate) fn writes_reasoning(&self) -> bool {
        self.0.writes_reasoning
    }

    pub(crate) fn controls(&self) -> &Controls {
        &self.0.controls
    }

    /// Prepares `turns`, whose contents are escaped already, for several renderings.
    pub(crate) fn session<'a>(&'a self, turns: &'a [Turn], date: &str) -> Result<Session<'a>> {
        if Date::parse(date).is_none() {
            return Err(Fault::new("PS-CFG-001", format!("`{date}` is not a date; it takes the form 2024-07-26.")));
        }
        Ok(self.0.session(turns, date))
    }
}

fn is_added(tokenizer: &Tokenizer, text: &str) -> bool {
    tokenizer.added().values().any(|token| token.content == text)
}

/// `source` printing `eos_token` wherever it spells `end`.
fn with_eos_for(source: &str, end: &str) -> String {
    source.replace(&format!("'{end}'"), "eos_token").replace(&format!("'{end}\\n'"), "eos_token + '\\n'")
}

/// The fault of a template that gave no text.
pub(crate) fn fault(name: &str, failure: Failure) -> Fault {
    match failure {
        Failure::Raised(message) => {
            Fault::new("PS-TMPL-002", format!("The chat layout refuses this conversation: {message}"))
        }
        Failure::Broken(message) => Fault::new("PS-TMPL-002", format!("The chat layout `{name}` fails: {message}")),
        Failure::Limit(why) => {
            Fault::new("PS-TMPL-003", format!("The chat layout `{name}` was stopped because {why}."))
        }
    }
}

/// A conversation about to be rendered, whole and in parts.
pub(crate) struct Session<'a> {
    template: &'a Compiled,
    env: Environment<'static>,
    turns: &'a [Turn],
    plain: Vec<Value>,
    tools: Value,
    date: String,
}

impl Compiled {
    fn session<'a>(&'a self, turns: &'a [Turn], date: &str) -> Session<'a> {
        Session {
            template: self,
            env: environment::fuelled(&self.env, turns.len()),
            turns,
            plain: turns.iter().map(|turn| message::value(turn, self.no_words(), None)).collect(),
            tools: message::tools(tools_of(turns)),
            date: date.to_owned(),
        }
    }

    /// What the template makes of a small conversation, with marks; `None` if it refuses it.
    fn probe(&self, roles: &[Role], generation_prompt: bool) -> Option<Unmarked> {
        let turns: Vec<Turn> = roles.iter().map(|role| Turn::new(*role, "x")).collect();
        self.probe_turns(&turns, generation_prompt)
    }

    fn probe_turns(&self, turns: &[Turn], generation_prompt: bool) -> Option<Unmarked> {
        let session = self.session(turns, "2024-07-26");
        session.marked(turns.len(), generation_prompt).ok()
    }

    fn no_words(&self) -> NoWords {
        self.writes_calls.unwrap_or(NoWords::Empty)
    }

    /// Tries out what the template does with tools, calls and reasoning.
    fn find_abilities(&mut self) {
        let [question, calling, thinking] = message::probes();
        let has = |read: Option<Unmarked>, part: Part| {
            read.is_some_and(|read| read.marks.iter().any(|(_, kind)| matches!(kind, Kind::Part(_, of) if *of == part)))
        };
        for no_words in [NoWords::Missing, NoWords::Null, NoWords::Empty] {
            self.writes_calls = Some(no_words);
            if has(self.probe_turns(&[question.clone(), calling.clone()], false), Part::Call) {
                break;
            }
            self.writes_calls = None;
        }
        self.writes_reasoning = has(self.probe_turns(&[question.clone(), thinking], false), Part::Reasoning);
        let with = self.probe_turns(&[message::offering(&question)], true);
        self.writes_tools = with.is_some_and(|read| read.text.contains(message::PROBED_TOOL));
    }

    /// The added token that comes right after an answer.
    fn find_terminator(&self, tokenizer: &Tokenizer) -> Option<(u32, String)> {
        use Role::{Assistant, System, User};
        [&[User, Assistant][..], &[System, User, Assistant]].into_iter().find_map(|roles| {
            let read = self.probe(roles, false)?;
            let (_, end) = read.content(roles.len() - 1);
            let tail = read.text[end?..].trim_start();
            tokenizer
                .added()
                .iter()
                .filter(|(_, token)| !token.content.trim().is_empty())
                .filter(|(_, token)| tail.starts_with(&token.content))
                .max_by_key(|(_, token)| token.content.len())
                .map(|(id, token)| (*id, token.content.clone()))
        })
    }

    /// The tokens nobody may write inside a content: special ones, those that stop, and those that
    /// build the frame around the turns. Other added tokens (`<think>`) may be written.
    fn find_controls(&self, tokenizer: &Tokenizer) -> Controls {
        let added: Vec<(u32, String)> =
            tokenizer.added().iter().map(|(id, token)| (*id, token.content.clone())).collect();
        let all = Controls::new(added.clone());
        let mut frame: Vec<u32> = Vec::new();
        for roles in [&[Role::User][..], &[Role::System, Role::User]] {
            let Some(read) = self.probe(roles, true) else {
                continue;
            };
            let content = last_content_mark(&read).unwrap_or(read.text.len());
            let (before, bridge) = read.text.split_at(content);
            frame.extend(all.found_in(before));
            // What ends a turn and what begins the next; later ones may belong to the answer.
            frame.extend(all.found_in(bridge).take(2));
        }
        let special = tokenizer.special();
        let parts = [&special.bos, &special.eos, &special.unk, &special.pad];
        frame.extend(parts.into_iter().flatten().map(|token| token.id));
        frame.extend(&self.stop_ids);
        let mut controls = added;
        controls.retain(|(id, _)| tokenizer.is_special(*id) || frame.contains(id));
        Controls::new(controls)
    }
}

impl Session<'_> {
    /// The first `count` turns as the template lays them out.
    pub(crate) fn plain(&self, count: usize, generation_prompt: bool) -> Result<String> {
        self.run(self.plain[..count].to_vec(), generation_prompt, false)
    }

    /// The same with marks around contents and generation blocks, already read.
    pub(crate) fn marked(&self, count: usize, generation_prompt: bool) -> Result<Unmarked> {
        let marked = self.turns[..count].iter().enumerate();
        let no_words = self.template.no_words();
        let messages = marked.map(|(at, turn)| message::value(turn, no_words, Some(at))).collect();
        let text = self.run(messages, generation_prompt, true)?;
        Ok(Unmarked::read(&text))
    }

    fn run(&self, messages: Vec<Value>, generation_prompt: bool, marks: bool) -> Result<String> {
        let none = || Value::from(());
        let mut context: Vec<(&str, Value)> = vec![
            ("messages", Value::from(messages)),
            ("tools", self.tools.clone()),
            ("documents", none()),
            ("add_generation_prompt", Value::from(generation_prompt)),
            (environment::DATE, Value::from(&self.date)),
            (environment::MARKS, Value::from(marks)),
        ];
        let variables = self.template.variables.iter();
        context.extend(variables.map(|(key, text)| (*key, Value::from(text))));
        environment::run(&self.env, Value::from_pairs(context)).map_err(|failure| fault(&self.template.name, failure))
    }
}

/// The position after the last mark of a content in `read`.
pub(crate) fn last_content_mark(read: &Unmarked) -> Option<usize> {
    read.marks
        .iter()
        .filter(|(_, kind)| matches!(kind, Kind::Start(_) | Kind::End(_) | Kind::Part(..)))
        .map(|(at, _)| *at)
        .max()
}
