//! Arguments of `data score`, `data contamination`, `data versions` and `data card`.

use super::values;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `data score`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Examples:\n  peft-studio data score rows.jsonl\n  peft-studio data score rows.jsonl --below 60 --out poor.jsonl"
)]
pub struct ScoreArgs {
    /// Files with examples (JSONL, JSON, CSV, TSV, Parquet, text, Markdown), folders, or hub:OWNER/NAME
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Also write the score and the reasons of each row to this file
    #[arg(long, value_name = "FILE.jsonl", alias = "output")]
    pub out: Option<PathBuf>,
    /// Only rows with a lower score
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=101))]
    pub below: Option<u32>,
    /// How many of the worst rows to show
    #[arg(long, value_name = "N", default_value = "10", value_parser = values::positive)]
    pub show: usize,
}

/// `data contamination`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  peft-studio data contamination train.jsonl --evaluation test.jsonl")]
pub struct ContaminationArgs {
    /// Files with the rows that are trained on
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Files with the rows that are asked afterwards
    #[arg(long, required = true, value_name = "FILE")]
    pub evaluation: Vec<PathBuf>,
    /// How many of them to show
    #[arg(long, value_name = "N", default_value = "10", value_parser = values::positive)]
    pub show: usize,
}

/// `data versions`.
#[derive(Clone, Debug, Subcommand)]
pub enum DataVersionsCommand {
    /// Keep the project's rows as they are as a version
    #[command(after_help = "Example:\n  peft-studio data versions save --project notes --note \"before the clean-up\"")]
    Save {
        /// Whose rows
        #[arg(long, value_name = "NAME")]
        project: String,
        /// Take the rows from this file instead; it becomes the project's rows
        #[arg(long, value_name = "FILE.jsonl")]
        from: Option<PathBuf>,
        /// What is special about it
        #[arg(long, value_name = "TEXT", default_value = "")]
        note: String,
    },
    /// List the versions of a project's rows
    #[command(after_help = "Example:\n  peft-studio data versions list --project notes")]
    List {
        /// Whose rows
        #[arg(long, value_name = "NAME")]
        project: String,
    },
    /// Show which rows are new, gone or answered in another way
    #[command(after_help = "Example:\n  peft-studio data versions diff 1 2 --project notes")]
    Diff {
        /// The old version
        before: u32,
        /// The new one [default: the rows as they are]
        after: Option<u32>,
        /// Whose rows
        #[arg(long, value_name = "NAME")]
        project: String,
    },
    /// Make a version the project's rows again; what they are now is kept as a version
    #[command(after_help = "Example:\n  peft-studio data versions restore 1 --project notes")]
    Restore {
        /// The version
        version: u32,
        /// Whose rows
        #[arg(long, value_name = "NAME")]
        project: String,
    },
}

/// `data card`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  peft-studio data card rows.jsonl --out README.md --license cc-by-4.0")]
pub struct CardArgs {
    /// The rows
    #[arg(value_name = "FILE.jsonl")]
    pub file: PathBuf,
    /// The card
    #[arg(long, value_name = "README.md", alias = "output")]
    pub out: PathBuf,
    /// What the dataset is called [default: the name of the file]
    #[arg(long, value_name = "TEXT")]
    pub title: Option<String>,
    /// Its licence, where the rows name none or several
    #[arg(long, value_name = "NAME", alias = "licence")]
    pub license: Option<String>,
    /// What it is for, in your own words
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
}
