//! Electronic books: the chapters in the order of the spine, each a web page.

use crate::archive::Archive;
use crate::block::{Builder, Outline};
use crate::html;
use crate::limits::Limits;
use crate::read::{Notes, Sink};
use crate::xml::{Node, walk};
use peft_plan::Result;
use std::collections::HashMap;
use std::path::Path;

const CONTAINER: &str = "META-INF/container.xml";
const ENCRYPTION: &str = "META-INF/encryption.xml";

/// Read a book.
pub(crate) fn read(path: &Path, limits: &Limits, sink: &mut Sink<'_>) -> Result<()> {
    let mut archive = Archive::open(path, limits)?;
    if !archive.has(CONTAINER) {
        return Err(archive.damaged("it is an archive, but not a book"));
    }
    let container = archive.unpack_text(CONTAINER)?;
    let Some(package) = attribute_of(&container, "rootfile", "full-path", limits)? else {
        return Err(archive.damaged("it does not say where its contents are"));
    };
    let opf = archive.unpack_text(&package)?;
    let folder = package.rsplit_once('/').map_or("", |(folder, _)| folder);
    let Contents { title, spine } = contents(&opf, folder, limits)?;
    let locked = if archive.has(ENCRYPTION) { locked(&archive.unpack_text(ENCRYPTION)?, limits)? } else { Vec::new() };
    let mut builder = Builder::new(Outline::default());
    builder.title(&title);
    let mut notes = Notes::new(limits.warnings);
    for chapter in &spine {
        if locked.contains(chapter) {
            notes.add(|| format!("`{chapter}` is protected against copying and was left out"));
            continue;
        }
        match archive.unpack_text(chapter) {
            Ok(page) => html::read_into(&mut builder, &page),
            // A trap is a trap; a damaged chapter is one chapter less.
            Err(fault) if fault.code == "PS-DATA-012" => return Err(fault),
            Err(fault) => notes.add(|| fault.detail),
        }
    }
    if builder.text().is_empty() {
        let what = if locked.is_empty() { "it has no chapters" } else { "it is protected against copying" };
        return Err(archive.damaged(what));
    }
    notes.tell(&mut builder);
    sink(builder.finish().0)
}

/// The first value of an attribute of an element.
fn attribute_of(xml: &str, element: &str, attribute: &str, limits: &Limits) -> Result<Option<String>> {
    let mut found = None;
    walk(xml, limits.depth, &mut |node| {
        if let Node::Open(tag) = node
            && tag.name == element
            && found.is_none()
        {
            found = tag.attribute(attribute);
        }
        Ok(())
    })?;
    Ok(found)
}

/// What a book says of itself.
struct Contents {
    title: String,
    /// Names of entries, in the order of reading.
    spine: Vec<String>,
}

fn contents(opf: &str, folder: &str, limits: &Limits) -> Result<Contents> {
    let mut files: HashMap<String, String> = HashMap::new();
    let mut order = Vec::new();
    let (mut title, mut is_title) = (String::new(), false);
    walk(opf, limits.depth, &mut |node| {
        match node {
            Node::Open(tag) => {
                is_title = tag.name == "title" && title.is_empty();
                match tag.name {
                    "item" => {
                        if let (Some(id), Some(href)) = (tag.attribute("id"), tag.attribute("href")) {
                            files.insert(id, entry_name(folder, &href));
                        }
                    }
                    "itemref" => order.extend(tag.attribute("idref")),
                    _ => {}
                }
            }
            Node::Close(_) => is_title = false,
            Node::Text(text) if is_title => title.push_str(text),
            Node::Text(_) => {}
        }
        Ok(())
    })?;
    // A chapter that is named again and again is read once.
    let spine = order.iter().filter_map(|id| files.remove(id)).collect();
    Ok(Contents { title, spine })
}

/// Entries whose bytes are encrypted.
fn locked(xml: &str, limits: &Limits) -> Result<Vec<String>> {
    let mut names = Vec::new();
    walk(xml, limits.depth, &mut |node| {
        if let Node::Open(tag) = node
            && tag.name == "CipherReference"
        {
            names.extend(tag.attribute("URI").map(|uri| entry_name("", &uri)));
        }
        Ok(())
    })?;
    Ok(names)
}

/// The entry that a link within the book means. It cannot lead out of the archive: names are only compared.
fn entry_name(folder: &str, link: &str) -> String {
    let link = link.split(['#', '?']).next().unwrap_or_default();
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    let decoded = percent_decoded(link);
    for part in decoded.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    parts.join("/")
}

fn percent_decoded(link: &str) -> String {
    let mut bytes = Vec::with_capacity(link.len());
    let mut rest = link.as_bytes();
    while let [first, behind @ ..] = rest {
        let code = behind.get(..2).filter(|_| *first == b'%').and_then(|code| std::str::from_utf8(code).ok());
        if let Some(byte) = code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            bytes.push(byte);
            rest = &behind[2..];
        } else {
            bytes.push(*first);
            rest = behind;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Document;
    use crate::archive::pack::archive;
    use peft_plan::Fault;

    const CONTAINER_XML: &[u8] = b"<container><rootfiles><rootfile full-path='OEBPS/c.opf'/></rootfiles></container>";
    const OPF: &[u8] = b"<package xmlns:dc='x'><metadata><dc:title>A &amp; B</dc:title></metadata><manifest>\
        <item id='two' href='t%20two.xhtml#x'/><item id='one' href='../one.xhtml'/><item id='gone' href='gone.xhtml'/>\
        </manifest><spine><itemref idref='one'/><itemref idref='two'/><itemref idref='one'/><itemref idref='gone'/>\
        </spine></package>";

    fn book(extra: &[(&str, &[u8])]) -> Result<Document, Fault> {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("a.epub");
        let files: [(&str, &[u8]); 5] = [
            ("mimetype", b"application/epub+zip"),
            (CONTAINER, CONTAINER_XML),
            ("OEBPS/c.opf", OPF),
            ("one.xhtml", b"<html><h1>First</h1><p>one</p></html>"),
            ("OEBPS/t two.xhtml", b"<!DOCTYPE html><html><h1>Second</h1><p>two&nbsp;</p></html>"),
        ];
        std::fs::write(&path, archive(&[&files, extra].concat())).expect("written");
        let mut found = Document::default();
        read(&path, &Limits::default(), &mut |document| {
            found = document;
            Ok(())
        })?;
        Ok(found)
    }

    #[test]
    fn chapters_come_in_the_order_of_the_spine() {
        let found = book(&[]).expect("readable");
        assert_eq!(found.title.as_deref(), Some("A & B"));
        assert_eq!(found.text.split_whitespace().collect::<Vec<_>>(), ["First", "one", "Second", "two"]);
        assert_eq!(found.sections[found.blocks[3].section], ["Second"]);
        assert_eq!(found.warnings.len(), 1, "the chapter that is missing: {:?}", found.warnings);
    }

    #[test]
    fn a_protected_book_is_refused_by_name() {
        let all: &[u8] = b"<e><CipherReference URI='one.xhtml'/><CipherReference URI='OEBPS/t%20two.xhtml'/></e>";
        let fault = book(&[(ENCRYPTION, all)]).expect_err("refused");
        assert!(fault.code == "PS-DATA-011" && fault.detail.contains("protected"), "{fault}");
    }
}
