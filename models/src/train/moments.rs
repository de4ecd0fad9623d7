//! `moments.safetensors` of a checkpoint: both moments of every trained tensor, in f32 or in 8 bits as the run keeps them.

use crate::checkpoint::{header, map};
use crate::decoder::{OptimizerState, Param};
use crate::fault::device;
use crate::merge_writer::{OutTensor, write_tensors};
use peft_kernels::quant::eight_bit::BLOCK;
use peft_kernels::{Backend, EightBit};
use peft_plan::{Fault, Result};
use safetensors::Dtype;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// Type, shape and little-endian content by name.
#[derive(Default)]
pub(super) struct Moments(BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>);

impl Moments {
    /// Add those of `p`.
    pub(super) fn take<B: Backend>(&mut self, be: &B, p: &mut Param<B>) -> Result<()> {
        let (name, shape) = (p.name.clone(), p.file_shape());
        let mut floats = |name: String, shape: Vec<usize>, t: &_| -> Result<()> {
            let bytes = be.download(t).map_err(device)?.iter().flat_map(|x| x.to_le_bytes()).collect();
            self.0.insert(name, (Dtype::F32, shape, bytes));
            Ok(())
        };
        match p.optimizer_state(be).map_err(device)? {
            None | Some(OptimizerState::Unused) => {}
            Some(OptimizerState::Float { m, v }) => {
                floats(format!("{name}.m"), shape.clone(), m)?;
                floats(format!("{name}.v"), shape, v)?;
            }
            Some(OptimizerState::EightBit { m, v }) => {
                for (state, suffix) in [(&*m, "m"), (&*v, "v")] {
                    floats(format!("{name}.{suffix}.absmax"), vec![state.absmax.len()], &state.absmax)?;
                }
                for (state, suffix) in [(m, "m"), (v, "v")] {
                    let codes = be.download_codes(&state.codes).map_err(device)?;
                    self.0.insert(format!("{name}.{suffix}"), (Dtype::U8, shape.clone(), codes));
                }
            }
        }
        Ok(())
    }

    /// Write them as a safetensors file.
    pub(super) fn write(&self, file: &mut dyn io::Write) -> io::Result<()> {
        let out: Vec<OutTensor> = self
            .0
            .iter()
            .map(|(name, (dtype, shape, _))| OutTensor {
                name: name.clone(),
                canonical: name.clone(),
                dtype: *dtype,
                shape: shape.clone(),
            })
            .collect();
        write_tensors(file, &out.iter().collect::<Vec<_>>(), |tensor| Ok(self.0[&tensor.name].2.clone()))
    }

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
