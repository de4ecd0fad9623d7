//! The header of a safetensors file, believed only after it has been checked.
//!
//! The `safetensors` crate decides whether the offsets cover the file without holes or overlaps and
//! agree with the shapes. This file adds our limits, and says which tensor is at fault.

use peft_kernels::DType;
use peft_plan::{Fault, Result};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value};
use std::ops::Range;

/// Longest header that is read; the longest published one is below a tenth of it.
const HEADER_BYTES: u64 = 25_000_000;
/// Most tensors of one file.
const TENSORS: usize = 100_000;
/// Longest name of a tensor, bytes.
const NAME_BYTES: usize = 512;
/// Most dimensions of a tensor.
const RANK: usize = 8;
/// Bytes of the length field at the start.
const LENGTH_BYTES: usize = 8;

/// One tensor of a file.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    /// Where it is in the file.
    pub(crate) range: Range<usize>,
}

/// A file whose header has been checked.
#[derive(Debug)]
pub(crate) struct Header {
    /// In the order of the file.
    pub(crate) entries: Vec<Entry>,
    /// Bytes before the first tensor.
    pub(crate) bytes: usize,
}

/// The tensors of `bytes`, the whole content of a file that messages call `file`.
pub(crate) fn read(file: &str, bytes: &[u8]) -> Result<Header> {
    let length = match bytes.first_chunk::<LENGTH_BYTES>() {
        Some(field) => u64::from_le_bytes(*field),
        None => return Err(damaged(file, &not_even_a_header(bytes))),
    };
    if let Some(other) = another_kind(bytes) {
        return Err(Fault::new("PS-MODEL-003", format!("`{file}` {other}")));
    }
    if length > HEADER_BYTES {
        return Err(damaged(file, &format!("its header claims {length} bytes, and at most {HEADER_BYTES} are read")));
    }
    let metadata = match SafeTensors::read_metadata(bytes) {
        Ok((_, metadata)) => metadata,
        Err(error) => return Err(damaged(file, &explain(bytes, length as usize, &error)).caused_by(error)),
    };
    // `read_metadata` has seen this many bytes.
    let start = LENGTH_BYTES + length as usize;
    let names = metadata.offset_keys();
    if names.len() > TENSORS {
        return Err(damaged(file, &format!("it lists {} tensors, and at most {TENSORS} are read", names.len())));
    }
    let mut entries = Vec::with_capacity(names.len());
    for name in names {
        let Some(info) = metadata.info(&name) else { continue };
        if name.len() > NAME_BYTES {
            return Err(damaged(file, &format!("the name of a tensor has {} bytes", name.len())));
        }
        if info.shape.len() > RANK {
            return Err(damaged(file, &format!("the tensor `{name}` has {} dimensions", info.shape.len())));
        }
        let (begin, end) = info.data_offsets;
        let range = start + begin..start + end;
        entries.push(Entry { dtype: info.dtype, shape: info.shape.clone(), range, name });
    }
    Ok(Header { entries, bytes: start })
}

/// The types that weights may have.
pub(crate) fn float(dtype: Dtype) -> Option<DType> {
    match dtype {
        Dtype::F32 => Some(DType::F32),
        Dtype::F16 => Some(DType::F16),
        Dtype::BF16 => Some(DType::BF16),
        _ => None,
    }
}

/// A damaged file, and how.
pub(crate) fn damaged(file: &str, how: &str) -> Fault {
    Fault::new("PS-MODEL-005", format!("`{file}` is damaged: {how}."))
}

fn not_even_a_header(bytes: &[u8]) -> String {
    match bytes.len() {
        0 => "it is empty".to_owned(),
        n => format!("it ends after {n} bytes, inside the length of its header"),
    }
}

/// Things that downloads leave in place of a model file.
fn another_kind(bytes: &[u8]) -> Option<&'static str> {
    if bytes.starts_with(b"version https://git-lfs") {
        return Some(
            "is only a Git LFS pointer, not the file itself. Fetch the file with `git lfs pull`, or download it.",
        );
    }
    let start = &bytes[..bytes.len().min(64)];
    let text = start.trim_ascii_start().to_ascii_lowercase();
    (text.starts_with(b"<!doctype") || text.starts_with(b"<html"))
        .then_some("is a web page, not a model file. Download it again, signed in if the model asks for it.")
}

/// What is wrong, naming the tensor where there is one.
fn explain(bytes: &[u8], length: usize, error: &safetensors::SafeTensorError) -> String {
    let Some(header) = bytes.get(LENGTH_BYTES..LENGTH_BYTES + length) else {
        return format!("it ends after {} bytes, inside its header of {length} bytes", bytes.len());
    };
    let Ok(tensors) = serde_json::from_slice::<Map<String, Value>>(header) else {
        return "its header is not valid JSON".to_owned();
    };
    let data = bytes.len() - LENGTH_BYTES - length;
    let mut placed = Vec::new();
    for (name, info) in tensors.iter().filter(|(name, _)| *name != "__metadata__") {
        match placement(info) {
            Some(place) => placed.push((place, name)),
            None => return format!("the header entry of the tensor {} makes no sense", quoted(name)),
        }
    }
    placed.sort();
    let mut expected = 0;
    for ((begin, end), name) in placed {
        if begin > end {
            return format!("the tensor {} ends before it begins", quoted(name));
        }
        if begin < expected {
            return format!("the tensor {} overlaps another", quoted(name));
        }
        if begin > expected {
            return format!("there is a hole of {} bytes before the tensor {}", begin - expected, quoted(name));
        }
        if end > data as u64 {
            let missing = end - data as u64;
            let plural = if missing == 1 { "" } else { "s" };
            return format!("the file is cut short: the tensor {} lacks {missing} byte{plural}", quoted(name));
        }
        if !size_agrees(&tensors[name.as_str()], end - begin) {
            return format!("the shape of the tensor {} does not fit its {} bytes", quoted(name), end - begin);
        }
        expected = end;
    }
    match data as u64 - expected {
        0 => format!("its header is not valid ({error})"),
        extra => format!("{extra} bytes at its end belong to no tensor"),
    }
}

/// Where the header says that a tensor is.
fn placement(info: &Value) -> Option<(u64, u64)> {
    let offsets = info.get("data_offsets")?.as_array()?;
    match offsets.as_slice() {
        [begin, end] => Some((begin.as_u64()?, end.as_u64()?)),
        _ => None,
    }
}

/// Whether shape and type make `bytes`.
fn size_agrees(info: &Value, bytes: u64) -> bool {
    let bits = || -> Option<u64> {
        let dtype: Dtype = serde_json::from_value(info.get("dtype")?.clone()).ok()?;
        let elements = info.get("shape")?.as_array()?.iter().try_fold(1u64, |n, dim| n.checked_mul(dim.as_u64()?))?;
        elements.checked_mul(dtype.bitsize() as u64)
    };
    bits().is_some_and(|bits| bits.is_multiple_of(8) && bits / 8 == bytes)
}

/// A name short enough for a message.
fn quoted(name: &str) -> String {
    if name.chars().count() <= 120 {
        format!("`{name}`")
    } else {
        format!("`{}…`", name.chars().take(120).collect::<String>())
    }
}

#[cfg(test)]
mod tests;
