//! The strip at the bottom of every other page while a run trains.

use crate::cli::quantity::interval;
use crate::gui::command::{Command, Out};
use crate::gui::route::Route;
use crate::gui::state::State;
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, text};
use crate::gui::widgets::{button, status};
use eframe::egui::{Align, Frame, Label, Layout, Margin, Panel, Ui, vec2};
use peft_storage::CommandKind;

/// Draw it, where there is something to follow.
pub fn run_strip_ui(ui: &mut Ui, state: &State, out: &mut Out) {
    let Some(run) = state.data.live() else { return };
    let id = run.id.to_string();
    if state.route == Route::Run(id.clone()) {
        return;
    }
    let t = of(ui);
    let story = state.data.stories.get(&id);
    let step = story.map_or(run.last_step, |story| story.step().max(run.last_step));
    let frame = Frame::new().fill(t.surface).inner_margin(Margin::symmetric(24, 8));
    Panel::bottom("run strip").frame(frame).exact_size(48.0).resizable(false).show(ui, |ui| {
        ui.horizontal_centered(|ui| {
            let room = ui.available_width();
            status::status(ui, run.status);
            ui.allocate_ui_with_layout(
                vec2((room * 0.2).max(60.0), 22.0),
                Layout::left_to_right(Align::Center),
                |ui| {
                    ui.add(Label::new(text::value(t, &run.name)).truncate());
                },
            );
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                if button::primary("Open").named("Open the live run").small().ui(ui).clicked() {
                    out.push(Command::Go(Route::Run(id.clone())));
                }
                if room > 560.0 && button::icon(Icon::Pause, "Pause the live run").small().ui(ui).clicked() {
                    out.push(Command::Ask(id.clone(), CommandKind::Pause));
                }
                if room > 700.0 {
                    if let Some(eta) = story.and_then(|story| story.eta) {
                        ui.label(text::hint(t, format!("{} left", interval(&eta))));
                    }
                    if let Some(loss) = run.loss {
                        ui.label(text::hint(t, format!("loss {loss:.3}")));
                    }
                }
                ui.label(text::hint(t, format!("step {step} of {}", run.total_steps)));
                let share = step as f32 / run.total_steps.max(1) as f32;
                ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                    status::progress(ui, "Progress of the live run", share, 6.0);
                });
            });
        });
    });
}
