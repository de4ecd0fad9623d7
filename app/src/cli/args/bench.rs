//! `bench`.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `bench`.
#[derive(Clone, Debug, Subcommand)]
pub enum BenchCommand {
    /// How many tokens a second a model reads and writes
    Generate(BenchGenerateArgs),
    /// How many tokens a second a model is trained on
    Train(BenchTrainArgs),
    /// Write a model of a known shape with random weights, to be measured
    #[command(hide = true)]
    Make(BenchMakeArgs),
}

/// `bench make`.
#[derive(Clone, Debug, Args)]
pub struct BenchMakeArgs {
    /// The shape
    #[arg(long, value_name = "NAME", value_parser = crate::jobs::bench_make::SHAPES)]
    pub shape: String,
    /// So many layers instead of its own
    #[arg(long, value_name = "N")]
    pub layers: Option<u32>,
    /// The new folder
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// `bench train`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  peft-studio bench train --model starter --sequence-length 256 --batch 2\n  \
                        peft-studio bench train --model ./model --method qlora --precision bf16 --json")]
pub struct BenchTrainArgs {
    /// The model: a folder, or `starter` for the built-in model
    #[arg(long, value_name = "MODEL")]
    pub model: String,
    /// How it is trained
    #[arg(long, value_name = "METHOD", default_value = "lora", value_parser = ["lora", "qlora", "dora", "qdora", "full"])]
    pub method: String,
    /// Numbers to compute with
    #[arg(long, value_name = "TYPE", default_value = "auto", value_parser = ["auto", "f32", "bf16"])]
    pub precision: String,
    /// Rank of the adapters
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub rank: usize,
    /// Tokens of a sequence
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub sequence_length: usize,
    /// Sequences of a step
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub batch: usize,
    /// Steps that are measured
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub steps: usize,
    /// Steps before them that do not count
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub warmup: usize,
    /// Compute activations again in the backward pass instead of keeping them
    #[arg(long)]
    pub activation_checkpointing: bool,
    /// With --activation-checkpointing: so many layers are kept even so
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub kept_layers: usize,
    /// On a graphics card: the inputs of so many layers wait in the computer's memory
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub offloaded_layers: usize,
    /// On a graphics card: the 4-bit weights of so many layers are held decoded as well
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub decoded_layers: usize,
    /// On a graphics card: 4-bit weights are decoded while the product before theirs runs
    #[arg(long)]
    pub decode_ahead: bool,
    /// Let the memory that is free decide which layers are computed twice: the fastest that fits
    #[arg(long, conflicts_with_all = ["activation_checkpointing", "kept_layers", "offloaded_layers", "decoded_layers", "decode_ahead"])]
    pub fit: bool,
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
    /// Numbers to compute with; `int8` is fastest, `f32` exact, and `auto` rounds where the weights were rounded more
    #[arg(long, value_name = "TYPE", default_value = "auto", value_parser = ["auto", "f32", "bf16", "int8"])]
    pub precision: String,
    /// How keys and values of the conversation are kept: `int8` takes about a quarter of the memory and rounds them
    #[arg(long, value_name = "TYPE", default_value = "f32", value_parser = super::model::KV_CACHES)]
    pub kv_cache: String,
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
