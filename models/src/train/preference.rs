//! Preference tuning: one step, and the scores of held-out examples (issue 3, item 10).
//!
//! An example is two sequences that share a prompt, one after the other in its tokens: the chosen and the rejected
//! answer, or (KTO) the rated answer and somebody else's, from which the divergence is estimated. Both go through the
//! model as segments of one flat batch. The losses are those of [`peft_plan::preference`].

use super::reference::Reference;
use super::step::{StepOutcome, update};
use super::{Tokens, Totals};
use crate::decoder::{Activations, Batch, Decoder, Scores};
use crate::fault::device;
use peft_kernels::{Backend, Segment};
use peft_plan::order::StepBatches;
use peft_plan::preference::{Answer, Objective, PreferencePlan, PreferenceTotals, divergence, pair, rated};
use peft_plan::{Fault, PreferenceMetrics, Result, TrainingPlan};

/// What makes an example two sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Where the second sequence begins.
    pub border: u32,
    /// Whether the first answer is wanted; always, where it is the chosen of two.
    pub desirable: bool,
}

/// One sequence, scored.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scored {
    /// Log-probability of its answer.
    pub logp: f64,
    /// Tokens of the answer.
    pub tokens: u64,
    /// Tokens of the answer that have the largest logit.
    pub correct: f64,
    /// Cross entropy of every position with a target.
    pub whole: f64,
    /// Positions with a target.
    pub whole_tokens: u64,
}

impl PreferenceScores {
    /// Means of the rewards.
    pub fn metrics(&self) -> PreferenceMetrics {
        self.totals.metrics()
    }
}

impl Scored {
    fn answer(&self, reference: f64) -> Answer {
        Answer { logp: self.logp, reference, tokens: self.tokens }
    }
}

/// Which sequences of an example go through the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sides {
    First,
    Second,
    Both,
}

/// Sequences in a batch, with what they are of.
struct Sequences<'a> {
    batch: Batch,
    /// Ids' mask of each segment.
    answers: Vec<&'a [bool]>,
}

/// The ids and the mask of both sequences. An example that is only one has an empty second.
fn sequences(example: &Tokens) -> [(&[u32], &[bool]); 2] {
    let border = example.pair.map_or(example.ids.len(), |pair| pair.border as usize).min(example.ids.len());
    let (first, second) = example.ids.split_at(border);
    let (first_mask, second_mask) = example.trained.split_at(border);
    [(first, first_mask), (second, second_mask)]
}

impl<'a> Sequences<'a> {
    /// `whole`: the first sequence is learnt from its first token on (ORPO), not only its answer.
    fn new(examples: &'a [Tokens], indices: &[usize], sides: Sides, whole: bool) -> Self {
        let mut all = Self { batch: Batch::default(), answers: Vec::new() };
        for &i in indices {
            let [first, second] = sequences(&examples[i]);
            if sides != Sides::Second {
                if whole {
                    all.batch.push(first.0, &vec![true; first.0.len()]);
                } else {
                    all.batch.push(first.0, first.1);
                }
                all.answers.push(first.1);
            }
            if sides != Sides::First {
                all.batch.push(second.0, second.1);
                all.answers.push(second.1);
            }
        }
        all
    }

    /// Positions of a segment that predict a token of its answer.
    fn positions(segment: Segment, answer: &[bool]) -> impl Iterator<Item = usize> {
        // Token i is predicted from position i - 1.
        answer.iter().enumerate().skip(1).filter(|(_, is_answer)| **is_answer).map(move |(i, _)| segment.start + i - 1)
    }

    fn scored(&self, scores: &Scores) -> Vec<Scored> {
        let segments = self.batch.segments.iter().zip(&self.answers);
        segments
            .map(|(&segment, answer)| {
                let mut scored = Scored::default();
                for row in Self::positions(segment, answer) {
                    scored.logp -= f64::from(scores.loss[row]);
                    scored.correct += f64::from(scores.correct[row]);
                    scored.tokens += 1;
                }
                for row in segment.start..segment.start + segment.len {
                    if self.batch.targets[row] >= 0 {
                        scored.whole += f64::from(scores.loss[row]);
                        scored.whole_tokens += 1;
                    }
                }
                scored
            })
            .collect()
    }
}

/// Score both sequences of some examples together, with or without the adapters.
pub(super) fn score_pairs<B: Backend>(
    decoder: &mut Decoder<B>,
    acts: &mut Activations<B>,
    examples: &[Tokens],
    indices: &[usize],
    whole: bool,
    adapters: bool,
) -> Result<Vec<[Scored; 2]>> {
    let sequences = Sequences::new(examples, indices, Sides::Both, whole);
    let scores = decoder.score(acts, &sequences.batch, adapters).map_err(device)?;
    Ok(sequences.scored(&scores).chunks_exact(2).map(|two| [two[0], two[1]]).collect())
}

/// One step of preference tuning: gradients, clipping, AdamW. The loss is the mean over all examples of the step,
/// however they are spread over micro-batches; KTO's divergence is that of the whole step.
pub fn preference_step<B: Backend>(
    decoder: &mut Decoder<B>,
    acts: &mut Activations<B>,
    examples: &[Tokens],
    batches: &StepBatches,
    plan: &TrainingPlan,
    reference: &mut Reference,
    step: u64,
    rate: f64,
) -> Result<StepOutcome> {
    let Some(preference) = &plan.preference else {
        return Err(Fault::new("PS-CFG-001", "This run copies answers; it has no preferences to learn"));
    };
    let be = decoder.be.clone();
    decoder.prepare().map_err(device)?;
    for p in decoder.params_mut() {
        p.zero_grad(&be).map_err(device)?;
    }
    let wanted: Vec<usize> = batches.iter().flatten().copied().collect();
    let references = if preference.has_reference() {
        reference.of(decoder, acts, examples, &plan.order(), &wanted)?
    } else {
        vec![[0.0; 2]; wanted.len()]
    };
    let mut work = Work {
        preference,
        examples,
        share: 1.0 / wanted.len().max(1) as f64,
        whole_share: 0.0,
        kl: 0.0,
        totals: PreferenceTotals::default(),
        cross_entropy: 0.0,
        tokens: 0,
        computed: 0,
    };
    match preference.objective {
        Objective::Kto => work.estimate_divergence(decoder, acts, batches, &references)?,
        Objective::Orpo => {
            let first = |i: usize| sequences(&examples[i])[0].0.len().saturating_sub(1);
            work.whole_share = 1.0 / wanted.iter().map(|&i| first(i)).sum::<usize>().max(1) as f64;
        }
        _ => {}
    }
    let mut before = 0;
    for (micro, indices) in batches.iter().enumerate() {
        // 2¹⁶ micro-steps a step are far more than any plan has.
        let stream = (step << 16) | micro as u64;
        let references = &references[before..before + indices.len()];
        before += indices.len();
        work.micro_step(decoder, acts, indices, references, (plan.seed, stream))?;
    }
    let loss = work.totals.loss * work.share + work.cross_entropy * work.whole_share;
    let gradient_norm = update(decoder, plan, step, rate, loss)?;
    let metrics = work.totals.metrics();
    Ok(StepOutcome {
        loss,
        gradient_norm,
        tokens: work.tokens,
        computed_tokens: work.computed,
        preference: Some(metrics),
        // What a comparison costs is no property of one row.
        rows: Vec::new(),
    })
}

/// What a step has computed so far.
struct Work<'a> {
    preference: &'a PreferencePlan,
    examples: &'a [Tokens],
    /// What one example counts.
    share: f64,
    /// What one token of a chosen conversation counts (ORPO).
    whole_share: f64,
    /// Divergence from the reference (KTO).
    kl: f64,
    totals: PreferenceTotals,
    /// Sum over the chosen conversations (ORPO).
    cross_entropy: f64,
    tokens: u64,
    computed: u64,
}

impl Work<'_> {
    /// KTO: how far the model is from its reference, by answers to other questions. Not differentiated.
    fn estimate_divergence<B: Backend>(
        &mut self,
        decoder: &mut Decoder<B>,
        acts: &mut Activations<B>,
        batches: &StepBatches,
        references: &[[f64; 2]],
    ) -> Result<()> {
        let mut mismatched = Vec::with_capacity(references.len());
        for indices in batches {
            let sequences = Sequences::new(self.examples, indices, Sides::Second, false);
            let scores = decoder.score(acts, &sequences.batch, true).map_err(device)?;
            self.computed += sequences.batch.tokens.len() as u64;
            for scored in sequences.scored(&scores) {
                mismatched.push(scored.answer(references[mismatched.len()][1]));
            }
        }
        self.kl = divergence(&mismatched);
        Ok(())
    }

    fn micro_step<B: Backend>(
        &mut self,
        decoder: &mut Decoder<B>,
        acts: &mut Activations<B>,
        indices: &[usize],
        references: &[[f64; 2]],
        dropout: (u64, u64),
    ) -> Result<()> {
        let is_rated = self.preference.objective == Objective::Kto;
        let whole = self.preference.objective == Objective::Orpo;
        let sides = if is_rated { Sides::First } else { Sides::Both };
        let sequences = Sequences::new(self.examples, indices, sides, whole);
        self.computed += sequences.batch.tokens.len() as u64;
        let weigh = |scores: &Scores| {
            let scored = sequences.scored(scores);
            self.tokens += scored.iter().map(|s| s.tokens).sum::<u64>();
            let slopes =
                if is_rated { self.rate(indices, &scored, references) } else { self.compare(&scored, references) };
            // The loss of a position is -log p.
            let mut weights = vec![0.0; sequences.batch.tokens.len()];
            let per_segment = if is_rated { 1 } else { 2 };
            for (at, (&segment, answer)) in sequences.batch.segments.iter().zip(&sequences.answers).enumerate() {
                if whole && at % per_segment == 0 {
                    weights[segment.start..segment.start + segment.len].fill(self.whole_share as f32);
                }
                let weight = -slopes[at] * self.share;
                for row in Sequences::positions(segment, answer) {
                    weights[row] =
                        (if whole && at % per_segment == 0 { self.whole_share } else { 0.0 } + weight) as f32;
                }
            }
            weights
        };
        decoder.weighted_pass(acts, &sequences.batch, dropout, weigh).map_err(device)?;
        Ok(())
    }

    /// The slope of every sequence of some pairs.
    fn compare(&mut self, scored: &[Scored], references: &[[f64; 2]]) -> Vec<f64> {
        let mut slopes = Vec::with_capacity(scored.len());
        for (two, reference) in scored.chunks_exact(2).zip(references) {
            let term = pair(self.preference, &two[0].answer(reference[0]), &two[1].answer(reference[1]));
            self.totals.pair(&term);
            if self.preference.objective == Objective::Orpo {
                self.cross_entropy += two[0].whole;
            }
            slopes.extend(term.slopes);
        }
        slopes
    }

    /// The slope of every rated answer.
    fn rate(&mut self, indices: &[usize], scored: &[Scored], references: &[[f64; 2]]) -> Vec<f64> {
        let mut slopes = Vec::with_capacity(scored.len());
        for ((&i, scored), reference) in indices.iter().zip(scored).zip(references) {
            let desirable = is_desirable(&self.examples[i]);
            let term = rated(self.preference, &scored.answer(reference[0]), desirable, self.kl);
            self.totals.rated(&term, desirable, self.kl);
            slopes.push(term.slope);
        }
        slopes
    }
}

fn is_desirable(example: &Tokens) -> bool {
    example.pair.is_none_or(|pair| pair.desirable)
}

/// Held-out preferences, scored.
#[derive(Clone, Copy, Debug)]
pub struct PreferenceScores {
    /// Loss and rewards.
    pub totals: PreferenceTotals,
    /// The mean loss.
    pub loss: f64,
    /// Cross entropy and accuracy over the tokens of the chosen (wanted) answers; of all, where none is wanted.
    pub answers: Totals,
    /// Share of the pairs whose chosen answer is the likelier one, by the mean of its tokens; `None` of rated answers.
    pub likelier: Option<f64>,
}

/// Tokens computed together when scoring.
const BATCH_TOKENS: usize = 1024;

/// Groups of examples that are scored together: a function of their lengths alone.
fn groups(examples: &[Tokens]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut room = 0;
    for (i, example) in examples.iter().enumerate() {
        match groups.last_mut() {
            Some(group) if example.ids.len() <= room => group.push(i),
            _ => {
                room = BATCH_TOKENS.max(example.ids.len());
                groups.push(vec![i]);
            }
        }
        room -= example.ids.len();
    }
    groups
}

/// Score both sequences of all examples, in order.
pub fn score_all<B: Backend>(
    decoder: &mut Decoder<B>,
    acts: &mut Activations<B>,
    examples: &[Tokens],
    preference: &PreferencePlan,
    adapters: bool,
) -> Result<Vec<[Scored; 2]>> {
    let whole = preference.objective == Objective::Orpo;
    let mut all = Vec::with_capacity(examples.len());
    for group in groups(examples) {
        all.extend(score_pairs(decoder, acts, examples, &group, whole, adapters)?);
    }
    Ok(all)
}

/// What held-out examples cost, from their scores and their reference's.
pub fn summarise(
    preference: &PreferencePlan,
    examples: &[Tokens],
    scored: &[[Scored; 2]],
    references: &[[f64; 2]],
) -> PreferenceScores {
    let is_rated = preference.objective == Objective::Kto;
    let mut totals = PreferenceTotals::default();
    let mut whole = (0.0, 0_u64);
    let mut likelier = 0_u64;
    let answers = |scored: &[[Scored; 2]], references: &[[f64; 2]], side: usize| -> Vec<Answer> {
        scored.iter().zip(references).map(|(s, r)| s[side].answer(r[side])).collect()
    };
    let first = answers(scored, references, 0);
    let second = answers(scored, references, 1);
    let kl = if is_rated { divergence(&second) } else { 0.0 };
    for (at, example) in examples.iter().enumerate() {
        if is_rated {
            let desirable = is_desirable(example);
            totals.rated(&rated(preference, &first[at], desirable, kl), desirable, kl);
            continue;
        }
        totals.pair(&pair(preference, &first[at], &second[at]));
        whole.0 += scored[at][0].whole;
        whole.1 += scored[at][0].whole_tokens;
        let mean = |answer: &Answer| answer.logp / answer.tokens.max(1) as f64;
        likelier += u64::from(mean(&first[at]) > mean(&second[at]));
    }
    let mut loss = totals.loss / totals.examples.max(1) as f64;
    if preference.objective == Objective::Orpo {
        loss += whole.0 / whole.1.max(1) as f64;
    }
    let any_wanted = examples.iter().any(is_desirable);
    let mut tokens = Totals::default();
    for (_, scored) in examples.iter().zip(scored).filter(|(example, _)| is_desirable(example) || !any_wanted) {
        tokens.loss -= scored[0].logp;
        tokens.correct += scored[0].correct;
        tokens.tokens += scored[0].tokens;
    }
    let likelier = (!is_rated).then(|| likelier as f64 / examples.len().max(1) as f64);
    PreferenceScores { totals, loss, answers: tokens, likelier }
}
