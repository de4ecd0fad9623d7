//! Base and adapter as one model on disk.

use super::Quantization;
use crate::adapter;
use crate::base::BaseModel;
use crate::decoder::Decoder;
use crate::export::made_of::MadeOf;
use crate::merge::Merger;
use crate::merge_writer::{self, Options, OutTensor, base_bytes, narrow};
use crate::peft_format::AdapterFile;
use durable::Manifest;
use peft_kernels::{Backend, DType};
use peft_plan::{Fault, Result};
use std::ops::ControlFlow;
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

/// Bytes done, bytes to do.
pub type MergeProgress<'a> = dyn FnMut(u64, u64) -> ControlFlow<()> + 'a;

/// The tensors of base and adapter as one model, and what produces them.
fn planned<'a, B: Backend>(
    be: &'a B,
    base: &'a BaseModel,
    adapter: Option<&AdapterFile>,
    options: &MergeOptions,
) -> Result<(Merger<'a, B>, Vec<OutTensor>)> {
    let merger = Merger::new(be, base.checkpoint(), adapter, options.quantize)?;
    if adapter.is_some() && merger.merged_modules() == 0 {
        return Err(Fault::new(
            "PS-CFG-003",
            "The adapter's modules match nothing in this model; is it an adapter of another one?",
        ));
    }
    let mut tensors = merge_writer::tensors_of(base.checkpoint(), options.dtype)?;
    if merger.unties() {
        merge_writer::add_head(&mut tensors);
    }
    Ok((merger, tensors))
}

/// Bytes of the weights that [`merge`] would write.
pub(super) fn merged_bytes<B: Backend>(
    be: &B,
    base: &BaseModel,
    adapter: Option<&AdapterFile>,
    options: &MergeOptions,
) -> Result<u64> {
    let (_, tensors) = planned(be, base, adapter, options)?;
    Ok(tensors.iter().filter_map(OutTensor::bytes).sum())
}

/// `None`: `progress` had enough.
pub(super) fn merge<B: Backend>(
    be: &B,
    base: &BaseModel,
    adapter: Option<&AdapterFile>,
    options: &MergeOptions,
    out: &Path,
    progress: &mut MergeProgress,
) -> Result<Option<Manifest>> {
    let (merger, tensors) = planned(be, base, adapter, options)?;
    let MergeOptions { dtype, shard_bytes, quantize } = *options;
    let made = MadeOf::new(&be.fingerprint(), base, adapter, quantize);
    let plan = format!("{dtype:?} {shard_bytes:?} {tensors:?}");
    let made_of = Some(made.word(plan.as_bytes()));
    let options = Options { dtype, shard_bytes, extra_files: base.embedded_files_to_copy(), made_of };
    let total: u64 = tensors.iter().filter_map(OutTensor::bytes).sum();
    let mut done = 0;
    merge_writer::write_model_unless(out, base.checkpoint(), &tensors, &options, |t| {
        if progress(done, total).is_break() {
            return Ok(None);
        }
        let bytes = match merger.tensor(&t.canonical)? {
            Some(merged) => narrow(dtype, &merged),
            None => base_bytes(base.checkpoint(), t)?,
        };
        // Its pages count as this program's memory until they are given back.
        base.checkpoint().release(&t.canonical);
        done += bytes.len() as u64;
        Ok(Some(bytes))
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
    let options = Options { dtype, shard_bytes: None, extra_files: base.embedded_files_to_copy(), made_of: None };
    merge_writer::write_model(out, base.checkpoint(), &tensors, &options, |t| match trained.get(&t.canonical) {
        Some((_, data)) => Ok(narrow(dtype, data)),
        None => base_bytes(base.checkpoint(), t),
    })?;
    Ok(())
}
