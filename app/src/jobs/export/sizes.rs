//! What an export of a run will take on the disk, known before anything is written.

use super::types;
use crate::cli::export::Source as Exported;
use crate::jobs::disposal;
use crate::jobs::open_model;
use peft_models::DType;
use peft_models::engine::Engine;
use peft_models::export::gguf::write::Source;
use peft_models::export::gguf::{FileType, Metadata};
use peft_models::peft_format::read_adapter;
use peft_plan::Result;

/// Bytes of each form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// The adapter; none for a model that was trained whole.
    pub adapter: Option<u64>,
    /// A complete model.
    pub merged: Option<u64>,
    /// A GGUF file of each type, by its name in small letters; none where llama.cpp does not know the architecture.
    pub gguf: Vec<(String, u64)>,
    /// Why there are none.
    pub obstacle: Option<String>,
}

/// Sizes of the exports of `source`.
pub fn sizes(engine: &Engine, source: &Exported) -> Result<Sizes> {
    let base = open_model(&source.model)?;
    let adapter = source.adapter.as_deref().map(read_adapter).transpose()?;
    let about = Metadata::default();
    let of = |file_type: FileType| {
        let source = Source {
            base: &base,
            adapter: adapter.as_ref(),
            quantize: source.quantize,
            layout: None,
            about: &about,
            importance: None,
        };
        engine.conversion(source, &[file_type]).map(|conversion| conversion.bytes())
    };
    let mut found = Sizes {
        adapter: source.adapter.as_deref().map(disposal::size),
        merged: None,
        gguf: Vec::new(),
        obstacle: None,
    };
    for file_type in FileType::all() {
        match of(file_type) {
            Ok(bytes) => found.gguf.push((file_type.name().to_lowercase(), bytes)),
            Err(fault) => {
                found.obstacle = Some(fault.detail);
                break;
            }
        }
    }
    let kept_as = match base.dtype() {
        _ if base.stored_in_4bit() || source.quantize.is_some() => "f16",
        DType::F32 => "f32",
        DType::BF16 => "bf16",
        DType::F16 => "f16",
    };
    let whole = types(&[kept_as.to_owned()])?.first().map(|file_type| file_type.name().to_lowercase());
    found.merged = found.gguf.iter().find(|(name, _)| Some(name) == whole.as_ref()).map(|(_, bytes)| *bytes);
    Ok(found)
}
