//! `models` and what follows from it, as typed: the real program, a hub on this machine.

use peft_tests::home::{Home, text};
use peft_tests::hub::{MockHub, Step};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const ID: &str = "owner/tiny";
const TOKEN: &str = "hf_commandlinetoken";

struct Desk {
    home: Home,
    hub: MockHub,
    weights: Vec<u8>,
}

impl Desk {
    /// A hub with a real, tiny model.
    fn new() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/parity/llama/model");
        let read = |entry: std::io::Result<std::fs::DirEntry>| {
            let path = entry.expect("readable").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, std::fs::read(path).expect("readable"))
        };
        let files: Vec<(String, Vec<u8>)> = std::fs::read_dir(folder).expect("a fixture").map(read).collect();
        let hub = MockHub::new();
        let mut listed: Vec<(&str, &[u8])> = files.iter().map(|(n, c)| (n.as_str(), c.as_slice())).collect();
        listed.push(("README.md", b"---\nlicense: apache-2.0\n---\n"));
        listed.push(("pytorch_model.bin", b"never fetched"));
        hub.publish("models/owner/tiny", &listed);
        let weights = files.iter().find(|(name, _)| name == "model.safetensors").expect("weights").1.clone();
        Self { home: Home::new(), hub, weights }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.home.command(arguments);
        command.env("HF_ENDPOINT", self.hub.endpoint()).env("HF_TOKEN", TOKEN).env("HF_HUB_DOWNLOAD_TIMEOUT", "5");
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the program starts")
    }

    /// The JSON lines of a command that succeeds.
    fn lines(&self, arguments: &[&str]) -> Vec<Value> {
        let output = self.run(&[arguments, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    fn fault(&self, exit: i32, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(exit), "{arguments:?}: {}", text(&output.stderr));
        let last = text(&output.stderr).lines().last().expect("a fault").to_owned();
        serde_json::from_str::<Value>(&last).expect("JSON")["error"].clone()
    }

    fn blobs(&self) -> PathBuf {
        PathBuf::from(self.home.path("hf/hub/models--owner--tiny/blobs"))
    }

    fn incomplete(&self) -> PathBuf {
        self.blobs().join(format!("{}.incomplete", self.hub.etag("models/owner/tiny", "model.safetensors")))
    }
}

fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status().expect("kill starts");
    assert!(status.success());
}

#[test]
fn a_model_is_shown_downloaded_listed_used_and_removed() {
    let desk = Desk::new();
    let shown = desk.lines(&["models", "show", ID]).remove(0);
    assert_eq!((shown["supported"].clone(), shown["family"].clone()), (json!(true), json!("llama")));
    assert_eq!(shown["fits"][0]["fits"], json!(true));
    assert_eq!(shown["weight_bytes"], json!(desk.weights.len()));
    let download_bytes = shown["download_bytes"].as_u64().expect("a number");
    assert!(!desk.blobs().exists(), "looking fetches nothing");

    let events = desk.lines(&["models", "download", ID]);
    assert_eq!(events[0]["event"], "planned");
    let done = events.last().expect("the end");
    assert_eq!((done["event"].clone(), done["id"].clone()), (json!("finished"), json!(ID)));
    assert_eq!(
        (done["bytes"].as_u64(), done["downloaded_bytes"].as_u64()),
        (Some(download_bytes), Some(download_bytes))
    );
    let folder = PathBuf::from(done["path"].as_str().expect("a path"));
    assert!(std::fs::read(folder.join("model.safetensors")).expect("read") == desk.weights);
    assert!(!folder.join("pytorch_model.bin").exists());
    // Once more: nothing comes over the network but the list.
    desk.hub.take_log();
    assert_eq!(desk.lines(&["models", "download", ID]).last().expect("the end")["downloaded_bytes"], json!(0));
    assert!(desk.hub.take_log().iter().all(|request| !request.line.contains("/resolve/")));

    let listed = desk.lines(&["models", "list"]).remove(0);
    let model = listed["models"].as_array().expect("models").iter().find(|m| m["id"] == ID).expect("listed").clone();
    assert_eq!((model["source"].clone(), model["licence"].clone()), (json!("huggingface"), json!("apache-2.0")));
    assert_eq!((model["versions"][0]["complete"].clone(), model["supported"].clone()), (json!(true), json!(true)));
    desk.hub.take_log();
    assert_eq!(desk.lines(&["models", "show", ID]).remove(0)["source"], "huggingface");
    assert!(desk.hub.take_log().is_empty(), "what is here is shown without a network");

    let removed = desk.lines(&["models", "remove", ID]).remove(0);
    assert!(removed["freed_bytes"].as_u64().is_some_and(|freed| freed >= download_bytes));
    assert!(!folder.exists());
    assert_eq!(desk.fault(3, &["models", "remove", ID])["code"], "PS-MODEL-001");
}

#[test]
fn training_fetches_what_it_needs_and_remembers_the_revision() {
    let desk = Desk::new();
    let rows: Vec<String> = (0..6).map(|n| format!(r#"{{"question":"Say {n}","answer":"It is {n}"}}"#)).collect();
    let data = desk.home.write("good.jsonl", rows.join("\n"));
    let out = desk.home.path("out");
    let train = |model: &str, out: &str| {
        let words = ["train", "--model", model, "--data", &data, "--out", out, "--threads", "1"];
        let fixed = ["--set", "training.max_steps=1", "--set", "dataset.chat_template=plain", "--json"];
        desk.run(&[&words[..], &fixed[..]].concat())
    };
    // What is wrong with the data is told before anything is fetched.
    let nothing = desk.home.path("nothing.jsonl");
    let words = ["train", "--model", ID, "--data", &nothing, "--out", &out];
    assert_eq!(desk.fault(3, &words)["code"], "PS-FILE-001");
    assert!(desk.hub.take_log().is_empty());
    let output = train(&format!("{ID}@v1"), &out);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("Downloading"), "{}", text(&output.stderr));
    let first = text(&output.stdout).lines().next().expect("an event").to_owned();
    assert!(first.contains(r#""event":"started""#), "{first}");
    assert!(desk.blobs().join("../refs/v1").exists() && !desk.blobs().join("../refs/main").exists());
    // Neither the run's files nor its history know the token.
    let mut places = vec![PathBuf::from(desk.home.path("."))];
    while let Some(place) = places.pop() {
        for entry in std::fs::read_dir(place).expect("readable").flatten() {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_folder {
                places.push(entry.path());
            } else if let Ok(content) = std::fs::read(entry.path()) {
                let found = content.windows(TOKEN.len()).any(|part| part == TOKEN.as_bytes());
                assert!(!found, "{} holds the token", entry.path().display());
            }
        }
    }
}

#[test]
fn offline_is_a_promise_b13() {
    let desk = Desk::new();
    let rows = desk.home.write("a.jsonl", "{\"question\":\"a\",\"answer\":\"b\"}\n");
    let commands: [&[&str]; 5] = [
        &["models", "download", ID],
        &["models", "search", "tiny"],
        &["models", "show", ID],
        &["data", "download", "owner/rows"],
        &["train", "--model", ID, "--data", &rows],
    ];
    for command in commands {
        let error = desk.fault(5, &[command, &["--offline"]].concat());
        assert_eq!(error["code"], "PS-NET-001", "{command:?}");
        assert!(error["detail"].as_str().is_some_and(|detail| detail.contains("--offline")), "{error}");
        let output =
            desk.command(&[command, &["--json"]].concat()).env("HF_HUB_OFFLINE", "1").output().expect("starts");
        assert_eq!(output.status.code(), Some(5));
        assert!(text(&output.stderr).contains("HF_HUB_OFFLINE"), "{}", text(&output.stderr));
    }
    assert!(desk.hub.take_log().is_empty(), "somebody asked");
    // The others only look here, and say how to get it.
    let error = desk.fault(3, &["chat", "--model", ID, "--prompt", "Hi"]);
    assert_eq!(error["code"], "PS-MODEL-001");
    assert_eq!(error["actions"][0]["command"], format!("peft-studio models download {ID}"));
    assert!(desk.hub.take_log().is_empty());
}

#[test]
fn ctrl_c_and_a_kill_leave_what_the_next_try_goes_on_with() {
    let desk = Desk::new();
    for (name, exit) in [("-INT", Some(130)), ("-KILL", None)] {
        desk.hub.script([Step::Slow(desk.weights.len() / 4)]);
        let mut child = desk
            .command(&["models", "download", ID])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let length = || std::fs::metadata(desk.incomplete()).map_or(0, |data| data.len());
        let before = length();
        wait_for("the beginning of the file", || length() > before + 1000);
        signal(&child, name);
        let begun = Instant::now();
        assert_eq!(child.wait().expect("ended").code(), exit, "{name}");
        assert!(begun.elapsed() < Duration::from_secs(2), "{name}: it took {:?}", begun.elapsed());
        assert!(length() > before && length() < desk.weights.len() as u64, "{name}");
        let listed = desk.lines(&["models", "list"]).remove(0);
        let model =
            listed["models"].as_array().expect("models").iter().find(|m| m["id"] == ID).expect("listed").clone();
        assert_eq!(model["unfinished_bytes"], json!(length()));
    }
    let held = std::fs::metadata(desk.incomplete()).expect("kept").len();
    let done = desk.lines(&["models", "download", ID]).pop().expect("the end");
    let asked = desk.hub.take_log().into_iter().rev().find(|request| request.host == "content").expect("asked");
    assert_eq!(asked.start(), Some(usize::try_from(held).expect("small")));
    let folder = PathBuf::from(done["path"].as_str().expect("a path"));
    assert!(std::fs::read(folder.join("model.safetensors")).expect("read") == desk.weights);
}

#[test]
fn a_model_that_is_here_in_part_says_what_is_missing() {
    let desk = Desk::new();
    desk.lines(&["models", "download", ID]);
    std::fs::remove_file(desk.blobs().join(desk.hub.etag("models/owner/tiny", "model.safetensors"))).expect("removed");
    let error = desk.fault(3, &["chat", "--model", ID, "--prompt", "Hi"]);
    assert_eq!(error["code"], "PS-MODEL-003");
    assert!(error["detail"].as_str().is_some_and(|detail| detail.contains("model.safetensors")), "{error}");
    let done = desk.lines(&["models", "download", ID]).pop().expect("the end");
    assert_eq!(done["downloaded_bytes"], json!(desk.weights.len()));
}

#[test]
fn a_search_says_what_is_known_and_what_fits() {
    let desk = Desk::new();
    desk.hub.found(json!([
        {"id": "Qwen/Qwen2.5-0.5B-Instruct", "downloads": 1_000_000, "likes": 5, "gated": false,
         "tags": ["license:apache-2.0", "safetensors"], "config": {"architectures": ["Qwen2ForCausalLM"]},
         "safetensors": {"parameters": {"BF16": 494_032_768}, "total": 494_032_768}},
        {"id": "a/huge", "gated": "manual", "tags": ["license:llama3.1", "safetensors"],
         "config": {"architectures": ["LlamaForCausalLM"]},
         "safetensors": {"parameters": {"BF16": 405_000_000_000_u64}}},
        {"id": "a/quantised-GGUF", "tags": ["gguf"], "gated": false},
        {"id": "a/other", "tags": ["safetensors"], "config": {"architectures": ["MysteryModel"]}, "gated": false}
    ]));
    let found = desk.lines(&["models", "search", "qwen", "instruct"]).remove(0);
    let models = found["models"].as_array().expect("models");
    let pick = |index: usize, fields: [&str; 5]| fields.map(|field| models[index][field].clone());
    let fields = ["parameters", "licence", "gated", "family", "supported"];
    assert_eq!(pick(0, fields), [json!(494_032_768), json!("apache-2.0"), json!(false), json!("qwen2"), json!(true)]);
    assert_eq!(models[0]["weight_bytes"], json!(988_065_536));
    assert_eq!((models[1]["fits"].clone(), models[1]["gated"].clone()), (json!("no"), json!(true)));
    assert_eq!((models[2]["weights"].clone(), models[2]["fits"].clone()), (json!("gguf"), Value::Null));
    assert_eq!(models[3]["supported"], json!(false));
    let people = text(&desk.run(&["models", "search", "qwen"]).stdout);
    for word in ["Qwen/Qwen2.5-0.5B-Instruct", "494 M", "1 000 000", "llama3.1, ask first", "(GGUF)"] {
        assert!(people.contains(word), "{word}: {people}");
    }
    // Without words: what we know, without a network.
    desk.hub.take_log();
    let known = desk.lines(&["models", "search", "--offline"]).remove(0);
    assert!(known["models"].as_array().is_some_and(|models| models.len() > 10));
    assert!(desk.hub.take_log().is_empty());
}

#[test]
fn a_dataset_comes_into_the_same_cache() {
    let desk = Desk::new();
    let rows = b"{\"question\":\"a\",\"answer\":\"b\"}\n";
    desk.hub.publish("datasets/owner/rows", &[("data/train.jsonl", rows), ("README.md", b"# Rows"), ("cat.png", b"x")]);
    let done = desk.lines(&["data", "download", "hub:owner/rows"]).pop().expect("the end");
    let folder = PathBuf::from(done["path"].as_str().expect("a path"));
    assert!(folder.starts_with(desk.home.path("hf/hub/datasets--owner--rows/snapshots")), "{}", folder.display());
    assert_eq!(std::fs::read(folder.join("data/train.jsonl")).expect("read"), rows);
    assert!(!folder.join("cat.png").exists());
    let file = folder.join("data/train.jsonl").display().to_string();
    assert_eq!(desk.lines(&["data", "inspect", &file]).remove(0)["files"][0]["rows"], json!(1));
}

#[test]
fn models_of_other_programs_are_listed_and_not_touched() {
    let desk = Desk::new();
    let user = PathBuf::from(desk.home.path("user"));
    let file = user.join(".lmstudio/models/someone/Thing-GGUF/Thing-Q4_K_M.gguf");
    std::fs::create_dir_all(file.parent().expect("a parent")).expect("created");
    std::fs::write(&file, "GGUF").expect("written");
    let output = desk.command(&["models", "list", "--json"]).env("HOME", &user).env_remove("OLLAMA_MODELS").output();
    let listed: Value = serde_json::from_slice(&output.expect("starts").stdout).expect("JSON");
    let model =
        listed["models"].as_array().expect("models").iter().find(|m| m["source"] == "lmstudio").expect("listed");
    assert_eq!(model["id"], "someone/Thing-GGUF/Thing-Q4_K_M");
    assert_eq!(model["supported"], json!(false));
    assert!(model["note"].as_str().is_some_and(|note| note.contains("GGUF")));
    let error = desk.fault(3, &["train", "--model", &file.display().to_string(), "--data", "x"]);
    assert_eq!(error["code"], "PS-MODEL-005", "four bytes are no model: {error}");
}
