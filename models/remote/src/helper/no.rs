//! An answer that says no: what a status and the words beside it mean.
//!
//! Services disagree about where they say it: Ollama has `{"error": "text"}`, OpenAI `{"error": {"message", "code"}}`,
//! OpenRouter puts the status into `code` and may say all of it inside an answer with status 200.

use peft_plan::helper::Setback;
use serde_json::Value;
use std::time::Duration;

/// Longest wait that a service is believed.
const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// What an error document says.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Said {
    pub(crate) status: Option<u16>,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) is_moderation: bool,
}

/// The error inside `document`, if there is one.
pub(crate) fn said(document: &Value) -> Option<Said> {
    let error = document.get("error").filter(|error| !error.is_null())?;
    let metadata = &error["metadata"];
    let text = |value: &Value| value.as_str().map(clean).unwrap_or_default();
    let mut message = match error {
        Value::String(text) => clean(text),
        error => text(&error["message"]),
    };
    if let Some(raw) = metadata["raw"].as_str().filter(|raw| !raw.is_empty()) {
        message = format!("{message} ({})", clean(raw));
    }
    let status = error["code"].as_u64().or_else(|| error["status"].as_u64()).and_then(|code| u16::try_from(code).ok());
    let code = if error["code"].is_string() { text(&error["code"]) } else { text(&error["type"]) };
    Some(Said { status, code, message, is_moderation: metadata["reasons"].is_array() })
}

/// What a refusal with `status` means.
pub(crate) fn meaning(status: u16, said: &Said, retry_after: Option<Duration>) -> Setback {
    let Said { status: inner, code, message, is_moderation } = said;
    let status = inner.filter(|inner| (400..600).contains(inner)).unwrap_or(status);
    let lower = format!("{code} {message}").to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let why = match (message.is_empty(), code.is_empty()) {
        (false, _) => format!("\"{message}\""),
        (true, false) => code.clone(),
        (true, true) => format!("status {status}"),
    };
    let is_too_long = || {
        has(&[
            "context length",
            "context_length",
            "context size",
            "too long",
            "maximum context",
            "exceeds the available",
        ])
    };
    match status {
        402 => Setback::Credit(why),
        403 if *is_moderation || has(&["moderation", "flagged", "content policy"]) => Setback::Declined(why),
        401 | 403 => Setback::Key(why),
        404 | 410 => Setback::NoModel(why),
        408 => Setback::Busy(408),
        413 => Setback::TooLong(why),
        429 if has(&["insufficient_quota", "billing", "credit"]) => Setback::Credit(why),
        429 => Setback::TooMany(retry_after.map(|wait| wait.min(LONGEST_WAIT))),
        400.. if is_too_long() => Setback::TooLong(why),
        400..=499 if has(&["not a valid model", "model not found", "no such model", "does not exist"]) => {
            Setback::NoModel(why)
        }
        400..=499 if has(&["api key", "api_key", "unauthorized"]) => Setback::Key(why),
        400..=499 => Setback::Declined(why),
        500.. if message.is_empty() => Setback::Busy(status),
        500.. => Setback::Failed(why),
        // An error inside an answer of status 200 that names no number.
        _ if is_too_long() => Setback::TooLong(why),
        _ if has(&["not found"]) && has(&["model"]) => Setback::NoModel(why),
        _ => Setback::Failed(why),
    }
}

/// Whether the service does not know how to keep to a schema.
pub(crate) fn is_about_schema(said: &Said) -> bool {
    let lower = said.message.to_lowercase();
    ["response_format", "json_schema", "structured output", "grammar", "schema"].iter().any(|word| lower.contains(word))
}

/// Text of a service, for a message of ours.
pub(crate) fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn kind(status: u16, document: &Value) -> &'static str {
        meaning(status, &said(document).unwrap_or_default(), Some(Duration::from_secs(7))).kind()
    }

    #[test]
    fn every_way_to_say_no_is_told_apart() {
        let none = json!({});
        assert_eq!(kind(401, &none), "key");
        assert_eq!(kind(402, &none), "credit");
        assert_eq!(kind(403, &json!({"error": {"message": "flagged", "metadata": {"reasons": ["x"]}}})), "declined");
        assert_eq!(kind(403, &json!({"error": {"message": "country not supported"}})), "key");
        assert_eq!(kind(404, &json!({"error": "model 'x' not found"})), "no_model");
        assert_eq!(kind(429, &none), "too_many");
        assert_eq!(kind(429, &json!({"error": {"message": "You exceeded", "code": "insufficient_quota"}})), "credit");
        assert_eq!(kind(503, &none), "busy");
        assert_eq!(kind(500, &json!({"error": "model requires more system memory"})), "failed");
        assert_eq!(kind(400, &json!({"error": {"message": "maximum context length is 4096"}})), "too_long");
        assert_eq!(kind(400, &json!({"error": {"message": "x is not a valid model ID"}})), "no_model");
        assert_eq!(kind(400, &json!({"error": {"message": "bad"}})), "declined");
    }

    #[test]
    fn an_error_inside_an_answer_counts_as_what_it_says() {
        assert_eq!(kind(200, &json!({"error": {"code": 402, "message": "no"}})), "credit");
        assert_eq!(
            kind(200, &json!({"error": {"code": 502, "message": "Provider returned error", "metadata": {"raw": "x"}}})),
            "failed"
        );
        assert_eq!(kind(200, &json!({"error": "llama runner process has terminated"})), "failed");
        assert_eq!(said(&json!({"error": null})), None);
    }

    #[test]
    fn words_of_a_service_cannot_paint_on_the_terminal() {
        assert_eq!(clean("a\u{1b}[31mb\n"), "a[31mb");
        assert_eq!(clean(&"x".repeat(1000)).len(), 300);
    }
}
