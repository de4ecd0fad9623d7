//! Chat while it trains (B9): questions are answered a little at a time between the steps.
//!
//! An answer comes from one adapter, the one at the moment of the question: its tensors are copied, and change
//! places with those in training while a token is computed. So an answer equals that of the checkpoint of that step,
//! and training cannot notice it. A full fine-tune has no adapter to set aside; there the model answers as it is
//! when the token is computed.

use crate::decoder::{Activations, Decoder};
use crate::fault::device;
use crate::generate::{Columns, GenerateOptions, Generated, Generation, Halt, Prompt};
use peft_kernels::{Backend, Tensor, Write};
use peft_plan::{Fault, Result};
use std::collections::VecDeque;
use std::mem::swap;
use std::ops::ControlFlow;
use std::time::Instant;

/// Share of the time that answers may take.
const SHARE: f64 = 0.11;
/// Rows of a prompt that are read at a time.
const ROWS: usize = 64;

/// A question to a live run.
pub struct Question<'a> {
    /// One prompt for each column.
    pub prompts: Vec<Prompt>,
    /// How they are answered.
    pub options: GenerateOptions,
    /// Who hears the answer.
    pub listener: Box<dyn Listener + 'a>,
}

/// Hears an answer.
pub trait Listener {
    /// The answer begins, by the adapter of `step`.
    fn begun(&mut self, step: u64);
    /// A token of the answer to prompt number `prompt`.
    fn token(&mut self, prompt: usize, token: u32) -> ControlFlow<Halt>;
    /// Whether nobody wants the answer any more.
    fn is_gone(&mut self) -> bool;
    /// The answer is complete.
    fn done(&mut self, generated: Generated);
    /// There will be no (more) answer.
    fn failed(&mut self, fault: Fault);
}

/// Where the trainer gets its questions from; asked between steps.
pub type Questions<'a, 'q> = dyn FnMut() -> Option<Question<'q>> + 'a;

/// Questions that wait, and the one that is being answered.
pub(super) struct Answering<'a, B: Backend> {
    waiting: VecDeque<Question<'a>>,
    current: Option<Current<'a, B>>,
    /// Seconds that may be spent; negative where more than that was needed at once.
    credit: f64,
    full: bool,
}

struct Current<'a, B: Backend> {
    listener: Box<dyn Listener + 'a>,
    generation: Generation,
    columns: Columns<B>,
    acts: Activations<B>,
    aside: SetAside<B>,
    has_begun: bool,
}

impl<'a, B: Backend> Answering<'a, B> {
    /// Nothing was asked. `full`: every weight is trained.
    pub(super) fn new(full: bool) -> Self {
        Self { waiting: VecDeque::new(), current: None, credit: 0.0, full }
    }

    /// After a step of `step_seconds`: take questions, and answer for the share of the time that is due.
    /// What goes wrong with an answer is told to whoever asked; the run goes on.
    pub(super) fn work(
        &mut self,
        decoder: &mut Decoder<B>,
        questions: &mut Questions<'_, 'a>,
        step: u64,
        step_seconds: f64,
    ) {
        while let Some(question) = questions() {
            self.waiting.push_back(question);
        }
        if self.current.is_none() && self.waiting.is_empty() {
            // Time that nobody asked for cannot be saved up; time that was taken must be given back.
            self.credit = (self.credit + step_seconds * SHARE / (1.0 - SHARE)).min(0.0);
            return;
        }
        self.credit += step_seconds * SHARE / (1.0 - SHARE);
        loop {
            if self.current.is_none() {
                let Some(question) = self.waiting.pop_front() else { return };
                self.begin(decoder, question, step);
            }
            let Some(current) = &mut self.current else { continue };
            // The first piece of work is done at once, and paid for later.
            if self.credit <= 0.0 && current.has_begun {
                return;
            }
            let begun = Instant::now();
            let outcome = current.advance(decoder);
            self.credit -= begun.elapsed().as_secs_f64();
            match outcome {
                Ok(false) => {}
                Ok(true) => {
                    if let Some(Current { mut listener, generation, .. }) = self.current.take() {
                        listener.done(generation.finish());
                    }
                }
                Err(fault) => {
                    if let Some(mut current) = self.current.take() {
                        current.listener.failed(fault);
                    }
                }
            }
        }
    }

    fn begin(&mut self, decoder: &mut Decoder<B>, question: Question<'a>, step: u64) {
        let Question { prompts, options, mut listener } = question;
        let begun = Instant::now();
        let mut columns = Columns::default();
        let prepared = (|| {
            let aside = SetAside::copy(decoder, self.full)?;
            let generation = Generation::new(decoder, &mut columns, &prompts, &options)?;
            let acts = decoder.answering_activations().map_err(device)?;
            Ok((aside, generation, acts))
        })();
        self.credit -= begun.elapsed().as_secs_f64();
        match prepared {
            Ok((aside, generation, acts)) => {
                listener.begun(step);
                self.current = Some(Current { listener, generation, columns, acts, aside, has_begun: false });
            }
            Err(fault) => listener.failed(fault),
        }
    }
}

/// Whoever still waits when the run ends is told so.
impl<B: Backend> Drop for Answering<'_, B> {
    fn drop(&mut self) {
        let current = self.current.take().map(|current| current.listener);
        let ended = || Fault::new("PS-RUN-003", "The run came to its end before the answer was complete");
        for mut listener in current.into_iter().chain(self.waiting.drain(..).map(|question| question.listener)) {
            listener.failed(ended());
        }
    }
}

impl<B: Backend> Current<'_, B> {
    /// One unit of work; true when the answer is complete.
    fn advance(&mut self, decoder: &mut Decoder<B>) -> Result<bool> {
        let Self { listener, generation, columns, acts, aside, has_begun } = self;
        *has_begun = true;
        if listener.is_gone() {
            generation.cancel();
            return Ok(true);
        }
        aside.exchange(decoder);
        let advanced =
            generation.advance(decoder, acts, columns, ROWS, &mut |prompt, token| listener.token(prompt, token));
        aside.exchange(decoder);
        advanced
    }
}

/// A copy of everything that is trained, and of what depends on it alone.
struct SetAside<B: Backend> {
    values: Vec<Tensor<B>>,
    /// Norm and ratio of each DoRA module.
    norms: Vec<(Tensor<B>, Tensor<B>)>,
}

impl<B: Backend> SetAside<B> {
    fn copy(decoder: &mut Decoder<B>, full: bool) -> Result<Self> {
        let mut aside = Self { values: Vec::new(), norms: Vec::new() };
        if full {
            return Ok(aside);
        }
        let be = decoder.be.clone();
        let copy = |from: &Tensor<B>| -> Result<Tensor<B>> {
            let mut to = be.zeros(from.rows(), from.cols()).map_err(device)?;
            be.copy(to.view_mut(), from.view(), Write::Set).map_err(device)?;
            Ok(to)
        };
        for param in decoder.params_mut() {
            aside.values.push(copy(&param.value)?);
        }
        for linear in decoder.layers.iter().flat_map(|layer| &layer.linears) {
            if let Some(magnitude) = linear.lora.as_ref().and_then(|lora| lora.magnitude.as_ref()) {
                aside.norms.push((copy(&magnitude.norm)?, copy(&magnitude.ratio)?));
            }
        }
        if !aside.norms.is_empty() {
            // After a step the norms are those of the step before.
            aside.exchange(decoder);
            let prepared = decoder.prepare().map_err(device);
            aside.exchange(decoder);
            prepared?;
        }
        Ok(aside)
    }

    /// What is here goes into the decoder, and the other way round. Twice is nothing.
    fn exchange(&mut self, decoder: &mut Decoder<B>) {
        if self.values.is_empty() {
            return;
        }
        for (param, value) in decoder.params_mut().into_iter().zip(&mut self.values) {
            swap(&mut param.value, value);
        }
        let magnitudes = decoder
            .layers
            .iter_mut()
            .flat_map(|layer| &mut layer.linears)
            .filter_map(|linear| linear.lora.as_mut()?.magnitude.as_mut());
        for (magnitude, (norm, ratio)) in magnitudes.zip(&mut self.norms) {
            swap(&mut magnitude.norm, norm);
            swap(&mut magnitude.ratio, ratio);
        }
    }
}
