//! Runs, metrics and checkpoints in `SQLite`, shared by every process of the program.
//!
//! The window, a training process and the command line open the same file at the same time.
//! A [`Store`] is one connection: open one per thread. What is large lives beside the database
//! (see [`DataDir`]); a row is written only after the files it names are whole on the disk.

mod checkpoints;
mod commands;
mod conversations;
mod curve;
mod documents;
mod embeddings;
mod error;
mod events;
mod metrics;
mod migrate;
mod paths;
mod presets;
mod queue;
mod run_id;
mod run_list;
mod run_lock;
mod runs;
mod settings;
mod store;
mod teaching;
mod versions;

pub use checkpoints::Checkpoint;
pub use commands::{Command, CommandKind};
pub use conversations::{Choice, Conversation, Message, NewConversation, NewMessage, Side};
pub use documents::{NewChunk, NewDocument, Project, Replaced, StoredChunk, StoredDocument};
pub use embeddings::Unembedded;
pub use events::Event;
pub use metrics::{Evaluation, StepMetrics};
pub use paths::DataDir;
pub use presets::StoredPreset;
pub use queue::Waiting;
pub use run_id::RunId;
pub use run_list::{RunFilter, RunSort};
pub use run_lock::RunLock;
pub use runs::{NewRun, Outcome, Run, Start, Status};
pub use store::Store;
pub use teaching::{NewCall, RowState, TeachingJob, TeachingRow, UnitState};
pub use versions::Version;
