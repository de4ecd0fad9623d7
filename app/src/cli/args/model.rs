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
/// The same where answers are all that is computed.
const ANSWER_PRECISIONS: [&str; 4] = ["auto", "f32", "bf16", "int8"];

/// How keys and values of an answer can be kept.
pub(super) const KV_CACHES: [&str; 2] = ["f32", "int8"];

/// `evaluate`.
#[derive(Clone, Debug, Args)]
#[command(
    group = ArgGroup::new("evaluated").args(["model", "run"]).required(true),
    after_help = "Examples:\n  peft-studio evaluate --model starter --adapter out/adapter --data held-out.jsonl\n  \
                  peft-studio evaluate --run support-bot --data held-out.jsonl --generate --per-row rows.jsonl"
)]
pub struct EvaluateArgs {
    /// The model: a folder, or `starter` for the built-in model
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Folder of an adapter to put on the model
    #[arg(long, value_name = "DIR", conflicts_with = "run")]
    pub adapter: Option<PathBuf>,
    /// Id or name of a run: its model with what it learned
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    /// File or folder with examples, or a dataset of the hub as hub:OWNER/NAME; repeat it for several
    #[arg(long, value_name = "FILE", alias = "dataset", required = true)]
    pub data: Vec<PathBuf>,
    /// Layout of conversations: auto (that of the model), the name of a built-in one, or a file
    #[arg(long, value_name = "LAYOUT")]
    pub chat_template: Option<String>,
    /// Cut examples to so many tokens [default: the context of the model]
    #[arg(long, value_name = "N", value_parser = values::positive)]
    pub max_sequence_length: Option<usize>,
    /// Also let the model answer, and compare its answers with those of the examples
    #[arg(long)]
    pub generate: bool,
    /// The labels that examples are answered with [default: found in the examples, where their answers are labels]
    #[arg(long, value_name = "LABELS", value_delimiter = ',')]
    pub labels: Vec<String>,
    /// JSON schema that answers must fit
    #[arg(long, value_name = "FILE.json")]
    pub schema: Option<PathBuf>,
    /// Write the numbers and answers of every example to this file
    #[arg(long, value_name = "FILE.jsonl")]
    pub per_row: Option<PathBuf>,
    /// Examples to answer and to weigh labels for, spread evenly; the loss is over all of them
    #[arg(long, value_name = "N", default_value = "200", value_parser = values::positive)]
    pub max_rows: usize,
    /// Longest answer, in tokens
    #[arg(long, value_name = "N", default_value = "128", value_parser = values::positive)]
    pub max_new_tokens: usize,
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
    /// Id or name of a run: its model with what it learned; a run that is training answers itself
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    /// Talk to what the run had learned at a step: its number, best or last
    #[arg(long, value_name = "N|best|last", requires = "run", conflicts_with = "model")]
    pub checkpoint: Option<String>,
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
    /// Choose only among so many of the likeliest words; 0: all
    #[arg(long, value_name = "N", default_value = "0", value_parser = values::count)]
    pub top_k: usize,
    /// Choose only among the likeliest words that together have this probability
    #[arg(long, value_name = "SHARE", default_value = "1", value_parser = values::probability)]
    pub top_p: f64,
    /// Choose only among words at least this likely relative to the likeliest
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = values::share)]
    pub min_p: f64,
    /// Make words less likely that were read or written before; 1 changes nothing
    #[arg(long, value_name = "NUMBER", default_value = "1", value_parser = values::above_zero)]
    pub repetition_penalty: f64,
    /// Make words less likely that were written before
    #[arg(long, value_name = "NUMBER", default_value = "0", allow_hyphen_values = true, value_parser = values::finite)]
    pub presence_penalty: f64,
    /// Make words less likely each time they are written
    #[arg(long, value_name = "NUMBER", default_value = "0", allow_hyphen_values = true, value_parser = values::finite)]
    pub frequency_penalty: f64,
    /// End an answer at this text; repeat it for several
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub stop: Vec<String>,
    /// Answer in JSON that obeys a schema: a file, the schema itself, or `json` for any
    #[arg(long, value_name = "FILE|JSON", allow_hyphen_values = true)]
    pub json_schema: Option<String>,
    /// Do not keep the conversation
    #[arg(long)]
    pub no_save: bool,
    /// Number that decides chance: the same seed gives the same answer
    #[arg(long, value_name = "N", default_value = "0")]
    pub seed: u64,
    /// Numbers to compute with; `int8` is fastest, `f32` exact, and `auto` rounds where the weights were rounded more
    #[arg(long, value_name = "TYPE", default_value = "auto", value_parser = ANSWER_PRECISIONS)]
    pub precision: String,
    /// How keys and values of the conversation are kept: `int8` takes about a quarter of the memory and rounds them
    #[arg(long, value_name = "TYPE", default_value = "f32", value_parser = KV_CACHES)]
    pub kv_cache: String,
}

/// `serve`.
#[derive(Clone, Debug, Args)]
#[command(
    group = ArgGroup::new("served").args(["model", "run"]).required(true),
    after_help = "Examples:\n  peft-studio serve --run support-bot\n  \
                  peft-studio serve --model starter --port 9000\n\n\
                  Then, for example: curl http://127.0.0.1:8080/v1/models"
)]
pub struct ServeArgs {
    /// The model: a folder, a Hugging Face id, or `starter` for the built-in model
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Folder of an adapter to put on the model
    #[arg(long, value_name = "DIR", conflicts_with = "run")]
    pub adapter: Option<PathBuf>,
    /// Id or name of a run: its model with what it learned
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    /// Address to listen at; another one than 127.0.0.1 opens it to other machines and needs a key
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1", value_parser = values::address)]
    pub host: std::net::IpAddr,
    /// Port to listen at; 0: any that is free
    #[arg(long, value_name = "N", default_value = "8080")]
    pub port: u16,
    /// Answer only requests with this key [default: `PEFT_STUDIO_API_KEY`, where it is set]
    #[arg(long, value_name = "KEY")]
    pub api_key: Option<String>,
    /// How keys and values of the conversation are kept: `int8` takes about a quarter of the memory and rounds them
    #[arg(long, value_name = "TYPE", default_value = "f32", value_parser = KV_CACHES)]
    pub kv_cache: String,
}

/// `export`.
#[derive(Clone, Debug, Args)]
#[command(
    group = ArgGroup::new("exported").args(["run", "model"]).required(true),
    after_help = "Examples:\n  peft-studio export support-bot --to peft --out ./adapter\n  \
                  peft-studio export --model starter --adapter ./adapter --to merged --dtype f16 --out ./model\n  \
                  peft-studio export support-bot --to gguf --quant q8_0,q4_k_m --out ./gguf\n  \
                  peft-studio export support-bot --to ollama --out ./ollama\n  \
                  peft-studio export support-bot --to hub --repo me/support-bot --out ./hub\n  \
                  peft-studio export support-bot --to raspberry-pi --out ./pi"
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
    /// What to write: peft (the adapter), merged (a complete model), gguf (a file for llama.cpp and all that is built
    /// on it), gguf-lora (the adapter for llama.cpp), ollama (GGUF and Modelfile, and the model in a running Ollama),
    /// lmstudio (GGUF where LM Studio looks), hub (a folder for Hugging Face, and its upload), tensorrt-llm (a checkpoint
    /// with a script that builds its engine), raspberry-pi (GGUF with scripts for the board)
    #[arg(
        long,
        value_name = "FORMAT",
        value_parser = [
            "peft", "merged", "gguf", "gguf-lora", "ollama", "lmstudio", "hub", "tensorrt-llm", "raspberry-pi"
        ]
    )]
    pub to: String,
    /// Types of GGUF files, such as `q8_0,q4_k_m`
    #[arg(
        long,
        value_name = "TYPE",
        value_delimiter = ',',
        alias = "types",
        default_value = "q8_0",
        default_value_if("to", "raspberry-pi", "q4_0")
    )]
    pub quant: Vec<String>,
    /// Weigh the columns of quantised matrices by what they are multiplied with: a file of rows, `training` for those of
    /// the run, or an importance matrix of llama.cpp (.gguf)
    #[arg(long, value_name = "FILE")]
    pub imatrix: Option<String>,
    /// Type of the numbers in a merged model [default: that of the base model]
    #[arg(long, value_name = "TYPE", value_parser = ["bf16", "f16", "f32"])]
    pub dtype: Option<String>,
    /// Folder to write to; LM Studio has one of its own
    #[arg(
        long,
        value_name = "DIR",
        alias = "output",
        required_if_eq_any = [
            ("to", "peft"), ("to", "merged"), ("to", "gguf"), ("to", "gguf-lora"), ("to", "ollama"), ("to", "hub"),
            ("to", "tensorrt-llm"), ("to", "raspberry-pi")
        ]
    )]
    pub out: Option<PathBuf>,
    /// Name of the exported model [default: from base and run]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Show a question and what the exported file answers
    #[arg(long)]
    pub test: bool,
    /// Largest size of one file of a merged model, such as 2GB
    #[arg(long, value_name = "SIZE", value_parser = values::bytes)]
    pub max_shard_size: Option<u64>,
    /// Whether a running Ollama is told of the model: auto (where there is one), always, never
    #[arg(long, value_name = "WHEN", value_parser = ["auto", "always", "never"], default_value = "auto")]
    pub register: String,
    /// Upload the folder of `--to hub` to this repository; needs a token that may write (`HF_TOKEN`)
    #[arg(long, value_name = "OWNER/NAME")]
    pub repo: Option<String>,
    /// Let everybody read the repository [default: only you]
    #[arg(long, requires = "repo")]
    pub public: bool,
    /// What the folder of `--to hub` holds [default: peft where there is an adapter, else merged]
    #[arg(long, value_name = "FORM", value_parser = ["peft", "merged", "gguf"])]
    pub form: Option<String>,
}
