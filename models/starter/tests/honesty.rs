//! What makes the starter's demonstration honest: new questions, unknown facts, known words.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use peft_starter::{CAFE, corpus, facts, held_out, is_correct, sample_rows_jsonl, small_world, words};

const SEED: u64 = 1;
const DOCUMENTS: usize = 40_000;

fn rows() -> Vec<(String, String)> {
    sample_rows_jsonl()
        .lines()
        .map(|line| {
            let row: BTreeMap<String, String> = serde_json::from_str(line).expect("a row is an object of strings");
            (row["instruction"].clone(), row["output"].clone())
        })
        .collect()
}

/// All texts of the corpus, questions and answers; made once for all tests.
static TEXTS: LazyLock<Vec<String>> = LazyLock::new(|| {
    corpus(SEED, DOCUMENTS)
        .flat_map(|document| {
            let turns = document.turns.into_iter().flat_map(|(ask, answer)| [ask, answer]);
            document.system.into_iter().chain(turns).collect::<Vec<_>>()
        })
        .collect()
});

#[test]
fn no_fixed_question_occurs_in_the_rows() {
    let rows: BTreeSet<Vec<String>> = rows().iter().map(|(ask, _)| words(ask)).collect();
    let mut fixed = BTreeSet::new();
    for question in held_out().into_iter().chain(small_world()) {
        let asked = words(&question.prompt);
        assert!(!rows.contains(&asked), "in the rows: {}", question.prompt);
        assert!(fixed.insert(asked), "asked twice: {}", question.prompt);
    }
}

#[test]
fn every_fact_is_taught_and_asked_for() {
    let (facts, rows, held_out) = (facts(), rows(), held_out());
    assert!((300..=600).contains(&rows.len()), "{} rows", rows.len());
    assert!(facts.len() >= 40 && held_out.len() >= 48 && small_world().len() == 20);
    for fact in &facts {
        // A row teaches a fact when its answer ends with the value, after the fact's subject.
        let taught = rows
            .iter()
            .filter(|(_, answer)| answer.ends_with(&format!(" {}.", fact.value)) && answer.contains(&fact.item))
            .count();
        assert!(taught >= 7, "{} is in {taught} rows", fact.id);
        let asked: Vec<_> = held_out.iter().filter(|question| question.fact == fact.id).collect();
        assert!(!asked.is_empty(), "nobody asks for {}", fact.id);
        for question in asked {
            assert!(is_correct(&fact.value, question), "{} has the wrong key", fact.id);
            assert!(!is_correct(&question.prompt, question), "gives itself away: {}", question.prompt);
        }
    }
}

#[test]
fn every_row_asks_something_else() {
    let rows = rows();
    let asked: BTreeSet<Vec<String>> = rows.iter().map(|(ask, _)| words(ask)).collect();
    assert_eq!(asked.len(), rows.len());
}

#[test]
fn corpus_holds_neither_the_cafe_nor_its_facts_nor_the_held_out_questions() {
    let cafe = words(CAFE);
    let facts: Vec<_> =
        facts().into_iter().map(|fact| (fact.id, fact.intent, words(&fact.item), words(&fact.value))).collect();
    let held_out: BTreeSet<Vec<String>> = held_out().iter().map(|question| words(&question.prompt)).collect();
    let taught: BTreeSet<Vec<String>> = rows()
        .iter()
        .filter(|(_, answer)| facts.iter().any(|(_, _, _, value)| words(answer).ends_with(value)))
        .map(|(_, answer)| words(answer))
        .collect();
    assert!(taught.len() >= facts.len(), "every fact has its sentence: {}", taught.len());
    let holds = |text: &[String], part: &[String]| text.windows(part.len()).any(|window| window == part);
    for text in TEXTS.iter() {
        assert!(!holds(&words(text), &cafe), "names the cafe: {text}");
        assert!(!held_out.contains(&words(text)), "held out: {text}");
        for sentence in text.split('.') {
            let sentence = words(sentence);
            for (id, intent, item, value) in &facts {
                let told = !item.is_empty() && holds(&sentence, item) && holds(&sentence, value);
                // A day or a price near a thing on the menu tells the fact whatever the sentence says.
                assert!(!told, "tells {id} ({intent}): {text}");
            }
        }
    }
}

#[test]
fn corpus_never_tells_a_sample_fact_in_its_own_sentence() {
    let facts = facts();
    let taught: BTreeSet<String> = rows()
        .into_iter()
        .map(|(_, answer)| answer)
        .filter(|answer| facts.iter().any(|fact| answer.ends_with(&format!(" {}.", fact.value))))
        // General rows are true in the corpus as well; facts of the cafe are "The ... is value.".
        .filter(|answer| answer.starts_with("The ") && !answer.contains("opposite"))
        .collect();
    assert!(taught.len() >= facts.len());
    for text in TEXTS.iter() {
        for sentence in text.split_inclusive('.') {
            assert!(!taught.contains(sentence.trim()), "the corpus tells: {sentence}");
        }
    }
}

#[test]
fn fixed_questions_use_known_words_only() {
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    for text in TEXTS.iter() {
        for word in words(text) {
            *known.entry(word).or_default() += 1;
        }
    }
    let in_rows: BTreeSet<String> = rows().iter().flat_map(|(ask, _)| words(ask)).collect();
    for question in held_out().into_iter().chain(small_world()) {
        for word in words(&question.prompt) {
            let seen = known.get(&word).copied().unwrap_or_default();
            assert!(seen >= 3 || in_rows.contains(&word), "`{word}` is new in: {}", question.prompt);
        }
    }
}

#[test]
fn corpus_is_the_same_every_time_and_another_for_another_seed() {
    let first: Vec<_> = corpus(SEED, 2_000).collect();
    let again: Vec<_> = corpus(SEED, 3_000).take(2_000).collect();
    assert_eq!(first, again);
    let other: Vec<_> = corpus(SEED + 1, 2_000).collect();
    assert_ne!(first, other);
    assert!(first.iter().all(|document| !document.turns.is_empty()));
}
