//! One attempt to train that must be refused.

use peft_tests::home::{Home, text};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A good model, good data, and what becomes of them.
pub(crate) struct Trial {
    pub(crate) home: Home,
    pub(crate) model: String,
    pub(crate) data: String,
}

impl Trial {
    /// A copy of the fixture `family` and six good rows.
    pub(crate) fn of(family: &str) -> Self {
        let home = Home::new();
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/parity").join(family).join("model");
        let model = home.path("model");
        std::fs::create_dir(&model).expect("created");
        for entry in std::fs::read_dir(fixture).expect("a fixture") {
            let path = entry.expect("readable").path();
            std::fs::copy(&path, Path::new(&model).join(path.file_name().expect("a name"))).expect("copied");
        }
        let rows: Vec<String> = (0..6).map(|n| format!(r#"{{"question":"Say {n}","answer":"It is {n}"}}"#)).collect();
        let data = home.write("good.jsonl", rows.join("\n"));
        Self { home, model, data }
    }

    /// A file of the model.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        Path::new(&self.model).join(name)
    }

    /// Replace the model's weights or another file of it.
    pub(crate) fn replace(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.file(name), content).expect("written");
    }

    /// Change a JSON file of the model.
    pub(crate) fn edit(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let bytes = std::fs::read(self.file(name)).expect("readable");
        let mut value = serde_json::from_slice(&bytes).expect("JSON");
        change(&mut value);
        self.replace(name, value.to_string());
    }

    /// Train with the model and the data as they are.
    pub(crate) fn refused(&self, code: &str, exit: i32) -> Value {
        self.refused_with(code, exit, &["--model", &self.model, "--data", &self.data])
    }

    /// Like [`Trial::refused`], with all arguments of `train`.
    pub(crate) fn refused_with(&self, code: &str, exit: i32, arguments: &[&str]) -> Value {
        let out = self.home.path("out");
        let fixed = ["train", "--json", "--threads", "1", "--set", "training.max_steps=2"];
        let mut words = [&fixed[..], arguments].concat();
        if !arguments.contains(&"--out") {
            words.extend(["--out", &out]);
        }
        let error = self.refused_command(code, exit, &words);
        assert!(!Path::new(&out).exists(), "{code}: a folder was made for nothing: {error}");
        assert_eq!(self.home.json(&["runs", "list"])["runs"], serde_json::json!([]), "{code}: {error}");
        error
    }

    /// Any command that must be refused.
    pub(crate) fn refused_command(&self, code: &str, exit: i32, words: &[&str]) -> Value {
        let output = self.home.run(words);
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(exit), "{words:?}: {stdout}{stderr}");
        assert!(!stderr.contains("panicked") && !stderr.contains("mistake in the program"), "{code}: {stderr}");
        // Notes may come before; the fault is the last word.
        let document = stderr.lines().last().expect("something is said");
        let document: Value = serde_json::from_str(document).expect("the fault is JSON");
        let error = document["error"].clone();
        assert_eq!(error["code"], code, "{error}");
        for field in ["title", "detail", "help"] {
            assert!(error[field].as_str().is_some_and(|value| !value.is_empty()), "no {field}: {error}");
        }
        assert!((2..=3).contains(&error["actions"].as_array().map_or(0, Vec::len)), "{error}");
        assert!(stderr.len() < 4000, "{code}: too long to read: {} bytes", stderr.len());
        assert!(!stdout.contains("\"step\""), "{code}: {stdout}");
        error
    }
}

/// What the fault tells about this case.
pub(crate) fn detail(error: &Value) -> &str {
    error["detail"].as_str().expect("text")
}
