//! Base and adapter in one set of weights: `W' = W + s·B·A`, with DoRA `(m/n)∘(W + s·B·A)`.
//!
//! The sum is formed in f32, one matrix at a time, and rounded once when it is written. A 4-bit base is decoded
//! first: that is what the adapter was trained on, so merging into it keeps the tuned model as it was.

use crate::adapter::{AdapterSource, LoraValues, spec_of_file};
use crate::checkpoint::{Checkpoint, widen};
use crate::engine::Quantization;
use crate::fault::device;
use crate::peft_format::AdapterFile;
use peft_kernels::{Backend, DType, FrozenWeight, Matrix, Operand, Write, quant};
use peft_plan::Result;
use peft_plan::saved::{EMBEDDING, HEAD};
use std::collections::{BTreeMap, BTreeSet};

/// The head's tensor.
const HEAD_WEIGHT: &str = "lm_head.weight";

/// A frozen matrix as f32, row-major.
pub(crate) fn dense(weight: &FrozenWeight) -> Vec<f32> {
    match weight {
        FrozenWeight::Dense { bytes, dtype, .. } => widen(*dtype, bytes.as_slice()),
        FrozenWeight::FourBit(w) => quant::dequantize(w),
        FrozenWeight::Blocks { rows, cols, .. } => {
            let mut out = vec![0.0; rows * cols];
            quant::decode(weight, 0, &mut out);
            out
        }
    }
}

/// Produces the merged tensors of a model one at a time.
pub struct Merger<'a, B: Backend> {
    be: &'a B,
    checkpoint: &'a Checkpoint,
    quantize: Option<Quantization>,
    linears: BTreeSet<String>,
    modules: BTreeMap<String, LoraValues>,
    /// Modules that were trained whole: they take the place of the base's.
    saved: BTreeMap<String, Vec<f32>>,
}

impl<'a, B: Backend> Merger<'a, B> {
    /// Without `adapter` the base as it is. `quantize`: merge into the base as the run saw it, 4-bit errors and all,
    /// because the adapter learnt to make up for them.
    pub fn new(
        be: &'a B,
        checkpoint: &'a Checkpoint,
        adapter: Option<&AdapterFile>,
        quantize: Option<Quantization>,
    ) -> Result<Self> {
        let spec = checkpoint.spec();
        let names = |i: usize| spec.layer_modules(i).map(move |m| format!("model.layers.{i}.{}.weight", m.name));
        let linears = (0..spec.layers.len()).flat_map(names).collect();
        let (mut modules, mut saved) = (BTreeMap::new(), BTreeMap::new());
        if let Some(file) = adapter {
            let source = AdapterSource::File { spec: spec_of_file(file), file };
            for path in peft_plan::saved::paths(spec, &file.config.saved_names())? {
                let shape = match path.as_str() {
                    EMBEDDING | HEAD => vec![spec.vocab_size, spec.hidden_size],
                    norm => vec![peft_plan::saved::size(spec, norm) as usize],
                };
                if let Some(values) = source.saved(&path, &shape)? {
                    saved.insert(format!("{path}.weight"), values.to_vec());
                }
            }
            for i in 0..spec.layers.len() {
                for m in spec.target_modules(i) {
                    let path = format!("model.layers.{i}.{}", m.name);
                    if let Some(values) = source.values(&path, m.out_features, m.in_features)? {
                        modules.insert(format!("{path}.weight"), values);
                    }
                }
            }
        }
        Ok(Self { be, checkpoint, quantize, linears, modules, saved })
    }

    /// Whether head and embedding, one matrix in the base, are two in the merged model.
    pub fn unties(&self) -> bool {
        let weight = |path: &str| format!("{path}.weight");
        self.checkpoint.spec().tied && [EMBEDDING, HEAD].iter().any(|path| self.saved.contains_key(&weight(path)))
    }

    /// Whether anything of the base is replaced whole.
    pub fn replaces_any(&self) -> bool {
        !self.saved.is_empty()
    }

    /// How many modules of the model the adapter changes.
    pub fn merged_modules(&self) -> usize {
        self.modules.len()
    }

    /// The merged matrix `name`, or `None` where it is what the checkpoint holds.
    pub fn tensor(&self, name: &str) -> Result<Option<Vec<f32>>> {
        if let Some(values) = self.saved.get(name) {
            return Ok(Some(values.clone()));
        }
        if name == HEAD_WEIGHT && self.unties() {
            return Ok(Some(dense(&self.checkpoint.frozen(&format!("{EMBEDDING}.weight"))?)));
        }
        let values = self.modules.get(name);
        if values.is_none() && (self.quantize.is_none() || !self.linears.contains(name)) {
            return Ok(None);
        }
        let frozen = self.checkpoint.frozen(name)?;
        let (rows, cols) = frozen.shape();
        let mut dense = dense(&frozen);
        if let (Some(Quantization { kind, double }), FrozenWeight::Dense { .. }) = (self.quantize, &frozen) {
            dense = quant::dequantize(&quant::quantize(&dense, rows, cols, kind, 64, double, DType::F32));
        }
        let Some(values) = values else { return Ok(Some(dense)) };
        let be = self.be;
        let mut w = be.tensor(rows, cols, &dense).map_err(device)?;
        drop(dense);
        let a = be.tensor(values.rank, cols, &values.a).map_err(device)?;
        let b = be.tensor(rows, values.rank, &values.b).map_err(device)?;
        let (b, a) = (Operand::plain(b.view()), Operand::plain(a.view()));
        be.gemm(w.view_mut(), b, a, values.scaling as f32, Write::Add).map_err(device)?;
        let mut merged = be.download(&w).map_err(device)?;
        if let Some(magnitude) = &values.magnitude {
            let mut squares = be.zeros(1, rows).map_err(device)?;
            be.row_squares(&mut squares, Matrix::Dense(&w)).map_err(device)?;
            let squares = be.download(&squares).map_err(device)?;
            for ((row, m), n) in merged.chunks_exact_mut(cols).zip(magnitude).zip(squares) {
                let ratio = m / n.sqrt();
                for w in row {
                    *w *= ratio;
                }
            }
        }
        Ok(Some(merged))
    }
}
