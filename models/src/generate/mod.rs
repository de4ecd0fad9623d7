//! Answers: several prompts decoded together over one resident base, with or without the adapter on each (B9).
//!
//! What an answer says does not depend on what is decoded beside it, to the bit: a prompt is read in a pass of its
//! own, and at most [`TOGETHER`] answers go on in one pass, for which the products take the same path as for one.

mod columns;
pub mod constraint;
mod generation;
mod sample;
mod stops;
mod text;

pub use columns::Columns;
pub use constraint::{Constraints, Grammar};
pub use generation::{Generation, PREFILL_ROWS, TOGETHER};
pub use sample::{History, Sampling, candidates, choose, penalize};
pub use stops::{Shown, StopStrings};
pub use text::AnswerText;

use crate::decoder::{Activations, Decoder};
use peft_kernels::Backend;
use peft_plan::Result;
use std::ops::ControlFlow;

/// One prompt.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// Token ids, at least one.
    pub ids: Vec<u32>,
    /// Answer with the adapter.
    pub adapter: bool,
}

/// When an answer ends and how it is chosen.
#[derive(Clone, Debug)]
pub struct GenerateOptions {
    /// How a token is chosen.
    pub sampling: Sampling,
    /// Longest answer, tokens.
    pub max_new_tokens: usize,
    /// Tokens that end an answer; not part of it.
    pub stop_ids: Vec<u32>,
    /// What an answer must look like.
    pub grammar: Option<Grammar>,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self { sampling: Sampling::default(), max_new_tokens: 256, stop_ids: Vec::new(), grammar: None }
    }
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// A stop token came, or the answer is complete under its schema.
    Stop,
    /// A stop string came.
    StopString,
    /// It is as long as it may be.
    Length,
    /// The caller had enough.
    Cancelled,
}

impl StopReason {
    /// The word for it in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::StopString => "stop_string",
            Self::Length => "length",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What a caller that has heard a token wants to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// This answer, for this reason.
    This(StopReason),
    /// All answers.
    All,
}

/// Called with the number of the prompt and each token of its answer.
pub type OnToken<'a> = dyn FnMut(usize, u32) -> ControlFlow<Halt> + 'a;

/// One answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Token ids without the stop token.
    pub ids: Vec<u32>,
    /// Why it ended.
    pub stop: StopReason,
    /// Tokens of the prompt that did not have to be read again.
    pub reused_tokens: usize,
}

/// Answers and how long they took.
#[derive(Clone, Debug)]
pub struct Generated {
    /// In the order of the prompts.
    pub answers: Vec<Answer>,
    /// Until the first token of any of them.
    pub first_token_seconds: f64,
    /// From the moment when all prompts were read.
    pub decode_seconds: f64,
}

/// Answer all prompts from an empty cache.
pub fn generate<B: Backend>(
    decoder: &mut Decoder<B>,
    acts: &mut Activations<B>,
    prompts: &[Prompt],
    options: &GenerateOptions,
    on_token: &mut OnToken,
) -> Result<Generated> {
    generate_with(decoder, acts, &mut Columns::default(), prompts, options, on_token)
}

/// Answer all prompts; what `columns` hold of them is not computed again.
pub fn generate_with<B: Backend>(
    decoder: &mut Decoder<B>,
    acts: &mut Activations<B>,
    columns: &mut Columns<B>,
    prompts: &[Prompt],
    options: &GenerateOptions,
    on_token: &mut OnToken,
) -> Result<Generated> {
    let answered = (|| {
        let mut generation = Generation::new(decoder, columns, prompts, options)?;
        while !generation.advance(decoder, acts, columns, PREFILL_ROWS, on_token)? {}
        Ok(generation.finish())
    })();
    match &answered {
        Ok(_) => columns.settle(),
        // Whatever broke, what is in the cache is not to be trusted.
        Err(_) => columns.clear(),
    }
    answered
}
