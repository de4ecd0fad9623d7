//! What happens: replies of threads are taken in, commands are carried out. Nothing is painted here.

use super::command::{Command, Purpose, Shelf};
use super::feed::Feed;
use super::playground::{ChatAsk, ChatReply, Exchange, Shown, Target, answerer};
use super::problem::Problem;
use super::route::Route;
use super::state::State;
use super::story::Story;
use super::studio::Ask;
use super::theme;
use super::wizard::{self, SuitedList, Wish, data};
use super::worker::{Reply, Workers, spawn};
use crate::jobs;
use eframe::egui;
use peft_plan::preset::Preset;
use peft_plan::{Fault, Role, RunConfig};
use peft_storage::{CommandKind, Side, Status};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

/// Replies taken in at one frame.
const REPLIES: usize = 64;
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
    pub fn hear(&self, state: &mut State) {
        state.data.now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs() as i64);
        for reply in self.workers.replies(REPLIES) {
            self.take(state, reply);
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
            Reply::Runs(Err(problem)) => state.data.store_problem = Some(problem),
            Reply::Events(run, is_anew, events) => {
                let story = state.data.stories.entry(run).or_default();
                if is_anew {
                    *story = Story::default();
                }
                for event in &events {
                    story.fold(event);
                }
            }
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
            Reply::Sizes(run, sizes) => drop(state.pages.exports.sizes.insert(run, Some(sizes))),
            Reply::Surveyed(survey) => state.pages.models.disk.found = Some(survey),
            Reply::Studio(found) => self.hear_studio(state, found),
            Reply::Notices(preferences) => state.data.notices = Some(preferences),
            Reply::Diagnosed(path) => {
                state.toast(format!("Written: {}", path.display()), None);
                state.data.diagnostics = Some(path);
            }
            Reply::Done(text) => {
                state.toast(text, None);
                state.data.presets = None;
                state.data.versions = None;
            }
            Reply::Failed(problem) => state.toast(String::new(), Some(problem)),
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
            Route::Models | Route::New | Route::Playground | Route::Serve if state.data.models.is_none() => {
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

    fn talks(&self, search: &str) {
        let search = (!search.trim().is_empty()).then(|| search.to_owned());
        self.workers.with_store(move |store, teller| {
            teller.tell(Reply::Talks(store.conversations(search.as_deref(), 100)?));
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

    fn ask_chat(&self, state: &mut State, ask: ChatAsk) {
        let page = &mut state.pages.playground;
        let asks = page.asks.get_or_insert_with(|| {
            let (sender, receiver) = std::sync::mpsc::channel();
            let (context, hush, teller) = (self.workers.context.clone(), page.hush.clone(), self.workers.teller());
            spawn("answers", move || answerer::run(&context, &receiver, &hush, &teller));
            sender
        });
        // The thread lives as long as the window.
        let _sent = asks.send(ask);
    }

    fn open_talk(&self, state: &mut State, target: Target, earlier: Option<i64>) {
        let page = &mut state.pages.playground;
        page.hush.store(true, Ordering::Relaxed);
        if earlier.is_none() {
            page.exchanges.clear();
        }
        page.is_busy = false;
        page.loading = Some(target.clone());
        self.ask_chat(state, ChatAsk::Open(target, earlier));
    }

    fn restore(&self, state: &mut State, (talk, messages): (peft_storage::Conversation, Vec<peft_storage::Message>)) {
        let mut exchanges: Vec<Exchange> = Vec::new();
        for message in messages {
            match (message.role, exchanges.last_mut()) {
                (Role::User, _) => exchanges.push(Exchange {
                    question: message.content,
                    kept: Some((talk.id, message.sequence)),
                    vote: message.vote,
                    ..Exchange::default()
                }),
                (Role::Assistant, Some(last)) => {
                    let shown = Some(Shown { text: message.content, note: String::new() });
                    match message.side {
                        Some(Side::Base) => last.base = shown,
                        _ => last.tuned = shown,
                    }
                }
                _ => {}
            }
        }
        state.pages.playground.exchanges = exchanges;
        let target = match talk.run {
            Some(run) => Target::Run(run),
            None => Target::Model(talk.model, talk.adapter.map(PathBuf::from)),
        };
        self.open_talk(state, target, Some(talk.id));
    }

    fn picked(&self, state: &mut State, purpose: Purpose, paths: Vec<PathBuf>) {
        let Some(first) = paths.first().cloned() else { return };
        if let Some(folder) = first.parent() {
            state.settings.folder = Some(folder.display().to_string());
            state.settings.save(&self.workers.context.data_dir);
        }
        match purpose {
            Purpose::Data => self.inspect(state, paths),
            Purpose::Talk => {
                self.go(state, Route::Playground);
                self.open_talk(state, Target::Model(first.display().to_string(), None), None);
            }
            Purpose::Export => state.pages.exports.folder = first.display().to_string(),
            Purpose::Model => state.pages.wizard.choose_model(&first.display().to_string()),
            Purpose::Preset => self.workers.with_store(move |store, teller| {
                let text = std::fs::read_to_string(&first).map_err(|e| Fault::io("read the preset", &first, e))?;
                let name = first.file_stem().and_then(|stem| stem.to_str()).unwrap_or("Preset").to_owned();
                let value = serde_json::from_str(&text)
                    .map_err(|e| Fault::new("PS-CFG-001", format!("`{}` is no preset: {e}", first.display())))?;
                let read = Preset::from_value(&value, &name)?;
                store.save_preset(&read.preset, false)?;
                let left = read.left_out.len();
                let note = if left == 0 { String::new() } else { format!("; {left} settings were not understood") };
                teller.tell(Reply::Done(format!("`{}` is in your presets{note}", read.preset.name)));
                Ok(())
            }),
            other => self.picked_studio(state, other, paths),
        }
    }

    pub(super) fn inspect(&self, state: &mut State, paths: Vec<PathBuf>) {
        let model = state.pages.wizard.model_id();
        let columns = state.pages.wizard.columns.clone();
        let look = state.pages.wizard.look();
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
                self.workers.with_store(move |store, teller| {
                    let run = store.get_run(&run)?;
                    let freed = jobs::disposal::delete(store, &run, false)?;
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
            Command::Talk(target) => {
                self.go(state, Route::Playground);
                self.open_talk(state, target, None);
            }
            Command::Say(question) => self.say(state, question),
            Command::Hush => state.pages.playground.hush.store(true, Ordering::Relaxed),
            Command::Checkpoint(which) => self.ask_chat(state, ChatAsk::Checkpoint(which)),
            Command::NewTalk => {
                state.pages.playground.exchanges.clear();
                state.data.talks = None;
                self.ask_chat(state, ChatAsk::Clear);
            }
            Command::OpenTalk(id) => self.workers.with_store(move |store, teller| {
                teller.tell(Reply::Talk(Box::new(store.conversation(id)?)));
                Ok(())
            }),
            Command::DeleteTalk(id) => {
                state.data.talks = None;
                self.workers.with_store(move |store, _| store.delete_conversation(id).map(drop));
            }
            Command::Vote((talk, sequence), choice) => {
                self.workers.with_store(move |store, _| store.vote(talk, sequence, choice));
            }
            Command::SearchTalks(words) => self.talks(&words),
            // Files that are dropped on that page are documents.
            Command::Inspect(paths) if state.route == Route::Studio => self.act_studio(state, Ask::Add(paths)),
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
            Command::Browse(purpose) => self.browse(state, purpose),
            Command::UseModel(id) => {
                state.pages.wizard.choose_model(&id);
                self.go(state, Route::New);
            }
            Command::Activate(version) => self.workers.with_store(move |store, teller| {
                store.activate_version(version)?;
                teller.tell(Reply::Done(format!("Version {version} is the one in use")));
                Ok(())
            }),
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
            Command::Write(path, bytes) => self.workers.apart("write", move |teller| {
                durable::write_file(&path, &bytes).map_err(|e| Fault::io("write", &path, e))?;
                teller.tell(Reply::Done(format!("Written: {}", path.display())));
                Ok(())
            }),
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
            other => self.act_outside(state, other),
        }
    }

    fn say(&self, state: &mut State, question: String) {
        let page = &mut state.pages.playground;
        if page.is_busy || page.ready.is_none() || question.trim().is_empty() {
            return;
        }
        let options = page.drawer.options();
        if let Err(fault) = options.check() {
            page.problem = Some(Problem::from(&fault));
            return;
        }
        let system = (!page.drawer.system.trim().is_empty()).then(|| page.drawer.system.clone());
        page.is_busy = true;
        page.problem = None;
        page.exchanges.push(Exchange { question: question.clone(), ..Exchange::default() });
        let compare = page.compare;
        self.ask_chat(state, ChatAsk::Say { question, options: Box::new(options), system, compare });
    }

    fn browse(&self, state: &State, purpose: Purpose) {
        let folder = state.settings.folder.clone();
        self.workers.apart("browse", move |teller| {
            let mut dialog = rfd::FileDialog::new();
            if let Some(folder) = folder {
                dialog = dialog.set_directory(folder);
            }
            let paths = match purpose {
                Purpose::Data => dialog.set_title("Examples").pick_files().unwrap_or_default(),
                Purpose::Talk => {
                    dialog.set_title("A model").add_filter("GGUF", &["gguf"]).pick_file().into_iter().collect()
                }
                Purpose::Export => dialog.set_title("A folder to export to").pick_folder().into_iter().collect(),
                Purpose::Model => dialog.set_title("A folder with a model").pick_folder().into_iter().collect(),
                Purpose::Preset => {
                    dialog.set_title("A preset").add_filter("Presets", &["json"]).pick_file().into_iter().collect()
                }
                other => super::studio::chosen(other, dialog),
            };
            teller.tell(Reply::Picked(purpose, paths));
            Ok(())
        });
    }

    fn remember(&self, state: &State) {
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

/// A run that was training when last looked at, and has finished since.
fn newly_finished(state: &State, runs: &[peft_storage::Run]) -> Option<String> {
    let was_live = |id: &str| state.data.run(id).is_some_and(|run| run.status == Status::Running);
    let run = runs.iter().find(|run| run.status == Status::Finished && was_live(run.id.as_str()))?;
    Some(run.id.to_string())
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
