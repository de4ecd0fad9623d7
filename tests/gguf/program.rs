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
    refused(&home, &export, "already exists");
    refused(&home, &["export", "--model", "starter", "--to", "gguf", "--quant", "q9_9", "--out", &out], "q9_9");
    // From a file into another type: what is a GGUF file need not be anything else.
    let again = home.path("again");
    let done =
        json(&home, &["--json", "export", "--model", file, "--to", "gguf", "--quant", "q5_k_m", "--out", &again]);
    assert_eq!(done["files"][0]["type"], "Q5_K_M");
}
