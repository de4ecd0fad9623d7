//! Questions in words, answers in words: the one way from turns to text for chat, quickstart and scoring.

use super::setup::render_options;
use peft_models::base::BaseModel;
use peft_models::engine::Session;
use peft_models::generate::{GenerateOptions, Generated, Prompt, Sampling, StopReason};
use peft_plan::{Result, TrainOn, Turn};
use peft_text::{Decoder, RenderOptions};
use std::ops::ControlFlow;

/// A model that answers in words.
pub struct Answerer<'a> {
    base: &'a BaseModel,
    session: Box<dyn Session>,
    render: RenderOptions,
    stop_ids: Vec<u32>,
}

/// An answer in words.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The text.
    pub text: String,
    /// Tokens of it.
    pub tokens: usize,
    /// Why it ended.
    pub stop: StopReason,
}

/// What came of one pass.
pub struct Replies {
    /// In the order of the prompts.
    pub replies: Vec<Reply>,
    /// Tokens of the first prompt.
    pub prompt_tokens: usize,
    /// Until the first token.
    pub first_token_seconds: f64,
    /// All answers' tokens a second, once the first token was there.
    pub tokens_per_second: f64,
}

impl<'a> Answerer<'a> {
    /// Answer with `session` in the chat layout `template` (the model's own by default).
    pub fn new(
        base: &'a BaseModel,
        session: Box<dyn Session>,
        template: Option<&str>,
        system: Option<&str>,
    ) -> Result<Self> {
        let render = render_options(base, template, TrainOn::Assistant, system)?;
        let stop_ids = stop_ids(base, &render);
        Ok(Self { base, session, render, stop_ids })
    }

    /// Tokens of a conversation that asks for an answer.
    pub fn prompt_tokens(&self, turns: &[Turn]) -> Result<usize> {
        Ok(self.base.tokenizer().render_prompt(turns, &self.render)?.len())
    }

    /// Answer conversations together, each with or without the adapter. `on_text(conversation, piece)` streams.
    pub fn answer(
        &mut self,
        conversations: &[(&[Turn], bool)],
        sampling: Sampling,
        max_new_tokens: usize,
        on_text: &mut dyn FnMut(usize, &str) -> ControlFlow<()>,
    ) -> Result<Replies> {
        let tokenizer = self.base.tokenizer();
        let prompts = conversations
            .iter()
            .map(|(turns, adapter)| {
                Ok(Prompt { ids: tokenizer.render_prompt(turns, &self.render)?, adapter: *adapter })
            })
            .collect::<Result<Vec<_>>>()?;
        let options = GenerateOptions { sampling, max_new_tokens, stop_ids: self.stop_ids.clone() };
        let mut decoders: Vec<Decoder> = prompts.iter().map(|_| Decoder::new(tokenizer)).collect();
        let mut failed = None;
        let mut on_token = |i: usize, token: u32| match decoders[i].push(token) {
            Ok(piece) if piece.is_empty() => ControlFlow::Continue(()),
            Ok(piece) => on_text(i, &piece),
            Err(fault) => {
                failed = Some(fault);
                ControlFlow::Break(())
            }
        };
        let Generated { answers, first_token_seconds, decode_seconds } =
            self.session.generate(&prompts, &options, &mut on_token)?;
        if let Some(fault) = failed {
            return Err(fault);
        }
        let tokens: usize = answers.iter().map(|a| a.ids.len()).sum();
        let later = tokens.saturating_sub(answers.len());
        let replies = answers
            .into_iter()
            .map(|a| Ok(Reply { text: tokenizer.decode(&a.ids)?, tokens: a.ids.len(), stop: a.stop }))
            .collect::<Result<_>>()?;
        Ok(Replies {
            replies,
            prompt_tokens: prompts.first().map_or(0, |p| p.ids.len()),
            first_token_seconds,
            tokens_per_second: if decode_seconds > 0.0 { later as f64 / decode_seconds } else { 0.0 },
        })
    }
}

/// Tokens that end an answer.
pub fn stop_ids(base: &BaseModel, render: &RenderOptions) -> Vec<u32> {
    let mut stop_ids = base.tokenizer().stop_ids().to_vec();
    stop_ids.extend_from_slice(render.template.stop_ids());
    stop_ids.sort_unstable();
    stop_ids.dedup();
    stop_ids
}

/// The word for a stop reason in JSON.
pub fn stop_word(stop: StopReason) -> &'static str {
    match stop {
        StopReason::Stop => "stop",
        StopReason::Length | StopReason::Cancelled => "length",
    }
}
