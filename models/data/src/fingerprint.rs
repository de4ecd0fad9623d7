//! Hashes by which rows are recognised again: the same words in any case and spacing are equal.
//!
//! SHA-256, not the standard library's hasher, because a split must come out the same for every
//! version of the program that resumes a run.

use peft_plan::{Example, Role, Turn};
use sha2::{Digest, Sha256};

/// The first half of a hash; enough that two different texts do not meet.
pub(crate) type Key = u128;

/// Everything a row says.
pub(crate) fn of_example(example: &Example) -> Key {
    match example {
        Example::Text(text) => of_text(text),
        Example::Messages(turns) => of_turns(turns),
        Example::Preference { .. } | Example::Rated { .. } => {
            let mut hasher = Sha256::new();
            for part in example.parts() {
                hasher.update(of_turns(part).to_le_bytes());
            }
            if let Example::Rated { desirable, .. } = example {
                hasher.update([u8::from(*desirable)]);
            }
            first_half(hasher)
        }
    }
}

/// What a row asks: everything before the last answer; for text, the text.
///
/// A conversation that starts with its answer is known by the answer, or all of them would be one.
pub(crate) fn of_prompt(example: &Example) -> Key {
    match example {
        Example::Text(text) => of_text(text),
        Example::Messages(turns) => {
            let last = turns.iter().rposition(|turn| turn.role == Role::Assistant);
            let prompt = &turns[..last.unwrap_or(turns.len())];
            let asks = prompt.iter().any(|turn| turn.role != Role::System && !turn.is_blank());
            of_turns(if asks { prompt } else { turns })
        }
        Example::Preference { prompt, chosen: answer, .. } | Example::Rated { prompt, answer, .. } => {
            let asks = prompt.iter().any(|turn| turn.role != Role::System && !turn.content.trim().is_empty());
            of_turns(if asks { prompt } else { answer })
        }
    }
}

/// One text.
pub(crate) fn of_text(text: &str) -> Key {
    first_half(Sha256::new().chain_update(normalised(text)))
}

/// `seed` and `key` stirred together: a different order of keys for each seed.
pub(crate) fn seeded(seed: u64, key: Key) -> Key {
    first_half(Sha256::new().chain_update(seed.to_le_bytes()).chain_update(key.to_le_bytes()))
}

fn of_turns(turns: &[Turn]) -> Key {
    let mut hasher = Sha256::new();
    for turn in turns {
        hasher.update(turn.role.as_str());
        // Characters that the normalised text cannot hold keep the parts apart.
        hasher.update("\n");
        hasher.update(normalised(&turn.as_text()));
        hasher.update("\n");
    }
    first_half(hasher)
}

fn first_half(hasher: Sha256) -> Key {
    let digest = hasher.finalize();
    digest.iter().take(16).fold(0, |key, byte| key << 8 | Key::from(*byte))
}

/// Lower case, one space between words.
fn normalised(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !plain.is_empty() {
            plain.push(' ');
        }
        if word.is_ascii() {
            plain.extend(word.chars().map(|c| c.to_ascii_lowercase()));
        } else {
            plain.push_str(&word.to_lowercase());
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn talk(turns: &[(Role, &str)]) -> Example {
        Example::Messages(turns.iter().map(|(role, text)| Turn::new(*role, *text)).collect())
    }

    #[test]
    fn case_and_spacing_do_not_count_and_words_do() {
        assert_eq!(of_text("  Größe\n und  MASS "), of_text("größe und mass"));
        assert_ne!(of_text("a b"), of_text("ab"));
    }

    #[test]
    fn a_prompt_is_what_comes_before_the_last_answer() {
        let first = talk(&[(Role::User, "Why?"), (Role::Assistant, "Because")]);
        let other = talk(&[(Role::User, "why? "), (Role::Assistant, "No reason")]);
        assert_eq!(of_prompt(&first), of_prompt(&other));
        assert_ne!(of_example(&first), of_example(&other));
        let systems = [
            talk(&[(Role::System, "s"), (Role::Assistant, "a")]),
            talk(&[(Role::System, "s"), (Role::Assistant, "b")]),
        ];
        assert_ne!(of_prompt(&systems[0]), of_prompt(&systems[1]));
    }

    #[test]
    fn keys_do_not_change_between_versions() {
        assert_eq!(of_text("abc"), 0xba78_16bf_8f01_cfea_4141_40de_5dae_2223);
    }
}
