//! Replay a reference training run written by another framework and report the largest errors.
//!
//! The layout is that of `reference_step.py` of the peers: batches, initial adapter, logits and gradients of the
//! first step, the adapter after all steps, and the options in a JSON file beside it.

use crate::adapter::{AdapterSource, AdapterSpec};
use crate::checkpoint::Checkpoint;
use crate::decoder::{Batch, BuildOptions, Decoder, build};
use crate::engine::Quantization;
use crate::fault::device;
use crate::peft_format::{AdapterConfig, AdapterFile};
use peft_kernels::{AdamW, Backend, FourBitKind};
use peft_plan::{Fault, Result, TargetModules};
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Options of a reference run.
#[derive(Clone, Debug, Deserialize)]
struct Reference {
    r: usize,
    alpha: f64,
    targets: Vec<String>,
    #[serde(default)]
    dora: bool,
    #[serde(default)]
    rslora: bool,
    #[serde(default)]
    quant: Option<String>,
    steps: usize,
    lr: f64,
    betas: [f64; 2],
    eps: f64,
    weight_decay: f64,
    #[serde(default)]
    modules_to_save: Vec<String>,
    #[serde(default)]
    lora_plus_ratio: Option<f64>,
    #[serde(default)]
    max_grad_norm: f64,
    losses: Vec<f64>,
    #[serde(default)]
    grad_norms: Vec<f64>,
}

/// The largest error of a group, and where.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Worst {
    /// Relative L2 error.
    pub worst: f64,
    /// Name of the tensor.
    pub tensor: String,
}

impl Worst {
    fn see(&mut self, error: f64, tensor: &str) {
        // NaN counts as the worst of all, and nothing after it is worse.
        let is_worse = error > self.worst || (error.is_nan() && !self.worst.is_nan());
        if is_worse || self.tensor.is_empty() {
            self.worst = error;
            tensor.clone_into(&mut self.tensor);
        }
    }
}

/// Allowed errors.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Tolerance {
    /// Of the loss.
    pub loss: f64,
    /// Of logits, relative to the largest.
    pub logits: f64,
    /// Of every gradient.
    pub gradient: f64,
    /// Of every updated weight.
    pub updated_weight: f64,
}

/// What the replay found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verification {
    /// Steps replayed.
    pub steps: usize,
    /// Largest over the steps.
    pub loss_relative_error: f64,
    /// Largest difference over the largest logit, at positions that are not padding.
    pub logits_relative_error: f64,
    /// Over all trained tensors.
    pub gradient_relative_error: Worst,
    /// Largest over the steps.
    pub gradient_norm_relative_error: f64,
    /// Over all trained tensors, after the last step.
    pub updated_weight_relative_error: Worst,
    /// What is allowed.
    pub tolerance: Tolerance,
    /// All of it within what is allowed.
    pub within_tolerance: bool,
}

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

struct Loaded {
    options: Reference,
    batches: Vec<Batch>,
    /// Padding of batch 0: `[batch, seq]`.
    real: Vec<Vec<bool>>,
    floats: Tensors,
}

fn bad(path: &Path, what: impl std::fmt::Display) -> Fault {
    Fault::new("PS-MODEL-005", format!("`{}` is not a reference run: {what}", path.display()))
}

/// The reference `path`, whose tensors are `safetensors` and whose options are `json`.
fn parse(path: &Path, safetensors: &[u8], json: &[u8]) -> Result<Loaded> {
    let options: Reference = serde_json::from_slice(json).map_err(|e| bad(&path.with_extension("json"), e))?;
    let file = SafeTensors::deserialize(safetensors).map_err(|e| bad(path, e))?;
    let integers = |name: &str| -> Result<(Vec<usize>, Vec<i64>)> {
        let t = file.tensor(name).map_err(|e| bad(path, e))?;
        if t.dtype() != Dtype::I64 || t.shape().len() != 3 {
            return Err(bad(path, format!("`{name}` must be int64 [steps, batch, seq]")));
        }
        let numbers =
            t.data().chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().expect("eight bytes"))).collect();
        Ok((t.shape().to_vec(), numbers))
    };
    let (shape, ids) = integers("input_ids")?;
    let (_, mask) = integers("attention_mask")?;
    let (_, labels) = integers("labels")?;
    let [steps, rows, seq] = shape[..] else { return Err(bad(path, "input_ids has the wrong shape")) };
    if mask.len() != ids.len() || labels.len() != ids.len() || options.losses.len() < steps.min(options.steps) {
        return Err(bad(path, "input_ids, attention_mask, labels and losses do not fit each other"));
    }
    let mut real = Vec::new();
    let mut batches = Vec::new();
    for step in 0..steps.min(options.steps) {
        let mut batch = Batch { context: seq, ..Batch::default() };
        for row in 0..rows {
            let at = (step * rows + row) * seq;
            let keep: Vec<bool> = mask[at..at + seq].iter().map(|&m| m != 0).collect();
            let len = keep.iter().filter(|&&k| k).count();
            if keep[..len].iter().any(|k| !k) {
                return Err(bad(path, "only padding on the right can be replayed"));
            }
            let tokens =
                ids[at..at + len].iter().map(|&t| u32::try_from(t).map_err(|_| bad(path, "a negative token id")));
            let tokens = tokens.collect::<Result<Vec<_>>>()?;
            let trained: Vec<bool> = labels[at..at + len].iter().map(|&l| l != -100).collect();
            batch.push(&tokens, &trained);
            if step == 0 {
                real.push(keep);
            }
        }
        batches.push(batch);
    }
    let mut floats = Tensors::new();
    for (name, t) in file.tensors() {
        if t.dtype() == Dtype::F32 {
            let numbers =
                t.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("four bytes"))).collect();
            floats.insert(name, (t.shape().to_vec(), numbers));
        }
    }
    Ok(Loaded { options, batches, real, floats })
}

fn relative_l2(got: &[f32], want: &[f32]) -> f64 {
    if got.len() != want.len() {
        return f64::INFINITY;
    }
    let (mut difference, mut size) = (0.0, 0.0);
    for (&g, &w) in got.iter().zip(want) {
        difference += (f64::from(g) - f64::from(w)).powi(2);
        size += f64::from(w).powi(2);
    }
    if size == 0.0 { difference.sqrt() } else { (difference / size).sqrt() }
}

/// Replay `reference` on the model `checkpoint`.
pub fn verify<B: Backend>(be: &B, checkpoint: &Checkpoint, reference: &Path) -> Result<Verification> {
    let json = reference.with_extension("json");
    let bytes = std::fs::read(reference).map_err(|e| Fault::io("read", reference, e))?;
    let text = std::fs::read(&json).map_err(|e| Fault::io("read", &json, e))?;
    replay(be, checkpoint, reference, parse(reference, &bytes, &text)?)
}

/// Replay a reference that is part of the program: the two files of [`verify`] as bytes, and a name for faults.
pub fn verify_bytes<B: Backend>(
    be: &B,
    checkpoint: &Checkpoint,
    name: &str,
    safetensors: &[u8],
    json: &[u8],
) -> Result<Verification> {
    let name = Path::new(name);
    replay(be, checkpoint, name, parse(name, safetensors, json)?)
}

fn replay<B: Backend>(be: &B, checkpoint: &Checkpoint, reference: &Path, loaded: Loaded) -> Result<Verification> {
    let Loaded { options, batches, real, floats } = loaded;
    let initial: Tensors =
        floats.iter().filter_map(|(n, t)| Some((n.strip_prefix("init.")?.to_owned(), t.clone()))).collect();
    let targets = TargetModules::List(options.targets.clone());
    let mut config = AdapterConfig::new(options.r, options.alpha, targets.clone());
    config.use_dora = options.dora;
    config.use_rslora = options.rslora;
    let file = AdapterFile { config, tensors: initial };
    let spec = AdapterSpec {
        rank: options.r,
        alpha: options.alpha,
        use_rslora: options.rslora,
        dropout: 0.0,
        dora: options.dora,
        targets,
        lora_plus_ratio: options.lora_plus_ratio,
        modules_to_save: options.modules_to_save.clone(),
    };
    let quantization = |kind, double| Some(Quantization { kind, double });
    let quantize = match options.quant.as_deref() {
        Some("nf4") => quantization(FourBitKind::Nf4, false),
        Some("nf4-dq") => quantization(FourBitKind::Nf4, true),
        Some("fp4") => quantization(FourBitKind::Fp4, false),
        Some("fp4-dq") => quantization(FourBitKind::Fp4, true),
        _ => None,
    };
    let adapter = Some(AdapterSource::File { spec, file: &file });
    let mut decoder = build(be, checkpoint, &BuildOptions { full: false, quantize, adapter, trainable: true })?;
    let mut acts = decoder.activations(false).map_err(device)?;
    crate::adapter::check_all_used(&mut decoder, &file)?;

    let logits_relative_error = match floats.get("logits") {
        Some((_, want)) => logits_error(&mut decoder, &mut acts, &batches[0], &real, want)?,
        None => 0.0,
    };
    let mut loss_relative_error: f64 = 0.0;
    let mut gradient_norm_relative_error: f64 = 0.0;
    let mut gradient = Worst::default();
    for (step, batch) in batches.iter().enumerate() {
        decoder.prepare().map_err(device)?;
        for p in decoder.params_mut() {
            p.zero_grad(be).map_err(device)?;
        }
        let tokens = batch.trained_tokens().max(1);
        let scores = decoder.train_pass(&mut acts, batch, 1.0 / tokens as f32, (0, 0)).map_err(device)?;
        let loss = scores.total_loss() / tokens as f64;
        let want = options.losses[step];
        loss_relative_error = worst(loss_relative_error, (loss - want).abs() / want.abs());
        let mut squares = 0.0;
        for p in decoder.params_mut() {
            let name = p.name.clone();
            let Some(grad) = p.grad() else { continue };
            squares += be.sum_squares(grad).map_err(device)?;
            if step == 0
                && let Some((_, want)) = floats.get(&format!("grad.{name}"))
            {
                gradient.see(relative_l2(&be.download(grad).map_err(device)?, want), &name);
            }
        }
        let norm = squares.sqrt();
        if let Some(want) = options.grad_norms.get(step) {
            gradient_norm_relative_error = worst(gradient_norm_relative_error, (norm - want).abs() / want.abs());
        }
        let clip = if options.max_grad_norm > 0.0 { (options.max_grad_norm / (norm + 1e-6)).min(1.0) } else { 1.0 };
        let params = AdamW {
            learning_rate: options.lr as f32,
            beta1: options.betas[0] as f32,
            beta2: options.betas[1] as f32,
            eps: options.eps as f32,
            weight_decay: options.weight_decay as f32,
            step: step as u32 + 1,
            gradient_scale: clip as f32,
        };
        for p in decoder.params_mut() {
            p.step(be, &params).map_err(device)?;
        }
    }
    let mut updated = Worst::default();
    for p in decoder.params_mut() {
        match floats.get(&format!("final.{}", p.name)) {
            Some((_, want)) => updated.see(relative_l2(&be.download(&p.value).map_err(device)?, want), &p.name),
            // A reference without any is one of losses alone.
            None if !floats.keys().any(|name| name.starts_with("final.")) => {}
            None => return Err(bad(reference, format!("it has no `final.{}`", p.name))),
        }
    }
    let tolerance = Tolerance { loss: 1e-5, logits: 1e-4, gradient: 1e-4, updated_weight: 1e-4 };
    let within_tolerance = loss_relative_error <= tolerance.loss
        && logits_relative_error <= tolerance.logits
        && gradient.worst <= tolerance.gradient
        && updated.worst <= tolerance.updated_weight;
    Ok(Verification {
        steps: batches.len(),
        loss_relative_error,
        logits_relative_error,
        gradient_relative_error: gradient,
        gradient_norm_relative_error,
        updated_weight_relative_error: updated,
        tolerance,
        within_tolerance,
    })
}

/// The larger of two errors; NaN is the largest.
fn worst(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

fn logits_error<B: Backend>(
    decoder: &mut Decoder<B>,
    acts: &mut crate::decoder::Activations<B>,
    batch: &Batch,
    real: &[Vec<bool>],
    want: &[f32],
) -> Result<f64> {
    let vocab = decoder.spec.vocab_size;
    let got = decoder.logits(acts, batch, true).map_err(device)?;
    let mut got = got.chunks_exact(vocab);
    let mut want = want.chunks_exact(vocab);
    let (mut largest, mut difference): (f64, f64) = (0.0, 0.0);
    for &is_real in real.iter().flatten() {
        let Some(theirs) = want.next() else { return Ok(f64::INFINITY) };
        if !is_real {
            continue;
        }
        let Some(ours) = got.next() else { return Ok(f64::INFINITY) };
        for (&g, &w) in ours.iter().zip(theirs) {
            largest = largest.max(f64::from(w).abs());
            difference = worst(difference, (f64::from(g) - f64::from(w)).abs());
        }
    }
    Ok(difference / largest)
}

#[cfg(test)]
mod tests {
    use super::Worst;

    #[test]
    fn an_error_that_is_not_a_number_stays_the_worst() {
        let seen = |errors: &[f64]| {
            let mut worst = Worst::default();
            errors.iter().enumerate().for_each(|(i, &error)| worst.see(error, &format!("t{i}")));
            worst
        };
        assert_eq!(seen(&[0.0, 0.2, 0.1]), Worst { worst: 0.2, tensor: "t1".to_owned() });
        let broken = seen(&[0.1, f64::NAN, 0.3]);
        assert!(broken.worst.is_nan() && broken.tensor == "t1", "{broken:?}");
    }
}
