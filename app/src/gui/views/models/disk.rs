//! What everything takes on the disk, and one press to free what is not needed any more.

use crate::cli::quantity::bytes;
use crate::gui::command::{Command, Out};
use crate::gui::problem::Problem;
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text, tokens};
use crate::gui::widgets::card::{card, stat};
use crate::gui::widgets::problem_card::problem_card;
use crate::gui::widgets::{button, empty};
use crate::jobs::disk::{Kind, Survey};
use eframe::egui::{Align, Id, Label, Layout, Modal, Ui, vec2};

/// Things that are listed, the largest first.
const SHOWN: usize = 60;

/// What the page remembers.
#[derive(Debug, Default)]
pub struct State {
    /// It was looked for.
    pub is_asked: bool,
    /// What was found.
    pub found: Option<Result<Survey, Problem>>,
    /// Kinds that are to be freed, once it is confirmed.
    asks: Option<Kind>,
}

/// What each kind is, in words.
const KINDS: [(Kind, &str, &str); 5] = [
    (
        Kind::TrainingState,
        "Checkpoints of finished runs",
        "What was learned stays; they cannot go back to a checkpoint.",
    ),
    (Kind::Leftovers, "Leftovers of deleted runs", "Nothing refers to them any more."),
    (Kind::Backups, "Copies of the library", "Made before updates of the program."),
    (Kind::Caches, "Measurements", "They are made again when they are needed."),
    (Kind::Logs, "Log files", "They help to find out what went wrong."),
];

/// Draw it.
pub(super) fn disk_ui(ui: &mut Ui, state: &mut State, out: &mut Out) {
    let t = of(ui);
    let survey = match &state.found {
        None => {
            empty::loading(ui, "Looking at the disk");
            return;
        }
        Some(Err(problem)) => {
            problem_card(ui, problem, false, out);
            return;
        }
        Some(Ok(survey)) => survey,
    };
    card(ui, |ui| {
        ui.horizontal_wrapped(|ui| {
            ui.spacing_mut().item_spacing.x = 40.0;
            stat(ui, "Taken", &bytes(survey.total_bytes));
            stat(ui, "Can be freed", &bytes(survey.freeable_bytes));
            stat(ui, "Free on the disk", &bytes(survey.free_bytes));
        });
        let shown = survey.data_dir.display().to_string();
        ui.horizontal(|ui| {
            if button::icon(Icon::Refresh, "Look again").small().ui(ui).clicked() {
                out.push(Command::Survey);
            }
            ui.add(Label::new(text::hint(t, &shown)).truncate());
        });
    });
    ui.add_space(space::S);
    card(ui, |ui| {
        ui.label(text::card_title(t, "What can go without losing a result"));
        let mut is_nothing = true;
        for (kind, name, what) in KINDS {
            let freeable: u64 = survey.items.iter().filter(|i| i.kind == Some(kind)).map(|i| i.freeable_bytes).sum();
            if freeable == 0 {
                continue;
            }
            is_nothing = false;
            ui.horizontal(|ui| {
                ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                    let label = format!("Free {}", bytes(freeable));
                    let named = format!("Free {name}");
                    if button::secondary(&label).named(&named).icon(Icon::Trash).small().ui(ui).clicked() {
                        state.asks = Some(kind);
                    }
                    ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                        ui.label(text::value(t, name));
                        ui.add(Label::new(text::hint(t, what)).truncate());
                    });
                });
            });
        }
        if is_nothing {
            ui.label(text::body(t, "Nothing: everything that is here is needed."));
        }
    });
    ui.add_space(space::S);
    card(ui, |ui| {
        ui.label(text::card_title(t, "What takes the room"));
        for item in survey.items.iter().take(SHOWN) {
            ui.horizontal(|ui| {
                ui.allocate_ui_with_layout(vec2(84.0, 18.0), Layout::right_to_left(Align::Center), |ui| {
                    ui.set_min_width(84.0);
                    ui.label(text::value(t, bytes(item.bytes)));
                });
                ui.allocate_ui_with_layout(vec2(72.0, 18.0), Layout::left_to_right(Align::Center), |ui| {
                    ui.set_min_width(72.0);
                    ui.label(text::hint(t, item.area));
                });
                let path = item.path.display().to_string();
                ui.add(Label::new(text::body(t, &item.name)).truncate()).on_hover_text(path);
            });
        }
    });
    confirm_ui(ui, state, out);
}

fn confirm_ui(ui: &mut Ui, state: &mut State, out: &mut Out) {
    let Some(kind) = state.asks else { return };
    let t = of(ui);
    let (name, what) = KINDS.iter().find(|(k, ..)| *k == kind).map_or(("", ""), |(_, name, what)| (*name, *what));
    let modal = Modal::new(Id::unique("free")).backdrop_color(tokens::backdrop()).show(ui.ctx(), |ui| {
        ui.set_max_width(420.0);
        ui.label(text::section(t, format!("Delete: {name}?")));
        ui.label(text::body(t, what));
        ui.add_space(space::S);
        ui.horizontal(|ui| {
            if button::danger("Delete them").icon(Icon::Trash).ui(ui).clicked() {
                out.push(Command::Free(kind));
                state.asks = None;
            }
            if button::quiet("Keep them").ui(ui).clicked() {
                state.asks = None;
            }
        });
    });
    if modal.should_close() {
        state.asks = None;
    }
}
