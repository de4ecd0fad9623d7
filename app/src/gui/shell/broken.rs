//! What stands in place of a page that broke.

use crate::gui::command::{Command, Out};
use crate::gui::route::Route;
use crate::gui::state::State;
use crate::gui::theme::icons::Icon;
use crate::gui::widgets::{button, empty};
use eframe::egui::Ui;

/// Draw it.
pub fn broken_ui(ui: &mut Ui, state: &mut State, out: &mut Out) {
    let sentence = "Something in this page went wrong. Nothing of your runs, models or data is affected, and every \
                    other page works.";
    empty::empty(ui, Icon::Warning, "This page stopped working", sentence, |ui| {
        if button::primary("Try again").icon(Icon::Refresh).ui(ui).clicked() {
            state.broken = None;
        }
        if state.route != Route::Home && button::quiet("Go home").ui(ui).clicked() {
            out.push(Command::Go(Route::Home));
        }
    });
}
