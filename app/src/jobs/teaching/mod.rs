//! Helper models at work: who answers, what it costs, and where what they said is kept.

pub mod generate;
pub mod label;
pub mod local;
pub mod persona;
pub mod review;

use local::{LocalHelper, LocalModel};
use peft_plan::helper::{Helper, HelperModel, Service};
use peft_plan::{Fault, Result};
use peft_remote::helper::{HelperSettings, open};
use peft_teach::budget::Price;
use serde_json::Value;
use std::path::Path;

/// A helper, and what is known of it before it is asked.
pub struct Opened {
    /// Whoever answers.
    pub helper: Box<dyn Helper + Send>,
    /// Who it is, for messages.
    pub who: String,
    /// Nothing that is asked leaves this computer.
    pub is_here: bool,
}

/// Who is to answer, and what a model of this computer is computed with.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// `ollama`, `openrouter`, `openai` or `local`.
    pub service: Service,
    /// Where it is, where that is not its own place.
    pub base_url: Option<&'a str>,
    /// The model that is going to be asked; a local one is loaded.
    pub model: &'a str,
    /// As after `--backend`.
    pub backend: &'a str,
    /// Threads of the processor.
    pub threads: usize,
    /// Nothing may leave this computer.
    pub offline: bool,
}

/// The helper that is wanted. Asks nothing yet. PS-HELP-001 where working offline was asked for.
pub fn open_helper(wanted: &Wanted) -> Result<Opened> {
    let Wanted { service, base_url, model, backend, threads, offline } = *wanted;
    if service == Service::Local {
        let what = LocalModel { model: model.to_owned(), adapter: None, backend: backend.to_owned(), threads };
        let helper = LocalHelper::open(what)?;
        return Ok(Opened { who: helper.who(), is_here: true, helper: Box::new(helper) });
    }
    let settings = HelperSettings::from_environment(service, base_url)?;
    let (who, is_here) = (settings.who(), settings.is_here());
    if offline && !is_here {
        let detail = format!("Working offline was asked for, and {who} is not on this computer.");
        return Err(Fault::new("PS-HELP-001", detail).action("Use Ollama on this computer", None));
    }
    Ok(Opened { helper: open(&settings)?, who, is_here })
}

impl Opened {
    /// What the helper offers.
    pub fn models(&self) -> Result<Vec<HelperModel>> {
        self.helper.models().map_err(|why| why.into_fault(&self.who, self.helper.service()))
    }

    /// What `model` costs, before the first question; PS-OLL-002 or PS-HELP-002 where there is no such model. A service
    /// that lists nothing of use is asked all the same.
    pub fn price(&self, model: &str) -> Result<Option<Price>> {
        let models = self.models()?;
        // Ollama's own short form leaves the newest tag out.
        let latest = format!("{model}:latest");
        let found = models.iter().find(|known| known.name == model || known.name == latest);
        match (found, self.helper.service()) {
            (Some(found), _) => Ok(Price::of(found)),
            (None, Service::Ollama) => {
                let names: Vec<&str> = models.iter().map(|known| known.name.as_str()).take(12).collect();
                let detail = format!("{} has no model `{model}`; it has {}.", self.who, listed(&names));
                Err(Fault::new("PS-OLL-002", detail)
                    .action(format!("Download it with Ollama: `ollama pull {model}`"), None))
            }
            (None, Service::OpenRouter) => {
                Err(Fault::new("PS-HELP-002", format!("{} has no model `{model}`.", self.who)))
            }
            // Servers of one model answer to any name.
            (None, Service::OpenAi | Service::Local) => Ok(None),
        }
    }
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Rows as lines of JSON, in place whole or not at all.
pub(crate) fn write_rows(path: &Path, rows: impl Iterator<Item = Value>) -> Result<usize> {
    let (mut text, mut count) = (String::new(), 0);
    for row in rows {
        text.push_str(&row.to_string());
        text.push('\n');
        count += 1;
    }
    durable::write_file(path, text.as_bytes()).map_err(|error| Fault::io("write", path, error))?;
    Ok(count)
}

/// A text file whole.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(|error| Fault::io("read", path, error))?;
    String::from_utf8(bytes).map_err(|_| Fault::new("PS-DATA-001", format!("`{}` is not UTF-8 text.", path.display())))
}
