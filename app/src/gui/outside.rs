//! What the window has done beside itself: exports, downloads, the server, the disk.

use super::command::{Command, Shelf};
use super::errand::{Ending, Errand, Said, Secret};
use super::export::{self, FORMS, Job};
use super::launch::Launch;
use super::log::Level;
use super::logic::Logic;
use super::problem::Problem;
use super::route::Route;
use super::serve::Server;
use super::state::State;
use super::target::Target;
use super::tools::{self, Tool};
use super::views::models::discover::Download;
use super::wizard;
use super::worker::{Reply, spawn};
use crate::cli::export::{Source, source_of_run};
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

/// How often the queue and log files are looked at, in seconds.
const AGAIN: i64 = 2;

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
    /// A measurement, a check, or a chain of commands.
    Tool,
    /// A run is put behind those that wait; its run file.
    Enqueue(PathBuf),
    /// Which rows this run found hardest.
    HardRows(String),
}

impl Whose {
    /// Who it is, in a word.
    fn word(&self) -> &'static str {
        match self {
            Self::Launch(_) => "new run",
            Self::Export(_) => "export",
            Self::Search => "search",
            Self::Download => "download",
            Self::Server => "server",
            Self::Deed(_) => "command",
            Self::Studio(_) => "data studio",
            Self::Tool => "tools",
            Self::Enqueue(_) => "queue",
            Self::HardRows(_) => "rows",
        }
    }

    /// What would be lost with the window; none for what is over in a moment.
    pub(super) fn pending(&self) -> Option<&'static str> {
        match self {
            Self::Launch(_) => Some("A run is starting"),
            Self::Export(_) => Some("An export is being written"),
            Self::Download => Some("A model is being downloaded"),
            Self::Server => Some("The local server answers other programs"),
            Self::Tool => Some("A measurement, a check or a pipeline is under way"),
            // Whoever searches only waits for the next question.
            Self::Studio(job) if *job != super::studio::Job::Meaning => Some("The data studio is at work"),
            Self::Studio(_) | Self::Search | Self::Deed(_) | Self::Enqueue(_) | Self::HardRows(_) => None,
        }
    }
}

impl Logic {
    pub(super) fn errand(&self, state: &mut State, whose: Whose, words: &[String]) -> Option<u64> {
        self.secret_errand(state, whose, words, &[], false)
    }

    /// The same with keys, which are neither among the words nor in the log. One that `listens` is told more later.
    pub(super) fn secret_errand(
        &self,
        state: &mut State,
        whose: Whose,
        words: &[String],
        secrets: &[Secret],
        listens: bool,
    ) -> Option<u64> {
        state.next_errand += 1;
        let id = state.next_errand;
        state.log.push(state.data.now, Level::Info, whose.word(), &format!("peft-studio {}", words.join(" ")));
        let teller = self.workers.teller();
        match Errand::start(&self.workers.context, &self.program, words, secrets, listens, id, teller) {
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
        note(state, &whose, &said);
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
            Whose::Tool => state.pages.tools.hear(id, said),
            Whose::HardRows(run) => {
                let found = match said {
                    Said::Line(value) => Some(Ok(value)),
                    Said::Ended(Ending::Failed(problem)) => Some(Err(problem)),
                    _ => None,
                };
                if let Some(found) = found {
                    state.pages.run.rows = Some((run.clone(), Some(found)));
                }
            }
            Whose::Enqueue(file) => {
                if is_over {
                    state.data.is_launching = false;
                    // Nobody needs it any more, and a file that stays harms nobody.
                    let _removed = std::fs::remove_file(file);
                }
                match said {
                    Said::Ended(Ending::Done(_)) => {
                        state.pages.tools.tab = tools::Tab::Queue;
                        self.go(state, Route::Tools);
                        state.toast("The run waits for its turn", None);
                    }
                    Said::Ended(Ending::Failed(problem)) => state.toast(String::new(), Some(problem)),
                    _ => {}
                }
                state.pages.tools.looked = 0;
            }
            Whose::Deed(word) => match said {
                Said::Ended(ending) => {
                    state.pages.tools.looked = 0;
                    match ending {
                        Ending::Done(_) => {
                            state.toast(std::mem::take(word), None);
                            // Whatever it was: these lists may not be what they were.
                            state.data.versions = None;
                            if state.route == Route::Models {
                                self.reload(Shelf::Models);
                            }
                        }
                        Ending::Failed(problem) => state.toast(String::new(), Some(problem)),
                        Ending::Stopped => {}
                    }
                }
                Said::Line(_) | Said::Remark(_) => {}
            },
        }
        if !is_over {
            state.errands.insert(id, (errand, whose));
        }
    }

    /// Carry out a command that reaches beyond the window.
    pub(super) fn act_outside(&self, state: &mut State, command: Command) {
        match command {
            Command::Export(target, key) => self.export(state, &target, key),
            Command::HardRows(run) => {
                state.pages.run.rows = Some((run.clone(), None));
                let words = ["runs", "rows", run.as_str(), "--limit", "30"].map(str::to_owned);
                self.errand(state, Whose::HardRows(run), &words);
            }
            Command::Deed(words, said) => drop(self.errand(state, Whose::Deed(said), &words)),
            Command::Tool(tool) => self.tool(state, tool),
            Command::Enqueue(config) => self.enqueue(state, &config),
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
                if let Some(target) = export::view::chosen(&state.data, &state.pages.exports)
                    && state.pages.exports.sizes_of(&target).is_none()
                {
                    state.pages.exports.sizes.push((target.clone(), None));
                    self.sizes(target);
                }
            }
            // Models worth a try: known without a network.
            Route::New
                if state.pages.wizard.step == wizard::Step::Model
                    && !std::mem::replace(&mut state.pages.models.discover.is_asked, true) =>
            {
                self.search_models(state, "");
            }
            Route::Tools => self.want_tools(state),
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

    fn sizes(&self, target: Target) {
        let context = self.workers.context.clone();
        self.workers.apart("sizes", move |teller| {
            let source = || match &target {
                Target::Run(run) => source_of_run(&context.store()?.get_run(run)?),
                Target::Model(model, adapter) => {
                    Ok(Source { model: model.clone(), adapter: adapter.clone(), quantize: None })
                }
            };
            let found = Engine::open(&context.backend, context.threads)
                .and_then(|engine| jobs::export::sizes::sizes(&engine, &source()?));
            teller.tell(Reply::Sizes(target, found.map_err(|fault| Problem::from(&fault))));
            Ok(())
        });
    }

    fn export(&self, state: &mut State, target: &Target, key: &str) {
        let Some(form) = FORMS.iter().find(|form| form.key == key) else { return };
        let name = target.name(&state.data);
        let page = &state.pages.exports;
        let typed = page.folder.trim();
        let folder = match (typed.is_empty(), form.key) {
            (false, _) => Some(PathBuf::from(typed)),
            (true, "lmstudio") => None,
            (true, _) => Some(export::usual_folder(&self.workers.context.data_dir, &name, form)),
        };
        let words = page.words(target, form, folder.as_deref());
        let expected = page.expected(target, form);
        let over = Arc::new(AtomicBool::new(false));
        let Some(id) = self.errand(state, Whose::Export(over.clone()), &words) else { return };
        if let Some(folder) = folder.clone() {
            self.watch(id, folder, over);
        }
        let job = Job { id, form, name, folder, expected, written: 0, result: None, remark: None, ending: None };
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
        if state.pages.wizard.found.as_ref().is_some_and(Result::is_err) && !state.pages.wizard.tried.is_empty() {
            let paths = state.pages.wizard.tried.clone();
            self.inspect(state, paths);
        }
    }

    fn tool(&self, state: &mut State, tool: Tool) {
        if state.pages.tools.is_busy(tool) {
            return;
        }
        let Some(words) = state.pages.tools.words(tool, &state.data) else { return };
        if let Some(id) = self.errand(state, Whose::Tool, &words) {
            let job = tools::Job { id, tool, lines: Vec::new(), remark: None, ending: None };
            state.pages.tools.jobs.retain(|other| other.tool != tool);
            state.pages.tools.jobs.push(job);
        }
    }

    /// What the page of tools shows and what changes without it.
    fn want_tools(&self, state: &mut State) {
        let (now, page) = (state.data.now, &mut state.pages.tools);
        match page.tab {
            tools::Tab::Queue if now - page.looked >= AGAIN => {
                page.looked = now;
                let context = self.workers.context.clone();
                self.workers.with_store(move |store, teller| {
                    let waiting = store.queue().map_err(|fault| Problem::from(&fault));
                    let worker = jobs::queue::worker(&context);
                    teller.tell(Reply::Queue(waiting.map(|waiting| tools::Queue { waiting, worker })));
                    Ok(())
                });
            }
            tools::Tab::Log if now - page.log.looked >= AGAIN && page.log.source != tools::log::Source::Window => {
                page.log.looked = now;
                let source = page.log.source.clone();
                let path = match &source {
                    tools::log::Source::Run(id) => {
                        state.data.run(id).map(|run| run.directory.join(jobs::background::LOG))
                    }
                    _ => Some(self.workers.context.data_dir.join("logs").join("queue.log")),
                };
                self.workers.apart("log", move |teller| {
                    let text = path.map(|path| jobs::diagnostics::tail(&path)).unwrap_or_default();
                    teller.tell(Reply::LogFile(source, jobs::diagnostics::Redactor::new().clean(&text)));
                    Ok(())
                });
            }
            _ => {}
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

/// What an errand says goes into the log.
fn note(state: &mut State, whose: &Whose, said: &Said) {
    let (now, word) = (state.data.now, whose.word());
    match said {
        Said::Remark(remark) => state.log.push(now, Level::Info, word, remark),
        Said::Ended(Ending::Failed(problem)) => {
            let text = format!("{} {}: {}", problem.code, problem.title, problem.detail);
            state.log.push(now, Level::Error, word, &text);
        }
        Said::Ended(Ending::Stopped) => state.log.push(now, Level::Warning, word, "stopped"),
        Said::Ended(Ending::Done(_)) => state.log.push(now, Level::Info, word, "done"),
        Said::Line(_) => {}
    }
}

/// Bytes of all files directly in `folder`.
fn taken(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).filter(std::fs::Metadata::is_file).map(|data| data.len()).sum()
}
