//! How the passes of a run take their time: what was measured, carried over to other sizes by counting multiplications.

use super::Calibration;
use super::Point;
use crate::config::Method;
use crate::facts::{Facts, Targets};
use crate::preference::Objective;
use crate::resolve::TrainingPlan;
use crate::spec::ModelSpec;

/// Multiplications of one block for one micro-batch: forward, and forward with backward.
fn work(spec: &ModelSpec, targets: &Targets, settings: &Settings, tokens: f64, squares: f64) -> (f64, f64) {
    let linear: f64 = spec.modules.iter().map(|m| (m.in_features * m.out_features) as f64).sum();
    let blocks = spec.layers.len().max(1) as f64;
    let adapter = if settings.full { 0.0 } else { targets.features as f64 / blocks * settings.rank as f64 };
    // Scores and weighted values over the half that is causal.
    let attention = squares * spec.q_dim() as f64;
    // What is neither a product nor attention: about this many columns, each as costly as 40 multiplications.
    let columns = 40.0 * (10 * spec.hidden_size + 6 * spec.intermediate_size) as f64;
    let dropout = if settings.dropout { 80.0 * targets.features as f64 / blocks / 2.0 } else { 0.0 };
    let dora = if settings.dora { 80.0 * targets.outputs as f64 / blocks } else { 0.0 };
    let forward = tokens * (linear + adapter + columns + dropout + dora) + attention;
    let backward = tokens * (linear * if settings.full { 2.0 } else { 1.0 } + 2.0 * adapter + columns + dropout + dora)
        + 2.5 * attention;
    (forward, forward + backward)
}

/// What of a plan changes the work of a block.
struct Settings {
    rank: usize,
    dora: bool,
    dropout: bool,
    full: bool,
}

impl Settings {
    fn new(method: Method, rank: usize, dropout: bool) -> Self {
        Self { rank, dora: method.is_dora(), dropout, full: method == Method::Full }
    }
}

impl Calibration {
    /// Seconds of one block for a micro-batch: forward, and forward with backward.
    fn block(&self, spec: &ModelSpec, targets: &Targets, plan: &TrainingPlan, tokens: f64, squares: f64) -> (f64, f64) {
        let measured = Settings::new(self.method, self.rank, self.dropout);
        let wanted = Settings::new(plan.method, plan.rank, plan.dropout > 0.0);
        let (forward, both) = work(spec, targets, &wanted, tokens, squares);
        // Seconds a multiplication at the sizes that were measured, and between them.
        let at = |p: &Point| {
            let (f, b) = work(spec, targets, &measured, p.tokens as f64, p.squares);
            (p.forward_seconds / f.max(1.0), p.seconds / b.max(1.0))
        };
        let above = self.points.partition_point(|p| p.tokens as f64 <= tokens);
        let (f, b) = match (self.points[..above].last(), self.points.get(above)) {
            (None, None) => (0.0, 0.0),
            (Some(one), None) | (None, Some(one)) => at(one),
            (Some(below), Some(above)) => {
                let (low, high) = (below.tokens as f64, above.tokens as f64);
                let share = (tokens - low) / (high - low);
                let mix = |a: f64, b: f64| a + (b - a) * share;
                let ((fs, bs), (fl, bl)) = (at(below), at(above));
                (mix(fs, fl), mix(bs, bl))
            }
        };
        (forward * f, both * b)
    }
}

/// Rows of a probe, and their tokens at most.
const PROBE_ROWS: usize = 32;
const PROBE_TOKENS: usize = 8192;

/// How the passes of a run take their time.
pub(super) struct Passes<'a> {
    pub facts: &'a Facts<'a>,
    pub plan: &'a TrainingPlan,
    pub calibration: &'a Calibration,
    pub targets: &'a Targets,
    /// Share of the tokens that are learnt.
    pub learnt: f64,
}

impl Passes<'_> {
    /// Seconds of one micro-batch: whenever it is trained on, and when its reference is asked for.
    pub(super) fn micro_batch(&self, sequences: &[[usize; 2]]) -> (f64, f64) {
        let of = |chosen: &[usize]| (chosen.iter().sum::<usize>() as f64, squares(chosen.iter()));
        let (all, squares_of_all) = of(&sequences.concat());
        let Some(preference) = &self.plan.preference else { return (self.trained(all, squares_of_all), 0.0) };
        let once = if preference.has_reference() { self.scored(all, squares_of_all, 1.0) } else { 0.0 };
        let each = match preference.objective {
            Objective::Kto => {
                let (first, squares_of_firsts) = of(&sequences.iter().map(|two| two[0]).collect::<Vec<_>>());
                self.trained(first, squares_of_firsts)
                    + self.scored(all - first, squares_of_all - squares_of_firsts, 1.0)
            }
            _ => self.trained(all, squares_of_all),
        };
        (each, once)
    }

    /// Forward, backward and the head.
    fn trained(&self, tokens: f64, squares: f64) -> f64 {
        let blocks = self.facts.spec.layers.len();
        // The highest of those that share a set finds in it what it left there.
        let again = crate::memory::sharing(blocks, self.plan.kept_sets(blocks)).saturating_sub(1);
        let (forward, both) = self.calibration.block(self.facts.spec, self.targets, self.plan, tokens, squares);
        blocks as f64 * both + again as f64 * forward + tokens * self.learnt * self.calibration.head_row_seconds
    }

    /// Forward and the head, in so many batches.
    pub(super) fn scored(&self, tokens: f64, squares: f64, batches: f64) -> f64 {
        let (forward, _) =
            self.calibration.block(self.facts.spec, self.targets, self.plan, tokens / batches, squares / batches);
        batches * forward * self.facts.spec.layers.len() as f64
            + tokens * self.learnt * self.calibration.head_row_seconds * 0.5
    }

    /// The answers to sample prompts at all `looks`, the first of them by the untouched base.
    pub(super) fn answers(&self, held_out: &[usize], looks: f64) -> f64 {
        let samples = &self.plan.samples;
        if samples.prompts == 0 {
            return 0.0;
        }
        let mean = |of: f64| of / held_out.len().max(1) as f64;
        let length = if held_out.is_empty() { 64.0 } else { mean(held_out.iter().sum::<usize>() as f64) };
        let asked = length * (1.0 - self.learnt).max(0.0);
        let blocks = self.facts.spec.layers.len() as f64;
        let (reading, _) = self.calibration.block(self.facts.spec, self.targets, self.plan, asked, asked * asked);
        // Who has not learnt to stop goes on to the end; who has stops about where the data does. All go on until the
        // last has stopped, which is later than the mean.
        let most = samples.tokens as f64;
        let taught = most.min(1.5 * length * self.learnt);
        let passes = most + (looks - 1.0) * taught;
        let together = (samples.prompts as f64 / 4.0).ceil();
        looks * samples.prompts as f64 * reading * blocks + passes * together * self.calibration.answer_seconds
    }

    /// A few rows scored one by one, before the first step and twice early in the run.
    pub(super) fn probes(&self, held_out: &[usize], train: &[usize]) -> f64 {
        if self.plan.preference.is_some() {
            return 0.0;
        }
        let mut left = PROBE_TOKENS;
        let rows = held_out.iter().chain(train).take(PROBE_ROWS).copied();
        let rows = rows.take_while(|&length| {
            let is_within = left > 0;
            left = left.saturating_sub(length);
            is_within
        });
        3.0 * rows.map(|length| self.scored(length as f64, (length * length) as f64, 1.0)).sum::<f64>()
    }
}

pub(super) fn squares<'a>(lengths: impl Iterator<Item = &'a usize>) -> f64 {
    lengths.map(|&l| (l * l) as f64).sum()
}
