//! A base model as a whole: weights, tokenizer, and where they came from.

use crate::checkpoint::Checkpoint;
use peft_kernels::{DType, FrozenWeight};
use peft_plan::{ModelSpec, Result};
use peft_text::{Parts, Tokenizer};
use std::path::Path;

/// The files of a model that is part of the program.
#[derive(Clone, Copy, Debug)]
pub struct EmbeddedModel {
    /// `config.json`
    pub config: &'static [u8],
    /// `model.safetensors`
    pub weights: &'static [u8],
    /// `tokenizer.json`
    pub tokenizer: &'static [u8],
    /// `tokenizer_config.json`
    pub tokenizer_config: &'static [u8],
    /// `generation_config.json`
    pub generation_config: &'static [u8],
}

/// Weights and tokenizer of a base model.
pub struct BaseModel {
    id: String,
    checkpoint: Checkpoint,
    tokenizer: Tokenizer,
    embedded: Option<EmbeddedModel>,
}

impl BaseModel {
    /// Open the folder `dir`; `id` is what the user calls the model.
    pub fn open(id: &str, dir: &Path) -> Result<Self> {
        let checkpoint = Checkpoint::open(dir)?;
        let tokenizer = Tokenizer::open(dir)?;
        Self::assemble(id, checkpoint, tokenizer, None)
    }

    /// A model that is part of the program.
    pub fn embedded(id: &str, files: EmbeddedModel) -> Result<Self> {
        let checkpoint = Checkpoint::from_bytes(files.config, files.weights)?;
        let tokenizer = Tokenizer::from_parts(Parts {
            tokenizer_json: files.tokenizer,
            tokenizer_config: files.tokenizer_config,
            chat_template: None,
            generation_config: Some(files.generation_config),
            config: Some(files.config),
        })?;
        Self::assemble(id, checkpoint, tokenizer, Some(files))
    }

    fn assemble(
        id: &str,
        checkpoint: Checkpoint,
        tokenizer: Tokenizer,
        embedded: Option<EmbeddedModel>,
    ) -> Result<Self> {
        checkpoint.check()?;
        tokenizer.check_vocabulary(checkpoint.spec().vocab_size)?;
        Ok(Self { id: id.to_owned(), checkpoint, tokenizer, embedded })
    }

    /// What the user calls it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its weights.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Its tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Its architecture.
    pub fn spec(&self) -> &ModelSpec {
        self.checkpoint.spec()
    }

    /// Its folder, if it has one.
    pub fn dir(&self) -> Option<&Path> {
        self.checkpoint.dir()
    }

    /// The linear weights are stored in 4 bit.
    pub fn stored_in_4bit(&self) -> bool {
        let Some(module) = self.spec().modules.first() else { return false };
        (0..self.spec().layers.len()).any(|i| {
            let name = format!("model.layers.{i}.{}.weight", module.name);
            matches!(self.checkpoint.frozen(&name), Ok(FrozenWeight::FourBit(_)))
        })
    }

    /// Element type of the weights that are not quantised.
    pub fn dtype(&self) -> DType {
        match self.checkpoint.frozen("model.embed_tokens.weight") {
            Ok(FrozenWeight::Dense { dtype, .. }) => dtype,
            _ => DType::F32,
        }
    }

    /// Bytes of its `tokenizer.json`.
    pub fn tokenizer_bytes(&self) -> u64 {
        match (&self.embedded, self.dir()) {
            (Some(files), _) => files.tokenizer.len() as u64,
            (None, Some(dir)) => std::fs::metadata(dir.join("tokenizer.json")).map_or(0, |data| data.len()),
            (None, None) => 0,
        }
    }

    /// Bytes of one weight that is not quantised.
    pub fn dense_bytes(&self) -> u64 {
        self.dtype().size() as u64
    }

    /// Small files of the embedded model that belong beside its weights; a folder's files are copied from there.
    pub fn embedded_files_to_copy(&self) -> Vec<(String, Vec<u8>)> {
        let Some(files) = &self.embedded else { return Vec::new() };
        [
            ("tokenizer.json", files.tokenizer),
            ("tokenizer_config.json", files.tokenizer_config),
            ("generation_config.json", files.generation_config),
        ]
        .into_iter()
        .map(|(name, bytes)| (name.to_owned(), bytes.to_vec()))
        .collect()
    }
}
