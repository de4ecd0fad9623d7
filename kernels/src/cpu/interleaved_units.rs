//! Blocks of a GGUF file and 4-bit codes into eight rows side by side, and back: `interleaved.rs` says where what lies.
//!
//! Words of four codes are moved whole, whatever types their codes have.

use super::interleaved::group_of_minima;
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
        GgmlType::Q4K | GgmlType::Q5K => put_with_minima(kind, unit, lane, stored),
        GgmlType::Q6K => put_q6_k(unit, lane, stored),
        _ => put_pair(unit, lane, stored),
    }
}

/// The way back.
pub(super) fn take(kind: GgmlType, stored: &mut [u8], lane: usize, unit: &[u8]) {
    match kind {
        GgmlType::Q4K | GgmlType::Q5K => take_with_minima(kind, stored, lane, unit),
        GgmlType::Q6K => take_q6_k(stored, lane, unit),
        _ => take_pair(stored, lane, unit),
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

/// A fifth bit of each of 32 codes in order: of every fourth of them side by side, a byte each.
fn put_fifths(to: &mut [u8], fifths: u32) {
    for (i, byte) in to[..4].iter_mut().enumerate() {
        *byte = (0..8).map(|t| ((fifths >> (4 * t + i) & 1) << t) as u8).sum();
    }
}

/// The way back.
fn take_fifths(from: &[u8]) -> u32 {
    let of = |i: usize| (0..8).map(move |t| (u32::from(from[i]) >> t & 1) << (4 * t + i)).sum::<u32>();
    (0..4).map(of).sum()
}

/// Where the low halves of a block of `Q4_K` or `Q5_K` begin; fifth bits are before them.
fn nibbles_of(kind: GgmlType) -> usize {
    if kind == GgmlType::Q5K { 48 } else { 16 }
}

fn put_with_minima(kind: GgmlType, unit: &mut [u8], lane: usize, stored: &[u8]) {
    unit[2 * lane..2 * lane + 2].copy_from_slice(&stored[..2]);
    unit[16 + 2 * lane..18 + 2 * lane].copy_from_slice(&stored[2..4]);
    let (scales, mins) = six_bit_pairs(&stored[4..16]);
    for (g, group) in unit[32..].chunks_exact_mut(group_of_minima(kind)).enumerate() {
        group[2 * lane..2 * lane + 2].copy_from_slice(&scales[2 * g..2 * g + 2]);
        group[16 + 2 * lane..18 + 2 * lane].copy_from_slice(&mins[2 * g..2 * g + 2]);
        for t in 0..8 {
            put_word(group, 32 + 32 * t + 4 * lane, word(stored, nibbles_of(kind) + 32 * g + 4 * t));
        }
        if kind == GgmlType::Q5K {
            for half in 0..2 {
                // A byte has a bit of the same place in every half group.
                let bits = (0..32).map(|i| u32::from(stored[16 + i] >> (2 * g + half) & 1) << i);
                put_fifths(&mut group[288 + 32 * half + 4 * lane..], bits.sum());
            }
        }
    }
}

fn take_with_minima(kind: GgmlType, stored: &mut [u8], lane: usize, unit: &[u8]) {
    stored[..2].copy_from_slice(&unit[2 * lane..2 * lane + 2]);
    stored[2..4].copy_from_slice(&unit[16 + 2 * lane..18 + 2 * lane]);
    stored[16..nibbles_of(kind)].fill(0);
    let (mut scales, mut mins) = ([0; 8], [0; 8]);
    for (g, group) in unit[32..].chunks_exact(group_of_minima(kind)).enumerate() {
        scales[2 * g..2 * g + 2].copy_from_slice(&group[2 * lane..2 * lane + 2]);
        mins[2 * g..2 * g + 2].copy_from_slice(&group[16 + 2 * lane..18 + 2 * lane]);
        for t in 0..8 {
            put_word(stored, nibbles_of(kind) + 32 * g + 4 * t, word(group, 32 + 32 * t + 4 * lane));
        }
        if kind == GgmlType::Q5K {
            for half in 0..2 {
                let fifths = take_fifths(&group[288 + 32 * half + 4 * lane..]);
                for (i, byte) in stored[16..48].iter_mut().enumerate() {
                    *byte |= ((fifths >> i & 1) as u8) << (2 * g + half);
                }
            }
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

/// Two blocks of `Q5_0`, which are a scale, fifth bits and low halves, or of `Q4_0`, which have no fifth bits.
fn put_pair(unit: &mut [u8], lane: usize, stored: &[u8]) {
    let mut words = [[0; 8]; 2];
    let size = stored.len() / 2;
    for (half, block) in stored.chunks_exact(size).enumerate() {
        unit[16 * half + 2 * lane..16 * half + 2 * lane + 2].copy_from_slice(&block[..2]);
        for (t, to) in words[half].iter_mut().enumerate() {
            *to = word(block, size - 16 + 4 * (t % 4)) >> (4 * (t / 4)) & LOW;
        }
        if size == 22 {
            put_fifths(&mut unit[288 + 32 * half + 4 * lane..], word(block, 2));
        }
    }
    let [first, second] = words;
    for (t, (first, second)) in first.into_iter().zip(second).enumerate() {
        put_word(unit, 32 + 32 * t + 4 * lane, first | second << 4);
    }
}

fn take_pair(stored: &mut [u8], lane: usize, unit: &[u8]) {
    let size = stored.len() / 2;
    for (half, block) in stored.chunks_exact_mut(size).enumerate() {
        block[..2].copy_from_slice(&unit[16 * half + 2 * lane..16 * half + 2 * lane + 2]);
        for t in 0..4 {
            let of = |t: usize| word(unit, 32 + 32 * t + 4 * lane) >> (4 * half) & LOW;
            put_word(block, size - 16 + 4 * t, of(t) | of(t + 4) << 4);
        }
        if size == 22 {
            put_word(block, 2, take_fifths(&unit[288 + 32 * half + 4 * lane..]));
        }
    }
}
