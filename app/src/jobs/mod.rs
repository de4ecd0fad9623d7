//! One way from a configuration to a run to its events, whoever asks for it.

pub mod answer;
pub mod compare;
pub mod disposal;
pub mod facts;
pub mod hardware;
pub mod hardware_watch;
pub mod memory;
pub mod model;
pub mod monitor;
pub mod plan;
pub mod presets;
pub mod receipt;
pub mod run;
pub mod setup;

pub use model::open_model;
pub use run::{RunRequest, resume, start};
pub use setup::{Setup, prepare};
