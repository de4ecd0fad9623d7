//! Ids to text while they are being generated.
//!
//! A token may be part of a character, and the first token of a text may lose its leading space.
//! So each step decodes a short window that begins with tokens already shown, and shows what the
//! window adds, once it ends on a whole character.

use crate::tokenizer::Tokenizer;
use peft_plan::Result;

/// How many tokens may wait for a character to be finished. One takes four at most; the rest is for
/// tokens that print nothing and for text that itself holds U+FFFD.
const LONGEST_WAIT: usize = 64;

/// Turns ids into text piece by piece; the pieces together are what decoding all ids at once gives.
#[derive(Clone, Debug)]
pub struct Decoder<'t> {
    tokenizer: &'t Tokenizer,
    window: Vec<u32>,
    /// How many ids of the window are shown already.
    shown: usize,
    /// Their text.
    shown_text: String,
}

impl<'t> Decoder<'t> {
    /// A decoder at the beginning of an answer.
    pub fn new(tokenizer: &'t Tokenizer) -> Self {
        Self { tokenizer, window: Vec::new(), shown: 0, shown_text: String::new() }
    }

    /// The text that `id` completes; often empty, never half a character.
    pub fn push(&mut self, id: u32) -> Result<String> {
        self.window.push(id);
        let text = self.tokenizer.decode(&self.window)?;
        // An unfinished character decodes to U+FFFD at the end; one that stays so is broken.
        let pending = self.window.len() - self.shown;
        if text.ends_with('\u{FFFD}') && pending <= LONGEST_WAIT {
            return Ok(String::new());
        }
        let fresh = self.fresh(&text)?;
        if fresh.is_empty() {
            return Ok(fresh);
        }
        // The tokens just shown become the lead of the next window: they make sure that a leading
        // space of what follows is not taken for the beginning of a text.
        self.window.drain(..self.shown);
        self.shown = self.window.len();
        self.shown_text = self.tokenizer.decode(&self.window)?;
        Ok(fresh)
    }

    /// What is left when the answer ends, broken characters included.
    pub fn finish(self) -> Result<String> {
        let text = self.tokenizer.decode(&self.window)?;
        self.fresh(&text)
    }

    /// What `text`, the text of the window, adds to what is shown.
    fn fresh(&self, text: &str) -> Result<String> {
        match text.strip_prefix(self.shown_text.as_str()) {
            Some(fresh) => Ok(fresh.to_owned()),
            // Broken bytes may change how the bytes before them decode, which cannot be unshown.
            None => self.tokenizer.decode(&self.window[self.shown..]),
        }
    }
}
