//! Models in the forms that other programs run.

pub mod certificate;
pub mod gguf;
pub mod ollama;
mod strength;
pub mod tensorrt;
