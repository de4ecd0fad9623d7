//! Arguments of `versions`.

use clap::Subcommand;

/// `versions`.
#[derive(Clone, Debug, Subcommand)]
pub enum VersionsCommand {
    /// List the versions, the newest first, with what they take on the disk
    #[command(after_help = "Example:\n  peft-studio versions list")]
    List {
        /// Only versions of this project
        #[arg(long, value_name = "NAME")]
        project: Option<String>,
    },
    /// Show one version
    #[command(after_help = "Example:\n  peft-studio versions show 3")]
    Show {
        /// Its number
        version: u64,
    },
    /// Make a version the one to use
    #[command(after_help = "Example:\n  peft-studio versions activate 3")]
    Activate {
        /// Its number
        version: u64,
    },
    /// Keep what a version learned and throw its training state away
    #[command(after_help = "Example:\n  peft-studio versions archive 2")]
    Archive {
        /// Its number
        version: u64,
    },
    /// Delete a version and its files
    #[command(after_help = "Example:\n  peft-studio versions delete 1")]
    Delete {
        /// Its number
        version: u64,
        /// Also where it is the active one
        #[arg(long)]
        yes: bool,
    },
}
