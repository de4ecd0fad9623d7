//! A run that does not fit is made smaller, one explained step after the other (S4.2.3): 4-bit weights, then
//! recomputing, then a smaller micro-batch at the same effective batch, then shorter sequences.

use super::{Filler, Source};
use crate::config::Method;
use crate::fault::Result;
use crate::memory::{MemoryPlan, of_run};
use crate::resolve::build;

/// Shortest sequence that a run is reduced to.
const SHORTEST: usize = 64;

/// Reduce what was not given until the run fits the installed memory, and then the memory that is free now.
pub(super) fn reduce(f: &mut Filler) -> Result<()> {
    let Some(machine) = f.facts.machine else { return Ok(()) };
    let fraction = f.config.guards.memory_limit_fraction.unwrap_or(0.9);
    if machine.card && machine.available_bytes > 0 {
        // What is taken of a card is taken at once, and the guard counts it against what is free beside it.
        return until(f, (machine.available_bytes as f64 * fraction) as u64, "may be used of what is free on the card");
    }
    let installed = (machine.memory_bytes as f64 * fraction) as u64;
    until(f, installed, "may be used of the memory installed")?;
    if machine.available_bytes > 0 && machine.available_bytes < installed {
        until(f, machine.available_bytes, "is free at the moment")?;
    }
    Ok(())
}

/// What the configuration as it stands takes.
fn memory(f: &Filler) -> Result<MemoryPlan> {
    Ok(of_run(f.facts, &build(&f.config, f.facts)?))
}

fn until(f: &mut Filler, budget: u64, what: &str) -> Result<()> {
    let mut need = memory(f)?.total_bytes;
    if need > budget && spares(f) && f.config.training.kept_layers > Some(0) {
        f.config.training.kept_layers = Some(0);
        need = memory(f)?.total_bytes;
    }
    while need > budget {
        let limit = format!("{} {what}", size(budget));
        let before = need;
        let Some(step) = next(f) else { return Ok(()) };
        need = apply(f, step, &limit, before)?;
    }
    if spares(f) { spare(f, budget) } else { Ok(()) }
}

/// Layers are computed twice because this said so, and how many is not given.
fn spares(f: &Filler) -> bool {
    f.config.training.activation_checkpointing == Some(true)
        && ["training.activation_checkpointing", "training.kept_layers"].iter().all(|key| !f.is_given(key))
}

/// As many layers as fit are not computed twice: the fewer are, the faster is a step.
fn spare(f: &mut Filler, budget: u64) -> Result<()> {
    let layers = f.facts.spec.layers.len();
    // What fits is a matter of how many: halve the range that holds the border.
    let (mut fits, mut beyond) = (0, layers);
    while beyond - fits > 1 {
        let middle = usize::midpoint(fits, beyond);
        f.config.training.kept_layers = Some(middle);
        if memory(f)?.total_bytes <= budget { fits = middle } else { beyond = middle }
    }
    f.config.training.kept_layers = Some(fits);
    if fits > 0 {
        let need = memory(f)?.total_bytes;
        let reason = format!(
            "{fits} of {layers} layers still fit as they are, in {}; the others are computed twice.",
            size(need)
        );
        f.note("training.kept_layers", &fits, Source::Hardware, reason);
    } else {
        f.note("training.kept_layers", &fits, Source::Hardware, "There is no room to spare any layer.".to_owned());
    }
    Ok(())
}

/// One reduction.
#[derive(Clone, Copy)]
enum Step {
    FourBit(Method),
    Recompute,
    Micro(usize, usize),
    Shorter(usize),
}

fn next(f: &Filler) -> Option<Step> {
    let t = &f.config.training;
    let method = f.config.adapter.method.unwrap_or(Method::Lora);
    if !f.is_given("adapter.method") && !f.facts.stored_in_4bit {
        match method {
            Method::Lora => return Some(Step::FourBit(Method::Qlora)),
            Method::Dora => return Some(Step::FourBit(Method::Qdora)),
            _ => {}
        }
    }
    if !f.is_given("training.activation_checkpointing") && t.activation_checkpointing != Some(true) {
        return Some(Step::Recompute);
    }
    let micro = t.micro_batch_size.unwrap_or(1);
    let free = |key: &str| !f.is_given(key);
    if micro > 1 && free("training.micro_batch_size") && free("training.gradient_accumulation") {
        let half = micro / 2;
        let effective = micro * t.gradient_accumulation.unwrap_or(1);
        return Some(Step::Micro(half, effective.div_ceil(half)));
    }
    let length = t.max_sequence_length.unwrap_or(SHORTEST);
    if length > SHORTEST && free("training.max_sequence_length") {
        return Some(Step::Shorter((length / 2).next_multiple_of(32).max(SHORTEST).min(length - 1)));
    }
    None
}

fn apply(f: &mut Filler, step: Step, limit: &str, before: u64) -> Result<u64> {
    match step {
        Step::FourBit(method) => f.config.adapter.method = Some(method),
        Step::Recompute => f.config.training.activation_checkpointing = Some(true),
        Step::Micro(micro, accumulation) => {
            f.config.training.micro_batch_size = Some(micro);
            f.config.training.gradient_accumulation = Some(accumulation);
        }
        Step::Shorter(length) => f.config.training.max_sequence_length = Some(length),
    }
    let after = memory(f)?.total_bytes;
    let saved = format!("It would need {} and {limit}", size(before));
    match step {
        Step::FourBit(method) => {
            let reason = format!("{saved}; with the model held in 4 bit it needs {}.", size(after));
            f.note("adapter.method", &method, Source::Hardware, reason);
        }
        Step::Recompute => {
            let reason = format!("{saved}; computing parts of each pass twice brings it to {}.", size(after));
            f.note("training.activation_checkpointing", &true, Source::Hardware, reason);
        }
        Step::Micro(micro, accumulation) => {
            let reason = format!("{saved}; fewer examples at a time bring it to {}.", size(after));
            f.note("training.micro_batch_size", &micro, Source::Hardware, reason);
            let reason =
                format!("{} examples a step as before, in smaller parts that fit in memory.", micro * accumulation);
            f.note("training.gradient_accumulation", &accumulation, Source::Hardware, reason);
        }
        Step::Shorter(length) => {
            let cut = super::longer(f.facts.lengths, length);
            let all = f.facts.lengths.len();
            let reason = format!(
                "{saved}; at {length} tokens it needs {}, and {cut} of {all} examples lose their end.",
                size(after)
            );
            f.note("training.max_sequence_length", &length, Source::Hardware, reason);
        }
    }
    Ok(after)
}

/// A size for people.
pub(crate) fn size(bytes: u64) -> String {
    let megabytes = bytes as f64 / 1e6;
    if megabytes < 1000.0 { format!("{megabytes:.0} MB") } else { format!("{:.1} GB", megabytes / 1000.0) }
}
