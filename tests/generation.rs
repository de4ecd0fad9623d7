//! Answers: how tokens are chosen, that neighbours and the cache change nothing, schemas, checkpoints and live runs.

#![allow(clippy::print_stderr, reason = "measurements say what they measured")]

#[path = "generation/chat.rs"]
mod chat;
#[path = "generation/live.rs"]
mod live;
#[path = "generation/samples.rs"]
mod samples;
#[path = "generation/sampling.rs"]
mod sampling;
#[path = "generation/schemas.rs"]
mod schemas;
#[path = "generation/sessions.rs"]
mod sessions;
#[path = "generation/starter.rs"]
mod starter;
#[path = "training/tiny.rs"]
#[allow(dead_code, reason = "the tests of training use the rest")]
mod tiny;
