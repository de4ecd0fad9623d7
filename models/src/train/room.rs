//! Memory for what a step computes: taken before the first step, and made less where there is not enough of it
//! (S4.2.4, S4.6.3).
//!
//! Less is: weights that were held decoded are decoded again for every product; fewer blocks keep what they computed and the
//! others compute it again; the inputs of blocks go to the computer's memory. None of it changes a bit of a result. Then
//! micro-batches are cut smaller, and each step still learns from the same rows. What is done between steps (held-out
//! rows are scored, prompts are answered) is done in smaller pieces first.

use super::guard::GuardState;
use super::samples::Samples;
use super::{Progress, RunState, Tokens, Trainer, rows};
use crate::decoder::{Activations, Decoder};
use crate::fault::device;
use peft_kernels::Backend;
use peft_plan::findings::{Finding, FindingKind, MemoryReading};
use peft_plan::memory::card::{self, Steps};
use peft_plan::memory::{Rows, layout, policy};
use peft_plan::order::StepBatches;
use peft_plan::{EventSink, Fault, Method, Result, TrainingPlan};

/// Whether `fault` is that there was no memory.
pub(super) fn is_want(fault: &Fault) -> bool {
    fault.code == "PS-MEM-001"
}

/// The memory of the card that computes, if one does.
pub(super) fn reading<B: Backend>(be: &B) -> Option<MemoryReading> {
    be.memory().map(|m| MemoryReading { resident: m.held as u64, available: m.available as u64 })
}

/// Activations in so many sets for steps of `rows`: on a card one block for them and for all that a step needs besides.
pub(crate) fn take<B: Backend>(
    decoder: &Decoder<B>,
    plan: &TrainingPlan,
    rows: Rows,
    sets: usize,
) -> Result<Activations<B>> {
    hold(decoder, plan)?;
    let mut acts = decoder.activations_in(sets).map_err(device)?;
    if decoder.be.memory().is_some() {
        acts.put_away(&decoder.be, plan.offloaded_layers, slab(decoder, rows)).map_err(device)?;
    }
    fill(decoder, plan, plan.decodes_ahead(), (rows, sets), acts)
}

/// Hold the weights of as many blocks decoded as `plan` says, in one block of a card's memory, and decode others ahead.
fn hold<B: Backend>(decoder: &Decoder<B>, plan: &TrainingPlan) -> Result<()> {
    let (be, blocks) = (&decoder.be, plan.held_layers());
    if be.memory().is_none() {
        return Ok(());
    }
    // A driver that does one thing at a time decodes when it is time to.
    let _in_turn = be.decode_ahead(plan.decodes_ahead().then_some(card::AHEAD_ROWS));
    if blocks == 0 {
        return Ok(());
    }
    let bytes = card::decoded(&decoder.spec, blocks);
    be.reserve(usize::try_from(bytes).unwrap_or(usize::MAX)).map_err(device)?;
    decoder.hold_decoded(blocks).map_err(device)
}

/// Decode every weight when it is multiplied with.
fn hold_nothing<B: Backend>(decoder: &Decoder<B>) -> Result<()> {
    decoder.be.decode_ahead(None).and_then(|()| decoder.hold_decoded(0)).map_err(device)
}

/// Bytes of the input of a block.
fn slab<B: Backend>(decoder: &Decoder<B>, rows: Rows) -> usize {
    usize::try_from(card::slab(&decoder.spec, rows)).unwrap_or(usize::MAX)
}

/// Allocate `acts` for steps of `rows`.
fn fill<B: Backend>(
    decoder: &Decoder<B>,
    plan: &TrainingPlan,
    ahead: bool,
    (rows, sets): (Rows, usize),
    mut acts: Activations<B>,
) -> Result<Activations<B>> {
    let be = &decoder.be;
    let adapters = decoder.adapters();
    if be.memory().is_some() {
        let (full, away) = (plan.method == Method::Full, acts.away());
        let steps = Steps { adapters: &adapters, rows, sets, away, ahead, arithmetic: plan.arithmetic, full };
        let bytes = card::of_step(&decoder.spec, &steps);
        be.reserve(usize::try_from(bytes).unwrap_or(usize::MAX)).map_err(device)?;
    }
    acts.reserve(be, &layout(&decoder.spec, &adapters), rows).map_err(device)?;
    Ok(acts)
}

impl<B: Backend> Trainer<'_, '_, B> {
    /// Most memory that was taken: on the card that computes, or by this process.
    pub(super) fn peak_bytes(&self, decoder: &Decoder<B>) -> u64 {
        decoder.be.memory().map_or_else(self.peak_memory, |m| m.held as u64)
    }

    /// Tokens computed together under what the guard has changed.
    fn rows(&self, guard: &GuardState) -> Rows {
        let longest = |tokens: &[Tokens]| tokens.iter().map(|t| t.ids.len()).max().unwrap_or(0);
        let whole = rows(self.plan, self.train, self.validation);
        let held_out = longest(self.validation).min(whole.score);
        let score = whole.score.div_ceil(guard.score_parts.max(1)).max(held_out);
        Rows { score, ..card::cut(whole, guard.parts, longest(self.train)) }
    }

    /// Score fewer held-out rows together; in words. `None`: it is one at a time already.
    fn score_less(&self, guard: &mut GuardState) -> Option<String> {
        let tokens = guard.score_tokens();
        // Preferences are scored in groups of their own, which are small.
        let has_neighbours = |two: &[Tokens]| two.iter().map(|t| t.ids.len()).sum::<usize>() <= tokens;
        if self.plan.preference.is_some() || !self.validation.windows(2).any(has_neighbours) {
            return None;
        }
        guard.score_parts *= 2;
        Some(format!("scores at most {} tokens together from here on", guard.score_tokens()))
    }

    /// Do something between two steps that finds no memory: it is done again in smaller pieces, then in what a step can
    /// do without. No bit of a step depends on it. The fault, where nothing is left to make smaller.
    pub(super) fn in_room<T>(
        &mut self,
        decoder: &mut Decoder<B>,
        acts: &mut Activations<B>,
        sink: &mut dyn EventSink,
        state: &mut RunState,
        mut work: impl FnMut(&mut Self, &mut Decoder<B>, &mut Activations<B>, &GuardState) -> Result<T>,
    ) -> Result<T> {
        loop {
            let fault = match work(self, decoder, acts, &state.guard) {
                Err(fault) if is_want(&fault) => fault,
                done => return done,
            };
            let taken = match self.score_less(&mut state.guard) {
                Some(taken) => taken,
                None => match self.shrink(decoder, acts, &mut state.guard, None)? {
                    Some(taken) => taken,
                    None => return Err(fault),
                },
            };
            let _continue = sink.emit(&finding(state.step, &fault).event(taken));
        }
    }

    /// Answer the prompts of a run. Where even the last of its memory is too little for one, they are left out, and the
    /// run goes on.
    pub(super) fn told(
        &mut self,
        decoder: &mut Decoder<B>,
        acts: &mut Activations<B>,
        sink: &mut dyn EventSink,
        state: &mut RunState,
        samples: Samples,
        adapters: bool,
    ) -> Result<()> {
        let answers = loop {
            match samples.answers(decoder, adapters) {
                Err(fault) if is_want(&fault) => {
                    let taken = match self.shrink(decoder, acts, &mut state.guard, None) {
                        Ok(taken) => taken,
                        Err(again) if is_want(&again) => None,
                        Err(other) => return Err(other),
                    };
                    let is_over = taken.is_none();
                    let taken = taken.unwrap_or_else(|| "leaves the prompts of this evaluation unanswered".to_owned());
                    let _continue = sink.emit(&finding(state.step, &fault).event(taken));
                    if is_over {
                        return Ok(());
                    }
                }
                answers => break answers?,
            }
        };
        samples.tell(&answers, state.step, sink)
    }

    /// Blocks whose input is in the computer's memory.
    fn offloaded(&self, guard: &GuardState) -> usize {
        guard.offloaded.unwrap_or(self.plan.offloaded_layers)
    }

    /// Room for the steps of this run under what the guard has changed. Where the computer lends no memory, everything
    /// stays on the card from here on, which is told.
    fn room(
        &self,
        decoder: &Decoder<B>,
        guard: &mut GuardState,
        tell: &mut dyn FnMut(String, &'static str),
    ) -> Result<Activations<B>> {
        let blocks = decoder.layers.len();
        let sets = guard.sets.unwrap_or(blocks).min(self.plan.kept_sets(blocks));
        let (rows, away) = (self.rows(guard), self.offloaded(guard));
        let mut acts = decoder.activations_in(sets).map_err(device)?;
        if away > 0
            && decoder.be.memory().is_some()
            && let Err(e) = acts.put_away(&decoder.be, away, slab(decoder, rows))
        {
            guard.offloaded = Some(0);
            let reason = format!("The computer lends no memory for the inputs of {away} layers: {e}");
            tell(reason, "keeps them on the card from here on; the results are the same");
        }
        let ahead = self.plan.decodes_ahead() && !guard.decodes_all;
        fill(decoder, self.plan, ahead, (rows, sets), acts)
    }

    /// Room for the first step of this process; where there is too little, for a smaller one.
    pub(super) fn first_room(
        &self,
        decoder: &mut Decoder<B>,
        sink: &mut dyn EventSink,
        state: &mut RunState,
        batches: &StepBatches,
    ) -> Result<Activations<B>> {
        let be = decoder.be.clone();
        for p in decoder.params_mut() {
            // What stays comes before what a step computes.
            p.optimizer_state(&be).map_err(device)?;
        }
        if !state.guard.decodes_all {
            match hold(decoder, self.plan) {
                Err(fault) if is_want(&fault) => {
                    state.guard.decodes_all = true;
                    hold_nothing(decoder)?;
                    be.trim();
                    let taken = "decodes weights for every product; the results are the same";
                    let _continue = sink.emit(&finding(state.step, &fault).event(taken));
                }
                held => held?,
            }
        }
        loop {
            let step = state.step;
            let mut tell = |reason: String, taken: &'static str| {
                let _continue = sink.emit(&pressure(step, reason).event(taken));
            };
            match self.room(decoder, &mut state.guard, &mut tell) {
                Err(fault) if is_want(&fault) => {
                    be.trim();
                    let Some(taken) = self.less(decoder, &mut state.guard, Some(batches)) else { return Err(fault) };
                    let _continue = sink.emit(&finding(state.step, &fault).event(taken));
                }
                room => return room,
            }
        }
    }

    /// The step could not be computed for want of memory: take less from here on. The fault, where nothing is left to
    /// make smaller.
    pub(super) fn make_room(
        &mut self,
        decoder: &mut Decoder<B>,
        acts: &mut Activations<B>,
        sink: &mut dyn EventSink,
        progress: &mut Progress,
        (step, fault, batches): (u64, Fault, &StepBatches),
    ) -> Result<()> {
        let taken = self.shrink(decoder, acts, &mut progress.state.guard, Some(batches))?;
        let Some(taken) = taken else { return Err(fault) };
        let _continue = sink.emit(&finding(step, &fault).event(taken));
        // How a step is cut decides its last bits: a resumed run must go on from here in this way.
        progress.saved_step = None;
        self.save(decoder, sink, progress)
    }

    /// Take less memory from here on; what was done. `None`: nothing is left to make smaller. Without `batches` no step
    /// is cut.
    pub(super) fn shrink(
        &self,
        decoder: &mut Decoder<B>,
        acts: &mut Activations<B>,
        guard: &mut GuardState,
        batches: Option<&StepBatches>,
    ) -> Result<Option<String>> {
        let Some(mut taken) = self.less(decoder, guard, batches) else { return Ok(None) };
        // What the buffers had grown to is given back first: there may be no room even for empty ones.
        acts.release(&decoder.be);
        decoder.be.trim();
        if decoder.be.memory().is_none() {
            let sets = self.plan.kept_sets(decoder.layers.len());
            *acts = decoder.activations_in(guard.sets.unwrap_or(sets)).map_err(device)?;
            return Ok(Some(taken));
        }
        loop {
            let mut lost = None;
            match self.room(decoder, guard, &mut |reason, _| lost = Some(reason)) {
                Err(fault) if is_want(&fault) => {
                    decoder.be.trim();
                    let Some(more) = self.less(decoder, guard, batches) else { return Err(fault) };
                    taken = more;
                }
                room => {
                    *acts = room?;
                    return Ok(Some(match lost {
                        Some(reason) => format!("keeps all inputs of layers on the card. {reason}"),
                        None => taken,
                    }));
                }
            }
        }
    }

    /// Decide on less memory; in words. Without `batches` no step is cut.
    fn less(&self, decoder: &Decoder<B>, guard: &mut GuardState, batches: Option<&StepBatches>) -> Option<String> {
        let rows = self.rows(guard);
        // What is longest decides what is needed: steps lose nothing by this.
        if rows.score > rows.train
            && decoder.be.memory().is_some()
            && let Some(taken) = self.score_less(guard)
        {
            return Some(taken);
        }
        let holds = self.plan.held_layers() > 0 || self.plan.decodes_ahead();
        if holds && !guard.decodes_all && decoder.be.memory().is_some() && hold_nothing(decoder).is_ok() {
            guard.decodes_all = true;
            return Some("decodes weights for every product from here on; the results are the same".to_owned());
        }
        let blocks = decoder.layers.len();
        let sets = guard.sets.unwrap_or(blocks).min(self.plan.kept_sets(blocks));
        // The memory of a computer is watched too late for the first: what was taken is not given back to the system.
        if sets > 1 && decoder.be.memory().is_some() {
            guard.sets = Some(sets / 2);
            let again = peft_plan::memory::sharing(blocks, sets / 2).saturating_sub(1);
            return Some(format!("computes {again} of {blocks} layers twice from here on; the results are the same"));
        }
        if guard.offloaded.is_none() && decoder.be.memory().is_some() {
            // Asked once: what the computer could lend is lent then.
            let free = self.guard.memory.map_or(0, |reading| reading().available);
            let most = policy::most_offloaded(blocks, card::slab(&decoder.spec, self.rows(guard)), free);
            if most > self.plan.offloaded_layers {
                guard.offloaded = Some(most);
                return Some(format!(
                    "the inputs of {most} of {blocks} layers wait in the computer's memory from here on; the results are the same"
                ));
            }
        }
        batches.filter(|batches| guard.can_split(batches))?;
        guard.parts *= 2;
        let parts = guard.parts;
        Some(format!(
            "cut the micro-batches into {parts} parts from here on; each step still learns from the same rows"
        ))
    }
}

/// There was no memory at `step`.
fn finding(step: u64, fault: &Fault) -> Finding {
    pressure(step, fault.detail.clone())
}

/// For this reason there is less memory.
fn pressure(step: u64, reason: String) -> Finding {
    Finding::new(FindingKind::MemoryPressure, "PS-MEM-003", step, reason)
}
