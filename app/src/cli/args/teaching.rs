//! Arguments of `data helpers`, `data generate`, `data label`, `data persona` and `data reference`.

use super::values;
use clap::Args;
use std::path::PathBuf;

/// Who answers, and where.
#[derive(Clone, Debug, Args)]
pub struct HelperArgs {
    /// Who runs the helper model
    #[arg(long, value_name = "NAME", value_parser = ["ollama", "openrouter", "openai"], default_value = "ollama")]
    pub provider: String,
    /// Where it is, such as http://127.0.0.1:8080/v1 [default: the provider's own place]
    #[arg(long, value_name = "URL", alias = "base_url")]
    pub base_url: Option<String>,
}

/// `data generate`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  peft-studio data generate --chunks chunks.jsonl --out rows.jsonl --helper-model \
                        qwen2:7b --task facts --pairs 3")]
pub struct GenerateArgs {
    /// Chunks of documents, as `data chunk` writes them; without it rows come from `--prompt` alone
    #[arg(long, value_name = "FILE.jsonl")]
    pub chunks: Option<PathBuf>,
    /// File to write
    #[arg(long, value_name = "FILE.jsonl", alias = "output")]
    pub out: PathBuf,
    #[command(flatten)]
    pub helper: HelperArgs,
    /// The model that writes the rows
    #[arg(long, value_name = "MODEL", alias = "helper_model")]
    pub helper_model: String,
    /// What the rows are about
    #[arg(long, value_name = "TASK", default_value = "facts",
          value_parser = ["facts", "how-to", "summary", "dialogue", "classification", "code", "exam"])]
    pub task: String,
    /// Rows for each chunk; without chunks: rows for each question to the helper
    #[arg(long, value_name = "N", value_parser = values::positive, default_value = "3")]
    pub pairs: usize,
    /// Rows in all, without chunks
    #[arg(long, value_name = "N", value_parser = values::positive, default_value = "100")]
    pub rows: usize,
    /// What is wanted, in your own words
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub prompt: String,
    /// Language of the rows [default: that of the document]
    #[arg(long, value_name = "NAME")]
    pub language: Option<String>,
    /// How hard the questions are
    #[arg(long, value_name = "LEVEL", value_parser = ["easy", "medium", "hard"])]
    pub difficulty: Option<String>,
    /// Questions at the same time
    #[arg(long, value_name = "N", value_parser = values::positive, default_value = "2")]
    pub concurrency: usize,
    /// Questions a minute, at most
    #[arg(long, value_name = "N", value_parser = values::positive)]
    pub per_minute: Option<usize>,
    /// Spend at most so much, in USD
    #[arg(long, value_name = "USD", value_parser = values::above_zero)]
    pub budget: Option<f64>,
    /// 0 takes the likeliest words each time
    #[arg(long, value_name = "F", value_parser = values::not_negative, default_value = "0.7")]
    pub temperature: f64,
    /// Another number gives other rows
    #[arg(long, value_name = "N", default_value = "42")]
    pub seed: u64,
    /// Go on where an earlier call stopped; this happens in any case
    #[arg(long, conflicts_with = "restart")]
    pub resume: bool,
    /// Forget what an earlier call made, and begin anew
    #[arg(long)]
    pub restart: bool,
}

/// `data label`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  peft-studio data label questions.jsonl --out labelled.jsonl --teacher ollama:llama3:8b \
                        --skip-existing")]
pub struct LabelArgs {
    /// Rows with `user`, and where they like `system_hint`, `requires_json` and `json_schema`
    #[arg(value_name = "FILE.jsonl")]
    pub file: PathBuf,
    /// File to write
    #[arg(long, value_name = "FILE.jsonl", alias = "output")]
    pub out: PathBuf,
    /// Who answers: PROVIDER:MODEL, where the provider is ollama, openrouter or openai
    #[arg(long, value_name = "PROVIDER:MODEL")]
    pub teacher: String,
    /// Where the provider is [default: its own place]
    #[arg(long, value_name = "URL", alias = "base_url")]
    pub base_url: Option<String>,
    /// Rows at the same time
    #[arg(long, value_name = "N", value_parser = values::positive, default_value = "4", alias = "batch_size")]
    pub batch_size: usize,
    /// Keep the answers that are there, in the file and in what an earlier call wrote
    #[arg(long, alias = "skip_existing")]
    pub skip_existing: bool,
    /// Longest answer, tokens
    #[arg(long, value_name = "N", value_parser = values::positive, default_value = "512", alias = "max_new_tokens")]
    pub max_new_tokens: usize,
    /// How freely words are chosen, with `--do-sample`
    #[arg(long, value_name = "F", value_parser = values::not_negative, default_value = "0.7")]
    pub temperature: f64,
    /// Choose words freely instead of the likeliest each time
    #[arg(long, alias = "do_sample")]
    pub do_sample: bool,
    /// Another number gives other answers
    #[arg(long, value_name = "N", default_value = "42")]
    pub seed: u64,
    /// Taken for compatibility; where a service computes is its own affair
    #[arg(long, value_name = "TEXT", hide = true, alias = "device_map")]
    pub device_map: Option<String>,
}

/// `data persona`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  peft-studio data persona --memories chats --personality me.txt --out me.jsonl \
                        --hide-names")]
pub struct PersonaArgs {
    /// Chats (WhatsApp, Telegram, Discord, ChatGPT, Claude), journals and memories: files or folders
    #[arg(long, value_name = "FILE|DIR", required = true, num_args = 1..)]
    pub memories: Vec<PathBuf>,
    /// A text about the person, which becomes the system prompt of every conversation
    #[arg(long, value_name = "FILE")]
    pub personality: Option<PathBuf>,
    /// File to write
    #[arg(long, value_name = "FILE.jsonl", alias = "output")]
    pub out: PathBuf,
    /// The person's name in the chats [default: whoever writes in most of them]
    #[arg(long, value_name = "NAME")]
    pub me: Option<String>,
    /// Replace other people's names
    #[arg(long)]
    pub hide_names: bool,
    /// Share of the conversations to hold out in a second file, such as 0.1
    #[arg(long, value_name = "SHARE", value_parser = values::held_out_share, alias = "validation_split")]
    pub validation_split: Option<f64>,
    /// Leave out copies of earlier conversations
    #[arg(long)]
    pub deduplicate: bool,
    /// Leave out conversations that are not good for training
    #[arg(long, alias = "quality_filter")]
    pub quality_filter: bool,
    /// Replace keys, card and account numbers, e-mail addresses and telephone numbers by placeholders
    #[arg(long)]
    pub redact: bool,
}
