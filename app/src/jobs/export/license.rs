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

/// Whether `LICENSE` of the base goes with its exports.
pub(super) fn has_file(base: &BaseModel) -> bool {
    base.checkpoint().gguf().is_none() && base.dir().is_some_and(|dir| read(&dir.join(FILES[0])).is_some())
}

/// The lines of a model card's header that name the licence. The hub refuses a card whose licence it does not know
/// unless it is called `other`, with a name of its own.
pub(super) fn header(license: &str, has_file: bool) -> String {
    let quoted = |text: &str| serde_json::to_string(text).unwrap_or_default();
    let known = license.to_ascii_lowercase();
    if KNOWN.contains(&known.as_str()) {
        return format!("license: {}", quoted(&known));
    }
    let link = if has_file { "\nlicense_link: LICENSE" } else { "" };
    format!("license: other\nlicense_name: {}{link}", quoted(license))
}

/// Licences that the hub knows.
const KNOWN: [&str; 76] = [
    "apache-2.0",
    "mit",
    "openrail",
    "bigscience-openrail-m",
    "creativeml-openrail-m",
    "bigscience-bloom-rail-1.0",
    "bigcode-openrail-m",
    "afl-3.0",
    "artistic-2.0",
    "bsl-1.0",
    "bsd",
    "bsd-2-clause",
    "bsd-3-clause",
    "bsd-3-clause-clear",
    "c-uda",
    "cc",
    "cc0-1.0",
    "cc-by-2.0",
    "cc-by-2.5",
    "cc-by-3.0",
    "cc-by-4.0",
    "cc-by-sa-3.0",
    "cc-by-sa-4.0",
    "cc-by-nc-2.0",
    "cc-by-nc-3.0",
    "cc-by-nc-4.0",
    "cc-by-nd-4.0",
    "cc-by-nc-nd-3.0",
    "cc-by-nc-nd-4.0",
    "cc-by-nc-sa-2.0",
    "cc-by-nc-sa-3.0",
    "cc-by-nc-sa-4.0",
    "cdla-sharing-1.0",
    "cdla-permissive-1.0",
    "cdla-permissive-2.0",
    "wtfpl",
    "ecl-2.0",
    "epl-1.0",
    "epl-2.0",
    "etalab-2.0",
    "eupl-1.1",
    "eupl-1.2",
    "agpl-3.0",
    "gfdl",
    "gpl",
    "gpl-2.0",
    "gpl-3.0",
    "lgpl",
    "lgpl-2.1",
    "lgpl-3.0",
    "isc",
    "h-research",
    "intel-research",
    "lppl-1.3c",
    "ms-pl",
    "apple-ascl",
    "mpl-2.0",
    "odc-by",
    "odbl",
    "openrail++",
    "osl-3.0",
    "postgresql",
    "ofl-1.1",
    "ncsa",
    "unlicense",
    "zlib",
    "pddl",
    "lgpl-lr",
    "llama2",
    "llama3",
    "llama3.1",
    "llama3.2",
    "llama3.3",
    "llama4",
    "gemma",
    "unknown",
];

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

#[cfg(test)]
mod tests {
    use super::header;

    #[test]
    fn the_header_names_only_licences_that_the_hub_knows() {
        assert_eq!(header("Apache-2.0", true), "license: \"apache-2.0\"");
        assert_eq!(header("llama3.2", false), "license: \"llama3.2\"");
        assert_eq!(
            header("qwen-research: \"x\"", true),
            "license: other\nlicense_name: \"qwen-research: \\\"x\\\"\"\nlicense_link: LICENSE"
        );
    }
}
