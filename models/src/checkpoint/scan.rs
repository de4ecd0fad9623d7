//! The search for weights that are not numbers, over whole files in bounded memory.
//!
//! One such weight makes every loss NaN, and the message of a training step could not say why.

use super::{Checkpoint, StoredTensor};
use safetensors::Dtype;

/// Elements that are looked at before an early return is considered: long enough for the
/// comparison inside to run in vector registers.
const CHUNK: usize = 1 << 14;

impl Checkpoint {
    /// The first tensor (by name) with a weight that is NaN or infinite, and where; `None` if all
    /// are numbers. Reads every byte once. What `keep` does not want in memory afterwards is given back tensor by
    /// tensor; names are the canonical ones.
    pub fn non_finite(&self, keep: impl Fn(&str) -> bool) -> Option<String> {
        self.tensors.iter().find_map(|(name, tensor)| {
            let index = first_non_finite(tensor);
            if !keep(name) {
                self.release(name);
            }
            let index = index?;
            Some(format!("element {index} of `{}` in `{}`", tensor.stored_name, tensor.file))
        })
    }
}

fn first_non_finite(tensor: &StoredTensor) -> Option<usize> {
    let bytes = tensor.bytes.as_slice();
    // All bits of the exponent set: infinite or NaN.
    match tensor.dtype {
        Dtype::F32 => find(bytes.as_chunks::<4>().0, |b| u32::from_le_bytes(b) & 0x7F80_0000 == 0x7F80_0000),
        Dtype::F16 => find(bytes.as_chunks::<2>().0, |b| u16::from_le_bytes(b) & 0x7C00 == 0x7C00),
        Dtype::BF16 => find(bytes.as_chunks::<2>().0, |b| u16::from_le_bytes(b) & 0x7F80 == 0x7F80),
        _ => None,
    }
}

fn find<const N: usize>(elements: &[[u8; N]], bad: impl Fn([u8; N]) -> bool) -> Option<usize> {
    elements.chunks(CHUNK).enumerate().find_map(|(chunk, part)| {
        // `|` and not `||`: no branch inside, so the compiler uses vector instructions.
        let any = part.iter().fold(false, |any, b| any | bad(*b));
        any.then(|| part.iter().position(|b| bad(*b)).map(|i| chunk * CHUNK + i)).flatten()
    })
}
