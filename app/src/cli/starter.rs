//! `starter`: how the embedded model is made and measured. Hidden; nobody needs it to train.

use super::args::{StarterBuildArgs, StarterCommand, StarterCorpusArgs, StarterScoreArgs};
use super::context::Context;
use super::output;
use super::quickstart::ask_all;
use crate::cli::interrupt;
use crate::cli::memory::peak_memory;
use crate::jobs::prepare;
use peft_models::DType;
use peft_models::engine::{Engine, MergeOptions, TrainJob};
use peft_models::merge_writer::narrow;
use peft_models::train::{GuardJob, Request, RunOutcome};
use peft_plan::order::SplitMix;
use peft_plan::{Fault, Result, RunConfig, RunEvent};
use peft_starter::{Document, corpus, held_out, is_correct, small_world};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::path::Path;

/// Settings of the pre-training; the reasons are in `models/starter/README.md`.
const RECIPE: &str = include_str!("../../../models/starter/data/pretrain.json");

/// Run one of them.
pub fn run(context: &Context, command: &StarterCommand) -> Result<u8> {
    match command {
        StarterCommand::Build(args) => build(context, args),
        StarterCommand::Corpus(args) => write_corpus(args),
        StarterCommand::Score(args) => score(context, args),
    }
}

fn document_json(document: &Document) -> Value {
    let mut messages = Vec::new();
    if let Some(system) = &document.system {
        messages.push(json!({"role": "system", "content": system}));
    }
    for (user, assistant) in &document.turns {
        messages.push(json!({"role": "user", "content": user}));
        messages.push(json!({"role": "assistant", "content": assistant}));
    }
    json!({"messages": messages})
}

fn corpus_file(path: &Path, seed: u64, documents: usize) -> Result<()> {
    durable::write_file_with(path, |out| {
        for document in corpus(seed, documents) {
            writeln!(out, "{}", document_json(&document))?;
        }
        Ok(())
    })
    .map(drop)
    .map_err(|e| Fault::io("write", path, e))
}

fn write_corpus(args: &StarterCorpusArgs) -> Result<u8> {
    let recipe: Value = serde_json::from_str(RECIPE).expect("the recipe is checked by a test");
    corpus_file(&args.out, 1, recipe["documents"].as_u64().unwrap_or(1) as usize)?;
    Ok(0)
}

/// Random weights: norms 1, everything else normal with deviation 0.02, from a stream of its own for every tensor.
fn random_weights(config: &Value, seed: u64) -> Vec<u8> {
    let n = |key: &str| config[key].as_u64().unwrap_or(0) as usize;
    let (hidden, ff, vocab) = (n("hidden_size"), n("intermediate_size"), n("vocab_size"));
    let (q, kv) = (n("num_attention_heads") * n("head_dim"), n("num_key_value_heads") * n("head_dim"));
    let layers = n("num_hidden_layers");
    let mut shapes: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    shapes.insert("model.embed_tokens.weight".into(), vec![vocab, hidden]);
    shapes.insert("model.norm.weight".into(), vec![hidden]);
    for i in 0..layers {
        let p = format!("model.layers.{i}.");
        for (name, shape) in [
            ("self_attn.q_proj", vec![q, hidden]),
            ("self_attn.k_proj", vec![kv, hidden]),
            ("self_attn.v_proj", vec![kv, hidden]),
            ("self_attn.o_proj", vec![hidden, q]),
            ("mlp.gate_proj", vec![ff, hidden]),
            ("mlp.up_proj", vec![ff, hidden]),
            ("mlp.down_proj", vec![hidden, ff]),
            ("input_layernorm", vec![hidden]),
            ("post_attention_layernorm", vec![hidden]),
        ] {
            shapes.insert(format!("{p}{name}.weight"), shape);
        }
    }
    let data: Vec<(String, Vec<usize>, Vec<u8>)> = shapes
        .into_iter()
        .enumerate()
        .map(|(index, (name, shape))| {
            let count: usize = shape.iter().product();
            let mut random = SplitMix::new(seed.wrapping_mul(0x5851_F42D_4C95_7F2D) ^ index as u64);
            // What writes to the residual stream starts smaller, so that depth does not add up (GPT-2).
            let deep = name.contains("o_proj") || name.contains("down_proj");
            let deviation = if deep { 0.02 / (2.0 * layers as f64).sqrt() } else { 0.02 };
            let values: Vec<f32> = if shape.len() == 1 {
                vec![1.0; count]
            } else {
                (0..count).map(|_| (normal(&mut random) * deviation) as f32).collect()
            };
            (name, shape, narrow(DType::F32, &values))
        })
        .collect();
    let views: BTreeMap<&str, TensorView> = data
        .iter()
        .map(|(name, shape, bytes)| {
            (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).expect("the bytes fit the shape"))
        })
        .collect();
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize(views, Some(metadata)).expect("plain tensors can be written")
}

/// Box–Muller.
fn normal(random: &mut SplitMix) -> f64 {
    let u = 1.0 - random.unit();
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * random.unit()).cos()
}

fn build(context: &Context, args: &StarterBuildArgs) -> Result<u8> {
    let recipe: Value = serde_json::from_str(RECIPE).expect("the recipe is checked by a test");
    let io = |e| Fault::io("write to", &args.out, e);
    let init = args.out.join("init");
    let run = args.out.join("run");
    for dir in [&init, &run] {
        durable::create_directories(dir).map_err(io)?;
    }
    let config: Value = serde_json::from_str(peft_starter::config_json()).expect("embedded");
    let tokenizer = peft_starter::train_tokenizer(args.seed)
        .map_err(|e| Fault::new("PS-TOK-001", format!("The tokenizer could not be made: {e}")))?;
    let eos = json!({"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "do_sample": false});
    let files: [(&str, Vec<u8>); 5] = [
        ("config.json", peft_starter::config_json().as_bytes().to_vec()),
        ("tokenizer.json", tokenizer),
        ("tokenizer_config.json", peft_starter::tokenizer_config().into_bytes()),
        ("generation_config.json", format!("{eos:#}\n").into_bytes()),
        ("model.safetensors", random_weights(&config, args.seed)),
    ];
    for (name, bytes) in &files {
        durable::write_file(&init.join(name), bytes).map_err(io)?;
    }
    let data = args.out.join("corpus.jsonl");
    corpus_file(&data, args.seed, recipe["documents"].as_u64().unwrap_or(1) as usize)?;

    let mut run_config = RunConfig::from_value(recipe["run"].clone())?;
    run_config.model.id = Some(init.display().to_string());
    run_config.dataset.path = Some(data.display().to_string());
    let setup = prepare(&run_config, context, None)?;
    let engine = Engine::open(&context.backend, context.threads)?.with_arithmetic(setup.plan.arithmetic);
    interrupt::install();
    let mut request = || interrupt::requested().then_some(Request::Interrupt);
    let total = setup.plan.total_steps;
    let mut sink = |event: &RunEvent| {
        match event {
            RunEvent::Step(m) if m.step % 20 == 0 || m.step == total => output::note(&format!(
                "step {}/{total} loss {:.4} rate {:.2e} {:.0} tokens/s, {} left",
                m.step,
                m.loss,
                m.learning_rate,
                m.tokens_per_second,
                output::duration(m.eta_seconds.expected)
            )),
            RunEvent::Step(_) => {}
            other => output::note(&serde_json::to_string(other).unwrap_or_default()),
        }
        ControlFlow::Continue(())
    };
    let job = TrainJob {
        base: &setup.base,
        plan: &setup.plan,
        train: &setup.train,
        validation: &setup.validation,
        truncated: setup.truncated,
        directory: &run,
        run: "starter",
        name: "starter",
        dataset_hash: &setup.dataset_hash,
        data_bytes: setup.data_bytes,
        resume: true,
        changed: false,
        request: &mut request,
        questions: &mut || None,
        samples: None,
        peak_memory,
        guard: GuardJob::default(),
    };
    match engine.train(job, &mut sink)? {
        RunOutcome::Finished(_) => {}
        _ => return Ok(130),
    }
    // Trained in f32 from f32 weights; the program carries bf16.
    let trained = peft_models::base::BaseModel::open("starter", &run.join("model"))?;
    let out = args.out.join("model");
    engine.merge(&trained, None, &MergeOptions::of(DType::BF16), &out)?;
    output::line(&format!("{}", out.display()));
    Ok(0)
}

fn score(context: &Context, args: &StarterScoreArgs) -> Result<u8> {
    let adapter = args.adapter.clone().unwrap_or_default();
    let mut document = json!({});
    for (name, questions) in [("held_out", held_out()), ("small_world", small_world())] {
        let asked = ask_all(context, &args.model, &adapter, &questions)?;
        let right = |tuned: bool| {
            asked.iter().filter(|a| is_correct(if tuned { &a.tuned } else { &a.base }, &a.question)).count()
        };
        document[name] = json!({
            "questions": asked.len(),
            "base_correct": right(false),
            "tuned_correct": right(true),
            "answers": asked.iter().map(|a| json!({
                "prompt": a.question.prompt, "expected": a.question.expected, "base": a.base, "tuned": a.tuned,
            })).collect::<Vec<_>>(),
        });
        if !context.json {
            for a in &asked {
                let mark = if is_correct(&a.tuned, &a.question) { ' ' } else { 'x' };
                output::line(&format!(
                    "{mark} {}  [{}]\n      base   {}\n      tuned  {}",
                    a.question.prompt, a.question.expected, a.base, a.tuned
                ));
            }
            output::line(&format!("{name}: base {} tuned {} of {}", right(false), right(true), asked.len()));
        }
    }
    if context.json {
        output::print_json(&document);
    }
    Ok(0)
}
