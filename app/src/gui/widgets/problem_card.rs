//! The card of a failure: what happened, what can be done, and the technical part for those who ask.

use crate::gui::command::{Command, Out};
use crate::gui::problem::Problem;
use crate::gui::remedies::deed;
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text, tokens};
use crate::gui::widgets::button;
use crate::gui::widgets::card::icon_label;
use eframe::egui::{Align, CollapsingHeader, CornerRadius, Frame, Layout, Margin, Stroke, Ui};

/// Draw it. `true`: it was closed.
pub fn problem_card(ui: &mut Ui, problem: &Problem, can_close: bool, out: &mut Out) -> bool {
    let t = of(ui);
    let mut is_closed = false;
    let tone = if problem.is_warning { t.warn } else { t.bad };
    let frame = Frame::new()
        .fill(tone.bg)
        .stroke(Stroke::new(t.stroke, tokens::faded(tone.fg, 0.4)))
        .corner_radius(CornerRadius::same(space::CARD_RADIUS))
        .inner_margin(Margin { left: 18, right: 14, top: 12, bottom: 12 });
    let shown = frame.show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.horizontal(|ui| {
            icon_label(ui, Icon::Warning, tone.fg, 18.0);
            ui.label(text::card_title(t, &problem.title));
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                if can_close && button::icon(Icon::Cross, "Close this message").small().ui(ui).clicked() {
                    is_closed = true;
                }
                ui.label(text::code(t, &problem.code));
            });
        });
        ui.label(text::body(t, &problem.detail));
        for action in &problem.actions {
            ui.horizontal_wrapped(|ui| {
                if let Some(deed) = deed(action, problem.run.as_deref()) {
                    if button::secondary(&action.label).small().ui(ui).clicked() {
                        out.push(deed);
                        is_closed = true;
                    }
                } else {
                    icon_label(ui, Icon::ChevronRight, t.text3, 14.0);
                    ui.label(text::value(t, &action.label));
                }
                if let Some(command) = &action.command {
                    ui.label(text::code(t, command));
                    if button::icon(Icon::Copy, "Copy the command").small().ui(ui).clicked() {
                        out.push(Command::Copy(command.clone()));
                    }
                }
            });
        }
        if button::quiet("Get help")
            .named(&format!("Get help with {}", problem.code))
            .icon(Icon::Help)
            .small()
            .ui(ui)
            .clicked()
        {
            out.push(Command::Explain(problem.code.clone()));
        }
        if let Some(technical) = &problem.technical {
            CollapsingHeader::new(text::hint(t, "Technical details")).id_salt(&problem.code).show(ui, |ui| {
                ui.label(text::code(t, technical));
                if button::secondary("Copy details").icon(Icon::Copy).small().ui(ui).clicked() {
                    let Problem { code, title, detail, .. } = problem;
                    out.push(Command::Copy(format!("{code} {title}\n{detail}\n{technical}")));
                }
            });
        }
    });
    let rect = shown.response.rect;
    let stripe = eframe::egui::Rect::from_min_max(rect.min, eframe::egui::pos2(rect.left() + 4.0, rect.bottom()));
    let left = CornerRadius { nw: space::CARD_RADIUS, sw: space::CARD_RADIUS, ne: 0, se: 0 };
    ui.painter().rect_filled(stripe, left, tone.fg);
    is_closed
}
