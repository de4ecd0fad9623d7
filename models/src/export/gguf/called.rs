//! What a name does in llama.cpp: where `general.name` speaks of Phi-3, special tokens swallow the white space behind
//! them. The name that is written must say what the tokenizer does, whatever the person calls the model.

use super::value::Metadata;
use serde_json::Value;

const NAME: &str = "general.name";
const WORDS: [&str; 2] = ["phi-3", "phi3"];
/// Special tokens that keep the white space behind them all the same.
const KEEPING: [&str; 3] = ["<unk>", "<s>", "<|endoftext|>"];

/// Whether the token `text` of a file swallows the white space behind it, if it is special.
pub(super) fn swallows(metadata: &Metadata, text: &str) -> bool {
    metadata.text(NAME).is_some_and(speaks) && !KEEPING.contains(&text)
}

fn speaks(name: &str) -> bool {
    let name = name.to_lowercase();
    WORDS.iter().any(|word| name.contains(word))
}

/// Make the name say what the tokenizer `json` does.
pub(super) fn fit(metadata: &mut Metadata, json: &Value) {
    let added: Vec<&Value> = json["added_tokens"].as_array().into_iter().flatten().collect();
    let is_known =
        |text: &str| json["model"]["vocab"].get(text).is_some() || added.iter().any(|token| token["content"] == text);
    // llama.cpp does not open a file of that name without these.
    let can = KEEPING.into_iter().chain(["</s>"]).all(is_known);
    rename(metadata, can && added.iter().any(|token| token["special"] == true && token["rstrip"] == true));
}

/// Make the name say what that of the file says, whose tokenizer it is.
pub(super) fn follow(metadata: &mut Metadata, file: &Metadata) {
    rename(metadata, file.text(NAME).is_some_and(speaks));
}

fn rename(metadata: &mut Metadata, wanted: bool) {
    let name = metadata.text(NAME).unwrap_or_default().to_owned();
    match (wanted, speaks(&name)) {
        (true, false) => metadata.set(NAME, format!("{name} (Phi-3)").trim_start()),
        (false, true) => metadata.set(NAME, without(&name)),
        _ => {}
    }
}

/// `name` with a space in the words that mean something to llama.cpp.
fn without(name: &str) -> String {
    let mut name = name.to_owned();
    for word in WORDS {
        while let Some(at) = name.to_ascii_lowercase().find(word) {
            let end = at + word.len();
            name.replace_range(at + 3..end, " 3");
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::{fit, swallows};
    use crate::export::gguf::value::Metadata;
    use serde_json::json;

    #[test]
    fn the_name_says_what_the_tokenizer_does() {
        let tokenizer = |rstrip: bool| {
            json!({
                "added_tokens": [{"content": "<|end|>", "special": true, "rstrip": rstrip}],
                "model": {"vocab": {"<unk>": 0, "<s>": 1, "</s>": 2, "<|endoftext|>": 3}},
            })
        };
        for (rstrip, given, wanted) in [
            (true, "my-bot", "my-bot (Phi-3)"),
            (true, "Phi-3-mini", "Phi-3-mini"),
            (false, "Phi-3-PHI3-x", "Phi 3-PHI 3-x"),
            (false, "my-bot", "my-bot"),
        ] {
            let mut said = Metadata::default();
            said.set("general.name", given);
            fit(&mut said, &tokenizer(rstrip));
            assert_eq!(said.text("general.name"), Some(wanted));
            assert_eq!((swallows(&said, "<|end|>"), swallows(&said, "<s>")), (rstrip, false));
        }
        // Without the tokens that llama.cpp asks for the name must not be there.
        let mut said = Metadata::default();
        said.set("general.name", "qwen-phi3");
        fit(&mut said, &json!({"added_tokens": [{"content": "<|im_end|>", "special": true, "rstrip": true}]}));
        assert_eq!(said.text("general.name"), Some("qwen-phi 3"));
    }
}
