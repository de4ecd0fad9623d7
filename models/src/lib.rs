//! Checkpoints, the decoder, adapters, training, generation, export.

pub mod adapter;
pub mod base;
pub mod calibrate;
pub mod checkpoint;
pub mod decoder;
pub mod engine;
pub mod export;
pub mod fault;
pub mod generate;
pub mod golden;
pub mod merge;
pub mod merge_writer;
pub mod peft_format;
pub mod prepare;
pub mod receipt;
pub mod train;
pub mod verify;
pub use peft_kernels::DType;
