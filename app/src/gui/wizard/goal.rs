//! First step: what it is for. Each profile with what it takes on this machine.

use super::Wizard;
use crate::cli::quantity::{bytes, interval};
use crate::gui::command::{Command, Out};
use crate::gui::route::Route;
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text};
use crate::gui::widgets::button;
use crate::gui::widgets::card::{icon_label, pressable};
use crate::gui::widgets::problem_card::problem_card;
use eframe::egui::{Label, Ui};
use peft_plan::profile::{Profile, profiles};

fn icon(id: &str) -> Icon {
    match id {
        id if id.contains("chat") => Icon::Chat,
        id if id.contains("question") || id.contains("doc") => Icon::Book,
        id if id.contains("code") => Icon::Code,
        id if id.contains("summ") => Icon::Lines,
        id if id.contains("class") || id.contains("label") => Icon::Tag,
        id if id.contains("writ") || id.contains("style") => Icon::Feather,
        id if id.contains("json") || id.contains("struct") => Icon::Braces,
        id if id.contains("trans") => Icon::Globe,
        id if id.contains("twin") || id.contains("person") => Icon::Person,
        _ => Icon::Spark,
    }
}

/// Draw it.
pub(super) fn goal_ui(ui: &mut Ui, wizard: &mut Wizard, out: &mut Out) {
    let t = of(ui);
    if let Some(Err(problem)) = &wizard.suited {
        problem_card(ui, problem, false, out);
    }
    let columns = ((ui.available_width() / 270.0) as usize).clamp(1, 4);
    let all = profiles();
    for row in all.chunks(columns) {
        ui.columns(columns, |uis| {
            for (ui, profile) in uis.iter_mut().zip(row) {
                if profile_ui(ui, wizard, profile) {
                    wizard.choose_profile(&profile.id);
                }
            }
        });
    }
    ui.add_space(space::S);
    ui.horizontal_wrapped(|ui| {
        match &wizard.suited {
            Some(Ok(suited)) => {
                let line = format!("Time and memory are for {} on this computer.", suited.counted_with);
                ui.label(text::hint(t, line));
            }
            None => drop(ui.label(text::hint(t, "Measuring what each takes on this computer…"))),
            Some(Err(_)) => {}
        }
        if button::quiet("Start from a preset").icon(Icon::Sliders).small().ui(ui).clicked() {
            out.push(Command::Go(Route::Presets));
        }
    });
}

fn profile_ui(ui: &mut Ui, wizard: &Wizard, profile: &Profile) -> bool {
    let t = of(ui);
    let is_chosen = wizard.config.use_case.as_deref() == Some(profile.id.as_str());
    let response = pressable(ui, &profile.name, is_chosen, 158.0, |ui| {
        ui.horizontal(|ui| {
            icon_label(ui, icon(&profile.id), t.accent, 20.0);
            ui.add(Label::new(text::card_title(t, &profile.name)).truncate());
        });
        ui.add(Label::new(text::body(t, &profile.description)).wrap());
        ui.with_layout(eframe::egui::Layout::bottom_up(eframe::egui::Align::Min), |ui| {
            let suited = match &wizard.suited {
                Some(Ok(list)) => list.profiles.iter().find(|s| s.profile.id == profile.id),
                _ => None,
            };
            let line = match suited {
                Some(s) => {
                    format!("{}  ·  {}", interval(&s.planned.estimate.seconds), bytes(s.planned.memory.total_bytes))
                }
                None => " ".to_owned(),
            };
            ui.add(Label::new(text::hint(t, line)).truncate());
            ui.add(Label::new(text::hint(t, format!("About {} examples", profile.examples_needed))).truncate());
        });
    });
    response.on_hover_text(format!("For example: {}", profile.example_uses.join("; "))).clicked()
}
