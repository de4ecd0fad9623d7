//! The bytes that each token prints, for whoever must know before a token is chosen.
//!
//! How a token is spelled in the vocabulary depends on the decoder: GPT-2's alphabet for bytes, or pieces with `▁`
//! for spaces and `<0x0A>` for single bytes. Other decoders look at their neighbours, so a token has no bytes alone.

use crate::tokenizer::Tokenizer;
use peft_plan::{Fault, Result};
use serde_json::Value;
use std::collections::HashMap;

/// What a token prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenBytes {
    /// These bytes, which may be part of a character.
    Text(Vec<u8>),
    /// Nothing: it is a control token, or there is no token with this number.
    Nothing,
}

/// How spellings become bytes.
enum Alphabet {
    Bytes(HashMap<char, u8>),
    Pieces(Vec<(String, String)>),
}

impl Tokenizer {
    /// What every token prints, by id.
    pub fn token_bytes(&self) -> Result<Vec<TokenBytes>> {
        let alphabet = self.alphabet()?;
        let bytes = |id: u32| {
            if let Some(added) = self.added().get(&id) {
                let text = added.content.clone().into_bytes();
                return if added.special { TokenBytes::Nothing } else { TokenBytes::Text(text) };
            }
            match self.id_to_token(id).and_then(|spelling| alphabet.bytes(&spelling)) {
                Some(text) if !text.is_empty() => TokenBytes::Text(text),
                _ => TokenBytes::Nothing,
            }
        };
        Ok((0..self.vocabulary_size() as u32).map(bytes).collect())
    }

    fn alphabet(&self) -> Result<Alphabet> {
        let decoder = self.decoder_settings();
        let parts = match decoder["decoders"].as_array() {
            Some(parts) => parts.clone(),
            None => vec![decoder],
        };
        let kind = |part: &Value| part["type"].as_str().unwrap_or_default().to_owned();
        if parts.iter().any(|part| kind(part) == "ByteLevel") {
            return Ok(Alphabet::Bytes(byte_alphabet()));
        }
        let mut replaced = Vec::new();
        for part in &parts {
            match kind(part).as_str() {
                "Replace" => {
                    if let (Some(from), Some(to)) = (part["pattern"]["String"].as_str(), part["content"].as_str()) {
                        replaced.push((from.to_owned(), to.to_owned()));
                    }
                }
                "Metaspace" => {
                    replaced.push((part["replacement"].as_str().unwrap_or("▁").to_owned(), " ".to_owned()));
                }
                "ByteFallback" | "Fuse" | "Strip" => {}
                other => {
                    return Err(Fault::new(
                        "PS-CFG-001",
                        format!("Answers of this model cannot be held to a schema: its tokenizer decodes by `{other}`"),
                    ));
                }
            }
        }
        Ok(Alphabet::Pieces(replaced))
    }
}

impl Alphabet {
    fn bytes(&self, spelling: &str) -> Option<Vec<u8>> {
        match self {
            Self::Bytes(alphabet) => spelling.chars().map(|c| alphabet.get(&c).copied()).collect(),
            Self::Pieces(replaced) => {
                let byte = spelling.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
                if let Some(byte) = byte.filter(|hex| hex.len() == 2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                    return Some(vec![byte]);
                }
                let text = replaced.iter().fold(spelling.to_owned(), |text, (from, to)| text.replace(from, to));
                Some(text.into_bytes())
            }
        }
    }
}

/// GPT-2's alphabet: printable bytes stand for themselves, the others for characters from U+0100 on.
pub(crate) fn byte_alphabet() -> HashMap<char, u8> {
    let mut next = 0x100;
    (0..=255_u8)
        .map(|byte| {
            if matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF) {
                return (char::from(byte), byte);
            }
            let letter = char::from_u32(next).expect("U+0100 and the 67 after it are letters");
            next += 1;
            (letter, byte)
        })
        .collect()
}
