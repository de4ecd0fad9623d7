//! Home: the first run in one press, the run that trains, and the last ones.

use crate::cli::quantity::{ago, duration, interval};
use crate::gui::command::{Command, Out};
use crate::gui::route::Route;
use crate::gui::state::Data;
use crate::gui::target::Target;
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text};
use crate::gui::widgets::card::{card, heading, icon_label, pressable};
use crate::gui::widgets::problem_card::problem_card;
use crate::gui::widgets::{button, empty, status};
use eframe::egui::{Align, Label, Layout, Ui};
use peft_storage::{CommandKind, Run, Status};

/// Runs that are shown.
const RECENT: usize = 5;

/// Draw it.
pub fn home_ui(ui: &mut Ui, data: &Data, out: &mut Out) {
    let is_new = data.runs.as_ref().is_some_and(Vec::is_empty);
    if is_new {
        heading(
            ui,
            "Welcome",
            "You give examples, and a model learns to answer like them. Nothing leaves this computer.",
        );
    } else {
        heading(ui, "Home", "");
    }
    if let Some(problem) = &data.store_problem {
        problem_card(ui, problem, false, out);
    }
    if let Some(run) = data.live() {
        live_ui(ui, data, run, out);
        ui.add_space(space::L);
    }
    begin_ui(ui, data, out);
    ui.add_space(space::XL);
    match &data.runs {
        None if data.store_problem.is_none() => empty::loading(ui, "Reading your runs"),
        Some(runs) if !runs.is_empty() => recent_ui(ui, data, runs, out),
        _ => {}
    }
}

/// Three ways to begin.
fn begin_ui(ui: &mut Ui, data: &Data, out: &mut Out) {
    let t = of(ui);
    let ways: [(&str, Icon, &str, Command); 3] = [
        (
            "Try it now",
            Icon::Spark,
            "A small built-in model learns about an invented cafe in about a minute. Nothing is downloaded.",
            Command::TryItNow,
        ),
        (
            "Train on your examples",
            Icon::Plus,
            "Choose what you want to make, drop your examples, and see what the run will take before it starts.",
            Command::Go(Route::New),
        ),
        (
            "Talk to a model",
            Icon::Chat,
            "Ask a model and what you made of it the same question, side by side.",
            Command::Go(Route::Playground),
        ),
    ];
    let count = if ui.available_width() >= 760.0 { 3 } else { 1 };
    let mut draw = |ui: &mut Ui, (name, icon, sentence, command): &(&str, Icon, &str, Command)| {
        let is_launching = data.is_launching && matches!(command, Command::TryItNow);
        let height = if count == 3 { 136.0 } else { 104.0 };
        let response = pressable(ui, name, false, height, |ui| {
            ui.horizontal(|ui| {
                icon_label(ui, *icon, t.accent, 20.0);
                ui.label(text::card_title(t, *name));
                if is_launching {
                    ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                        ui.add(eframe::egui::Spinner::new().size(15.0).color(t.accent));
                    });
                }
            });
            let sentence = if is_launching { "Starting. The run opens by itself in a moment." } else { sentence };
            ui.label(text::body(t, sentence));
        });
        if response.clicked() && !is_launching {
            out.push(command.clone());
        }
    };
    if count == 3 {
        ui.columns(3, |columns| ways.iter().zip(columns).for_each(|(way, ui)| draw(ui, way)));
    } else {
        for way in &ways {
            draw(ui, way);
        }
    }
}

fn live_ui(ui: &mut Ui, data: &Data, run: &Run, out: &mut Out) {
    let t = of(ui);
    let story = data.stories.get(run.id.as_str());
    let step = story.map_or(run.last_step, |story| story.step().max(run.last_step));
    card(ui, |ui| {
        ui.horizontal(|ui| {
            status::status(ui, run.status);
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                if button::primary("Open").named("Open the live run").ui(ui).clicked() {
                    out.push(Command::Go(Route::Run(run.id.to_string())));
                }
                if button::secondary("Pause").icon(Icon::Pause).ui(ui).clicked() {
                    out.push(Command::Ask(run.id.to_string(), CommandKind::Pause));
                }
                ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                    ui.add(Label::new(text::card_title(t, &run.name)).truncate());
                });
            });
        });
        ui.add_space(space::XS);
        status::progress(ui, "Progress of the live run", step as f32 / run.total_steps.max(1) as f32, 8.0);
        ui.horizontal_wrapped(|ui| {
            ui.label(text::hint(t, format!("Step {step} of {}", run.total_steps)));
            if let Some(loss) = run.loss {
                ui.label(text::hint(t, format!("·  loss {loss:.3}")));
            }
            if let Some(eta) = story.and_then(|story| story.eta) {
                ui.label(text::hint(t, format!("·  {} left", interval(&eta))));
            }
        });
    });
}

fn recent_ui(ui: &mut Ui, data: &Data, runs: &[Run], out: &mut Out) {
    let t = of(ui);
    ui.horizontal(|ui| {
        ui.label(text::section(t, "Recent runs"));
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            if button::quiet("All runs").icon(Icon::List).small().ui(ui).clicked() {
                out.push(Command::Go(Route::Runs));
            }
        });
    });
    for run in runs.iter().take(RECENT) {
        let response = pressable(ui, &format!("Open run {}", run.name), false, 78.0, |ui| {
            ui.horizontal(|ui| {
                status::status(ui, run.status);
                ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                    if let Some(score) = run.quality_score {
                        ui.label(text::value(t, format!("{score:.0} of 100")));
                    } else if let Some(loss) = run.validation_loss.or(run.loss) {
                        ui.label(text::value(t, format!("loss {loss:.3}")));
                    }
                    ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                        ui.add(Label::new(text::card_title(t, &run.name)).truncate());
                    });
                });
            });
            let steps = format!("{} of {} steps", run.last_step, run.total_steps);
            let line = format!("{}  ·  {steps}  ·  {}", ago(run.created, data.now), duration(run.seconds));
            ui.add(Label::new(text::hint(t, line)).truncate());
        });
        if response.clicked() {
            let is_done = matches!(run.status, Status::Finished | Status::Stopped);
            let wants_talk = is_done && ui.input(|input| input.modifiers.command);
            let id = run.id.to_string();
            out.push(if wants_talk { Command::Talk(Target::Run(id)) } else { Command::Go(Route::Run(id)) });
        }
    }
}
