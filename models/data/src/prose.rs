//! Plain text and Markdown as rows for continued pre-training.
//!
//! Paragraphs are joined up to about [`ROW`] characters for each row. A paragraph is never cut,
//! unless it alone is longer; then it is cut after a sentence, else after a word. In Markdown a
//! fenced block of code counts as one paragraph.

use crate::collect::Collector;
use crate::encoding::decode_line;
use crate::json_lines::too_long;
use crate::lines::{Line, Lines};
use peft_plan::Result;
use std::io::BufRead;

/// Characters in a row.
const ROW: usize = 4_000;

/// Read `reader` as paragraphs.
pub(crate) fn read(reader: impl BufRead, markdown: bool, out: &mut Collector<'_>) -> Result<()> {
    let mut lines = Lines::new(reader);
    let mut rows =
        Rows { out, row: String::new(), row_characters: 0, row_line: 0, paragraph: String::new(), paragraph_line: 0 };
    let mut fenced = false;
    while let Some((number, line)) = lines.next_line().map_err(|error| rows.out.io(error))? {
        let bytes = match line {
            Line::Whole(bytes) => bytes,
            Line::TooLong { start, bytes } => {
                rows.out.bad(too_long(number, start, bytes))?;
                continue;
            }
        };
        let mut text = decode_line(bytes, &mut rows.out.strays);
        if text.contains('\0') {
            rows.out.zeroes += 1;
            text.to_mut().retain(|c| c != '\0');
        }
        let text = text.trim_end();
        fenced ^= markdown && (text.trim_start().starts_with("```") || text.trim_start().starts_with("~~~"));
        if text.is_empty() && !fenced {
            rows.end_paragraph();
        } else {
            rows.add_line(number, text);
        }
    }
    rows.end_paragraph();
    rows.end_row();
    Ok(())
}

struct Rows<'o, 'p> {
    out: &'o mut Collector<'p>,
    row: String,
    row_characters: usize,
    row_line: usize,
    paragraph: String,
    paragraph_line: usize,
}

impl Rows<'_, '_> {
    fn add_line(&mut self, number: usize, text: &str) {
        if self.paragraph.is_empty() {
            self.paragraph_line = number;
        } else {
            self.paragraph.push('\n');
        }
        self.paragraph.push_str(text);
        // A file without blank lines must not be held whole.
        if self.paragraph.len() > 16 * ROW {
            self.move_paragraph(true);
            self.paragraph_line = number;
        }
    }

    fn end_paragraph(&mut self) {
        self.move_paragraph(false);
    }

    /// Put the paragraph into rows; `unfinished` keeps back what may still grow.
    fn move_paragraph(&mut self, unfinished: bool) {
        let paragraph = std::mem::take(&mut self.paragraph);
        let mut rest = paragraph.trim_end();
        while !rest.trim_start().is_empty() {
            let limit = rest.char_indices().nth(ROW).map(|(at, _)| at);
            if unfinished && limit.is_none() {
                rest.clone_into(&mut self.paragraph);
                return;
            }
            let piece = limit.map_or(rest, |limit| &rest[..cut(rest, limit)]);
            self.add_piece(piece);
            rest = rest[piece.len()..].trim_start();
        }
    }

    fn add_piece(&mut self, piece: &str) {
        let characters = piece.chars().count();
        if self.row_characters + characters + 2 > ROW {
            self.end_row();
        }
        if self.row.is_empty() {
            self.row_line = self.paragraph_line;
        } else {
            self.row.push_str("\n\n");
        }
        self.row.push_str(piece.trim_end());
        self.row_characters += characters + 2;
    }

    fn end_row(&mut self) {
        if !self.row.is_empty() {
            self.out.prose(self.row_line, std::mem::take(&mut self.row));
        }
        self.row_characters = 0;
    }
}

/// Where to cut a text that is longer than `limit`: after a sentence in its second half, else
/// after a word, else at the limit.
fn cut(text: &str, limit: usize) -> usize {
    let head = &text[..limit];
    let sentence = [". ", "! ", "? ", ".\n", "!\n", "?\n", "。"]
        .iter()
        .filter_map(|end| head.rfind(end).map(|at| at + end.len()))
        .max();
    let word = head.char_indices().rev().find(|(_, c)| c.is_whitespace()).map(|(at, c)| at + c.len_utf8());
    let late_enough = |at: &usize| *at > limit / 2;
    sentence.filter(late_enough).or(word.filter(late_enough)).unwrap_or(limit)
}
