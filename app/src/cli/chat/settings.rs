//! How answers are chosen: from the command line, and changed in the middle of a talk.

use super::impossible;
use crate::cli::args::ChatArgs;
use crate::jobs::answer::{AskOptions, Form};
use peft_models::generate::Sampling;
use peft_plan::{Fault, Result};
use serde_json::{Value, json};
use std::path::Path;

/// Longest file with a schema.
const SCHEMA_BYTES: u64 = 4 << 20;

pub(super) fn of_args(args: &ChatArgs) -> Result<AskOptions> {
    Ok(AskOptions {
        sampling: Sampling {
            temperature: args.temperature as f32,
            top_k: args.top_k,
            top_p: args.top_p as f32,
            min_p: args.min_p as f32,
            repetition_penalty: args.repetition_penalty as f32,
            presence_penalty: args.presence_penalty as f32,
            frequency_penalty: args.frequency_penalty as f32,
            seed: args.seed,
        },
        max_new_tokens: args.max_new_tokens,
        stop: args.stop.clone(),
        form: args.json_schema.as_deref().map(form).transpose()?,
    })
}

/// A schema as it is typed: `json` for any, the schema itself, or a file that holds it.
fn form(text: &str) -> Result<Form> {
    let trimmed = text.trim();
    if trimmed == "json" {
        return Ok(Form::Json);
    }
    if trimmed.starts_with('{') {
        return parsed(trimmed, "The schema").map(Form::Schema);
    }
    let path = Path::new(text);
    let io = |error| Fault::io("read the schema", path, error);
    if std::fs::metadata(path).map_err(io)?.len() > SCHEMA_BYTES {
        return Err(impossible(format!("`{text}` is too large for a schema")));
    }
    let content = std::fs::read_to_string(path).map_err(io)?;
    parsed(&content, &format!("The schema in `{text}`")).map(Form::Schema)
}

fn parsed(text: &str, what: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|e| impossible(format!("{what} is not valid JSON: {e}")).caused_by(e))
}

/// `key=value` in the middle of a talk. What is impossible changes nothing.
pub(super) fn set(options: &mut AskOptions, assignment: &str) -> Result<()> {
    let Some((key, value)) = assignment.split_once('=') else {
        return Err(impossible(format!("`/set {assignment}` has no `=`; write key=value, such as temperature=0.7")));
    };
    let (key, value) = (key.trim().replace('-', "_"), value.trim());
    let mut changed = options.clone();
    match key.as_str() {
        "max_new_tokens" => {
            changed.max_new_tokens = value
                .parse()
                .map_err(|_| impossible(format!("`max_new_tokens` is {value}; a whole number was expected")))?;
        }
        "stop" => {
            changed.stop = match serde_json::from_str::<Vec<String>>(value) {
                Ok(list) => list,
                Err(_) if value == "none" || value.is_empty() => Vec::new(),
                Err(_) => vec![value.to_owned()],
            };
        }
        "json_schema" => changed.form = if matches!(value, "none" | "") { None } else { Some(form(value)?) },
        _ => {
            let mut sampling = serde_json::to_value(changed.sampling).expect("plain data");
            if sampling.get(&key).is_none() {
                let mut known: Vec<String> =
                    sampling.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
                known.extend(["max_new_tokens", "stop", "json_schema"].map(str::to_owned));
                return Err(Fault::new(
                    "PS-CFG-002",
                    format!("There is no setting `{key}`; there are {}", known.join(", ")),
                ));
            }
            let number: Value = serde_json::from_str(value).unwrap_or(Value::Null);
            sampling[&key] = number;
            changed.sampling = serde_json::from_value(sampling)
                .map_err(|_| impossible(format!("`{key}` is {value}; a number was expected")))?;
        }
    }
    changed.check()?;
    *options = changed;
    Ok(())
}

/// The settings in words.
pub(super) fn shown(options: &AskOptions) -> String {
    let AskOptions { sampling, max_new_tokens, stop, form } = options;
    let mut lines: Vec<String> = serde_json::to_value(sampling)
        .ok()
        .as_ref()
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(name, value)| format!("  {name}={value}"))
        .collect();
    lines.push(format!("  max_new_tokens={max_new_tokens}"));
    lines.push(format!("  stop={}", json!(stop)));
    lines.push(format!(
        "  json_schema={}",
        match form {
            None => "none".to_owned(),
            Some(Form::Json) => "json".to_owned(),
            Some(Form::Schema(schema)) => schema.to_string(),
        }
    ));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_change_and_impossible_ones_change_nothing() {
        let mut options = AskOptions::default();
        for good in ["temperature=0.5", "top-k = 40", "seed=7", "stop=[\"a\",\"b\"]", "json_schema={\"type\":\"null\"}"]
        {
            set(&mut options, good).expect(good);
        }
        assert_eq!((options.sampling.temperature, options.sampling.top_k, options.sampling.seed), (0.5, 40, 7));
        assert_eq!(options.stop, ["a", "b"]);
        let before = options.clone();
        for (bad, code) in [
            ("temperature=nan", "PS-CFG-001"),
            ("temperature=-1", "PS-CFG-001"),
            ("top_p=0", "PS-CFG-001"),
            ("top_k=1.5", "PS-CFG-001"),
            ("max_new_tokens=0", "PS-CFG-001"),
            ("stop=[\"\"]", "PS-CFG-001"),
            ("warmth=1", "PS-CFG-002"),
            ("temperature", "PS-CFG-001"),
            ("json_schema={", "PS-CFG-001"),
            ("json_schema=/no/such/file", "PS-FILE-001"),
        ] {
            assert_eq!(set(&mut options, bad).expect_err(bad).code, code, "{bad}");
        }
        assert_eq!(options, before);
        set(&mut options, "stop=none").expect("none");
        set(&mut options, "json_schema=none").expect("none");
        assert!(options.stop.is_empty() && options.form.is_none() && shown(&options).contains("top_k=40"));
    }
}
