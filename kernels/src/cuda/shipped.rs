//! The kernels as the program carries them: PTX, which a driver turns into the instructions of its card.
//!
//! Made from `kernels/cu` by `kernels/cu/ptx.sh`; `tests/conformance/shipped.rs` fails when the two differ.

/// A source and its PTX.
macro_rules! ptx {
    ($($name:literal),* $(,)?) => {
        &[$(($name, concat!(include_str!(concat!("../../ptx/", $name, ".ptx")), "\0"))),*]
    };
}

/// Name and PTX of every source, each text with a zero at its end.
pub const PTX: &[(&str, &str)] = ptx![
    "attention",
    "attention_bf16",
    "attention_bf16_256",
    "attention_bf16_bwd",
    "attention_bwd",
    "attention_few",
    "columns",
    "embed",
    "gated",
    "gemm",
    "gemm_bf16",
    "gemm_skinny",
    "gemv",
    "loss",
    "move",
    "norm",
    "optim",
    "random",
    "rope",
    "sample",
    "weights",
];

/// The same for cards of compute capability 9.0 alone, which other drivers and cards refuse.
pub const PTX_9_0: &[(&str, &str)] = ptx!["gemm_wgmma"];

/// A number that is another one when any of these texts is (FNV-1a over the sources' hashes in their first lines).
pub fn mark() -> u64 {
    let heads = PTX.iter().chain(PTX_9_0).filter_map(|(_, ptx)| ptx.lines().next());
    heads
        .flat_map(str::bytes)
        .fold(0xCBF2_9CE4_8422_2325, |mark, byte| (mark ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3))
}

/// Names of the kernels that a PTX text declares.
pub fn entries(ptx: &str) -> impl Iterator<Item = &str> {
    ptx.lines().filter_map(|line| line.strip_prefix(".visible .entry ")).map(|rest| rest.trim_end_matches('('))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_declares_kernels_and_ends_with_a_zero() {
        for (name, ptx) in PTX.iter().chain(PTX_9_0) {
            assert!(entries(ptx).count() > 0, "{name}");
            assert_eq!(ptx.find('\0'), Some(ptx.len() - 1), "{name}");
        }
    }
}
