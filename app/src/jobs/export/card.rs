//! The model card of an export: what it is, what it was made of, how good it is, how to run it.

use super::license::duties;
use super::{Exported, Origin};
use peft_plan::{Fault, Result};
use std::fmt::Write as _;
use std::path::Path;

/// Write `README.md` into `folder`.
pub(super) fn write(origin: &Origin, files: &[Exported], folder: &Path) -> Result<()> {
    let path = folder.join("README.md");
    durable::write_file(&path, text(origin, files).as_bytes()).map_err(|error| Fault::io("write", &path, error))
}

/// A value of the header: quoted, so that no name can end it.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

/// The text of the card.
pub fn text(origin: &Origin, files: &[Exported]) -> String {
    let mut out = String::from("---\n");
    let mut line = |content: &str| {
        out.push_str(content);
        out.push('\n');
    };
    if let Some(license) = &origin.license {
        line(&format!("license: {}", quoted(license)));
    }
    if let Some(base) = origin.base_url.as_ref().and_then(|url| url.strip_prefix("https://huggingface.co/")) {
        line(&format!("base_model: {}", quoted(base)));
    }
    line("pipeline_tag: text-generation");
    if !files.is_empty() {
        line("library_name: gguf");
    }
    line("tags:\n- peft-studio\n- fine-tuned\n---\n");
    line(&format!("# {}\n", origin.name));
    let spec = origin.base.spec();
    let how = origin.plan.as_ref().map_or_else(String::new, |plan| format!(" with {:?}", plan.method).to_lowercase());
    let tuned = if origin.adapter.is_some() { format!(", fine-tuned{how}") } else { String::new() };
    line(&format!("Base: `{}` ({} parameters, {}){tuned}.\n", origin.base.id(), spec.parameters(), spec.architecture));
    facts(origin, &mut line);
    certificates(files, &mut line);
    usage(origin, files, &mut line);
    line("## Licence\n");
    match &origin.license {
        Some(license) => {
            line(&format!("The base is under `{license}`, and so is this model.\n"));
            for duty in duties(license) {
                line(&format!("- {duty}"));
            }
        }
        None => line("The licence of the base is not known here; look it up before you pass the model on."),
    }
    out
}

fn facts(origin: &Origin, line: &mut impl FnMut(&str)) {
    if let (Some(plan), Some(config)) = (&origin.plan, &origin.config) {
        line("## Data and settings\n");
        let sources = config.dataset.sources.iter().filter_map(|source| source.path.as_ref());
        let data: Vec<String> = config.dataset.path.iter().chain(sources).map(|path| format!("`{path}`")).collect();
        if !data.is_empty() {
            line(&format!("- Data: {}", data.join(", ")));
        }
        line(&format!("- Adapter: rank {}, alpha {}", plan.rank, plan.alpha));
        line(&format!("- Learning rate {}, seed {}", plan.learning_rate, plan.seed));
        line("");
    }
    if let Some(run) = &origin.run {
        line("## Metrics\n");
        let mut table = String::new();
        for (name, value) in [
            ("Training loss", run.loss),
            ("Held-out loss", run.validation_loss),
            ("Quality score, of 100", run.quality_score),
        ] {
            if let Some(value) = value {
                writeln!(table, "- {name}: {value:.4}").expect("writing to a string cannot fail");
            }
        }
        line(if table.is_empty() { "None were recorded.\n" } else { &table });
    }
}

fn certificates(files: &[Exported], line: &mut impl FnMut(&str)) {
    if files.is_empty() {
        return;
    }
    line("## Certificate\n");
    line("Each file was read again, run, and compared with base and adapter.\n");
    line("| file | type | bytes | divergence (nats) | same first choice |\n| --- | --- | --- | --- | --- |");
    for file in files {
        let name = file.path.file_name().unwrap_or_default().to_string_lossy();
        let found = file.certificate.divergence.as_ref();
        let number =
            |value: Option<f64>, scale: f64| value.map_or_else(|| "-".to_owned(), |v| format!("{:.5}", v * scale));
        line(&format!(
            "| {name} | {} | {} | {} | {} % |",
            file.file_type,
            file.bytes,
            number(found.map(|d| d.kl), 1.0),
            number(found.map(|d| d.top1_agreement), 100.0)
        ));
    }
    line("");
    for file in files.iter().filter(|file| !file.fallbacks.is_empty()) {
        let count = file.fallbacks.len();
        line(&format!(
            "{count} tensors of the {} file have another type, because their rows are no whole blocks.\n",
            file.file_type
        ));
    }
}

fn usage(origin: &Origin, files: &[Exported], line: &mut impl FnMut(&str)) {
    let Some(file) = files.first() else { return };
    let name = file.path.file_name().unwrap_or_default().to_string_lossy();
    line("## How to run it\n");
    line("```sh");
    line(&format!("llama-cli -m {name} -cnv"));
    line(&format!("llama-server -m {name} -c 4096          # an OpenAI-compatible server on port 8080"));
    line(&format!(
        "ollama create {} -f Modelfile         # with the Modelfile of `--to ollama`",
        origin.name.to_lowercase()
    ));
    line(&format!("lms import {name}"));
    line(&format!("peft-studio chat --model {name}"));
    line("```\n");
}
