//! Text to the pieces that a tokenizer looks at one by one: GPT-2's expression and Llama 3's, by hand.
//!
//! A regular expression with a look ahead is run by an engine that goes back and forth; what these two say can be told
//! from one or two characters. What a letter, a digit or a space is, the tokenizer's own engine says, so that both
//! always agree.

use std::sync::{LazyLock, OnceLock};
use tokenizers::utils::SysRegex;

/// GPT-2's, which the step `ByteLevel` has built in.
const GPT_2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// Llama 3's with digits by threes, and Qwen 2's with digits one by one.
const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN_2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// An expression that is known by heart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expression {
    /// GPT-2's.
    Gpt2,
    /// Llama 3's and those like it.
    Llama3 {
        /// How many digits make a piece.
        digits: usize,
    },
}

impl Expression {
    /// The one that is written like this.
    pub(crate) fn of(pattern: &str) -> Option<Self> {
        match pattern {
            GPT_2 => Some(Self::Gpt2),
            LLAMA_3 => Some(Self::Llama3 { digits: 3 }),
            QWEN_2 => Some(Self::Llama3 { digits: 1 }),
            _ => None,
        }
    }

    /// The pieces of `text`, in order and without gaps.
    pub(crate) fn pieces(self, text: &str, mut take: impl FnMut(&str)) {
        let mut at = 0;
        while at < text.len() {
            let end = match self {
                Self::Gpt2 => end_by_gpt2(text, at),
                Self::Llama3 { digits } => end_by_llama3(text, at, digits),
            };
            take(&text[at..end]);
            at = end;
        }
    }
}

fn end_by_gpt2(text: &str, at: usize) -> usize {
    if let Some(end) = contraction(text, at, false) {
        return end;
    }
    let start = behind_space(text, at);
    match class(text, start) {
        Some((next, _)) if !next.is_space() => run(text, start, |class| class == next),
        _ => end_of_spaces(text, at),
    }
}

fn end_by_llama3(text: &str, at: usize, digits: usize) -> usize {
    if let Some(end) = contraction(text, at, true) {
        return end;
    }
    let Some((first, width)) = class(text, at) else { return text.len() };
    let may_lead = !matches!(first, Class::Letter | Class::Number | Class::Line);
    let start = if may_lead { at + width } else { at };
    if class(text, start).is_some_and(|(next, _)| next == Class::Letter) {
        return run(text, start, |class| class == Class::Letter);
    }
    if first == Class::Number {
        let mut end = at;
        for _ in 0..digits {
            match class(text, end) {
                Some((Class::Number, width)) => end += width,
                _ => break,
            }
        }
        return end;
    }
    let start = behind_space(text, at);
    if class(text, start).is_some_and(|(next, _)| next == Class::Other) {
        let end = run(text, start, |class| class == Class::Other);
        return run(text, end, |class| class == Class::Line);
    }
    let end = run(text, at, Class::is_space);
    match text[at..end].rfind(['\r', '\n']) {
        Some(line) => at + line + 1,
        None => end_of_spaces(text, at),
    }
}

/// Where `'s` and the like end, if there is one at `at`.
fn contraction(text: &str, at: usize, any_case: bool) -> Option<usize> {
    let mut characters = text[at..].strip_prefix('\'')?.chars();
    // Of all that is written in one case or the other, only the long s is not ASCII.
    let mut next = || {
        let c = characters.next()?;
        Some(if any_case { if c == 'ſ' { 's' } else { c.to_ascii_lowercase() } } else { c })
    };
    match next()? {
        's' => Some(if text[at + 1..].starts_with('ſ') { at + 3 } else { at + 2 }),
        't' | 'm' | 'd' => Some(at + 2),
        'r' | 'v' => (next()? == 'e').then_some(at + 3),
        'l' => (next()? == 'l').then_some(at + 3),
        _ => None,
    }
}

/// Behind the one space that goes with the word after it.
fn behind_space(text: &str, at: usize) -> usize {
    at + usize::from(text.as_bytes()[at] == b' ')
}

/// The end of the spaces at `at`, without the last one if something comes behind it and others before.
fn end_of_spaces(text: &str, at: usize) -> usize {
    let end = run(text, at, Class::is_space);
    if end == text.len() {
        return end;
    }
    let last = text[at..end].char_indices().next_back().map_or(at, |(last, _)| at + last);
    if last > at { last } else { end }
}

/// The end of all characters from `at` on that are `wanted`.
fn run(text: &str, mut at: usize, wanted: impl Fn(Class) -> bool) -> usize {
    while let Some((class, width)) = class(text, at)
        && wanted(class)
    {
        at += width;
    }
    at
}

/// What the expressions tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Letter,
    Number,
    /// A space that ends no line.
    Space,
    /// A line feed or a carriage return.
    Line,
    Other,
}

impl Class {
    fn is_space(self) -> bool {
        matches!(self, Self::Space | Self::Line)
    }
}

/// Characters whose classes are found out together.
const BLOCK: usize = 256;

/// The classes of all characters, block by block as they are met.
static BLOCKS: [OnceLock<Box<[Class; BLOCK]>>; 0x11_0000 / BLOCK] = [const { OnceLock::new() }; 0x11_0000 / BLOCK];

/// The class of the character at `at` and its bytes; `None` at the end.
fn class(text: &str, at: usize) -> Option<(Class, usize)> {
    let byte = *text.as_bytes().get(at)?;
    let (code, width) = if byte.is_ascii() {
        (usize::from(byte), 1)
    } else {
        let c = text[at..].chars().next()?;
        (c as usize, c.len_utf8())
    };
    Some((BLOCKS[code / BLOCK].get_or_init(|| classes_of(code / BLOCK))[code % BLOCK], width))
}

/// The classes of a block, by the tokenizer's own engine.
fn classes_of(block: usize) -> Box<[Class; BLOCK]> {
    static KINDS: LazyLock<Vec<(SysRegex, Class)>> = LazyLock::new(|| {
        let kind = |(pattern, class)| (SysRegex::new(pattern).expect("an expression of one class is one"), class);
        [(r"\p{L}", Class::Letter), (r"\p{N}", Class::Number), (r"\s", Class::Space), (r"[\r\n]", Class::Line)]
            .map(kind)
            .into()
    });
    let mut classes = Box::new([Class::Other; BLOCK]);
    let (mut text, mut places) = (String::new(), std::collections::HashMap::new());
    for (place, code) in (block * BLOCK..(block + 1) * BLOCK).enumerate() {
        if let Some(c) = char::from_u32(code as u32) {
            places.insert(text.len(), place);
            text.push(c);
        }
    }
    for (expression, class) in KINDS.iter() {
        for (start, _) in expression.find_iter(&text) {
            if let Some(place) = places.get(&start) {
                classes[*place] = *class;
            }
        }
    }
    classes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn by_engine(pattern: &str, text: &str) -> Vec<String> {
        let expression = SysRegex::new(pattern).expect("an expression");
        expression.find_iter(text).map(|(start, end)| text[start..end].to_owned()).collect()
    }

    fn by_hand(pattern: &str, text: &str) -> Vec<String> {
        let mut pieces = Vec::new();
        Expression::of(pattern).expect("a known one").pieces(text, |piece| pieces.push(piece.to_owned()));
        pieces
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn pieces_are_those_of_the_engine(
            // Crowded with what decides: spaces of every kind, line ends, apostrophes, digits, marks, letters.
            crowded in "[ \\t\\r\\n\u{a0}\u{2003}\u{85}'srevSREVLltTmMdDſK1٣Ⅷ½,.!_aÀß中あ\u{301}\u{93f}😀\u{200d}]{0,24}",
            any in any::<String>(),
        ) {
            for pattern in [GPT_2, LLAMA_3, QWEN_2] {
                prop_assert_eq!(by_hand(pattern, &crowded), by_engine(pattern, &crowded));
                prop_assert_eq!(by_hand(pattern, &any), by_engine(pattern, &any));
            }
        }
    }

    #[test]
    fn every_character_is_of_the_class_that_the_engine_says() {
        let all: String = ('\0'..=char::MAX).flat_map(|c| [c, '\n']).collect();
        for pattern in [GPT_2, QWEN_2] {
            assert!(by_hand(pattern, &all) == by_engine(pattern, &all), "{pattern}");
        }
        assert!(Expression::of(r"\w+").is_none());
    }
}
