//! The hub and this program, over real sockets: a hub on this machine that misbehaves (G6).

#[path = "remote/commands.rs"]
mod commands;
#[path = "remote/faults.rs"]
mod faults;
#[path = "remote/ollama.rs"]
mod ollama;
#[path = "remote/refusals.rs"]
mod refusals;
#[path = "remote/trial.rs"]
mod trial;
#[path = "remote/upload.rs"]
mod upload;
