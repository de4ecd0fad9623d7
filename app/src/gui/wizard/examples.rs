//! Third step: the examples. Drop, choose, type a path or paste; then see how they are read and how good they are.

use super::Wizard;
use super::data::{Fix, Inspected, Preview};
use crate::cli::quantity::count;
use crate::gui::command::{Command, Out, Purpose};
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text, tokens};
use crate::gui::widgets::card::{card, icon_label};
use crate::gui::widgets::problem_card::problem_card;
use crate::gui::widgets::{button, empty, field};
use eframe::egui::text::LayoutJob;
use eframe::egui::{
    Align, ComboBox, CornerRadius, FontId, Frame, Label, Layout, Margin, Role, Stroke, TextEdit, TextFormat, Ui,
    WidgetInfo,
};
use peft_data::Severity;
use std::path::PathBuf;

/// Draw it.
pub(super) fn examples_ui(ui: &mut Ui, wizard: &mut Wizard, out: &mut Out) {
    drop_ui(ui, wizard, out);
    ui.add_space(space::S);
    if wizard.is_inspecting {
        empty::loading(ui, "Looking at your examples");
        return;
    }
    match wizard.found.take() {
        Some(Ok(found)) => {
            found_ui(ui, wizard, &found, out);
            wizard.found = Some(Ok(found));
        }
        Some(Err(problem)) => {
            problem_card(ui, &problem, false, out);
            let named = wizard.named.clone();
            if problem.code == "PS-DATA-003" && !named.is_empty() {
                ui.add_space(space::S);
                card(ui, |ui| {
                    let t = of(ui);
                    ui.label(text::card_title(t, "Which column is which?"));
                    ui.label(text::body(t, "Say where the question and the answer are, or which one is plain text."));
                    columns_ui(ui, wizard, &named, out);
                });
            }
            wizard.found = Some(Err(problem));
        }
        None if !wizard.paths.is_empty() => out.push(Command::Inspect(wizard.paths.clone())),
        None => {}
    }
}

fn drop_ui(ui: &mut Ui, wizard: &mut Wizard, out: &mut Out) {
    let t = of(ui);
    let is_empty = wizard.found.is_none();
    let frame = Frame::new()
        .fill(t.surface)
        .stroke(Stroke::new(1.5, tokens::faded(t.border_strong, 0.7)))
        .corner_radius(CornerRadius::same(space::CARD_RADIUS))
        .inner_margin(Margin::same(if is_empty { 24 } else { 14 }));
    frame.show(ui, |ui| {
        ui.set_width(ui.available_width());
        if is_empty {
            ui.vertical_centered(|ui| {
                let (rect, _) = ui.allocate_exact_size(eframe::egui::vec2(44.0, 44.0), eframe::egui::Sense::hover());
                Icon::Upload.paint(ui.painter(), rect, 36.0, t.accent);
                ui.label(text::section(t, "Drop your files here"));
                ui.label(text::hint(t, "JSONL, JSON, CSV, TSV, Parquet, text, Markdown; packed or not"));
            });
            ui.add_space(space::S);
        }
        ui.horizontal_wrapped(|ui| {
            let browse = button::secondary("Choose files…").icon(Icon::Folder);
            if browse.ui(ui).clicked() {
                out.push(Command::Browse(Purpose::Data));
            }
            let width = (ui.available_width() - 300.0).clamp(120.0, 380.0);
            let response = field::line(ui, "or a path", &mut wizard.path, "examples.jsonl, with its folders", width);
            let is_entered = response.lost_focus() && ui.input(|input| input.key_pressed(eframe::egui::Key::Enter));
            let can = !wizard.path.trim().is_empty();
            if (button::secondary("Look at it").enabled(can).ui(ui).clicked() || is_entered) && can {
                out.push(Command::Inspect(vec![PathBuf::from(wizard.path.trim())]));
            }
            if button::quiet("Paste text").icon(Icon::Copy).ui(ui).clicked() {
                wizard.shows_paste = !wizard.shows_paste;
            }
            if button::quiet("Use the sample data").icon(Icon::Spark).ui(ui).clicked() {
                out.push(Command::SampleData);
            }
        });
        if wizard.shows_paste {
            let label = ui.label(text::hint(t, "Examples as text, CSV or JSON"));
            let edit = TextEdit::multiline(&mut wizard.pasted).desired_rows(5).desired_width(f32::INFINITY);
            ui.add(edit).labelled_by(label.id);
            let can = !wizard.pasted.trim().is_empty();
            if button::secondary("Look at the pasted text").enabled(can).ui(ui).clicked() {
                out.push(Command::Paste(wizard.pasted.clone()));
                wizard.shows_paste = false;
            }
        }
    });
}

/// Files that are shown one by one.
const FILES: usize = 8;

/// "1 row", "2 rows".
fn count_of(number: usize, what: &str) -> String {
    format!("{} {what}{}", count(number as u64), if number == 1 { "" } else { "s" })
}

fn rows_of(rows: usize) -> String {
    count_of(rows, "row")
}

fn found_ui(ui: &mut Ui, wizard: &mut Wizard, found: &Inspected, out: &mut Out) {
    let t = of(ui);
    let i = &found.inspection;
    card(ui, |ui| {
        for file in i.files.iter().take(FILES) {
            ui.horizontal(|ui| {
                icon_label(ui, Icon::File, t.accent, 18.0);
                let name = file.path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
                ui.add(Label::new(text::card_title(t, name)).truncate()).on_hover_text(file.path.display().to_string());
            });
            let sure = 100.0 * file.confidence;
            let line = format!(
                "{} with rows like {}  ·  {}  ·  {sure:.0} % sure",
                file.format,
                file.shape,
                rows_of(file.rows)
            );
            ui.label(text::hint(t, line));
        }
        if let Some(more) = i.files.get(FILES..).filter(|more| !more.is_empty()) {
            let rows = more.iter().map(|file| file.rows).sum();
            ui.label(text::body(t, format!("and {} more with {}", count_of(more.len(), "file"), rows_of(rows))));
        }
        let columns = i.files.first().map_or(&[][..], |file| &file.columns[..]);
        columns_ui(ui, wizard, columns, out);
    });
    ui.add_space(space::S);
    quality_ui(ui, found, out);
    ui.add_space(space::S);
    ui.label(text::section(t, "How they are read"));
    if wizard.config.model.id.is_some() {
        ui.horizontal_wrapped(|ui| {
            let (rect, _) = ui.allocate_exact_size(eframe::egui::vec2(14.0, 14.0), eframe::egui::Sense::hover());
            ui.painter().rect_filled(rect, CornerRadius::same(3), t.ok.bg);
            ui.painter().rect_stroke(rect, CornerRadius::same(3), (1.0, t.ok.fg), eframe::egui::StrokeKind::Inside);
            ui.label(text::hint(t, "is learned; the rest is only read"));
        });
    }
    for (index, row) in found.rows.iter().enumerate().take(5) {
        row_ui(ui, index, row);
    }
}

/// Which column is what, where there are columns.
fn columns_ui(ui: &mut Ui, wizard: &mut Wizard, columns: &[String], out: &mut Out) {
    if columns.is_empty() {
        return;
    }
    let t = of(ui);
    let mut is_changed = false;
    ui.horizontal_wrapped(|ui| {
        ui.label(text::hint(t, "Columns"));
        for (part, name) in
            [("user", "Question"), ("assistant", "Answer"), ("system", "Instructions"), ("text", "Text")]
        {
            let chosen = wizard.columns.get(part).cloned();
            let shown = format!("{name}: {}", chosen.as_deref().unwrap_or("found by itself"));
            let combo = ComboBox::from_id_salt(part).selected_text(shown).show_ui(ui, |ui| {
                if ui.selectable_label(chosen.is_none(), "found by itself").clicked() {
                    is_changed |= wizard.columns.remove(part).is_some();
                }
                for column in columns {
                    if ui.selectable_label(chosen.as_ref() == Some(column), column).clicked() {
                        wizard.columns.insert(part.to_owned(), column.clone());
                        is_changed = true;
                    }
                }
            });
            combo.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, format!("Column for {name}")));
        }
    });
    // Half of a pair says nothing yet.
    let has = |part: &str| wizard.columns.contains_key(part);
    let is_whole = wizard.columns.is_empty() || has("text") || has("user") && has("assistant");
    if is_changed && is_whole {
        out.push(Command::Inspect(wizard.tried.clone()));
    }
}

fn quality_ui(ui: &mut Ui, found: &Inspected, out: &mut Out) {
    let t = of(ui);
    let i = &found.inspection;
    card(ui, |ui| {
        ui.horizontal_wrapped(|ui| {
            let tone = if i.score >= 80 {
                t.ok
            } else if i.score >= 50 {
                t.warn
            } else {
                t.bad
            };
            ui.label(text::toned_strong(tone.fg, format!("Quality {} of 100", i.score)));
            let rows = format!("{}, {} left out", count_of(i.rows, "usable row"), count(i.rejected as u64));
            ui.label(text::body(t, rows));
        });
        if i.issues.is_empty() {
            ui.label(text::body(t, "Nothing to complain about."));
        }
        for issue in &i.issues {
            let (icon, color) = match issue.severity {
                Severity::Error => (Icon::Warning, t.bad.fg),
                Severity::Warning => (Icon::Warning, t.warn.fg),
                Severity::Info => (Icon::Info, t.info.fg),
            };
            ui.separator();
            ui.horizontal_top(|ui| {
                icon_label(ui, icon, color, 16.0);
                ui.vertical(|ui| {
                    ui.label(text::value(t, &issue.message));
                    for example in issue.examples.iter().take(2) {
                        let line: String = example.text.split_whitespace().collect::<Vec<_>>().join(" ");
                        let line: String = line.chars().take(140).collect();
                        ui.label(text::hint(t, format!("line {}: {line}", example.line)));
                    }
                    ui.horizontal_wrapped(|ui| {
                        if let Some((fix, label)) = Fix::of(issue.code)
                            && button::secondary(label).small().ui(ui).clicked()
                        {
                            out.push(Command::Fix(fix));
                        }
                        ui.label(text::hint(t, &issue.fix));
                    });
                });
            });
        }
    });
}

fn row_ui(ui: &mut Ui, index: usize, row: &Preview) {
    let t = of(ui);
    card(ui, |ui| {
        ui.horizontal(|ui| {
            ui.label(text::hint(t, format!("Example {}", index + 1)));
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                if let Some((all, learned)) = row.tokens {
                    ui.label(text::hint(t, format!("{all} tokens, {learned} learned")));
                }
            });
        });
        if row.pieces.is_empty() {
            for (who, said) in &row.turns {
                ui.label(text::hint(t, who));
                ui.add(Label::new(text::value(t, said)).wrap());
            }
            return;
        }
        let mut job = LayoutJob::default();
        job.wrap.max_width = ui.available_width();
        for (piece, is_learned) in &row.pieces {
            let (color, background) = if *is_learned { (t.text, t.ok.bg) } else { (t.text3, tokens::NOTHING) };
            let format = TextFormat { font_id: FontId::monospace(12.5), color, background, ..TextFormat::default() };
            job.append(piece, 0.0, format);
        }
        ui.label(job);
    });
}
