//! Products in whole numbers with 256-bit vectors: unsigned bytes times signed ones, summed in pairs and then in fours.
//!
//! The instruction for pairs stops at sixteen bits, so no pair may need more: codes of up to six bits are taken as they
//! are, and those of eight by their size, with their sign given to the other factor (twice 128 times 127 is 32512).
//! Every sum is exact, and the order of everything is that of `int8.rs`: a vector has half of a group's lanes. Where the
//! processor sums fours of such products in one instruction (`avxvnni`), that is taken for both steps. Blocks of 256
//! are in `simd_avx2_bytes_k.rs`.
#![expect(clippy::needless_range_loop, reason = "arrays of registers are indexed by what they belong to")]

use super::int8::{LANES, Rounded, Row};
use super::int8_groups::{Codes, Rows, Stored, Table, iq4_nl};
use super::simd_avx2_bytes_k::{q4_k, q5_k, q6_k};
use super::simd_dispatch::ask_ahead;
use crate::quant::GgmlType;
use std::arch::asm;
use std::arch::x86_64::{
    __m128, __m128i, __m256, __m256i, _mm_insert_epi16, _mm_setzero_si128, _mm256_abs_epi8, _mm256_add_epi32,
    _mm256_add_ps, _mm256_and_si256, _mm256_broadcastsi128_si256, _mm256_castpd_ps, _mm256_castps_pd,
    _mm256_castsi128_si256, _mm256_cmpeq_epi8, _mm256_cvtepi32_ps, _mm256_cvtph_ps, _mm256_madd_epi16,
    _mm256_maddubs_epi16, _mm256_movehdup_ps, _mm256_mul_ps, _mm256_or_si256, _mm256_permute2f128_ps,
    _mm256_permute4x64_epi64, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_epi64x,
    _mm256_set1_ps, _mm256_setr_epi32, _mm256_setr_epi64x, _mm256_setzero_ps, _mm256_setzero_si256,
    _mm256_shuffle_epi8, _mm256_sign_epi8, _mm256_slli_epi16, _mm256_slli_epi32, _mm256_srai_epi16, _mm256_srlv_epi32,
    _mm256_srlv_epi64, _mm256_unpackhi_epi8, _mm256_unpackhi_pd, _mm256_unpacklo_epi8, _mm256_unpacklo_pd,
};
use std::mem::transmute;
use std::ops::Range;
use std::sync::OnceLock;

/// Bytes of a cache line.
pub(super) const LINE: usize = 64;
/// Rows of weights from one that is multiplied to the one asked for at the same place.
pub(super) const AHEAD: usize = 4;
/// Bytes of the same row.
pub(super) const NEAR: usize = 1024;
/// Proof that this processor multiplies bytes in 256-bit vectors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2Bytes {
    /// There is one instruction for sums of four, and it gives the sums of the two for pairs.
    has_fours: bool,
}

impl Avx2Bytes {
    pub(super) fn detect() -> Option<Self> {
        static FOUND: OnceLock<Option<Avx2Bytes>> = OnceLock::new();
        *FOUND.get_or_init(|| {
            let found = std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("f16c");
            // SAFETY: the features the function is compiled for, and the instruction it tries, were found.
            let has_fours = found && std::arch::is_x86_feature_detected!("avxvnni") && unsafe { fours_agree() };
            found.then_some(Self { has_fours })
        })
    }

    /// Whether sums of four are one instruction.
    pub(super) fn has_fours(self) -> bool {
        self.has_fours
    }

    /// `x[r]·w[row]` of these rows, `J` at a time and the last ones alone; `take` is told how many came before.
    pub(super) fn each_row<const R: usize, const J: usize>(
        self,
        w: &Stored,
        rows: Range<usize>,
        x: &[Row; R],
        take: &mut impl FnMut(usize, &[[f32; R]]),
    ) {
        if self.has_fours {
            each_row::<R, J, true>(w, rows, x, take);
        } else {
            each_row::<R, J, false>(w, rows, x, take);
        }
    }
}

/// Called by [`Avx2Bytes::each_row`] alone, which proves the features; `FOURS` is true only where its field is.
fn each_row<const R: usize, const J: usize, const FOURS: bool>(
    w: &Stored,
    rows: Range<usize>,
    x: &[Row; R],
    take: &mut impl FnMut(usize, &[[f32; R]]),
) {
    match w.rows(rows.clone()) {
        // SAFETY: the caller proves the features the function is compiled for.
        Rows::Blocks(kind, bytes, size) => unsafe { blocks_of::<R, J, FOURS>(kind, bytes, size, x, take) },
        Rows::FourBit(table) => {
            let values = Values::of(table);
            let mut buffers: [Vec<f32>; J] = std::array::from_fn(|_| w.buffer());
            let whole = rows.len() - rows.len() % J;
            for j in (0..whole).step_by(J) {
                let mut row = rows.start + j;
                let codes = buffers.each_mut().map(|buffer| {
                    row += 1;
                    w.row(row - 1, buffer)
                });
                let (bytes, scales) = (codes.each_ref().map(Codes::bytes), codes.each_ref().map(Codes::scales));
                // SAFETY: the caller proves the features the function is compiled for.
                take(j, &unsafe { four_bit(bytes, scales, &values, x) });
            }
            for j in whole..rows.len() {
                let codes = w.row(rows.start + j, &mut buffers[0]);
                // SAFETY: the caller proves the features the function is compiled for.
                take(j, &unsafe { four_bit([codes.bytes()], [codes.scales()], &values, x) });
            }
        }
    }
}

/// Rows of `size` bytes, one behind the other.
#[target_feature(enable = "avx2,f16c")]
fn blocks_of<const R: usize, const J: usize, const FOURS: bool>(
    kind: GgmlType,
    bytes: &[u8],
    size: usize,
    x: &[Row; R],
    take: &mut impl FnMut(usize, &[[f32; R]]),
) {
    /// The loop stands around each kernel, so that nothing is called for some rows.
    macro_rules! all {
        ($kernel:ident) => {{
            let mut whole = bytes.chunks_exact(size * J);
            let mut done = 0;
            for some in whole.by_ref() {
                let mut w = [some; J];
                for (j, w) in w.iter_mut().enumerate() {
                    *w = &some[j * size..(j + 1) * size];
                }
                take(done, &$kernel::<R, J, FOURS>(w, x));
                done += J;
            }
            for row in whole.remainder().chunks_exact(size) {
                take(done, &$kernel::<R, 1, FOURS>([row], x));
                done += 1;
            }
        }};
    }
    match kind {
        GgmlType::Q8_0 => all!(q8_0),
        GgmlType::Q5_0 => all!(q5_0),
        GgmlType::Iq4Nl => all!(iq4),
        GgmlType::Q6K => all!(q6_k),
        GgmlType::Q5K => all!(q5_k),
        GgmlType::Q4K => all!(q4_k),
        _ => all!(q4_0),
    }
}

/// Both halves of the lanes of `R` rows of activations with `J` of weights.
pub(super) type Lanes<const R: usize, const J: usize> = [[[__m256; 2]; R]; J];

/// Nothing yet.
#[inline]
#[target_feature(enable = "avx")]
pub(super) fn none<const R: usize, const J: usize>() -> Lanes<R, J> {
    [[[_mm256_setzero_ps(); 2]; R]; J]
}

/// The sum of the lanes of each.
#[inline]
#[target_feature(enable = "avx")]
pub(super) fn in_pairs<const R: usize, const J: usize>(lanes: &Lanes<R, J>) -> [[f32; R]; J] {
    let mut eight = [[_mm256_setzero_ps(); R]; J];
    for j in 0..J {
        for r in 0..R {
            eight[j][r] = _mm256_add_ps(lanes[j][r][0], lanes[j][r][1]);
        }
    }
    in_pairs_of_eight(&eight)
}

/// The sum of the lanes of each, four rows of weights at once.
#[inline]
#[target_feature(enable = "avx")]
pub(super) fn in_pairs_of_eight<const R: usize, const J: usize>(lanes: &[[__m256; R]; J]) -> [[f32; R]; J] {
    let mut sums = [[0.0; R]; J];
    for r in 0..R {
        let [a, b, c, d] = [0, 1, 2, 3].map(|j: usize| lanes[j.min(J - 1)][r]);
        let ab = _mm256_add_ps(_mm256_permute2f128_ps::<0x20>(a, b), _mm256_permute2f128_ps::<0x31>(a, b));
        let cd = _mm256_add_ps(_mm256_permute2f128_ps::<0x20>(c, d), _mm256_permute2f128_ps::<0x31>(c, d));
        let (ab, cd) = (_mm256_castps_pd(ab), _mm256_castps_pd(cd));
        let (low, high) = (_mm256_unpacklo_pd(ab, cd), _mm256_unpackhi_pd(ab, cd));
        let acbd = _mm256_add_ps(_mm256_castpd_ps(low), _mm256_castpd_ps(high));
        let acbd = _mm256_add_ps(acbd, _mm256_movehdup_ps(acbd));
        let [a, _, c, _, b, _, d, _] = numbers_of(acbd);
        for (row, sum) in sums.iter_mut().zip([a, b, c, d]) {
            row[r] = sum;
        }
    }
    sums
}

/// `lanes += sum·scales`
#[inline]
#[target_feature(enable = "avx")]
pub(super) fn weigh(lanes: &mut __m256, sum: __m256i, scales: __m256) {
    *lanes = _mm256_add_ps(*lanes, _mm256_mul_ps(_mm256_cvtepi32_ps(sum), scales));
}

/// `start` and the sums of each four products.
#[inline]
#[target_feature(enable = "avx2")]
fn fours<const FOURS: bool>(start: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i {
    if FOURS {
        let mut sums = start;
        // SAFETY: the instruction changes the one register; `FOURS` says that the processor has it.
        unsafe {
            asm!("{{vex}} vpdpbusd {sums}, {unsigned}, {signed}",
                sums = inout(ymm_reg) sums, unsigned = in(ymm_reg) unsigned, signed = in(ymm_reg) signed,
                options(pure, nomem, nostack, preserves_flags));
        }
        return sums;
    }
    let pairs = _mm256_maddubs_epi16(unsigned, signed);
    _mm256_add_epi32(start, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
}

/// Whether one instruction and two give the same sums, for factors of all sizes.
#[target_feature(enable = "avx2")]
fn fours_agree() -> bool {
    let mut state = 1_u32;
    (0..64).all(|_| {
        let mut bytes = || {
            let words = [0; 8].map(|_: u32| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state ^ state >> 16
            });
            // SAFETY: both types are 32 bytes, of which every content is valid.
            unsafe { transmute::<[u32; 8], __m256i>(words) }
        };
        // Sizes of up to 128, and no -128: what kernels multiply.
        let (start, unsigned) = (bytes(), _mm256_abs_epi8(bytes()));
        let signed = _mm256_or_si256(_mm256_abs_epi8(bytes()), _mm256_set1_epi8(1));
        let signed = _mm256_sign_epi8(_mm256_and_si256(signed, _mm256_set1_epi8(127)), bytes());
        let [one, two] = [fours::<true>(start, unsigned, signed), fours::<false>(start, unsigned, signed)];
        // SAFETY: both types are 32 bytes, of which every content is valid.
        let [one, two] = [one, two].map(|sums| unsafe { transmute::<__m256i, [i32; 8]>(sums) });
        one == two
    })
}

/// Sums of each four products of half a group with codes that have a zero of two to the power of `ZERO`.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn product<const ZERO: i32, const FOURS: bool>(codes: __m256i, x: &Rounded, half: usize) -> __m256i {
    let minus_fours = &x.fours.as_chunks::<{ LANES / 2 }>().0[half];
    // SAFETY: both types are 32 bytes, of which every content is valid.
    let minus_fours = unsafe { transmute::<[i32; LANES / 2], __m256i>(*minus_fours) };
    fours::<FOURS>(_mm256_slli_epi32::<ZERO>(minus_fours), codes, codes_of(x, half))
}

/// The same with codes that have none.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn plain_product<const FOURS: bool>(codes: __m256i, x: &Rounded, half: usize) -> __m256i {
    fours::<FOURS>(_mm256_setzero_si256(), codes, codes_of(x, half))
}

/// The same with codes that have a sign.
#[inline]
#[target_feature(enable = "avx2")]
fn signed_product<const FOURS: bool>(codes: __m256i, x: &Rounded, half: usize) -> __m256i {
    let x = _mm256_sign_epi8(codes_of(x, half), codes);
    fours::<FOURS>(_mm256_setzero_si256(), _mm256_abs_epi8(codes), x)
}

/// The codes of half a group.
#[inline]
#[target_feature(enable = "avx")]
fn codes_of(x: &Rounded, half: usize) -> __m256i {
    // SAFETY: both types are 32 bytes, of which every content is valid.
    unsafe { transmute::<[i8; 32], __m256i>(x.codes.as_chunks().0[half]) }
}

/// The blocks of each row, as many as those of the first.
#[inline]
pub(super) fn blocks<const N: usize, const J: usize>(rows: [&[u8]; J]) -> [&[[u8; N]]; J] {
    let len = rows[0].len() / N;
    rows.map(|row| &row.as_chunks::<N>().0[..len])
}

// By value: what an unaligned load through a pointer is checked for in a build with debug assertions takes it over memory.

#[inline]
#[target_feature(enable = "avx")]
pub(super) fn load16(from: &[u8; 16]) -> __m128i {
    // SAFETY: both types are 16 bytes, of which every content is valid.
    unsafe { transmute::<[u8; 16], __m128i>(*from) }
}

#[inline]
#[target_feature(enable = "avx")]
pub(super) fn load32(from: &[u8; 32]) -> __m256i {
    // SAFETY: both types are 32 bytes, of which every content is valid.
    unsafe { transmute::<[u8; 32], __m256i>(*from) }
}

#[inline]
#[target_feature(enable = "avx")]
pub(super) fn four_floats(from: &[f32; 4]) -> __m128 {
    // SAFETY: both types are 16 bytes, of which every content is valid.
    unsafe { transmute::<[f32; 4], __m128>(*from) }
}

#[inline]
#[target_feature(enable = "avx")]
pub(super) fn eight_floats(from: &[f32; 8]) -> __m256 {
    // SAFETY: both types are 32 bytes, of which every content is valid.
    unsafe { transmute::<[f32; 8], __m256>(*from) }
}

/// As plain numbers.
#[inline]
#[target_feature(enable = "avx")]
pub(super) fn numbers_of(x: __m256) -> [f32; 8] {
    // SAFETY: both types are 32 bytes, of which every content is valid.
    unsafe { transmute::<__m256, [f32; 8]>(x) }
}

/// `N` bytes at `at`; the blocks below have them at places that are known when this is compiled.
#[inline]
pub(super) fn at<const N: usize>(block: &[u8], at: usize) -> &[u8; N] {
    block[at..].first_chunk().expect("a block has all of its parts")
}

/// The sixteen bits at `place`.
#[inline]
pub(super) fn sixteen(block: &[u8], place: usize) -> i32 {
    i32::from(u16::from_le_bytes(*at(block, place)))
}

/// The f16 at the beginning of both halves of a pair of blocks, one behind the other, for some rows.
#[inline]
#[target_feature(enable = "avx,f16c")]
pub(super) fn scales_of_pairs<const N: usize, const J: usize>(rows: &[&[[u8; N]]; J], g: usize) -> __m256 {
    let mut bits = _mm_setzero_si128();
    bits = _mm_insert_epi16::<0>(bits, sixteen(&rows[0][g], 0));
    bits = _mm_insert_epi16::<1>(bits, sixteen(&rows[0][g], N / 2));
    if J > 1 {
        bits = _mm_insert_epi16::<2>(bits, sixteen(&rows[1][g], 0));
        bits = _mm_insert_epi16::<3>(bits, sixteen(&rows[1][g], N / 2));
    }
    if J > 3 {
        bits = _mm_insert_epi16::<4>(bits, sixteen(&rows[2][g], 0));
        bits = _mm_insert_epi16::<5>(bits, sixteen(&rows[2][g], N / 2));
        bits = _mm_insert_epi16::<6>(bits, sixteen(&rows[3][g], 0));
        bits = _mm_insert_epi16::<7>(bits, sixteen(&rows[3][g], N / 2));
    }
    _mm256_cvtph_ps(bits)
}

/// The low halves of 16 bytes, then the high ones.
#[inline]
#[target_feature(enable = "avx2")]
fn halves_of_16(bytes: &[u8; 16]) -> __m256i {
    let both = _mm256_broadcastsi128_si256(load16(bytes));
    let shift = _mm256_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4);
    _mm256_and_si256(_mm256_srlv_epi32(both, shift), _mm256_set1_epi8(15))
}

/// Sixteen in each byte whose bit is set, otherwise nothing.
#[inline]
#[target_feature(enable = "avx2")]
fn sixteens(bits: [u8; 4]) -> __m256i {
    let places = _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303);
    let all = _mm256_shuffle_epi8(_mm256_set1_epi32(i32::from_le_bytes(bits)), places);
    let bit = _mm256_set1_epi64x(i64::from_le_bytes([1, 2, 4, 8, 16, 32, 64, 128]));
    _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(all, bit), bit), _mm256_set1_epi8(16))
}

/// A kernel for pairs of blocks of 32 elements: what makes the codes of a block, and how they are multiplied.
macro_rules! pairs {
    ($name:ident, $bytes:literal, |$block:ident| $codes:expr, $product:expr) => {
        #[inline]
        #[target_feature(enable = "avx2,f16c")]
        fn $name<const R: usize, const J: usize, const FOURS: bool>(w: [&[u8]; J], x: &[Row; R]) -> [[f32; R]; J] {
            let (ahead, w) = (AHEAD * w[0].len(), blocks::<$bytes, J>(w));
            let len = w[0].len();
            let (groups, scales) = (x.each_ref().map(|x| &x.groups[..len]), x.each_ref().map(|x| &x.scales[..len]));
            let mut lanes = none::<R, J>();
            for g in 0..len {
                let numbers = scales_of_pairs(&w, g);
                let mut weighed = [[0.0; 8]; R];
                for r in 0..R {
                    weighed[r] = numbers_of(_mm256_mul_ps(numbers, _mm256_set1_ps(scales[r][g])));
                }
                for j in 0..J {
                    for line in (0..$bytes).step_by(LINE) {
                        ask_ahead::<NEAR>(&w[j][g], line, ahead);
                    }
                    for half in 0..2 {
                        let $block = &w[j][g][half * ($bytes / 2)..];
                        let codes = $codes;
                        for r in 0..R {
                            let sum = $product(codes, &groups[r][g], half);
                            weigh(&mut lanes[j][r][half], sum, _mm256_set1_ps(weighed[r][2 * j + half]));
                        }
                    }
                }
            }
            in_pairs(&lanes)
        }
    };
}

pairs!(q8_0, 68, |block| load32(at(block, 2)), signed_product::<FOURS>);

pairs!(q5_0, 44, |block| _mm256_or_si256(halves_of_16(at(block, 6)), sixteens(*at(block, 2))), product::<4, FOURS>);

pairs!(q4_0, 36, |block| halves_of_16(at(block, 2)), product::<3, FOURS>);

pairs!(
    iq4,
    36,
    |block| {
        let values = _mm256_broadcastsi128_si256(load16(&iq4_nl().map(|value| value ^ 128)));
        _mm256_shuffle_epi8(values, halves_of_16(at(block, 2)))
    },
    signed_product::<FOURS>
);

/// The low and the high bytes of a table's values.
struct Values([[u8; 16]; 2]);

impl Values {
    fn of(table: &Table) -> Self {
        Self([0, 1].map(|byte| table.values.map(|value| value.to_le_bytes()[byte])))
    }
}

/// Codes of four bits and their values of sixteen: elements of even places, and those of odd ones.
#[inline]
#[target_feature(enable = "avx2")]
fn values_of(codes: &[u8; 16], [low, high]: [__m256i; 2]) -> [__m256i; 2] {
    // Eight bytes twice, then the other eight twice; the high half of a byte comes first.
    let twice = _mm256_permute4x64_epi64::<0b01_01_00_00>(_mm256_castsi128_si256(load16(codes)));
    let codes = _mm256_and_si256(_mm256_srlv_epi64(twice, _mm256_setr_epi64x(4, 0, 4, 0)), _mm256_set1_epi8(15));
    let (low, high) = (_mm256_shuffle_epi8(low, codes), _mm256_shuffle_epi8(high, codes));
    [_mm256_unpacklo_epi8(low, high), _mm256_unpackhi_epi8(low, high)]
}

#[target_feature(enable = "avx2,f16c")]
fn four_bit<const R: usize, const J: usize>(
    w: [&[u8]; J],
    scales: [&[f32]; J],
    values: &Values,
    x: &[Row; R],
) -> [[f32; R]; J] {
    let bytes = values.0.each_ref().map(|bytes| _mm256_broadcastsi128_si256(load16(bytes)));
    let (ahead, w) = (AHEAD * w[0].len(), blocks::<32, J>(w));
    let len = w[0].len();
    let scales = scales.map(|scales| &scales[..len]);
    let (groups, of_x) = (x.each_ref().map(|x| &x.groups[..len]), x.each_ref().map(|x| &x.scales[..len]));
    let mut lanes = none::<R, J>();
    for g in 0..len {
        for j in 0..J {
            ask_ahead::<NEAR>(&w[j][g], 0, ahead);
        }
        for half in 0..2 {
            let mut by_places = [[_mm256_setzero_si256(); 2]; R];
            for r in 0..R {
                let x = codes_of(&groups[r][g], half);
                by_places[r] = [_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(x)), _mm256_srai_epi16::<8>(x)];
            }
            for j in 0..J {
                let [even, odd] = values_of(at(&w[j][g], 16 * half), bytes);
                for r in 0..R {
                    let [x_even, x_odd] = by_places[r];
                    let sum = _mm256_add_epi32(_mm256_madd_epi16(even, x_even), _mm256_madd_epi16(odd, x_odd));
                    weigh(&mut lanes[j][r][half], sum, _mm256_set1_ps(scales[j][g] * of_x[r][g]));
                }
            }
        }
    }
    in_pairs(&lanes)
}
