//! What was strange, with buttons that do something about it.

use super::State;
use crate::gui::command::{Command, Out};
use crate::gui::remedies::deed;
use crate::gui::story::{Finding, Story};
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text, tokens};
use crate::gui::widgets::button;
use crate::gui::widgets::card::icon_label;
use eframe::egui::{Align, CornerRadius, Frame, Layout, Margin, Stroke, Ui};
use peft_plan::fault::catalogue;
use peft_storage::{CommandKind, Run, Status};

/// Banners at a time.
const MOST: usize = 2;

/// A plain title for a kind of finding.
fn title(finding: &Finding) -> String {
    let known = finding.code.as_deref().and_then(|code| catalogue().get(code));
    if let Some(entry) = known {
        return entry.title.clone();
    }
    match finding.kind.as_str() {
        "divergence" => "The loss is climbing instead of falling".to_owned(),
        "overfitting" => "It is learning the examples by heart".to_owned(),
        "gradient_explosion" => "A correction was far too large".to_owned(),
        "plateau" => "The loss has stopped falling".to_owned(),
        "memory_pressure" => "Memory is nearly full".to_owned(),
        "nan" => "The numbers went off the rails".to_owned(),
        other => other.replace('_', " "),
    }
}

/// Draw the newest findings that were not closed.
pub(super) fn banners_ui(ui: &mut Ui, run: &Run, story: &Story, state: &mut State, out: &mut Out) {
    let key = |finding: &Finding| (run.id.to_string(), finding.step, finding.kind.clone());
    let open = story.findings.iter().rev().filter(|finding| !state.closed.contains(&key(finding)));
    let shown: Vec<&Finding> = open.take(MOST).collect();
    for finding in shown {
        if banner_ui(ui, run, finding, out) {
            state.closed.insert(key(finding));
        }
    }
}

fn banner_ui(ui: &mut Ui, run: &Run, finding: &Finding, out: &mut Out) -> bool {
    let t = of(ui);
    let mut is_closed = false;
    let frame = Frame::new()
        .fill(t.warn.bg)
        .stroke(Stroke::new(t.stroke, tokens::faded(t.warn.fg, 0.4)))
        .corner_radius(CornerRadius::same(space::CARD_RADIUS))
        .inner_margin(Margin { left: 18, right: 12, top: 12, bottom: 12 });
    let shown = frame.show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.horizontal(|ui| {
            icon_label(ui, Icon::Warning, t.warn.fg, 18.0);
            ui.label(text::card_title(t, title(finding)));
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                let name = format!("Close the finding of step {}", finding.step);
                is_closed = button::icon(Icon::Cross, &name).small().ui(ui).clicked();
                ui.label(text::hint(t, format!("step {}", finding.step)));
            });
        });
        ui.label(text::body(t, format!("{}. In answer: {}.", finding.message, finding.taken)));
        ui.horizontal_wrapped(|ui| actions_ui(ui, run, finding, out));
    });
    let rect = shown.response.rect;
    let stripe = eframe::egui::Rect::from_min_max(rect.min, eframe::egui::pos2(rect.left() + 4.0, rect.bottom()));
    let left = CornerRadius { nw: space::CARD_RADIUS, sw: space::CARD_RADIUS, ne: 0, se: 0 };
    ui.painter().rect_filled(stripe, left, t.warn.fg);
    is_closed
}

/// What can be done now, given what the run does.
fn actions_ui(ui: &mut Ui, run: &Run, finding: &Finding, out: &mut Out) {
    let id = run.id.to_string();
    match run.status {
        Status::Running => {
            if button::secondary("Pause and think").icon(Icon::Pause).small().ui(ui).clicked() {
                out.push(Command::Ask(id.clone(), CommandKind::Pause));
            }
            if button::secondary("Stop and keep what it learned").icon(Icon::Stop).small().ui(ui).clicked() {
                out.push(Command::Ask(id.clone(), CommandKind::Stop));
            }
        }
        Status::Paused | Status::Interrupted | Status::Failed => {
            if button::primary("Go on").icon(Icon::Play).small().ui(ui).clicked() {
                out.push(Command::Resume(id.clone()));
            }
            if run.status != Status::Failed && button::secondary("Stop and keep").small().ui(ui).clicked() {
                out.push(Command::Stop(id.clone()));
            }
        }
        _ => {
            if button::secondary("New run with these settings").icon(Icon::Plus).small().ui(ui).clicked() {
                out.push(Command::NewFrom(id.clone()));
            }
        }
    }
    for action in finding.actions.iter().filter(|action| action.command.is_some()) {
        let is_halted = matches!(run.status, Status::Paused | Status::Interrupted | Status::Failed);
        if let Some(deed) = deed(action, Some(&id)).filter(|_| is_halted) {
            if button::secondary(&action.label).small().ui(ui).clicked() {
                out.push(deed);
            }
            continue;
        }
        let command = action.command.as_deref().unwrap_or_default().replace("RUN", run.id.as_str());
        let response = button::quiet(&action.label).icon(Icon::Copy).small().ui(ui);
        if response.on_hover_text(format!("Copies: {command}")).clicked() {
            out.push(Command::Copy(command));
        }
    }
}
