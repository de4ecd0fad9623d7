//! Threads that do what takes time. The window asks by closures and hears by [`Reply`]; it never waits.

use super::errand::Said;
use super::playground::ChatReply;
use super::problem::Problem;
use super::target::Target;
use super::tools;
use super::views::run::Judged;
use super::wizard::{SuitedList, data::Inspected};
use crate::cli::context::Context;
use crate::jobs::compare::Comparison;
use crate::jobs::disk::Survey;
use crate::jobs::export::sizes::Sizes;
use crate::jobs::incoming::Incoming;
use crate::jobs::library::LocalModel;
use crate::jobs::notices::Preferences;
use crate::jobs::plan::Answer;
use eframe::egui;
use peft_plan::{Result, RunEvent, preset::Preset};
use peft_storage::{Conversation, Message, Run, RunFilter, Store, Version};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// What a thread has to say.
#[derive(Debug)]
pub enum Reply {
    /// All runs, the newest first.
    Runs(Result<Vec<Run>, Problem>),
    /// More of a run's story; with `true` from its beginning.
    Events(String, bool, Vec<RunEvent>),
    /// How good the curve of a run is.
    Judged(Judged),
    /// Models on this computer.
    Models(Vec<LocalModel>),
    /// Presets: one's own (`true`) and those of the program.
    Presets(Vec<(Preset, bool)>),
    /// Versions of one's own models.
    Versions(Vec<Version>),
    /// Conversations.
    Talks(Vec<Conversation>),
    /// One conversation.
    Talk(Box<(Conversation, Vec<Message>)>),
    /// Runs side by side.
    Compared(Vec<String>, Result<Box<Comparison>, Problem>),
    /// A look at examples, with its number.
    Inspected(u64, Result<Box<Inspected>, Problem>),
    /// Profiles on this machine.
    Profiles(Result<SuitedList, Problem>),
    /// What a run would be.
    Planned(Result<Box<Answer>, Problem>),
    /// Files were chosen.
    Picked(super::command::Purpose, Vec<PathBuf>),
    /// A file or folder holds a model, and this is where it was wanted.
    Opened(super::command::Slot, Target),
    /// Settings that came in a file.
    Incoming(Result<Box<Incoming>, Problem>),
    /// The runs that wait.
    Queue(Result<tools::Queue, Problem>),
    /// The end of a log file.
    LogFile(tools::log::Source, String),
    /// Something went well.
    Done(String),
    /// Something went wrong.
    Failed(Problem),
    /// From a process beside the window, by its number.
    Errand(u64, Said),
    /// So many bytes of an export are written.
    Written(u64, u64),
    /// What exports will take.
    Sizes(Target, Result<Sizes, Problem>),
    /// What takes room on the disk.
    Surveyed(Result<Survey, Problem>),
    /// What the desktop is told.
    Notices(Preferences),
    /// Where the file is that helps to find out what went wrong.
    Diagnosed(PathBuf),
    /// What the data studio asked the store for.
    Studio(super::studio::Found),
    /// From whoever answers.
    Chat(ChatReply),
}

/// Tells the window, and wakes it.
#[derive(Clone)]
pub struct Teller {
    replies: Sender<Reply>,
    window: egui::Context,
}

impl Teller {
    /// What it says arrives at the other end of `replies`.
    pub(super) fn new(replies: Sender<Reply>, window: egui::Context) -> Self {
        Self { replies, window }
    }

    /// Say something.
    pub fn tell(&self, reply: Reply) {
        // A window that was closed hears nothing any more.
        if self.replies.send(reply).is_ok() {
            self.window.request_repaint();
        }
    }
}

type StoreJob = Box<dyn FnOnce(&Store, &Teller) -> Result<()> + Send>;

/// All threads.
pub struct Workers {
    /// What commands know.
    pub context: Context,
    teller: Teller,
    replies: Receiver<Reply>,
    store: Sender<StoreJob>,
}

/// How often the list of runs is read while a run lives, and else.
const LIVE: Duration = Duration::from_millis(700);
const IDLE: Duration = Duration::from_secs(2);

impl Workers {
    /// Start them.
    pub fn new(context: &Context, window: &egui::Context) -> Self {
        let (sender, replies) = channel();
        let teller = Teller::new(sender, window.clone());
        let (store, jobs) = channel();
        let (told, place) = (teller.clone(), context.clone());
        spawn("store", move || keep_store(&place, &jobs, &told));
        Self { context: context.clone(), teller, replies, store }
    }

    /// The next thing that was said.
    pub fn reply(&self) -> Option<Reply> {
        self.replies.try_recv().ok()
    }

    /// Whoever wants to say something.
    pub fn teller(&self) -> Teller {
        self.teller.clone()
    }

    /// Do something with the store; what goes wrong is told.
    pub fn with_store(&self, job: impl FnOnce(&Store, &Teller) -> Result<()> + Send + 'static) {
        // The thread lives as long as the window.
        let _sent = self.store.send(Box::new(job));
    }

    /// Do something that takes time; what goes wrong is told.
    pub fn apart(&self, name: &str, job: impl FnOnce(&Teller) -> Result<()> + Send + 'static) {
        let teller = self.teller.clone();
        spawn(name, move || {
            if let Err(fault) = job(&teller) {
                teller.tell(Reply::Failed(Problem::from(&fault)));
            }
        });
    }
}

/// A thread with a name. One that cannot be started is as good as one that never answers.
pub fn spawn(name: &str, work: impl FnOnce() + Send + 'static) {
    let _thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
}

/// The newest runs that the window knows of; the command line lists any number.
const SHOWN_RUNS: usize = 1000;

/// One connection to the store, the list of runs kept fresh, and jobs in between.
fn keep_store(context: &Context, jobs: &Receiver<StoreJob>, teller: &Teller) {
    let store = loop {
        match context.store() {
            Ok(store) => break store,
            Err(fault) => {
                let fault = match fault.code {
                    "PS-DISK-004" => {
                        let command = "peft-studio --data-dir FOLDER".to_owned();
                        fault.action("Keep everything in a folder of your own", Some(command))
                    }
                    _ => fault,
                };
                teller.tell(Reply::Runs(Err(Problem::from(&fault))));
                std::thread::sleep(IDLE);
                // What was asked for meanwhile fails with the same reason, which is shown.
                while jobs.try_recv().is_ok() {}
            }
        }
    };
    let mut known: Option<Vec<Run>> = None;
    let mut next = Instant::now();
    loop {
        match jobs.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(job) => {
                if let Err(fault) = job(&store, teller) {
                    teller.tell(Reply::Failed(Problem::from(&fault)));
                }
                next = Instant::now();
            }
            Err(RecvTimeoutError::Timeout) => {
                let is_live = match store.list_runs(&RunFilter { limit: Some(SHOWN_RUNS), ..RunFilter::default() }) {
                    Ok(runs) => {
                        let is_live = runs.iter().any(|run| run.status == peft_storage::Status::Running);
                        if known.as_ref() != Some(&runs) {
                            known = Some(runs.clone());
                            teller.tell(Reply::Runs(Ok(runs)));
                        }
                        is_live
                    }
                    Err(fault) => {
                        known = None;
                        teller.tell(Reply::Runs(Err(Problem::from(&fault))));
                        false
                    }
                };
                next = Instant::now() + if is_live { LIVE } else { IDLE };
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
