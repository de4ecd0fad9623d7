//! A checkpoint for TensorRT-LLM with a script that builds its engine; the engine itself where the builder is installed.

use super::Origin;
use super::card::Form;
use super::hub::complete;
use crate::cli::output;
use durable::Manifest;
use peft_models::engine::{Engine, MergeOptions};
use peft_plan::{Fault, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The program that builds engines.
const BUILDER: &str = "trtllm-build";
/// Its folder of results, and where it is told to look.
const ENGINE: &str = "engine";
/// Sequences at once, and the longest of them.
const BATCH: usize = 8;
const LONGEST: usize = 4096;
/// Lines of the builder that are shown when it fails.
const LINES: usize = 5;

const ABOUT: &str = "\
# TensorRT-LLM checkpoint

`config.json` and `rank0.safetensors` are read by `trtllm-build` of TensorRT-LLM 0.8 to about 1.2. Later versions have
no such program: they take a folder of Hugging Face's as it is (`peft-studio export RUN --to merged --out DIR`, then
`trtllm-serve DIR`). Which one is installed is told by `python -c 'import tensorrt_llm; print(tensorrt_llm.__version__)'`.

`sh build_engine.sh` builds the engine on the machine it will run on: an engine fits one kind of GPU and one version of
TensorRT.
";

/// Write the checkpoint to `folder` and build the engine where that is possible; the files come back, and what to do.
pub fn tensorrt(
    engine: &Engine,
    origin: &Origin,
    options: &MergeOptions,
    folder: &Path,
) -> Result<(Vec<PathBuf>, Vec<String>)> {
    let longest = origin.base.spec().max_positions.min(LONGEST);
    let arguments = [
        ("--gemm_plugin", "auto".to_owned()),
        ("--max_batch_size", BATCH.to_string()),
        ("--max_input_len", (longest / 2).to_string()),
        ("--max_seq_len", longest.to_string()),
    ];
    let words: Vec<String> = arguments.iter().map(|(name, value)| format!("{name} {value}")).collect();
    let script = format!(
        "#!/bin/sh\n# Build the engine of this checkpoint with TensorRT-LLM (0.8 to about 1.2), on the machine it will run on.\n\
         set -eu\nhere=$(cd \"$(dirname \"$0\")\" && pwd)\n\
         {BUILDER} --checkpoint_dir \"$here\" --output_dir \"$here/{ENGINE}\" {} \"$@\"\n\
         # The same file under the name that Triton's servers look for.\n\
         cp \"$here/{ENGINE}/rank0.engine\" \"$here/{ENGINE}/model.plan\"\n",
        words.join(" ")
    );
    let extra = [("build_engine.sh", script.into_bytes()), ("TENSORRT-LLM.md", ABOUT.as_bytes().to_vec())];
    let extra: Vec<(String, Vec<u8>)> = extra.into_iter().map(|(name, text)| (name.to_owned(), text)).collect();
    let manifest: Manifest = engine.tensorrt(&origin.base, origin.adapter.as_ref(), options, &extra, folder)?;
    complete(origin, &[], Form::Merged, folder)?;
    let mut files: Vec<PathBuf> = manifest.files.iter().map(|file| folder.join(&file.name)).collect();
    let mut steps = Vec::new();
    if let Some(version) = builder() {
        output::note(&format!("Building the engine with {BUILDER}{version}"));
        build(folder)?;
        files.extend(["rank0.engine", "model.plan", "config.json"].map(|name| folder.join(ENGINE).join(name)));
        files.retain(|file| file.is_file());
    } else {
        steps.push(format!("sh build_engine.sh, on a machine with {BUILDER} (TensorRT-LLM 0.8 to about 1.2)"));
    }
    Ok((files, steps))
}

/// What the builder says of itself, if it is there.
fn builder() -> Option<String> {
    let asked = Command::new(BUILDER).arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&asked.stdout).into_owned();
    let line: String = text.lines().next().unwrap_or_default().chars().take(80).collect();
    Some(if line.is_empty() { String::new() } else { format!(" ({})", output::printable(&line)) })
}

fn build(folder: &Path) -> Result<()> {
    let failed = |why: &str| {
        let detail =
            format!("The checkpoint is whole in `{}`, but {BUILDER} did not build its engine: {why}", folder.display());
        Fault::new("PS-EXP-004", detail)
    };
    let run = Command::new("sh").arg(folder.join("build_engine.sh")).stdin(Stdio::null()).output();
    let run = run.map_err(|error| failed(&error.to_string()))?;
    if run.status.success() && folder.join(ENGINE).join("rank0.engine").is_file() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&run.stderr).into_owned();
    let last: Vec<&str> = text.lines().rev().filter(|line| !line.trim().is_empty()).take(LINES).collect();
    let last = last.into_iter().rev().collect::<Vec<_>>().join(" / ");
    Err(failed(&if last.is_empty() { run.status.to_string() } else { output::printable(&last).into_owned() }))
}
