//! `chat` as it is typed: fields, schemas, stop strings, checkpoints, live runs, and what is kept.

use peft_storage::Store;
use peft_tests::home::{Home, text};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/parity/qwen2/model");

/// A conversation by lines; what it printed on stdout and on stderr.
fn talk(home: &Home, arguments: &[&str], lines: &[&str]) -> (Vec<Value>, String) {
    let mut command = home.command(&[arguments, &["--json"]].concat());
    let mut process =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    let mut input = process.stdin.take().expect("piped");
    for line in lines {
        // A conversation that was refused reads no further.
        let _heard = writeln!(input, "{line}");
    }
    drop(input);
    let output = process.wait_with_output().expect("ends");
    let documents = text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    (documents, text(&output.stderr))
}

fn train(home: &Home, name: &str, settings: &[&str]) {
    let rows: Vec<String> = (0..20).map(|n| format!(r#"{{"instruction":"Say {n}","output":"It is {n}"}}"#)).collect();
    let (data, out) = (home.write("rows.jsonl", rows.join("\n")), home.path(name));
    let mut arguments = vec!["train", "--model", MODEL, "--data", &data, "--name", name, "--out", &out];
    for setting in settings {
        arguments.extend(["--set", setting]);
    }
    let output = home.run(&arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// Both the weights and the keys and values of as long a conversation as the model reads.
#[test]
fn a_conversation_begins_with_the_memory_that_it_takes() {
    let home = Home::new();
    for (kind, has_both) in [("f32", false), ("int8", true)] {
        let mut command = home.command(&["chat", "--model", MODEL, "--kv-cache", kind]);
        let output = command.stdin(Stdio::null()).output().expect("the program starts");
        let stderr = text(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        let told = stderr.lines().find(|line| line.starts_with("Memory: weights ")).expect("a line of its own");
        assert!(told.contains("keys and values of ") && told.contains("in f32") == has_both, "{kind}: {told}");
    }
}

#[test]
fn one_question_has_the_fields_of_cli_md() {
    let home = Home::new();
    let answer = home.json(&["chat", "--model", "starter", "--prompt", "Who are you?", "--max-new-tokens", "20"]);
    for field in ["prompt_tokens", "generated_tokens", "tokens_per_second", "first_token_seconds", "reused_tokens"] {
        assert!(answer[field].is_number(), "{field}: {answer}");
    }
    assert!(answer["answer"].as_str().is_some_and(|text| !text.is_empty()) && answer.get("base").is_none());
    assert!(["stop", "length"].contains(&answer["stop_reason"].as_str().expect("a reason")), "{answer}");
    // The first words end the answer; the text before them is there, they are not.
    let words = answer["answer"].as_str().expect("text");
    let stop: String = words.chars().skip(words.chars().count() / 2).take(3).collect();
    let cut = home.json(&[
        "chat",
        "--model",
        "starter",
        "--prompt",
        "Who are you?",
        "--max-new-tokens",
        "20",
        "--stop",
        &stop,
    ]);
    assert_eq!(cut["stop_reason"], "stop_string", "{cut}");
    assert_eq!(cut["answer"].as_str(), words.split(&stop).next());
    // With chance: the same seed says the same, another one something else.
    let warm = |seed: &str| {
        let arguments =
            ["chat", "--model", "starter", "--prompt", "Tell me a story", "--temperature", "1.2", "--seed", seed];
        home.json(&arguments)["answer"].clone()
    };
    assert_eq!(warm("3"), warm("3"));
    assert_ne!(warm("3"), warm("4"));
}

#[test]
fn an_answer_obeys_the_schema_that_was_typed_or_read() {
    let home = Home::new();
    let schema = r#"{"type":"object","properties":{"mood":{"enum":["good","bad"]},"score":{"type":"integer","minimum":0,"maximum":10}},"required":["mood","score"],"additionalProperties":false}"#;
    let file = home.write("schema.json", schema);
    for given in [schema, file.as_str()] {
        let answer = home.json(&["chat", "--model", "starter", "--prompt", "How are you?", "--json-schema", given]);
        let value: Value = serde_json::from_str(answer["answer"].as_str().expect("text")).expect("JSON");
        assert!(["good", "bad"].contains(&value["mood"].as_str().expect("a mood")), "{value}");
        assert!(value["score"].as_u64().is_some_and(|score| score <= 10), "{value}");
        assert_eq!(answer["stop_reason"], "stop");
    }
    let any = ["chat", "--model", "starter", "--prompt", "Hi", "--json-schema", "json", "--max-new-tokens", "200"];
    let answer = home.json(&any);
    if answer["stop_reason"] == "stop" {
        serde_json::from_str::<Value>(answer["answer"].as_str().expect("text")).expect("JSON");
    }
    let bad = home.write("bad.json", "{\"type\":");
    for (given, code, exit) in [
        (r#"{"type":"integer","minimum":3,"maximum":2}"#, "PS-CFG-001", 3),
        ("{", "PS-CFG-001", 3),
        (bad.as_str(), "PS-CFG-001", 3),
        ("no/such/schema.json", "PS-FILE-001", 3),
    ] {
        let fault = home.fault(exit, &["chat", "--model", "starter", "--prompt", "Hi", "--json-schema", given]);
        assert_eq!(fault["code"], code, "{given}: {fault}");
    }
}

/// A command line that talks to the starter.
fn chat<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["chat", "--model", "starter"], more].concat()
}

#[test]
fn impossible_questions_and_settings_are_refused_in_words() {
    let home = Home::new();
    let long = "word ".repeat(700);
    for (more, code) in [
        (&["--prompt", ""][..], "PS-CFG-001"),
        (&["--prompt", "   "], "PS-CFG-001"),
        (&["--prompt", &long], "PS-CFG-001"),
        (&["--prompt", "Hi", "--stop", ""], "PS-CFG-001"),
        (&["--prompt", "Hi", "--temperature", "1e30"], "PS-CFG-001"),
        (&["--prompt", "Hi", "--repetition-penalty", "1e-30"], "PS-CFG-001"),
    ] {
        let fault = home.fault(3, &chat(more));
        assert_eq!(fault["code"], code, "{more:?}: {fault}");
    }
    let fault = home.fault(3, &chat(&["--prompt", &long]));
    assert!(fault["detail"].as_str().is_some_and(|d| d.contains("512")), "{fault}");
    for more in [
        &["--temperature", "nan"][..],
        &["--top-p", "0"],
        &["--top-p", "NaN"],
        &["--min-p", "1.1"],
        &["--top-k", "-1"],
        &["--checkpoint", "3"],
        &["--max-new-tokens", "0"],
    ] {
        assert_eq!(home.run(&chat(more)).status.code(), Some(2), "{more:?}");
    }
}

#[test]
fn a_talk_reuses_what_was_read_forgets_what_does_not_fit_and_is_kept_s4_7_5() {
    let home = Home::new();
    let question = "Tell me something about the sea and the town and the people who live there. ".repeat(3);
    let lines: Vec<&str> = std::iter::repeat_n(question.as_str(), 14).collect();
    let (told, notes) = talk(&home, &["chat", "--model", "starter", "--max-new-tokens", "24"], &lines);
    assert_eq!(told.len(), 14, "{notes}");
    for (turn, answer) in told.iter().enumerate().skip(1) {
        let (read, reused) =
            (answer["prompt_tokens"].as_u64().expect("n"), answer["reused_tokens"].as_u64().expect("n"));
        assert!(read <= 512, "turn {turn}: {answer}");
        if answer["dropped_turns"] == 0 {
            assert!(reused * 10 >= read * 4, "turn {turn}: {reused} of {read}");
        }
    }
    let dropped: u64 = told.iter().map(|answer| answer["dropped_turns"].as_u64().expect("n")).sum();
    assert!(dropped > 0 && notes.is_empty(), "{dropped} {notes}");

    let store = Store::open(Path::new(&home.path("home"))).expect("the store");
    let found = store.conversations(Some("the town"), 5).expect("found");
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].messages, found[0].model.as_str()), (28, "starter"));
    let (_, messages) = store.conversation(found[0].id).expect("there");
    assert_eq!(messages[27].content, told[13]["answer"].as_str().expect("text"));
    home.json(&["chat", "--model", "starter", "--prompt", "Secret", "--no-save", "--max-new-tokens", "2"]);
    assert!(store.conversations(Some("Secret"), 5).expect("found").is_empty());
}

#[test]
fn commands_change_the_talk_and_say_what_they_cannot_do() {
    let home = Home::new();
    let file = home.path("talk.jsonl");
    let save = format!("/save {file}");
    let arguments = ["chat", "--model", "starter", "--max-new-tokens", "8"];
    let lines = [
        "/system You are a sailor.",
        "/set temperature=0.5",
        "/set",
        "Who are you?",
        "//help",
        "/clear",
        "Hello",
        &save,
        "/help",
    ];
    let (told, notes) = talk(&home, &arguments, &lines);
    assert_eq!(told.len(), 3, "{notes}");
    assert!(notes.contains("temperature=0.5") && notes.contains("/checkpoint"), "{notes}");
    assert_ne!(told[0]["conversation"], told[2]["conversation"], "a cleared talk is another one");
    let saved: Value = serde_json::from_str(&std::fs::read_to_string(&file).expect("written")).expect("JSON");
    let roles: Vec<&str> =
        saved["messages"].as_array().expect("turns").iter().filter_map(|m| m["role"].as_str()).collect();
    assert_eq!(roles, ["system", "user", "assistant"]);
    assert_eq!(saved["messages"][1]["content"], "Hello");
    // What was said with two slashes.
    let store = Store::open(Path::new(&home.path("home"))).expect("the store");
    assert_eq!(store.conversations(Some("/help"), 5).expect("found").len(), 1);
    for (line, code) in [
        ("/nonsense", "PS-CFG-002"),
        ("/set temperature=nan", "PS-CFG-001"),
        ("/checkpoint 3", "PS-CFG-001"),
        ("/list", "PS-CFG-001"),
        ("/compare", "PS-CFG-001"),
        ("/vote base", "PS-CFG-001"),
        ("/load 99", "PS-RUN-001"),
        ("/save /no/such/folder/x", "PS-FILE-001"),
    ] {
        let (_, notes) = talk(&home, &arguments, &[line]);
        assert!(notes.contains(code), "{line}: {notes}");
    }
}

#[test]
fn any_kept_checkpoint_can_be_talked_to_b8() {
    let home = Home::new();
    let settings =
        ["training.max_steps=30", "checkpoint.every_steps=10", "training.learning_rate=3e-2", "checkpoint.keep=1"];
    train(&home, "r", &settings);
    let ask = |more: &[&str]| {
        home.json(&[&["chat", "--run", "r", "--prompt", "Say 3", "--max-new-tokens", "12"], more].concat())
    };
    let last = ask(&[]);
    assert_eq!(ask(&["--checkpoint", "last"])["answer"], last["answer"]);
    assert_eq!(ask(&["--checkpoint", "30"])["answer"], last["answer"]);
    let tenth = ask(&["--checkpoint", "10", "--compare"]);
    assert!(tenth["base"].is_string());
    for missing in ["11", "newest", "-1", "99999999999999999999999"] {
        let value = format!("--checkpoint={missing}");
        let fault = home.fault(3, &["chat", "--run", "r", "--prompt", "x", &value]);
        assert_eq!(fault["code"], "PS-RUN-001", "{missing}: {fault}");
        assert!(fault["detail"].as_str().is_some_and(|d| d.contains("10, 20, 30")), "{fault}");
    }
    // In one talk, and the answers are those of each alone.
    let arguments = ["chat", "--run", "r", "--max-new-tokens", "12"];
    let lines = ["/list", "/checkpoint 10", "Say 3", "/clear", "/checkpoint last", "Say 3"];
    let (told, notes) = talk(&home, &arguments, &lines);
    assert!(notes.contains("step 20"), "{notes}");
    assert_eq!((&told[0]["answer"], &told[1]["answer"]), (&tenth["answer"], &last["answer"]));
    // A damaged one says so.
    let kept = Path::new(&home.path("r")).join("adapters/step-20.safetensors");
    let whole = std::fs::read(&kept).expect("kept");
    std::fs::write(&kept, &whole[..whole.len() / 2]).expect("cut");
    let fault = home.fault(3, &["chat", "--run", "r", "--prompt", "x", "--checkpoint", "20"]);
    assert_eq!(fault["code"], "PS-CKPT-001", "{fault}");
}

#[test]
fn a_live_run_answers_itself_and_a_dead_one_is_loaded_b9() {
    let home = Home::new();
    let rows: Vec<String> = (0..20).map(|n| format!(r#"{{"instruction":"Say {n}","output":"It is {n}"}}"#)).collect();
    let (data, out) = (home.write("rows.jsonl", rows.join("\n")), home.path("live"));
    let arguments = [
        "train",
        "--model",
        "starter",
        "--data",
        &data,
        "--name",
        "live",
        "--out",
        &out,
        "--json",
        "--set",
        "training.max_steps=100000",
        "--set",
        "checkpoint.every_steps=40",
    ];
    let mut process = home.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("starts");
    let mut events = BufReader::new(process.stdout.take().expect("piped")).lines();
    for line in events.by_ref() {
        let event: Value = serde_json::from_str(&line.expect("readable")).expect("JSON");
        if event["event"] == "checkpoint" {
            break;
        }
    }
    // Somebody must read on, or the run waits for its reader.
    let reader = std::thread::spawn(move || events.map_while(Result::ok).count());
    let ask = ["chat", "--run", "live", "--prompt", "Say 3", "--max-new-tokens", "10"];
    let begun = Instant::now();
    let answer = home.json(&[&ask[..], &["--compare"]].concat());
    assert!(answer["step"].as_u64().is_some_and(|step| step >= 40), "the run itself did not answer: {answer}");
    assert!(answer["base"].is_string() && answer["generated_tokens"].as_u64().is_some_and(|n| n <= 10), "{answer}");
    eprintln!(
        "a live answer in {:.2} s, first token after {}",
        begun.elapsed().as_secs_f64(),
        answer["first_token_seconds"]
    );
    // The base's column is that of the base.
    let base = home.json(&["chat", "--model", "starter", "--prompt", "Say 3", "--max-new-tokens", "10"]);
    assert_eq!(answer["base"], base["answer"]);
    let schema = home.json(&[&ask[..], &["--json-schema", r#"{"enum":["yes","no"]}"#]].concat());
    assert!(["\"yes\"", "\"no\""].contains(&schema["answer"].as_str().expect("text")), "{schema}");
    let fault = home.fault(3, &[&ask[..], &["--json-schema", r#"{"enum":[]}"#]].concat());
    assert_eq!(fault["code"], "PS-CFG-001");
    // Nothing is left of an answer that was read.
    let left = std::fs::read_dir(Path::new(&out).join("answers")).expect("a folder").count();
    assert_eq!(left, 0);
    // A checkpoint is loaded beside the run.
    let kept = home.json(&[&ask[..], &["--checkpoint", "40"]].concat());
    assert!(kept.get("step").is_none());
    process.kill().expect("killed");
    process.wait().expect("dead");
    reader.join().expect("read");
    let after = home.json(&ask);
    assert!(after.get("step").is_none() && after["answer"].is_string(), "{after}");
}
