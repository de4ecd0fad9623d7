//! Block formats of frozen weights: how stored bytes become numbers, and back.
//!
//! | file | what |
//! | --- | --- |
//! | `nf4.rs`, `fp4.rs`, `mxfp4.rs` | the 4-bit code tables |
//! | `double.rs` | scales that are themselves quantised |
//! | `decode.rs` | any run of elements of a frozen weight as f32 |
//! | `encode.rs` | f32 to 4-bit codes |
//! | `eight_bit.rs` | optimizer states in 8 bits |
//! | `ggml.rs` | the block types of GGUF files: numbers, names, sizes |
//!
//! Bytes and numbers are those of bitsandbytes on a processor, bit for bit; MXFP4 is only read.

pub mod decode;
pub mod double;
pub mod eight_bit;
pub mod encode;
pub mod fp4;
pub mod ggml;
pub mod mxfp4;
pub mod nf4;

pub use decode::{decode, dequantize, dequantize_row};
pub use encode::quantize;
pub use ggml::GgmlType;
