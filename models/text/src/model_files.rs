//! The tokenizer's files in a model directory: which ones, how large, and which template wins.

use peft_plan::{Fault, Result};
use serde_json::{Map, Value};
use std::io::Read;
use std::path::Path;

/// The largest `tokenizer.json` that is read; the largest published ones are near 35 MB.
pub(crate) const TOKENIZER_LIMIT: u64 = 256 << 20;
/// The largest configuration file that is read (`added_tokens_decoder` makes them long).
const CONFIG_LIMIT: u64 = 64 << 20;
/// The largest chat template that is read; the longest published ones are near 30 kB.
pub(crate) const TEMPLATE_LIMIT: u64 = 1 << 20;

/// What a model directory says about its tokenizer.
pub(crate) struct ModelFiles {
    pub tokenizer_json: Vec<u8>,
    pub tokenizer_config: Map<String, Value>,
    pub generation_config: Map<String, Value>,
    pub config: Map<String, Value>,
    /// The text of `chat_template.jinja`.
    pub chat_template: Option<String>,
}

impl ModelFiles {
    /// Reads the files of `dir`.
    pub(crate) fn read(dir: &Path) -> Result<Self> {
        let Some(tokenizer_json) = bytes(dir, "tokenizer.json", TOKENIZER_LIMIT)? else {
            let also = ["tokenizer.model", "vocab.json"].into_iter().find(|name| dir.join(name).is_file());
            let hint = also.map_or_else(String::new, |name| {
                format!(" There is a `{name}`, but only `tokenizer.json` can be read.")
            });
            return Err(Fault::new(
                "PS-MODEL-003",
                format!("The folder `{}` has no `tokenizer.json`.{hint}", dir.display()),
            ));
        };
        let read = |name: &str| -> Result<Option<Map<String, Value>>> {
            bytes(dir, name, CONFIG_LIMIT)?.map(|raw| object(&raw, &dir.join(name).display().to_string())).transpose()
        };
        let mut tokenizer_config = read("tokenizer_config.json")?.unwrap_or_default();
        // Older repositories repeat the special tokens here; it only fills what is not said.
        for (key, value) in read("special_tokens_map.json")?.unwrap_or_default() {
            tokenizer_config.entry(key).or_insert(value);
        }
        let mut chat_template = match bytes(dir, "chat_template.jinja", TEMPLATE_LIMIT)? {
            Some(raw) => Some(text(raw, &dir.join("chat_template.jinja"))?),
            None => None,
        };
        if chat_template.is_none() && tokenizer_config.get("chat_template").is_none_or(Value::is_null) {
            chat_template =
                read("chat_template.json")?.and_then(|map| map.get("chat_template")?.as_str().map(str::to_owned));
        }
        Ok(Self {
            tokenizer_json,
            tokenizer_config,
            generation_config: read("generation_config.json")?.unwrap_or_default(),
            config: read("config.json")?.unwrap_or_default(),
            chat_template,
        })
    }
}

/// The JSON object in `raw`, called `name` in the message when it is none.
pub(crate) fn object(raw: &[u8], name: &str) -> Result<Map<String, Value>> {
    serde_json::from_slice(raw).map_err(|error| {
        Fault::new("PS-MODEL-005", format!("`{name}` does not hold a JSON object: {error}")).caused_by(error)
    })
}

/// The text of a template file.
pub(crate) fn template_text(path: &Path) -> Result<String> {
    let (dir, name) = (path.parent(), path.file_name().and_then(|name| name.to_str()));
    let (Some(dir), Some(name)) = (dir, name) else {
        return Err(missing(path));
    };
    match bytes(dir, name, TEMPLATE_LIMIT)? {
        Some(raw) => text(raw, path),
        None => Err(missing(path)),
    }
}

fn missing(path: &Path) -> Fault {
    Fault::new("PS-FILE-001", format!("There is no chat layout at `{}`.", path.display()))
}

fn text(raw: Vec<u8>, path: &Path) -> Result<String> {
    String::from_utf8(raw).map_err(|error| {
        Fault::new("PS-MODEL-005", format!("`{}` is not UTF-8 text.", path.display())).caused_by(error)
    })
}

/// The bytes of `dir/name`; `None` when there is no such file; a fault above `limit`.
fn bytes(dir: &Path, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
    let path = dir.join(name);
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Fault::io("open", &path, error)),
    };
    let mut raw = Vec::new();
    file.take(limit + 1).read_to_end(&mut raw).map_err(|error| Fault::io("read", &path, error))?;
    if raw.len() as u64 > limit {
        return Err(Fault::new(
            "PS-MODEL-005",
            format!("`{}` is larger than {} MB, which no tokenizer or layout needs.", path.display(), limit >> 20),
        ));
    }
    Ok(Some(raw))
}
