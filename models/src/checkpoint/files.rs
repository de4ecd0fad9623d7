//! Which files of a folder hold the weights, and what to say about a folder that has none.

use peft_plan::{Fault, Result};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::Path;

/// The single file of a model that is not in shards.
pub(super) const SINGLE: &str = "model.safetensors";
/// What names the shards.
pub(super) const INDEX: &str = "model.safetensors.index.json";
/// Largest JSON file that is read, far above any published one.
const JSON_BYTES: u64 = 100 << 20;
/// Most shards; the largest published models have a few hundred.
const SHARDS: usize = 10_000;

/// The weight files of a folder.
pub(super) struct WeightFiles {
    /// File names, in order.
    pub(super) names: Vec<String>,
    /// Which file each tensor is in, where an index says so.
    pub(super) index: Option<Map<String, Value>>,
}

/// A JSON file of the folder, as bytes and parsed.
pub(super) fn json(dir: &Path, name: &str) -> Result<(Vec<u8>, Value)> {
    let path = dir.join(name);
    let read = || -> std::io::Result<Vec<u8>> {
        if fs::metadata(&path)?.len() > JSON_BYTES {
            return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, "it is far too large for this file"));
        }
        fs::read(&path)
    };
    let bytes = read().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Fault::new("PS-MODEL-003", format!("`{name}` is missing from `{}`.", dir.display()))
        }
        _ => Fault::io("read", &path, error),
    })?;
    match serde_json::from_slice(&bytes) {
        Ok(value) => Ok((bytes, value)),
        Err(error) => Err(Fault::new("PS-MODEL-005", format!("`{name}` is not valid JSON: {error}.")).caused_by(error)),
    }
}

/// Whether the file at `path` means to be GGUF: by its name, or by its first bytes, since Ollama's blobs have no ending.
pub(super) fn is_gguf(path: &Path) -> bool {
    let begins = || {
        let mut magic = [0; 4];
        fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && &magic == b"GGUF"
    };
    path.is_file() && (path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf")) || begins())
}

/// Refuse a path that is no folder with a model in it, before anything in it is read.
pub(super) fn recognise(dir: &Path) -> Result<()> {
    let metadata = fs::metadata(dir).map_err(|error| Fault::io("open the model folder", dir, error))?;
    if !metadata.is_dir() {
        return Err(match dir.extension().and_then(|e| e.to_str()) {
            Some("gguf") => only_gguf(dir),
            Some("bin" | "pt" | "pth" | "ckpt") => only_pickle(dir),
            _ => Fault::new(
                "PS-MODEL-003",
                format!("`{}` is a file. Give the folder of the model, the one that holds config.json.", dir.display()),
            ),
        });
    }
    if dir.join("config.json").exists() {
        return Ok(());
    }
    if dir.join("adapter_config.json").exists() {
        return Err(adapter(dir));
    }
    let names = names(dir)?;
    if !names.iter().any(|n| n.ends_with(".safetensors")) {
        if names.iter().any(|n| has_extension(n, &["gguf"])) {
            return Err(only_gguf(dir));
        }
        if names.iter().any(|n| has_extension(n, PICKLE)) {
            return Err(only_pickle(dir));
        }
    }
    Err(Fault::new("PS-MODEL-003", format!("`config.json` is missing from `{}`.", dir.display())))
}

/// The weight files of `dir`, which has a `config.json`.
pub(super) fn weight_files(dir: &Path) -> Result<WeightFiles> {
    if dir.join(INDEX).exists() {
        return indexed(dir);
    }
    if dir.join(SINGLE).exists() {
        return Ok(WeightFiles { names: vec![SINGLE.to_owned()], index: None });
    }
    let names = names(dir)?;
    if names.iter().any(|n| n.starts_with("model-") && n.ends_with(".safetensors")) {
        return Err(missing(dir, INDEX));
    }
    if names.iter().any(|n| has_extension(n, PICKLE)) {
        return Err(only_pickle(dir));
    }
    if names.iter().any(|n| has_extension(n, &["gguf"])) {
        return Err(only_gguf(dir));
    }
    if dir.join("adapter_config.json").exists() {
        return Err(adapter(dir));
    }
    Err(missing(dir, SINGLE))
}

fn indexed(dir: &Path) -> Result<WeightFiles> {
    let (_, index) = json(dir, INDEX)?;
    let Some(Value::Object(map)) = index.get("weight_map") else {
        return Err(Fault::new("PS-MODEL-005", format!("`{INDEX}` has no `weight_map`.")));
    };
    let mut files = BTreeSet::new();
    for (tensor, file) in map {
        match file.as_str() {
            Some(file) if is_plain_name(file) => files.insert(file.to_owned()),
            _ => {
                let detail = format!("`{INDEX}` gives {file} as the file of `{tensor}`, which is not a file name.");
                return Err(Fault::new("PS-MODEL-005", detail));
            }
        };
    }
    if files.is_empty() || files.len() > SHARDS {
        return Err(Fault::new("PS-MODEL-005", format!("`{INDEX}` names {} weight files.", files.len())));
    }
    let absent: Vec<&String> = files.iter().filter(|file| !dir.join(file).exists()).collect();
    if let Some(first) = absent.first() {
        let others = if absent.len() > 1 { format!(" and {} more", absent.len() - 1) } else { String::new() };
        let detail = format!("`{first}`{others} of {} weight files are missing from `{}`.", files.len(), dir.display());
        return Err(Fault::new("PS-MODEL-003", detail));
    }
    Ok(WeightFiles { names: files.into_iter().collect(), index: Some(map.clone()) })
}

/// A name that cannot lead out of the folder, on any system.
fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && !name.starts_with('.')
        && !name.contains(|c: char| c.is_control() || matches!(c, '/' | '\\' | ':'))
}

const PICKLE: &[&str] = &["bin", "pt", "pth", "ckpt", "pkl"];

fn has_extension(name: &str, extensions: &[&str]) -> bool {
    Path::new(name).extension().and_then(|e| e.to_str()).is_some_and(|e| extensions.contains(&e))
}

fn names(dir: &Path) -> Result<Vec<String>> {
    let list = || -> std::io::Result<Vec<String>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    list().map_err(|error| Fault::io("list the folder", dir, error))
}

fn missing(dir: &Path, name: &str) -> Fault {
    Fault::new("PS-MODEL-003", format!("`{name}` is missing from `{}`.", dir.display()))
}

pub(crate) fn only_pickle(path: &Path) -> Fault {
    Fault::new(
        "PS-MODEL-004",
        format!(
            "`{}` holds only PyTorch pickle weights, which can run code when they are opened. \
             Look for a `.safetensors` version of the model, or convert it, then try again.",
            path.display()
        ),
    )
}

fn only_gguf(path: &Path) -> Fault {
    Fault::new(
        "PS-MODEL-002",
        format!(
            "`{}` holds no model in safetensors files, only GGUF. Give the GGUF file itself, or a folder with the safetensors of the model.",
            path.display()
        ),
    )
}

fn adapter(dir: &Path) -> Fault {
    let base = json(dir, "adapter_config.json")
        .ok()
        .and_then(|(_, config)| Some(config.get("base_model_name_or_path")?.as_str()?.to_owned()))
        .map_or_else(String::new, |base| format!(" It belongs to `{base}`."));
    Fault::new(
        "PS-MODEL-003",
        format!(
            "`{}` holds an adapter, not a whole model.{base} Give the folder of the model it was trained on.",
            dir.display()
        ),
    )
}
