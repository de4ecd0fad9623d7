//! What a view can ask for. Views only send; `logic` acts, once a frame.

use super::route::Route;
use super::shell::confirm::Question;
use super::target::Target;
use super::theme::ThemeChoice;
use super::tools::Tool;
use crate::jobs::disk::Kind;
use eframe::egui::Rect;
use peft_plan::RunConfig;
use peft_plan::preset::Preset;
use peft_storage::{Choice, CommandKind};
use std::path::PathBuf;

/// Something to do.
#[derive(Clone, Debug)]
pub enum Command {
    /// Show another page.
    Go(Route),
    /// Go back to the page before.
    Back,
    /// Train the built-in model on the sample data.
    TryItNow,
    /// Start a run of one's own.
    Launch(Box<RunConfig>),
    /// Say how good the curve of a run is.
    Judge(String),
    /// Ask a live run for something.
    Ask(String, CommandKind),
    /// Go on with a run.
    Resume(String),
    /// End a run that nobody works on.
    Stop(String),
    /// Forget a run and its files.
    Delete(String),
    /// Take a run into the comparison, or out of it.
    Compare(String, bool),
    /// Fill the wizard with the settings of a run.
    NewFrom(String),
    /// Talk to something.
    Talk(Target),
    /// Talk to what lies there: a GGUF file, or a folder with a model or an adapter.
    TalkTo(PathBuf),
    /// Another one answers beside who is talked to, or nobody does.
    Beside(Option<Target>),
    /// Put a question.
    Say(String),
    /// Stop the answer.
    Hush,
    /// Another checkpoint of the run that is talked to.
    Checkpoint(String),
    /// Begin a new conversation with the same partner.
    NewTalk,
    /// Look at an earlier conversation.
    OpenTalk(i64),
    /// Forget a conversation.
    DeleteTalk(i64),
    /// Judge the answers to a question.
    Vote((i64, u64), Option<Choice>),
    /// Look for earlier conversations.
    SearchTalks(String),
    /// Look at these files as examples.
    Inspect(Vec<PathBuf>),
    /// Look at the sample data.
    SampleData,
    /// Put something right in the wizard's examples.
    Fix(super::wizard::data::Fix),
    /// Look at text that was pasted.
    Paste(String),
    /// Ask the desktop for files or a folder.
    Browse(Purpose),
    /// Use a model in the wizard.
    UseModel(String),
    /// Make a version the one in use.
    Activate(u64),
    /// Keep the wizard's settings under a name.
    SavePreset(String, Box<RunConfig>),
    /// Forget a preset.
    DeletePreset(String),
    /// Fill the wizard with these settings.
    UseSettings(Box<RunConfig>),
    /// Read a file with settings, and show how they suit.
    TakeIn(PathBuf),
    /// Keep settings that came in a file.
    Keep(Box<Preset>),
    /// Fill the wizard with a preset.
    UsePreset(String),
    /// Look again at what is on the disk.
    Reload(Shelf),
    /// Write a file.
    Write(PathBuf, Vec<u8>),
    /// Ask the desktop where to write a file with this name.
    SaveAs(String, Vec<u8>),
    /// Keep a part of the window as a picture.
    Picture(PathBuf, Rect),
    /// Put text on the clipboard.
    Copy(String),
    /// Show a folder in the file manager.
    Reveal(PathBuf),
    /// Another look.
    Theme(ThemeChoice),
    /// Another size.
    Scale(f32),
    /// Names beside the icons at the left.
    WideRail(bool),
    /// The whole screen, or a window again.
    FullScreen,
    /// Open or close the palette.
    Palette(bool),
    /// Export something in a form.
    Export(Target, &'static str),
    /// Ask before something is done that cannot be taken back.
    Question(Question),
    /// The answer.
    Answer(bool),
    /// Which rows a run found hardest.
    HardRows(String),
    /// A command in a process beside the window, and what is told when it is done.
    Deed(Vec<String>, String),
    /// Measure, check, or carry out a chain.
    Tool(Tool),
    /// Let a run wait for its turn.
    Enqueue(Box<RunConfig>),
    /// Show an export no more.
    ForgetExport(u64),
    /// Ask what runs beside the window to stop.
    StopErrand(u64),
    /// Look for models at the hub.
    SearchModels(String),
    /// Download a model.
    Download(String),
    /// What the data studio asks for.
    Studio(super::studio::Ask),
    /// Use the rows of the data studio's project in the wizard.
    TrainOnProject,
    /// Start the local server.
    Serve(Target, u16),
    /// Look at what takes room on the disk.
    Survey,
    /// Delete what is not needed any more.
    Free(Kind),
    /// Keep what a run learned, and nothing else of it.
    Archive(String),
    /// Whether the desktop is told of something.
    Notify(&'static str, bool),
    /// Show a notification now.
    TestNotice,
    /// Change settings, of a run that failed or of what is about to start, and try again.
    Apply(Vec<String>, Option<String>),
    /// Go on with a run, with options of the command line.
    ResumeWith(String, Vec<String>),
    /// Show a part of the models' page.
    Open(Shelf),
    /// Show what a code means.
    Explain(String),
    /// Write what helps to find out what went wrong.
    Diagnose,
    /// Close the newest note.
    Dismiss(u64),
    /// Close the window and let a run go on.
    Quit,
    /// Ask live runs to pause, then close the window.
    PauseAndQuit,
    /// Keep the window open.
    StayOpen,
}

/// What files are wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Examples.
    Data,
    /// A folder with a model.
    Model,
    /// A preset.
    Preset,
    /// A folder to export to.
    Export,
    /// A pipeline.
    Pipeline,
    /// A receipt of a run.
    Receipt,
    /// Examples that a model is measured with.
    Scored,
    /// Documents.
    Documents,
    /// A folder of documents.
    DocumentFolder,
    /// Rows of a project.
    Rows,
    /// Rows that are asked afterwards.
    Evaluation,
    /// Something else for the data studio.
    Studio(super::studio::Picks),
    /// A recorded run of another program.
    Reference,
    /// A GGUF file, for this.
    File(Slot),
    /// A folder with a model or an adapter, for this.
    Folder(Slot),
}

/// Where a model that is opened goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// It is talked to.
    Talk,
    /// It answers beside who is talked to.
    Beside,
    /// It is exported.
    Export,
    /// It is served.
    Serve,
    /// Its answers are measured.
    Evaluate,
    /// Its speed is measured.
    Speed,
}

/// Lists that are read on demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shelf {
    /// Models on this computer.
    Models,
    /// Presets.
    Presets,
    /// Versions of one's own models.
    Versions,
    /// Models of the hub.
    Discover,
    /// What takes room on the disk.
    Disk,
}

/// A list of commands that grows while a frame is drawn.
pub type Out = Vec<Command>;
