//! What the length of a chunk is measured in.

/// Bytes of text that one unit is at most, for a first look at how far some units reach.
pub(crate) const BYTES_PER_UNIT: usize = 16;

/// A measure of text. Longer text is never shorter by it, up to what a tokenizer does at a seam.
pub trait Ruler {
    /// The length of `text`.
    fn length(&self, text: &str) -> usize;

    /// How many bytes of the beginning of `text` are at most `units` long; a boundary of characters, and at least one
    /// character where there is one.
    fn head(&self, text: &str, units: usize) -> usize {
        let longest = boundary_before(text, units.saturating_mul(BYTES_PER_UNIT).max(64));
        let fits = |bytes: usize| self.length(&text[..bytes]) <= units;
        if fits(longest) {
            return longest;
        }
        let (mut good, mut bad) = (0, longest);
        while bad - good > 1 {
            let middle = boundary_before(text, good + (bad - good) / 2);
            if middle == good {
                // No boundary in the lower half: the next one above decides.
                let above = boundary_after(text, good + 1);
                if above >= bad || !fits(above) {
                    break;
                }
                good = above;
            } else if fits(middle) {
                good = middle;
            } else {
                bad = middle;
            }
        }
        if good == 0 { boundary_after(text, 1) } else { good }
    }

    /// Where the end of `text` begins that is at most `units` long.
    fn tail(&self, text: &str, units: usize) -> usize {
        let mut start = boundary_after(text, text.len().saturating_sub(units.saturating_mul(BYTES_PER_UNIT)));
        // Halving what is left is enough: an overlap is a wish, not a promise.
        while start < text.len() && self.length(&text[start..]) > units {
            start = boundary_after(text, start + (text.len() - start).div_ceil(4));
        }
        start
    }
}

/// Unicode characters.
#[derive(Clone, Copy, Debug, Default)]
pub struct Characters;

impl Ruler for Characters {
    fn length(&self, text: &str) -> usize {
        text.chars().count()
    }

    fn head(&self, text: &str, units: usize) -> usize {
        text.char_indices().nth(units.max(1)).map_or(text.len(), |(at, _)| at)
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
                let head = ruler.head(&text, units);
                prop_assert!(head > 0);
                let first = text.chars().next().map_or(0, char::len_utf8);
                prop_assert!(head == first || ruler.length(&text[..head]) <= units);
                let tail = ruler.tail(&text, units);
                prop_assert!(ruler.length(&text[tail..]) <= units);
            }
        }

        #[test]
        fn a_head_could_not_be_longer(text in "[a-zäöü€𝄞 ]{1,80}", units in 2_usize..40) {
            let ruler = thirds();
            let head = ruler.head(&text, units);
            if let Some(next) = text[head..].chars().next() {
                prop_assert!(ruler.length(&text[..head + next.len_utf8()]) > units);
            }
        }
    }
}
