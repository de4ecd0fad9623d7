//! Models on this computer, models of the hub, the versions of one's own, and what all that takes.

pub mod discover;
pub mod disk;

use crate::cli::quantity::{ago, bytes};
use crate::gui::command::{Command, Out, Purpose, Shelf};
use crate::gui::shell::confirm::Question;
use crate::gui::state::Data;
use crate::gui::target::Target;
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text};
use crate::gui::widgets::card::{card, chip, heading};
use crate::gui::widgets::{button, empty, field};
use crate::jobs::library::LocalModel;
use eframe::egui::{Align, Label, Layout, Ui};

/// What the page remembers.
#[derive(Debug, Default)]
pub struct State {
    tab: Tab,
    words: String,
    /// Models of the hub.
    pub discover: discover::State,
    /// What takes room.
    pub disk: disk::State,
}

impl State {
    /// Show a part.
    pub fn open(&mut self, shelf: Shelf) {
        self.tab = match shelf {
            Shelf::Discover => Tab::Discover,
            Shelf::Disk => Tab::Disk,
            Shelf::Versions => Tab::Versions,
            Shelf::Models | Shelf::Presets => Tab::Installed,
        };
    }

    /// Models of the hub are shown.
    pub fn shows_discover(&self) -> bool {
        self.tab == Tab::Discover
    }

    /// What takes room is shown.
    pub fn shows_disk(&self) -> bool {
        self.tab == Tab::Disk
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Tab {
    #[default]
    Installed,
    Discover,
    Versions,
    Disk,
}

/// Draw it.
pub fn models_ui(ui: &mut Ui, data: &Data, state: &mut State, out: &mut Out) {
    heading(ui, "Models", "");
    let tabs = [
        (Tab::Installed, "On this computer"),
        (Tab::Discover, "Discover"),
        (Tab::Versions, "Your versions"),
        (Tab::Disk, "Disk"),
    ];
    field::tabs(ui, &mut state.tab, &tabs);
    ui.add_space(space::S);
    match state.tab {
        Tab::Installed => installed_ui(ui, data, state, out),
        Tab::Discover => discover::discover_ui(ui, &mut state.discover, out),
        Tab::Versions => versions_ui(ui, data, out),
        Tab::Disk => disk::disk_ui(ui, &mut state.disk, out),
    }
}

fn installed_ui(ui: &mut Ui, data: &Data, state: &mut State, out: &mut Out) {
    ui.horizontal_wrapped(|ui| {
        field::search(ui, "Search models", &mut state.words, 220.0);
        if button::secondary("Open a folder…").icon(Icon::Folder).ui(ui).clicked() {
            out.push(Command::Browse(Purpose::Model));
        }
        if button::icon(Icon::Refresh, "Look again").ui(ui).clicked() {
            out.push(Command::Reload(Shelf::Models));
        }
    });
    let Some(models) = &data.models else {
        empty::loading(ui, "Looking at what is on this computer");
        return;
    };
    let words = state.words.to_lowercase();
    for model in models.iter().filter(|model| model.id.to_lowercase().contains(&words)) {
        model_ui(ui, model, out);
    }
}

/// Where a model was found.
fn source(model: &LocalModel) -> &'static str {
    match model.source {
        "builtin" => "Part of PEFT Studio",
        "huggingface" => "Hugging Face cache",
        "lmstudio" => "LM Studio",
        "ollama" => "Ollama",
        _ => "Folder",
    }
}

/// A count of parameters.
pub fn parameters(count: u64) -> String {
    match count {
        0..1_000_000 => format!("{} k parameters", count / 1000),
        1_000_000..1_000_000_000 => format!("{:.1} M parameters", count as f64 / 1e6),
        _ => format!("{:.1} B parameters", count as f64 / 1e9),
    }
}

fn model_ui(ui: &mut Ui, model: &LocalModel, out: &mut Out) {
    let t = of(ui);
    card(ui, |ui| {
        ui.horizontal(|ui| {
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                if model.supported {
                    let name = format!("Train {}", model.id);
                    if button::primary("Train").named(&name).small().ui(ui).clicked() {
                        out.push(Command::UseModel(model.id.clone()));
                    }
                    let name = format!("Talk to {}", model.id);
                    if button::secondary("Talk").named(&name).small().ui(ui).clicked() {
                        out.push(Command::Talk(Target::Model(model.id.clone(), None)));
                    }
                }
                if model.source == "huggingface" {
                    let name = format!("Delete {} from this computer", model.id);
                    if button::icon(Icon::Trash, &name).small().ui(ui).clicked() {
                        out.push(Command::Question(Question {
                            title: "Delete this model?".to_owned(),
                            sentence: format!(
                                "`{}` takes {}. It can be downloaded again; runs that were trained on it need it.",
                                model.id,
                                bytes(model.bytes)
                            ),
                            word: "Delete the model",
                            then: Box::new(Command::Deed(
                                vec!["models".to_owned(), "remove".to_owned(), model.id.clone()],
                                format!("`{}` is gone", model.id),
                            )),
                        }));
                    }
                }
                ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                    ui.add(Label::new(text::card_title(t, &model.id)).truncate());
                });
            });
        });
        ui.horizontal_wrapped(|ui| {
            if model.supported {
                let fits = model.fits.iter().any(|fit| fit.fits);
                chip(
                    ui,
                    if fits { t.ok } else { t.warn },
                    if fits { "Trains here" } else { "Too large to train here" },
                );
            }
            let mut words = vec![source(model).to_owned(), bytes(model.bytes)];
            words.extend(model.parameters.map(parameters));
            words.extend(model.licence.clone());
            ui.label(text::hint(t, words.join("  ·  ")));
        });
        if let Some(note) = &model.note {
            ui.label(text::hint(t, note));
        }
    });
}

fn versions_ui(ui: &mut Ui, data: &Data, out: &mut Out) {
    let t = of(ui);
    let versions = data.versions.as_deref().unwrap_or_default();
    if versions.is_empty() {
        let sentence =
            "Every finished run becomes a version, with its score, ready to be loaded, compared or put in use.";
        empty::empty(ui, Icon::Clock, "No versions yet", sentence, |_| {});
        return;
    }
    for version in versions.iter().rev() {
        card(ui, |ui| {
            ui.horizontal(|ui| {
                ui.label(text::card_title(t, format!("Version {}", version.number)));
                if version.active {
                    chip(ui, t.ok, "In use");
                }
                if version.archived.is_some() {
                    chip(ui, t.info, "Archived");
                }
                ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                    let id = version.run.id.to_string();
                    let name = format!("Delete version {}", version.number);
                    if !version.active && button::icon(Icon::Trash, &name).small().ui(ui).clicked() {
                        out.push(Command::Question(Question {
                            title: format!("Delete version {}?", version.number),
                            sentence: format!("What `{}` learned is removed from the disk for good.", version.run.name),
                            word: "Delete for good",
                            then: Box::new(Command::Deed(
                                vec!["versions".to_owned(), "delete".to_owned(), version.number.to_string()],
                                format!("Version {} is gone", version.number),
                            )),
                        }));
                    }
                    let name = format!("Open version {}", version.number);
                    if button::quiet("Open").named(&name).small().ui(ui).clicked() {
                        out.push(Command::Go(crate::gui::route::Route::Run(id.clone())));
                    }
                    if !version.active && button::secondary("Put in use").small().ui(ui).clicked() {
                        out.push(Command::Activate(version.number));
                    }
                    if version.archived.is_none() {
                        let archive = button::quiet("Archive").small().ui(ui);
                        let what = "Keeps what it learned, and frees the checkpoints of its training";
                        if !version.active && archive.on_hover_text(what).clicked() {
                            out.push(Command::Archive(id.clone()));
                        }
                    }
                    if button::secondary("Compare").small().ui(ui).clicked() {
                        out.push(Command::Compare(id.clone(), true));
                        out.push(Command::Go(crate::gui::route::Route::Compare));
                    }
                    if button::secondary("Talk").small().ui(ui).clicked() {
                        out.push(Command::Talk(Target::Run(id)));
                    }
                });
            });
            let score = version.run.quality_score.map(|score| format!("  ·  quality {score:.0} of 100"));
            let loss = version.run.validation_loss.map(|loss| format!("  ·  held-out loss {loss:.3}"));
            let words = [version.run.name.clone(), format!("  ·  {}", ago(version.run.created, data.now))];
            let line = [words.concat(), loss.unwrap_or_default(), score.unwrap_or_default()].concat();
            ui.label(text::hint(t, line));
        });
    }
}
