//! The later families: what their fixtures alone do not show. Layouts of experts, counts, keys, refusals.

use peft_kernels::cpu::Cpu;
use peft_kernels::{Backend, DType};
use peft_models::adapter::{AdapterSource, AdapterSpec};
use peft_models::checkpoint::Checkpoint;
use peft_models::decoder::{Activations, Batch, BuildOptions, Decoder, build};
use peft_models::merge::Merger;
use peft_models::merge_writer::{Options, base_bytes, narrow, tensors_of, write_model};
use peft_models::peft_format::explicit_targets;
use peft_models::verify::verify;
use peft_plan::{Result, TargetModules};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn fixture(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/parity").join(family)
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("readable")).expect("JSON")
}

/// Type, shape and content by name.
type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// The model of a fixture with other settings and other tensors.
fn changed(model: &str, settings: impl FnOnce(&mut Value), weights: impl FnOnce(&mut Tensors)) -> TempDir {
    let dir = fixture(model);
    let mut config = json_of(&dir.join("config.json"));
    settings(&mut config);
    let bytes = std::fs::read(dir.join("model.safetensors")).expect("weights");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let mut tensors: Tensors =
        file.tensors().into_iter().map(|(n, t)| (n, (t.dtype(), t.shape().to_vec(), t.data().to_vec()))).collect();
    weights(&mut tensors);
    let views: Vec<(&String, TensorView)> = tensors
        .iter()
        .map(|(n, (dtype, shape, data))| (n, TensorView::new(*dtype, shape.clone(), data).expect("bytes that fit")))
        .collect();
    let home = tempfile::tempdir().expect("a directory");
    std::fs::write(home.path().join("config.json"), config.to_string()).expect("written");
    std::fs::write(home.path().join("model.safetensors"), serialize(views, None).expect("a file")).expect("written");
    home
}

fn decoder(dir: &Path) -> (Decoder<Cpu>, Activations<Cpu>) {
    let be = Cpu::new(2).expect("two threads");
    let checkpoint = Checkpoint::open(dir).unwrap_or_else(|f| panic!("{}: {f}", dir.display()));
    let decoder = build(&be, &checkpoint, &BuildOptions::default()).expect("a fixture builds");
    let acts = decoder.activations(true).expect("activations");
    (decoder, acts)
}

fn logits(dir: &Path) -> Vec<f32> {
    let (mut decoder, mut acts) = decoder(dir);
    let mut batch = Batch::default();
    for (start, len) in [(3, 13), (40, 9)] {
        let ids: Vec<u32> = (0..len).map(|i| (start + i * 29) % decoder.spec.vocab_size as u32).collect();
        batch.push(&ids, &vec![true; ids.len()]);
    }
    decoder.logits(&mut acts, &batch, false).expect("logits")
}

fn relative(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let difference: f64 = a.iter().zip(b).map(|(x, y)| f64::from(x - y).powi(2)).sum();
    (difference / b.iter().map(|y| f64::from(*y).powi(2)).sum::<f64>()).sqrt()
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn parameters_are_counted_as_transformers_counts_them() {
    let mut seen = 0;
    for family in std::fs::read_dir(fixture("")).expect("fixtures").map(|f| f.expect("readable").path()) {
        let facts = family.join("facts.json");
        if !facts.exists() {
            continue;
        }
        let checkpoint = Checkpoint::open(&family.join("model")).expect("a fixture opens");
        let want = json_of(&facts)["num_parameters"].as_u64().expect("a count");
        assert_eq!(checkpoint.spec().parameters(), want, "{}", family.display());
        seen += 1;
    }
    assert_eq!(seen, 12);
}

/// Every operation that a family adds changes its numbers: a reference that holds without it would prove nothing.
#[test]
fn without_what_is_new_in_a_family_its_reference_is_missed() {
    let be = Cpu::new(2).expect("two threads");
    let replay = |family: &str, dir: &Path| {
        let checkpoint = Checkpoint::open(dir).expect("still a model");
        verify(&be, &checkpoint, &fixture(family).join("lora.safetensors")).expect("still replayed")
    };
    let cases: [(&str, &str, Value); 19] = [
        ("gemma", "hidden_act", json!("silu")),
        ("phi4", "partial_rotary_factor", json!(0.75)),
        ("smollm3", "no_rope_layers", json!([1, 1])),
        ("olmo2", "rms_norm_eps", json!(0.1)),
        ("olmo3", "sliding_window", json!(16)),
        ("olmo3", "rope_scaling", Value::Null),
        ("granite", "attention_multiplier", json!(0.25)),
        ("granite", "embedding_multiplier", json!(1.0)),
        ("granite", "residual_multiplier", json!(1.0)),
        ("granite", "logits_scaling", json!(1.0)),
        ("qwen2-long", "max_window_layers", json!(2)),
        ("qwen2-long", "rope_scaling", Value::Null),
        ("qwen3-moe", "norm_topk_prob", json!(false)),
        ("qwen3-moe", "num_experts_per_tok", json!(1)),
        ("mixtral", "num_experts_per_tok", json!(3)),
        ("olmoe", "norm_topk_prob", json!(true)),
        ("gpt-oss", "swiglu_limit", json!(7.0)),
        ("gpt-oss", "swiglu_alpha", json!(1.0)),
        ("gpt-oss", "sliding_window", json!(16)),
    ];
    for (family, key, value) in cases {
        let home = changed(&format!("{family}/model"), |config| config[key] = value.clone(), |_| ());
        let found = replay(family, home.path());
        // Phi-4 keeps its setting: that the harness does not always miss is shown as well.
        assert_eq!(found.within_tolerance, family == "phi4", "{family} {key} = {value}: {found:?}");
    }
    let home = changed(
        "gpt-oss/model",
        |_| (),
        |tensors| {
            for (name, (_, _, data)) in tensors.iter_mut().filter(|(name, _)| name.ends_with("sinks")) {
                assert!(!name.is_empty());
                data.fill(0);
            }
        },
    );
    assert!(!replay("gpt-oss", home.path()).within_tolerance, "the sinks do not matter");
}

/// `OLMo` 2 normalises what comes out of attention, and all heads together.
#[test]
fn norms_in_other_places_are_other_tensors() {
    let home = changed(
        "olmo2/model",
        |_| (),
        |tensors| {
            let norm = tensors.remove("model.layers.0.post_feedforward_layernorm.weight").expect("a norm");
            tensors.insert("model.layers.0.input_layernorm.weight".to_owned(), norm);
        },
    );
    let opened = Checkpoint::open(home.path()).expect("a folder with weights");
    let fault = opened.check().expect_err("a norm is missing");
    assert_eq!(fault.code, "PS-MODEL-003");
    assert!(fault.detail.contains("post_feedforward_layernorm"), "{}", fault.detail);
}

/// The newer layout: all experts of a layer in one tensor.
fn stack(tensors: &mut Tensors, layer: usize, experts: usize) {
    let path = format!("model.layers.{layer}.mlp.experts");
    let mut take = |e: usize, part: &str| tensors.remove(&format!("{path}.{e}.{part}.weight")).expect("an expert");
    let (mut gate_up, mut down) = (Vec::new(), Vec::new());
    let (mut dtype, mut inner, mut hidden) = (Dtype::BF16, 0, 0);
    for e in 0..experts {
        let gate = take(e, "gate_proj");
        (dtype, inner, hidden) = (gate.0, gate.1[0], gate.1[1]);
        gate_up.extend(gate.2);
        gate_up.extend(take(e, "up_proj").2);
        down.extend(take(e, "down_proj").2);
    }
    tensors.insert(format!("{path}.gate_up_proj"), (dtype, vec![experts, 2 * inner, hidden], gate_up));
    tensors.insert(format!("{path}.down_proj"), (dtype, vec![experts, hidden, inner], down));
}

#[test]
fn stacked_experts_are_the_same_model() {
    let alone = fixture("qwen3-moe/model");
    let home = changed("qwen3-moe/model", |_| (), |tensors| [0, 2].into_iter().for_each(|i| stack(tensors, i, 4)));
    let (want, got) = (logits(&alone), logits(home.path()));
    assert!(relative(&got, &want) < 1e-6, "{}", relative(&got, &want));
    // And what is written from it is what was read.
    let (base, out) = (Checkpoint::open(home.path()).expect("a model"), home.path().join("out"));
    copy_of(&base, &out, DType::BF16);
    assert_eq!(bits(&logits(&out)), bits(&got));
}

fn copy_of(base: &Checkpoint, out: &Path, dtype: DType) {
    let be = Cpu::new(1).expect("a thread");
    let merger = Merger::new(&be, base, None, None).expect("a merger");
    let options = Options { dtype, shard_bytes: None, extra_files: Vec::new(), made_of: None };
    let produce = |t: &_| -> Result<Vec<u8>> {
        let t: &peft_models::merge_writer::OutTensor = t;
        match merger.tensor(&t.canonical)? {
            Some(merged) => Ok(narrow(dtype, &merged)),
            None => base_bytes(base, t),
        }
    };
    write_model(out, base, &tensors_of(base, dtype).expect("a list"), &options, produce).expect("written");
}

/// transformers rebuilt `gpt-oss/model` from the codes of `gpt-oss/model-mxfp4`.
#[test]
fn packed_experts_are_the_numbers_that_transformers_rebuilds() {
    let be = Cpu::new(2).expect("two threads");
    let packed = fixture("gpt-oss/model-mxfp4");
    let (dense, got) = (logits(&fixture("gpt-oss/model")), logits(&packed));
    assert!(relative(&got, &dense) < 1e-6, "{}", relative(&got, &dense));
    let base = Checkpoint::open(&packed).expect("a fixture opens");
    let found = verify(&be, &base, &fixture("gpt-oss/lora.safetensors")).expect("replayed");
    assert!(found.within_tolerance, "{found:?}");
    // Written out they are dense, in the layout of the class, and the configuration no longer says that they are packed.
    let home = tempfile::tempdir().expect("a directory");
    let out = home.path().join("out");
    copy_of(&base, &out, DType::BF16);
    assert!(json_of(&out.join("config.json")).get("quantization_config").is_none());
    let read = |dir: &Path| std::fs::read(dir.join("model.safetensors")).expect("weights");
    let (ours, theirs) = (read(&out), read(&fixture("gpt-oss/model")));
    let (ours, theirs) = (SafeTensors::deserialize(&ours).expect("safetensors"), SafeTensors::deserialize(&theirs));
    let theirs = theirs.expect("safetensors");
    assert_eq!(ours.len(), theirs.len());
    for (name, tensor) in theirs.tensors() {
        let mine = ours.tensor(&name).expect("the same names");
        assert!(mine.shape() == tensor.shape() && mine.data() == tensor.data(), "{name}");
    }
}

#[test]
fn damaged_experts_are_refused_before_a_run() {
    let refused = |home: &TempDir, code: &str, word: &str| {
        let fault = match Checkpoint::open(home.path()) {
            Ok(opened) => opened.check().expect_err("damaged"),
            Err(fault) => fault,
        };
        assert!(fault.code == code && fault.detail.contains(word), "{}: {}", fault.code, fault.detail);
    };
    let mxfp4 = "gpt-oss/model-mxfp4";
    let scales = "model.layers.1.mlp.experts.down_proj_scales";
    refused(&changed(mxfp4, |_| (), |t| drop(t.remove(scales))), "PS-MODEL-003", scales);
    refused(&changed(mxfp4, |c| c["num_local_experts"] = json!(5), |_| ()), "PS-MODEL-005", "router");
    refused(&changed(mxfp4, |c| c["intermediate_size"] = json!(48), |_| ()), "PS-MODEL-005", "gate_up_proj");
    refused(&changed(mxfp4, |c| c["num_experts_per_tok"] = json!(9), |_| ()), "PS-MODEL-005", "9 of 4 experts");
    let cut = |t: &mut Tensors| {
        let (_, shape, data) = t.get_mut(scales).expect("scales");
        shape[0] = 3;
        data.truncate(shape.iter().product());
    };
    refused(&changed(mxfp4, |_| (), cut), "PS-MODEL-005", scales);
    let turned = |t: &mut Tensors| {
        let (_, shape, _) = t.get_mut("model.layers.0.mlp.experts.2.up_proj.weight").expect("an expert");
        shape.swap(0, 1);
    };
    refused(&changed("qwen3-moe/model", |_| (), turned), "PS-MODEL-005", "experts.2.up_proj");
    let lost = |t: &mut Tensors| drop(t.remove("model.layers.2.mlp.experts.3.down_proj.weight"));
    refused(&changed("qwen3-moe/model", |_| (), lost), "PS-MODEL-003", "experts.3.down_proj");
    // Only gpt-oss is read in MXFP4.
    let packed = json!({"quant_method": "mxfp4"});
    refused(&changed("mixtral/model", |c| c["quantization_config"] = packed, |_| ()), "PS-MODEL-002", "mxfp4");
}

/// A router that is not a number must show in the loss, not in a panic.
#[test]
fn a_router_that_is_not_a_number_gives_a_loss_that_is_not_one() {
    let home = changed(
        "qwen3-moe/model",
        |_| (),
        |tensors| {
            let (_, _, data) = tensors.get_mut("model.layers.0.mlp.gate.weight").expect("a router");
            data.fill(0xFF);
        },
    );
    assert!(logits(home.path()).iter().all(|x| x.is_nan()));
}

/// PEFT takes the names of an ordinary MLP for those of the experts, and matches patterns with the experts' tensors.
#[test]
fn adapters_of_a_mixture_are_on_attention_and_named_so_that_peft_finds_them() {
    let be = Cpu::new(1).expect("a thread");
    let checkpoint = Checkpoint::open(&fixture("qwen3-moe/model")).expect("a fixture opens");
    let named = |targets: &TargetModules| match explicit_targets(targets, checkpoint.spec()) {
        TargetModules::List(names) => names,
        TargetModules::Pattern(pattern) => panic!("{pattern} is still a pattern"),
    };
    let all = TargetModules::Pattern("all-linear".to_owned());
    assert_eq!(named(&all), ["k_proj", "o_proj", "q_proj", "v_proj"]);
    let some = named(&TargetModules::Pattern(r".*\.1\..*(q|down)_proj".to_owned()));
    assert_eq!(some, ["model.layers.1.self_attn.q_proj"]);
    let spec = AdapterSpec {
        rank: 2,
        alpha: 4.0,
        use_rslora: false,
        dropout: 0.0,
        dora: false,
        targets: all,
        lora_plus_ratio: None,
        modules_to_save: Vec::new(),
    };
    let adapter = Some(AdapterSource::Fresh { spec, seed: 1 });
    let options = BuildOptions { full: false, quantize: None, adapter, trainable: true };
    let mut decoder = build(&be, &checkpoint, &options).expect("built");
    let names: Vec<String> = decoder.params_mut().iter().map(|p| p.name.clone()).collect();
    assert_eq!(names.len(), 3 * 4 * 2);
    assert!(names.iter().all(|name| name.contains("self_attn")), "{names:?}");
}

/// Every weight trained: what adapters never show, the gradients of norms, biases, embeddings and a scaled head.
#[test]
fn whole_models_of_the_new_families_have_the_gradients_of_their_loss() {
    let be = Cpu::new(2).expect("two threads");
    for family in ["gemma", "granite", "olmo2", "smollm3"] {
        let checkpoint = Checkpoint::open(&fixture(family).join("model")).expect("a fixture opens");
        let options = BuildOptions { full: true, trainable: true, ..BuildOptions::default() };
        let mut decoder = build(&be, &checkpoint, &options).expect("built");
        let mut acts = decoder.activations(false).expect("activations");
        let mut batch = Batch::default();
        for (start, len) in [(3, 11), (40, 6)] {
            let ids: Vec<u32> = (0..len).map(|i| (start + i * 29) % 192).collect();
            batch.push(&ids, &vec![true; ids.len()]);
        }
        let share = 1.0 / batch.trained_tokens() as f32;
        let gradients = |decoder: &mut Decoder<Cpu>| -> Vec<Vec<f32>> {
            let all = decoder.params_mut().into_iter().map(|p| p.grad().map(|g| be.download(g).expect("downloaded")));
            all.map(Option::unwrap_or_default).collect()
        };
        decoder.train_pass(&mut acts, &batch, share, (0, 0)).expect("a pass");
        let whole = gradients(&mut decoder);
        for p in decoder.params_mut() {
            p.zero_grad(&be).expect("zeroed");
        }
        // Preference tuning takes another way through the head.
        let rows = batch.tokens.len();
        decoder.weighted_pass(&mut acts, &batch, (0, 0), |_| vec![share; rows]).expect("a pass");
        for (p, (a, b)) in gradients(&mut decoder).iter().zip(&whole).enumerate() {
            assert!(relative(a, b) < 1e-5, "{family}: parameter {p} by weights: {}", relative(a, b));
        }
        for (p, gradient) in whole.iter().enumerate() {
            let name = decoder.params_mut()[p].name.clone();
            let values = be.download(&decoder.params_mut()[p].value).expect("downloaded");
            // Along the gradient itself the loss changes most, so that f32 can see it.
            let length = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
            assert!(length > 1e-6, "{family}: {name} has no gradient");
            let mut probe = |h: f64| {
                let step = (h / length) as f32;
                let moved: Vec<f32> = values.iter().zip(gradient).map(|(v, g)| v + step * g).collect();
                be.upload(&mut decoder.params_mut()[p].value, &moved).expect("fits");
                let scores = decoder.score(&mut acts, &batch, true).expect("a pass");
                scores.total_loss() * f64::from(share)
            };
            let h = 0.02_f64.min(0.05 / length);
            let slope = (probe(h) - probe(-h)) / (2.0 * h);
            probe(0.0);
            assert!((slope - length).abs() < 1e-3 + 0.02 * length, "{family}: {name}: {slope} {length}");
        }
    }
}
