//! The memory plan of a run, from its model and its plan.

use crate::base::BaseModel;
use crate::decoder::stays_mapped;
use crate::peft_format;
use crate::train::{Tokens, rows};
use peft_plan::{Adapters, MemoryFacts, MemoryPlan, Method, ModelSpec, Result, Rows, TrainingPlan};

/// Parameters that `plan` trains in a model of this shape.
pub fn trainable_parameters(spec: &ModelSpec, plan: &TrainingPlan) -> Result<u64> {
    if plan.method == Method::Full {
        return Ok(spec.parameters());
    }
    let mut total = 0;
    for i in 0..spec.layers.len() {
        for m in &spec.modules {
            if peft_format::matches(&plan.target_modules, &format!("model.layers.{i}.{}", m.name))? {
                total += plan.rank * (m.in_features + m.out_features)
                    + if plan.method.is_dora() { m.out_features } else { 0 };
            }
        }
    }
    Ok(total as u64)
}

/// What a run reads and computes, as far as its memory depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// Most tokens computed together.
    pub rows: Rows,
    /// Longest example, tokens.
    pub longest: usize,
    /// Tokens of all examples.
    pub example_tokens: u64,
    /// Bytes of the data's files.
    pub data_bytes: u64,
}

impl Workload {
    /// That of a prepared run.
    pub fn of(plan: &TrainingPlan, train: &[Tokens], validation: &[Tokens], data_bytes: u64) -> Self {
        let all = || train.iter().chain(validation).map(|t| t.ids.len());
        Self {
            rows: rows(plan, train, validation),
            longest: all().max().unwrap_or(0),
            example_tokens: all().map(|n| n as u64).sum(),
            data_bytes,
        }
    }
}

/// The adapters of a plan on a model of this shape.
pub fn adapters_of(spec: &ModelSpec, plan: &TrainingPlan) -> Result<Adapters> {
    if plan.method == Method::Full {
        return Ok(Adapters::none());
    }
    let mut modules = vec![false; spec.modules.len()];
    for i in 0..spec.layers.len() {
        for (module, on) in spec.modules.iter().zip(&mut modules) {
            *on = *on || peft_format::matches(&plan.target_modules, &format!("model.layers.{i}.{}", module.name))?;
        }
    }
    Ok(Adapters { rank: plan.rank, dora: plan.method.is_dora(), dropout: plan.dropout > 0.0, modules })
}

/// The memory plan of a run.
pub fn memory_plan(base: &BaseModel, plan: &TrainingPlan, work: &Workload) -> Result<MemoryPlan> {
    let spec = base.spec();
    let (weight_bytes, quantising_bytes) = weight_bytes(base, plan);
    let facts = MemoryFacts {
        weight_bytes,
        quantising_bytes,
        trainable: trainable_parameters(spec, plan)?,
        method: plan.method,
        adapters: adapters_of(spec, plan)?,
        rows: work.rows,
        recompute: plan.recompute,
        longest: work.longest,
        threads: plan.threads,
        tokenizer_bytes: base.tokenizer_bytes(),
        example_tokens: work.example_tokens,
        data_bytes: work.data_bytes,
    };
    Ok(peft_plan::memory::plan(spec, &facts))
}

/// Bytes of the frozen weights as they are held, and of what quantising them on loading takes for a moment.
fn weight_bytes(base: &BaseModel, plan: &TrainingPlan) -> (u64, u64) {
    let checkpoint = base.checkpoint();
    let kept: u64 = (checkpoint.tensors())
        .filter(|(name, _)| stays_mapped(checkpoint, plan, name))
        .map(|(_, tensor)| tensor.bytes.len() as u64)
        .sum();
    if !plan.method.is_quantized() || base.stored_in_4bit() {
        return (kept, 0);
    }
    let spec = base.spec();
    let elements = |m: &peft_plan::ModuleSpec| (m.in_features * m.out_features) as u64;
    let linear = spec.modules.iter().map(elements).sum::<u64>() * spec.layers.len() as u64;
    // Half a byte a weight and a scale for 64 of them, in f32 or in a byte with a scale of its own for 256.
    let scales = if plan.double_quantization { linear / 64 + linear / (64 * 64) } else { linear / 16 };
    // The largest matrix widened to f32, its codes one a byte, and its scales.
    let largest = spec.modules.iter().map(elements).max().unwrap_or(0);
    (kept + linear / 2 + scales, largest * 5 + largest / 16)
}
