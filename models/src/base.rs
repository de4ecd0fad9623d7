//! A base model as a whole: weights, tokenizer, and where they came from.

use crate::checkpoint::Checkpoint;
use crate::export::gguf::vocabulary::TokenizerFiles;
use peft_kernels::{DType, FrozenWeight};
use peft_plan::{Fault, ModelSpec, Result};
use peft_text::{Parts, Tokenizer};
use serde_json::Value;
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

/// Largest file of a tokenizer that is read.
const TOKENIZER_BYTES: u64 = 256 << 20;

/// The bytes of a file that may be missing.
fn read_small(path: &Path) -> Result<Option<Vec<u8>>> {
    use std::io::{Error, ErrorKind};
    let read = || match std::fs::metadata(path)?.len() {
        ..=TOKENIZER_BYTES => std::fs::read(path),
        _ => Err(Error::new(ErrorKind::FileTooLarge, "it is far too large for this file")),
    };
    match read() {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Fault::io("read", path, error)),
    }
}

/// Weights and tokenizer of a base model.
pub struct BaseModel {
    id: String,
    checkpoint: Checkpoint,
    tokenizer: Tokenizer,
    embedded: Option<EmbeddedModel>,
}

impl BaseModel {
    /// Open the folder `dir`, or the GGUF file of that name; `id` is what the user calls the model.
    pub fn open(id: &str, dir: &Path) -> Result<Self> {
        let checkpoint = Checkpoint::open(dir)?;
        if let Some(file) = checkpoint.gguf() {
            let tokenizer = crate::export::gguf::tokenizer::read(file, checkpoint.config())?;
            return Self::assemble(id, checkpoint, tokenizer, None);
        }
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
            // What blocks decode to has no more digits than that.
            Ok(FrozenWeight::Blocks { .. }) => DType::F16,
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

    /// The files of its tokenizer, as they are. Not for a model in a GGUF file, which has none.
    pub fn tokenizer_files(&self) -> Result<TokenizerFiles> {
        let model_config = self.checkpoint.config().clone();
        if let Some(files) = &self.embedded {
            let read = |bytes: &[u8]| serde_json::from_slice(bytes).unwrap_or_default();
            let (json, config) = (read(files.tokenizer), read(files.tokenizer_config));
            return Ok(TokenizerFiles { json, config, model_config, pieces: None });
        }
        let Some(dir) = self.dir() else { return Ok(TokenizerFiles { model_config, ..TokenizerFiles::default() }) };
        let json = |name: &str| match read_small(&dir.join(name))? {
            // The tokenizer was opened from the same file, and what is wrong with it was said then.
            Some(bytes) => Ok::<_, Fault>(serde_json::from_slice(&bytes).unwrap_or_default()),
            None => Ok(Value::Null),
        };
        let pieces = read_small(&dir.join("tokenizer.model"))?;
        Ok(TokenizerFiles {
            json: json("tokenizer.json")?,
            config: json("tokenizer_config.json")?,
            model_config,
            pieces,
        })
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
