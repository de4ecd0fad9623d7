//! Values of `${NAME}`: from the environment, an `.env` file, or the pipeline itself, in this order.
//!
//! What is secret by its name is given to steps in their environment only: words of a command would be seen in the
//! list of processes, and those of a run are kept in the library.

use peft_plan::{Fault, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Larger files are no lists of values.
const LARGEST: u64 = 1 << 20;
/// A word of a name that makes its value a secret.
const SECRET: [&str; 8] = ["TOKEN", "KEY", "APIKEY", "SECRET", "PASSWORD", "PASSWD", "PASS", "CREDENTIALS"];
/// Shorter values are not looked for in what steps say: they would be found by chance.
const SHORTEST_SECRET: usize = 6;

/// Every value that is known.
#[derive(Clone, Debug, Default)]
pub(super) struct Values {
    file: BTreeMap<String, String>,
    defaults: BTreeMap<String, String>,
    environment: BTreeMap<String, String>,
}

/// What `${...}` stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reference<'a> {
    /// `${NAME}`.
    Value(&'a str),
    /// `${step.field}`.
    Step(&'a str, &'a str),
}

impl Values {
    /// From the environment, `chosen` or the file `.env` beside the pipeline, and the pipeline's own.
    pub(super) fn gather(pipeline: &Path, chosen: Option<&Path>, defaults: &BTreeMap<String, String>) -> Result<Self> {
        let beside = pipeline.with_file_name(".env");
        let path = chosen.or_else(|| beside.is_file().then_some(&*beside));
        let file = path.map(read).transpose()?.unwrap_or_default();
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Ok(Self { file, defaults: defaults.clone(), environment })
    }

    /// The value of `name`.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        [&self.environment, &self.file, &self.defaults].iter().find_map(|values| values.get(name)).map(String::as_str)
    }

    /// What steps get in their environment beside what is there.
    pub(super) fn for_steps(&self) -> impl Iterator<Item = (&String, &String)> {
        let own = self.file.iter().chain(self.defaults.iter().filter(|(name, _)| !self.file.contains_key(*name)));
        own.filter(|(name, _)| !self.environment.contains_key(*name))
    }

    /// `text` without any secret.
    pub(super) fn redact(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, value) in [&self.environment, &self.file, &self.defaults].into_iter().flatten() {
            if is_secret(name) && value.len() >= SHORTEST_SECRET && text.contains(value.as_str()) {
                text = text.replace(value.as_str(), &format!("[{name}]"));
            }
        }
        text
    }
}

/// Whether `name` is that of a token, a key or a password.
pub(super) fn is_secret(name: &str) -> bool {
    name.to_uppercase().split('_').any(|word| SECRET.contains(&word))
}

/// The references of `text`; a fault for one that is not closed or has no name.
pub(super) fn references(text: &str) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    fill(text, |name| {
        found.insert(name.to_owned());
        Some(String::new())
    })?;
    Ok(found)
}

/// What a name within `${...}` means.
pub(super) fn reference(name: &str) -> Reference<'_> {
    name.split_once('.').map_or(Reference::Value(name), |(step, field)| Reference::Step(step, field))
}

/// `text` with every `${NAME}` replaced; `$${` is a plain `${`. A name without a value is left as it is.
pub(super) fn fill(text: &str, mut value: impl FnMut(&str) -> Option<String>) -> Result<String> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, after) = (&rest[..at], &rest[at + 2..]);
        if let Some(before) = before.strip_suffix('$') {
            filled += before;
            filled += "${";
            rest = after;
            continue;
        }
        filled += before;
        let name = after.split_once('}').map(|(name, _)| name).unwrap_or_default();
        let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        if name.is_empty() || !name.chars().all(is_plain) {
            let shown: String = after.chars().take(30).collect();
            return Err(Fault::new("PS-CFG-001", format!("`${{{shown}` is no reference such as ${{NAME}}")));
        }
        match value(name) {
            Some(value) => filled += &value,
            None => filled.extend(["${", name, "}"]),
        }
        rest = &after[name.len() + 1..];
    }
    filled += rest;
    Ok(filled)
}

fn read(path: &Path) -> Result<BTreeMap<String, String>> {
    let io = |error| Fault::io("read the values of", path, error);
    if std::fs::metadata(path).map_err(io)?.len() > LARGEST {
        return Err(Fault::new("PS-CFG-001", format!("`{}` is too large to be a list of values", path.display())));
    }
    let text = std::fs::read_to_string(path).map_err(io)?;
    parse(&text).map_err(|line| {
        // The line itself may be a secret.
        let detail = format!("Line {line} of `{}` is not written NAME=VALUE", path.display());
        Fault::new("PS-CFG-001", detail)
    })
}

/// Names and values of an `.env` file, or the number of the line that is none.
fn parse(text: &str) -> Result<BTreeMap<String, String>, usize> {
    let mut values = BTreeMap::new();
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=').ok_or(index + 1)?;
        let name = name.trim();
        let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !begins || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(index + 1);
        }
        values.insert(name.to_owned(), value_of(value.trim()).ok_or(index + 1)?);
    }
    Ok(values)
}

/// A value: in single quotation marks as it is, in double ones with `\n`, `\"` and `\\`, bare up to ` #`.
fn value_of(text: &str) -> Option<String> {
    if let Some(rest) = text.strip_prefix('\'') {
        return rest.split_once('\'').map(|(value, _)| value.to_owned());
    }
    let Some(rest) = text.strip_prefix('"') else {
        return Some(text.split(" #").next().unwrap_or_default().trim_end().to_owned());
    };
    let mut value = String::new();
    let mut letters = rest.chars();
    loop {
        match letters.next()? {
            '"' => return Some(value),
            '\\' => match letters.next()? {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_filled_in_and_what_is_no_reference_stays() {
        let value = |name: &str| (name == "A").then(|| "1".to_owned());
        assert_eq!(fill("x${A}y$A $${A} ${B}", value).expect("filled"), "x1y$A ${A} ${B}");
        for broken in ["${", "${}", "${A", "${a b}"] {
            assert_eq!(fill(broken, value).expect_err(broken).code, "PS-CFG-001");
        }
        assert_eq!(reference("train.run"), Reference::Step("train", "run"));
    }

    #[test]
    fn an_env_file_is_read_as_shells_do_and_errors_do_not_tell_secrets() {
        let text = "\u{feff}# comment\n\nA=1\nexport B = 'x y' # said\nC=\"l\\n\\\"q\\\"\"\nD=plain # said\nE=\n";
        let values = parse(text).expect("values");
        let expected = [("A", "1"), ("B", "x y"), ("C", "l\n\"q\""), ("D", "plain"), ("E", "")];
        assert_eq!(values.iter().map(|(k, v)| (&**k, &**v)).collect::<Vec<_>>(), expected);
        for (text, line) in [("A=1\nhf_secret", 2), ("1A=2", 1), ("A=\"open", 1), ("A B=1", 1)] {
            assert_eq!(parse(text), Err(line), "{text}");
        }
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("x.env");
        std::fs::write(&path, "A=1\nhf_secretsecret\n").expect("written");
        let detail = read(&path).expect_err("no value").detail;
        assert!(detail.contains("Line 2") && !detail.contains("secret"), "{detail}");
    }

    #[test]
    fn secrets_are_known_by_their_names_and_taken_out() {
        assert!(["HF_TOKEN", "OPENAI_API_KEY", "db_password"].iter().all(|name| is_secret(name)));
        assert!(["MAX_TOKENS", "TOKENIZER", "MODEL", "KEYBOARD"].iter().all(|name| !is_secret(name)));
        let mut values = Values::default();
        values.file.insert("HF_TOKEN".to_owned(), "hf_abcdef".to_owned());
        values.file.insert("NAME".to_owned(), "public".to_owned());
        assert_eq!(values.redact("a hf_abcdef public"), "a [HF_TOKEN] public");
    }
}
