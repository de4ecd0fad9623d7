//! What a run does about findings: say so, halt, go back and change something, leave rows out, cut batches smaller.
//!
//! Going back is done in an order that a crash cannot spoil: the later states are deleted first, the newest before the
//! others, and the state that the run goes back to is written again, with what is different from now on, last. Killed
//! before that, the run repeats the steps, finds the same and goes back again; killed after it, it goes on changed.

use super::guard::{Change, Guard, MOST_REWINDS, Verdict};
use super::{Progress, Trainer, blame, checkpoint, probe};
use crate::decoder::{Activations, Decoder};
use peft_kernels::Backend;
use peft_plan::findings::{Finding, FindingKind, non_finite};
use peft_plan::order::StepBatches;
use peft_plan::{EventSink, Result, RunEvent};
use std::time::Instant;

/// How the loop goes on.
pub(super) enum Next {
    GoOn,
    /// From an earlier step.
    Rewound,
    Halt(Box<Finding>),
}

/// Share of a step's rows that can be left out as broken; beyond it they are not the reason.
const BROKEN_SHARE: f64 = 0.5;

impl<B: Backend> Trainer<'_, '_, B> {
    /// A look at rows, base and rate before anything is learnt, and the state to go back to while there is no other.
    pub(super) fn before_first_step(
        &mut self,
        decoder: &mut Decoder<B>,
        acts: &mut Activations<B>,
        sink: &mut dyn EventSink,
        guard: &Guard,
        progress: &mut Progress,
    ) -> Result<()> {
        let mut found = Vec::new();
        // What these look at is an answer to copy, not two to compare.
        if self.plan.preference.is_none() {
            let (examined, doubt) = guard.examine(self.train, self.validation);
            found.extend(examined);
            if let Some(doubt) = doubt {
                found.extend(self.in_room(decoder, acts, sink, &mut progress.state, |_, decoder, acts, _| {
                    probe::settle(decoder, acts, &doubt)
                })?);
            }
        }
        let steep = probe::steepness(decoder, &guard.facts(&progress.state.guard))?;
        guard.expect_rate(&mut progress.state.guard, steep.as_ref().and_then(|finding| finding.rate));
        found.extend(steep);
        if self.plan.preference.is_none() {
            let scores = self.probed(decoder, acts, sink, progress)?;
            progress.state.guard.probe = probe::kept(&scores);
            found.extend(self.probe(decoder, acts, sink, guard, progress)?);
        }
        if !self.validation.is_empty() {
            // The untouched base, to compare with. It is no candidate for the best.
            let event = RunEvent::Evaluation(self.scored(decoder, acts, sink, &mut progress.state)?);
            let _continue = sink.emit(&event);
            found.extend(guard.observe(&mut progress.state.guard, &event));
        }
        for finding in found {
            let _continue = sink.emit(&finding.event("went on"));
        }
        checkpoint::save(self.directory, decoder, &progress.state)?;
        Ok(())
    }

    /// Losses of the probe's rows.
    fn probed(
        &mut self,
        decoder: &mut Decoder<B>,
        acts: &mut Activations<B>,
        sink: &mut dyn EventSink,
        progress: &mut Progress,
    ) -> Result<Vec<f64>> {
        self.in_room(decoder, acts, sink, &mut progress.state, |trainer, decoder, acts, _| {
            probe::score(decoder, acts, &probe::rows(trainer.train, trainer.validation))
        })
    }

    /// Score the probe and tell of it.
    pub(super) fn probe(
        &mut self,
        decoder: &mut Decoder<B>,
        acts: &mut Activations<B>,
        sink: &mut dyn EventSink,
        guard: &Guard,
        progress: &mut Progress,
    ) -> Result<Vec<Finding>> {
        let now = if progress.state.step == 0 {
            progress.state.guard.probe.iter().map(|score| score.unwrap_or(f64::NAN)).collect()
        } else {
            self.probed(decoder, acts, sink, progress)?
        };
        let state = &mut progress.state;
        let event = RunEvent::Probe(probe::compare(state.step, &state.guard.probe, &now));
        let _continue = sink.emit(&event);
        Ok(guard.observe(&mut state.guard, &event))
    }

    /// Do about `found`, after the step of `batches`, what the plan says.
    pub(super) fn react(
        &mut self,
        decoder: &mut Decoder<B>,
        acts: &mut Activations<B>,
        sink: &mut dyn EventSink,
        guard: &Guard,
        progress: &mut Progress,
        (found, batches): (Vec<Finding>, &StepBatches),
    ) -> Result<Next> {
        for finding in found {
            match guard.verdict(&progress.state, &finding) {
                Verdict::GoOn(taken) => {
                    let _continue = sink.emit(&finding.event(taken));
                }
                Verdict::Pause => {
                    let tried = if progress.state.guard.rewinds >= MOST_REWINDS {
                        format!("; going back {MOST_REWINDS} times did not help")
                    } else {
                        String::new()
                    };
                    let _continue = sink.emit(&finding.event(format!("saved a checkpoint and paused{tried}")));
                    return Ok(Next::Halt(Box::new(finding)));
                }
                Verdict::Rewind(change) => {
                    if self.rewind(decoder, sink, guard, progress, &finding, &change)? {
                        return Ok(Next::Rewound);
                    }
                    let _continue = sink.emit(&finding.event("there was nothing to go back to; paused"));
                    return Ok(Next::Halt(Box::new(finding)));
                }
                Verdict::Split => {
                    let taken = self.shrink(decoder, acts, &mut progress.state.guard, Some(batches))?;
                    let taken = taken.unwrap_or_else(|| "went on; a micro-batch is a single row already".to_owned());
                    let _continue = sink.emit(&finding.event(taken));
                    // How a step is cut decides its last bits: the run must go on from here in this way.
                    self.save(decoder, sink, progress)?;
                }
            }
        }
        Ok(Next::GoOn)
    }

    /// A step came out as no number; nothing of it was kept. Rows that are broken by themselves are left out and the
    /// step is done again; otherwise the run goes back and goes on more slowly. A finding that is returned ends it.
    pub(super) fn broken_step(
        &mut self,
        decoder: &mut Decoder<B>,
        acts: &mut Activations<B>,
        sink: &mut dyn EventSink,
        guard: &Guard,
        progress: &mut Progress,
        (step, rate, batches): (u64, f64, &StepBatches),
    ) -> Result<Option<Finding>> {
        let broken = blame::blame(decoder, acts, self.train, batches, (self.plan.seed, step << 16))?;
        let places: Vec<String> = broken.rows.iter().take(3).map(|&row| guard.place(row)).collect();
        let finding = non_finite(step, &broken, &places, rate);
        let is_single = !broken.rows.is_empty()
            && (broken.rows.len() as f64) <= BROKEN_SHARE * broken.of as f64
            && self.has_others(guard, progress, &broken.rows);
        if is_single {
            progress.state.guard.excluded.extend(&broken.rows);
            let taken = format!("left {} out and did the step again", rows_in_words(broken.rows.len()));
            let _continue = sink.emit(&finding.event(taken));
            return Ok(None);
        }
        if let Verdict::Rewind(change) = guard.verdict(&progress.state, &finding)
            && progress.state.step > 0
            && self.rewind(decoder, sink, guard, progress, &finding, &change)?
        {
            return Ok(None);
        }
        let _continue = sink.emit(&finding.event("paused before this step"));
        Ok(Some(finding))
    }

    /// Whether rows are left to learn from without `rows`, nine in ten at least: where more are broken, leaving them
    /// out is for a person to decide.
    fn has_others(&self, guard: &Guard, progress: &Progress, rows: &[u32]) -> bool {
        let used = self.train.iter().filter(|t| guard.is_used(&progress.state.guard, t.row)).count();
        let left = used.saturating_sub(rows.len());
        10 * left >= 9 * self.train.len()
    }

    /// Go back to the newest state from before the finding began, with `change` from there on. False: there is none.
    fn rewind(
        &mut self,
        decoder: &mut Decoder<B>,
        sink: &mut dyn EventSink,
        guard: &Guard,
        progress: &mut Progress,
        finding: &Finding,
        change: &Change,
    ) -> Result<bool> {
        let anchor = self.plan.anchor_every();
        let now = progress.state.step;
        // A step that broke kept nothing: the state before it can be gone back to.
        let before = if finding.kind == FindingKind::Nan { finding.began.min(now) } else { finding.began.min(now - 1) };
        // Only those that do not depend on how fast the machine is: a resumed run must go back to the same.
        let mut saved = checkpoint::steps(self.directory);
        saved.retain(|step| step.is_multiple_of(anchor));
        let stable = saved.iter().copied().filter(|step| *step <= before);
        // Where everything from before is gone, the oldest is the nearest to it.
        let oldest = saved.last().copied().filter(|&step| step < now);
        let mut restored = None;
        for step in stable.chain([0]).chain(oldest) {
            if let Ok(state) = checkpoint::restore(self.directory, decoder, step) {
                restored = Some(state);
                break;
            }
        }
        let Some(mut state) = restored else { return Ok(false) };
        let target = state.step;
        checkpoint::forget_after(self.directory, target)?;
        state.guard.rewinds = progress.state.guard.rewinds + 1;
        state.guard.rate_factor = progress.state.guard.rate_factor * change.rate.unwrap_or(1.0);
        state.guard.clip = change.clip.or(progress.state.guard.clip);
        state.guard.excluded = std::mem::take(&mut progress.state.guard.excluded);
        state.guard.parts = progress.state.guard.parts;
        state.guard.score_parts = progress.state.guard.score_parts;
        state.guard.sets = progress.state.guard.sets;
        state.guard.offloaded = progress.state.guard.offloaded;
        state.guard.decodes_all = progress.state.guard.decodes_all;
        state.fingerprint.clone_from(&self.fingerprint);
        if progress.state.best.is_some_and(|(step, _)| step > target) {
            // The file of the best holds an adapter of a story that did not happen.
            state.best = None;
            state.evaluations_without_gain = 0;
        }
        state.seconds = progress.seconds();
        checkpoint::save(self.directory, decoder, &state)?;
        progress.ledger.cut(target)?;
        progress.saved_step = (target > 0).then_some(target);
        progress.last_saved = Instant::now();
        let mut done = vec![format!("went back to step {target}")];
        if change.rate.is_some() {
            let rate = guard.facts(&state.guard).learning_rate;
            done.push(format!("lowered the learning rate to {rate:.1e}"));
        }
        if let Some(clip) = change.clip {
            done.push(format!("clips the gradient to {clip}"));
        }
        progress.state = state;
        let _continue = sink.emit(&RunEvent::Resumed { step: target });
        let mut event = finding.event(format!("{} and went on", done.join(", ")));
        if let RunEvent::Anomaly { rewound_to, .. } = &mut event {
            *rewound_to = Some(target);
        }
        let _continue = sink.emit(&event);
        Ok(true)
    }
}

fn rows_in_words(count: usize) -> String {
    if count == 1 { "this row".to_owned() } else { format!("these {count} rows") }
}
