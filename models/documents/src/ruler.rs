//! What the length of a chunk is measured in.

/// Bytes of text that one unit is taken for before anything was measured.
const USUAL_BYTES: usize = 4;

/// How many times a length is guessed by what was measured so far, before halving finds it for certain.
const GUESSES: usize = 6;

/// A cut that leaves out less than one part in this many is good enough: to measure is what costs.
const FINE: usize = 64;

/// A measure of text. Longer text is never shorter by it, up to what a tokenizer does at a seam.
pub trait Ruler {
    /// The length of `text`.
    fn length(&self, text: &str) -> usize;

    /// The beginning of `text` that is at most `units` long, as bytes and units: all of it where it fits, else a cut
    /// between words where there is one in the second half, and at least one character.
    fn head(&self, text: &str, units: usize) -> (usize, usize) {
        let most = text.len();
        let mut good = (0, 0);
        // A reach that fits, and one that does not.
        let (mut low, mut high) = (0, most + 1);
        let mut next = units.saturating_mul(USUAL_BYTES).max(64).min(most);
        for guess in 0.. {
            let cut = cut_before(text, next);
            // Between the same two words there is nothing to measure.
            if cut > good.0 {
                let length = self.length(&text[..cut]);
                if length > units {
                    high = cut.max(low + 1);
                } else {
                    (good, low) = ((cut, length), next);
                    if cut == most || (units - length) * FINE < units {
                        return good;
                    }
                }
                // A little less than what the measure says: the next word may be longer.
                let aim = cut as u64 * units as u64 / length.max(1) as u64;
                next = (aim - aim / (4 * FINE as u64)).min(most as u64) as usize;
            } else {
                low = next;
            }
            if high <= low + 1 {
                break;
            }
            if guess >= GUESSES || cut <= good.0 && low == next {
                next = low + (high - low) / 2;
            }
            next = next.clamp(low + 1, high - 1);
        }
        if good.0 > 0 {
            return good;
        }
        let one = boundary_after(text, 1);
        (one, self.length(&text[..one]))
    }

    /// Where the end of `text` begins that is at most `units` long.
    fn tail(&self, text: &str, units: usize) -> usize {
        let mut start = boundary_after(text, text.len().saturating_sub(units.saturating_mul(USUAL_BYTES)));
        // The first that fits is enough: an overlap is a wish, not a promise.
        loop {
            let bytes = text.len() - start;
            let length = self.length(&text[start..]);
            if length <= units || bytes == 0 {
                return start;
            }
            let aim = (bytes as u64 * units as u64 / length as u64) as usize;
            start = boundary_after(text, text.len() - aim.min(bytes - 1));
        }
    }
}

/// Unicode characters.
#[derive(Clone, Copy, Debug, Default)]
pub struct Characters;

impl Ruler for Characters {
    fn length(&self, text: &str) -> usize {
        text.chars().count()
    }

    fn head(&self, text: &str, units: usize) -> (usize, usize) {
        match text.char_indices().nth(units.max(1)) {
            None => (text.len(), self.length(text)),
            Some((reach, _)) => {
                let cut = between_words(text, reach);
                (cut, self.length(&text[..cut]))
            }
        }
    }

    fn tail(&self, text: &str, units: usize) -> usize {
        if units == 0 {
            return text.len();
        }
        text.char_indices().nth_back(units - 1).map_or(0, |(at, _)| at)
    }
}

/// Tokens, counted by somebody who knows the tokenizer.
pub struct Tokens<F>(pub F);

impl<F: Fn(&str) -> usize> Ruler for Tokens<F> {
    fn length(&self, text: &str) -> usize {
        (self.0)(text)
    }
}

/// Where to cut at or before `at`: between words, else between characters.
fn cut_before(text: &str, at: usize) -> usize {
    let reach = boundary_before(text, at);
    if reach == text.len() { reach } else { between_words(text, reach) }
}

/// A place between words at or before `reach`, if there is one in its second half.
fn between_words(text: &str, reach: usize) -> usize {
    let space = text[..reach].rfind(char::is_whitespace);
    let behind = space.map(|at| at + text[at..].chars().next().map_or(1, char::len_utf8));
    behind.filter(|at| *at * 2 >= reach).unwrap_or(reach)
}

/// The last boundary of characters at or before `at`.
fn boundary_before(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// The first boundary of characters at or after `at`.
fn boundary_after(text: &str, at: usize) -> usize {
    (at..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A made-up tokenizer: three bytes a token.
    fn thirds() -> Tokens<impl Fn(&str) -> usize> {
        Tokens(|text: &str| text.len().div_ceil(3))
    }

    proptest! {
        #[test]
        fn heads_and_tails_are_as_long_as_asked(text in "[a-zäöü€𝄞 ]{1,80}", units in 1_usize..40) {
            for ruler in [&Characters as &dyn Ruler, &thirds()] {
                let (head, length) = ruler.head(&text, units);
                prop_assert!(head > 0);
                prop_assert_eq!(length, ruler.length(&text[..head]));
                let first = text.chars().next().map_or(0, char::len_utf8);
                prop_assert!(head == first || length <= units);
                let tail = ruler.tail(&text, units);
                prop_assert!(ruler.length(&text[tail..]) <= units);
            }
        }

        #[test]
        fn a_head_is_all_or_more_than_half_of_what_would_fit(text in "[a-zäöü€𝄞 ]{1,300}", units in 2_usize..200) {
            let ruler = thirds();
            let (head, length) = ruler.head(&text, units);
            let whole = ruler.length(&text);
            let is_enough = if whole <= units { head == text.len() } else { length * 2 + 2 >= units };
            prop_assert!(is_enough, "{} of {} units", length, units);
        }
    }

    #[test]
    fn a_head_is_found_in_a_few_measures() {
        let text = "some words of no meaning ".repeat(10_000);
        let measured = std::cell::Cell::new(0);
        let ruler = Tokens(|text: &str| {
            measured.set(measured.get() + text.len());
            text.len().div_ceil(3)
        });
        let (head, length) = ruler.head(&text, 500);
        assert!(text[..head].ends_with(' ') && (490..=500).contains(&length), "{head} bytes, {length} units");
        assert!(measured.get() < 3 * head, "{} bytes were measured for {head}", measured.get());
    }
}
