//! Loss, rewards, gradients and five updates of every objective, against TRL 1.16.0 (issue 3: within 1e-4).

use peft_kernels::Backend;
use peft_kernels::cpu::Cpu;
use peft_kernels::reference::Reference as Slow;
use peft_models::adapter::{AdapterSource, AdapterSpec};
use peft_models::checkpoint::Checkpoint;
use peft_models::decoder::{BuildOptions, Decoder, build};
use peft_models::peft_format::{AdapterConfig, AdapterFile, read_tensors};
use peft_models::train::{Pair, Reference, Tokens, preference_step};
use peft_plan::{Facts, RunConfig, TargetModules, TrainingPlan, resolve};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

const WITHIN: f64 = 1e-4;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn document() -> Value {
    let text = std::fs::read(fixtures().join("preference/preference.json")).expect("a fixture");
    serde_json::from_slice(&text).expect("JSON")
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|v| v.as_f64().expect("a number")).collect()
}

fn ids(value: &Value) -> Vec<u32> {
    numbers(value).into_iter().map(|id| id as u32).collect()
}

/// Two sequences with a prompt in common.
fn example(prompt: &[u32], first: &[u32], second: &[u32], desirable: bool, row: usize) -> Tokens {
    let mut tokens = Tokens { ids: Vec::new(), trained: Vec::new(), row: row as u32, pair: None };
    for answer in [first, second] {
        tokens.ids.extend(prompt.iter().chain(answer));
        tokens.trained.extend(prompt.iter().map(|_| false).chain(answer.iter().map(|_| true)));
    }
    tokens.pair = Some(Pair { border: (prompt.len() + first.len()) as u32, desirable });
    tokens
}

/// The examples of a case; TRL's mismatched answers are those of the neighbour in the micro-batch.
fn examples(case: &Value) -> Vec<Tokens> {
    let rows = case["rows"].as_array().expect("rows");
    let batch = case["batch"].as_u64().expect("a number") as usize;
    let build = |(at, row): (usize, &Value)| {
        let prompt = ids(&row["prompt_ids"]);
        if case["objective"] != "kto" {
            return example(&prompt, &ids(&row["chosen_ids"]), &ids(&row["rejected_ids"]), true, at);
        }
        let first = at - at % batch;
        let other = first + (at - first + batch - 1) % batch;
        let desirable = row["label"].as_bool().expect("a label");
        example(&prompt, &ids(&row["completion_ids"]), &ids(&rows[other]["completion_ids"]), desirable, at)
    };
    rows.iter().enumerate().map(build).collect()
}

fn plan(document: &Value, case: &Value, checkpoint: &Checkpoint, rows: &[Tokens]) -> TrainingPlan {
    let mut config = RunConfig::default();
    let mut set = |key: &str, value: &Value| config.set(&format!("{key}={value}")).expect("a good setting");
    set("model.id", &Value::from("m"));
    set("dataset.path", &Value::from("d"));
    set("training.objective", &case["objective"]);
    set("training.weight_decay", &document["weight_decay"]);
    set("training.max_gradient_norm", &Value::from(0));
    set("training.micro_batch_size", &case["batch"]);
    set("training.gradient_accumulation", &case["micro_batches"]);
    for (key, value) in case["settings"].as_object().expect("settings") {
        set(&format!("training.{key}"), value);
    }
    let lengths: Vec<usize> = rows.iter().map(|e| e.ids.len()).collect();
    let facts = Facts::bare(checkpoint.spec(), &lengths, 2);
    resolve::resolve(&config, &facts).expect("a good plan")
}

fn decoder<B: Backend>(be: &B, checkpoint: &Checkpoint, alpha: f64, initial: &Tensors, case: &Value) -> Decoder<B> {
    let rank = case["adapter"]["rank"].as_u64().expect("a rank") as usize;
    let [dora, use_rslora] = ["dora", "rslora"].map(|kind| case["adapter"][kind].as_bool().expect("yes or no"));
    let targets = TargetModules::Pattern("all-linear".into());
    let prefix = format!("{}.", case["initial"].as_str().expect("a name"));
    let own = initial.iter().filter_map(|(name, t)| Some((name.strip_prefix(&prefix)?.to_owned(), t.clone())));
    let mut config = AdapterConfig::new(rank, alpha, targets.clone());
    (config.use_dora, config.use_rslora) = (dora, use_rslora);
    let file = AdapterFile { config, tensors: own.collect() };
    let spec = AdapterSpec {
        rank,
        alpha,
        use_rslora,
        dropout: 0.0,
        dora,
        targets,
        lora_plus_ratio: None,
        modules_to_save: Vec::new(),
    };
    let adapter = Some(AdapterSource::File { spec, file: &file });
    build(be, checkpoint, &BuildOptions { full: false, quantize: None, adapter, trainable: true }).expect("built")
}

fn relative(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |x: f64| x * x;
    let difference: f64 = a.iter().zip(b).map(|(x, y)| square(f64::from(*x) - f64::from(*y))).sum();
    let size: f64 = b.iter().map(|y| square(f64::from(*y))).sum();
    if size == 0.0 { difference.sqrt() } else { (difference / size).sqrt() }
}

/// The largest error of a case: loss, rewards, gradients, updated weights.
fn check<B: Backend>(be: &B, document: &Value, initial: &Tensors, name: &str) -> [f64; 4] {
    let case = &document["cases"][name];
    let checkpoint = Checkpoint::open(&fixtures().join("parity/llama/model")).expect("a fixture opens");
    let rows = examples(case);
    let plan = plan(document, case, &checkpoint, &rows);
    let alpha = document["alpha"].as_f64().expect("a number");
    let mut decoder = decoder(be, &checkpoint, alpha, initial, case);
    // As TRL with a `peft_config`: the reference is the base with the adapter off.
    let mut reference = Reference::new(&mut decoder, false).expect("a reference");
    let mut acts = decoder.activations(false).expect("activations");
    let want = read_tensors(&fixtures().join(format!("preference/{name}.safetensors"))).expect("a fixture");
    let rate = document["learning_rate"].as_f64().expect("a rate");
    let losses = numbers(&case["losses"]);
    let mut errors = [0.0_f64; 4];
    for (step, loss) in losses.iter().enumerate() {
        let size = plan.micro_batch_size * plan.gradient_accumulation;
        let all: Vec<usize> = (step * size..(step + 1) * size).collect();
        let batches = all.chunks(plan.micro_batch_size).map(<[usize]>::to_vec).collect();
        let at = step as u64 + 1;
        let outcome = preference_step(&mut decoder, &mut acts, &rows, &batches, &plan, &mut reference, at, rate);
        let outcome = outcome.expect("a step");
        errors[0] = errors[0].max((outcome.loss - loss).abs() / loss.abs());
        let ours = outcome.preference.expect("measured");
        let theirs = &case["metrics"][step];
        let pairs = [
            (ours.chosen_reward, "rewards/chosen"),
            (ours.rejected_reward, "rewards/rejected"),
            (ours.margin, "rewards/margins"),
            (ours.kl, "kl"),
            ((case["objective"] != "kto").then_some(ours.accuracy), "rewards/accuracies"),
        ];
        for (ours, key) in pairs {
            let theirs = theirs[key].as_f64();
            assert_eq!(ours.is_some(), theirs.is_some(), "{name}, step {at}: {key}");
            if let (Some(ours), Some(theirs)) = (ours, theirs) {
                errors[1] = errors[1].max((ours - theirs).abs() / theirs.abs().max(1.0));
            }
        }
        for p in decoder.params_mut().into_iter().filter(|_| step == 0) {
            let theirs = &want[&format!("grad.{}", p.name)].1;
            let grad = p.grad().expect("trained");
            errors[2] = errors[2].max(relative(&be.download(grad).expect("downloaded"), theirs));
        }
    }
    for p in decoder.params_mut() {
        let theirs = &want[&format!("final.{}", p.name)].1;
        errors[3] = errors[3].max(relative(&be.download(&p.value).expect("downloaded"), theirs));
    }
    errors
}

fn check_all<B: Backend>(be: &B, wanted: &dyn Fn(&str) -> bool) {
    let document = document();
    let initial = read_tensors(&fixtures().join("preference/initial.safetensors")).expect("a fixture");
    for name in document["cases"].as_object().expect("cases").keys().filter(|name| wanted(name)) {
        let errors = check(be, &document, &initial, name);
        assert!(errors.iter().all(|error| *error < WITHIN), "{name}: {errors:?}");
    }
}

#[test]
fn every_objective_takes_the_steps_of_trl_on_the_cpu() {
    check_all(&Cpu::new(2).expect("two threads"), &|_| true);
}

#[test]
fn the_reference_backend_agrees_with_trl() {
    check_all(&Slow, &|name| ["dpo", "orpo", "kto"].contains(&name));
}
