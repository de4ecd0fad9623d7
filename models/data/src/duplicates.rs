//! Rows that say the same: exactly (up to case and spacing), or nearly.
//!
//! Near copies are found with `MinHash` over runs of five words and banded buckets: rows that
//! share a bucket are compared by signature, so the work grows with the number of rows and not
//! with its square. Both the number of rows and the words of each are bounded.

use crate::fingerprint::{Key, of_example};
use peft_plan::{Example, Row};
use std::collections::HashMap;

/// Rows compared for near copies; later ones are not.
pub(crate) const COMPARED: usize = 100_000;

/// Words of a row that are compared.
const WORDS: usize = 512;

/// Words in a run.
const RUN: usize = 5;

/// Rows with fewer runs are too short to call nearly the same.
const FEWEST_RUNS: usize = 4;

/// Values in a signature, in [`BANDS`] bands.
const VALUES: usize = 64;
const BANDS: usize = 8;

/// Equal values that make two rows near copies: an estimated overlap of 0.9.
const ALIKE: usize = 58;

/// For each row, the index of the earlier row it is an exact copy of.
pub(crate) fn exact(rows: &[Row]) -> Vec<Option<usize>> {
    let mut seen: HashMap<Key, usize> = HashMap::with_capacity(rows.len());
    let earlier = |(index, row): (usize, &Row)| match seen.entry(of_example(&row.example)) {
        std::collections::hash_map::Entry::Occupied(first) => Some(*first.get()),
        std::collections::hash_map::Entry::Vacant(place) => {
            place.insert(index);
            None
        }
    };
    rows.iter().enumerate().map(earlier).collect()
}

/// How many rows are exact copies of an earlier one.
pub fn copies(rows: &[Row]) -> usize {
    exact(rows).iter().flatten().count()
}

/// Groups of near copies of at least two rows, largest first; exact copies are passed over.
pub(crate) fn near(rows: &[Row], copies: &[Option<usize>]) -> Vec<Vec<usize>> {
    let permutations = permutations();
    let mut signatures: Vec<(usize, [u32; VALUES])> = Vec::new();
    let mut buckets: HashMap<(usize, u64), usize> = HashMap::new();
    let mut leader: Vec<usize> = Vec::new();
    let distinct = (0..rows.len()).filter(|index| copies.get(*index).is_none_or(Option::is_none));
    for index in distinct.take(COMPARED) {
        let Some(signature) = signature(&rows[index].example, &permutations) else { continue };
        let place = signatures.len();
        leader.push(place);
        for (band, values) in signature.chunks_exact(VALUES / BANDS).enumerate() {
            let hash = values.iter().fold(0_u64, |hash, value| mix(hash ^ u64::from(*value)));
            let known = *buckets.entry((band, hash)).or_insert(place);
            let same = |(a, b): (&u32, &u32)| a == b;
            if known != place && signatures[known].1.iter().zip(&signature).filter(|pair| same(*pair)).count() >= ALIKE
            {
                let (a, b) = (root(&mut leader, known), root(&mut leader, place));
                leader[a.max(b)] = a.min(b);
            }
        }
        signatures.push((index, signature));
    }
    let mut groups: HashMap<usize, Vec<usize>> = HashMap::new();
    for (place, (index, _)) in signatures.iter().enumerate() {
        groups.entry(root(&mut leader, place)).or_default().push(*index);
    }
    let mut groups: Vec<Vec<usize>> = groups.into_values().filter(|group| group.len() > 1).collect();
    groups.sort_unstable_by_key(|group| (std::cmp::Reverse(group.len()), group[0]));
    groups
}

/// The first row of a group; the way there is halved, so that chains stay short.
fn root(leader: &mut [usize], mut place: usize) -> usize {
    while leader[place] != place {
        leader[place] = leader[leader[place]];
        place = leader[place];
    }
    place
}

/// The smallest hash of any run of words, under each permutation.
fn signature(example: &Example, permutations: &[(u64, u64); VALUES]) -> Option<[u32; VALUES]> {
    let words = example.texts().flat_map(str::split_whitespace).take(WORDS);
    let words: Vec<u64> = words.map(hash_of_word).collect();
    if words.len() < RUN + FEWEST_RUNS - 1 {
        return None;
    }
    let mut smallest = [u32::MAX; VALUES];
    for run in words.windows(RUN) {
        let run = run.iter().fold(0_u64, |hash, word| mix(hash ^ *word));
        for (value, (factor, offset)) in smallest.iter_mut().zip(permutations) {
            let permuted = (run.wrapping_mul(*factor).wrapping_add(*offset) >> 32) as u32;
            *value = (*value).min(permuted);
        }
    }
    Some(smallest)
}

/// FNV-1a over the letters and digits of a word, in lower case.
fn hash_of_word(word: &str) -> u64 {
    let letters = word.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase);
    letters.fold(0xcbf2_9ce4_8422_2325, |hash, letter| {
        (hash ^ u64::from(u32::from(letter))).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The finaliser of `SplitMix64`.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

fn permutations() -> [(u64, u64); VALUES] {
    std::array::from_fn(|index| (mix(2 * index as u64) | 1, mix(2 * index as u64 + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(texts: &[String]) -> Vec<Row> {
        let row = |(line, text): (usize, &String)| Row { file: 0, line, example: Example::Text(text.clone()) };
        texts.iter().enumerate().map(row).collect()
    }

    fn text(seed: u64, words: usize) -> String {
        let word = |n: usize| format!("w{}", mix(seed << 20 | n as u64) % 5_000);
        (0..words).map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn copies_point_to_the_first() {
        let rows = rows(&["A b".into(), "c".into(), "a  B".into(), "c".into()]);
        assert_eq!(exact(&rows), [None, None, Some(0), Some(1)]);
    }

    #[test]
    fn near_copies_are_grouped_and_different_rows_are_not() {
        let mut texts: Vec<String> = (0..60).map(|seed| text(seed, 120)).collect();
        for base in [3, 3, 3, 10] {
            let changed = format!("{} appended{}", texts[base], texts.len());
            texts.push(changed);
        }
        let rows = rows(&texts);
        let groups = near(&rows, &exact(&rows));
        assert_eq!(groups, [vec![3, 60, 61, 62], vec![10, 63]]);
    }

    #[test]
    fn short_rows_and_exact_copies_are_passed_over() {
        let rows = rows(&["yes it is".into(), "yes it is not".into(), text(1, 50), text(1, 50)]);
        assert!(near(&rows, &exact(&rows)).is_empty());
    }
}
