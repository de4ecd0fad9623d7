//! Plain text: paragraphs between empty lines, pages between form feeds.

use crate::block::{BlockKind, Builder, Outline};
use crate::limits::Limits;
use crate::read::Sink;
use peft_data::TextFile;
use peft_plan::Result;

/// Read a text file piece by piece.
pub(crate) fn read(file: &mut TextFile, limits: &Limits, sink: &mut Sink<'_>) -> Result<()> {
    let mut page = None;
    while let Some(text) = file.next_piece(limits.piece)? {
        sink(divide(text, &mut page))?;
    }
    Ok(())
}

/// Divide one piece; `page` is the one it begins on, and then the one it ends on.
fn divide(text: String, page: &mut Option<u32>) -> crate::Document {
    let marks = marks(&text);
    let mut builder = Builder::over(text, Outline::default());
    if let Some(page) = *page {
        builder.turn_to(page);
    }
    for (end, is_page) in marks {
        builder.mark(BlockKind::Paragraph, end);
        if is_page {
            // The first form feed tells that there are pages, and that this was the first.
            let next = page.unwrap_or(1).saturating_add(1);
            builder.turn_to(next);
            *page = Some(next);
        }
    }
    builder.finish().0
}

/// Where paragraphs begin, and whether a page begins there.
fn marks(text: &str) -> Vec<(usize, bool)> {
    let mut marks = Vec::new();
    let (mut at, mut after_blank) = (0, false);
    for line in text.split_inclusive('\n') {
        if line.starts_with('\u{c}') {
            marks.push((at, true));
        } else if after_blank && !line.trim().is_empty() {
            marks.push((at, false));
        }
        after_blank = line.trim().is_empty();
        at += line.len();
    }
    marks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_are_between_empty_lines_and_pages_between_form_feeds() {
        let text = "one\nstill one\n\n\ntwo\n\u{c}three\n\nfour";
        let mut page = None;
        let document = divide(text.to_owned(), &mut page);
        let parts: Vec<&str> = document.blocks.iter().map(|block| &text[block.span.clone()]).collect();
        assert_eq!(parts, ["one\nstill one\n\n\n", "two\n", "\u{c}three\n\n", "four"]);
        assert_eq!(document.blocks.iter().map(|block| block.page).collect::<Vec<_>>(), [None, None, Some(2), Some(2)]);
        assert_eq!(page, Some(2));
    }
}
