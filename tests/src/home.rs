//! A place to run the program in, and what to expect of every answer.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::SystemTime;
use tempfile::TempDir;

/// The program, built from the sources as they are.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let test = std::env::current_exe().expect("a test has a path");
        let profile = test.parent().and_then(Path::parent).expect("tests are in `deps` of their profile");
        let program = profile.join(format!("peft-studio{}", std::env::consts::EXE_SUFFIX));
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("inside the workspace");
        let built = std::fs::metadata(&program).and_then(|data| data.modified()).ok();
        let parts = ["Cargo.lock", "app", "kernels/ptx", "kernels/src", "models", "storage"];
        if built.is_none_or(|built| parts.iter().any(|part| changed(&root.join(part)) > built)) {
            let name = profile.file_name().and_then(|name| name.to_str()).expect("profiles have plain names");
            let profile = if name == "debug" { "dev" } else { name };
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let mut command = Command::new(cargo);
            // What Cargo says of the package of the tests: some dependencies are built again where it changes.
            let of_tests = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
            for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_tests)) {
                command.env_remove(name);
            }
            let status = command
                .args(["build", "--quiet", "--package", "peft_studio", "--profile", profile])
                .current_dir(root)
                .status();
            assert!(status.expect("cargo starts").success(), "the program does not build");
        }
        assert!(program.is_file(), "{} was not built", program.display());
        program
    })
}

/// When something in `place` was changed last.
fn changed(place: &Path) -> SystemTime {
    let own = std::fs::metadata(place).and_then(|data| data.modified()).expect("a readable source");
    let Ok(entries) = std::fs::read_dir(place) else { return own };
    entries.map(|entry| changed(&entry.expect("a readable entry").path())).fold(own, SystemTime::max)
}

/// A data directory of its own for each test.
pub struct Home(TempDir);

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

impl Home {
    /// An empty one.
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    /// The program that is tested.
    pub fn program(&self) -> PathBuf {
        program().to_owned()
    }

    /// A path in it, as it is typed.
    pub fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// A file in it.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::write(&path, content).expect("written");
        path
    }

    /// The program with these arguments, in an environment without opinions.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.environment(Command::new(program()), arguments)
    }

    /// The program with these arguments, started by `launcher`, which gets the program's path as its next argument.
    pub fn launched(&self, mut launcher: Command, arguments: &[&str]) -> Command {
        launcher.arg(program());
        self.environment(launcher, arguments)
    }

    fn environment(&self, mut command: Command, arguments: &[&str]) -> Command {
        command.args(arguments).stdin(Stdio::null());
        command.env("PEFT_STUDIO_HOME", self.0.path().join("home"));
        command.env("HF_HOME", self.0.path().join("hf"));
        // No test shows anything on the desktop of whoever runs it.
        command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
        for variable in ["DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR", "XDG_CURRENT_DESKTOP"] {
            command.env_remove(variable);
        }
        for variable in ["RUST_BACKTRACE", "NO_COLOR", "CLICOLOR_FORCE", "CLICOLOR"] {
            command.env_remove(variable);
        }
        for variable in
            ["HF_ENDPOINT", "HF_TOKEN", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN_PATH"]
        {
            command.env_remove(variable);
        }
        // A model of a test is nothing for the Ollama of whoever runs it: nobody listens there.
        command.env("OLLAMA_HOST", "http://127.0.0.1:1");
        command
    }

    /// Run to the end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the program starts")
    }

    /// The one document of a command that succeeds.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat());
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}");
        assert_eq!(stdout.lines().count(), 1, "{arguments:?}: {stdout}");
        serde_json::from_str(&stdout).expect("JSON")
    }

    /// The fault of a command that fails with `exit`, from both ways to show it.
    pub fn fault(&self, exit: i32, arguments: &[&str]) -> Value {
        let people = self.run(arguments);
        let scripts = self.run(&[arguments, &["--json"]].concat());
        for output in [&people, &scripts] {
            assert_eq!(output.status.code(), Some(exit), "{arguments:?}: {}", text(&output.stderr));
            // A run that had begun also tells its events that it failed.
            let stdout = text(&output.stdout);
            assert!(stdout.lines().all(|line| line.starts_with(r#"{"event":"failed""#)), "{arguments:?}: {stdout}");
        }
        let document: Value = serde_json::from_str(&text(&scripts.stderr)).expect("one JSON document on stderr");
        let error = document["error"].clone();
        for field in ["code", "title", "detail", "help"] {
            assert!(error[field].as_str().is_some_and(|value| !value.is_empty()), "{arguments:?}: no {field}: {error}");
        }
        let actions = error["actions"].as_array().expect("actions");
        assert!((2..=3).contains(&actions.len()), "{error}");
        let shown = text(&people.stderr);
        for told in [&error["title"], &error["code"], &actions[0]["label"], &actions[1]["label"]] {
            assert!(shown.contains(told.as_str().expect("text")), "{told} is not in: {shown}");
        }
        assert!(!shown.contains("backtrace") && !shown.contains('\u{1b}'), "{shown}");
        error
    }
}

/// What a process wrote.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}
