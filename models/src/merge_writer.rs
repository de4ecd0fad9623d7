//! A whole model as a folder that other programs read: safetensors written tensor by tensor.
//!
//! Only one tensor is in memory at a time, however large the model. The folder appears whole, with
//! a manifest of hashes, or not at all: a source that turns out damaged halfway leaves nothing. Where it is known what
//! the tensors are made of, a process that died is gone on with at the tensor it had come to.

use crate::checkpoint::{Checkpoint, PACKED, StoredTensor};
use durable::{Manifest, Part};
use peft_kernels::{DType, FrozenWeight, quant};
use peft_plan::{Fault, Result};
use safetensors::Dtype;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// Tensors that describe a 4-bit weight, by the end of their names; the dense weight replaces them.
const FOUR_BIT_COMPANIONS: &[&str] = &[
    ".weight.absmax",
    ".weight.quant_map",
    ".weight.nested_absmax",
    ".weight.nested_quant_map",
    ".weight.quant_state.bitsandbytes__nf4",
    ".weight.quant_state.bitsandbytes__fp4",
];

/// Files that belong to the model and do not change with its weights.
const COPIED: &[&str] = &[
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "LICENSE",
    "LICENSE.txt",
    "LICENSE.md",
    "NOTICE",
    "NOTICE.txt",
    "USE_POLICY.md",
];

/// One tensor that will be written.
#[derive(Clone, Debug, PartialEq)]
pub struct OutTensor {
    /// Its name in the file.
    pub name: String,
    /// Its name in [`Checkpoint`]'s terms.
    pub canonical: String,
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions.
    pub shape: Vec<usize>,
}

impl OutTensor {
    /// Bytes of its content.
    pub fn bytes(&self) -> Option<u64> {
        let elements = self.shape.iter().try_fold(1u64, |n, dim| n.checked_mul(*dim as u64))?;
        Some(elements.checked_mul(self.dtype.bitsize() as u64)? / 8)
    }
}

/// What a model folder is made of, its tensors apart.
#[derive(Clone, Debug)]
pub struct Options {
    /// Type of all weights, and what `config.json` will say.
    pub dtype: DType,
    /// Most bytes of one weight file; a larger model is cut into shards.
    pub shard_bytes: Option<u64>,
    /// Further files by plain name; one that the base model has too is taken from here.
    pub extra_files: Vec<(String, Vec<u8>)>,
    /// One word for everything that decides the bytes of the tensors: with it an interrupted attempt is gone on with.
    pub made_of: Option<String>,
}

/// The tensors of `base` once its weights are in `dtype`: names as in its files, 4-bit weights
/// dense, no copy of the head where it is tied.
pub fn tensors_of(base: &Checkpoint, dtype: DType) -> Result<Vec<OutTensor>> {
    let mut tensors = Vec::new();
    for (canonical, stored) in base.tensors() {
        let companion = FOUR_BIT_COMPANIONS.iter().any(|end| canonical.ends_with(end));
        if companion || (base.spec().tied && canonical == "lm_head.weight") {
            continue;
        }
        if let Some((name, shape)) = base.packed_experts(canonical) {
            let name = stored.stored_name.strip_suffix(PACKED.0).map_or(name, str::to_owned);
            tensors.push(OutTensor { name, canonical: canonical.to_owned(), dtype: out_type(dtype), shape });
            continue;
        }
        let of_packed = canonical.strip_suffix(PACKED.1).map(|name| format!("{name}{}", PACKED.0));
        if of_packed.is_some_and(|codes| base.packed_experts(&codes).is_some()) {
            continue;
        }
        let (kind, shape) = match base.four_bit_shape(canonical)? {
            Some((rows, cols)) => (out_type(dtype), vec![rows, cols]),
            None if stored.blocks.is_some() || stored.float().is_ok() => (out_type(dtype), stored.shape.clone()),
            None => (stored.dtype, stored.shape.clone()),
        };
        let (name, canonical) = (stored.stored_name.clone(), canonical.to_owned());
        tensors.push(OutTensor { name, canonical, dtype: kind, shape });
    }
    Ok(tensors)
}

/// Give the tensors of a tied model a head of its own, named as its embedding is.
pub fn add_head(tensors: &mut Vec<OutTensor>) {
    let Some(embedding) = tensors.iter().find(|t| t.canonical == "model.embed_tokens.weight") else { return };
    let front = embedding.name.strip_suffix("model.embed_tokens.weight").unwrap_or_default();
    let head = OutTensor {
        name: format!("{front}lm_head.weight"),
        canonical: "lm_head.weight".to_owned(),
        ..embedding.clone()
    };
    tensors.push(head);
}

/// The content of `tensor` as `base` has it, in the type that will be written.
pub fn base_bytes(base: &Checkpoint, tensor: &OutTensor) -> Result<Vec<u8>> {
    let missing = || Fault::new("PS-MODEL-003", format!("The model has no tensor `{}`.", tensor.canonical));
    let stored: &StoredTensor = base.tensor(&tensor.canonical).ok_or_else(missing)?;
    let dtype = || crate::checkpoint::header::float(tensor.dtype).ok_or_else(missing);
    if base.packed_experts(&tensor.canonical).is_some() {
        return Ok(narrow(dtype()?, &base.unpacked_experts(&tensor.canonical)?));
    }
    let four_bit = base.four_bit_shape(&tensor.canonical)?.is_some();
    if !four_bit && stored.dtype == tensor.dtype {
        return Ok(stored.bytes.as_slice().to_vec());
    }
    let values = match four_bit.then(|| base.frozen(&tensor.canonical)).transpose()? {
        Some(FrozenWeight::FourBit(weight)) => quant::dequantize(&weight),
        Some(FrozenWeight::Dense { .. } | FrozenWeight::Blocks { .. }) | None => stored.to_f32()?,
    };
    Ok(narrow(dtype()?, &values))
}

/// Numbers in a type, little-endian; rounded to nearest, ties to even.
pub fn narrow(dtype: DType, values: &[f32]) -> Vec<u8> {
    match dtype {
        DType::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        DType::F16 => values.iter().flat_map(|x| half::f16::from_f32(*x).to_le_bytes()).collect(),
        DType::BF16 => values.iter().flat_map(|x| half::bf16::from_f32(*x).to_le_bytes()).collect(),
    }
}

/// Write the model `tensors` to the folder `out`, which must not exist or be empty.
///
/// `produce` gives the content of one tensor at a time; what it cannot produce stops everything.
/// `config.json` is that of `base` with the type changed and the quantisation taken out, and the
/// tokenizer's files are copied byte for byte.
pub fn write_model(
    out: &Path,
    base: &Checkpoint,
    tensors: &[OutTensor],
    options: &Options,
    mut produce: impl FnMut(&OutTensor) -> Result<Vec<u8>>,
) -> Result<Manifest> {
    let written = write_model_unless(out, base, tensors, options, |tensor| produce(tensor).map(Some))?;
    written.ok_or_else(|| Fault::new("PS-EXP-002", "The model was not written, though nobody stopped it."))
}

/// [`write_model`], until `produce` gives nothing any more: the person had enough. What is done stays for the next
/// attempt, where it is known what the tensors are made of.
pub fn write_model_unless(
    out: &Path,
    base: &Checkpoint,
    tensors: &[OutTensor],
    options: &Options,
    mut produce: impl FnMut(&OutTensor) -> Result<Option<Vec<u8>>>,
) -> Result<Option<Manifest>> {
    let parent = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    durable::create_directories(parent).map_err(|error| Fault::io("create the folder", parent, error))?;
    let shards = shards(tensors, options.shard_bytes)?;
    let (mut stopped, mut cancelled) = (None, false);
    let fill = |folder: &mut durable::Writer| {
        let count = shards.len();
        for (i, shard) in shards.iter().enumerate() {
            let mut produce = |tensor: &OutTensor| match produce(tensor) {
                Ok(Some(bytes)) => expect_length(tensor, bytes).map_err(|fault| {
                    stopped = Some(fault);
                    io::Error::other("a tensor could not be produced")
                }),
                Ok(None) => {
                    cancelled = true;
                    Err(io::ErrorKind::Interrupted.into())
                }
                Err(fault) => {
                    stopped = Some(fault);
                    Err(io::Error::other("a tensor could not be produced"))
                }
            };
            let name = shard_name(i, count);
            match &options.made_of {
                Some(word) => folder.part(&name, word, |part| write_part(part, shard, &mut produce))?,
                None => folder.file(&name, |file| write_tensors(file, shard, &mut produce))?,
            }
        }
        if count > 1 {
            folder.file("model.safetensors.index.json", |file| file.write_all(index(&shards).as_bytes()))?;
        }
        let mut config = merged_config(base.config(), options.dtype);
        if base.spec().tied && tensors.iter().any(|t| t.canonical == "lm_head.weight") {
            untie(&mut config);
        }
        let config = pretty(&config);
        folder.file("config.json", |file| file.write_all(config.as_bytes()))?;
        for (name, bytes) in &options.extra_files {
            folder.file(name, |file| file.write_all(bytes))?;
        }
        for name in COPIED.iter().filter(|name| !options.extra_files.iter().any(|(extra, _)| extra == *name)) {
            copy(base.dir(), name, folder)?;
        }
        Ok(())
    };
    let written = match &options.made_of {
        Some(_) => durable::continue_directory(out, fill),
        None => durable::commit_directory(out, fill),
    };
    match written {
        Err(_) if cancelled => Ok(None),
        Err(error) => Err(stopped.unwrap_or_else(|| not_written(out, error))),
        Ok(manifest) => Ok(Some(manifest)),
    }
}

/// Why the folder `out` could not be written.
pub(crate) fn not_written(out: &Path, error: io::Error) -> Fault {
    let why = match error.kind() {
        io::ErrorKind::AlreadyExists if error.to_string().contains(".part") => error.to_string(),
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            format!("`{}` already holds files. Give a folder that does not exist yet.", out.display())
        }
        io::ErrorKind::WouldBlock => format!("Another export is writing `{}` at this moment.", out.display()),
        _ => return Fault::io("write the model to", out, error),
    };
    Fault::new("PS-CFG-001", why)
}

fn expect_length(tensor: &OutTensor, bytes: Vec<u8>) -> Result<Vec<u8>> {
    if tensor.bytes() == Some(bytes.len() as u64) {
        return Ok(bytes);
    }
    let detail = format!(
        "The tensor `{}` came to {} bytes, not what its shape {:?} needs.",
        tensor.name,
        bytes.len(),
        tensor.shape
    );
    Err(Fault::new("PS-EXP-002", detail))
}

/// Folders of a tokenizer that belong to the model, too.
const COPIED_FOLDERS: [&str; 1] = ["additional_chat_templates"];

/// Copy the files of a model that do not change with its weights from `dir`, and `embedded` ones, into `folder`.
pub fn copy_assets(dir: Option<&Path>, embedded: &[(String, Vec<u8>)], folder: &Path) -> Result<()> {
    let put = |name: &Path, bytes: &[u8]| {
        let path = folder.join(name);
        durable::write_file(&path, bytes).map_err(|error| Fault::io("write", &path, error))
    };
    for (name, bytes) in embedded {
        put(Path::new(name), bytes)?;
    }
    // The folder of a GGUF file is no model.
    let Some(dir) = dir.filter(|dir| dir.join("config.json").is_file()) else { return Ok(()) };
    let mut names: Vec<std::path::PathBuf> = COPIED.iter().map(Into::into).collect();
    for inner in COPIED_FOLDERS {
        let Ok(entries) = std::fs::read_dir(dir.join(inner)) else { continue };
        let path = folder.join(inner);
        durable::create_directories(&path).map_err(|error| Fault::io("create the folder", &path, error))?;
        names.extend(entries.flatten().filter(|e| e.path().is_file()).map(|e| Path::new(inner).join(e.file_name())));
    }
    for name in names {
        let source = dir.join(&name);
        match std::fs::read(&source) {
            Ok(bytes) => put(&name, &bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Fault::io("read", &source, error)),
        }
    }
    Ok(())
}

fn copy(from: Option<&Path>, name: &str, folder: &mut durable::Writer) -> io::Result<()> {
    let Some(dir) = from else { return Ok(()) };
    match File::open(dir.join(name)) {
        Ok(mut source) => folder.file(name, |file| io::copy(&mut source, file).map(drop)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// `config` for weights in `dtype`; nothing else is changed, so that readers of any version agree.
pub fn merged_config(config: &Value, dtype: DType) -> Value {
    let name = match dtype {
        DType::F32 => "float32",
        DType::F16 => "float16",
        DType::BF16 => "bfloat16",
    };
    let mut config = config.clone();
    let has_type = |map: &Map<String, Value>| map.contains_key("dtype") || map.contains_key("torch_dtype");
    let update = |map: &mut Map<String, Value>| {
        map.shift_remove("quantization_config");
        for key in ["dtype", "torch_dtype"] {
            if let Some(value) = map.get_mut(key) {
                *value = json!(name);
            }
        }
    };
    if let Some(map) = config.as_object_mut() {
        update(map);
        let mut typed = has_type(map);
        if let Some(text) = map.get_mut("text_config").and_then(Value::as_object_mut) {
            update(text);
            typed |= has_type(text);
        }
        if !typed {
            map.insert("dtype".to_owned(), json!(name));
        }
    }
    config
}

/// Say that head and embedding are two matrices, wherever `config` says something about it; no word means one.
fn untie(config: &mut Value) {
    const KEY: &str = "tie_word_embeddings";
    if let Some(text) = config.get_mut("text_config").and_then(Value::as_object_mut) {
        text.insert(KEY.to_owned(), json!(false));
    }
    if let Some(map) = config.as_object_mut() {
        map.insert(KEY.to_owned(), json!(false));
    }
}

/// Write one safetensors file: header, then each tensor's bytes as `produce` gives them.
///
/// Tensors are laid out as the reference writer does, widest type first and then by name: the
/// same tensors make the same file, and every tensor is aligned to its type.
pub(crate) fn write_tensors<'a>(
    file: &mut dyn Write,
    tensors: &[&'a OutTensor],
    mut produce: impl FnMut(&'a OutTensor) -> io::Result<Vec<u8>>,
) -> io::Result<()> {
    let (header, order) = laid_out(tensors)?;
    file.write_all(&header)?;
    for tensor in order {
        file.write_all(&produce(tensor)?)?;
    }
    Ok(())
}

/// [`write_tensors`], behind what is there already.
pub(crate) fn write_part<'a>(
    part: &mut Part,
    tensors: &[&'a OutTensor],
    mut produce: impl FnMut(&'a OutTensor) -> io::Result<Vec<u8>>,
) -> io::Result<()> {
    let (header, order) = laid_out(tensors)?;
    if part.steps() == 0 {
        part.write_all(&header)?;
        part.step()?;
    }
    for tensor in order.into_iter().skip(part.steps() - 1) {
        part.write_all(&produce(tensor)?)?;
        part.step()?;
    }
    Ok(())
}

/// Everything before the tensors, and the tensors in the order in which they come.
fn laid_out<'a>(tensors: &[&'a OutTensor]) -> io::Result<(Vec<u8>, Vec<&'a OutTensor>)> {
    let mut order = tensors.to_vec();
    order.sort_by(|a, b| (b.dtype.bitsize(), &a.name).cmp(&(a.dtype.bitsize(), &b.name)));
    let mut header = json!({"__metadata__": {"format": "pt"}});
    let mut at = 0;
    for tensor in &order {
        let bytes = tensor.bytes().ok_or_else(|| io::Error::other("a tensor is too large"))?;
        let end = at + bytes;
        header[&tensor.name] =
            json!({"dtype": format!("{:?}", tensor.dtype), "shape": tensor.shape, "data_offsets": [at, end]});
        at = end;
    }
    let mut header = header.to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut header);
    Ok((bytes, order))
}

/// Cut `tensors` into files of at most `most` bytes; a tensor above that has a file of its own.
fn shards(tensors: &[OutTensor], most: Option<u64>) -> Result<Vec<Vec<&OutTensor>>> {
    let mut names = BTreeSet::new();
    let mut shards: Vec<Vec<&OutTensor>> = vec![Vec::new()];
    let mut filled = 0u64;
    for tensor in tensors {
        if !names.insert(&tensor.name) {
            return Err(Fault::new("PS-EXP-002", format!("The tensor `{}` would be written twice.", tensor.name)));
        }
        let bytes = tensor
            .bytes()
            .ok_or_else(|| Fault::new("PS-EXP-002", format!("The tensor `{}` is too large to write.", tensor.name)))?;
        let last = shards.len() - 1;
        if !shards[last].is_empty() && most.is_some_and(|most| filled.saturating_add(bytes) > most) {
            shards.push(vec![tensor]);
            filled = bytes;
        } else {
            shards[last].push(tensor);
            filled = filled.saturating_add(bytes);
        }
    }
    Ok(shards)
}

fn shard_name(i: usize, count: usize) -> String {
    if count == 1 { "model.safetensors".to_owned() } else { format!("model-{:05}-of-{count:05}.safetensors", i + 1) }
}

fn index(shards: &[Vec<&OutTensor>]) -> String {
    let all = || shards.iter().enumerate().flat_map(|(i, shard)| shard.iter().map(move |t| (i, *t)));
    let total: u64 = all().filter_map(|(_, tensor)| tensor.bytes()).sum();
    let mut files: Vec<(String, String)> =
        all().map(|(i, tensor)| (tensor.name.clone(), shard_name(i, shards.len()))).collect();
    files.sort();
    let map: Map<String, Value> = files.into_iter().map(|(name, file)| (name, Value::String(file))).collect();
    pretty(&json!({"metadata": {"total_size": total}, "weight_map": map}))
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// The file's name for a type.
pub(crate) fn out_type(dtype: DType) -> Dtype {
    match dtype {
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
    }
}

#[cfg(test)]
mod tests;
