//! The learning rate as a pure function of the step.

use crate::config::Scheduler;

/// Everything the rate depends on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LrSchedule {
    /// Shape after the warm-up.
    pub shape: Scheduler,
    /// Peak.
    pub peak: f64,
    /// Steps of the rise.
    pub warmup_steps: u64,
    /// Steps of the whole run.
    pub total_steps: u64,
}

impl LrSchedule {
    /// Rate of optimizer step `step`, counted from 1.
    ///
    /// The warm-up rises in equal parts and reaches the peak at its last step. Linear and cosine reach 0 one
    /// step after the last, so that no step is wasted on a rate of 0. WSD (Hu et al. 2024) falls straight over
    /// the last fifth of the run.
    pub fn at(&self, step: u64) -> f64 {
        let done = step.saturating_sub(1);
        if done < self.warmup_steps {
            return self.peak * step as f64 / self.warmup_steps as f64;
        }
        let span = self.total_steps.saturating_sub(self.warmup_steps).max(1) as f64;
        let progress = ((done - self.warmup_steps) as f64 / span).min(1.0);
        let factor = match self.shape {
            Scheduler::Constant => 1.0,
            Scheduler::Linear => 1.0 - progress,
            Scheduler::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
            Scheduler::Wsd => {
                let decay = (self.total_steps as f64 * 0.2).max(1.0);
                ((self.total_steps.saturating_sub(done)) as f64 / decay).min(1.0)
            }
        };
        self.peak * factor
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these rates are exact in binary")]
mod tests {
    use super::*;

    fn schedule(shape: Scheduler) -> LrSchedule {
        LrSchedule { shape, peak: 2.0, warmup_steps: 4, total_steps: 100 }
    }

    #[test]
    fn warmup_rises_to_the_peak() {
        let s = schedule(Scheduler::Cosine);
        assert_eq!([s.at(1), s.at(2), s.at(4), s.at(5)], [0.5, 1.0, 2.0, 2.0]);
    }

    #[test]
    fn every_shape_stays_between_zero_and_peak_and_ends_low() {
        for shape in [Scheduler::Linear, Scheduler::Cosine, Scheduler::Wsd] {
            let s = schedule(shape);
            assert!((1..=100).all(|i| s.at(i) > 0.0 && s.at(i) <= 2.0), "{shape:?}");
            assert!(s.at(100) < 0.15 && s.at(100) < s.at(90), "{shape:?}: {}", s.at(100));
        }
        assert_eq!(schedule(Scheduler::Constant).at(100), 2.0);
        assert_eq!(schedule(Scheduler::Wsd).at(75), 2.0);
    }
}
