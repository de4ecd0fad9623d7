//! A few fixed rows, scored before the first step and twice early in the run: the cheapest honest look at whether
//! anything is learnt. Also the one question to the base about rows that seem mixed up.

use super::guard::Doubt;
use super::ledger::row_losses;
use super::{Tokens, batch_of};
use crate::decoder::{Activations, Decoder};
use crate::fault::device;
use peft_kernels::Backend;
use peft_plan::findings::{Finding, RunFacts, steep_rate};
use peft_plan::{Probe, Result, TrainingPlan};

/// Rows of the probe.
const ROWS: usize = 32;
/// Tokens of the probe, at most; a first long row is always taken.
const TOKENS: usize = 8192;

/// The rows of the probe: held-out ones, and training rows where those are few.
pub(super) fn rows<'t>(train: &'t [Tokens], validation: &'t [Tokens]) -> Vec<&'t Tokens> {
    let spread = train.iter().step_by((train.len() / ROWS).max(1));
    let mut tokens = 0;
    let mut chosen: Vec<&Tokens> = validation.iter().chain(spread).take(ROWS).collect();
    chosen.retain(|row| {
        let is_first = tokens == 0;
        tokens += row.ids.len();
        is_first || tokens <= TOKENS
    });
    chosen
}

/// Whether the probe is scored after `step`: twice early in the run, and once more where the warm-up is long.
pub(super) fn is_due(plan: &TrainingPlan, step: u64) -> bool {
    if plan.preference.is_some() {
        return false;
    }
    let share = |hundredths: u64| (plan.total_steps * hundredths).div_ceil(100).max(1);
    step == share(4) || step == share(8).max(plan.warmup_steps + share(4))
}

/// Mean loss of each row.
pub(super) fn score<B: Backend>(
    decoder: &mut Decoder<B>,
    acts: &mut Activations<B>,
    rows: &[&Tokens],
) -> Result<Vec<f64>> {
    decoder.prepare().map_err(device)?;
    let mut losses = Vec::new();
    let mut costs = Vec::new();
    for row in rows {
        let example = std::slice::from_ref(*row);
        let batch = batch_of(example, &[0]);
        let scores = decoder.score(acts, &batch, true).map_err(device)?;
        costs.clear();
        row_losses(example, &[0], &batch, &scores, &mut costs);
        losses.extend(costs.iter().map(|cost| f64::from(cost.loss)));
    }
    Ok(losses)
}

/// The scores as they are kept in a checkpoint, where JSON knows no NaN.
pub(super) fn kept(scores: &[f64]) -> Vec<Option<f64>> {
    scores.iter().map(|&score| score.is_finite().then_some(score)).collect()
}

/// What the scores of now say beside those of the beginning. Rows that were or are no number have no say.
pub(super) fn compare(step: u64, base: &[Option<f64>], now: &[f64]) -> Probe {
    let pairs: Vec<(f64, f64)> =
        base.iter().zip(now).filter_map(|(base, &now)| now.is_finite().then_some(((*base)?, now))).collect();
    let rows = pairs.len();
    let n = rows.max(1) as f64;
    let mean = |of: &dyn Fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>() / n;
    let middle = mean(&|(base, now)| now - base);
    let variance = pairs.iter().map(|(base, now)| (now - base - middle).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    let (base_loss, loss) = (mean(&|pair| pair.0), mean(&|pair| pair.1));
    Probe { step, rows: rows as u64, loss, base_loss, error: (variance / n).sqrt() }
}

/// Ask the base whether rows that seem mixed up are.
pub(super) fn settle<B: Backend>(
    decoder: &mut Decoder<B>,
    acts: &mut Activations<B>,
    doubt: &Doubt,
) -> Result<Option<Finding>> {
    let own = score(decoder, acts, &doubt.own.iter().collect::<Vec<_>>())?;
    let other = score(decoder, acts, &doubt.other.iter().collect::<Vec<_>>())?;
    Ok(doubt.settle(&own, &other))
}

/// Compare the learning rate with the weights that it will move.
pub(super) fn steepness<B: Backend>(decoder: &mut Decoder<B>, facts: &RunFacts) -> Result<Option<Finding>> {
    let be = decoder.be.clone();
    let mut sizes = Vec::new();
    for p in decoder.params_mut() {
        let count = (p.value.rows() * p.value.cols()).max(1) as f64;
        let size = (be.sum_squares(&p.value).map_err(device)? / count).sqrt();
        // Gains and magnitudes are near one whatever the model; what begins at nothing has no size yet.
        if !p.is_vector && size > 0.0 {
            sizes.push(size);
        }
    }
    sizes.sort_by(f64::total_cmp);
    Ok(sizes.get(sizes.len() * 3 / 4).and_then(|&typical| steep_rate(typical, facts)))
}
