//! One way from a configuration to a run to its events, whoever asks for it.

pub mod answer;
pub mod background;
pub mod compare;
pub mod conversation;
pub mod desktop;
pub mod disposal;
pub mod kept;
pub mod live;
pub mod model;
pub mod notices;
pub mod presets;
pub mod queue;
pub mod receipt;
pub mod run;
pub mod samples;
pub mod setup;
pub mod standing;

pub use model::open_model;
pub use run::{RunRequest, resume, start};
pub use setup::{Setup, prepare};
