//! The chunks of a document in their order, each in its colour, with what it repeats of the one before.

use super::{Ask, PAGE, Studio, ask};
use crate::cli::quantity::count;
use crate::gui::command::Out;
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{Tokens, of, space, text, tokens};
use crate::gui::widgets::card::{card, chip};
use crate::gui::widgets::{button, empty, field};
use eframe::egui::text::{LayoutJob, TextFormat};
use eframe::egui::{ComboBox, FontId, Label, Role, Ui, WidgetInfo};
use peft_storage::StoredChunk;
use std::path::Path;

/// How strong the colour of a chunk is behind its text, and that of what it repeats.
const TINT: f32 = 0.10;
const REPEATED: f32 = 0.38;
/// Bytes of a chunk that are drawn.
const DRAWN: usize = 8_000;

pub(super) fn chunks_ui(ui: &mut Ui, page: &mut Studio, out: &mut Out) {
    let t = of(ui);
    ui.horizontal_wrapped(|ui| {
        document_choice(ui, page, out);
        field::search(ui, "Find words in all documents", &mut page.typed.words, 240.0);
        let can_search = !page.typed.words.trim().is_empty();
        if button::secondary("Find")
            .named("Find in the project")
            .icon(Icon::Search)
            .enabled(can_search)
            .ui(ui)
            .clicked()
        {
            out.push(ask(Ask::Search(page.typed.words.clone())));
        }
        if page.results.is_some() && button::quiet("Close the results").ui(ui).clicked() {
            page.results = None;
        }
    });
    ui.add_space(space::S);
    if let Some(results) = &page.results {
        if results.is_empty() {
            ui.label(text::body(t, "No document of this project has these words"));
        }
        for (index, chunk) in results.iter().enumerate() {
            chunk_ui(ui, chunk, index, true);
        }
        return;
    }
    let Some((document, chunks)) = &page.chunks else {
        let sentence = "Add documents first; here is then shown how they are divided.";
        empty::empty(ui, Icon::Lines, "No chunks to show", sentence, |_| {});
        return;
    };
    ui.label(text::hint(t, "The stronger colour is what a chunk repeats of the end of the one before."));
    for (index, chunk) in chunks.iter().enumerate() {
        chunk_ui(ui, chunk, index, false);
    }
    let all = page.documents.iter().flatten().find(|known| known.id == *document).map_or(0, |known| known.chunks);
    if all as usize > chunks.len() && button::secondary("Show more").ui(ui).clicked() {
        out.push(ask(Ask::Chunks(*document, chunks.len() + PAGE)));
    }
}

fn document_choice(ui: &mut Ui, page: &Studio, out: &mut Out) {
    let documents = page.documents.as_deref().unwrap_or_default();
    let shown = page.chunks.as_ref().map(|(document, _)| *document);
    let current =
        documents.iter().find(|known| Some(known.id) == shown).map_or(String::new(), |known| name_of(&known.path));
    let combo = ComboBox::from_id_salt("document").selected_text(current).width(220.0).show_ui(ui, |ui| {
        for document in documents {
            if ui.selectable_label(Some(document.id) == shown, name_of(&document.path)).clicked() {
                out.push(ask(Ask::Chunks(document.id, PAGE)));
            }
        }
    });
    combo.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, "Document"));
}

/// The name of a document.
fn name_of(path: &str) -> String {
    Path::new(path).file_name().map_or(path.to_owned(), |name| name.to_string_lossy().into_owned())
}

pub(super) fn chunk_ui(ui: &mut Ui, chunk: &StoredChunk, index: usize, names_file: bool) {
    let t = of(ui);
    card(ui, |ui| {
        ui.horizontal_wrapped(|ui| {
            let color = t.series[index % t.series.len()];
            ui.label(text::toned_strong(color, format!("#{}", chunk.position + 1)));
            if names_file {
                ui.label(text::value(t, name_of(&chunk.path))).on_hover_text(&chunk.path);
            }
            if let Some(page) = chunk.details["page"].as_u64() {
                chip(ui, t.info, &format!("page {page}"));
            }
            let headings: Vec<&str> =
                chunk.details["headings"].as_array().into_iter().flatten().filter_map(|name| name.as_str()).collect();
            if !headings.is_empty() {
                ui.label(text::hint(t, headings.join(" › ")));
            }
            let length = chunk.details["length"].as_u64().unwrap_or(0);
            ui.label(text::hint(t, format!("length {}", count(length))));
        });
        ui.add(Label::new(tinted(t, chunk, index)).wrap());
    });
}

/// The text with what it repeats in a stronger colour.
fn tinted(t: &Tokens, chunk: &StoredChunk, index: usize) -> LayoutJob {
    let color = t.series[index % t.series.len()];
    let format = |strength: f32| TextFormat {
        font_id: FontId::proportional(13.5),
        color: t.text,
        background: tokens::faded(color, strength),
        ..TextFormat::default()
    };
    let (repeated, fresh) = parts(chunk);
    let mut job = LayoutJob::default();
    job.append(repeated, 0.0, format(REPEATED));
    // Empty lines at its end would only make the card longer.
    job.append(fresh.trim_end(), 0.0, format(TINT));
    job
}

/// What a chunk repeats of the one before, and what it adds.
fn parts(chunk: &StoredChunk) -> (&str, &str) {
    let whole =
        |at: usize| (0..=at.min(chunk.text.len())).rev().find(|at| chunk.text.is_char_boundary(*at)).unwrap_or(0);
    let end = whole(DRAWN);
    let overlap = whole(chunk.details["overlap"].as_u64().unwrap_or(0) as usize).min(end);
    (&chunk.text[..overlap], &chunk.text[overlap..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_repeated_is_cut_at_characters_and_nothing_is_lost() {
        let chunk = |text: &str, overlap: u64| StoredChunk {
            id: 1,
            document: 1,
            path: String::new(),
            position: 0,
            hash: String::new(),
            text: text.to_owned(),
            details: serde_json::json!({"overlap": overlap}),
        };
        assert_eq!(parts(&chunk("one two", 4)), ("one ", "two"));
        assert_eq!(parts(&chunk("äb", 1)), ("", "äb"));
        assert_eq!(parts(&chunk("ab", 99)), ("ab", ""));
        let long = "ä".repeat(DRAWN);
        let cut = chunk(&long, 0);
        assert_eq!(parts(&cut).1.len(), DRAWN);
    }
}
