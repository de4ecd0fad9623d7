//! The question before a window is closed while a run trains.

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
        ui.label(text::section(t, "A run is training"));
        let name = state.data.live().map_or("It", |run| run.name.as_str());
        ui.label(text::body(
            t,
            format!("`{name}` does not need this window. It can go on without it, and shows up here again next time."),
        ));
        ui.add_space(space::S);
        ui.horizontal_wrapped(|ui| {
            if button::primary("Close, keep training").ui(ui).clicked() {
                out.push(Command::Quit);
            }
            if button::secondary("Pause it and close").ui(ui).clicked() {
                out.push(Command::PauseAndQuit);
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
