//! `export` and `chat` with GGUF files, through the program.

use peft_tests::home::Home;
use serde_json::Value;

fn json(home: &Home, arguments: &[&str]) -> Value {
    let output = home.command(arguments).output().expect("the program starts");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn refused(home: &Home, arguments: &[&str], says: &str) {
    let output = home.command(arguments).output().expect("the program starts");
    let text = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && text.contains(says), "{arguments:?}: {text}");
}

#[test]
fn the_starter_goes_into_ollama_s_form_and_the_file_is_talked_to_s4_15_b1_b4() {
    let home = Home::new();
    let out = home.path("out");
    let export = ["--json", "export", "--model", "starter", "--to", "ollama", "--quant", "q8_0,q4_k_m", "--out", &out];
    let done = json(&home, &export);
    let files = done["files"].as_array().expect("files");
    assert_eq!(files.len(), 2);
    for (file, certificate) in files.iter().zip(done["certificates"].as_array().expect("certificates")) {
        let path = file["path"].as_str().expect("a path");
        let digest = durable::sha256_file(std::path::Path::new(path)).expect("read");
        assert_eq!(
            (Some(digest.bytes), Some(digest.sha256.as_str())),
            (file["bytes"].as_u64(), file["sha256"].as_str())
        );
        let beside = std::fs::read(path.replace(".gguf", ".certificate.json")).expect("a certificate");
        assert_eq!(&serde_json::from_slice::<Value>(&beside).expect("JSON"), certificate);
        assert!(certificate["checks"].as_array().expect("checks").iter().all(|check| check["passed"] == true));
    }
    let modelfile = std::fs::read_to_string(home.path("out/Modelfile")).expect("a Modelfile");
    for part in ["FROM ./starter-Q8_0.gguf", "{{ .Prompt }}<|assistant|>{{ .Response }}</s>", "PARAMETER stop \"</s>\""]
    {
        assert!(modelfile.contains(part), "{modelfile} lacks {part}");
    }
    assert!(std::fs::read_to_string(home.path("out/README.md")).expect("a card").starts_with("---\n"));
    let file = files[0]["path"].as_str().expect("a path");
    let ask =
        |model: &str| json(&home, &["--json", "chat", "--model", model, "--prompt", "What is the opposite of hot?"]);
    assert_eq!(ask(file)["answer"], ask("starter")["answer"]);
    // Rows in eight bits are what `auto` answers with; exact ones say the same here (S4.5).
    for precision in ["f32", "int8"] {
        let exact = ["--json", "chat", "--model", file, "--prompt", "What is the opposite of hot?", "--precision"];
        assert_eq!(json(&home, &[&exact[..], &[precision]].concat())["answer"], ask(file)["answer"], "{precision}");
    }
    refused(&home, &export, "already exists");
    refused(&home, &["export", "--model", "starter", "--to", "gguf", "--quant", "q9_9", "--out", &out], "q9_9");
    // From a file into another type: what is a GGUF file need not be anything else.
    let again = home.path("again");
    let done =
        json(&home, &["--json", "export", "--model", file, "--to", "gguf", "--quant", "q5_k_m", "--out", &again]);
    assert_eq!(done["files"][0]["type"], "Q5_K_M");
}

#[test]
fn a_file_that_ollama_or_lm_studio_holds_is_listed_talked_to_and_trained_on_b1() {
    let home = Home::new();
    let out = home.path("out");
    let done =
        json(&home, &["--json", "export", "--model", "starter", "--to", "gguf", "--quant", "q8_0", "--out", &out]);
    let file = done["files"][0]["path"].as_str().expect("a path");
    let place = |name: &str| {
        let path = std::path::PathBuf::from(home.path(name));
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("created");
        std::fs::copy(file, &path).expect("copied");
        path.display().to_string()
    };
    let studio = place("user/.lmstudio/models/someone/Starter-GGUF/Starter-Q8_0.gguf");
    let blob = place("user/.ollama/models/blobs/sha256-0a");
    let listed = home.command(&["--json", "models", "list"]).env("HOME", home.path("user")).output().expect("starts");
    let listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    let models = listed["models"].as_array().expect("models");
    let model = models.iter().find(|m| m["source"] == "lmstudio").expect("listed");
    let starter = models.iter().find(|m| m["source"] == "builtin").expect("listed");
    assert_eq!((&model["supported"], &model["parameters"]), (&Value::Bool(true), &starter["parameters"]), "{model}");
    let question = "What is the opposite of hot?";
    let ask = |model: &str| json(&home, &["--json", "chat", "--model", model, "--prompt", question])["answer"].clone();
    assert_eq!(ask(&blob), ask(&studio));

    let row = |i| format!("{{\"prompt\": \"What is the code of door {i}?\", \"completion\": \"{i}{i}{i}\"}}");
    let rows: Vec<String> = (0..8).map(row).collect();
    std::fs::write(home.path("rows.jsonl"), rows.join("\n")).expect("written");
    let rows = home.path("rows.jsonl");
    let run = home.path("run");
    let mut train = vec!["--json", "train", "--model", &blob, "--data", &rows, "--out", &run];
    for change in ["training.max_steps=12", "training.learning_rate=0.005"] {
        train.extend(["--set", change]);
    }
    let output = home.command(&train).output().expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let events = String::from_utf8(output.stdout).expect("text");
    let events = events.lines().map(|line| serde_json::from_str::<Value>(line).expect("an event"));
    let steps = events.filter(|event| event["event"] == "step");
    let losses: Vec<f64> = steps.map(|event| event["loss"].as_f64().expect("a loss")).collect();
    assert!(losses.len() == 12 && losses[11] < 0.8 * losses[0], "{losses:?}");
}

/// Which pages of this process under `bytes` are there, where the system tells; those at both ends, which are read with
/// their neighbours, are left out.
#[cfg(target_os = "linux")]
fn pages(bytes: &[u8]) -> Option<Vec<bool>> {
    use std::os::unix::fs::FileExt;
    const PAGE: usize = 4096;
    const THERE: u64 = 1 << 63;
    let told = std::fs::File::open("/proc/self/pagemap").ok()?;
    let of_page = |page: usize| {
        let mut entry = [0; 8];
        told.read_exact_at(&mut entry, page as u64 * 8).ok()?;
        Some(u64::from_le_bytes(entry) & THERE != 0)
    };
    let (first, last) = (bytes.as_ptr().addr() / PAGE + 17, (bytes.as_ptr().addr() + bytes.len()) / PAGE - 17);
    (first..last).map(of_page).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn what_is_copied_out_of_a_file_is_not_in_memory_twice_s4_5() {
    let home = Home::new();
    let out = home.path("out");
    let done =
        json(&home, &["--json", "export", "--model", "starter", "--to", "gguf", "--quant", "f32", "--out", &out]);
    let path = done["files"][0]["path"].as_str().expect("a path");
    let opened = peft_models::checkpoint::Checkpoint::open(path.as_ref()).expect("a model");
    let file = opened.gguf().expect("a file");
    let of = |name: &str| file.tensor(name).expect("it is there").bytes.as_slice();
    let Some(queries) = pages(of("blk.0.attn_q.weight")) else { return };
    assert!(queries.len() > 16 && !queries.contains(&true), "{queries:?}");
    // The same numbers again, and what is looked at is there.
    assert!(of("blk.0.attn_q.weight").iter().any(|byte| *byte != 0));
    let sum: u64 = of("blk.0.attn_q.weight").iter().map(|byte| u64::from(*byte)).sum();
    assert!(sum > 0 && pages(of("blk.0.attn_q.weight")).expect("told before").iter().all(|there| *there));
}
