//! Attention of a few new rows over a cache in eight bits, in whole numbers.
//!
//! Queries are rounded to sixteen bits once, and what each value counts is in every run of positions: their products
//! with codes are whole numbers, whose sums are exact in any order, so that no lanes are added for each position and
//! nothing is widened for each query. What is lost is below a hundredth of what rounding the cache lost.

use super::attention::{Columns, score, seen};
use super::attention_cached::{CODES, LARGEST, shares_of_seen};
use super::exp::nearest;
use super::pool::Pool;
use super::simd_dispatch::{Isa, vectorized};
use super::sink::SinkTile;
use super::source::Source;
use crate::backend::{AttentionParams, Write};
use crate::host::View;

/// Numbers that are gone through together.
const WORDS: usize = 16;
/// Sums beside each other.
const SUMS: usize = 8;
/// Positions whose keys or values are gone through by all queries before the next ones. Runs begin at multiples of this,
/// wherever the first position that is seen lies: what a run's largest weight is does not depend on other rows.
const RUN: usize = 32;
/// The largest number of sixteen bits.
const LARGEST_WORD: f32 = 32767.0;

/// The largest number a query is rounded to: sums of `head_dim` products with codes must have 32 bits.
fn largest_of_query(head_dim: usize) -> f32 {
    let most = f64::from(i32::MAX) / (f64::from(LARGEST) * head_dim as f64);
    (most.floor() as f32).min(LARGEST_WORD)
}

/// The queries of a few rows, all that share a key head together. Keys and values are codes with a scale.
pub(super) fn attend(
    pool: &Pool,
    isa: Isa,
    y: SinkTile,
    qkv: Source,
    (keys, values): (View, View),
    first: usize,
    columns: Columns,
    params: &AttentionParams,
) {
    let (n, hd) = (y.rows.len(), columns.head_dim);
    let queries = n * columns.group;
    // Room for whole vectors; what is behind the codes of a head stays nothing.
    let width = hd.div_ceil(WORDS);
    let all = seen(params.window, first).start..first + n;
    let runs =
        || (all.start / RUN..all.end.div_ceil(RUN)).map(|i| (i * RUN).max(all.start)..(i * RUN + RUN).min(all.end));
    let mut stacked = pool.scratch(queries * hd);
    columns.stack(isa, qkv, columns.at[0], y.row..y.row + n, &mut stacked);
    let mut of_queries = vec![[0; WORDS]; queries * width];
    let mut scales = vec![0.0; queries];
    let largest = largest_of_query(hd);
    for ((q, to), scale) in stacked.chunks_exact(hd).zip(of_queries.chunks_exact_mut(width)).zip(&mut scales) {
        *scale = round_query(isa, to.as_flattened_mut(), q, largest);
    }
    let mut scores = pool.scratch(queries * all.len());
    let mut rows = vec![[0; WORDS]; RUN * width];
    for run in runs() {
        for (row, to) in run.clone().zip(rows.chunks_exact_mut(width)) {
            widen(isa, to, keys.row(row));
        }
        let mut of_keys = [0.0; RUN];
        run.clone().zip(&mut of_keys).for_each(|(row, scale)| *scale = scale_of(keys.row(row)));
        for (q, scores) in scores.chunks_exact_mut(all.len()).enumerate() {
            let mut sums = [[0; SUMS]; RUN / SUMS];
            dots(isa, &mut sums, &of_queries[q * width..][..width], &rows);
            let scores = &mut scores[run.start - all.start..run.end - all.start];
            weigh_keys(isa, scores, sums.as_flattened(), &of_keys, scales[q], params);
        }
    }
    shares_of_seen(isa, &mut scores, &all, (first, n), &columns, params);
    let mut out = vec![0.0; queries * width * WORDS];
    let mut pairs = vec![[0; WORDS]; RUN * width];
    let mut sums = vec![[0; SUMS]; 2 * width];
    for run in runs() {
        for (row, to) in run.clone().zip(rows.chunks_exact_mut(width)) {
            widen(isa, to, values.row(row));
        }
        for (two, pair) in rows.chunks_exact(2 * width).zip(pairs.chunks_exact_mut(2 * width)) {
            let (a, b) = two.split_at(width);
            side_by_side(isa, pair, a, b);
        }
        let mut of_values = [0.0; RUN];
        run.clone().zip(&mut of_values).for_each(|(row, scale)| *scale = scale_of(values.row(row)));
        for (shares, out) in scores.chunks_exact(all.len()).zip(out.chunks_exact_mut(width * WORDS)) {
            let shares = &shares[run.start - all.start..run.end - all.start];
            let mut weights = [0; RUN];
            let scale = round_weights(isa, &mut weights, shares, &of_values);
            if scale != 0.0 {
                weighted(isa, &mut sums, weights.as_chunks().0, &pairs);
                add_sums(isa, out, sums.as_flattened(), scale);
            }
        }
    }
    // Nobody needs the queries any more.
    for (i, y) in y.rows.into_iter().enumerate() {
        y.write(isa, Write::Set, &mut stacked, |y| {
            for (g, y) in y.chunks_exact_mut(hd).enumerate() {
                let out = &out[(g * n + i) * width * WORDS..][..hd];
                let quarter = hd / CODES;
                for (k, y) in y.chunks_exact_mut(quarter).enumerate() {
                    y.iter_mut().zip(out[k..].iter().step_by(CODES)).for_each(|(y, out)| *y = *out);
                }
            }
        });
    }
}

/// The scale behind the codes of a head.
fn scale_of(head: &[f32]) -> f32 {
    head.last().copied().unwrap_or(0.0)
}

vectorized! {
    /// A query in the order of the codes of a head; its scale is what the cache's would be.
    fn round_query(to: &mut [i16], x: &[f32], most: f32) -> f32 {
        let largest = magnitude(x);
        let per_number = most / largest;
        to.fill(0);
        if !largest.is_finite() || !per_number.is_finite() {
            return if largest.is_finite() { 0.0 } else { f32::NAN };
        }
        let quarter = x.len() / CODES;
        for (i, four) in to.as_chunks_mut::<CODES>().0.iter_mut().take(quarter).enumerate() {
            for (k, code) in four.iter_mut().enumerate() {
                *code = nearest(x[k * quarter + i] * per_number) as i16;
            }
        }
        largest / most
    }
}

vectorized! {
    /// What each of a run's values counts, by its share and its scale; nothing for those there are no shares of.
    fn round_weights(to: &mut [i16; RUN], shares: &[f32], scales: &[f32; RUN]) -> f32 {
        let mut weights = [0.0; RUN];
        for ((weight, share), scale) in weights.iter_mut().zip(shares).zip(scales) {
            *weight = share * scale;
        }
        let largest = magnitude(&weights);
        let per_number = LARGEST_WORD / largest;
        if !largest.is_finite() || !per_number.is_finite() {
            // So little that it does not count, or what is no number.
            return if largest.is_finite() { 0.0 } else { f32::NAN };
        }
        for (code, weight) in to.iter_mut().zip(&weights) {
            *code = nearest(weight * per_number) as i16;
        }
        largest / LARGEST_WORD
    }
}

/// The largest magnitude; of a number that is none, what is none.
#[inline(always)]
fn magnitude(x: &[f32]) -> f32 {
    // The bits of magnitudes ascend with them, and those of no numbers are above all.
    f32::from_bits(x.iter().fold(0, |most, x| most.max(x.to_bits() & 0x7FFF_FFFF)))
}

vectorized! {
    /// Scores from products of whole numbers.
    fn weigh_keys(
        scores: &mut [f32],
        sums: &[i32],
        of_keys: &[f32; RUN],
        of_query: f32,
        params: &AttentionParams,
    ) {
        for ((s, sum), scale) in scores.iter_mut().zip(sums).zip(of_keys) {
            *s = score(*sum as f32 * (scale * of_query), params.scale, params.softcap).0;
        }
    }
}

vectorized! {
    /// `out += sums·scale`
    fn add_sums(out: &mut [f32], sums: &[i32], scale: f32) {
        for (out, sum) in out.iter_mut().zip(sums) {
            *out += *sum as f32 * scale;
        }
    }
}

vectorized! {
    /// The codes of a head as they lie.
    fn widen(to: &mut [[i16; WORDS]], head: &[f32]) {
        let words = &head[..head.len().saturating_sub(1)];
        let (vectors, rest) = words.as_chunks::<{ WORDS / CODES }>();
        for (to, words) in to.iter_mut().zip(vectors) {
            *to = codes_of(words);
        }
        if let Some(to) = to.get_mut(vectors.len()) {
            let mut words = [0.0; WORDS / CODES];
            words[..rest.len()].copy_from_slice(rest);
            *to = codes_of(&words);
        }
    }
}

/// Codes in the bits of numbers.
#[inline(always)]
fn codes_of(words: &[f32; WORDS / CODES]) -> [i16; WORDS] {
    let bytes = words.map(|word| word.to_bits().to_le_bytes());
    let mut codes = [0; WORDS];
    for (code, byte) in codes.iter_mut().zip(bytes.as_flattened()) {
        *code = i16::from(byte.cast_signed());
    }
    codes
}

vectorized! {
    /// The numbers of two rows in turns.
    fn side_by_side(pair: &mut [[i16; WORDS]], a: &[[i16; WORDS]], b: &[[i16; WORDS]]) {
        for ((pair, a), b) in pair.as_chunks_mut::<2>().0.iter_mut().zip(a).zip(b) {
            for ((pair, a), b) in pair.as_flattened_mut().as_chunks_mut::<2>().0.iter_mut().zip(a).zip(b) {
                *pair = [*a, *b];
            }
        }
    }
}

/// `sums[j] = Σ a·rows[j]` for rows of as many vectors as `a`.
fn dots(isa: Isa, sums: &mut [[i32; SUMS]; RUN / SUMS], a: &[[i16; WORDS]], rows: &[[i16; WORDS]]) {
    #[cfg(target_arch = "x86_64")]
    if let Some(isa) = isa.avx2_of() {
        return isa.word_dots(sums, a, rows);
    }
    plain_dots(isa, sums.as_flattened_mut(), a.as_flattened(), rows.as_flattened());
}

vectorized! {
    fn plain_dots(sums: &mut [i32], a: &[i16], rows: &[i16]) {
        for (sum, row) in sums.iter_mut().zip(rows.chunks_exact(a.len())) {
            *sum = a.iter().zip(row).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum();
        }
    }
}

/// `sums = Σ_p weights[p]·pairs[p]`; a pair has two numbers for each sum.
fn weighted(isa: Isa, sums: &mut [[i32; SUMS]], weights: &[[i16; 2]], pairs: &[[i16; WORDS]]) {
    #[cfg(target_arch = "x86_64")]
    if let Some(isa) = isa.avx2_of() {
        return isa.weighted_words(sums, weights, pairs);
    }
    plain_weighted(isa, sums.as_flattened_mut(), weights, pairs.as_flattened());
}

vectorized! {
    fn plain_weighted(sums: &mut [i32], weights: &[[i16; 2]], pairs: &[i16]) {
        sums.fill(0);
        for ([a, b], pair) in weights.iter().zip(pairs.chunks_exact(2 * sums.len())) {
            for (sum, [x, y]) in sums.iter_mut().zip(pair.as_chunks::<2>().0) {
                *sum += i32::from(*a) * i32::from(*x) + i32::from(*b) * i32::from(*y);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LARGEST_WORD, RUN, SUMS, WORDS, dots, largest_of_query, round_query, round_weights, weighted};
    use crate::cpu::path::{PATHS, Path};
    use crate::cpu::simd_dispatch::Isa;

    /// Numbers of all sizes up to `most`, the largest among them.
    fn words(vectors: usize, most: i16, mut state: u32) -> Vec<[i16; WORDS]> {
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            match state >> 28 {
                0 => most,
                1 => -most,
                _ => ((state >> 12) as i16) % most,
            }
        };
        (0..vectors).map(|_| [0; WORDS].map(|_: i16| next())).collect()
    }

    #[test]
    fn what_is_rounded_is_within_half_a_step_and_no_number_stays_none() {
        let isa = Isa::best();
        let x: Vec<f32> = (0..20).map(|i| (i as f32 - 7.3) * 0.01).collect();
        let mut to = [1; 32];
        let scale = round_query(isa, &mut to, &x, LARGEST_WORD);
        for (i, x) in x.iter().enumerate() {
            let found = f32::from(to[4 * (i % 5) + i / 5]) * scale;
            assert!((found - x).abs() <= 0.5001 * scale, "{i}: {found}, not {x}");
        }
        assert_eq!(to[20..], [0; 12], "behind a head there is nothing");
        assert_eq!(largest_of_query(64), LARGEST_WORD);
        assert!(largest_of_query(1024) < 16_600.0);
        let (mut weights, shares, scales) = ([0; RUN], [0.25, 0.5], [1.0; RUN]);
        let step = round_weights(isa, &mut weights, &shares, &scales);
        assert_eq!((weights[..3].to_vec(), step), (vec![16384, 32767, 0], 0.5 / 32767.0));
        for odd in [f32::NAN, f32::INFINITY] {
            assert!(round_query(isa, &mut to, &[1.0, odd, 0.0, 0.0], LARGEST_WORD).is_nan());
            assert!(round_weights(isa, &mut weights, &[odd], &scales).is_nan());
        }
        assert_eq!(round_weights(isa, &mut weights, &[0.0; 4], &scales), 0.0);
    }

    #[test]
    fn sums_of_whole_numbers_are_exact_on_every_path_s4_5() {
        for width in [1, 2, 4, 5, 8, 9, 16] {
            let most = largest_of_query(width * WORDS) as i16;
            let (a, rows) = (words(width, most, 3), words(RUN * width, 127, 5));
            let weights: Vec<i16> = words(RUN / WORDS, i16::MAX, 7).concat();
            let weights = weights.as_chunks::<2>().0;
            for isa in PATHS.iter().filter_map(|row| Path::isa(row.0)) {
                let mut sums = [[7; SUMS]; RUN / SUMS];
                dots(isa, &mut sums, &a, &rows);
                for (sum, row) in sums.as_flattened().iter().zip(rows.chunks_exact(width)) {
                    let products = a.as_flattened().iter().zip(row.as_flattened());
                    let want: i64 = products.map(|(a, b)| i64::from(*a) * i64::from(*b)).sum();
                    assert_eq!(i64::from(*sum), want, "{isa:?}, {width}");
                }
                let mut sums = vec![[7; SUMS]; 2 * width];
                weighted(isa, &mut sums, weights, &rows);
                for (i, sum) in sums.as_flattened().iter().enumerate() {
                    let pair = |p: usize| &rows.as_flattened()[(p * width * SUMS * 2 + i) * 2..][..2];
                    let terms = |(p, w): (usize, &[i16; 2])| {
                        (0..2).map(|k| i64::from(w[k]) * i64::from(pair(p)[k])).sum::<i64>()
                    };
                    assert_eq!(i64::from(*sum), weights.iter().enumerate().map(terms).sum::<i64>(), "{isa:?}, {width}");
                }
            }
        }
    }
}
