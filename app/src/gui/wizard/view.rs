//! The frame of the wizard: its steps, the step in the middle, back and on.

use super::{STEPS, Step, Wizard, examples, goal, model, review, settings};
use crate::cli::quantity::bytes;
use crate::gui::command::{Command, Out};
use crate::gui::state::Data;
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text, tokens};
use crate::gui::views::models::discover;
use crate::gui::widgets::button;
use crate::gui::widgets::card::heading;
use eframe::egui::{Align, CursorIcon, FontId, Layout, Rect, Role, Sense, Ui, WidgetInfo, pos2, vec2};

/// Draw it.
pub fn wizard_ui(ui: &mut Ui, data: &Data, wizard: &mut Wizard, offers: &discover::State, out: &mut Out) {
    let (title, sentence) = match wizard.step {
        Step::Goal => (
            "What do you want to make?",
            "You give examples, and a model learns to answer like them. Nothing leaves this computer.",
        ),
        Step::Model => ("Which model should learn?", "It already knows language; your examples teach it the rest."),
        Step::Data => {
            ("Your examples", "Drop files, choose them, or paste. They are looked at before anything is trained.")
        }
        Step::Settings => {
            ("How should it learn?", "Everything is set for your machine and your examples. Change what you like.")
        }
        Step::Review => ("Ready to train", "What this run will take, and what else you could do."),
    };
    heading(ui, title, sentence);
    steps_ui(ui, wizard);
    ui.add_space(space::L);
    match wizard.step {
        Step::Goal => goal::goal_ui(ui, wizard, out),
        Step::Model => model::model_ui(ui, data, wizard, offers, out),
        Step::Data => examples::examples_ui(ui, wizard, out),
        Step::Settings => settings::settings_ui(ui, wizard, out),
        Step::Review => review::review_ui(ui, wizard, out),
    }
    if wizard.is_settling() {
        ui.ctx().request_repaint_after(std::time::Duration::from_millis(30));
    }
}

/// Whether a step can be gone to: everything before it is done.
fn is_open(wizard: &Wizard, step: Step) -> bool {
    let before = STEPS.iter().take_while(|(s, _)| *s != step).map(|(s, _)| *s);
    before.filter(|s| matches!(s, Step::Model | Step::Data)).all(|s| wizard.is_done(s))
}

fn steps_ui(ui: &mut Ui, wizard: &mut Wizard) {
    let t = of(ui);
    ui.horizontal(|ui| {
        let part = (ui.available_width() / STEPS.len() as f32).clamp(24.0, 190.0);
        for (index, (step, name)) in STEPS.iter().enumerate() {
            let is_here = wizard.step == *step;
            let is_open = is_open(wizard, *step);
            let sense = if is_open { Sense::click() } else { Sense::hover() };
            let (rect, response) = ui.allocate_exact_size(vec2(part - 8.0, 30.0), sense);
            response.widget_info(|| {
                WidgetInfo::selected(Role::Button, is_open, is_here, format!("Step {}: {name}", index + 1))
            });
            let color = if is_here {
                t.accent
            } else if is_open {
                t.text2
            } else {
                t.text3
            };
            let line = Rect::from_min_max(pos2(rect.left(), rect.bottom() - 3.0), rect.max);
            ui.painter().rect_filled(line, 1.5, if is_here { t.accent } else { tokens::faded(t.border_strong, 0.4) });
            if response.has_focus() {
                button::focus_ring(ui, rect, eframe::egui::CornerRadius::same(4));
            }
            let is_done = wizard.has_tick(*step) && !is_here;
            let at = Rect::from_center_size(pos2(rect.left() + 9.0, rect.center().y - 3.0), vec2(14.0, 14.0));
            if is_done {
                Icon::Check.paint(ui.painter(), at, 13.0, t.ok.fg);
            } else {
                let number = (index + 1).to_string();
                ui.painter().text(
                    at.center(),
                    eframe::egui::Align2::CENTER_CENTER,
                    number,
                    FontId::proportional(12.5),
                    color,
                );
            }
            let font = if is_here { FontId::new(13.0, text::strong_family()) } else { FontId::proportional(13.0) };
            let painter = ui.painter().with_clip_rect(rect);
            let fg = if is_here { t.text } else { color };
            painter.text(
                pos2(rect.left() + 24.0, rect.center().y - 3.0),
                eframe::egui::Align2::LEFT_CENTER,
                name,
                font,
                fg,
            );
            if is_open && response.on_hover_cursor(CursorIcon::PointingHand).clicked() {
                wizard.step = *step;
            }
        }
    });
}

/// Back and on, always in sight.
pub fn on_ui(ui: &mut Ui, data: &Data, wizard: &mut Wizard, out: &mut Out) {
    let t = of(ui);
    let at = STEPS.iter().position(|(step, _)| *step == wizard.step).unwrap_or(0);
    ui.horizontal(|ui| {
        if at > 0 && button::quiet("Back").named("Previous step").icon(Icon::ArrowLeft).ui(ui).clicked() {
            wizard.step = STEPS[at - 1].0;
        }
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            if wizard.step == Step::Review {
                let ready = wizard.to_start();
                let can = ready.is_some() && !data.is_launching;
                let label = if data.is_launching { "Starting…" } else { "Start training" };
                if let Some((here, whole)) = data.fetching {
                    ui.label(text::hint(t, format!("The model comes first: {} of {}", bytes(here), bytes(whole))));
                }
                if button::primary(label).icon(Icon::Play).enabled(can).ui(ui).clicked()
                    && let Some(config) = ready
                {
                    out.push(Command::Launch(Box::new(config)));
                }
                let wait = button::secondary("Wait in the queue").icon(Icon::Clock).enabled(can).ui(ui);
                if wait.on_hover_text("It begins when the runs before it are over").clicked()
                    && let Some(config) = wizard.to_start()
                {
                    out.push(Command::Enqueue(Box::new(config)));
                }
            }
            if let Some((next, name)) = STEPS.get(at + 1) {
                let label = if wizard.step == Step::Goal && wizard.config.use_case.is_none() {
                    "Skip".to_owned()
                } else {
                    format!("Next: {name}")
                };
                let can = is_open(wizard, *next);
                let response = button::primary(&label).named("Next step").enabled(can).ui(ui);
                if response.clicked() {
                    wizard.step = *next;
                }
                if !can {
                    let why = match wizard.step {
                        Step::Model => "Choose a model first",
                        _ => "Choose your examples first",
                    };
                    response.on_hover_text(why);
                }
            }
        });
    });
}
