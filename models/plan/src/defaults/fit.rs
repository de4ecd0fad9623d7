//! A run that does not fit is made smaller, one explained step after the other (S4.2.3): 4-bit weights, then
//! recomputing, on a card then inputs of layers in the computer's memory, then a smaller micro-batch at the same effective
//! batch, then shorter sequences. What is left of the memory is used for what makes steps fastest.

use super::{Filler, Source};
use crate::config::Method;
use crate::fault::Result;
use crate::memory::policy::{self, Policy};
use crate::memory::{MemoryPlan, card, of_run, rows_of_run};
use crate::resolve::{Arithmetic, build};
use std::collections::BTreeMap;

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
    if !f.is_given("training.decoded_layers") {
        f.config.training.decoded_layers = Some(0);
    }
    if !f.is_given("training.decode_ahead") {
        f.config.training.decode_ahead = Some(false);
    }
    let mut need = memory(f)?.total_bytes;
    if need > budget && spares(f) && f.config.training.kept_layers > Some(0) {
        f.config.training.kept_layers = Some(0);
        need = memory(f)?.total_bytes;
    }
    while need > budget {
        let limit = format!("{} {what}", size(budget));
        let before = need;
        let Some(step) = next(f, need - budget)? else { return Ok(()) };
        need = apply(f, step, &limit, before)?;
    }
    if spares(f) {
        spare(f, budget)?;
    }
    decode(f, budget)
}

/// What is left of a card's memory holds 4-bit weights decoded: they need not be decoded for every product then. Those of
/// other layers are decoded ahead, where steps have so many rows that it is hidden. Memory that spares a layer its second
/// computation is worth more, so this comes last.
fn decode(f: &mut Filler, budget: u64) -> Result<()> {
    let spec = f.facts.spec;
    let plan = build(&f.config, f.facts)?;
    let is_quantized = plan.method.is_quantized() || f.facts.stored_in_4bit;
    let is_card = f.facts.machine.is_some_and(|machine| machine.card);
    if !is_card || !is_quantized || plan.arithmetic != Arithmetic::Bf16 {
        return Ok(());
    }
    let left = budget.saturating_sub(memory(f)?.total_bytes);
    let layers = spec.layers.len();
    let is_long = rows_of_run(f.facts, &plan).train >= card::AHEAD_ROWS;
    let decoding = if is_long && !f.is_given("training.decode_ahead") { card::decoding(spec) } else { 0 };
    let mut held = plan.decoded_layers.min(layers);
    if !f.is_given("training.decoded_layers") {
        let fits = |n: usize| card::decoded(spec, n) + if n < layers { decoding } else { 0 } <= left;
        held = (1..=layers).rev().find(|&n| fits(n)).unwrap_or(0);
        f.config.training.decoded_layers = Some(held);
    }
    // What was given is in the table already.
    let bytes = if held > plan.decoded_layers { card::decoded(spec, held) } else { 0 };
    if bytes > 0 {
        let reason = format!(
            "There is room to hold the weights of {held} of {layers} layers decoded as well, in {}.",
            size(bytes)
        );
        f.note("training.decoded_layers", &held, Source::Hardware, reason);
    }
    if held < layers && decoding > 0 && decoding + bytes <= left {
        f.config.training.decode_ahead = Some(true);
        let reason = "Weights are decoded while the product before theirs runs, which hides most of it.".to_owned();
        f.note("training.decode_ahead", &true, Source::Hardware, reason);
    }
    Ok(())
}

/// Layers are computed twice because this said so, and how many is not given.
fn spares(f: &Filler) -> bool {
    f.config.training.activation_checkpointing == Some(true)
        && ["training.activation_checkpointing", "training.kept_layers"].iter().all(|key| !f.is_given(key))
}

/// Bytes of the input of a layer for a micro-batch, and how many of them may be in the computer's memory.
fn offloadable(f: &Filler) -> Result<(u64, usize)> {
    let Some(machine) = f.facts.machine.filter(|machine| machine.card && !f.is_given("training.offloaded_layers"))
    else {
        return Ok((1, 0));
    };
    let slab = card::slab(f.facts.spec, rows_of_run(f.facts, &build(&f.config, f.facts)?));
    Ok((slab, policy::most_offloaded(f.facts.spec.layers.len(), slab, machine.host_bytes)))
}

/// As many layers as fit are not computed twice: the fewer are, the faster is a step. Where the inputs of others go to the
/// computer's memory, more fit.
fn spare(f: &mut Filler, budget: u64) -> Result<()> {
    let layers = f.facts.spec.layers.len();
    let (slab, most) = offloadable(f)?;
    let given = f.config.training.offloaded_layers.unwrap_or(0);
    let is_free = !f.is_given("training.offloaded_layers");
    let mut known = BTreeMap::new();
    let mut need = |f: &mut Filler, kept: usize| -> Result<u64> {
        if let Some(&need) = known.get(&kept) {
            return Ok(need);
        }
        f.config.training.kept_layers = Some(kept);
        if is_free {
            f.config.training.offloaded_layers = Some(0);
        }
        let need = memory(f)?.total_bytes;
        known.insert(kept, need);
        Ok(need)
    };
    let mut fault = None;
    let chosen = policy::fastest(f.facts.spec, most, |offloaded| {
        let budget = budget.saturating_add(offloaded as u64 * slab);
        let mut fits = |kept: usize| need(f, kept).map_err(|e| fault = Some(e)).is_ok_and(|need| need <= budget);
        if !fits(0) {
            return None;
        }
        // What fits is a matter of how many: halve the range that holds the border.
        let (mut kept, mut beyond) = (0, layers);
        while beyond - kept > 1 {
            let middle = usize::midpoint(kept, beyond);
            if fits(middle) { kept = middle } else { beyond = middle }
        }
        Some(kept)
    });
    if let Some(fault) = fault {
        return Err(fault);
    }
    // Where nothing fits, everything was tried.
    let Policy { kept, offloaded } = chosen.unwrap_or(Policy { kept: 0, offloaded: most });
    f.config.training.kept_layers = Some(kept);
    f.config.training.offloaded_layers = Some(if is_free { offloaded } else { given });
    let need = memory(f)?.total_bytes;
    let reason = match kept {
        0 => "There is no room to spare any layer.".to_owned(),
        _ => format!(
            "{kept} of {layers} layers still fit as they are, in {}; the others are computed twice.",
            size(need)
        ),
    };
    f.note("training.kept_layers", &kept, Source::Hardware, reason);
    if is_free {
        let reason = match offloaded {
            0 => "What a pass computes stays where it is computed.".to_owned(),
            _ => format!(
                "The inputs of {offloaded} of {layers} layers, {}, wait in the computer's memory while the card computes.",
                size(offloaded as u64 * slab)
            ),
        };
        f.note("training.offloaded_layers", &offloaded, Source::Hardware, reason);
    }
    Ok(())
}

/// One reduction.
#[derive(Clone, Copy)]
enum Step {
    FourBit(Method),
    Recompute,
    Offload(usize),
    Micro(usize, usize),
    Shorter(usize),
}

/// What comes next, where so many bytes are missing.
fn next(f: &Filler, missing: u64) -> Result<Option<Step>> {
    let t = &f.config.training;
    let method = f.config.adapter.method.unwrap_or(Method::Lora);
    if !f.is_given("adapter.method") && !f.facts.stored_in_4bit {
        match method {
            Method::Lora => return Ok(Some(Step::FourBit(Method::Qlora))),
            Method::Dora => return Ok(Some(Step::FourBit(Method::Qdora))),
            _ => {}
        }
    }
    if !f.is_given("training.activation_checkpointing") && t.activation_checkpointing != Some(true) {
        return Ok(Some(Step::Recompute));
    }
    let (slab, most) = offloadable(f)?;
    let (has, wanted) = (t.offloaded_layers.unwrap_or(0), missing.div_ceil(slab));
    let offloaded = most.min(has + usize::try_from(wanted).unwrap_or(usize::MAX >> 1));
    if offloaded > has {
        return Ok(Some(Step::Offload(offloaded)));
    }
    let micro = t.micro_batch_size.unwrap_or(1);
    let free = |key: &str| !f.is_given(key);
    if micro > 1 && free("training.micro_batch_size") && free("training.gradient_accumulation") {
        let half = micro / 2;
        let effective = micro * t.gradient_accumulation.unwrap_or(1);
        return Ok(Some(Step::Micro(half, effective.div_ceil(half))));
    }
    let length = t.max_sequence_length.unwrap_or(SHORTEST);
    if length > SHORTEST && free("training.max_sequence_length") {
        return Ok(Some(Step::Shorter((length / 2).next_multiple_of(32).max(SHORTEST).min(length - 1))));
    }
    Ok(None)
}

fn apply(f: &mut Filler, step: Step, limit: &str, before: u64) -> Result<u64> {
    match step {
        Step::FourBit(method) => f.config.adapter.method = Some(method),
        Step::Recompute => f.config.training.activation_checkpointing = Some(true),
        Step::Offload(layers) => f.config.training.offloaded_layers = Some(layers),
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
        Step::Offload(layers) => {
            let reason = format!(
                "{saved}; with the inputs of {layers} layers in the computer's memory it needs {}.",
                size(after)
            );
            f.note("training.offloaded_layers", &layers, Source::Hardware, reason);
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
