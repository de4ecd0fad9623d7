//! Every command that needs no network opens no socket: its system calls are watched (B13, G14).

use peft_tests::home::{Home, text};
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// System calls with which a socket begins.
const SOCKET_CALLS: [&str; 4] = ["socket(", "socketpair(", "connect(", "bind("];

/// Whether this machine lets a process watch another; said aloud where it does not. `.ci/run` installs strace.
fn can_watch() -> bool {
    let tried = Command::new("strace").args(["-f", "-e", "trace=socket", "true"]).output();
    let works = tried.is_ok_and(|output| output.status.success());
    if !works {
        // Past the capture of a test that passes.
        let _told =
            writeln!(std::io::stderr(), "SKIPPED: strace is not there or may not watch; no sockets were counted");
    }
    works
}

/// Run the program under strace; the lines about sockets, and the exit code.
fn sockets(home: &Home, arguments: &[&str], environment: &[(&str, &str)]) -> (Vec<String>, Option<i32>, String) {
    let record = home.path("calls.txt");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", &record, "-e", "trace=socket,socketpair,connect,bind,execve"]);
    let output = home.launched(strace, arguments).envs(environment.iter().copied()).output().expect("strace starts");
    let calls = std::fs::read_to_string(&record).expect("a record");
    assert!(calls.contains("execve("), "nothing was recorded: {calls}");
    let lines = calls.lines().filter(|line| SOCKET_CALLS.iter().any(|call| line.contains(call)));
    (lines.map(str::to_owned).collect(), output.status.code(), text(&output.stderr))
}

/// Commands that are not watched, and why.
const NOT_WATCHED: [(&str, &str); 4] = [
    ("serve", "it listens: tests/serve.rs"),
    ("pause", "it needs a run that is alive; it writes into the library as `stop` does"),
    ("verify", "it reads what `train` reads: tests/receipt.rs"),
    ("help", "as `--help`"),
];

/// Whoever adds a command says here whether it needs a network.
fn every_command_is_watched(home: &Home, watched: &[&[&str]]) {
    let help = text(&home.run(&["--help"]).stdout);
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names: Vec<&str> = listed
        .filter_map(|line| line.strip_prefix("  ").filter(|rest| !rest.starts_with(' '))?.split(' ').next())
        .collect();
    assert!(names.contains(&"train") && names.len() > 15, "{help}");
    let is_known = |name: &&str| {
        watched.iter().any(|command| command.first() == Some(name))
            || NOT_WATCHED.iter().any(|(known, _)| known == name)
    };
    let unknown: Vec<&str> = names.into_iter().filter(|name| !is_known(name)).collect();
    assert!(unknown.is_empty(), "nobody knows whether these open sockets: {unknown:?}");
}

#[test]
fn commands_that_need_no_network_open_no_socket_b13() {
    if !can_watch() {
        return;
    }
    let home = Home::new();
    let rows: Vec<String> = (0..6).map(|n| format!(r#"{{"question":"Say {n}","answer":"It is {n}"}}"#)).collect();
    let data = home.write("rows.jsonl", rows.join("\n"));
    let (out, clean, merged) = (home.path("out"), home.path("clean.jsonl"), home.path("merged"));
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/parity/llama/model").display().to_string();
    let imported = home.write("trl.json", r#"{"model_name_or_path": "a/b", "learning_rate": 1e-4, "lora_r": 8}"#);
    let steps = r#"[{"command": "data inspect", "arguments": ["rows.jsonl"]}]"#;
    let chain = home.write("chain.json", format!(r#"{{"schema": "peft-studio/pipeline", "steps": {steps}}}"#));
    let quick = home.path("quick");
    let questions = home.write("questions.jsonl", "{\"user\":\"Is it open?\"}\n");
    let chat = home.write("chat.txt", "31.12.23, 21:05 - Ana: Where?\n31.12.23, 21:06 - Me: Here.\n");
    let (labelled, twin, tasks) = (home.path("labelled.jsonl"), home.path("twin.jsonl"), home.path("tasks.jsonl"));
    let page = home.write("page.html", "<h1>The shop</h1><p>It opens at nine.");
    let card = home.path("README.md");
    let commands: &[&[&str]] = &[
        &[],
        &["--help"],
        &["hardware"],
        &["models", "search"],
        &["models", "list"],
        &["models", "show", "starter"],
        &["models", "show", &model],
        &["data", "inspect", &data, "--model", "starter"],
        &["data", "chunk", &page, "--project", "notes"],
        &["data", "search", "--project", "notes", "shop"],
        &["data", "documents", "--project", "notes"],
        &["data", "embed", "--project", "notes", "--provider", "local", "--embedding-model", "starter"],
        &["data", "search", "--project", "notes", "when is it open"],
        &["data", "score", &data],
        &["data", "contamination", &data, "--evaluation", &data],
        &["data", "versions", "save", "--project", "notes", "--from", &data],
        &["data", "versions", "list", "--project", "notes"],
        &["data", "card", &data, "--out", &card],
        &["data", "convert", &data, "--to", "messages", "--out", &clean],
        &["data", "helpers", "--provider", "local"],
        &["data", "label", &questions, "--out", &labelled, "--teacher", "starter", "--max-new-tokens", "4"],
        &["data", "persona", "--memories", &chat, "--me", "Me", "--out", &twin],
        &["data", "reference", "--out", &tasks],
        &["data", "review", "--list"],
        &[
            "train",
            "--model",
            "starter",
            "--data",
            &data,
            "--out",
            &out,
            "--name",
            "one",
            "--set",
            "training.max_steps=2",
            "--threads",
            "1",
        ],
        &["runs", "list"],
        &["runs", "show", "one"],
        &["resume", "one"],
        &["evaluate", "--model", "starter", "--data", &data, "--threads", "1"],
        &["chat", "--run", "one", "--prompt", "Hi", "--max-new-tokens", "2", "--threads", "1"],
        &["export", "one", "--to", "merged", "--out", &merged],
        &["bench", "generate", "--model", "starter", "--prompt-tokens", "8", "--generate", "4", "--repeats", "1"],
        &["bench", "train", "--model", "starter", "--sequence-length", "16", "--steps", "1", "--threads", "1"],
        &["completions", "bash"],
        &["plan", "--model", "starter", "--data", &data, "--threads", "1"],
        &["profiles"],
        &["config", "import", &imported],
        &["presets", "list"],
        &["presets", "show", "llama3-8b"],
        &["versions", "list"],
        &["versions", "show", "1"],
        &["runs", "log", "one"],
        &["runs", "rows", "one"],
        &["stop", "one"],
        &["errors", "list"],
        &["errors", "show", "PS-NET-001"],
        &["notifications", "list"],
        &["disk"],
        &["disk", "free", "--yes"],
        &["pipeline", &chain],
        &["selftest"],
        &["quickstart", "--out", &quick],
    ];
    every_command_is_watched(&home, commands);
    for command in commands {
        let (calls, code, stderr) = sockets(&home, command, &[]);
        // A finished run cannot be stopped any more, which is said.
        let expected = if command.first() == Some(&"stop") { 3 } else { 0 };
        assert_eq!(code, Some(expected), "{command:?}: {stderr}");
        assert!(calls.is_empty(), "{command:?} opened {} sockets: {calls:#?}", calls.len());
    }
}

#[test]
fn offline_opens_no_socket_where_a_command_would_b13() {
    if !can_watch() {
        return;
    }
    let home = Home::new();
    let data = home.write("rows.jsonl", "{\"question\":\"a\",\"answer\":\"b\"}\n");
    let commands: &[&[&str]] = &[
        &["models", "search", "qwen"],
        &["models", "download", "owner/name"],
        &["models", "show", "owner/name"],
        &["data", "download", "owner/name"],
        &["train", "--model", "owner/name", "--data", &data],
    ];
    for command in commands {
        let (calls, code, stderr) = sockets(&home, &[command, &["--offline"][..]].concat(), &[]);
        assert_eq!((code, calls), (Some(5), vec![]), "{command:?}: {stderr}");
        let (calls, code, stderr) = sockets(&home, command, &[("HF_HUB_OFFLINE", "1")]);
        assert_eq!((code, calls), (Some(5), vec![]), "{command:?}: {stderr}");
    }
    let (out, questions) = (home.path("out.jsonl"), home.write("q.jsonl", "{\"user\":\"Is it open?\"}\n"));
    let generate = ["data", "generate", "--prompt", "sums", "--out", &out, "--helper-model", "a/b"];
    let commands: &[&[&str]] = &[
        &["data", "helpers", "--provider", "openrouter"],
        &[&generate[..], &["--provider", "openrouter"]].concat(),
        &["data", "label", &questions, "--out", &out, "--teacher", "openai:gpt"],
    ];
    for command in commands {
        let (calls, code, stderr) = sockets(&home, &[command, &["--offline"][..]].concat(), &[]);
        assert_eq!((code, calls), (Some(5), vec![]), "{command:?}: {stderr}");
    }
    // The watch sees a socket where there is one.
    let nobody = [("HF_ENDPOINT", "http://127.0.0.1:9")];
    let (calls, code, stderr) = sockets(&home, &["models", "show", "owner/name"], &nobody);
    assert_eq!(code, Some(5), "{stderr}");
    assert!(calls.iter().any(|call| call.contains("127.0.0.1")), "{calls:?}");
}
