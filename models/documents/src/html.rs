//! Web pages: what a person would read of them, in blocks.

use crate::block::{BlockKind, Builder, Outline};
use crate::limits::Limits;
use crate::markup::{Token, Tokens, attribute};
use crate::read::Sink;
use peft_data::TextFile;
use peft_plan::{Fault, Result};
use std::path::Path;

/// Elements that nobody reads.
const UNSEEN: &[&str] =
    &["script", "style", "template", "svg", "math", "iframe", "noembed", "noframes", "object", "select", "canvas"];

/// Elements that begin and end a block.
const BLOCKS: &[&str] = &[
    "address",
    "article",
    "aside",
    "body",
    "caption",
    "center",
    "dd",
    "details",
    "dialog",
    "dir",
    "div",
    "dl",
    "dt",
    "fieldset",
    "figcaption",
    "figure",
    "footer",
    "form",
    "head",
    "header",
    "hgroup",
    "hr",
    "html",
    "legend",
    "main",
    "menu",
    "nav",
    "ol",
    "p",
    "section",
    "summary",
    "tbody",
    "tfoot",
    "thead",
    "ul",
];

/// Read a web page.
pub(crate) fn read(file: &mut TextFile, path: &Path, limits: &Limits, sink: &mut Sink<'_>) -> Result<()> {
    let mut page = String::new();
    while let Some(piece) = file.next_piece(limits.piece)? {
        page.push_str(&piece);
        if page.len() as u64 > limits.whole_file {
            let detail = format!("`{}` is a web page of more than {} MiB", path.display(), limits.whole_file >> 20);
            return Err(Fault::new("PS-DATA-012", detail));
        }
    }
    let mut builder = Builder::new(Outline::default());
    read_into(&mut builder, &page);
    sink(builder.finish().0)
}

/// Add the blocks of `page`.
pub(crate) fn read_into(builder: &mut Builder, page: &str) {
    let mut reader = Reader::new(builder);
    for token in Tokens::new(page) {
        reader.take(&token);
    }
    reader.flush();
    reader.end_table();
}

/// The state of reading: all counters, so that tags in any order do no harm.
struct Reader<'a> {
    builder: &'a mut Builder,
    /// The text of the block that is open.
    text: String,
    /// An element whose content is passed over, and how many of it are open.
    unseen: Option<(String, usize)>,
    is_title: bool,
    heading: Option<u8>,
    preformatted: usize,
    quotes: usize,
    lists: usize,
    /// Whether the open block is an item of a list.
    is_item: bool,
    tables: usize,
    table: String,
    cells_in_row: usize,
}

impl<'a> Reader<'a> {
    fn new(builder: &'a mut Builder) -> Self {
        Self {
            builder,
            text: String::new(),
            unseen: None,
            is_title: false,
            heading: None,
            preformatted: 0,
            quotes: 0,
            lists: 0,
            is_item: false,
            tables: 0,
            table: String::new(),
            cells_in_row: 0,
        }
    }

    fn take(&mut self, token: &Token<'_>) {
        if let Some((element, open)) = &mut self.unseen {
            match token {
                Token::Open { name, attributes }
                    if name.eq_ignore_ascii_case(element) && !attributes.ends_with('/') =>
                {
                    *open += 1;
                }
                Token::Close(name) if name.eq_ignore_ascii_case(element) => *open -= 1,
                _ => {}
            }
            if *open == 0 {
                self.unseen = None;
            }
            return;
        }
        match token {
            Token::Text(text) => self.add(text),
            Token::Open { name, attributes } => self.open(&name.to_ascii_lowercase(), attributes),
            Token::Close(name) => self.close(&name.to_ascii_lowercase()),
        }
    }

    fn add(&mut self, text: &str) {
        if self.is_title {
            self.builder.title(text);
            self.is_title = false;
        } else if self.preformatted > 0 && self.tables == 0 {
            self.text.push_str(text);
        } else {
            push_collapsed(&mut self.text, text);
        }
    }

    fn open(&mut self, name: &str, attributes: &str) {
        if UNSEEN.contains(&name) {
            if !attributes.ends_with('/') {
                self.unseen = Some((name.to_owned(), 1));
            }
            return;
        }
        match name {
            "title" => self.is_title = true,
            "br" => self.text.push('\n'),
            "img" => {
                if let Some(words) = attribute(attributes, "alt") {
                    push_collapsed(&mut self.text, &words);
                }
            }
            "pre" | "listing" | "xmp" => {
                self.flush();
                self.preformatted += 1;
            }
            "blockquote" => {
                self.flush();
                self.quotes += 1;
            }
            "li" => {
                self.flush();
                self.is_item = true;
            }
            "ul" | "ol" | "menu" | "dir" => {
                self.flush();
                self.lists += 1;
            }
            "table" => {
                self.flush();
                self.tables += 1;
            }
            "tr" => self.end_row(),
            "td" | "th" => self.end_cell(),
            _ if heading_level(name).is_some() => {
                self.flush();
                self.heading = heading_level(name);
            }
            _ if BLOCKS.contains(&name) => self.flush(),
            _ => {}
        }
    }

    fn close(&mut self, name: &str) {
        match name {
            "title" => self.is_title = false,
            "pre" | "listing" | "xmp" => {
                self.flush();
                self.preformatted = self.preformatted.saturating_sub(1);
            }
            "blockquote" => {
                self.flush();
                self.quotes = self.quotes.saturating_sub(1);
            }
            "ul" | "ol" | "menu" | "dir" => {
                self.flush();
                self.lists = self.lists.saturating_sub(1);
                self.is_item = false;
            }
            "li" => {
                self.flush();
                self.is_item = false;
            }
            "td" | "th" => self.end_cell(),
            "tr" => self.end_row(),
            "table" => {
                self.end_row();
                self.tables = self.tables.saturating_sub(1);
                if self.tables == 0 {
                    self.end_table();
                }
            }
            _ if heading_level(name).is_some() => {
                self.flush();
                self.heading = None;
            }
            _ if BLOCKS.contains(&name) => self.flush(),
            _ => {}
        }
    }

    /// End the open block. Within a table that is only a space.
    fn flush(&mut self) {
        if self.tables > 0 {
            push_collapsed(&mut self.text, " ");
            return;
        }
        let text = std::mem::take(&mut self.text);
        if text.trim().is_empty() {
            return;
        }
        if let Some(level) = self.heading {
            // Many generators end headings with a link to themselves.
            return self.builder.push_heading(level, one_line(&text).trim_end_matches(['¶', '\u{f0c1}', ' ']));
        }
        if self.preformatted > 0 {
            return self.builder.push(BlockKind::Code, &text);
        }
        if self.is_item {
            // The second block of an item is no item of its own.
            self.is_item = false;
            return self.builder.push(BlockKind::List, &format!("- {}", text.trim()));
        }
        let kind = match (self.quotes, self.lists) {
            (1.., _) => BlockKind::Quote,
            (0, 1..) => BlockKind::List,
            (0, 0) => BlockKind::Paragraph,
        };
        self.builder.push(kind, &text);
    }

    fn end_cell(&mut self) {
        if self.tables == 0 {
            return self.flush();
        }
        let cell = one_line(&std::mem::take(&mut self.text));
        if !cell.is_empty() {
            self.table.push_str(if self.cells_in_row > 0 { " | " } else { "" });
            self.table.push_str(&cell);
            self.cells_in_row += 1;
        }
    }

    fn end_row(&mut self) {
        self.end_cell();
        if self.cells_in_row > 0 {
            self.table.push('\n');
            self.cells_in_row = 0;
        }
    }

    fn end_table(&mut self) {
        if self.tables > 0 {
            // The page ended inside it.
            self.end_row();
        }
        self.builder.push(BlockKind::Table, &std::mem::take(&mut self.table));
    }
}

fn heading_level(name: &str) -> Option<u8> {
    match name.as_bytes() {
        [b'h', level @ b'1'..=b'6'] => Some(level - b'0'),
        _ => None,
    }
}

/// Adds text with every run of white space as one space, across the seam too.
fn push_collapsed(out: &mut String, text: &str) {
    let mut in_space = out.is_empty() || out.ends_with([' ', '\n']);
    for c in text.chars() {
        if matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{c}') {
            if !in_space {
                out.push(' ');
            }
            in_space = true;
        } else {
            out.push(c);
            in_space = false;
        }
    }
}

fn one_line(text: &str) -> String {
    let mut line = String::new();
    push_collapsed(&mut line, text.trim());
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(page: &str) -> Vec<(BlockKind, String)> {
        let mut builder = Builder::new(Outline::default());
        read_into(&mut builder, page);
        let (document, _) = builder.finish();
        let part = |block: &crate::Block| (block.kind, document.text[block.span.clone()].trim_end().to_owned());
        document.blocks.iter().map(part).collect()
    }

    #[test]
    fn a_page_becomes_what_a_person_reads() {
        let page = "<html><head><title>T</title><style>p{}</style></head><body><h1>Big\n <i>Title</i><a href='#t'>¶</a></h1>\
                    <p>One\n   two<br>three<script>no()</script><div>four</div><ul><li>a<li>b<ul><li>c</ul></ul>\
                    <pre>  x\n   y</pre><table><tr><th>k<th>v<tr><td>1<td><p>2</p></table><blockquote>q</blockquote>end";
        let expected = [
            (BlockKind::Heading, "Big Title"),
            (BlockKind::Paragraph, "One two\nthree"),
            (BlockKind::Paragraph, "four"),
            (BlockKind::List, "- a"),
            (BlockKind::List, "- b"),
            (BlockKind::List, "- c"),
            (BlockKind::Code, "  x\n   y"),
            (BlockKind::Table, "k | v\n1 | 2"),
            (BlockKind::Quote, "q"),
            (BlockKind::Paragraph, "end"),
        ];
        assert_eq!(blocks(page), expected.map(|(kind, text)| (kind, text.to_owned())));
    }

    #[test]
    fn text_in_a_page_that_breaks_off_is_kept() {
        assert_eq!(blocks("<table><tr><td>a<td>b"), [(BlockKind::Table, "a | b".to_owned())]);
        assert_eq!(blocks("</table></li></ul></h1>x<h2>y").len(), 2);
        assert!(blocks("<svg><svg></svg>unseen").is_empty());
    }
}
