//! A failure as the window keeps and shows it: what a [`Fault`] says, without what cannot be copied.

use peft_plan::fault::catalogue;
use peft_plan::{Action, Fault};

/// A failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Code of the catalogue.
    pub code: String,
    /// The catalogue's title.
    pub title: String,
    /// What happened this time.
    pub detail: String,
    /// Two or three things to do.
    pub actions: Vec<Action>,
    /// The technical cause, where there is one.
    pub technical: Option<String>,
    /// The run that failed, where it is one.
    pub run: Option<String>,
    /// It stops nothing.
    pub is_warning: bool,
}

impl From<&Fault> for Problem {
    fn from(fault: &Fault) -> Self {
        Self {
            code: fault.code.to_owned(),
            title: fault.entry().title.clone(),
            detail: fault.detail.clone(),
            actions: fault.shown_actions(),
            technical: fault.source.as_ref().map(ToString::to_string),
            run: None,
            is_warning: false,
        }
    }
}

impl Problem {
    /// The `error` object that another process wrote, as `--json` shows it.
    pub fn of_json(error: &serde_json::Value) -> Option<Self> {
        let error = error.get("error").unwrap_or(error);
        let text = |key: &str| error[key].as_str().map(str::to_owned);
        let code = text("code")?;
        let title = text("title").or_else(|| catalogue().get(&code).map(|entry| entry.title.clone()))?;
        let actions = serde_json::from_value(error["actions"].clone()).unwrap_or_default();
        let detail = text("detail").unwrap_or_default();
        Some(Self { code, title, detail, actions, technical: None, run: None, is_warning: false })
    }

    /// The same, of a run: commands name it.
    pub fn of_run(mut self, run: &str) -> Self {
        for command in self.actions.iter_mut().filter_map(|action| action.command.as_mut()) {
            let words: Vec<&str> = command.split(' ').map(|word| if word == "RUN" { run } else { word }).collect();
            *command = words.join(" ");
        }
        Self { run: Some(run.to_owned()), ..self }
    }

    /// The same, of something that goes on all the same.
    pub fn as_warning(self) -> Self {
        Self { is_warning: true, ..self }
    }
}
