//! Messages in the corner: what went well goes by itself, what went wrong stays until it is closed.

use crate::gui::command::{Command, Out};
use crate::gui::state::State;
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text};
use crate::gui::widgets::card::icon_label;
use crate::gui::widgets::problem_card::problem_card;
use eframe::egui::{self, Align2, Area, CornerRadius, Frame, Id, Margin, Order, Stroke, Ui};
use std::time::Duration;

/// How long good news stay.
const SECONDS: f64 = 5.0;

/// Forget what was shown long enough.
pub fn forget(state: &mut State, ctx: &egui::Context) {
    let now = ctx.input(|input| input.time);
    for toast in &mut state.toasts {
        toast.since.get_or_insert(now);
    }
    state.toasts.retain(|toast| toast.problem.is_some() || toast.since.is_none_or(|since| now - since < SECONDS));
    if state.toasts.iter().any(|toast| toast.problem.is_none()) {
        ctx.request_repaint_after(Duration::from_millis(500));
    }
}

/// Draw them.
pub fn toasts_ui(ui: &mut Ui, state: &State, out: &mut Out) {
    if state.toasts.is_empty() {
        return;
    }
    let t = of(ui);
    let room = (ui.ctx().content_rect().width() - 48.0).max(120.0);
    let area = Area::new(Id::unique("toasts")).order(Order::Foreground).anchor(Align2::RIGHT_BOTTOM, [-24.0, -64.0]);
    area.show(ui.ctx(), |ui| {
        for toast in &state.toasts {
            if let Some(problem) = &toast.problem {
                ui.set_width(room.min(520.0));
                if problem_card(ui, problem, true, out) {
                    out.push(Command::Dismiss(toast.id));
                }
                continue;
            }
            let frame = Frame::new()
                .fill(t.raised)
                .stroke(Stroke::new(t.stroke, t.border_strong))
                .corner_radius(CornerRadius::same(space::CARD_RADIUS))
                .inner_margin(Margin::symmetric(14, 10))
                .shadow(ui.visuals().popup_shadow);
            frame.show(ui, |ui| {
                ui.set_max_width(room.min(420.0));
                ui.horizontal_top(|ui| {
                    icon_label(ui, Icon::Check, t.ok.fg, 16.0);
                    ui.label(text::value(t, &toast.text));
                });
            });
        }
    });
}
