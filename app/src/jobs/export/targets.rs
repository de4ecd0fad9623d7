//! What Ollama and LM Studio want beside a GGUF file, and the adapter as a file of its own.

use super::license::license_text;
use super::{Exported, Origin, about, make_room};
use crate::cli::{interrupt, output};
use crate::jobs::model::home;
use durable::Digest;
use peft_models::export::gguf::lora::write_lora;
use peft_models::export::ollama::{Modelfile, TurnLayout};
use peft_plan::{Fault, Result};
use peft_remote::ollama::{Blob, Ollama, Step, Waiting};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Most tokens of context that a Modelfile reserves; a person can raise it.
const CONTEXT: usize = 4096;

/// The adapter of `origin` as a GGUF file in `folder`.
pub fn lora(origin: &Origin, folder: &Path) -> Result<(PathBuf, Digest)> {
    let Some(adapter) = &origin.adapter else {
        return Err(Fault::new("PS-CFG-001", "There is no adapter to export: give a run, or `--adapter DIR`"));
    };
    let path = folder.join(format!("{}-lora-F32.gguf", origin.name));
    let numbers: u64 = adapter.tensors.values().map(|(_, values)| values.len() as u64).sum();
    make_room(folder, std::slice::from_ref(&path), numbers * 4)?;
    let digest = write_lora(&path, origin.base.spec(), adapter, &about(origin))?;
    Ok((path, digest))
}

/// The layout of the turns of `origin` for Ollama. PS-TMPL-001 for a model without one.
pub fn turn_layout(origin: &Origin) -> Result<TurnLayout> {
    let Some(render) = &origin.render else {
        return Err(Fault::new("PS-TMPL-001", "The model has no chat layout, and Ollama needs one"));
    };
    TurnLayout::of(origin.base.tokenizer(), render)
}

/// The Modelfiles of `files`, each with the name of its model: the first is the model, the others are tags of it.
fn modelfiles<'a>(
    origin: &'a Origin,
    layout: &'a TurnLayout,
    files: &'a [Exported],
) -> impl Iterator<Item = (String, Modelfile<'a>, &'a Exported)> {
    let tokenizer = origin.base.tokenizer();
    let mut stops: Vec<String> = Vec::new();
    let end = origin.render.as_ref().and_then(|render| render.template.end_of_turn().map(str::to_owned));
    for stop in end.into_iter().chain(tokenizer.eos().map(|eos| eos.text.clone())) {
        if !stops.contains(&stop) {
            stops.push(stop);
        }
    }
    let model = origin.name.to_lowercase();
    files.iter().enumerate().map(move |(i, file)| {
        let modelfile = Modelfile {
            file: file.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            layout,
            stops: stops.clone(),
            system: origin.render.as_ref().and_then(|render| render.system_prompt.as_deref()),
            context: origin.base.spec().max_positions.min(CONTEXT),
            license: license_text(&origin.base),
        };
        let tag = if i == 0 { String::new() } else { format!(":{}", file.file_type.to_lowercase()) };
        (format!("{model}{tag}"), modelfile, file)
    })
}

/// Modelfiles for `files`, and the lines that tell an application where the model is (S3.8). What to type comes back.
pub fn ollama(origin: &Origin, layout: &TurnLayout, files: &[Exported], folder: &Path) -> Result<Vec<String>> {
    let mut steps = Vec::new();
    for (i, (name, modelfile, file)) in modelfiles(origin, layout, files).enumerate() {
        let ending = if i == 0 { String::new() } else { format!(".{}", file.file_type) };
        put(&folder.join(format!("Modelfile{ending}")), &modelfile.text()?)?;
        steps.push(format!("ollama create {name} -f Modelfile{ending}"));
    }
    let host = std::env::var("OLLAMA_HOST").ok();
    let address = Ollama::address(host.as_deref()).or_else(|_| Ollama::address(None))?;
    let (address, model) = (address.as_str().trim_end_matches('/'), origin.name.to_lowercase());
    let environment = format!(
        "LLM_PROVIDER=ollama\nOLLAMA_BASE_URL={address}\nOLLAMA_MODEL={model}\nOLLAMA_HOST={address}\n\
         OPENAI_BASE_URL={address}/v1\nOPENAI_API_KEY=ollama\n"
    );
    put(&folder.join("ollama.env"), &environment)?;
    Ok(steps)
}

/// Whether the models are now known to the Ollama that runs here.
pub enum Registered {
    /// Under these names.
    As(Vec<String>),
    /// There is none that could be told, and this is why.
    Nobody(Fault),
    /// The person had enough.
    Stopped,
}

/// Tell a running Ollama about `files`. What it refuses is a fault; that there is none is not.
pub fn register(origin: &Origin, layout: &TurnLayout, files: &[Exported]) -> Result<Registered> {
    let host = std::env::var("OLLAMA_HOST").ok();
    let ollama = match Ollama::connect(&Ollama::address(host.as_deref())?, Waiting::default()) {
        Ok(ollama) => ollama,
        Err(fault) if matches!(fault.code, "PS-OLL-001" | "PS-OLL-003") => return Ok(Registered::Nobody(fault)),
        Err(fault) => return Err(fault),
    };
    let mut names = Vec::new();
    for (name, modelfile, file) in modelfiles(origin, layout, files) {
        let blob = Blob { path: &file.path, bytes: file.bytes, sha256: &file.sha256 };
        let mut told = String::new();
        let done = ollama.register(blob, &modelfile.request(&name, &file.sha256), &mut |step| {
            if let Step::Says(text) = step
                && !text.is_empty()
                && *text != told
            {
                told.clone_from(text);
                output::note(&format!("Ollama: {}", output::printable(text)));
            }
            if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if !done {
            return Ok(Registered::Stopped);
        }
        names.push(name);
    }
    Ok(Registered::As(names))
}

fn put(path: &Path, text: &str) -> Result<()> {
    durable::write_file(path, text.as_bytes()).map_err(|error| Fault::io("write", path, error))
}

/// Where LM Studio looks for a model of this name: exactly two folders below its models, under `out` or its own.
pub fn lm_studio_folder(origin: &Origin, out: Option<&Path>) -> Result<PathBuf> {
    let own = || {
        let home = home()?;
        let older = home.join(".cache").join("lm-studio").join("models");
        let usual = home.join(".lmstudio").join("models");
        Some(if !usual.exists() && older.exists() { older } else { usual })
    };
    let Some(models) = out.map(Path::to_owned).or_else(own) else {
        return Err(Fault::new("PS-CFG-001", "The folder of LM Studio is not known here; name one with `--out DIR`"));
    };
    Ok(models.join("peft-studio").join(&origin.name))
}
