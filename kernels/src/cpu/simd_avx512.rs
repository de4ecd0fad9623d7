//! Kernels with 512-bit vectors: the register tile of a product, and the 4-bit table look-up.

use super::gemm::Epilogue;
use super::packed::SQUARE;
use super::panels::Pair;
#[cfg(target_os = "linux")]
use super::simd_amx::Amx;
use super::simd_avx2::Avx2;
use super::simd_avx512_turn;
use super::simd_avx512_vnni::Avx512Vnni;
use super::simd_avx512bf16::Avx512Bf16;
use crate::backend::Write;
use crate::weight::DType;
use std::arch::x86_64::{
    __m512, __m512i, _CMP_UNORD_Q, _MM_FROUND_TO_NEAREST_INT, _MM_HINT_T0, _mm_loadu_si128, _mm_prefetch,
    _mm512_add_epi32, _mm512_and_si512, _mm512_castps_si512, _mm512_castsi512_ps, _mm512_cmp_ps_mask,
    _mm512_cvtepu8_epi32, _mm512_cvtph_ps, _mm512_cvtps_ph, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_add_ps,
    _mm512_mask_mov_ps, _mm512_mask_or_epi32, _mm512_mul_ps, _mm512_or_si512, _mm512_permutex2var_ps,
    _mm512_permutexvar_epi32, _mm512_permutexvar_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setr_epi32,
    _mm512_setzero_ps, _mm512_slli_epi32, _mm512_srli_epi32, _mm512_storeu_ps,
};
use std::ops::Range;

/// Proof that this processor has AVX-512 F, BW, DQ and VL; and what is below, and perhaps beside it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512 {
    narrow: Avx2,
    bf16: Option<Avx512Bf16>,
    vnni: Option<Avx512Vnni>,
    #[cfg(target_os = "linux")]
    amx: Option<Amx>,
}

/// Rows and columns of the tile, 28 of the 32 registers.
pub(super) const MR: usize = 14;
pub(super) const NR: usize = 32;
pub(super) const LANES: usize = 16;

#[expect(clippy::unused_self, reason = "the receiver is the proof")]
impl Avx512 {
    pub(super) fn detect() -> Option<Self> {
        let found = std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512bw")
            && std::arch::is_x86_feature_detected!("avx512dq")
            && std::arch::is_x86_feature_detected!("avx512vl");
        let narrow = Avx2::detect().filter(|_| found)?;
        Some(Self {
            narrow,
            bf16: None,
            vnni: Avx512Vnni::detect(),
            #[cfg(target_os = "linux")]
            amx: None,
        })
    }

    /// The narrower instruction set, which every such processor has too.
    pub(super) fn avx2(self) -> Avx2 {
        self.narrow
    }

    /// The same with the instruction for pairs of bf16, if there is one.
    pub(super) fn with_bf16(self) -> Option<Self> {
        Avx512Bf16::detect().map(|bf16| Self { bf16: Some(bf16), ..self })
    }

    /// The same with the unit that multiplies tiles, if it can be used.
    pub(super) fn with_amx(self) -> Option<Self> {
        #[cfg(target_os = "linux")]
        return Amx::state()?.as_ref().ok().map(|amx| Self { amx: Some(*amx), ..self });
        #[cfg(not(target_os = "linux"))]
        return None;
    }

    /// The unit that multiplies tiles, where this path uses it.
    #[cfg(target_os = "linux")]
    pub(super) fn amx(self) -> Option<Amx> {
        self.amx
    }

    /// The instruction for pairs of bf16, where this path uses it.
    pub(super) fn bf16(self) -> Option<Avx512Bf16> {
        self.bf16
    }

    /// The instruction for products of bytes, if there is one.
    pub(super) fn vnni(self) -> Option<Avx512Vnni> {
        self.vnni
    }

    /// `sums[r, c] = Σ_d a[d, r]·b[d, c]` for the first `rows` and `cols` of the panels.
    pub(super) fn tile(self, pairs: &[Pair], rows: usize, cols: usize, sums: &mut [[f32; NR]; MR]) {
        // SAFETY: `self` proves the features the functions are compiled for.
        unsafe {
            match (rows.div_ceil(2), cols <= LANES) {
                (..=1, true) => tile::<2, 1>(pairs, sums),
                (..=1, false) => tile::<2, 2>(pairs, sums),
                (2, true) => tile::<4, 1>(pairs, sums),
                (2, false) => tile::<4, 2>(pairs, sums),
                (3..=4, true) => tile::<8, 1>(pairs, sums),
                (3..=4, false) => tile::<8, 2>(pairs, sums),
                (_, true) => tile::<MR, 1>(pairs, sums),
                (_, false) => tile::<MR, 2>(pairs, sums),
            }
        }
    }

    /// The same for a whole tile, and what becomes of it: `rows (=|+=) alpha·sums + bias`. False where these columns of the
    /// rows are no whole tile, and nothing is done.
    pub(super) fn tile_to(
        self,
        pairs: &[Pair],
        rows: &mut [&mut [f32]],
        cols: Range<usize>,
        epilogue: Epilogue,
    ) -> bool {
        let Some(mut rows) = whole_tile(rows, cols) else { return false };
        // SAFETY: `self` proves the features the function is compiled for.
        unsafe { tile_to(pairs, &mut rows, epilogue) };
        true
    }

    /// Whole blocks, each under its scale: `out[i] = round(values[code i]·scale)`.
    pub(super) fn decode_blocks(
        self,
        codes: &[u8],
        scales: &[f32],
        values: &[f32; 16],
        rounding: DType,
        block: usize,
        out: &mut [f32],
    ) {
        // SAFETY: `self` proves the features the function is compiled for.
        unsafe { decode_blocks(codes, scales, values, rounding, block, out) }
    }

    /// The same as pairs of bf16, a word for each byte of two codes.
    pub(super) fn decode_pairs(
        self,
        codes: &[u8],
        scales: &[f32],
        values: &[f32; 16],
        rounding: DType,
        block: usize,
        out: &mut [f32],
    ) {
        // SAFETY: `self` proves the features the function is compiled for.
        unsafe { decode_pairs(codes, scales, values, rounding, block, out) }
    }

    /// `panel[d·width + at + i] = rows[i][d]` for rows of equal length.
    pub(super) fn transpose(self, rows: &[&[f32]; LANES], width: usize, at: usize, panel: &mut [f32]) {
        // SAFETY: `self` proves the features the function is compiled for.
        unsafe { simd_avx512_turn::transpose(rows, width, at, panel) }
    }

    /// `panel[d·32 + i]` is pair `d` of `lanes[i]`: bf16 as it is stored.
    pub(super) fn turn_stored(self, lanes: &[&[u8]; NR], panel: &mut [f32]) {
        // SAFETY: `self` proves the features the function is compiled for.
        unsafe { simd_avx512_turn::turn_stored(lanes, panel) }
    }

    /// Pairs of two columns of 32 rows become pairs of two rows of 32 columns.
    pub(super) fn turn_pairs(self, square: &[f32; SQUARE], out: &mut [f32; SQUARE]) {
        // SAFETY: `self` proves the features the function is compiled for.
        unsafe { simd_avx512_turn::turn_pairs(square, out) }
    }

    /// `panels[p][d·32 + i]` is element `32·p + i` of rows `2·d` and `2·d + 1`, bf16 as it is stored, `stride` bytes after each
    /// other.
    pub(super) fn spread_stored(self, rows: &[u8], stride: usize, panels: &mut [&mut [f32]]) {
        // SAFETY: `self` proves the features the function is compiled for.
        unsafe { simd_avx512_turn::spread_stored(rows, stride, panels) }
    }

    /// `out[i] = table[code i]`, two codes a byte, the first in the high nibble.
    pub(super) fn look_up(self, codes: &[u8], table: &[f32; 16], out: &mut [f32]) {
        // SAFETY: `self` proves the features the function is compiled for.
        unsafe { look_up(codes, table, out) }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load(from: &[f32; LANES]) -> __m512 {
    // SAFETY: the reference covers the 16 floats that an unaligned load reads.
    unsafe { _mm512_loadu_ps(from.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store(to: &mut [f32; LANES], x: __m512) {
    // SAFETY: the reference covers the 16 floats that an unaligned store writes.
    unsafe { _mm512_storeu_ps(to.as_mut_ptr(), x) }
}

/// These columns of the rows, where they are those of a whole tile.
pub(super) fn whole_tile<'a>(rows: &'a mut [&mut [f32]], cols: Range<usize>) -> Option<[&'a mut [f32; NR]; MR]> {
    let rows = rows.first_chunk_mut::<MR>().filter(|_| cols.len() == NR)?;
    Some(rows.each_mut().map(|row| row[cols.clone()].first_chunk_mut().expect("columns of a whole tile")))
}

/// The sums of the first `R` rows and `W` vectors of the tile. No function: the compiler keeps sums that one returns in
/// memory.
macro_rules! sums_of {
    ($panels:expr, $R:expr, $W:expr) => {{
        let mut acc = [[_mm512_setzero_ps(); $W]; $R];
        for (a, b) in $panels {
            for (a, b) in a.as_chunks::<MR>().0.iter().zip(b.as_chunks::<NR>().0) {
                let b = b.as_chunks().0;
                let mut columns = [_mm512_setzero_ps(); $W];
                for w in 0..$W {
                    columns[w] = load(&b[w]);
                }
                for r in 0..$R {
                    let row = _mm512_set1_ps(a[r]);
                    for w in 0..$W {
                        acc[r][w] = _mm512_fmadd_ps(row, columns[w], acc[r][w]);
                    }
                }
            }
        }
        acc
    }};
}

/// The first `R` rows and `W` vectors of the tile.
#[target_feature(enable = "avx512f")]
fn tile<const R: usize, const W: usize>(panels: &[Pair], sums: &mut [[f32; NR]; MR]) {
    let acc = sums_of!(panels, R, W);
    for (sums, acc) in sums.iter_mut().zip(acc) {
        for (sums, acc) in sums.as_chunks_mut().0.iter_mut().zip(acc) {
            store(sums, acc);
        }
    }
}

/// The sums of a whole tile from the registers to their place, rounded as `finish.rs` does: the bits are those of that way.
/// No function, as the sums are none.
macro_rules! place {
    ($acc:expr, $rows:expr, $epilogue:expr) => {{
        let Epilogue { alpha, bias, write } = $epilogue;
        let scale = _mm512_set1_ps(alpha);
        // What is not added is masked: with branches the compiler would not unroll this, and keep sums in memory.
        let added: u16 = if write == Write::Add { !0 } else { 0 };
        let biased: u16 = if bias.is_some() { !0 } else { 0 };
        let bias: &[f32; NR] = bias.and_then(<[f32]>::first_chunk).unwrap_or(&[0.0; NR]);
        let bias = bias.as_chunks::<LANES>().0;
        let bias = [load(&bias[0]), load(&bias[1])];
        for (row, acc) in $rows.iter_mut().zip($acc) {
            for ((y, sum), bias) in row.as_chunks_mut().0.iter_mut().zip(acc).zip(bias) {
                let new = _mm512_mul_ps(scale, sum);
                let new = _mm512_mask_add_ps(new, added, load(y), new);
                store(y, _mm512_mask_add_ps(new, biased, new, bias));
            }
        }
    }};
}
pub(super) use place;

/// Asks for the place of a tile before it is computed.
#[inline]
pub(super) fn ask_for_rows(rows: &[&mut [f32; NR]; MR]) {
    for part in rows.iter().flat_map(|row| row.as_chunks::<LANES>().0) {
        // SAFETY: the instruction reads nothing; every processor of this architecture has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(part.as_ptr().cast()) };
    }
}

#[target_feature(enable = "avx512f")]
fn tile_to(panels: &[Pair], rows: &mut [&mut [f32; NR]; MR], epilogue: Epilogue) {
    ask_for_rows(rows);
    let acc = sums_of!(panels, MR, 2);
    place!(acc, rows, epilogue);
}

#[target_feature(enable = "avx512f")]
fn decode_blocks(codes: &[u8], scales: &[f32], values: &[f32; 16], rounding: DType, block: usize, out: &mut [f32]) {
    let values = load(values);
    for ((codes, out), &scale) in codes.chunks_exact(block / 2).zip(out.chunks_exact_mut(block)).zip(scales) {
        spread(codes, round(_mm512_mul_ps(values, _mm512_set1_ps(scale)), rounding), out);
    }
}

/// `x` rounded to the nearest number of `dtype`, ties to even.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn round(x: __m512, dtype: DType) -> __m512 {
    match dtype {
        DType::F32 => x,
        DType::F16 => _mm512_cvtph_ps(_mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x)),
        DType::BF16 => {
            let bits = _mm512_castps_si512(x);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let carried = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF)));
            let rounded = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_srli_epi32::<16>(carried)));
            _mm512_mask_mov_ps(rounded, _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x), x)
        }
    }
}

#[target_feature(enable = "avx512f")]
fn look_up(codes: &[u8], table: &[f32; 16], out: &mut [f32]) {
    spread(codes, load(table), out);
}

#[target_feature(enable = "avx512f")]
fn decode_pairs(codes: &[u8], scales: &[f32], values: &[f32; 16], rounding: DType, block: usize, out: &mut [f32]) {
    let values = load(values);
    for ((codes, out), &scale) in codes.chunks_exact(block / 2).zip(out.chunks_exact_mut(block / 2)).zip(scales) {
        let scaled = round(round(_mm512_mul_ps(values, _mm512_set1_ps(scale)), rounding), DType::BF16);
        // What says that a number is none may all lie in the half that is dropped.
        let none = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(scaled, scaled);
        let bits = _mm512_castps_si512(scaled);
        let bits = _mm512_mask_or_epi32(bits, none, bits, _mm512_set1_epi32(0x0040_0000));
        let lows = _mm512_srli_epi32::<16>(bits);
        let highs = _mm512_slli_epi32::<16>(lows);
        look_up_pairs(codes, lows, highs, out);
    }
}

/// Words of the first value's lower half and the second's upper one.
#[inline]
#[target_feature(enable = "avx512f")]
fn look_up_pairs(codes: &[u8], lows: __m512i, highs: __m512i, out: &mut [f32]) {
    let (bytes, odd_bytes) = codes.as_chunks::<LANES>();
    let (words, odd) = out.as_chunks_mut::<LANES>();
    for (bytes, words) in bytes.iter().zip(words) {
        store(words, _mm512_castsi512_ps(pairs_of(bytes, lows, highs)));
    }
    if !odd_bytes.is_empty() {
        let (mut bytes, mut words) = ([0; LANES], [0.0; LANES]);
        bytes[..odd_bytes.len()].copy_from_slice(odd_bytes);
        store(&mut words, _mm512_castsi512_ps(pairs_of(&bytes, lows, highs)));
        odd.copy_from_slice(&words[..odd.len()]);
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn pairs_of(bytes: &[u8; LANES], lows: __m512i, highs: __m512i) -> __m512i {
    // SAFETY: the reference covers the 16 bytes that an unaligned load reads.
    let codes = _mm512_cvtepu8_epi32(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) });
    // The permutation reads the low four bits of each index and ignores the others.
    let first = _mm512_permutexvar_epi32(_mm512_srli_epi32::<4>(codes), lows);
    let second = _mm512_permutexvar_epi32(codes, highs);
    _mm512_or_si512(first, second)
}

/// The values of 16 bytes of two codes each, the first in the high half.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn table(codes: __m512i, values: __m512) -> [__m512; 2] {
    // Element by element from the first operand (0..16) and the second (16..32).
    let first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    let second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
    // The permutation reads the low four bits of each index and ignores the others.
    let odd = _mm512_permutexvar_ps(codes, values);
    let even = _mm512_permutexvar_ps(_mm512_srli_epi32::<4>(codes), values);
    [_mm512_permutex2var_ps(even, first, odd), _mm512_permutex2var_ps(even, second, odd)]
}

/// The low and the high half of 16 bytes.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn nibbles(bytes: __m512i) -> [__m512i; 2] {
    [_mm512_and_si512(bytes, _mm512_set1_epi32(15)), _mm512_srli_epi32::<4>(bytes)]
}

/// `out[i] = values[code i]`
#[target_feature(enable = "avx512f")]
fn spread(codes: &[u8], values: __m512, out: &mut [f32]) {
    let (runs, odd) = out.as_chunks_mut::<{ 2 * LANES }>();
    let (bytes, odd_bytes) = codes.split_at(runs.len() * LANES);
    for (bytes, run) in bytes.as_chunks::<LANES>().0.iter().zip(runs) {
        // SAFETY: the reference covers the 16 bytes that an unaligned load reads.
        let codes = _mm512_cvtepu8_epi32(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) });
        for (run, x) in run.as_chunks_mut().0.iter_mut().zip(table(codes, values)) {
            store(run, x);
        }
    }
    if !odd.is_empty() {
        let mut table = [0.0; LANES];
        store(&mut table, values);
        super::simd_portable::look_up(odd_bytes, &table, odd);
    }
}
