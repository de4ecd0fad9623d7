//! GGUF, the file of llama.cpp and of everything built on it: version 3, read and written.
//!
//! [`File`] is a file that was read and checked; [`Layout`] is one that is about to be written, every size known
//! before the first byte. What a model's parts are called in it is in [`architecture`], what is said
//! about them in [`metadata`] and [`vocabulary`]; [`mod@write`] takes a model through all of that.

pub mod architecture;
pub(crate) mod called;
pub mod importance;
mod layout;
pub mod lora;
pub mod metadata;
pub mod mix;
mod reader;
mod splitting;
pub mod tokenizer;
mod unigram;
mod value;
pub mod vocabulary;
pub mod write;

pub use layout::{Layout, Planned};
pub use mix::FileType;
pub use reader::{File, Tensor};
pub use value::{Array, Metadata, Value};

/// First four bytes.
const MAGIC: &[u8; 4] = b"GGUF";
/// The version that is read and written.
const VERSION: u32 = 3;
/// Where tensors begin, unless the file says otherwise.
const ALIGNMENT: usize = 32;
/// The key that says otherwise.
const ALIGNMENT_KEY: &str = "general.alignment";
/// Longest name of a tensor, bytes.
const NAME_BYTES: usize = 63;
/// Most dimensions of a tensor.
const RANK: usize = 4;
