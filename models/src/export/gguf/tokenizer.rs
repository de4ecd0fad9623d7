//! The tokenizer that a GGUF file describes, doing what llama.cpp does with the same file.

use super::reader::File;
use super::{called, splitting, unigram};
use peft_plan::{Fault, Result};
use peft_text::{Parts, Tokenizer};
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// Kinds of tokens, as the format numbers them.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

/// Longest token whose merges are looked for, bytes; longer ones are runs that are matched whole.
const LONGEST_MERGED: usize = 256;

/// The tokenizer of `file`, whose model `config` describes.
pub fn read(file: &File, config: &Value) -> Result<Tokenizer> {
    let metadata = file.metadata();
    let refuse =
        |what: String| Fault::new("PS-MODEL-002", format!("The tokenizer of `{}` is not read: {what}.", file.name()));
    let Some(tokens) = metadata.strings("tokenizer.ggml.tokens") else {
        return Err(refuse("the file lists no tokens".to_owned()));
    };
    let kinds = metadata.ints("tokenizer.ggml.token_type").unwrap_or_default();
    let kind = |id: usize| kinds.get(id).copied().unwrap_or(NORMAL);
    let id_of = |part: &str| metadata.number(&format!("tokenizer.ggml.{part}_token_id")).map(|id| id as usize);
    let text_of = |part: &str| id_of(part).and_then(|id| tokens.get(id));
    let vocabulary: Map<String, Value> =
        tokens.iter().enumerate().filter(|(id, _)| kind(*id) != UNUSED).map(|(id, t)| (t.clone(), json!(id))).collect();
    let added: Vec<Value> = (0..tokens.len())
        .filter(|id| matches!(kind(*id), UNKNOWN | CONTROL | USER_DEFINED))
        .map(|id| {
            json!({
                "id": id, "content": tokens[id], "special": kind(id) != USER_DEFINED,
                "single_word": false, "lstrip": false, "rstrip": kind(id) == CONTROL && called::swallows(metadata, &tokens[id]),
                "normalized": false,
            })
        })
        .collect();
    let bos = text_of("bos");
    let mut adds_bos = metadata.flag("tokenizer.ggml.add_bos_token");
    let (mut model, normalizer, pre, decoder) = match metadata.text("tokenizer.ggml.model") {
        Some("gpt2") => {
            let name = metadata.text("tokenizer.ggml.pre").unwrap_or("default");
            let Some((step, ignores)) = splitting::step_of(name) else {
                return Err(refuse(format!("its way to split text, `{name}`, is not known")));
            };
            let merges = metadata.strings("tokenizer.ggml.merges").unwrap_or_default();
            let decoder =
                json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
            let model = json!({"byte_fallback": false, "fuse_unk": false, "unk_token": null, "ignore_merges": ignores, "merges": merges});
            (model, Value::Null, step, decoder)
        }
        Some("llama") => {
            adds_bos = adds_bos.or(Some(true));
            let scores = metadata.floats("tokenizer.ggml.scores").unwrap_or_default();
            let merges = merges(tokens, scores, &kind);
            let prefix = metadata.flag("tokenizer.ggml.add_space_prefix").unwrap_or(true);
            let unknown = text_of("unknown").cloned().or_else(|| tokens.iter().find(|t| *t == "<unk>").cloned());
            let model = json!({"byte_fallback": true, "fuse_unk": true, "unk_token": unknown, "ignore_merges": false, "merges": merges});
            let mut steps = vec![json!({"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"})];
            let mut back = vec![
                json!({"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "}),
                json!({"type": "ByteFallback"}),
                json!({"type": "Fuse"}),
            ];
            if prefix {
                steps.insert(0, json!({"type": "Prepend", "prepend": "\u{2581}"}));
                back.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
            }
            let normalizer = json!({"type": "Sequence", "normalizers": steps});
            (model, normalizer, Value::Null, json!({"type": "Sequence", "decoders": back}))
        }
        Some(unigram::NAME) => unigram::parts(metadata, tokens),
        other => return Err(refuse(format!("its kind is `{}`", other.unwrap_or("not said")))),
    };
    if model["type"].is_null() {
        model["type"] = json!("BPE");
        model["vocab"] = Value::Object(vocabulary);
    }
    let post = match (bos, id_of("bos"), adds_bos) {
        (Some(text), Some(id), Some(true)) => json!({
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": text, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {text.as_str(): {"id": text, "ids": [id], "tokens": [text]}},
        }),
        _ => Value::Null,
    };
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": normalizer,
        "pre_tokenizer": pre, "post_processor": post, "decoder": decoder, "model": model,
    });
    let mut settings = json!({
        "bos_token": bos, "eos_token": text_of("eos"), "unk_token": text_of("unknown"), "pad_token": text_of("padding"),
    });
    if let Some(template) = metadata.text("tokenizer.chat_template") {
        settings["chat_template"] = json!(template);
    }
    let bytes = |value: &Value| serde_json::to_vec(value).unwrap_or_default();
    Tokenizer::from_parts(Parts {
        tokenizer_json: &bytes(&tokenizer),
        tokenizer_config: &bytes(&settings),
        chat_template: None,
        generation_config: None,
        config: Some(&bytes(config)),
    })
}

/// The pairs that SentencePiece would merge, the one with the best result first.
fn merges(tokens: &[String], scores: &[f32], kind: &impl Fn(usize) -> i32) -> Vec<Value> {
    let ids: HashMap<&str, usize> =
        tokens.iter().enumerate().filter(|(id, _)| kind(*id) == NORMAL).map(|(id, t)| (t.as_str(), id)).collect();
    let mut merges: Vec<(f32, usize, usize, &str, &str)> = Vec::new();
    for (text, id) in &ids {
        if text.len() > LONGEST_MERGED {
            continue;
        }
        for (at, _) in text.char_indices().skip(1) {
            let (left, right) = text.split_at(at);
            if let (Some(_), Some(_)) = (ids.get(left), ids.get(right)) {
                merges.push((scores.get(*id).copied().unwrap_or(0.0), *id, at, left, right));
            }
        }
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
    merges.into_iter().map(|(.., left, right)| json!([left, right])).collect()
}
