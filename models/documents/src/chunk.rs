//! A document to chunks of bounded length: whole sections where they fit, else whole paragraphs, else whole sentences.
//!
//! Chunks cover every character: each begins where the last one ended, after an overlap that repeats its end. What is
//! in a chunk depends on the text around it alone, so a change in one section leaves the chunks of distant ones as
//! they were.

use crate::atoms::{Atom, Seam, atoms};
use crate::block::{BlockKind, Document};
use crate::ruler::Ruler;
use peft_plan::{Fault, Result};
use std::ops::Range;

/// How long chunks are, in the units of a [`Ruler`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkOptions {
    size: usize,
    overlap: usize,
}

impl ChunkOptions {
    /// Chunks of at most `size` units that repeat up to `overlap` of the one before.
    pub fn new(size: usize, overlap: usize) -> Result<Self> {
        if size == 0 {
            return Err(Fault::new("PS-CFG-001", "The size of a chunk must be at least 1"));
        }
        // Each chunk must bring something new, or a document has no end.
        if overlap > size / 2 {
            let detail = format!("An overlap of {overlap} is more than half of the size of a chunk ({size})");
            return Err(Fault::new("PS-CFG-001", detail));
        }
        Ok(Self { size, overlap })
    }

    /// Longest chunk.
    pub fn size(self) -> usize {
        self.size
    }

    /// Longest overlap.
    pub fn overlap(self) -> usize {
        self.overlap
    }
}

/// A stretch of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Bytes of the document's text, with the overlap.
    pub span: Range<usize>,
    /// Where what is new begins; before that, the end of the chunk before is repeated.
    pub fresh: usize,
    /// Its length, as the sum of its parts.
    pub units: usize,
    /// What most of it is: the kind of its first block that is no heading.
    pub kind: BlockKind,
    /// The page on which what is new begins.
    pub page: Option<u32>,
    /// The section in which it begins: an index of [`Document::sections`].
    pub section: usize,
}

/// The chunks of `document`, in order.
pub fn chunks(document: &Document, options: ChunkOptions, ruler: &dyn Ruler) -> Vec<Chunk> {
    let ChunkOptions { size, overlap } = options;
    let atoms = atoms(document, size - overlap, ruler);
    let mut chunks = Vec::new();
    let mut first = 0;
    // The overlap that the next chunk begins with: where, and how long.
    let (mut start, mut repeated) = (0, 0);
    while first < atoms.len() {
        let end = end_of_chunk(&atoms, first, repeated, size);
        let units = repeated + atoms[first..end].iter().map(|atom| atom.units).sum::<usize>();
        let text_end = atoms[end - 1].end;
        let block = &document.blocks[atoms[first].block];
        let kinds = atoms[first..end].iter().map(|atom| document.blocks[atom.block].kind);
        let kind = kinds.into_iter().find(|kind| *kind != BlockKind::Heading).unwrap_or(BlockKind::Heading);
        chunks.push(Chunk {
            span: start..text_end,
            fresh: atoms[first].start,
            units,
            kind,
            page: block.page,
            section: block.section,
        });
        (start, repeated) = repeat(document, &atoms[..end], overlap, ruler);
        first = end;
    }
    chunks
}

/// The atom behind the last one of the chunk that begins with `first` and already holds `repeated` units.
fn end_of_chunk(atoms: &[Atom], first: usize, repeated: usize, size: usize) -> usize {
    let mut units = repeated + atoms[first].units;
    let mut end = first + 1;
    while end < atoms.len() && units + atoms[end].units <= size {
        // A section begins, and there is enough already. A quarter is: whoever waits for more carries a change of one
        // section into the chunks of all that follow.
        if atoms[end].seam == Seam::Section && units * 4 >= size {
            return end;
        }
        units += atoms[end].units;
        end += 1;
    }
    if end == atoms.len() {
        return end;
    }
    // Of the places in the second half, the last one of the best kind.
    let mut best = end;
    for place in (first + 1..end).rev() {
        units -= atoms[place].units;
        if units * 2 < size {
            break;
        }
        if atoms[place].seam > atoms[best].seam {
            best = place;
        }
    }
    best
}

/// What the next chunk repeats of these atoms: where it begins and how long it is.
fn repeat(document: &Document, atoms: &[Atom], overlap: usize, ruler: &dyn Ruler) -> (usize, usize) {
    let Some(last) = atoms.last() else { return (0, 0) };
    let (mut start, mut units) = (last.end, 0);
    for atom in atoms.iter().rev() {
        if units + atom.units > overlap {
            break;
        }
        units += atom.units;
        start = atom.start;
    }
    if units > 0 || overlap == 0 {
        return (start, units);
    }
    // Not even a sentence fits: as many of its words as do.
    let text = &document.text[last.start..last.end];
    let tail = ruler.tail(text, overlap);
    let word = text[tail..].find(char::is_whitespace).map_or(tail, |at| tail + at);
    let word = text[word..].find(|c: char| !c.is_whitespace()).map_or(tail, |at| word + at);
    (last.start + word, ruler.length(&text[word..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{Builder, Outline};
    use crate::ruler::{Characters, Tokens};
    use proptest::prelude::*;

    fn document(parts: &[(u8, String)]) -> Document {
        let mut builder = Builder::new(Outline::default());
        for (kind, text) in parts {
            match kind {
                0 => builder.push_heading(1 + (text.len() % 6) as u8, text),
                1 => builder.push(BlockKind::Code, text),
                _ => builder.push(BlockKind::Paragraph, text),
            }
        }
        builder.finish().0
    }

    fn pieces<'a>(document: &'a Document, chunks: &[Chunk]) -> Vec<&'a str> {
        chunks.iter().map(|chunk| &document.text[chunk.span.clone()]).collect()
    }

    proptest! {
        #[test]
        fn every_character_is_in_a_chunk_and_no_chunk_is_too_long(
            parts in proptest::collection::vec((0_u8..4, "[a-zA-Z.!? \\näß€あ。]{0,120}"), 0..12),
            size in 1_usize..90,
            share in 0_usize..=50,
        ) {
            let document = document(&parts);
            let options = ChunkOptions::new(size, size * share / 100).expect("allowed");
            let bytes = Tokens(|text: &str| text.len().div_ceil(4));
            for ruler in [&Characters as &dyn Ruler, &bytes] {
                let mut covered = 0;
                for chunk in chunks(&document, options, ruler) {
                    prop_assert_eq!(chunk.fresh, covered, "each goes on where the last one ended");
                    prop_assert!(chunk.span.start <= chunk.fresh && chunk.span.end > chunk.fresh);
                    prop_assert!(chunk.units <= size);
                    let overlap = &document.text[chunk.span.start..chunk.fresh];
                    prop_assert!(ruler.length(overlap) <= options.overlap());
                    covered = chunk.span.end;
                }
                prop_assert_eq!(covered, document.text.len());
            }
        }
    }

    #[test]
    fn characters_are_counted_exactly() {
        let document =
            document(&[(3, "Ein Satz ist hier. Noch einer. Und ein dritter, länger als die anderen.".into())]);
        for chunk in chunks(&document, ChunkOptions::new(40, 10).expect("allowed"), &Characters) {
            assert_eq!(chunk.units, document.text[chunk.span].chars().count());
        }
    }

    #[test]
    fn chunks_end_at_the_best_place() {
        let parts = [
            (0, "First".into()),
            (3, "A sentence. Another sentence.".into()),
            (0, "Second".into()),
            (3, "More text that is here. And more text.".into()),
        ];
        let document = document(&parts);
        let found = chunks(&document, ChunkOptions::new(60, 0).expect("allowed"), &Characters);
        let found = pieces(&document, &found);
        assert_eq!(
            found.iter().map(|piece| piece.trim()).collect::<Vec<_>>(),
            ["First\n\nA sentence. Another sentence.", "Second\n\nMore text that is here. And more text."]
        );
    }

    #[test]
    fn an_overlap_repeats_whole_sentences_or_words() {
        let document = document(&[(3, "Alpha beta gamma. Delta. Epsilon zeta eta theta. Iota.".into())]);
        let found = chunks(&document, ChunkOptions::new(30, 12).expect("allowed"), &Characters);
        let repeated: Vec<&str> = found.iter().map(|chunk| &document.text[chunk.span.start..chunk.fresh]).collect();
        assert!(repeated[1].starts_with("Delta. "), "{repeated:?}");
        assert!(repeated[1..].iter().all(|text| !text.is_empty()), "{repeated:?}");
    }

    #[test]
    fn a_change_leaves_the_chunks_of_other_sections_as_they_were() {
        let section = |number: usize, text: &str| {
            [(0, format!("Section {number}")), (3, format!("{text} ").repeat(12)), (3, "Closing words.".into())]
        };
        let parts: Vec<(u8, String)> =
            (0..20).flat_map(|number| section(number, &format!("Text {number} is here."))).collect();
        let mut changed = parts.clone();
        changed[4].1.push_str(" One more sentence. And another one that is new.");
        let options = ChunkOptions::new(200, 20).expect("allowed");
        let (before, after) = (document(&parts), document(&changed));
        let (a, b) = (chunks(&before, options, &Characters), chunks(&after, options, &Characters));
        let known: std::collections::HashSet<&str> = pieces(&before, &a).into_iter().collect();
        let new = pieces(&after, &b).iter().filter(|piece| !known.contains(*piece)).count();
        assert!(new * 4 < b.len(), "{new} of {} are new", b.len());
    }

    #[test]
    fn sizes_that_lead_nowhere_are_refused() {
        assert_eq!(ChunkOptions::new(0, 0).expect_err("refused").code, "PS-CFG-001");
        assert_eq!(ChunkOptions::new(10, 6).expect_err("refused").code, "PS-CFG-001");
    }
}
