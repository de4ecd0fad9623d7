//! Arguments of `notifications`.

use clap::{Subcommand, ValueEnum};

/// `notifications`.
#[derive(Clone, Debug, Subcommand)]
pub enum NotificationsCommand {
    /// Show what is switched on
    #[command(after_help = "Example:\n  peft-studio notifications list")]
    List,
    /// Switch one kind on or off
    #[command(after_help = "Example:\n  peft-studio notifications set sound off")]
    Set {
        /// Which kind; `enabled` is all of them
        #[arg(value_parser = clap::builder::PossibleValuesParser::new(crate::jobs::notices::Preferences::NAMES))]
        kind: String,
        /// On or off
        #[arg(value_enum)]
        switch: Switch,
    },
    /// Show a notification now, to see whether they arrive
    #[command(after_help = "Example:\n  peft-studio notifications test")]
    Test,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// On.
    #[value(alias = "true")]
    On,
    /// Off.
    #[value(alias = "false")]
    Off,
}
