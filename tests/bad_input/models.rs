//! Models that cannot be trained.

use crate::trial::{Trial, detail};
use serde_json::{Value, json};
use std::path::Path;

/// A safetensors file with this header before `data`.
fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

#[test]
fn what_is_not_there() {
    let trial = Trial::of("llama-sharded");
    let with = |model: &str, code: &str| trial.refused_with(code, 3, &["--model", model, "--data", &trial.data]);
    let elsewhere = ["--offline", "--model", "no/such-model", "--data", &trial.data];
    assert!(detail(&trial.refused_with("PS-NET-001", 5, &elsewhere)).contains("no/such-model"));
    for model in ["./nowhere", "nowhere", "../../etc", "https://huggingface.co/a/b", ""] {
        let error = with(model, "PS-MODEL-001");
        assert!(detail(&error).contains(model), "{error}");
    }
    let empty = trial.home.path("empty");
    std::fs::create_dir(&empty).expect("created");
    with(&empty, "PS-MODEL-003");
    with(&trial.data, "PS-MODEL-003");
    std::fs::remove_file(trial.file("model-00002-of-00003.safetensors")).expect("removed");
    assert!(detail(&trial.refused("PS-MODEL-003", 3)).contains("model-00002-of-00003.safetensors"));
    let trial = Trial::of("llama");
    std::fs::remove_file(trial.file("tokenizer.json")).expect("removed");
    assert!(detail(&trial.refused("PS-MODEL-003", 3)).contains("tokenizer"));
}

#[test]
fn weights_that_lie() {
    let trial = Trial::of("llama");
    let good = std::fs::read(trial.file("model.safetensors")).expect("readable");
    let length = u64::from_le_bytes(good[..8].try_into().expect("eight bytes")) as usize;
    let header: Value = serde_json::from_slice(&good[8..8 + length]).expect("JSON");
    let data = &good[8 + length..];
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut header = header.clone();
        change(&mut header);
        safetensors(&header.to_string(), data)
    };
    let name = "model.layers.0.self_attn.q_proj.weight";
    let files: Vec<(&str, Vec<u8>)> = vec![
        ("cut", good[..good.len() - 1].to_vec()),
        ("cut in the header", good[..length / 2].to_vec()),
        ("cut to eight bytes", good[..8].to_vec()),
        ("empty", Vec::new()),
        ("longer than it says", [&good[..], &[0; 100]].concat()),
        ("a header larger than the file", [&u64::MAX.to_le_bytes()[..], &good[8..]].concat()),
        ("a header of 2 GB", [&(2_u64 << 30).to_le_bytes()[..], &good[8..]].concat()),
        ("not a header", safetensors("[]", data)),
        (
            "two tensors in one place",
            changed(&|h| h[name]["data_offsets"] = h["model.norm.weight"]["data_offsets"].clone()),
        ),
        ("offsets backwards", changed(&|h| h[name]["data_offsets"] = json!([100, 50]))),
        ("offsets beyond the end", changed(&|h| h[name]["data_offsets"] = json!([0, u64::MAX]))),
        ("a shape that overflows", changed(&|h| h[name]["shape"] = json!([u64::MAX, u64::MAX]))),
        ("a negative shape", changed(&|h| h[name]["shape"] = json!([-1, 64]))),
        ("an unknown type", changed(&|h| h[name]["dtype"] = json!("Q4_0"))),
        ("whatever", b"\x80\x02}q\x00(X\x05\x00\x00\x00".repeat(100)),
    ];
    for (what, bytes) in files {
        trial.replace("model.safetensors", bytes);
        let error = trial.refused("PS-MODEL-005", 3);
        assert!(detail(&error).contains("model.safetensors"), "{what}: {error}");
    }
    // Headers that are in order, of another model.
    trial.replace(
        "model.safetensors",
        changed(&|h| {
            let tensor = h.as_object_mut().expect("an object").remove(name).expect("there");
            h["model.layers.0.self_attn.other.weight"] = tensor;
        }),
    );
    assert!(detail(&trial.refused("PS-MODEL-003", 3)).contains("q_proj"));
    trial.replace(
        "model.safetensors",
        changed(&|h| {
            let shape = h[name]["shape"].as_array().expect("a shape").iter().rev().cloned().collect();
            h[name]["shape"] = Value::Array(shape);
            h[name]["dtype"] = json!("I16");
        }),
    );
    trial.refused("PS-MODEL-002", 3);
}

#[test]
fn weights_that_are_not_numbers() {
    let trial = Trial::of("llama");
    let mut bytes = std::fs::read(trial.file("model.safetensors")).expect("readable");
    let at = bytes.len() - 4000;
    bytes[at..at + 2].copy_from_slice(&half::bf16::NAN.to_le_bytes());
    trial.replace("model.safetensors", &bytes);
    let error = trial.refused("PS-MODEL-005", 3);
    assert!(detail(&error).contains(".weight`"), "the tensor is named: {error}");
    bytes[at..at + 2].copy_from_slice(&half::bf16::INFINITY.to_le_bytes());
    trial.replace("model.safetensors", &bytes);
    trial.refused("PS-MODEL-005", 3);
}

#[test]
fn configurations_that_cannot_be() {
    type Change = fn(&mut Value);
    let cases: [(&str, &str, Change); 14] = [
        ("no architecture", "PS-MODEL-003", |c| {
            c.as_object_mut().expect("an object").remove("architectures");
            c.as_object_mut().expect("an object").remove("model_type");
        }),
        ("an unknown one", "PS-MODEL-002", |c| c["architectures"] = json!(["MambaForCausalLM"])),
        ("one that is no name", "PS-MODEL-003", |c| {
            c["architectures"] = json!([7]);
            c["model_type"] = json!(null);
        }),
        ("GPTQ", "PS-MODEL-002", |c| c["quantization_config"] = json!({"quant_method": "gptq", "bits": 4})),
        ("AWQ", "PS-MODEL-002", |c| c["quantization_config"] = json!({"quant_method": "awq"})),
        ("no width", "PS-MODEL-003", |c| {
            c.as_object_mut().expect("an object").remove("hidden_size");
        }),
        ("a width of nothing", "PS-MODEL-005", |c| c["hidden_size"] = json!(0)),
        ("a width of everything", "PS-MODEL-005", |c| c["hidden_size"] = json!(u64::MAX)),
        ("a negative width", "PS-MODEL-005", |c| c["intermediate_size"] = json!(-3)),
        ("a million million layers", "PS-MODEL-005", |c| c["num_hidden_layers"] = json!(1_000_000_000_000_u64)),
        ("no heads", "PS-MODEL-005", |c| c["num_attention_heads"] = json!(0)),
        ("heads that do not divide", "PS-MODEL-005", |c| c["num_key_value_heads"] = json!(3)),
        ("an epsilon that is no number", "PS-MODEL-005", |c| c["rms_norm_eps"] = json!("tiny")),
        ("more rows than the file has", "PS-MODEL-005", |c| c["vocab_size"] = json!(100_000)),
    ];
    for (what, code, change) in cases {
        let trial = Trial::of("llama");
        trial.edit("config.json", change);
        assert!(!detail(&trial.refused(code, 3)).is_empty(), "{what}");
    }
    let trial = Trial::of("llama");
    for text in ["", "{", "[]", "null", "\u{feff}{}", &"[".repeat(200_000)] {
        trial.replace("config.json", text);
        let output = trial.home.run(&["train", "--json", "--model", &trial.model, "--data", &trial.data]);
        assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_tokenizer_of_another_model() {
    // gemma's tokenizer knows 432 tokens, llama's matrix has 320 rows.
    let trial = Trial::of("llama");
    let other = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/parity/gemma3/model");
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(other.join(name), trial.file(name)).expect("copied");
    }
    trial.refused("PS-TOK-001", 3);
    for text in ["", "{}", "[1]", "{\"model\": {\"type\": \"BPE\", \"vocab\": {}, \"merges\": [[\"a\"]]}}"] {
        trial.replace("tokenizer.json", text);
        let output = trial.home.run(&["train", "--json", "--model", &trial.model, "--data", &trial.data]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{text}: {stderr}");
        assert!(!stderr.contains("mistake in the program"), "{text}: {stderr}");
    }
}

#[test]
fn files_that_could_run_code() {
    let trial = Trial::of("llama");
    std::fs::rename(trial.file("model.safetensors"), trial.file("pytorch_model.bin")).expect("renamed");
    trial.refused("PS-MODEL-004", 3);
    let file = trial.file("pytorch_model.bin").display().to_string();
    trial.refused_with("PS-MODEL-004", 3, &["--model", &file, "--data", &trial.data]);
    // An adapter that is a pickle is no better.
    let trial = Trial::of("llama");
    let adapter = trial.home.path("adapter");
    std::fs::create_dir(&adapter).expect("created");
    trial.home.write("adapter/adapter_config.json", r#"{"r": 4, "lora_alpha": 8, "peft_type": "LORA"}"#);
    trial.home.write("adapter/adapter_model.bin", b"\x80\x02");
    let arguments = ["--model", &trial.model, "--data", &trial.data, "--resume-from", &adapter];
    trial.refused_with("PS-MODEL-004", 3, &arguments);
}

#[test]
fn chat_layouts_that_do_not_work() {
    let template =
        |trial: &Trial, text: &str| trial.edit("tokenizer_config.json", |c| c["chat_template"] = json!(text));
    let trial = Trial::of("llama");
    trial.edit("tokenizer_config.json", |c| {
        c.as_object_mut().expect("an object").remove("chat_template");
    });
    trial.refused("PS-TMPL-001", 3);
    template(&trial, "{{ raise_exception('Conversation roles must alternate') }}");
    let error = trial.refused("PS-TMPL-002", 3);
    assert!(detail(&error).contains("must alternate") && detail(&error).contains("Line 1"), "{error}");
    for text in [
        "{% for i in range(1000000000) %}{{ i }}{% endfor %}",
        "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
        "{{ 'a' * 1000000000000 }}",
    ] {
        template(&trial, text);
        let begun = std::time::Instant::now();
        let output = trial.home.run(&["train", "--json", "--model", &trial.model, "--data", &trial.data]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{text}: {stderr}");
        assert!(stderr.contains("PS-TMPL-00"), "{text}: {stderr}");
        assert!(begun.elapsed().as_secs() < 20, "{text}: {:?}", begun.elapsed());
    }
    for text in ["{% if %}", "{{ messages[0]['content'] ", "{% include '/etc/passwd' %}", "{{ nothing.at.all }}", ""] {
        template(&trial, text);
        let output = trial.home.run(&["train", "--json", "--model", &trial.model, "--data", &trial.data]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{text}: {stderr}");
        assert!(stderr.contains("\"code\":\"PS-"), "{text}: {stderr}");
    }
}
