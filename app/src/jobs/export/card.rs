//! The model card of an export: what it is, what it was made of, how good it is, how to run it.

use super::license::{duties, has_file, header};
use super::{Exported, Origin};
use peft_plan::{Fault, Result, TargetModules, TrainingPlan};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::Path;

/// What a folder holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An adapter of the PEFT library.
    Peft,
    /// A complete model in safetensors.
    Merged,
    /// GGUF files.
    Gguf,
}

impl Form {
    /// As the hub calls the library that reads it, and what it is to its base.
    fn of_hub(self, is_tuned: bool) -> (&'static str, &'static str) {
        match self {
            Self::Peft => ("peft", "adapter"),
            Self::Merged => ("transformers", "finetune"),
            // Its base on the hub has weights of its own.
            Self::Gguf => ("gguf", if is_tuned { "finetune" } else { "quantized" }),
        }
    }
}

/// Write `README.md` into `folder`.
pub(super) fn write(origin: &Origin, files: &[Exported], form: Form, folder: &Path) -> Result<()> {
    let path = folder.join("README.md");
    durable::write_file(&path, text(origin, files, form).as_bytes()).map_err(|error| Fault::io("write", &path, error))
}

/// A value of the header: quoted, so that no name can end it.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

/// The name of a file or folder; where it is on this computer is nobody's business.
fn last(path: &str) -> &str {
    path.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or(path)
}

/// The text of the card.
pub fn text(origin: &Origin, files: &[Exported], form: Form) -> String {
    let (library, relation) = form.of_hub(origin.adapter.is_some() || origin.run.is_some());
    let mut out = String::from("---\n");
    let mut line = |content: &str| {
        out.push_str(content);
        out.push('\n');
    };
    if let Some(license) = &origin.license {
        line(&header(license, has_file(&origin.base)));
    }
    if let Some(base) = origin.base_url.as_ref().and_then(|url| url.strip_prefix("https://huggingface.co/")) {
        line(&format!("base_model: {}\nbase_model_relation: {relation}", quoted(base)));
    }
    line(&format!("pipeline_tag: text-generation\nlibrary_name: {library}"));
    line("tags:\n- peft-studio\n- fine-tuned\n---\n");
    line(&format!("# {}\n", origin.name));
    let spec = origin.base.spec();
    let how = origin.plan.as_ref().map_or_else(String::new, |plan| format!(" with {:?}", plan.method).to_lowercase());
    let tuned = if origin.adapter.is_some() { format!(", fine-tuned{how}") } else { String::new() };
    let id = origin.base_url.as_ref().map_or_else(|| last(origin.base.id()), |_| origin.base.id());
    line(&format!("Base: `{id}` ({} parameters, {}){tuned}.\n", spec.parameters(), spec.architecture));
    facts(origin, &mut line);
    certificates(files, &mut line);
    match form {
        Form::Gguf => usage(origin, files, &mut line),
        Form::Peft | Form::Merged => usage_in_python(origin, form, &mut line),
    }
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
        let data: Vec<String> =
            config.dataset.path.iter().chain(sources).map(|path| format!("`{}`", last(path))).collect();
        if !data.is_empty() {
            line(&format!("- Data: {}", data.join(", ")));
        }
        settings(origin, plan, line);
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

fn settings(origin: &Origin, plan: &TrainingPlan, line: &mut impl FnMut(&str)) {
    if origin.adapter.is_some() {
        let scaled = if plan.use_rslora { ", scaled by the root of the rank" } else { "" };
        line(&format!("- Adapter: rank {}, alpha {}, dropout {}{scaled}", plan.rank, plan.alpha, plan.dropout));
        if let TargetModules::List(names) = &plan.target_modules {
            line(&format!("- Modules: {}", names.join(", ")));
        }
    }
    if plan.method.is_quantized() {
        let twice = if plan.double_quantization { ", quantised scales" } else { "" };
        line(&format!("- Base while training: {}{twice}", plan.quantization_format));
    }
    line(&format!(
        "- {} steps ({:.1} epochs) of {} × {} examples of at most {} tokens",
        plan.total_steps, plan.epochs, plan.micro_batch_size, plan.gradient_accumulation, plan.max_sequence_length
    ));
    line(&format!(
        "- Learning rate {} ({}, {} steps of warm-up), weight decay {}, {}, seed {}",
        plan.learning_rate,
        word(&plan.scheduler),
        plan.warmup_steps,
        plan.weight_decay,
        word(&plan.optimizer),
        plan.seed
    ));
    line(concat!("- Made with PEFT Studio ", env!("CARGO_PKG_VERSION"), "\n"));
}

/// A setting as a run file has it.
fn word(setting: &impl Serialize) -> String {
    serde_json::to_value(setting).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
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

fn usage_in_python(origin: &Origin, form: Form, line: &mut impl FnMut(&str)) {
    line("## How to run it\n");
    line("```python");
    let (library, class) = match form {
        Form::Peft => ("peft", "AutoPeftModelForCausalLM"),
        Form::Merged | Form::Gguf => ("transformers", "AutoModelForCausalLM"),
    };
    line(&format!("from {library} import {class}\nfrom transformers import AutoTokenizer\n"));
    line(&format!("folder = \"{}\"  # this folder, or its name on the hub", origin.name));
    line(&format!("model = {class}.from_pretrained(folder)\ntokenizer = AutoTokenizer.from_pretrained(folder)"));
    line("```\n");
}
