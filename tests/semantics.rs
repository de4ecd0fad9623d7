//! What training and generation promise beyond single numbers: accumulation, packing, recomputation, merging,
//! adapters of other programs, greedy decoding.

use peft_kernels::cpu::Cpu;
use peft_kernels::{Backend, DType};
use peft_models::adapter::{AdapterSource, AdapterSpec, spec_of_file};
use peft_models::checkpoint::Checkpoint;
use peft_models::decoder::{Activations, Batch, BuildOptions, Decoder, build};
use peft_models::generate::{GenerateOptions, Prompt, Sampling, generate};
use peft_models::merge::Merger;
use peft_models::merge_writer::{Options, base_bytes, narrow, tensors_of, write_model};
use peft_models::peft_format::{AdapterFile, read_adapter};
use peft_plan::TargetModules;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

fn fixture(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/parity").join(family)
}

fn checkpoint(family: &str) -> Checkpoint {
    Checkpoint::open(&fixture(family).join("model")).expect("a fixture opens")
}

fn cpu() -> Cpu {
    Cpu::new(2).expect("two threads")
}

fn spec(dropout: f64, dora: bool) -> AdapterSpec {
    AdapterSpec {
        rank: 4,
        alpha: 8.0,
        use_rslora: false,
        dropout,
        dora,
        targets: TargetModules::Pattern("all-linear".to_owned()),
        lora_plus_ratio: None,
        modules_to_save: Vec::new(),
    }
}

/// A trainable decoder whose B is not zero, so that every part of the adapter matters.
fn decoder(be: &Cpu, checkpoint: &Checkpoint, dropout: f64, dora: bool) -> Decoder<Cpu> {
    let adapter = Some(AdapterSource::Fresh { spec: spec(dropout, dora), seed: 3 });
    let options = BuildOptions { full: false, quantize: None, adapter, trainable: true };
    let mut decoder = build(be, checkpoint, &options).expect("a fixture builds");
    for p in decoder.params_mut() {
        if p.name.contains("lora_B") {
            let n = p.value.len();
            let values: Vec<f32> = (0..n).map(|i| ((i * 37 % 101) as f32 - 50.0) * 1e-3).collect();
            be.upload(&mut p.value, &values).expect("the shape fits");
        }
    }
    decoder.prepare().expect("prepared");
    decoder
}

const EVERY_FAMILY: [&str; 16] = [
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "phi3",
    "gemma",
    "gemma2",
    "gemma3",
    "smollm3",
    "olmo2",
    "olmo3",
    "granite",
    "qwen3-moe",
    "mixtral",
    "olmoe",
    "gpt-oss",
];

/// Examples of different lengths; the first third of each is read, the rest learnt.
fn examples(vocabulary: usize, count: usize) -> Vec<(Vec<u32>, Vec<bool>)> {
    (0..count)
        .map(|e| {
            let len = 7 + (e * 5) % 12;
            let ids = (0..len).map(|i| ((e * 131 + i * 17 + 3) % vocabulary) as u32).collect();
            (ids, (0..len).map(|i| i >= len / 3).collect())
        })
        .collect()
}

fn batch(examples: &[(Vec<u32>, Vec<bool>)]) -> Batch {
    let mut batch = Batch::default();
    for (ids, trained) in examples {
        batch.push(ids, trained);
    }
    batch
}

/// Loss and all gradients of some micro-batches together.
fn gradients(decoder: &mut Decoder<Cpu>, acts: &mut Activations<Cpu>, micros: &[Batch]) -> (f64, Vec<f32>) {
    let be = decoder.be.clone();
    for p in decoder.params_mut() {
        p.zero_grad(&be).expect("zeroed");
    }
    let tokens: u64 = micros.iter().map(Batch::trained_tokens).sum();
    let mut loss = 0.0;
    for (i, micro) in micros.iter().enumerate() {
        let scores = decoder.train_pass(acts, micro, 1.0 / tokens as f32, (5, i as u64)).expect("a pass");
        loss += scores.total_loss();
    }
    let mut all = Vec::new();
    for p in decoder.params_mut() {
        if let Some(grad) = p.grad() {
            all.extend(be.download(grad).expect("downloaded"));
        }
    }
    (loss / tokens as f64, all)
}

fn relative(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let difference: f64 = a.iter().zip(b).map(|(x, y)| f64::from(x - y).powi(2)).sum();
    let size: f64 = b.iter().map(|y| f64::from(*y).powi(2)).sum();
    (difference / size).sqrt()
}

#[test]
fn one_micro_batch_of_eight_equals_four_of_two() {
    let be = cpu();
    let checkpoint = checkpoint("llama");
    let mut decoder = decoder(&be, &checkpoint, 0.0, false);
    let mut acts = decoder.activations(false).expect("activations");
    let rows = examples(320, 8);
    let (whole, g) = gradients(&mut decoder, &mut acts, &[batch(&rows)]);
    let parts: Vec<Batch> = rows.chunks(2).map(batch).collect();
    let (split, h) = gradients(&mut decoder, &mut acts, &parts);
    assert!((whole - split).abs() <= 1e-6 * whole, "{whole} {split}");
    assert!(relative(&g, &h) < 1e-5, "{}", relative(&g, &h));
}

#[test]
fn packed_equals_unpacked_for_every_family() {
    let be = cpu();
    for family in EVERY_FAMILY {
        let checkpoint = checkpoint(family);
        let mut decoder = decoder(&be, &checkpoint, 0.0, false);
        let mut acts = decoder.activations(false).expect("activations");
        // Longer than the windows of 6 and 8, so that a window that looked across a border would show.
        let rows = examples(checkpoint.spec().vocab_size, 5);
        let (packed, g) = gradients(&mut decoder, &mut acts, &[batch(&rows)]);
        let alone: Vec<Batch> = rows.chunks(1).map(batch).collect();
        let (unpacked, h) = gradients(&mut decoder, &mut acts, &alone);
        assert!((packed - unpacked).abs() <= 1e-5 * packed, "{family}: {packed} {unpacked}");
        assert!(relative(&g, &h) < 1e-5, "{family}: {}", relative(&g, &h));
    }
}

#[test]
fn recomputed_activations_give_the_same_bits() {
    let be = cpu();
    for (family, dropout, dora) in [
        ("llama", 0.3, false),
        ("gemma3", 0.3, false),
        ("qwen3", 0.2, true),
        ("phi3", 0.0, true),
        ("olmo2", 0.2, false),
        ("granite", 0.0, true),
        ("qwen3-moe", 0.2, false),
        ("gpt-oss", 0.0, true),
    ] {
        let checkpoint = checkpoint(family);
        let mut decoder = decoder(&be, &checkpoint, dropout, dora);
        let micros = [batch(&examples(checkpoint.spec().vocab_size, 3)), batch(&examples(190, 2))];
        let mut kept = decoder.activations(false).expect("activations");
        let (a, g) = gradients(&mut decoder, &mut kept, &micros);
        for sets in 1..decoder.layers.len() {
            let mut recomputed = decoder.activations_in(sets).expect("activations");
            let (b, h) = gradients(&mut decoder, &mut recomputed, &micros);
            assert!(a.to_bits() == b.to_bits() && g == h, "{family}, {sets} sets");
        }
        assert!(g.iter().any(|x| *x != 0.0), "{family}: no gradient at all");
    }
}

#[test]
fn dropout_changes_the_loss_and_its_gradient_is_that_of_the_masked_model() {
    let be = cpu();
    let checkpoint = checkpoint("llama-tied");
    let rows = examples(320, 2);
    for dora in [false, true] {
        let mut without = decoder(&be, &checkpoint, 0.0, dora);
        let mut acts = without.activations(false).expect("activations");
        let (plain, _) = gradients(&mut without, &mut acts, &[batch(&rows)]);
        let mut with = decoder(&be, &checkpoint, 0.5, dora);
        let (dropped, g) = gradients(&mut with, &mut acts, &[batch(&rows)]);
        assert!((plain - dropped).abs() > 1e-6, "dropout did nothing");
        // The mask is a function of seed and stream, so finite differences see the same one.
        let mut at = 0;
        let mut checked = 0;
        let count = with.params_mut().len();
        for p in 0..count {
            let values = be.download(&with.params_mut()[p].value).expect("downloaded");
            // DoRA's norm takes no gradient, so differences in A and B are only comparable without it.
            let name = with.params_mut()[p].name.clone();
            if !dora || name.contains("magnitude") {
                for i in [0, values.len() / 2] {
                    let mut probe = |h: f32| {
                        let mut moved = values.clone();
                        moved[i] += h;
                        be.upload(&mut with.params_mut()[p].value, &moved).expect("fits");
                        with.prepare().expect("prepared");
                        gradients(&mut with, &mut acts, &[batch(&rows)]).0
                    };
                    let h = 2e-2;
                    let difference = (probe(h) - probe(-h)) / f64::from(2.0 * h);
                    let exact = f64::from(g[at + i]);
                    assert!(
                        (difference - exact).abs() < 2e-3 + 0.03 * exact.abs(),
                        "{name}[{i}]: {difference} {exact}"
                    );
                    checked += 1;
                }
                be.upload(&mut with.params_mut()[p].value, &values).expect("fits");
                with.prepare().expect("prepared");
            }
            at += values.len();
        }
        assert!(checked > 10);
    }
}

fn file_of(decoder: &mut Decoder<Cpu>, dora: bool) -> AdapterFile {
    let tensors = peft_models::adapter::tensors(decoder).expect("tensors");
    let mut config =
        peft_models::peft_format::AdapterConfig::new(4, 8.0, TargetModules::Pattern("all-linear".to_owned()));
    config.use_dora = dora;
    AdapterFile { config, tensors }
}

#[test]
fn a_merged_model_answers_like_base_and_adapter() {
    let be = cpu();
    for (family, dora) in [
        ("llama", false),
        ("qwen3", true),
        ("phi3", true),
        ("gemma3", false),
        ("olmo2", true),
        ("granite", false),
        ("mistral-small", false),
        ("qwen3-moe", false),
        ("gpt-oss", true),
    ] {
        let checkpoint = checkpoint(family);
        let mut tuned = decoder(&be, &checkpoint, 0.0, dora);
        let file = file_of(&mut tuned, dora);
        let home = tempfile::tempdir().expect("a directory");
        let out = home.path().join("merged");
        let merger = Merger::new(&be, &checkpoint, Some(&file), None).expect("a merger");
        let tensors = tensors_of(&checkpoint, DType::F32).expect("a list");
        let options = Options { dtype: DType::F32, shard_bytes: Some(100_000), extra_files: Vec::new(), made_of: None };
        write_model(&out, &checkpoint, &tensors, &options, |t| match merger.tensor(&t.canonical)? {
            Some(merged) => Ok(narrow(DType::F32, &merged)),
            None => base_bytes(&checkpoint, t),
        })
        .expect("written");
        let merged = Checkpoint::open(&out).expect("what was written opens");
        let mut merged = build(&be, &merged, &BuildOptions::default()).expect("and builds");
        let rows = batch(&examples(checkpoint.spec().vocab_size, 3));
        let mut acts = tuned.activations(false).expect("activations");
        let want = tuned.logits(&mut acts, &rows, true).expect("logits");
        let base = tuned.logits(&mut acts, &rows, false).expect("logits");
        let got = merged.logits(&mut acts, &rows, false).expect("logits");
        assert!(relative(&got, &want) < 1e-5, "{family}: {}", relative(&got, &want));
        assert!(relative(&base, &want) > 1e-3, "{family}: the adapter changed nothing");
    }
}

#[test]
fn adapters_that_peft_wrote_give_pefts_logits() {
    let be = cpu();
    for (family, name, reference) in [("llama", "adapter-lora", "lora"), ("qwen3", "adapter-dora", "dora")] {
        let checkpoint = checkpoint(family);
        let file = read_adapter(&fixture(family).join(name)).expect("an adapter of PEFT");
        let adapter = Some(AdapterSource::File { spec: spec_of_file(&file), file: &file });
        let options = BuildOptions { full: false, quantize: None, adapter, trainable: false };
        let mut decoder = build(&be, &checkpoint, &options).expect("built");
        peft_models::adapter::check_all_used(&mut decoder, &file).expect("every tensor has its place");
        let bytes = std::fs::read(fixture(family).join(format!("{reference}.safetensors"))).expect("a reference");
        let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
        let ids = tensors.tensor("input_ids").expect("ids");
        let seq = ids.shape()[2];
        // The first row of the first batch has no padding.
        let row: Vec<u32> =
            ids.data().chunks_exact(8).take(seq).map(|b| u32::from(b[0]) | u32::from(b[1]) << 8).collect();
        let want: Vec<f32> = tensors
            .tensor("logits_after")
            .expect("kept for this reference")
            .data()
            .chunks_exact(4)
            .take(seq * checkpoint.spec().vocab_size)
            .map(|b| f32::from_le_bytes(b.try_into().expect("four")))
            .collect();
        let mut one = Batch::default();
        one.push(&row, &vec![true; seq]);
        let mut acts = decoder.activations(false).expect("activations");
        let got = decoder.logits(&mut acts, &one, true).expect("logits");
        assert!(relative(&got, &want) < 1e-5, "{family}: {}", relative(&got, &want));
    }
}

#[test]
fn greedy_decoding_through_the_cache_equals_transformers() {
    let be = cpu();
    for family in ["llama", "gemma3", "gemma", "smollm3", "olmo2", "granite", "qwen3-moe", "gpt-oss"] {
        let (prompt, want) = greedy_reference(family);
        let mut decoder = build(&be, &checkpoint(family), &BuildOptions::default()).expect("built");
        let mut acts = decoder.activations(true).expect("activations");
        let options = GenerateOptions { max_new_tokens: want.len(), ..GenerateOptions::default() };
        let prompts = [Prompt { ids: prompt, adapter: false }];
        let mut quiet = |_: usize, _: u32| ControlFlow::Continue(());
        let got = generate(&mut decoder, &mut acts, &prompts, &options, &mut quiet).expect("an answer");
        assert_eq!(got.answers[0].ids, want, "{family}");
    }
}

/// Longrope changes its factors with the length of the sequence, here after 14 of 36 tokens. The reference was
/// decoded by whole passes, each with the factors of its own length.
#[test]
fn longrope_switches_its_factors_where_transformers_does() {
    let be = cpu();
    let (mut ids, want) = greedy_reference("phi3");
    let mut decoder = build(&be, &checkpoint("phi3"), &BuildOptions::default()).expect("built");
    let mut acts = decoder.activations(false).expect("activations");
    for token in want {
        let mut batch = Batch::default();
        batch.push(&ids, &vec![false; ids.len()]);
        let logits = decoder.logits(&mut acts, &batch, false).expect("logits");
        let last = &logits[logits.len() - decoder.spec.vocab_size..];
        assert_eq!(peft_models::generate::choose(last, &Sampling::default(), 0), token, "after {} tokens", ids.len());
        ids.push(token);
    }
}

/// Prompt and continuation that transformers decoded.
fn greedy_reference(family: &str) -> (Vec<u32>, Vec<u32>) {
    let text = std::fs::read(fixture(family).join("greedy.json")).expect("a reference");
    let reference: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    let ids = |key: &str| -> Vec<u32> {
        reference[key].as_array().expect("ids").iter().map(|v| v.as_u64().expect("an id") as u32).collect()
    };
    (ids("prompt_ids"), ids("generated_ids"))
}

#[test]
fn base_and_tuned_decoded_together_equal_each_alone() {
    let be = cpu();
    for dora in [false, true] {
        let checkpoint = checkpoint("llama");
        let mut decoder = decoder(&be, &checkpoint, 0.0, dora);
        let mut acts = decoder.activations(true).expect("activations");
        let options = GenerateOptions { max_new_tokens: 12, ..GenerateOptions::default() };
        let prompt = |adapter: bool, start: u32| Prompt { ids: (start..start + 9).collect(), adapter };
        let all = [prompt(true, 7), prompt(false, 7), prompt(true, 40), prompt(false, 90)];
        let mut quiet = |_: usize, _: u32| ControlFlow::Continue(());
        let together = generate(&mut decoder, &mut acts, &all, &options, &mut quiet).expect("answers");
        for (one, answer) in all.iter().zip(&together.answers) {
            let alone =
                generate(&mut decoder, &mut acts, std::slice::from_ref(one), &options, &mut quiet).expect("an answer");
            assert_eq!(alone.answers[0].ids, answer.ids);
        }
        assert_ne!(together.answers[0].ids, together.answers[1].ids, "the adapter changed nothing");
    }
}
