//! Words, codes, shortcuts, and where each command lives in the window.

use crate::gui::command::{Command, Out};
use crate::gui::glossary::terms;
use crate::gui::shell::shortcuts::SHORTCUTS;
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text};
use crate::gui::widgets::card::{card, heading};
use crate::gui::widgets::{button, field};
use eframe::egui::{Align, Label, Layout, Ui, vec2};
use peft_plan::fault::catalogue;
use std::sync::OnceLock;

/// What the page remembers.
#[derive(Clone, Debug, Default)]
pub struct State {
    tab: Tab,
    /// What is looked for.
    pub words: String,
}

impl State {
    /// Show what a code means.
    pub fn explain(&mut self, code: &str) {
        self.tab = Tab::Codes;
        code.clone_into(&mut self.words);
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Tab {
    #[default]
    Words,
    Codes,
    Commands,
    Keys,
}

/// Where each command lives: its names and the page.
pub const COMMANDS: [(&str, &str); 43] = [
    ("quickstart", "Home: Try it now"),
    ("train", "New run; “Start training” on its last step"),
    ("plan, profiles", "New run: first, fourth and last step"),
    ("data inspect", "New run, third step; or drop files anywhere"),
    ("data convert, data download", "New run, third step: fixes, and names such as hub:OWNER/NAME as a path"),
    ("data chunk, data documents", "Data studio: Documents"),
    ("data embed, data search", "Data studio: Search"),
    ("data generate, data review, data helpers", "Data studio: Generate"),
    ("data label, data reference", "Data studio: Label"),
    ("data persona", "Data studio: Persona"),
    ("data score, data contamination, data card", "Data studio: Quality"),
    ("data versions save, data versions list, data versions diff, data versions restore", "Data studio: Versions"),
    ("pause, resume, stop", "The page of a run"),
    ("runs list", "Runs"),
    ("runs show, runs log, runs attach", "The page of a run; Tools: Log"),
    ("runs rows", "The page of a run: Hardest rows"),
    ("runs compare", "Compare"),
    ("runs delete", "The page of a run"),
    ("runs evaluate, runs snapshot", "The page of a run, while it trains"),
    ("runs queue add", "New run, last step: Wait in the queue"),
    ("runs queue list, runs queue remove, runs queue move", "Tools: Queue"),
    ("runs queue start, runs queue stop", "Tools: Queue"),
    ("versions list, versions show", "Models: Your versions"),
    ("versions activate, versions archive, versions delete", "Models: Your versions"),
    ("presets list, presets show, presets delete", "Presets"),
    ("presets save", "New run, last step"),
    ("presets export, presets import", "Presets; or drop a file there"),
    ("config import", "Presets: From a file; or drop a YAML file anywhere"),
    ("models list, models show, models remove", "Models: On this computer"),
    ("models search, models download", "Models: Discover"),
    ("disk, disk free", "Models: Disk"),
    ("chat", "Playground"),
    ("serve", "Serve"),
    ("export", "Export"),
    ("evaluate", "Tools: Evaluate"),
    ("pipeline", "Tools: Pipeline"),
    ("hardware, selftest", "Tools: This computer"),
    ("verify", "Tools: This computer, Receipt and Another program's training"),
    ("bench generate, bench train", "Tools: This computer, Speed"),
    ("notifications list, notifications set, notifications test", "Settings: Notifications"),
    ("errors list, errors show", "Help: Messages, and “Get help” on every message"),
    ("errors page", "For the command line only: the same page as a file"),
    ("completions", "For the command line only: it is for shells"),
];

/// Every command that can be typed, such as `runs queue add`.
fn typed() -> &'static [String] {
    fn leaves(command: &clap::Command, path: &str, into: &mut Vec<String>) {
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
            let path = format!("{path} {}", sub.get_name()).trim_start().to_owned();
            // A group that does something by itself needs none of its parts.
            if !sub.has_subcommands() || !sub.is_subcommand_required_set() {
                into.push(path.clone());
            }
            leaves(sub, &path, into);
        }
    }
    static TYPED: OnceLock<Vec<String>> = OnceLock::new();
    TYPED.get_or_init(|| {
        let mut all = Vec::new();
        leaves(&crate::cli::args::command(), "", &mut all);
        all
    })
}

/// The commands that there are, with their places.
fn places() -> impl Iterator<Item = (String, &'static str)> {
    COMMANDS.iter().filter_map(|(names, place)| {
        let there: Vec<&str> = names.split(", ").filter(|name| typed().iter().any(|typed| typed == name)).collect();
        (!there.is_empty()).then(|| (there.join(", "), *place))
    })
}

/// Draw it.
pub fn help_ui(ui: &mut Ui, state: &mut State, out: &mut Out) {
    heading(ui, "Help", "");
    let tabs = [(Tab::Words, "Words"), (Tab::Codes, "Messages"), (Tab::Commands, "Command line"), (Tab::Keys, "Keys")];
    field::tabs(ui, &mut state.tab, &tabs);
    ui.add_space(space::S);
    if matches!(state.tab, Tab::Words | Tab::Codes) {
        field::search(ui, "Search help", &mut state.words, 260.0);
        ui.add_space(space::S);
    }
    let words = state.words.to_lowercase();
    match state.tab {
        Tab::Words => card(ui, |ui| {
            for term in terms().filter(|term| term.contains(&words)) {
                pair_ui(ui, term.name, &format!("{} For example: {}", term.meaning, term.example));
            }
        }),
        Tab::Codes => card(ui, |ui| codes_ui(ui, &words, out)),
        Tab::Commands => card(ui, |ui| {
            for (command, place) in places() {
                pair_ui(ui, &command, place);
            }
        }),
        Tab::Keys => card(ui, |ui| {
            for (keys, _, word) in &SHORTCUTS {
                let keys = ui.ctx().format_shortcut(keys);
                pair_ui(ui, &keys, word);
            }
        }),
    };
}

fn pair_ui(ui: &mut Ui, term: &str, meaning: &str) {
    let t = of(ui);
    ui.horizontal_top(|ui| {
        ui.allocate_ui_with_layout(
            vec2(190.0_f32.min(ui.available_width() * 0.4), 20.0),
            Layout::left_to_right(Align::Min),
            |ui| {
                ui.set_min_width(ui.available_width());
                ui.add(Label::new(text::card_title(t, term)).wrap());
            },
        );
        ui.add(Label::new(text::body(t, meaning)).wrap());
    });
}

fn codes_ui(ui: &mut Ui, words: &str, out: &mut Out) {
    let t = of(ui);
    for (code, entry) in catalogue() {
        if !format!("{code} {}", entry.title).to_lowercase().contains(words) {
            continue;
        }
        ui.horizontal_wrapped(|ui| {
            ui.label(text::code(t, code));
            ui.label(text::card_title(t, &entry.title));
        });
        for action in &entry.actions {
            ui.horizontal_wrapped(|ui| {
                ui.add_space(space::L);
                ui.label(text::body(t, &action.label));
                if let Some(command) = &action.command {
                    ui.label(text::code(t, command));
                    let name = format!("Copy {command}");
                    if button::icon(Icon::Copy, &name).small().ui(ui).clicked() {
                        out.push(Command::Copy(command.clone()));
                    }
                }
            });
        }
        ui.add_space(space::XS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_of_the_command_line_has_a_place_s1_27() {
        let known: Vec<&str> = COMMANDS.iter().flat_map(|(names, _)| names.split(", ")).collect();
        let missing: Vec<_> = typed().iter().filter(|path| !known.contains(&path.as_str())).collect();
        assert!(missing.is_empty(), "nowhere in the window: {missing:?}");
        assert!(typed().len() > 50 && places().count() > 30, "{} commands", typed().len());
    }
}
