//! Tables of cosines and sines for rotary embeddings, in the arithmetic of the reference.
//!
//! The reference keeps frequencies and angles in f32 even for 16-bit models, so these do too:
//! powers and trigonometry are taken in f64 and rounded once, everything else is f32. The layout
//! is the half-split one of Hugging Face weights: column `i` rotates with column `i + rotary/2`.

use crate::spec::{RopeScaling, RopeSpec};
use std::f64::consts::PI;

/// `[positions, rotary_dim]`, row-major: a row holds `rotary_dim / 2` cosines, then as many sines,
/// both multiplied by the attention factor.
///
/// `sequence_length` is the longest sequence that will use the table: `LongRoPE` picks one set of
/// divisors for all positions by it.
pub fn table(spec: &RopeSpec, rotary_dim: usize, positions: usize, sequence_length: usize) -> Vec<f32> {
    let frequencies = inverse_frequencies(spec, rotary_dim, sequence_length);
    let factor = attention_factor(spec);
    let mut rows = Vec::with_capacity(positions * rotary_dim);
    for position in 0..positions {
        let angle = |frequency: &f32| f64::from(position as f32 * frequency);
        rows.extend(frequencies.iter().map(|f| angle(f).cos() as f32 * factor));
        rows.extend(frequencies.iter().map(|f| angle(f).sin() as f32 * factor));
    }
    rows
}

/// What cosines and sines are multiplied by.
pub fn attention_factor(spec: &RopeSpec) -> f32 {
    match &spec.scaling {
        RopeScaling::Yarn { attention_factor, .. } | RopeScaling::LongRope { attention_factor, .. } => {
            *attention_factor as f32
        }
        RopeScaling::None | RopeScaling::Linear { .. } | RopeScaling::Llama3 { .. } => 1.0,
    }
}

/// Radians a position, `rotary_dim / 2` of them, from fast to slow.
pub fn inverse_frequencies(spec: &RopeSpec, rotary_dim: usize, sequence_length: usize) -> Vec<f32> {
    let half = rotary_dim / 2;
    // theta^(2i/rotary): positions a radian.
    let periods: Vec<f32> = (0..half)
        .map(|i| {
            let exponent = (2 * i) as f32 / rotary_dim as f32;
            spec.theta.powf(f64::from(exponent)) as f32
        })
        .collect();
    let plain = || periods.iter().map(|p| 1.0 / p);
    match &spec.scaling {
        RopeScaling::None => plain().collect(),
        RopeScaling::Linear { factor } => plain().map(|f| f / *factor as f32).collect(),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original } => {
            plain().map(|f| llama3(f, *factor, *low_freq_factor, *high_freq_factor, *original as f64)).collect()
        }
        RopeScaling::Yarn { factor, original, beta_fast, beta_slow, truncate, .. } => {
            let ramp = YarnRamp::new(spec.theta, rotary_dim, *original as f64, *beta_fast, *beta_slow, *truncate);
            periods
                .iter()
                .enumerate()
                .map(|(i, p)| {
                    let extrapolated = 1.0 - ramp.at(i);
                    1.0 / (*factor as f32 * p) * (1.0 - extrapolated) + 1.0 / p * extrapolated
                })
                .collect()
        }
        RopeScaling::LongRope { short, long, original, .. } => {
            let divisors = if sequence_length > *original { long } else { short };
            periods.iter().zip(divisors).map(|(p, d)| 1.0 / (*d as f32 * p)).collect()
        }
    }
}

/// Wavelengths above `original/low` are stretched by `factor`, those below `original/high` kept,
/// those between blended by where they lie.
fn llama3(frequency: f32, factor: f64, low: f64, high: f64, original: f64) -> f32 {
    let wavelength = (2.0 * PI) as f32 / frequency;
    if wavelength < (original / high) as f32 {
        return frequency;
    }
    let factor = factor as f32;
    if wavelength > (original / low) as f32 {
        return frequency / factor;
    }
    let kept = (original as f32 / wavelength - low as f32) / (high - low) as f32;
    (1.0 - kept) * frequency / factor + kept * frequency
}

/// How far each frequency has gone from extrapolation (0) to interpolation (1).
struct YarnRamp {
    low: f64,
    high: f64,
}

impl YarnRamp {
    fn new(theta: f64, rotary_dim: usize, original: f64, fast: f64, slow: f64, truncate: bool) -> Self {
        // The column whose frequency turns `rotations` times over the original context.
        let column = |rotations: f64| rotary_dim as f64 * (original / (rotations * 2.0 * PI)).ln() / (2.0 * theta.ln());
        let (mut low, mut high) = (column(fast), column(slow));
        if truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        low = low.max(0.0);
        high = high.min(rotary_dim as f64 - 1.0);
        if low.total_cmp(&high).is_eq() {
            high += 0.001;
        }
        Self { low, high }
    }

    fn at(&self, i: usize) -> f32 {
        ((i as f32 - self.low as f32) / (self.high - self.low) as f32).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
#[allow(
    clippy::float_cmp,
    clippy::excessive_precision,
    reason = "printed by the reference, compared within a stated distance"
)]
mod tests {
    //! Expected numbers were printed by transformers 5.23 (`ROPE_INIT_FUNCTIONS[type](config)` with
    //! `head_dim=16`, and `LlamaRotaryEmbedding.compute_default_rope_parameters` for the plain form).

    use super::*;

    /// Powers differ from the reference's by one rounding at most.
    fn assert_frequencies(spec: &RopeSpec, sequence_length: usize, expected: [f32; 8]) {
        let got = inverse_frequencies(spec, 16, sequence_length);
        assert_eq!(got.len(), 8);
        for (i, (g, e)) in got.iter().zip(expected).enumerate() {
            assert!((g - e).abs() <= e * 2.5e-7, "frequency {i}: {g} instead of {e}");
        }
    }

    /// One rounding of a frequency, a thousand positions on.
    fn assert_row_1000(spec: &RopeSpec, sequence_length: usize, cosines: [f32; 8], sines: [f32; 8]) {
        let rows = table(spec, 16, 1001, sequence_length);
        assert_eq!(rows.len(), 1001 * 16);
        for (i, (g, e)) in rows[16_000..].iter().zip(cosines.into_iter().chain(sines)).enumerate() {
            assert!((g - e).abs() <= 1e-4, "column {i}: {g} instead of {e}");
        }
    }

    fn plain(theta: f64) -> RopeSpec {
        RopeSpec { theta, scaling: RopeScaling::None }
    }

    #[test]
    fn plain_frequencies_match_the_reference() {
        let spec = plain(500_000.0);
        assert_frequencies(
            &spec,
            1,
            [
                1.0,
                0.193_922_76,
                0.037_606_03,
                0.007_292_665,
                0.001_414_213_4,
                0.000_274_248_2,
                5.318_295_7e-5,
                1.031_338_5e-5,
            ],
        );
        let rows = table(&spec, 16, 2, 2);
        assert_eq!(rows[..16], [1., 1., 1., 1., 1., 1., 1., 1., 0., 0., 0., 0., 0., 0., 0., 0.]);
        assert!((rows[16] - 0.540_302_34).abs() < 1e-7 && (rows[24] - 0.841_470_96).abs() < 1e-7);
        assert_row_1000(
            &spec,
            1,
            [0.562_379_06, 0.655_475_3, 0.995_671, 0.532_301_25, 0.155_943_84, 0.962_629_1, 0.998_586_1, 0.999_946_8],
            [
                0.826_879_56,
                -0.755_216_6,
                -0.092_947_975,
                0.846_555,
                0.987_765_9,
                0.270_823_3,
                0.053_157_89,
                0.010_313_203,
            ],
        );
    }

    #[test]
    fn linear_scaling_matches_the_reference() {
        let spec = RopeSpec { theta: 10_000.0, scaling: RopeScaling::Linear { factor: 8.0 } };
        assert_row_1000(
            &spec,
            1,
            [0.787_714_5, -0.255_689_56, 0.997_798_26, -0.688_589_2, 0.315_322_37, 0.922_887, 0.992_197_7, 0.999_218_8],
            [
                -0.616_040_5,
                0.966_759,
                -0.066_321_895,
                -0.725_151_66,
                0.948_984_6,
                0.385_070_98,
                0.124_674_73,
                0.039_518_18,
            ],
        );
    }

    #[test]
    fn llama3_scaling_matches_the_reference() {
        let spec = RopeSpec {
            theta: 500_000.0,
            scaling: RopeScaling::Llama3 { factor: 32.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original: 8192 },
        };
        assert_frequencies(
            &spec,
            1,
            [
                1.0,
                0.193_922_76,
                0.037_606_03,
                0.007_292_665,
                0.000_429_556_7,
                8.570_256e-6,
                1.661_967_4e-6,
                3.222_932_9e-7,
            ],
        );
    }

    #[test]
    fn yarn_matches_the_reference_with_and_without_truncation() {
        let scaling = RopeScaling::Yarn {
            factor: 4.0,
            original: 32_768,
            beta_fast: 32.0,
            beta_slow: 1.0,
            attention_factor: 1.138_629_436_111_989,
            truncate: true,
        };
        let spec = RopeSpec { theta: 1_000_000.0, scaling };
        assert_frequencies(
            &spec,
            1,
            [1.0, 0.177_827_94, 0.031_622_78, 0.004_217_56, 0.000_5, 4.445_698_5e-5, 7.905_693_6e-6, 1.405_853_4e-6],
        );
        assert_row_1000(
            &spec,
            1,
            [
                0.640_341_34,
                -0.366_763_4,
                1.114_356_6,
                -0.540_713_85,
                0.999_241_35,
                1.137_504_3,
                1.138_593_9,
                1.138_628_4,
            ],
            [
                0.941_509_4,
                1.077_943_2,
                0.233_851_08,
                -1.002_050_6,
                0.545_888_07,
                0.050_603_356,
                0.009_001_562,
                0.001_600_745,
            ],
        );
        let scaling = RopeScaling::Yarn {
            factor: 40.0,
            original: 4096,
            beta_fast: 16.0,
            beta_slow: 2.0,
            attention_factor: 1.056_966_256_753_127_5,
            truncate: false,
        };
        assert_frequencies(
            &RopeSpec { theta: 10_000.0, scaling },
            1,
            [1.0, 0.316_227_76, 0.1, 0.031_622_78, 0.005_790_104_6, 0.000_123_952_46, 2.5e-5, 7.905_694_5e-6],
        );
    }

    #[test]
    fn long_rope_picks_its_divisors_by_the_sequence() {
        let spec = RopeSpec {
            theta: 10_000.0,
            scaling: RopeScaling::LongRope {
                short: vec![1.0, 1.02, 1.05, 1.1, 1.2, 1.3, 1.4, 1.5],
                long: vec![1.08, 1.5, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0],
                original: 4096,
                attention_factor: 1.190_238_071_423_808_3,
            },
        };
        assert_frequencies(
            &spec,
            4096,
            [
                1.0,
                0.310_027_2,
                0.095_238_1,
                0.028_747_98,
                0.008_333_333,
                0.002_432_521_4,
                0.000_714_285_7,
                0.000_210_818_5,
            ],
        );
        assert_frequencies(
            &spec,
            4097,
            [0.925_925_9, 0.210_818_5, 0.05, 0.007_905_695, 0.001_25, 0.000_197_642_37, 3.125e-5, 4.941_059e-6],
        );
        assert_row_1000(
            &spec,
            4096,
            [0.669_365, -0.652_622_7, 0.652_754_6, -1.059_206, -0.548_942_3, -0.903_351_4, 0.899_297_9, 1.163_886_2],
            [
                0.984_183_55,
                0.995_364_4,
                0.995_277_94,
                -0.542_908_25,
                1.056_091_4,
                0.774_998_8,
                0.779_698_73,
                0.249_069_66,
            ],
        );
    }

    #[test]
    fn tables_of_no_positions_are_empty() {
        assert!(table(&plain(10_000.0), 16, 0, 0).is_empty());
    }
}
