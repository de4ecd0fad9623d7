//! Arguments of `starter`, which makes the built-in model; hidden, because nobody needs it to train.

use super::values;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `starter`.
#[derive(Clone, Debug, Subcommand)]
pub enum StarterCommand {
    /// Train the starter model from random weights
    Build(StarterBuildArgs),
    /// Write the text that the starter model learns from
    Corpus(StarterCorpusArgs),
    /// Ask a model the fixed questions and count right answers
    Score(StarterScoreArgs),
}

/// `starter build`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  peft-studio starter build --out starter --seed 1 --minutes 30")]
pub struct StarterBuildArgs {
    /// Folder for the model
    #[arg(long, value_name = "DIR", alias = "output")]
    pub out: PathBuf,
    /// Number that decides chance
    #[arg(long, value_name = "N", default_value = "1")]
    pub seed: u64,
    /// How long to train at most
    #[arg(long, value_name = "NUMBER", value_parser = values::above_zero)]
    pub minutes: Option<f64>,
}

/// `starter corpus`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  peft-studio starter corpus --out corpus.jsonl")]
pub struct StarterCorpusArgs {
    /// File to write
    #[arg(long, value_name = "FILE", alias = "output")]
    pub out: PathBuf,
}

/// `starter score`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  peft-studio starter score --model starter --adapter out/adapter")]
pub struct StarterScoreArgs {
    /// The model: a folder, or `starter` for the built-in model
    #[arg(long, value_name = "MODEL")]
    pub model: String,
    /// Folder of an adapter to put on the model
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
}
