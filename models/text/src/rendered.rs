//! A conversation as the model sees it, and which of its tokens are learnt.

use std::ops::Range;

/// Token ids, the loss mask over them, and where they come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// Token ids, BOS included.
    pub ids: Vec<u32>,
    /// Whether the loss counts this token; as long as `ids`.
    pub trained: Vec<bool>,
    /// The text the ids stand for.
    pub text: String,
    /// The byte range of `text` behind each id; tokens that stand for no text have an empty one.
    pub offsets: Vec<(usize, usize)>,
    /// Tokens that [`truncate`](Self::truncate) took away.
    pub cut: usize,
    /// Which tokens end a trained turn.
    pub(crate) stops: Vec<usize>,
    /// Token ranges of the trained turns, each with its end-of-turn token, in order.
    pub(crate) answers: Vec<Range<usize>>,
    /// Ranges of `text` that were cut.
    pub(crate) cut_offsets: Vec<(usize, usize)>,
}

/// How a piece of text is shown in the loss-mask view (B6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// Learnt.
    Trained,
    /// Read, not learnt.
    Ignored,
    /// The token that ends a learnt turn; learnt as well.
    Stop,
    /// Cut off by the length limit.
    Truncated,
}

impl Rendered {
    /// How many tokens the loss counts.
    pub fn trained_count(&self) -> usize {
        self.trained.iter().filter(|trained| **trained).count()
    }

    /// The row cut to at most `max_len` tokens; `None` when nothing worth learning is left.
    ///
    /// Where the cut goes through an answer, the answer's tail goes but its end-of-turn token stays
    /// as the last token, so that a model trained on short rows still learns to stop. An answer of
    /// which nothing but that token would be left goes whole. [`cut`](Self::cut) says how many
    /// tokens went.
    pub fn truncate(&self, max_len: usize) -> Option<Self> {
        let cut = self.cut_to(max_len);
        cut.trained.contains(&true).then_some(cut)
    }

    /// As [`truncate`](Self::truncate), for showing: the row even where nothing is left to learn.
    pub fn cut_to(&self, max_len: usize) -> Self {
        let mut row = self.clone();
        let len = self.ids.len();
        if len <= max_len {
            return row;
        }
        // The answer that the cut goes through, and its stop token.
        let split = self.answers.iter().find(|answer| answer.start < max_len && max_len < answer.end);
        let stop = split.map(|answer| answer.end - 1).filter(|stop| self.stops.contains(stop));
        let (keep, stop) = match (split, stop) {
            (Some(answer), Some(stop)) if answer.start + 1 < max_len => (max_len - 1, Some(stop)),
            (Some(answer), Some(_)) => (answer.start, None),
            _ => (max_len, None),
        };
        let gone = (keep..len).filter(|at| Some(*at) != stop);
        row.cut_offsets.extend(gone.map(|at| self.offsets[at]));
        row.ids.truncate(keep);
        row.trained.truncate(keep);
        row.offsets.truncate(keep);
        row.stops.retain(|at| *at < keep);
        row.answers.retain(|answer| answer.start < keep);
        if let Some(stop) = stop {
            row.stops.push(keep);
            row.ids.push(self.ids[stop]);
            row.trained.push(self.trained[stop]);
            row.offsets.push(self.offsets[stop]);
        }
        let end = row.ids.len();
        for answer in &mut row.answers {
            answer.end = answer.end.min(end);
        }
        row.cut = self.cut + len - end;
        row
    }

    /// The text in pieces, one for each token that stands for text, with its colour (B6).
    ///
    /// The pieces put together are the text. A character that takes several tokens is shown with
    /// the first of them.
    pub fn pieces(&self) -> Vec<(String, Mark)> {
        let kept = self.offsets.iter().enumerate().map(|(at, range)| {
            let mark = if self.trained[at] && self.stops.contains(&at) {
                Mark::Stop
            } else if self.trained[at] {
                Mark::Trained
            } else {
                Mark::Ignored
            };
            (*range, mark)
        });
        let cut = self.cut_offsets.iter().map(|range| (*range, Mark::Truncated));
        let mut parts: Vec<((usize, usize), Mark)> = kept.chain(cut).collect();
        parts.sort_by_key(|(range, _)| *range);
        let mut pieces: Vec<(String, Mark)> = Vec::with_capacity(parts.len());
        let mut shown = 0;
        for ((_, end), mark) in parts {
            if end <= shown {
                continue;
            }
            // Text no token covers (white space a token takes with it) goes with what follows it.
            if let Some(piece) = self.text.get(shown..end) {
                pieces.push((piece.to_owned(), mark));
            }
            shown = end;
        }
        if let Some(rest) = self.text.get(shown..).filter(|rest| !rest.is_empty()) {
            pieces.push((rest.to_owned(), Mark::Ignored));
        }
        pieces
    }
}
