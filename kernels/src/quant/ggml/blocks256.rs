//! The block types of 256 elements ("K"): where the bits of a block lie, in both directions.
//!
//! A block has sub-blocks of 16 or 32 elements with small integer scales (and minima), and one f16
//! that scales the scales (and one for the minima). `codes` below are in the order of the elements.

use super::blocks32::half_at;
use half::f16;

/// Elements of a block.
pub(crate) const LEN: usize = 256;

#[inline(always)]
fn put_half(block: &mut [u8], at: usize, x: f16) {
    block[at..at + 2].copy_from_slice(&x.to_le_bytes());
}

/// Eight scales and eight minima of six bits in twelve bytes: the lower four pairs whole, of the upper
/// four the low nibbles in the last four bytes and the high bits in the top of the first eight.
#[inline(always)]
pub(crate) fn six_bit_pairs(s: &[u8]) -> ([u8; 8], [u8; 8]) {
    let (mut scales, mut mins) = ([0; 8], [0; 8]);
    for j in 0..4 {
        scales[j] = s[j] & 63;
        mins[j] = s[j + 4] & 63;
        scales[j + 4] = s[j + 8] & 15 | s[j] >> 6 << 4;
        mins[j + 4] = s[j + 8] >> 4 | s[j + 4] >> 6 << 4;
    }
    (scales, mins)
}

#[inline(always)]
pub(crate) fn put_six_bit_pairs(s: &mut [u8], scales: &[u8; 8], mins: &[u8; 8]) {
    for j in 0..4 {
        s[j] = scales[j] | scales[j + 4] >> 4 << 6;
        s[j + 4] = mins[j] | mins[j + 4] >> 4 << 6;
        s[j + 8] = scales[j + 4] & 15 | mins[j + 4] << 4;
    }
}

/// Sixteen scales of six bits in twelve bytes: nibbles of the first eight, two high bits in the last four.
#[inline(always)]
fn six_bits(s: &[u8]) -> [u8; 16] {
    std::array::from_fn(|j| {
        let low = if j < 8 { s[j] & 15 } else { s[j - 8] >> 4 };
        low | (s[8 + j % 4] >> (2 * (j / 4)) & 3) << 4
    })
}

#[inline(always)]
fn put_six_bits(s: &mut [u8], scales: &[u8; 16]) {
    for j in 0..8 {
        s[j] = scales[j] & 15 | scales[j + 8] << 4;
    }
    for j in 0..4 {
        s[8 + j] = scales[j] >> 4 | scales[j + 4] >> 4 << 2 | scales[j + 8] >> 4 << 4 | scales[j + 12] >> 4 << 6;
    }
}

/// `d·sc·q - dmin·m`; both halves of 128 keep element `32s + l` in bits `2s` and `2s + 1` of byte `l`.
#[inline(always)]
pub(crate) fn decode_q2_k(b: &[u8; 84], out: &mut [f32; LEN]) {
    let (d, dmin) = (half_at(b, 80), half_at(b, 82));
    for (i, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let (scale, min) = (d * f32::from(b[i] & 15), dmin * f32::from(b[i] >> 4));
        let shift = 2 * (i / 2 % 4);
        let q = &b[16 + 32 * (i / 8) + 16 * (i % 2)..];
        for (y, q) in out.iter_mut().zip(q) {
            *y = scale * f32::from(q >> shift & 3) - min;
        }
    }
}

/// `d·(sc - 32)·(q - 4)`; two bits as in `Q2_K`, the third in bit `element / 32` of byte `element % 32`.
#[inline(always)]
pub(crate) fn decode_q3_k(b: &[u8; 110], out: &mut [f32; LEN]) {
    let d = half_at(b, 108);
    let scales = six_bits(&b[96..108]);
    for (i, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = d * f32::from(scales[i] as i8 - 32);
        let shift = 2 * (i / 2 % 4);
        let q = &b[32 + 32 * (i / 8) + 16 * (i % 2)..];
        let high = &b[16 * (i % 2)..];
        for ((y, q), high) in out.iter_mut().zip(q).zip(high) {
            let q = q >> shift & 3 | (high >> (i / 2) & 1) << 2;
            *y = scale * f32::from(q as i8 - 4);
        }
    }
}

/// `d·sc·q - dmin·m`; 32 low nibbles and then 32 high ones of every 32 bytes.
#[inline(always)]
pub(crate) fn decode_q4_k(b: &[u8; 144], out: &mut [f32; LEN]) {
    let (d, dmin) = (half_at(b, 0), half_at(b, 2));
    let (scales, mins) = six_bit_pairs(&b[4..16]);
    for (i, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, min) = (d * f32::from(scales[i]), dmin * f32::from(mins[i]));
        let shift = 4 * (i % 2);
        for (y, q) in out.iter_mut().zip(&b[16 + 32 * (i / 2)..]) {
            *y = scale * f32::from(q >> shift & 15) - min;
        }
    }
}

/// As `Q4_K`; the fifth bit of element `32i + l` is bit `i` of byte `l` of those before the nibbles.
#[inline(always)]
pub(crate) fn decode_q5_k(b: &[u8; 176], out: &mut [f32; LEN]) {
    let (d, dmin) = (half_at(b, 0), half_at(b, 2));
    let (scales, mins) = six_bit_pairs(&b[4..16]);
    for (i, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, min) = (d * f32::from(scales[i]), dmin * f32::from(mins[i]));
        let shift = 4 * (i % 2);
        for ((y, q), high) in out.iter_mut().zip(&b[48 + 32 * (i / 2)..]).zip(&b[16..48]) {
            let q = q >> shift & 15 | (high >> i & 1) << 4;
            *y = scale * f32::from(q) - min;
        }
    }
}

/// `d·sc·(q - 32)`. Of each half of 128: elements `l` and `64 + l` share byte `l` of 64, `32 + l` and
/// `96 + l` byte `32 + l`; the high bits of the four are in byte `l` of 32.
#[inline(always)]
pub(crate) fn decode_q6_k(b: &[u8; 210], out: &mut [f32; LEN]) {
    let d = half_at(b, 208);
    for (i, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = d * f32::from(b[192 + i] as i8);
        let (half, quarter, l) = (i / 8, i / 2 % 4, 16 * (i % 2));
        let low = &b[64 * half + 32 * (quarter % 2) + l..];
        let high = &b[128 + 32 * half + l..];
        let (low_shift, high_shift) = (4 * (quarter / 2), 2 * quarter);
        for ((y, low), high) in out.iter_mut().zip(low).zip(high) {
            let q = low >> low_shift & 15 | (high >> high_shift & 3) << 4;
            *y = scale * f32::from(q as i8 - 32);
        }
    }
}

/// Two bits of every code, as `Q2_K` and `Q3_K` keep them.
#[inline(always)]
fn put_two_bits(bytes: &mut [u8], codes: &[u8; LEN]) {
    for (bytes, codes) in bytes.as_chunks_mut::<32>().0.iter_mut().zip(codes.as_chunks::<128>().0) {
        for (l, byte) in bytes.iter_mut().enumerate() {
            *byte = codes[l] & 3 | (codes[l + 32] & 3) << 2 | (codes[l + 64] & 3) << 4 | (codes[l + 96] & 3) << 6;
        }
    }
}

/// The low nibbles of 64 codes after the other, as `Q4_K` and `Q5_K` keep them.
#[inline(always)]
fn put_nibbles(bytes: &mut [u8], codes: &[u8; LEN]) {
    for (bytes, codes) in bytes.as_chunks_mut::<32>().0.iter_mut().zip(codes.as_chunks::<64>().0) {
        for (l, byte) in bytes.iter_mut().enumerate() {
            *byte = codes[l] & 15 | codes[l + 32] << 4;
        }
    }
}

/// Bit `bit` of code `32i + l` as bit `i` of byte `l`.
#[inline(always)]
fn put_plane(bytes: &mut [u8], codes: &[u8; LEN], bit: u32) {
    bytes.fill(0);
    for (i, codes) in codes.as_chunks::<32>().0.iter().enumerate() {
        for (byte, &code) in bytes.iter_mut().zip(codes) {
            *byte |= (code >> bit & 1) << i;
        }
    }
}

/// A block of `Q2_K`; scales and minima are below 16.
#[inline(always)]
pub(crate) fn pack_q2_k(b: &mut [u8; 84], d: f16, dmin: f16, scales: &[u8; 16], mins: &[u8; 16], codes: &[u8; LEN]) {
    for (byte, (&scale, &min)) in b.iter_mut().zip(scales.iter().zip(mins)) {
        *byte = scale | min << 4;
    }
    put_two_bits(&mut b[16..80], codes);
    put_half(b, 80, d);
    put_half(b, 82, dmin);
}

/// A block of `Q3_K`; scales are below 64 with 32 standing for 0, codes below 8 with 4 standing for 0.
#[inline(always)]
pub(crate) fn pack_q3_k(b: &mut [u8; 110], d: f16, scales: &[u8; 16], codes: &[u8; LEN]) {
    put_plane(&mut b[..32], codes, 2);
    put_two_bits(&mut b[32..96], codes);
    put_six_bits(&mut b[96..108], scales);
    put_half(b, 108, d);
}

/// A block of `Q4_K`; scales and minima are below 64.
#[inline(always)]
pub(crate) fn pack_q4_k(b: &mut [u8; 144], d: f16, dmin: f16, scales: &[u8; 8], mins: &[u8; 8], codes: &[u8; LEN]) {
    put_half(b, 0, d);
    put_half(b, 2, dmin);
    put_six_bit_pairs(&mut b[4..16], scales, mins);
    put_nibbles(&mut b[16..], codes);
}

/// A block of `Q5_K`; scales and minima are below 64.
#[inline(always)]
pub(crate) fn pack_q5_k(b: &mut [u8; 176], d: f16, dmin: f16, scales: &[u8; 8], mins: &[u8; 8], codes: &[u8; LEN]) {
    put_half(b, 0, d);
    put_half(b, 2, dmin);
    put_six_bit_pairs(&mut b[4..16], scales, mins);
    put_plane(&mut b[16..48], codes, 4);
    put_nibbles(&mut b[48..], codes);
}

/// A block of `Q6_K`; scales are two's complement, codes below 64 with 32 standing for 0.
#[inline(always)]
pub(crate) fn pack_q6_k(b: &mut [u8; 210], d: f16, scales: &[u8; 16], codes: &[u8; LEN]) {
    let (low, rest) = b.split_at_mut(128);
    let high = &mut rest[..64];
    for (half, codes) in codes.as_chunks::<128>().0.iter().enumerate() {
        for l in 0..64 {
            low[64 * half + l] = codes[l] & 15 | codes[l + 64] << 4;
        }
        for l in 0..32 {
            high[32 * half + l] =
                codes[l] >> 4 | codes[l + 32] >> 4 << 2 | codes[l + 64] >> 4 << 4 | codes[l + 96] >> 4 << 6;
        }
    }
    b[192..208].copy_from_slice(scales);
    put_half(b, 208, d);
}
