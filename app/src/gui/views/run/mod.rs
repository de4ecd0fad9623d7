//! One run: how far, how well, what was strange, and what can be done about it.

mod banner;
mod charts;
mod done;
mod gauges;
mod head;
mod rows;
mod tabs;

pub use charts::{Judged, judge};

use crate::gui::command::Out;
use crate::gui::problem::Problem;
use crate::gui::state::Data;
use crate::gui::story::Story;
use crate::gui::theme::icons::Icon;
use crate::gui::theme::space;
use crate::gui::widgets::chart::Look;
use crate::gui::widgets::problem_card::problem_card;
use crate::gui::widgets::{empty, field};
use eframe::egui::Ui;
use peft_plan::Fault;
use peft_storage::Status;
use serde_json::Value;
use std::collections::HashSet;

/// What the lower half shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tab {
    /// More charts.
    #[default]
    Charts,
    /// Answers.
    Samples,
    /// What happened.
    Events,
    /// What it found hardest to learn.
    Rows,
    /// Settings.
    Config,
}

/// What the page remembers.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// How curves are looked at.
    pub look: Look,
    /// What the lower half shows.
    pub tab: Tab,
    /// How good the curve is that was drawn last.
    pub judged: Option<Judged>,
    /// That is being worked out.
    pub is_judging: bool,
    /// Findings that were closed: run, step and kind.
    pub closed: HashSet<(String, u64, String)>,
    /// The rows that a run found hardest: whose, and what was found; none while that is looked up.
    pub rows: Option<(String, Option<Result<Value, Problem>>)>,
    /// Words of settings.
    pub words: String,
}

impl State {
    /// How good a curve is was worked out.
    pub fn judged(&mut self, judged: Judged) {
        self.is_judging = false;
        self.judged = Some(judged);
    }
}

/// Draw it.
pub fn run_ui(ui: &mut Ui, data: &Data, id: &str, state: &mut State, out: &mut Out) {
    let Some(run) = data.run(id) else {
        match &data.runs {
            Some(_) => empty::empty(ui, Icon::List, "This run is not here", "It may have been deleted.", |_| {}),
            None => empty::loading(ui, "Reading the run"),
        }
        return;
    };
    let nothing = Story::default();
    let story = data.stories.get(id).unwrap_or(&nothing);
    head::head_ui(ui, run, story, out);
    if let Some(problem) = run.error.as_ref().and_then(Problem::of_json) {
        problem_card(ui, &problem.of_run(id), false, out);
    }
    if run.status == Status::Interrupted && run.error.is_none() {
        let detail = "It was ended from outside, the computer was switched off, or the disk is full. What it learned up to \
                      its last checkpoint is kept, and it goes on from there.";
        let problem = Problem::from(&Fault::new("PS-RUN-006", detail)).of_run(id).as_warning();
        problem_card(ui, &problem, false, out);
    }
    banner::banners_ui(ui, run, story, state, out);
    if let Some(finished) = &story.finished {
        done::done_ui(ui, run, finished, out);
    }
    ui.add_space(space::S);
    // What a chart remembers is of this run alone.
    ui.push_id(id, |ui| charts::main_ui(ui, run, story, state, out));
    ui.add_space(space::M);
    let all = [
        (Tab::Charts, "More charts"),
        (Tab::Samples, "Answers"),
        (Tab::Events, "Events"),
        (Tab::Rows, "Hardest rows"),
        (Tab::Config, "Settings"),
    ];
    field::tabs(ui, &mut state.tab, &all);
    ui.add_space(space::S);
    match state.tab {
        Tab::Charts => ui.push_id(id, |ui| charts::more_ui(ui, story, state.look)).inner,
        Tab::Samples => tabs::samples_ui(ui, story, out),
        Tab::Events => tabs::events_ui(ui, story),
        Tab::Rows => rows::rows_ui(ui, run, state, out),
        Tab::Config => tabs::config_ui(ui, run, &mut state.words),
    }
}
