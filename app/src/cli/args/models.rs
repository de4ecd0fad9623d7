//! Arguments of `models`.

use super::values;
use clap::{Args, Subcommand, ValueEnum};

/// `models`.
#[derive(Clone, Debug, Subcommand)]
pub enum ModelsCommand {
    /// Search Hugging Face; without words, show models worth a try on this computer (no network)
    Search(SearchArgs),
    /// List the models that are on this computer, whichever program put them there
    #[command(after_help = "Example:\n  peft-studio models list --json")]
    List,
    /// Download a model from Hugging Face; goes on where an earlier download stopped
    Download(DownloadArgs),
    /// Show a model: size, licence, kind, and whether it fits this computer
    #[command(after_help = "Examples:\n  peft-studio models show Qwen/Qwen2.5-0.5B-Instruct\n  \
                            peft-studio models show ./my-model")]
    Show {
        /// A folder, a Hugging Face id (with @revision, if you like), or `starter`
        model: String,
    },
    /// Delete a downloaded model from this computer
    #[command(after_help = "Example:\n  peft-studio models remove Qwen/Qwen2.5-0.5B-Instruct")]
    Remove {
        /// Its Hugging Face id
        id: String,
    },
}

/// `models search`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Examples:\n  peft-studio models search\n  peft-studio models search \"qwen instruct\" --limit 5"
)]
pub struct SearchArgs {
    /// Words, a name, or owner/name
    pub query: Vec<String>,
    /// Show at most so many
    #[arg(long, value_name = "N", default_value = "20", value_parser = values::positive)]
    pub limit: usize,
    /// What comes first
    #[arg(long, value_enum, default_value = "downloads")]
    pub sort: SearchSort,
}

/// What comes first in a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SearchSort {
    /// The most downloaded of the last month.
    Downloads,
    /// The most liked.
    Likes,
    /// What many look at these days.
    Trending,
    /// The last changed.
    Changed,
}

impl SearchSort {
    /// In the words of the hub.
    pub fn word(self) -> &'static str {
        match self {
            Self::Downloads => "downloads",
            Self::Likes => "likes",
            Self::Trending => "trendingScore",
            Self::Changed => "lastModified",
        }
    }
}

/// `models download`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  peft-studio models download Qwen/Qwen2.5-0.5B-Instruct")]
pub struct DownloadArgs {
    /// Its Hugging Face id (with @revision, if you like)
    pub id: String,
    /// Branch, tag or commit [default: main]
    #[arg(long, value_name = "NAME")]
    pub revision: Option<String>,
    /// Check the content of files that are here already, too
    #[arg(long)]
    pub verify: bool,
}
