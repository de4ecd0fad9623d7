//! Arguments of `pipeline`.

use clap::Args;
use std::path::PathBuf;

/// `pipeline`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  peft-studio pipeline chain.json --check\n  \
                        peft-studio pipeline chain.json --env production.env\n\n\
A pipeline file:\n  {\"schema\": \"peft-studio/pipeline\", \"version\": 1, \"variables\": {\"STEPS\": \"50\"},\n   \
\"steps\": [\n     {\"name\": \"clean\", \"command\": \"data convert\", \"arguments\": [\"${RAW}\"],\n      \
\"options\": {\"to\": \"messages\", \"out\": \"clean.jsonl\", \"deduplicate\": true}},\n     \
{\"name\": \"train\", \"command\": \"train\",\n      \
\"options\": {\"model\": \"starter\", \"data\": \"clean.jsonl\", \"set\": [\"training.max_steps=${STEPS}\"]}},\n     \
{\"name\": \"export\", \"command\": \"export\", \"arguments\": [\"${train.run}\"],\n      \
\"options\": {\"to\": \"merged\", \"out\": \"model\"}}]}\n\n\
Values of ${NAME} come from the environment, from the .env file, or from `variables`, in this order.\n\
Every step gets them in its environment; tokens, keys and passwords are given to steps only that way.\n\
Paths count from the folder of the file. A step that was done is done again only if it, something\n\
before it, or a file it reads has changed.")]
pub struct PipelineArgs {
    /// The pipeline
    #[arg(value_name = "FILE.json")]
    pub file: PathBuf,
    /// File with values, one NAME=VALUE a line [default: .env beside the pipeline, where there is one]
    #[arg(long, value_name = "FILE")]
    pub env: Option<PathBuf>,
    /// Only check every step; run nothing
    #[arg(long)]
    pub check: bool,
    /// Do every step again, also those that are done
    #[arg(long)]
    pub restart: bool,
}
