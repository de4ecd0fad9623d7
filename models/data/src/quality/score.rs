//! A score for each row from 0 to 100, and what it lost points for.
//!
//! A row begins with 100 points and loses those of each reason. The reasons are words of a list, so that a filter can
//! name them; what counts as a defect is decided where the report of a whole dataset decides it.

use crate::private_data;
use crate::row_defects::{self, answer_of, texts};
use crate::{bad_line, duplicates, language};
use peft_plan::{Example, Role, Row};
use serde::Serialize;
use std::borrow::Cow;
use std::collections::HashSet;

/// Each reason and the points it costs.
pub const REASONS: &[(&str, u32)] = &[
    ("no_words", 100),
    ("copy", 60),
    ("secret", 60),
    ("refusal", 50),
    ("echo", 50),
    ("garbled", 40),
    ("chat_marker", 40),
    ("disorder", 40),
    ("repetition", 40),
    ("near_copy", 30),
    ("cut_off", 20),
    ("personal", 15),
    ("long", 5),
    ("one_word", 5),
];

/// Beginnings of answers that decline. Compared without case and with straight apostrophes.
const REFUSALS: &[&str] = &[
    "as an ai",
    "as a language model",
    "as a large language model",
    "i cannot assist",
    "i cannot help",
    "i can't assist",
    "i can't help",
    "i can not help",
    "i cannot provide",
    "i can't provide",
    "i cannot fulfill",
    "i can't fulfill",
    "i am unable to",
    "i'm unable to",
    "i am not able to",
    "i'm not able to",
    "i'm sorry, but i",
    "i am sorry, but i",
    "sorry, but i can",
    "sorry, i can't",
    "sorry, i cannot",
    "i apologize, but i",
    "i must decline",
    "i won't be able to",
    "unfortunately, i cannot",
    "unfortunately, i can't",
    "ich kann ihnen dabei nicht",
    "ich kann dir dabei nicht",
    "ich kann dabei nicht helfen",
    "es tut mir leid, aber ich",
    "tut mir leid, ich kann",
    "als ki-",
    "als sprachmodell",
    "je suis désolé, mais je",
    "désolé, mais je ne peux",
    "je ne peux pas vous aider",
    "en tant qu'ia",
    "en tant que modèle de langage",
    "lo siento, pero no puedo",
    "lo siento, no puedo",
    "como modelo de lenguaje",
    "mi dispiace, ma non posso",
    "come modello linguistico",
    "desculpe, mas não posso",
    "como modelo de linguagem",
    "het spijt me, maar ik kan",
    "als taalmodel",
];

/// Characters of an answer within which it declines, if it does.
const BEGINNING: usize = 160;

/// Words of question and answer that are shared when one is the other in other words.
const ECHO: f64 = 0.85;
/// Words that an answer has at least to be called an echo or repetitive.
const FEWEST_WORDS: usize = 4;
const REPETITIVE_WORDS: usize = 30;
/// Of runs of three words in an answer, the share that is different, below which it repeats itself.
const DIFFERENT: f64 = 0.35;
/// Characters of a row that is long.
const LONG: usize = 16_000;

/// What a row lost points for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// One of [`REASONS`].
    pub code: &'static str,
    /// Points it cost.
    pub points: u32,
    /// What it is, for people; secrets are masked.
    pub text: String,
}

/// How good a row is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RowScore {
    /// Index of the file in the list that was read.
    pub file: usize,
    /// Line or element number, from 1.
    pub line: usize,
    /// 0 to 100.
    pub score: u32,
    /// Two letters, where the language can be told.
    pub language: Option<&'static str>,
    /// Why it is not 100, the weightiest first.
    pub reasons: Vec<Reason>,
}

/// The score of each row, in order. Copies are looked for among all of them.
pub fn score_rows(rows: &[Row]) -> Vec<RowScore> {
    let exact = duplicates::exact(rows);
    let mut near: Vec<Option<usize>> = vec![None; rows.len()];
    for group in duplicates::near(rows, &exact) {
        for index in &group[1..] {
            near[*index] = Some(group[0]);
        }
    }
    let scored = |(index, row): (usize, &Row)| {
        let mut reasons = reasons_of(&row.example);
        let line = |first: usize| rows[first].line;
        if let Some(first) = exact[index] {
            reasons.push(reason("copy", format!("it copies line {}", line(first))));
        } else if let Some(first) = near[index] {
            reasons.push(reason("near_copy", format!("it nearly repeats line {}", line(first))));
        }
        reasons.sort_by_key(|reason| std::cmp::Reverse(reason.points));
        let lost: u32 = reasons.iter().map(|reason| reason.points).sum();
        let language = language_of(&row.example);
        RowScore { file: row.file, line: row.line, score: 100_u32.saturating_sub(lost), language, reasons }
    };
    rows.iter().enumerate().map(scored).collect()
}

/// The language of what a row teaches, where it can be told.
pub fn language_of(example: &Example) -> Option<&'static str> {
    match answer_of(example) {
        // A short answer says little: then what it answers decides.
        Some(answer) => language::of(&answer).or_else(|| question_of(example).and_then(|text| language::of(&text))),
        None => texts(example).find_map(|text| language::of(&text)),
    }
}

/// What a row alone loses points for.
pub fn reasons_of(example: &Example) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if row_defects::is_wordless(example) {
        reasons.push(reason("no_words", "there are no words to learn"));
    }
    if let Some(place) = row_defects::garbled(example) {
        reasons.push(reason("garbled", format!("the text is garbled: {place}")));
    }
    if let Some(marker) = row_defects::chat_marker(example) {
        reasons.push(reason("chat_marker", format!("it contains the chat marker {marker}")));
    }
    if let Some(disorder) = row_defects::role_order(example) {
        reasons.push(reason("disorder", format!("the conversation {disorder}")));
    }
    if let Some(answer) = answer_of(example) {
        of_answer(&answer, question_of(example).as_deref(), &mut reasons);
    }
    private(example, &mut reasons);
    let characters: usize = texts(example).map(|text| text.chars().count()).sum();
    if characters > LONG {
        reasons.push(reason("long", format!("it has {characters} characters")));
    }
    reasons
}

fn of_answer(answer: &str, question: Option<&str>, reasons: &mut Vec<Reason>) {
    if let Some(words) = refusal(answer) {
        reasons.push(reason("refusal", format!("the answer declines: “{words}”")));
    }
    if question.is_some_and(|question| is_echo(question, answer)) {
        reasons.push(reason("echo", "the answer says what the question says"));
    }
    if repeats_itself(answer) {
        reasons.push(reason("repetition", "the answer repeats itself"));
    }
    if row_defects::stops_mid_sentence(answer) {
        reasons.push(reason("cut_off", "the answer stops in the middle of a sentence"));
    }
    if row_defects::is_one_word(answer) && answer.chars().any(char::is_alphanumeric) {
        reasons.push(reason("one_word", "the answer is one word"));
    }
}

/// The first secret and the first personal data, masked.
fn private(example: &Example, reasons: &mut Vec<Reason>) {
    for text in texts(example) {
        for (kind, masked) in private_data::find(&text) {
            let code = if kind.is_secret() { "secret" } else { "personal" };
            if reasons.iter().all(|known| known.code != code) {
                reasons.push(reason(code, format!("it holds a {}: {masked}", kind.name())));
            }
        }
    }
}

fn reason(code: &'static str, text: impl Into<String>) -> Reason {
    let points = REASONS.iter().find(|(known, _)| *known == code).map_or(0, |(_, points)| *points);
    Reason { code, points, text: text.into() }
}

/// What the last answer answers.
fn question_of(example: &Example) -> Option<Cow<'_, str>> {
    let turns = match example {
        Example::Text(_) => return None,
        Example::Messages(turns) => turns,
        Example::Preference { prompt, .. } | Example::Rated { prompt, .. } => prompt,
    };
    turns.iter().rfind(|turn| turn.role == Role::User).map(peft_plan::Turn::as_text)
}

/// The words with which an answer declines.
fn refusal(answer: &str) -> Option<String> {
    let plain: String =
        answer.trim_start().chars().take(BEGINNING).flat_map(char::to_lowercase).map(straight).collect();
    REFUSALS.iter().any(|phrase| plain.contains(phrase)).then(|| bad_line::excerpt(answer))
}

fn straight(c: char) -> char {
    if matches!(c, '’' | '‘' | '`') { '\'' } else { c }
}

/// Whether an answer has the words of its question and hardly any of its own.
fn is_echo(question: &str, answer: &str) -> bool {
    let words = |text: &str| -> HashSet<String> {
        text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
    };
    let (asked, said) = (words(question), words(answer));
    if said.len() < FEWEST_WORDS || asked.len() < FEWEST_WORDS {
        return false;
    }
    let shared = asked.intersection(&said).count() as f64;
    shared >= ECHO * said.len() as f64 && shared >= ECHO * asked.len() as f64
}

/// Whether most runs of three words of an answer come more than once.
fn repeats_itself(answer: &str) -> bool {
    let words: Vec<&str> = answer.split_whitespace().collect();
    if words.len() < REPETITIVE_WORDS {
        return false;
    }
    let different: HashSet<&[&str]> = words.windows(3).collect();
    (different.len() as f64) < DIFFERENT * (words.len() - 2) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use peft_plan::Turn;

    fn talk(question: &str, answer: &str) -> Example {
        Example::Messages(vec![Turn::new(Role::User, question), Turn::new(Role::Assistant, answer)])
    }

    fn codes(example: &Example) -> Vec<&'static str> {
        reasons_of(example).into_iter().map(|reason| reason.code).collect()
    }

    #[test]
    fn each_defect_of_an_answer_has_its_reason() {
        let question = "What is the capital of France?";
        let cases: &[(&str, &[&str])] = &[
            ("The capital of France is Paris, on the Seine.", &[]),
            ("I’m sorry, but I can't help with that.", &["refusal"]),
            ("Es tut mir leid, aber ich darf das nicht sagen.", &["refusal"]),
            ("What is the capital of France", &["echo"]),
            ("Paris", &["one_word"]),
            ("…", &["no_words"]),
            ("The capital of France is a city that lies on the river and", &["cut_off"]),
            ("Write to ann@riverside-bakery.org about the capital, which is Paris.", &["personal"]),
            (concat!("The key is sk", "-ab1cdefgh2ijklmn3opqrstu, do not tell."), &["secret"]),
            ("It is Paris. <|im_end|>", &["chat_marker"]),
        ];
        for (answer, expected) in cases {
            assert_eq!(codes(&talk(question, answer)), *expected, "{answer}");
        }
        let again = "this goes on and on. ".repeat(12);
        assert_eq!(codes(&talk(question, &again)), ["repetition"]);
    }

    #[test]
    fn an_answer_out_of_a_long_text_in_its_question_is_no_echo() {
        let question = "The book was written by Ann Ox in the year of the flood. Who wrote it?";
        assert!(codes(&talk(question, "The book was written by Ann Ox.")).is_empty());
    }

    #[test]
    fn the_score_is_what_the_reasons_leave() {
        let long = "The tower was built in the year eighteen hundred and eighty nine for a fair in the city.";
        let rows: Vec<Row> = [
            talk("When was the tower built?", long),
            talk("when was the tower  built?", long),
            talk("When?", "As an AI language model I cannot know."),
        ]
        .into_iter()
        .enumerate()
        .map(|(at, example)| Row { file: 0, line: at + 1, example })
        .collect();
        let scores = score_rows(&rows);
        assert_eq!(scores.iter().map(|row| row.score).collect::<Vec<_>>(), [100, 40, 50]);
        assert_eq!(scores[1].reasons[0].text, "it copies line 1");
        assert_eq!(scores[0].language, Some("en"));
    }

    #[test]
    fn every_reason_that_is_given_has_points() {
        assert!(REASONS.iter().all(|(code, points)| *points > 0 && reason(code, "").points == *points));
    }
}
