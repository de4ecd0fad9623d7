//! The tokenizer of a model as a GGUF file describes it.
//!
//! What is written is what `tokenizer.json` does, not what a class name promises; where llama.cpp cannot do the
//! same, the model is refused.

use super::value::{Array, Metadata};
use super::{called, splitting, unigram};
use peft_plan::{Fault, Result};
use serde_json::Value;
use std::collections::HashMap;

/// Score of a token that merging never makes.
const APART: f32 = -1000.0;
/// Score of a row without a token.
pub(super) const EMPTY: f32 = -10_000.0;

/// What a token is for; the numbers are those of the format.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

/// The files of a tokenizer.
#[derive(Clone, Debug, Default)]
pub struct TokenizerFiles {
    /// `tokenizer.json`
    pub json: Value,
    /// `tokenizer_config.json`
    pub config: Value,
    /// `config.json` of the model.
    pub model_config: Value,
    /// `tokenizer.model` of SentencePiece, where there is one.
    pub pieces: Option<Vec<u8>>,
}

/// The layout of conversations that goes with the model.
#[derive(Clone, Debug, Default)]
pub struct ChatLayout {
    /// The Jinja template.
    pub template: String,
    /// Whether programs put the begin token before everything they read; `None`: as the tokenizer does.
    pub begins: Option<bool>,
    /// The token that ends an answer.
    pub end_of_turn: Option<u32>,
}

/// The rows of the vocabulary.
struct Rows {
    tokens: Vec<String>,
    kinds: Vec<Kind>,
    scores: Vec<f32>,
}

/// Describe the tokenizer of a model with `rows` tokens.
pub fn describe(
    metadata: &mut Metadata,
    files: &TokenizerFiles,
    rows: usize,
    layout: Option<&ChatLayout>,
) -> Result<()> {
    let model = &files.json["model"];
    let is_bytes = splits_bytes(&files.json["pre_tokenizer"]);
    match (model["type"].as_str(), is_bytes) {
        (Some("BPE"), true) => byte_level(metadata, files, rows)?,
        (Some("BPE"), false) if model["byte_fallback"] == true => sentencepiece(metadata, files, rows)?,
        (Some("Unigram"), _) => unigram::describe(metadata, files, rows)?,
        (kind, _) => {
            let kind = kind.unwrap_or("unknown");
            return Err(cannot(&format!(
                "its tokenizer is of the kind {kind}, neither byte-level BPE nor one of SentencePiece"
            )));
        }
    }
    called::fit(metadata, &files.json);
    special_ids(metadata, files, rows, layout);
    let (bos, eos) = added_around(files);
    let begins = layout.and_then(|layout| layout.begins).unwrap_or(bos);
    metadata.set("tokenizer.ggml.add_bos_token", begins);
    if has_separated_pair(&files.json["post_processor"]) {
        metadata.set("tokenizer.ggml.add_sep_token", false);
    }
    metadata.set("tokenizer.ggml.add_eos_token", eos);
    if let Some(layout) = layout {
        metadata.set("tokenizer.chat_template", layout.template.as_str());
    }
    Ok(())
}

/// Put the layout of conversations that was trained in the place of the one that is described.
pub fn describe_layout(metadata: &mut Metadata, layout: &ChatLayout) {
    if let Some(begins) = layout.begins {
        metadata.set("tokenizer.ggml.add_bos_token", begins);
    }
    metadata.set("tokenizer.chat_template", layout.template.as_str());
    set_end(metadata, layout.end_of_turn);
}

/// The token that ends an answer, beside or in place of the one that ends a text.
fn set_end(metadata: &mut Metadata, end: Option<u32>) {
    let eos = metadata.number("tokenizer.ggml.eos_token_id");
    if let Some(end) = end.filter(|end| eos != Some(u64::from(*end))) {
        let key = if eos.is_none() { "eos" } else { "eot" };
        metadata.set(format!("tokenizer.ggml.{key}_token_id"), end);
    }
}

pub(super) fn cannot(what: &str) -> Fault {
    Fault::new("PS-GGUF-001", format!("GGUF cannot hold this model: {what}"))
}

fn splits_bytes(step: &Value) -> bool {
    step["type"] == "ByteLevel"
        || step["pretokenizers"].as_array().is_some_and(|steps| steps.iter().any(|s| s["type"] == "ByteLevel"))
}

fn byte_level(metadata: &mut Metadata, files: &TokenizerFiles, rows: usize) -> Result<()> {
    let Some(pre) = splitting::name_of(&files.json) else {
        return Err(cannot("llama.cpp has no name for the way its tokenizer splits text"));
    };
    let Rows { tokens, kinds, .. } = rows_of(files, rows)?;
    metadata.set("tokenizer.ggml.model", "gpt2");
    metadata.set("tokenizer.ggml.pre", pre);
    metadata.set("tokenizer.ggml.tokens", Array::Strings(tokens));
    metadata.set("tokenizer.ggml.token_type", Array::Ints(kinds.into_iter().map(|k| k as i32).collect()));
    let merges = merges_of(&files.json)?.iter().map(|(a, b)| format!("{} {}", spaceless(a), spaceless(b))).collect();
    metadata.set("tokenizer.ggml.merges", Array::Strings(merges));
    Ok(())
}

/// A space inside a part would end it.
fn spaceless(part: &str) -> String {
    part.replace(' ', "\u{120}")
}

fn sentencepiece(metadata: &mut Metadata, files: &TokenizerFiles, rows: usize) -> Result<()> {
    let prefix = prefixes_space(&files.json)?;
    let mut all = rows_of(files, rows)?;
    let added = added_tokens(files);
    let scores = match &files.pieces {
        Some(model) => pieces(model)?,
        None => ranks(&files.json)?,
    };
    for (id, score) in all.scores.iter_mut().enumerate() {
        let token = &all.tokens[id];
        *score = match all.kinds[id] {
            Kind::Unused => EMPTY,
            _ if added.contains_key(&(id as u32)) => APART,
            _ => scores.get(token).copied().unwrap_or(0.0),
        };
    }
    for (token, kind) in all.tokens.iter().zip(&mut all.kinds) {
        let is_byte = token.len() == 6 && token.starts_with("<0x") && token.ends_with('>');
        if *kind == Kind::Normal && is_byte {
            *kind = Kind::Byte;
        }
    }
    let unknown = files.json["model"]["unk_token"].as_str();
    if let Some(id) = unknown.and_then(|text| all.tokens.iter().position(|t| t == text))
        && all.kinds[id] == Kind::Normal
    {
        all.kinds[id] = Kind::Unknown;
    }
    metadata.set("tokenizer.ggml.model", "llama");
    metadata.set("tokenizer.ggml.pre", "default");
    metadata.set("tokenizer.ggml.tokens", Array::Strings(all.tokens));
    metadata.set("tokenizer.ggml.scores", Array::Floats(all.scores));
    metadata.set("tokenizer.ggml.token_type", Array::Ints(all.kinds.into_iter().map(|k| k as i32).collect()));
    if let Some(says) = files.config["add_prefix_space"].as_bool().filter(|says| *says == prefix) {
        metadata.set("tokenizer.ggml.add_space_prefix", says);
    } else if !prefix {
        metadata.set("tokenizer.ggml.add_space_prefix", false);
    }
    Ok(())
}

/// The steps of `value`, which is one step or a sequence of them under `list`.
pub(super) fn flat(value: &Value, list: &str) -> Vec<Value> {
    match (value["type"].as_str(), value[list].as_array()) {
        (Some("Sequence"), Some(steps)) => steps.clone(),
        (Some(_), _) => vec![value.clone()],
        (None, _) => Vec::new(),
    }
}

/// Whether a space is put before the text. What else a normaliser does, llama.cpp does not.
fn prefixes_space(json: &Value) -> Result<bool> {
    let mut prefix = false;
    for step in flat(&json["normalizer"], "normalizers") {
        match step["type"].as_str() {
            Some("Prepend") => prefix = true,
            Some("Replace") if step["pattern"]["String"] == " " => {}
            other => {
                return Err(cannot(&format!("its tokenizer changes text by {}", other.unwrap_or("unknown rules"))));
            }
        }
    }
    for step in flat(&json["pre_tokenizer"], "pretokenizers") {
        match step["type"].as_str() {
            Some("Metaspace") => prefix = step["prepend_scheme"].as_str().is_none_or(|scheme| scheme != "never"),
            // Gemma splits at single spaces that normalising has replaced already.
            Some("Split") if step["pattern"]["String"] == " " => {}
            other => return Err(cannot(&format!("its tokenizer splits text by {}", other.unwrap_or("unknown rules")))),
        }
    }
    Ok(prefix)
}

/// Added tokens by id: text, and whether it is special.
pub(super) fn added_tokens(files: &TokenizerFiles) -> HashMap<u32, (String, bool)> {
    let read = |id: Option<u32>, token: &Value| {
        let text = token["content"].as_str()?.to_owned();
        Some((id?, (text, token["special"] == true)))
    };
    let listed = files.config["added_tokens_decoder"].as_object();
    let listed = listed.into_iter().flatten().filter_map(|(id, token)| read(id.parse().ok(), token));
    let id = |token: &Value| token["id"].as_u64().and_then(|id| u32::try_from(id).ok());
    let own = files.json["added_tokens"].as_array();
    let own = own.into_iter().flatten().filter_map(|token| read(id(token), token));
    listed.chain(own).collect()
}

fn rows_of(files: &TokenizerFiles, rows: usize) -> Result<Rows> {
    let Some(vocabulary) = files.json["model"]["vocab"].as_object() else {
        return Err(cannot("its tokenizer has no list of tokens"));
    };
    let mut tokens: Vec<String> = (0..rows).map(|id| format!("[PAD{id}]")).collect();
    let mut kinds = vec![Kind::Unused; rows];
    for (text, id) in vocabulary {
        let id = id.as_u64().map_or(usize::MAX, |id| id as usize);
        if let (Some(token), Some(kind)) = (tokens.get_mut(id), kinds.get_mut(id)) {
            token.clone_from(text);
            *kind = Kind::Normal;
        }
    }
    for (id, (text, special)) in added_tokens(files) {
        let id = id as usize;
        let (Some(token), Some(kind)) = (tokens.get_mut(id), kinds.get_mut(id)) else { continue };
        let is_control = special || looks_special(&text);
        *kind = if is_control { Kind::Control } else { Kind::UserDefined };
        *token = if is_control { text } else { text.replace('\u{2581}', " ") };
    }
    Ok(Rows { scores: vec![0.0; tokens.len()], tokens, kinds })
}

/// Tokens that are control tokens though their tokenizer does not say so.
pub(super) fn looks_special(text: &str) -> bool {
    matches!(text, "<pad>" | "<mask>" | "<2mass>" | "[@BOS@]")
        || text.starts_with("<|") && text.ends_with("|>")
        || text.starts_with("<\u{ff5c}") && text.ends_with("\u{ff5c}>")
        || text.starts_with("<unused") && text.ends_with('>')
}

/// The pairs that are merged, the first first.
fn merges_of(json: &Value) -> Result<Vec<(&str, &str)>> {
    let Some(list) = json["model"]["merges"].as_array() else {
        return Err(cannot("its tokenizer has no list of merges"));
    };
    let merges: Option<Vec<(&str, &str)>> = list
        .iter()
        .map(|merge| match merge {
            Value::String(text) => text.split_once(' '),
            Value::Array(two) => Some((two.first()?.as_str()?, two.get(1)?.as_str()?)),
            _ => None,
        })
        .collect();
    merges.ok_or_else(|| cannot("a merge of its tokenizer is not a pair"))
}

/// Scores in the order of the merges: what is made first has the highest.
fn ranks(json: &Value) -> Result<HashMap<String, f32>> {
    let mut scores = HashMap::new();
    for (rank, (a, b)) in merges_of(json)?.iter().enumerate() {
        scores.entry(format!("{a}{b}")).or_insert(-(rank as f32));
    }
    // What no merge makes is a character: below everything that merges make.
    let below = scores.len() as f32;
    let vocabulary = json["model"]["vocab"].as_object().into_iter().flatten();
    for (text, id) in vocabulary {
        let is_byte = text.starts_with("<0x") && text.ends_with('>');
        let score = if is_byte { 0.0 } else { -below - id.as_f64().unwrap_or(0.0) as f32 };
        scores.entry(text.clone()).or_insert(score);
    }
    Ok(scores)
}

/// The scores of a `tokenizer.model`: a protocol buffer whose field 1 is a piece, with its text in 1 and its score in 2.
fn pieces(model: &[u8]) -> Result<HashMap<String, f32>> {
    let damaged = || Fault::new("PS-MODEL-005", "`tokenizer.model` is damaged: it is not a SentencePiece model.");
    let mut scores = HashMap::new();
    let mut rest = model;
    while !rest.is_empty() {
        let (field, content, after) = field(rest).ok_or_else(damaged)?;
        rest = after;
        if field != 1 {
            continue;
        }
        let (mut text, mut score) = (None, 0.0);
        let mut inside = content;
        while !inside.is_empty() {
            let (field, content, after) = self::field(inside).ok_or_else(damaged)?;
            inside = after;
            match (field, content) {
                (1, bytes) => text = std::str::from_utf8(bytes).ok(),
                (2, [a, b, c, d]) => score = f32::from_le_bytes([*a, *b, *c, *d]),
                _ => {}
            }
        }
        scores.insert(text.ok_or_else(damaged)?.to_owned(), score);
    }
    Ok(scores)
}

/// The first field of a protocol buffer: number, content, what follows.
fn field(bytes: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let (key, rest) = varint(bytes)?;
    let (len, rest) = match key & 7 {
        0 => {
            let (_, after) = varint(rest)?;
            (rest.len() - after.len(), rest)
        }
        1 => (8, rest),
        2 => {
            let (len, rest) = varint(rest)?;
            (usize::try_from(len).ok()?, rest)
        }
        5 => (4, rest),
        _ => return None,
    };
    let (content, after) = rest.split_at_checked(len)?;
    Some((key >> 3, content, after))
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (i, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7F).checked_shl(7 * i as u32)?;
        if byte & 0x80 == 0 {
            return Some((value, &bytes[i + 1..]));
        }
    }
    None
}

/// Which tokens play which parts: by name in the tokenizer's configuration, else by number in the model's.
fn special_ids(metadata: &mut Metadata, files: &TokenizerFiles, rows: usize, layout: Option<&ChatLayout>) {
    let added = added_tokens(files);
    let by_name = |part: &str| {
        let value = &files.config[&format!("{part}_token")];
        let text = value.as_str().or_else(|| value["content"].as_str())?;
        added.iter().filter(|(_, (content, _))| content == text).map(|(id, _)| *id).min()
    };
    let by_number = |part: &str| {
        let key = format!("{part}_token_id");
        let outer = files.model_config[&key].as_u64();
        let id = outer.or_else(|| files.model_config["text_config"][&key].as_u64())?;
        u32::try_from(id).ok()
    };
    for (part, key) in
        [("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("sep", "seperator"), ("pad", "padding"), ("mask", "mask")]
    {
        let id = by_name(part).or_else(|| by_number(part)).filter(|id| (*id as usize) < rows);
        if let Some(id) = id {
            metadata.set(format!("tokenizer.ggml.{key}_token_id"), id);
        }
    }
    set_end(metadata, layout.and_then(|layout| layout.end_of_turn));
}

/// Whether encoding a text puts a begin and an end token around it.
fn added_around(files: &TokenizerFiles) -> (bool, bool) {
    let text = |part: &str| {
        let value = &files.config[&format!("{part}_token")];
        value.as_str().or_else(|| value["content"].as_str())
    };
    let (mut bos, mut eos) = (None, None);
    let post = &files.json["post_processor"];
    let steps = post["processors"].as_array().cloned().unwrap_or_else(|| vec![post.clone()]);
    for step in &steps {
        match step["type"].as_str() {
            Some("ByteLevel") => {
                bos.get_or_insert(false);
                eos.get_or_insert(false);
            }
            Some("TemplateProcessing") => {
                let single = step["single"].as_array().map(Vec::as_slice).unwrap_or_default();
                let special = |at: Option<&Value>| at.and_then(|s| s["SpecialToken"]["id"].as_str().map(str::to_owned));
                if let Some(first) = special(single.first()).filter(|_| single.len() > 1) {
                    bos = Some(text("bos").is_none_or(|bos| bos == first));
                }
                if let Some(last) = special(single.last()).filter(|_| single.len() > 1) {
                    eos = Some(text("eos") == Some(last.as_str()));
                }
            }
            _ => {}
        }
    }
    let flag = |key: &str| files.config[key].as_bool();
    // Without a post-processor nothing is added, whatever a flag of the configuration says.
    let says = |found: Option<bool>, key: &str| found.unwrap_or(post["type"].is_string() && flag(key).unwrap_or(false));
    (says(bos, "add_bos_token"), says(eos, "add_eos_token"))
}

/// Whether two texts have a token between them, which llama.cpp's converter takes note of.
fn has_separated_pair(post: &Value) -> bool {
    let steps = post["processors"].as_array().cloned().unwrap_or_else(|| vec![post.clone()]);
    steps.iter().any(|step| {
        let pair = step["pair"].as_array().map(Vec::as_slice).unwrap_or_default();
        let texts: Vec<usize> = (0..pair.len()).filter(|i| pair[*i]["Sequence"].is_object()).collect();
        step["type"] == "TemplateProcessing" && matches!(texts.as_slice(), [a, b] if b - a > 1)
    })
}
