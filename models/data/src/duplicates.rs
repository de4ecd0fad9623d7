//! Rows that say the same: exactly (up to case and spacing), or nearly.
//!
//! Near copies are found with `MinHash` over runs of five words and banded buckets: rows that share a bucket are
//! compared by a sketch of their signatures, so the work grows with the number of rows and not with its square. Of a
//! row 68 bytes are kept; both the number of rows and the words of each are bounded.

use crate::fingerprint::{Key, of_example};
use crate::row_defects::texts;
use peft_plan::{Example, Role, Row};
use std::collections::HashMap;

/// Rows compared for near copies; later ones are not.
pub(crate) const COMPARED: usize = 1_000_000;

/// Words of a row that are compared.
const WORDS: usize = 512;

/// Words in a run.
const RUN: usize = 5;

/// Rows with fewer runs are too short to call nearly the same.
const FEWEST_RUNS: usize = 4;

/// Values in a signature, in [`BANDS`] bands.
const VALUES: usize = 64;
const BANDS: usize = 8;

/// Equal values that make two rows near copies: an estimated overlap of 0.9. Sketches keep four bits of each value, so
/// one in sixteen of the others is equal by chance.
const ALIKE: u32 = 58;

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
    let mut near = Near::default();
    let mut words = Words::default();
    for (index, row) in rows.iter().enumerate() {
        if copies.get(index).is_none_or(Option::is_none) {
            words.of(&row.example);
            near.add(index as u32, &words);
        }
    }
    near.groups(&|_| false).into_iter().map(|group| group.into_iter().map(|index| index as usize).collect()).collect()
}

/// The words of a row as numbers, and of all of them one.
#[derive(Default)]
pub(crate) struct Words {
    /// Equal for rows that say the same up to case and spacing.
    pub(crate) key: u64,
    /// The same for the last answer of a conversation.
    pub(crate) answer: Option<u64>,
    hashes: Vec<u64>,
}

/// Where every hash begins.
const START: u64 = 0xcbf2_9ce4_8422_2325;

impl Words {
    /// Take the words of `example`.
    pub(crate) fn of(&mut self, example: &Example) {
        self.hashes.clear();
        self.key = START;
        self.answer = None;
        let mut turns = example.parts().into_iter().flatten();
        for text in texts(example) {
            let turn = turns.next();
            // The same words said by somebody else are another row.
            let speaker = turn.map_or(7, |turn| turn.role as u64);
            self.key = mix(self.key ^ speaker);
            let mut own = START;
            for word in text.split_whitespace() {
                let (whole, letters) = hash_of_word(word);
                own = mix(own.rotate_left(1) ^ whole);
                if self.hashes.len() < WORDS {
                    self.hashes.push(letters);
                }
            }
            self.key = mix(self.key ^ own);
            if turn.is_some_and(|turn| turn.role == Role::Assistant) {
                self.answer = Some(own);
            }
        }
    }
}

/// Everything that is kept of rows to find near copies among them.
#[derive(Default)]
pub(crate) struct Near {
    rows: Vec<u32>,
    bands: Vec<[u32; BANDS]>,
    sketches: Vec<[u64; 4]>,
}

impl Near {
    /// Whether there is no room for another row.
    pub(crate) fn is_full(&self) -> bool {
        self.rows.len() >= COMPARED
    }

    /// Remember row `index`, if it is long enough.
    pub(crate) fn add(&mut self, index: u32, words: &Words) {
        if self.is_full() {
            return;
        }
        let Some(signature) = signature(&words.hashes) else { return };
        let mut bands = [0; BANDS];
        for (band, values) in bands.iter_mut().zip(signature.chunks(VALUES / BANDS)) {
            *band = (values.iter().fold(0, |hash, value| mix(hash ^ u64::from(*value))) >> 32) as u32;
        }
        let mut sketch = [0; 4];
        for (at, value) in signature.iter().enumerate() {
            sketch[at / 16] |= u64::from(value & 15) << (4 * (at % 16));
        }
        self.rows.push(index);
        self.bands.push(bands);
        self.sketches.push(sketch);
    }

    /// Groups of at least two rows, largest first, without those that `is_passed_over`.
    pub(crate) fn groups(&self, is_passed_over: &dyn Fn(u32) -> bool) -> Vec<Vec<u32>> {
        let mut leader: Vec<u32> = (0..self.rows.len() as u32).collect();
        let mut order: Vec<(u32, u32)> = Vec::with_capacity(self.rows.len());
        for band in 0..BANDS {
            order.clear();
            order.extend(self.bands.iter().enumerate().map(|(place, bands)| (bands[band], place as u32)));
            order.sort_unstable();
            for bucket in order.chunk_by(|a, b| a.0 == b.0) {
                // Against the first and the one before: a bucket of one kind is joined as a whole.
                for pair in bucket.windows(2) {
                    for known in [bucket[0].1, pair[0].1] {
                        self.join(&mut leader, known, pair[1].1);
                    }
                }
            }
        }
        // Most rows are alone, and no group is made for them.
        let mut groups: HashMap<u32, Vec<u32>> = HashMap::new();
        for place in 0..leader.len() as u32 {
            let first = root(&mut leader, place);
            if first != place {
                groups.entry(first).or_insert_with(|| vec![first]).push(place);
            }
        }
        for group in groups.values_mut() {
            for place in group.iter_mut() {
                *place = self.rows[*place as usize];
            }
            group.retain(|row| !is_passed_over(*row));
        }
        let mut groups: Vec<Vec<u32>> = groups.into_values().filter(|group| group.len() > 1).collect();
        groups.sort_unstable_by_key(|group| (std::cmp::Reverse(group.len()), group[0]));
        groups
    }

    /// Put two rows into one group if they are alike.
    fn join(&self, leader: &mut [u32], known: u32, place: u32) {
        let alike: u32 = self.sketches[known as usize]
            .iter()
            .zip(&self.sketches[place as usize])
            .map(|(a, b)| equal_fours(a ^ b))
            .sum();
        if alike >= ALIKE {
            let (a, b) = (root(leader, known), root(leader, place));
            leader[a.max(b) as usize] = a.min(b);
        }
    }
}

/// How many of the sixteen groups of four bits are all zero.
fn equal_fours(difference: u64) -> u32 {
    let any = difference | difference >> 1 | difference >> 2 | difference >> 3;
    16 - (any & 0x1111_1111_1111_1111).count_ones()
}

/// The first row of a group; the way there is halved, so that chains stay short.
fn root(leader: &mut [u32], mut place: u32) -> u32 {
    while leader[place as usize] != place {
        leader[place as usize] = leader[leader[place as usize] as usize];
        place = leader[place as usize];
    }
    place
}

/// The smallest hash of any run of words, under each permutation.
fn signature(words: &[u64]) -> Option<[u32; VALUES]> {
    const PERMUTATIONS: [(u32, u32); VALUES] = permutations();
    if words.len() < RUN + FEWEST_RUNS - 1 {
        return None;
    }
    let mut smallest = [u32::MAX; VALUES];
    for run in words.windows(RUN) {
        let run = (run.iter().fold(0_u64, |hash, word| mix(hash ^ *word)) >> 32) as u32;
        for (value, (factor, offset)) in smallest.iter_mut().zip(&PERMUTATIONS) {
            let permuted = run.wrapping_mul(*factor).wrapping_add(*offset);
            // The high bits of a product are the well stirred ones, and they decide.
            *value = (*value).min(permuted ^ permuted >> 15);
        }
    }
    Some(smallest)
}

/// Hashes of a word in lower case: of all of it, and without punctuation around it.
fn hash_of_word(word: &str) -> (u64, u64) {
    if !word.is_ascii() && word.chars().any(|c| !has_no_case(c)) {
        let lower = word.to_lowercase();
        return (hash_of_bytes(lower.as_bytes()), hash_of_bytes(core_of(&lower).as_bytes()));
    }
    let whole = hash_of_bytes(word.as_bytes());
    let core = core_of(word);
    (whole, if core.len() == word.len() { whole } else { hash_of_bytes(core.as_bytes()) })
}

/// Whether lower case leaves a character as it is, for the ranges where that is known without a table; ASCII is
/// looked after by [`hash_of_bytes`].
fn has_no_case(c: char) -> bool {
    matches!(c, '\0'..='\u{7f}' | 'ß'..='ÿ' | '\u{430}'..='\u{44f}' | '\u{2000}'..='\u{206f}' | '\u{3040}'..='\u{9fff}')
}

/// A word without what is no letter or digit at its ends.
fn core_of(word: &str) -> &str {
    let bytes = word.as_bytes();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric();
    if bytes.first().is_some_and(plain) && bytes.last().is_some_and(plain) {
        return word;
    }
    word.trim_matches(|c: char| !c.is_alphanumeric())
}

/// A hash of bytes, with the capital letters of ASCII as small ones, eight at a time.
fn hash_of_bytes(bytes: &[u8]) -> u64 {
    let step = |hash: u64, piece: u64| (hash ^ small(piece)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    let mut hash = START ^ bytes.len() as u64;
    let (pieces, rest) = bytes.as_chunks::<8>();
    for piece in pieces {
        hash = step(hash, u64::from_le_bytes(*piece));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(step(hash, u64::from_le_bytes(last)))
}

/// Eight bytes with the capital letters of ASCII as small ones.
fn small(bytes: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let low = bytes & (0x7F * ONES);
    let at_least_a = low + (0x80 - b'A' as u64) * ONES;
    let beyond_z = low + (0x7F - b'Z' as u64) * ONES;
    let capital = !bytes & (at_least_a ^ beyond_z) & (0x80 * ONES);
    bytes | capital >> 2
}

/// The finaliser of `SplitMix64`.
const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

const fn permutations() -> [(u32, u32); VALUES] {
    let mut all = [(0, 0); VALUES];
    let mut at = 0;
    while at < VALUES {
        all[at] = (mix(2 * at as u64) as u32 | 1, mix(2 * at as u64 + 1) as u32);
        at += 1;
    }
    all
}

/// Of equal keys, the places of all but the first, each with the place of the first; in order.
pub(crate) fn repeated(keys: &[u64]) -> Vec<(u32, u32)> {
    let mut order: Vec<u32> = (0..keys.len() as u32).collect();
    order.sort_unstable_by_key(|place| (keys[*place as usize], *place));
    let mut repeated = Vec::new();
    for same in order.chunk_by(|a, b| keys[*a as usize] == keys[*b as usize]) {
        repeated.extend(same.iter().skip(1).map(|place| (*place, same[0])));
    }
    repeated.sort_unstable();
    repeated
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

    #[test]
    fn case_and_spacing_do_not_count_and_brackets_do() {
        let key = |text: &str| {
            let mut words = Words::default();
            words.of(&Example::Text(text.to_owned()));
            words.key
        };
        assert_eq!(key("  GRÖSSE\tand Mass [X]"), key("grösse and mass [x]"));
        assert_ne!(key("f[x]"), key("f{x}"));
        assert_ne!(key("ab c"), key("a bc"));
        assert_ne!(key("@"), key("`"));
        let (whole, core) = hash_of_word("(Wort),");
        assert_eq!(core, hash_of_word("wort").0);
        assert_ne!(whole, core);
    }
}
