//! Arguments of `data helpers`, `data generate`, `data review`, `data label`, `data persona` and `data reference`.

use super::values;
use clap::{ArgGroup, Args};
use std::path::PathBuf;

/// Who answers, and where.
#[derive(Clone, Debug, Args)]
pub struct HelperArgs {
    /// Who runs the helper model; local is this program
    #[arg(long, value_name = "NAME", value_parser = ["ollama", "openrouter", "openai", "local"], default_value = "ollama")]
    pub provider: String,
    /// Where it is, such as `http://127.0.0.1:8080/v1` [default: the provider's own place]
    #[arg(long, value_name = "URL")]
    pub base_url: Option<String>,
}

/// `data generate`.
#[derive(Clone, Debug, Args)]
#[command(group = ArgGroup::new("documents").args(["chunks", "project"]))]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[command(after_help = "Example:\n  peft-studio data generate --chunks chunks.jsonl --out rows.jsonl --helper-model \
                        qwen2:7b --task facts --pairs 3")]
pub struct GenerateArgs {
    /// Chunks of documents, as `data chunk` writes them; without it rows come from `--prompt` alone
    #[arg(long, value_name = "FILE.jsonl")]
    pub chunks: Option<PathBuf>,
    /// The chunks of this project; without --out the rows become the project's, and those it had are kept as a version
    #[arg(long, value_name = "NAME", conflicts_with = "chunks")]
    pub project: Option<String>,
    /// File to write
    #[arg(long, value_name = "FILE.jsonl", alias = "output", required_unless_present = "project")]
    pub out: Option<PathBuf>,
    /// Who answers.
    #[command(flatten)]
    pub helper: HelperArgs,
    /// The model that writes the rows
    #[arg(long, value_name = "MODEL")]
    pub helper_model: String,
    /// Add to the rows that the project has, instead of taking their place
    #[arg(long, requires = "project", conflicts_with = "out")]
    pub add: bool,
    /// Make rows of `--prompt` alone, although the project has documents
    #[arg(long, requires = "project")]
    pub no_documents: bool,
    /// What the rows are about
    #[arg(long, value_name = "TASK", default_value = "facts",
          value_parser = ["facts", "how-to", "summary", "dialogue", "classification", "code", "exam"])]
    pub task: String,
    /// Make rows only of the chunks behind badly answered questions, and of none of the questions themselves: what
    /// `evaluate --generate --per-row FILE` wrote, or any questions with their answers
    #[arg(long, value_name = "FILE.jsonl", requires = "documents", conflicts_with = "no_documents")]
    pub ask_again: Option<PathBuf>,
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

/// `data review`.
#[derive(Clone, Debug, Args)]
#[command(group = ArgGroup::new("words").multiple(true))]
#[command(after_help = "Example:\n  peft-studio data review rows.jsonl --accept 1,2 --reject 3\n\nWithout a decision \
                        it shows the rows; at a terminal it asks for each, also while they are being made.")]
pub struct ReviewArgs {
    /// The file that `data generate` writes, or the number of the job [default: the newest]
    #[arg(value_name = "FILE|JOB")]
    pub job: Option<String>,
    /// List what was generated so far, instead of rows
    #[arg(long, conflicts_with_all = ["job", "accept", "reject", "edit"])]
    pub list: bool,
    /// Show what the helper wrote, word for word, the newest first
    #[arg(long, conflicts_with_all = ["state", "accept", "reject", "edit"])]
    pub raw: bool,
    /// Only rows in this state: taken (waiting), approved, refused (by the checks), rejected (by you)
    #[arg(long, value_name = "STATE", value_parser = ["taken", "approved", "refused", "rejected"])]
    pub state: Option<String>,
    /// Numbers of rows that are good
    #[arg(long, value_name = "ROW", value_delimiter = ',')]
    pub accept: Vec<i64>,
    /// Numbers of rows that are not wanted
    #[arg(long, value_name = "ROW", value_delimiter = ',')]
    pub reject: Vec<i64>,
    /// Number of a row that is good with another question or answer
    #[arg(long, value_name = "ROW", requires = "words")]
    pub edit: Option<i64>,
    /// The question of the row that is edited
    #[arg(long, value_name = "TEXT", requires = "edit", group = "words")]
    pub question: Option<String>,
    /// The answer of the row that is edited
    #[arg(long, value_name = "TEXT", requires = "edit", group = "words")]
    pub answer: Option<String>,
}

/// `data label`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Example:\n  peft-studio data label questions.jsonl --out labelled.jsonl --teacher ollama:llama3:8b \
                        --skip-existing"
)]
pub struct LabelArgs {
    /// Rows with `user`, and where they like `system_hint`, `requires_json` and `json_schema`
    #[arg(value_name = "FILE.jsonl")]
    pub file: PathBuf,
    /// File to write
    #[arg(long, value_name = "FILE.jsonl", alias = "output")]
    pub out: PathBuf,
    /// Who answers: a model of this computer, or PROVIDER:MODEL, where the provider is ollama, openrouter or openai
    #[arg(long, value_name = "MODEL")]
    pub teacher: String,
    /// Where the provider is [default: its own place]
    #[arg(long, value_name = "URL")]
    pub base_url: Option<String>,
    /// Rows at the same time
    #[arg(long, value_name = "N", value_parser = values::positive, default_value = "4")]
    pub batch_size: usize,
    /// Keep the answers that are there, in the file and in what an earlier call wrote
    #[arg(long)]
    pub skip_existing: bool,
    /// Longest answer, tokens
    #[arg(long, value_name = "N", value_parser = values::positive, default_value = "512")]
    pub max_new_tokens: usize,
    /// How freely words are chosen, with `--do-sample`
    #[arg(long, value_name = "F", value_parser = values::not_negative, default_value = "0.7")]
    pub temperature: f64,
    /// Choose words freely instead of the likeliest each time
    #[arg(long)]
    pub do_sample: bool,
    /// Another number gives other answers
    #[arg(long, value_name = "N", default_value = "42")]
    pub seed: u64,
}

/// `data persona`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  peft-studio data persona --memories chats --personality me.txt --out me.jsonl \
                        --hide-names")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
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
    /// Put the personality before every conversation
    #[arg(long, value_name = "true|false", action = clap::ArgAction::Set, num_args = 0..=1, default_value_t = true,
          default_missing_value = "true")]
    pub include_system: bool,
    /// The person's name in the chats [default: whoever writes in most of them]
    #[arg(long, value_name = "NAME")]
    pub me: Option<String>,
    /// Replace other people's names
    #[arg(long)]
    pub hide_names: bool,
    /// Share of the conversations to hold out in a second file, such as 0.1
    #[arg(long, value_name = "SHARE", value_parser = values::held_out_share)]
    pub validation_split: Option<f64>,
    /// Leave out copies of earlier conversations
    #[arg(long)]
    pub deduplicate: bool,
    /// Leave out conversations that are not good for training
    #[arg(long)]
    pub quality_filter: bool,
    /// Replace keys, card and account numbers, e-mail addresses and telephone numbers by placeholders
    #[arg(long)]
    pub redact: bool,
    /// Do it when another program of this computer asks: POST /api/finetune/export with a bearer token
    #[arg(long)]
    pub serve: bool,
    /// Port to listen at, with --serve; 0: any that is free
    #[arg(long, value_name = "N", default_value = "8000")]
    pub port: u16,
    /// The token that must be sent, with --serve [default: `PEFT_STUDIO_API_KEY`]
    #[arg(long, value_name = "TOKEN")]
    pub api_key: Option<String>,
}
