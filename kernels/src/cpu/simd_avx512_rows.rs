//! Loops over rows of numbers with 512-bit vectors, where the compiler makes half vectors or shuffles of them: sums on
//! their way to their place, and exponentials. Every result has the bits of the plain loop, in any place of a row.

use super::exp::{ENDS, LN_2, POLYNOMIAL, ROUND};
use super::gemm::Epilogue;
use super::simd_avx512::{Avx512, LANES, load, store};
use crate::backend::Write;
use std::arch::x86_64::{
    __m512, __mmask16, _mm512_add_ps, _mm512_cvtss_f32, _mm512_mask_add_ps, _mm512_mask_max_ps, _mm512_mask_storeu_ps,
    _mm512_maskz_loadu_ps, _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_reduce_add_ps, _mm512_reduce_max_ps,
    _mm512_scalef_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_sub_ps,
};
use std::ops::Range;

/// What is known of the softmax of one row of scores.
pub(super) struct Scores<'a> {
    /// The largest so far, and the sum of the exponentials.
    pub(super) max: &'a mut f32,
    pub(super) sum: &'a mut f32,
    /// What was summed with those as weights.
    pub(super) out: &'a mut [f32],
}

#[expect(clippy::unused_self, reason = "the receiver is the proof")]
impl Avx512 {
    /// `rows (=|+=) alpha·sums + bias`, `nr` sums a row.
    pub(super) fn finish(
        self,
        rows: &mut [&mut [f32]],
        cols: Range<usize>,
        sums: &[f32],
        nr: usize,
        epilogue: Epilogue,
    ) {
        // SAFETY: `self` proves the features the functions are compiled for.
        unsafe {
            match epilogue.write {
                Write::Set => finish::<false>(rows, cols, sums, nr, epilogue),
                Write::Add => finish::<true>(rows, cols, sums, nr, epilogue),
            }
        }
    }

    /// `soften` of `attention.rs` without a cap: products that are seen become weights.
    pub(super) fn soften(self, products: &mut [f32], scale: f32, scores: Scores) {
        // SAFETY: `self` proves the features the function is compiled for.
        unsafe { soften(products, scale, scores) }
    }

    /// `weigh` of `attention_bwd.rs` without a cap, of products that are seen.
    pub(super) fn weigh(self, s: &mut [f32], dp: &mut [f32], scale: f32, lse: f32, weighted: f32) {
        // SAFETY: `self` proves the features the function is compiled for.
        unsafe { weigh(s, dp, scale, lse, weighted) }
    }

    /// The largest element; minus infinity of none.
    pub(super) fn largest(self, x: &[f32]) -> f32 {
        // SAFETY: `self` proves the features the function is compiled for.
        unsafe { largest(x, 1.0) }
    }

    /// Logits to `exp(z - reference)`, and the sum of those.
    pub(super) fn exponentials(self, logits: &mut [f32], reference: f32) -> f32 {
        // SAFETY: `self` proves the features the function is compiled for.
        unsafe { exponentials(logits, 1.0, reference) }
    }
}

/// The first `n` of a vector's elements.
#[inline]
pub(super) fn first(n: usize) -> __mmask16 {
    ((1_u32 << n.min(LANES)) - 1) as __mmask16
}

/// Fewer than a vector's elements, and zeros.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load_rest(rest: &[f32]) -> __m512 {
    // SAFETY: what is masked is not read.
    unsafe { _mm512_maskz_loadu_ps(first(rest.len()), rest.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_rest(rest: &mut [f32], x: __m512) {
    // SAFETY: what is masked is not written.
    unsafe { _mm512_mask_storeu_ps(rest.as_mut_ptr(), first(rest.len()), x) }
}

/// `exp.rs`, bit by bit: two powers of two whose exponents a number holds are one that it may not hold.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn exp(x: __m512) -> __m512 {
    // Where one is no number the second is the result.
    let x = _mm512_max_ps(_mm512_set1_ps(ENDS[0]), x);
    let x = _mm512_min_ps(_mm512_set1_ps(ENDS[1]), x);
    let round = _mm512_set1_ps(ROUND);
    let shifted = _mm512_add_ps(_mm512_mul_ps(x, _mm512_set1_ps(std::f32::consts::LOG2_E)), round);
    let n = _mm512_sub_ps(shifted, round);
    let r = _mm512_sub_ps(x, _mm512_mul_ps(n, _mm512_set1_ps(LN_2[0])));
    let r = _mm512_sub_ps(r, _mm512_mul_ps(n, _mm512_set1_ps(LN_2[1])));
    let mut p = _mm512_set1_ps(POLYNOMIAL[0]);
    for term in &POLYNOMIAL[1..] {
        p = _mm512_add_ps(_mm512_mul_ps(p, r), _mm512_set1_ps(*term));
    }
    let y = _mm512_add_ps(_mm512_mul_ps(p, _mm512_mul_ps(r, r)), r);
    _mm512_scalef_ps(_mm512_add_ps(y, _mm512_set1_ps(1.0)), n)
}

/// What was there is read only where it is added to.
#[target_feature(enable = "avx512f")]
fn finish<const ADD: bool>(
    rows: &mut [&mut [f32]],
    cols: Range<usize>,
    sums: &[f32],
    nr: usize,
    Epilogue { alpha, bias, .. }: Epilogue,
) {
    let alpha = _mm512_set1_ps(alpha);
    let biased = if bias.is_some() { !0 } else { 0 };
    let (biases, bias_rest) = bias.unwrap_or_default().as_chunks::<LANES>();
    for (row, sums) in rows.iter_mut().zip(sums.chunks_exact(nr)) {
        let ((whole, rest), (sums, sums_rest)) =
            (row[cols.clone()].as_chunks_mut::<LANES>(), sums.as_chunks::<LANES>());
        for (i, (y, sum)) in whole.iter_mut().zip(sums).enumerate() {
            let mut new = _mm512_mul_ps(alpha, load(sum));
            if ADD {
                new = _mm512_add_ps(load(y), new);
            }
            let bias = biases.get(i).map_or(_mm512_setzero_ps(), |bias| load(bias));
            store(y, _mm512_mask_add_ps(new, biased, new, bias));
        }
        if !rest.is_empty() {
            let sum = sums.get(whole.len()).map_or(sums_rest, <[f32; LANES]>::as_slice);
            let mut new = _mm512_mul_ps(alpha, load_rest(&sum[..rest.len()]));
            if ADD {
                new = _mm512_add_ps(load_rest(rest), new);
            }
            store_rest(rest, _mm512_mask_add_ps(new, biased, new, load_rest(bias_rest)));
        }
    }
}

/// The largest of `scale·x`; minus infinity of none.
#[inline]
#[target_feature(enable = "avx512f")]
fn largest(x: &[f32], scale: f32) -> f32 {
    let scale = _mm512_set1_ps(scale);
    let (whole, rest) = x.as_chunks::<LANES>();
    let mut lanes = _mm512_set1_ps(f32::NEG_INFINITY);
    for x in whole {
        // Where one is no number the second is the result.
        lanes = _mm512_max_ps(_mm512_mul_ps(load(x), scale), lanes);
    }
    lanes = _mm512_mask_max_ps(lanes, first(rest.len()), _mm512_mul_ps(load_rest(rest), scale), lanes);
    _mm512_reduce_max_ps(lanes)
}

/// `x = exp(scale·x - top)`, and the sum of all.
#[inline]
#[target_feature(enable = "avx512f")]
fn exponentials(x: &mut [f32], scale: f32, top: f32) -> f32 {
    let (scale, top) = (_mm512_set1_ps(scale), _mm512_set1_ps(top));
    let (whole, rest) = x.as_chunks_mut::<LANES>();
    let mut lanes = _mm512_setzero_ps();
    for x in whole {
        let y = exp(_mm512_sub_ps(_mm512_mul_ps(load(x), scale), top));
        lanes = _mm512_add_ps(lanes, y);
        store(x, y);
    }
    if !rest.is_empty() {
        let y = exp(_mm512_sub_ps(_mm512_mul_ps(load_rest(rest), scale), top));
        lanes = _mm512_mask_add_ps(lanes, first(rest.len()), lanes, y);
        store_rest(rest, y);
    }
    _mm512_reduce_add_ps(lanes)
}

#[target_feature(enable = "avx512f")]
fn soften(products: &mut [f32], scale: f32, Scores { max, sum, out }: Scores) {
    let largest = largest(products, scale);
    if largest > *max {
        let shrink = _mm512_cvtss_f32(exp(_mm512_set1_ps(*max - largest)));
        *max = largest;
        *sum *= shrink;
        for o in out {
            *o *= shrink;
        }
    }
    *sum += exponentials(products, scale, *max);
}

#[target_feature(enable = "avx512f")]
fn weigh(s: &mut [f32], dp: &mut [f32], scale: f32, lse: f32, weighted: f32) {
    let [scale, lse, weighted] = [scale, lse, weighted].map(|x| _mm512_set1_ps(x));
    let both = |s: __m512, dp: __m512| {
        let p = exp(_mm512_sub_ps(_mm512_mul_ps(s, scale), lse));
        (p, _mm512_mul_ps(_mm512_mul_ps(p, _mm512_sub_ps(dp, weighted)), scale))
    };
    let ((s, s_rest), (dp, dp_rest)) = (s.as_chunks_mut::<LANES>(), dp.as_chunks_mut::<LANES>());
    for (s, dp) in s.iter_mut().zip(dp) {
        let (p, ds) = both(load(s), load(dp));
        store(s, p);
        store(dp, ds);
    }
    if !s_rest.is_empty() {
        let (p, ds) = both(load_rest(s_rest), load_rest(dp_rest));
        store_rest(s_rest, p);
        store_rest(dp_rest, ds);
    }
}

#[cfg(test)]
mod tests {
    use super::{LANES, exp, load, store};
    use crate::cpu::exp;
    use crate::cpu::path::Path;

    #[target_feature(enable = "avx512f")]
    fn sixteen(x: &mut [f32; LANES]) {
        store(x, exp(load(x)));
    }

    #[test]
    fn exponentials_have_the_bits_of_the_plain_ones() {
        if !Path::Avx512.available() {
            return;
        }
        let special =
            [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, 88.72, 88.73, 89.5, -87.4, -103.9, -104.5];
        let many = (-1_050_000..900_000).map(|i| i as f32 / 10_000.0 + 3e-7);
        let all: Vec<f32> = special.into_iter().chain(many).collect();
        for x in all.as_chunks::<LANES>().0 {
            let mut got = *x;
            // SAFETY: the path is available, so the feature is there.
            unsafe { sixteen(&mut got) };
            for (x, got) in x.iter().zip(got) {
                let want = exp::exp(*x);
                assert!(got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan(), "{x}: {got}, not {want}");
            }
        }
    }
}
