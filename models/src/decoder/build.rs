//! A checkpoint and a method become a decoder on a device.
//!
//! Weights stay as the checkpoint stores them, memory-mapped where the device allows it; quantising on loading
//! holds one dense matrix at a time. Nothing is held twice.

use super::Decoder;
use super::layer::{Layer, QkNorm};
use super::linear::{Linear, Lora, Magnitude, Vector, Weights};
use super::param::Param;
use crate::adapter::AdapterSource;
use crate::checkpoint::Checkpoint;
use crate::engine::Quantization;
use crate::fault::device;
use crate::merge::dense;
use peft_kernels::{Activation, AttentionParams, Backend, DType, FrozenWeight, Heads, Matrix, NormParams, RopeParams};
use peft_plan::order::SplitMix;
use peft_plan::{Fault, GateActivation, Method, ModelSpec, ModuleSpec, NormPlacement, Part, Result, TrainingPlan};
use std::ops::Range;

/// How a decoder is built.
#[derive(Clone, Debug, Default)]
pub struct BuildOptions<'a> {
    /// Train every weight.
    pub full: bool,
    /// Quantise linear weights that are stored dense.
    pub quantize: Option<Quantization>,
    /// Put adapters on it.
    pub adapter: Option<AdapterSource<'a>>,
    /// Allocate gradients and moments.
    pub trainable: bool,
}

/// Build the decoder of `checkpoint` on `be`.
pub fn build<B: Backend>(be: &B, checkpoint: &Checkpoint, options: &BuildOptions) -> Result<Decoder<B>> {
    build_first(be, checkpoint, options, usize::MAX)
}

/// The same with at most so many blocks: enough to measure how long one takes.
pub fn build_first<B: Backend>(
    be: &B,
    checkpoint: &Checkpoint,
    options: &BuildOptions,
    blocks: usize,
) -> Result<Decoder<B>> {
    checkpoint.check()?;
    let mut spec = checkpoint.spec().clone();
    spec.layers.truncate(blocks.max(1));
    let builder = Builder { be, checkpoint, options, spec: &spec };
    let embedding = builder.matrix("model.embed_tokens.weight", spec.vocab_size, spec.hidden_size)?;
    let mut adapters = 0;
    let layers = (0..spec.layers.len()).map(|i| builder.layer(i, &mut adapters)).collect::<Result<Vec<_>>>()?;
    if options.adapter.is_some() && adapters == 0 {
        let names: Vec<&str> = spec.modules.iter().map(|m| m.name.rsplit('.').next().unwrap_or(&m.name)).collect();
        return Err(Fault::new(
            "PS-CFG-003",
            format!("The target modules match nothing in this model; its modules are {}", names.join(", ")),
        ));
    }
    let norm = builder.vector("model.norm.weight", spec.hidden_size)?;
    let head =
        if spec.tied { None } else { Some(builder.matrix("lm_head.weight", spec.vocab_size, spec.hidden_size)?) };
    let mut decoder =
        Decoder { be: be.clone(), spec: spec.clone(), embedding, layers, norm, head, tables: Vec::new(), positions: 0 };
    decoder.prepare().map_err(device)?;
    Ok(decoder)
}

struct Builder<'a, B: Backend> {
    be: &'a B,
    checkpoint: &'a Checkpoint,
    options: &'a BuildOptions<'a>,
    spec: &'a ModelSpec,
}

/// Whether the checkpoint's tensor `name` is used where it lies, and not converted while a run loads.
pub fn stays_mapped(checkpoint: &Checkpoint, plan: &TrainingPlan, name: &str) -> bool {
    let is_linear = name.starts_with("model.layers.")
        && checkpoint.spec().modules.iter().any(|m| name.strip_suffix(".weight").is_some_and(|n| n.ends_with(&m.name)));
    match plan.method {
        Method::Full => false,
        method if method.is_quantized() && is_linear => matches!(checkpoint.four_bit_shape(name), Ok(Some(_))),
        _ => true,
    }
}

impl<B: Backend> Builder<'_, B> {
    fn vector(&self, name: &str, len: usize) -> Result<Vector<B>> {
        let data = self.checkpoint.vector(name)?;
        if data.len() != len {
            return Err(Fault::new("PS-MODEL-005", format!("`{name}` has {} numbers instead of {len}", data.len())));
        }
        let value = self.be.tensor(1, len, &data).map_err(device)?;
        let mut param = Param::frozen(name.to_owned(), value, true);
        if self.options.full && self.options.trainable {
            param.make_trainable(self.be, false, 1.0).map_err(device)?;
        }
        Ok(param)
    }

    fn matrix(&self, name: &str, rows: usize, cols: usize) -> Result<Weights<B>> {
        let frozen = self.checkpoint.frozen(name)?;
        if frozen.shape() != (rows, cols) {
            let (r, c) = frozen.shape();
            return Err(Fault::new("PS-MODEL-005", format!("`{name}` is [{r}, {c}] instead of [{rows}, {cols}]")));
        }
        if self.options.full {
            let value = self.be.tensor(rows, cols, &dense(&frozen)).map_err(device)?;
            self.checkpoint.release(name);
            let mut param = Param::frozen(name.to_owned(), value, false);
            if self.options.trainable {
                param.make_trainable(self.be, true, 1.0).map_err(device)?;
            }
            return Ok(Weights::Trained(param));
        }
        Ok(Weights::Frozen(self.be.weight(frozen).map_err(device)?))
    }

    fn linear(&self, layer: usize, module: &ModuleSpec, adapters: &mut u64) -> Result<Linear<B>> {
        let path = format!("model.layers.{layer}.{}", module.name);
        let name = format!("{path}.weight");
        let (out, inp) = (module.out_features, module.in_features);
        let weight = match (self.options.quantize, self.options.full) {
            (Some(Quantization { kind, double }), false) => {
                let frozen = self.checkpoint.frozen(&name)?;
                let frozen = match frozen {
                    FrozenWeight::Dense { rows, cols, .. } => {
                        let dense = dense(&frozen);
                        self.checkpoint.release(&name);
                        FrozenWeight::FourBit(peft_kernels::quant::quantize(
                            &dense,
                            rows,
                            cols,
                            kind,
                            64,
                            double,
                            DType::F32,
                        ))
                    }
                    stored @ FrozenWeight::FourBit(_) => stored,
                };
                Weights::Frozen(self.be.weight(frozen).map_err(device)?)
            }
            _ => self.matrix(&name, out, inp)?,
        };
        let bias = if module.bias { Some(self.vector(&format!("{path}.bias"), out)?) } else { None };
        let lora = match &self.options.adapter {
            Some(source) => self.lora(source, &path, weight.matrix(), (out, inp), *adapters)?,
            None => None,
        };
        *adapters += u64::from(lora.is_some());
        Ok(Linear { path, out_features: out, in_features: inp, weight, bias, lora })
    }

    fn lora(
        &self,
        source: &AdapterSource,
        path: &str,
        w: Matrix<B>,
        shape: (usize, usize),
        index: u64,
    ) -> Result<Option<Lora<B>>> {
        let (out, inp) = shape;
        let be = self.be;
        let name = |suffix: &str| format!("base_model.model.{path}.{suffix}");
        let Some(values) = source.values(path, out, inp)? else { return Ok(None) };
        let spec = source.spec();
        let mut a =
            Param::frozen(name("lora_A.weight"), be.tensor(values.rank, inp, &values.a).map_err(device)?, false);
        let mut b =
            Param::frozen(name("lora_B.weight"), be.tensor(out, values.rank, &values.b).map_err(device)?, false);
        let magnitude = if spec.dora {
            let mut squares = be.zeros(1, out).map_err(device)?;
            be.row_squares(&mut squares, w).map_err(device)?;
            let m = match values.magnitude {
                Some(m) => m,
                None => be.download(&squares).map_err(device)?.into_iter().map(f32::sqrt).collect(),
            };
            let mut m = Param::frozen(name("lora_magnitude_vector"), be.tensor(1, out, &m).map_err(device)?, true);
            if self.options.trainable {
                m.make_trainable(be, true, spec.lora_plus_ratio.unwrap_or(1.0)).map_err(device)?;
            }
            let zeros = || be.zeros(1, out).map_err(device);
            Some(Magnitude { m, squares, norm: zeros()?, ratio: zeros()? })
        } else {
            None
        };
        if self.options.trainable {
            a.make_trainable(be, true, 1.0).map_err(device)?;
            // LoRA+ (Hayou et al. 2024): B, and with it the magnitude, learn faster than A.
            b.make_trainable(be, true, spec.lora_plus_ratio.unwrap_or(1.0)).map_err(device)?;
        }
        Ok(Some(Lora { a, b, magnitude, scaling: values.scaling as f32, dropout: spec.dropout as f32, index }))
    }

    fn layer(&self, i: usize, adapters: &mut u64) -> Result<Layer<B>> {
        let spec = self.spec;
        let vector = |name: &str| self.vector(&format!("model.layers.{i}.{name}.weight"), spec.hidden_size);
        let (mlp_norm, post_norms) = match spec.placement {
            NormPlacement::Pre => (vector("post_attention_layernorm")?, None),
            NormPlacement::Sandwich => (
                vector("pre_feedforward_layernorm")?,
                Some((vector("post_attention_layernorm")?, vector("post_feedforward_layernorm")?)),
            ),
        };
        let head_vector = |name: &str| self.vector(&format!("model.layers.{i}.self_attn.{name}.weight"), spec.head_dim);
        let qk_norm =
            if spec.qk_norm { Some(QkNorm { q: head_vector("q_norm")?, k: head_vector("k_norm")? }) } else { None };
        let linears = spec.modules.iter().map(|m| self.linear(i, m, adapters)).collect::<Result<Vec<_>>>()?;
        Ok(Layer {
            input_norm: vector("input_layernorm")?,
            mlp_norm,
            post_norms,
            qk_norm,
            linears,
            qkv_columns: columns(spec, &[Part::Q, Part::K, Part::V]),
            gate_up_columns: columns(spec, &[Part::Gate, Part::Up]),
            attention: AttentionParams {
                heads: Heads { n_heads: spec.n_heads, n_kv_heads: spec.n_kv_heads, head_dim: spec.head_dim },
                scale: spec.attention_scale as f32,
                window: spec.layers[i].window,
                softcap: spec.attention_softcap.map(|c| c as f32),
                segments: Vec::new(),
            },
            rope: RopeParams { head_dim: spec.head_dim, rotary_dim: spec.rotary_dim },
            norm: NormParams { eps: spec.norm_eps as f32, offset: spec.norm_offset as f32 },
            activation: match spec.activation {
                GateActivation::Silu => Activation::Silu,
                GateActivation::GeluTanh => Activation::GeluTanh,
            },
            d_ff: spec.intermediate_size,
        })
    }
}

/// Columns of each module that makes any of `parts`, in the buffer that holds all of them.
fn columns(spec: &ModelSpec, parts: &[Part]) -> Vec<Range<usize>> {
    let mut start = 0;
    spec.modules
        .iter()
        .filter(|m| m.parts.iter().any(|p| parts.contains(p)))
        .map(|m| {
            let range = start..start + m.out_features;
            start = range.end;
            range
        })
        .collect()
}

/// PEFT's initial A: uniform in ±1/√in (Kaiming with a = √5), from a stream of its own for every module.
pub fn initial_a(rank: usize, inp: usize, seed: u64, path: &str) -> Vec<f32> {
    let mut hash = seed ^ 0x6c6f_7261_5f41_0000;
    for byte in path.bytes() {
        hash = SplitMix::new(hash ^ u64::from(byte)).next_u64();
    }
    let mut random = SplitMix::new(hash);
    let bound = 1.0 / (inp as f64).sqrt();
    (0..rank * inp).map(|_| ((random.unit() * 2.0 - 1.0) * bound) as f32).collect()
}
