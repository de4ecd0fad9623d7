//! Loops over rows of bf16 with 512-bit vectors and the instruction that rounds to them. Subnormal numbers, which products
//! take for zero, become it where they are rounded; all others have the bits of the plain loop, in any place of a row.

use super::gemm::Epilogue;
use super::numbers::Half;
use super::simd_avx512::{LANES, NR, load, store};
use super::simd_avx512_rows::{exp, first, load_rest};
use super::simd_avx512bf16::Avx512Bf16;
use super::tiles::{BLOCK, SIDE};
use crate::backend::Write;
use std::arch::x86_64::{
    __m256bh, __m256i, __m512, __m512bh, __m512i, _mm256_loadu_si256, _mm256_mask_storeu_epi16,
    _mm256_maskz_loadu_epi16, _mm256_storeu_si256, _mm512_add_ps, _mm512_castsi512_ps, _mm512_cvtepu16_epi32,
    _mm512_cvtne2ps_pbh, _mm512_cvtneps_pbh, _mm512_div_ps, _mm512_mask_add_ps, _mm512_mul_ps, _mm512_or_si512,
    _mm512_permutexvar_epi16, _mm512_set1_ps, _mm512_setzero_ps, _mm512_slli_epi32, _mm512_storeu_ps, _mm512_sub_ps,
};

#[expect(clippy::unused_self, reason = "the receiver is the proof")]
impl Avx512Bf16 {
    /// `x` rounded to the nearest, ties to even.
    pub(super) fn round_half(self, out: &mut [Half], x: &[f32]) {
        let n = out.len().min(x.len());
        // SAFETY: `self` proves the features the function is compiled for.
        unsafe { round_half(&mut out[..n], &x[..n]) };
    }

    /// `row (=|+=) alpha·sums + bias`, rounded once.
    pub(super) fn finish(self, row: &mut [Half], sums: &[f32], epilogue: Epilogue) {
        // SAFETY: `self` proves the features the function is compiled for.
        unsafe { finish(row, sums, epilogue) };
    }

    /// `forward_rounded` of `gated.rs` with `Activation::Silu`.
    pub(super) fn silu(self, h: &mut [Half], kept: [&mut [Half]; 2], gate_up: [&[f32]; 2]) {
        let n = h.len();
        let (kept, gate_up) = (kept.map(|row| &mut row[..n]), gate_up.map(|row| &row[..n]));
        // SAFETY: `self` proves the features the function is compiled for.
        unsafe { silu(h, kept, gate_up) };
    }

    /// `backward_rounded` of `gated.rs` with `Activation::Silu`.
    pub(super) fn silu_bwd(self, gradients: [&mut [Half]; 2], h: &mut [Half], dh: &[f32], gate_up: [&[Half]; 2]) {
        let n = h.len();
        let (gradients, gate_up) = (gradients.map(|row| &mut row[..n]), gate_up.map(|row| &row[..n]));
        // SAFETY: `self` proves the features the function is compiled for.
        unsafe { silu_bwd(gradients, h, &dh[..n], gate_up) };
    }

    /// Pairs of so many times two rows, `stride` numbers after each other, as steps of whole panels of 32 lanes.
    pub(super) fn spread_numbers(self, rows: &[f32], stride: usize, panels: &mut [&mut [f32]]) {
        let pairs = panels.first().map_or(0, |panel| panel.len() / NR);
        for d in 0..pairs {
            let [low, high] = [2 * d, 2 * d + 1].map(|row| rows[row * stride..][..NR * panels.len()].as_chunks().0);
            // SAFETY: `self` proves the features the function is compiled for.
            unsafe { spread_numbers(low, high, d, panels) };
        }
    }

    /// Eight pairs of rows, `stride` numbers after each other, the first `lanes` of each: no more than a block has.
    pub(super) fn pair_steps(self, rows: &[f32], stride: usize, lanes: usize, out: &mut [[f32; BLOCK]; 8]) {
        for (i, out) in out.iter_mut().enumerate() {
            let [low, high] = [2 * i, 2 * i + 1].map(|row| &rows[row * stride..][..lanes]);
            // SAFETY: `self` proves the features the function is compiled for.
            unsafe { pair_step(out, low, high) };
        }
    }

    /// The same of rows of bf16.
    pub(super) fn join_steps(self, rows: &[Half], stride: usize, lanes: usize, out: &mut [[f32; BLOCK]; 8]) {
        for (i, out) in out.iter_mut().enumerate() {
            let [low, high] = [2 * i, 2 * i + 1].map(|row| &rows[row * stride..][..lanes]);
            // SAFETY: `self` proves the features the function is compiled for.
            unsafe { join_step(out, low, high) };
        }
    }

    /// Whole rows of squares of `height` rows: `x`, rounded, is row `row` of them. What is left over of it.
    pub(super) fn square_row<'a>(self, squares: &mut [f32], height: usize, row: usize, x: &'a [f32]) -> &'a [f32] {
        let (whole, rest) = x.as_chunks();
        assert!(row < height && squares.len() >= whole.len() * height * SIDE, "room for all squares");
        // SAFETY: `self` proves the features the function is compiled for.
        unsafe { square_row(squares, height, row, whole) };
        rest
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn rounded(x: __m512) -> __m256i {
    // SAFETY: both types are 32 bytes, of which every content is valid.
    unsafe { std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x)) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn widened(x: __m256i) -> __m512 {
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(x)))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_half(from: &[Half; LANES]) -> __m256i {
    // SAFETY: the reference covers the 32 bytes that an unaligned load reads.
    unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_half(to: &mut [Half; LANES], x: __m256i) {
    // SAFETY: the reference covers the 32 bytes that an unaligned store writes.
    unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), x) }
}

#[inline]
#[target_feature(enable = "avx512bw,avx512vl")]
fn load_half_rest(rest: &[Half]) -> __m256i {
    // SAFETY: what is masked is not read.
    unsafe { _mm256_maskz_loadu_epi16(first(rest.len()), rest.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512bw,avx512vl")]
fn store_half_rest(rest: &mut [Half], x: __m256i) {
    // SAFETY: what is masked is not written.
    unsafe { _mm256_mask_storeu_epi16(rest.as_mut_ptr().cast(), first(rest.len()), x) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn round_half(out: &mut [Half], x: &[f32]) {
    let ((out, out_rest), (x, x_rest)) = (out.as_chunks_mut(), x.as_chunks());
    for (out, x) in out.iter_mut().zip(x) {
        store_half(out, rounded(load(x)));
    }
    if !out_rest.is_empty() {
        store_half_rest(out_rest, rounded(load_rest(x_rest)));
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn finish(y: &mut [Half], sums: &[f32], Epilogue { alpha, bias, write }: Epilogue) {
    let alpha = _mm512_set1_ps(alpha);
    let (added, biased) = (if write == Write::Add { !0 } else { 0 }, if bias.is_some() { !0 } else { 0 });
    let ((whole, rest), (sums, sums_rest)) = (y.as_chunks_mut::<LANES>(), sums.as_chunks::<LANES>());
    let (biases, bias_rest) = bias.unwrap_or_default().as_chunks::<LANES>();
    let new = |old: __m512, sum: __m512, bias: __m512| {
        let sum = _mm512_mul_ps(alpha, sum);
        let new = _mm512_mask_add_ps(sum, added, old, sum);
        rounded(_mm512_mask_add_ps(new, biased, new, bias))
    };
    for (i, (y, sum)) in whole.iter_mut().zip(sums).enumerate() {
        let bias = biases.get(i).map_or(_mm512_setzero_ps(), |bias| load(bias));
        let old = if write == Write::Add { widened(load_half(y)) } else { _mm512_setzero_ps() };
        store_half(y, new(old, load(sum), bias));
    }
    if !rest.is_empty() {
        let sum = sums.get(whole.len()).map_or(sums_rest, <[f32; LANES]>::as_slice);
        let new = new(widened(load_half_rest(rest)), load_rest(&sum[..rest.len()]), load_rest(bias_rest));
        store_half_rest(rest, new);
    }
}

/// `1 / (1 + e^-x)`
#[inline]
#[target_feature(enable = "avx512f")]
fn sigmoid(x: __m512) -> __m512 {
    let one = _mm512_set1_ps(1.0);
    _mm512_div_ps(one, _mm512_add_ps(one, exp(_mm512_mul_ps(x, _mm512_set1_ps(-1.0)))))
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn silu(h: &mut [Half], [kept_gate, kept_up]: [&mut [Half]; 2], [gate, up]: [&[f32]; 2]) {
    let all = |gate: __m512, up: __m512| {
        let (kept_gate, kept_up) = (rounded(gate), rounded(up));
        let (gate, up) = (widened(kept_gate), widened(kept_up));
        (kept_gate, kept_up, rounded(_mm512_mul_ps(_mm512_mul_ps(gate, sigmoid(gate)), up)))
    };
    let (h, h_rest) = h.as_chunks_mut();
    let ((kept_gate, kept_gate_rest), (kept_up, kept_up_rest)) = (kept_gate.as_chunks_mut(), kept_up.as_chunks_mut());
    let ((gate, gate_rest), (up, up_rest)) = (gate.as_chunks(), up.as_chunks());
    for ((h, (kept_gate, kept_up)), (gate, up)) in
        h.iter_mut().zip(kept_gate.iter_mut().zip(kept_up)).zip(gate.iter().zip(up))
    {
        let new = all(load(gate), load(up));
        store_half(kept_gate, new.0);
        store_half(kept_up, new.1);
        store_half(h, new.2);
    }
    if !h_rest.is_empty() {
        let new = all(load_rest(gate_rest), load_rest(up_rest));
        store_half_rest(kept_gate_rest, new.0);
        store_half_rest(kept_up_rest, new.1);
        store_half_rest(h_rest, new.2);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn silu_bwd([dgate, dup]: [&mut [Half]; 2], h: &mut [Half], dh: &[f32], [gate, up]: [&[Half]; 2]) {
    let one = _mm512_set1_ps(1.0);
    let all = |dh: __m512, gate: __m256i, up: __m256i| {
        let (x, up) = (widened(gate), widened(up));
        let s = sigmoid(x);
        let value = _mm512_mul_ps(x, s);
        let slope = _mm512_mul_ps(s, _mm512_add_ps(one, _mm512_mul_ps(x, _mm512_sub_ps(one, s))));
        let dgate = _mm512_mul_ps(slope, _mm512_mul_ps(dh, up));
        (rounded(dgate), rounded(_mm512_mul_ps(value, dh)), rounded(_mm512_mul_ps(value, up)))
    };
    let ((dgate, dgate_rest), (dup, dup_rest)) = (dgate.as_chunks_mut(), dup.as_chunks_mut());
    let ((h, h_rest), (dh, dh_rest)) = (h.as_chunks_mut(), dh.as_chunks());
    let ((gate, gate_rest), (up, up_rest)) = (gate.as_chunks(), up.as_chunks());
    let to = h.iter_mut().zip(dgate.iter_mut().zip(dup));
    for ((h, (dgate, dup)), (dh, (gate, up))) in to.zip(dh.iter().zip(gate.iter().zip(up))) {
        let new = all(load(dh), load_half(gate), load_half(up));
        store_half(dgate, new.0);
        store_half(dup, new.1);
        store_half(h, new.2);
    }
    if !h_rest.is_empty() {
        let new = all(load_rest(dh_rest), load_half_rest(gate_rest), load_half_rest(up_rest));
        store_half_rest(dgate_rest, new.0);
        store_half_rest(dup_rest, new.1);
        store_half_rest(h_rest, new.2);
    }
}

/// Of two rows, one behind the other, an element of either in turn.
const IN_TURN: [u16; 2 * LANES] = {
    let mut places = [0; 2 * LANES];
    let mut i = 0;
    while i < 2 * LANES {
        places[i] = (i / 2 + i % 2 * LANES) as u16;
        i += 1;
    }
    places
};

/// Sixteen numbers of two rows as pairs.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn pair(low: __m512, high: __m512) -> __m512 {
    // SAFETY: all types are 64 bytes, of which every content is valid.
    unsafe {
        let (both, places) = (
            std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)),
            std::mem::transmute::<[u16; 2 * LANES], __m512i>(IN_TURN),
        );
        _mm512_castsi512_ps(_mm512_permutexvar_epi16(places, both))
    }
}

/// Step `d` of the panels.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn spread_numbers(low: &[[f32; NR]], high: &[[f32; NR]], d: usize, panels: &mut [&mut [f32]]) {
    for ((panel, low), high) in panels.iter_mut().zip(low).zip(high) {
        let step = panel[d * NR..][..NR].as_chunks_mut().0;
        for ((step, low), high) in step.iter_mut().zip(low.as_chunks().0).zip(high.as_chunks().0) {
            store(step, pair(load(low), load(high)));
        }
    }
}

/// Pairs of two rows of at most a block; zeros behind them.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn pair_step(out: &mut [f32; BLOCK], low: &[f32], high: &[f32]) {
    let ((low, low_far), (high, high_far)) = (low.split_at(low.len().min(LANES)), high.split_at(high.len().min(LANES)));
    let out = out.as_chunks_mut().0;
    store(&mut out[0], pair(load_rest(low), load_rest(high)));
    store(&mut out[1], pair(load_rest(low_far), load_rest(high_far)));
}

/// The same of rows of bf16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn join_step(out: &mut [f32; BLOCK], low: &[Half], high: &[Half]) {
    let pair = |low: &[Half], high: &[Half]| {
        let [low, high] = [low, high].map(|row| _mm512_cvtepu16_epi32(load_half_rest(row)));
        _mm512_castsi512_ps(_mm512_or_si512(low, _mm512_slli_epi32::<16>(high)))
    };
    let ((low, low_far), (high, high_far)) = (low.split_at(low.len().min(LANES)), high.split_at(high.len().min(LANES)));
    let out = out.as_chunks_mut().0;
    store(&mut out[0], pair(low, high));
    store(&mut out[1], pair(low_far, high_far));
}

/// Row `row` of as many squares, each of whose rows is as many pairs.
#[target_feature(enable = "avx512f,avx512bf16")]
fn square_row(squares: &mut [f32], height: usize, row: usize, x: &[[f32; 2 * SIDE]]) {
    for (square, x) in squares.chunks_exact_mut(height * SIDE).zip(x) {
        let halves = x.as_chunks::<LANES>().0;
        let pairs = _mm512_cvtne2ps_pbh(load(&halves[1]), load(&halves[0]));
        let to = &mut square.as_chunks_mut::<SIDE>().0[row];
        // SAFETY: both types are 64 bytes, of which every content is valid; the reference covers the 64 bytes of an
        // unaligned store.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), std::mem::transmute::<__m512bh, __m512>(pairs)) };
    }
}
