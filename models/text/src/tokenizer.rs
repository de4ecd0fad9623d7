//! The tokenizer of a model: its tokens with parts to play, text to ids, ids to text.

use crate::model_files::{ModelFiles, TOKENIZER_LIMIT, object};
use crate::special::{SpecialToken, SpecialTokens, Vocabulary};
use crate::spelling::{Encoded, Respelled};
use peft_plan::{Fault, Result};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::path::Path;
use std::sync::OnceLock;
use tokenizers::processors::PostProcessorWrapper;
use tokenizers::{AddedToken, PostProcessor};

/// The files of a tokenizer that is not in a directory (the built-in starter model).
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// `tokenizer.json`.
    pub tokenizer_json: &'a [u8],
    /// `tokenizer_config.json`; may be empty.
    pub tokenizer_config: &'a [u8],
    /// The text of `chat_template.jinja`.
    pub chat_template: Option<&'a str>,
    /// `generation_config.json`.
    pub generation_config: Option<&'a [u8]>,
    /// `config.json` of the model.
    pub config: Option<&'a [u8]>,
}

/// A tokenizer with everything its model says about its tokens.
pub struct Tokenizer {
    /// Encodes without post-processing, so that offsets are those of the text and nothing is added.
    inner: tokenizers::Tokenizer,
    /// What encoding raw text adds: BOS, most often.
    post: Option<PostProcessorWrapper>,
    special: SpecialTokens,
    added: HashMap<u32, AddedToken>,
    /// Templates by name; `default` is the one for conversations.
    templates: Vec<(String, String)>,
    notes: Vec<String>,
    highest_id: u32,
    respelled: OnceLock<Result<Respelled, String>>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("special", &self.special)
            .field("vocabulary_size", &self.vocabulary_size())
            .finish_non_exhaustive()
    }
}

impl Vocabulary for tokenizers::Tokenizer {
    fn id_of(&self, text: &str) -> Option<u32> {
        self.token_to_id(text)
    }

    fn text_of(&self, id: u32) -> Option<String> {
        self.id_to_token(id)
    }
}

impl Tokenizer {
    /// Opens the tokenizer of the model in `dir`.
    pub fn open(dir: &Path) -> Result<Self> {
        let files = ModelFiles::read(dir)?;
        Self::build(&files)
    }

    /// Builds a tokenizer from files held in memory.
    pub fn from_parts(parts: Parts<'_>) -> Result<Self> {
        let read = |raw: Option<&[u8]>, name: &str| match raw {
            Some(raw) if !raw.is_empty() => object(raw, name),
            _ => Ok(Map::new()),
        };
        if parts.tokenizer_json.len() as u64 > TOKENIZER_LIMIT {
            return Err(damaged("it is larger than any tokenizer"));
        }
        Self::build(&ModelFiles {
            tokenizer_json: parts.tokenizer_json.to_vec(),
            tokenizer_config: read(Some(parts.tokenizer_config), "tokenizer_config.json")?,
            generation_config: read(parts.generation_config, "generation_config.json")?,
            config: read(parts.config, "config.json")?,
            chat_template: parts.chat_template.map(str::to_owned),
        })
    }

    fn build(files: &ModelFiles) -> Result<Self> {
        let mut notes = Vec::new();
        let mut inner = parse(&files.tokenizer_json)?;
        let post = inner.get_post_processor().cloned();
        inner.with_post_processor(None::<PostProcessorWrapper>);
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| damaged(error.to_string()))?;
        add_configured_tokens(&mut inner, &files.tokenizer_config, &mut notes)?;
        let special = SpecialTokens::read(&inner, &files.tokenizer_config, &files.generation_config, &files.config);
        let templates = templates(files, &mut notes);
        let highest_id = inner.get_vocab(true).into_values().max();
        let Some(highest_id) = highest_id else {
            return Err(damaged("it holds no tokens"));
        };
        let added = inner.get_added_tokens_decoder().into_iter().collect();
        Ok(Self { inner, post, special, added, templates, notes, highest_id, respelled: OnceLock::new() })
    }

    /// The token at the beginning of a text, if the model has one.
    pub fn bos(&self) -> Option<&SpecialToken> {
        self.special.bos.as_ref()
    }

    /// The token at the end of a text.
    pub fn eos(&self) -> Option<&SpecialToken> {
        self.special.eos.as_ref()
    }

    /// The token for what the vocabulary cannot spell.
    pub fn unk(&self) -> Option<&SpecialToken> {
        self.special.unk.as_ref()
    }

    /// The id that fills a batch (S1.10). It may be the id of [`eos`](Self::eos): mask padding by
    /// length, never by this id. Zero only where the tokenizer has nothing better at all.
    pub fn pad_id(&self) -> u32 {
        self.special.pad.as_ref().map_or(0, |token| token.id)
    }

    /// The ids that end a generation whatever the template. The template's own end-of-turn token
    /// comes on top: [`ChatTemplate::stop_ids`](crate::ChatTemplate::stop_ids) has all of them.
    pub fn stop_ids(&self) -> &[u32] {
        &self.special.stop_ids
    }

    /// One more than the highest id.
    pub fn vocabulary_size(&self) -> usize {
        self.highest_id as usize + 1
    }

    /// The id of a token by its spelling in the vocabulary.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The spelling of an id in the vocabulary.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Whether `id` is a control token, which decoding leaves out.
    pub fn is_special(&self, id: u32) -> bool {
        self.added.get(&id).is_some_and(|token| token.special)
    }

    /// The model's own chat template for conversations.
    pub fn chat_template(&self) -> Option<&str> {
        let find = |name: &str| self.templates.iter().find(|(key, _)| key == name);
        let (_, source) = find("default").or(match self.templates.as_slice() {
            [only] => Some(only),
            _ => None,
        })?;
        Some(source)
    }

    /// The model's own chat template for conversations that offer tools, where it has a special one.
    pub fn tool_template(&self) -> Option<&str> {
        let (_, source) = self.templates.iter().find(|(key, _)| key == "tool_use")?;
        Some(source)
    }

    /// What was found odd while opening, one sentence each; nothing that stops a run.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Refuses a tokenizer that can produce ids the embedding has no row for.
    pub fn check_vocabulary(&self, embedding_rows: usize) -> Result<()> {
        let beyond = |id: u32| id as usize >= embedding_rows;
        let refuse = |id: u32, what: &str| {
            Err(Fault::new(
                "PS-TOK-001",
                format!(
                    "The tokenizer's {what} `{}` has number {id}, but the model has rows for \
                     {embedding_rows} tokens only (0 to {}).",
                    self.id_to_token(id).unwrap_or_default(),
                    embedding_rows.saturating_sub(1)
                ),
            ))
        };
        if !beyond(self.highest_id) {
            return Ok(());
        }
        let parts = [
            (self.bos(), "begin token"),
            (self.eos(), "end token"),
            (self.special.pad.as_ref(), "padding token"),
            (self.unk(), "token for unknown text"),
        ];
        for (token, what) in parts {
            if let Some(token) = token.filter(|token| beyond(token.id)) {
                return refuse(token.id, what);
            }
        }
        // Special tokens beyond the rows are only reached when the template prints them: what
        // people write never becomes one.
        let template = self.chat_template().unwrap_or("");
        let mut over: Vec<u32> = self.inner.get_vocab(true).into_values().collect();
        over.retain(|id| beyond(*id));
        over.sort_unstable();
        for id in over {
            match self.added.get(&id) {
                Some(token) if token.special && !template.contains(&token.content) => {}
                Some(_) => return refuse(id, "added token"),
                None => return refuse(id, "token"),
            }
        }
        Ok(())
    }

    /// The ids of raw text, with what the tokenizer itself adds (BOS, for most) when `add_special`.
    pub fn encode_text(&self, text: &str, add_special: bool) -> Result<Vec<u32>> {
        let (ids, _) = self.encode_raw(text, add_special)?;
        Ok(ids)
    }

    /// How many tokens raw text has. For many texts, [`counter`](Self::counter) is quicker.
    pub fn count(&self, text: &str) -> Result<usize> {
        let encoding = self.inner.encode_fast(text, false).map_err(|error| encode_fault(&error.to_string()))?;
        Ok(encoding.get_ids().len())
    }

    /// Ids and byte offsets of raw text. What is added has an empty range.
    pub(crate) fn encode_raw(&self, text: &str, add_special: bool) -> Result<Encoded> {
        let failed = |error: tokenizers::Error| encode_fault(&error.to_string());
        let encoding = self.inner.encode(text, false).map_err(failed)?;
        let ids = encoding.get_ids().to_vec();
        let mut offsets = encoding.get_offsets().to_vec();
        // What is added is for `tokenizer.json` to say; transformers does not look at the flags
        // `add_bos_token` and `add_eos_token` of the configuration either.
        let Some(post) = self.post.as_ref().filter(|_| add_special) else {
            return Ok((ids, offsets));
        };
        let whole = post.process(encoding, None, true).map_err(failed)?;
        // Post-processors may trim the offsets of a token; those of the bare text are kept.
        let mut windows = whole.get_ids().windows(ids.len().max(1));
        let lead = windows.position(|window| window == ids).unwrap_or(0);
        let mut around = vec![(0, 0); lead];
        around.append(&mut offsets);
        around.resize(whole.len(), (text.len(), text.len()));
        Ok((whole.get_ids().to_vec(), around))
    }

    /// The text of `ids` without control tokens.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.decode_with(ids, true)
    }

    /// The text of `ids` with control tokens spelled out.
    pub fn decode_all(&self, ids: &[u32]) -> Result<String> {
        self.decode_with(ids, false)
    }

    fn decode_with(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        self.inner.decode(ids, skip_special).map_err(|error| {
            Fault::new("PS-MODEL-005", format!("The tokenizer could not turn tokens into text: {error}"))
        })
    }

    /// What makes tokens of pieces.
    pub(crate) fn model(&self) -> &tokenizers::ModelWrapper {
        self.inner.get_model()
    }

    /// The settings of what changes a text and of what cuts it into pieces; `null` where there is none.
    pub(crate) fn steps(&self) -> (Value, Value) {
        let normalizer = self.inner.get_normalizer().and_then(|step| serde_json::to_value(step).ok());
        let splitter = self.inner.get_pre_tokenizer().and_then(|step| serde_json::to_value(step).ok());
        (normalizer.unwrap_or_default(), splitter.unwrap_or_default())
    }

    /// The settings of the decoder; `null` without one.
    pub(crate) fn decoder_settings(&self) -> Value {
        self.inner.get_decoder().and_then(|decoder| serde_json::to_value(decoder).ok()).unwrap_or_default()
    }

    pub(crate) fn special(&self) -> &SpecialTokens {
        &self.special
    }

    pub(crate) fn added(&self) -> &HashMap<u32, AddedToken> {
        &self.added
    }

    /// The twin in which control tokens have unwritable spellings; built when first needed.
    pub(crate) fn respelled(&self) -> Result<&Respelled> {
        self.respelled.get_or_init(|| Respelled::build(&self.inner)).as_ref().map_err(|error| encode_fault(error))
    }
}

pub(crate) fn encode_fault(error: &str) -> Fault {
    Fault::new("PS-MODEL-005", format!("The tokenizer could not turn text into tokens: {error}"))
}

fn damaged(why: impl std::fmt::Display) -> Fault {
    Fault::new("PS-MODEL-005", format!("`tokenizer.json` cannot be read: {why}"))
}

/// Reads `tokenizer.json`. The reader panics on some damaged files, which is kept from the caller.
fn parse(raw: &[u8]) -> Result<tokenizers::Tokenizer> {
    let read = std::panic::catch_unwind(|| tokenizers::Tokenizer::from_bytes(raw));
    match read {
        Ok(Ok(tokenizer)) => Ok(tokenizer),
        Ok(Err(error)) => Err(damaged(error)),
        Err(_) => Err(damaged("its parts do not fit together")),
    }
}

/// Adds the tokens of `added_tokens_decoder` that `tokenizer.json` lacks or describes otherwise.
fn add_configured_tokens(
    inner: &mut tokenizers::Tokenizer,
    config: &Map<String, Value>,
    notes: &mut Vec<String>,
) -> Result<()> {
    let Some(Value::Object(listed)) = config.get("added_tokens_decoder") else {
        return Ok(());
    };
    let known = inner.get_added_tokens_decoder();
    let mut wanted = Vec::new();
    for (id, token) in listed {
        let (Ok(id), Some(content)) = (id.parse::<u32>(), token.get("content").and_then(Value::as_str)) else {
            continue;
        };
        let flag = |key: &str| token.get(key).and_then(Value::as_bool).unwrap_or(false);
        let token = AddedToken {
            content: content.to_owned(),
            single_word: flag("single_word"),
            lstrip: flag("lstrip"),
            rstrip: flag("rstrip"),
            normalized: flag("normalized"),
            special: flag("special"),
        };
        if known.get(&id) != Some(&token) {
            wanted.push((id, token));
        }
    }
    wanted.sort_by_key(|(id, _)| *id);
    // All at once: each call builds the whole matcher again.
    let tokens: Vec<AddedToken> = wanted.iter().map(|(_, token)| token.clone()).collect();
    inner.add_tokens(tokens).map_err(damaged)?;
    for (id, AddedToken { content, .. }) in wanted {
        if inner.token_to_id(&content) != Some(id) {
            notes.push(format!(
                "`tokenizer_config.json` gives `{content}` the number {id}, `tokenizer.json` does not; the latter is used."
            ));
        }
    }
    Ok(())
}

/// The templates of a model by name (formats.md 4.1): the file wins over the configuration.
fn templates(files: &ModelFiles, notes: &mut Vec<String>) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = match files.tokenizer_config.get("chat_template") {
        Some(Value::String(source)) => vec![("default".to_owned(), source.clone())],
        Some(Value::Array(list)) => list
            .iter()
            .filter_map(|entry| {
                let text = |key: &str| entry.get(key)?.as_str().map(str::to_owned);
                Some((text("name")?, text("template")?))
            })
            .collect(),
        _ => Vec::new(),
    };
    if let Some(file) = &files.chat_template {
        match found.iter_mut().find(|(name, _)| name == "default") {
            Some((_, source)) => {
                if source != file {
                    notes.push(
                        "`chat_template.jinja` and `tokenizer_config.json` hold different chat \
                         layouts; the file is used."
                            .to_owned(),
                    );
                }
                source.clone_from(file);
            }
            None => found.push(("default".to_owned(), file.clone())),
        }
    }
    found
}
