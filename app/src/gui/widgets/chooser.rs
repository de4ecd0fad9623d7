//! One list for everything that can answer: runs, the built-in model, models on this computer, and whatever a file or a
//! folder holds.

use crate::gui::command::{Command, Out, Purpose, Slot};
use crate::gui::state::Data;
use crate::gui::target::Target;
use eframe::egui::{ComboBox, Role, Ui, WidgetInfo};
use peft_storage::{Run, Status};

/// Runs that are listed.
const RUNS: usize = 40;
/// Letters of a name.
const LETTERS: usize = 40;

/// Which runs are offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    /// All that learned something, also those that train.
    Any,
    /// Those that left an adapter or a model.
    Over,
}

impl Runs {
    /// Whether `run` is one of them.
    pub fn has(self, run: &Run) -> bool {
        let is_over = matches!(run.status, Status::Finished | Status::Stopped);
        run.last_step > 0 && (self == Self::Any || is_over)
    }
}

/// What a list is for.
pub struct Chooser<'a> {
    /// What screen readers call it.
    pub name: &'a str,
    /// Where a file that is opened goes.
    pub slot: Slot,
    /// Which runs it offers.
    pub runs: Runs,
    /// What it says while nothing is chosen.
    pub nothing: &'a str,
    /// Width.
    pub width: f32,
}

/// Draw it; `top` draws what comes before everything else. `Some`: something else was chosen.
pub fn chooser_ui(
    ui: &mut Ui,
    data: &Data,
    chosen: Option<&Target>,
    what: &Chooser,
    out: &mut Out,
    top: impl FnOnce(&mut Ui),
) -> Option<Target> {
    let mut picked = None;
    let full = chosen.map_or_else(|| what.nothing.to_owned(), |target| target.name(data));
    let short: String = full.chars().take(LETTERS).collect();
    let combo = ComboBox::from_id_salt(what.name).selected_text(short).width(what.width).truncate();
    let combo = combo.show_ui(ui, |ui| {
        top(ui);
        let mut offer = |ui: &mut Ui, name: &str, target: Target| {
            if ui.selectable_label(chosen == Some(&target), name).clicked() {
                picked = Some(target);
            }
        };
        for run in data.runs.iter().flatten().filter(|run| what.runs.has(run)).take(RUNS) {
            let version = run.version.map(|number| format!("  ·  version {number}")).unwrap_or_default();
            offer(ui, &format!("Run: {}{version}", run.name), Target::Run(run.id.to_string()));
        }
        offer(ui, "Built-in starter model", Target::starter());
        for model in data.models.iter().flatten().filter(|model| model.supported && model.id != "starter") {
            offer(ui, &model.id, Target::Model(model.id.clone(), None));
        }
        ui.separator();
        for (word, purpose) in [
            ("Open a GGUF file…", Purpose::File(what.slot)),
            ("Open a folder with a model or adapter…", Purpose::Folder(what.slot)),
        ] {
            if ui.selectable_label(false, word).clicked() {
                out.push(Command::Browse(purpose));
            }
        }
    });
    combo.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, what.name));
    combo.response.on_hover_text(full);
    picked
}
