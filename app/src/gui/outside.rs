//! What the window has done beside itself: exports, downloads, the server, the disk.

use super::command::{Command, Shelf};
use super::errand::{Ending, Errand, Said};
use super::export::{self, FORMS, Job};
use super::launch::Launch;
use super::logic::Logic;
use super::playground::Target;
use super::problem::Problem;
use super::route::Route;
use super::serve::Server;
use super::state::State;
use super::views::models::discover::Download;
use super::worker::{Reply, spawn};
use crate::jobs;
use crate::jobs::notices::Preferences;
use peft_models::engine::Engine;
use peft_plan::RunConfig;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often it is looked how much of an export is there.
const LOOK: Duration = Duration::from_millis(400);

/// Whom an errand is for.
#[derive(Debug)]
pub enum Whose {
    /// A run that is about to begin.
    Launch(Launch),
    /// An export; its folder is looked at until this says that it is over.
    Export(Arc<AtomicBool>),
    /// A search at the hub.
    Search,
    /// A download.
    Download,
    /// The server.
    Server,
    /// The data studio.
    Studio(super::studio::Job),
    /// Something that is told when it is done.
    Deed(String),
}

impl Logic {
    pub(super) fn errand(&self, state: &mut State, whose: Whose, words: &[String]) -> Option<u64> {
        state.next_errand += 1;
        let id = state.next_errand;
        match Errand::start(&self.workers.context, &self.program, words, id, self.workers.teller()) {
            Ok(errand) => {
                state.errands.insert(id, (errand, whose));
                Some(id)
            }
            Err(fault) => {
                state.toast(String::new(), Some(Problem::from(&fault)));
                None
            }
        }
    }

    /// An errand said something.
    pub(super) fn hear_errand(&self, state: &mut State, id: u64, said: Said) {
        let Some((errand, mut whose)) = state.errands.remove(&id) else { return };
        let is_over = matches!(said, Said::Ended(_));
        match &mut whose {
            Whose::Launch(launch) => self.hear_launch(state, launch, said),
            Whose::Export(over) => {
                over.store(is_over, Ordering::Relaxed);
                state.pages.exports.hear(id, said);
            }
            Whose::Search => state.pages.models.discover.hear(said),
            Whose::Download => {
                let downloads = &mut state.pages.models.discover.downloads;
                let is_here = downloads.iter_mut().find(|download| download.id == id).is_some_and(|d| d.hear(said));
                if is_here {
                    self.reload(Shelf::Models);
                }
            }
            Whose::Server => state.pages.server.hear(said),
            Whose::Studio(job) => self.hear_studio_job(state, id, *job, said),
            Whose::Deed(word) => match said {
                Said::Ended(Ending::Done(_)) => state.toast(std::mem::take(word), None),
                Said::Ended(Ending::Failed(problem)) => state.toast(String::new(), Some(problem)),
                Said::Ended(Ending::Stopped) | Said::Line(_) => {}
            },
        }
        if !is_over {
            state.errands.insert(id, (errand, whose));
        }
    }

    /// Carry out a command that reaches beyond the window.
    pub(super) fn act_outside(&self, state: &mut State, command: Command) {
        match command {
            Command::Export(run, key) => self.export(state, &run, key),
            Command::ForgetExport(id) => state.pages.exports.jobs.retain(|job| job.id != id),
            Command::StopErrand(id) => {
                if let Some((errand, _)) = state.errands.get(&id) {
                    errand.stop();
                }
            }
            Command::SearchModels(words) => self.search_models(state, &words),
            Command::Download(model) => {
                let words = ["models", "download", model.as_str()].map(str::to_owned);
                if let Some(id) = self.errand(state, Whose::Download, &words) {
                    state.pages.models.discover.downloads.retain(|download| download.model != model);
                    state.pages.models.discover.downloads.push(Download::new(id, model));
                }
            }
            Command::Studio(ask) => self.act_studio(state, ask),
            Command::TrainOnProject => self.train_on_project(state),
            Command::Serve(target, port) => self.serve(state, target, port),
            Command::Survey => {
                state.pages.models.disk.found = None;
                state.pages.models.disk.is_asked = true;
                self.survey();
            }
            Command::Free(kind) => {
                let context = self.workers.context.clone();
                state.pages.models.disk.found = None;
                self.workers.apart("disk", move |teller| {
                    let freed = jobs::disk::free(&context, &[kind], true)?;
                    let refused = if freed.refused.is_empty() { "" } else { "; some are in use and were kept" };
                    let bytes = crate::cli::quantity::bytes(freed.freed_bytes);
                    teller.tell(Reply::Done(format!("{bytes} are free again{refused}")));
                    teller.tell(Reply::Surveyed(jobs::disk::survey(&context).map_err(|fault| Problem::from(&fault))));
                    Ok(())
                });
            }
            Command::Archive(run) => self.workers.with_store(move |store, teller| {
                let run = store.get_run(&run)?;
                let freed = crate::cli::quantity::bytes(jobs::disposal::archive(store, &run)?);
                teller.tell(Reply::Done(format!("`{}` is archived; {freed} are free again", run.name)));
                Ok(())
            }),
            Command::Notify(name, on) => self.workers.with_store(move |store, teller| {
                Preferences::choose(store, name, on)?;
                teller.tell(Reply::Notices(Preferences::chosen(store)?));
                Ok(())
            }),
            Command::TestNotice => {
                let words = ["notifications", "test"].map(str::to_owned);
                self.errand(state, Whose::Deed("A notification was sent to the desktop".to_owned()), &words);
            }
            Command::Apply(changes, run) => self.apply(state, &changes, run),
            Command::Diagnose => self.diagnose(),
            _ => {}
        }
    }

    /// What pages of this kind want and nobody has asked for.
    pub(super) fn want_outside(&self, state: &mut State) {
        match &state.route {
            Route::Export => {
                if let Some(run) = export::view::chosen(&state.data, &state.pages.exports).map(|run| run.id.to_string())
                    && !state.pages.exports.sizes.contains_key(&run)
                {
                    state.pages.exports.sizes.insert(run.clone(), None);
                    self.sizes(run);
                }
            }
            Route::Models => {
                let page = &mut state.pages.models;
                if page.shows_discover() && !std::mem::replace(&mut page.discover.is_asked, true) {
                    self.search_models(state, "");
                } else if page.shows_disk() && !std::mem::replace(&mut page.disk.is_asked, true) {
                    self.survey();
                }
            }
            Route::Studio => self.want_studio(state),
            Route::Settings if !std::mem::replace(&mut state.data.asked_notices, true) => {
                self.workers.with_store(|store, teller| {
                    teller.tell(Reply::Notices(Preferences::chosen(store)?));
                    Ok(())
                });
            }
            _ => {}
        }
    }

    fn search_models(&self, state: &mut State, words: &str) {
        let mut command = vec!["models".to_owned(), "search".to_owned()];
        // Words that look like options are words.
        command.extend(words.split_whitespace().map(|word| word.trim_start_matches('-').to_owned()));
        state.pages.models.discover.search = self.errand(state, Whose::Search, &command);
    }

    fn survey(&self) {
        let context = self.workers.context.clone();
        self.workers.apart("disk", move |teller| {
            teller.tell(Reply::Surveyed(jobs::disk::survey(&context).map_err(|fault| Problem::from(&fault))));
            Ok(())
        });
    }

    fn sizes(&self, run: String) {
        let context = self.workers.context.clone();
        self.workers.apart("sizes", move |teller| {
            let found = Engine::open(&context.backend, context.threads)
                .and_then(|engine| jobs::export::sizes::sizes(&engine, &context.store()?.get_run(&run)?));
            teller.tell(Reply::Sizes(run, found.map_err(|fault| Problem::from(&fault))));
            Ok(())
        });
    }

    fn export(&self, state: &mut State, run: &str, key: &str) {
        let (Some(form), Some(name)) =
            (FORMS.iter().find(|form| form.key == key), state.data.run(run).map(|run| run.name.clone()))
        else {
            return;
        };
        let page = &state.pages.exports;
        let typed = page.folder.trim();
        let folder = match (typed.is_empty(), form.key) {
            (false, _) => Some(PathBuf::from(typed)),
            (true, "lmstudio") => None,
            (true, _) => Some(export::usual_folder(&self.workers.context.data_dir, &name, form)),
        };
        let mut words: Vec<String> = ["export", run, "--to", form.key].map(str::to_owned).to_vec();
        if let Some(folder) = &folder {
            words.extend(["--out".to_owned(), folder.display().to_string()]);
        }
        if form.has_types {
            words.extend(["--quant".to_owned(), page.chosen_types().join(","), "--test".to_owned()]);
        }
        let expected = page.expected(run, form);
        let over = Arc::new(AtomicBool::new(false));
        let Some(id) = self.errand(state, Whose::Export(over.clone()), &words) else { return };
        if let Some(folder) = folder.clone() {
            self.watch(id, folder, over);
        }
        let job = Job { id, form, name, folder, expected, written: 0, result: None, ending: None };
        state.pages.exports.jobs.push(job);
    }

    /// Tell how much is in `folder` until it is over.
    fn watch(&self, id: u64, folder: PathBuf, over: Arc<AtomicBool>) {
        let teller = self.workers.teller();
        spawn("export", move || {
            let before = taken(&folder);
            while !over.load(Ordering::Relaxed) {
                std::thread::sleep(LOOK);
                teller.tell(Reply::Written(id, taken(&folder).saturating_sub(before)));
            }
        });
    }

    fn serve(&self, state: &mut State, target: Target, port: u16) {
        if state.pages.server.id.is_some() {
            return;
        }
        let id = self.errand(state, Whose::Server, &Server::words(&target, port));
        let page = &mut state.pages.server;
        (page.id, page.problem, page.target) = (id, None, Some(target));
    }

    /// S4.10.3: change settings, and try again what failed.
    fn apply(&self, state: &mut State, changes: &[String], run: Option<String>) {
        if let Some(run) = run {
            let words = changes.iter().flat_map(|change| ["--set".to_owned(), change.clone()]).collect();
            self.resume(state, run, words);
            return;
        }
        let is_launch = state.data.refused.is_some();
        let mut config = state.data.refused.take().unwrap_or_else(|| state.pages.wizard.config.clone());
        match changes.iter().try_for_each(|change| config.set(change)) {
            Err(fault) => state.toast(String::new(), Some(Problem::from(&fault))),
            Ok(()) if is_launch => {
                state.toasts.retain(|toast| toast.problem.is_none());
                self.launch(state, config);
            }
            Ok(()) => {
                state.toast(format!("Changed: {}", changes.join(", ")), None);
                self.changed(state, config);
            }
        }
    }

    fn changed(&self, state: &mut State, config: RunConfig) {
        state.pages.wizard.config = config;
        // What is wrong with examples may be right with other settings.
        if state.pages.wizard.found.as_ref().is_some_and(Result::is_err) && !state.pages.wizard.paths.is_empty() {
            let paths = state.pages.wizard.paths.clone();
            self.inspect(state, paths);
        }
    }

    fn diagnose(&self) {
        let context = self.workers.context.clone();
        self.workers.apart("diagnostics", move |teller| {
            let path = jobs::diagnostics::write(&context)?;
            teller.tell(Reply::Diagnosed(path));
            Ok(())
        });
    }
}

/// Bytes of all files directly in `folder`.
fn taken(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).filter(std::fs::Metadata::is_file).map(|data| data.len()).sum()
}
