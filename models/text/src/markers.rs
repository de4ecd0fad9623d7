//! Marks that travel through a template inside the contents, to find out where the contents went.
//!
//! All marks are Unicode noncharacters (U+FDD0..=U+FDEF), which text may not hold; where a dataset
//! holds them all the same they become U+FFFD first ([`without_noncharacters`]), so a row cannot
//! forge a mark.

use std::borrow::Cow;

/// `START number END` in hexadecimal digits that are noncharacters as well.
const CONTENT_START: [char; 2] = ['\u{FDD0}', '\u{FDD1}'];
const CONTENT_END: [char; 2] = ['\u{FDD2}', '\u{FDD3}'];
/// Stands for a control token that somebody spelled inside a content.
const SPELLING: [char; 2] = ['\u{FDD4}', '\u{FDD5}'];
/// Stands for a control token that the template wrote.
const CONTROL: [char; 2] = ['\u{FDD8}', '\u{FDD9}'];
/// Begin and end of a `{% generation %}` block.
pub(crate) const GENERATION_START: char = '\u{FDD6}';
pub(crate) const GENERATION_END: char = '\u{FDD7}';
/// Keeps two pieces of text from being merged into one token.
pub(crate) const BREAK: char = '\u{FDDA}';
/// Stands beside the reasoning and the calls of a turn.
const PART: [char; 2] = ['\u{FDDD}', '\u{FDDE}'];
/// Fills gaps of an id space; never occurs in text.
const FILLER: [char; 2] = ['\u{FDDB}', '\u{FDDC}'];
const FIRST_DIGIT: u32 = 0xFDE0;

/// Whether `c` is one of the characters used for marks.
fn is_noncharacter(c: char) -> bool {
    ('\u{FDD0}'..='\u{FDEF}').contains(&c)
}

/// `text` with every character used for marks replaced by U+FFFD.
pub(crate) fn without_noncharacters(text: &str) -> Cow<'_, str> {
    if text.contains(is_noncharacter) {
        Cow::Owned(text.replace(is_noncharacter, "\u{FFFD}"))
    } else {
        Cow::Borrowed(text)
    }
}

fn numbered([open, close]: [char; 2], number: usize) -> String {
    let mut mark = String::from(open);
    for digit in format!("{number:x}").chars() {
        let value = digit.to_digit(16).unwrap_or(0);
        mark.extend(char::from_u32(FIRST_DIGIT + value));
    }
    mark.push(close);
    mark
}

/// The stand-in of the `number`-th control token where a content spells it.
pub(crate) fn spelling(number: usize) -> String {
    numbered(SPELLING, number)
}

/// The stand-in of the `number`-th added token where the template wrote it.
pub(crate) fn control(number: usize) -> String {
    numbered(CONTROL, number)
}

/// A string no text holds.
pub(crate) fn filler(number: usize) -> String {
    numbered(FILLER, number)
}

/// Reads `open digits close` at the start of `text`: the number and the bytes read.
fn read_numbered([open, close]: [char; 2], text: &str) -> Option<(usize, usize)> {
    let digits = text.strip_prefix(open)?;
    let end = digits.find(close)?;
    let mut number = 0_usize;
    for c in digits[..end].chars() {
        let digit = (c as u32).checked_sub(FIRST_DIGIT).filter(|d| *d < 16)?;
        number = number.checked_mul(16)?.checked_add(digit as usize)?;
    }
    Some((number, open.len_utf8() + end + close.len_utf8()))
}

/// The next spelling stand-in of `text`: where it begins, its number, where it ends.
pub(crate) fn next_spelling(text: &str) -> Option<(usize, usize, usize)> {
    let mut from = 0;
    while let Some(found) = text[from..].find(SPELLING[0]) {
        let start = from + found;
        if let Some((number, len)) = read_numbered(SPELLING, &text[start..]) {
            return Some((start, number, start + len));
        }
        from = start + SPELLING[0].len_utf8();
    }
    None
}

/// White space as Python's `str.strip` sees it.
pub(crate) fn is_python_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1C}'..='\u{1F}').contains(&c)
}

/// `content` of turn `turn` with marks around what is left when white space at both ends goes, so
/// that a template's `trim` acts as without marks. All white space: no marks.
pub(crate) fn marked(content: &str, turn: usize) -> String {
    let core = content.trim_matches(is_python_space);
    if core.is_empty() {
        return content.to_owned();
    }
    let start = content.find(core).unwrap_or(0);
    let mut text = String::with_capacity(content.len() + 32);
    text.push_str(&content[..start]);
    text.push_str(&numbered(CONTENT_START, turn));
    text.push_str(core);
    text.push_str(&numbered(CONTENT_END, turn));
    text.push_str(&content[start + core.len()..]);
    text
}

/// What a turn may hold beside its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// What the model thinks.
    Reasoning,
    /// A call of a tool.
    Call,
}

/// `text` of turn `turn` with marks around what is left when white space at both ends goes.
pub(crate) fn marked_part(text: &str, turn: usize, part: Part) -> String {
    let core = text.trim_matches(is_python_space);
    if core.is_empty() {
        return text.to_owned();
    }
    let mark = numbered(PART, 2 * turn + usize::from(part == Part::Call));
    text.replacen(core, &format!("{mark}{core}{mark}"), 1)
}

/// What a mark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The content of this turn begins here.
    Start(usize),
    /// The content of this turn ends here.
    End(usize),
    /// Another part of this turn begins or ends here.
    Part(usize, Part),
    /// A generation block begins here.
    GenerationStart,
    /// A generation block ends here.
    GenerationEnd,
}

/// A rendering taken apart.
#[derive(Debug, Default)]
pub(crate) struct Unmarked {
    /// The rendering without marks.
    pub text: String,
    /// Byte positions in `text`, in order.
    pub marks: Vec<(usize, Kind)>,
}

impl Unmarked {
    /// Takes the marks out of `rendering`; stand-ins of spellings stay.
    pub(crate) fn read(rendering: &str) -> Self {
        let mut out = Self::default();
        let mut rest = rendering;
        while let Some(at) = rest.find(is_noncharacter) {
            out.text.push_str(&rest[..at]);
            rest = &rest[at..];
            let (kind, len) = if let Some((turn, len)) = read_numbered(CONTENT_START, rest) {
                (Some(Kind::Start(turn)), len)
            } else if let Some((turn, len)) = read_numbered(CONTENT_END, rest) {
                (Some(Kind::End(turn)), len)
            } else if let Some((number, len)) = read_numbered(PART, rest) {
                let part = if number % 2 == 0 { Part::Reasoning } else { Part::Call };
                (Some(Kind::Part(number / 2, part)), len)
            } else if rest.starts_with(GENERATION_START) {
                (Some(Kind::GenerationStart), GENERATION_START.len_utf8())
            } else if rest.starts_with(GENERATION_END) {
                (Some(Kind::GenerationEnd), GENERATION_END.len_utf8())
            } else {
                (None, rest.chars().next().map_or(1, char::len_utf8))
            };
            match kind {
                Some(kind) => out.marks.push((out.text.len(), kind)),
                None => out.text.push_str(&rest[..len]),
            }
            rest = &rest[len..];
        }
        out.text.push_str(rest);
        out
    }

    /// Where `turn` begins and ends, reasoning and calls included; `None` where the marks do not say.
    pub(crate) fn content(&self, turn: usize) -> (Option<usize>, Option<usize>) {
        let (start, end) = self.words(turn);
        let parts = self.marks.iter().filter(|(_, kind)| matches!(kind, Kind::Part(of, _) if *of == turn));
        let Some((first, last)) = parts.fold(None, |ends, (at, _)| match ends {
            None => Some((*at, *at)),
            Some((first, _)) => Some((first, *at)),
        }) else {
            return (start, end);
        };
        // Words whose beginning is lost begin before a part that comes after their end.
        let first = Some(first).filter(|first| start.is_some() || end.is_none_or(|end| *first <= end));
        (start.into_iter().chain(first).min(), end.max(Some(last)))
    }

    /// Where the content of `turn` begins and ends; `None` for a mark that is missing or double.
    fn words(&self, turn: usize) -> (Option<usize>, Option<usize>) {
        let only = |kind: Kind| {
            let mut found = self.marks.iter().filter(|(_, k)| *k == kind);
            match (found.next(), found.next()) {
                (Some((at, _)), None) => Some(*at),
                _ => None,
            }
        };
        (only(Kind::Start(turn)), only(Kind::End(turn)))
    }

    /// The generation blocks, outermost ones only.
    pub(crate) fn generation(&self) -> Vec<std::ops::Range<usize>> {
        let mut blocks = Vec::new();
        let mut open = Vec::new();
        for (at, kind) in &self.marks {
            match kind {
                Kind::GenerationStart => open.push(*at),
                Kind::GenerationEnd => {
                    if let Some(start) = open.pop()
                        && open.is_empty()
                    {
                        blocks.push(start..*at);
                    }
                }
                Kind::Start(_) | Kind::End(_) | Kind::Part(..) => {}
            }
        }
        blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_where_the_content_went() {
        let rendering = format!("<u>{}</u><a>{}</a>", marked("  hi ", 0), marked("you", 17));
        let read = Unmarked::read(&rendering);
        assert_eq!(read.text, "<u>  hi </u><a>you</a>");
        assert_eq!(read.content(0), (Some(5), Some(7)));
        assert_eq!(read.content(17), (Some(15), Some(18)));
        assert_eq!(read.content(1), (None, None));
    }

    #[test]
    fn a_row_cannot_forge_a_mark() {
        let forged = marked("x", 3);
        assert_eq!(Unmarked::read(&without_noncharacters(&forged)).marks, Vec::new());
    }

    #[test]
    fn spelling_stand_ins_survive_unmarking() {
        let text = format!("a{}b", spelling(300));
        assert_eq!(Unmarked::read(&text).text, text);
        assert_eq!(next_spelling(&text), Some((1, 300, text.len() - 1)));
    }
}
