//! A piece of a document, and where it is from: what `data chunk` writes, or any JSONL with texts.

use crate::key;
use peft_plan::{Fault, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A piece of a document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Names it; the same text of the same source has the same one tomorrow.
    pub id: String,
    /// What it says.
    pub text: String,
    /// The file it is from.
    pub source: String,
    /// The headings above it, the outermost first.
    pub heading: Vec<String>,
}

/// Chunks of a JSONL text. Lines that hold no text are counted, not refused; PS-DATA-005 where none does.
pub fn read(text: &str) -> Result<(Vec<Chunk>, usize)> {
    let (mut chunks, mut passed): (Vec<Chunk>, usize) = (Vec::new(), 0);
    let mut known = std::collections::BTreeSet::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let Some(chunk) = serde_json::from_str(line).ok().and_then(|fields| chunk(&fields)) else {
            passed += 1;
            continue;
        };
        // The same piece twice would be asked about twice.
        if known.insert(chunk.id.clone()) {
            chunks.push(chunk);
        }
    }
    if chunks.is_empty() {
        return Err(Fault::new("PS-DATA-005", "There is no chunk with text in this file."));
    }
    Ok((chunks, passed))
}

fn chunk(fields: &Map<String, Value>) -> Option<Chunk> {
    let metadata = fields.get("metadata").and_then(Value::as_object);
    let field = |names: &[&str]| {
        let found = names.iter().find_map(|name| fields.get(*name).or_else(|| metadata?.get(*name)));
        found.filter(|value| !value.is_null())
    };
    let text_of = |names: &[&str]| match field(names) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    let text = text_of(&["text", "content", "chunk"]).filter(|text| !text.trim().is_empty())?;
    let source = text_of(&["source", "path", "file"]).unwrap_or_default();
    let heading = match field(&["heading", "headings", "heading_path"]) {
        Some(Value::String(heading)) => vec![heading.clone()],
        Some(Value::Array(path)) => path.iter().filter_map(|part| part.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    };
    let id = text_of(&["id", "chunk_id", "hash"]).unwrap_or_else(|| key(&[&source, &text]));
    Some(Chunk { id, text, source, heading })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_read_whoever_wrote_them() {
        let text = r#"{"id":"a","text":"One.","source":"x.md","heading":["A","B"]}
not json
{"content":"Two.","metadata":{"source":"y.md","heading_path":"C"}}
{"id":"a","text":"One."}
{"text":"  "}"#;
        let (chunks, passed) = read(text).expect("two chunks");
        assert_eq!((chunks.len(), passed), (2, 2));
        assert_eq!(chunks[0].heading, ["A", "B"]);
        assert_eq!((chunks[1].source.as_str(), chunks[1].heading.as_slice()), ("y.md", &["C".to_owned()][..]));
        assert_eq!(chunks[1].id.len(), 20);
        assert_eq!(read("{}").expect_err("nothing").code, "PS-DATA-005");
    }
}
