//! Answers that obey a JSON schema: tokens that would break it are never chosen.
//!
//! The schema becomes a grammar and the vocabulary a trie, both by `llguidance`; a step walks the part of the trie
//! that the grammar allows. What that library would let through or cannot explain is done here: numbers that no
//! reader can hold, and the place in a schema that no answer can meet.

mod numbers;
mod schema;

use super::sample::{Sampling, choose};
use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, TokRxInfo, TokTrie};
use llguidance::{JsonCompileOptions, Matcher, ParserFactory};
use numbers::NumberWatch;
use peft_plan::{Fault, Result};
use peft_text::{TokenBytes, Tokenizer};
use serde_json::{Value, json};
use std::fmt;
use std::sync::Arc;

/// The vocabulary of a model, prepared for schemas. Cheap to clone.
#[derive(Clone)]
pub struct Constraints {
    shared: Arc<Shared>,
}

struct Shared {
    factory: ParserFactory,
    /// Bytes of every token; empty where a token prints nothing.
    bytes: Vec<Vec<u8>>,
}

/// A compiled schema. Cheap to clone.
#[derive(Clone)]
pub struct Grammar {
    vocabulary: Constraints,
    fresh: Matcher,
}

impl fmt::Debug for Grammar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grammar").finish_non_exhaustive()
    }
}

/// A grammar on its way through one answer.
pub struct Constraint {
    vocabulary: Constraints,
    matcher: Matcher,
    numbers: NumberWatch,
}

impl Constraints {
    /// The vocabulary of `tokenizer` for a model with `vocab_size` logits. `eos` stands for every stop token.
    pub fn new(tokenizer: &Tokenizer, vocab_size: usize, stop_ids: &[u32]) -> Result<Self> {
        let Some(&eos) = stop_ids.iter().find(|&&id| (id as usize) < vocab_size) else {
            return Err(Fault::new(
                "PS-TOK-002",
                "The model has no token that ends an answer, so none can be complete",
            ));
        };
        let mut bytes = vec![Vec::new(); vocab_size];
        for (id, token) in tokenizer.token_bytes()?.into_iter().enumerate().take(vocab_size) {
            // Control tokens are no text; what people call special never becomes part of an answer.
            if let TokenBytes::Text(text) = token
                && !stop_ids.contains(&(id as u32))
            {
                bytes[id] = text;
            }
        }
        Self::of_words(bytes, eos)
    }

    /// A vocabulary by the bytes of its tokens; a token without bytes is never chosen, `eos` only at the end.
    pub fn of_words(bytes: Vec<Vec<u8>>, eos: u32) -> Result<Self> {
        let mut words = bytes.clone();
        words[eos as usize] = [&[TokTrie::SPECIAL_TOKEN_MARKER][..], b"<end>"].concat();
        let trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, eos), &words);
        let mut factory =
            ParserFactory::new_simple(&(Arc::new(ApproximateTokEnv::new(trie)) as _)).map_err(|e| broken(&e))?;
        factory.quiet();
        factory.limits_mut().verbose_errors = false;
        Ok(Self { shared: Arc::new(Shared { factory, bytes }) })
    }

    /// A JSON schema as a grammar. PS-CFG-001 names the place of what cannot be done or met.
    pub fn schema(&self, schema: &Value) -> Result<Grammar> {
        schema::check(schema, &|part| self.compile(part).map(drop))?;
        let fresh =
            self.compile(schema).map_err(|e| Fault::new("PS-CFG-001", format!("The schema cannot be used: {e}")))?;
        Ok(Grammar { vocabulary: self.clone(), fresh })
    }

    /// Any JSON object or list.
    pub fn json(&self) -> Result<Grammar> {
        self.schema(&json!({"anyOf": [{"type": "object"}, {"type": "array"}]}))
    }

    fn compile(&self, schema: &Value) -> Result<Matcher, String> {
        let options = JsonCompileOptions {
            // One layout, that of Python's `json.dumps`: a model that may choose its white space can choose it for ever.
            whitespace_flexible: false,
            item_separator: ", ".to_owned(),
            key_separator: ": ".to_owned(),
            // Half a surrogate pair is no text.
            json_allowed_escapes: Some("nrbtf\\\"".to_owned()),
            ..JsonCompileOptions::default()
        };
        let mut schema = if schema.is_object() { schema.clone() } else { json!({"allOf": [schema]}) };
        options.apply_to(&mut schema);
        let parser = self
            .shared
            .factory
            .create_parser(TopLevelGrammar::from_json_schema(schema))
            .map_err(|e| format!("{e:#}"))?;
        let mut matcher = Matcher::new(Ok(parser));
        // Reading the first mask tells a grammar that allows nothing.
        matcher.compute_mask().map_err(|e| e.to_string())?;
        Ok(matcher)
    }
}

impl Grammar {
    /// At the beginning of an answer.
    pub fn start(&self) -> Constraint {
        Constraint {
            vocabulary: self.vocabulary.clone(),
            matcher: self.fresh.deep_clone(),
            numbers: NumberWatch::default(),
        }
    }
}

impl Constraint {
    /// The next token: one of those that the schema allows, or a stop token where the answer is complete.
    pub(super) fn choose(
        &mut self,
        logits: &mut [f32],
        sampling: &Sampling,
        index: usize,
        stop_ids: &[u32],
    ) -> Result<u32> {
        self.mask(logits, stop_ids)?;
        let bytes = &self.vocabulary.shared.bytes;
        let mut first = None;
        loop {
            let token = choose(logits, sampling, index);
            let z = logits.get_mut(token as usize).filter(|z| z.is_finite());
            let (Some(z), true) = (z, self.numbers.refuses(bytes.get(token as usize).map_or(&[], Vec::as_slice)))
            else {
                let chosen = if logits[token as usize].is_finite() { Some(token) } else { first };
                return chosen.ok_or_else(dead_end);
            };
            // A longer number than any reader can hold, unless there is nothing else.
            *z = f32::NEG_INFINITY;
            first.get_or_insert(token);
        }
    }

    /// Everything that the schema forbids becomes impossible.
    pub fn mask(&mut self, logits: &mut [f32], stop_ids: &[u32]) -> Result<()> {
        let allowed = self.matcher.compute_mask_or_eos().map_err(|e| broken(&e))?;
        let eos = self.vocabulary.shared.factory.tok_env().tok_trie().eos_token();
        // The mask knows one stop token; where it is allowed, whichever the model likes best is.
        let may_end = allowed.is_allowed(eos);
        let stops: Vec<(usize, f32)> =
            stop_ids.iter().filter_map(|&id| Some((id as usize, *logits.get(id as usize)?))).collect();
        let mut any = may_end;
        // A word of the mask at a time: most of a vocabulary is forbidden most of the time.
        for (word, some) in allowed.as_slice().iter().zip(logits.chunks_mut(32)) {
            match *word {
                0 => some.fill(f32::NEG_INFINITY),
                u32::MAX => any = true,
                bits => {
                    for (bit, z) in some.iter_mut().enumerate() {
                        if (bits >> bit) & 1 == 0 {
                            *z = f32::NEG_INFINITY;
                        }
                    }
                    any = true;
                }
            }
        }
        let reach = allowed.as_slice().len() * 32;
        logits.iter_mut().skip(reach).for_each(|z| *z = f32::NEG_INFINITY);
        for (id, z) in stops {
            logits[id] = if may_end { z } else { f32::NEG_INFINITY };
        }
        if any { Ok(()) } else { Err(dead_end()) }
    }

    /// `token` was chosen. True when the answer is complete and nothing can follow.
    pub fn accept(&mut self, token: u32) -> Result<bool> {
        if let Some(bytes) = self.vocabulary.shared.bytes.get(token as usize) {
            self.numbers.read(bytes);
        }
        self.matcher.consume_token(token).map_err(|e| broken(&e))?;
        Ok(self.matcher.is_stopped())
    }

    /// Whether what was written so far is a complete answer.
    pub fn is_complete(&mut self) -> Result<bool> {
        self.matcher.is_accepting().map_err(|e| broken(&e))
    }
}

fn dead_end() -> Fault {
    Fault::new("PS-CFG-001", "The tokens of this model cannot spell any answer that the schema asks for")
}

fn broken(error: &impl fmt::Display) -> Fault {
    Fault::new("PS-CFG-001", format!("The schema is too complicated to follow: {error}"))
}
