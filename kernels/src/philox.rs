//! Philox4x32-10 (Salmon et al. 2011): random numbers from a counter, the same on every device.
//!
//! Element `i` of a stream is word `i % 4` of the block whose counter is `(i / 4, stream)`, so any
//! part of a stream can be computed alone, in any order.

const MULTIPLIER: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

/// The four words of one block.
#[inline]
pub fn block(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..ROUNDS {
        let low = u64::from(counter[0]) * u64::from(MULTIPLIER[0]);
        let high = u64::from(counter[2]) * u64::from(MULTIPLIER[1]);
        counter = [
            (high >> 32) as u32 ^ counter[1] ^ key[0],
            high as u32,
            (low >> 32) as u32 ^ counter[3] ^ key[1],
            low as u32,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// Uniforms `4·index .. 4·index + 4` of `stream` under `seed`, each in `[0, 1)`.
#[inline]
pub fn uniforms(seed: u64, stream: u64, index: u64) -> [f32; 4] {
    let counter = [index as u32, (index >> 32) as u32, stream as u32, (stream >> 32) as u32];
    // 24 bits fill the significand of an f32 exactly: every value is a multiple of 2^-24.
    block(counter, [seed as u32, (seed >> 32) as u32]).map(|word| (word >> 8) as f32 * (1.0 / 16_777_216.0))
}

/// Uniform `i` of `stream` under `seed`.
pub fn uniform(seed: u64, stream: u64, i: u64) -> f32 {
    uniforms(seed, stream, i / 4)[(i % 4) as usize]
}

#[cfg(test)]
mod tests {
    use super::{block, uniform, uniforms};

    /// The known answers that Random123 publishes for `philox4x32-10`.
    #[test]
    fn known_answers_of_random123() {
        let ones = u32::MAX;
        assert_eq!(block([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(block([ones; 4], [ones; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            block([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn uniforms_fill_the_unit_interval_and_streams_differ() {
        let draws: Vec<f32> = (0..40_000).map(|i| uniform(7, 3, i)).collect();
        assert!(draws.iter().all(|u| (0.0..1.0).contains(u)));
        let mean = draws.iter().map(|&u| f64::from(u)).sum::<f64>() / draws.len() as f64;
        assert!((mean - 0.5).abs() < 0.01, "mean {mean}");
        assert_ne!(uniforms(7, 3, 0), uniforms(7, 4, 0));
        assert_ne!(uniforms(7, 3, 0), uniforms(8, 3, 0));
        assert_ne!(uniforms(7, 3, 0), uniforms(7, 3, 1 << 32));
    }
}
