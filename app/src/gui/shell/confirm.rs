//! The question before something is deleted for good.

use crate::gui::command::{Command, Out};
use crate::gui::state::State;
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text, tokens};
use crate::gui::widgets::button;
use eframe::egui::{Id, Modal, Ui};

/// What is asked, and what happens when the answer is yes.
#[derive(Clone, Debug)]
pub struct Question {
    /// In a few words.
    pub title: String,
    /// What is lost.
    pub sentence: String,
    /// What the button says.
    pub word: &'static str,
    /// What it does.
    pub then: Box<Command>,
}

/// Draw it, where something is asked.
pub fn confirm_ui(ui: &mut Ui, state: &State, out: &mut Out) {
    let Some(question) = &state.question else { return };
    let t = of(ui);
    let modal = Modal::new(Id::unique("confirm")).backdrop_color(tokens::backdrop()).show(ui.ctx(), |ui| {
        ui.set_max_width(440.0);
        ui.label(text::section(t, &question.title));
        ui.label(text::body(t, &question.sentence));
        ui.add_space(space::S);
        ui.horizontal_wrapped(|ui| {
            if button::danger(question.word).icon(Icon::Trash).ui(ui).clicked() {
                out.push(Command::Answer(true));
            }
            if button::quiet("Keep it").ui(ui).clicked() {
                out.push(Command::Answer(false));
            }
        });
    });
    if modal.should_close() {
        out.push(Command::Answer(false));
    }
}
