//! What the window knows: data that threads brought, and what each page remembers.

use super::errand::Errand;
use super::export::Exports;
use super::feed::Feed;
use super::log::Log;
use super::outside::Whose;
use super::playground::Playground;
use super::problem::Problem;
use super::route::Route;
use super::serve::Server;
use super::settings::Settings;
use super::shell::confirm::Question;
use super::story::Story;
use super::studio::Studio;
use super::tools::Tools;
use super::views::{compare, help, models, presets, run, runs};
use super::{palette, wizard};
use crate::jobs::library::LocalModel;
use crate::jobs::notices::Preferences;
use peft_plan::RunConfig;
use peft_plan::preset::Preset;
use peft_storage::{Conversation, Run, Status, Version};
use std::collections::HashMap;
use std::path::PathBuf;

/// What threads brought; views only read it.
#[derive(Default)]
pub struct Data {
    /// All runs, the newest first; none before the first look.
    pub runs: Option<Vec<Run>>,
    /// Why there are none.
    pub store_problem: Option<Problem>,
    /// Stories of the runs that are followed.
    pub stories: HashMap<String, Story>,
    /// Models on this computer.
    pub models: Option<Vec<LocalModel>>,
    /// Presets; `true`: one's own.
    pub presets: Option<Vec<(Preset, bool)>>,
    /// Versions.
    pub versions: Option<Vec<Version>>,
    /// Conversations.
    pub talks: Option<Vec<Conversation>>,
    /// Settings of the run that was refused last.
    pub refused: Option<RunConfig>,
    /// What the desktop is told.
    pub notices: Option<Preferences>,
    /// The file that helps to find out what went wrong.
    pub diagnostics: Option<PathBuf>,
    /// That was asked.
    pub asked_notices: bool,
    /// A run was asked for and has not begun yet.
    pub is_launching: bool,
    /// Its model is being downloaded: bytes that are here, and all of them.
    pub fetching: Option<(u64, u64)>,
    /// Seconds since 1970.
    pub now: i64,
}

impl Data {
    /// A run by id.
    pub fn run(&self, id: &str) -> Option<&Run> {
        self.runs.as_ref()?.iter().find(|run| run.id.as_str() == id)
    }

    /// The run that trains, the newest if there are several.
    pub fn live(&self) -> Option<&Run> {
        self.runs.as_ref()?.iter().find(|run| run.status == Status::Running)
    }
}

/// A message in the corner.
#[derive(Clone, Debug)]
pub struct Toast {
    /// Tells it from others.
    pub id: u64,
    /// What is said.
    pub text: String,
    /// What went wrong.
    pub problem: Option<Problem>,
    /// When it appeared, in seconds of the window.
    pub since: Option<f64>,
}

/// What pages remember.
#[derive(Default)]
pub struct Pages {
    /// The list of runs.
    pub runs: runs::State,
    /// A run.
    pub run: run::State,
    /// Runs side by side.
    pub compare: compare::State,
    /// The playground.
    pub playground: Playground,
    /// The wizard.
    pub wizard: wizard::Wizard,
    /// Models.
    pub models: models::State,
    /// Presets.
    pub presets: presets::State,
    /// Help.
    pub help: help::State,
    /// Exports.
    pub exports: Exports,
    /// The local server.
    pub server: Server,
    /// Documents, chunks, rows.
    pub studio: Studio,
    /// Tools.
    pub tools: Tools,
}

/// Everything.
#[derive(Default)]
pub struct State {
    /// Where we are.
    pub route: Route,
    /// Where we were.
    pub before: Vec<Route>,
    /// What threads brought.
    pub data: Data,
    /// What pages remember.
    pub pages: Pages,
    /// What is remembered for the next time.
    pub settings: Settings,
    /// The palette, while it is open.
    pub palette: Option<palette::State>,
    /// Messages in the corner.
    pub toasts: Vec<Toast>,
    /// Number of the next message.
    pub next_toast: u64,
    /// Runs that are followed.
    pub feeds: HashMap<String, Feed>,
    /// What runs beside the window, and for whom.
    pub errands: HashMap<u64, (Errand, Whose)>,
    /// Number of the latest.
    pub next_errand: u64,
    /// What happened.
    pub log: Log,
    /// What has to be confirmed before it happens.
    pub question: Option<Question>,
    /// The question before closing is shown.
    pub asks_to_close: bool,
    /// Closing was confirmed.
    pub may_close: bool,
    /// The page that broke, until it is tried again.
    pub broken: Option<Route>,
}

impl State {
    /// What ends with the window, in words.
    pub fn pending(&self) -> Vec<String> {
        let words = self.errands.values().filter_map(|(_, whose)| whose.pending());
        let mut all: Vec<String> = words.map(str::to_owned).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Say something in the corner.
    pub fn toast(&mut self, text: impl Into<String>, problem: Option<Problem>) {
        self.next_toast += 1;
        self.toasts.push(Toast { id: self.next_toast, text: text.into(), problem, since: None });
        // More than a few cannot be read.
        if self.toasts.len() > 4 {
            self.toasts.remove(0);
        }
    }
}
