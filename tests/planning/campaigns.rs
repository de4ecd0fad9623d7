//! Twenty configurations each: planned memory against the measured peak, and shown durations against real ones.
//!
//! They take minutes and need models of several sizes and families, which `peers/make_model.py` and `make_bnb.py`
//! write: `PEFT_STUDIO_MODELS=DIR cargo test -p peft_tests --test planning -- --ignored --nocapture`. A model that is
//! not there is passed over; the starter model always is.

use peft_tests::home::Home;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::PathBuf;

/// Name of a model's folder, rows of data with words from and to, and settings.
struct Case(&'static str, (usize, usize, usize), &'static [&'static str]);

const SHORT: (usize, usize, usize) = (60, 10, 60);
const MIDDLE: (usize, usize, usize) = (60, 100, 250);
const LONG: (usize, usize, usize) = (40, 400, 900);
const VERY_LONG: (usize, usize, usize) = (12, 1500, 2500);

const MEMORY: &[Case] = &[
    Case("starter", SHORT, &[]),
    Case("tiny-llama", SHORT, &[]),
    Case("tiny-mistral", MIDDLE, &["adapter.method=qlora"]),
    Case("tiny-qwen2", MIDDLE, &["adapter.method=dora"]),
    Case("tiny-qwen3", LONG, &["training.activation_checkpointing=true"]),
    Case("tiny-phi3", MIDDLE, &["adapter.method=full"]),
    Case("tiny-gemma2", LONG, &[]),
    Case("tiny-gemma3", MIDDLE, &["adapter.method=qdora", "adapter.dropout=0.1"]),
    Case("small-llama", MIDDLE, &[]),
    Case("small-llama", MIDDLE, &["dataset.validation_split=0", "training.micro_batch_size=1"]),
    Case("small-llama", MIDDLE, &["adapter.method=qlora"]),
    Case("small-llama-nf4", MIDDLE, &[]),
    Case("small-llama", LONG, &["adapter.method=qlora", "training.activation_checkpointing=true"]),
    Case("small-llama", MIDDLE, &["adapter.method=dora", "adapter.rank=64"]),
    Case("small-llama", SHORT, &["adapter.method=full"]),
    Case(
        "small-qwen3",
        MIDDLE,
        &["training.packing=true", "training.max_sequence_length=1024", "training.micro_batch_size=2"],
    ),
    Case("small-gemma2", LONG, &[]),
    Case("small-qwen3", VERY_LONG, &["training.max_sequence_length=4096"]),
    Case("0.5b-qwen2", MIDDLE, &["training.gradient_accumulation=1"]),
    Case(
        "0.5b-qwen2",
        MIDDLE,
        &["adapter.method=qlora", "training.activation_checkpointing=true", "training.gradient_accumulation=1"],
    ),
    Case("0.5b-qwen2-nf4", SHORT, &["adapter.rank=8", "training.gradient_accumulation=1"]),
    Case("small-llama", SHORT, &["adapter.method=full", "training.optimizer=adamw_8bit"]),
    Case("small-llama", MIDDLE, &["adapter.modules_to_save=[\"embed_tokens\",\"lm_head\"]"]),
    Case("small-llama", MIDDLE, &["training.objective=dpo"]),
    Case("small-llama", MIDDLE, &["training.objective=kto", "training.micro_batch_size=2"]),
    Case("small-llama", MIDDLE, &["training.objective=orpo", "adapter.method=qlora"]),
];

const DURATIONS: &[Case] = &[
    Case("starter", SHORT, &["training.max_steps=100"]),
    Case("starter", MIDDLE, &["training.max_steps=40"]),
    Case("starter", SHORT, &["training.max_steps=100", "adapter.method=dora"]),
    Case("starter", SHORT, &["training.max_steps=60", "adapter.method=full"]),
    Case("starter", MIDDLE, &["training.max_steps=30", "training.activation_checkpointing=true"]),
    Case("tiny-llama", SHORT, &["training.max_steps=60"]),
    Case("tiny-llama", MIDDLE, &["training.max_steps=20", "adapter.rank=64"]),
    Case("tiny-mistral", MIDDLE, &["training.max_steps=20", "adapter.method=qlora"]),
    Case("tiny-qwen2", SHORT, &["training.max_steps=60", "adapter.method=dora"]),
    Case("tiny-qwen2", LONG, &["training.max_steps=12"]),
    Case("tiny-qwen3", MIDDLE, &["training.max_steps=25"]),
    Case("tiny-phi3", SHORT, &["training.max_steps=40", "adapter.method=full"]),
    Case("tiny-gemma2", MIDDLE, &["training.max_steps=20"]),
    Case("tiny-gemma3", MIDDLE, &["training.max_steps=20", "adapter.method=qdora"]),
    Case("small-llama", SHORT, &["training.max_steps=6"]),
    Case("small-llama", MIDDLE, &["training.max_steps=3"]),
    Case("small-llama", SHORT, &["training.max_steps=6", "adapter.method=qlora"]),
    Case("small-llama-nf4", SHORT, &["training.max_steps=6"]),
    Case("small-qwen3", SHORT, &["training.max_steps=5", "training.micro_batch_size=4"]),
    Case("small-gemma2", SHORT, &["training.max_steps=5"]),
    Case("tiny-llama", MIDDLE, &["training.max_steps=12", "training.objective=dpo"]),
    Case("tiny-llama", MIDDLE, &["training.max_steps=12", "training.objective=kto"]),
];

const WORDS: [&str; 24] = [
    "river", "stone", "garden", "light", "window", "paper", "music", "summer", "bridge", "honest", "quiet", "yellow",
    "distant", "simple", "table", "number", "letter", "evening", "market", "forest", "little", "mountain", "answer",
    "teacher",
];

/// Rows whose answers have so many words; two answers each, of which the first is the better, where `settings` compare.
fn data(home: &Home, (rows, low, high): (usize, usize, usize), settings: &[&str]) -> String {
    let mut random = peft_plan::order::SplitMix::new(7);
    let mut text = String::new();
    for i in 0..rows {
        let count = low + random.below(high - low + 1);
        let words: Vec<&str> = (0..count).map(|_| WORDS[random.below(WORDS.len())]).collect();
        // Of the same things, or the run asks the base whether the rows are mixed up.
        let topic = words[..words.len().min(4)].join(", ");
        let (question, answer) = (format!("Write about {topic}, item {i}, in {count} words."), words.join(" "));
        let row = if settings.iter().any(|s| s.starts_with("training.objective=")) {
            let other: Vec<&str> = words.iter().rev().copied().collect();
            json!({"prompt": question, "chosen": answer, "rejected": other.join(" ")})
        } else {
            json!({"instruction": question, "output": answer})
        };
        writeln!(text, "{row}").expect("a String takes everything");
    }
    home.write("d.jsonl", text)
}

fn model(name: &str) -> Option<String> {
    if name == "starter" {
        return Some(name.to_owned());
    }
    let place = PathBuf::from(std::env::var_os("PEFT_STUDIO_MODELS")?).join(name);
    place.is_dir().then(|| place.display().to_string())
}

fn arguments(model: &str, data: &str, settings: &[&str], more: &[&str]) -> Vec<String> {
    let mut all: Vec<String> = ["--model", model, "--data", data].iter().map(ToString::to_string).collect();
    for setting in settings.iter().chain(more) {
        all.extend(["--set".to_owned(), (*setting).to_owned()]);
    }
    all
}

fn events(home: &Home, arguments: &[String]) -> Vec<Value> {
    let all: Vec<&str> = ["train", "--json"].into_iter().chain(arguments.iter().map(String::as_str)).collect();
    let output = home.run(&all);
    assert!(output.status.success(), "{all:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// What the machine had to do besides, where it says.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("-").to_owned()
}

#[expect(clippy::print_stdout, reason = "a campaign's measurements are its result")]
fn check_memory(cases: &[Case]) {
    let mut outside = Vec::new();
    for Case(name, rows, settings) in cases {
        let Some(model) = model(name) else { continue };
        let home = Home::new();
        let steps = ["training.max_steps=2", "checkpoint.every_steps=1"];
        let told = events(&home, &arguments(&model, &data(&home, *rows, settings), settings, &steps));
        let number = |event: &str, field: &str| {
            let event = told.iter().find(|e| e["event"] == event).expect("told");
            event[field].as_f64().expect("a size") / f64::from(1 << 20)
        };
        let (planned, peak) = (number("started", "memory_plan_bytes"), number("finished", "peak_memory_bytes"));
        let (off, share) = (planned - peak, 100.0 * (planned - peak) / peak);
        println!("{name:<16} {settings:?}: planned {planned:.1}, measured {peak:.1} MiB: {off:+.1} MiB, {share:+.1} %");
        if off.abs() > 24.0 && share.abs() > 5.0 {
            outside.push(format!("{name} {settings:?}: {planned:.1} and {peak:.1} MiB"));
        }
    }
    assert!(outside.is_empty(), "{outside:?}");
}

#[test]
fn planned_memory_is_what_a_run_takes_b3() {
    check_memory(&MEMORY[..1]);
}

#[test]
#[ignore = "takes minutes and needs models of several sizes"]
fn planned_memory_is_what_twenty_runs_take_b3() {
    check_memory(MEMORY);
}

#[expect(clippy::print_stdout, reason = "a campaign's measurements are its result")]
#[test]
#[ignore = "takes minutes, needs models of several sizes, and measures nothing on a busy machine"]
fn durations_are_inside_what_was_shown_in_eighteen_of_twenty_runs_b11() {
    let (mut inside, mut all) = (0, 0);
    for Case(name, rows, settings) in DURATIONS {
        let Some(model) = model(name) else { continue };
        let home = Home::new();
        let arguments = arguments(&model, &data(&home, *rows, settings), settings, &[]);
        let plan: Vec<&str> = std::iter::once("plan").chain(arguments.iter().map(String::as_str)).collect();
        let shown = home.json(&plan)["estimate"]["seconds"].clone();
        let bound = |name: &str| shown[name].as_f64().expect("seconds");
        let (low, expected, high) = (bound("low"), bound("expected"), bound("high"));
        assert!(high / low <= if high < 30.0 { 2.0 } else { 1.5 });
        let before = load();
        let told = events(&home, &arguments);
        let took = told.last().expect("events")["seconds"].as_f64().expect("seconds");
        let is_inside = (low..=high).contains(&took);
        all += 1;
        inside += u32::from(is_inside);
        let mark = if is_inside { "in" } else { "OUT" };
        println!(
            "{name:<16} {settings:?}: {low:.2} to {high:.2} s (expected {expected:.2}), took {took:.2} s: {mark}; load {before} and {}",
            load()
        );
    }
    println!("{inside} of {all} inside");
    assert!(inside * 20 >= all * 18, "{inside} of {all}");
}
