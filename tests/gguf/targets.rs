//! `export` for Ollama, the hub, TensorRT-LLM and the Raspberry Pi, through the program.

use peft_tests::home::{Home, text};
use peft_tests::ollama::{Habit, MockOllama};
use peft_tests::uploads::{Manner, MockUploads};
use serde_json::{Value, json};
use std::process::{Command, Output};

const TOKEN: &str = "hf_verysecrettoken";

fn with(home: &Home, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    home.command(arguments).envs(variables.iter().copied()).output().expect("the program starts")
}

fn document(output: &Output) -> Value {
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The starter for Ollama, which has this habit.
fn to_ollama(habit: Habit, more: &[&str]) -> (Home, MockOllama, Output) {
    let (home, ollama) = (Home::new(), MockOllama::new(habit));
    let out = home.path("out");
    let plain = ["--json", "export", "--model", "starter", "--to", "ollama", "--name", "My-Bot", "--out", &out];
    let output = with(&home, &[&plain[..], more].concat(), &[("OLLAMA_HOST", &ollama.host())]);
    (home, ollama, output)
}

#[test]
fn a_running_ollama_gets_the_model_s4_15_s3_7_s3_8() {
    let (home, ollama, output) = to_ollama(Habit::Good, &["--quant", "q8_0,q4_0"]);
    let done = document(&output);
    assert_eq!(done["registered"], json!(["my-bot", "my-bot:q4_0"]));
    let models = ollama.models();
    for (name, file) in [("my-bot", 0), ("my-bot:q4_0", 1)] {
        let (model, file) = (&models[name], &done["files"][file]);
        let sent = model["files"].as_object().expect("files").values().next().and_then(Value::as_str);
        assert_eq!(sent, Some(format!("sha256:{}", file["sha256"].as_str().expect("a hash")).as_str()));
        assert_eq!(
            model["template"],
            "{{ .Prompt }}<|assistant|>{{ .Response }}</s>".replacen("{{ .Prompt }}", &before(&home), 1)
        );
        assert_eq!(model["parameters"]["stop"], json!(["</s>"]));
    }
    let log = ollama.take_log();
    assert!(log.iter().all(|heard| !heard.headers.contains_key("authorization")), "no secret goes to Ollama");
    let environment = std::fs::read_to_string(home.path("out/ollama.env")).expect("lines for applications");
    for line in [
        "LLM_PROVIDER=ollama".to_owned(),
        format!("OLLAMA_BASE_URL={}", ollama.host()),
        "OLLAMA_MODEL=my-bot".to_owned(),
    ] {
        assert!(environment.lines().any(|found| found == line), "{environment} lacks {line}");
    }
}

/// What the Modelfile prints before the answer's separator.
fn before(home: &Home) -> String {
    let modelfile = std::fs::read_to_string(home.path("out/Modelfile")).expect("a Modelfile");
    let template = modelfile.split("TEMPLATE \"\"\"").nth(1).expect("a template");
    template.split("<|assistant|>").next().expect("a beginning").to_owned()
}

#[test]
fn an_ollama_that_is_absent_or_old_means_instructions_and_one_that_fails_is_an_error() {
    let home = Home::new();
    let out = home.path("out");
    let plain = ["--json", "export", "--model", "starter", "--to", "ollama", "--out", &out];
    let output = with(&home, &plain, &[]);
    assert_eq!(document(&output)["registered"], json!([]));
    assert!(text(&output.stderr).contains("ollama create starter -f Modelfile"), "{}", text(&output.stderr));
    let again = home.path("again");
    let always = [&plain[..7], &[&again, "--register", "always"]].concat();
    let output = with(&home, &always, &[]);
    assert!(output.status.code() == Some(5) && text(&output.stderr).contains("PS-OLL-001"), "{}", text(&output.stderr));

    let (_home, ollama, output) = to_ollama(Habit::Old, &[]);
    let told = text(&output.stderr);
    assert!(output.status.success() && told.contains("0.3.12") && told.contains("ollama create my-bot"), "{told}");
    assert!(ollama.models().is_empty());
    let (_home, _, output) = to_ollama(Habit::Old, &["--register", "always"]);
    assert!(output.status.code() == Some(4) && text(&output.stderr).contains("PS-OLL-003"));

    let (_home, ollama, output) = to_ollama(Habit::Good, &["--register", "never"]);
    assert!(output.status.success() && ollama.take_log().is_empty());
    let (_home, ollama, output) = to_ollama(Habit::Good, &["--offline"]);
    assert!(output.status.success() && ollama.take_log().is_empty());

    let (home, _, output) = to_ollama(Habit::FailsInside, &[]);
    assert_eq!(output.status.code(), Some(5));
    let told = text(&output.stderr);
    assert!(told.contains("PS-OLL-004") && told.contains("invalid file magic"), "{told}");
    // The files are good, are told of, and stay.
    let done: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(std::path::Path::new(done["files"][0]["path"].as_str().expect("a path")).is_file());
    assert!(std::fs::exists(home.path("out/Modelfile")).expect("asked"));
}

#[test]
fn a_folder_goes_to_the_hub_private_and_the_same_command_goes_on_s4_15_2() {
    let (home, hub) = (Home::new(), MockUploads::new(Manner { role: "write", ..Manner::default() }));
    let out = home.path("out");
    let variables = [("HF_ENDPOINT", hub.endpoint()), ("HF_TOKEN", TOKEN.to_owned())];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    let command = [
        "--json", "export", "--model", "starter", "--to", "hub", "--form", "gguf", "--quant", "q4_0", "--repo", "bot",
        "--out", &out,
    ];
    hub.script(vec![("POST /api/models/me/bot/commit", 403, "{\"error\":\"no write scope\"}")]);
    let output = with(&home, &command, &variables);
    let told = text(&output.stderr);
    assert!(
        output.status.code() == Some(5) && told.contains("PS-AUTH-004") && told.contains("no write scope"),
        "{told}"
    );
    assert!(hub.commits().is_empty());
    hub.take_logs();

    let done = document(&with(&home, &command, &variables));
    assert_eq!((&done["uploaded"]["id"], &done["uploaded"]["sent_bytes"]), (&json!("me/bot"), &json!(0)));
    let (asked, put) = hub.take_logs();
    assert!(put.is_empty(), "what the hub has is not sent again");
    assert_eq!(hub.created()[0], json!({"name": "bot", "organization": "me", "type": "model", "private": true}));
    let commits = hub.commits();
    let paths: Vec<&str> = commits[0].iter().filter_map(|line| line["value"]["path"].as_str()).collect();
    for wanted in ["README.md", "starter-Q4_0.gguf", "tokenizer.json", "starter-Q4_0.certificate.json"] {
        assert!(paths.contains(&wanted), "{paths:?}");
    }
    assert!(!paths.contains(&"upload.json"));
    assert!(asked.iter().all(|heard| heard.headers.get("authorization") == Some(&format!("Bearer {TOKEN}"))));
    let all = std::fs::read_dir(&out).expect("a folder").flatten();
    for entry in all.filter(|entry| entry.path().is_file()) {
        let content = std::fs::read(entry.path()).expect("read");
        assert!(!content.windows(TOKEN.len()).any(|part| part == TOKEN.as_bytes()), "{:?}", entry.path());
    }
    // Without a repository it stays here; without a token nothing leaves.
    let folder = home.path("merged");
    let done =
        document(&with(&home, &["--json", "export", "--model", "starter", "--to", "hub", "--out", &folder], &[]));
    assert_eq!(done["uploaded"], Value::Null);
    let card = std::fs::read_to_string(home.path("merged/README.md")).expect("a card");
    assert!(card.contains("library_name: transformers") && !card.contains(&folder), "{card}");
    let send = ["export", "--model", "starter", "--to", "hub", "--out", &folder, "--repo", "me/bot"];
    let output = with(&home, &send, &variables[..1]);
    assert!(
        output.status.code() == Some(5) && text(&output.stderr).contains("PS-AUTH-002"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn a_tensorrt_llm_checkpoint_is_the_merged_model_under_other_names_s0_12() {
    let home = Home::new();
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/parity");
    for (family, architecture) in
        [("llama", "LlamaForCausalLM"), ("qwen2", "Qwen2ForCausalLM"), ("qwen3", "Qwen3ForCausalLM")]
    {
        let model = fixtures.join(family).join("model").display().to_string();
        let (out, merged) = (home.path(&format!("trt-{family}")), home.path(&format!("merged-{family}")));
        let done = home.json(&["export", "--model", &model, "--to", "tensorrt-llm", "--dtype", "bf16", "--out", &out]);
        assert!(done["files"].as_array().expect("files").len() >= 2, "{done}");
        home.json(&["export", "--model", &model, "--to", "merged", "--dtype", "bf16", "--out", &merged]);
        let config: Value =
            serde_json::from_slice(&std::fs::read(format!("{out}/config.json")).expect("read")).expect("JSON");
        assert_eq!(
            (&config["architecture"], &config["position_embedding_type"]),
            (&json!(architecture), &json!("rope_gpt_neox"))
        );
        assert_eq!(config["attn_bias"], json!(family == "qwen2"));
        let read = |path: String| std::fs::read(path).expect("read");
        let (ours, theirs) = (read(format!("{merged}/model.safetensors")), read(format!("{out}/rank0.safetensors")));
        let ours = safetensors::SafeTensors::deserialize(&ours).expect("safetensors");
        let theirs = safetensors::SafeTensors::deserialize(&theirs).expect("safetensors");
        let rows = |names: &[&str]| -> Vec<u8> {
            names
                .iter()
                .flat_map(|name| ours.tensor(name).unwrap_or_else(|_| panic!("{name}")).data().to_vec())
                .collect()
        };
        let layer = |i: usize, name: &str| format!("model.layers.{i}.{name}");
        for i in 0..config["num_hidden_layers"].as_u64().expect("a number") as usize {
            let qkv = ["q", "k", "v"].map(|part| layer(i, &format!("self_attn.{part}_proj.weight")));
            let pairs = [
                ("attention.qkv.weight", qkv.to_vec()),
                ("attention.dense.weight", vec![layer(i, "self_attn.o_proj.weight")]),
                ("mlp.fc.weight", vec![layer(i, "mlp.gate_proj.weight")]),
                ("mlp.gate.weight", vec![layer(i, "mlp.up_proj.weight")]),
                ("mlp.proj.weight", vec![layer(i, "mlp.down_proj.weight")]),
                ("post_layernorm.weight", vec![layer(i, "post_attention_layernorm.weight")]),
            ];
            for (their, our) in pairs {
                let their = format!("transformer.layers.{i}.{their}");
                let names: Vec<&str> = our.iter().map(String::as_str).collect();
                assert_eq!(theirs.tensor(&their).expect("there").data(), rows(&names), "{their}");
            }
        }
        assert_eq!(theirs.tensor("transformer.layers.0.attention.qkv.bias").is_ok(), family == "qwen2");
        assert_eq!(theirs.tensor("transformer.layers.0.attention.q_layernorm.weight").is_ok(), family == "qwen3");
        assert_eq!(theirs.tensor("lm_head.weight").expect("a head").shape()[0] as u64, config["vocab_size"]);
    }
    let gemma = fixtures.join("gemma2/model").display().to_string();
    let fault = home.fault(3, &["export", "--model", &gemma, "--to", "tensorrt-llm", "--out", &home.path("no")]);
    assert_eq!(fault["code"], "PS-EXP-004");
}

#[cfg(unix)]
#[test]
fn the_engine_is_built_where_the_builder_is_and_its_failure_is_told() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new();
    let bin = home.path("bin");
    std::fs::create_dir(&bin).expect("created");
    let builder = |script: &str| {
        let path = home.write(
            "bin/trtllm-build",
            format!("#!/bin/sh\n[ \"$1\" = --version ] && {{ echo 1.0.0; exit 0; }}\n{script}\n"),
        );
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("made a program");
    };
    let path = format!("{bin}:{}", std::env::var("PATH").unwrap_or_default());
    let model =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/parity/llama/model").display().to_string();
    let export = |out: &str| {
        with(&home, &["--json", "export", "--model", &model, "--to", "tensorrt-llm", "--out", out], &[("PATH", &path)])
    };
    builder("mkdir -p \"$4\" && echo engine > \"$4/rank0.engine\"");
    let done = document(&export(&home.path("one")));
    assert!(
        done["files"]
            .as_array()
            .expect("files")
            .iter()
            .any(|file| file["path"].as_str().is_some_and(|p| p.ends_with("model.plan")))
    );
    builder("echo 'no GPU here' >&2; exit 3");
    let output = export(&home.path("two"));
    let told = text(&output.stderr);
    assert!(output.status.code() == Some(3) && told.contains("PS-EXP-004") && told.contains("no GPU here"), "{told}");
    assert!(std::fs::exists(home.path("two/rank0.safetensors")).expect("asked"), "the checkpoint stays");
}

#[cfg(unix)]
#[test]
fn scripts_for_the_raspberry_pi_do_what_they_say_s1_14_to_s1_25() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new();
    let out = home.path("pi");
    let done = home.json(&["export", "--model", "starter", "--to", "raspberry-pi", "--out", &out]);
    assert_eq!(done["files"][0]["type"], "Q4_0");
    assert!(std::fs::exists(home.path("pi/tokenizer.json")).expect("asked"), "S1.18");
    let sh = |words: &[&str], variables: &[(&str, &str)]| -> Output {
        Command::new("sh").args(words).current_dir(&out).envs(variables.iter().copied()).output().expect("sh starts")
    };
    let scripts = ["setup_pi.sh", "tools.sh", "run_decoder.sh", "run_encoder.sh", "bench.sh", "get_model.sh", "pi.env"];
    for script in scripts {
        let checked = sh(&["-n", script], &[]);
        assert!(checked.status.success(), "{script}: {}", text(&checked.stderr));
    }
    let dry = text(&sh(&["setup_pi.sh", "--dry-run"], &[("LLAMA_CPP", "/nowhere/llama.cpp")]).stdout);
    for part in ["libopenblas-dev", "zram", "-DGGML_BLAS_VENDOR=OpenBLAS", "git clone"] {
        assert!(dry.contains(part), "{dry} lacks {part}");
    }

    // Programs of llama.cpp that say what they were called with, or what a script tells them to have measured.
    let bin = home.path("llama/build/bin");
    std::fs::create_dir_all(&bin).expect("created");
    let program = |name: &str, script: &str| {
        let path = home.write(&format!("llama/build/bin/{name}"), format!("#!/bin/sh\n{script}\n"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("made a program");
    };
    program("llama-cli", "[ \"$1\" = --help ] && { echo --prompt-cache; exit; }\necho cli \"$@\"");
    program("llama-embedding", "echo embed \"$@\"; cat \"$(echo \"$@\" | sed 's/.*-f //')\"");
    program(
        "llama-bench",
        "echo '\"cpu_info\",\"model_type\",\"n_prompt\",\"n_gen\",\"avg_ts\",\"stddev_ts\"'\n\
         echo '\"a, b\",\"llama ?B Q4_0\",\"256\",\"0\",\"101.5\",\"1\"'\n\
         echo \"\\\"a, b\\\",\\\"llama ?B Q4_0\\\",\\\"0\\\",\\\"128\\\",\\\"$SPEED\\\",\\\"0.1\\\"\"",
    );
    let llama = home.path("llama");
    let place = ("LLAMA_CPP", llama.as_str());
    let ran = text(
        &sh(&["run_decoder.sh", "-p", "Hi"], &[place, ("GRAMMAR", "json.gbnf"), ("PROMPT_CACHE", "a.cache")]).stdout,
    );
    for part in
        ["starter-Q4_0.gguf", "-p Hi -no-cnv", "--grammar-file", "json.gbnf", "--prompt-cache", "-t 4", "-c ", "-ub "]
    {
        assert!(ran.contains(part), "{ran} lacks {part}");
    }
    let ran = sh(&["run_decoder.sh"], &[place]);
    assert!(
        text(&ran.stdout).contains("-cnv") && !text(&ran.stdout).contains("--prompt-cache"),
        "{}",
        text(&ran.stderr)
    );
    std::fs::write(home.path("pi/lines.txt"), "one line\n").expect("written");
    assert!(text(&sh(&["run_encoder.sh", "lines.txt"], &[place]).stdout).contains("one line"));

    let bench = |speed: &str, minimum: &str| {
        let output = sh(&["bench.sh"], &[place, ("SPEED", speed), ("MIN_TOKENS_PER_SECOND", minimum)]);
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    for speed in ["10.0", "10.4", "9.8"] {
        let (code, said, told) = bench(speed, "5");
        assert_eq!(code, Some(0), "{told}");
        assert!(said.contains(&format!("llama ?B Q4_0,101.5,{speed}")), "{said}");
    }
    let (code, _, told) = bench("4.9", "5");
    assert!(code == Some(1) && told.contains("Too slow"), "{told}");
    let (code, _, told) = bench("8.0", "5");
    assert!(code == Some(1) && told.contains("Slower than it was"), "{told}");
    let history = std::fs::read_to_string(home.path("pi/benchmark.csv")).expect("a history");
    assert_eq!(history.lines().count(), 6, "{history}");
    assert!(history.lines().all(|line| line.split(',').count() == 10), "{history}");
    program("llama-bench", "echo nonsense");
    assert!(bench("1", "0").2.contains("no measurement"));
}

#[test]
fn an_importance_matrix_is_gathered_noted_and_read_again() {
    let home = Home::new();
    let row = |i| format!("{{\"prompt\": \"What is {i} and one?\", \"completion\": \"It is {}.\"}}", i + 1);
    let rows: Vec<String> = (0..12).map(row).collect();
    let data = home.write("rows.jsonl", rows.join("\n"));
    let export = |out: &str, more: &[&str]| {
        let out = home.path(out);
        home.json(
            &[&["export", "--model", "starter", "--to", "gguf", "--quant", "q4_k_m,q2_k", "--out", &out], more]
                .concat(),
        )
    };
    let (plain, weighed) = (export("plain", &[]), export("weighed", &["--imatrix", &data]));
    let kl = |done: &Value, i: usize| done["certificates"][i]["divergence"]["kl"].as_f64().expect("measured");
    assert_eq!(plain["certificates"][0]["importance"], Value::Null);
    let noted = weighed["certificates"][0]["importance"].as_str().expect("noted");
    assert!(noted.contains("12 rows of rows.jsonl"), "{noted}");
    assert_ne!(plain["files"][0]["sha256"], weighed["files"][0]["sha256"]);
    assert!(kl(&weighed, 1) < 1.5 * kl(&plain, 1), "{} {}", kl(&weighed, 1), kl(&plain, 1));
    let matrix = home.path("weighed/starter.imatrix");
    let again = home.path("matrix.gguf");
    std::fs::copy(&matrix, &again).expect("copied");
    let read = export("read", &["--imatrix", &again]);
    for i in 0..2 {
        // Sums in the file and means here differ in their last digits.
        let (a, b) = (kl(&read, i), kl(&weighed, i));
        assert!((a - b).abs() <= 0.05 * b, "{a} {b}");
    }
    let broken = home.write("broken.gguf", &std::fs::read(&matrix).expect("read")[..2000]);
    let fault = home
        .fault(3, &["export", "--model", "starter", "--to", "gguf", "--imatrix", &broken, "--out", &home.path("no")]);
    assert_eq!(fault["code"], "PS-MODEL-005");
    let file = plain["files"][0]["path"].as_str().expect("a path");
    let fault =
        home.fault(3, &["export", "--model", "starter", "--to", "gguf", "--imatrix", file, "--out", &home.path("no")]);
    assert_eq!(fault["code"], "PS-MODEL-005");
    let fault = home.fault(
        3,
        &["export", "--model", "starter", "--to", "gguf", "--imatrix", "training", "--out", &home.path("no")],
    );
    assert_eq!(fault["code"], "PS-DATA-004");
}

#[test]
fn speed_is_measured_kept_and_judged_s1_24_s1_25() {
    let home = Home::new();
    let csv = home.path("speed.csv");
    let plain =
        ["bench", "generate", "--model", "starter", "--prompt-tokens", "32", "--generate", "8", "--repeats", "2"];
    let report = home.json(&[&plain[..], &["--csv", &csv]].concat());
    let number = |report: &Value, pointer: &str| report.pointer(pointer).and_then(Value::as_f64).unwrap_or(f64::NAN);
    for pointer in
        ["/prompt_tokens_per_second", "/decode_tokens_per_second/median", "/peak_memory_bytes", "/weights_bytes"]
    {
        assert!(number(&report, pointer) > 0.0, "{pointer}: {report}");
    }
    let narrow = home.json(&[&plain[..], &["--kv-cache", "int8"]].concat());
    assert!(number(&narrow, "/cache_bytes") < 0.4 * number(&narrow, "/exact_cache_bytes"), "{narrow}");
    assert_eq!(narrow["exact_cache_bytes"], report["cache_bytes"]);
    assert_eq!((&report["cache_bytes"], &report["context_tokens"]), (&report["exact_cache_bytes"], &Value::from(40)));
    let small = home.json(&[&plain[..], &["--quant", "q4_0"]].concat());
    assert!(number(&small, "/weights_bytes") < number(&report, "/weights_bytes"));
    assert!(
        std::fs::read_dir(home.path("home/exports")).expect("a folder").next().is_none(),
        "what was made for it is gone"
    );
    home.json(&[&plain[..], &["--csv", &csv, "--regression", "0.001"]].concat());
    let text = std::fs::read_to_string(&csv).expect("a file");
    assert!(text.lines().count() == 3 && text.lines().all(|line| line.split(',').count() == 12), "{text}");
    let fault = home.fault_of_speed(&[&plain[..], &["--min-tokens-per-second", "1e12"]].concat());
    assert_eq!(fault["code"], "PS-BENCH-001");
    let fault = home.fault_of_speed(&[&plain[..], &["--csv", &csv, "--regression", "1e6"]].concat());
    assert_eq!(fault["code"], "PS-BENCH-001");
    let fault = home.fault(3, &["bench", "generate", "--model", "starter", "--generate", "0"]);
    assert_eq!(fault["code"], "PS-CFG-001");
    let fault = home.fault(3, &["bench", "generate", "--model", "starter", "--prompt-tokens", "60000"]);
    assert_eq!(fault["code"], "PS-CFG-001");
}

#[test]
fn the_speed_of_training_is_measured_in_either_precision() {
    let home = Home::new();
    let plain = ["bench", "train", "--model", "starter", "--sequence-length", "32", "--batch", "2", "--steps", "3"];
    let rounds = home.json(&["hardware"])["backend"]["fastest_precision"] == "bf16";
    for precision in ["auto", "f32", "bf16"] {
        let report = home.json(&[&plain[..], &["--precision", precision]].concat());
        let median = report.pointer("/tokens_per_second/median").and_then(Value::as_f64).unwrap_or(f64::NAN);
        assert!(median > 0.0, "{report}");
        assert_eq!(report["step_seconds"].as_array().map(Vec::len), Some(3), "{report}");
        assert_eq!(report["tokens_per_step"], 64);
        let device = report["device"].as_str().unwrap_or_default();
        assert_eq!(device.contains("bf16"), precision == "bf16" || (precision == "auto" && rounds), "{device}");
    }
    let slow = home.json(&[&plain[..], &["--backend", "cpu:portable"]].concat());
    assert!(slow["device"].as_str().is_some_and(|device| device.contains("portable")), "{slow}");
    for wrong in [["--steps", "0"], ["--batch", "0"], ["--sequence-length", "999999999999"], ["--batch", "99999999"]] {
        let fault = home.fault(3, &[&plain[..4], &["--method", "lora"], &wrong].concat());
        assert_eq!(fault["code"], "PS-CFG-001", "{wrong:?}");
    }
}

trait Speed {
    fn fault_of_speed(&self, arguments: &[&str]) -> Value;
}

impl Speed for Home {
    /// The fault of a measurement that was told of before it was judged.
    fn fault_of_speed(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
        assert!(serde_json::from_slice::<Value>(&output.stdout).expect("JSON")["decode_tokens_per_second"].is_object());
        serde_json::from_slice::<Value>(&output.stderr).expect("JSON")["error"].clone()
    }
}
