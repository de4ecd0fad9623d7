//! The pages. Each draws plain data and says what was asked for.

pub mod compare;
pub mod help;
pub mod home;
pub mod models;
pub mod playground;
pub mod presets;
pub mod run;
pub mod runs;
pub mod settings;
