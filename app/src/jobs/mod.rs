//! One way from a configuration to a run to its events, whoever asks for it.

pub mod answer;
pub mod compare;
pub mod disposal;
pub mod download;
pub mod fit;
pub mod library;
pub mod model;
pub mod presets;
pub mod run;
pub mod setup;

pub use model::open_model;
pub use run::{RunRequest, resume, start};
pub use setup::{Setup, prepare};
