//! Where the answers are in a rendering (formats.md 4.4).
//!
//! An answer begins after the generation prompt that the template would print in its place. That
//! place is found, in this order, by the template's own `{% generation %}` blocks; by rendering the
//! turns before it with a generation prompt, if that text is a prefix of the whole; and, for
//! templates whose earlier output depends on later turns, by what stands between the content before
//! and the answer. Where the answer ends is for the tokens to say: at its first end-of-turn token.

use crate::markers::{Kind, Part, Unmarked, is_python_space};
use crate::template::{Session, last_content_mark};
use peft_plan::{Fault, Result, Role, Turn};

/// The part of a rendering in which one turn and its end-of-turn token lie: byte positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    pub turn: usize,
    /// Where what is learnt begins.
    pub start: usize,
    /// Where the content ends, if known; an end-of-turn token does not come before.
    pub content_end: Option<usize>,
    /// The end-of-turn token begins before this.
    pub limit: usize,
}

/// A rendering and what is known about its parts.
pub(crate) struct Layout<'a> {
    session: &'a Session<'a>,
    turns: &'a [Turn],
    full: &'a str,
    /// Marks of the whole rendering; `None` if the template writes otherwise when there are marks.
    marks: Option<Unmarked>,
    blocks: Vec<std::ops::Range<usize>>,
}

impl<'a> Layout<'a> {
    pub(crate) fn new(session: &'a Session<'a>, turns: &'a [Turn], full: &'a str) -> Self {
        let marks = session.marked(turns.len(), false).ok().filter(|marks| marks.text == full);
        let blocks = marks.as_ref().map_or_else(Vec::new, Unmarked::generation);
        Self { session, turns, full, marks, blocks }
    }

    /// The regions of the turns that `wanted` picks, in order.
    pub(crate) fn regions(&self, wanted: impl Fn(usize, &Turn) -> bool) -> Result<Vec<Region>> {
        let turns = self.turns.iter().enumerate();
        turns
            .filter(|(at, turn)| wanted(*at, turn))
            .map(|(at, turn)| self.region(at, turn.role == Role::Assistant))
            .collect()
    }

    fn region(&self, turn: usize, assistant: bool) -> Result<Region> {
        let (content_start, content_end) = self.content(turn);
        if self.is_swallowed(turn) {
            return Err(self.lost(turn));
        }
        let start = if assistant {
            let prompted = self.after_prefix(turn).or_else(|| self.after_bridge(turn));
            match self.block(turn) {
                // Some templates count the answer's header as generated; it is not learnt.
                Some(block) => Some(prompted.map_or(block.start, |at| at.max(block.start))),
                None => prompted.or(content_start),
            }
        } else {
            content_start
        };
        let Some(start) = start else {
            return Err(self.lost(turn));
        };
        let limit = self.limit(turn, start.max(content_end.unwrap_or(start))).ok_or_else(|| self.lost(turn))?;
        Ok(Region { turn, start, content_end, limit })
    }

    /// Whether the template printed nothing of a turn that says something, or left its calls out.
    ///
    /// Reasoning may go, as many layouts have it for all but the last answer; so may words beside a call.
    fn is_swallowed(&self, turn: usize) -> bool {
        let Some(marks) = &self.marks else { return false };
        let has = |wanted: &dyn Fn(&Kind) -> bool| marks.marks.iter().any(|(_, kind)| wanted(kind));
        if !self.turns[turn].tool_calls().is_empty() {
            return !has(&|kind| *kind == Kind::Part(turn, Part::Call));
        }
        let says = !self.turns[turn].content.trim_matches(is_python_space).is_empty();
        says && !has(&|kind| matches!(kind, Kind::Start(at) | Kind::End(at) if *at == turn))
    }

    fn lost(&self, turn: usize) -> Fault {
        Fault::new(
            "PS-TMPL-002",
            format!(
                "The chat layout leaves out turn {} ({}), or changes it so much that it cannot be found \
                 again in the result.",
                turn + 1,
                self.turns[turn].role.as_str()
            ),
        )
    }

    fn content(&self, turn: usize) -> (Option<usize>, Option<usize>) {
        let marks = self.marks.as_ref();
        marks.map_or((None, None), |marks| marks.content(turn))
    }

    /// The generation block of an answer.
    fn block(&self, turn: usize) -> Option<&std::ops::Range<usize>> {
        let (start, end) = self.content(turn);
        if let Some(at) = start.or(end) {
            return self.blocks.iter().find(|block| block.start <= at && at <= block.end);
        }
        // An empty answer has no marks; blocks and answers come in the same order.
        let is_answer = |turn: &&Turn| turn.role == Role::Assistant;
        let answers = self.turns.iter().filter(is_answer).count();
        let before = self.turns[..turn].iter().filter(is_answer).count();
        (answers == self.blocks.len()).then(|| self.blocks.get(before)).flatten()
    }

    /// The end of the turns before, rendered with a generation prompt, if the whole begins so.
    fn after_prefix(&self, turn: usize) -> Option<usize> {
        let prefix = self.session.plain(turn, true).ok()?;
        let start = prefix.len();
        (self.full.starts_with(&prefix) && self.is_between(turn, start)).then_some(start)
    }

    /// The place after what separates the content before from a generated answer.
    fn after_bridge(&self, turn: usize) -> Option<usize> {
        let marks = self.marks.as_ref()?;
        let own = self.content(turn);
        let at = own.0.or(own.1)?;
        let anchor = marks
            .marks
            .iter()
            .filter(|(place, kind)| *place <= at && is_of_other_turn(*kind, turn))
            .map(|(place, _)| *place)
            .max()?;
        let before = self.session.marked(turn, true).ok()?;
        let bridge = &before.text[last_content_mark(&before)?..];
        let start = anchor + bridge.len();
        (self.full[anchor..].starts_with(bridge) && self.is_between(turn, start)).then_some(start)
    }

    /// Whether `start` is not after the turn's own content and no other content lies between.
    fn is_between(&self, turn: usize, start: usize) -> bool {
        let (content_start, content_end) = self.content(turn);
        let (Some(marks), Some(own)) = (&self.marks, content_start.or(content_end)) else {
            return true;
        };
        let between = |at: usize| start < at && at < own;
        let mut others = marks.marks.iter().filter(|(_, kind)| is_of_other_turn(*kind, turn));
        start <= own && !others.any(|(at, _)| between(*at))
    }

    /// Where the next turn's content begins, at the latest.
    fn limit(&self, turn: usize, from: usize) -> Option<usize> {
        let end = self.full.len();
        if let Some(marks) = &self.marks {
            let next = marks.marks.iter().filter(|(at, kind)| {
                *at >= from
                    && match kind {
                        Kind::Start(other) | Kind::End(other) | Kind::Part(other, _) => *other > turn,
                        Kind::GenerationStart => *at > from,
                        Kind::GenerationEnd => false,
                    }
            });
            return Some(next.map(|(at, _)| *at).min().unwrap_or(end));
        }
        if turn + 1 == self.turns.len() {
            return Some(end);
        }
        // Without marks: as far as the conversation up to this turn reads the same.
        let alone = self.session.plain(turn + 1, false).ok()?;
        let same = alone
            .char_indices()
            .zip(self.full.chars())
            .find(|((_, a), b)| a != b)
            .map_or(alone.len().min(end), |((at, _), _)| at);
        (same > from).then_some(same)
    }
}

fn is_of_other_turn(kind: Kind, turn: usize) -> bool {
    matches!(kind, Kind::Start(other) | Kind::End(other) | Kind::Part(other, _) if other != turn)
}
