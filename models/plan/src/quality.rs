//! The quality score of a run, 0 to 100, and what to try next (S4.6.5): computed from what the run told, from nothing
//! else.
//!
//! Five parts of 20 points each; a part about which the run says nothing (no held-out rows, nothing to learn) has no
//! points and the others are scaled up, so that the score always means the share of what could be judged:
//!
//! | part | points |
//! | --- | --- |
//! | learning progress | 20 × (1 - e^(-g/0.15)), g: share of the base's held-out loss that is gone (of the first training losses, without held-out rows). A tenth gains 10 points, a third 18 |
//! | generalisation gap | 20, less 1 for every per cent that the last held-out loss is above the lowest, less up to 10 where training loss is far below held-out loss |
//! | stability | 20, less 7 for every time the loss diverged, the gradient exploded or numbers broke, less 2 for every per cent of steps whose loss jumped out of its neighbourhood |
//! | data coverage | 20 × the share of an epoch that was seen (at most 1) × the share of examples that was not cut × log(examples)/log(1000) (at most 1), less 5 for every finding about the rows |
//! | sample check | 20 × the mean of the share of held-out tokens that are right and of the share of the base's mistakes that are gone |
//!
//! Suggestions follow from the same numbers: at most five, those first whose part lost the most.

use crate::event::{Evaluation, QualityPart};
use crate::resolve::TrainingPlan;
use crate::run_view::{RunView, StepPoint};

/// A score with its parts and what to try next.
#[derive(Clone, Debug, PartialEq)]
pub struct Quality {
    /// 0 to 100; `None` where the run did nothing that could be judged.
    pub score: Option<f64>,
    /// The five parts.
    pub parts: Vec<QualityPart>,
    /// At most five things to try.
    pub suggestions: Vec<String>,
}

/// Points of a part.
const POINTS: f64 = 20.0;
/// A loss below which nothing is left to learn, nats.
const LEARNT: f64 = 0.05;
/// Suggestions that a person reads.
const MOST_SUGGESTIONS: usize = 5;

/// What the parts are computed from.
struct Measured<'a> {
    view: &'a RunView,
    plan: &'a TrainingPlan,
    base: Option<&'a Evaluation>,
    last: Option<&'a Evaluation>,
    best: Option<&'a Evaluation>,
    first_losses: f64,
    last_losses: f64,
}

impl<'a> Measured<'a> {
    fn new(view: &'a RunView, plan: &'a TrainingPlan) -> Self {
        let twentieth = (view.steps.len() / 20).max(3);
        let mean = |steps: &[StepPoint]| steps.iter().map(|s| s.loss).sum::<f64>() / steps.len().max(1) as f64;
        let finite: Vec<StepPoint> = view.steps.iter().copied().filter(|s| s.loss.is_finite()).collect();
        let trained = || view.trained().filter(|e| e.loss.is_finite());
        Self {
            view,
            plan,
            base: view.base().filter(|e| e.loss.is_finite()),
            last: trained().next_back(),
            best: trained().min_by(|a, b| a.loss.total_cmp(&b.loss)),
            first_losses: mean(&finite[..twentieth.min(finite.len())]),
            last_losses: mean(&finite[finite.len().saturating_sub(twentieth)..]),
        }
    }

    /// Loss before and after, and whether it is of held-out rows.
    fn progress(&self) -> (f64, f64, bool) {
        match (self.base, self.last) {
            (Some(base), Some(last)) => (base.loss, last.loss, true),
            _ => (self.first_losses, self.last_losses, false),
        }
    }

    /// Steps whose loss is far above those around it.
    fn jumps(&self) -> usize {
        let losses: Vec<f64> = self.view.steps.iter().map(|s| s.loss).collect();
        let is_jump = |i: &usize| {
            let from = i.saturating_sub(8);
            let mut around: Vec<f64> = losses[from..(i + 9).min(losses.len())].to_vec();
            around.sort_by(f64::total_cmp);
            let (middle, upper) = (around[around.len() / 2], around[around.len() * 3 / 4]);
            !losses[*i].is_finite() || losses[*i] > middle + 6.0 * (upper - middle).max(0.02 * middle) + 0.1
        };
        (0..losses.len()).filter(is_jump).count()
    }
}

/// Judge the run that `view` tells of, which was made by `plan`.
pub fn assess(view: &RunView, plan: &TrainingPlan) -> Quality {
    if view.steps.is_empty() {
        return Quality { score: None, parts: Vec::new(), suggestions: Vec::new() };
    }
    let measured = Measured::new(view, plan);
    let parts = vec![
        learning_progress(&measured),
        generalisation_gap(&measured),
        stability(&measured),
        data_coverage(&measured),
        sample_check(&measured),
    ];
    let (reached, of) = parts
        .iter()
        .filter_map(|part| Some((part.points?, part.of)))
        .fold((0.0, 0.0), |(points, of), (p, o)| (points + p, of + o));
    let score = (of > 0.0).then(|| (1000.0 * reached / of).round() / 10.0);
    let suggestions = suggestions(&measured, &parts);
    Quality { score, parts, suggestions }
}

fn part(name: &str, points: Option<f64>, why: String) -> QualityPart {
    let points = points.map(|p| (10.0 * p.clamp(0.0, POINTS)).round() / 10.0);
    QualityPart { name: name.to_owned(), points, of: POINTS, why }
}

fn learning_progress(m: &Measured) -> QualityPart {
    let (before, after, held_out) = m.progress();
    let which = if held_out { "held-out loss" } else { "training loss" };
    if before < LEARNT {
        return part(
            "learning_progress",
            None,
            format!("the {which} was {before:.3} already; nothing was left to learn"),
        );
    }
    let gain = 1.0 - after / before;
    let points = POINTS * (1.0 - (-gain.max(0.0) / 0.15).exp());
    part("learning_progress", Some(points), format!("the {which} went from {before:.3} to {after:.3}"))
}

fn generalisation_gap(m: &Measured) -> QualityPart {
    let (Some(last), Some(best)) = (m.last, m.best) else {
        return part("generalisation_gap", None, "no rows were held out".to_owned());
    };
    // Losses near nothing differ by much in share and by nothing that matters.
    let rise = (last.loss - best.loss) / best.loss.max(LEARNT);
    let gap = (last.loss - m.last_losses) / last.loss.max(LEARNT);
    let points = POINTS - 100.0 * rise.max(0.0) - (10.0 * (gap - 0.3) / 0.6).clamp(0.0, 10.0);
    let why = format!(
        "held-out loss {:.3} at the end, {:.3} at its lowest (step {}), training loss {:.3}",
        last.loss, best.loss, best.step, m.last_losses
    );
    part("generalisation_gap", Some(points), why)
}

fn stability(m: &Measured) -> QualityPart {
    let broken: usize = ["divergence", "gradient_explosion", "nan"].iter().map(|kind| m.view.count(kind)).sum();
    let jumps = m.jumps();
    let share = 100.0 * jumps as f64 / m.view.steps.len() as f64;
    let points = POINTS - 7.0 * broken as f64 - 2.0 * share;
    part("stability", Some(points), format!("{broken} breakdowns, {jumps} of {} steps jumped", m.view.steps.len()))
}

/// Kinds of findings that are about the rows.
const ABOUT_ROWS: [&str; 4] = ["rows", "answers", "masking", "leak"];

fn data_coverage(m: &Measured) -> QualityPart {
    let Some(started) = &m.view.started else {
        return part("data_coverage", None, "the beginning of the run is not known".to_owned());
    };
    let epochs = m.view.steps.last().map_or(0.0, |s| s.epoch);
    let examples = started.examples.max(1) as f64;
    let whole = 1.0 - (started.truncated_examples as f64 / examples).min(1.0);
    let size = (examples.ln() / 1000_f64.ln()).min(1.0);
    let findings = ABOUT_ROWS.iter().filter(|kind| m.view.count(kind) > 0).count();
    let points = POINTS * epochs.min(1.0) * whole * size - 5.0 * findings as f64;
    let why = format!(
        "{} examples, seen {epochs:.1} times, {} of them cut, {findings} findings about them",
        started.examples, started.truncated_examples
    );
    part("data_coverage", Some(points), why)
}

fn sample_check(m: &Measured) -> QualityPart {
    let Some(last) = m.last else {
        return part("sample_check", None, "no rows were held out".to_owned());
    };
    let before = m.base.map_or(0.0, |base| base.token_accuracy);
    let mended = if before < 1.0 { ((last.token_accuracy - before) / (1.0 - before)).max(0.0) } else { 1.0 };
    let points = POINTS * (0.5 * last.token_accuracy + 0.5 * mended);
    let why = format!(
        "{:.0} % of held-out tokens right, {:.0} % before training",
        100.0 * last.token_accuracy,
        100.0 * before
    );
    part("sample_check", Some(points), why)
}

/// What to try next, with the points that it could bring.
fn suggestions(m: &Measured, parts: &[QualityPart]) -> Vec<String> {
    let lost = |name: &str| {
        parts.iter().find(|p| p.name == name).map_or(0.0, |p| p.points.map_or(POINTS / 2.0, |points| p.of - points))
    };
    let mut found: Vec<(f64, String)> = Vec::new();
    let (before, after, held_out) = m.progress();
    let gain = 1.0 - after / before.max(1e-9);
    let rate = m.plan.learning_rate;
    let broken: usize = ["divergence", "gradient_explosion", "nan"].iter().map(|kind| m.view.count(kind)).sum();
    if broken > 0 {
        let used = m.view.steps.iter().map(|s| s.learning_rate).fold(0.0, f64::max);
        let lower = crate::findings::two_digits(used.min(rate) / 2.0);
        found.push((
            lost("stability"),
            format!("Use a learning rate of {lower:.1e}: at {rate:.1e} the run broke down {broken} times"),
        ));
    } else if gain < 0.05 && before >= LEARNT {
        let higher = crate::findings::two_digits(rate * 3.0);
        found.push((
            lost("learning_progress"),
            format!(
                "Raise the learning rate from {rate:.1e} to {higher:.1e}: only {:.1} % of the loss is gone",
                100.0 * gain
            ),
        ));
    }
    if let (Some(last), Some(best)) = (m.last, m.best) {
        let rise = last.loss / best.loss.max(LEARNT) - 1.0;
        if rise > 0.02 && best.step < last.step {
            let share = m.plan.epochs * best.step as f64 / m.plan.total_steps.max(1) as f64;
            found.push((
                lost("generalisation_gap"),
                format!(
                    "Train for {share:.1} epochs instead of {:.1}, or set evaluation.early_stopping_patience=2: the held-out loss was \
                     lowest ({:.3}) at step {} and is {:.3} now",
                    m.plan.epochs, best.loss, best.step, last.loss
                ),
            ));
        }
    }
    found.extend(length_of_training(m, lost("learning_progress")));
    if held_out && m.best.is_some_and(|best| best.loss > 2.0 * m.last_losses.max(LEARNT)) && m.plan.dropout < 0.05 {
        found.push((
            lost("generalisation_gap") / 2.0,
            format!(
                "Set adapter.dropout=0.1 or add examples: the training loss of {:.3} is far below the held-out loss of {:.3}",
                m.last_losses, after
            ),
        ));
    }
    if let Some(started) = &m.view.started {
        let examples = started.examples;
        if examples < 200 {
            found.push((
                lost("data_coverage"),
                format!("Add examples: {examples} are few; 200 to 1000 good ones make most tasks reliable"),
            ));
        }
        let cut = started.truncated_examples as f64 / examples.max(1) as f64;
        if cut > 0.02 {
            found.push((
                POINTS * cut,
                format!(
                    "Raise training.max_sequence_length above {}: {} examples ({:.0} %) were cut",
                    m.plan.max_sequence_length,
                    started.truncated_examples,
                    100.0 * cut
                ),
            ));
        }
        if started.validation_examples == 0 {
            found.push((
                POINTS / 2.0,
                "Hold out some rows with dataset.validation_split=0.1: without them two of the five parts cannot be judged"
                    .to_owned(),
            ));
        }
    }
    let odd: usize = m.view.strange.iter().filter(|s| s.kind == "rows").map(|s| s.rows).sum();
    if odd > 0 {
        found.push((
            5.0,
            format!("Look at the {odd} rows that stood out (peft-studio runs rows RUN) and leave the wrong ones out"),
        ));
    }
    for (kind, what) in [
        ("leak", "Take the held-out rows out of the training rows: the held-out loss looks better than the model is"),
        ("masking", "Mend the rows whose answers are masked: nothing of them was learnt"),
        ("answers", "Check which column is the question and which the answer: they do not seem to belong together"),
    ] {
        if m.view.count(kind) > 0 {
            found.push((12.0, what.to_owned()));
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    found.into_iter().map(|(_, text)| text).take(MOST_SUGGESTIONS).collect()
}

/// Whether the end of the run still brought something.
fn length_of_training(m: &Measured, lost: f64) -> Option<(f64, String)> {
    let last = m.last?;
    let at = last.step as f64;
    let earlier = m.view.trained().rfind(|e| (e.step as f64) <= 0.7 * at)?;
    let gained = 1.0 - last.loss / earlier.loss.max(1e-9);
    let epochs = m.plan.epochs;
    if earlier.loss < LEARNT {
        return None;
    }
    if gained > 0.08 {
        let more = (2.0 * epochs).min(epochs + 5.0);
        return Some((
            lost.max(4.0),
            format!(
                "Train longer, for {more:.0} epochs: the held-out loss still fell by {:.0} % after step {}",
                100.0 * gained,
                earlier.step
            ),
        ));
    }
    if (0.0..0.003).contains(&gained) && epochs > 1.0 {
        return Some((
            1.0,
            format!(
                "Fewer epochs would do: after step {} of {} the held-out loss changed by {:.1} %",
                earlier.step,
                last.step,
                100.0 * gained
            ),
        ));
    }
    None
}
