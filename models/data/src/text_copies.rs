//! Texts that say the same, exactly or nearly, among texts that are never all in memory.

use crate::duplicates::{Near, Words, repeated};
use peft_plan::Example;
use std::collections::HashSet;

/// Takes texts one by one and remembers a few bytes of each.
#[derive(Default)]
pub struct TextCopies {
    words: Words,
    keys: Vec<u64>,
    near: Near,
}

/// Which texts are copies; texts are counted from 0 in the order they came in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copies {
    /// A text, and the earlier one that says the same up to case and spacing.
    pub exact: Vec<(usize, usize)>,
    /// Groups of texts that are nearly the same, largest first, without exact copies.
    pub near: Vec<Vec<usize>>,
}

impl TextCopies {
    /// Take the next text.
    pub fn add(&mut self, text: &str) {
        let index = self.keys.len() as u32;
        self.words.of(&Example::Text(text.to_owned()));
        self.keys.push(self.words.key);
        self.near.add(index, &self.words);
    }

    /// What was found among all of them.
    pub fn finish(&self) -> Copies {
        let exact = repeated(&self.keys);
        let repeats: HashSet<u32> = exact.iter().map(|(place, _)| *place).collect();
        let near = self.near.groups(&|place| repeats.contains(&place));
        Copies {
            exact: exact.into_iter().map(|(place, first)| (place as usize, first as usize)).collect(),
            near: near.into_iter().map(|group| group.into_iter().map(|place| place as usize).collect()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_told_from_near_copies_and_from_others() {
        let story: Vec<String> = (0..80).map(|number| format!("word{}", number * 7919 % 1009)).collect();
        let story = story.join(" ");
        let mut copies = TextCopies::default();
        for text in [&story, "something else", &format!("{story} more"), &story.to_uppercase()] {
            copies.add(text);
        }
        assert_eq!(copies.finish(), Copies { exact: vec![(3, 0)], near: vec![vec![0, 2]] });
    }
}
