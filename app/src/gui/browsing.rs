//! Files that people choose, and settings that come in files.

use super::command::{Command, Purpose, Slot};
use super::logic::Logic;
use super::route::Route;
use super::state::State;
use super::studio::Picks;
use super::target::Target;
use super::worker::Reply;
use crate::jobs::incoming;
use peft_plan::Fault;
use peft_plan::preset::Preset;
use std::path::{Path, PathBuf};

impl Logic {
    /// Ask the desktop for files, in a thread: the window goes on meanwhile.
    pub(super) fn browse(&self, state: &State, purpose: Purpose) {
        let folder = state.settings.folder.clone();
        self.workers.apart("browse", move |teller| {
            let mut dialog = rfd::FileDialog::new().set_title(title(purpose));
            if let Some(folder) = folder {
                dialog = dialog.set_directory(folder);
            }
            let paths = match purpose {
                Purpose::Data | Purpose::Documents | Purpose::Studio(Picks::Memories) => {
                    dialog.pick_files().unwrap_or_default()
                }
                Purpose::File(_) => dialog.add_filter("GGUF", &["gguf"]).pick_file().into_iter().collect(),
                Purpose::Preset => {
                    let endings = ["json", "yaml", "yml", "py", "ipynb"];
                    dialog.add_filter("Settings", &endings).pick_file().into_iter().collect()
                }
                Purpose::Pipeline | Purpose::Receipt => {
                    dialog.add_filter("JSON", &["json"]).pick_file().into_iter().collect()
                }
                Purpose::Studio(Picks::MemoryFolder) => dialog.pick_folder().into_iter().collect(),
                Purpose::Scored | Purpose::Rows | Purpose::Evaluation | Purpose::Reference | Purpose::Studio(_) => {
                    dialog.pick_file().into_iter().collect()
                }
                Purpose::Export | Purpose::Model | Purpose::DocumentFolder | Purpose::Folder(_) => {
                    dialog.pick_folder().into_iter().collect()
                }
            };
            teller.tell(Reply::Picked(purpose, paths));
            Ok(())
        });
    }

    pub(super) fn picked(&self, state: &mut State, purpose: Purpose, paths: Vec<PathBuf>) {
        let Some(first) = paths.first().cloned() else { return };
        if let Some(folder) = first.parent() {
            state.settings.folder = Some(folder.display().to_string());
            self.remember(state);
        }
        let shown = || first.display().to_string();
        match purpose {
            Purpose::Data => self.inspect(state, paths),
            Purpose::Export => state.pages.exports.folder = shown(),
            Purpose::Model => state.pages.wizard.choose_model(&shown()),
            Purpose::Preset => self.take_in(state, first),
            Purpose::Pipeline => state.pages.tools.pipeline = shown(),
            Purpose::Receipt => state.pages.tools.receipt = shown(),
            Purpose::Scored => state.pages.tools.data = shown(),
            Purpose::Reference => state.pages.tools.reference = shown(),
            Purpose::File(slot) | Purpose::Folder(slot) => self.open_path(slot, first),
            Purpose::Documents | Purpose::DocumentFolder | Purpose::Rows | Purpose::Evaluation | Purpose::Studio(_) => {
                self.picked_studio(state, purpose, paths);
            }
        }
    }

    /// A file or folder is looked at, and goes where it was wanted.
    pub(super) fn open_path(&self, slot: Slot, path: PathBuf) {
        self.workers.apart("open", move |teller| {
            teller.tell(Reply::Opened(slot, Target::of_path(&path)?));
            Ok(())
        });
    }

    pub(super) fn opened(&self, state: &mut State, slot: Slot, target: Target) {
        match slot {
            Slot::Talk => {
                self.go(state, Route::Playground);
                self.open_talk(state, target, None);
            }
            Slot::Beside => self.beside(state, Some(target)),
            Slot::Export => state.pages.exports.target = Some(target),
            Slot::Serve => state.pages.server.target = Some(target),
            Slot::Evaluate => state.pages.tools.evaluated = Some(target),
            Slot::Speed => state.pages.tools.measured = Some(target),
        }
    }

    /// S4.8.5: a file with settings is read, and how it suits is shown before anything is kept.
    pub(super) fn take_in(&self, state: &mut State, path: PathBuf) {
        self.go(state, Route::Presets);
        state.pages.presets.is_reading = true;
        self.workers.apart("incoming", move |teller| {
            let read = incoming::read(&path).map_err(|fault| super::problem::Problem::from(&fault));
            teller.tell(Reply::Incoming(read.map(Box::new)));
            Ok(())
        });
    }

    /// Carry out a command about presets and files.
    pub(super) fn act_files(&self, state: &mut State, command: Command) {
        match command {
            Command::Browse(purpose) => self.browse(state, purpose),
            Command::Question(question) => state.question = Some(question),
            Command::TalkTo(path) => self.open_path(Slot::Talk, path),
            Command::TakeIn(path) => self.take_in(state, path),
            Command::UseSettings(config) => {
                state.pages.wizard = super::wizard::Wizard::of(*config);
                self.go(state, Route::New);
            }
            Command::Keep(preset) => {
                state.pages.presets.incoming = None;
                self.workers.with_store(move |store, teller| {
                    store.save_preset(&preset, false)?;
                    teller.tell(Reply::Done(format!("`{}` is in your presets", preset.name)));
                    Ok(())
                });
            }
            Command::SavePreset(name, config) => self.workers.with_store(move |store, teller| {
                let preset = Preset { name, description: String::new(), tags: Vec::new(), config: *config };
                store.save_preset(&preset, false)?;
                teller.tell(Reply::Done(format!("Kept as the preset `{}`", preset.name)));
                Ok(())
            }),
            Command::DeletePreset(name) => self.workers.with_store(move |store, teller| {
                store.delete_preset(&name)?;
                teller.tell(Reply::Done(format!("The preset `{name}` is gone")));
                Ok(())
            }),
            Command::SaveAs(name, bytes) => self.save_as(state, name, bytes),
            Command::Write(path, bytes) => self.workers.apart("write", move |teller| {
                teller.tell(Reply::Done(write(&path, &bytes)?));
                Ok(())
            }),
            other => self.act_talking(state, other),
        }
    }

    fn save_as(&self, state: &State, name: String, bytes: Vec<u8>) {
        let folder = state.settings.folder.clone();
        self.workers.apart("save", move |teller| {
            let mut dialog = rfd::FileDialog::new().set_title("Where to write").set_file_name(name);
            if let Some(folder) = folder {
                dialog = dialog.set_directory(folder);
            }
            if let Some(path) = dialog.save_file() {
                teller.tell(Reply::Done(write(&path, &bytes)?));
            }
            Ok(())
        });
    }
}

fn write(path: &Path, bytes: &[u8]) -> peft_plan::Result<String> {
    durable::write_file(path, bytes).map_err(|e| Fault::io("write", path, e))?;
    Ok(format!("Written: {}", path.display()))
}

fn title(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Data => "Examples",
        Purpose::Model => "A folder with a model",
        Purpose::Preset => "Settings: a preset, or a configuration of another program",
        Purpose::Export => "A folder to export to",
        Purpose::Pipeline => "A pipeline",
        Purpose::Receipt => "A receipt of a run",
        Purpose::Scored => "Examples to measure with",
        Purpose::Documents => "Documents",
        Purpose::DocumentFolder => "A folder of documents",
        Purpose::Rows | Purpose::Evaluation => "A file with rows",
        Purpose::Reference => "A recorded run of another program",
        Purpose::Studio(Picks::Judged) => "Questions that were answered badly",
        Purpose::Studio(Picks::Questions) => "Rows without answers",
        Purpose::Studio(Picks::Memories | Picks::MemoryFolder) => "Chats, journals and memories",
        Purpose::Studio(Picks::Personality) => "A text about the person",
        Purpose::File(_) => "A model",
        Purpose::Folder(_) => "A folder with a model or an adapter",
    }
}
