//! The command line: parse, run one command, say how it ended.
//!
//! Results go to stdout, everything else to stderr. A command returns its exit code, or a fault that
//! is shown here, once.

pub mod args;
mod bench;
pub mod chat;
pub mod context;
pub mod error;
pub mod evaluate;
mod evaluate_preference;
pub mod export;
mod export_hub;
pub mod interrupt;
pub mod memory;
pub mod output;
pub mod progress;
pub mod quantity;
pub mod quickstart;
pub mod selftest;
pub mod starter;
pub mod train;
pub mod verify;

mod attach;
mod completions;
pub(crate) mod config;
pub(crate) mod data;
mod data_chunk;
mod data_documents;
mod data_embed;
mod data_quality;
mod data_search;
mod disk;
mod errors;
mod hardware;
mod models;
mod notifications;
mod panic;
mod persona;
mod pipeline;
mod plan;
mod presets;
mod profiles;
mod queue;
mod review;
mod run_compare;
pub(crate) mod run_log;
mod run_rows;
mod runs;
mod serve;
mod table;
pub(crate) mod teaching;
mod versions;
mod welcome;

pub(crate) mod transfer;

use args::{Cli, Command};
use context::Context;
use peft_plan::Fault;
use std::process::ExitCode;

/// Exit code of a bug.
const PANICKED: u8 = 1;

/// The whole program.
pub fn main() -> ExitCode {
    panic::install();
    let Cli { global, command } = args::parse();
    let json = global.json;
    let run = move || {
        let code = match &command {
            None => welcome::run(&Context::new(&global)?)?,
            Some(command) => dispatch(&Context::new(&global)?, command)?,
        };
        output::check().map(|()| code)
    };
    let ended = std::panic::catch_unwind(run);
    peft_models::engine::Engine::close_cards();
    let code = match ended {
        Ok(Ok(code)) => code,
        Ok(Err(fault)) => error::report(&fault, json),
        Err(_) => PANICKED,
    };
    ExitCode::from(code)
}

fn dispatch(context: &Context, command: &Command) -> Result<u8, Fault> {
    match command {
        Command::Quickstart(args) => quickstart::run(context, args),
        Command::Hardware(args) => hardware::run(context, args),
        Command::Profiles(args) => profiles::run(context, args),
        Command::Plan(args) => plan::run(context, args),
        Command::Selftest => selftest::run(context),
        Command::Verify(args) => verify::run(context, args),
        Command::Models(args) => models::run(context, args),
        Command::Data(args) => data::run(context, args),
        Command::Train(args) => train::run(context, args),
        Command::Pause(args) => runs::pause(context, args),
        Command::Resume(args) => train::resume_run(context, args),
        Command::Stop(args) => runs::stop(context, args),
        Command::Runs(args) => runs::run(context, args),
        Command::Versions(args) => versions::run(context, args),
        Command::Notifications(args) => notifications::run(context, args),
        Command::Presets(args) => presets::run(context, args),
        Command::Config(args) => config::run(context, args),
        Command::Evaluate(args) => evaluate::run(context, args),
        Command::Chat(args) => chat::run(context, args),
        Command::Serve(args) => serve::run(context, args),
        Command::Bench(command) => bench::run(context, command),
        Command::Export(args) => export::run(context, args),
        Command::Pipeline(args) => pipeline::run(context, args),
        Command::Disk(args) => disk::run(context, args),
        Command::Errors(args) => errors::run(context, args),
        Command::Completions { shell } => {
            completions::run(*shell);
            Ok(0)
        }
        Command::Starter(args) => starter::run(context, args),
        Command::CardTrial { card, risk } => {
            output::line(&crate::jobs::trials::serve(*card, *risk));
            Ok(0)
        }
    }
}
