//! What happens: replies of threads are taken in, commands are carried out. Nothing is painted here.

use super::command::{Command, Shelf};
use super::feed::Feed;
use super::log::Level;
use super::playground::ChatReply;
use super::problem::Problem;
use super::route::Route;
use super::state::State;
use super::story::Story;
use super::studio::Ask;
use super::target::Target;
use super::theme;
use super::views::run;
use super::wizard::{self, SuitedList, Wish, data};
use super::worker::{Reply, Workers, spawn};
use crate::jobs;
use eframe::egui;
use peft_plan::RunConfig;
use peft_storage::{CommandKind, Status};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Longest that replies are taken in at one frame: what is left waits for the next one, and input for neither.
const HEARING: Duration = Duration::from_millis(1);
/// Events of a run that go into the log at once.
const NARRATED: usize = 100;
/// Points of a curve in a comparison.
const POINTS: usize = 4000;

/// What carries things out.
pub struct Logic {
    /// Threads.
    pub workers: Workers,
    /// The program that runs are started with.
    pub program: PathBuf,
}

impl Logic {
    /// Take in what threads say.
    pub fn hear(&self, ctx: &egui::Context, state: &mut State) {
        state.data.now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs() as i64);
        let begun = Instant::now();
        while let Some(reply) = self.workers.reply() {
            self.take(state, reply);
            if begun.elapsed() > HEARING {
                ctx.request_repaint();
                break;
            }
        }
        self.follow(state);
    }

    fn take(&self, state: &mut State, reply: Reply) {
        match reply {
            Reply::Runs(Ok(runs)) => {
                let finished = newly_finished(state, &runs);
                state.data.runs = Some(runs);
                state.data.store_problem = None;
                if let Some(run) = finished {
                    self.finished(state, run);
                }
            }
            Reply::Runs(Err(problem)) => {
                if state.data.store_problem.as_ref() != Some(&problem) {
                    let text = format!("{} {}: {}", problem.code, problem.title, problem.detail);
                    state.log.push(state.data.now, Level::Error, "store", &text);
                }
                state.data.store_problem = Some(problem);
            }
            Reply::Events(run, is_anew, events) => {
                narrate(state, &run, &events);
                let story = state.data.stories.entry(run).or_default();
                if is_anew {
                    *story = Story::default();
                }
                for event in &events {
                    story.fold(event);
                }
            }
            Reply::Judged(judged) => state.pages.run.judged(judged),
            Reply::Models(models) => state.data.models = Some(models),
            Reply::Presets(presets) => state.data.presets = Some(presets),
            Reply::Versions(versions) => state.data.versions = Some(versions),
            Reply::Talks(talks) => state.data.talks = Some(talks),
            Reply::Talk(talk) => self.restore(state, *talk),
            Reply::Compared(runs, result) => state.pages.compare.arrived(&runs, result),
            Reply::Inspected(look, result) => state.pages.wizard.inspected(look, result),
            Reply::Profiles(suited) => state.pages.wizard.suited = Some(suited),
            Reply::Planned(answer) => state.pages.wizard.planned(answer),
            Reply::Picked(purpose, paths) => self.picked(state, purpose, paths),
            Reply::Errand(id, said) => self.hear_errand(state, id, said),
            Reply::Written(id, bytes) => {
                if let Some(job) = state.pages.exports.jobs.iter_mut().find(|job| job.id == id) {
                    job.written = bytes;
                }
            }
            Reply::Sizes(target, sizes) => {
                let known = state.pages.exports.sizes.iter_mut().find(|(of, _)| *of == target);
                if let Some((_, known)) = known {
                    *known = Some(sizes);
                }
            }
            Reply::Opened(slot, target) => self.opened(state, slot, target),
            Reply::Incoming(read) => state.pages.presets.arrived(read),
            Reply::Queue(queue) => state.pages.tools.queue = Some(queue),
            Reply::LogFile(source, text) => state.pages.tools.log.file = Some((source, text)),
            Reply::Surveyed(survey) => state.pages.models.disk.found = Some(survey),
            Reply::Studio(found) => self.hear_studio(state, found),
            Reply::Notices(preferences) => state.data.notices = Some(preferences),
            Reply::Diagnosed(path) => {
                state.toast(format!("Written: {}", path.display()), None);
                state.data.diagnostics = Some(path);
            }
            Reply::Done(text) => {
                state.log.push(state.data.now, Level::Info, "window", &text);
                state.toast(text, None);
                state.data.presets = None;
                state.data.versions = None;
            }
            Reply::Failed(problem) => {
                let text = format!("{} {}: {}", problem.code, problem.title, problem.detail);
                state.log.push(state.data.now, Level::Error, "window", &text);
                state.toast(String::new(), Some(problem));
            }
            Reply::Chat(reply) => {
                if let ChatReply::Ready(ready) = &reply
                    && state.pages.playground.loading.is_some()
                {
                    state.data.talks = None;
                    // Somebody who asked for a model wants to hear of it wherever they are.
                    if state.route != Route::Playground {
                        state.toast(format!("`{}` is ready in the Playground", ready.name), None);
                    }
                }
                state.pages.playground.hear(reply);
            }
        }
    }

    /// S4.7.1: after training, its model is ready to be tried.
    fn finished(&self, state: &mut State, run: String) {
        state.data.versions = None;
        if state.route == Route::Run(run.clone()) && state.pages.playground.exchanges.is_empty() {
            self.open_talk(state, Target::Run(run), None);
        }
    }

    /// Follow the run that is looked at and the one that trains, and no others.
    fn follow(&self, state: &mut State) {
        let mut wanted: Vec<(String, PathBuf)> = Vec::new();
        if let Route::Run(id) = &state.route
            && let Some(run) = state.data.run(id)
        {
            wanted.push((id.clone(), run.directory.clone()));
        }
        if let Some(run) = state.data.live() {
            wanted.push((run.id.to_string(), run.directory.clone()));
        }
        state.feeds.retain(|id, _| wanted.iter().any(|(w, _)| w == id));
        for (id, directory) in wanted {
            let teller = || self.workers.teller();
            state.feeds.entry(id.clone()).or_insert_with(|| Feed::follow(id, &directory, teller()));
        }
        let feeds = &state.feeds;
        state.data.stories.retain(|id, _| feeds.contains_key(id));
    }

    pub(super) fn go(&self, state: &mut State, route: Route) {
        if state.route != route {
            state.before.push(std::mem::replace(&mut state.route, route));
            state.before.drain(..state.before.len().saturating_sub(30));
        }
        state.broken = None;
        match &state.route {
            Route::Models | Route::New | Route::Playground | Route::Serve | Route::Export | Route::Tools
                if state.data.models.is_none() =>
            {
                self.reload(Shelf::Models);
            }
            _ => {}
        }
    }

    /// Lists that a page shows and nobody has read yet.
    pub fn want(&self, state: &mut State) {
        self.want_outside(state);
        match &state.route {
            Route::Models if state.data.versions.is_none() => {
                state.data.versions = Some(Vec::new());
                self.reload(Shelf::Versions);
            }
            Route::Presets if state.data.presets.is_none() => {
                state.data.presets = Some(Vec::new());
                self.reload(Shelf::Presets);
            }
            Route::Playground if state.data.talks.is_none() => {
                state.data.talks = Some(Vec::new());
                self.talks(&state.pages.playground.search);
            }
            Route::New => {
                for wish in state.pages.wizard.wishes() {
                    self.grant(wish);
                }
            }
            Route::Compare => {
                if let Some(runs) = state.pages.compare.wanted() {
                    self.compare(runs);
                }
            }
            _ => {}
        }
    }

    fn grant(&self, wish: Wish) {
        let context = self.workers.context.clone();
        self.workers.apart("plan", move |teller| {
            // One after the other: both measure this machine, and keep what they measured.
            static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
            let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            match wish {
                Wish::Profiles => {
                    let suited = jobs::plan::profiles_here(&context, None)
                        .map(|(profiles, counted_with)| SuitedList { profiles, counted_with });
                    teller.tell(Reply::Profiles(suited.map_err(|fault| Problem::from(&fault))));
                }
                Wish::Plan(config, rates) => {
                    let answer = jobs::plan::plan(&context, *config, &rates);
                    teller.tell(Reply::Planned(answer.map(Box::new).map_err(|fault| Problem::from(&fault))));
                }
            }
            Ok(())
        });
    }

    fn compare(&self, ids: Vec<String>) {
        self.workers.with_store(move |store, teller| {
            let runs: peft_plan::Result<Vec<_>> = ids.iter().map(|id| store.get_run(id)).collect();
            let compared = runs.and_then(|runs| jobs::compare::compare(store, runs, POINTS));
            teller.tell(Reply::Compared(ids, compared.map(Box::new).map_err(|fault| Problem::from(&fault))));
            Ok(())
        });
    }

    pub(super) fn reload(&self, shelf: Shelf) {
        match shelf {
            Shelf::Models => self.workers.apart("models", |teller| {
                teller.tell(Reply::Models(jobs::library::list()?));
                Ok(())
            }),
            Shelf::Presets => self.workers.with_store(|store, teller| {
                let own = store.presets()?.into_iter().map(|stored| (stored.preset, true));
                let built_in = peft_plan::preset::built_in().iter().map(|preset| (preset.clone(), false));
                teller.tell(Reply::Presets(own.chain(built_in).collect()));
                Ok(())
            }),
            Shelf::Discover | Shelf::Disk => {}
            Shelf::Versions => self.workers.with_store(|store, teller| {
                teller.tell(Reply::Versions(store.versions(None)?));
                Ok(())
            }),
        }
    }

    pub(super) fn inspect(&self, state: &mut State, paths: Vec<PathBuf>) {
        let model = state.pages.wizard.model_id();
        let look = state.pages.wizard.look_at(&paths);
        let columns = state.pages.wizard.columns.clone();
        self.go(state, Route::New);
        state.pages.wizard.step = wizard::Step::Data;
        self.workers.apart("inspect", move |teller| {
            let found = data::inspect(&paths, model.as_deref(), &columns);
            teller.tell(Reply::Inspected(look, found.map(Box::new).map_err(|fault| Problem::from(&fault))));
            Ok(())
        });
    }

    /// Carry out one command.
    pub fn act(&self, ctx: &egui::Context, state: &mut State, command: Command) {
        match command {
            Command::Go(route) => self.go(state, route),
            Command::Back => {
                if let Some(route) = state.before.pop() {
                    state.route = route;
                }
            }
            Command::TryItNow => match jobs::starter::config(&self.workers.context.data_dir) {
                Ok(config) => self.launch(state, config),
                Err(fault) => state.toast(String::new(), Some(Problem::from(&fault))),
            },
            Command::Launch(config) => self.launch(state, *config),
            Command::Judge(run) => {
                if let Some(story) = state.data.stories.get(&run) {
                    let judge = run::judge(&run, story);
                    self.workers.apart("judge", move |teller| {
                        teller.tell(Reply::Judged(judge()));
                        Ok(())
                    });
                } else {
                    state.pages.run.is_judging = false;
                }
            }
            Command::Ask(run, kind) => self.workers.with_store(move |store, teller| {
                store.push_command(&run, kind, &Value::Null)?;
                teller.tell(Reply::Done(asked(kind).to_owned()));
                Ok(())
            }),
            Command::Resume(run) => self.resume(state, run, Vec::new()),
            Command::ResumeWith(run, options) => self.resume(state, run, options),
            Command::Stop(run) => self.stop(state, &run),
            Command::Open(shelf) => {
                state.pages.models.open(shelf);
                self.go(state, Route::Models);
            }
            Command::Explain(code) => {
                state.pages.help.explain(&code);
                self.go(state, Route::Help);
            }
            Command::Delete(run) => {
                state.pages.compare.take(&run, false);
                if state.route == Route::Run(run.clone()) {
                    self.go(state, Route::Runs);
                }
                let context = self.workers.context.clone();
                self.workers.apart("delete", move |teller| {
                    let store = context.store()?;
                    let run = store.get_run(&run)?;
                    let freed = delete(&store, &run)?;
                    let freed = crate::cli::quantity::bytes(freed.total());
                    teller.tell(Reply::Done(format!("`{}` is gone; {freed} are free again", run.name)));
                    Ok(())
                });
            }
            Command::Compare(run, is_in) => state.pages.compare.take(&run, is_in),
            Command::NewFrom(run) => {
                let config = state.data.run(&run).and_then(|run| RunConfig::from_value(run.config.clone()).ok());
                if let Some(config) = config {
                    state.pages.wizard = wizard::Wizard::of(config);
                    self.go(state, Route::New);
                }
            }
            // Files that are dropped on that page are documents.
            Command::Inspect(paths) if state.route == Route::Studio => self.act_studio(state, Ask::Dropped(paths)),
            Command::Inspect(paths) => self.inspect(state, paths),
            Command::SampleData => match jobs::starter::sample_data(&self.workers.context.data_dir) {
                Ok(path) => self.inspect(state, vec![path]),
                Err(fault) => state.toast(String::new(), Some(Problem::from(&fault))),
            },
            Command::Fix(fix) => {
                let (data_dir, wizard) = (self.workers.context.data_dir.clone(), &mut state.pages.wizard);
                let (paths, columns) = (wizard.paths.clone(), std::mem::take(&mut wizard.columns));
                let model = wizard.model_id();
                let look = wizard.look();
                self.workers.apart("fix", move |teller| {
                    let found = data::fixed(&data_dir, &paths, &columns, fix)
                        .and_then(|path| data::inspect(&[path], model.as_deref(), &BTreeMap::new()));
                    teller.tell(Reply::Inspected(look, found.map(Box::new).map_err(|fault| Problem::from(&fault))));
                    Ok(())
                });
            }
            Command::Paste(text) => match data::pasted(&self.workers.context.data_dir, &text) {
                Ok(path) => self.inspect(state, vec![path]),
                Err(fault) => state.toast(String::new(), Some(Problem::from(&fault))),
            },
            Command::UseModel(id) => {
                state.pages.wizard.choose_model(&id);
                self.go(state, Route::New);
            }
            Command::Activate(version) => self.workers.with_store(move |store, teller| {
                store.activate_version(version)?;
                teller.tell(Reply::Done(format!("Version {version} is the one in use")));
                Ok(())
            }),
            Command::UsePreset(name) => {
                let found = state.data.presets.iter().flatten().find(|(preset, _)| preset.name == name);
                if let Some((preset, _)) = found {
                    state.pages.wizard = wizard::Wizard::of(preset.config.clone());
                    self.go(state, Route::New);
                }
            }
            Command::Reload(shelf) => {
                if shelf == Shelf::Models {
                    state.data.models = None;
                }
                self.reload(shelf);
            }
            Command::Picture(path, part) => super::picture::keep(ctx, path, part, self.workers.teller()),
            Command::Copy(text) => {
                ctx.copy_text(text);
                state.toast("Copied", None);
            }
            Command::Reveal(path) => ctx.open_url(egui::OpenUrl::same_tab(format!("file://{}", path.display()))),
            Command::Theme(choice) => {
                state.settings.theme = choice;
                self.look(ctx, state);
                self.remember(state);
            }
            Command::Scale(scale) => {
                let scales = super::settings::SCALES;
                state.settings.scale = scale.clamp(*scales.start(), *scales.end());
                self.look(ctx, state);
                self.remember(state);
            }
            Command::WideRail(is_wide) => {
                state.settings.wide_rail = is_wide;
                self.remember(state);
            }
            Command::FullScreen => {
                let is_full = ctx.input(|input| input.viewport().fullscreen.unwrap_or(false));
                ctx.send_viewport_cmd(egui::ViewportCommand::Fullscreen(!is_full));
            }
            Command::Palette(is_open) => state.palette = is_open.then(super::palette::State::default),
            Command::Dismiss(id) => state.toasts.retain(|toast| toast.id != id),
            Command::Quit => {
                state.may_close = true;
                ctx.send_viewport_cmd(egui::ViewportCommand::Close);
            }
            Command::PauseAndQuit => {
                let runs = state.data.runs.iter().flatten().filter(|run| run.status == Status::Running);
                for run in runs.map(|run| run.id.to_string()) {
                    self.workers.with_store(move |store, _| {
                        store.push_command(&run, CommandKind::Pause, &Value::Null).map(drop)
                    });
                }
                let window = ctx.clone();
                state.may_close = true;
                // After the store was told: its thread takes one job after the other.
                self.workers.with_store(move |_, _| {
                    window.send_viewport_cmd(egui::ViewportCommand::Close);
                    window.request_repaint();
                    Ok(())
                });
            }
            Command::StayOpen => state.asks_to_close = false,
            Command::Answer(is_yes) => {
                if let Some(question) = state.question.take().filter(|_| is_yes) {
                    self.act(ctx, state, *question.then);
                }
            }
            other => self.act_files(state, other),
        }
    }

    pub(super) fn remember(&self, state: &State) {
        let (settings, data_dir) = (state.settings.clone(), self.workers.context.data_dir.clone());
        spawn("settings", move || settings.save(&data_dir));
    }

    /// Make the look what the settings say.
    pub fn look(&self, ctx: &egui::Context, state: &State) {
        let system_is_dark = ctx.system_theme().is_none_or(|theme| theme == egui::Theme::Dark);
        theme::apply(ctx, state.settings.theme.tokens(system_is_dark));
        ctx.set_zoom_factor(state.settings.scale);
    }
}

/// Looks at a run that is over and whose process is not gone yet, and the time between them.
const LOOKS: u32 = 20;
const BETWEEN: Duration = Duration::from_millis(250);

/// Delete a run and what it learned; the process of one that has just ended may take a moment to go.
fn delete(store: &peft_storage::Store, run: &peft_storage::Run) -> peft_plan::Result<jobs::disposal::DiskUse> {
    for _ in 0..LOOKS {
        match jobs::disposal::delete(store, run, false) {
            Err(fault) if fault.code == "PS-RUN-002" && run.status != Status::Running => std::thread::sleep(BETWEEN),
            said => return said,
        }
    }
    jobs::disposal::delete(store, run, false)
}

/// A run that has finished since it was last looked at; one that was quicker than that has its page open already.
fn newly_finished(state: &State, runs: &[peft_storage::Run]) -> Option<String> {
    let is_new = |id: &str| match state.data.run(id) {
        Some(run) => run.status != Status::Finished,
        None => state.route == Route::Run(id.to_owned()),
    };
    let run = runs.iter().find(|run| run.status == Status::Finished && is_new(run.id.as_str()))?;
    Some(run.id.to_string())
}

/// What a run says goes into the log, the latest of much.
fn narrate(state: &mut State, run: &str, events: &[peft_plan::RunEvent]) {
    let name = state.data.run(run).map_or_else(|| run.to_owned(), |run| run.name.clone());
    for event in &events[events.len().saturating_sub(NARRATED)..] {
        let level = match event {
            peft_plan::RunEvent::Failed { .. } => Level::Error,
            peft_plan::RunEvent::Anomaly { .. } => Level::Warning,
            _ => Level::Info,
        };
        if let Some(text) = crate::cli::run_log::for_people(event) {
            state.log.push(state.data.now, level, &name, &text);
        }
    }
}

fn asked(kind: CommandKind) -> &'static str {
    match kind {
        CommandKind::Pause => "The run saves a checkpoint and halts after its current step",
        CommandKind::Stop => "The run writes what it learned and ends after its current step",
        CommandKind::Evaluate => "The run scores its held-out examples after its current step",
        CommandKind::Snapshot => "The run saves a checkpoint after its current step",
        CommandKind::Answer => "The run answers after its current step",
    }
}
