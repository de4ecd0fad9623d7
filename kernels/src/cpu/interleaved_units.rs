//! Blocks of a GGUF file and 4-bit codes into eight rows side by side, and back: `interleaved.rs` says where what lies.
//!
//! Words of four codes are moved whole, whatever types their codes have.

use crate::quant::GgmlType;
use crate::quant::ggml::blocks256::{put_six_bit_pairs, six_bit_pairs};

/// Low halves, and two high bits, of four codes.
const LOW: u32 = 0x0F0F_0F0F;
const TWO: u32 = 0x0303_0303;

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn put_word(bytes: &mut [u8], at: usize, word: u32) {
    bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
}

/// One unit of a row as it is stored into lane `lane` of eight units.
pub(super) fn put(kind: GgmlType, unit: &mut [u8], lane: usize, stored: &[u8]) {
    match kind {
        GgmlType::Q4K => put_q4_k(unit, lane, stored),
        GgmlType::Q6K => put_q6_k(unit, lane, stored),
        _ => put_q5_0(unit, lane, stored),
    }
}

/// The way back.
pub(super) fn take(kind: GgmlType, stored: &mut [u8], lane: usize, unit: &[u8]) {
    match kind {
        GgmlType::Q4K => take_q4_k(stored, lane, unit),
        GgmlType::Q6K => take_q6_k(stored, lane, unit),
        _ => take_q5_0(stored, lane, unit),
    }
}

/// 64 codes, two a byte, the first in the high half, into lane `lane` of a unit; a scale before them.
pub(super) fn put_four_bit(unit: &mut [u8], lane: usize, stored: &[u8], scale: f32) {
    put_word(unit, 4 * lane, scale.to_bits());
    let four = |word: usize| {
        let [a, b] = [stored[2 * word], stored[2 * word + 1]];
        u32::from_le_bytes([a >> 4, a & 15, b >> 4, b & 15])
    };
    for t in 0..8 {
        put_word(unit, 32 + 32 * t + 4 * lane, four(t) | four(t + 8) << 4);
    }
}

/// What the values of these codes are multiplied with.
pub(super) fn scale_of_four_bit(unit: &[u8], lane: usize) -> f32 {
    f32::from_bits(word(unit, 4 * lane))
}

fn put_q4_k(unit: &mut [u8], lane: usize, stored: &[u8]) {
    unit[2 * lane..2 * lane + 2].copy_from_slice(&stored[..2]);
    unit[16 + 2 * lane..18 + 2 * lane].copy_from_slice(&stored[2..4]);
    let (scales, mins) = six_bit_pairs(&stored[4..16]);
    for g in 0..4 {
        let group = &mut unit[32 + 288 * g..32 + 288 * (g + 1)];
        group[2 * lane..2 * lane + 2].copy_from_slice(&scales[2 * g..2 * g + 2]);
        group[16 + 2 * lane..18 + 2 * lane].copy_from_slice(&mins[2 * g..2 * g + 2]);
        for t in 0..8 {
            put_word(group, 32 + 32 * t + 4 * lane, word(stored, 16 + 32 * g + 4 * t));
        }
    }
}

fn take_q4_k(stored: &mut [u8], lane: usize, unit: &[u8]) {
    stored[..2].copy_from_slice(&unit[2 * lane..2 * lane + 2]);
    stored[2..4].copy_from_slice(&unit[16 + 2 * lane..18 + 2 * lane]);
    let (mut scales, mut mins) = ([0; 8], [0; 8]);
    for g in 0..4 {
        let group = &unit[32 + 288 * g..32 + 288 * (g + 1)];
        scales[2 * g..2 * g + 2].copy_from_slice(&group[2 * lane..2 * lane + 2]);
        mins[2 * g..2 * g + 2].copy_from_slice(&group[16 + 2 * lane..18 + 2 * lane]);
        for t in 0..8 {
            put_word(stored, 16 + 32 * g + 4 * t, word(group, 32 + 32 * t + 4 * lane));
        }
    }
    put_six_bit_pairs(&mut stored[4..16], &scales, &mins);
}

/// Words of low halves and of high bits of group `g` of a block of `Q6_K`.
fn words_of_q6_k(stored: &[u8], g: usize) -> [[u32; 16]; 2] {
    let (half, shift) = (g / 2, 4 * (g % 2));
    let low = std::array::from_fn(|t| word(stored, 64 * half + 4 * t) >> shift & LOW);
    let high = std::array::from_fn(|t| word(stored, 128 + 32 * half + 4 * (t % 8)) >> (shift + 2 * (t / 8)) & TWO);
    [low, high]
}

fn put_q6_k(unit: &mut [u8], lane: usize, stored: &[u8]) {
    let d = super::source::widen_f16(u16::from_le_bytes([stored[208], stored[209]]));
    put_word(unit, 4 * lane, d.to_bits());
    for g in 0..4 {
        let group = &mut unit[32 + 416 * g..32 + 416 * (g + 1)];
        for part in 0..4 {
            group[16 * (part / 2) + 2 * lane + part % 2] = stored[192 + 4 * g + part];
        }
        let [low, high] = words_of_q6_k(stored, g);
        for t in 0..8 {
            put_word(group, 32 + 32 * t + 4 * lane, low[t] | low[t + 8] << 4);
        }
        for t in 0..4 {
            let bits = high[t] | high[t + 4] << 2 | high[t + 8] << 4 | high[t + 12] << 6;
            put_word(group, 288 + 32 * t + 4 * lane, bits);
        }
    }
}

fn take_q6_k(stored: &mut [u8], lane: usize, unit: &[u8]) {
    // An f16 is one of these numbers, so the way back is exact.
    let d = half::f16::from_f32(f32::from_bits(word(unit, 4 * lane)));
    stored[208..210].copy_from_slice(&d.to_le_bytes());
    stored[..192].fill(0);
    for g in 0..4 {
        let group = &unit[32 + 416 * g..32 + 416 * (g + 1)];
        for part in 0..4 {
            stored[192 + 4 * g + part] = group[16 * (part / 2) + 2 * lane + part % 2];
        }
        let (half, shift) = (g / 2, 4 * (g % 2));
        for t in 0..16 {
            let low = word(group, 32 + 32 * (t % 8) + 4 * lane) >> (4 * (t / 8)) & LOW;
            let high = word(group, 288 + 32 * (t % 4) + 4 * lane) >> (2 * (t / 4)) & TWO;
            let (at, above) = (64 * half + 4 * t, 128 + 32 * half + 4 * (t % 8));
            put_word(stored, at, word(stored, at) | low << shift);
            put_word(stored, above, word(stored, above) | high << (shift + 2 * (t / 8)));
        }
    }
}

fn put_q5_0(unit: &mut [u8], lane: usize, stored: &[u8]) {
    let mut words = [[0; 8]; 2];
    for (half, block) in stored.chunks_exact(22).enumerate() {
        unit[16 * half + 2 * lane..16 * half + 2 * lane + 2].copy_from_slice(&block[..2]);
        for (t, to) in words[half].iter_mut().enumerate() {
            *to = word(block, 6 + 4 * (t % 4)) >> (4 * (t / 4)) & LOW;
        }
        let fifths = word(block, 2);
        for i in 0..4 {
            // Bits 4t+i side by side.
            unit[288 + 32 * half + 4 * lane + i] = (0..8).map(|t| ((fifths >> (4 * t + i) & 1) << t) as u8).sum();
        }
    }
    let [first, second] = words;
    for (t, (first, second)) in first.into_iter().zip(second).enumerate() {
        put_word(unit, 32 + 32 * t + 4 * lane, first | second << 4);
    }
}

fn take_q5_0(stored: &mut [u8], lane: usize, unit: &[u8]) {
    for (half, block) in stored.chunks_exact_mut(22).enumerate() {
        block[..2].copy_from_slice(&unit[16 * half + 2 * lane..16 * half + 2 * lane + 2]);
        for t in 0..4 {
            let of = |t: usize| word(unit, 32 + 32 * t + 4 * lane) >> (4 * half) & LOW;
            put_word(block, 6 + 4 * t, of(t) | of(t + 4) << 4);
        }
        let mut fifths = 0;
        for i in 0..4 {
            let byte = u32::from(unit[288 + 32 * half + 4 * lane + i]);
            fifths |= (0..8).map(|t| (byte >> t & 1) << (4 * t + i)).sum::<u32>();
        }
        put_word(block, 2, fifths);
    }
}
