//! Matrices in the 4-bit layout of bitsandbytes, as `save_pretrained` writes them.
//!
//! A matrix is in 4 bits if it has a `quant_state` companion. The lists of skipped modules in
//! configurations are not asked: they differ between writers, and mixed models are common.

use super::{Checkpoint, StoredTensor, header};
use peft_kernels::{Absmax, DType, FourBit, FourBitKind};
use peft_plan::Result;
use safetensors::Dtype;
use serde::Deserialize;
use std::sync::Arc;

/// Longest description of a matrix; real ones have about 200 bytes.
const STATE_BYTES: usize = 1 << 16;
/// Largest block of elements that share a scale.
const BLOCK: usize = 1 << 16;

/// The JSON in the `quant_state` companion.
#[derive(Deserialize)]
struct State {
    quant_type: String,
    blocksize: usize,
    dtype: String,
    shape: Vec<usize>,
    nested_blocksize: Option<usize>,
    nested_dtype: Option<String>,
    nested_offset: Option<f64>,
}

/// What the description of a matrix says once it has been checked.
struct Described<'a> {
    kind: FourBitKind,
    state: State,
    stated: &'a StoredTensor,
    rows: usize,
    cols: usize,
}

/// The shape of the matrix `name` if it is stored in 4 bits.
pub(super) fn shape(checkpoint: &Checkpoint, name: &str) -> Result<Option<(usize, usize)>> {
    Ok(describe(checkpoint, name)?.map(|d| (d.rows, d.cols)))
}

fn describe<'a>(checkpoint: &'a Checkpoint, name: &str) -> Result<Option<Described<'a>>> {
    let kinds = [("nf4", FourBitKind::Nf4), ("fp4", FourBitKind::Fp4)];
    let found = kinds.iter().find_map(|(quant_type, kind)| {
        let stated = checkpoint.tensor(&format!("{name}.quant_state.bitsandbytes__{quant_type}"))?;
        Some((*quant_type, *kind, stated))
    });
    let Some((quant_type, kind, stated)) = found else { return Ok(None) };
    let state = parse(stated)?;
    if state.quant_type != quant_type {
        return Err(stated.damaged(&format!("it describes the type `{}`", state.quant_type)));
    }
    let &[rows, cols] = state.shape.as_slice() else {
        return Err(stated.damaged(&format!("it describes a tensor of shape {:?}, not a matrix", state.shape)));
    };
    if !(1..=BLOCK).contains(&state.blocksize) {
        return Err(stated.damaged(&format!("it describes blocks of {} numbers", state.blocksize)));
    }
    Ok(Some(Described { kind, state, stated, rows, cols }))
}

/// The matrix `name` if it is stored in 4 bits, `None` if it is not.
pub(super) fn read(checkpoint: &Checkpoint, name: &str) -> Result<Option<FourBit>> {
    let Some(Described { kind, state, stated, rows, cols }) = describe(checkpoint, name)? else { return Ok(None) };
    let companion = |suffix: &str| checkpoint.tensor(&format!("{name}.{suffix}"));
    let codes = checkpoint.needed(name)?;
    // The type that the state names is the one to compute in elsewhere. Here it is f32, so nothing is rounded: the
    // same numbers that bitsandbytes multiplies with when its compute type is f32.
    let rounding = match state.dtype.as_str() {
        "bfloat16" | "float16" | "float32" => DType::F32,
        other => return Err(stated.damaged(&format!("it asks for `{other}` numbers"))),
    };
    if let Some(table) = companion("quant_map") {
        check_table(table, kind)?;
    }
    let scales = checkpoint.needed(&format!("{name}.absmax"))?;
    let absmax = match scales.dtype {
        Dtype::F32 => Absmax::Plain(floats(scales)?),
        Dtype::U8 => {
            let group = state.nested_blocksize.filter(|n| (1..=BLOCK).contains(n));
            let offset = state.nested_offset.filter(|x| (*x as f32).is_finite());
            let plain = state.nested_dtype.as_deref().is_none_or(|dtype| dtype == "float32");
            let (Some(group), Some(offset), true) = (group, offset, plain) else {
                return Err(stated.damaged("it does not say how its scales were quantised"));
            };
            Absmax::Nested {
                codes: scales.bytes.clone(),
                map: floats(checkpoint.needed(&format!("{name}.nested_quant_map"))?)?,
                scales: floats(checkpoint.needed(&format!("{name}.nested_absmax"))?)?,
                offset: offset as f32,
                group,
            }
        }
        other => return Err(scales.damaged(&format!("{other:?} is no type for scales"))),
    };
    // The codes may be declared as any type: the bytes are the same.
    let codes = codes.bytes.clone();
    Ok(Some(FourBit { kind, codes, absmax, block: state.blocksize, rows, cols, rounding }))
}

fn parse(stated: &StoredTensor) -> Result<State> {
    let bytes = stated.bytes.as_slice();
    if stated.dtype != Dtype::U8 || bytes.len() > STATE_BYTES {
        return Err(stated.damaged("it is not the description of a 4-bit matrix"));
    }
    serde_json::from_slice(bytes).map_err(|error| stated.damaged(&format!("it is not valid JSON ({error})")))
}

fn floats(tensor: &StoredTensor) -> Result<Arc<Vec<f32>>> {
    if header::float(tensor.dtype) != Some(DType::F32) {
        return Err(tensor.damaged(&format!("{:?} instead of F32", tensor.dtype)));
    }
    tensor.to_f32().map(Arc::new)
}

/// The kernels have the code tables built in: a file with another table would be misread.
fn check_table(stored: &StoredTensor, kind: FourBitKind) -> Result<()> {
    let expected = peft_kernels::quant::decode::code_table(kind);
    let values = floats(stored)?;
    let same = values.len() == expected.len() && values.iter().zip(expected).all(|(v, e)| (v - e).abs() <= 1e-6);
    if same { Ok(()) } else { Err(stored.damaged("its 16 values are not those of the 4-bit type it names")) }
}
