//! The pipeline file as it is written.

use peft_plan::{Fault, Result};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// What the file says it is.
const SCHEMA: &str = "peft-studio/pipeline";
/// Larger files are no pipelines.
const LARGEST: u64 = 4 << 20;
const FIELDS: [&str; 5] = ["schema", "version", "name", "variables", "steps"];
const STEP_FIELDS: [&str; 4] = ["name", "command", "arguments", "options"];

/// A pipeline.
#[derive(Clone, Debug, PartialEq)]
pub struct PipelineFile {
    /// For people; that of the file where none is given.
    pub name: String,
    /// Values for `${NAME}` that neither the environment nor the `.env` file gives.
    pub variables: BTreeMap<String, String>,
    /// What is done, in order.
    pub steps: Vec<StepFile>,
}

/// A step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepFile {
    /// Unique in the file.
    pub name: String,
    /// Words of the command: `train`, `data convert`.
    pub command: Vec<String>,
    /// What stands after the command without a name.
    pub arguments: Vec<String>,
    /// Options by name, without the two dashes: text, a number, a list for several, `true` for one without a value.
    pub options: Map<String, Value>,
}

fn refused(detail: impl Into<String>) -> Fault {
    Fault::new("PS-CFG-001", detail)
}

impl PipelineFile {
    /// Read `path`.
    pub fn read(path: &Path) -> Result<Self> {
        let io = |error| Fault::io("read the pipeline", path, error);
        if std::fs::metadata(path).map_err(io)?.len() > LARGEST {
            return Err(refused(format!("`{}` is too large to be a pipeline file", path.display())));
        }
        let text = std::fs::read_to_string(path).map_err(io)?;
        let stem = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        Self::parse(&text, &stem)
    }

    fn parse(text: &str, stem: &str) -> Result<Self> {
        let document: Value = serde_json::from_str(text)
            .map_err(|e| refused(format!("The pipeline is not valid JSON: {e}")).caused_by(e))?;
        let Value::Object(document) = document else {
            return Err(refused("A pipeline is written {\"steps\": [...]}; this file holds something else"));
        };
        known(&document, &FIELDS, "The pipeline")?;
        match document.get("schema").and_then(Value::as_str) {
            Some(SCHEMA) => {}
            other => {
                let what = other.map_or_else(|| "missing".to_owned(), |other| format!("`{other}`"));
                return Err(refused(format!("`schema` is {what}; a pipeline file says `{SCHEMA}`")));
            }
        }
        match document.get("version").map_or(Some(1), Value::as_u64) {
            Some(1) => {}
            _ => {
                return Err(refused(format!(
                    "This pipeline has version {}; this program knows version 1",
                    document["version"]
                )));
            }
        }
        let Some(steps) = document.get("steps").and_then(Value::as_array).filter(|steps| !steps.is_empty()) else {
            return Err(refused("`steps` is a list of at least one step"));
        };
        let steps =
            steps.iter().enumerate().map(|(index, step)| StepFile::parse(step, index)).collect::<Result<Vec<_>>>()?;
        for (index, step) in steps.iter().enumerate() {
            if steps[..index].iter().any(|earlier| earlier.name == step.name) {
                return Err(refused(format!("Two steps are called `{}`; give one of them another `name`", step.name)));
            }
        }
        Ok(Self {
            name: document
                .get("name")
                .map(|name| text_of(name, "`name`"))
                .transpose()?
                .unwrap_or_else(|| stem.to_owned()),
            variables: variables(document.get("variables"))?,
            steps,
        })
    }
}

impl StepFile {
    fn parse(step: &Value, index: usize) -> Result<Self> {
        let place = format!("Step {}", index + 1);
        let Value::Object(step) = step else {
            return Err(refused(format!("{place} is written {{\"command\": ...}}; here it is {}", short(step))));
        };
        known(step, &STEP_FIELDS, &place)?;
        let command: Vec<String> = step
            .get("command")
            .and_then(Value::as_str)
            .map(|command| command.split_whitespace().map(str::to_owned).collect())
            .unwrap_or_default();
        if command.is_empty() {
            return Err(refused(format!("{place} has no `command`, such as \"train\" or \"data convert\"")));
        }
        let name =
            step.get("name").map(|name| text_of(name, &format!("The name of {}", place.to_lowercase()))).transpose()?;
        let name = name.unwrap_or_else(|| command.join("-"));
        let is_plain = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || !name.chars().all(is_plain) {
            return Err(refused(format!(
                "{place}: a name is made of letters, digits, `-` and `_`; here it is `{name}`"
            )));
        }
        let list = |value: &Value| match value {
            Value::Array(items) => {
                items.iter().map(|item| text_of(item, &format!("An argument of `{name}`"))).collect::<Result<Vec<_>>>()
            }
            one => Ok(vec![text_of(one, &format!("The argument of `{name}`"))?]),
        };
        let arguments = step.get("arguments").map(list).transpose()?.unwrap_or_default();
        let options = match step.get("options") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(options)) => options.clone(),
            Some(other) => {
                return Err(refused(format!(
                    "Step `{name}`: `options` is written {{\"name\": value}}; here it is {}",
                    short(other)
                )));
            }
        };
        Ok(Self { name, command, arguments, options })
    }

    /// The words of the command line, values not filled in.
    pub fn words(&self) -> Result<Vec<String>> {
        let mut words = self.command.clone();
        words.extend(self.arguments.iter().cloned());
        for (name, value) in &self.options {
            let option = format!("--{}", name.trim_start_matches('-').replace('_', "-"));
            let place = format!("Step `{}`: the option `{name}`", self.name);
            match value {
                Value::Null | Value::Bool(false) => {}
                Value::Bool(true) => words.push(option),
                Value::Array(items) => {
                    for item in items {
                        words.push(format!("{option}={}", text_of(item, &place)?));
                    }
                }
                one => words.push(format!("{option}={}", text_of(one, &place)?)),
            }
        }
        Ok(words)
    }
}

fn known(object: &Map<String, Value>, fields: &[&str], place: &str) -> Result<()> {
    let Some(unknown) = object.keys().find(|key| !fields.contains(&key.as_str())) else { return Ok(()) };
    let likeness = |field: &&str| strsim::jaro_winkler(field, unknown);
    let nearest = fields.iter().copied().max_by(|a, b| likeness(a).total_cmp(&likeness(b))).unwrap_or_default();
    Err(Fault::new("PS-CFG-002", format!("{place} has no field `{unknown}`. Did you mean `{nearest}`?"))
        .action(format!("Use `{nearest}`"), None)
        .action("See how a pipeline is written", Some("peft-studio pipeline --help".to_owned())))
}

fn variables(value: Option<&Value>) -> Result<BTreeMap<String, String>> {
    match value {
        None | Some(Value::Null) => Ok(BTreeMap::new()),
        Some(Value::Object(object)) => object
            .iter()
            .map(|(name, value)| Ok((name.clone(), text_of(value, &format!("The variable `{name}`"))?)))
            .collect(),
        Some(other) => {
            Err(refused(format!("`variables` is written {{\"NAME\": \"value\"}}; here it is {}", short(other))))
        }
    }
}

/// Text, or a number or truth value as it is written.
fn text_of(value: &Value, place: &str) -> Result<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        other => Err(refused(format!("{place} is text or a number; here it is {}", short(other)))),
    }
}

fn short(value: &Value) -> String {
    value.to_string().chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<PipelineFile> {
        PipelineFile::parse(text, "chain")
    }

    #[test]
    fn a_step_becomes_the_words_a_person_would_type_s1_26() {
        let file = parse(
            r#"{"schema":"peft-studio/pipeline","steps":[{"command":"data convert","arguments":["a.csv"],
               "options":{"to":"messages","validation_split":0.1,"deduplicate":true,"repair":false,"columns":["a=b","c=d"]}}]}"#,
        )
        .expect("a pipeline");
        assert_eq!((file.name.as_str(), file.steps[0].name.as_str()), ("chain", "data-convert"));
        let expected = [
            "data",
            "convert",
            "a.csv",
            "--to=messages",
            "--validation-split=0.1",
            "--deduplicate",
            "--columns=a=b",
            "--columns=c=d",
        ];
        assert_eq!(file.steps[0].words().expect("words"), expected);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let step = |step: &str| format!(r#"{{"schema":"peft-studio/pipeline","steps":[{step}]}}"#);
        for (text, named) in [
            ("[1]".to_owned(), "steps"),
            ("{".to_owned(), "JSON"),
            (r#"{"steps":[{"command":"train"}]}"#.to_owned(), "schema"),
            (r#"{"schema":"peft-studio/run","steps":[]}"#.to_owned(), "peft-studio/run"),
            (r#"{"schema":"peft-studio/pipeline","version":2,"steps":[]}"#.to_owned(), "version 2"),
            (r#"{"schema":"peft-studio/pipeline","steps":[]}"#.to_owned(), "at least one"),
            (r#"{"schema":"peft-studio/pipeline","stepps":[]}"#.to_owned(), "`steps`"),
            (step("3"), "Step 1"),
            (step(r#"{"command":""}"#), "no `command`"),
            (step(r#"{"command":"train","optoins":{}}"#), "`options`"),
            (step(r#"{"command":"train","options":[]}"#), "`options`"),
            (step(r#"{"command":"train","name":"a/b"}"#), "a/b"),
            (step(r#"{"command":"train"},{"command":"train"}"#), "Two steps"),
        ] {
            let fault = parse(&text).expect_err(&text);
            assert!(fault.detail.contains(named), "{text}: {}", fault.detail);
            assert_eq!(fault.entry().exit, 3, "{text}");
        }
        let nested = parse(&step(r#"{"command":"train","options":{"set":{"a":1}}}"#)).expect("read");
        assert!(nested.steps[0].words().expect_err("no text").detail.contains("`set`"));
    }
}
