//! A failure as a person meets it: a code, what happened, and what can be done.
//!
//! Every crate that touches the outside world returns [`Fault`]. The wording that belongs to a
//! code (title, exit code, the usual actions) lives in one data file, `errors.json`, so that the
//! terminal, `--json`, the window and the help pages cannot disagree. What happened this time
//! (file, line, number) is the fault's `detail`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// `Result` with a [`Fault`].
pub type Result<T, E = Fault> = std::result::Result<T, E>;

/// One thing a person can do about a fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// What it does, as a button would say it.
    pub label: String,
    /// The command line that does it, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

/// What the catalogue knows about a code.
#[derive(Clone, Debug, Deserialize)]
pub struct CatalogueEntry {
    /// Plain title, without a full stop.
    pub title: String,
    /// Exit code of the command line.
    pub exit: u8,
    /// What usually helps; two or three.
    pub actions: Vec<Action>,
}

/// A failure with a code of the catalogue.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub struct Fault {
    /// `PS-AREA-NNN`.
    pub code: &'static str,
    /// What happened this time, in one or two sentences.
    pub detail: String,
    /// Actions that fit better than the catalogue's, if any.
    pub actions: Vec<Action>,
    /// The technical cause, for the log.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Fault {
    /// A fault with the catalogue's actions.
    ///
    /// `code` must be in the catalogue; a test over the sources checks that.
    pub fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), actions: Vec::new(), source: None }
    }

    /// Keep the technical cause.
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Offer `label` (and a command that does it) instead of the catalogue's actions.
    pub fn action(mut self, label: impl Into<String>, command: Option<String>) -> Self {
        self.actions.push(Action { label: label.into(), command });
        self
    }

    /// The catalogue's entry of this code.
    pub fn entry(&self) -> &'static CatalogueEntry {
        &catalogue()[self.code]
    }

    /// The actions to show: its own, topped up from the catalogue to at least two.
    pub fn shown_actions(&self) -> Vec<Action> {
        let mut shown = self.actions.clone();
        for action in &self.entry().actions {
            if shown.len() >= 3 {
                break;
            }
            if shown.iter().all(|known| known.label != action.label) {
                shown.push(action.clone());
            }
        }
        shown
    }

    /// Where this code is on the help page.
    pub fn help(&self) -> String {
        help_anchor(self.code)
    }

    /// The command that explains this code, without a network.
    pub fn help_command(&self) -> String {
        format!("peft-studio errors show {}", self.code)
    }

    /// Reading or writing `path` failed: sorted by what the system said.
    pub fn io(what: &str, path: &std::path::Path, error: std::io::Error) -> Self {
        use std::io::ErrorKind;
        let detail = format!("Failed to {what} `{}`: {error}", path.display());
        let code = match error.kind() {
            ErrorKind::NotFound => "PS-FILE-001",
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => "PS-DISK-004",
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "PS-DISK-002",
            _ => "PS-DISK-003",
        };
        Self::new(code, detail).caused_by(error)
    }
}

/// Where `code` is on the help page.
pub fn help_anchor(code: &str) -> String {
    format!("help/#{}", code.to_lowercase())
}

/// The catalogue's own spelling of a code that comes from outside, such as another process.
pub fn known_code(code: &str) -> Option<&'static str> {
    catalogue().get_key_value(code).map(|(known, _)| known.as_str())
}

/// Every code the program can raise.
///
/// # Panics
/// If the embedded catalogue is not valid, which a test rules out.
pub fn catalogue() -> &'static BTreeMap<String, CatalogueEntry> {
    static CATALOGUE: OnceLock<BTreeMap<String, CatalogueEntry>> = OnceLock::new();
    CATALOGUE
        .get_or_init(|| serde_json::from_str(include_str!("../errors.json")).expect("errors.json is checked by a test"))
}
