//! What was put into the project, and what could not be read of it.

use super::{Ask, Counts, Job, Studio, Tab, ask};
use crate::cli::quantity::count;
use crate::gui::command::{Command, Out, Purpose};
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text};
use crate::gui::widgets::card::{card, chip, icon_label};
use crate::gui::widgets::{button, empty, field};
use eframe::egui::{Align, ComboBox, Label, Layout, Role, Ui, WidgetInfo};
use peft_storage::StoredDocument;
use serde_json::Value;
use std::path::Path;

/// Documents that are drawn: a list of more is looked through by searching.
const SHOWN: usize = 200;
/// Room for how many chunks a document has.
const NUMBER: [f32; 2] = [84.0, 20.0];

pub(super) fn documents_ui(ui: &mut Ui, page: &mut Studio, out: &mut Out) {
    let is_busy = page.is_busy(Job::Chunk);
    sizes_ui(ui, page);
    ui.horizontal_wrapped(|ui| {
        if button::primary("Add documents…").icon(Icon::Plus).enabled(!is_busy).ui(ui).clicked() {
            out.push(Command::Browse(Purpose::Documents));
        }
        if button::secondary("Add a folder…").icon(Icon::Folder).enabled(!is_busy).ui(ui).clicked() {
            out.push(Command::Browse(Purpose::DocumentFolder));
        }
        let all: Vec<_> = page.documents.iter().flatten().map(|document| document.path.clone().into()).collect();
        if button::secondary("Chunk again").icon(Icon::Refresh).enabled(!is_busy && !all.is_empty()).ui(ui).clicked() {
            out.push(ask(Ask::Add(all)));
        }
    });
    if is_busy {
        ui.horizontal_wrapped(|ui| {
            empty::loading(ui, "Reading documents; what has not changed is left as it is");
            if button::quiet("Stop").named("Stop reading documents").icon(Icon::Stop).small().ui(ui).clicked() {
                out.push(ask(Ask::Stop(Job::Chunk)));
            }
        });
    }
    if let Some(report) = &page.report {
        report_ui(ui, report);
    }
    match &page.documents {
        None => empty::loading(ui, "Reading the project"),
        Some(documents) if documents.is_empty() && !is_busy => {
            let sentence = "Text, Markdown, web pages, JSON, CSV, PDF, Word documents and books. Pages, headings and tables keep their place.";
            empty::empty(ui, Icon::Book, "No documents yet", sentence, |_| {});
        }
        Some(documents) => {
            let mut shown = None;
            for document in documents.iter().take(SHOWN) {
                match document_ui(ui, document, !is_busy) {
                    Some(Pressed::Chunks) => shown = Some(document.id),
                    Some(Pressed::Remove) => out.push(ask(Ask::Remove(document.id))),
                    None => {}
                }
            }
            if documents.len() > SHOWN {
                let t = of(ui);
                ui.label(text::hint(t, format!("and {} more", count((documents.len() - SHOWN) as u64))));
            }
            if let Some(document) = shown {
                page.tab = Tab::Chunks;
                page.chunks = None;
                out.push(ask(Ask::Chunks(document, super::PAGE)));
            }
        }
    }
}

/// How long chunks are, and what that is counted in.
fn sizes_ui(ui: &mut Ui, page: &mut Studio) {
    let t = of(ui);
    let typed = &mut page.typed;
    ui.horizontal_wrapped(|ui| {
        field::line(ui, "Longest chunk", &mut typed.size, "1500", 70.0);
        let units = [(Counts::Characters, "characters"), (Counts::Tokens, "tokens")];
        let shown = units.iter().find(|(unit, _)| *unit == typed.counts).map_or("", |(_, word)| word);
        let before = typed.counts;
        let combo = ComboBox::from_id_salt("unit").selected_text(shown).width(110.0).show_ui(ui, |ui| {
            for (unit, word) in units {
                ui.selectable_value(&mut typed.counts, unit, word);
            }
        });
        combo.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, "Counted in"));
        if typed.counts != before {
            // A token is about four characters.
            let (size, overlap) = if typed.counts == Counts::Tokens { ("400", "40") } else { ("1500", "150") };
            (typed.size, typed.overlap) = (size.to_owned(), overlap.to_owned());
        }
        if typed.counts == Counts::Tokens {
            field::line(ui, "of the model", &mut typed.model, "starter, or a folder", 150.0);
        }
        field::line(ui, "Overlap", &mut typed.overlap, "150", 60.0);
        ui.label(text::hint(t, "what a chunk repeats of the one before"));
    });
}

/// What came of the last reading: counts, and files that were left out.
fn report_ui(ui: &mut Ui, report: &Value) {
    let t = of(ui);
    let number = |name: &str| report[name].as_u64().unwrap_or(0);
    let files = report["files"].as_array().map_or(0, Vec::len) as u64;
    let (unchanged, exact, near) = (number("unchanged"), number("exact_copies"), number("near_copies"));
    let documents = if files == 1 { "document" } else { "documents" };
    let mut parts = vec![format!("{} of {} {documents}", chunks_of(number("chunks")), count(files))];
    parts.extend((unchanged > 0).then(|| format!("{} as before", count(unchanged))));
    parts.extend((exact > 0).then(|| format!("{} say the same as an earlier chunk", count(exact))));
    parts.extend((near > 0).then(|| format!("{} nearly the same", count(near))));
    ui.add_space(space::S);
    card(ui, |ui| {
        ui.add(Label::new(text::value(t, parts.join(" · "))).wrap());
        for left in report["unreadable"].as_array().into_iter().flatten() {
            ui.horizontal_wrapped(|ui| {
                icon_label(ui, Icon::Warning, t.warn.fg, 14.0);
                let reason = left["reason"].as_str().unwrap_or_default();
                ui.label(text::body(t, format!("Left out: {reason} ({})", left["code"].as_str().unwrap_or_default())));
            });
        }
    });
    ui.add_space(space::S);
}

fn chunks_of(number: u64) -> String {
    format!("{} {}", count(number), if number == 1 { "chunk" } else { "chunks" })
}

/// What was pressed on a document.
enum Pressed {
    Chunks,
    Remove,
}

/// A document, and what was pressed on it.
fn document_ui(ui: &mut Ui, document: &StoredDocument, can_remove: bool) -> Option<Pressed> {
    let t = of(ui);
    let name =
        Path::new(&document.path).file_name().map_or(document.path.clone(), |n| n.to_string_lossy().into_owned());
    let mut pressed = None;
    card(ui, |ui| {
        ui.horizontal(|ui| {
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                let label = format!("Remove {name}");
                let hint = "Its chunks leave the project; the file itself stays where it is";
                let remove = button::quiet("Remove").named(&label).small().enabled(can_remove);
                if remove.ui(ui).on_hover_text(hint).clicked() {
                    pressed = Some(Pressed::Remove);
                }
                let label = format!("Show the chunks of {name}");
                if button::secondary("Chunks").named(&label).small().ui(ui).clicked() {
                    pressed = Some(Pressed::Chunks);
                }
                // One below the other, whatever their number.
                ui.add_sized(NUMBER, Label::new(text::hint(t, chunks_of(document.chunks))));
                chip(ui, t.info, &document.format);
                ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                    ui.add(Label::new(text::card_title(t, &name)).truncate()).on_hover_text(&document.path);
                });
            });
        });
        if let Some(title) = document.title.as_ref().filter(|title| **title != name) {
            ui.label(text::body(t, title));
        }
        for warning in &document.warnings {
            ui.horizontal_wrapped(|ui| {
                icon_label(ui, Icon::Warning, t.warn.fg, 14.0);
                ui.label(text::body(t, warning));
            });
        }
    });
    pressed
}
