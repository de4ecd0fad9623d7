//! The operations a training step needs, for every device.
//!
//! | concept | contract | obviously right | fast on a processor |
//! | --- | --- | --- | --- |
//! | device | [`Backend`] | [`reference::Reference`] | [`cpu::Cpu`] |
//! | device matrix | [`Tensor`] | `Vec<f32>` | `Vec<f32>` |
//! | frozen weight | [`FrozenWeight`] | decoded to f32 | kept as stored, decoded inside the product |
//! | products | [`Backend::linear`], [`Backend::gemm`] | `reference/linear.rs` | `cpu/linear.rs` |
//!
//! [`cuda::Cuda`] is the backend for NVIDIA GPUs; its kernels are in `kernels/cu`.
//!
//! Explicit forward and backward operations; no tape, no graph, no general tensors. Read
//! `backend.rs` first. The chain of trust is: finite differences check `reference`, `reference`
//! checks every other backend through one conformance suite (`tests/conformance`).

// Which bits come out is the subject here: equality of numbers is meant.
#![allow(clippy::float_cmp)]

mod adapted;
mod aside;
pub mod backend;
pub mod codes;
pub mod cpu;
pub mod cuda;
pub mod error;
mod host;
pub mod largest;
mod pages;
pub mod philox;
pub mod quant;
pub mod reference;
pub mod selftest;
mod shapes;
pub mod tensor;
pub mod weight;

pub use adapted::{Adapted, AdaptedGradient, Adapter, AdapterGradient, Input, Normed};
pub use aside::Aside;
pub use backend::{
    Activation, AdamW, AttentionParams, Backend, CachedSegment, ClampedGate, Dropout, Heads, LossParams, NormParams,
    Operand, Part, RopeParams, Segment, Turn, Write,
};
pub use error::{Error, Result};
pub use quant::eight_bit::{EightBit, Rounding};
pub use tensor::{In, Out, Tensor, Window};
pub use weight::{Absmax, Bytes, DType, FourBit, FourBitKind, FrozenWeight, Matrix};

/// A target that takes no part in the loss, as in `PyTorch`.
pub const IGNORE_INDEX: i32 = -100;
