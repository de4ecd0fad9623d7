//! An answer as text while its tokens come: whole characters only, ended by stop strings.

use super::StopReason;
use super::stops::{Shown, StopStrings};
use peft_plan::Result;
use peft_text::{Decoder, Tokenizer};

/// The text of one answer.
pub struct AnswerText<'t> {
    decoder: Option<Decoder<'t>>,
    stops: StopStrings,
    text: String,
    ended: bool,
}

impl<'t> AnswerText<'t> {
    /// At the beginning of an answer.
    pub fn new(tokenizer: &'t Tokenizer, stops: &[String]) -> Result<Self> {
        Ok(Self {
            decoder: Some(Decoder::new(tokenizer)),
            stops: StopStrings::new(stops)?,
            text: String::new(),
            ended: false,
        })
    }

    /// The text that `token` adds, and whether a stop string ended the answer.
    pub fn push(&mut self, token: u32) -> Result<Shown> {
        let Some(decoder) = self.decoder.as_mut().filter(|_| !self.ended) else {
            return Ok(Shown { text: String::new(), ended: true });
        };
        let piece = decoder.push(token)?;
        if piece.is_empty() {
            return Ok(Shown::default());
        }
        let shown = self.stops.push(&piece);
        self.ended = shown.ended;
        self.text.push_str(&shown.text);
        Ok(shown)
    }

    /// The answer is over: the text that was still held back.
    pub fn finish(&mut self) -> Result<String> {
        let Some(decoder) = self.decoder.take().filter(|_| !self.ended) else { return Ok(String::new()) };
        let Shown { mut text, ended } = self.stops.push(&decoder.finish()?);
        self.ended = ended;
        if !ended {
            text.push_str(&self.stops.finish());
        }
        self.text.push_str(&text);
        Ok(text)
    }

    /// Everything shown so far.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Why the answer ended, given why its tokens did.
    pub fn reason(&self, tokens: StopReason) -> StopReason {
        if self.ended { StopReason::StopString } else { tokens }
    }
}
