//! Arguments of `errors`.

use clap::Subcommand;
use std::path::PathBuf;

/// `errors`.
#[derive(Clone, Debug, Subcommand)]
pub enum ErrorsCommand {
    /// List every error the program knows
    #[command(after_help = "Example:\n  peft-studio errors list")]
    List,
    /// Explain one error: what it means, what helps, how the program ends
    #[command(after_help = "Example:\n  peft-studio errors show PS-DATA-002")]
    Show {
        /// Its code
        code: String,
    },
    /// Write all of them as one help page, with an anchor for each code
    #[command(after_help = "Example:\n  peft-studio errors page --out help.md")]
    Page {
        /// File to write
        #[arg(long, value_name = "FILE.md", alias = "output")]
        out: PathBuf,
    },
}
