//! The card of the project's rows: what is in them, where they are from, how good they are (S1.29).

use super::{Ask, Job, Studio, ask};
use crate::gui::command::{Command, Out};
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text};
use crate::gui::widgets::card::card;
use crate::gui::widgets::{button, field};
use eframe::egui::{Label, Ui};
use std::path::{Path, PathBuf};

/// What a person says of the rows.
#[derive(Debug, Default)]
pub struct DataCard {
    /// What they are called.
    pub title: String,
    /// Their licence.
    pub license: String,
    /// What they are for.
    pub description: String,
    /// The card that was written.
    pub written: Option<PathBuf>,
}

impl DataCard {
    /// The command.
    pub(super) fn words(&self, rows: &str, out: &Path) -> Vec<String> {
        let mut words = vec!["data".to_owned(), "card".to_owned(), rows.to_owned(), format!("--out={}", out.display())];
        let typed = [("title", &self.title), ("license", &self.license), ("description", &self.description)];
        let typed = typed.into_iter().filter(|(_, value)| !value.trim().is_empty());
        words.extend(typed.map(|(name, value)| format!("--{name}={}", value.trim())));
        words
    }
}

pub(super) fn card_ui(ui: &mut Ui, page: &mut Studio, out: &mut Out) {
    let t = of(ui);
    let is_busy = page.is_busy(Job::Card);
    ui.label(text::section(t, "The card of these rows"));
    card(ui, |ui| {
        let about = "A README.md that says what is in the rows, in which languages, from which sources and under which \
                     licences, made with which tools: for whoever gets them from you.";
        ui.add(Label::new(text::body(t, about)).wrap());
        ui.horizontal_wrapped(|ui| {
            field::line(ui, "Title", &mut page.card.title, "the project's rows", 170.0);
            field::line(ui, "Licence", &mut page.card.license, "such as cc-by-4.0", 150.0);
            field::line(ui, "What it is for", &mut page.card.description, "in your own words", 230.0);
        });
        ui.add_space(space::S);
        ui.horizontal_wrapped(|ui| {
            if button::secondary("Write the card").icon(Icon::File).enabled(!is_busy).ui(ui).clicked() {
                out.push(ask(Ask::Card));
            }
            if let Some(path) = page.card.written.as_ref().filter(|_| !is_busy) {
                ui.add(Label::new(text::code(t, path.display().to_string())).wrap());
                if button::quiet("Show it").named("Show the card").icon(Icon::Folder).small().ui(ui).clicked() {
                    out.push(Command::Reveal(path.clone()));
                }
            }
        });
    });
}
