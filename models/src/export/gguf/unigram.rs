//! Tokenizers that choose the most likely pieces, SentencePiece's unigram model, in a GGUF file and back: what llama.cpp
//! calls `t5`.
//!
//! llama.cpp puts a space before every stretch of text or before none, merges runs of spaces or keeps them, and has no
//! pieces for single bytes. A tokenizer that does anything else is refused.

use super::value::{Array, Metadata};
use super::vocabulary::{EMPTY, Kind, TokenizerFiles, added_tokens, cannot, flat, looks_special};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use peft_plan::Result;
use serde_json::{Value, json};

/// Its word for the kind of tokenizer.
pub(super) const NAME: &str = "t5";
const SPACE: &str = "\u{2581}";
const PREFIX: &str = "tokenizer.ggml.add_space_prefix";
const MERGES: &str = "tokenizer.ggml.remove_extra_whitespaces";
const CHARACTERS: &str = "tokenizer.ggml.precompiled_charsmap";

/// What happens to a text before it is cut into pieces.
#[derive(Default)]
struct Normalizing {
    /// SentencePiece's table of characters that become others.
    characters: Option<Vec<u8>>,
    /// A space is put before the text.
    prefix: bool,
    /// Runs of spaces become one, and those at the end go.
    merges: bool,
}

impl Normalizing {
    fn of(json: &Value) -> Result<Self> {
        let mut found = Self::default();
        let (mut strips, mut shows_spaces, mut prepends) = (false, false, false);
        let pattern = |step: &Value, kind: &str, text: &str| step["pattern"][kind] == text;
        for (i, step) in flat(&json["normalizer"], "normalizers").iter().enumerate() {
            match step["type"].as_str() {
                Some("Precompiled") if i == 0 => {
                    let table = step["precompiled_charsmap"].as_str().and_then(|text| STANDARD.decode(text).ok());
                    found.characters = Some(table.ok_or_else(|| cannot("the table of its normaliser is damaged"))?);
                }
                Some("Strip") if step["strip_left"] == false && step["strip_right"] == true => strips = true,
                Some("Replace") if pattern(step, "Regex", " {2,}") => found.merges = true,
                Some("Replace") if pattern(step, "String", " ") && step["content"] == SPACE => shows_spaces = true,
                Some("Prepend") if step["prepend"] == SPACE => (found.prefix, prepends) = (true, true),
                other => {
                    return Err(cannot(&format!("its tokenizer changes text by {}", other.unwrap_or("unknown rules"))));
                }
            }
        }
        for step in flat(&json["pre_tokenizer"], "pretokenizers") {
            match (step["type"].as_str(), step["prepend_scheme"].as_str()) {
                (Some("Metaspace"), Some("always") | None) => (found.prefix, shows_spaces) = (true, true),
                (Some("Metaspace"), Some("never")) => shows_spaces = true,
                (Some("Metaspace"), _) => {
                    return Err(cannot("its tokenizer puts a space before the first word only"));
                }
                (other, _) => {
                    return Err(cannot(&format!("its tokenizer splits text by {}", other.unwrap_or("unknown rules"))));
                }
            }
        }
        if !shows_spaces {
            return Err(cannot("its tokenizer keeps spaces as they are"));
        }
        // Where runs stay, llama.cpp puts a space before one that is there already, as only `Prepend` does.
        if strips != found.merges || found.prefix && prepends == found.merges {
            return Err(cannot("its tokenizer treats spaces at the ends of a text in a way that llama.cpp does not"));
        }
        Ok(found)
    }
}

/// Describe the tokenizer of a model with `rows` tokens.
pub(super) fn describe(metadata: &mut Metadata, files: &TokenizerFiles, rows: usize) -> Result<()> {
    let model = &files.json["model"];
    if model["byte_fallback"] == true {
        return Err(cannot(
            "its unigram tokenizer spells characters that it does not know as bytes, which llama.cpp's does not",
        ));
    }
    let Some(pieces) = model["vocab"].as_array() else { return Err(cannot("its tokenizer has no list of tokens")) };
    let Some(unknown) = model["unk_id"].as_u64().map(|id| id as usize).filter(|id| *id < pieces.len().min(rows)) else {
        return Err(cannot("its tokenizer has no token for what it does not know"));
    };
    let Normalizing { characters, prefix, merges } = Normalizing::of(&files.json)?;
    let mut tokens: Vec<String> = (0..rows).map(|id| format!("[PAD{id}]")).collect();
    let (mut scores, mut kinds) = (vec![EMPTY; rows], vec![Kind::Unused; rows]);
    for (id, piece) in pieces.iter().enumerate().take(rows) {
        let (Some(text), Some(score)) = (piece[0].as_str(), piece[1].as_f64()) else {
            return Err(cannot("a piece of its tokenizer is not a text with a number"));
        };
        (tokens[id], scores[id], kinds[id]) = (text.to_owned(), score as f32, Kind::Normal);
    }
    for (id, (text, special)) in added_tokens(files) {
        let id = id as usize;
        if id < rows {
            let kind = if special || looks_special(&text) { Kind::Control } else { Kind::UserDefined };
            scores[id] = if kinds[id] == Kind::Unused { 0.0 } else { scores[id] };
            (tokens[id], kinds[id]) = (text, kind);
        }
    }
    kinds[unknown] = Kind::Unknown;
    metadata.set("tokenizer.ggml.model", NAME);
    metadata.set("tokenizer.ggml.pre", "default");
    metadata.set("tokenizer.ggml.tokens", Array::Strings(tokens));
    metadata.set("tokenizer.ggml.scores", Array::Floats(scores));
    metadata.set("tokenizer.ggml.token_type", Array::Ints(kinds.into_iter().map(|k| k as i32).collect()));
    metadata.set("tokenizer.ggml.unknown_token_id", unknown as u32);
    metadata.set(PREFIX, prefix);
    metadata.set(MERGES, merges);
    if let Some(characters) = characters {
        metadata.set(CHARACTERS, Array::Bytes(characters));
    }
    Ok(())
}

/// The parts of a `tokenizer.json` that do the same: model, normaliser, what comes before the model, decoder.
pub(super) fn parts(metadata: &Metadata, tokens: &[String]) -> (Value, Value, Value, Value) {
    let scores = metadata.floats("tokenizer.ggml.scores").unwrap_or_default();
    let kinds = metadata.ints("tokenizer.ggml.token_type").unwrap_or_default();
    let is = |id: usize, kind: Kind| kinds.get(id).copied().unwrap_or(Kind::Normal as i32) == kind as i32;
    let score = |id: usize| f64::from(scores.get(id).copied().unwrap_or(0.0));
    let worst = (0..tokens.len()).filter(|id| is(*id, Kind::Normal)).map(score).fold(0.0, f64::min);
    let piece = |(id, text): (usize, &String)| {
        let score = match () {
            () if is(id, Kind::Normal) => score(id),
            // What has no token takes no part, and must not make the unknown less likely than it is.
            () if is(id, Kind::Unused) => worst,
            () => 0.0,
        };
        json!([text, score])
    };
    let vocabulary: Vec<Value> = tokens.iter().enumerate().map(piece).collect();
    let unknown = metadata.number("tokenizer.ggml.unknown_token_id").unwrap_or(2);
    let model = json!({"type": "Unigram", "unk_id": unknown, "vocab": vocabulary, "byte_fallback": false});
    let (prefix, merges) = (metadata.flag(PREFIX).unwrap_or(true), metadata.flag(MERGES).unwrap_or(false));
    let mut steps = Vec::new();
    if let Some(table) = metadata.bytes(CHARACTERS).filter(|table| !table.is_empty()) {
        steps.push(json!({"type": "Precompiled", "precompiled_charsmap": STANDARD.encode(table)}));
    }
    if merges {
        steps.push(json!({"type": "Strip", "strip_left": false, "strip_right": true}));
        steps.push(json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": SPACE}));
    } else if prefix {
        steps.push(json!({"type": "Prepend", "prepend": SPACE}));
    }
    let scheme = if prefix && merges { "always" } else { "never" };
    let spaces = json!({"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": false});
    let back = if prefix { "always" } else { "never" };
    let decoder = json!({"type": "Metaspace", "replacement": SPACE, "prepend_scheme": back, "split": false});
    (model, json!({"type": "Sequence", "normalizers": steps}), spaces, decoder)
}

#[cfg(test)]
mod tests {
    use super::{Normalizing, describe};
    use crate::export::gguf::value::Metadata;
    use crate::export::gguf::vocabulary::TokenizerFiles;
    use serde_json::{Value, json};

    fn tokenizer(normalizers: &Value, pre: &Value) -> Value {
        json!({
            "normalizer": {"type": "Sequence", "normalizers": normalizers}, "pre_tokenizer": pre,
            "model": {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["\u{2581}a", -1.0]], "byte_fallback": false},
        })
    }

    fn spaces(scheme: &str) -> Value {
        json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": scheme, "split": true})
    }

    #[test]
    fn what_llama_cpp_does_not_do_is_refused_by_name() {
        let strip = json!({"type": "Strip", "strip_left": false, "strip_right": true});
        let merge = json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "\u{2581}"});
        let show = json!({"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"});
        let prepend = json!({"type": "Prepend", "prepend": "\u{2581}"});
        for (steps, pre) in [
            (json!([strip, merge]), spaces("always")),
            (json!([strip, merge]), spaces("never")),
            (json!([prepend, show]), Value::Null),
            (json!([show]), Value::Null),
        ] {
            assert!(Normalizing::of(&tokenizer(&steps, &pre)).is_ok(), "{steps}");
        }
        let damaged = json!({"type": "Precompiled", "precompiled_charsmap": "not base64!"});
        for (steps, pre, says) in [
            (json!([strip, merge]), spaces("first"), "first word only"),
            (json!([merge]), spaces("always"), "ends of a text"),
            (json!([]), spaces("always"), "ends of a text"),
            (json!([]), Value::Null, "keeps spaces"),
            (json!([damaged]), Value::Null, "damaged"),
            (json!([{"type": "Lowercase"}]), Value::Null, "Lowercase"),
            (json!([show]), json!({"type": "WhitespaceSplit"}), "WhitespaceSplit"),
        ] {
            let fault = Normalizing::of(&tokenizer(&steps, &pre)).err().expect("refused");
            assert!(fault.code == "PS-GGUF-001" && fault.detail.contains(says), "{} lacks {says}", fault.detail);
        }
        let mut bytes = tokenizer(&json!([show]), &Value::Null);
        bytes["model"]["byte_fallback"] = json!(true);
        let files = TokenizerFiles { json: bytes, ..TokenizerFiles::default() };
        let fault = describe(&mut Metadata::default(), &files, 2).expect_err("refused");
        assert!(fault.detail.contains("as bytes"), "{}", fault.detail);
    }
}
