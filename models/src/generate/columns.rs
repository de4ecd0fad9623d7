//! The sequences that a cache holds, and which of them a new prompt can go on from.
//!
//! A column is one sequence with or without the adapter. A prompt takes the column of its kind that shares the
//! longest beginning with it; only what comes after that is computed.

use super::Prompt;
use crate::decoder::{Decoder, KeptRows, KvCache};
use crate::fault::device;
use peft_kernels::Backend;
use peft_plan::Result;

/// Columns that stay when their answers are done: the base's and the adapter's of one conversation.
const KEPT: usize = 2;
/// Slots of a column grow in powers of two from here, so that a long talk moves its cache only now and then.
const SMALLEST: usize = 128;

/// The cache and what is in it.
pub struct Columns<B: Backend> {
    cache: Option<KvCache<B>>,
    columns: Vec<Column>,
}

/// One sequence.
#[derive(Clone, Debug)]
pub(super) struct Column {
    /// First slot.
    pub(super) start: usize,
    capacity: usize,
    /// Tokens whose keys and values are there.
    pub(super) held: Vec<u32>,
    adapter: bool,
    /// With the long frequencies of longrope.
    long: bool,
}

impl<B: Backend> Default for Columns<B> {
    fn default() -> Self {
        Self { cache: None, columns: Vec::new() }
    }
}

impl<B: Backend> Columns<B> {
    /// Nothing is held any more.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The adapter is another one: what was computed with it does not count.
    pub fn forget_adapter(&mut self) {
        for column in self.columns.iter_mut().filter(|c| c.adapter) {
            column.held.clear();
        }
    }

    /// Slots of the cache.
    pub fn slots(&self) -> usize {
        self.columns.iter().map(|c| c.capacity).sum()
    }

    /// After an answer: let go of columns that no conversation comes back to.
    pub(super) fn settle(&mut self) {
        if self.columns.len() > KEPT {
            self.clear();
        }
    }

    pub(super) fn cache(&mut self) -> &mut KvCache<B> {
        self.cache.as_mut().expect("`claim` made it")
    }

    pub(super) fn column(&mut self, index: usize) -> &mut Column {
        &mut self.columns[index]
    }

    /// A column for each prompt, with room for its total, holding as much of the prompt as is known; the last token
    /// is always left to compute. Columns that nobody claims are given up where room is needed.
    pub(super) fn claim(
        &mut self,
        decoder: &Decoder<B>,
        wanted: &[(&Prompt, usize)],
        limit: usize,
    ) -> Result<Vec<usize>> {
        let mut claimed: Vec<Option<usize>> = vec![None; wanted.len()];
        for (i, (prompt, total)) in wanted.iter().enumerate() {
            let free = (0..self.columns.len()).filter(|c| !claimed.contains(&Some(*c)));
            claimed[i] = free
                .filter(|&c| {
                    let column = &self.columns[c];
                    column.adapter == prompt.adapter && column.long == decoder.is_long(*total)
                })
                .map(|c| (common(&self.columns[c].held, &prompt.ids), c))
                .max_by_key(|&(shared, c)| (shared, std::cmp::Reverse(c)))
                .map(|(_, c)| c);
        }
        let fits =
            claimed.iter().zip(wanted).all(|(c, (_, total))| c.is_some_and(|c| self.columns[c].capacity >= *total));
        if !fits || self.columns.len() > wanted.len().max(KEPT) {
            self.lay_out(decoder, &mut claimed, wanted, limit)?;
        }
        let mut indices = Vec::with_capacity(wanted.len());
        for (c, (prompt, _)) in claimed.into_iter().zip(wanted) {
            let index = c.expect("every prompt has a column after `lay_out`");
            let column = &mut self.columns[index];
            column.held.truncate(common(&column.held, &prompt.ids).min(prompt.ids.len() - 1));
            indices.push(index);
        }
        Ok(indices)
    }

    /// New columns in the order of the prompts, and after them others that a conversation may come back to.
    fn lay_out(
        &mut self,
        decoder: &Decoder<B>,
        claimed: &mut [Option<usize>],
        wanted: &[(&Prompt, usize)],
        limit: usize,
    ) -> Result<()> {
        let mut columns: Vec<Column> = Vec::with_capacity(wanted.len());
        let mut kept = Vec::new();
        let mut start = 0;
        let mut place = |old: Option<&Column>, fresh: Column| {
            let column = Column { start, ..fresh };
            if let Some(old) = old.filter(|old| !old.held.is_empty()) {
                kept.push(KeptRows { from: old.start, to: start, len: old.held.len() });
            }
            start += column.capacity;
            columns.push(column);
        };
        for (c, (prompt, total)) in claimed.iter().zip(wanted) {
            let old = c.map(|c| &self.columns[c]);
            let shared = old.map_or(0, |old| common(&old.held, &prompt.ids));
            let held = old.map_or_else(Vec::new, |old| old.held[..shared].to_vec());
            let capacity = total.next_power_of_two().max(SMALLEST).min(limit.max(*total));
            let capacity = capacity.max(old.map_or(0, |old| old.capacity));
            let fresh = Column { start: 0, capacity, held, adapter: prompt.adapter, long: decoder.is_long(*total) };
            let copied = old.map(|old| Column { held: old.held[..shared].to_vec(), ..old.clone() });
            place(copied.as_ref(), fresh);
        }
        for (c, column) in self.columns.iter().enumerate() {
            if !claimed.contains(&Some(c)) && wanted.len() < KEPT && !column.held.is_empty() {
                place(Some(column), column.clone());
                break;
            }
        }
        let mut cache = match self.cache.take() {
            Some(cache) => cache,
            None => decoder.kv_cache(0).map_err(device)?,
        };
        self.columns.clear();
        decoder.lay_out_cache(&mut cache, start, &kept).map_err(device)?;
        self.cache = Some(cache);
        self.columns = columns;
        for (i, c) in claimed.iter_mut().enumerate() {
            *c = Some(i);
        }
        Ok(())
    }
}

/// Length of the common beginning.
fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
