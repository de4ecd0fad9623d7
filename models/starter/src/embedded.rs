//! The trained starter model, part of the program. Made by `peft-studio starter build`.

/// `config.json`
pub const CONFIG: &[u8] = include_bytes!("../weights/config.json");
/// `model.safetensors`, bf16
pub static WEIGHTS: &[u8] = include_bytes!("../weights/model.safetensors");
/// `tokenizer.json`
pub const TOKENIZER: &[u8] = include_bytes!("../weights/tokenizer.json");
/// `tokenizer_config.json`, the chat template in it
pub const TOKENIZER_CONFIG: &[u8] = include_bytes!("../weights/tokenizer_config.json");
/// `generation_config.json`
pub const GENERATION_CONFIG: &[u8] = include_bytes!("../weights/generation_config.json");
