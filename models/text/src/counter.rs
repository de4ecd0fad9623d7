//! How many tokens a text has, without making them: its pieces are counted once each.
//!
//! Most tokenizers look at a text piece by piece, and most pieces of a text are the same few words. Here the pieces are
//! found by hand (`scan`), those that were met before are known, and the others go to the tokenizer's own merges.
//! Where a tokenizer or a text is not of the kinds that are understood, the whole of it is asked, so that the counts
//! are always its own.

use crate::scan::Expression;
use crate::token_bytes::byte_alphabet;
use crate::tokenizer::{Tokenizer, encode_fault};
use aho_corasick::AhoCorasick;
use peft_plan::Result;
use serde_json::Value;
use std::cell::RefCell;
use std::collections::HashMap;
use tokenizers::{Model, ModelWrapper};
use unicode_normalization_alignments::is_nfc;

/// Pieces that are remembered, and the longest of them in bytes: some 20 MB.
const MOST: usize = 200_000;
const LONGEST: usize = 64;

/// What SentencePiece writes for a space.
const SPACE: char = '▁';

/// Counts the tokens of many texts.
pub struct TokenCounter<'a> {
    tokenizer: &'a Tokenizer,
    /// How a text falls into pieces; `None` where only the tokenizer itself knows.
    way: Option<Way>,
    /// Control tokens and the like, which are cut out of a text before anything else.
    added: Option<AhoCorasick>,
    known: RefCell<HashMap<Box<str>, u32>>,
}

/// How a text falls into pieces that are merged each for itself.
enum Way {
    /// The bytes of words, as GPT-2 began it.
    Bytes(Bytes),
    /// The characters of words, as SentencePiece does.
    Words(Words),
}

struct Bytes {
    /// Only texts in this normal form are left as they are.
    is_nfc: bool,
    /// Whether a text that begins without a space gets one.
    prefix: bool,
    /// Digits are cut out first: one by one, or as numbers.
    digits: Option<bool>,
    expression: Expression,
    /// What stands for each byte.
    alphabet: Vec<char>,
}

struct Words {
    /// Put before a text, always or where it does not begin with a space.
    prefix: Prefix,
    /// Whether each space begins a piece of its own.
    each_space: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Prefix {
    No,
    Always,
    UnlessSpace,
}

impl Tokenizer {
    /// Counts like [`count`](Self::count), many times as fast where there is much to count.
    pub fn counter(&self) -> TokenCounter<'_> {
        let mut added: Vec<String> = self.added().values().map(|token| token.content.clone()).collect();
        let is_plain = added.iter().all(|content| is_nfc(content));
        // Some are looked for in what the text becomes.
        added.extend_from_slice(&added.iter().map(|content| content.replace(SPACE, " ")).collect::<Vec<_>>());
        let added = AhoCorasick::new(added).ok();
        let way = added.as_ref().filter(|_| is_plain).and_then(|_| Way::of(self));
        TokenCounter { tokenizer: self, way, added, known: RefCell::default() }
    }
}

impl TokenCounter<'_> {
    /// How many tokens `text` has, without what the tokenizer puts around it.
    pub fn count(&self, text: &str) -> Result<usize> {
        let has_added = || self.added.as_ref().is_none_or(|added| added.is_match(text));
        match &self.way {
            Some(way) if way.is_for(text) && !has_added() => {
                let mut counted = Counted { counter: self, way, sum: 0, failed: None };
                way.pieces(text, &mut |piece| counted.add(piece));
                counted.failed.map_or(Ok(counted.sum), Err)
            }
            _ => self.tokenizer.count(text),
        }
    }

    /// Whether texts are counted piece by piece.
    pub fn is_quick(&self) -> bool {
        self.way.is_some()
    }

    fn piece(&self, way: &Way, piece: &str) -> Result<usize> {
        if let Some(tokens) = self.known.borrow().get(piece) {
            return Ok(*tokens as usize);
        }
        let merged = self.tokenizer.model().tokenize(&way.spelled(piece));
        let tokens = merged.map_err(|error| encode_fault(&error.to_string()))?.len();
        if piece.len() <= LONGEST {
            let mut known = self.known.borrow_mut();
            if known.len() >= MOST {
                known.clear();
            }
            known.insert(piece.into(), tokens as u32);
        }
        Ok(tokens)
    }
}

/// The sum of the pieces so far.
struct Counted<'a> {
    counter: &'a TokenCounter<'a>,
    way: &'a Way,
    sum: usize,
    failed: Option<peft_plan::Fault>,
}

impl Counted<'_> {
    fn add(&mut self, piece: &str) {
        match self.counter.piece(self.way, piece) {
            Ok(tokens) => self.sum += tokens,
            Err(fault) => self.failed = Some(fault),
        }
    }
}

impl Way {
    /// That of `tokenizer`, if it is one of these.
    fn of(tokenizer: &Tokenizer) -> Option<Self> {
        let ModelWrapper::BPE(model) = tokenizer.model() else { return None };
        let is_plain = model.dropout.is_none_or(|share| share == 0.0)
            && model.continuing_subword_prefix.as_deref().is_none_or(str::is_empty)
            && model.end_of_word_suffix.as_deref().is_none_or(str::is_empty);
        if !is_plain {
            return None;
        }
        let (normalizer, splitter) = tokenizer.steps();
        let bytes = Bytes::of(&normalizer, &splitter).map(Self::Bytes);
        bytes.or_else(|| Words::of(tokenizer, &normalizer, &splitter).map(Self::Words))
    }

    /// Whether `text` is of the kind whose pieces are understood.
    fn is_for(&self, text: &str) -> bool {
        match self {
            Self::Bytes(bytes) => !bytes.is_nfc || text.is_ascii() || is_nfc(text),
            Self::Words(_) => !text.contains(SPACE),
        }
    }

    fn pieces(&self, text: &str, take: &mut impl FnMut(&str)) {
        match self {
            Self::Bytes(bytes) if bytes.prefix && !text.is_empty() && !text.starts_with(' ') => {
                bytes.pieces(&format!(" {text}"), take);
            }
            Self::Bytes(bytes) => bytes.pieces(text, take),
            Self::Words(words) => words.pieces(text, take),
        }
    }

    /// A piece as the vocabulary spells it.
    fn spelled(&self, piece: &str) -> String {
        match self {
            Self::Bytes(bytes) => piece.bytes().map(|byte| bytes.alphabet[usize::from(byte)]).collect(),
            Self::Words(_) => piece.chars().map(|c| if c == ' ' { SPACE } else { c }).collect(),
        }
    }
}

impl Bytes {
    fn of(normalizer: &Value, splitter: &Value) -> Option<Self> {
        let is_nfc = match normalizer["type"].as_str() {
            None if normalizer.is_null() => false,
            Some("NFC") => true,
            _ => return None,
        };
        let alone = std::slice::from_ref(splitter);
        let mut steps = splitter["pretokenizers"].as_array().map_or(alone, Vec::as_slice);
        let mut digits = None;
        if let [first, rest @ ..] = steps
            && first["type"] == "Digits"
        {
            digits = Some(first["individual_digits"].as_bool()?);
            steps = rest;
        }
        let (expression, bytes) = match steps {
            [bytes] if bytes["use_regex"] == true => (Expression::Gpt2, bytes),
            [split, bytes] if bytes["use_regex"] == false => {
                let is_plain = split["type"] == "Split" && split["behavior"] == "Isolated" && split["invert"] == false;
                let pattern = split["pattern"]["Regex"].as_str().filter(|_| is_plain)?;
                (Expression::of(pattern)?, bytes)
            }
            _ => return None,
        };
        let prefix = bytes["add_prefix_space"].as_bool()?;
        // A space before each of several pieces is another matter.
        if bytes["type"] != "ByteLevel" || prefix && (digits.is_some() || steps.len() > 1) {
            return None;
        }
        let mut alphabet = vec![' '; 256];
        for (c, byte) in byte_alphabet() {
            alphabet[usize::from(byte)] = c;
        }
        Some(Self { is_nfc, prefix, digits, expression, alphabet })
    }

    fn pieces(&self, text: &str, take: &mut impl FnMut(&str)) {
        let Some(one_by_one) = self.digits else { return self.expression.pieces(text, take) };
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let is_number = first.is_numeric();
            let end = if is_number && one_by_one {
                first.len_utf8()
            } else {
                rest.find(|c: char| c.is_numeric() != is_number).unwrap_or(rest.len())
            };
            self.expression.pieces(&rest[..end], &mut *take);
            rest = &rest[end..];
        }
    }
}

impl Words {
    fn of(tokenizer: &Tokenizer, normalizer: &Value, splitter: &Value) -> Option<Self> {
        let steps = match normalizer["normalizers"].as_array() {
            Some(steps) => steps.clone(),
            None if normalizer.is_null() => Vec::new(),
            None => vec![normalizer.clone()],
        };
        let space = SPACE.to_string();
        let is_replace = |step: &Value| {
            step["type"] == "Replace" && step["pattern"]["String"] == " " && step["content"] == space.as_str()
        };
        let is_prepend = |step: &Value| step["type"] == "Prepend" && step["prepend"] == space.as_str();
        // Gemma's looks for spaces, of which there are none any more.
        let is_idle = splitter.is_null() || splitter["type"] == "Split" && splitter["pattern"]["String"] == " ";
        let (prefix, each_space) = match (steps.as_slice(), splitter["type"].as_str()) {
            ([replace], _) if is_replace(replace) && is_idle => (Prefix::No, false),
            ([prepend, replace], _) if is_prepend(prepend) && is_replace(replace) && is_idle => (Prefix::Always, false),
            ([], Some("Metaspace")) if splitter["replacement"] == space.as_str() => {
                let prefix = match splitter["prepend_scheme"].as_str()? {
                    "never" => Prefix::No,
                    _ => Prefix::UnlessSpace,
                };
                (prefix, splitter["split"].as_bool()?)
            }
            _ => return None,
        };
        Self::falls_into_words(tokenizer).then_some(Self { prefix, each_space })
    }

    /// Whether no token goes on into the next word, and every character can be spelled: then words are merged as if
    /// they stood alone.
    fn falls_into_words(tokenizer: &Tokenizer) -> bool {
        let ModelWrapper::BPE(model) = tokenizer.model() else { return false };
        let is_spelled = (0..=255).all(|byte| model.token_to_id(&format!("<0x{byte:02X}>")).is_some());
        let goes_on = |token: &str| token.trim_start_matches(SPACE).contains(SPACE);
        model.byte_fallback
            && is_spelled
            && model.token_to_id(SPACE.encode_utf8(&mut [0; 4])).is_some()
            && !model.get_vocab().keys().any(|token| goes_on(token))
    }

    fn pieces(&self, text: &str, take: &mut impl FnMut(&str)) {
        let lead = match self.prefix {
            _ if text.is_empty() => return,
            Prefix::Always => true,
            Prefix::UnlessSpace => !text.starts_with(' '),
            Prefix::No => false,
        };
        let mut rest = text;
        if lead {
            let end = self.end(rest);
            take(&format!(" {}", &rest[..end]));
            rest = &rest[end..];
        }
        while !rest.is_empty() {
            let (word, behind) = rest.split_at(self.end(rest));
            take(word);
            rest = behind;
        }
    }

    /// Where the first piece ends: before a space behind something else, or before any.
    fn end(&self, text: &str) -> usize {
        let bytes = text.as_bytes();
        let begins = |at: &usize| bytes[*at] == b' ' && (self.each_space || bytes[at - 1] != b' ');
        (1..bytes.len()).find(begins).unwrap_or(text.len())
    }
}
