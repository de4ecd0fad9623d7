//! Blocks of a GGUF file and 4-bit codes into rows side by side, and back: `interleaved.rs` says where what lies.
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

/// A row among those of a strip.
#[derive(Clone, Copy)]
pub(super) struct Lane {
    /// Which.
    pub(super) row: usize,
    /// For how many times eight rows there is room.
    pub(super) wide: usize,
}

impl Lane {
    /// Where four bytes of this row are in what would begin at `place` if there were eight rows.
    pub(super) fn four(self, place: usize) -> usize {
        place * self.wide + 4 * self.row
    }

    /// The same of two bytes.
    pub(super) fn two(self, place: usize) -> usize {
        place * self.wide + 2 * self.row
    }

    /// Four bytes of this row out of each of the vectors from `place` on.
    #[inline(always)]
    fn words<const N: usize>(self, unit: &[u8], place: usize) -> [u32; N] {
        let mut words = [0; N];
        for (word, vector) in words.iter_mut().zip(unit[place * self.wide..].chunks_exact(32 * self.wide)) {
            *word = self::word(vector, 4 * self.row);
        }
        words
    }
}

/// Words one behind the other.
#[inline(always)]
fn put_words<const N: usize>(bytes: &mut [u8], words: [u32; N]) {
    for (to, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
        *to = word.to_le_bytes();
    }
}

/// One unit of a row as it is stored into its place.
pub(super) fn put(kind: GgmlType, unit: &mut [u8], lane: Lane, stored: &[u8]) {
    match kind {
        GgmlType::Q4K | GgmlType::Q5K => put_with_minima(kind, unit, lane, stored),
        GgmlType::Q6K => put_q6_k(unit, lane, stored),
        _ => put_pair(unit, lane, stored),
    }
}

/// The way back.
pub(super) fn take(kind: GgmlType, stored: &mut [u8], lane: Lane, unit: &[u8]) {
    match kind {
        GgmlType::Q4K | GgmlType::Q5K => take_with_minima(kind, stored, lane, unit),
        GgmlType::Q6K => take_q6_k(stored, lane, unit),
        _ => take_pair(stored, lane, unit),
    }
}

/// 64 codes, two a byte, the first in the high half, into their place; a scale before them.
pub(super) fn put_four_bit(unit: &mut [u8], lane: Lane, stored: &[u8], scale: f32) {
    put_word(unit, lane.four(0), scale.to_bits());
    let four = |word: usize| {
        let [a, b] = [stored[2 * word], stored[2 * word + 1]];
        u32::from_le_bytes([a >> 4, a & 15, b >> 4, b & 15])
    };
    for t in 0..8 {
        put_word(unit, lane.four(32 + 32 * t), four(t) | four(t + 8) << 4);
    }
}

/// What the values of these codes are multiplied with.
pub(super) fn scale_of_four_bit(unit: &[u8], lane: Lane) -> f32 {
    f32::from_bits(word(unit, lane.four(0)))
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

fn put_with_minima(kind: GgmlType, unit: &mut [u8], lane: Lane, stored: &[u8]) {
    unit[lane.two(0)..][..2].copy_from_slice(&stored[..2]);
    unit[lane.two(16)..][..2].copy_from_slice(&stored[2..4]);
    let (scales, mins) = six_bit_pairs(&stored[4..16]);
    for g in 0..4 {
        let group = 32 + group_of_minima(kind) * g;
        unit[lane.two(group)..][..2].copy_from_slice(&scales[2 * g..2 * g + 2]);
        unit[lane.two(group + 16)..][..2].copy_from_slice(&mins[2 * g..2 * g + 2]);
        for t in 0..8 {
            put_word(unit, lane.four(group + 32 + 32 * t), word(stored, nibbles_of(kind) + 32 * g + 4 * t));
        }
        if kind == GgmlType::Q5K {
            for half in 0..2 {
                // A byte has a bit of the same place in every half group.
                let bits = (0..32).map(|i| u32::from(stored[16 + i] >> (2 * g + half) & 1) << i);
                put_fifths(&mut unit[lane.four(group + 288 + 32 * half)..], bits.sum());
            }
        }
    }
}

fn take_with_minima(kind: GgmlType, stored: &mut [u8], lane: Lane, unit: &[u8]) {
    stored[..2].copy_from_slice(&unit[lane.two(0)..][..2]);
    stored[2..4].copy_from_slice(&unit[lane.two(16)..][..2]);
    stored[16..nibbles_of(kind)].fill(0);
    let (mut scales, mut mins) = ([0; 8], [0; 8]);
    for g in 0..4 {
        let group = 32 + group_of_minima(kind) * g;
        scales[2 * g..2 * g + 2].copy_from_slice(&unit[lane.two(group)..][..2]);
        mins[2 * g..2 * g + 2].copy_from_slice(&unit[lane.two(group + 16)..][..2]);
        put_words(&mut stored[nibbles_of(kind) + 32 * g..], lane.words::<8>(unit, group + 32));
        if kind == GgmlType::Q5K {
            for half in 0..2 {
                let fifths = take_fifths(&unit[lane.four(group + 288 + 32 * half)..]);
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

fn put_q6_k(unit: &mut [u8], lane: Lane, stored: &[u8]) {
    let d = super::source::widen_f16(u16::from_le_bytes([stored[208], stored[209]]));
    put_word(unit, lane.four(0), d.to_bits());
    for g in 0..4 {
        let group = 32 + 416 * g;
        for part in 0..4 {
            unit[lane.two(group + 16 * (part / 2)) + part % 2] = stored[192 + 4 * g + part];
        }
        let [low, high] = words_of_q6_k(stored, g);
        for t in 0..8 {
            put_word(unit, lane.four(group + 32 + 32 * t), low[t] | low[t + 8] << 4);
        }
        for t in 0..4 {
            let bits = high[t] | high[t + 4] << 2 | high[t + 8] << 4 | high[t + 12] << 6;
            put_word(unit, lane.four(group + 288 + 32 * t), bits);
        }
    }
}

fn take_q6_k(stored: &mut [u8], lane: Lane, unit: &[u8]) {
    // An f16 is one of these numbers, so the way back is exact.
    let d = half::f16::from_f32(f32::from_bits(word(unit, lane.four(0))));
    stored[208..210].copy_from_slice(&d.to_le_bytes());
    let (mut all_low, mut all_high) = ([0; 32], [0; 16]);
    for g in 0..4 {
        let group = 32 + 416 * g;
        for part in 0..4 {
            stored[192 + 4 * g + part] = unit[lane.two(group + 16 * (part / 2)) + part % 2];
        }
        let (half, shift) = (g / 2, 4 * (g % 2));
        let (low, high) = (lane.words::<8>(unit, group + 32), lane.words::<4>(unit, group + 288));
        for t in 0..16 {
            all_low[16 * half + t] |= (low[t % 8] >> (4 * (t / 8)) & LOW) << shift;
            all_high[8 * half + t % 8] |= (high[t % 4] >> (2 * (t / 4)) & TWO) << (shift + 2 * (t / 8));
        }
    }
    put_words(stored, all_low);
    put_words(&mut stored[128..192], all_high);
}

/// Two blocks of `Q5_0`, which are a scale, fifth bits and low halves, or of `Q4_0`, which have no fifth bits.
fn put_pair(unit: &mut [u8], lane: Lane, stored: &[u8]) {
    let mut words = [[0; 8]; 2];
    let size = stored.len() / 2;
    for (half, block) in stored.chunks_exact(size).enumerate() {
        unit[lane.two(16 * half)..][..2].copy_from_slice(&block[..2]);
        for (t, to) in words[half].iter_mut().enumerate() {
            *to = word(block, size - 16 + 4 * (t % 4)) >> (4 * (t / 4)) & LOW;
        }
        if size == 22 {
            put_fifths(&mut unit[lane.four(288 + 32 * half)..], word(block, 2));
        }
    }
    let [first, second] = words;
    for (t, (first, second)) in first.into_iter().zip(second).enumerate() {
        put_word(unit, lane.four(32 + 32 * t), first | second << 4);
    }
}

fn take_pair(stored: &mut [u8], lane: Lane, unit: &[u8]) {
    let size = stored.len() / 2;
    let words = lane.words::<8>(unit, 32);
    for (half, block) in stored.chunks_exact_mut(size).enumerate() {
        block[..2].copy_from_slice(&unit[lane.two(16 * half)..][..2]);
        for t in 0..4 {
            let of = |t: usize| words[t] >> (4 * half) & LOW;
            put_word(block, size - 16 + 4 * t, of(t) | of(t + 4) << 4);
        }
        if size == 22 {
            put_word(block, 2, take_fifths(&unit[lane.four(288 + 32 * half)..]));
        }
    }
}
