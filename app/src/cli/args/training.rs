//! Arguments of the commands that make runs and look at them.

use super::queue::{AttachArgs, QueueCommand};
use super::values;
use clap::{Args, Subcommand, ValueEnum};
use peft_storage::{RunSort, Status};
use std::path::PathBuf;

/// `quickstart`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  peft-studio quickstart --out first-adapter")]
pub struct QuickstartArgs {
    /// Folder for the adapter and the exported model
    #[arg(long, value_name = "DIR", alias = "output")]
    pub out: Option<PathBuf>,
}

/// What a run is to be: a run file, options, or both. `train` and `plan` understand the same.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct RequestArgs {
    /// A run file, as stored with every run, or a specification; options change what it says
    #[arg(value_name = "RUN.json", required_unless_present_any = ["data", "preset", "project"])]
    pub run: Option<PathBuf>,
    /// The model to start from: a folder, or `starter` for the built-in model
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// File or folder with examples, or a dataset of the hub as hub:OWNER/NAME; repeat it for several
    #[arg(long, value_name = "FILE", alias = "dataset")]
    pub data: Vec<PathBuf>,
    /// Train on the rows of this project: `data/sft_data.jsonl` in its folder
    #[arg(long, value_name = "NAME", conflicts_with = "data")]
    pub project: Option<String>,
    /// What the model is for: `peft-studio profiles` lists them
    #[arg(long, value_name = "PROFILE")]
    pub profile: Option<String>,
    /// Start from the settings of a preset, such as llama3-8b
    #[arg(long, value_name = "NAME", conflicts_with = "run")]
    pub preset: Option<String>,
    /// Change any setting of the run file; repeat it for several
    #[arg(long, value_name = "KEY=VALUE", value_parser = values::assignment)]
    pub set: Vec<String>,
    /// A name to find the run by
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// What is trained: lora (a small adapter), qlora (the same on a 4-bit model), dora, qdora, or full
    #[arg(long, value_name = "METHOD", value_parser = ["lora", "qlora", "dora", "qdora", "full"])]
    pub method: Option<String>,
    /// What is learned from: sft (answers to copy), dpo or orpo (chosen and rejected answers), kto (rated answers)
    #[arg(long, value_name = "NAME", value_parser = ["sft", "dpo", "orpo", "kto"])]
    pub objective: Option<String>,
    /// Size of the adapter: a higher rank learns more and uses more memory
    #[arg(long, value_name = "N", aliases = ["lora-rank", "lora-r"])]
    pub rank: Option<usize>,
    /// How strongly the adapter acts on the model; often twice the rank
    #[arg(long, value_name = "NUMBER", alias = "lora-alpha")]
    pub alpha: Option<f64>,
    /// Share of the adapter's input left out at random, against learning by heart
    #[arg(long, value_name = "SHARE", alias = "lora-dropout")]
    pub dropout: Option<f64>,
    /// Parts of the model that get adapters: all-linear, or names such as `q_proj` `v_proj`
    #[arg(long, value_name = "NAMES", num_args = 1..)]
    pub target_modules: Vec<String>,
    /// How often to go through the examples
    #[arg(long, value_name = "NUMBER", alias = "num-train-epochs")]
    pub epochs: Option<f64>,
    /// Examples computed together; a larger one uses more memory
    #[arg(long, value_name = "N", alias = "per-device-train-batch-size")]
    pub batch_size: Option<usize>,
    /// Size of each correction, such as 2e-4
    #[arg(long, value_name = "NUMBER")]
    pub learning_rate: Option<f64>,
}

/// `train`.
#[derive(Clone, Debug, Default, PartialEq, Args)]
#[command(after_help = "Examples:\n  peft-studio train --model starter --data examples.jsonl --epochs 2\n  \
                        peft-studio train run.json --set training.learning_rate=1e-4\n\n\
                        What is not given is chosen for you.")]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct TrainArgs {
    /// What the run is to be.
    #[command(flatten)]
    pub request: RequestArgs,
    /// Folder for the adapter, checkpoints and events of this run
    #[arg(long, value_name = "DIR", alias = "output")]
    pub out: Option<PathBuf>,
    /// Folder of an adapter, or of an earlier run, to continue from
    #[arg(long, value_name = "DIR")]
    pub resume_from: Option<PathBuf>,
    /// Also write event files for TensorBoard: into the run's folder, or into this one
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub tensorboard: Option<String>,
    /// Also write a complete model with the adapter merged in
    #[arg(long)]
    pub merge: bool,
    /// Where a run is refused before it begins and a change of settings would help, make the change and try again
    #[arg(long)]
    pub fix: bool,
    /// Train in a process of its own and return as soon as it has begun
    #[arg(long)]
    pub detach: bool,
    /// Show notifications on the desktop, whatever the settings say
    #[arg(long, overrides_with = "no_notify")]
    pub notify: bool,
    /// Show no notifications
    #[arg(long)]
    pub no_notify: bool,
}

/// `pause`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  peft-studio pause support-bot")]
pub struct PauseArgs {
    /// Id or name of the run
    pub run: String,
}

/// `resume`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  peft-studio resume support-bot\n  \
                        peft-studio resume support-bot --rewind-to 200 --exclude-rows 12,57\n  \
                        peft-studio resume support-bot --rewind-to 0 --set training.learning_rate=1e-4")]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct ResumeArgs {
    /// Id or name of the run
    pub run: String,
    /// Change a setting for the rest of the run; repeat it for several
    #[arg(long, value_name = "KEY=VALUE", value_parser = values::assignment)]
    pub set: Vec<String>,
    /// Rows that are no longer trained on: their numbers, or <FILE:LINE>, separated by commas
    #[arg(long, value_name = "ROWS", value_delimiter = ',')]
    pub exclude_rows: Vec<String>,
    /// Go back to the newest checkpoint that is not after this step; 0 is the beginning
    #[arg(long, value_name = "STEP")]
    pub rewind_to: Option<u64>,
    /// Also write a complete model with the adapter merged in, once the run is finished
    #[arg(long)]
    pub merge: bool,
    /// Go on in a process of its own and return as soon as it has begun
    #[arg(long)]
    pub detach: bool,
    /// Show notifications on the desktop, whatever the settings say
    #[arg(long, overrides_with = "no_notify")]
    pub notify: bool,
    /// Show no notifications
    #[arg(long)]
    pub no_notify: bool,
}

/// `stop`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  peft-studio stop support-bot")]
pub struct StopArgs {
    /// Id or name of the run
    pub run: String,
}

/// `runs`.
#[derive(Clone, Debug, Subcommand)]
pub enum RunsCommand {
    /// List the runs, the newest first
    List(ListArgs),
    /// Put two to five runs side by side
    #[command(after_help = "Example:\n  peft-studio runs compare first second")]
    Compare {
        /// Ids or names of the runs
        #[arg(value_name = "RUN", num_args = 2.., required = true)]
        runs: Vec<String>,
        /// About so many points of each series, with --json
        #[arg(long, value_name = "N", default_value = "2000", value_parser = values::positive)]
        points: usize,
    },
    /// Show what a run said
    #[command(after_help = "Example:\n  peft-studio runs log support-bot --follow")]
    Log {
        /// Id or name of the run
        run: String,
        /// Go on until the run ends
        #[arg(long)]
        follow: bool,
    },
    /// Delete a run and its files
    #[command(after_help = "Example:\n  peft-studio runs delete support-bot --keep-adapter")]
    Delete {
        /// Id or name of the run
        run: String,
        /// Leave the adapter where it is
        #[arg(long)]
        keep_adapter: bool,
    },
    /// Show one run: what was asked for, how far it came, what came out
    #[command(after_help = "Example:\n  peft-studio runs show support-bot --json")]
    Show {
        /// Id or name of the run
        run: String,
        /// Every step with --json, also of a run of more than 65,536; otherwise of such a run those that shape its curves
        #[arg(long)]
        every_step: bool,
    },
    /// Show which rows a run found hardest to learn: wrong or garbled ones are on top
    #[command(after_help = "Example:\n  peft-studio runs rows support-bot --limit 20")]
    Rows {
        /// Id or name of the run
        run: String,
        /// Show at most so many
        #[arg(long, value_name = "N", default_value = "10", value_parser = values::positive)]
        limit: usize,
    },
    /// Follow a run that another process works on; Ctrl-C leaves, and the run goes on
    Attach(AttachArgs),
    /// Let runs wait for their turn and train one after the other
    #[command(subcommand)]
    Queue(QueueCommand),
    /// Ask a live run to score its held-out rows now
    #[command(after_help = "Example:\n  peft-studio runs evaluate support-bot")]
    Evaluate {
        /// Id or name of the run
        run: String,
    },
    /// Ask a live run to save a checkpoint now, and go on
    #[command(after_help = "Example:\n  peft-studio runs snapshot support-bot")]
    Snapshot {
        /// Id or name of the run
        run: String,
    },
}

/// `runs list`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  peft-studio runs list --status finished --sort validation-loss --limit 10")]
pub struct ListArgs {
    /// Only runs with this status
    #[arg(long, value_enum)]
    pub status: Option<StatusFilter>,
    /// What to sort by
    #[arg(long, value_enum, default_value = "created")]
    pub sort: SortKey,
    /// Only runs whose name holds this
    #[arg(long, value_name = "TEXT")]
    pub search: Option<String>,
    /// Show at most so many; 0: all of them
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: usize,
}

/// A status to filter by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StatusFilter {
    /// Not started yet.
    Queued,
    /// A live process works on it.
    Running,
    /// Halted, can be resumed.
    Paused,
    /// Ended early.
    Stopped,
    /// Complete.
    Finished,
    /// Ended by an error.
    Failed,
    /// Its process died; can be resumed.
    Interrupted,
}

impl From<StatusFilter> for Status {
    fn from(filter: StatusFilter) -> Self {
        match filter {
            StatusFilter::Queued => Self::Queued,
            StatusFilter::Running => Self::Running,
            StatusFilter::Paused => Self::Paused,
            StatusFilter::Stopped => Self::Stopped,
            StatusFilter::Finished => Self::Finished,
            StatusFilter::Failed => Self::Failed,
            StatusFilter::Interrupted => Self::Interrupted,
        }
    }
}

/// What to sort runs by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SortKey {
    /// The newest first.
    Created,
    /// In the order of the alphabet.
    Name,
    /// By status.
    Status,
    /// The lowest training loss first.
    #[value(alias = "train-loss")]
    Loss,
    /// The lowest held-out loss first.
    #[value(alias = "validation_loss")]
    ValidationLoss,
    /// The highest quality score first.
    #[value(alias = "quality_score")]
    QualityScore,
    /// The longest first.
    Seconds,
}

impl SortKey {
    /// The column, and whether small values come first: what people look for is on top.
    pub fn order(self) -> (RunSort, bool) {
        match self {
            Self::Created => (RunSort::Created, false),
            Self::Name => (RunSort::Name, true),
            Self::Status => (RunSort::Status, true),
            Self::Loss => (RunSort::Loss, true),
            Self::ValidationLoss => (RunSort::ValidationLoss, true),
            Self::QualityScore => (RunSort::QualityScore, false),
            Self::Seconds => (RunSort::Seconds, false),
        }
    }
}
