//! What helps to find out what went wrong, in one text file that can be given away: no examples, no answers, no names
//! of people or folders, no keys.

use super::hardware;
use super::pipeline::is_secret;
use crate::cli::context::Context;
use peft_models::engine::Engine;
use peft_plan::{Fault, Result};
use peft_storage::{Run, RunFilter};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Runs that are described, the newest.
const RUNS: usize = 20;
/// The end of a log that is taken.
const TAIL: u64 = 16 << 10;
/// A value of the environment shorter than this is no secret that could be found in a text.
const SHORTEST: usize = 3;

/// Write it into the data directory; where it is comes back.
pub fn write(context: &Context) -> Result<PathBuf> {
    let folder = context.data_dir.join("logs");
    durable::create_directories(&folder).map_err(|e| Fault::io("create", &folder, e))?;
    let path = folder.join("diagnostics.txt");
    let text = Redactor::new().clean(&collect(context));
    durable::write_file(&path, text.as_bytes()).map_err(|e| Fault::io("write", &path, e))?;
    Ok(path)
}

fn collect(context: &Context) -> String {
    let mut text = format!(
        "PEFT Studio {}\n{} {}\nbackend {}, {} threads, offline {}\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH,
        context.backend,
        context.threads,
        context.offline
    );
    let looked = Engine::choice(&context.backend)
        .and_then(|chosen| hardware::probe(&context.data_dir, &chosen, &context.backend, context.threads));
    let machine = match looked {
        Ok((machine, _)) => serde_json::to_string_pretty(&machine).unwrap_or_default(),
        Err(fault) => format!("{}: {}", fault.code, fault.detail),
    };
    write!(text, "\n== Computer ==\n{machine}\n\n== Runs ==\n").expect("writing to memory");
    let runs =
        context.store().and_then(|store| store.list_runs(&RunFilter { limit: Some(RUNS), ..RunFilter::default() }));
    match runs {
        Ok(runs) => runs.iter().enumerate().for_each(|(i, run)| describe(&mut text, i, run)),
        Err(fault) => writeln!(text, "{}: {}", fault.code, fault.detail).expect("writing to memory"),
    }
    text
}

/// A run without its name, its examples, and where they are.
fn describe(text: &mut String, number: usize, run: &Run) {
    let mut config = run.config.clone();
    if let Some(fields) = config.as_object_mut() {
        fields.remove("name");
        fields.remove("dataset");
        fields.remove("evaluation");
    }
    let error = run.error.as_ref().map(|error| error.get("error").unwrap_or(error)["code"].clone());
    let line = json!({
        "run": number + 1, "status": run.status.as_str(), "step": run.last_step, "of": run.total_steps,
        "seconds": run.seconds, "error": error.unwrap_or(Value::Null), "settings": config,
    });
    writeln!(text, "{line}").expect("writing to memory");
    if run.error.is_some() {
        let log = tail(&run.directory.join(super::background::LOG));
        // A line that quotes an example would be in quotation marks or backticks.
        let is_plain = |line: &&str| !line.contains(['`', '"', '“']);
        log.lines().filter(is_plain).for_each(|line| writeln!(text, "  | {line}").expect("writing to memory"));
    }
}

/// The end of a log.
pub fn tail(log: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let from = file.metadata()?.len().saturating_sub(TAIL);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    // A run without a log has nothing to say.
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

/// Takes names, keys and the home folder out of texts.
pub struct Redactor(Vec<(String, String)>);

impl Redactor {
    /// What the environment says must not be given away.
    #[expect(clippy::new_without_default, reason = "it depends on the environment")]
    pub fn new() -> Self {
        Self(secrets())
    }

    /// `text` without it.
    pub fn clean(&self, text: &str) -> String {
        redact(text, &self.0)
    }
}

/// What must not be in the file, and what stands there instead; the longest first.
fn secrets() -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for (name, value) in std::env::vars() {
        let word = match name.as_str() {
            "HOME" | "USERPROFILE" => Some("~".to_owned()),
            "USER" | "USERNAME" | "LOGNAME" | "HOSTNAME" | "COMPUTERNAME" => Some("[name]".to_owned()),
            name if is_secret(name) => Some(format!("[{name}]")),
            _ => None,
        };
        if let Some(word) = word.filter(|_| value.len() >= SHORTEST) {
            found.push((value, word));
        }
    }
    found.sort_by_key(|(value, _)| std::cmp::Reverse(value.len()));
    found
}

fn redact(text: &str, secrets: &[(String, String)]) -> String {
    let mut text = text.to_owned();
    for (secret, word) in secrets {
        text = text.replace(secret.as_str(), word);
    }
    let words = text.split_inclusive(char::is_whitespace).map(|word| {
        // Tokens of the hub and of services like it, and keys in a line of settings.
        let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let is_token = ["hf_", "sk-", "ghp_", "xoxb-"].iter().any(|start| bare.starts_with(start)) && bare.len() > 12;
        if is_token { word.replace(bare, "[token]") } else { word.to_owned() }
    });
    words.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_away_has_no_names_and_no_keys_s1_27() {
        let secrets = [("/people/ada".to_owned(), "~".to_owned()), ("hunter22".to_owned(), "[API_KEY]".to_owned())];
        let text = redact("at /people/ada/data with hunter22 and \"hf_abcdefghijklmnop\", done", &secrets);
        assert_eq!(text, "at ~/data with [API_KEY] and \"[token]\", done");
    }

    #[test]
    fn it_is_written_even_where_there_is_nothing() {
        let home = tempfile::tempdir().expect("a folder");
        let context = Context {
            json: false,
            data_dir: home.path().to_owned(),
            backend: "cpu".to_owned(),
            threads: 1,
            offline: true,
        };
        let path = write(&context).expect("written");
        let text = std::fs::read_to_string(path).expect("read");
        assert!(text.starts_with("PEFT Studio") && text.contains("== Computer =="), "{text}");
    }
}
