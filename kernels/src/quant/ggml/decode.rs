//! Blocks of GGUF files as f32: the numbers of llama.cpp's own decoder, bit for bit.
//!
//! Every product of scale and code fits the 24 bits of an f32, so the one rounding is that of adding the
//! minimum, and no instruction set can change it.

use super::{GgmlType, LONGEST_BLOCK, blocks32, blocks256};
use crate::cpu::simd_dispatch::{Isa, vectorized};
use crate::quant::decode::decode_dense;
use crate::weight::DType;

/// All of `bytes`, whole blocks, as f32.
///
/// # Panics
/// When `bytes` are not the blocks of `out.len()` elements.
pub fn dequantize(kind: GgmlType, bytes: &[u8], out: &mut [f32]) {
    dequantize_on(Isa::best(), kind, bytes, out);
}

/// [`dequantize`] with these instructions.
pub(crate) fn dequantize_on(isa: Isa, kind: GgmlType, bytes: &[u8], out: &mut [f32]) {
    assert!(
        kind.row_bytes(out.len()) == Some(bytes.len()),
        "{} bytes of {kind} for {} elements",
        bytes.len(),
        out.len()
    );
    blocks(isa, kind, bytes, out);
}

/// Elements `start .. start + out.len()` of the blocks in `bytes`; neither end need be that of a block.
///
/// # Panics
/// When the run leaves `bytes`.
pub fn decode(kind: GgmlType, bytes: &[u8], start: usize, out: &mut [f32]) {
    decode_on(Isa::best(), kind, bytes, start, out);
}

/// [`decode`] with these instructions.
pub(crate) fn decode_on(isa: Isa, kind: GgmlType, bytes: &[u8], start: usize, mut out: &mut [f32]) {
    let (len, size) = (kind.block_len(), kind.block_bytes());
    let block = |index: usize| &bytes[index * size..(index + 1) * size];
    let mut at = start;
    while !out.is_empty() {
        let (index, skip) = (at / len, at % len);
        let whole = if skip == 0 { out.len() / len } else { 0 };
        let run = if whole > 0 { whole * len } else { out.len().min(len - skip) };
        let (head, tail) = out.split_at_mut(run);
        if whole > 0 {
            blocks(isa, kind, &bytes[index * size..(index + whole) * size], head);
        } else {
            let mut buffer = [0.0; LONGEST_BLOCK];
            blocks(isa, kind, block(index), &mut buffer[..len]);
            head.copy_from_slice(&buffer[skip..skip + run]);
        }
        at += run;
        out = tail;
    }
}

/// A decoder of one block over all of them. No function that takes it as an argument: only a call by its name is sure
/// to become vector code.
macro_rules! each {
    ($bytes:ident, $out:ident, $decode:path) => {
        for (block, out) in $bytes.as_chunks().0.iter().zip($out.as_chunks_mut().0) {
            $decode(block, out);
        }
    };
}

vectorized! {
    fn blocks(kind: GgmlType, bytes: &[u8], out: &mut [f32]) {
        match kind {
            GgmlType::F32 => decode_dense(bytes, DType::F32, out),
            GgmlType::F16 => decode_dense(bytes, DType::F16, out),
            GgmlType::BF16 => decode_dense(bytes, DType::BF16, out),
            GgmlType::Q8_0 => each!(bytes, out, blocks32::decode_q8_0),
            GgmlType::Q6K => each!(bytes, out, blocks256::decode_q6_k),
            GgmlType::Q5K => each!(bytes, out, blocks256::decode_q5_k),
            GgmlType::Q4K => each!(bytes, out, blocks256::decode_q4_k),
            GgmlType::Q3K => each!(bytes, out, blocks256::decode_q3_k),
            GgmlType::Q2K => each!(bytes, out, blocks256::decode_q2_k),
            GgmlType::Q5_0 => each!(bytes, out, blocks32::decode_q5_0),
            GgmlType::Q5_1 => each!(bytes, out, blocks32::decode_q5_1),
            GgmlType::Q4_0 => each!(bytes, out, blocks32::decode_q4_0),
            GgmlType::Q4_1 => each!(bytes, out, blocks32::decode_q4_1),
            GgmlType::Iq4Nl => each!(bytes, out, blocks32::decode_iq4_nl),
        }
    }
}
