//! The page of tools: its tabs, and what all of them show of a process.

use super::{Job, Tab, Tool, Tools, checks, evaluate, log, pipeline, queue};
use crate::gui::command::{Command, Out};
use crate::gui::errand::Ending;
use crate::gui::state::Data;
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text};
use crate::gui::widgets::card::heading;
use crate::gui::widgets::problem_card::problem_card;
use crate::gui::widgets::{button, empty, field};
use eframe::egui::{Label, Ui};

/// Draw it.
pub fn tools_ui(ui: &mut Ui, data: &Data, lines: &crate::gui::log::Log, page: &mut Tools, out: &mut Out) {
    heading(ui, "Tools", "Measure models, let runs wait for their turn, run chains of commands, check this computer.");
    let tabs = [
        (Tab::Evaluate, "Evaluate"),
        (Tab::Queue, "Queue"),
        (Tab::Pipeline, "Pipeline"),
        (Tab::Checks, "This computer"),
        (Tab::Log, "Log"),
    ];
    field::tabs(ui, &mut page.tab, &tabs);
    ui.add_space(space::S);
    match page.tab {
        Tab::Evaluate => evaluate::evaluate_ui(ui, data, page, out),
        Tab::Queue => queue::queue_ui(ui, page, out),
        Tab::Pipeline => pipeline::pipeline_ui(ui, page, out),
        Tab::Checks => checks::checks_ui(ui, data, page, out),
        Tab::Log => log::log_ui(ui, data, lines, &mut page.log, out),
    }
}

/// The button that begins, or the one that ends it.
pub(super) fn go_ui(ui: &mut Ui, page: &Tools, tool: Tool, word: &str, can: bool, out: &mut Out) {
    match page.job(tool).filter(|job| job.ending.is_none()) {
        Some(job) => {
            let name = format!("Stop: {}", tool.title());
            if button::secondary("Stop").named(&name).icon(Icon::Stop).ui(ui).clicked() {
                out.push(Command::StopErrand(job.id));
            }
        }
        None => {
            if button::primary(word).icon(Icon::Play).enabled(can).ui(ui).clicked() {
                out.push(Command::Tool(tool));
            }
        }
    }
}

/// What is under way, or why it failed. `true`: there is a result to show.
pub(super) fn state_ui(ui: &mut Ui, job: &Job, out: &mut Out) -> bool {
    let t = of(ui);
    match &job.ending {
        None => {
            empty::loading(ui, job.remark.as_deref().unwrap_or("Working. You can leave this page."));
        }
        Some(Ending::Stopped) => drop(ui.label(text::body(t, "Stopped"))),
        Some(Ending::Done(_) | Ending::Failed(_)) => {}
    }
    if let Some(problem) = job.problem() {
        problem_card(ui, problem, false, out);
    }
    !job.lines.is_empty()
}

/// A line with a file, and a way to choose one.
pub(super) fn file_ui(ui: &mut Ui, name: &str, typed: &mut String, hint: &str, browse: Command, out: &mut Out) {
    let width = (ui.available_width() - 320.0).clamp(120.0, 420.0);
    let label = field::name(ui, name, None);
    field::named_line(ui, &label, typed, hint, width);
    let browse_it = format!("Browse: {name}");
    if button::quiet("Browse…").named(&browse_it).icon(Icon::Folder).ui(ui).clicked() {
        out.push(browse);
    }
}

/// A sentence that may be longer than its place.
pub(super) fn sentence(ui: &mut Ui, words: &str) {
    let t = of(ui);
    ui.add(Label::new(text::body(t, words)).wrap());
}
