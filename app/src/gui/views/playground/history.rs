//! Earlier conversations, found by their words.

use crate::cli::quantity::ago;
use crate::gui::command::{Command, Out};
use crate::gui::playground::Playground;
use crate::gui::state::Data;
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text};
use crate::gui::widgets::{button, field};
use eframe::egui::{Align, Label, Layout, ScrollArea, Sense, Ui};

/// Draw it.
pub(super) fn history_ui(ui: &mut Ui, data: &Data, page: &mut Playground, out: &mut Out) {
    let t = of(ui);
    ui.label(text::card_title(t, "Conversations"));
    let width = ui.available_width() - 44.0;
    if field::search(ui, "Search conversations", &mut page.search, width).changed() {
        out.push(Command::SearchTalks(page.search.clone()));
    }
    ui.add_space(space::XS);
    let talks = data.talks.as_deref().unwrap_or_default();
    if talks.is_empty() {
        ui.label(text::hint(t, "What you ask is kept here."));
    }
    ScrollArea::vertical().id_salt("talks").auto_shrink(false).show(ui, |ui| {
        for talk in talks {
            ui.push_id(talk.id, |ui| {
                ui.horizontal(|ui| {
                    let title = if talk.title.is_empty() { "Untitled" } else { &talk.title };
                    ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                        if button::icon(Icon::Trash, &format!("Delete {title}")).small().ui(ui).clicked() {
                            out.push(Command::DeleteTalk(talk.id));
                        }
                        ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                            let label = Label::new(text::value(t, title)).truncate().sense(Sense::click());
                            let hint = format!("{} · {}", talk.model, ago(talk.updated, data.now));
                            if ui.add(label).on_hover_text(hint).clicked() {
                                out.push(Command::OpenTalk(talk.id));
                            }
                        });
                    });
                });
            });
        }
    });
}
