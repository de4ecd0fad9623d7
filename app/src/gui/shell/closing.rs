//! The question before a window is closed while a run trains, or while something works that would end with it.

use crate::gui::command::{Command, Out};
use crate::gui::state::State;
use crate::gui::theme::{of, space, text, tokens};
use crate::gui::widgets::button;
use eframe::egui::{Id, Modal, Ui};

/// Draw it, where it is asked.
pub fn closing_ui(ui: &mut Ui, state: &State, out: &mut Out) {
    if !state.asks_to_close {
        return;
    }
    let t = of(ui);
    let modal = Modal::new(Id::unique("closing")).backdrop_color(tokens::backdrop()).show(ui.ctx(), |ui| {
        ui.set_max_width(440.0);
        let pending = state.pending();
        if let Some(run) = state.data.live() {
            ui.label(text::section(t, "A run is training"));
            let name = &run.name;
            ui.label(text::body(
                t,
                format!(
                    "`{name}` does not need this window. It can go on without it, and shows up here again next time."
                ),
            ));
        } else {
            ui.label(text::section(t, "Something is not done yet"));
        }
        if !pending.is_empty() {
            ui.label(text::body(t, "This ends with the window:"));
            for word in &pending {
                ui.label(text::value(t, format!("•  {word}")));
            }
        }
        ui.add_space(space::S);
        ui.horizontal_wrapped(|ui| {
            if state.data.live().is_some() {
                if button::primary("Close, keep training").ui(ui).clicked() {
                    out.push(Command::Quit);
                }
                if button::secondary("Pause it and close").ui(ui).clicked() {
                    out.push(Command::PauseAndQuit);
                }
            } else if button::danger("Close all the same").ui(ui).clicked() {
                out.push(Command::Quit);
            }
            if button::quiet("Stay").ui(ui).clicked() {
                out.push(Command::StayOpen);
            }
        });
    });
    if modal.should_close() {
        out.push(Command::StayOpen);
    }
}
