//! Runs that wait for their turn.

use super::Tools;
use crate::gui::command::{Command, Out};
use crate::gui::route::Route;
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text};
use crate::gui::widgets::card::{card, chip};
use crate::gui::widgets::problem_card::problem_card;
use crate::gui::widgets::{button, empty, status};
use eframe::egui::{Align, Label, Layout, Ui};
use peft_storage::Waiting;

/// Draw it.
pub(super) fn queue_ui(ui: &mut Ui, page: &Tools, out: &mut Out) {
    let t = of(ui);
    let queue = match &page.queue {
        None => return empty::loading(ui, "Looking at the queue"),
        Some(Err(problem)) => {
            problem_card(ui, problem, false, out);
            return;
        }
        Some(Ok(queue)) => queue,
    };
    let words = |all: &[&str]| all.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    card(ui, |ui| {
        ui.horizontal_wrapped(|ui| {
            if queue.worker.is_some() {
                chip(ui, t.ok, "Working");
                ui.label(text::body(t, "The runs are trained one after the other, also when this window is closed."));
            } else {
                chip(ui, t.info, "Nobody works on it");
                ui.label(text::body(t, "What waits begins when you start the queue."));
            }
        });
        ui.add_space(space::XS);
        ui.horizontal_wrapped(|ui| {
            if queue.worker.is_none() {
                let start = button::primary("Start the queue").icon(Icon::Play).enabled(!queue.waiting.is_empty());
                if start.ui(ui).clicked() {
                    out.push(Command::Deed(words(&["runs", "queue", "start"]), "The queue is worked on".to_owned()));
                }
            } else {
                if button::secondary("End after this run").icon(Icon::Stop).ui(ui).clicked() {
                    let said = "No further run begins".to_owned();
                    out.push(Command::Deed(words(&["runs", "queue", "stop"]), said));
                }
                if button::quiet("Pause this run and end").icon(Icon::Pause).ui(ui).clicked() {
                    let said = "The run pauses, and no other begins".to_owned();
                    out.push(Command::Deed(words(&["runs", "queue", "stop", "--pause"]), said));
                }
            }
        });
    });
    ui.add_space(space::M);
    if queue.waiting.is_empty() {
        let sentence =
            "On the last step of a new run, “Wait in the queue” puts it here instead of starting it at once.";
        empty::empty(ui, Icon::Clock, "Nothing waits", sentence, |ui| {
            if button::secondary("New run").named("New run to wait").icon(Icon::Plus).ui(ui).clicked() {
                out.push(Command::Go(Route::New));
            }
        });
        return;
    }
    for (index, waiting) in queue.waiting.iter().enumerate() {
        waiting_ui(ui, index, waiting, queue.waiting.len(), out);
    }
}

fn waiting_ui(ui: &mut Ui, index: usize, waiting: &Waiting, count: usize, out: &mut Out) {
    let t = of(ui);
    let Waiting { run, taken, .. } = waiting;
    let id = run.id.to_string();
    let deed = |words: &[&str], said: String| Command::Deed(words.iter().map(|w| (*w).to_owned()).collect(), said);
    card(ui, |ui| {
        ui.horizontal(|ui| {
            status::status(ui, run.status);
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                let open = format!("Open the run {}", run.name);
                if button::secondary("Open").named(&open).small().ui(ui).clicked() {
                    out.push(Command::Go(Route::Run(id.clone())));
                }
                if !taken {
                    let name = format!("Take {} out of the queue", run.name);
                    if button::icon(Icon::Cross, &name).small().ui(ui).clicked() {
                        let said = format!("`{}` does not wait any more", run.name);
                        out.push(deed(&["runs", "queue", "remove", &id], said));
                    }
                    let mut shift = |ui: &mut Ui, word: &str, to: usize, can: bool| {
                        let name = format!("{word} {}", run.name);
                        if button::quiet(word).named(&name).small().enabled(can).ui(ui).clicked() {
                            let said = format!("`{}` has another place", run.name);
                            out.push(deed(&["runs", "queue", "move", &id, &to.to_string()], said));
                        }
                    };
                    shift(ui, "Later", index + 2, index + 1 < count);
                    shift(ui, "Sooner", index.max(1), index > 0);
                }
                ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                    ui.label(text::hint(t, if *taken { "Now".to_owned() } else { format!("{}.", index + 1) }));
                    ui.add(Label::new(text::card_title(t, &run.name)).truncate());
                });
            });
        });
        let steps = if run.total_steps > 0 {
            format!("{} of {} steps", run.last_step, run.total_steps)
        } else {
            "Not begun".to_owned()
        };
        ui.label(text::hint(t, steps));
    });
}
