//! What Ollama and LM Studio want beside a GGUF file, and the adapter as a file of its own.

use super::license::license_text;
use super::{Exported, Origin, about, make_room};
use crate::jobs::model::home;
use durable::Digest;
use peft_models::export::gguf::lora::write_lora;
use peft_models::export::ollama::{Modelfile, TurnLayout};
use peft_plan::{Fault, Result};
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

/// Modelfiles for `files`, and the lines that tell an application where the model is. What to type comes back.
pub fn ollama(origin: &Origin, layout: &TurnLayout, files: &[Exported], folder: &Path) -> Result<Vec<String>> {
    let tokenizer = origin.base.tokenizer();
    let mut stops: Vec<String> = Vec::new();
    let end = origin.render.as_ref().and_then(|render| render.template.end_of_turn().map(str::to_owned));
    for stop in end.into_iter().chain(tokenizer.eos().map(|eos| eos.text.clone())) {
        if !stops.contains(&stop) {
            stops.push(stop);
        }
    }
    let mut steps = Vec::new();
    for (i, file) in files.iter().enumerate() {
        let name = file.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = Modelfile {
            file: &name,
            layout,
            stops: stops.clone(),
            system: origin.render.as_ref().and_then(|render| render.system_prompt.as_deref()),
            context: origin.base.spec().max_positions.min(CONTEXT),
            license: license_text(&origin.base),
        }
        .text()?;
        let (ending, tag) = match i {
            0 => (String::new(), String::new()),
            _ => (format!(".{}", file.file_type), format!(":{}", file.file_type.to_lowercase())),
        };
        put(&folder.join(format!("Modelfile{ending}")), &text)?;
        steps.push(format!("ollama create {}{tag} -f Modelfile{ending}", origin.name.to_lowercase()));
    }
    let environment = format!(
        "OLLAMA_HOST=http://127.0.0.1:11434\nOLLAMA_MODEL={}\nOPENAI_BASE_URL=http://127.0.0.1:11434/v1\nOPENAI_API_KEY=ollama\n",
        origin.name.to_lowercase()
    );
    put(&folder.join("ollama.env"), &environment)?;
    Ok(steps)
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
