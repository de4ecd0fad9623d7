//! A model on disk: its architecture and its weights, mapped and checked before anything is believed.
//!
//! Weights are read from safetensors only. Nothing is copied: a [`FrozenWeight`] points into the
//! memory map, and so do the 4-bit codes of a bitsandbytes checkpoint. Every header is checked
//! against its file when the folder is opened; that the tensors suit the architecture is what
//! [`Checkpoint::check`] says, and that they hold numbers what [`Checkpoint::non_finite`] says.

mod blank;
mod complete;
mod experts;
mod files;
mod four_bit;
mod from_gguf;
pub(crate) mod header;
pub(crate) mod map;
pub(crate) mod names;
mod scan;

pub use blank::write_noise;
pub(crate) use experts::PACKED;
pub use experts::{ExpertMatrix, ExpertParts};
pub(crate) use files::only_pickle;

use crate::export::gguf;
use header::{Entry, Header};
use memmap2::Mmap;
use peft_kernels::quant::GgmlType;
use peft_kernels::{Bytes, DType, FrozenWeight};
use peft_plan::family::{Precision, spec_from_config, spec_with_precision};
use peft_plan::{Fault, ModelSpec, Result};
use safetensors::Dtype;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// Bytes at either end of a tensor that count towards [`Checkpoint::hash`].
const SAMPLE_BYTES: usize = 256;

/// A model on disk, or in memory.
pub struct Checkpoint {
    dir: Option<PathBuf>,
    spec: ModelSpec,
    config: Value,
    /// By canonical name.
    tensors: BTreeMap<String, StoredTensor>,
    /// The maps that tensors point into, by the name of the file.
    maps: BTreeMap<Arc<str>, Arc<Mmap>>,
    hash: String,
    /// The GGUF file that it is.
    gguf: Option<Arc<gguf::File>>,
}

/// One tensor as its file holds it.
#[derive(Clone, Debug)]
pub struct StoredTensor {
    /// Its name in the file.
    pub stored_name: String,
    /// The file.
    pub file: Arc<str>,
    /// Element type; bytes where it is blocks.
    pub dtype: Dtype,
    /// The type of its blocks, if it is such.
    pub blocks: Option<GgmlType>,
    /// Dimensions.
    pub shape: Vec<usize>,
    /// Little-endian content, as long as type and shape say.
    pub bytes: Bytes,
}

/// A weight file whose header was checked.
struct WeightFile {
    name: Arc<str>,
    bytes: Bytes,
    header: Header,
}

impl Checkpoint {
    /// Open the model in the folder `dir`, or the GGUF file of that name.
    pub fn open(dir: &Path) -> Result<Self> {
        if files::is_gguf(dir) {
            let (file, map) = gguf::File::open_mapped(dir)?;
            return Self::from_gguf(file, map, dir.parent());
        }
        files::recognise(dir)?;
        let (config_bytes, config) = files::json(dir, "config.json")?;
        // What cannot be trained is said before a file of many gigabytes is looked for.
        spec_from_config(&config)?;
        let found = files::weight_files(dir)?;
        let mut weights = Vec::with_capacity(found.names.len());
        let mut maps = BTreeMap::new();
        for name in &found.names {
            let path = dir.join(name);
            let mapped = map::map(&path).map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => Fault::new("PS-MODEL-003", format!("`{}` is missing.", path.display())),
                _ => Fault::io("open", &path, error),
            })?;
            maps.insert(Arc::from(name.as_str()), Arc::clone(&mapped));
            weights.push(WeightFile::read(name, Bytes::new(mapped))?);
        }
        let opened = Self::assemble(Some(dir.to_owned()), &config_bytes, config, weights, found.index.as_ref())?;
        Ok(Self { maps, ..opened })
    }

    /// A model that is part of the program.
    pub fn from_bytes(config_json: &[u8], safetensors: &'static [u8]) -> Result<Self> {
        let config = serde_json::from_slice(config_json)
            .map_err(|error| Fault::new("PS-MODEL-005", format!("config.json is not valid JSON: {error}.")))?;
        let weights = WeightFile::read(files::SINGLE, Bytes::new(Arc::new(safetensors)))?;
        Self::assemble(None, config_json, config, vec![weights], None)
    }

    fn assemble(
        dir: Option<PathBuf>,
        config_bytes: &[u8],
        config: Value,
        weights: Vec<WeightFile>,
        index: Option<&Map<String, Value>>,
    ) -> Result<Self> {
        if let Some(index) = index {
            check_index(index, &weights)?;
        }
        let hash = identity(config_bytes, &weights);
        let mut tensors = BTreeMap::new();
        for WeightFile { name: file, bytes, header } in weights {
            for Entry { name, dtype, shape, range } in header.entries {
                let listed = index.is_none_or(|index| index.get(&name).and_then(Value::as_str) == Some(&*file));
                if !listed {
                    continue;
                }
                let outside = || header::damaged(&file, &format!("the tensor `{name}` is outside it"));
                let bytes = bytes.slice(range).ok_or_else(outside)?;
                let tensor =
                    StoredTensor { stored_name: name, file: Arc::clone(&file), dtype, blocks: None, shape, bytes };
                if let Some(other) = tensors.insert(names::canonical(&tensor.stored_name), tensor.clone()) {
                    let how = format!("`{}` and `{}` are the same tensor", other.stored_name, tensor.stored_name);
                    return Err(header::damaged(&file, &how));
                }
            }
        }
        let spec = Self::spec_of(&config)?;
        Ok(Self { dir, spec, config, tensors, maps: BTreeMap::new(), hash, gguf: None })
    }

    /// What a `config.json` describes. Everything is computed in f32 here, so Gemma's embedding scale is that of f32 too: rounding it to the type of
    /// the file is what other programs do when they compute in that type.
    pub fn spec_of(config: &Value) -> Result<ModelSpec> {
        spec_with_precision(config, Precision::F32)
    }

    /// Its architecture.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// Its `config.json`.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// The GGUF file that it is, if it is one.
    pub fn gguf(&self) -> Option<&gguf::File> {
        self.gguf.as_deref()
    }

    /// Its folder, unless it is part of the program.
    pub fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    /// Every tensor by its canonical name (`model.layers.0.…`), in the order of the names.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &StoredTensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// The tensor of this name, in any of its spellings.
    pub fn tensor(&self, name: &str) -> Option<&StoredTensor> {
        self.tensors.get(name).or_else(|| self.tensors.get(&names::canonical(name)))
    }

    /// Whether there is a tensor of this name, in any of its spellings.
    pub fn has(&self, name: &str) -> bool {
        self.tensor(name).is_some()
    }

    /// Bytes of all tensors.
    pub fn total_bytes(&self) -> u64 {
        self.tensors.values().map(|tensor| tensor.bytes.len() as u64).sum()
    }

    /// Bytes of all weight files as they are mapped, headers included.
    pub fn mapped_bytes(&self) -> u64 {
        self.maps.values().map(|map| map.len() as u64).sum()
    }

    /// Give the memory under the tensor `name` back to the system. It is read from the file again when it is needed.
    pub fn release(&self, name: &str) {
        if let Some(tensor) = self.tensor(name)
            && let Some(map) = self.maps.get(&tensor.file)
        {
            map::release(map, tensor.bytes.as_slice());
        }
    }

    /// What gives the memory under a block back, by the number of the block.
    pub(crate) fn sparing(&self) -> impl Fn(usize) + Send + Sync + use<> {
        let mut blocks: Vec<Vec<(Arc<Mmap>, Bytes)>> = self.spec.layers.iter().map(|_| Vec::new()).collect();
        for (name, tensor) in &self.tensors {
            let number =
                name.strip_prefix("model.layers.").and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
            if let Some(block) = number.and_then(|number| blocks.get_mut(number))
                && let Some(map) = self.maps.get(&tensor.file)
            {
                block.push((Arc::clone(map), tensor.bytes.clone()));
            }
        }
        move |number| {
            for (map, bytes) in blocks.get(number).into_iter().flatten() {
                map::release(map, bytes.as_slice());
            }
        }
    }

    /// Its weight files as they are now: name, length, time of the last change.
    pub(crate) fn stamps(&self) -> Vec<(String, u64, Option<SystemTime>)> {
        let Some(dir) = self.dir() else { return Vec::new() };
        let names = self.maps.keys().map(|name| &**name);
        let stamp = |name: &str| {
            let found = std::fs::metadata(dir.join(name)).ok();
            let changed = found.as_ref().and_then(|found| found.modified().ok());
            (name.to_owned(), found.map_or(0, |found| found.len()), changed)
        };
        names.map(stamp).collect()
    }

    /// SHA-256 by which a run knows its base model again, 64 hexadecimal digits.
    ///
    /// It covers `config.json`, the name, size and header of every weight file, and the first and
    /// last 256 bytes of every tensor: cheap even for a model of many gigabytes, and different for
    /// two fine-tunes of one model. It does not prove that every weight is what it was.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The matrix `name` as it is stored, dense or in 4 bits.
    pub fn frozen(&self, name: &str) -> Result<FrozenWeight> {
        let weight = if let Some(weight) = four_bit::read(self, name)? {
            FrozenWeight::FourBit(weight)
        } else {
            let tensor = self.needed(name)?;
            if let (Some(kind), &[rows, cols]) = (tensor.blocks, tensor.shape.as_slice()) {
                return Ok(FrozenWeight::Blocks { bytes: tensor.bytes.clone(), kind, rows, cols });
            }
            let (dtype, &[rows, cols]) = (tensor.float()?, tensor.shape.as_slice()) else {
                return Err(tensor.damaged("it is not a matrix"));
            };
            FrozenWeight::Dense { bytes: tensor.bytes.clone(), dtype, rows, cols }
        };
        match weight.check() {
            Ok(()) => Ok(weight),
            Err(error) => Err(self.needed(name)?.damaged(&error.to_string())),
        }
    }

    /// The vector `name` as f32: norms and biases.
    pub fn vector(&self, name: &str) -> Result<Vec<f32>> {
        let tensor = self.needed(name)?;
        if tensor.shape.len() != 1 {
            return Err(tensor.damaged("it is not a vector"));
        }
        tensor.to_f32()
    }

    /// Output and input features of the matrix `name` if it is stored in 4 bits.
    pub fn four_bit_shape(&self, name: &str) -> Result<Option<(usize, usize)>> {
        four_bit::shape(self, name)
    }

    fn needed(&self, name: &str) -> Result<&StoredTensor> {
        self.tensor(name).ok_or_else(|| Fault::new("PS-MODEL-003", format!("The model has no tensor `{name}`.")))
    }
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { dir, spec, tensors, .. } = self;
        write!(f, "Checkpoint({} in {dir:?}, {} tensors)", spec.architecture, tensors.len())
    }
}

impl WeightFile {
    fn read(name: &str, bytes: Bytes) -> Result<Self> {
        let header = header::read(name, bytes.as_slice())?;
        Ok(Self { name: name.into(), bytes, header })
    }
}

impl StoredTensor {
    /// Its element type, if it is one that can be computed with.
    pub fn float(&self) -> Result<DType> {
        header::float(self.dtype).ok_or_else(|| {
            let detail = format!(
                "The tensor `{}` in `{}` holds {:?} numbers, which are not read here. Choose a version of the model in 16 or 32 bits, or a bitsandbytes 4-bit build.",
                self.stored_name, self.file, self.dtype
            );
            Fault::new("PS-MODEL-002", detail)
        })
    }

    /// Its numbers as f32.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        if let Some(kind) = self.blocks {
            let mut out = vec![0.0; self.shape.iter().product()];
            peft_kernels::quant::ggml::dequantize(kind, self.bytes.as_slice(), &mut out);
            return Ok(out);
        }
        Ok(widen(self.float()?, self.bytes.as_slice()))
    }

    /// A fault that names it.
    pub(crate) fn damaged(&self, how: &str) -> Fault {
        header::damaged(&self.file, &format!("the tensor `{}`, of shape {:?}: {how}", self.stored_name, self.shape))
    }
}

/// Little-endian numbers as f32.
pub(crate) fn widen(dtype: DType, bytes: &[u8]) -> Vec<f32> {
    let (pairs, _) = bytes.as_chunks::<2>();
    let (quads, _) = bytes.as_chunks::<4>();
    match dtype {
        DType::F32 => quads.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        DType::F16 => pairs.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect(),
        DType::BF16 => pairs.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect(),
    }
}

/// Every tensor of the index is in the file that the index says.
fn check_index(index: &Map<String, Value>, weights: &[WeightFile]) -> Result<()> {
    let present: std::collections::HashSet<(&str, &str)> =
        weights.iter().flat_map(|w| w.header.entries.iter().map(|e| (e.name.as_str(), &*w.name))).collect();
    for (tensor, file) in index {
        let file = file.as_str().unwrap_or_default();
        if !present.contains(&(tensor.as_str(), file)) {
            let detail = format!(
                "`{}` says that the tensor `{tensor}` is in `{file}`, and it is not there. The files may be of two versions of the model.",
                files::INDEX
            );
            return Err(Fault::new("PS-MODEL-003", detail));
        }
    }
    Ok(())
}

fn identity(config: &[u8], weights: &[WeightFile]) -> String {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(config);
    for WeightFile { name, bytes, header } in weights {
        let bytes = bytes.as_slice();
        part(name.as_bytes());
        part(&(bytes.len() as u64).to_le_bytes());
        part(&bytes[..header.bytes]);
        for entry in &header.entries {
            let content = &bytes[entry.range.clone()];
            part(&content[..content.len().min(SAMPLE_BYTES)]);
            part(&content[content.len().saturating_sub(SAMPLE_BYTES)..]);
        }
    }
    durable::hex(&hash.finalize())
}

#[cfg(test)]
mod tests;
