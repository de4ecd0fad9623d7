//! Arguments of the commands that look before a run is started.

use super::training::RequestArgs;
use super::values;
use clap::Args;
use std::path::PathBuf;

/// `hardware`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  peft-studio hardware --json\n  peft-studio hardware --watch")]
pub struct HardwareArgs {
    /// Go on telling what the machine is doing, every two seconds, until Ctrl-C
    #[arg(long)]
    pub watch: bool,
}

/// `profiles`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Examples:\n  peft-studio profiles\n  peft-studio profiles --model starter --data examples.jsonl"
)]
pub struct ProfilesArgs {
    /// Time and memory with this model, instead of a typical one: a folder, or `starter` for the built-in model
    #[arg(long, value_name = "MODEL", requires = "data")]
    pub model: Option<String>,
    /// Time and memory with these examples
    #[arg(long, value_name = "FILE", alias = "dataset", requires = "model")]
    pub data: Option<PathBuf>,
}

/// `plan`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  peft-studio plan --model starter --data examples.jsonl --profile chatbot\n  \
                        peft-studio plan run.json --set training.epochs=2 --out planned.json\n\n\
                        What is not given is chosen for you, with the reason.")]
pub struct PlanArgs {
    /// The run that is looked at.
    #[command(flatten)]
    pub request: RequestArgs,
    /// Write the completed run file here
    #[arg(long, value_name = "RUN.json", alias = "output")]
    pub out: Option<PathBuf>,
    /// Also write a training specification: the run file with the hashes of model and data, and what the machine needs
    #[arg(long, value_name = "SPEC.json")]
    pub write_spec: Option<PathBuf>,
    /// What you pay for a kilowatt-hour [default: the average of households in the European Union]
    #[arg(long, value_name = "PRICE", value_parser = values::rate)]
    pub electricity_rate: Option<f64>,
    /// In which currency, such as EUR or USD
    #[arg(long, value_name = "CODE", value_parser = values::currency)]
    pub currency: Option<String>,
    /// Grams of CO2 a kilowatt-hour, or a country such as fr [default: the average of the world]
    #[arg(long, value_name = "GRAMS|COUNTRY")]
    pub carbon_intensity: Option<String>,
}
