//! The block types of 32 elements: where the bits of a block lie, in both directions.
//!
//! Element `j` of the first half is the low nibble of byte `j`, element `16 + j` its high one. A scale
//! is an f16 at the beginning, a minimum another one behind it; the fifth bits are a little-endian u32.

use half::f16;

/// Elements of a block.
pub(crate) const LEN: usize = 32;

/// What the 16 codes of `IQ4_NL` stand for: steps that grow away from zero, more of them below than above.
pub(crate) const IQ4_NL: [f32; 16] =
    [-127., -104., -83., -65., -49., -35., -22., -10., 1., 13., 25., 38., 53., 69., 89., 113.];

/// The f16 at `at`.
#[inline(always)]
pub(crate) fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

#[inline(always)]
fn put_half(block: &mut [u8], at: usize, x: f16) {
    block[at..at + 2].copy_from_slice(&x.to_le_bytes());
}

/// The low nibbles of `q`, then the high ones.
#[inline(always)]
fn nibbles(q: &[u8; 16]) -> [u8; LEN] {
    let mut out = [0; LEN];
    for (j, &q) in q.iter().enumerate() {
        out[j] = q & 15;
        out[j + 16] = q >> 4;
    }
    out
}

/// [`nibbles`], and bit `j` of `high` as the fifth bit of element `j`.
#[inline(always)]
fn five_bits(q: &[u8; 16], high: [u8; 4]) -> [u8; LEN] {
    let high = u32::from_le_bytes(high);
    let mut out = nibbles(q);
    for (j, out) in out.iter_mut().enumerate() {
        *out |= ((high >> j & 1) as u8) << 4;
    }
    out
}

#[inline(always)]
fn sixteen(q: &[u8]) -> &[u8; 16] {
    q.first_chunk().expect("the codes of a block are 16 bytes")
}

/// `d·(q - 8)`
#[inline(always)]
pub(crate) fn decode_q4_0(b: &[u8; 18], out: &mut [f32; LEN]) {
    let d = half_at(b, 0);
    for (y, q) in out.iter_mut().zip(nibbles(sixteen(&b[2..]))) {
        *y = d * f32::from(q as i8 - 8);
    }
}

/// `d·q + m`
#[inline(always)]
pub(crate) fn decode_q4_1(b: &[u8; 20], out: &mut [f32; LEN]) {
    let (d, m) = (half_at(b, 0), half_at(b, 2));
    for (y, q) in out.iter_mut().zip(nibbles(sixteen(&b[4..]))) {
        *y = d * f32::from(q) + m;
    }
}

/// `d·(q - 16)`
#[inline(always)]
pub(crate) fn decode_q5_0(b: &[u8; 22], out: &mut [f32; LEN]) {
    let d = half_at(b, 0);
    for (y, q) in out.iter_mut().zip(five_bits(sixteen(&b[6..]), [b[2], b[3], b[4], b[5]])) {
        *y = d * f32::from(q as i8 - 16);
    }
}

/// `d·q + m`
#[inline(always)]
pub(crate) fn decode_q5_1(b: &[u8; 24], out: &mut [f32; LEN]) {
    let (d, m) = (half_at(b, 0), half_at(b, 2));
    for (y, q) in out.iter_mut().zip(five_bits(sixteen(&b[8..]), [b[4], b[5], b[6], b[7]])) {
        *y = d * f32::from(q) + m;
    }
}

/// `d·q`
#[inline(always)]
pub(crate) fn decode_q8_0(b: &[u8; 34], out: &mut [f32; LEN]) {
    let d = half_at(b, 0);
    for (y, &q) in out.iter_mut().zip(&b[2..]) {
        *y = d * f32::from(q as i8);
    }
}

/// `d·table[q]`
#[inline(always)]
pub(crate) fn decode_iq4_nl(b: &[u8; 18], out: &mut [f32; LEN]) {
    let d = half_at(b, 0);
    for (y, q) in out.iter_mut().zip(nibbles(sixteen(&b[2..]))) {
        *y = d * IQ4_NL[usize::from(q)];
    }
}

#[inline(always)]
fn put_nibbles(block: &mut [u8], codes: &[u8; LEN]) {
    for (j, byte) in block.iter_mut().enumerate() {
        *byte = codes[j] & 15 | codes[j + 16] << 4;
    }
}

#[inline(always)]
fn fifth_bits(codes: &[u8; LEN]) -> [u8; 4] {
    codes.iter().enumerate().fold(0u32, |bits, (j, &q)| bits | u32::from(q >> 4) << j).to_le_bytes()
}

/// A block of scale and nibbles: `Q4_0` and `IQ4_NL`.
#[inline(always)]
pub(crate) fn pack_four(b: &mut [u8; 18], d: f16, codes: &[u8; LEN]) {
    put_half(b, 0, d);
    put_nibbles(&mut b[2..], codes);
}

/// A block of `Q4_1`.
#[inline(always)]
pub(crate) fn pack_q4_1(b: &mut [u8; 20], d: f16, m: f16, codes: &[u8; LEN]) {
    put_half(b, 0, d);
    put_half(b, 2, m);
    put_nibbles(&mut b[4..], codes);
}

/// A block of `Q5_0`.
#[inline(always)]
pub(crate) fn pack_q5_0(b: &mut [u8; 22], d: f16, codes: &[u8; LEN]) {
    put_half(b, 0, d);
    b[2..6].copy_from_slice(&fifth_bits(codes));
    put_nibbles(&mut b[6..], codes);
}

/// A block of `Q5_1`.
#[inline(always)]
pub(crate) fn pack_q5_1(b: &mut [u8; 24], d: f16, m: f16, codes: &[u8; LEN]) {
    put_half(b, 0, d);
    put_half(b, 2, m);
    b[4..8].copy_from_slice(&fifth_bits(codes));
    put_nibbles(&mut b[8..], codes);
}

/// A block of `Q8_0`; codes are two's complement.
#[inline(always)]
pub(crate) fn pack_q8_0(b: &mut [u8; 34], d: f16, codes: &[u8; LEN]) {
    put_half(b, 0, d);
    b[2..].copy_from_slice(codes);
}
