//! Which tokens play the parts of BOS, EOS, padding and stop (formats.md 1.7, 4.2).

use serde_json::{Map, Value};

/// The keys of the special tokens that templates may print, as transformers names them.
pub(crate) const TOKEN_KEYS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// A token with a part to play.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecialToken {
    /// How it is spelled.
    pub text: String,
    /// Its row in the embedding.
    pub id: u32,
}

/// The tokens with parts to play.
#[derive(Clone, Debug, Default)]
pub(crate) struct SpecialTokens {
    pub bos: Option<SpecialToken>,
    pub eos: Option<SpecialToken>,
    pub unk: Option<SpecialToken>,
    pub pad: Option<SpecialToken>,
    /// Ids that end a generation, whatever the template: sorted, each once.
    pub stop_ids: Vec<u32>,
    /// What the template's variables `bos_token` ... hold.
    pub variables: Vec<(&'static str, String)>,
}

/// What is known about the ids of a tokenizer.
pub(crate) trait Vocabulary {
    /// The id of a token spelled `text`.
    fn id_of(&self, text: &str) -> Option<u32>;
    /// The spelling of `id`.
    fn text_of(&self, id: u32) -> Option<String>;
}

/// A token of the configuration: a string, or an object with `content`.
fn spelling(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content").and_then(Value::as_str)).filter(|text| !text.is_empty())
}

/// An id, or a list of ids.
fn ids(value: Option<&Value>) -> Vec<u32> {
    let one = |v: &Value| v.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Some(Value::Array(list)) => list.iter().filter_map(one).collect(),
        Some(value) => one(value).into_iter().collect(),
        None => Vec::new(),
    }
}

impl SpecialTokens {
    /// Reads the parts from the configuration files, which are trusted in this order: names in
    /// `tokenizer`, ids in `generation`, ids in `config`.
    pub(crate) fn read(
        vocabulary: &impl Vocabulary,
        tokenizer: &Map<String, Value>,
        generation: &Map<String, Value>,
        config: &Map<String, Value>,
    ) -> Self {
        let variables: Vec<(&'static str, String)> =
            TOKEN_KEYS.iter().filter_map(|key| Some((*key, spelling(tokenizer.get(*key)?)?.to_owned()))).collect();
        let named = |key: &str| {
            let (_, text) = variables.iter().find(|(name, _)| *name == key)?;
            let id = vocabulary.id_of(text)?;
            Some(SpecialToken { text: text.clone(), id })
        };
        let by_id = |key: &str| {
            [generation, config].into_iter().flat_map(|map| ids(map.get(key))).find_map(|id| {
                let text = vocabulary.text_of(id)?;
                Some(SpecialToken { text, id })
            })
        };
        // `"bos_token": null` says that the tokenizer puts none, whatever config.json names.
        let bos = named("bos_token").or_else(|| {
            let silent = !tokenizer.contains_key("bos_token");
            silent.then(|| by_id("bos_token_id")).flatten()
        });
        let eos = named("eos_token").or_else(|| by_id("eos_token_id"));
        let unk = named("unk_token");
        let mut stop_ids = ids(generation.get("eos_token_id"));
        stop_ids.extend(ids(config.get("eos_token_id")));
        stop_ids.extend(eos.iter().map(|token| token.id));
        stop_ids.sort_unstable();
        stop_ids.dedup();
        let rows = config.get("vocab_size").and_then(Value::as_u64);
        let fits = |token: &SpecialToken| rows.is_none_or(|rows| u64::from(token.id) < rows);
        let pad = named("pad_token")
            .or_else(|| by_id("pad_token_id"))
            .filter(fits)
            .or_else(|| {
                ["<|finetune_right_pad_id|>", "<|endoftext|>", "<unk>"]
                    .into_iter()
                    .find_map(|text| {
                        let id = vocabulary.id_of(text)?;
                        let text = text.to_owned();
                        Some(SpecialToken { text, id })
                    })
                    .filter(fits)
            })
            .or_else(|| eos.clone());
        Self { bos, eos, unk, pad, stop_ids, variables }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    struct Words(&'static [&'static str]);

    impl Vocabulary for Words {
        fn id_of(&self, text: &str) -> Option<u32> {
            self.0.iter().position(|w| *w == text).map(|at| at as u32)
        }
        fn text_of(&self, id: u32) -> Option<String> {
            self.0.get(id as usize).map(|w| (*w).to_owned())
        }
    }

    fn map(value: &Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn stop_ids_are_the_union_of_all_files() {
        let words = Words(&["a", "<e1>", "<e2>", "<e3>"]);
        let read = SpecialTokens::read(
            &words,
            &map(&json!({"eos_token": {"content": "<e1>"}})),
            &map(&json!({"eos_token_id": [3, 1]})),
            &map(&json!({"eos_token_id": 2})),
        );
        assert_eq!(read.stop_ids, [1, 2, 3]);
        assert_eq!(read.eos.map(|t| t.id), Some(1));
    }

    #[test]
    fn pad_is_chosen_in_the_order_of_formats_4_2() {
        let empty = Map::new();
        let pad = |words: &Words, tokenizer: &Value, config: &Value| {
            SpecialTokens::read(words, &map(tokenizer), &empty, &map(config)).pad.map(|t| t.text)
        };
        let words = Words(&["<unk>", "</s>", "<pad>", "<|endoftext|>"]);
        let eos = json!({"eos_token": "</s>"});
        let with_pad = json!({"eos_token": "</s>", "pad_token": "<pad>"});
        assert_eq!(pad(&words, &with_pad, &json!({})).as_deref(), Some("<pad>"));
        assert_eq!(pad(&words, &eos, &json!({})).as_deref(), Some("<|endoftext|>"));
        // A padding token without a row in the embedding is not used: the vocabulary never grows.
        assert_eq!(pad(&words, &with_pad, &json!({"vocab_size": 2})).as_deref(), Some("</s>"));
        let bare = Words(&["a", "</s>"]);
        assert_eq!(pad(&bare, &eos, &json!({})).as_deref(), Some("</s>"));
    }

    #[test]
    fn a_null_bos_wins_over_the_id_in_config() {
        let words = Words(&["<|endoftext|>"]);
        let config = map(&json!({"bos_token_id": 0}));
        let none = map(&json!({"bos_token": null}));
        assert_eq!(SpecialTokens::read(&words, &none, &Map::new(), &config).bos, None);
        let silent = SpecialTokens::read(&words, &Map::new(), &Map::new(), &config);
        assert_eq!(silent.bos.map(|t| t.id), Some(0));
    }
}
