//! How byte-level tokenizers split text before they merge, and the names that llama.cpp has for that.

use serde_json::{Value, json};

const CONTRACTIONS: &str = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";

/// A way to split: its name in `tokenizer.ggml.pre`, its pattern, and what else tells it apart.
struct Splitting {
    name: &'static str,
    pattern: Pattern,
    /// A word that is a token is not split further.
    ignore_merges: Option<bool>,
}

#[derive(Clone, Copy, PartialEq)]
enum Pattern {
    /// GPT-2's own, inside the byte-level step.
    BuiltIn,
    /// The same after single digits were taken out.
    Digits,
    /// Letters, numbers of at most so many digits, the rest.
    Words(&'static str),
    /// As `Words`, upper and lower case apart; contractions at the end of a word, or not.
    Cased(&'static str, bool),
}

/// Ways to split, the first that fits counts.
const SPLITTINGS: [Splitting; 7] = [
    Splitting { name: "llama-bpe", pattern: Pattern::Words("{1,3}"), ignore_merges: Some(true) },
    Splitting { name: "dbrx", pattern: Pattern::Words("{1,3}"), ignore_merges: Some(false) },
    Splitting { name: "qwen2", pattern: Pattern::Words(""), ignore_merges: None },
    Splitting { name: "smollm", pattern: Pattern::Digits, ignore_merges: None },
    Splitting { name: "gpt-2", pattern: Pattern::BuiltIn, ignore_merges: None },
    Splitting { name: "tekken", pattern: Pattern::Cased("", false), ignore_merges: None },
    Splitting { name: "gpt-4o", pattern: Pattern::Cased("{1,3}", true), ignore_merges: None },
];

/// Names that are read as another.
const ALIASES: [(&str, &str); 9] = [
    ("llama3", "llama-bpe"),
    ("llama-v3", "llama-bpe"),
    ("smaug-bpe", "llama-bpe"),
    ("phi-2", "gpt-2"),
    ("gpt2", "gpt-2"),
    ("deepseek-r1-qwen", "qwen2"),
    ("stablelm2", "qwen2"),
    ("hunyuan", "qwen2"),
    ("llama4", "gpt-4o"),
];

/// The name of how the tokenizer `json` splits; `None` where llama.cpp has none.
pub(super) fn name_of(json: &Value) -> Option<&'static str> {
    let ignores = json["model"]["ignore_merges"].as_bool().unwrap_or(false);
    let found = pattern_of(&json["pre_tokenizer"])?;
    let fits = |s: &&Splitting| s.pattern == found && s.ignore_merges.is_none_or(|wanted| wanted == ignores);
    SPLITTINGS.iter().find(fits).map(|s| s.name)
}

/// The step of a `tokenizer.json` that splits as `name` says, and whether whole words that are tokens stay whole.
pub(super) fn step_of(name: &str) -> Option<(Value, bool)> {
    let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name);
    let found = SPLITTINGS.iter().find(|s| s.name == name)?;
    let bytes =
        |regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex});
    let step = match found.pattern {
        Pattern::BuiltIn => bytes(true),
        Pattern::Digits => json!({"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": true}, bytes(true),
        ]}),
        Pattern::Words(_) | Pattern::Cased(..) => json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": regex(found.pattern)}, "behavior": "Isolated", "invert": false},
            bytes(false),
        ]}),
    };
    let ignores = found.ignore_merges == Some(true) || matches!(found.name, "tekken" | "gpt-4o");
    Some((step, ignores))
}

fn pattern_of(step: &Value) -> Option<Pattern> {
    let steps: Vec<&Value> = match step["type"].as_str()? {
        "Sequence" => step["pretokenizers"].as_array()?.iter().collect(),
        _ => vec![step],
    };
    let kinds: Vec<&str> = steps.iter().filter_map(|s| s["type"].as_str()).collect();
    let bytes = steps.last().filter(|s| s["type"] == "ByteLevel")?;
    if bytes["add_prefix_space"] == true {
        return None;
    }
    let is_built_in = bytes["use_regex"].as_bool().unwrap_or(true);
    match (kinds.as_slice(), is_built_in) {
        (["ByteLevel"], true) => Some(Pattern::BuiltIn),
        (["Digits", "ByteLevel"], true) if steps[0]["individual_digits"] == true => Some(Pattern::Digits),
        (["Split", "ByteLevel"], false) if is_plain_split(steps[0]) => {
            let found = steps[0]["pattern"]["Regex"].as_str()?;
            let known = SPLITTINGS.iter().map(|s| s.pattern);
            known.filter(|p| matches!(p, Pattern::Words(_) | Pattern::Cased(..))).find(|p| regex(*p) == found)
        }
        _ => None,
    }
}

/// Whether a split makes words of what the pattern matches, and of what is between.
fn is_plain_split(step: &Value) -> bool {
    step["invert"] != true && step["behavior"] == "Isolated"
}

fn regex(pattern: Pattern) -> String {
    match pattern {
        Pattern::BuiltIn | Pattern::Digits => String::new(),
        Pattern::Words(digits) => format!(
            "{CONTRACTIONS}|[^\\r\\n\\p{{L}}\\p{{N}}]?\\p{{L}}+|\\p{{N}}{digits}| ?[^\\s\\p{{L}}\\p{{N}}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
        ),
        Pattern::Cased(digits, contractions) => {
            let end = if contractions { format!("{CONTRACTIONS}?") } else { String::new() };
            format!(
                "[^\\r\\n\\p{{L}}\\p{{N}}]?[\\p{{Lu}}\\p{{Lt}}\\p{{Lm}}\\p{{Lo}}\\p{{M}}]*[\\p{{Ll}}\\p{{Lm}}\\p{{Lo}}\\p{{M}}]+{end}\
                 |[^\\r\\n\\p{{L}}\\p{{N}}]?[\\p{{Lu}}\\p{{Lt}}\\p{{Lm}}\\p{{Lo}}\\p{{M}}]+[\\p{{Ll}}\\p{{Lm}}\\p{{Lo}}\\p{{M}}]*{end}\
                 |\\p{{N}}{digits}| ?[^\\s\\p{{L}}\\p{{N}}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{SPLITTINGS, name_of, step_of};
    use serde_json::json;

    #[test]
    fn every_way_to_split_is_known_by_its_own_step() {
        for splitting in &SPLITTINGS {
            let (step, ignores) = step_of(splitting.name).expect("a step");
            let tokenizer = json!({"pre_tokenizer": step, "model": {"ignore_merges": ignores}});
            assert_eq!(name_of(&tokenizer), Some(splitting.name));
        }
        assert_eq!(name_of(&json!({"pre_tokenizer": {"type": "Whitespace"}, "model": {}})), None);
        assert!(step_of("made-up").is_none() && step_of("deepseek-r1-qwen").is_some());
    }
}
