//! XML of office documents as a flat stream: local names, a bounded depth, and no entities of the document's own.

use peft_plan::Result;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// What comes next.
pub(crate) enum Node<'a> {
    /// An element begins.
    Open(Tag<'a>),
    /// The element of this local name ends.
    Close(&'a str),
    /// Text.
    Text(&'a str),
}

/// An element that begins.
pub(crate) struct Tag<'a> {
    /// Without its prefix.
    pub(crate) name: &'a str,
    start: &'a BytesStart<'a>,
}

impl Tag<'_> {
    /// The value of the attribute of this local name.
    pub(crate) fn attribute(&self, wanted: &str) -> Option<String> {
        let mut attributes = self.start.attributes();
        let found = attributes
            .with_checks(false)
            .flatten()
            .find(|attribute| attribute.key.local_name().as_ref() == wanted.as_bytes())?;
        let text = String::from_utf8_lossy(&found.value).into_owned();
        Some(crate::markup::unescape(&text).into_owned())
    }
}

/// Tell `visit` everything in `xml`. Returns what was wrong with it, if something was; what stood before was told.
pub(crate) fn walk(xml: &str, deepest: usize, visit: &mut dyn FnMut(Node<'_>) -> Result<()>) -> Result<Option<String>> {
    let mut reader = Reader::from_str(xml);
    reader.config_mut().allow_dangling_amp = true;
    let mut depth = 0_usize;
    loop {
        let event = match reader.read_event() {
            Ok(event) => event,
            Err(error) => return Ok(Some(format!("it is not well formed ({error})"))),
        };
        match event {
            Event::Start(start) => {
                depth += 1;
                if depth > deepest {
                    return Ok(Some(format!("its elements are nested more than {deepest} deep")));
                }
                visit(Node::Open(Tag { name: &local(start.local_name().into_inner()), start: &start }))?;
            }
            Event::Empty(start) => {
                let name = local(start.local_name().into_inner());
                visit(Node::Open(Tag { name: &name, start: &start }))?;
                visit(Node::Close(&name))?;
            }
            Event::End(end) => {
                depth = depth.saturating_sub(1);
                visit(Node::Close(&local(end.local_name().into_inner())))?;
            }
            Event::Text(text) => visit(Node::Text(&String::from_utf8_lossy(&text)))?,
            Event::CData(text) => visit(Node::Text(&String::from_utf8_lossy(&text)))?,
            // The entities that XML and HTML know; those a document declares stay unread, so none can multiply.
            Event::GeneralRef(name) => {
                let reference = format!("&{};", String::from_utf8_lossy(&name));
                visit(Node::Text(&crate::markup::unescape(&reference)))?;
            }
            Event::DocType(declared) if declared.contains(&b'[') => {
                return Ok(Some("it declares entities of its own".to_owned()));
            }
            Event::Eof => return Ok((depth > 0).then(|| "it breaks off".to_owned())),
            _ => {}
        }
    }
}

/// Names of elements are short; what is not UTF-8 is no name we know.
fn local(name: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(xml: &str) -> (String, Option<String>) {
        let mut out = String::new();
        let wrong = walk(xml, 8, &mut |node| {
            match node {
                Node::Open(tag) => {
                    let told = format!("<{}:{}>", tag.name, tag.attribute("val").unwrap_or_default());
                    out.push_str(&told);
                }
                Node::Close(name) => out.extend(["</", name, ">"]),
                Node::Text(text) => out.push_str(text),
            }
            Ok(())
        });
        (out, wrong.expect("told"))
    }

    #[test]
    fn prefixes_are_dropped_and_entities_resolved() {
        let (out, wrong) = told("<w:p a='1' w:val='x &amp; y'>a &lt; b &#65;<w:br/></w:p>");
        assert_eq!((out.as_str(), wrong), ("<p:x & y>a < b A<br:></br></p>", None));
    }

    #[test]
    fn entities_of_a_document_and_depth_are_refused() {
        let bomb = "<!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><x>&b;</x>";
        assert!(told(bomb).1.is_some_and(|wrong| wrong.contains("entities")));
        assert!(told(&"<x>".repeat(100)).1.is_some_and(|wrong| wrong.contains("nested")));
        let (out, wrong) = told("<x>kept</y>");
        assert!(out.contains("kept") && wrong.is_some());
    }
}
