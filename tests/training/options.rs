//! Options of a run as a whole: moments in 8 bits, noise on embeddings, modules trained whole.

use crate::tiny::{Job, base, checkpoint, cpu, decoder, examples, losses, plan, relative, values};
use peft_kernels::Backend;
use peft_models::base::BaseModel;
use peft_models::engine::{Engine, MergeOptions, Workload, memory_plan};
use peft_models::generate::{GenerateOptions, Prompt, Sampling};
use peft_models::peft_format::{read_adapter, read_tensors};
use peft_models::train::{Tokens, batch_of, checkpoint as saved, optimizer_step};
use peft_plan::{RunEvent, TrainingPlan};
use safetensors::SafeTensors;
use std::ops::ControlFlow;
use std::path::Path;

const SAVE: &str = r#"adapter.modules_to_save=["embed_tokens","lm_head","norm"]"#;
const STEPS: [&str; 3] = ["training.max_steps=6", "training.micro_batch_size=4", "training.gradient_accumulation=1"];

fn trained(base: &BaseModel, rows: &[Tokens], settings: &[&str], directory: &Path) -> (TrainingPlan, Vec<RunEvent>) {
    let plan = plan(base.spec(), rows, &[&STEPS[..], settings].concat());
    let events = Job { base, plan: &plan, train: rows, validation: &[], directory }.finish();
    (plan, events)
}

fn bits(events: &[RunEvent]) -> Vec<u64> {
    losses(events).iter().map(|(_, loss)| loss.to_bits()).collect()
}

/// 2.1 bytes of state a parameter, in memory and on disk (issue 3).
#[test]
fn moments_in_8_bits_take_two_bytes_a_parameter() {
    for (family, method) in [("llama", "lora"), ("qwen3", "dora"), ("gemma3", "qlora")] {
        let base = base(family);
        let rows = examples(base.spec().vocab_size, 8);
        let method = format!("adapter.method={method}");
        let home = tempfile::tempdir().expect("a directory");
        let settings = [method.as_str(), "adapter.rank=16", "training.optimizer=adamw_8bit"];
        let (plan, events) = trained(&base, &rows, &settings, home.path());
        let bytes = std::fs::read(saved::path(home.path(), 6).join("moments.safetensors")).expect("a checkpoint");
        let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
        let state: usize = file.tensors().iter().map(|(_, tensor)| tensor.data().len()).sum();
        let RunEvent::Started(started) = &events[0] else { panic!("{events:?}") };
        let each = state as f64 / started.parameters_trainable as f64;
        assert!(each <= 2.1, "{family}, {method}: {each} bytes a parameter");
        let planned = memory_plan(&base, &plan, &Workload::of(&plan, &rows, &[], 0)).expect("a plan");
        let item = planned.items.iter().find(|item| item.name == "optimizer moments").expect("in the plan");
        assert_eq!(item.bytes, state as u64, "{family}, {method}");
    }
}

/// What is 8 bits wide and what is not, where everything can be trained.
#[test]
fn embeddings_and_norms_keep_their_moments_in_f32() {
    let base = base("llama");
    let rows = examples(base.spec().vocab_size, 8);
    let home = tempfile::tempdir().expect("a directory");
    let (plan, events) = trained(&base, &rows, &[SAVE, "training.optimizer=adamw_8bit"], home.path());
    let bytes = std::fs::read(saved::path(home.path(), 6).join("moments.safetensors")).expect("a checkpoint");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    for (name, tensor) in file.tensors().into_iter().filter(|(name, _)| !name.ends_with("absmax")) {
        let wide = name.contains("norm") || name.contains("embed_tokens");
        let is = if wide { safetensors::Dtype::F32 } else { safetensors::Dtype::U8 };
        assert_eq!(tensor.dtype(), is, "{name}");
    }
    let state: u64 = file.tensors().iter().map(|(_, tensor)| tensor.data().len() as u64).sum();
    let planned = memory_plan(&base, &plan, &Workload::of(&plan, &rows, &[], 0)).expect("a plan");
    assert!(planned.items.iter().any(|item| item.bytes == state), "{planned:?}");
    let RunEvent::Started(started) = &events[0] else { panic!("{events:?}") };
    let file = read_adapter(&home.path().join("adapter")).expect("an adapter");
    let written: usize = file.tensors.values().map(|(_, values)| values.len()).sum();
    assert_eq!(started.parameters_trainable, written as u64);
    assert_eq!(peft_models::engine::trainable_parameters(base.spec(), &plan).expect("counted"), written as u64);
}

#[test]
fn runs_with_8_bit_moments_follow_those_in_f32() {
    let base = base("llama");
    let rows = examples(base.spec().vocab_size, 12);
    let end = |optimizer: &str| {
        let home = tempfile::tempdir().expect("a directory");
        let settings = [optimizer, "training.max_steps=40", "training.learning_rate=1e-2"];
        let (_, events) = trained(&base, &rows, &settings, home.path());
        losses(&events).last().expect("a loss").1
    };
    let (wide, narrow) = (end("training.optimizer=adamw"), end("training.optimizer=adamw_8bit"));
    assert!(wide < 4.0 && wide.to_bits() != narrow.to_bits(), "{wide} and {narrow}");
    assert!((wide - narrow).abs() < 0.05 * wide, "{wide} in f32, {narrow} in 8 bits");
}

/// `NEFTune`: only in training, and the same noise whenever a step is computed again.
#[test]
fn noise_is_the_same_again_and_never_in_a_score() {
    let (be, model) = (cpu(), checkpoint("llama"));
    let rows = examples(model.spec().vocab_size, 6);
    let plan = plan(model.spec(), &rows, &[]);
    let batches = vec![vec![0, 1, 2], vec![3, 4, 5]];
    let run = |alpha: f64, recompute: bool, step: u64| {
        let mut decoder = decoder(&be, &model, &plan);
        decoder.neftune_alpha = alpha;
        let mut acts = decoder.activations(recompute).expect("activations");
        let outcome = optimizer_step(&mut decoder, &mut acts, &rows, &batches, &plan, step, 1e-3).expect("a step");
        let score = decoder.score(&mut acts, &batch_of(&rows, &[0, 1]), true).expect("scores").total_loss();
        (outcome.loss.to_bits(), values(&mut decoder), score)
    };
    let (quiet, noisy) = (run(0.0, false, 1), run(10.0, false, 1));
    assert!(noisy == run(10.0, false, 1), "another time, other noise");
    let (recomputed, other_step) = (run(10.0, true, 1), run(10.0, false, 2));
    assert!(noisy.0 == recomputed.0 && relative(&noisy.1, &recomputed.1) < 1e-6, "recomputing draws other noise");
    assert_ne!(quiet.0, noisy.0);
    assert_ne!(noisy.0, other_step.0);
    let mut decoder = decoder(&be, &model, &plan);
    let mut acts = decoder.activations(false).expect("activations");
    let mut score = |alpha| {
        decoder.neftune_alpha = alpha;
        decoder.score(&mut acts, &batch_of(&rows, &[0, 1]), true).expect("scores").total_loss().to_bits()
    };
    assert_eq!(score(0.0), score(10.0), "a score is without noise");
}

/// A sequence gets the noise of its own length, alone or beside others: `alpha / √(L·d)`.
#[test]
fn noise_goes_by_the_length_of_each_sequence() {
    let (be, model) = (cpu(), checkpoint("llama"));
    let rows = examples(model.spec().vocab_size, 6);
    let plan = plan(model.spec(), &rows, &[]);
    let change = |indices: &[usize], first: usize| {
        [0.0, 0.5].map(|alpha| {
            let mut decoder = decoder(&be, &model, &plan);
            decoder.neftune_alpha = alpha;
            let mut acts = decoder.activations(false).expect("activations");
            let batch = batch_of(&rows, indices);
            decoder.train_pass(&mut acts, &batch, 1.0, (1, 1)).expect("a pass").loss[..first].to_vec()
        })
    };
    // The first sequence has the first numbers of the stream in both batches: its noise is the same.
    let n = rows[0].ids.len();
    let (alone, beside) = (change(&[0], n), change(&[0, 1, 2], n));
    // Few rows are summed in another order than many, which is no other noise.
    let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-4 * a.abs().max(1.0);
    assert!(alone.iter().flatten().zip(beside.iter().flatten()).all(near), "{alone:?} {beside:?}");
    let [quiet, noisy] = alone;
    assert_ne!(quiet, noisy);
}

fn greedy(base: &BaseModel, adapter: Option<&Path>, prompts: &[Prompt]) -> Vec<Vec<u32>> {
    let engine = Engine::open("cpu", 2).expect("an engine");
    let mut session = engine.session(base, adapter, None).expect("a session");
    let options =
        GenerateOptions { sampling: Sampling::default(), max_new_tokens: 12, stop_ids: Vec::new(), grammar: None };
    let mut quiet = |_: usize, _: u32| ControlFlow::Continue(());
    let generated = session.generate(prompts, &options, &mut quiet).expect("answers");
    generated.answers.into_iter().map(|answer| answer.ids).collect()
}

/// The base answers and scores with its own embedding, norms and head, alone or beside the tuned model.
#[test]
fn the_base_keeps_what_an_adapter_replaces() {
    for family in ["llama", "llama-tied", "gemma3"] {
        let base = base(family);
        let rows = examples(base.spec().vocab_size, 8);
        let home = tempfile::tempdir().expect("a directory");
        trained(&base, &rows, &[SAVE, "training.learning_rate=5e-2"], home.path());
        let adapter = home.path().join("adapter");
        let engine = Engine::open("cpu", 2).expect("an engine");
        let score = |adapter: Option<&Path>, tuned: bool| {
            let mut session = engine.session(&base, adapter, None).expect("a session");
            let twice = [session.score(&rows, tuned), session.score(&rows, tuned)].map(|s| s.expect("scores"));
            assert_eq!(twice[0], twice[1], "{family}");
            twice[0].loss
        };
        assert_eq!(score(Some(&adapter), false).to_bits(), score(None, false).to_bits(), "{family}");
        assert!(score(Some(&adapter), true) < 0.9 * score(None, false), "{family} learnt");
        let prompt = |row: usize, adapter| Prompt { ids: rows[row].ids.clone(), adapter };
        let mixed =
            greedy(&base, Some(&adapter), &[prompt(0, true), prompt(1, false), prompt(2, true), prompt(3, false)]);
        let alone = greedy(&base, None, &[prompt(1, false), prompt(3, false)]);
        let tuned = greedy(&base, Some(&adapter), &[prompt(0, true), prompt(2, true)]);
        assert_eq!([&mixed[1], &mixed[3]], [&alone[0], &alone[1]], "{family}: the base");
        assert_eq!([&mixed[0], &mixed[2]], [&tuned[0], &tuned[1]], "{family}: the tuned model");

        // B8: putting the adapter on and taking it off again is the same as loading with it and without.
        let (with, without) = (score(Some(&adapter), true), score(None, true));
        let file = peft_models::peft_format::read_adapter(&adapter).expect("an adapter");
        let mut session = engine.session(&base, None, None).expect("a session");
        for (change, expected) in [(Some(&file), with), (None, without), (Some(&file), with)] {
            session.switch_adapter(change).expect("switched");
            let loss = session.score(&rows, true).expect("scores").loss;
            assert_eq!(loss.to_bits(), expected.to_bits(), "{family}");
        }
        assert_ne!(mixed[0], greedy(&base, None, &[prompt(0, false)])[0], "{family}");
    }
}

/// One model of base, adapter and replaced modules answers as they did; a tied model is untied by it.
#[test]
fn merging_writes_the_modules_that_were_trained_whole() {
    for (family, save) in
        [("llama", SAVE), ("llama-tied", SAVE), ("llama-tied", r#"adapter.modules_to_save=["lm_head"]"#)]
    {
        let base = base(family);
        let rows = examples(base.spec().vocab_size, 8);
        let home = tempfile::tempdir().expect("a directory");
        trained(&base, &rows, &[save, "training.learning_rate=5e-2"], home.path());
        let file = read_adapter(&home.path().join("adapter")).expect("an adapter");
        let engine = Engine::open("cpu", 2).expect("an engine");
        let out = home.path().join("merged");
        let options = MergeOptions::of(peft_kernels::DType::F32);
        engine.merge(&base, Some(&file), &options, &out).expect("merged");
        let merged = BaseModel::open("merged", &out).expect("a model");
        assert!(!merged.spec().tied, "{family}");
        let of = |base: &BaseModel, adapter: Option<&Path>| {
            engine
                .session(base, adapter, None)
                .expect("a session")
                .score(&rows, adapter.is_some())
                .expect("scores")
                .loss
        };
        let (two, one) = (of(&base, Some(&home.path().join("adapter"))), of(&merged, None));
        assert!((two - one).abs() < 1e-4 * two, "{family}, {save}: {two} and {one}");
    }
}

/// Going on from an adapter goes on with the modules that it brings, and may add others.
#[test]
fn an_adapter_with_whole_modules_can_be_continued() {
    let base = base("llama");
    let rows = examples(base.spec().vocab_size, 8);
    let home = tempfile::tempdir().expect("a directory");
    let [first, second] = ["first", "second"].map(|name| home.path().join(name));
    for directory in [&first, &second] {
        std::fs::create_dir(directory).expect("created");
    }
    let (_, before) =
        trained(&base, &rows, &[r#"adapter.modules_to_save=["lm_head"]"#, "training.learning_rate=5e-2"], &first);
    let from = format!("adapter.init_from={}", first.join("adapter").display());
    let (_, after) = trained(&base, &rows, &[&from, r#"adapter.modules_to_save=["model.norm"]"#], &second);
    let first_loss = |events: &[RunEvent]| losses(events)[0].1;
    assert!(first_loss(&after) < 0.9 * first_loss(&before), "{} after {}", first_loss(&after), first_loss(&before));
    let file = read_adapter(&second.join("adapter")).expect("an adapter");
    assert_eq!(file.config.modules_to_save, ["lm_head", "model.norm"]);
    for name in ["base_model.model.lm_head.weight", "base_model.model.model.norm.weight"] {
        assert!(file.tensors.contains_key(name), "{name}");
    }
    let earlier = read_tensors(&first.join("adapter/adapter_model.safetensors")).expect("an adapter");
    assert!(!earlier.contains_key("base_model.model.model.norm.weight"));
}

/// The same run twice gives the same bits, with every option on.
#[test]
fn options_do_not_cost_repeatability() {
    let base = base("qwen3");
    let rows = examples(base.spec().vocab_size, 8);
    let settings = [SAVE, "training.optimizer=adamw_8bit", "training.neftune_alpha=5", "adapter.dropout=0.1"];
    let run = || {
        let home = tempfile::tempdir().expect("a directory");
        let (_, events) = trained(&base, &rows, &settings, home.path());
        (bits(&events), std::fs::read(home.path().join("adapter/adapter_model.safetensors")).expect("an adapter"))
    };
    assert!(run() == run());
}

/// Preferences weigh positions one by one: with one weight for all of them the gradients are those of a plain pass,
/// those of a head, an embedding and norms that are trained whole included.
#[test]
fn weighted_passes_train_whole_modules_too() {
    let (be, model) = (cpu(), checkpoint("llama"));
    let rows = examples(model.spec().vocab_size, 4);
    let plan = plan(model.spec(), &rows, &[SAVE]);
    let batch = batch_of(&rows, &[0, 1, 2, 3]);
    let gradients = |weighted: bool| {
        let mut decoder = decoder(&be, &model, &plan);
        let mut acts = decoder.activations(false).expect("activations");
        if weighted {
            let weigh = |scores: &peft_models::decoder::Scores| vec![0.25; scores.loss.len()];
            decoder.weighted_pass(&mut acts, &batch, (1, 1), weigh).expect("a pass");
        } else {
            decoder.train_pass(&mut acts, &batch, 0.25, (1, 1)).expect("a pass");
        }
        let of = |p: &mut peft_models::decoder::Param<_>| (p.name.clone(), be.download(p.grad().expect("trained")));
        decoder.params_mut().into_iter().map(of).collect::<Vec<_>>()
    };
    for ((name, plain), (_, weighted)) in gradients(false).into_iter().zip(gradients(true)) {
        let (plain, weighted) = (plain.expect("numbers"), weighted.expect("numbers"));
        assert!(plain.iter().any(|x| *x != 0.0), "{name} has no gradient");
        assert!(relative(&weighted, &plain) < 1e-5, "{name}");
    }
}
