//! What has one right answer, known beforehand: random bits, and the 4-bit codes.

use super::Check;
use super::rig::{Rig, different, nmse};
use crate::philox;
use crate::quant::{self, fp4, nf4};
use crate::reference::Reference;
use crate::weight::{Absmax, Bytes, DType, FourBit, FourBitKind};
use std::sync::Arc;

/// Elements that share a scale.
const BLOCK: usize = 64;

/// Counter, key and words that Random123 publishes for `philox4x32-10`.
const PHILOX: [([u32; 4], [u32; 2], [u32; 4]); 3] = [
    ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
    ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
    (
        [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
        [0xa409_3822, 0x299f_31d0],
        [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
    ),
];

/// Quantising the scales too may change numbers by so much (normalised mean square).
const ALLOWED_OF_SCALES: f64 = 1e-5;

/// One of the 4-bit codes.
struct Code {
    kind: FourBitKind,
    name: &'static str,
    table: &'static [f32; 16],
    /// Of the largest magnitude, which every block has, and of zero, which fills the last byte.
    largest: u8,
    zero: u8,
    /// A code whose number another code has too, if there is one.
    double: Option<u8>,
    /// What is lost of noise in 4 bits, at most (normalised mean square).
    allowed: f64,
}

const CODES: [Code; 2] = [
    Code {
        kind: FourBitKind::Nf4,
        name: "nf4",
        table: &nf4::TABLE,
        largest: 15,
        zero: 7,
        double: None,
        allowed: 0.015,
    },
    Code {
        kind: FourBitKind::Fp4,
        name: "fp4",
        table: &fp4::TABLE,
        largest: 3,
        zero: 0,
        double: Some(8),
        allowed: 0.04,
    },
];

pub(super) fn checks(seed: u64) -> Vec<Check> {
    let wrong_words = |(counter, key, want): ([u32; 4], [u32; 2], [u32; 4])| {
        philox::block(counter, key).iter().zip(want).filter(|(got, want)| **got != *want).count()
    };
    let mut checks =
        vec![exactly("philox known answers: words that differ".into(), PHILOX.map(wrong_words).iter().sum())];
    let mut rig = Rig::new(&Reference, seed);
    for code in &CODES {
        checks.push(known_values(code));
        for (rows, cols) in [(1, 64), (7, 33), (5, 129)] {
            checks.extend(round_trip(code, &mut rig, rows, cols));
        }
        checks.extend(losses(code, &mut rig));
    }
    checks
}

fn exactly(name: String, wrong: usize) -> Check {
    Check { name, error: wrong as f64, allowed: 0.0 }
}

fn known_values(code: &Code) -> Check {
    let codes = (0..8_u8).map(|i| (2 * i) << 4 | (2 * i + 1)).collect();
    let values = quant::dequantize(&stored(code, codes, vec![0.375], 2, 8));
    let wrong = different(&values, &code.table.map(|value| 0.375 * value));
    exactly(format!("{} known answers: values that differ", code.name), wrong)
}

fn stored(code: &Code, codes: Vec<u8>, absmax: Vec<f32>, rows: usize, cols: usize) -> FourBit {
    let absmax = Absmax::Plain(Arc::new(absmax));
    FourBit { kind: code.kind, codes: Bytes::from_vec(codes), absmax, block: BLOCK, rows, cols, rounding: DType::F32 }
}

/// Codes and scales that are decoded and encoded again are what they were.
fn round_trip(code: &Code, rig: &mut Rig<Reference>, rows: usize, cols: usize) -> [Check; 2] {
    let n = rows * cols;
    let mut codes: Vec<u8> = rig.bytes(n.next_multiple_of(2)).iter().map(|byte| byte & 15).collect();
    codes.iter_mut().filter(|c| code.double == Some(**c)).for_each(|c| *c = code.zero);
    codes[..n].chunks_mut(BLOCK).for_each(|block| block[rig.below(block.len())] = code.largest);
    codes[n..].fill(code.zero);
    let packed: Vec<u8> = codes.as_chunks::<2>().0.iter().map(|[even, odd]| even << 4 | odd).collect();
    let scales = rig.at_least(0.5, n.div_ceil(BLOCK));
    let values = quant::dequantize(&stored(code, packed.clone(), scales.clone(), rows, cols));
    let again = quant::quantize(&values, rows, cols, code.kind, BLOCK, false, DType::F32);
    let wrong_bytes = again.codes.as_slice().iter().zip(&packed).filter(|(got, want)| got != want).count();
    let wrong_scales = match &again.absmax {
        Absmax::Plain(found) => different(found, &scales),
        Absmax::Nested { .. } => scales.len(),
    };
    let name = |what: &str| format!("{} [{rows}, {cols}] decoded and encoded: {what} that differ", code.name);
    [
        exactly(name("bytes"), wrong_bytes + again.codes.len().abs_diff(packed.len())),
        exactly(name("scales"), wrong_scales),
    ]
}

/// What noise loses in 4 bits, and what it loses more if the scales are quantised too.
fn losses(code: &Code, rig: &mut Rig<Reference>) -> [Check; 2] {
    let (rows, cols) = (300, 129);
    let noise = rig.noise(rows * cols);
    let [plain, nested] = [false, true]
        .map(|double| quant::dequantize(&quant::quantize(&noise, rows, cols, code.kind, BLOCK, double, DType::F32)));
    let name = |what: &str| format!("{} [{rows}, {cols}] of noise: {what}", code.name);
    [
        Check { name: name("loss"), error: nmse(&plain, &noise), allowed: code.allowed },
        Check { name: name("loss of double quantisation"), error: nmse(&nested, &plain), allowed: ALLOWED_OF_SCALES },
    ]
}
