//! The memory plan of a run, from its model and its plan.

use crate::base::BaseModel;
use crate::peft_format;
use peft_plan::{MemoryFacts, MemoryPlan, Method, ModelSpec, Result, TrainingPlan};

/// Parameters that `plan` trains in a model of this shape.
pub fn trainable_parameters(spec: &ModelSpec, plan: &TrainingPlan) -> Result<u64> {
    if plan.method == Method::Full {
        return Ok(spec.parameters());
    }
    let mut total = 0;
    for i in 0..spec.layers.len() {
        for m in spec.target_modules(i) {
            if peft_format::matches(&plan.target_modules, &format!("model.layers.{i}.{}", m.name))? {
                total += plan.rank * (m.in_features + m.out_features)
                    + if plan.method.is_dora() { m.out_features } else { 0 };
            }
        }
    }
    Ok(total as u64)
}

/// The memory plan of a run.
pub fn memory_plan(base: &BaseModel, plan: &TrainingPlan, tokens: usize) -> Result<MemoryPlan> {
    let spec = base.spec();
    let stored = base.checkpoint().total_bytes();
    let weight_bytes = match plan.method {
        Method::Full => 0,
        m if m.is_quantized() && !base.stored_in_4bit() => {
            let modules = (0..spec.layers.len()).flat_map(|i| spec.layer_modules(i));
            let linear: usize = modules.map(|m| m.in_features * m.out_features).sum();
            let linear = linear as u64;
            // Half a byte a weight and its scale; everything else stays as stored.
            let dense = base.dense_bytes();
            linear / 2 + linear / 64 + linear / (64 * 64) + stored.saturating_sub(linear * dense)
        }
        _ => stored,
    };
    let facts = MemoryFacts {
        weight_bytes,
        trainable: trainable_parameters(spec, plan)?,
        rank: plan.rank,
        method: plan.method,
        dropout: plan.dropout > 0.0,
        tokens,
        recompute: plan.recompute,
    };
    Ok(peft_plan::memory::plan(spec, &facts))
}
