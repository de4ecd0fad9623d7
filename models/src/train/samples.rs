//! The same prompts answered again and again while a model learns (S4.7): what people compare by eye.

use super::room::is_want;
use crate::decoder::Decoder;
use crate::fault::device;
use crate::generate::{Answer, AnswerText, Columns, GenerateOptions, Generation, PREFILL_ROWS, Prompt};
use peft_kernels::Backend;
use peft_plan::{EventSink, Result, RunEvent};
use peft_text::Tokenizer;
use std::ops::ControlFlow;

/// A prompt that is answered at each evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplePrompt {
    /// What was asked, in words.
    pub prompt: String,
    /// The conversation as tokens, the beginning of the answer included.
    pub ids: Vec<u32>,
    /// What the data says, where the prompt comes from the data.
    pub expected: Option<String>,
}

/// The prompts of a run and how they are answered: greedily, so that only the model makes a difference.
#[derive(Clone, Copy)]
pub struct Samples<'a> {
    /// The prompts.
    pub prompts: &'a [SamplePrompt],
    /// Longest answer, tokens.
    pub tokens: usize,
    /// Tokens that end an answer.
    pub stop_ids: &'a [u32],
    /// To words.
    pub tokenizer: &'a Tokenizer,
}

/// How many prompts are answered together and how many of their rows are read at once: the fastest first, then what takes
/// less memory.
const PIECES: [(usize, usize); 3] = [(usize::MAX, PREFILL_ROWS), (1, 64), (1, 8)];

impl Samples<'_> {
    /// Answer all prompts. `adapters`: as trained so far, or as the base does. A fault for want of memory says that there
    /// is none for a few tokens of a single one.
    pub(super) fn answers<B: Backend>(&self, decoder: &mut Decoder<B>, adapters: bool) -> Result<Vec<Answer>> {
        if self.prompts.is_empty() {
            return Ok(Vec::new());
        }
        decoder.prepare().map_err(device)?;
        let prompts: Vec<Prompt> =
            self.prompts.iter().map(|p| Prompt { ids: p.ids.clone(), adapter: adapters }).collect();
        let mut pieces = PIECES.into_iter();
        loop {
            let (together, rows) = pieces.next().unwrap_or(PIECES[PIECES.len() - 1]);
            let answers = prompts.chunks(together.min(prompts.len())).map(|some| self.answer(decoder, some, rows));
            let answers = answers.collect::<Result<Vec<Vec<Answer>>>>();
            match answers {
                Err(fault) if is_want(&fault) && pieces.len() > 0 => decoder.be.trim(),
                answers => return Ok(answers?.concat()),
            }
        }
    }

    fn answer<B: Backend>(&self, decoder: &mut Decoder<B>, prompts: &[Prompt], rows: usize) -> Result<Vec<Answer>> {
        // Buffers of its own: those of the training step keep their shapes.
        let mut acts = decoder.answering_activations().map_err(device)?;
        let options = GenerateOptions {
            max_new_tokens: self.tokens,
            stop_ids: self.stop_ids.to_vec(),
            ..GenerateOptions::default()
        };
        let mut columns = Columns::default();
        let mut quiet = |_: usize, _: u32| ControlFlow::Continue(());
        let mut generation = Generation::new(decoder, &mut columns, prompts, &options)?;
        while !generation.advance(decoder, &mut acts, &mut columns, rows, &mut quiet)? {}
        Ok(generation.finish().answers)
    }

    /// Tell `sink` what was answered.
    pub(super) fn tell(&self, answers: &[Answer], step: u64, sink: &mut dyn EventSink) -> Result<()> {
        for (prompt, answer) in self.prompts.iter().zip(answers) {
            let mut text = AnswerText::new(self.tokenizer, &[])?;
            for &id in &answer.ids {
                text.push(id)?;
            }
            text.finish()?;
            let event = RunEvent::Sample {
                step,
                prompt: prompt.prompt.clone(),
                answer: text.text().to_owned(),
                expected: prompt.expected.clone(),
            };
            let _continue = sink.emit(&event);
        }
        Ok(())
    }
}
