//! What the licence of a base asks of those who pass a model on (formats.md 13).

use super::Origin;
use peft_models::base::BaseModel;
use peft_plan::{Fault, Result};
use std::path::Path;

/// Files that go with every export.
const FILES: [&str; 7] =
    ["LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE", "NOTICE.txt", "USE_POLICY.md", "USE_POLICY.txt"];
/// Most bytes of such a file, or of a model card.
const MOST_BYTES: u64 = 1 << 20;

/// The licence that the card of the base names.
pub(super) fn license_of(base: &BaseModel) -> Option<String> {
    let text = read(&base.dir()?.join("README.md"))?;
    let header = text.strip_prefix("---")?.split("\n---").next()?;
    let value = |key: &str| {
        let line = header.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        Some(line.trim().trim_matches(['"', '\'']).to_owned()).filter(|value| !value.is_empty())
    };
    match value("license")? {
        other if other == "other" => value("license_name").or(Some(other)),
        license => Some(license),
    }
}

/// The text of the licence of the base.
pub(super) fn license_text(base: &BaseModel) -> Option<String> {
    let dir = base.dir()?;
    FILES[..3].iter().find_map(|name| read(&dir.join(name)))
}

fn read(path: &Path) -> Option<String> {
    let small = std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.len() <= MOST_BYTES);
    small.then(|| std::fs::read_to_string(path).ok()).flatten()
}

/// Licence and notice of the base, beside the exported files.
pub(super) fn copy(origin: &Origin, folder: &Path) -> Result<()> {
    let Some(dir) = origin.base.dir().filter(|_| origin.base.checkpoint().gguf().is_none()) else { return Ok(()) };
    for name in FILES {
        if let Some(text) = read(&dir.join(name)) {
            let path = folder.join(name);
            durable::write_file(&path, text.as_bytes()).map_err(|error| Fault::io("write", &path, error))?;
        }
    }
    Ok(())
}

/// What the licence asks for, a sentence each.
pub(super) fn duties(license: &str) -> Vec<&'static str> {
    match license.to_ascii_lowercase().as_str() {
        "llama3" => vec![
            "Built with Meta Llama 3.",
            "The name of a model that you pass on must begin with `Llama 3`; a copy of the licence and the notice go with it.",
            "The Acceptable Use Policy of Meta holds for it too.",
        ],
        "llama2" => vec!["A copy of the licence, its notice and the Acceptable Use Policy go with the model."],
        other if other.starts_with("llama") => vec![
            "Built with Llama.",
            "The name of a model that you pass on must begin with `Llama`; a copy of the licence and the notice go with it.",
            "The Acceptable Use Policy of Meta holds for it too.",
        ],
        "gemma" => vec![
            "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms.",
            "Pass the use restrictions and the terms on, and say that the files were modified.",
        ],
        "qwen" | "qwen-research" => {
            vec!["Built with Qwen.", "The Qwen licence limits commercial use; read it before you pass the model on."]
        }
        other if other.starts_with("cc-by-nc") => vec!["This licence does not allow commercial use."],
        "mit" => vec!["Keep the notice of the licence."],
        "apache-2.0" => vec!["Keep the notice if there is one, and say that the files were modified."],
        _ => vec!["Read the licence of the base before you pass the model on."],
    }
}
