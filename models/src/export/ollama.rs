//! What Ollama needs beside a GGUF file: its layout of conversations in Ollama's own template language, where
//! answers end, and the Modelfile that says so.
//!
//! The template is found by looking at what the trained one prints around marked texts, and kept only if it prints
//! the same for a conversation of several turns.

use peft_plan::{Example, Fault, Result, Role, Turn};
use peft_text::{RenderOptions, Tokenizer};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// How freely answers are drawn.
const TEMPERATURE: f64 = 0.7;

/// Texts that no template prints by itself and none changes.
const SYSTEM: &str = "Qsystemq";
const USER: &str = "Quserq";
const ANSWER: &str = "Qanswerq";

/// The layout of a turn, cut at what is said in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnLayout {
    /// Before a system prompt and between it and the question; `None` where the layout has no place for one.
    system: Option<(String, String)>,
    /// Before a question that follows an answer, or begins without a system prompt.
    before: String,
    /// Between question and answer.
    between: String,
    /// Behind the answer.
    behind: String,
    /// What the layout says by itself where nobody says a system prompt.
    pub default_system: Option<String>,
}

impl TurnLayout {
    /// What `options` prints, in parts. PS-TMPL-002 where it is no sequence of equal turns.
    pub fn of(tokenizer: &Tokenizer, options: &RenderOptions) -> Result<Self> {
        let bos = tokenizer.bos().map_or("", |token| token.text.as_str());
        let plain = RenderOptions { system_prompt: None, ..options.clone() };
        let text = |turns: &[(Role, &str)]| -> Result<String> {
            let turns = turns.iter().map(|(role, text)| Turn::new(*role, *text)).collect();
            let text = tokenizer.render(&Example::Messages(turns), &plain)?.text;
            Ok(text.strip_prefix(bos).filter(|_| !bos.is_empty()).unwrap_or(&text).to_owned())
        };
        let (u, a) = ((Role::User, USER), (Role::Assistant, ANSWER));
        let alone = text(&[u, a])?;
        let twice = text(&[u, a, u, a])?;
        let odd = || Fault::new("PS-TMPL-002", "The chat layout cannot be put into Ollama's template language.");
        let [first, between, _] = cut(&alone, &[USER, ANSWER]).ok_or_else(odd)?;
        let [_, _, joint, _, last] = cut(&twice, &[USER, ANSWER, USER, ANSWER]).ok_or_else(odd)?;
        // Between two turns is the end of one and the beginning of the next. Behind the last answer may be more (an
        // end of the conversation), and before the first question too (a system prompt of the layout's own).
        let (behind, before) = match joint.strip_suffix(first.as_str()) {
            Some(behind) => (behind.to_owned(), first.clone()),
            None => (last.clone(), joint.strip_prefix(last.as_str()).ok_or_else(odd)?.to_owned()),
        };
        let system = text(&[(Role::System, SYSTEM), u, a]).ok();
        let system = system.and_then(|text| cut::<4>(&text, &[SYSTEM, USER, ANSWER]));
        let system = system.map(|[before, after, ..]| (before, after));
        let default_system = match &system {
            Some((start, end)) if first != before => {
                let inside = first.strip_prefix(start.as_str()).and_then(|rest| rest.strip_suffix(end.as_str()));
                Some(inside.ok_or_else(odd)?.to_owned())
            }
            None if first != before => return Err(odd()),
            _ => None,
        };
        let layout = Self { system, before, between, behind, default_system };
        layout.check(text, odd)?;
        Ok(layout)
    }

    /// The same text for a longer conversation, with and without a system prompt.
    fn check(&self, text: impl Fn(&[(Role, &str)]) -> Result<String>, odd: impl Fn() -> Fault) -> Result<()> {
        let talk = [(Role::User, "One"), (Role::Assistant, "Two"), (Role::User, "Three"), (Role::Assistant, "Four")];
        let turns = [("One", "Two"), ("Three", "Four")];
        if !text(&talk)?.starts_with(&self.print(self.default_system.as_deref(), &turns)) {
            return Err(odd());
        }
        if self.system.is_some() {
            let with: Vec<(Role, &str)> = std::iter::once((Role::System, "Be kind")).chain(talk).collect();
            if !text(&with)?.starts_with(&self.print(Some("Be kind"), &turns)) {
                return Err(odd());
            }
        }
        let parts = [&self.before, &self.between, &self.behind];
        let system = self.system.iter().flat_map(|(a, b)| [a, b]);
        if parts
            .into_iter()
            .chain(system)
            .any(|part| part.contains("{{") || part.contains("}}") || part.contains("\"\"\""))
        {
            return Err(odd());
        }
        Ok(())
    }

    /// What Ollama prints for a conversation with this template, the begin token apart.
    pub fn print(&self, system: Option<&str>, turns: &[(&str, &str)]) -> String {
        let mut out = String::new();
        for (i, (user, answer)) in turns.iter().enumerate() {
            match (&self.system, system.filter(|_| i == 0)) {
                (Some((start, end)), Some(system)) => out.extend([start, system, end]),
                (None, Some(system)) => out.extend([self.before.as_str(), system, "\n\n"]),
                (_, None) => out.push_str(&self.before),
            }
            out.extend([user, self.between.as_str(), answer, self.behind.as_str()]);
        }
        out
    }

    /// The template in Ollama's language.
    pub fn template(&self) -> String {
        let before = &self.before;
        let head = match &self.system {
            Some((start, end)) => {
                format!("{{{{ if .System }}}}{start}{{{{ .System }}}}{end}{{{{ else }}}}{before}{{{{ end }}}}")
            }
            None => format!("{before}{{{{ if .System }}}}{{{{ .System }}}}\n\n{{{{ end }}}}"),
        };
        format!("{head}{{{{ .Prompt }}}}{}{{{{ .Response }}}}{}", self.between, self.behind)
    }
}

/// `text` cut at `marks`, which it holds once each and in this order.
fn cut<const N: usize>(text: &str, marks: &[&str]) -> Option<[String; N]> {
    let mut parts = Vec::with_capacity(N);
    let mut rest = text;
    for mark in marks {
        let (before, after) = rest.split_once(mark)?;
        parts.push(before.to_owned());
        rest = after;
    }
    parts.push(rest.to_owned());
    parts.try_into().ok()
}

/// What a Modelfile says.
#[derive(Clone, Debug)]
pub struct Modelfile<'a> {
    /// Name of the GGUF file beside it.
    pub file: String,
    /// The layout of conversations.
    pub layout: &'a TurnLayout,
    /// Texts that end an answer.
    pub stops: Vec<String>,
    /// System prompt that was trained.
    pub system: Option<&'a str>,
    /// Tokens of context to reserve.
    pub context: usize,
    /// The licence, where it is known.
    pub license: Option<String>,
}

impl Modelfile<'_> {
    fn system(&self) -> Option<&str> {
        self.system.or(self.layout.default_system.as_deref())
    }

    /// The same for Ollama's API, which knows the file by its hash.
    pub fn request(&self, model: &str, sha256: &str) -> Value {
        let mut files = Map::new();
        files.insert(self.file.clone(), json!(format!("sha256:{sha256}")));
        let mut request = json!({
            "model": model,
            "files": files,
            "template": self.layout.template(),
            "parameters": {"stop": self.stops, "num_ctx": self.context, "temperature": TEMPERATURE},
        });
        let said = [("system", self.system()), ("license", self.license.as_deref())];
        for (key, text) in said {
            if let Some(text) = text {
                request[key] = json!(text);
            }
        }
        request
    }

    /// Its text. PS-TMPL-002 for a system prompt that no Modelfile can hold.
    pub fn text(&self) -> Result<String> {
        let quotes = "\"\"\"";
        let system = self.system();
        if system.is_some_and(|text| text.contains(quotes)) {
            return Err(Fault::new(
                "PS-TMPL-002",
                "The system prompt holds three quotation marks in a row, which ends it in a Modelfile.",
            ));
        }
        let mut text = format!("FROM ./{}\n\nTEMPLATE {quotes}{}{quotes}\n", self.file, self.layout.template());
        let mut line = |content: String| writeln!(text, "{content}").expect("writing to a string cannot fail");
        if let Some(system) = system {
            line(format!("\nSYSTEM {quotes}{system}{quotes}"));
        }
        line(String::new());
        for stop in &self.stops {
            line(format!(
                "PARAMETER stop \"{}\"",
                stop.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
            ));
        }
        line(format!("PARAMETER num_ctx {}", self.context));
        line(format!("PARAMETER temperature {TEMPERATURE}"));
        if let Some(license) = self.license.as_ref().filter(|license| !license.contains(quotes)) {
            line(format!("\nLICENSE {quotes}{license}{quotes}"));
        }
        Ok(text)
    }
}
