//! Runs are begun, gone on with and stopped by commands beside the window, and work in processes of their own: what
//! happens to the window does not happen to them.

use super::errand::{Ending, Said};
use super::logic::Logic;
use super::outside::Whose;
use super::problem::Problem;
use super::route::Route;
use super::state::State;
use peft_plan::{Fault, Result, RunConfig};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A run that is about to begin.
#[derive(Debug)]
pub struct Launch {
    config: Box<RunConfig>,
    /// The run file of the command.
    file: PathBuf,
    /// The run, once it is known.
    run: Option<String>,
}

impl Logic {
    /// Let a run wait for its turn.
    pub(super) fn enqueue(&self, state: &mut State, config: &RunConfig) {
        if std::mem::replace(&mut state.data.is_launching, true) {
            return;
        }
        let begun = write(&self.workers.context.data_dir, config).map(|file| {
            let words = ["runs", "queue", "add", &file.display().to_string()].map(str::to_owned);
            self.errand(state, Whose::Enqueue(file), &words)
        });
        match begun {
            Ok(Some(_)) => {}
            Ok(None) => state.data.is_launching = false,
            Err(fault) => {
                state.data.is_launching = false;
                state.toast(String::new(), Some(Problem::from(&fault)));
            }
        }
    }

    /// Begin a run.
    pub(super) fn launch(&self, state: &mut State, config: RunConfig) {
        if std::mem::replace(&mut state.data.is_launching, true) {
            return;
        }
        let begun = write(&self.workers.context.data_dir, &config).map(|file| {
            let words = ["train".to_owned(), file.display().to_string(), "--detach".to_owned()];
            self.errand(state, Whose::Launch(Launch { config: Box::new(config), file, run: None }), &words)
        });
        match begun {
            Ok(Some(_)) => {}
            Ok(None) => state.data.is_launching = false,
            Err(fault) => {
                state.data.is_launching = false;
                state.toast(String::new(), Some(Problem::from(&fault)));
            }
        }
    }

    /// Go on with a run, with options of the command line.
    pub(super) fn resume(&self, state: &mut State, run: String, options: Vec<String>) {
        let words = ["resume".to_owned(), run, "--detach".to_owned()].into_iter().chain(options);
        self.errand(state, Whose::Deed("The run goes on".to_owned()), &words.collect::<Vec<_>>());
    }

    /// End a run that no process works on: its adapter is written from its newest checkpoint.
    pub(super) fn stop(&self, state: &mut State, run: &str) {
        let whose = Whose::Deed("Stopped; what was learned is kept".to_owned());
        self.errand(state, whose, &["stop".to_owned(), run.to_owned()]);
    }

    /// The command that begins a run said something.
    pub(super) fn hear_launch(&self, state: &mut State, launch: &mut Launch, said: Said) {
        let ending = match said {
            // A model that is not here yet is downloaded first.
            Said::Line(value) if value["run"].is_null() => {
                let (before, whole) = state.data.fetching.unwrap_or_default();
                let here = value["done_bytes"].as_u64().or(value["present_bytes"].as_u64()).unwrap_or(before);
                let whole = value["total_bytes"].as_u64().unwrap_or(whole);
                state.data.fetching = (whole > 0).then_some((here, whole));
                return;
            }
            Said::Remark(_) => return,
            Said::Line(value) => {
                launch.run = value["run"].as_str().map(str::to_owned).or(launch.run.take());
                return;
            }
            Said::Ended(ending) => ending,
        };
        state.data.is_launching = false;
        state.data.fetching = None;
        // Nobody needs it any more, and a file that stays harms nobody.
        let _removed = std::fs::remove_file(&launch.file);
        match (ending, launch.run.take()) {
            (Ending::Done(_), Some(run)) => {
                state.data.refused = None;
                self.go(state, Route::Run(run));
            }
            (Ending::Failed(problem), _) => {
                state.data.refused = Some(std::mem::take(&mut *launch.config));
                state.toast(String::new(), Some(problem));
            }
            _ => {}
        }
    }
}

fn write(data_dir: &Path, config: &RunConfig) -> Result<PathBuf> {
    let stamp = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_millis());
    let folder = data_dir.join("logs");
    durable::create_directories(&folder).map_err(|e| Fault::io("create", &folder, e))?;
    let file = folder.join(format!("run-{stamp}.json"));
    let text = serde_json::to_vec_pretty(&config.to_value()).expect("a configuration is plain data");
    durable::write_file(&file, &text).map_err(|e| Fault::io("write", &file, e))?;
    Ok(file)
}
