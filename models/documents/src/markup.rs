//! HTML as a flat stream of tags and text, read as browsers do: nothing is an error.
//!
//! There is no tree and no recursion, so a page of 50 MB costs its own size, and a million open tags cost nothing.

use quick_xml::escape::resolve_html5_entity;
use std::borrow::Cow;

/// What comes next in a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// `<name ...>`; the name as it is written.
    Open { name: &'a str, attributes: &'a str },
    /// `</name>`.
    Close(&'a str),
    /// Text with its entities resolved.
    Text(Cow<'a, str>),
}

/// Elements whose content is not markup.
const RAW: &[&str] = &["script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes"];

/// Of these, the ones in whose text entities stand for characters.
const ESCAPABLE: &[&str] = &["textarea", "title"];

/// The longest name of an entity.
const LONGEST_ENTITY: usize = 32;

/// Reads a page from front to back.
pub(crate) struct Tokens<'a> {
    page: &'a str,
    at: usize,
    /// The raw element that was just opened.
    raw: Option<&'static str>,
}

impl<'a> Tokens<'a> {
    pub(crate) fn new(page: &'a str) -> Self {
        Self { page, at: 0, raw: None }
    }

    fn rest(&self) -> &'a str {
        &self.page[self.at..]
    }

    /// Skip to behind the next `end`, or to the end of the page.
    fn skip_past(&mut self, end: &str) {
        self.at += self.rest().find(end).map_or(self.rest().len(), |at| at + end.len());
    }

    /// A tag at the `<` here, or `None` where it is a comment or the like, which is skipped.
    fn tag(&mut self) -> Option<Token<'a>> {
        let rest = self.rest();
        if rest.starts_with("<!--") {
            self.at += 4;
            // `<!-->` is a whole comment.
            self.at -= if self.rest().starts_with('>') { 2 } else { 0 };
            self.skip_past("-->");
            return None;
        }
        if rest.starts_with("<![CDATA[") {
            self.at += 9;
            let text = self.rest().split_once("]]>").map_or(self.rest(), |(text, _)| text);
            self.skip_past("]]>");
            return Some(Token::Text(Cow::Borrowed(text)));
        }
        if rest.starts_with("<!") || rest.starts_with("<?") {
            self.skip_past(">");
            return None;
        }
        let is_close = rest.starts_with("</");
        let body = &rest[1 + usize::from(is_close)..];
        let name_length = body.find(|c: char| c.is_ascii_whitespace() || matches!(c, '/' | '>')).unwrap_or(body.len());
        let (name, behind) = body.split_at(name_length);
        let length = end_of_attributes(behind);
        let attributes = &behind[..length];
        self.at = self.page.len() - behind.len() + (length + 1).min(behind.len());
        if is_close {
            return Some(Token::Close(name));
        }
        if !attributes.ends_with('/') {
            self.raw = RAW.iter().copied().find(|raw| raw.eq_ignore_ascii_case(name));
        }
        Some(Token::Open { name, attributes })
    }

    /// The content of a raw element, up to its closing tag.
    fn raw_text(&mut self, element: &str) -> Option<Token<'a>> {
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let closes = |at: usize| {
            let name = bytes.get(at + 2..at + 2 + element.len());
            name.is_some_and(|name| name.eq_ignore_ascii_case(element.as_bytes()))
        };
        let end = rest.match_indices("</").map(|(at, _)| at).find(|at| closes(*at)).unwrap_or(rest.len());
        self.at += end;
        let text = &rest[..end];
        if text.is_empty() {
            return None;
        }
        Some(Token::Text(if ESCAPABLE.contains(&element) { unescape(text) } else { Cow::Borrowed(text) }))
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        while self.at < self.page.len() {
            if let Some(element) = self.raw.take() {
                if let Some(text) = self.raw_text(element) {
                    return Some(text);
                }
                continue;
            }
            if is_tag(self.rest()) {
                if let Some(token) = self.tag() {
                    return Some(token);
                }
                continue;
            }
            let rest = self.rest();
            // A `<` that opens nothing is text.
            let end = rest.match_indices('<').map(|(at, _)| at).find(|at| is_tag(&rest[*at..])).unwrap_or(rest.len());
            self.at += end;
            return Some(Token::Text(unescape(&rest[..end])));
        }
        None
    }
}

/// Whether a tag, a comment or a declaration begins here.
fn is_tag(text: &str) -> bool {
    match text.as_bytes() {
        [b'<', b'!' | b'?', ..] => true,
        [b'<', b'/', letter, ..] | [b'<', letter, ..] => letter.is_ascii_alphabetic(),
        _ => false,
    }
}

/// Where the `>` of a tag is: the first one outside quotes.
fn end_of_attributes(text: &str) -> usize {
    let mut quote = None;
    let mut after_equals = false;
    for (at, byte) in text.bytes().enumerate() {
        match (quote, byte) {
            (Some(open), _) if open == byte => quote = None,
            (None, b'>') => return at,
            // A quote is one only where a value begins.
            (None, b'"' | b'\'') if after_equals => quote = Some(byte),
            _ => {}
        }
        after_equals = byte == b'=' || (after_equals && byte.is_ascii_whitespace());
    }
    text.len()
}

/// The value of an attribute.
pub(crate) fn attribute<'a>(attributes: &'a str, wanted: &str) -> Option<Cow<'a, str>> {
    let mut rest = attributes;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '/');
        if rest.is_empty() {
            return None;
        }
        let stop = |c: char| c.is_ascii_whitespace() || matches!(c, '=' | '/');
        let length = rest.find(stop).unwrap_or(rest.len()).max(1);
        // The first character may be anything, of any length.
        let length = (length..=rest.len()).find(|at| rest.is_char_boundary(*at)).unwrap_or(rest.len());
        let (name, behind) = rest.split_at(length);
        let Some(value) = behind.trim_start().strip_prefix('=') else {
            rest = behind;
            continue;
        };
        let value = value.trim_start();
        let (value, behind) = match value.as_bytes().first() {
            Some(quote @ (b'"' | b'\'')) => {
                let inside = &value[1..];
                inside.split_once(char::from(*quote)).unwrap_or((inside, ""))
            }
            _ => value.split_at(value.find(|c: char| c.is_ascii_whitespace()).unwrap_or(value.len())),
        };
        if name.eq_ignore_ascii_case(wanted) {
            return Some(unescape(value));
        }
        rest = behind;
    }
}

/// Text with `&name;`, `&#65;` and `&#x41;` resolved. What is none of these stays as it is.
pub(crate) fn unescape(text: &str) -> Cow<'_, str> {
    let Some(first) = text.find('&') else { return Cow::Borrowed(text) };
    let mut out = String::with_capacity(text.len());
    out.push_str(&text[..first]);
    let mut rest = &text[first..];
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let name_length = rest[1..]
            .bytes()
            .take(LONGEST_ENTITY)
            .take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'#')
            .count();
        let name = &rest[1..=name_length];
        if resolve(name, &mut out) {
            rest = &rest[1 + name_length..];
            rest = rest.strip_prefix(';').unwrap_or(rest);
        } else {
            out.push('&');
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Adds the character that `name` stands for, if it does.
fn resolve(name: &str, out: &mut String) -> bool {
    let Some(number) = name.strip_prefix('#') else {
        let Some(text) = resolve_html5_entity(name) else { return false };
        out.push_str(text);
        return true;
    };
    let code = match number.strip_prefix(['x', 'X']) {
        Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16),
        None => number.parse(),
    };
    let Ok(code) = code else { return false };
    // Control characters of Windows, as every browser reads them.
    let mended = match code {
        0x85 => '…',
        0x91 => '‘',
        0x92 => '’',
        0x93 => '“',
        0x94 => '”',
        0x96 => '–',
        0x97 => '—',
        0 => char::REPLACEMENT_CHARACTER,
        _ => char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER),
    };
    out.push(mended);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(page: &str) -> String {
        let show = |token| match token {
            Token::Open { name, .. } => format!("<{name}>"),
            Token::Close(name) => format!("</{name}>"),
            Token::Text(text) => format!("[{text}]"),
        };
        Tokens::new(page).map(show).collect()
    }

    #[test]
    fn tags_and_text_are_told_apart_as_browsers_do() {
        assert_eq!(shown("<!DOCTYPE html><p class='a>b'>1 < 2 &amp; 3</P>"), "<p>[1 < 2 & 3]</P>");
        assert_eq!(shown("<script>if (a</b) '<p>'</script >x"), "<script>[if (a</b) '<p>']</script>[x]");
        assert_eq!(shown("<TITLE>A &amp; <b></title>"), "<TITLE>[A & <b>]</title>");
        assert_eq!(shown("a<!-- <p> -->b<!-->c<br/>"), "[a][b][c]<br>");
        assert_eq!(shown("a < b <3 <"), "[a < b <3 <]");
    }

    #[test]
    fn broken_pages_end() {
        for page in ["<", "<a", "<a href=\"x", "</", "<!--", "<![CDATA[x", "<script>", "<?", "&", "&#;", "<a b='"] {
            assert!(Tokens::new(page).count() < 4, "{page}");
        }
        let deep = "<div>".repeat(100_000);
        assert_eq!(Tokens::new(&deep).count(), 100_000);
    }

    #[test]
    fn entities_stand_for_characters_and_nothing_else_does() {
        assert_eq!(
            unescape("&auml;&#228;&#xE4;&nbsp;&copy &nix; & &#x110000; &#150;"),
            "äää\u{a0}© &nix; & \u{fffd} –"
        );
    }

    #[test]
    fn attributes_are_found_however_they_are_written() {
        let attributes = " checked Alt = \"a &lt; b\" src=x.png ä='1' data-x='>'/";
        assert_eq!(attribute(attributes, "alt").as_deref(), Some("a < b"));
        assert_eq!(attribute(attributes, "SRC").as_deref(), Some("x.png"));
        assert_eq!(attribute(attributes, "data-x").as_deref(), Some(">"));
        assert_eq!(attribute(attributes, "checked"), None);
        assert_eq!(attribute("===", "x"), None);
    }
}
