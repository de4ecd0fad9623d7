//! The campaign: many runs, half of them with a planted fault.

use crate::faults;
use crate::world::{Data, World, world};
use peft_models::engine::{Engine, TrainJob};
use peft_models::train::{Request, ledger};
use peft_plan::RunEvent;
use std::fmt::Write;
use std::ops::ControlFlow;
use std::path::Path;

fn dump(name: &str, w: &World, out: &Path) {
    let plan = crate::world::plan(&w.base, &w.train, &w.settings);
    let home = tempfile::tempdir().expect("a directory");
    let engine = Engine::open("cpu", 1).expect("an engine");
    let mut lines = String::new();
    let mut none = || None::<Request>;
    let job = TrainJob {
        base: &w.base,
        plan: &plan,
        train: &w.train,
        validation: &w.validation,
        truncated: 0,
        directory: home.path(),
        run: "r",
        name,
        dataset_hash: "d",
        resume: false,
        changed: false,
        request: &mut none,
        peak_memory: || 0,
    };
    let mut sink = |event: &RunEvent| {
        writeln!(lines, "{}", serde_json::to_string(event).expect("plain")).expect("text");
        ControlFlow::Continue(())
    };
    let t = std::time::Instant::now();
    let result = engine.train(job, &mut sink);
    let visits: Vec<_> = ledger::read(home.path()).expect("a ledger").iter().map(|v| (v.step, v.row.row, v.row.tokens, v.row.loss)).collect();
    let rows = |rows: &[peft_models::train::Tokens]| rows.iter().map(|t| serde_json::json!([t.row, t.ids, faults::answer_at(t)])).collect::<Vec<_>>();
    let document = serde_json::json!({"name": name, "result": format!("{result:?}"), "seconds": t.elapsed().as_secs_f64(), "steps": plan.total_steps,
        "events": lines.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).expect("json")).collect::<Vec<_>>(), "visits": visits, "train": rows(&w.train), "validation": rows(&w.validation)});
    std::fs::write(out.join(format!("{name}.json")), document.to_string()).expect("written");
}

#[test]
#[ignore = "minutes"]
fn record() {
    let out = std::path::PathBuf::from(std::env::var("OUT").expect("OUT"));
    let only = std::env::var("ONLY").unwrap_or_default();
    let go = |name: &str, make: &dyn Fn() -> World| {
        if name.contains(&only) && !out.join(format!("{name}.json")).exists() {
            dump(name, &make(), &out);
        }
    };
    let healthy: Vec<(&str, &str, Data, usize, Vec<&str>)> = vec![
        ("starter-cafe-lora", "starter", Data::Cafe, 452, vec!["training.learning_rate=2e-3"]),
        ("starter-cafe-lora-default", "starter", Data::Cafe, 452, vec![]),
        ("starter-corpus-lora", "starter", Data::Corpus, 500, vec!["training.learning_rate=1e-3"]),
        ("starter-cafe-dora", "starter", Data::Cafe, 300, vec!["training.learning_rate=2e-3", "adapter.method=dora"]),
        ("starter-cafe-full", "starter", Data::Cafe, 300, vec!["training.learning_rate=3e-4", "adapter.method=full"]),
        ("starter-say-qlora", "starter", Data::Say, 300, vec!["training.learning_rate=2e-3", "adapter.method=qlora"]),
        ("llama-cipher-lora", "llama", Data::Cipher, 600, vec!["training.learning_rate=1e-2"]),
        ("qwen3-cipher-full", "qwen3", Data::Cipher, 600, vec!["training.learning_rate=3e-3", "adapter.method=full"]),
        ("gemma3-say-lora", "gemma3", Data::Say, 400, vec!["training.learning_rate=1e-2"]),
        ("phi3-cipher-dora", "phi3", Data::Cipher, 600, vec!["training.learning_rate=1e-2", "adapter.method=dora"]),
        ("mistral-say-default", "mistral", Data::Say, 400, vec![]),
        ("qwen2-cipher-small-batch", "qwen2", Data::Cipher, 300, vec!["training.learning_rate=5e-3", "training.micro_batch_size=2"]),
    ];
    for (name, model, data, count, settings) in &healthy {
        go(&format!("healthy-{name}"), &|| world(model, *data, *count, 1, settings));
    }
    for (name, model, data, count, settings) in &healthy {
        let make = || world(model, *data, *count, 2, settings);
        go(&format!("rate30-{name}"), &|| {
            let mut w = make();
            let rate = crate::world::plan(&w.base, &w.train, &w.settings).learning_rate;
            w.settings.push(format!("training.learning_rate={}", (rate * 30.0).min(10.0)));
            w
        });
        go(&format!("garbled-{name}"), &|| {
            let mut w = make();
            let vocabulary = w.base.spec().vocab_size;
            faults::garble(&mut w.train, 0.03, vocabulary, 5);
            w
        });
        go(&format!("shuffled-{name}"), &|| {
            let mut w = make();
            faults::shuffle_labels(&mut w.train, 1.0, 5);
            faults::shuffle_labels(&mut w.validation, 1.0, 6);
            w
        });
        go(&format!("lowrate-{name}"), &|| {
            let mut w = make();
            w.settings.push("training.learning_rate=1e-7".to_owned());
            w
        });
        go(&format!("noclip30-{name}"), &|| {
            let mut w = make();
            let rate = crate::world::plan(&w.base, &w.train, &w.settings).learning_rate;
            w.settings.push(format!("training.learning_rate={}", (rate * 30.0).min(10.0)));
            w.settings.push("training.max_gradient_norm=0".to_owned());
            w
        });
        go(&format!("bigweights-{name}"), &|| {
            let mut w = make();
            let folder = tempfile::tempdir().expect("a directory").keep();
            w.base = faults::altered(model, &folder, &|name, shape, values| {
                if shape.len() == 2 && name.contains("mlp") {
                    values.iter_mut().for_each(|v| *v *= 20.0);
                }
            });
            w
        });
    }
}
