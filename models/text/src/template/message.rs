//! Turns as the dictionaries that a chat template reads, as transformers hands them over.

use crate::markers::{Part, marked, marked_part};
use minijinja::Value;
use peft_plan::{Role, Turn};
use serde_json::json;

/// What stands for the content of an answer that only calls tools, where the data says `null`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoWords {
    /// Nothing, as transformers does it.
    Missing,
    /// `none`, for templates that ask for it.
    Null,
    /// An empty text, for templates that cannot do without.
    Empty,
}

/// The name of the tool in [`offering`].
pub(crate) const PROBED_TOOL: &str = "peft_probe";

/// A turn; with marks around its parts if it is to be found again as turn `mark`.
pub(crate) fn value(turn: &Turn, no_words: NoWords, mark: Option<usize>) -> Value {
    let content = match mark {
        Some(at) => Value::from(marked(&turn.content, at)),
        None => Value::from(turn.content.as_str()),
    };
    let Some(extra) = &turn.extra else {
        return Value::from_pairs([("role", Value::from(turn.role.as_str())), ("content", content)]);
    };
    let mut pairs = vec![("role", Value::from(turn.role.as_str()))];
    match no_words {
        NoWords::Missing if extra.null_content && turn.content.is_empty() => {}
        NoWords::Null if extra.null_content && turn.content.is_empty() => pairs.push(("content", Value::from(()))),
        _ => pairs.push(("content", content)),
    }
    if let Some(reasoning) = &extra.reasoning {
        let marked = mark.map(|at| marked_part(reasoning, at, Part::Reasoning));
        let reasoning = Value::from(marked.as_deref().unwrap_or(reasoning));
        // Both names are in use.
        pairs.extend([("thinking", reasoning.clone()), ("reasoning_content", reasoning)]);
    }
    if !extra.tool_calls.is_empty() {
        let calls: Vec<Value> = extra.tool_calls.iter().map(|call| call_value(call, mark)).collect();
        pairs.push(("tool_calls", Value::from(calls)));
    }
    pairs.extend(extra.name.iter().map(|name| ("name", Value::from(name.as_str()))));
    pairs.extend(extra.tool_call_id.iter().map(|id| ("tool_call_id", Value::from(id.as_str()))));
    Value::from_pairs(pairs)
}

/// A call; the marks go around the name of the tool, which every layout writes.
fn call_value(call: &serde_json::Value, mark: Option<usize>) -> Value {
    let mut call = call.clone();
    if let Some(at) = mark
        && let Some(name) = call.pointer_mut("/function/name")
        && let Some(text) = name.as_str()
    {
        *name = marked_part(text, at, Part::Call).into();
    }
    of_json(&call)
}

/// A JSON value; the parser that made it bounds how deep it nests.
fn of_json(value: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match value {
        Json::Null => Value::from(()),
        Json::Bool(is) => Value::from(*is),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => Value::from(whole),
            (None, Some(whole)) => Value::from(whole),
            (None, None) => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(list) => list.iter().map(of_json).collect(),
        Json::Object(fields) => Value::from_pairs(fields.iter().map(|(key, value)| (key.as_str(), of_json(value)))),
    }
}

/// The descriptions of tools, `none` where there are none.
pub(crate) fn tools(tools: &[serde_json::Value]) -> Value {
    if tools.is_empty() { Value::from(()) } else { tools.iter().map(of_json).collect() }
}

/// A question, an answer to it that calls a tool, and one that thinks first.
pub(crate) fn probes() -> [Turn; 3] {
    let mut calling = Turn::new(Role::Assistant, "");
    let extra = calling.extra_mut();
    extra.null_content = true;
    // Some layouts insist on identifiers of nine characters.
    let function = json!({"name": PROBED_TOOL, "arguments": {"x": "y"}});
    extra.tool_calls.push(json!({"type": "function", "id": "abcdefghi", "function": function}));
    let mut thinking = Turn::new(Role::Assistant, "x");
    thinking.extra_mut().reasoning = Some("y".to_owned());
    [Turn::new(Role::User, "x"), calling, thinking]
}

/// `turn`, offering a tool.
pub(crate) fn offering(turn: &Turn) -> Turn {
    let mut turn = turn.clone();
    let parameters = json!({"type": "object", "properties": {"x": {"type": "string", "description": "x"}}});
    let function = json!({"name": PROBED_TOOL, "description": "x", "parameters": parameters});
    turn.extra_mut().tools.push(json!({"type": "function", "function": function}));
    turn
}
