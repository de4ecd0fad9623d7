//! What may be typed: commands, options and their help, in the words of a person who types them.
//!
//! Nothing here looks at the disk or the machine; that is each command's own work. A wrong spelling
//! ends the program here, with exit code 2.

mod bench;
mod data;
mod disk;
mod errors;
mod model;
mod models;
mod notifications;
mod pipeline;
mod planning;
mod presets;
mod quality;
mod queue;
mod spelling;
mod starter;
mod teaching;
mod training;
mod values;
mod versions;

pub use bench::{BenchCommand, BenchGenerateArgs, BenchMakeArgs, BenchTrainArgs};
pub use data::{ChunkArgs, ConvertArgs, DataCommand, DocumentsArgs, EmbedArgs, InspectArgs, SearchChunksArgs};
pub use disk::{DiskArgs, DiskCommand, FreeArgs};
pub use errors::ErrorsCommand;
pub use model::{ChatArgs, EvaluateArgs, ExportArgs, ServeArgs, VerifyArgs};
pub use models::{DownloadArgs, ModelsCommand, SearchArgs, SearchSort};
pub use notifications::{NotificationsCommand, Switch};
pub use pipeline::PipelineArgs;
pub use planning::{HardwareArgs, PlanArgs, ProfilesArgs};
pub use presets::{ConfigCommand, ImportConfigArgs, ImportPresetArgs, PresetsCommand, ProgramName, SavePresetArgs};
pub use quality::{CardArgs, ContaminationArgs, DataVersionsCommand, ScoreArgs};
pub use queue::{AttachArgs, AttachFrom, QueueAddArgs, QueueCommand};
pub use starter::{StarterBuildArgs, StarterCommand, StarterCorpusArgs, StarterScoreArgs};
pub use teaching::{GenerateArgs, HelperArgs, LabelArgs, PersonaArgs, ReviewArgs};
pub use training::{
    ListArgs, PauseArgs, QuickstartArgs, RequestArgs, ResumeArgs, RunsCommand, SortKey, StatusFilter, StopArgs,
    TrainArgs,
};

pub use versions::VersionsCommand;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::path::PathBuf;

/// Fine-tune language models on your own machine.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "peft-studio",
    version,
    about = "Fine-tune language models on your own machine",
    after_help = "Example:\n  peft-studio quickstart\n\n`peft-studio COMMAND --help` shows an example of each command."
)]
pub struct Cli {
    /// Options that every command has.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Options that every command has.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of every command")]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct GlobalArgs {
    /// Print the result as JSON, for scripts
    #[arg(long, global = true)]
    pub json: bool,
    /// Folder where runs and their history are kept [default: `PEFT_STUDIO_HOME`, or the usual place of this system]
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where to compute: auto, cpu, cuda or cuda:N
    #[arg(long, global = true, value_name = "DEVICE", default_value = "auto", alias = "device-map", value_parser = values::backend)]
    pub backend: String,
    /// Threads of the processor to use [default: one for each core]
    #[arg(long, global = true, value_name = "N", value_parser = values::threads)]
    pub threads: Option<usize>,
    /// Never use the network, also where a command would
    #[arg(long, global = true)]
    pub offline: bool,
    /// On a graphics card, launch every kernel by itself; for measurements and for looking for faults
    #[arg(long, global = true, hide = true)]
    pub no_graphs: bool,
    /// On a graphics card, multiply with our kernels alone and not with NVIDIA's library
    #[arg(long, global = true, hide = true)]
    pub no_cublaslt: bool,
}

/// The commands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Try everything at once, offline: train the built-in model on sample data and compare its answers
    Quickstart(QuickstartArgs),
    /// Show the processor, graphics cards, memory and disk, and what is used for training
    Hardware(HardwareArgs),
    /// Show what people make, and the settings that suit it
    Profiles(ProfilesArgs),
    /// Work out a run before it is started: settings and why, memory, time, energy, cost, alternatives
    Plan(PlanArgs),
    /// Check that this machine computes correctly
    #[command(after_help = "Example:\n  peft-studio selftest")]
    Selftest,
    /// Replay a training run, of another program or by its receipt, and compare every number
    Verify(VerifyArgs),
    /// Find models, download them, and see whether they fit this computer
    #[command(subcommand)]
    Models(ModelsCommand),
    /// Look at examples, or convert them to another format
    #[command(subcommand)]
    Data(DataCommand),
    /// Train a model on your examples
    Train(Box<TrainArgs>),
    /// Ask a run to save its state and halt
    Pause(PauseArgs),
    /// Go on with a run that was paused or interrupted
    Resume(ResumeArgs),
    /// End a run early and keep what it learned
    Stop(StopArgs),
    /// List runs, or show one
    #[command(subcommand)]
    Runs(RunsCommand),
    /// Look after finished runs as versions of your model
    #[command(subcommand)]
    Versions(VersionsCommand),
    /// Choose what the desktop tells you about your runs
    #[command(subcommand)]
    Notifications(NotificationsCommand),
    /// Keep, share and take in settings under a name
    #[command(subcommand)]
    Presets(PresetsCommand),
    /// Read configurations of other programs
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Measure how well a model answers held-out examples
    Evaluate(EvaluateArgs),
    /// Talk to a model, before and after training
    Chat(ChatArgs),
    /// Answer the programs of this computer: an OpenAI-compatible server for a model and its adapter
    Serve(ServeArgs),
    /// Measure how fast a model is on this computer
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Write a model or adapter for use in other programs
    Export(ExportArgs),
    /// Run a chain of these commands from a file, checked as a whole; it goes on where it stopped
    Pipeline(PipelineArgs),
    /// See what the program has put on the disk, and free what is not needed
    Disk(DiskArgs),
    /// Look up what an error means and what helps
    #[command(subcommand)]
    Errors(ErrorsCommand),
    /// Print a script that completes commands when you press Tab
    #[command(
        after_help = "Example:\n  peft-studio completions bash > ~/.local/share/bash-completion/completions/peft-studio"
    )]
    Completions {
        /// Your shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Make and measure the built-in starter model
    #[command(subcommand, hide = true)]
    Starter(StarterCommand),
    /// Try a part of a graphics card's driver, for the process that asks
    #[command(hide = true)]
    CardTrial {
        /// Number of the card
        card: usize,
        /// What is tried: graphs, wgmma or library
        #[arg(value_parser = values::risk)]
        risk: peft_models::engine::Risk,
    },
}

/// The whole command line, with every alternative spelling.
pub fn command() -> clap::Command {
    spelling::with_snake_case(Cli::command())
}

/// Parse the command line; prints and ends the program for `--help`, `--version` and wrong usage.
pub fn parse() -> Cli {
    let matches = command().get_matches();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        let matches = command().try_get_matches_from(line.split_whitespace())?;
        Cli::from_arg_matches(&matches)
    }

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_visible_command_shows_an_example() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            if command.has_subcommands() {
                command.get_subcommands().filter(|c| !c.is_hide_set()).for_each(|c| check(c, &path));
            } else {
                let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(after.contains("Example"), "{path} has no example");
                assert!(command.get_about().is_some(), "{path} does not say what it does");
            }
            for arg in command.get_arguments() {
                assert!(arg.get_help().is_some(), "{path}: {} has no help", arg.get_id());
            }
        }
        check(&command(), "");
    }

    #[test]
    fn examples_in_help_texts_can_be_typed() {
        fn check(command: &clap::Command) {
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in after.lines().map(str::trim).filter(|line| line.starts_with("peft-studio ")) {
                // What is between quotation marks is one word.
                let line = line.split(" > ").next().unwrap_or_default();
                let joined = |(index, part): (usize, &str)| {
                    if index % 2 == 1 { part.replace(' ', "_") } else { part.to_owned() }
                };
                let words: String = line.split('"').enumerate().map(joined).collect();
                assert!(parse(&words).is_ok(), "{line}: {}", parse(&words).expect_err("just checked"));
            }
            command.get_subcommands().for_each(check);
        }
        check(&command());
    }

    #[test]
    fn spellings_of_s1_12_and_s3_5_are_accepted_d5() {
        let line = "peft-studio train --model starter --dataset a.jsonl --lora_rank 8 --lora_alpha 16 --lora_dropout 0.1 \
                    --target_modules q_proj v_proj --batch_size 2 --learning_rate 1e-4 --output out --data_dir d";
        let Some(Command::Train(args)) = parse(line).expect("accepted").command else { panic!("train") };
        assert_eq!((args.request.rank, args.request.alpha, args.request.dropout), (Some(8), Some(16.0), Some(0.1)));
        assert_eq!((args.request.batch_size, args.request.learning_rate), (Some(2), Some(1e-4)));
        assert_eq!(args.out, Some(PathBuf::from("out")));
        assert_eq!(args.request.target_modules, ["q_proj", "v_proj"]);
        let line = "peft-studio train --model m --dataset a --lora-r 4 --epochs 2 --resume-from c --output o";
        let Some(Command::Train(args)) = parse(line).expect("accepted").command else { panic!("train") };
        assert_eq!((args.request.rank, args.request.epochs), (Some(4), Some(2.0)));
        for line in [
            "peft-studio chat --model m --max_new_tokens 5 --top_p 0.5",
            "peft-studio export r --to merged --output o --max_shard_size 1GB",
            "peft-studio data convert a --to text --output o --quality_filter --include_system x --validation_split 0.1",
            "peft-studio hardware --device_map cpu --data_dir x",
        ] {
            assert!(parse(line).is_ok(), "{line}: {}", parse(line).expect_err("just checked"));
        }
    }

    #[test]
    fn impossible_values_are_wrong_usage() {
        for line in [
            "peft-studio train",
            "peft-studio train --model m",
            "peft-studio hardware --backend tpu",
            "peft-studio hardware --threads 0",
            "peft-studio chat",
            "peft-studio chat --model m --run r",
            "peft-studio chat --model m --top-p 0",
            "peft-studio chat --model m --compare",
            "peft-studio export --to peft --out o",
            "peft-studio export r --to merged --out o --max-shard-size 0",
            "peft-studio export r --to gold --out o",
            "peft-studio train --model m --data d --method magic",
            "peft-studio completions tcsh",
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
