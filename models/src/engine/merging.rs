//! Base and adapter as one model on disk.

use super::Quantization;
use crate::adapter;
use crate::base::BaseModel;
use crate::decoder::Decoder;
use crate::merge::Merger;
use crate::merge_writer::{self, Options, base_bytes, narrow};
use crate::peft_format::AdapterFile;
use durable::Manifest;
use peft_kernels::{Backend, DType};
use peft_plan::{Fault, Result};
use std::path::Path;

/// How base and adapter become one model.
#[derive(Clone, Copy, Debug)]
pub struct MergeOptions {
    /// Type of the weights.
    pub dtype: DType,
    /// Most bytes of one file; a larger model is cut into shards.
    pub shard_bytes: Option<u64>,
    /// The base was quantised on loading while the adapter was trained.
    pub quantize: Option<Quantization>,
}

impl MergeOptions {
    /// One file, onto the base as it is stored.
    pub fn of(dtype: DType) -> Self {
        Self { dtype, shard_bytes: None, quantize: None }
    }
}

pub(super) fn merge<B: Backend>(
    be: &B,
    base: &BaseModel,
    adapter: Option<&AdapterFile>,
    options: &MergeOptions,
    out: &Path,
) -> Result<Manifest> {
    let MergeOptions { dtype, shard_bytes, quantize } = *options;
    let merger = Merger::new(be, base.checkpoint(), adapter, quantize)?;
    if adapter.is_some() && merger.merged_modules() == 0 {
        return Err(Fault::new(
            "PS-CFG-003",
            "The adapter's modules match nothing in this model; is it an adapter of another one?",
        ));
    }
    let mut tensors = merge_writer::tensors_of(base.checkpoint(), dtype)?;
    if merger.unties() {
        merge_writer::add_head(&mut tensors);
    }
    let options = Options { dtype, shard_bytes, extra_files: base.embedded_files_to_copy() };
    merge_writer::write_model(out, base.checkpoint(), &tensors, &options, |t| match merger.tensor(&t.canonical)? {
        Some(merged) => Ok(narrow(dtype, &merged)),
        None => base_bytes(base.checkpoint(), t),
    })
}

/// Write a model whose every weight was trained.
pub(super) fn write_full<B: Backend>(base: &BaseModel, decoder: &mut Decoder<B>, out: &Path) -> Result<()> {
    let trained = adapter::tensors(decoder)?;
    let dtype = base.dtype();
    if out.exists() {
        // A run that is resumed after its last step writes its result again.
        std::fs::remove_dir_all(out).map_err(|e| Fault::io("replace", out, e))?;
    }
    let tensors = merge_writer::tensors_of(base.checkpoint(), dtype)?;
    let options = Options { dtype, shard_bytes: None, extra_files: base.embedded_files_to_copy() };
    merge_writer::write_model(out, base.checkpoint(), &tensors, &options, |t| match trained.get(&t.canonical) {
        Some((_, data)) => Ok(narrow(dtype, data)),
        None => base_bytes(base.checkpoint(), t),
    })?;
    Ok(())
}
