//! Models in the forms that other programs run.

pub mod certificate;
pub mod gguf;
pub(crate) mod made_of;
pub mod ollama;
mod strength;
pub mod tensorrt;
