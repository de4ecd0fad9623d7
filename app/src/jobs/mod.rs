//! One way from a configuration to a run to its events, whoever asks for it.

pub mod answer;
pub mod background;
pub mod compare;
pub mod conversation;
pub mod desktop;
pub mod disposal;
pub mod download;
pub mod evaluate;
pub mod facts;
pub mod fit;
pub mod hardware;
pub mod hardware_watch;
pub mod kept;
pub mod library;
pub mod live;
pub mod memory;
pub mod model;
pub mod monitor;
pub mod notices;
pub mod plan;
pub mod presets;
pub mod queue;
pub mod receipt;
pub mod run;
pub mod samples;
pub mod serve;
pub mod setup;
pub mod sources;
pub mod standing;
pub mod tail;

pub use model::open_model;
pub use run::{ResumeChanges, RunEnd, RunRequest, resume, start};
pub use setup::{Setup, prepare};
