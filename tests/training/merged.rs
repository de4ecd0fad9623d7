//! Adapters merged through the engine: the written model answers as base and adapter did.

use crate::tiny::{checkpoint, cpu, decoder, examples, folder, plan, relative};
use peft_kernels::{DType, FourBitKind};
use peft_models::adapter::{AdapterSource, check_all_used, spec_of_file, tensors};
use peft_models::base::BaseModel;
use peft_models::checkpoint::Checkpoint;
use peft_models::decoder::{BuildOptions, build};
use peft_models::engine::{Engine, MergeOptions, Quantization};
use peft_models::peft_format::{AdapterConfig, AdapterFile, read_adapter, write_adapter};
use peft_models::train::batch_of;
use peft_plan::TargetModules;
use std::path::Path;

/// Write an adapter of `settings` for `model` into `out`, and read it again.
fn written(model: &Checkpoint, settings: &[&str], out: &Path) -> AdapterFile {
    let be = cpu();
    let rows = examples(model.spec().vocab_size, 3);
    let plan = plan(model.spec(), &rows, settings);
    let mut decoder = decoder(&be, model, &plan);
    let names = model.spec().modules.iter().map(|m| m.name.clone()).collect();
    let mut config = AdapterConfig::new(plan.rank, plan.alpha, TargetModules::List(names));
    config.use_dora = plan.method.is_dora();
    config.use_rslora = plan.use_rslora;
    write_adapter(out, &config, &tensors(&mut decoder).expect("tensors")).expect("written");
    read_adapter(out).expect("what was written can be read")
}

/// Logits of three examples: base with adapter, and the base alone.
fn logits(model: &Checkpoint, file: Option<&AdapterFile>, quantize: Option<Quantization>) -> [Vec<f32>; 2] {
    let be = cpu();
    let adapter = file.map(|file| AdapterSource::File { spec: spec_of_file(file), file });
    let mut decoder =
        build(&be, model, &BuildOptions { full: false, quantize, adapter, trainable: false }).expect("built");
    if let Some(file) = file {
        check_all_used(&mut decoder, file).expect("every tensor has its place");
    }
    let rows = examples(model.spec().vocab_size, 3);
    let batch = batch_of(&rows, &[0, 1, 2]);
    let mut acts = decoder.activations(true).expect("activations");
    [true, false].map(|adapters| decoder.logits(&mut acts, &batch, adapters).expect("logits"))
}

#[test]
fn a_merged_model_answers_as_base_and_adapter_did_s4_15_2() {
    let nf4 = Some(Quantization { kind: FourBitKind::Nf4, double: true });
    let rslora = "adapter.use_rslora=true";
    let cases: [(&str, &str, &[&str], Option<Quantization>); 8] = [
        ("llama", "model", &[], None),
        ("qwen2", "model", &[rslora], None),
        ("phi3", "model", &["adapter.method=dora", rslora], None),
        ("gemma3", "model", &["adapter.method=dora"], None),
        ("llama-tied", "model", &["adapter.method=dora"], None),
        ("mistral", "model", &["adapter.method=qdora"], nf4),
        ("llama", "model-bnb-4bit", &["adapter.method=qlora"], None),
        ("phi3", "model-bnb-4bit", &["adapter.method=qdora"], None),
    ];
    for (family, model, settings, quantize) in cases {
        let name = format!("{family}/{model}, {settings:?}");
        let home = tempfile::tempdir().expect("a directory");
        let base = BaseModel::open(family, &folder(family).join(model)).expect("a fixture opens");
        let file = written(base.checkpoint(), settings, &home.path().join("adapter"));
        let options = MergeOptions { shard_bytes: Some(90_000), quantize, ..MergeOptions::of(DType::F32) };
        let out = home.path().join("merged");
        let engine = Engine::open("cpu", 2).expect("an engine");
        engine.merge(&base, Some(&file), &options, &out).expect("merged");
        let [want, plain] = logits(base.checkpoint(), Some(&file), quantize);
        let merged = BaseModel::open("merged", &out).expect("what was written is a whole model");
        assert!(!merged.stored_in_4bit(), "{name}");
        let [got, _] = logits(merged.checkpoint(), None, None);
        assert!(relative(&got, &want) < 1e-5, "{name}: {}", relative(&got, &want));
        assert!(relative(&plain, &want) > 1e-3, "{name}: the adapter does nothing");
    }
}

#[test]
fn merging_nothing_writes_the_model_again() {
    let home = tempfile::tempdir().expect("a directory");
    let base = BaseModel::open("llama", &folder("llama").join("model")).expect("a fixture opens");
    let out = home.path().join("copy");
    let engine = Engine::open("cpu", 1).expect("an engine");
    engine.merge(&base, None, &MergeOptions::of(DType::BF16), &out).expect("written");
    let bytes = |path: &Path| std::fs::read(path).expect("there");
    let copy = Checkpoint::open(&out).expect("a model");
    for (name, tensor) in base.checkpoint().tensors() {
        let copied = copy.tensor(name).expect("every tensor is there");
        assert!(copied.bytes.as_slice() == tensor.bytes.as_slice() && copied.shape == tensor.shape, "{name}");
    }
    assert_eq!(bytes(&out.join("tokenizer.json")), bytes(&folder("llama").join("model/tokenizer.json")));
}

#[test]
fn an_adapter_of_another_model_is_refused() {
    let home = tempfile::tempdir().expect("a directory");
    let file = written(&checkpoint("llama"), &[], &home.path().join("adapter"));
    let other = BaseModel::open("gemma3", &folder("gemma3").join("model")).expect("a fixture opens");
    let engine = Engine::open("cpu", 1).expect("an engine");
    let out = home.path().join("merged");
    let fault = engine.merge(&other, Some(&file), &MergeOptions::of(DType::F32), &out).expect_err("shapes differ");
    assert!(["PS-MODEL-005", "PS-CFG-003"].contains(&fault.code), "{fault:?}");
    assert!(!out.exists(), "nothing is written");
    let Err(fault) = engine.session(&other, Some(&home.path().join("adapter")), None) else { panic!("shapes differ") };
    assert_eq!(fault.code, "PS-MODEL-005");
}
