//! What a request asks: OpenAI's documents, checked field by field, before anything is computed.

use super::answer::Refused;
use peft_plan::{Role, Turn};
use serde_json::{Map, Value};

/// Most stop strings.
const STOPS: usize = 16;
/// Most texts of one request.
pub(super) const TEXTS: usize = 256;

/// What a model must look at, and how it is to answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// Which of the served models.
    pub model: String,
    /// What it is about.
    pub prompt: Prompt,
    /// 0: always the likeliest token.
    pub temperature: f64,
    /// Only the likeliest tokens that together have this probability.
    pub top_p: f64,
    /// Only so many of the likeliest tokens; 0: all.
    pub top_k: usize,
    /// Only tokens at least this likely relative to the likeliest; 0: all.
    pub min_p: f64,
    /// Against tokens that were written.
    pub presence_penalty: f64,
    /// Against tokens, by how often they were written.
    pub frequency_penalty: f64,
    /// Against tokens that were read or written; 1: none.
    pub repetition_penalty: f64,
    /// Seed of the draws, where one was given.
    pub seed: Option<u64>,
    /// Longest answer, where one was given.
    pub max_tokens: Option<usize>,
    /// Strings that end an answer.
    pub stop: Vec<String>,
    /// What the answer must look like.
    pub form: Option<Form>,
}

/// What a question is about.
#[derive(Clone, Debug, PartialEq)]
pub enum Prompt {
    /// Turns, the last of which wants an answer.
    Chat(Vec<Turn>),
    /// Text that is to be continued.
    Text(String),
}

/// What an answer must look like.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// Any JSON object.
    Json,
    /// What this schema describes.
    Schema(Value),
}

/// A request with how it is to be answered.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) questions: Vec<Question>,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
}

/// The fields of a document.
struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    /// `None` also for `null`.
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn number(&self, name: &'static str, low: f64, high: f64, default: f64) -> Result<f64, Refused> {
        let Some(value) = self.get(name) else { return Ok(default) };
        let number = value.as_f64().filter(|number| (low..=high).contains(number));
        number.ok_or_else(|| Refused::field(name, &format!("it is {}, and can be {low} to {high}", shown(value))))
    }

    fn whole(&self, name: &'static str, low: u64, high: u64) -> Result<Option<u64>, Refused> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = value.as_u64().filter(|number| (low..=high).contains(number));
        let told =
            || Refused::field(name, &format!("it is {}, and can be a whole number from {low} to {high}", shown(value)));
        number.map(Some).ok_or_else(told)
    }

    fn flag(&self, name: &'static str) -> Result<bool, Refused> {
        let Some(value) = self.get(name) else { return Ok(false) };
        value.as_bool().ok_or_else(|| Refused::field(name, "it can be true or false"))
    }

    /// Text or a list of texts.
    fn texts(&self, name: &'static str, most: usize) -> Result<Vec<String>, Refused> {
        let told = || Refused::field(name, &format!("it can be text, or a list of 1 to {most} texts"));
        match self.get(name) {
            None => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(vec![text.clone()]),
            Some(Value::Array(items)) if (1..=most).contains(&items.len()) => {
                items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(told)).collect()
            }
            Some(_) => Err(told()),
        }
    }

    /// What we cannot do is refused, not left out in silence.
    fn unsupported(&self, names: &[&'static str]) -> Result<(), Refused> {
        let is_nothing = |value: &Value| match value {
            Value::Bool(on) => !on,
            Value::Array(items) => items.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            Value::Number(number) => number.as_f64() == Some(0.0),
            Value::String(text) => text.is_empty() || text == "none" || text == "auto",
            Value::Null => true,
        };
        match names.iter().find(|name| self.get(name).is_some_and(|value| !is_nothing(value))) {
            Some(name) => Err(Refused::field(name, "this server cannot do that")),
            None => Ok(()),
        }
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 60 { text } else { text.chars().take(60).chain(['…']).collect() }
}

/// The document as an object.
pub(super) fn document(body: &[u8]) -> Result<Map<String, Value>, Refused> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(Refused::new(400, "The body is JSON, but no object", None)),
        Err(error) => Err(Refused::new(400, &format!("The body is not valid JSON: {error}"), None)),
    }
}

/// One of `names`; the first where none is given.
pub(super) fn model(fields: &Map<String, Value>, names: &[String]) -> Result<String, Refused> {
    let default = || names.first().cloned().unwrap_or_default();
    match fields.get("model") {
        None | Some(Value::Null) => Ok(default()),
        Some(Value::String(name)) if names.contains(name) => Ok(name.clone()),
        Some(Value::String(name)) => {
            let message = format!("The model `{}` is not served; there is: {}", short(name), names.join(", "));
            Err(Refused { param: Some("model".to_owned()), ..Refused::new(404, &message, Some("model_not_found")) })
        }
        Some(_) => Err(Refused::field("model", "it can be text")),
    }
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}

/// `POST /v1/chat/completions`.
pub(super) fn chat(fields: &Map<String, Value>, names: &[String]) -> Result<Asked, Refused> {
    let read = Fields(fields);
    read.unsupported(&[
        "tools",
        "functions",
        "tool_choice",
        "logprobs",
        "top_logprobs",
        "logit_bias",
        "audio",
        "prediction",
    ])?;
    let Some(Value::Array(messages)) = read.get("messages") else {
        return Err(Refused::field("messages", "it must be a list of messages"));
    };
    if messages.is_empty() {
        return Err(Refused::field("messages", "it is empty"));
    }
    let turns = messages.iter().enumerate().map(|(i, message)| turn(i, message)).collect::<Result<Vec<_>, _>>()?;
    let form = form(read.get("response_format"))?;
    Ok(Asked { questions: vec![question(&read, names, Prompt::Chat(turns), form)?], ..how(&read)? })
}

/// `POST /v1/completions`.
pub(super) fn completion(fields: &Map<String, Value>, names: &[String]) -> Result<Asked, Refused> {
    let read = Fields(fields);
    read.unsupported(&["logprobs", "logit_bias", "echo", "suffix"])?;
    if read.whole("best_of", 1, 1)?.is_some_and(|best| best != 1) {
        return Err(Refused::field("best_of", "it can be 1"));
    }
    let prompts = read.texts("prompt", STOPS)?;
    if prompts.iter().any(String::is_empty) || prompts.is_empty() {
        return Err(Refused::field("prompt", "it is empty"));
    }
    let how = how(&read)?;
    if how.stream && prompts.len() > 1 {
        return Err(Refused::field("prompt", "only one text can be streamed"));
    }
    let questions = prompts.into_iter().map(|text| question(&read, names, Prompt::Text(text), None));
    Ok(Asked { questions: questions.collect::<Result<_, _>>()?, ..how })
}

/// `POST /v1/embeddings`: the texts, and whether the numbers are wanted in base 64.
pub(super) fn embedding(fields: &Map<String, Value>) -> Result<(Vec<String>, bool), Refused> {
    let read = Fields(fields);
    let texts = read.texts("input", TEXTS)?;
    if texts.is_empty() || texts.iter().any(String::is_empty) {
        return Err(Refused::field("input", "it is empty"));
    }
    read.unsupported(&["dimensions"])?;
    match read.get("encoding_format").map(Value::as_str) {
        None | Some(Some("float")) => Ok((texts, false)),
        Some(Some("base64")) => Ok((texts, true)),
        Some(_) => Err(Refused::field("encoding_format", "it can be `float` or `base64`")),
    }
}

fn how(read: &Fields) -> Result<Asked, Refused> {
    let options = match read.get("stream_options") {
        None => None,
        Some(Value::Object(options)) => Some(Fields(options)),
        Some(_) => return Err(Refused::field("stream_options", "it must be an object")),
    };
    let include_usage = options.map_or(Ok(false), |options| options.flag("include_usage"))?;
    Ok(Asked { questions: Vec::new(), stream: read.flag("stream")?, include_usage })
}

fn question(read: &Fields, names: &[String], prompt: Prompt, form: Option<Form>) -> Result<Question, Refused> {
    read.whole("n", 1, 1)?;
    let most = 1 << 20;
    let longest = match read.whole("max_completion_tokens", 1, most)? {
        Some(longest) => Some(longest),
        None => read.whole("max_tokens", 1, most)?,
    };
    let stop = read.texts("stop", STOPS)?;
    if stop.iter().any(|text| text.is_empty() || text.len() > 1000) {
        return Err(Refused::field("stop", "a stop string has 1 to 1000 bytes"));
    }
    let seed = match read.get("seed") {
        None => None,
        // Negative seeds are as good as others.
        Some(value) => match value.as_u64().or_else(|| value.as_i64().map(|seed| seed as u64)) {
            Some(seed) => Some(seed),
            None => return Err(Refused::field("seed", "it can be a whole number")),
        },
    };
    Ok(Question {
        model: model(read.0, names)?,
        prompt,
        temperature: read.number("temperature", 0.0, 2.0, 1.0)?,
        top_p: read.number("top_p", 1e-6, 1.0, 1.0)?,
        top_k: read.whole("top_k", 0, 1 << 20)?.unwrap_or(0) as usize,
        min_p: read.number("min_p", 0.0, 1.0, 0.0)?,
        presence_penalty: read.number("presence_penalty", -2.0, 2.0, 0.0)?,
        frequency_penalty: read.number("frequency_penalty", -2.0, 2.0, 0.0)?,
        repetition_penalty: read.number("repetition_penalty", 0.01, 10.0, 1.0)?,
        seed,
        max_tokens: longest.map(|longest| longest as usize),
        stop,
        form,
    })
}

fn turn(index: usize, message: &Value) -> Result<Turn, Refused> {
    let place = |field: &str| format!("messages[{index}].{field}");
    let role = match message["role"].as_str() {
        Some("system" | "developer") => Role::System,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("tool" | "function") => Role::Tool,
        _ => return Err(Refused::field(&place("role"), "it can be system, user, assistant or tool")),
    };
    let content = match &message["content"] {
        Value::String(text) => text.clone(),
        Value::Null if role == Role::Assistant => String::new(),
        Value::Array(parts) => {
            let text = |part: &Value| match (part["type"].as_str(), part["text"].as_str()) {
                (Some("text") | None, Some(text)) => Ok(text.to_owned()),
                _ => Err(Refused::field(&place("content"), "this server reads text only")),
            };
            parts.iter().map(text).collect::<Result<Vec<_>, _>>()?.concat()
        }
        _ => return Err(Refused::field(&place("content"), "it must be text")),
    };
    Ok(Turn::new(role, content))
}

fn form(value: Option<&Value>) -> Result<Option<Form>, Refused> {
    let Some(value) = value else { return Ok(None) };
    match value["type"].as_str() {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(Form::Json)),
        Some("json_schema") => match &value["json_schema"]["schema"] {
            schema @ (Value::Object(_) | Value::Bool(_)) => Ok(Some(Form::Schema(schema.clone()))),
            _ => Err(Refused::field("response_format.json_schema.schema", "it must be a schema")),
        },
        _ => Err(Refused::field("response_format.type", "it can be text, json_object or json_schema")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn names() -> Vec<String> {
        vec!["tuned".to_owned(), "base".to_owned()]
    }

    fn ask(value: &Value) -> Result<Asked, Refused> {
        chat(value.as_object().expect("an object"), &names())
    }

    #[test]
    fn a_full_request_is_read_and_a_short_one_has_the_defaults_of_the_protocol() {
        let asked = ask(&json!({
            "model": "base", "stream": true, "stream_options": {"include_usage": true}, "temperature": 0, "top_p": 0.5,
            "max_completion_tokens": 7, "stop": ["a", "b"], "seed": -1, "n": 1, "user": "u", "tools": [],
            "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
            "messages": [{"role": "developer", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "kind"}]},
                         {"role": "user", "content": "Hi"}]
        }))
        .expect("read");
        let question = &asked.questions[0];
        assert!(asked.stream && asked.include_usage);
        assert_eq!((question.model.as_str(), question.max_tokens, question.seed), ("base", Some(7), Some(u64::MAX)));
        assert_eq!(question.form, Some(Form::Schema(json!({"type": "object"}))));
        let Prompt::Chat(turns) = &question.prompt else { panic!("turns") };
        assert_eq!((turns[0].role, turns[0].content.as_str()), (Role::System, "Be kind"));
        let short = ask(&json!({"messages": [{"role": "user", "content": "Hi"}]})).expect("read");
        let question = &short.questions[0];
        assert_eq!((question.model.as_str(), question.temperature, question.max_tokens), ("tuned", 1.0, None));
    }

    #[test]
    fn what_means_nothing_or_cannot_be_done_names_its_field() {
        let user = json!([{"role": "user", "content": "Hi"}]);
        let cases = [
            (json!({}), "messages"),
            (json!({"messages": []}), "messages"),
            (json!({"messages": "Hi"}), "messages"),
            (json!({"messages": [{"role": "robot", "content": "Hi"}]}), "messages[0].role"),
            (json!({"messages": [{"role": "user", "content": 5}]}), "messages[0].content"),
            (json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}), "messages[0].content"),
            (json!({"messages": [5]}), "messages[0].role"),
            (json!({"messages": user, "temperature": 3}), "temperature"),
            (json!({"messages": user, "temperature": "hot"}), "temperature"),
            (json!({"messages": user, "top_p": 0}), "top_p"),
            (json!({"messages": user, "max_tokens": 0}), "max_tokens"),
            (json!({"messages": user, "max_tokens": -1}), "max_tokens"),
            (json!({"messages": user, "n": 2}), "n"),
            (json!({"messages": user, "stop": ["", "a"]}), "stop"),
            (json!({"messages": user, "stop": [1]}), "stop"),
            (json!({"messages": user, "seed": "x"}), "seed"),
            (json!({"messages": user, "tools": [{"type": "function"}]}), "tools"),
            (json!({"messages": user, "logprobs": true}), "logprobs"),
            (json!({"messages": user, "stream": "yes"}), "stream"),
            (json!({"messages": user, "response_format": {"type": "xml"}}), "response_format.type"),
            (json!({"messages": user, "response_format": "json"}), "response_format.type"),
            (json!({"messages": user, "model": 1}), "model"),
        ];
        for (body, field) in cases {
            let refused = ask(&body).expect_err(&body.to_string());
            assert_eq!((refused.status, refused.param.as_deref()), (400, Some(field)), "{body}");
        }
        let unknown = ask(&json!({"messages": user, "model": "gpt-9"})).expect_err("unknown");
        assert_eq!((unknown.status, unknown.code.as_deref()), (404, Some("model_not_found")));
        assert!(document(b"{").is_err() && document(b"[]").is_err() && document(b"\xff").is_err());
    }

    #[test]
    fn completions_and_embeddings_take_a_text_or_several() {
        let complete = |value: Value| completion(value.as_object().expect("an object"), &names());
        assert_eq!(complete(json!({"prompt": "a"})).expect("read").questions.len(), 1);
        assert_eq!(complete(json!({"prompt": ["a", "b"]})).expect("read").questions.len(), 2);
        for bad in [json!({}), json!({"prompt": [1, 2]}), json!({"prompt": ["a", "b"], "stream": true})] {
            assert_eq!(complete(bad).expect_err("refused").param.as_deref(), Some("prompt"));
        }
        let embed = |value: Value| embedding(value.as_object().expect("an object"));
        assert_eq!(embed(json!({"input": "a", "encoding_format": "base64"})).expect("read"), (vec!["a".into()], true));
        assert!(embed(json!({"input": []})).is_err() && embed(json!({"input": vec!["a"; TEXTS + 1]})).is_err());
    }
}
