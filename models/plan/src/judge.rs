//! Whether an answer is right: against a reference, as one of several labels, as JSON.
//!
//! Everything here is a function of texts, so that a command line, a run and a test cannot disagree about it.

use serde_json::Value;
use std::collections::HashMap;

/// Most labels of a set that is found in the data.
const MOST_LABELS: usize = 20;

/// Rows for each label, below which answers are no labels.
const ROWS_PER_LABEL: usize = 4;

/// Longest label, in characters and in words.
const LONGEST_LABEL: (usize, usize) = (40, 5);

/// How deep a schema may lead.
const DEEPEST: usize = 64;

/// What is answered, without what was thought before it.
pub fn spoken(answer: &str) -> &str {
    match answer.split_once("</think>") {
        Some((thought, answer)) if thought.trim_start().starts_with("<think>") => answer.trim(),
        _ => answer.trim(),
    }
}

/// Whether both say the same, white space around them aside.
pub fn is_exact(answer: &str, expected: &str) -> bool {
    spoken(answer) == spoken(expected)
}

/// The words of a text in lower case, without punctuation and English articles: what `SQuAD` compares.
pub fn words(text: &str) -> Vec<String> {
    let lower = spoken(text).to_lowercase();
    let plain: String = lower.chars().filter(|c| !is_punctuation(*c)).collect();
    plain.split_whitespace().filter(|word| !matches!(*word, "a" | "an" | "the")).map(str::to_owned).collect()
}

fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation()
        || matches!(c, '’' | '‘' | '“' | '”' | '…' | '–' | '—' | '«' | '»' | '。' | '、' | '！' | '？')
}

/// Harmonic mean of the share of right words and of found words.
pub fn f1(answer: &str, expected: &str) -> f64 {
    let (answer, expected) = (words(answer), words(expected));
    if answer.is_empty() || expected.is_empty() {
        return f64::from(u8::from(answer == expected));
    }
    let mut left: HashMap<&str, usize> = HashMap::new();
    for word in &expected {
        *left.entry(word).or_default() += 1;
    }
    let shared = answer.iter().filter(|word| match left.get_mut(word.as_str()) {
        Some(count) if *count > 0 => {
            *count -= 1;
            true
        }
        _ => false,
    });
    let shared = shared.count() as f64;
    2.0 * shared / (answer.len() + expected.len()) as f64
}

/// What the answers of a dataset are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Labels {
    /// A few short ones that come again and again, each with its rows, the most frequent first.
    Set(Vec<(String, usize)>),
    /// All the same.
    Single(String),
    /// Anything.
    Free,
}

/// Answers counted as long as they may be labels.
#[derive(Clone, Debug, Default)]
pub struct LabelCounts {
    counts: Vec<(String, usize)>,
    total: usize,
    is_free: bool,
}

impl LabelCounts {
    /// Another answer.
    pub fn add(&mut self, answer: &str) {
        if self.is_free {
            return;
        }
        self.total += 1;
        let answer = spoken(answer);
        if let Some((_, count)) = self.counts.iter_mut().find(|(label, _)| label == answer) {
            *count += 1;
            return;
        }
        let is_short = answer.len() <= 4 * LONGEST_LABEL.0
            && answer.chars().count() <= LONGEST_LABEL.0
            && answer.split_whitespace().count() <= LONGEST_LABEL.1
            && !answer.contains('\n');
        self.is_free = !is_short || self.counts.len() == MOST_LABELS;
        self.counts.push((answer.to_owned(), 1));
    }

    /// What they are.
    pub fn finish(mut self) -> Labels {
        let Self { counts, total, is_free } = &mut self;
        match counts.as_slice() {
            _ if *is_free => return Labels::Free,
            [(only, count)] if *count > 1 => return Labels::Single(only.clone()),
            counts if counts.len() < 2 || *total < ROWS_PER_LABEL * counts.len() => return Labels::Free,
            // Results of sums repeat, too.
            counts if counts.len() > 5 && counts.iter().all(|(label, _)| label.parse::<f64>().is_ok()) => {
                return Labels::Free;
            }
            _ => {}
        }
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        Labels::Set(std::mem::take(counts))
    }
}

/// Whether `answers` are labels.
pub fn labels(answers: &[&str]) -> Labels {
    let mut counts = LabelCounts::default();
    for answer in answers {
        counts.add(answer);
    }
    counts.finish()
}

/// Which of `labels` an answer is, in any case and with punctuation around it.
pub fn label_of(answer: &str, labels: &[String]) -> Option<usize> {
    let exact = labels.iter().position(|label| is_exact(answer, label));
    let plain = |text: &str| spoken(text).trim_matches(|c: char| is_punctuation(c) || c.is_whitespace()).to_lowercase();
    exact.or_else(|| labels.iter().position(|label| plain(label) == plain(answer) && !plain(label).is_empty()))
}

/// The JSON object or list that an answer is; not one inside other words.
pub fn json_of(answer: &str) -> Option<Value> {
    let value: Value = serde_json::from_str(spoken(answer)).ok()?;
    (value.is_object() || value.is_array()).then_some(value)
}

/// Whether `value` fits a JSON schema. Of what a schema can say, the parts that structured answers use are known:
/// types, properties, lists, choices, bounds, combinations and references inside the schema; the rest is taken as met.
pub fn fits_schema(value: &Value, schema: &Value) -> bool {
    fits(value, schema, schema, 0)
}

fn fits(value: &Value, schema: &Value, root: &Value, depth: usize) -> bool {
    if depth > DEEPEST {
        return false;
    }
    let rules = match schema {
        Value::Bool(any) => return *any,
        Value::Object(rules) => rules,
        _ => return true,
    };
    let sub = |schema: &Value| fits(value, schema, root, depth + 1);
    let each = |key: &str| rules.get(key).and_then(Value::as_array).map(Vec::as_slice);
    if let Some(target) = rules.get("$ref").and_then(Value::as_str) {
        let found = target.strip_prefix('#').and_then(|place| root.pointer(place));
        if !found.is_some_and(sub) {
            return false;
        }
    }
    let of_type = match rules.get("type") {
        Some(Value::String(name)) => is_type(value, name),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).any(|name| is_type(value, name)),
        _ => true,
    };
    let chosen = each("enum").is_none_or(|choices| choices.iter().any(|choice| same(choice, value)))
        && rules.get("const").is_none_or(|only| same(only, value));
    let combined = each("allOf").is_none_or(|all| all.iter().all(sub))
        && each("anyOf").is_none_or(|any| any.iter().any(sub))
        && each("oneOf").is_none_or(|one| one.iter().filter(|schema| sub(schema)).count() == 1)
        && rules.get("not").is_none_or(|not| !sub(not));
    let bound = |key: &str| rules.get(key).and_then(Value::as_f64);
    let within = |size: f64, low: &str, high: &str| {
        bound(low).is_none_or(|low| size >= low) && bound(high).is_none_or(|high| size <= high)
    };
    let inside = match value {
        Value::Number(number) => number.as_f64().is_none_or(|n| {
            within(n, "minimum", "maximum")
                && bound("exclusiveMinimum").is_none_or(|low| n > low)
                && bound("exclusiveMaximum").is_none_or(|high| n < high)
        }),
        Value::String(text) => within(text.chars().count() as f64, "minLength", "maxLength"),
        Value::Array(items) => {
            within(items.len() as f64, "minItems", "maxItems")
                && rules.get("items").is_none_or(|schema| items.iter().all(|item| fits(item, schema, root, depth + 1)))
        }
        Value::Object(fields) => {
            let properties = rules.get("properties").and_then(Value::as_object);
            let required = each("required").unwrap_or_default().iter().filter_map(Value::as_str);
            let extra = rules.get("additionalProperties");
            required.into_iter().all(|name| fields.contains_key(name))
                && fields.iter().all(|(name, field)| match properties.and_then(|known| known.get(name)) {
                    Some(schema) => fits(field, schema, root, depth + 1),
                    None => extra.is_none_or(|schema| fits(field, schema, root, depth + 1)),
                })
        }
        _ => true,
    };
    of_type && chosen && combined && inside
}

fn is_type(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|n| n.fract() == 0.0),
        _ => true,
    }
}

/// Equal, with 1 and 1.0 the same number.
fn same(a: &Value, b: &Value) -> bool {
    a == b || (a.as_f64().is_some() && a.as_f64() == b.as_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn answers_are_compared_as_in_squad() {
        assert!(is_exact(" Paris\n", "Paris") && !is_exact("paris", "Paris"));
        assert!(is_exact("<think>\nHm.\n</think>\n\nParis", "Paris"));
        assert_eq!(words("The Eiffel Tower!"), words("eiffel  tower"));
        assert!((f1("the cat sat", "a cat sat down") - 0.8).abs() < 1e-12);
        assert_eq!((f1("", ""), f1("", "x"), f1("x x", "x")), (1.0, 0.0, 2.0 / 3.0));
    }

    #[test]
    fn labels_are_few_short_and_repeated() {
        let repeat = |words: &[&'static str], times: usize| -> Vec<&'static str> {
            words.iter().copied().cycle().take(words.len() * times).collect()
        };
        let mut answers = repeat(&["yes", "no"], 5);
        answers.push(" no ");
        assert_eq!(labels(&answers), Labels::Set(vec![("no".to_owned(), 6), ("yes".to_owned(), 5)]));
        assert_eq!(labels(&repeat(&["spam"], 9)), Labels::Single("spam".to_owned()));
        assert_eq!(labels(&repeat(&["yes", "no"], 2)), Labels::Free);
        assert_eq!(labels(&repeat(&["a sentence that is far too long to be a label of anything"], 9)), Labels::Free);
        assert_eq!(labels(&repeat(&["1", "2", "3", "4", "5", "6"], 9)), Labels::Free);
        assert_eq!(labels(&[]), Labels::Free);
        let set = ["Positive".to_owned(), "Negative".to_owned()];
        assert_eq!(label_of("negative.", &set), Some(1));
        assert_eq!(label_of("not negative", &set), None);
        assert_eq!(label_of("", &set), None);
    }

    #[test]
    fn schemas_are_checked() {
        let schema = json!({"type": "object", "required": ["name", "age"], "additionalProperties": false, "properties": {
            "name": {"type": "string", "minLength": 1}, "age": {"type": "integer", "minimum": 0},
            "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "maxItems": 2},
            "kind": {"anyOf": [{"const": "x"}, {"type": "null"}]}}, "$defs": {"tag": {"enum": ["a", "b"]}}});
        for (value, fits) in [
            (json!({"name": "Ada", "age": 36}), true),
            (json!({"name": "Ada", "age": 36.0, "tags": ["a", "b"], "kind": null}), true),
            (json!({"name": "Ada"}), false),
            (json!({"name": "", "age": 1}), false),
            (json!({"name": "Ada", "age": -1}), false),
            (json!({"name": "Ada", "age": "36"}), false),
            (json!({"name": "Ada", "age": 1, "x": 1}), false),
            (json!({"name": "Ada", "age": 1, "tags": ["c"]}), false),
            (json!({"name": "Ada", "age": 1, "tags": ["a", "a", "a"]}), false),
            (json!({"name": "Ada", "age": 1, "kind": "y"}), false),
            (json!([]), false),
        ] {
            assert_eq!(fits_schema(&value, &schema), fits, "{value}");
        }
        // A schema that leads in a circle is met by nothing, and ends.
        assert!(!fits_schema(&json!(1), &json!({"$ref": "#"})));
        assert!(json_of("{\"a\": 1}").is_some() && json_of("it is {\"a\": 1}").is_none() && json_of("7").is_none());
    }
}
