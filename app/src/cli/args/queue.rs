//! Arguments of the commands about runs that wait, and of following a run.

use super::training::TrainArgs;
use super::values;
use clap::{Args, Subcommand};
use std::str::FromStr;

/// `runs queue`.
#[derive(Clone, Debug, Subcommand)]
pub enum QueueCommand {
    /// Put a run behind those that wait: a new one, or one that halted
    Add(Box<QueueAddArgs>),
    /// List the runs that wait, the next one first
    #[command(after_help = "Example:\n  peft-studio runs queue list")]
    List,
    /// Take a run out that waits; its settings are kept
    #[command(after_help = "Example:\n  peft-studio runs queue remove support-bot")]
    Remove {
        /// Id or name of the run
        run: String,
    },
    /// Move a run that waits to another place
    #[command(after_help = "Example:\n  peft-studio runs queue move support-bot 1")]
    Move {
        /// Id or name of the run
        run: String,
        /// The place, counted from 1, the next
        #[arg(value_parser = values::positive)]
        place: usize,
    },
    /// Train the runs that wait one after the other, in a process of its own; also after a restart of the computer
    #[command(after_help = "Example:\n  peft-studio runs queue start")]
    Start {
        /// Stay here until the queue is empty; Ctrl-C leaves the run that is going on alone
        #[arg(long)]
        foreground: bool,
    },
    /// Begin no further run after the one that is going on
    #[command(after_help = "Example:\n  peft-studio runs queue stop --pause")]
    Stop {
        /// Also pause the run that is going on
        #[arg(long)]
        pause: bool,
    },
}

/// `runs queue add`.
#[derive(Clone, Debug, Args)]
#[command(
    override_usage = "peft-studio runs queue add [OPTIONS] [RUN.json|RUN]",
    after_help = "Examples:\n  peft-studio runs queue add --model starter --data examples.jsonl --name second --start\n  \
                  peft-studio runs queue add run.json\n  peft-studio runs queue add support-bot\n\n\
                  Options are those of `train`. Instead of a run file, the id or name of a run that halted can be given."
)]
pub struct QueueAddArgs {
    /// Options of the run.
    #[command(flatten)]
    pub train: TrainArgs,
    /// Also start to work on the queue
    #[arg(long)]
    pub start: bool,
}

/// `runs attach`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  peft-studio runs attach support-bot\n  \
                        peft-studio runs attach support-bot --from now --json")]
pub struct AttachArgs {
    /// Id or name of the run
    pub run: String,
    /// Where to begin: start, now, or a step
    #[arg(long, value_name = "WHERE", default_value = "start")]
    pub from: AttachFrom,
}

/// Where following a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachFrom {
    /// With its first event.
    Start,
    /// With what is told from now on.
    Now,
    /// With this step.
    Step(u64),
}

impl FromStr for AttachFrom {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "start" => Ok(Self::Start),
            "now" => Ok(Self::Now),
            step => step.parse().map(Self::Step).map_err(|_| "start, now or a step was expected".to_owned()),
        }
    }
}
