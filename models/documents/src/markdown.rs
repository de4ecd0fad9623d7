//! Markdown: headings, lists, code, tables and quotes, found line by line.
//!
//! The text stays as it is, so every place in a chunk is a place in the file. Structure that spans lines in ways only a
//! full renderer knows (lazy quotes, nested lists) is one block here; nothing is lost by that.

use crate::block::{BlockKind, Builder, Outline};
use crate::limits::Limits;
use crate::read::Sink;
use peft_data::TextFile;
use peft_plan::Result;

/// Read a Markdown file piece by piece; headings and open code go on from one to the next.
pub(crate) fn read(file: &mut TextFile, limits: &Limits, sink: &mut Sink<'_>) -> Result<()> {
    let mut outline = Outline::default();
    let mut fence = None;
    let mut is_first = true;
    while let Some(text) = file.next_piece(limits.piece)? {
        let (document, next) = divide(text, outline, &mut fence, is_first);
        outline = next;
        is_first = false;
        sink(document)?;
    }
    Ok(())
}

/// An open block of code: the character and length of its fence.
type Fence = Option<(u8, usize)>;

/// What a line is by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Blank,
    Heading(u8),
    /// `===` or `---` under a paragraph; the latter is a rule elsewhere.
    Underline(u8),
    Fence(u8, usize),
    Item,
    Quote,
    TableRule,
    Indented,
    Text,
}

fn divide(text: String, outline: Outline, fence: &mut Fence, is_first: bool) -> (crate::Document, Outline) {
    let steps = steps(&text, fence, is_first);
    let mut builder = Builder::over(text, outline);
    for (end, step) in steps {
        match step {
            Step::Block(kind) => builder.mark(kind, end),
            Step::Heading(level, title) => {
                builder.title(&title);
                builder.enter(level, &title);
                builder.mark(BlockKind::Heading, end);
            }
        }
    }
    builder.finish()
}

/// A block that ends somewhere.
enum Step {
    Block(BlockKind),
    Heading(u8, String),
}

/// Collects lines into blocks.
struct Divider {
    steps: Vec<(usize, Step)>,
    /// The kind of the block that is open, and where its last line begins.
    open: Option<(BlockKind, usize)>,
}

impl Divider {
    /// End the open block at `end`.
    fn close(&mut self, end: usize) {
        if let Some((kind, _)) = self.open.take() {
            self.steps.push((end, Step::Block(kind)));
        }
    }

    /// A line of `kind` at `start`: part of the open block if that is of this kind.
    fn line(&mut self, kind: BlockKind, start: usize) {
        match &mut self.open {
            Some((open, last)) if *open == kind => *last = start,
            _ => {
                self.close(start);
                self.open = Some((kind, start));
            }
        }
    }
}

fn steps(text: &str, fence: &mut Fence, is_first: bool) -> Vec<(usize, Step)> {
    let mut divider = Divider { steps: Vec::new(), open: None };
    let (mut at, mut after_blank) = (0, true);
    let mut in_front_matter = is_first && text.lines().next().is_some_and(|line| line.trim_end() == "---");
    for line in text.split_inclusive('\n') {
        let (start, end) = (at, at + line.len());
        at = end;
        if in_front_matter {
            divider.line(BlockKind::Code, start);
            if start > 0 && matches!(line.trim_end(), "---" | "...") {
                in_front_matter = false;
                divider.close(end);
            }
            continue;
        }
        let kind = classify(line);
        if let Some((mark, length)) = *fence {
            divider.line(BlockKind::Code, start);
            // A closing fence is at least as long and says nothing else.
            let closes = matches!(kind, Line::Fence(m, l) if m == mark && l >= length)
                && line.trim().bytes().all(|byte| byte == mark);
            if closes {
                *fence = None;
                divider.close(end);
            }
            continue;
        }
        let open = divider.open.map(|(kind, _)| kind);
        match kind {
            Line::Blank => {}
            Line::Fence(mark, length) => {
                divider.close(start);
                divider.line(BlockKind::Code, start);
                *fence = Some((mark, length));
            }
            Line::Heading(level) => {
                divider.close(start);
                divider.steps.push((end, Step::Heading(level, title_of(line).to_owned())));
            }
            Line::Underline(level) if open == Some(BlockKind::Paragraph) && !after_blank => {
                // The line above was the heading; what stood before it stays a paragraph.
                let title_at = divider.open.map_or(start, |(_, last)| last);
                divider.close(title_at);
                let title = text[title_at..start].trim().to_owned();
                divider.steps.push((end, Step::Heading(level, title)));
            }
            Line::TableRule if open == Some(BlockKind::Paragraph) && !after_blank => {
                let head_at = divider.open.map_or(start, |(_, last)| last);
                divider.close(head_at);
                divider.open = Some((BlockKind::Table, start));
            }
            Line::Item => divider.line(BlockKind::List, start),
            Line::Quote => divider.line(BlockKind::Quote, start),
            Line::Indented if after_blank && open != Some(BlockKind::List) => {
                divider.line(BlockKind::Code, start);
            }
            // What is indented goes on with a list even after an empty line.
            Line::Indented if open.is_some_and(|open| open == BlockKind::List || !after_blank) => {}
            // So is an item's next paragraph.
            Line::Text if open == Some(BlockKind::List) && line.starts_with("  ") => {}
            _ => {
                // A lazy line goes on with whatever is open; after an empty line a paragraph begins.
                if after_blank || open.is_none() {
                    divider.close(start);
                    divider.line(BlockKind::Paragraph, start);
                } else if let Some((_, last)) = &mut divider.open {
                    *last = start;
                }
            }
        }
        after_blank = kind == Line::Blank;
    }
    divider.close(text.len());
    divider.steps
}

fn classify(line: &str) -> Line {
    let line = line.trim_end();
    let body = line.trim_start_matches(' ');
    let indent = line.len() - body.len();
    let Some(first) = body.bytes().next() else { return Line::Blank };
    let run = body.bytes().take_while(|byte| *byte == first).count();
    if (first == b'`' || first == b'~') && run >= 3 {
        return Line::Fence(first, run);
    }
    if is_item(body) {
        return Line::Item;
    }
    if indent >= 4 || first == b'\t' {
        return Line::Indented;
    }
    match first {
        b'#' if run <= 6 && body[run..].starts_with([' ', '\t']) => Line::Heading(run as u8),
        b'#' if run <= 6 && body.len() == run => Line::Heading(run as u8),
        b'=' if run == body.len() => Line::Underline(1),
        b'-' if run == body.len() => Line::Underline(2),
        b'>' => Line::Quote,
        b'|' | b'-' | b':' if is_table_rule(body) => Line::TableRule,
        _ => Line::Text,
    }
}

/// `- `, `* `, `+ `, `1. ` or `1) ` and something after it.
fn is_item(body: &str) -> bool {
    let digits = body.bytes().take_while(u8::is_ascii_digit).count();
    let rest = &body.as_bytes()[digits..];
    let marks: &[u8] = if digits == 0 { b"-*+" } else { b".)" };
    digits < 10 && matches!(rest, [mark, b' ' | b'\t', _, ..] if marks.contains(mark))
}

/// `|---|:--:|`: only these characters, and both a dash and a bar.
fn is_table_rule(body: &str) -> bool {
    body.bytes().all(|byte| matches!(byte, b'|' | b'-' | b':' | b' ')) && body.contains('|') && body.contains('-')
}

/// A heading without its marks.
fn title_of(line: &str) -> &str {
    let title = line.trim().trim_start_matches('#').trim();
    let bare = title.trim_end_matches('#');
    if bare.is_empty() || bare.ends_with([' ', '\t']) { bare.trim_end() } else { title }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(text: &str) -> Vec<(BlockKind, String, String)> {
        let (document, _) = divide(text.to_owned(), Outline::default(), &mut None, true);
        let end = document.blocks.last().map_or(0, |block| block.span.end);
        assert_eq!(end, text.len(), "every character is in a block");
        let part = |block: &crate::Block| {
            let text = document.text[block.span.clone()].trim_end().to_owned();
            (block.kind, document.sections[block.section].join(" > "), text)
        };
        document.blocks.iter().map(part).collect()
    }

    #[test]
    fn the_blocks_of_a_page_are_told_apart() {
        let text = "---\ntitle: x\n---\n# One #\nA line\nand more.\n\n- item\n  more\n\n  still\n- item\n\nUnder\n-----\n\
                    > said\n\n```rust\n# no heading\n\n```\n| a | b |\n|---|---|\n| 1 | 2 |\n\n    code\n";
        let kinds: Vec<(BlockKind, String)> = blocks(text).into_iter().map(|(kind, path, _)| (kind, path)).collect();
        let expected = [
            (BlockKind::Code, ""),
            (BlockKind::Heading, "One"),
            (BlockKind::Paragraph, "One"),
            (BlockKind::List, "One"),
            (BlockKind::Heading, "One > Under"),
            (BlockKind::Quote, "One > Under"),
            (BlockKind::Code, "One > Under"),
            (BlockKind::Table, "One > Under"),
            (BlockKind::Code, "One > Under"),
        ];
        assert_eq!(kinds, expected.map(|(kind, path)| (kind, path.to_owned())));
    }

    #[test]
    fn open_code_goes_on_in_the_next_piece() {
        let mut fence = None;
        let (_, outline) = divide("# A\n```\ncode\n".into(), Outline::default(), &mut fence, true);
        assert_eq!(fence, Some((b'`', 3)));
        let (next, _) = divide("# no heading\n```\ntext\n".into(), outline, &mut fence, false);
        assert_eq!(fence, None);
        assert_eq!(next.blocks[0].kind, BlockKind::Code);
        assert_eq!(next.sections[next.blocks[1].section], ["A"]);
    }

    #[test]
    fn a_rule_is_no_heading_and_an_empty_file_no_block() {
        assert_eq!(blocks("text\n\n---\n\nmore\n").len(), 3);
        assert!(blocks("").is_empty());
        assert_eq!(blocks("#hashtag")[0].0, BlockKind::Paragraph);
    }
}
