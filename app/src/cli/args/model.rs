//! Arguments of the commands that use a model: measure it, talk to it, write it.

use super::values;
use clap::{ArgGroup, Args};
use std::path::PathBuf;

/// `verify`.
#[derive(Clone, Debug, Args)]
#[command(
    group = ArgGroup::new("verified").args(["reference", "receipt"]).required(true),
    after_help = "Examples:\n  peft-studio verify --model ./model --reference reference.safetensors\n  \
                  peft-studio verify --receipt out/receipt.json --steps 20"
)]
pub struct VerifyArgs {
    /// Folder of the model that the reference was made with, or where the model of a receipt is now
    #[arg(long, value_name = "DIR", required_unless_present = "receipt")]
    pub model: Option<String>,
    /// A recorded run of another program; its options are read from the .json file beside it
    #[arg(long, value_name = "FILE")]
    pub reference: Option<PathBuf>,
    /// The receipt of a run of this program: check its hashes and compute its first steps again
    #[arg(long, value_name = "FILE")]
    pub receipt: Option<PathBuf>,
    /// Steps of a receipt to compute again [default: 10]
    #[arg(long, value_name = "N", requires = "receipt")]
    pub steps: Option<u64>,
    /// Where the data of a receipt is now; repeat it for several
    #[arg(long, value_name = "FILE", requires = "receipt")]
    pub data: Vec<PathBuf>,
}

/// Numbers that a model can be asked to compute with.
const PRECISIONS: [&str; 3] = ["auto", "f32", "bf16"];

/// `evaluate`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  peft-studio evaluate --model starter --adapter out/adapter --data held-out.jsonl")]
pub struct EvaluateArgs {
    /// The model: a folder, or `starter` for the built-in model
    #[arg(long, value_name = "MODEL")]
    pub model: String,
    /// Folder of an adapter to put on the model
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// File with examples; repeat it for several
    #[arg(long, value_name = "FILE", alias = "dataset", required = true)]
    pub data: Vec<PathBuf>,
    /// Layout of conversations: auto (that of the model), the name of a built-in one, or a file
    #[arg(long, value_name = "LAYOUT")]
    pub chat_template: Option<String>,
    /// Cut examples to so many tokens [default: the context of the model]
    #[arg(long, value_name = "N", value_parser = values::positive)]
    pub max_sequence_length: Option<usize>,
    /// Numbers to compute with
    #[arg(long, value_name = "TYPE", default_value = "auto", value_parser = PRECISIONS)]
    pub precision: String,
}

/// `chat`.
#[derive(Clone, Debug, Args)]
#[command(
    group = ArgGroup::new("answerer").args(["model", "run"]).required(true),
    group = ArgGroup::new("tuned").args(["adapter", "run"]),
    after_help = "Examples:\n  peft-studio chat --model starter\n  \
                  peft-studio chat --run support-bot --compare --prompt \"Where is my order?\""
)]
pub struct ChatArgs {
    /// The model: a folder, or `starter` for the built-in model
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Folder of an adapter to put on the model
    #[arg(long, value_name = "DIR", conflicts_with = "run")]
    pub adapter: Option<PathBuf>,
    /// Id or name of a run: its model with what it learned
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    /// Also show how the model answers without the adapter
    #[arg(long, requires = "tuned")]
    pub compare: bool,
    /// Standing instructions given before the talk starts
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Answer this one question and end
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub prompt: Option<String>,
    /// Longest answer, in tokens
    #[arg(long, value_name = "N", default_value = "256", value_parser = values::positive)]
    pub max_new_tokens: usize,
    /// How adventurous answers are; 0 always takes the likeliest word
    #[arg(long, value_name = "NUMBER", default_value = "0", value_parser = values::not_negative)]
    pub temperature: f64,
    /// Choose only among the likeliest words that together have this probability
    #[arg(long, value_name = "SHARE", default_value = "1", value_parser = values::probability)]
    pub top_p: f64,
    /// Number that decides chance: the same seed gives the same answer
    #[arg(long, value_name = "N", default_value = "0")]
    pub seed: u64,
    /// Numbers to compute with
    #[arg(long, value_name = "TYPE", default_value = "auto", value_parser = PRECISIONS)]
    pub precision: String,
}

/// `export`.
#[derive(Clone, Debug, Args)]
#[command(
    group = ArgGroup::new("exported").args(["run", "model"]).required(true),
    after_help = "Examples:\n  peft-studio export support-bot --to peft --out ./adapter\n  \
                  peft-studio export --model starter --adapter ./adapter --to merged --dtype f16 --out ./model"
)]
pub struct ExportArgs {
    /// Id or name of a run
    pub run: Option<String>,
    /// The model: a folder, or `starter` for the built-in model
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Folder of the adapter
    #[arg(long, value_name = "DIR", conflicts_with = "run")]
    pub adapter: Option<PathBuf>,
    /// What to write: peft (the adapter) or merged (a complete model)
    #[arg(long, value_name = "FORMAT", value_parser = ["peft", "merged"])]
    pub to: String,
    /// Type of the numbers in a merged model [default: that of the base model]
    #[arg(long, value_name = "TYPE", value_parser = ["bf16", "f16", "f32"])]
    pub dtype: Option<String>,
    /// Folder to write to
    #[arg(long, value_name = "DIR", alias = "output")]
    pub out: PathBuf,
    /// Largest size of one file of a merged model, such as 2GB
    #[arg(long, value_name = "SIZE", value_parser = values::bytes)]
    pub max_shard_size: Option<u64>,
}
