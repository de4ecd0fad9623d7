//! Lines of a page to blocks: paragraphs, headings, items and tables, by where lines are and how large.

use super::glyphs::Line;
use crate::block::{BlockKind, Builder};
use std::collections::HashMap;

/// A heading is larger than running text by this factor; how much larger says its level.
const HEADING: f64 = 1.12;
const LEVELS: [(f64, u8); 3] = [(1.9, 1), (1.5, 2), (1.25, 3)];
const LOWEST_LEVEL: u8 = 4;

/// A heading has no more bytes.
const LONGEST_HEADING: usize = 200;

/// Lines further apart than this many times the usual distance are of two paragraphs.
const APART: f64 = 1.4;

/// A first line that is moved in by more than this many sizes begins a paragraph.
const INDENT: f64 = 0.9;

/// What an item begins with.
const BULLETS: &[char] = &['•', '◦', '▪', '●', '○', '‣', '–', '—', '∙', '·', '*', '-', '■', '□', '❖', '➢'];

/// The size that most letters of these lines have: that of running text.
pub(super) fn usual_size<'a>(lines: impl Iterator<Item = &'a Line>) -> Option<f64> {
    let mut letters: HashMap<i64, usize> = HashMap::new();
    for line in lines {
        *letters.entry(half_points(line.size)).or_default() += line.text.len();
    }
    let most = letters.into_iter().max_by_key(|(size, count)| (*count, *size))?;
    Some(most.0 as f64 / 2.0)
}

fn half_points(size: f64) -> i64 {
    (size * 2.0).round() as i64
}

/// Adds what a page shows to `builder`. `usual` is the size of running text.
pub(super) fn add_page(builder: &mut Builder, lines: &[Line], usual: f64) {
    let mut rest = lines;
    let distance = usual_distance(lines).unwrap_or(usual * 1.2);
    while let Some(first) = rest.first() {
        let kind = kind_of(first, usual);
        let mut end = 1;
        while end < rest.len() && goes_on(kind, &rest[..end], &rest[end], usual, distance) {
            end += 1;
        }
        let (block, others) = rest.split_at(end);
        let text = if kind == BlockKind::Table { cells(block) } else { joined(block) };
        match kind {
            BlockKind::Heading if text.len() <= LONGEST_HEADING && text.chars().any(char::is_alphabetic) => {
                builder.push_heading(level(first.size / usual), &text);
            }
            BlockKind::Heading => builder.push(BlockKind::Paragraph, &text),
            _ => builder.push(kind, &text),
        }
        rest = others;
    }
}

fn kind_of(line: &Line, usual: f64) -> BlockKind {
    if line.size >= usual * HEADING {
        BlockKind::Heading
    } else if line.has_cells {
        BlockKind::Table
    } else if begins_an_item(&line.text) {
        BlockKind::List
    } else {
        BlockKind::Paragraph
    }
}

fn level(ratio: f64) -> u8 {
    LEVELS.iter().find(|(least, _)| ratio >= *least).map_or(LOWEST_LEVEL, |(_, level)| *level)
}

/// `• …`, `3. …`, `(b) …`.
fn begins_an_item(text: &str) -> bool {
    let Some((mark, rest)) = text.trim_start().split_once([' ', '\t']) else { return false };
    if rest.trim().is_empty() {
        return false;
    }
    let mut letters = mark.chars();
    if let (Some(only), None) = (letters.next(), letters.next()) {
        return BULLETS.contains(&only);
    }
    let inner = mark.trim_start_matches('(');
    let inner = inner.strip_suffix([')', '.']).unwrap_or("");
    let is_number = inner.len() <= 3 && inner.bytes().all(|byte| byte.is_ascii_digit());
    let is_letter = inner.len() == 1 && mark.ends_with(')') && inner.bytes().all(|byte| byte.is_ascii_lowercase());
    !inner.is_empty() && (is_number || is_letter)
}

/// The distance of most lines that follow one another downwards.
fn usual_distance(lines: &[Line]) -> Option<f64> {
    let mut distances: Vec<f64> = lines
        .windows(2)
        .filter(|pair| pair[0].direction == pair[1].direction)
        .map(|pair| pair[1].across - pair[0].across)
        .zip(lines)
        .filter(|(distance, line)| *distance > 0.5 * line.size && *distance < 4.0 * line.size)
        .map(|(distance, _)| distance)
        .collect();
    let middle = distances.len() / 2;
    if distances.is_empty() {
        return None;
    }
    Some(*distances.select_nth_unstable_by(middle, f64::total_cmp).1)
}

/// Whether `next` belongs to the block that these lines are.
fn goes_on(kind: BlockKind, block: &[Line], next: &Line, usual: f64, distance: f64) -> bool {
    let (Some(first), Some(last)) = (block.first(), block.last()) else { return false };
    let next_kind = kind_of(next, usual);
    if last.direction != next.direction {
        return false;
    }
    let below = next.across - last.across;
    let size = last.size.max(next.size);
    if kind == BlockKind::Heading || next_kind == BlockKind::Heading {
        let is_near = below > -0.2 * size && below < 1.7 * size;
        return kind == next_kind && is_near && half_points(last.size) == half_points(next.size);
    }
    if kind == BlockKind::Table || next_kind == BlockKind::Table {
        return kind == next_kind && below > -0.2 * size && below < 2.0 * distance.max(size);
    }
    if next_kind == BlockKind::List {
        return false;
    }
    if below < -0.2 * size {
        // Up: the next column, or a note. Only a sentence that is open goes on there.
        return last.text.ends_with(char::is_alphanumeric) && next.text.starts_with(char::is_lowercase);
    }
    if below > APART * distance.max(size) {
        return false;
    }
    let margin = block.iter().map(|line| line.start).fold(f64::INFINITY, f64::min);
    let is_moved_in = next.start > margin + INDENT * size && next.start > last.start + INDENT * size;
    if is_moved_in && below > 0.5 * size && kind == BlockKind::Paragraph {
        return false;
    }
    if kind == BlockKind::List && next.start + INDENT * size < first.start {
        return false;
    }
    // A short line that ends a sentence ends its paragraph.
    let widest = block.iter().map(|line| line.end).fold(next.end, f64::max);
    let is_short = last.end < widest - 0.2 * (widest - margin);
    !(is_short && last.text.trim_end().ends_with(['.', '!', '?', ':', '。']) && below > 0.5 * size)
}

/// Lines as running text: words that were divided at the end of a line are whole again.
fn joined(lines: &[Line]) -> String {
    let mut text = String::new();
    for line in lines {
        let next = line.text.trim();
        let before = text.trim_end().len();
        text.truncate(before);
        let begins = next.chars().next();
        if let Some(word) = text.strip_suffix(['-', '\u{AD}', '‐'])
            && word.ends_with(char::is_alphabetic)
            && begins.is_some_and(char::is_lowercase)
        {
            text.truncate(word.len());
        } else if !(text.is_empty() || is_unspaced(text.chars().next_back()) && is_unspaced(begins)) {
            text.push(' ');
        }
        text.push_str(next);
    }
    text
}

/// Letters of scripts that put no blanks between words.
fn is_unspaced(letter: Option<char>) -> bool {
    letter.is_some_and(|letter| matches!(letter, '\u{2E80}'..='\u{9FFF}' | '\u{F900}'..='\u{FAFF}' | '\u{FF00}'..='\u{FFEF}' | '\u{20000}'..='\u{3FFFF}'))
}

/// Rows of cells, a row a line.
fn cells(lines: &[Line]) -> String {
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        let is_same_row = index > 0 && (line.across - lines[index - 1].across).abs() < 0.3 * line.size;
        if index > 0 {
            text.push(if is_same_row { '\t' } else { '\n' });
        }
        text.push_str(line.text.trim());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{Document, Outline};

    /// Lines one below the other, 12 apart, at the left margin and full.
    fn lines(texts: &[(&str, f64, f64)]) -> Vec<Line> {
        let mut across = 0.0;
        texts
            .iter()
            .map(|(text, size, start)| {
                across += 1.2 * size;
                let has_cells = text.contains('\t');
                Line { text: (*text).into(), start: *start, end: 400.0, across, size: *size, direction: 0, has_cells }
            })
            .collect()
    }

    fn read(lines: &[Line]) -> Document {
        let mut builder = Builder::new(Outline::default());
        builder.turn_to(7);
        add_page(&mut builder, lines, 10.0);
        builder.finish().0
    }

    fn blocks(document: &Document) -> Vec<(BlockKind, &str)> {
        document.blocks.iter().map(|block| (block.kind, document.text[block.span.clone()].trim_end())).collect()
    }

    #[test]
    fn lines_become_paragraphs_headings_items_and_tables() {
        let document = read(&lines(&[
            ("A Large Title", 20.0, 50.0),
            ("over two lines", 20.0, 50.0),
            ("The first line ends in a divid-", 10.0, 50.0),
            ("ed word and stops here. ", 10.0, 50.0),
            ("A new paragraph is moved in", 10.0, 62.0),
            ("and goes on.", 10.0, 50.0),
            ("• an item that", 10.0, 60.0),
            ("has two lines", 10.0, 68.0),
            ("2. another item", 10.0, 60.0),
            ("name\ttown", 10.0, 50.0),
            ("Ada\tLondon", 10.0, 50.0),
        ]));
        let expected = [
            (BlockKind::Heading, "A Large Title over two lines"),
            (BlockKind::Paragraph, "The first line ends in a divided word and stops here."),
            (BlockKind::Paragraph, "A new paragraph is moved in and goes on."),
            (BlockKind::List, "• an item that has two lines"),
            (BlockKind::List, "2. another item"),
            (BlockKind::Table, "name\ttown\nAda\tLondon"),
        ];
        assert_eq!(blocks(&document), expected);
        assert!(document.blocks.iter().all(|block| block.page == Some(7)));
        assert_eq!(document.sections[document.blocks[5].section], ["A Large Title over two lines"]);
    }

    #[test]
    fn an_open_sentence_goes_on_in_the_next_column_and_a_closed_one_does_not() {
        let mut column = lines(&[("it is open at the", 10.0, 50.0), ("end of this column", 10.0, 300.0)]);
        column[1].across = -500.0;
        assert_eq!(blocks(&read(&column)).len(), 1);
        column[0].text = "It is closed.".into();
        assert_eq!(blocks(&read(&column)).len(), 2);
    }

    #[test]
    fn running_text_is_what_most_letters_have_the_size_of() {
        let all = lines(&[("Short", 30.0, 0.0), ("many letters of running text", 9.96, 0.0)]);
        assert_eq!(usual_size(all.iter()), Some(10.0));
        assert_eq!(usual_size([].iter()), None);
    }

    #[test]
    fn places_that_are_no_numbers_do_no_harm() {
        let mut strange = lines(&[("one", 10.0, 0.0), ("two", 10.0, 0.0), ("three", 10.0, 0.0)]);
        strange[1].across = f64::NAN;
        strange[2].start = f64::INFINITY;
        let document = read(&strange);
        for word in ["one", "two", "three"] {
            assert!(document.text.contains(word));
        }
    }
}
