//! What people give by mistake or out of malice, through the real program: the right code and exit code, something
//! to do about it, and no traces of a run that never was (S4.10).

#[path = "bad_input/data.rs"]
mod data;
#[path = "bad_input/models.rs"]
mod models;
#[path = "bad_input/settings.rs"]
mod settings;
#[path = "bad_input/trial.rs"]
mod trial;
