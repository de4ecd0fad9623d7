//! What a view can ask for. Views only send; `logic` acts, once a frame.

use super::playground::Target;
use super::route::Route;
use super::theme::ThemeChoice;
use peft_plan::RunConfig;
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
    /// Fill the wizard with a preset.
    UsePreset(String),
    /// Look again at what is on the disk.
    Reload(Shelf),
    /// Write a file.
    Write(PathBuf, Vec<u8>),
    /// Put text on the clipboard.
    Copy(String),
    /// Show a folder in the file manager.
    Reveal(PathBuf),
    /// Another look.
    Theme(ThemeChoice),
    /// Another size.
    Scale(f32),
    /// Open or close the palette.
    Palette(bool),
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
}

/// A list of commands that grows while a frame is drawn.
pub type Out = Vec<Command>;
