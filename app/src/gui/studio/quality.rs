//! How good the project's rows are, what is wrong with the worst, and what they give away of an evaluation.

use super::{Ask, Job, Studio, ask};
use crate::cli::quantity::count;
use crate::gui::command::{Command, Out, Purpose};
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text};
use crate::gui::widgets::card::{card, chip, stat};
use crate::gui::widgets::{button, empty, field};
use eframe::egui::{Align2, CornerRadius, FontId, Rect, Sense, Stroke, Ui, WidgetInfo, pos2, vec2};
use serde_json::Value;

/// Height of the bars, and how low a bar is that is there at all.
const HEIGHT: f32 = 70.0;
const LOWEST: f32 = 2.0;
/// Height of what stands below them.
const SCALE: f32 = 16.0;

pub(super) fn quality_ui(ui: &mut Ui, page: &mut Studio, out: &mut Out) {
    if !page.has_rows {
        let sentence = "Rows are questions with their answers. Import a file of them, and they are scored here.";
        empty::empty(ui, Icon::Chart, "No rows to score yet", sentence, |_| {});
        return;
    }
    let is_busy = page.is_busy(Job::Score);
    if button::primary("Score the rows").icon(Icon::Chart).enabled(!is_busy).ui(ui).clicked() {
        out.push(ask(Ask::Score));
    }
    if is_busy {
        empty::loading(ui, "Looking at each row");
    }
    if let Some(scores) = &page.scores {
        scores_ui(ui, scores);
    }
    ui.add_space(space::M);
    leaks_ui(ui, page, out);
}

fn scores_ui(ui: &mut Ui, scores: &Value) {
    let t = of(ui);
    card(ui, |ui| {
        ui.horizontal_wrapped(|ui| {
            ui.spacing_mut().item_spacing.x = space::XL;
            stat(ui, "Rows", &count(scores["rows"].as_u64().unwrap_or(0)));
            stat(ui, "Points on average", &format!("{:.0} of 100", scores["mean"].as_f64().unwrap_or(0.0)));
            bars_ui(ui, scores);
        });
        let reasons = scores["reasons"].as_object();
        if reasons.is_none_or(serde_json::Map::is_empty) {
            return;
        }
        ui.horizontal_wrapped(|ui| {
            for (reason, rows) in reasons.into_iter().flatten() {
                chip(ui, t.warn, &format!("{} {}", reason.replace('_', " "), count(rows.as_u64().unwrap_or(0))));
            }
        });
    });
    let worst = scores["worst"].as_array().into_iter().flatten();
    for row in worst.filter(|row| row["score"].as_u64().unwrap_or(100) < 100) {
        card(ui, |ui| {
            let (line, score) = (row["line"].as_u64().unwrap_or(0), row["score"].as_u64().unwrap_or(0));
            ui.label(text::card_title(t, format!("Line {line}: {score} points")));
            for reason in row["reasons"].as_array().into_iter().flatten() {
                let (points, why) =
                    (reason["points"].as_u64().unwrap_or(0), reason["text"].as_str().unwrap_or_default());
                ui.label(text::body(t, format!("−{points}  {why}")));
            }
        });
    }
}

/// Rows by their points, ten bars.
fn bars_ui(ui: &mut Ui, scores: &Value) {
    let t = of(ui);
    let bars: Vec<u64> = scores["histogram"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
    let most = bars.iter().copied().max().unwrap_or(0).max(1);
    let (whole, response) = ui.allocate_exact_size(vec2(220.0, HEIGHT + SCALE), Sense::hover());
    let rect = whole.with_max_y(whole.bottom() - SCALE);
    ui.painter().hline(rect.x_range(), rect.bottom(), Stroke::new(1.0, t.border_strong));
    let ends = [(rect.left(), Align2::LEFT_BOTTOM, "0"), (rect.right(), Align2::RIGHT_BOTTOM, "100 points")];
    for (x, align, text) in ends {
        ui.painter().text(pos2(x, whole.bottom()), align, text, FontId::proportional(11.0), t.text3);
    }
    let name = format!("Rows by points, from 0 to 100 in tens: {bars:?}");
    response.widget_info(|| WidgetInfo::labeled(eframe::egui::Role::Image, true, &name));
    let width = rect.width() / bars.len().max(1) as f32;
    for (index, rows) in bars.iter().enumerate() {
        let height = if *rows == 0 { 0.0 } else { (HEIGHT * *rows as f32 / most as f32).max(LOWEST) };
        let left = rect.left() + index as f32 * width;
        let bar = Rect::from_min_max(pos2(left + 1.0, rect.bottom() - height), pos2(left + width - 1.0, rect.bottom()));
        let color = match index {
            0..5 => t.bad.fg,
            5..8 => t.warn.fg,
            _ => t.ok.fg,
        };
        ui.painter().rect_filled(bar, CornerRadius::same(2), color);
    }
    response.on_hover_text(name);
}

fn leaks_ui(ui: &mut Ui, page: &mut Studio, out: &mut Out) {
    let t = of(ui);
    ui.label(text::section(t, "Does training give the test away?"));
    ui.horizontal_wrapped(|ui| {
        field::line(ui, "Evaluation rows", &mut page.typed.evaluation, "a file with questions you test with", 300.0);
        if button::icon(Icon::Folder, "Choose the evaluation file").ui(ui).clicked() {
            out.push(Command::Browse(Purpose::Evaluation));
        }
        let can_check = !page.typed.evaluation.trim().is_empty() && !page.is_busy(Job::Contamination);
        if button::secondary("Compare").named("Compare with the evaluation").enabled(can_check).ui(ui).clicked() {
            out.push(ask(Ask::Contamination(page.typed.evaluation.trim().to_owned())));
        }
    });
    if page.is_busy(Job::Contamination) {
        empty::loading(ui, "Comparing rows");
    }
    let Some(leaks) = &page.leaks else { return };
    let number = |name: &str| leaks[name].as_u64().unwrap_or(0);
    card(ui, |ui| {
        let (given, all) = (number("contaminated_evaluation_rows"), number("evaluation_rows"));
        let (tone, line) = if given == 0 {
            (t.ok, format!("None of {} evaluation rows is in the training rows", count(all)))
        } else {
            let kinds = [
                ("same_row", "the same"),
                ("same_question", "with the same question"),
                ("shared_text", "with most of the text"),
            ];
            let kinds = kinds.iter().filter(|(name, _)| number(name) > 0);
            let kinds: Vec<String> = kinds.map(|(name, words)| format!("{} {words}", count(number(name)))).collect();
            let line =
                format!("{} of {} evaluation rows are given away: {}", count(given), count(all), kinds.join(", "));
            (t.bad, line)
        };
        ui.label(text::toned(tone.fg, line));
        for leak in leaks["leaks"].as_array().into_iter().flatten().take(10) {
            let (training, evaluation) = (&leak["training"]["line"], &leak["evaluation"]["line"]);
            ui.label(text::body(t, format!("Line {training} gives evaluation line {evaluation} away")));
        }
    });
}
