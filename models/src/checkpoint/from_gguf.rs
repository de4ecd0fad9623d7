//! A GGUF file as a checkpoint: its tensors under the names and in the order of rows that the decoder knows.
//!
//! Blocks stay blocks, and where rows keep their order they stay in the file. What is in another order there
//! (queries and keys of Llama) is copied row by row, which blocks do not notice, and its place in the file is given
//! back: it would be in memory twice.

use super::{Checkpoint, StoredTensor, map};
use crate::export::gguf::architecture::{Architecture, Change, Named, file_row};
use crate::export::gguf::{self, Tensor, metadata};
use memmap2::Mmap;
use peft_kernels::Bytes;
use peft_kernels::quant::ggml::{GgmlType, dequantize};
use peft_plan::{Fault, Result};
use safetensors::Dtype;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

impl Checkpoint {
    /// The model in `file`, which lies in the folder `dir`; `map` is what its tensors point into.
    pub(super) fn from_gguf(file: gguf::File, map: Arc<Mmap>, dir: Option<&Path>) -> Result<Self> {
        let config = metadata::config_of(&file)?;
        let spec = Self::spec_of(&config)?;
        let architecture = Architecture::of(&spec)?;
        // It looks at both ends of every tensor: before anything is given back.
        let hash = identity(&file);
        let mut tensors = BTreeMap::new();
        for named in architecture.tensors(&spec, !spec.tied) {
            // What is missing is named by the check of the whole.
            let Some(tensor) = file.tensor(&named.name) else { continue };
            if tensor.shape != named.shape {
                let how = format!("the tensor `{}` is {:?} instead of {:?}", tensor.name, tensor.shape, named.shape);
                return Err(Fault::new("PS-MODEL-005", format!("`{}` is damaged: {how}.", file.name())));
            }
            tensors.insert(named.canonical.clone(), stored(&file, tensor, &named));
            if named.change != Change::None {
                map::release(&map, tensor.bytes.as_slice());
            }
        }
        let dir = dir.map(Path::to_owned);
        let maps = BTreeMap::from([(Arc::clone(file.name()), map)]);
        Ok(Self { dir, spec, config, tensors, maps, hash, gguf: Some(Arc::new(file)) })
    }
}

fn stored(file: &gguf::File, tensor: &Tensor, named: &Named) -> StoredTensor {
    let Tensor { kind, shape, bytes, .. } = tensor;
    let plain = |dtype: Dtype| (dtype, None);
    let (mut dtype, mut blocks) = match kind {
        GgmlType::F32 => plain(Dtype::F32),
        GgmlType::F16 => plain(Dtype::F16),
        GgmlType::BF16 => plain(Dtype::BF16),
        other => (Dtype::U8, Some(*other)),
    };
    let mut bytes = bytes.clone();
    match named.change {
        Change::None => {}
        Change::Interleave { .. } => bytes = reordered(&bytes, shape[0], named.change),
        Change::AddOne => {
            let mut values = vec![0.0; shape.iter().product()];
            dequantize(*kind, bytes.as_slice(), &mut values);
            bytes = Bytes::from_vec(values.iter().flat_map(|x| (x - 1.0f32).to_le_bytes()).collect());
            (dtype, blocks) = plain(Dtype::F32);
        }
    }
    StoredTensor {
        stored_name: tensor.name.clone(),
        file: Arc::clone(file.name()),
        dtype,
        blocks,
        shape: shape.clone(),
        bytes,
    }
}

/// The rows of a matrix, or the elements of a vector, in the order of a checkpoint.
fn reordered(bytes: &Bytes, rows: usize, change: Change) -> Bytes {
    let from = bytes.as_slice();
    let size = from.len() / rows.max(1);
    let mut out = Vec::with_capacity(from.len());
    for row in 0..rows {
        let at = file_row(change, rows, row) * size;
        out.extend_from_slice(&from[at..at + size]);
    }
    Bytes::from_vec(out)
}

/// As that of other checkpoints: everything before the tensors, and the ends of each tensor.
fn identity(file: &gguf::File) -> String {
    let mut hash = Sha256::new();
    hash.update((file.len() as u64).to_le_bytes());
    hash.update(file.header().as_slice());
    for tensor in file.tensors() {
        let content = tensor.bytes.as_slice();
        hash.update(&content[..content.len().min(super::SAMPLE_BYTES)]);
        hash.update(&content[content.len().saturating_sub(super::SAMPLE_BYTES)..]);
    }
    durable::hex(&hash.finalize())
}
