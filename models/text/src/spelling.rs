//! Control tokens that people spell inside a content stay plain text.
//!
//! A row may hold `<|im_end|>` or `[INST]`. Before rendering, such spellings are replaced by
//! stand-ins; in the rendering, what still spells a control token was written by the template. A
//! twin of the tokenizer, in which every added token has a spelling that no text can hold, then
//! encodes the rendering in one piece: the template's control tokens in their unwritable spelling,
//! the stand-ins as the letters they stand for. So nothing is cut apart and no space is added at a
//! seam. Conversations that spell no control token take the ordinary tokenizer.

use crate::markers;
use aho_corasick::{AhoCorasick, AhoCorasickBuilder, MatchKind};
use std::borrow::Cow;
use std::collections::HashMap;
use tokenizers::AddedToken;

/// The control tokens of one template and tokenizer.
#[derive(Debug)]
pub(crate) struct Controls {
    /// Their spellings.
    texts: Vec<String>,
    ids: Vec<u32>,
    matcher: Option<AhoCorasick>,
}

impl Controls {
    pub(crate) fn new(mut tokens: Vec<(u32, String)>) -> Self {
        tokens.retain(|(_, text)| !text.trim().is_empty());
        tokens.sort();
        tokens.dedup();
        let (ids, texts): (Vec<u32>, Vec<String>) = tokens.into_iter().unzip();
        let matcher = longest_first(&texts);
        Self { texts, ids, matcher }
    }

    /// `content` without marks of ours, and with stand-ins for the control tokens it spells.
    pub(crate) fn escape<'a>(&self, content: &'a str) -> Cow<'a, str> {
        let content = markers::without_noncharacters(content);
        match &self.matcher {
            Some(matcher) if matcher.is_match(content.as_ref()) => {
                let mut text = String::with_capacity(content.len());
                matcher.replace_all_with(&content, &mut text, |found, _, out| {
                    out.push_str(&markers::spelling(found.pattern().as_usize()));
                    true
                });
                Cow::Owned(text)
            }
            _ => content,
        }
    }

    /// The ids of the tokens that `text` spells, in order.
    pub(crate) fn found_in<'a>(&'a self, text: &'a str) -> impl Iterator<Item = u32> + 'a {
        let found = self.matcher.iter().flat_map(move |m| m.find_iter(text));
        found.map(|found| self.ids[found.pattern().as_usize()])
    }

    pub(crate) fn is_control(&self, id: u32) -> bool {
        self.ids.contains(&id)
    }
}

fn longest_first(texts: &[String]) -> Option<AhoCorasick> {
    if texts.is_empty() {
        return None;
    }
    AhoCorasickBuilder::new().match_kind(MatchKind::LeftmostLongest).build(texts).ok()
}

/// Where a piece of a rendering begins in its three forms.
#[derive(Clone, Copy, Debug, Default)]
struct Piece {
    /// With stand-ins.
    escaped: usize,
    /// As people read it.
    display: usize,
    /// As the twin tokenizer reads it.
    coded: usize,
}

/// A rendering in the forms it is needed in.
#[derive(Debug)]
pub(crate) struct Expanded {
    /// As people read it.
    pub display: String,
    /// For the twin tokenizer; `None` when nothing was replaced and the ordinary one does.
    pub coded: Option<String>,
    /// Starts of all pieces, and the ends as the last entry.
    pieces: Vec<Piece>,
}

/// Ids with the byte ranges of the displayed text they stand for.
pub(crate) type Encoded = (Vec<u32>, Vec<(usize, usize)>);

impl Expanded {
    /// Puts the spellings back into `escaped`.
    pub(crate) fn new(escaped: String, controls: &Controls, twin: Option<&Respelled>) -> Self {
        let Some(twin) = twin else {
            let end = Piece { escaped: escaped.len(), display: escaped.len(), coded: escaped.len() };
            return Self { display: escaped, coded: None, pieces: vec![Piece::default(), end] };
        };
        let mut out = Building::default();
        let mut rest = escaped.as_str();
        while let Some((start, number, end)) = markers::next_spelling(rest) {
            out.template_text(&rest[..start], twin);
            let text = controls.texts.get(number).map_or("", String::as_str);
            out.push(&rest[start..end], text, &twin.plain(text));
            rest = &rest[end..];
        }
        out.template_text(rest, twin);
        out.pieces.push(out.at);
        Self { display: out.display, coded: Some(out.coded), pieces: out.pieces }
    }

    fn map(&self, position: usize, from: impl Fn(&Piece) -> usize, to: impl Fn(&Piece) -> usize) -> usize {
        let next = self.pieces.partition_point(|piece| from(piece) <= position);
        let Some(piece) = next.checked_sub(1).and_then(|at| self.pieces.get(at)) else {
            return 0;
        };
        let inside = position - from(piece);
        let Some(after) = self.pieces.get(next) else {
            return to(piece);
        };
        // Inside a replaced piece there is no matching place: its end stands for it.
        if from(after) - from(piece) == to(after) - to(piece) {
            to(piece) + inside
        } else if inside == 0 {
            to(piece)
        } else {
            to(after)
        }
    }

    /// A position of the escaped rendering in the displayed one.
    pub(crate) fn displayed(&self, escaped: usize) -> usize {
        self.map(escaped, |p| p.escaped, |p| p.display)
    }

    /// A position of the coded rendering in the displayed one.
    fn decoded(&self, coded: usize) -> usize {
        self.map(coded, |p| p.coded, |p| p.display)
    }

    /// Encodes the coded rendering with `twin`.
    pub(crate) fn encode(&self, coded: &str, twin: &Respelled, controls: &Controls) -> Result<Encoded, String> {
        let (mut ids, mut ranges) = (Vec::new(), Vec::new());
        // A token that the template wrote covers its whole stand-in, and lstrip or rstrip may add
        // white space around: both ends are ends of pieces or lie in ordinary text.
        for (id, _, (start, end)) in twin.encode(coded, controls)? {
            ids.push(id);
            ranges.push((self.decoded(start), self.decoded(end)));
        }
        Ok((ids, ranges))
    }
}

#[derive(Default)]
struct Building {
    display: String,
    coded: String,
    pieces: Vec<Piece>,
    at: Piece,
}

impl Building {
    fn push(&mut self, escaped: &str, display: &str, coded: &str) {
        if escaped.is_empty() {
            return;
        }
        self.pieces.push(self.at);
        self.display.push_str(display);
        self.coded.push_str(coded);
        self.at.escaped += escaped.len();
        self.at.display += display.len();
        self.at.coded += coded.len();
    }

    /// Text between stand-ins: every added token in it is meant as one.
    fn template_text(&mut self, text: &str, twin: &Respelled) {
        let mut from = 0;
        for found in twin.matcher.iter().flat_map(|m| m.find_iter(text)) {
            let plain = &text[from..found.start()];
            self.push(plain, plain, plain);
            let spelled = &text[found.range()];
            let stand_in = &twin.stand_ins[found.pattern().as_usize()];
            self.push(spelled, spelled, stand_in);
            from = found.end();
        }
        let plain = &text[from..];
        self.push(plain, plain, plain);
    }
}

/// Id, whether the template wrote it, byte range.
type Token = (u32, bool, (usize, usize));

/// A tokenizer whose added tokens can be written by us only.
pub(crate) struct Respelled {
    tokenizer: tokenizers::Tokenizer,
    /// Finds the original spellings of the tokens.
    matcher: Option<AhoCorasick>,
    /// Unwritable spellings, in the order of the matcher's patterns.
    stand_ins: Vec<String>,
    /// Ids of the twin's added tokens to the tokenizer's.
    original: HashMap<u32, u32>,
    breaker: u32,
    /// Tokens that keep their spelling in the twin, because they are matched against normalised
    /// text and a stand-in would not be matched where they are.
    kept: Vec<String>,
}

/// Ids between the count of the vocabulary and its highest id that may be filled in.
const GAP_LIMIT: usize = 100_000;

impl Respelled {
    pub(crate) fn build(inner: &tokenizers::Tokenizer) -> Result<Self, String> {
        let text = |error: tokenizers::Error| error.to_string();
        let mut twin = tokenizers::Tokenizer::new(inner.get_model().clone());
        twin.with_normalizer(inner.get_normalizer().cloned()).map_err(text)?;
        twin.with_pre_tokenizer(inner.get_pre_tokenizer().cloned());
        // The twin numbers its tokens from the size of the model's vocabulary on. Where that
        // vocabulary has gaps, the numbers would clash with the model's highest ids.
        let highest = inner.get_vocab(false).into_values().max().unwrap_or(0) as usize;
        let gap = (highest + 1).saturating_sub(twin.get_vocab_size(false));
        if gap > GAP_LIMIT {
            return Err(format!("its vocabulary has {gap} numbers without a token"));
        }
        let marker = |content: String| AddedToken::from(content, true);
        twin.add_tokens((0..gap).map(|n| marker(markers::filler(n)))).map_err(text)?;
        let mut added: Vec<(u32, AddedToken)> = inner.get_added_tokens_decoder().into_iter().collect();
        added.retain(|(_, token)| !token.content.is_empty());
        added.sort_by_key(|(id, _)| *id);
        let mut texts = Vec::new();
        let mut stand_ins = Vec::new();
        let mut tokens = Vec::new();
        let normalises = inner.get_normalizer().is_some();
        let (kept, respelled): (Vec<_>, Vec<_>) =
            added.into_iter().partition(|(_, token)| token.normalized && normalises);
        for (number, (_, token)) in respelled.iter().enumerate() {
            texts.push(token.content.clone());
            stand_ins.push(markers::control(number));
            tokens.push(AddedToken { content: markers::control(number), ..token.clone() });
        }
        tokens.push(marker(markers::BREAK.to_string()));
        tokens.extend(kept.iter().map(|(_, token)| token.clone()));
        twin.add_tokens(tokens).map_err(text)?;
        let missing = || "an added token could not be respelled".to_owned();
        let mut original = HashMap::new();
        let names = stand_ins.iter().zip(&respelled);
        let same = kept.iter().map(|token| (&token.1.content, token));
        for (name, (id, _)) in names.chain(same) {
            original.insert(twin.token_to_id(name).ok_or_else(missing)?, *id);
        }
        let breaker = twin.token_to_id(&markers::BREAK.to_string()).ok_or_else(missing)?;
        Ok(Self {
            tokenizer: twin,
            matcher: longest_first(&texts),
            stand_ins,
            original,
            breaker,
            kept: kept.into_iter().map(|(_, token)| token.content).collect(),
        })
    }

    /// `spelled` so that the twin takes it for letters.
    fn plain<'a>(&self, spelled: &'a str) -> Cow<'a, str> {
        let mut letters = spelled.chars();
        match letters.next() {
            Some(first) if self.kept.iter().any(|text| text == spelled) => {
                Cow::Owned(format!("{first}{}{}", markers::BREAK, letters.as_str()))
            }
            _ => Cow::Borrowed(spelled),
        }
    }

    /// `(id, written by the template, byte range in coded)` of every token.
    fn encode(&self, coded: &str, controls: &Controls) -> Result<Vec<Token>, String> {
        let tokens = self.encode_once(coded)?;
        let forged: Vec<usize> = tokens
            .iter()
            .filter(|(id, written, range)| !written && controls.is_control(*id) && range.1 > range.0 + 1)
            .map(|(_, _, range)| range.0)
            .collect();
        if forged.is_empty() {
            return Ok(tokens);
        }
        // The model itself builds a control token from letters. Breaking after the first letter
        // forbids exactly that.
        let mut broken = String::with_capacity(coded.len() + 3 * forged.len());
        let mut cuts = Vec::new();
        let mut from = 0;
        for start in forged {
            let first = coded[start..].chars().next().map_or(1, char::len_utf8);
            let cut = start + first;
            broken.push_str(&coded[from..cut]);
            cuts.push(broken.len());
            broken.push(markers::BREAK);
            from = cut;
        }
        broken.push_str(&coded[from..]);
        let width = markers::BREAK.len_utf8();
        let back = |position: usize| {
            let before = cuts.partition_point(|cut| *cut < position);
            position - before * width
        };
        Ok(self
            .encode_once(&broken)?
            .into_iter()
            .map(|(id, written, (start, end))| (id, written, (back(start), back(end))))
            .collect())
    }

    fn encode_once(&self, coded: &str) -> Result<Vec<Token>, String> {
        let encoding = self.tokenizer.encode(coded, false).map_err(|error| error.to_string())?;
        Ok(encoding
            .get_ids()
            .iter()
            .zip(encoding.get_offsets())
            .filter(|(id, _)| **id != self.breaker)
            .map(|(id, range)| match self.original.get(id) {
                Some(original) => (*original, true, *range),
                None => (*id, false, *range),
            })
            .collect())
    }
}
