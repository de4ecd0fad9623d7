//! The experts of a layer, in the three layouts in use: one module each, one tensor for all, one tensor in MXFP4.
//!
//! A stacked tensor is cut into the matrices of its experts without a copy.

use super::{Checkpoint, StoredTensor};
use peft_kernels::quant::mxfp4;
use peft_kernels::{DType, FourBit, FourBitKind, FrozenWeight};
use peft_plan::{ExpertsSpec, Result};
use safetensors::Dtype;
use std::ops::Range;

/// A matrix of an expert.
#[derive(Clone, Debug)]
pub struct ExpertMatrix {
    /// `[out, in]`, or `[in, out]`.
    pub weight: FrozenWeight,
    /// It is `[in, out]`.
    pub transposed: bool,
    /// Columns that it makes of what the expert's part makes.
    pub columns: Range<usize>,
}

/// Everything of one expert.
#[derive(Clone, Debug)]
pub struct ExpertParts {
    /// Gate and other half: one matrix or two.
    pub gate_up: Vec<ExpertMatrix>,
    /// Their biases, in one.
    pub gate_up_bias: Option<Vec<f32>>,
    /// The output.
    pub down: ExpertMatrix,
    /// Its bias.
    pub down_bias: Option<Vec<f32>>,
}

/// The layout of a stacked tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// Numbers, `[experts, …]`.
    Dense,
    /// `…_blocks` and `…_scales`.
    Packed,
}

/// What a part of all experts is called and how large it is.
struct Part<'a> {
    /// Without the ending of a layout.
    name: String,
    spec: &'a ExpertsSpec,
    outputs: usize,
    inputs: usize,
}

/// The ending of the codes of a tensor in MXFP4, and of its scales.
pub(crate) const PACKED: (&str, &str) = ("_blocks", "_scales");

impl Checkpoint {
    /// The experts of layer `layer`, which must be sparse.
    pub fn experts(&self, layer: usize) -> Result<Vec<ExpertParts>> {
        let Some(spec) = &self.spec.experts else { return Ok(Vec::new()) };
        let path = format!("model.layers.{layer}.{}", spec.path);
        let part = |name, outputs, inputs| Part { name: format!("{path}.{name}"), spec, outputs, inputs };
        let (hidden, inner) = (self.spec.hidden_size, spec.intermediate_size);
        let (gate_up, down) = (part("gate_up_proj", 2 * inner, hidden), part("down_proj", hidden, inner));
        (0..spec.count)
            .map(|e| {
                let module =
                    |i: usize, outputs, inputs, first| self.module(&path, spec, e, i, (outputs, inputs), first);
                let (gate_up_weights, down_weight) = match self.layout(&gate_up) {
                    Some(layout) => {
                        let down_layout = self.layout(&down).unwrap_or(layout);
                        (vec![self.slice(&gate_up, layout, e)?], self.slice(&down, down_layout, e)?)
                    }
                    None => (
                        vec![module(0, inner, hidden, 0)?, module(1, inner, hidden, inner)?],
                        module(2, hidden, inner, 0)?,
                    ),
                };
                let bias = |part: &Part| if spec.bias { self.bias(part, e).map(Some) } else { Ok(None) };
                Ok(ExpertParts {
                    gate_up: gate_up_weights,
                    gate_up_bias: bias(&gate_up)?,
                    down: down_weight,
                    down_bias: bias(&down)?,
                })
            })
            .collect()
    }

    /// How all experts of a part are stored in one tensor; `None`: each is a module of its own.
    fn layout(&self, part: &Part) -> Option<Layout> {
        if self.has(&part.name) {
            Some(Layout::Dense)
        } else if self.has(&format!("{}{}", part.name, PACKED.0)) {
            Some(Layout::Packed)
        } else {
            None
        }
    }

    /// Part `i` of expert `e`, a module of its own.
    fn module(
        &self,
        path: &str,
        spec: &ExpertsSpec,
        e: usize,
        i: usize,
        shape: (usize, usize),
        first: usize,
    ) -> Result<ExpertMatrix> {
        let name = format!("{path}.{e}.{}.weight", spec.parts[i]);
        let weight = self.frozen(&name)?;
        if weight.shape() != shape {
            let how = format!("config.json describes it as {:?} and it is {:?}", [shape.0, shape.1], weight.shape());
            return Err(self.needed(&name)?.damaged(&how));
        }
        Ok(ExpertMatrix { weight, transposed: false, columns: first..first + shape.0 })
    }

    /// The matrix of expert `e` in the tensor of all.
    fn slice(&self, part: &Part, layout: Layout, e: usize) -> Result<ExpertMatrix> {
        let Part { name, spec, outputs, inputs } = part;
        let (outputs, inputs) = (*outputs, *inputs);
        let (weight, transposed) = match layout {
            Layout::Dense => {
                let (rows, cols) = if spec.transposed { (inputs, outputs) } else { (outputs, inputs) };
                let tensor = self.stacked(name, &[spec.count, rows, cols])?;
                let dtype = tensor.float()?;
                let bytes = one(tensor, e, spec.count)?;
                (FrozenWeight::Dense { bytes, dtype, rows, cols }, spec.transposed)
            }
            Layout::Packed => {
                let (blocks, rest) = (inputs / mxfp4::BLOCK, inputs % mxfp4::BLOCK);
                let codes = format!("{name}{}", PACKED.0);
                if rest != 0 {
                    return Err(self.needed(&codes)?.damaged(&format!("{inputs} columns are not whole blocks")));
                }
                let codes = self.stacked(&codes, &[spec.count, outputs, blocks, mxfp4::BLOCK / 2])?;
                let scales = self.stacked(&format!("{name}{}", PACKED.1), &[spec.count, outputs, blocks])?;
                for tensor in [codes, scales] {
                    if tensor.dtype != Dtype::U8 {
                        return Err(tensor.damaged(&format!("{:?} instead of bytes", tensor.dtype)));
                    }
                }
                let weight = FourBit {
                    kind: FourBitKind::Mxfp4,
                    codes: one(codes, e, spec.count)?,
                    absmax: mxfp4::scales(one(scales, e, spec.count)?),
                    block: mxfp4::BLOCK,
                    rows: outputs,
                    cols: inputs,
                    rounding: DType::F32,
                };
                (FrozenWeight::FourBit(weight), false)
            }
        };
        if let Err(error) = weight.check() {
            return Err(self.needed(name)?.damaged(&error.to_string()));
        }
        Ok(ExpertMatrix { weight, transposed, columns: 0..outputs })
    }

    /// The bias of expert `e`.
    fn bias(&self, part: &Part, e: usize) -> Result<Vec<f32>> {
        let tensor = self.stacked(&format!("{}_bias", part.name), &[part.spec.count, part.outputs])?;
        Ok(super::widen(tensor.float()?, one(tensor, e, part.spec.count)?.as_slice()))
    }

    /// The tensor `name`, which must have this shape.
    fn stacked(&self, name: &str, shape: &[usize]) -> Result<&StoredTensor> {
        let tensor = self.needed(name)?;
        if tensor.shape == shape {
            return Ok(tensor);
        }
        Err(tensor.damaged(&format!("config.json describes it as {shape:?}")))
    }

    /// A tensor in MXFP4 by the name of its codes: the name of the dense tensor, and its shape once it is dense, all
    /// experts together as transformers has them.
    pub(crate) fn packed_experts(&self, canonical: &str) -> Option<(String, Vec<usize>)> {
        let name = canonical.strip_suffix(PACKED.0)?;
        let spec = self.spec.experts.as_ref()?;
        if !self.has(&format!("{name}{}", PACKED.1)) {
            return None;
        }
        let (hidden, inner) = (self.spec.hidden_size, spec.intermediate_size);
        let shape = match name.rsplit('.').next()? {
            "gate_up_proj" => vec![spec.count, hidden, 2 * inner],
            "down_proj" => vec![spec.count, inner, hidden],
            _ => return None,
        };
        Some((name.to_owned(), shape))
    }

    /// The experts of `packed_experts` as numbers: every matrix `[in, out]`, one after the other.
    pub(crate) fn unpacked_experts(&self, canonical: &str) -> Result<Vec<f32>> {
        let Some((name, shape)) = self.packed_experts(canonical) else { return Ok(Vec::new()) };
        let Some(spec) = &self.spec.experts else { return Ok(Vec::new()) };
        let part = Part { name, spec, inputs: shape[1], outputs: shape[2] };
        let mut all = Vec::new();
        for e in 0..spec.count {
            let matrix = self.slice(&part, Layout::Packed, e)?;
            let dense = crate::merge::dense(&matrix.weight);
            all.reserve(dense.len());
            for i in 0..part.inputs {
                all.extend(dense.iter().skip(i).step_by(part.inputs));
            }
        }
        Ok(all)
    }
}

/// The bytes of expert `e` of `count`, which are equal parts of `tensor`.
fn one(tensor: &StoredTensor, e: usize, count: usize) -> Result<peft_kernels::Bytes> {
    let size = tensor.bytes.len() / count.max(1);
    tensor.bytes.slice(e * size..(e + 1) * size).ok_or_else(|| tensor.damaged("it is too short"))
}
