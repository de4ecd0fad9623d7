//! `moments.safetensors` of a checkpoint: both moments of every trained tensor, in f32 or in 8 bits as the run keeps them.

use crate::checkpoint::{header, map};
use crate::decoder::{OptimizerState, Param};
use crate::fault::device;
use crate::merge_writer::{OutTensor, narrow, write_tensors};
use peft_kernels::quant::eight_bit::BLOCK;
use peft_kernels::{Backend, DType, EightBit, Tensor};
use peft_plan::{Fault, Result};
use safetensors::Dtype;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// Type, shape and little-endian content by name.
pub(super) struct Moments(BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>);

/// A tensor of the device as a file holds it.
pub(super) struct Stored<'a, B: Backend> {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) part: Part<'a, B>,
}

/// Where its content is.
pub(super) enum Part<'a, B: Backend> {
    /// Numbers in f32.
    Floats(&'a Tensor<B>),
    /// Codes of a byte each.
    Codes(&'a EightBit<B>),
}

/// Both moments of `p`, which [`Param::optimizer_state`] has made.
pub(super) fn parts<'a, B: Backend>(p: &'a Param<B>) -> Vec<Stored<'a, B>> {
    let stored =
        |end: &str, shape: Vec<usize>, part: Part<'a, B>| Stored { name: format!("{}.{end}", p.name), shape, part };
    match p.moments.as_ref().map(|moments| &moments.state) {
        None | Some(OptimizerState::Unused) => Vec::new(),
        Some(OptimizerState::Float { m, v }) => {
            vec![stored("m", p.file_shape(), Part::Floats(m)), stored("v", p.file_shape(), Part::Floats(v))]
        }
        Some(OptimizerState::EightBit { m, v }) => [("m", m), ("v", v)]
            .into_iter()
            .flat_map(|(end, state)| {
                let scales = stored(&format!("{end}.absmax"), vec![state.absmax.len()], Part::Floats(&state.absmax));
                [stored(end, p.file_shape(), Part::Codes(state)), scales]
            })
            .collect(),
    }
}

/// A safetensors file of these tensors, which are fetched from the device one after the other: a run that fits in
/// memory must also fit while it is saved.
pub(super) fn write<B: Backend>(be: &B, file: &mut dyn io::Write, tensors: &[Stored<B>]) -> io::Result<()> {
    let by_name: BTreeMap<&str, &Part<B>> = tensors.iter().map(|t| (t.name.as_str(), &t.part)).collect();
    let out: Vec<OutTensor> = tensors
        .iter()
        .map(|t| OutTensor {
            name: t.name.clone(),
            canonical: t.name.clone(),
            dtype: match t.part {
                Part::Floats(_) => Dtype::F32,
                Part::Codes(_) => Dtype::U8,
            },
            shape: t.shape.clone(),
        })
        .collect();
    write_tensors(file, &out.iter().collect::<Vec<_>>(), |tensor| match by_name[tensor.name.as_str()] {
        Part::Floats(t) => Ok(narrow(DType::F32, &be.download(t).map_err(io::Error::other)?)),
        Part::Codes(t) => be.download_codes(&t.codes).map_err(io::Error::other),
    })
}

impl Moments {
    /// Read a file.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let mapped = map::map(path).map_err(|error| Fault::io("open", path, error))?;
        let bytes: &[u8] = mapped.as_ref();
        let entries = header::read("moments.safetensors", bytes)?.entries;
        let tensor = |entry: header::Entry| (entry.name, (entry.dtype, entry.shape, bytes[entry.range].to_vec()));
        Ok(Self(entries.into_iter().map(tensor).collect()))
    }

    /// Give `p` its own, in the form that it keeps them in.
    pub(super) fn put<B: Backend>(&self, be: &B, p: &mut Param<B>) -> Result<()> {
        let (name, shape, len) = (p.name.clone(), p.file_shape(), p.value.len());
        let find = |suffix: &str, dtype: Dtype, shape: &[usize]| -> Result<&[u8]> {
            match self.0.get(&format!("{name}.{suffix}")) {
                Some((found, dimensions, bytes)) if (*found, dimensions.as_slice()) == (dtype, shape) => Ok(bytes),
                _ => Err(Fault::new(
                    "PS-CKPT-002",
                    format!(
                        "The checkpoint does not hold the optimizer's state of `{name}` in the form that the run needs"
                    ),
                )),
            }
        };
        let floats = |bytes: &[u8]| -> Vec<f32> {
            bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect()
        };
        match p.optimizer_state(be).map_err(device)? {
            None | Some(OptimizerState::Unused) => {}
            Some(OptimizerState::Float { m, v }) => {
                be.upload(m, &floats(find("m", Dtype::F32, &shape)?)).map_err(device)?;
                be.upload(v, &floats(find("v", Dtype::F32, &shape)?)).map_err(device)?;
            }
            Some(OptimizerState::EightBit { m, v }) => {
                let blocks = len.div_ceil(BLOCK);
                for (state, suffix) in [(m, "m"), (v, "v")] {
                    let absmax = floats(find(&format!("{suffix}.absmax"), Dtype::F32, &[blocks])?);
                    let codes = be.codes(find(suffix, Dtype::U8, &shape)?).map_err(device)?;
                    *state = EightBit { codes, absmax: be.tensor(1, blocks, &absmax).map_err(device)?, len };
                }
            }
        }
        Ok(())
    }
}
