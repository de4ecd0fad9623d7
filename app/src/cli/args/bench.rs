//! `bench`.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `bench`.
#[derive(Clone, Debug, Subcommand)]
pub enum BenchCommand {
    /// How many tokens a second a model reads and writes
    Generate(BenchGenerateArgs),
}

/// `bench generate`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  peft-studio bench generate --model starter --quant q4_k_m\n  \
                        peft-studio bench generate --model model.gguf --csv history.csv --regression 0.9")]
pub struct BenchGenerateArgs {
    /// The model: a folder, a GGUF file, or `starter` for the built-in model
    #[arg(long, value_name = "MODEL")]
    pub model: String,
    /// Folder of the adapter
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// Type of the weights while it is measured: nf4, or a type of GGUF files [default: as they are stored]
    #[arg(long, value_name = "TYPE")]
    pub quant: Option<String>,
    /// Tokens that are read [default: 512, fewer where the model has no room for that]
    #[arg(long, value_name = "N")]
    pub prompt_tokens: Option<usize>,
    /// Tokens that are written
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub generate: usize,
    /// How often it is measured, after once that does not count
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub repeats: usize,
    /// Add a line to this file
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Fail below so many tokens written a second
    #[arg(long, value_name = "N")]
    pub min_tokens_per_second: Option<f64>,
    /// Fail below this part of the median of the last ten measurements of the same in the file
    #[arg(long, value_name = "PART", requires = "csv")]
    pub regression: Option<f64>,
}
