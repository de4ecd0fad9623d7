//! Arguments of `disk`.

use crate::jobs::disk::Kind;
use clap::{Args, Subcommand};

/// `disk`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  peft-studio disk\n  peft-studio disk free --what training-state --yes")]
pub struct DiskArgs {
    /// What to do; without it, everything is listed
    #[command(subcommand)]
    pub command: Option<DiskCommand>,
}

/// What can be done about it.
#[derive(Clone, Debug, Subcommand)]
pub enum DiskCommand {
    /// Delete what is not needed any more; without --yes it only says what that would be
    Free(FreeArgs),
}

/// `disk free`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  peft-studio disk free --what training-state,backups --yes\n\n\
                        Never touched: results, runs that are not finished, downloaded models (see `models remove`).")]
pub struct FreeArgs {
    /// Which kinds, separated by commas [default: all of them]
    #[arg(long, value_name = "KINDS", value_delimiter = ',', value_enum)]
    pub what: Vec<Kind>,
    /// Really delete
    #[arg(long)]
    pub yes: bool,
}
