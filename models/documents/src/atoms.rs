//! The pieces that chunks are made of: sentences and lines, none longer than a chunk has room for.

use crate::block::{BlockKind, Document};
use crate::ruler::Ruler;

/// How good a place is to begin a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Seam {
    /// Between words or within one, and between a heading and what it heads.
    Forced,
    /// Between sentences.
    Sentence,
    /// Between lines that mean something: rows, items, code.
    Line,
    /// Between paragraphs.
    Block,
    /// Before a heading.
    Section,
}

/// A piece of the text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Atom {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) units: usize,
    /// Index of its block.
    pub(crate) block: usize,
    /// How good a place its start is.
    pub(crate) seam: Seam,
}

/// All of `document` in order, without gaps; no atom is longer than `longest` units.
pub(crate) fn atoms(document: &Document, longest: usize, ruler: &dyn Ruler) -> Vec<Atom> {
    let mut atoms = Vec::new();
    let mut after_heading = false;
    for (index, block) in document.blocks.iter().enumerate() {
        let first = match block.kind {
            _ if after_heading => Seam::Forced,
            BlockKind::Heading => Seam::Section,
            _ => Seam::Block,
        };
        let text = &document.text[block.span.clone()];
        let by_sentence = matches!(block.kind, BlockKind::Paragraph | BlockKind::Quote | BlockKind::Heading);
        let (mut at, mut seam) = (block.span.start, first);
        let mut take = |piece: &str| {
            split(&mut atoms, piece, at, index, seam, longest, ruler);
            at += piece.len();
            seam = if by_sentence { Seam::Sentence } else { Seam::Line };
        };
        if by_sentence {
            sentences(text).for_each(&mut take);
        } else {
            text.split_inclusive('\n').for_each(&mut take);
        }
        after_heading = block.kind == BlockKind::Heading;
    }
    atoms
}

/// Adds `piece` as one atom, or as several where it is too long.
fn split(
    atoms: &mut Vec<Atom>,
    piece: &str,
    start: usize,
    block: usize,
    mut seam: Seam,
    longest: usize,
    ruler: &dyn Ruler,
) {
    let (mut at, mut rest) = (start, piece);
    while !rest.is_empty() {
        let (length, units) = ruler.head(rest, longest);
        atoms.push(Atom { start: at, end: at + length, units, block, seam });
        at += length;
        rest = &rest[length..];
        seam = Seam::Forced;
    }
}

/// The sentences of `text`, each with the space behind it.
fn sentences(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (sentence, behind) = rest.split_at(end_of_sentence(rest));
        rest = behind;
        Some(sentence)
    })
}

/// Where the first sentence ends: behind a stop, what closes quotes and brackets, and the space that follows.
fn end_of_sentence(text: &str) -> usize {
    let mut characters = text.char_indices().peekable();
    while let Some((at, c)) = characters.next() {
        let is_wide_stop = matches!(c, '。' | '！' | '？' | '｡');
        if !is_wide_stop && !matches!(c, '.' | '!' | '?' | '…') {
            continue;
        }
        // `e.g.` and `J. S. Bach`: a stop behind a single letter ends nothing.
        if c == '.' && is_behind_one_letter(&text[..at]) {
            continue;
        }
        let closes = |c: char| matches!(c, '.' | '!' | '?' | '"' | '\'' | ')' | ']' | '”' | '’' | '»' | '」' | '』');
        while characters.next_if(|(_, c)| closes(*c)).is_some() {}
        let Some((_, next)) = characters.peek() else { return text.len() };
        if next.is_whitespace() || is_wide_stop {
            while characters.next_if(|(_, c)| c.is_whitespace()).is_some() {}
            return characters.peek().map_or(text.len(), |(at, _)| *at);
        }
    }
    text.len()
}

fn is_behind_one_letter(before: &str) -> bool {
    let mut back = before.chars().rev();
    let is_letter = back.next().is_some_and(char::is_alphabetic);
    is_letter && back.next().is_none_or(|c| !c.is_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_end_where_a_reader_says() {
        let cut = |text: &'static str| sentences(text).collect::<Vec<_>>();
        assert_eq!(cut("One. Two!  Three?\nFour"), ["One. ", "Two!  ", "Three?\n", "Four"]);
        assert_eq!(
            cut("See e.g. J. S. Bach at 3.14 now. \"Really?\" Yes"),
            ["See e.g. J. S. Bach at 3.14 now. ", "\"Really?\" ", "Yes"]
        );
        assert_eq!(cut("これは文です。次の文です。"), ["これは文です。", "次の文です。"]);
        assert_eq!(cut("no stop at all"), ["no stop at all"]);
        assert!(cut("").is_empty());
    }
}
