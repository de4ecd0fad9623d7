//! A list of turns, as `OpenAI`, `ShareGPT` and their relatives write it, to [`Turn`]s.

use crate::dataset::RejectedKind;
use crate::import::Refusal;
use crate::tools;
use peft_plan::{Role, Turn};
use serde_json::{Map, Value};

/// Columns that may hold a list of turns.
pub(crate) const TURN_LISTS: &[&str] =
    &["messages", "conversations", "conversation", "texts", "dialog", "dialogue", "chat", "turns"];

const ROLE_KEYS: &[&str] = &["role", "from", "speaker", "author"];
const CONTENT_KEYS: &[&str] = &["content", "value", "text", "message"];

/// Columns of a turn that may hold what the model thought.
const REASONING_KEYS: &[&str] = &["reasoning_content", "reasoning", "thinking"];

/// Names of speakers, in lower case.
const ROLES: &[(&str, Role)] = &[
    ("user", Role::User),
    ("human", Role::User),
    ("input", Role::User),
    ("prompter", Role::User),
    ("customer", Role::User),
    ("assistant", Role::Assistant),
    ("gpt", Role::Assistant),
    ("model", Role::Assistant),
    ("chatgpt", Role::Assistant),
    ("bing", Role::Assistant),
    ("bard", Role::Assistant),
    ("output", Role::Assistant),
    ("ai", Role::Assistant),
    ("bot", Role::Assistant),
    ("claude", Role::Assistant),
    ("function_call", Role::Assistant),
    ("tool_call", Role::Assistant),
    ("system", Role::System),
    ("developer", Role::System),
    ("tool", Role::Tool),
    ("observation", Role::Tool),
    ("function", Role::Tool),
    ("function_response", Role::Tool),
    ("tool_response", Role::Tool),
    ("ipython", Role::Tool),
];

/// How a list of turns names its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// `role` and `content`.
    OpenAi,
    /// `from` and `value`.
    ShareGpt,
}

/// Whether `value` is a list of turns, and in which style. An empty list counts as one.
pub(crate) fn style(value: &Value) -> Option<Style> {
    let Value::Array(turns) = value else { return None };
    let Some(first) = turns.first() else { return Some(Style::OpenAi) };
    let fields = first.as_object()?;
    let has = |keys: &[&str]| keys.iter().any(|key| fields.contains_key(*key));
    let speaks = has(CONTENT_KEYS) || has(&["tool_calls", "function_call"]);
    if !has(ROLE_KEYS) || !speaks {
        return None;
    }
    Some(if fields.contains_key("from") { Style::ShareGpt } else { Style::OpenAi })
}

/// Read a list of turns.
pub(crate) fn read(value: Value) -> Result<Vec<Turn>, Refusal> {
    let Value::Array(turns) = value else {
        return Err(Refusal::shape("the conversation is not a list of turns"));
    };
    turns.into_iter().enumerate().map(|(index, turn)| read_turn(index, turn)).collect()
}

fn read_turn(index: usize, turn: Value) -> Result<Turn, Refusal> {
    let number = index + 1;
    let Value::Object(mut fields) = turn else {
        return Err(Refusal::shape(format!("turn {number} is not an object with a role and a content")));
    };
    let Some(name) = ROLE_KEYS.iter().find_map(|key| fields.get(*key)).and_then(Value::as_str) else {
        return Err(Refusal::shape(format!("turn {number} does not say who speaks")));
    };
    let known = ROLES.iter().find(|(alias, _)| name.trim().eq_ignore_ascii_case(alias));
    let Some(&(_, role)) = known else {
        return Err(Refusal::shape(format!("turn {number} has the unknown speaker `{name}`")));
    };
    let is_call = matches!(name.trim().to_ascii_lowercase().as_str(), "function_call" | "tool_call");
    let mut turn = Turn { train: train_flag(&fields, role), ..Turn::new(role, "") };
    let content_key = CONTENT_KEYS.iter().find(|key| fields.contains_key(**key));
    let content = content_key.and_then(|key| fields.get_mut(*key)).map(Value::take).unwrap_or_default();
    let has_null = content.is_null();
    turn.content = text_of_content(number, content)?;
    let mut calls = tools::calls(number, &mut fields)?;
    if is_call && let Some(spelled) = tools::spelled_calls(&turn.content) {
        turn.content.clear();
        calls.extend(spelled);
    }
    if !calls.is_empty() {
        let extra = turn.extra_mut();
        extra.tool_calls = calls;
        extra.null_content = has_null;
    }
    let text = |keys: &[&str]| {
        let found = keys.iter().find_map(|key| fields.get(*key)?.as_str().map(str::to_owned));
        found.filter(|text| !text.trim().is_empty())
    };
    if let Some(reasoning) = text(REASONING_KEYS) {
        turn.extra_mut().reasoning = Some(reasoning);
    }
    if role == Role::Tool {
        let (name, call) = (text(&["name"]), text(&["tool_call_id"]));
        if name.is_some() || call.is_some() {
            let extra = turn.extra_mut();
            (extra.name, extra.tool_call_id) = (name, call);
        }
    }
    Ok(turn)
}

/// `train: bool`, or `OpenAI`'s `weight: 0 | 1` on an answer.
fn train_flag(fields: &Map<String, Value>, role: Role) -> Option<bool> {
    if let Some(train) = fields.get("train").and_then(Value::as_bool) {
        return Some(train);
    }
    let weight = fields.get("weight").and_then(Value::as_f64)?;
    (role == Role::Assistant).then_some(weight > 0.0)
}

/// A string, a number, nothing, or a list of text parts.
fn text_of_content(number: usize, content: Value) -> Result<String, Refusal> {
    let Value::Array(parts) = content else {
        return Ok(crate::import::text_of(content));
    };
    let mut text = String::new();
    for part in parts {
        let piece = match part {
            Value::String(piece) => piece,
            Value::Object(mut part) if part.contains_key("text") => {
                part.get_mut("text").map(Value::take).map(crate::import::text_of).unwrap_or_default()
            }
            Value::Object(part) => {
                let kind = part.get("type").and_then(Value::as_str).unwrap_or("unknown");
                return Err(Refusal {
                    kind: RejectedKind::NotForTraining,
                    reason: format!("turn {number} holds a part of type `{kind}`; only text is read"),
                });
            }
            _ => return Err(Refusal::shape(format!("turn {number} has a part that is not text"))),
        };
        if !text.is_empty() && !piece.is_empty() {
            text.push('\n');
        }
        text.push_str(&piece);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_alias_of_a_role_is_known() {
        let list = json!([
            {"from": "System", "value": "s"}, {"from": "human", "value": "q"},
            {"from": "gpt", "value": "a"}, {"from": "observation", "value": "o"},
            {"from": "bard", "value": "b"},
        ]);
        assert_eq!(style(&list), Some(Style::ShareGpt));
        let roles: Vec<Role> = read(list).expect("known").iter().map(|turn| turn.role).collect();
        assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::Tool, Role::Assistant]);
    }

    #[test]
    fn content_may_be_null_a_number_or_text_parts() {
        let list = json!([
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": null,
             "tool_calls": [{"function": {"name": "f", "arguments": "{\"x\":1}"}}]},
            {"role": "tool", "content": 7},
        ]);
        let contents: Vec<String> = read(list).expect("known").iter().map(|t| t.as_text().into_owned()).collect();
        let call = "<tool_call>\n{\"name\":\"f\",\"arguments\":{\"x\":1}}\n</tool_call>";
        assert_eq!(contents, ["a\nb", call, "7"]);
    }

    #[test]
    fn pictures_and_strangers_are_refused_by_name() {
        let picture = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]);
        assert!(read(picture).expect_err("picture").reason.contains("image_url"));
        let stranger = json!([{"role": "narrator", "content": "x"}]);
        assert!(read(stranger).expect_err("stranger").reason.contains("narrator"));
        assert!(read(json!([["a", "b"]])).is_err());
        assert_eq!(style(&json!(["a", "b"])), None);
    }

    #[test]
    fn flags_reach_the_turn_d1() {
        let list = json!([
            {"role": "user", "content": "q", "train": true},
            {"role": "assistant", "content": "a", "weight": 0},
            {"role": "assistant", "content": "b", "weight": 1},
            {"role": "assistant", "content": "c", "train": false},
            {"role": "assistant", "content": "d"},
        ]);
        let flags: Vec<Option<bool>> = read(list).expect("known").iter().map(|t| t.train).collect();
        assert_eq!(flags, [Some(true), Some(false), Some(true), Some(false), None]);
    }
}
