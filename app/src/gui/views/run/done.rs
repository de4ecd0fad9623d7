//! What came out of a finished run: its score in five parts, and what to try next.

use crate::gui::command::{Command, Out};
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text, tokens};
use crate::gui::widgets::button;
use crate::gui::widgets::card::{card, icon_label};
use eframe::egui::{Align, CornerRadius, Label, Layout, Sense, Ui, vec2};
use peft_plan::Finished;
use peft_storage::Run;

/// Draw it.
pub(super) fn done_ui(ui: &mut Ui, run: &Run, finished: &Finished, out: &mut Out) {
    let t = of(ui);
    let score = finished.quality_score.or(run.quality_score);
    if score.is_none() && finished.suggestions.is_empty() {
        return;
    }
    card(ui, |ui| {
        ui.horizontal(|ui| {
            if let Some(score) = score {
                ring(ui, score);
                ui.add_space(space::M);
            }
            ui.vertical(|ui| {
                ui.label(text::section(t, "Finished"));
                let line = match score {
                    Some(s) if s >= 80.0 => "It learned well. Try it, or compare it with other runs.",
                    Some(s) if s >= 50.0 => "It learned something. The hints below may get more out of it.",
                    _ => "It learned little. The hints below say what may help.",
                };
                ui.label(text::body(t, line));
            });
        });
        for part in &finished.quality_parts {
            ui.horizontal(|ui| {
                let name = part.name.replace('_', " ");
                let points = part.points.map_or("–".to_owned(), |points| format!("{points:.0} of {:.0}", part.of));
                ui.allocate_ui_with_layout(vec2(150.0, 20.0), Layout::left_to_right(Align::Center), |ui| {
                    ui.set_min_width(150.0);
                    ui.label(text::hint(t, name));
                });
                let share = part.points.map_or(0.0, |points| (points / part.of.max(1.0)) as f32);
                let (rect, _) = ui.allocate_exact_size(vec2(110.0, 6.0), Sense::hover());
                ui.painter().rect_filled(rect, CornerRadius::same(3), t.hover);
                let mut filled = rect;
                filled.set_width(rect.width() * share.clamp(0.0, 1.0));
                ui.painter().rect_filled(filled, CornerRadius::same(3), t.accent);
                ui.allocate_ui_with_layout(vec2(64.0, 20.0), Layout::left_to_right(Align::Center), |ui| {
                    ui.set_min_width(64.0);
                    ui.label(text::hint(t, points));
                });
                ui.add(Label::new(text::body(t, &part.why)).truncate());
            });
        }
        if !finished.suggestions.is_empty() {
            ui.add_space(space::S);
            ui.label(text::card_title(t, "What to try next"));
            for suggestion in &finished.suggestions {
                ui.horizontal_top(|ui| {
                    icon_label(ui, Icon::ArrowRight, t.text3, 14.0);
                    ui.add(Label::new(text::body(t, suggestion)).wrap());
                });
            }
            if button::secondary("New run with these settings")
                .named("Try it in a new run")
                .icon(Icon::Plus)
                .ui(ui)
                .clicked()
            {
                out.push(Command::NewFrom(run.id.to_string()));
            }
        }
    });
}

/// The score as a ring with its number.
fn ring(ui: &mut Ui, score: f64) {
    let t = of(ui);
    let (rect, response) = ui.allocate_exact_size(vec2(64.0, 64.0), Sense::hover());
    let words = format!("Quality {score:.0} of 100");
    response.widget_info(|| eframe::egui::WidgetInfo::labeled(eframe::egui::Role::Label, true, &words));
    let color = if score >= 80.0 {
        t.ok.fg
    } else if score >= 50.0 {
        t.warn.fg
    } else {
        t.bad.fg
    };
    ui.painter().circle_stroke(rect.center(), 28.0, (5.0, tokens::faded(color, 0.22)));
    let share = (score / 100.0).clamp(0.0, 1.0) as f32;
    let pieces = (60.0 * share).ceil().max(1.0) as usize;
    let point = |i: usize| {
        let angle = std::f32::consts::TAU * (share * i as f32 / pieces as f32 - 0.25);
        rect.center() + 28.0 * vec2(angle.cos(), angle.sin())
    };
    let arc: Vec<_> = (0..=pieces).map(point).collect();
    ui.painter().add(eframe::egui::Shape::line(arc, (5.0, color)));
    let font = eframe::egui::FontId::new(20.0, text::strong_family());
    ui.painter().text(rect.center(), eframe::egui::Align2::CENTER_CENTER, format!("{score:.0}"), font, t.text);
}
