//! Tools that a conversation offers and calls of them, in the one form that chat layouts read.
//!
//! Data writes both in many ways: as objects, as JSON inside strings, bare or wrapped into
//! `{"type": "function", "function": ...}`. Layouts expect the wrapped form with arguments that are an object.

use crate::import::Refusal;
use serde_json::{Map, Value, json};

/// Columns that may hold descriptions of tools.
const COLUMNS: &[&str] = &["tools", "functions"];

/// The descriptions of tools of a record, taken out of it; `None` where it has none that can be read.
pub(crate) fn take(fields: &mut Map<String, Value>) -> Option<Vec<Value>> {
    let (column, tools) = COLUMNS.iter().find_map(|column| Some((*column, listed(fields.get(*column)?)?)))?;
    fields.shift_remove(column);
    Some(tools.into_iter().map(|tool| if column == "functions" { wrapped(tool) } else { tool }).collect())
}

/// The JSON schema that the answer of a record must fit, if a column holds one.
pub(crate) fn schema(fields: &Map<String, Value>) -> Option<Value> {
    let column = ["json_schema", "schema", "response_format"].iter().find_map(|name| fields.get(*name))?;
    let value = match column {
        Value::String(text) => serde_json::from_str(text).ok()?,
        other => other.clone(),
    };
    // `OpenAI` wraps it.
    let inner = ["/json_schema/schema", "/schema"].iter().find_map(|place| value.pointer(place).cloned());
    let schema = inner.unwrap_or(value);
    ["type", "properties", "anyOf", "oneOf", "$ref", "enum"]
        .iter()
        .any(|key| schema.get(key).is_some())
        .then_some(schema)
}

/// A list of at least one object, perhaps written as JSON in a string, or as a list of such strings.
fn listed(value: &Value) -> Option<Vec<Value>> {
    let list = match value {
        Value::String(text) => match serde_json::from_str(text).ok()? {
            Value::Array(list) => list,
            one @ Value::Object(_) => vec![one],
            _ => return None,
        },
        Value::Array(list) => list.clone(),
        _ => return None,
    };
    let parsed: Option<Vec<Value>> = list
        .into_iter()
        .map(|item| match item {
            Value::String(text) => serde_json::from_str::<Value>(&text).ok().filter(Value::is_object),
            item => Some(item).filter(Value::is_object),
        })
        .collect();
    parsed.filter(|list| !list.is_empty())
}

/// The calls in `tool_calls` and in the older `function_call` of turn `number`.
pub(crate) fn calls(number: usize, fields: &mut Map<String, Value>) -> Result<Vec<Value>, Refusal> {
    let mut calls = match fields.get("tool_calls") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(list)) if list.is_empty() => Vec::new(),
        Some(Value::String(text)) if text.trim().is_empty() => Vec::new(),
        Some(value) => listed(value)
            .ok_or_else(|| Refusal::shape(format!("turn {number} has `tool_calls` that are not a list of calls")))?,
    };
    calls.extend(
        fields.get("function_call").and_then(|call| listed(&Value::Array(vec![call.clone()]))).unwrap_or_default(),
    );
    let nameless = || Refusal::shape(format!("turn {number} calls a tool without a name"));
    calls.into_iter().map(|call| normal(call).ok_or_else(nameless)).collect()
}

/// A turn of speaker `function_call` whose words are the call.
pub(crate) fn spelled_calls(content: &str) -> Option<Vec<Value>> {
    listed(&Value::String(content.to_owned()))?.into_iter().map(normal).collect()
}

fn wrapped(function: Value) -> Value {
    if function.get("function").is_some() { function } else { json!({"type": "function", "function": function}) }
}

/// The call in the form of `OpenAI`, with arguments that are an object; `None` without a name.
fn normal(call: Value) -> Option<Value> {
    let mut call = wrapped(call);
    if let Some(text) = call["function"].as_str() {
        call["function"] = serde_json::from_str(text).ok()?;
    }
    let function = call.get_mut("function")?.as_object_mut()?;
    function.get("name").and_then(Value::as_str).filter(|name| !name.trim().is_empty())?;
    if !function.contains_key("arguments") {
        let other = function.shift_remove("parameters").unwrap_or(Value::Null);
        function.insert("arguments".to_owned(), other);
    }
    let arguments = &mut function["arguments"];
    // OpenAI writes the arguments as JSON inside a string; layouts write them as JSON themselves.
    if let Some(text) = arguments.as_str() {
        if text.trim().is_empty() {
            *arguments = json!({});
        } else if let Ok(parsed @ (Value::Object(_) | Value::Array(_))) = serde_json::from_str(text) {
            *arguments = parsed;
        }
    }
    if arguments.is_null() {
        *arguments = json!({});
    }
    Some(call)
}

/// `value` without members that are `null`: tables fill up what a row does not have with them.
pub(crate) fn without_padding(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(without_padding);
        }
        Value::Array(list) => list.iter_mut().for_each(without_padding),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_come_out_the_same_however_they_are_written() {
        let expected = json!([{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]);
        for turn in [
            json!({"tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]}),
            json!({"tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}}]}),
            json!({"tool_calls": [{"name": "f", "arguments": {"x": 1}}]}),
            json!({"tool_calls": "[{\"name\": \"f\", \"parameters\": {\"x\": 1}}]"}),
            json!({"function_call": {"name": "f", "arguments": "{\"x\":1}"}}),
        ] {
            let mut fields = turn.as_object().expect("an object").clone();
            let calls = calls(1, &mut fields).expect("a call");
            assert_eq!(Value::Array(calls), expected, "{turn}");
        }
    }

    #[test]
    fn a_call_without_a_name_is_refused_and_no_call_is_none() {
        let of = |turn: Value| calls(2, &mut turn.as_object().expect("an object").clone());
        assert!(of(json!({"tool_calls": [{"function": {"arguments": {}}}]})).is_err());
        assert!(of(json!({"tool_calls": 7})).is_err());
        assert!(of(json!({"tool_calls": null})).expect("none").is_empty());
        assert!(of(json!({"tool_calls": []})).expect("none").is_empty());
    }

    #[test]
    fn tools_are_read_from_lists_and_from_strings() {
        let tool = json!({"type": "function", "function": {"name": "f"}});
        for column in [json!([tool]), json!(json!([tool]).to_string()), json!([tool.to_string()])] {
            let mut fields = Map::from_iter([("tools".to_owned(), column)]);
            assert_eq!(take(&mut fields), Some(vec![tool.clone()]));
            assert!(fields.is_empty());
        }
        let mut fields = Map::from_iter([("functions".to_owned(), json!([{"name": "f"}]))]);
        assert_eq!(take(&mut fields), Some(vec![tool]));
        let mut words = Map::from_iter([("tools".to_owned(), json!("hammer and nails"))]);
        assert_eq!(take(&mut words), None);
        assert_eq!(words.len(), 1);
    }
}
