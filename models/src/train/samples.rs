//! The same prompts answered again and again while a model learns (S4.7): what people compare by eye.

use crate::decoder::Decoder;
use crate::fault::device;
use crate::generate::{AnswerText, GenerateOptions, Prompt, generate};
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

impl Samples<'_> {
    /// Answer all prompts and tell `sink`. `adapters`: as trained so far, or as the base does.
    pub fn tell<B: Backend>(
        &self,
        decoder: &mut Decoder<B>,
        adapters: bool,
        step: u64,
        sink: &mut dyn EventSink,
    ) -> Result<()> {
        if self.prompts.is_empty() {
            return Ok(());
        }
        decoder.prepare().map_err(device)?;
        // Buffers of its own: those of the training step keep their shapes.
        let mut acts = decoder.answering_activations().map_err(device)?;
        let prompts: Vec<Prompt> =
            self.prompts.iter().map(|p| Prompt { ids: p.ids.clone(), adapter: adapters }).collect();
        let options = GenerateOptions {
            max_new_tokens: self.tokens,
            stop_ids: self.stop_ids.to_vec(),
            ..GenerateOptions::default()
        };
        let mut quiet = |_: usize, _: u32| ControlFlow::Continue(());
        let generated = generate(decoder, &mut acts, &prompts, &options, &mut quiet)?;
        for (prompt, answer) in self.prompts.iter().zip(generated.answers) {
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
