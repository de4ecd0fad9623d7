//! Word documents: paragraphs with their styles, lists, tables, pages as they were last laid out, and footnotes.

use crate::archive::Archive;
use crate::block::{BlockKind, Builder, Outline};
use crate::limits::Limits;
use crate::read::Sink;
use crate::xml::{Node, Tag, walk};
use peft_plan::Result;
use std::collections::HashMap;
use std::path::Path;

const BODY: &str = "word/document.xml";
const STYLES: &str = "word/styles.xml";
const NOTES: &[&str] = &["word/footnotes.xml", "word/endnotes.xml"];
const PROPERTIES: &str = "docProps/core.xml";

/// The level of a document's title, above every heading.
const TITLE: u8 = 0;

/// Read a Word document.
pub(crate) fn read(path: &Path, limits: &Limits, sink: &mut Sink<'_>) -> Result<()> {
    let mut archive = Archive::open(path, limits)?;
    if !archive.has(BODY) {
        return Err(archive.damaged("it is an archive, but not a Word document"));
    }
    let mut builder = Builder::new(Outline::default());
    let styles = if archive.has(STYLES) { styles(&archive.unpack_text(STYLES)?, limits)? } else { HashMap::new() };
    if archive.has(PROPERTIES) {
        let title = title(&archive.unpack_text(PROPERTIES)?, limits)?;
        builder.title(&title);
    }
    for part in [BODY].iter().chain(NOTES) {
        if !archive.has(part) {
            continue;
        }
        let xml = archive.unpack_text(part)?;
        let mut reader = Reader::new(&mut builder, &styles);
        let wrong = walk(&xml, limits.depth, &mut |node| {
            reader.take(&node);
            Ok(())
        })?;
        reader.end();
        if let Some(wrong) = wrong {
            if *part == BODY && builder.text().is_empty() {
                return Err(archive.damaged(&wrong));
            }
            builder.warn(format!("part of it could not be read: {wrong}"));
        }
    }
    sink(builder.finish().0)
}

/// The levels of styles that are headings, by the id that paragraphs name.
fn styles(xml: &str, limits: &Limits) -> Result<HashMap<String, u8>> {
    let mut levels = HashMap::new();
    let mut current: Option<String> = None;
    walk(xml, limits.depth, &mut |node| {
        match &node {
            Node::Open(tag) if tag.name == "style" => current = tag.attribute("styleId"),
            Node::Open(tag) => {
                let Some(id) = &current else { return Ok(()) };
                let level = match tag.name {
                    "name" => tag.attribute("val").and_then(|name| level_of_style(&name)),
                    "outlineLvl" => level_of(tag),
                    _ => None,
                };
                if let Some(level) = level {
                    levels.entry(id.clone()).or_insert(level);
                }
            }
            Node::Close("style") => current = None,
            _ => {}
        }
        Ok(())
    })?;
    Ok(levels)
}

/// `heading 2`, in the English that files use whatever the language of the program.
fn level_of_style(name: &str) -> Option<u8> {
    let name = name.to_lowercase();
    if name == "title" {
        return Some(TITLE);
    }
    name.strip_prefix("heading")?.trim().parse().ok().filter(|level| (1..=9).contains(level))
}

/// An outline level, which counts from 0; 9 is running text.
fn level_of(tag: &Tag<'_>) -> Option<u8> {
    let level: u8 = tag.attribute("val")?.parse().ok()?;
    (level < 9).then_some(level + 1)
}

fn title(xml: &str, limits: &Limits) -> Result<String> {
    let (mut is_title, mut title) = (false, String::new());
    walk(xml, limits.depth, &mut |node| {
        match node {
            Node::Open(tag) => is_title = tag.name == "title",
            Node::Close(_) => is_title = false,
            Node::Text(text) if is_title => title.push_str(text),
            Node::Text(_) => {}
        }
        Ok(())
    })?;
    Ok(title)
}

/// A paragraph that is open. Text boxes put paragraphs into paragraphs.
#[derive(Default)]
struct Paragraph {
    text: String,
    level: Option<u8>,
    is_item: bool,
}

struct Reader<'a> {
    builder: &'a mut Builder,
    styles: &'a HashMap<String, u8>,
    open: Vec<Paragraph>,
    /// Whether text belongs to the document: not what was deleted, and no instructions of fields.
    is_text: bool,
    /// Second descriptions of the same thing, for older programs.
    fallbacks: usize,
    tables: usize,
    table: String,
    cells_in_row: usize,
    cell: String,
}

impl<'a> Reader<'a> {
    fn new(builder: &'a mut Builder, styles: &'a HashMap<String, u8>) -> Self {
        Self {
            builder,
            styles,
            open: Vec::new(),
            is_text: false,
            fallbacks: 0,
            tables: 0,
            table: String::new(),
            cells_in_row: 0,
            cell: String::new(),
        }
    }

    fn take(&mut self, node: &Node<'_>) {
        match node {
            Node::Open(tag) if tag.name == "Fallback" => self.fallbacks += 1,
            Node::Close("Fallback") => self.fallbacks = self.fallbacks.saturating_sub(1),
            _ if self.fallbacks > 0 => {}
            Node::Open(tag) => self.open(tag),
            Node::Close(name) => self.close(name),
            Node::Text(text) if self.is_text => self.add(text),
            Node::Text(_) => {}
        }
    }

    fn add(&mut self, text: &str) {
        if let Some(paragraph) = self.open.last_mut() {
            paragraph.text.push_str(text);
        }
    }

    fn open(&mut self, tag: &Tag<'_>) {
        match tag.name {
            "p" => self.open.push(Paragraph::default()),
            "t" => self.is_text = true,
            "tab" => self.add("\t"),
            "noBreakHyphen" => self.add("-"),
            "br" if tag.attribute("type").as_deref() == Some("page") => self.turn_page(),
            "br" | "cr" => self.add("\n"),
            "lastRenderedPageBreak" => self.turn_page(),
            "numPr" => {
                if let Some(paragraph) = self.open.last_mut() {
                    paragraph.is_item = true;
                }
            }
            "pStyle" => {
                let level = tag.attribute("val").and_then(|id| {
                    // Without a list of styles the ids are all there is.
                    self.styles.get(&id).copied().or_else(|| level_of_style(&id))
                });
                if let (Some(paragraph), Some(level)) = (self.open.last_mut(), level) {
                    paragraph.level = Some(level);
                }
            }
            "outlineLvl" => {
                if let Some(paragraph) = self.open.last_mut() {
                    paragraph.level = level_of(tag).or(paragraph.level);
                }
            }
            "tbl" => self.tables += 1,
            _ => {}
        }
    }

    fn turn_page(&mut self) {
        let next = self.builder.page().unwrap_or(1).saturating_add(1);
        self.builder.turn_to(next);
    }

    fn close(&mut self, name: &str) {
        match name {
            "p" => self.end_paragraph(),
            "t" => self.is_text = false,
            "tc" if self.tables == 1 => self.end_cell(),
            "tr" if self.tables == 1 => self.end_row(),
            "tbl" => {
                self.tables = self.tables.saturating_sub(1);
                if self.tables == 0 {
                    self.end_table();
                }
            }
            _ => {}
        }
    }

    fn end_paragraph(&mut self) {
        let Some(Paragraph { text, level, is_item }) = self.open.pop() else { return };
        if self.tables > 0 {
            if !self.cell.is_empty() {
                self.cell.push(' ');
            }
            self.cell.push_str(text.trim());
            return;
        }
        match level {
            Some(TITLE) => {
                self.builder.title(&text);
                self.builder.push_heading(TITLE, &text);
            }
            Some(level) => self.builder.push_heading(level, &text),
            None if is_item && !text.trim().is_empty() => {
                self.builder.push(BlockKind::List, &format!("- {}", text.trim()));
            }
            None => self.builder.push(BlockKind::Paragraph, &text),
        }
    }

    fn end_cell(&mut self) {
        let cell = std::mem::take(&mut self.cell);
        self.table.push_str(if self.cells_in_row > 0 { " | " } else { "" });
        self.table.push_str(&cell.split_whitespace().collect::<Vec<_>>().join(" "));
        self.cells_in_row += 1;
    }

    fn end_row(&mut self) {
        if self.cells_in_row > 0 {
            self.table.push('\n');
            self.cells_in_row = 0;
        }
    }

    fn end_table(&mut self) {
        self.builder.push(BlockKind::Table, &std::mem::take(&mut self.table));
    }

    /// The document ended, perhaps before its elements did.
    fn end(&mut self) {
        while !self.open.is_empty() {
            self.end_paragraph();
        }
        if !self.cell.is_empty() {
            self.end_cell();
        }
        self.tables = 0;
        self.end_table();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Document;
    use crate::archive::pack::archive;
    use peft_plan::Fault;

    fn document(files: &[(&str, &[u8])]) -> Result<Document, Fault> {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("a.docx");
        std::fs::write(&path, archive(files)).expect("written");
        let mut found = Document::default();
        read(&path, &Limits::default(), &mut |document| {
            found = document;
            Ok(())
        })?;
        Ok(found)
    }

    const XML: &str = r#"<w:document><w:body>
        <w:p><w:pPr><w:pStyle w:val="T1"/></w:pPr><w:r><w:t>Chapter</w:t></w:r></w:p>
        <w:p><w:r><w:t xml:space="preserve">Hello </w:t><w:instrText>PAGE</w:instrText><w:t>world &amp; all</w:t><w:br/>
        <w:delText>gone</w:delText><w:t>end</w:t></w:r></w:p>
        <w:p><w:pPr><w:numPr/></w:pPr><w:r><w:lastRenderedPageBreak/><w:t>item</w:t></w:r></w:p>
        <w:tbl><w:tr><w:tc><w:p><w:r><w:t>a</w:t></w:r></w:p></w:tc><w:tc><w:p><w:r><w:t>b</w:t></w:r></w:p></w:tc></w:tr>
        </w:tbl></w:body></w:document>"#;

    const STYLES_XML: &str = r#"<w:styles><w:style w:styleId="T1"><w:name w:val="heading 1"/></w:style></w:styles>"#;

    #[test]
    fn structure_survives() {
        let found = document(&[(BODY, XML.as_bytes()), (STYLES, STYLES_XML.as_bytes())]).expect("readable");
        let part = |block: &crate::Block| (block.kind, found.text[block.span.clone()].trim_end(), block.page);
        let expected = [
            (BlockKind::Heading, "Chapter", None),
            (BlockKind::Paragraph, "Hello world & all\nend", None),
            (BlockKind::List, "- item", Some(2)),
            (BlockKind::Table, "a | b", Some(2)),
        ];
        assert_eq!(found.blocks.iter().map(part).collect::<Vec<_>>(), expected);
        assert_eq!(found.sections[found.blocks[3].section], ["Chapter"]);
    }

    #[test]
    fn a_document_that_breaks_off_keeps_what_was_there() {
        let cut = &XML[..XML.find("item").expect("there") + 2];
        let found = document(&[(BODY, cut.as_bytes())]).expect("readable in part");
        assert!(found.text.contains("Hello world & all") && found.text.contains("- it"), "{}", found.text);
        assert_eq!(found.warnings.len(), 1);
        assert_eq!(
            document(&[(BODY, b"<!DOCTYPE x [<!ENTITY a 'b'>]><x/>")]).expect_err("refused").code,
            "PS-DATA-011"
        );
        assert_eq!(document(&[("x", b"y")]).expect_err("refused").code, "PS-DATA-011");
    }
}
