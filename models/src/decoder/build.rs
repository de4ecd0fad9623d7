//! A checkpoint and a method become a decoder on a device.
//!
//! Weights stay as the checkpoint stores them, memory-mapped where the device allows it; quantising on loading
//! holds one dense matrix at a time. Nothing is held twice.

use super::Decoder;
use super::experts::{Expert, Experts, Gate, Placed};
use super::layer::{Layer, QkNorm};
use super::linear::{Linear, Lora, Magnitude, Vector, Weights};
use super::mlp::{Gated, Mlp};
use super::param::Param;
use super::saved::Saved;
use crate::adapter::AdapterSource;
use crate::checkpoint::names::ADAPTER_PREFIX;
use crate::checkpoint::{Checkpoint, ExpertMatrix};
use crate::engine::Quantization;
use crate::fault::device;
use crate::merge::dense;
use peft_kernels::{
    Activation, AttentionParams, Backend, ClampedGate, DType, FrozenWeight, Heads, Matrix, NormParams, RopeParams,
    Tensor,
};
use peft_plan::order::SplitMix;
use peft_plan::saved::{EMBEDDING, HEAD};
use peft_plan::{
    ExpertsSpec, Fault, GateActivation, Method, ModelSpec, ModuleSpec, NormPlacement, Part, Result, TrainingPlan,
};
use std::collections::BTreeMap;
use std::ops::Range;

/// How a decoder is built.
#[derive(Clone, Debug, Default)]
pub struct BuildOptions<'a> {
    /// Train every weight; the experts of a mixture stay frozen.
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

/// The same with every weight where the checkpoint has it, which may be a file: nothing is packed.
pub fn build_mapped<B: Backend>(be: &B, checkpoint: &Checkpoint, options: &BuildOptions) -> Result<Decoder<B>> {
    build_as(be, checkpoint, options, usize::MAX, true)
}

/// The same with at most so many blocks: enough to measure how long one takes.
pub fn build_first<B: Backend>(
    be: &B,
    checkpoint: &Checkpoint,
    options: &BuildOptions,
    blocks: usize,
) -> Result<Decoder<B>> {
    build_as(be, checkpoint, options, blocks, false)
}

fn build_as<B: Backend>(
    be: &B,
    checkpoint: &Checkpoint,
    options: &BuildOptions,
    blocks: usize,
    mapped: bool,
) -> Result<Decoder<B>> {
    checkpoint.check()?;
    let mut spec = checkpoint.spec().clone();
    spec.layers.truncate(blocks.max(1));
    let saved = match &options.adapter {
        Some(source) => peft_plan::saved::paths(&spec, &source.spec().modules_to_save)?,
        None => Vec::new(),
    };
    let builder = Builder { be, checkpoint, options, mapped, spec: &spec, saved };
    let embedding = builder.matrix("model.embed_tokens.weight", spec.vocab_size, spec.hidden_size)?;
    let mut adapters = 0;
    let layers = (0..spec.layers.len()).map(|i| builder.layer(i, &mut adapters)).collect::<Result<Vec<_>>>()?;
    if options.adapter.is_some() && adapters == 0 {
        let names = spec.target_names();
        return Err(Fault::new(
            "PS-CFG-003",
            format!("The target modules match nothing in this model; its modules are {}", names.join(", ")),
        ));
    }
    let norm = builder.vector("model.norm.weight", spec.hidden_size)?;
    let head =
        if spec.tied { None } else { Some(builder.matrix("lm_head.weight", spec.vocab_size, spec.hidden_size)?) };
    let saved = Saved { embedding: builder.saved_matrix(EMBEDDING)?, head: builder.saved_matrix(HEAD)? };
    let mut decoder = Decoder {
        be: be.clone(),
        spec: spec.clone(),
        embedding,
        layers,
        norm,
        head,
        answering_head: None,
        saved,
        neftune_alpha: 0.0,
        used: None,
        tables: Vec::new(),
        positions: 0,
    };
    decoder.prepare().map_err(device)?;
    Ok(decoder)
}

struct Builder<'a, B: Backend> {
    be: &'a B,
    checkpoint: &'a Checkpoint,
    options: &'a BuildOptions<'a>,
    /// Nothing is packed.
    mapped: bool,
    spec: &'a ModelSpec,
    /// Paths of the modules trained whole beside the adapters.
    saved: Vec<String>,
}

/// Whether the checkpoint's tensor `name` is used where it lies, and not converted while a run loads.
pub fn stays_mapped(checkpoint: &Checkpoint, plan: &TrainingPlan, name: &str) -> bool {
    let is_linear = name.starts_with("model.layers.")
        && checkpoint.spec().modules.iter().any(|m| name.strip_suffix(".weight").is_some_and(|n| n.ends_with(&m.name)));
    // Router and experts are never trained, and stay as they are stored.
    let is_expert = checkpoint.spec().experts.as_ref().is_some_and(|experts| {
        name.contains(&format!(".{}.", experts.path)) || name.contains(&format!(".{}.", experts.router))
    });
    match plan.method {
        Method::Full => is_expert,
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
        if let Some((path, source)) = self.saved_source(name.strip_suffix(".weight").unwrap_or(name)) {
            let tuned = match source.saved(path, &[len])? {
                Some(tuned) => self.be.tensor(1, len, tuned).map_err(device)?,
                None => self.be.tensor(1, len, &data).map_err(device)?,
            };
            let mut param = Param { base: Some(value), ..Param::frozen(saved_name(path), tuned, true) };
            if self.options.trainable {
                // PEFT counts what has one dimension among what LoRA+ speeds up.
                let rate = source.spec().lora_plus_ratio.unwrap_or(1.0);
                param.make_trainable(self.be, false, rate).map_err(device)?;
            }
            return Ok(param);
        }
        let mut param = Param::frozen(name.to_owned(), value, true);
        if self.options.full && self.options.trainable {
            param.make_trainable(self.be, false, 1.0).map_err(device)?;
        }
        Ok(param)
    }

    /// Where the module at `path` comes from, if it is trained whole.
    fn saved_source<'p>(&self, path: &'p str) -> Option<(&'p str, &AdapterSource<'_>)> {
        let source = self.options.adapter.as_ref()?;
        self.saved.iter().any(|saved| saved == path).then_some((path, source))
    }

    /// The tuned matrix at `path`, dense in f32 whatever the base is.
    fn saved_matrix(&self, path: &str) -> Result<Option<Param<B>>> {
        let Some((path, source)) = self.saved_source(path) else { return Ok(None) };
        let (rows, cols) = (self.spec.vocab_size, self.spec.hidden_size);
        let value = if let Some(tuned) = source.saved(path, &[rows, cols])? {
            self.be.tensor(rows, cols, tuned)
        } else {
            // A head that is the embedding begins as that.
            let name = if self.spec.tied { EMBEDDING } else { path };
            self.be.tensor(rows, cols, &dense(&self.checkpoint.frozen(&format!("{name}.weight"))?))
        };
        let mut param = Param::frozen(saved_name(path), value.map_err(device)?, false);
        if self.options.trainable {
            param.make_trainable(self.be, true, 1.0).map_err(device)?;
        }
        Ok(Some(param))
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
        Ok(Weights::Frozen(self.frozen(name, frozen)?))
    }

    /// A frozen matrix on the device: packed where that pays, unless its rows are only looked up.
    fn frozen(&self, name: &str, frozen: FrozenWeight) -> Result<B::Weight> {
        let is_table = !self.spec.tied && name.strip_suffix(".weight") == Some(EMBEDDING);
        if self.mapped || is_table || !self.be.packs(&frozen) {
            return self.be.weight(frozen).map_err(device);
        }
        let packed = self.be.packed_weight(frozen).map_err(device)?;
        self.checkpoint.release(name);
        Ok(packed)
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
                    stored @ (FrozenWeight::FourBit(_) | FrozenWeight::Blocks { .. }) => stored,
                };
                Weights::Frozen(self.frozen(&name, frozen)?)
            }
            _ => self.matrix(&name, out, inp)?,
        };
        let bias = if module.bias { Some(self.vector(&format!("{path}.bias"), out)?) } else { None };
        let lora = match &self.options.adapter {
            Some(source) if self.spec.adaptable(module) => {
                lora(self.be, source, &path, weight.matrix(), (out, inp), *adapters, self.options.trainable)?
            }
            _ => None,
        };
        *adapters += u64::from(lora.is_some());
        Ok(Linear { path, out_features: out, in_features: inp, weight, bias, lora, seen: None })
    }

    fn layer(&self, i: usize, adapters: &mut u64) -> Result<Layer<B>> {
        let spec = self.spec;
        let vector = |name: &str| self.vector(&format!("model.layers.{i}.{name}.weight"), spec.hidden_size);
        let (input_norm, mlp_norm) = match spec.placement {
            NormPlacement::Pre => (Some("input_layernorm"), Some("post_attention_layernorm")),
            NormPlacement::Sandwich => (Some("input_layernorm"), Some("pre_feedforward_layernorm")),
            NormPlacement::Post => (None, None),
        };
        let post_norms = match spec.placement {
            NormPlacement::Pre => None,
            NormPlacement::Sandwich | NormPlacement::Post => {
                Some((vector("post_attention_layernorm")?, vector("post_feedforward_layernorm")?))
            }
        };
        let attention_vector = |name: &str, len: usize| self.vector(&format!("model.layers.{i}.self_attn.{name}"), len);
        let qk_norm = match spec.qk_norm_widths() {
            Some((q, k)) => {
                Some(QkNorm { q: attention_vector("q_norm.weight", q)?, k: attention_vector("k_norm.weight", k)? })
            }
            None => None,
        };
        let sinks = if spec.sinks {
            let sinks = attention_vector("sinks", spec.n_heads)?;
            self.be.download(&sinks.value).map_err(device)?
        } else {
            Vec::new()
        };
        let activation = match spec.activation {
            GateActivation::Silu => Activation::Silu,
            GateActivation::GeluTanh => Activation::GeluTanh,
        };
        let mlp = match &spec.experts {
            Some(experts) if spec.layers[i].sparse => Mlp::Experts(self.experts(i, experts, activation)?),
            _ => Mlp::Gated(Gated {
                columns: columns(spec, &[Part::Gate, Part::Up]),
                activation,
                d_ff: spec.intermediate_size,
            }),
        };
        let linears = spec.layer_modules(i).map(|m| self.linear(i, m, adapters)).collect::<Result<Vec<_>>>()?;
        Ok(Layer {
            input_norm: input_norm.map(vector).transpose()?,
            mlp_norm: mlp_norm.map(vector).transpose()?,
            post_norms,
            qk_norm,
            linears,
            qkv_columns: columns(spec, &[Part::Q, Part::K, Part::V]),
            mlp,
            attention: AttentionParams {
                heads: Heads { n_heads: spec.n_heads, n_kv_heads: spec.n_kv_heads, head_dim: spec.head_dim },
                scale: spec.attention_scale as f32,
                window: spec.layers[i].window,
                softcap: spec.attention_softcap.map(|c| c as f32),
                sinks,
                segments: Vec::new(),
            },
            rope: spec.layers[i].rope.map(|_| RopeParams { head_dim: spec.head_dim, rotary_dim: spec.rotary_dim }),
            norm: NormParams { eps: spec.norm_eps as f32, offset: spec.norm_offset as f32 },
            residual_scale: spec.residual_scale.map(|s| s as f32),
        })
    }

    fn experts(&self, layer: usize, spec: &ExpertsSpec, activation: Activation) -> Result<Experts<B>> {
        let be = self.be;
        let placed = |m: ExpertMatrix| -> Result<Placed<B>> {
            let weight = be.weight(m.weight).map_err(device)?;
            Ok(Placed { weight, transposed: m.transposed, columns: m.columns })
        };
        let row = |data: Option<Vec<f32>>| data.map(|data| be.tensor(1, data.len(), &data)).transpose().map_err(device);
        let experts = self.checkpoint.experts(layer)?.into_iter().map(|parts| {
            Ok(Expert {
                gate_up: parts.gate_up.into_iter().map(placed).collect::<Result<_>>()?,
                gate_up_bias: row(parts.gate_up_bias)?,
                down: placed(parts.down)?,
                down_bias: row(parts.down_bias)?,
            })
        });
        let router = format!("model.layers.{layer}.{}", spec.router);
        let router_bias = if spec.bias { Some(self.checkpoint.vector(&format!("{router}.bias"))?) } else { None };
        Ok(Experts {
            router: be.weight(self.checkpoint.frozen(&format!("{router}.weight"))?).map_err(device)?,
            router_bias: row(router_bias)?,
            experts: experts.collect::<Result<_>>()?,
            top_k: spec.top_k,
            normalised: spec.normalised,
            gate: match spec.clamp {
                Some(c) => Gate::Clamped(ClampedGate { alpha: c.alpha as f32, limit: c.limit as f32 }),
                None => Gate::Halves(activation),
            },
            d_ff: spec.intermediate_size,
        })
    }
}

/// The name of a module trained whole in the adapter's file.
fn saved_name(path: &str) -> String {
    format!("{ADAPTER_PREFIX}{path}.weight")
}

/// Put another adapter on `decoder`, for answering, or none. What is computed of the weights alone is kept where
/// both have it.
pub fn attach<B: Backend>(decoder: &mut Decoder<B>, source: Option<&AdapterSource>) -> Result<()> {
    let be = decoder.be.clone();
    let mut adapters = 0;
    // Nothing is changed before everything is known to fit.
    let mut fresh = Vec::new();
    for (i, layer) in decoder.layers.iter().enumerate() {
        for (linear, module) in layer.linears.iter().zip(decoder.spec.layer_modules(i)) {
            let shape = (linear.out_features, linear.in_features);
            let one = match source.filter(|_| decoder.spec.adaptable(module)) {
                Some(source) => lora(&be, source, &linear.path, linear.weight.matrix(), shape, adapters, false)?,
                None => None,
            };
            adapters += u64::from(one.is_some());
            fresh.push(one);
        }
    }
    if source.is_some() && adapters == 0 {
        return Err(Fault::new("PS-CFG-003", "The adapter's modules match nothing in this model"));
    }
    let mut whole = whole_modules(decoder, source)?;
    for (linear, one) in decoder.layers.iter_mut().flat_map(|layer| &mut layer.linears).zip(fresh) {
        linear.lora = one;
    }
    let mut matrix = |path: &str| whole.remove(path).map(|tuned| Param::frozen(saved_name(path), tuned, false));
    decoder.saved = Saved { embedding: matrix(EMBEDDING), head: matrix(HEAD) };
    for vector in decoder.layers.iter_mut().flat_map(Layer::vectors_mut).chain([&mut decoder.norm]) {
        if let Some(base) = vector.base.take() {
            vector.value = base;
            vector.name = vector.name.trim_start_matches(ADAPTER_PREFIX).to_owned();
        }
        let path = vector.name.trim_end_matches(".weight").to_owned();
        if let Some(tuned) = whole.remove(&path) {
            vector.base = Some(std::mem::replace(&mut vector.value, tuned));
            vector.name = saved_name(&path);
        }
    }
    decoder.prepare().map_err(device)
}

/// What `source` replaces whole, by path, on the device.
fn whole_modules<B: Backend>(
    decoder: &Decoder<B>,
    source: Option<&AdapterSource>,
) -> Result<BTreeMap<String, Tensor<B>>> {
    let Some(source) = source else { return Ok(BTreeMap::new()) };
    let spec = &decoder.spec;
    let mut whole = BTreeMap::new();
    for path in peft_plan::saved::paths(spec, &source.spec().modules_to_save)? {
        let shape = if path == EMBEDDING || path == HEAD {
            vec![spec.vocab_size, spec.hidden_size]
        } else {
            vec![peft_plan::saved::size(spec, &path) as usize]
        };
        if let Some(tuned) = source.saved(&path, &shape)? {
            let (rows, cols) = if shape.len() == 2 { (shape[0], shape[1]) } else { (1, shape[0]) };
            whole.insert(path, decoder.be.tensor(rows, cols, tuned).map_err(device)?);
        }
    }
    Ok(whole)
}

/// The adapter of the module at `path`, if `source` has one.
fn lora<B: Backend>(
    be: &B,
    source: &AdapterSource,
    path: &str,
    w: Matrix<B>,
    shape: (usize, usize),
    index: u64,
    trainable: bool,
) -> Result<Option<Lora<B>>> {
    let (out, inp) = shape;
    let name = |suffix: &str| format!("base_model.model.{path}.{suffix}");
    let Some(values) = source.values(path, out, inp)? else { return Ok(None) };
    let spec = source.spec();
    let mut a = Param::frozen(name("lora_A.weight"), be.tensor(values.rank, inp, &values.a).map_err(device)?, false);
    let mut b = Param::frozen(name("lora_B.weight"), be.tensor(out, values.rank, &values.b).map_err(device)?, false);
    let magnitude = if spec.dora {
        let mut squares = be.zeros(1, out).map_err(device)?;
        be.row_squares(&mut squares, w).map_err(device)?;
        let m = match values.magnitude {
            Some(m) => m,
            None => be.download(&squares).map_err(device)?.into_iter().map(f32::sqrt).collect(),
        };
        let mut m = Param::frozen(name("lora_magnitude_vector"), be.tensor(1, out, &m).map_err(device)?, true);
        if trainable {
            m.make_trainable(be, true, spec.lora_plus_ratio.unwrap_or(1.0)).map_err(device)?;
        }
        let zeros = || be.zeros(1, out).map_err(device);
        Some(Magnitude { m, squares, norm: zeros()?, ratio: zeros()? })
    } else {
        None
    };
    if trainable {
        a.make_trainable(be, true, 1.0).map_err(device)?;
        // LoRA+ (Hayou et al. 2024): B, and with it the magnitude, learn faster than A.
        b.make_trainable(be, true, spec.lora_plus_ratio.unwrap_or(1.0)).map_err(device)?;
    }
    Ok(Some(Lora { a, b, magnitude, scaling: values.scaling as f32, dropout: spec.dropout as f32, index }))
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
