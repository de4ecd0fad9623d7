//! The memory plan of a run, from its model and its plan.

use crate::base::BaseModel;
use crate::peft_format;
use peft_kernels::quant::eight_bit::BLOCK;
use peft_plan::{MemoryFacts, MemoryPlan, Method, ModelSpec, Optimizer, Result, TrainingPlan, saved};

/// What is trained: how many numbers, and how many bytes its moments take.
#[derive(Clone, Copy, Debug, Default)]
struct Trained {
    parameters: u64,
    moment_bytes: u64,
}

impl Trained {
    fn add(&mut self, len: usize, eight_bit: bool) {
        self.parameters += len as u64;
        self.moment_bytes += if eight_bit { 2 * len + 8 * len.div_ceil(BLOCK) } else { 8 * len } as u64;
    }
}

/// What `plan` trains in a model of this shape, as [`Param::use_8bit_moments`](crate::decoder::Param) keeps it.
fn trained(spec: &ModelSpec, plan: &TrainingPlan) -> Result<Trained> {
    let eight_bit = plan.optimizer == Optimizer::AdamW8bit;
    let mut trained = Trained::default();
    if plan.method == Method::Full {
        for m in (0..spec.layers.len()).flat_map(|i| spec.layer_modules(i)) {
            trained.add(m.in_features * m.out_features, eight_bit);
        }
        if !spec.tied {
            trained.add(spec.vocab_size * spec.hidden_size, eight_bit);
        }
        trained.add((spec.parameters() - trained.parameters) as usize, false);
        return Ok(trained);
    }
    for i in 0..spec.layers.len() {
        for m in spec.target_modules(i) {
            if peft_format::matches(&plan.target_modules, &format!("model.layers.{i}.{}", m.name))? {
                trained.add(plan.rank * m.in_features, eight_bit);
                trained.add(plan.rank * m.out_features, eight_bit);
                trained.add(if plan.method.is_dora() { m.out_features } else { 0 }, eight_bit);
            }
        }
    }
    for path in saved::paths(spec, &plan.modules_to_save)? {
        trained.add(saved::size(spec, &path) as usize, eight_bit && path == saved::HEAD);
    }
    Ok(trained)
}

/// Parameters that `plan` trains in a model of this shape.
pub fn trainable_parameters(spec: &ModelSpec, plan: &TrainingPlan) -> Result<u64> {
    Ok(trained(spec, plan)?.parameters)
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
    let Trained { parameters, moment_bytes } = trained(spec, plan)?;
    let facts = MemoryFacts {
        weight_bytes,
        trainable: parameters,
        moment_bytes,
        rank: plan.rank,
        method: plan.method,
        dropout: plan.dropout > 0.0,
        tokens,
        recompute: plan.recompute,
    };
    Ok(peft_plan::memory::plan(spec, &facts))
}
