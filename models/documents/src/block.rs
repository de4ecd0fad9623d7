//! A document as text that is tiled by blocks: paragraphs, headings, lists, code, tables.
//!
//! Every reader produces this. Blocks follow one another without gaps, so a walk over them sees every character
//! exactly once; the headings a block stands under are kept once per section.

use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Bytes of a heading that are kept in a path; a heading that is a whole book is text like any other.
const LONGEST_HEADING: usize = 400;

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockKind {
    /// Running text.
    Paragraph,
    /// The title of a section.
    Heading,
    /// An item of a list, or several.
    List,
    /// Program text, kept as it is.
    Code,
    /// Rows of cells.
    Table,
    /// Quoted text.
    Quote,
    /// One record of a file of records.
    Record,
}

/// A stretch of the text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// What it is.
    pub kind: BlockKind,
    /// Bytes of [`Document::text`].
    pub span: Range<usize>,
    /// The page it begins on, counted from 1, where the format has pages.
    pub page: Option<u32>,
    /// Its section: an index of [`Document::sections`].
    pub section: usize,
}

/// A document, or a piece of one that is too large to be held at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// All of its text.
    pub text: String,
    /// In order, without gaps, over all of `text`.
    pub blocks: Vec<Block>,
    /// The paths of headings that blocks stand under, outermost first. The first is that of the beginning.
    pub sections: Vec<Vec<String>>,
    /// The title, where the format has one.
    pub title: Option<String>,
    /// What could not be read, for people.
    pub warnings: Vec<String>,
}

/// The headings that are open at a place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    open: Vec<(u8, String)>,
}

impl Outline {
    fn enter(&mut self, level: u8, heading: &str) {
        while self.open.last().is_some_and(|(open, _)| *open >= level) {
            self.open.pop();
        }
        self.open.push((level, one_line(heading)));
    }

    fn path(&self) -> Vec<String> {
        self.open.iter().map(|(_, heading)| heading.clone()).collect()
    }
}

/// Puts a document together from front to back.
#[derive(Debug, Default)]
pub struct Builder {
    document: Document,
    outline: Outline,
    page: Option<u32>,
}

impl Builder {
    /// A document, or a piece of one, that begins under `outline`.
    pub fn new(outline: Outline) -> Self {
        let document = Document { sections: vec![outline.path()], ..Document::default() };
        Self { document, outline, page: None }
    }

    /// The same over `text` that is there already; [`Self::mark`] divides it.
    pub fn over(text: String, outline: Outline) -> Self {
        let mut builder = Self::new(outline);
        builder.document.text = text;
        builder
    }

    /// The text as far as it was given.
    pub fn text(&self) -> &str {
        &self.document.text
    }

    /// Where the last block ends.
    pub fn end(&self) -> usize {
        self.document.blocks.last().map_or(0, |block| block.span.end)
    }

    /// The block from the end of the last one up to byte `end`, if there is anything between.
    pub fn mark(&mut self, kind: BlockKind, end: usize) {
        let start = self.end();
        if end > start {
            let section = self.document.sections.len().saturating_sub(1);
            self.document.blocks.push(Block { kind, span: start..end, page: self.page, section });
        }
    }

    /// What follows stands under this heading. Call it before the heading's own block is marked.
    pub fn enter(&mut self, level: u8, heading: &str) {
        if heading.trim().is_empty() {
            return;
        }
        self.outline.enter(level, heading);
        self.document.sections.push(self.outline.path());
    }

    /// What follows is on this page.
    pub fn turn_to(&mut self, page: u32) {
        self.page = Some(page);
    }

    /// The page that is being filled.
    pub fn page(&self) -> Option<u32> {
        self.page
    }

    /// Adds a block of its own text, set apart from the next one by an empty line. Blank text adds nothing.
    pub fn push(&mut self, kind: BlockKind, text: &str) {
        let text = if kind == BlockKind::Code { text.trim_matches('\n') } else { text.trim() };
        if !text.trim().is_empty() {
            self.document.text.push_str(text);
            self.document.text.push_str("\n\n");
            self.mark(kind, self.document.text.len());
        }
    }

    /// Adds a heading and enters its section.
    pub fn push_heading(&mut self, level: u8, text: &str) {
        self.enter(level, text);
        self.push(BlockKind::Heading, text);
    }

    /// Notes what could not be read.
    pub fn warn(&mut self, warning: impl Into<String>) {
        self.document.warnings.push(warning.into());
    }

    /// The first title wins.
    pub fn title(&mut self, title: &str) {
        if self.document.title.is_none() && !title.trim().is_empty() {
            self.document.title = Some(one_line(title));
        }
    }

    /// The document, and the headings that are open at its end.
    pub fn finish(mut self) -> (Document, Outline) {
        self.mark(BlockKind::Paragraph, self.document.text.len());
        (self.document, self.outline)
    }
}

/// Text on one line, of bounded length.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if line.len() + word.len() + 1 > LONGEST_HEADING {
            line.push('…');
            break;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_follow_the_levels_of_headings() {
        let mut builder = Builder::new(Outline::default());
        builder.push(BlockKind::Paragraph, "before");
        builder.push_heading(1, "One");
        builder.push_heading(3, "Deep");
        builder.push_heading(2, "Two");
        builder.push(BlockKind::Code, "\n  x = 1\n");
        let (document, outline) = builder.finish();
        let path = |at: usize| document.sections[document.blocks[at].section].join(" > ");
        assert_eq!([path(0), path(1), path(2), path(4)], ["", "One", "One > Deep", "One > Two"]);
        assert_eq!(&document.text[document.blocks[4].span.clone()], "  x = 1\n\n");
        let (next, _) = Builder::over("go on".into(), outline).finish();
        assert_eq!(next.sections[next.blocks[0].section], ["One", "Two"]);
    }

    #[test]
    fn blocks_tile_the_text() {
        let mut builder = Builder::over("abc def".into(), Outline::default());
        builder.mark(BlockKind::Heading, 3);
        builder.mark(BlockKind::Heading, 3);
        let (document, _) = builder.finish();
        let spans: Vec<_> = document.blocks.iter().map(|block| block.span.clone()).collect();
        assert_eq!(spans, [0..3, 3..7]);
    }

    #[test]
    fn a_heading_of_any_length_is_kept_short_in_paths() {
        let mut builder = Builder::new(Outline::default());
        builder.push_heading(1, &"word ".repeat(10_000));
        let (document, _) = builder.finish();
        assert!(document.sections[1][0].len() < 420);
    }
}
