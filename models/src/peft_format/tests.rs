//! Adapters of the reference library, and ones that must not be loaded.

use super::*;
use peft_plan::TargetModules;
use serde_json::{Value, json};
use tempfile::TempDir;

fn list(names: &[&str]) -> TargetModules {
    TargetModules::List(names.iter().map(|n| (*n).to_owned()).collect())
}

fn pair(path: &str, rank: usize) -> Tensors {
    Tensors::from([
        (format!("{path}.lora_A.weight"), (vec![rank, 6], vec![0.25; rank * 6])),
        (format!("{path}.lora_B.weight"), (vec![4, rank], vec![-0.5; rank * 4])),
    ])
}

const Q: &str = "base_model.model.model.layers.0.self_attn.q_proj";

fn folder(config: &Value, tensors: &Tensors) -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    fs::write(dir.path().join(CONFIG_NAME), config.to_string()).expect("written");
    fs::write(dir.path().join(TENSORS_NAME), adapter_tensors_bytes(tensors)).expect("written");
    dir
}

fn minimal() -> Value {
    json!({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]})
}

fn refused(dir: &TempDir) -> Fault {
    read_adapter(dir.path()).expect_err("not a usable adapter")
}

#[test]
fn lists_match_ends_of_paths() {
    let targets = list(&["q_proj", "model.layers.1.mlp.up_proj"]);
    let matches = |path: &str| matches(&targets, path).expect("a list");
    assert!(matches("model.layers.0.self_attn.q_proj") && matches("q_proj") && matches("model.layers.1.mlp.up_proj"));
    assert!(!matches("model.layers.0.self_attn.xq_proj") && !matches("model.layers.11.mlp.up_proj"));
}

#[test]
fn patterns_match_whole_paths() {
    let matches =
        |pattern: &str, path: &str| matches(&TargetModules::Pattern(pattern.to_owned()), path).expect("valid");
    assert!(matches(r".*\.(q|v)_proj", "model.layers.0.self_attn.v_proj"));
    assert!(!matches("q_proj", "model.layers.0.self_attn.q_proj"));
    // Both ends hold for the whole alternation.
    assert!(!matches("a|b", "ab") && matches("a|b", "b"));
    assert!(matches("all-linear", "model.layers.0.mlp.up_proj") && !matches("all-linear", "lm_head"));
    let broken = TargetModules::Pattern("(".to_owned());
    assert_eq!(super::matches(&broken, "x").expect_err("broken").code, "PS-CFG-001");
}

#[test]
fn first_matching_pattern_gives_rank_and_alpha() {
    let config = json!({"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"],
        "rank_pattern": {"layers.1.*": 4, "q_proj": 2}, "alpha_pattern": {"^model.layers.0.self_attn.q_proj": 3.5}});
    let config = AdapterConfig::from_json(config.to_string().as_bytes()).expect("valid");
    assert_eq!(config.rank_for("model.layers.1.self_attn.q_proj"), 4);
    assert_eq!(config.rank_for("model.layers.0.self_attn.q_proj"), 2);
    assert_eq!(config.rank_for("model.layers.0.self_attn.v_proj"), 8);
    assert!((config.alpha_for("model.layers.0.self_attn.q_proj") - 3.5).abs() < 1e-12);
    assert!((config.scaling_for("model.layers.0.self_attn.v_proj") - 2.0).abs() < 1e-12);
}

#[test]
fn adapters_of_the_reference_survive_a_round_trip() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/parity");
    for adapter in ["llama/adapter-lora", "qwen3/adapter-dora"] {
        let dir = fixtures.join(adapter);
        let AdapterFile { config, tensors } = read_adapter(&dir).expect("an adapter of the reference");
        assert_eq!(config.use_dora, adapter.contains("dora"));
        let out = tempfile::tempdir().expect("a temporary folder");
        write_adapter(&out.path().join("a/b"), &config, &tensors).expect("written");
        let read = |dir: &Path, name: &str| fs::read(dir.join(name)).expect("a file");
        // Byte for byte the file that the reference wrote.
        assert!(read(&dir, TENSORS_NAME) == read(&out.path().join("a/b"), TENSORS_NAME), "{adapter}");
        let value = |dir: &Path| -> Value { serde_json::from_slice(&read(dir, CONFIG_NAME)).expect("JSON") };
        let (mut before, after) = (value(&dir), value(&out.path().join("a/b")));
        before["lora_alpha"] = json!(before["lora_alpha"].as_f64().expect("a number") as i64);
        before["target_modules"].as_array_mut().expect("a list").sort_by_key(ToString::to_string);
        assert_eq!(before, after);
    }
}

#[test]
fn a_fresh_configuration_has_the_keys_of_every_version() {
    let mut config = AdapterConfig::new(4, 8.0, list(&["v_proj", "q_proj"]));
    let text = config.to_json();
    let value: Value = serde_json::from_str(&text).expect("JSON");
    let keys: Vec<&str> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "base_model_name_or_path",
            "bias",
            "fan_in_fan_out",
            "inference_mode",
            "init_lora_weights",
            "lora_alpha",
            "lora_dropout",
            "modules_to_save",
            "peft_type",
            "r",
            "target_modules",
            "task_type"
        ]
    );
    assert!(text.contains("\"lora_alpha\": 8,") && value["target_modules"] == json!(["q_proj", "v_proj"]));
    config.use_dora = true;
    assert!(config.to_json().contains("\"use_dora\": true") && !config.to_json().contains("use_rslora"));
}

#[test]
fn spellings_of_names_are_one() {
    for path in [
        Q,
        "model.layers.0.self_attn.q_proj",
        "base_model.model.base_model.model.model.layers.0.self_attn.q_proj",
        "base_model.model.model.language_model.layers.0.self_attn.q_proj",
    ] {
        let mut tensors = pair(path, 2);
        tensors.insert(format!("{path}.lora_magnitude_vector.weight"), (vec![4], vec![1.0; 4]));
        let adapter = read_adapter(folder(&minimal(), &tensors).path()).expect("an adapter");
        let names: Vec<&str> = adapter.tensors.keys().map(String::as_str).collect();
        let expected = ["lora_A.weight", "lora_B.weight", "lora_magnitude_vector"].map(|s| format!("{Q}.{s}"));
        assert_eq!(names, expected);
    }
}

#[test]
fn sixteen_bit_adapters_are_widened() {
    let dir = folder(&minimal(), &pair(Q, 2));
    let out = |name: &str, dtype, shape: &[usize]| OutTensor {
        name: format!("{Q}.{name}"),
        canonical: String::new(),
        dtype,
        shape: shape.to_vec(),
    };
    let tensors = [out("lora_A.weight", Dtype::BF16, &[2, 6]), out("lora_B.weight", Dtype::F16, &[4, 2])];
    let mut bytes = Vec::new();
    write_tensors(&mut bytes, &tensors.iter().collect::<Vec<_>>(), |t| {
        let n = t.shape.iter().product::<usize>();
        let dtype = header::float(t.dtype).expect("a float");
        Ok(narrow(dtype, &vec![1.5; n]))
    })
    .expect("in memory");
    fs::write(dir.path().join(TENSORS_NAME), bytes).expect("written");
    let adapter = read_adapter(dir.path()).expect("an adapter");
    assert!(adapter.tensors.values().all(|(_, values)| values.iter().all(|x| x.to_bits() == 1.5f32.to_bits())));
}

#[test]
fn settings_that_change_the_arithmetic_are_refused_by_name() {
    for (key, value) in [
        ("peft_type", json!("IA3")),
        ("bias", json!("all")),
        ("lora_bias", json!(true)),
        ("fan_in_fan_out", json!(true)),
        ("layer_replication", json!([[0, 1]])),
        ("use_qalora", json!(true)),
        ("alora_invocation_tokens", json!([1])),
        ("kasa_config", json!({"beta": 1})),
        ("target_parameters", json!(["x"])),
        ("trainable_token_indices", json!([3])),
        ("init_lora_weights", json!("pissa_niter_4")),
        ("init_lora_weights", json!("olora")),
        ("use_tomorrow", json!(true)),
        ("later_config", json!({"a": 1})),
    ] {
        let mut config = minimal();
        config[key] = value.clone();
        let fault = refused(&folder(&config, &pair(Q, 2)));
        assert_eq!(fault.code, "PS-MODEL-002", "{key}: {}", fault.detail);
        let named = value.as_str().unwrap_or(key);
        assert!(fault.detail.contains(named), "{}", fault.detail);
    }
    let mut config = minimal();
    for (key, value) in
        [("loftq_config", json!({"bits": 4})), ("init_lora_weights", json!("gaussian")), ("unknown", json!(1))]
    {
        config[key] = value;
    }
    read_adapter(folder(&config, &pair(Q, 2)).path()).expect("harmless settings");
}

#[test]
fn adapters_that_make_no_sense_are_refused() {
    let mut lonely = pair(Q, 2);
    lonely.remove(&format!("{Q}.lora_B.weight"));
    assert_eq!(refused(&folder(&minimal(), &lonely)).code, "PS-MODEL-005");
    assert!(refused(&folder(&minimal(), &pair(Q, 3))).detail.contains("rank 2"));
    assert_eq!(refused(&folder(&minimal(), &Tensors::new())).code, "PS-MODEL-005");
    let mut nan = pair(Q, 2);
    nan.get_mut(&format!("{Q}.lora_A.weight")).expect("there").1[3] = f32::NAN;
    assert!(refused(&folder(&minimal(), &nan)).detail.contains("not numbers"));
    let mut twice = pair(Q, 2);
    twice.extend(pair("model.layers.0.self_attn.q_proj", 2));
    assert!(refused(&folder(&minimal(), &twice)).detail.contains("twice"));
    for (name, words) in [("lora_embedding_A", "embedding"), ("lora_B.bias", "bias"), ("lora_C.weight", "not known")] {
        let mut odd = pair(Q, 2);
        odd.insert(format!("{Q}.{name}"), (vec![1], vec![0.0]));
        let fault = refused(&folder(&minimal(), &odd));
        assert!(fault.code == "PS-MODEL-002" && fault.detail.contains(words), "{}", fault.detail);
    }
    for (key, value) in [
        ("r", json!(0)),
        ("r", json!(-4)),
        ("lora_alpha", json!("x")),
        ("lora_dropout", json!(1.0)),
        ("target_modules", json!(3)),
        ("rank_pattern", json!({"(": 2})),
    ] {
        let mut config = minimal();
        config[key] = value;
        let code = refused(&folder(&config, &pair(Q, 2))).code;
        assert!(code == "PS-MODEL-005" || (key == "rank_pattern" && code == "PS-CFG-001"), "{key}: {code}");
    }
}

#[test]
fn missing_and_unsafe_files_are_named() {
    let dir = folder(&minimal(), &pair(Q, 2));
    fs::remove_file(dir.path().join(TENSORS_NAME)).expect("removed");
    let fault = refused(&dir);
    assert!(fault.code == "PS-MODEL-003" && fault.detail.contains(TENSORS_NAME), "{}", fault.detail);
    fs::write(dir.path().join("adapter_model.bin"), "PK").expect("written");
    assert_eq!(refused(&dir).code, "PS-MODEL-004");
    fs::remove_file(dir.path().join(CONFIG_NAME)).expect("removed");
    assert!(refused(&dir).detail.contains(CONFIG_NAME));
    assert_eq!(read_adapter(&dir.path().join("nowhere")).expect_err("no folder").code, "PS-FILE-001");
}

#[test]
fn the_same_tensors_make_the_same_bytes() {
    let tensors = pair(Q, 2);
    let bytes = adapter_tensors_bytes(&tensors);
    assert_eq!(bytes, adapter_tensors_bytes(&tensors));
    let length = u64::from_le_bytes(*bytes.first_chunk().expect("a length")) as usize;
    assert!(length.is_multiple_of(8) && bytes[8..8 + length].starts_with(br#"{"__metadata__":{"format":"pt"},"#));
    assert!(safetensors::SafeTensors::deserialize(&bytes).is_ok());
}
