//! Receipts of runs (B12), event files for TensorBoard and the other options, through the command line.

use peft_tests::home::{Home, text};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/parity/qwen2/model");

/// A run with every option that is in these tests, of so many steps.
fn trained(home: &Home, name: &str, steps: u64, more: &[&str]) -> PathBuf {
    let data = home.path("rows.jsonl");
    if !Path::new(&data).exists() {
        let row = |n| format!(r#"{{"instruction":"Say {n}","output":"It is {n} and not {}"}}"#, n + 1);
        home.write("rows.jsonl", (0..30).map(row).collect::<Vec<_>>().join("\n"));
    }
    let out = home.path(name);
    let steps = format!("training.max_steps={steps}");
    let fixed = ["train", "--model", MODEL, "--data", &data, "--out", &out, "--name", name, "--set", &steps];
    let settings = [
        "training.optimizer=adamw_8bit",
        "training.neftune_alpha=5",
        r#"adapter.modules_to_save=["embed_tokens","lm_head","norm"]"#,
        "adapter.lora_plus_ratio=4",
        "dataset.validation_split=0.2",
        "evaluation.every_steps=3",
        "checkpoint.every_seconds=1e6",
        "training.micro_batch_size=4",
    ];
    let mut words: Vec<&str> = fixed.into();
    for setting in &settings {
        words.extend(["--set", setting]);
    }
    words.extend(["--threads", "2", "--json"]);
    words.extend(more);
    let output = home.run(&words);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    PathBuf::from(out)
}

/// The verdict of `verify --receipt`, which ends with `exit`.
fn verdict(home: &Home, exit: i32, receipt: &Path, more: &[&str]) -> Value {
    let receipt = receipt.display().to_string();
    let output = home.run(&[&["verify", "--json", "--receipt", &receipt][..], more].concat());
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(exit), "{stdout}{stderr}");
    serde_json::from_str(&stdout).expect("one JSON document")
}

/// Make a receipt anew with one thing changed, last line included.
fn forged(receipt: &Path, change: impl FnOnce(&mut peft_models::receipt::Receipt)) -> PathBuf {
    let mut content = peft_models::receipt::Receipt::read(receipt).expect("a receipt");
    change(&mut content);
    let path = receipt.with_file_name("forged.json");
    std::fs::write(&path, content.to_bytes()).expect("written");
    path
}

#[test]
fn a_receipt_is_verified_bit_for_bit_and_every_change_is_named_b12() {
    let home = Home::new();
    let out = trained(&home, "run", 8, &[]);
    let receipt = out.join("receipt.json");
    let document: Value = serde_json::from_slice(&std::fs::read(&receipt).expect("there")).expect("JSON");
    assert_eq!(document["steps"].as_array().expect("steps").len(), 8);
    assert_eq!(document["evaluations"].as_array().expect("evaluations").len(), 4);
    assert_eq!(document["run"]["outcome"], "finished");
    assert_eq!(document["program"]["sha256"].as_str().map(str::len), Some(64));
    let names = |what: &Value| -> Vec<String> {
        let files = what.as_array().expect("files");
        files.iter().map(|f| f["name"].as_str().expect("a name").to_owned()).collect()
    };
    assert!(names(&document["base"]["files"]).contains(&"model.safetensors".to_owned()));
    assert_eq!(names(&document["data"]["files"]), ["rows.jsonl"]);
    assert_eq!(names(&document["result"]), ["adapter_config.json", "adapter_model.safetensors"]);

    let found = verdict(&home, 0, &receipt, &["--steps", "5"]);
    assert_eq!(found["verified"], true);
    assert_eq!((&found["replayed"], &found["steps"], &found["replayable_steps"]), (&json!(5), &json!(8), &json!(8)));
    assert_eq!((&found["bit_for_bit"], &found["bits_must_agree"]), (&json!(true), &json!(true)));
    assert_eq!(found["differs"], json!([]));
    let told = home.run(&["verify", "--receipt", &receipt.display().to_string()]);
    assert_eq!(told.status.code(), Some(0));
    assert!(
        text(&told.stdout).contains("8 of 8 steps were computed again; their losses agree bit for bit"),
        "{told:?}"
    );
    assert_eq!(verdict(&home, 0, &receipt, &["--steps", "0"])["replayed"], 0);

    // One byte.
    let whole = std::fs::read(&receipt).expect("there");
    for at in [3, whole.len() / 2, whole.len() - 20] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        let path = home.path("altered.json");
        std::fs::write(&path, bytes).expect("written");
        let error = home.fault(3, &["verify", "--receipt", &path]);
        assert_eq!(error["code"], "PS-RUN-005", "{error}");
    }

    // A loss that the run did not have, in a receipt that is whole.
    let path = forged(&receipt, |r| r.steps[3] = peft_models::receipt::Loss::new(4, 0.5));
    let found = verdict(&home, 1, &path, &[]);
    assert_eq!((&found["losses_agree"], &found["first_difference"]["step"]), (&json!(false), &json!(4)));
    // One bit of one loss is too many on the same machine; on another it is none.
    let one_bit = |r: &mut peft_models::receipt::Receipt| {
        let loss = f64::from_bits(r.steps[1].value().expect("a loss").to_bits() ^ 1);
        r.steps[1] = peft_models::receipt::Loss::new(2, loss);
    };
    assert_eq!(verdict(&home, 1, &forged(&receipt, one_bit), &[])["bit_for_bit"], false);
    let path = forged(&receipt, |r| {
        one_bit(r);
        r.segments[0].backend = "cpu of another kind".to_owned();
    });
    let found = verdict(&home, 0, &path, &[]);
    assert_eq!((&found["losses_agree"], &found["bit_for_bit"]), (&json!(true), &json!(false)));
    assert_eq!(found["differs"], json!(["backend"]));
    let told = home.run(&["verify", "--receipt", &path.display().to_string()]);
    assert!(text(&told.stdout).contains("other hardware"), "{told:?}");
    let path = forged(&receipt, |r| r.program.sha256 = "0".repeat(64));
    assert_eq!(verdict(&home, 0, &path, &[])["differs"], json!(["program"]));
    // Settings that were not those.
    let path = forged(&receipt, |r| r.segments[0].plan["learning_rate"] = json!(0.5));
    let found = verdict(&home, 1, &path, &[]);
    assert_eq!((&found["differs"], &found["losses_agree"]), (&json!(["plan"]), &json!(false)));

    // The result, the data and the base.
    let adapter = out.join("adapter/adapter_model.safetensors");
    let good = std::fs::read(&adapter).expect("there");
    let mut bad = good.clone();
    *bad.last_mut().expect("bytes") ^= 1;
    std::fs::write(&adapter, bad).expect("written");
    assert_eq!(verdict(&home, 1, &receipt, &["--steps", "1"])["differs"], json!(["result"]));
    std::fs::write(&adapter, good).expect("written");
    let rows = std::fs::read_to_string(home.path("rows.jsonl")).expect("rows");
    let other = home.write("other.jsonl", rows.replacen("Say 3", "Say 4", 1));
    assert_eq!(verdict(&home, 1, &receipt, &["--data", &other])["differs"], json!(["data"]));
    let moved = home.write("moved.jsonl", &rows);
    std::fs::remove_file(home.path("rows.jsonl")).expect("removed");
    assert_eq!(verdict(&home, 0, &receipt, &["--data", &moved])["verified"], true);
    assert_eq!(home.fault(3, &["verify", "--receipt", &receipt.display().to_string()])["code"], "PS-FILE-001");
    let model = home.path("model");
    std::fs::create_dir(&model).expect("created");
    for entry in std::fs::read_dir(MODEL).expect("a fixture") {
        let path = entry.expect("readable").path();
        std::fs::copy(&path, Path::new(&model).join(path.file_name().expect("a name"))).expect("copied");
    }
    assert_eq!(verdict(&home, 0, &receipt, &["--data", &moved, "--model", &model])["verified"], true);
    // In the middle of a tensor, where the quick hash of a model does not look.
    let weights = Path::new(&model).join("model.safetensors");
    let mut bytes = std::fs::read(&weights).expect("weights");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&weights, bytes).expect("written");
    assert_eq!(verdict(&home, 1, &receipt, &["--data", &moved, "--model", &model])["differs"], json!(["base"]));
}

/// A run that was halted and went on with other settings can be computed again up to there.
#[test]
fn a_run_that_was_changed_is_replayed_up_to_the_change() {
    let home = Home::new();
    let out = trained(&home, "changed", 9, &["--set", "checkpoint.every_steps=1", "--set", "checkpoint.keep=9"]);
    // As if the process had been killed after step 4.
    let store = Path::new(&home.path("home")).join("studio.sqlite");
    let database = rusqlite::Connection::open(store).expect("the store");
    database.execute("UPDATE runs SET status = 'paused'", []).expect("changed");
    for step in 5..=9 {
        std::fs::remove_dir_all(out.join(format!("checkpoints/step-{step}"))).expect("removed");
    }
    std::fs::remove_file(out.join("receipt.json")).expect("removed");
    let words = ["resume", "changed", "--json", "--set", "training.learning_rate=1e-3"];
    let output = home.run(&words);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let receipt = out.join("receipt.json");
    let found = verdict(&home, 0, &receipt, &["--steps", "9"]);
    assert_eq!((&found["replayable_steps"], &found["replayed"]), (&json!(4), &json!(4)), "{found}");
    assert_eq!((&found["verified"], &found["steps"]), (&json!(true), &json!(9)), "{found}");
    let told = home.run(&["verify", "--receipt", &receipt.display().to_string()]);
    assert!(text(&told.stdout).contains("Only the first 4 of 9 steps"), "{told:?}");
}

/// The tags and steps of an event file, by its framing alone.
fn records(path: &Path) -> usize {
    let bytes = std::fs::read(path).expect("a file");
    let (mut at, mut count) = (0, 0);
    while at < bytes.len() {
        let length = u64::from_le_bytes(*bytes[at..].first_chunk().expect("a length")) as usize;
        at += 16 + length;
        count += 1;
    }
    assert_eq!(at, bytes.len(), "the last record is whole");
    count
}

#[test]
fn event_files_are_written_where_they_were_asked_for() {
    let home = Home::new();
    let out = trained(&home, "own", 4, &["--tensorboard"]);
    let only = |folder: &Path| -> PathBuf {
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").path()).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        files.remove(0)
    };
    let file = only(&out.join("tensorboard"));
    assert!(file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("events.out.tfevents.")));
    // The version, the beginning of a session, four steps, three evaluations (one before the first step).
    assert_eq!(records(&file), 9);
    let boards = home.path("boards");
    let out = trained(&home, "elsewhere", 4, &[&format!("--tensorboard={boards}")]);
    assert!(!out.join("tensorboard").exists());
    assert_eq!(records(&only(&only(Path::new(&boards)))), 9);
    let out = trained(&home, "none", 2, &["--set", "logging.tensorboard=false"]);
    assert!(!out.join("tensorboard").exists());
}

#[test]
fn modules_that_cannot_be_trained_whole_are_refused_and_those_that_can_are_named() {
    let home = Home::new();
    let data = home.write("rows.jsonl", r#"{"instruction":"Say 1","output":"It is 1"}"#);
    let model = ["train", "--model", MODEL, "--data", &data, "--set"];
    for name in ["q_proj", "mlp", "lm_heads", "score", "", "model.layers.9.input_layernorm"] {
        let setting = format!(r#"adapter.modules_to_save=["{name}"]"#);
        let error = home.fault(3, &[&model[..], &[&setting]].concat());
        assert_eq!(error["code"], "PS-CFG-003", "{name}: {error}");
        let detail = error["detail"].as_str().expect("a detail");
        for known in ["embed_tokens", "lm_head", "model.norm", "input_layernorm"] {
            assert!(detail.contains(known), "{name}: {detail}");
        }
    }
    let both = ["adapter.method=full", "--set", r#"adapter.modules_to_save=["lm_head"]"#];
    assert_eq!(home.fault(3, &[&model[..], &both].concat())["code"], "PS-CFG-001");
}
