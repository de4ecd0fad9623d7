//! Arguments of the commands that keep and take in configurations.

use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// `presets`.
#[derive(Clone, Debug, Subcommand)]
pub enum PresetsCommand {
    /// List the presets: yours and those that come with the program
    #[command(after_help = "Example:\n  peft-studio presets list --search llama")]
    List {
        /// Only presets with this in their name, description, tags or model
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
        /// Only presets for this model
        #[arg(long, value_name = "MODEL")]
        model: Option<String>,
        /// Only presets that train this way, such as qlora
        #[arg(long, value_name = "METHOD")]
        method: Option<String>,
        /// Only presets with this tag
        #[arg(long, value_name = "WORD")]
        tag: Option<String>,
    },
    /// Keep a run file, or the settings of a run, under a name
    Save(SavePresetArgs),
    /// Show one preset
    #[command(after_help = "Example:\n  peft-studio presets show llama3-8b")]
    Show {
        /// Name of the preset
        name: String,
    },
    /// Write a preset to a file that can be shared
    #[command(after_help = "Example:\n  peft-studio presets export support --out support.json")]
    Export {
        /// Name of the preset
        name: String,
        /// File to write
        #[arg(long, value_name = "FILE", alias = "output")]
        out: PathBuf,
    },
    /// Take in a preset file and say how it suits this computer
    Import(ImportPresetArgs),
    /// Forget a preset
    #[command(after_help = "Example:\n  peft-studio presets delete support")]
    Delete {
        /// Name of the preset
        name: String,
    },
}

/// `presets save`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  peft-studio presets save run.json --name support\n  \
                        peft-studio presets save support-bot --name support --description \"What worked\"")]
pub struct SavePresetArgs {
    /// A run file, or the id or name of a run
    #[arg(value_name = "RUN.json|RUN")]
    pub source: String,
    /// Name of the preset
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// One or two sentences about it
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub description: String,
    /// A word to filter by; repeat it for several
    #[arg(long, value_name = "WORD")]
    pub tag: Vec<String>,
    /// Replace a preset of the same name
    #[arg(long)]
    pub replace: bool,
}

/// `presets import`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  peft-studio presets import support.json --adapt")]
pub struct ImportPresetArgs {
    /// The file: an exported preset, or a run file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Keep it under another name
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Change what does not suit this computer or the model
    #[arg(long)]
    pub adapt: bool,
    /// Replace a preset of the same name
    #[arg(long)]
    pub replace: bool,
    /// Only say how it suits, keep nothing
    #[arg(long)]
    pub check: bool,
}

/// `config`.
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Turn a configuration of Axolotl, LLaMA-Factory, TRL, Unsloth or torchtune into a run file
    Import(ImportConfigArgs),
}

/// `config import`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  peft-studio config import axolotl.yml --out run.json\n  \
                        peft-studio config import notebook.ipynb --from unsloth --out run.json")]
pub struct ImportConfigArgs {
    /// The configuration: YAML, JSON, a Python script or a notebook
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Whose it is [default: recognised by its settings]
    #[arg(long, value_enum, value_name = "PROGRAM")]
    pub from: Option<ProgramName>,
    /// The run file to write [default: it is printed]
    #[arg(long, value_name = "RUN.json", alias = "output")]
    pub out: Option<PathBuf>,
}

/// A program whose configurations are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProgramName {
    /// Axolotl's YAML.
    Axolotl,
    /// LLaMA-Factory's YAML or JSON.
    LlamaFactory,
    /// TRL's or transformers' settings, or a script that uses them.
    Trl,
    /// Unsloth's studio, a script or a notebook.
    Unsloth,
    /// torchtune's YAML.
    Torchtune,
}
