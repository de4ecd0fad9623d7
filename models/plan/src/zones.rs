//! Whether a loss curve looks healthy: smoothing, zones learned from the run itself, and one plain sentence.
//!
//! The reference of a step is the lowest smoothed loss so far. A healthy curve stays within its own noise of it; one
//! that climbs away is worth a look. Nothing here knows what a good loss is: tasks differ too much for that.

use crate::event::Evaluation;

/// How a curve does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    /// At or near its best.
    Good,
    /// Not better than before, but near.
    Acceptable,
    /// Well above its best.
    Attention,
}

/// Up to which loss a step is in which zone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// The step.
    pub step: f64,
    /// Good up to here.
    pub good: f64,
    /// Acceptable up to here.
    pub acceptable: f64,
}

/// An exponential moving average without the pull to zero at the start. `weight` is 0 (none) to 0.99. Values that are
/// not finite are passed over and take the average before them.
pub fn smoothed(values: impl IntoIterator<Item = f64>, weight: f64) -> Vec<f64> {
    let weight = weight.clamp(0.0, 0.99);
    let (mut sum, mut total) = (0.0, 0.0);
    let one = |value: f64| {
        if value.is_finite() {
            sum = sum * weight + (1.0 - weight) * value;
            total = total * weight + (1.0 - weight);
        }
        if total > 0.0 { sum / total } else { f64::NAN }
    };
    values.into_iter().map(one).collect()
}

/// The zones of a curve of `(step, loss)`.
pub fn limits(curve: &[(f64, f64)]) -> Vec<Limits> {
    let smooth = smoothed(curve.iter().map(|p| p.1), WEIGHT);
    let noise = noise(curve, &smooth);
    let mut best = f64::INFINITY;
    let limit = |(point, smooth): (&(f64, f64), &f64)| {
        if smooth.is_finite() {
            best = best.min(*smooth);
        }
        let good = best + (2.0 * noise).max(0.05 * best.abs());
        Limits { step: point.0, good, acceptable: good + (2.0 * noise).max(0.15 * best.abs()) }
    };
    curve.iter().zip(&smooth).map(limit).filter(|l| l.good.is_finite()).collect()
}

/// How much smoothing tells a trend from noise.
const WEIGHT: f64 = 0.9;
/// Fewer steps say nothing.
const FEW: usize = 10;

/// The middle distance of a curve from its trend.
fn noise(curve: &[(f64, f64)], smooth: &[f64]) -> f64 {
    let mut distances: Vec<f64> =
        curve.iter().zip(smooth).map(|(p, s)| (p.1 - s).abs()).filter(|d| d.is_finite()).collect();
    distances.sort_unstable_by(f64::total_cmp);
    distances.get(distances.len() / 2).copied().unwrap_or(0.0)
}

/// What is said of a curve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Its zone.
    pub zone: Zone,
    /// One sentence.
    pub sentence: String,
}

/// What to say of a curve of `(step, loss)` and the evaluations beside it.
pub fn verdict(curve: &[(f64, f64)], evaluations: &[Evaluation]) -> Verdict {
    let say = |zone, sentence: String| Verdict { zone, sentence };
    if curve.last().is_some_and(|p| !p.1.is_finite()) {
        return say(Zone::Attention, "The loss is not a number any more: the run has gone off the rails".to_owned());
    }
    if curve.len() < FEW {
        return say(Zone::Good, "Just started; a few more steps will show how it goes".to_owned());
    }
    let smooth = smoothed(curve.iter().map(|p| p.1), WEIGHT);
    let now = smooth[smooth.len() - 1];
    let zone = match limits(curve).last() {
        Some(l) if now <= l.good => Zone::Good,
        Some(l) if now <= l.acceptable => Zone::Acceptable,
        _ => Zone::Attention,
    };
    let window = (curve.len() / 3).clamp(FEW - 1, 200);
    let before = smooth[smooth.len() - 1 - window];
    let change = 100.0 * (now - before) / before.abs().max(1e-9);
    let steps = format!("in the last {window} steps");
    if zone == Zone::Attention {
        let best = smooth.iter().copied().fold(f64::INFINITY, f64::min);
        let above = 100.0 * (now - best) / best.abs().max(1e-9);
        return say(zone, format!("Needs a look: the loss is {above:.0} % above its best so far"));
    }
    if let Some(rise) = memorising(evaluations) {
        let sentence = format!(
            "Better on its examples, worse on held-out ones: {rise:.0} % above the best check. It may be learning by heart"
        );
        return say(Zone::Acceptable, sentence);
    }
    if change <= -1.0 {
        say(zone, format!("Learning well: the loss fell {:.0} % {steps}", -change))
    } else if change < 1.0 {
        say(zone, format!("Levelling off: the loss changed less than 1 % {steps}"))
    } else {
        say(zone, format!("A little up: the loss rose {change:.0} % {steps}, within its usual wobble"))
    }
}

/// By how many per cent the last two checks are above the best one, where they rise.
fn memorising(evaluations: &[Evaluation]) -> Option<f64> {
    let losses: Vec<f64> = evaluations.iter().filter(|e| e.step > 0).map(|e| e.loss).collect();
    let [.., before, last] = losses[..] else { return None };
    let best = losses.iter().copied().fold(f64::INFINITY, f64::min);
    let rise = 100.0 * (last - best) / best.abs().max(1e-9);
    (last > before && before > best && rise > 3.0).then_some(rise)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn falling(n: usize) -> Vec<(f64, f64)> {
        (0..n).map(|i| (i as f64, 1.0 + 2.0 * (-(i as f64) / 40.0).exp() + 0.02 * ((i % 5) as f64 - 2.0))).collect()
    }

    fn check(step: u64, loss: f64) -> Evaluation {
        Evaluation { step, loss, perplexity: loss.exp(), token_accuracy: 0.5, preference: None }
    }

    #[test]
    fn smoothing_is_the_debiased_average_of_tensorboard() {
        let smooth = smoothed([1.0, 2.0, f64::NAN, 4.0], 0.5);
        let expected = [1.0, (0.25 + 1.0) / 0.75, (0.25 + 1.0) / 0.75, (0.125 + 0.5 + 2.0) / 0.875];
        for (a, b) in smooth.iter().zip(expected) {
            assert!((a - b).abs() < 1e-12, "{a} {b}");
        }
        assert_eq!(smoothed([3.0, 1.0], 0.0), [3.0, 1.0]);
    }

    #[test]
    fn a_falling_curve_is_good_and_a_climbing_one_is_not_s4_5_2() {
        let mut curve = falling(100);
        let said = verdict(&curve, &[]);
        assert_eq!(said.zone, Zone::Good);
        assert!(said.sentence.starts_with("Learning well: the loss fell"), "{}", said.sentence);
        for i in 100..160 {
            curve.push((i as f64, 1.2 + (i - 100) as f64 * 0.05));
        }
        let said = verdict(&curve, &[]);
        assert_eq!(said.zone, Zone::Attention);
        assert!(said.sentence.contains("above its best"), "{}", said.sentence);
        assert!(limits(&curve).windows(2).all(|w| w[1].good <= w[0].good), "the best so far never gets worse");
        assert!(limits(&curve).iter().all(|l| l.acceptable > l.good));
    }

    #[test]
    fn rising_checks_beside_a_falling_loss_are_told() {
        let curve = falling(100);
        let checks = [check(0, 3.0), check(20, 1.5), check(40, 1.4), check(60, 1.6), check(80, 1.8)];
        assert!(verdict(&curve, &checks).sentence.contains("by heart"));
        assert!(verdict(&curve, &checks[..3]).sentence.starts_with("Learning well"));
    }

    #[test]
    fn short_flat_and_broken_curves_have_their_sentence() {
        assert!(verdict(&[], &[]).sentence.starts_with("Just started"));
        assert!(verdict(&falling(100)[..5], &[]).sentence.starts_with("Just started"));
        let flat: Vec<(f64, f64)> = (0..50).map(|i| (f64::from(i), 2.0)).collect();
        assert!(verdict(&flat, &[]).sentence.starts_with("Levelling off"));
        let mut broken = flat;
        broken.push((50.0, f64::NAN));
        assert_eq!(verdict(&broken, &[]).zone, Zone::Attention);
    }
}
