//! Strings that end an answer: found wherever tokens cut them, and no part of one is ever shown.

use peft_plan::{Fault, Result};

/// Most stop strings, and the longest of them in bytes: more is a mistake, and each is compared with every piece.
const MOST: usize = 64;
const LONGEST: usize = 1024;

/// Looks for stop strings in a text that comes in pieces.
#[derive(Clone, Debug, Default)]
pub struct StopStrings {
    stops: Vec<String>,
    /// The end of the text that may be the beginning of a stop string.
    held: String,
}

/// What a piece of text brings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Text that can be shown.
    pub text: String,
    /// A stop string is complete; nothing after it counts.
    pub ended: bool,
}

impl StopStrings {
    /// PS-CFG-001 for a stop string that is empty, which would end every answer before it began.
    pub fn new(stops: &[String]) -> Result<Self> {
        if stops.iter().any(String::is_empty) {
            return Err(Fault::new("PS-CFG-001", "A stop string is empty; it would end every answer before it begins"));
        }
        if stops.len() > MOST || stops.iter().any(|stop| stop.len() > LONGEST) {
            return Err(Fault::new(
                "PS-CFG-001",
                format!("There can be {MOST} stop strings of at most {LONGEST} bytes each"),
            ));
        }
        Ok(Self { stops: stops.to_vec(), held: String::new() })
    }

    /// The next piece of the text.
    pub fn push(&mut self, piece: &str) -> Shown {
        self.held.push_str(piece);
        let found = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        if let Some(at) = found {
            let text = self.held[..at].to_owned();
            self.held.clear();
            return Shown { text, ended: true };
        }
        let keep = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let kept = self.held.split_off(self.held.len() - keep);
        Shown { text: std::mem::replace(&mut self.held, kept), ended: false }
    }

    /// The text is over: what was held back was no stop string after all.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Bytes of the longest end of `text` that `stop` begins with.
fn overlap(text: &str, stop: &str) -> usize {
    let longest = (stop.len() - 1).min(text.len());
    (1..=longest).rev().find(|&n| stop.is_char_boundary(n) && text.ends_with(&stop[..n])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn strings(stops: &[&str]) -> StopStrings {
        StopStrings::new(&stops.iter().map(|&s| s.to_owned()).collect::<Vec<_>>()).expect("good")
    }

    #[test]
    fn a_stop_string_across_pieces_is_found_and_never_shown() {
        let mut stops = strings(&["\nUser:", "END"]);
        assert_eq!(stops.push("Hi\n"), Shown { text: "Hi".to_owned(), ended: false });
        assert_eq!(stops.push("Us"), Shown::default());
        assert_eq!(stops.push("es\nUser"), Shown { text: "\nUses".to_owned(), ended: false });
        assert_eq!(stops.push(": what"), Shown { text: String::new(), ended: true });
    }

    #[test]
    fn what_was_held_back_comes_at_the_end() {
        let mut stops = strings(&["STOP"]);
        assert_eq!(stops.push("it ST").text, "it ");
        assert_eq!(stops.finish(), "ST");
    }

    #[test]
    fn an_empty_stop_string_is_refused() {
        for bad in [vec![String::new()], vec!["a".to_owned(), String::new()], vec!["x".repeat(LONGEST + 1)]] {
            assert_eq!(StopStrings::new(&bad).expect_err("refused").code, "PS-CFG-001");
        }
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in "[aböc]{0,24}", stops in proptest::collection::vec("[aböc]{1,4}", 0..3),
                                cuts in proptest::collection::vec(0usize..24, 0..6)) {
            let mut ends: Vec<usize> = cuts.into_iter().map(|c| c.min(text.len())).filter(|&c| text.is_char_boundary(c)).collect();
            ends.push(text.len());
            ends.sort_unstable();
            let mut found = StopStrings::new(&stops).expect("good");
            let (mut shown, mut from, mut ended) = (String::new(), 0, false);
            for end in ends {
                let part = found.push(&text[from..end]);
                shown.push_str(&part.text);
                from = end;
                // What is shown never ends in something that could have become a stop string.
                prop_assert!(!stops.iter().any(|stop| shown.contains(stop.as_str())));
                ended = part.ended;
                if ended { break; }
            }
            if !ended { shown.push_str(&found.finish()); }
            // The first stop string to be complete decides, whatever the pieces: here any that ends the earliest.
            prop_assert_eq!(ended, stops.iter().any(|stop| text.contains(stop.as_str())));
            prop_assert!(text.starts_with(&shown));
        }
    }
}
