//! Products of compact codes of vectors, for searching among millions of them.
//!
//! A vector has two codes: the signs of its numbers, a bit each, and its numbers as signed bytes. A search looks at all
//! signs and at the bytes of the best. Both products are sums of integers: every path gives the same.

// What is compiled for an instruction set must be part of the function that is.
#![allow(clippy::inline_always)]

use crate::cpu::simd_dispatch::{Isa, vectorized};

/// Bits of each number of a question, when it meets signs.
pub const PLANES: usize = 4;

/// A question cut into planes of bits: number `i` is the sum over `p` of bit `i` of plane `p`, times two to the `p`.
#[derive(Clone, Debug)]
pub struct Planes {
    /// One plane after the other, each as long as the code of a vector.
    bits: Vec<u64>,
    words: usize,
}

impl Planes {
    /// The planes of `levels`, which are below 16. There are as many as numbers in a vector.
    pub fn new(levels: &[u8]) -> Self {
        let words = words(levels.len());
        let mut bits = vec![0; PLANES * words];
        for (at, level) in levels.iter().enumerate() {
            for plane in 0..PLANES {
                bits[plane * words + at / 64] |= u64::from(level >> plane & 1) << (at % 64);
            }
        }
        Self { bits, words }
    }
}

/// 64-bit words of the signs of a vector of `numbers`.
pub fn words(numbers: usize) -> usize {
    numbers.div_ceil(64)
}

/// The signs of `vector` to `code`: a bit is set where a number is above zero.
pub fn encode_signs(code: &mut [u64], vector: &[f32]) {
    code.fill(0);
    for (at, number) in vector.iter().enumerate() {
        code[at / 64] |= u64::from(*number > 0.0) << (at % 64);
    }
}

/// `scores[i]` = the sum of the question's levels over the bits that are set in code `i` of `codes`.
pub fn sums_at_signs(scores: &mut [u32], codes: &[u64], question: &Planes) {
    assert_eq!(codes.len(), scores.len() * question.words, "a code for each score");
    signs(Isa::best(), scores, codes, &question.bits, question.words);
}

/// The product of two vectors of bytes of the same length.
pub fn product_of_bytes(a: &[i8], b: &[i8]) -> i32 {
    assert_eq!(a.len(), b.len(), "vectors of one length");
    bytes(Isa::best(), a, b)
}

/// `scores[i]` = the product of `question` and vector `places[i]` of `vectors`.
pub fn products_at(scores: &mut [i32], vectors: &[i8], places: &[u32], question: &[i8]) {
    assert_eq!(scores.len(), places.len(), "a place for each score");
    let isa = Isa::best();
    let length = question.len();
    for (score, place) in scores.iter_mut().zip(places) {
        *score = bytes(isa, &vectors[*place as usize * length..][..length], question);
    }
}

/// Words that are counted side by side.
const LANES: usize = 4;

/// Blocks of words until a sum of 16 bits could be full: a word adds at most 240 to each of its four.
const BLOCKS: usize = 256;

vectorized! {
    fn signs(scores: &mut [u32], codes: &[u64], planes: &[u64], words: usize) {
        let planes: Vec<[[u64; LANES]; PLANES]> = (0..words)
            .step_by(LANES)
            .map(|at| std::array::from_fn(|plane| lanes(&planes[plane * words..][..words], at)))
            .collect();
        for (score, code) in scores.iter_mut().zip(codes.chunks_exact(words)) {
            let (blocks, rest) = code.as_chunks::<LANES>();
            let mut total = 0;
            for (blocks, planes) in blocks.chunks(BLOCKS).zip(planes.chunks(BLOCKS)) {
                let mut sums = [0; LANES];
                for (block, planes) in blocks.iter().zip(planes) {
                    add_levels(&mut sums, block, planes);
                }
                total += folded(&sums);
            }
            if let (Some(planes), false) = (planes.last(), rest.is_empty()) {
                let mut sums = [0; LANES];
                add_levels(&mut sums, &lanes(rest, 0), planes);
                total += folded(&sums);
            }
            *score = total;
        }
    }
}

/// The words from `at` on; zeros behind the last.
fn lanes(words: &[u64], at: usize) -> [u64; LANES] {
    std::array::from_fn(|lane| words.get(at + lane).copied().unwrap_or(0))
}

/// Adds the levels over the bits that are set, in four sums of 16 bits in each lane. Bits are counted by arithmetic:
/// not every instruction set counts them in vectors.
#[inline(always)]
fn add_levels(sums: &mut [u64; LANES], code: &[u64; LANES], planes: &[[u64; LANES]; PLANES]) {
    let [one, two, four, eight] = planes;
    for lane in 0..LANES {
        let code = code[lane];
        // In each half byte up to 12, in each byte up to 24 and then 120.
        let low = in_half_bytes(code & one[lane]).wrapping_add(in_half_bytes(code & two[lane]) << 1);
        let high = in_half_bytes(code & four[lane]).wrapping_add(in_half_bytes(code & eight[lane]) << 1);
        let levels = in_bytes(low).wrapping_add(in_bytes(high) << 2);
        let pairs = (levels & 0x00FF_00FF_00FF_00FF).wrapping_add(levels >> 8 & 0x00FF_00FF_00FF_00FF);
        sums[lane] = sums[lane].wrapping_add(pairs);
    }
}

/// In each half byte how many of its bits are set.
#[inline(always)]
fn in_half_bytes(bits: u64) -> u64 {
    let pairs = bits.wrapping_sub(bits >> 1 & 0x5555_5555_5555_5555);
    (pairs & 0x3333_3333_3333_3333).wrapping_add(pairs >> 2 & 0x3333_3333_3333_3333)
}

/// In each byte the sum of its halves.
#[inline(always)]
fn in_bytes(halves: u64) -> u64 {
    (halves & 0x0F0F_0F0F_0F0F_0F0F).wrapping_add(halves >> 4 & 0x0F0F_0F0F_0F0F_0F0F)
}

/// All sums of 16 bits together.
#[inline(always)]
fn folded(sums: &[u64; LANES]) -> u32 {
    sums.iter().map(|sum| (0..4).map(|part| (sum >> (16 * part) & 0xFFFF) as u32).sum::<u32>()).sum()
}

vectorized! {
    fn bytes(a: &[i8], b: &[i8]) -> i32 {
        let mut sum = 0_i32;
        for (a, b) in a.iter().zip(b) {
            sum += i32::from(*a) * i32::from(*b);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: u64) -> Vec<u32> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u32
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn sums_at_signs_equal_plain_sums() {
        for length in [1, 63, 64, 65, 256, 257, 768, 1000, 70_001] {
            let levels: Vec<u8> = numbers(length, 1).iter().map(|n| (n % 16) as u8).collect();
            let vectors: Vec<Vec<f32>> =
                (0..5).map(|v| numbers(length, 7 + v).iter().map(|n| (n % 9) as f32 - 4.0).collect()).collect();
            let mut codes = vec![0; 5 * words(length)];
            for (code, vector) in codes.chunks_mut(words(length)).zip(&vectors) {
                encode_signs(code, vector);
            }
            let mut scores = vec![0; 5];
            sums_at_signs(&mut scores, &codes, &Planes::new(&levels));
            for (score, vector) in scores.iter().zip(&vectors) {
                let plain: u32 =
                    vector.iter().zip(&levels).filter(|(v, _)| **v > 0.0).map(|(_, l)| u32::from(*l)).sum();
                assert_eq!(*score, plain, "length {length}");
            }
        }
    }

    #[test]
    fn products_of_bytes_equal_plain_sums() {
        for length in [1, 31, 768, 4096] {
            let a: Vec<i8> = numbers(length, 3).iter().map(|n| *n as i8).collect();
            let b: Vec<i8> = vec![-128; length];
            let plain: i64 = a.iter().zip(&b).map(|(a, b)| i64::from(*a) * i64::from(*b)).sum();
            assert_eq!(i64::from(product_of_bytes(&a, &b)), plain);
            let mut scores = [0; 2];
            products_at(&mut scores, &[&a[..], &b].concat(), &[1, 0], &b);
            assert_eq!(i64::from(scores[1]), plain);
        }
    }
}
