//! Adapters in the files of the PEFT library: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! What the tensors say wins: the configuration contributes scaling and flags. A flag that changes
//! the arithmetic in a way that is not done here is refused by name, never ignored.

mod adapter_config;
mod targets;

pub use adapter_config::AdapterConfig;
pub use targets::{explicit_targets, matches};

use crate::checkpoint::names::{ADAPTER_PREFIX, canonical};
use crate::checkpoint::{header, map, only_pickle, widen};
use crate::merge_writer::{OutTensor, narrow, write_tensors};
use peft_kernels::DType;
use peft_plan::{Fault, Result};
use safetensors::Dtype;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Name of the settings' file.
pub const CONFIG_NAME: &str = "adapter_config.json";
/// Name of the tensors' file.
pub const TENSORS_NAME: &str = "adapter_model.safetensors";
/// Largest `adapter_config.json` that is read.
const CONFIG_BYTES: u64 = 16 << 20;

/// Shape and numbers by name.
pub type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// An adapter as it was read.
#[derive(Clone, Debug)]
pub struct AdapterFile {
    /// Its settings.
    pub config: AdapterConfig,
    /// Its tensors, as `base_model.model.model.layers.0.….lora_A.weight`.
    pub tensors: Tensors,
}

/// Read the adapter in the folder `dir`.
pub fn read_adapter(dir: &Path) -> Result<AdapterFile> {
    let path = dir.join(CONFIG_NAME);
    let read = || match fs::metadata(&path)?.len() {
        ..=CONFIG_BYTES => fs::read(&path),
        _ => Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, "it is far too large for this file")),
    };
    let bytes = read().map_err(|error| missing_or(dir, CONFIG_NAME, error))?;
    let config = AdapterConfig::from_json(&bytes)?;
    let path = dir.join(TENSORS_NAME);
    if !path.exists() && dir.join("adapter_model.bin").exists() {
        return Err(only_pickle(dir));
    }
    if !path.exists() {
        return Err(missing_or(dir, TENSORS_NAME, std::io::ErrorKind::NotFound.into()));
    }
    let mut tensors = Tensors::new();
    for (stored, tensor) in read_tensors(&path)? {
        let name = adapter_name(&stored, &config)?;
        if tensor.1.iter().any(|x| !x.is_finite()) {
            return Err(damaged(&format!("the tensor `{stored}` holds values that are not numbers")));
        }
        if tensors.insert(name, tensor).is_some() {
            return Err(damaged(&format!("the tensor `{stored}` is there twice")));
        }
    }
    check_pairs(&config, &tensors)?;
    check_saved(&config, &tensors)?;
    Ok(AdapterFile { config, tensors })
}

/// Every tensor of the safetensors file `path` as f32, under the names it has there.
pub fn read_tensors(path: &Path) -> Result<Tensors> {
    let file = path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
    let mapped = map::map(path).map_err(|error| Fault::io("open", path, error))?;
    let bytes: &[u8] = mapped.as_ref();
    let mut tensors = Tensors::new();
    for entry in header::read(&file, bytes)?.entries {
        let Some(dtype) = header::float(entry.dtype) else {
            return Err(header::damaged(
                &file,
                &format!("the tensor `{}` holds {:?} numbers", entry.name, entry.dtype),
            ));
        };
        tensors.insert(entry.name, (entry.shape, widen(dtype, &bytes[entry.range])));
    }
    Ok(tensors)
}

/// The bytes of a safetensors file with these tensors in f32: the same for the same tensors, and
/// those that the reference writer makes.
///
/// # Panics
/// If a tensor has not as many numbers as its shape says.
pub fn adapter_tensors_bytes(tensors: &Tensors) -> Vec<u8> {
    let out: Vec<OutTensor> = tensors
        .iter()
        .map(|(name, (shape, values))| {
            assert_eq!(shape.iter().product::<usize>(), values.len(), "`{name}` does not fill its shape");
            OutTensor { name: name.clone(), canonical: name.clone(), dtype: Dtype::F32, shape: shape.clone() }
        })
        .collect();
    let mut bytes = Vec::new();
    write_tensors(&mut bytes, &out.iter().collect::<Vec<_>>(), |tensor| {
        Ok(narrow(DType::F32, &tensors[&tensor.name].1))
    })
    .expect("writing to memory does not fail, and what is in memory is not too large");
    bytes
}

/// Write an adapter to the folder `dir`, which is created where needed; each file is there whole or
/// not at all, the settings last.
pub fn write_adapter(dir: &Path, config: &AdapterConfig, tensors: &Tensors) -> Result<()> {
    let write = || {
        durable::create_directories(dir)?;
        durable::write_file(&dir.join(TENSORS_NAME), &adapter_tensors_bytes(tensors))?;
        durable::write_file(&dir.join(CONFIG_NAME), config.to_json().as_bytes())
    };
    write().map_err(|error| Fault::io("write the adapter to", dir, error))
}

fn missing_or(dir: &Path, name: &str, error: std::io::Error) -> Fault {
    match error.kind() {
        std::io::ErrorKind::NotFound if dir.is_dir() => {
            Fault::new("PS-MODEL-003", format!("`{name}` is missing from `{}`, so it is no adapter.", dir.display()))
        }
        _ => Fault::io("read", &dir.join(name), error),
    }
}

fn damaged(how: &str) -> Fault {
    header::damaged(TENSORS_NAME, how)
}

/// The one name of an adapter's tensor: prefix once, no suffix after a magnitude.
fn adapter_name(stored: &str, config: &AdapterConfig) -> Result<String> {
    let path = canonical(stored);
    let path = path
        .strip_suffix(".lora_magnitude_vector.weight")
        .map_or(path.clone(), |p| format!("{p}.lora_magnitude_vector"));
    let known = [".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"];
    let module = path.strip_suffix(".weight").unwrap_or_default();
    let is_saved = config.saved_names().iter().any(|name| module.ends_with(name.as_str()));
    if is_saved || known.iter().any(|suffix| path.ends_with(suffix)) {
        return Ok(format!("{ADAPTER_PREFIX}{path}"));
    }
    let what = if path.contains("lora_embedding") || path.contains("token_adapter") {
        "an adapter of the embedding matrix"
    } else if path.ends_with(".lora_B.bias") {
        "a bias in the adapter"
    } else if path.contains(".lora_") {
        "a kind of adapter tensor that is not known"
    } else {
        "a whole matrix besides the adapter that `modules_to_save` does not name"
    };
    Err(Fault::new("PS-MODEL-002", format!("The adapter holds `{stored}`, {what}, which is not there yet.")))
}

/// Something of every module that was trained whole.
fn check_saved(config: &AdapterConfig, tensors: &Tensors) -> Result<()> {
    let is_there = |name: &String| tensors.keys().any(|t| t.strip_suffix(".weight").is_some_and(|m| m.ends_with(name)));
    match config.modules_to_save.iter().find(|name| !is_there(name)) {
        None => Ok(()),
        Some(name) => Err(damaged(&format!("`{CONFIG_NAME}` says that it holds `{name}`, and it does not"))),
    }
}

/// Both halves of every pair, of the rank that the settings say.
fn check_pairs(config: &AdapterConfig, tensors: &Tensors) -> Result<()> {
    let mut pairs = 0;
    for (name, (shape, _)) in tensors {
        let split = |suffix: &str| name.strip_suffix(suffix).map(str::to_owned);
        let (path, partner) = if let Some(path) = split(".lora_A.weight") {
            pairs += 1;
            (path.clone(), format!("{path}.lora_B.weight"))
        } else if let Some(path) = split(".lora_B.weight").or_else(|| split(".lora_magnitude_vector")) {
            (path.clone(), format!("{path}.lora_A.weight"))
        } else {
            continue;
        };
        let Some((other, _)) = tensors.get(&partner) else {
            return Err(damaged(&format!("`{name}` is there without `{partner}`")));
        };
        if !name.ends_with(".lora_A.weight") {
            continue;
        }
        let module = path.strip_prefix(ADAPTER_PREFIX).unwrap_or(&path);
        let rank = config.rank_for(module);
        if shape.len() != 2 || other.len() != 2 || shape[0] != rank || other[1] != rank {
            let how = format!("`{path}` has the shapes {shape:?} and {other:?}, and `{CONFIG_NAME}` says rank {rank}");
            return Err(damaged(&how));
        }
    }
    if pairs == 0 {
        return Err(damaged("it holds no adapter tensors"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
