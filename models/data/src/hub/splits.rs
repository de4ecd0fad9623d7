//! Which files belong to which split, from their names, and in which order.
//!
//! The rules are those of the hub: `train`, `test` and `validation` (and their relatives) as words in names of files or
//! folders; `data/NAME-00000-of-00001` for other names; without any such word everything is `train`.

use regex::Regex;
use std::cmp::Ordering;
use std::sync::LazyLock;

/// Splits with the words that mean them.
const WORDS: &[(&str, &[&str])] = &[
    ("train", &["train", "training"]),
    ("validation", &["validation", "valid", "dev", "val"]),
    ("test", &["test", "testing", "eval", "evaluation"]),
];

/// Kinds of files that hold examples, the best first where one dataset comes in several.
const KINDS: &[&str] = &["parquet", "jsonl", "ndjson", "json", "csv", "tsv", "txt", "md"];

static SHARD: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?:^|/)([\w.]+?)-\d{5}-of-\d{5}[^/]*$").expect("a constant pattern that a test compiles")
});

/// Files that describe a dataset and hold no examples.
const PAPERS: &[&str] =
    &["readme.md", "license.txt", "license.md", "dataset_infos.json", "dataset_info.json", "requirements.txt"];

/// The kind of a file by its name; `rows.jsonl.gz` is `jsonl`.
fn kind(file: &str) -> Option<&'static str> {
    let name = file.rsplit('/').next().unwrap_or(file).to_lowercase();
    if PAPERS.contains(&name.as_str()) {
        return None;
    }
    let plain = [".gz", ".zst"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
    KINDS.iter().find(|kind| plain.ends_with(&format!(".{kind}"))).copied()
}

/// Whether a file may hold examples.
pub(super) fn holds_examples(file: &str) -> bool {
    kind(file).is_some()
}

/// Every split that the names of `files` speak of, with its files.
pub(super) fn infer(files: &[String]) -> Vec<(String, Vec<String>)> {
    let files: Vec<&String> = files.iter().filter(|file| holds_examples(file)).collect();
    let mut splits: Vec<(String, Vec<String>)> = Vec::new();
    let mut unnamed = Vec::new();
    for file in files {
        match split_of(file) {
            Some(split) => match splits.iter_mut().find(|(name, _)| *name == split) {
                Some((_, files)) => files.push(file.clone()),
                None => splits.push((split, vec![file.clone()])),
            },
            None => unnamed.push(file.clone()),
        }
    }
    // Beside files with a name, those without one are something else.
    if splits.is_empty() && !unnamed.is_empty() {
        splits.push(("train".to_owned(), unnamed));
    }
    splits
}

/// The split that a name speaks of: the word nearest to its end counts.
pub(crate) fn split_of(file: &str) -> Option<String> {
    if let Some(found) = SHARD.captures(file) {
        return Some(found[1].to_owned());
    }
    let lower = file.to_lowercase();
    lower.rsplit('/').find_map(|part| word(part).map(str::to_owned))
}

/// The split whose word is in `text`, between other than letters.
fn word(text: &str) -> Option<&'static str> {
    let lower = text.to_lowercase();
    lower.split(|c: char| !c.is_alphabetic()).rev().find_map(|part| {
        let is_split = |(name, words): &(&'static str, &[&str])| words.contains(&part).then_some(*name);
        WORDS.iter().find_map(is_split)
    })
}

/// Of files of several kinds, those of the kind that most of them are: the same rows come in several formats.
pub(super) fn of_one_kind(files: &[String]) -> Vec<String> {
    let count = |wanted: &str| files.iter().filter(|file| kind(file) == Some(wanted)).count();
    let Some(best) = KINDS.iter().rev().max_by_key(|wanted| count(wanted)) else { return files.to_vec() };
    files.iter().filter(|file| kind(file) == Some(best)).cloned().collect()
}

/// `part-2` before `part-10`.
pub(super) fn natural(a: &str, b: &str) -> Ordering {
    let (mut a_rest, mut b_rest) = (a, b);
    loop {
        match (a_rest.chars().next(), b_rest.chars().next()) {
            (None, None) => return a.cmp(b),
            (None, _) => return Ordering::Less,
            (_, None) => return Ordering::Greater,
            (Some(x), Some(y)) if x.is_ascii_digit() && y.is_ascii_digit() => {
                let (digits_a, digits_b) = (digits(a_rest), digits(b_rest));
                let (value_a, value_b) = (digits_a.trim_start_matches('0'), digits_b.trim_start_matches('0'));
                let order = value_a.len().cmp(&value_b.len()).then_with(|| value_a.cmp(value_b));
                if order != Ordering::Equal {
                    return order;
                }
                (a_rest, b_rest) = (&a_rest[digits_a.len()..], &b_rest[digits_b.len()..]);
            }
            (Some(x), Some(y)) if x == y => {
                (a_rest, b_rest) = (&a_rest[x.len_utf8()..], &b_rest[y.len_utf8()..]);
            }
            (Some(x), Some(y)) => return x.cmp(&y),
        }
    }
}

fn digits(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn splits(files: &[&str]) -> Vec<(String, Vec<String>)> {
        infer(&files.iter().map(|file| (*file).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn names_of_files_and_folders_tell_the_split() {
        for (file, split) in [
            ("train.jsonl", "train"),
            ("data/train-00000-of-00010.parquet", "train"),
            ("data/train_sft-00000-of-00010-abcdef.parquet", "train_sft"),
            ("validation/part-1.csv", "validation"),
            ("my_dev.json", "validation"),
            ("plain_text/test/0000.parquet", "test"),
            ("train/eval.jsonl.gz", "test"),
            ("constrained.jsonl", "train"),
        ] {
            let found = splits(&["README.md", file]);
            assert_eq!(found, [(split.to_owned(), vec![file.to_owned()])], "{file}");
        }
        assert!(splits(&["README.md", "dataset_infos.json", "picture.png"]).is_empty());
    }

    #[test]
    fn parts_are_read_by_their_numbers() {
        let mut files = vec!["p-10.csv", "p-9.csv", "p-009.csv", "q", "p-1.csv"];
        files.sort_by(|a, b| natural(a, b));
        assert_eq!(files, ["p-1.csv", "p-009.csv", "p-9.csv", "p-10.csv", "q"]);
    }

    #[test]
    fn one_dataset_in_two_formats_is_read_once() {
        let files: Vec<String> = ["a.jsonl", "b.jsonl", "all.csv"].map(str::to_owned).to_vec();
        assert_eq!(of_one_kind(&files), ["a.jsonl", "b.jsonl"]);
        let files: Vec<String> = ["a.jsonl", "a.parquet"].map(str::to_owned).to_vec();
        assert_eq!(of_one_kind(&files), ["a.parquet"]);
    }
}
