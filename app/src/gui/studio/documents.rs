//! What was put into the project, and what could not be read of it.

use super::{Ask, Job, Studio, Tab, ask};
use crate::cli::quantity::count;
use crate::gui::command::{Command, Out, Purpose};
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text};
use crate::gui::widgets::card::{card, chip, icon_label};
use crate::gui::widgets::{button, empty, field};
use eframe::egui::{Align, Label, Layout, Ui};
use peft_storage::StoredDocument;
use serde_json::Value;
use std::path::Path;

/// Documents that are drawn: a list of more is looked through by searching.
const SHOWN: usize = 200;

pub(super) fn documents_ui(ui: &mut Ui, page: &mut Studio, out: &mut Out) {
    let is_busy = page.is_busy(Job::Chunk);
    ui.horizontal_wrapped(|ui| {
        field::line(ui, "Longest chunk, in characters", &mut page.typed.size, "1500", 80.0);
        field::line(ui, "Overlap", &mut page.typed.overlap, "150", 60.0);
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
                if document_ui(ui, document) {
                    shown = Some(document.id);
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

/// What came of the last reading: counts, and files that were left out.
fn report_ui(ui: &mut Ui, report: &Value) {
    let t = of(ui);
    let number = |name: &str| count(report[name].as_u64().unwrap_or(0));
    let files = report["files"].as_array().map_or(0, Vec::len);
    card(ui, |ui| {
        let line = format!(
            "{} chunks of {} documents; {} documents had not changed, {} chunks repeat others, {} nearly",
            number("chunks"),
            count(files as u64),
            number("unchanged"),
            number("exact_copies"),
            number("near_copies")
        );
        ui.label(text::value(t, line));
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

/// Whether its chunks are asked for.
fn document_ui(ui: &mut Ui, document: &StoredDocument) -> bool {
    let t = of(ui);
    let name =
        Path::new(&document.path).file_name().map_or(document.path.clone(), |n| n.to_string_lossy().into_owned());
    let mut is_pressed = false;
    card(ui, |ui| {
        ui.horizontal(|ui| {
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                let label = format!("Show the chunks of {name}");
                is_pressed = button::secondary("Chunks").named(&label).small().ui(ui).clicked();
                ui.label(text::hint(t, format!("{} chunks", count(document.chunks))));
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
    is_pressed
}
