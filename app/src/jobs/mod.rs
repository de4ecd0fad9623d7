//! One way from a configuration to a run to its events, whoever asks for it.

pub mod answer;
pub mod compare;
pub mod conversation;
pub mod disposal;
pub mod download;
pub mod evaluate;
pub mod fit;
pub mod kept;
pub mod library;
pub mod live;
pub mod model;
pub mod presets;
pub mod receipt;
pub mod run;
pub mod samples;
pub mod serve;
pub mod setup;
pub mod sources;

pub use model::open_model;
pub use run::{ResumeChanges, RunEnd, RunRequest, resume, start};
pub use setup::{Setup, prepare};
