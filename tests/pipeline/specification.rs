//! A plan as a training specification, and training from it (S0.8, S0.9, S0.14, D7).

use peft_tests::home::{Home, text};
use serde_json::{Value, json};
use std::fs;

fn read(path: &str) -> Value {
    serde_json::from_slice(&fs::read(path).expect("written")).expect("JSON")
}

#[test]
fn a_specification_names_its_inputs_and_trains_exactly_what_was_planned() {
    let home = Home::new();
    let rows: Vec<String> = (0..12).map(|n| format!(r#"{{"question":"Say {n}","answer":"It is {n}"}}"#)).collect();
    let data = home.write("rows.jsonl", rows.join("\n"));
    let spec = home.path("spec.json");
    let asked = ["--model", "starter", "--data", &data, "--set", "training.max_steps=2", "--threads", "1"];
    let plan = home.json(&[&["plan"][..], &asked, &["--write-spec", &spec]].concat());
    let written = read(&spec);
    assert_eq!(written["config"], plan["config"]);
    assert_eq!(written["dataset"]["rows"], 12);
    assert_eq!(written["dataset"]["files"][0]["sha256"].as_str().map(str::len), Some(64));
    assert_eq!(written["adapter_config"]["r"], plan["config"]["adapter"]["rank"]);
    let expected = &written["hardware"]["runtime_expectations"];
    assert_eq!(
        (&expected["python"], &expected["cuda"], &expected["tensorrt"]),
        (&json!("3.12"), &json!("12.6"), &json!("9.5"))
    );
    assert_eq!(written["hardware"]["needed"]["memory_bytes"], plan["memory"]["total_bytes"]);

    // The same bytes as from the flags.
    let trained = |arguments: &[&str], out: &str| {
        let output = home.run(&[&["train"], arguments, &["--threads", "1", "--out", &home.path(out)][..]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        fs::read(format!("{}/adapter/adapter_model.safetensors", home.path(out))).expect("an adapter")
    };
    let by_flags = trained(&asked[..6], "flags");
    assert!(by_flags == trained(&[&spec], "spec"), "the adapters differ");

    // Other data, other model, another version: refused by name before anything begins.
    fs::write(&data, rows[..11].join("\n")).expect("written");
    let fault = home.fault(3, &["train", &spec, "--out", &home.path("third")]);
    assert_eq!(fault["code"], "PS-SPEC-001");
    assert!(fault["detail"].as_str().is_some_and(|detail| detail.contains("rows.jsonl")), "{fault}");
    fs::write(&data, rows.join("\n")).expect("written");
    let altered = |change: &dyn Fn(&mut Value)| {
        let mut document = written.clone();
        change(&mut document);
        home.write("altered.json", document.to_string())
    };
    let other_model = altered(&|spec| spec["base_model"]["hash"] = json!("0"));
    assert_eq!(home.fault(3, &["train", &other_model])["code"], "PS-SPEC-001");
    for broken in [
        altered(&|spec| spec["version"] = json!(2)),
        altered(&|spec| spec["dataset"] = json!(3)),
        altered(&|spec| spec["config"]["adapter"]["rank"] = json!("many")),
    ] {
        assert_eq!(home.fault(3, &["train", &broken])["code"], "PS-CFG-001");
    }
    // Whoever names other data means it.
    let other = home.write("other.jsonl", rows[..10].join("\n"));
    trained(&[&spec, "--data", &other], "other");
    fs::remove_file(&data).expect("removed");
    assert_eq!(home.fault(3, &["train", &spec])["code"], "PS-FILE-001");
}
