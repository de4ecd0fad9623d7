//! Arguments of the commands that look before a run is started.

use super::TrainArgs;
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
    /// A run file, as stored with every run; options change what it says
    #[arg(value_name = "RUN.json", required_unless_present_any = ["data", "preset", "project"])]
    pub run: Option<PathBuf>,
    /// The model to start from: a folder, or `starter` for the built-in model
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// File with examples; repeat it for several
    #[arg(long, value_name = "FILE", alias = "dataset")]
    pub data: Vec<PathBuf>,
    /// Train on the rows of this project: data/sft_data.jsonl in its folder
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
    /// Write the completed run file here
    #[arg(long, value_name = "RUN.json", alias = "output")]
    pub out: Option<PathBuf>,
    /// Also write a training specification: the run file with the hashes of model and data, and what the machine needs
    #[arg(long, value_name = "SPEC.json")]
    pub write_spec: Option<PathBuf>,
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

impl PlanArgs {
    /// The same request as `train` would get it.
    pub fn as_train(&self) -> TrainArgs {
        let own = self.clone();
        TrainArgs {
            run: own.run,
            model: own.model,
            data: own.data,
            project: own.project,
            profile: own.profile,
            preset: own.preset,
            set: own.set,
            name: own.name,
            method: own.method,
            objective: own.objective,
            rank: own.rank,
            alpha: own.alpha,
            dropout: own.dropout,
            target_modules: own.target_modules,
            epochs: own.epochs,
            batch_size: own.batch_size,
            learning_rate: own.learning_rate,
            ..TrainArgs::default()
        }
    }
}
