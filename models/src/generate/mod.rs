//! Answers: several prompts decoded together over one resident base, with or without the adapter on each (B9).

mod sample;

pub use sample::{Sampling, choose};

use crate::decoder::{Activations, Decoder};
use crate::fault::device;
use peft_kernels::{Backend, CachedSegment};
use peft_plan::{Fault, Result};
use std::ops::ControlFlow;
use std::time::Instant;

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
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// A stop token came.
    Stop,
    /// It is as long as it may be.
    Length,
    /// The caller had enough.
    Cancelled,
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Token ids without the stop token.
    pub ids: Vec<u32>,
    /// Why it ended.
    pub stop: StopReason,
}

/// Answers and how long they took.
#[derive(Clone, Debug)]
pub struct Generated {
    /// In the order of the prompts.
    pub answers: Vec<Answer>,
    /// Until the first token of all of them.
    pub first_token_seconds: f64,
    /// From then on.
    pub decode_seconds: f64,
}

struct Sequence {
    prompt: usize,
    slot: usize,
    past: usize,
    total: usize,
    adapter: bool,
    last: u32,
}

/// Answer all prompts in one batched pass per token. `on_token(prompt, token)` streams; `Break` ends all of them.
pub fn generate<B: Backend>(
    decoder: &mut Decoder<B>,
    acts: &mut Activations<B>,
    prompts: &[Prompt],
    options: &GenerateOptions,
    on_token: &mut dyn FnMut(usize, u32) -> ControlFlow<()>,
) -> Result<Generated> {
    let begun = Instant::now();
    let limit = decoder.spec.max_positions;
    let vocab = decoder.spec.vocab_size;
    let mut answers: Vec<Answer> =
        prompts.iter().map(|_| Answer { ids: Vec::new(), stop: StopReason::Length }).collect();
    let mut order: Vec<usize> = (0..prompts.len()).collect();
    // The rows that an adapter acts on must be neighbours.
    order.sort_by_key(|&i| prompts[i].adapter);
    let mut active = Vec::new();
    let mut slot = 0;
    for prompt in order {
        let ids = &prompts[prompt].ids;
        if ids.is_empty() || ids.len() >= limit {
            return Err(Fault::new(
                "PS-CFG-001",
                format!("The prompt has {} tokens; this model can read 1 to {}", ids.len(), limit - 1),
            ));
        }
        let total = (ids.len() + options.max_new_tokens).min(limit);
        active.push(Sequence { prompt, slot, past: 0, total, adapter: prompts[prompt].adapter, last: 0 });
        slot += total;
    }
    let mut cache = decoder.kv_cache(slot).map_err(device)?;
    let mut first_token_seconds = None;
    while !active.is_empty() {
        let mut tokens = Vec::new();
        let mut segments = Vec::new();
        let mut first_adapter_row = None;
        for s in &active {
            let start = tokens.len();
            if s.adapter && first_adapter_row.is_none() {
                first_adapter_row = Some(start);
            }
            if s.past == 0 {
                tokens.extend_from_slice(&prompts[s.prompt].ids);
            } else {
                tokens.push(s.last);
            }
            segments.push(CachedSegment { start, len: tokens.len() - start, slot: s.slot, past: s.past });
        }
        let totals: Vec<usize> = active.iter().map(|s| s.total).collect();
        let rows = first_adapter_row.unwrap_or(tokens.len())..tokens.len();
        let logits = decoder.continue_cached(acts, &mut cache, &tokens, &segments, &totals, rows).map_err(device)?;
        first_token_seconds.get_or_insert_with(|| begun.elapsed().as_secs_f64());
        let mut cancelled = false;
        let mut row = 0;
        active.retain_mut(|s| {
            let z = &logits[row * vocab..(row + 1) * vocab];
            s.past += segments[row].len;
            row += 1;
            let answer = &mut answers[s.prompt];
            if options.max_new_tokens == 0 {
                return false;
            }
            let token = choose(z, &options.sampling, answer.ids.len());
            if options.stop_ids.contains(&token) {
                answer.stop = StopReason::Stop;
                return false;
            }
            answer.ids.push(token);
            cancelled |= on_token(s.prompt, token) == ControlFlow::Break(());
            s.last = token;
            answer.ids.len() < options.max_new_tokens && s.past < s.total
        });
        if cancelled {
            for s in &active {
                answers[s.prompt].stop = StopReason::Cancelled;
            }
            break;
        }
    }
    let first = first_token_seconds.unwrap_or(0.0);
    Ok(Generated { answers, first_token_seconds: first, decode_seconds: begun.elapsed().as_secs_f64() - first })
}
