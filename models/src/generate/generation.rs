//! Answers in the making, a pass at a time, so that whoever asked can do something else in between.

use super::columns::Columns;
use super::constraint::Constraint;
use super::sample::{History, choose, choose_among, penalties};
use super::{Answer, GenerateOptions, Generated, Halt, OnToken, Prompt, StopReason};
use crate::decoder::{Activations, Decoder, Logits};
use crate::fault::device;
use peft_kernels::{Backend, CachedSegment};
use peft_plan::{Fault, Result};
use std::ops::ControlFlow;
use std::time::Instant;

/// Answers that go on in one pass. With more rows the products take another path, whose sums differ in the last
/// bits; with this many an answer is the same beside others as alone.
pub const TOGETHER: usize = 4;
/// Rows of a prompt that are read in one pass where nobody waits in between.
pub const PREFILL_ROWS: usize = 512;

/// Answers in the making.
pub struct Generation {
    sequences: Vec<Sequence>,
    options: GenerateOptions,
    limit: usize,
    begun: Instant,
    first_token_seconds: Option<f64>,
    prefill_seconds: Option<f64>,
}

struct Sequence {
    prompt: Prompt,
    column: usize,
    /// Length that it may reach; longrope decides by it.
    total: usize,
    reused: usize,
    chosen: Vec<u32>,
    history: History,
    constraint: Option<Constraint>,
    stop: Option<StopReason>,
}

impl Generation {
    /// Prepare to answer `prompts`. Nothing is computed yet.
    pub fn new<B: Backend>(
        decoder: &Decoder<B>,
        columns: &mut Columns<B>,
        prompts: &[Prompt],
        options: &GenerateOptions,
    ) -> Result<Self> {
        options.sampling.check()?;
        let limit = decoder.spec.max_positions;
        let mut wanted = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            if prompt.ids.is_empty() || prompt.ids.len() >= limit {
                return Err(Fault::new(
                    "PS-CFG-001",
                    format!("The prompt has {} tokens; this model can read 1 to {}", prompt.ids.len(), limit - 1),
                ));
            }
            let vocabulary = decoder.spec.vocab_size;
            if let Some(id) = prompt.ids.iter().find(|&&id| id as usize >= vocabulary) {
                return Err(Fault::new("PS-TOK-001", format!("The prompt has token {id}; the model has {vocabulary}")));
            }
            wanted.push((prompt, (prompt.ids.len().saturating_add(options.max_new_tokens)).min(limit)));
        }
        let claimed = columns.claim(decoder, &wanted, limit)?;
        let sequences = wanted
            .iter()
            .zip(claimed)
            .map(|(&(prompt, total), column)| Sequence {
                prompt: prompt.clone(),
                column,
                total,
                reused: columns.column(column).held.len(),
                chosen: Vec::new(),
                history: History::new(&prompt.ids),
                constraint: options.grammar.as_ref().map(super::Grammar::start),
                stop: (options.max_new_tokens == 0).then_some(StopReason::Length),
            })
            .collect();
        let now = Instant::now();
        Ok(Self {
            sequences,
            options: options.clone(),
            limit,
            begun: now,
            first_token_seconds: None,
            prefill_seconds: None,
        })
    }

    /// Whether all answers have ended.
    pub fn is_done(&self) -> bool {
        self.sequences.iter().all(|s| s.stop.is_some())
    }

    /// One unit of work: up to `rows` tokens of one prompt, or one more token of every answer. True when done.
    pub fn advance<B: Backend>(
        &mut self,
        decoder: &mut Decoder<B>,
        acts: &mut Activations<B>,
        columns: &mut Columns<B>,
        rows: usize,
        on_token: &mut OnToken,
    ) -> Result<bool> {
        let is_unread = |s: &Sequence, columns: &mut Columns<B>| {
            s.stop.is_none() && s.chosen.is_empty() && columns.column(s.column).held.len() < s.prompt.ids.len()
        };
        let unread = (0..self.sequences.len()).find(|&i| is_unread(&self.sequences[i], columns));
        if let Some(i) = unread {
            let s = &self.sequences[i];
            let past = columns.column(s.column).held.len();
            let end = s.prompt.ids.len().min(past + rows.max(1));
            let tokens = s.prompt.ids[past..end].to_vec();
            let mut logits = self.pass(decoder, acts, columns, &[(i, tokens)])?;
            if end == self.sequences[i].prompt.ids.len() {
                self.take(&decoder.be, (i, 0), &mut logits, on_token)?;
            }
            return Ok(self.is_done());
        }
        self.prefill_seconds.get_or_insert_with(|| self.begun.elapsed().as_secs_f64());
        let mut active: Vec<usize> = (0..self.sequences.len()).filter(|&i| self.sequences[i].stop.is_none()).collect();
        // The rows that an adapter acts on must be neighbours.
        active.sort_by_key(|&i| self.sequences[i].prompt.adapter);
        for some in active.chunks(TOGETHER) {
            let last = |i: usize| vec![*self.sequences[i].chosen.last().expect("its prompt was read")];
            let fed: Vec<(usize, Vec<u32>)> = some.iter().map(|&i| (i, last(i))).collect();
            let mut logits = self.pass(decoder, acts, columns, &fed)?;
            for (row, &i) in some.iter().enumerate() {
                if self.sequences[i].stop.is_none() {
                    self.take(&decoder.be, (i, row), &mut logits, on_token)?;
                }
            }
        }
        Ok(self.is_done())
    }

    /// Feed tokens to some sequences and return the logits after the last of each.
    fn pass<B: Backend>(
        &self,
        decoder: &mut Decoder<B>,
        acts: &mut Activations<B>,
        columns: &mut Columns<B>,
        fed: &[(usize, Vec<u32>)],
    ) -> Result<Logits<B>> {
        let mut tokens = Vec::new();
        let mut segments = Vec::with_capacity(fed.len());
        let mut totals = Vec::with_capacity(fed.len());
        let mut first_adapter_row = None;
        for (i, new) in fed {
            let s = &self.sequences[*i];
            let start = tokens.len();
            if s.prompt.adapter && first_adapter_row.is_none() {
                first_adapter_row = Some(start);
            }
            let column = columns.column(s.column);
            segments.push(CachedSegment { start, len: new.len(), slot: column.start, past: column.held.len() });
            totals.push(s.total);
            tokens.extend_from_slice(new);
        }
        let rows = first_adapter_row.unwrap_or(tokens.len())..tokens.len();
        let cache = columns.cache();
        let logits = decoder.expect_next(acts, cache, &tokens, &segments, &totals, rows).map_err(device)?;
        for (i, new) in fed {
            columns.column(self.sequences[*i].column).held.extend_from_slice(new);
        }
        Ok(logits)
    }

    /// Choose the next token of sequence `i`, whose logits are those of row `row`. They are changed.
    fn take<B: Backend>(
        &mut self,
        be: &B,
        (i, row): (usize, usize),
        logits: &mut Logits<B>,
        on_token: &mut OnToken,
    ) -> Result<()> {
        let Self { sequences, options, limit, begun, first_token_seconds, .. } = self;
        let s = &mut sequences[i];
        let penalties = penalties(&options.sampling, &s.history, logits.vocabulary());
        let index = s.chosen.len();
        let is_narrow = s.constraint.is_none() && options.sampling.is_narrow();
        let largest = if is_narrow { logits.largest(be, row, &penalties).map_err(device)? } else { None };
        let among = largest.as_ref().and_then(|largest| choose_among(largest, &options.sampling, index));
        let token = if let Some(token) = among {
            token
        } else {
            let logits = logits.row(be, row).map_err(device)?;
            if largest.is_none() {
                penalties.lower(logits);
            }
            match &mut s.constraint {
                None => choose(logits, &options.sampling, index),
                Some(constraint) => constraint.choose(logits, &options.sampling, index, &options.stop_ids)?,
            }
        };
        first_token_seconds.get_or_insert_with(|| begun.elapsed().as_secs_f64());
        if options.stop_ids.contains(&token) {
            s.stop = Some(StopReason::Stop);
            return Ok(());
        }
        s.chosen.push(token);
        s.history.push(token);
        let is_complete = match &mut s.constraint {
            Some(constraint) => constraint.accept(token)?,
            None => false,
        };
        // The last token needs no place of its own: nothing is computed from it.
        if s.chosen.len() >= options.max_new_tokens || s.prompt.ids.len() + s.chosen.len() > *limit {
            s.stop = Some(StopReason::Length);
        }
        if is_complete {
            s.stop = Some(StopReason::Stop);
        }
        match on_token(i, token) {
            ControlFlow::Continue(()) => {}
            ControlFlow::Break(Halt::This(reason)) => s.stop = Some(reason),
            ControlFlow::Break(Halt::All) => self.cancel(),
        }
        Ok(())
    }

    /// End all answers where they are.
    pub fn cancel(&mut self) {
        for s in &mut self.sequences {
            s.stop.get_or_insert(StopReason::Cancelled);
        }
    }

    /// The answers, complete or not.
    pub fn finish(self) -> Generated {
        let now = self.begun.elapsed().as_secs_f64();
        let answers = self
            .sequences
            .into_iter()
            .map(|s| Answer { ids: s.chosen, stop: s.stop.unwrap_or(StopReason::Cancelled), reused_tokens: s.reused })
            .collect();
        Generated {
            answers,
            first_token_seconds: self.first_token_seconds.unwrap_or(now),
            decode_seconds: self.prefill_seconds.map_or(0.0, |at| now - at),
        }
    }
}
