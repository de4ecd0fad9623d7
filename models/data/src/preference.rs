//! Rows that say which answers are preferred: a chosen and a rejected one, or one with a label.
//!
//! The prompt may be a column of its own, or (as in `UltraFeedback` and HH-RLHF) the beginning that both conversations
//! share. What such rows are good for depends on the objective of a run: [`select`] knows.

use crate::dataset::RejectedKind;
use crate::import::{Refusal, append, take_system, take_text, text_of};
use crate::shape::PROMPTS;
use crate::split::Split;
use crate::turns::{self, TURN_LISTS};
use peft_plan::{Example, Fault, Objective, Result as PlanResult, Role, Row, Turn};
use serde_json::{Map, Value};

type Fields = Map<String, Value>;

/// Columns that hold one answer to be rated.
const ANSWERS: &[&str] = &["completion", "response", "answer", "output"];

/// Words for a wanted and for an unwanted answer.
const WANTED: &[&str] = &["true", "yes", "good", "desirable", "chosen", "1", "1.0", "+1"];
const UNWANTED: &[&str] = &["false", "no", "bad", "undesirable", "rejected", "0", "0.0", "-1"];

fn no_preference(reason: &str) -> Refusal {
    Refusal { kind: RejectedKind::NoPreference, reason: reason.to_owned() }
}

/// Whether a row rates one answer beyond doubt: other datasets have a `label` too, which is a class or a score.
pub(crate) fn is_rated(fields: &Fields) -> bool {
    let label = match fields.get("label") {
        Some(Value::Bool(_)) => true,
        Some(Value::String(label)) => matches!(label.trim().to_ascii_lowercase().as_str(), "true" | "false"),
        _ => false,
    };
    label && fields.contains_key("prompt") && fields.contains_key("completion")
}

/// Whether somebody who says that rows are rated can mean this one.
pub(crate) fn can_be_rated(fields: &Fields) -> bool {
    fields.contains_key("label") && ANSWERS.iter().any(|name| fields.contains_key(*name))
}

/// What a label says.
pub(crate) fn label_of(label: &Value) -> Result<bool, Refusal> {
    let word = match label {
        Value::Bool(wanted) => return Ok(*wanted),
        other => text_of(other.clone()).trim().to_lowercase(),
    };
    let says = |words: &[&str]| words.contains(&word.as_str());
    match (says(WANTED), says(UNWANTED)) {
        (true, _) => Ok(true),
        (_, true) => Ok(false),
        _ => Err(Refusal::shape(format!("its label `{}` is neither true nor false", crate::bad_line::excerpt(&word)))),
    }
}

/// A row with `chosen` and `rejected`.
pub(crate) fn pair(mut fields: Fields) -> Result<Example, Refusal> {
    let chosen = fields.get_mut("chosen").map(Value::take).unwrap_or_default();
    let rejected = fields.get_mut("rejected").map(Value::take).unwrap_or_default();
    let prompt = take_prompt(&mut fields)?;
    compare(take_system(&mut fields), prompt, chosen, rejected)
}

/// A row with one answer and its label.
pub(crate) fn rated(mut fields: Fields) -> Result<Example, Refusal> {
    let desirable = label_of(fields.get("label").unwrap_or(&Value::Null))?;
    let column = ANSWERS.iter().find(|name| fields.contains_key(**name)).copied().unwrap_or("completion");
    let answer = fields.get_mut(column).map(Value::take).unwrap_or_default();
    let prompt = take_prompt(&mut fields)?;
    rate(take_system(&mut fields), prompt, answer, desirable)
}

/// Both answers to a prompt; where they are whole conversations, the prompt is what they share.
pub(crate) fn compare(system: String, prompt: Vec<Turn>, chosen: Value, rejected: Value) -> Result<Example, Refusal> {
    let (mut chosen, mut rejected) = (answer_of(chosen, prompt.is_empty())?, answer_of(rejected, prompt.is_empty())?);
    if chosen.is_empty() || rejected.is_empty() {
        return Err(Refusal::no_answer());
    }
    let mut prompt = prompt;
    match (is_whole(&chosen), is_whole(&rejected)) {
        (true, true) => {
            let shared = chosen.iter().zip(&rejected).take_while(|(a, b)| same_turn(a, b)).count();
            if shared == chosen.len() && shared == rejected.len() {
                return Err(no_preference("both answers are the same"));
            }
            rejected.drain(..shared);
            prompt = chosen.drain(..shared).collect();
            if chosen.is_empty() || rejected.is_empty() {
                return Err(Refusal::no_answer());
            }
            if is_whole(&chosen) || is_whole(&rejected) {
                return Err(no_preference("its two answers belong to different questions"));
            }
        }
        (false, false) => {
            if let Some(last) = prompt.last()
                && last.role == Role::Assistant
            {
                let repeats = same_turn(last, &chosen[0]) || same_turn(last, &rejected[0]);
                if !repeats {
                    return Err(no_preference("its prompt ends with an answer"));
                }
                prompt.pop();
            }
        }
        _ => return Err(no_preference("one answer is a whole conversation and the other is not")),
    }
    check_answer(&chosen)?;
    check_answer(&rejected)?;
    if chosen.len() == rejected.len() && chosen.iter().zip(&rejected).all(|(a, b)| same_turn(a, b)) {
        return Err(no_preference("both answers are the same"));
    }
    Ok(Example::Preference { prompt: prompt_of(system, prompt), chosen: plain(chosen), rejected: plain(rejected) })
}

/// One answer to a prompt, wanted or not.
pub(crate) fn rate(system: String, prompt: Vec<Turn>, answer: Value, desirable: bool) -> Result<Example, Refusal> {
    let (mut answer, mut prompt) = (answer_of(answer, prompt.is_empty())?, prompt);
    if is_whole(&answer) {
        // A whole conversation: its last answers are what is rated.
        let start = answer.iter().rposition(|turn| turn.role != Role::Assistant).map_or(0, |at| at + 1);
        let rest = answer.split_off(start);
        prompt = std::mem::replace(&mut answer, rest);
    } else if prompt.last().is_some_and(|turn| turn.role == Role::Assistant) {
        return Err(no_preference("its prompt ends with an answer"));
    }
    check_answer(&answer)?;
    Ok(Example::Rated { prompt: prompt_of(system, prompt), answer: plain(answer), desirable })
}

/// The prompt of a row, taken out of its columns.
fn take_prompt(fields: &mut Fields) -> Result<Vec<Turn>, Refusal> {
    let named = std::iter::once(&"prompt").chain(PROMPTS).chain(TURN_LISTS).chain(&["input"]);
    let filled = |name: &&&str| fields.get(**name).is_some_and(|value| !value.is_null());
    let Some(name) = named.into_iter().find(filled).copied() else { return Ok(Vec::new()) };
    let value = fields.get_mut(name).map(Value::take);
    if name == "instruction" && value.as_ref().is_some_and(|value| !value.is_array()) {
        let mut text = value.map(text_of).unwrap_or_default();
        append(&mut text, "\n", &take_text(fields, "input"));
        append(&mut text, "\n", &take_text(fields, "context"));
        return prompt_from(Some(Value::String(text)));
    }
    prompt_from(value)
}

/// A prompt as turns: words, a list of turns, or such a list as JSON in a cell of a table.
pub(crate) fn prompt_from(value: Option<Value>) -> Result<Vec<Turn>, Refusal> {
    match value {
        None => Ok(Vec::new()),
        Some(list @ Value::Array(_)) => turns::read(list),
        Some(value) => {
            let text = text_of(value);
            if let Some(list) = list_in(&text) {
                return turns::read(list);
            }
            Ok(if text.trim().is_empty() { Vec::new() } else { vec![Turn::new(Role::User, text)] })
        }
    }
}

/// The list of turns, or the one turn, that a cell of a table holds as JSON.
fn list_in(text: &str) -> Option<Value> {
    if !text.trim_start().starts_with(['[', '{']) {
        return None;
    }
    let parsed: Value = serde_json::from_str(text).ok()?;
    let list = if parsed.is_object() { Value::Array(vec![parsed]) } else { parsed };
    (list != Value::Array(Vec::new()) && turns::style(&list).is_some()).then_some(list)
}

/// An answer as turns: words, one turn, a list of turns, such a list as JSON in a cell of a table, or (where there is
/// no prompt) a transcript of `Human:` and `Assistant:`.
fn answer_of(value: Value, may_be_transcript: bool) -> Result<Vec<Turn>, Refusal> {
    match value {
        list @ Value::Array(_) => turns::read(list),
        turn @ Value::Object(_) => turns::read(Value::Array(vec![turn])),
        value => {
            let text = text_of(value);
            if let Some(list) = list_in(&text) {
                return turns::read(list);
            }
            if may_be_transcript && let Some(turns) = transcript(&text) {
                return Ok(turns);
            }
            Ok(if text.trim().is_empty() { Vec::new() } else { vec![Turn::new(Role::Assistant, text)] })
        }
    }
}

/// `\n\nHuman: …\n\nAssistant: …`, as Anthropic published conversations.
fn transcript(text: &str) -> Option<Vec<Turn>> {
    const SPEAKERS: [(&str, Role); 2] = [("\n\nHuman:", Role::User), ("\n\nAssistant:", Role::Assistant)];
    let text = format!("\n\n{}", text.trim_start());
    if !text.starts_with(SPEAKERS[0].0) || !text.contains(SPEAKERS[1].0) {
        return None;
    }
    let mut starts: Vec<(usize, &str, Role)> = SPEAKERS
        .iter()
        .flat_map(|(marker, role)| text.match_indices(marker).map(|(at, _)| (at, *marker, *role)))
        .collect();
    starts.sort_unstable_by_key(|start| start.0);
    let ends = starts.iter().skip(1).map(|start| start.0).chain([text.len()]);
    Some(
        starts
            .iter()
            .zip(ends)
            .map(|((at, marker, role), end)| Turn::new(*role, text[at + marker.len()..end].trim()))
            .collect(),
    )
}

/// Whether a list is a whole conversation instead of an answer.
fn is_whole(turns: &[Turn]) -> bool {
    turns.first().is_some_and(|turn| turn.role != Role::Assistant)
}

fn same_turn(a: &Turn, b: &Turn) -> bool {
    a.role == b.role && a.content.trim() == b.content.trim()
}

/// An answer says something wherever the model speaks.
fn check_answer(answer: &[Turn]) -> Result<(), Refusal> {
    let mut spoken = answer.iter().filter(|turn| turn.role == Role::Assistant).peekable();
    if spoken.peek().is_none() || spoken.any(|turn| turn.content.trim().is_empty()) {
        return Err(Refusal::no_answer());
    }
    Ok(())
}

/// Turns of an answer: who speaks decides what is learnt.
fn plain(mut answer: Vec<Turn>) -> Vec<Turn> {
    for turn in &mut answer {
        turn.train = None;
    }
    answer
}

/// Nothing of a prompt is learnt.
fn prompt_of(system: String, mut prompt: Vec<Turn>) -> Vec<Turn> {
    prompt.retain(|turn| !turn.content.trim().is_empty());
    if !system.trim().is_empty() && prompt.iter().all(|turn| turn.role != Role::System) {
        prompt.insert(0, Turn::new(Role::System, system));
    }
    for turn in &mut prompt {
        turn.train = (turn.role == Role::Assistant).then_some(false);
    }
    prompt
}

/// The rows of a split that a run of some objective can use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selected {
    /// Which rows.
    pub split: Split,
    /// What was left out, for people.
    pub notes: Vec<String>,
}

/// Whether `objective` can learn from `example`.
fn fits(example: &Example, objective: Objective) -> bool {
    match (objective, example) {
        (Objective::Sft, Example::Rated { desirable, .. }) => *desirable,
        (Objective::Sft, Example::Messages(_) | Example::Text(_))
        | (Objective::Dpo | Objective::Orpo | Objective::Kto, Example::Preference { .. })
        | (Objective::Kto, Example::Rated { .. }) => true,
        _ => false,
    }
}

/// Keep the rows that `objective` can learn from. Where there is none, or all of them say the same, it is a fault.
pub fn select(rows: &[Row], split: &Split, objective: Objective) -> PlanResult<Selected> {
    let keep = |indices: &[usize]| -> Vec<usize> {
        indices.iter().copied().filter(|&i| fits(&rows[i].example, objective)).collect()
    };
    let kept = Split { train: keep(&split.train), validation: keep(&split.validation) };
    if kept.train.is_empty() && !split.train.is_empty() {
        return Err(wrong_rows(rows, objective));
    }
    let mut notes = Vec::new();
    let left = split.train.len() + split.validation.len() - kept.train.len() - kept.validation.len();
    if left > 0 {
        let what = if objective == Objective::Sft { "are preferences" } else { "hold no preference" };
        notes.push(format!("{left} rows {what} and were left out: `training.objective` is {}", objective.name()));
    }
    if objective == Objective::Kto {
        check_labels(rows, &kept.train)?;
    }
    Ok(Selected { split: kept, notes })
}

/// The rows are for another objective.
fn wrong_rows(rows: &[Row], objective: Objective) -> Fault {
    let any = |fits: fn(&Example) -> bool| rows.iter().any(|row| fits(&row.example));
    let (holds, other) = if any(|e| matches!(e, Example::Preference { .. })) {
        ("pairs of a chosen and a rejected answer", "dpo")
    } else if any(|e| matches!(e, Example::Rated { .. })) {
        ("single answers with a label that says whether they are wanted", "kto")
    } else {
        ("answers to copy, and no preference between answers", "sft")
    };
    let name = objective.name();
    let needs = match objective {
        Objective::Sft => "learns to give the answers that it is shown",
        Objective::Dpo | Objective::Orpo => "needs `chosen` and `rejected` answers to the same prompt",
        Objective::Kto => "needs answers with a `label`, or pairs of `chosen` and `rejected` answers",
    };
    let fault = Fault::new(
        "PS-CFG-001",
        format!("The data holds {holds}; `training.objective` {name} {needs}. Did you mean {other}?"),
    )
    .action(format!("Learn by {other}"), Some(format!("peft-studio train … --objective {other}")));
    match (objective, other) {
        (Objective::Sft, "dpo") => fault.action(
            "Learn the chosen answers only: set \"columns\": {\"user\": \"prompt\", \"assistant\": \"chosen\"}, or \
             {\"messages\": \"chosen\"} where these are whole conversations",
            None,
        ),
        _ => fault,
    }
}

/// KTO learns from the difference between wanted and unwanted answers.
fn check_labels(rows: &[Row], train: &[usize]) -> PlanResult<()> {
    let has = |wanted: bool| {
        train.iter().any(|&i| match &rows[i].example {
            Example::Rated { desirable, .. } => *desirable == wanted,
            Example::Preference { .. } => true,
            _ => false,
        })
    };
    let only = match (has(true), has(false)) {
        (true, true) => return Ok(()),
        (true, false) => "wanted",
        _ => "unwanted",
    };
    Err(Fault::new(
        "PS-PREF-001",
        format!("All {} labels say {only}, so there is no difference to learn from", train.len()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(row: Value) -> Result<Example, Refusal> {
        let Value::Object(fields) = row else { panic!("an object") };
        if fields.contains_key("chosen") || fields.contains_key("rejected") { pair(fields) } else { rated(fields) }
    }

    fn said(turns: &[Turn]) -> Vec<(Role, &str)> {
        turns.iter().map(|turn| (turn.role, turn.content.as_str())).collect()
    }

    #[test]
    fn prompts_of_every_layout_are_found() {
        use Role::{Assistant, System, User};
        let user = |text: &str| json!({"role": "user", "content": text});
        let bot = |text: &str| json!({"role": "assistant", "content": text});
        for row in [
            json!({"prompt": "q", "chosen": "a", "rejected": "b"}),
            json!({"prompt": [user("q")], "chosen": [bot("a")], "rejected": [bot("b")]}),
            json!({"prompt": "q", "chosen": bot("a"), "rejected": bot("b")}),
            json!({"chosen": [user("q"), bot("a")], "rejected": [user("q"), bot("b")]}),
            json!({"prompt": "q", "chosen": [user("q"), bot("a")], "rejected": [user("q "), bot("b")]}),
            json!({"messages": [user("q")], "chosen": "a", "rejected": "b"}),
            json!({"messages": [user("q"), bot("a")], "chosen": "a", "rejected": "b"}),
            json!({"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "a"},
                   "rejected": {"from": "gpt", "value": "b"}}),
            json!({"question": "q", "chosen": "a", "rejected": "b"}),
            json!({"prompt": "q", "chosen": json!([bot("a")]).to_string(), "rejected": json!([bot("b")]).to_string()}),
            json!({"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"}),
        ] {
            let Ok(Example::Preference { prompt, chosen, rejected }) = read(row.clone()) else { panic!("{row}") };
            assert_eq!(said(&prompt), [(User, "q")], "{row}");
            assert_eq!((said(&chosen), said(&rejected)), (vec![(Assistant, "a")], vec![(Assistant, "b")]), "{row}");
        }
        let row = json!({"system": "s", "question": "q", "chosen": "a", "rejected": "b"});
        let Ok(Example::Preference { prompt, .. }) = read(row) else { panic!("a pair") };
        assert_eq!(said(&prompt), [(System, "s"), (User, "q")]);
        let long = json!({"chosen": [user("q"), bot("x"), user("r"), bot("a")], "rejected": [user("q"), bot("x"), user("r"), bot("b")]});
        let Ok(Example::Preference { prompt, .. }) = read(long) else { panic!("a pair") };
        assert_eq!(said(&prompt), [(User, "q"), (Assistant, "x"), (User, "r")]);
        assert_eq!(prompt[1].train, Some(false), "an earlier answer is read, not learnt");
    }

    #[test]
    fn rows_without_a_preference_are_refused_with_the_reason() {
        use RejectedKind::{NoAnswer, NoPreference};
        let user = |text: &str| json!({"role": "user", "content": text});
        let bot = |text: &str| json!({"role": "assistant", "content": text});
        for (row, kind, word) in [
            (json!({"prompt": "q", "chosen": "a", "rejected": " a\n"}), NoPreference, "same"),
            (json!({"chosen": [user("q"), bot("a")], "rejected": [user("q"), bot("a")]}), NoPreference, "same"),
            (json!({"chosen": [user("q"), bot("a")], "rejected": [user("p"), bot("b")]}), NoPreference, "different"),
            (json!({"prompt": "q", "chosen": [user("q"), bot("a")], "rejected": "b"}), NoPreference, "whole"),
            (json!({"prompt": [user("q"), bot("z")], "chosen": "a", "rejected": "b"}), NoPreference, "ends"),
            (json!({"prompt": "q", "chosen": "a", "rejected": ""}), NoAnswer, "no answer"),
            (json!({"prompt": "q", "chosen": null, "rejected": "b"}), NoAnswer, "no answer"),
            (json!({"prompt": "q", "chosen": [], "rejected": "b"}), NoAnswer, "no answer"),
            (json!({"prompt": "q", "rejected": "b"}), NoAnswer, "no answer"),
            (json!({"chosen": [user("q")], "rejected": [user("q"), bot("b")]}), NoAnswer, "no answer"),
            (json!({"prompt": "q", "completion": " ", "label": true}), NoAnswer, "no answer"),
            (json!({"prompt": "q", "completion": "a", "label": "maybe"}), RejectedKind::UnknownShape, "maybe"),
        ] {
            let refusal = read(row.clone()).expect_err("refused");
            assert_eq!(refusal.kind, kind, "{row}");
            assert!(refusal.reason.contains(word), "{row}: {}", refusal.reason);
        }
    }

    #[test]
    fn labels_are_read_in_every_spelling() {
        for (label, wanted) in [
            (json!(true), true),
            (json!("False"), false),
            (json!(1), true),
            (json!(0), false),
            (json!("rejected"), false),
            (json!("1"), true),
        ] {
            let row = json!({"prompt": "q", "completion": "a", "label": label});
            let Ok(Example::Rated { desirable, .. }) = read(row) else { panic!("rated: {label}") };
            assert_eq!(desirable, wanted, "{label}");
        }
        let Value::Object(score) = json!({"prompt": "q", "completion": "a", "label": 3}) else { panic!("an object") };
        assert!(!is_rated(&score), "a score is no rating");
    }

    fn rows(examples: Vec<Example>) -> (Vec<Row>, Split) {
        let rows: Vec<Row> =
            examples.into_iter().enumerate().map(|(line, example)| Row { file: 0, line, example }).collect();
        let split = Split { train: (0..rows.len()).collect(), validation: Vec::new() };
        (rows, split)
    }

    #[test]
    fn every_objective_takes_its_rows_and_names_the_objective_of_others() {
        use Objective::{Dpo, Kto, Orpo, Sft};
        let pair = || read(json!({"prompt": "q", "chosen": "a", "rejected": "b"})).expect("a pair");
        let rated = |label: bool| read(json!({"prompt": "q", "completion": "a", "label": label})).expect("rated");
        let talk = || Example::Messages(vec![Turn::new(Role::User, "q"), Turn::new(Role::Assistant, "a")]);
        let with = |examples: Vec<Example>, objective| {
            let (rows, split) = rows(examples);
            select(&rows, &split, objective).map(|selected| (selected.split.train, selected.notes.len()))
        };
        assert_eq!(with(vec![talk(), pair(), talk()], Sft).expect("talks"), (vec![0, 2], 1));
        assert_eq!(with(vec![talk(), pair()], Dpo).expect("a pair"), (vec![1], 1));
        assert_eq!(with(vec![rated(true), rated(false)], Sft).expect("the wanted one"), (vec![0], 1));
        assert_eq!(with(vec![pair()], Kto).expect("both sides"), (vec![0], 0));
        assert_eq!(with(vec![rated(true), rated(false)], Kto).expect("both"), (vec![0, 1], 0));
        for (examples, objective, named) in [
            (vec![pair()], Sft, "dpo"),
            (vec![talk()], Dpo, "sft"),
            (vec![talk()], Kto, "sft"),
            (vec![rated(true)], Orpo, "kto"),
            (vec![rated(false)], Sft, "kto"),
        ] {
            let fault = with(examples, objective).expect_err("the wrong rows");
            assert_eq!(fault.code, "PS-CFG-001");
            assert!(fault.detail.ends_with(&format!("Did you mean {named}?")), "{fault}");
        }
        for label in [true, false] {
            let fault = with(vec![rated(label), rated(label)], Kto).expect_err("one-sided");
            assert_eq!(fault.code, "PS-PREF-001");
        }
    }
}
