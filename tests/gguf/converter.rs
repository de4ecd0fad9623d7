//! What is written is what llama.cpp's converter writes (`fixtures/make_gguf.py`), and it is read back as what it was.

use crate::world::{FAMILIES, adapter, engine, layout, model, written};
use peft_models::base::BaseModel;
use peft_models::checkpoint::Checkpoint;
use peft_models::engine::Engine;
use peft_models::export::gguf::architecture::Architecture;
use peft_models::export::gguf::lora::write_lora;
use peft_models::export::gguf::{Array, File, FileType, Metadata, Value as Said};
use peft_models::generate::{GenerateOptions, Prompt};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::ops::ControlFlow;
use std::path::Path;

fn sha(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(8).fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// A value as `make_gguf.py` prints it.
fn printed(value: &Said) -> Value {
    let list = |list: Value| {
        let text = serde_json::to_string(&list).expect("plain data");
        json!({"count": list.as_array().map_or(0, Vec::len), "sha256": sha(text.as_bytes())})
    };
    match value {
        Said::U32(x) => json!(x),
        Said::F32(x) => json!(f64::from(*x)),
        Said::Bool(x) => json!(x),
        Said::String(x) => json!(x),
        Said::Array(Array::Strings(x)) => list(json!(x)),
        Said::Array(Array::Ints(x)) => list(json!(x)),
        other => panic!("{other:?} is not written"),
    }
}

#[test]
fn files_are_those_of_llama_cpp_s_converter_7_1() {
    let engine = engine();
    for family in FAMILIES {
        let home = tempfile::tempdir().expect("a folder");
        let base = model(family, &home);
        let path = home.path().join("m.gguf");
        written(&engine, &base, None, Some(&layout(&base)), FileType::F32, &path);
        let file = File::open(&path).expect("a file");
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/gguf/{family}.json"));
        let golden: Value = serde_json::from_slice(&std::fs::read(golden).expect("read")).expect("JSON");
        let keys = golden["keys"].as_object().expect("keys");
        for (key, wanted) in keys {
            let found = file.metadata().get(key).map(printed);
            assert_eq!(found.as_ref(), Some(wanted), "{family}: {key}");
        }
        for (key, _) in file.metadata().iter() {
            let ours = ["tokenizer.ggml.scores", "tokenizer.ggml.eot_token_id"].contains(&key);
            assert!(ours || keys.contains_key(key), "{family}: {key} is said here only");
        }
        let tensors = golden["tensors"].as_object().expect("tensors");
        assert_eq!(tensors.len(), file.tensors().len(), "{family}");
        for tensor in file.tensors() {
            let found = json!([tensor.shape, sha(tensor.bytes.as_slice())]);
            assert_eq!(tensors[&tensor.name], found, "{family}: {}", tensor.name);
        }
    }
}

#[test]
fn a_file_answers_as_its_source_b1() {
    let engine = engine();
    for family in FAMILIES {
        let home = tempfile::tempdir().expect("a folder");
        let base = model(family, &home);
        let adapter = adapter(&base, 4, 8.0, true, 3);
        // llama.cpp has no window for Mistral: within one there is no difference.
        let len = if family == "mistral" { 8 } else { 24 };
        let ids: Vec<u32> = (0..len).map(|i| (i * 37 + 5) % base.spec().vocab_size as u32).collect();
        let mut tuned = engine.session_with(&base, Some(&adapter), None).expect("loaded");
        let wanted = tuned.logits(&ids, true).expect("logits");
        for (file_type, most) in [(FileType::F32, 2e-4), (FileType::F16, 2e-2), (FileType::Q8_0, 0.5)] {
            let path = home.path().join(format!("{}.gguf", file_type.name()));
            written(&engine, &base, Some(&adapter), None, file_type, &path);
            let file = BaseModel::open("file", &path).expect("a model");
            let mut session = engine.session(&file, None, None).expect("loaded");
            let found = session.logits(&ids, false).expect("logits");
            let far = wanted.iter().zip(&found).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
            assert!(far <= most, "{family} in {}: {far}", file_type.name());
        }
    }
}

#[test]
fn rows_in_eight_bits_stay_near_the_exact_answer_in_all_logits_s4_5() {
    let (exact, rounded) = (engine(), engine().with_eight_bit_rows(true));
    let (mut agreed, mut rows) = (0, 0);
    for family in FAMILIES {
        let home = tempfile::tempdir().expect("a folder");
        let base = model(family, &home);
        let vocabulary = base.spec().vocab_size;
        // As many rows as are rounded.
        let ids: Vec<u32> = (0..16).map(|i| (i * 37 + 5) % vocabulary as u32).collect();
        for file_type in [FileType::Q8_0, FileType::Q5_0, FileType::Q4_0] {
            let path = home.path().join(format!("{}.gguf", file_type.name()));
            written(&exact, &base, None, None, file_type, &path);
            let file = BaseModel::open("file", &path).expect("a model");
            let [wanted, found] = [&exact, &rounded]
                .map(|engine| engine.session(&file, None, None).expect("loaded").logits(&ids, false).expect("logits"));
            let square = |of: &dyn Fn(usize) -> f32| {
                ((0..wanted.len()).map(|i| f64::from(of(i)).powi(2)).sum::<f64>() / wanted.len() as f64).sqrt()
            };
            let size = square(&|i| wanted[i]);
            let off = square(&|i| wanted[i] - found[i]) / size;
            let most = wanted.iter().zip(&found).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
            let (name, most) = (file_type.name(), f64::from(most) / size);
            assert!(off > 0.0, "{family} in {name}: nothing was rounded");
            assert!(off < 0.04 && most < 0.3, "{family} in {name}: {off:.4}, at most {most:.4} of the size of a logit");
            let best = |logits: &[f32]| (0..vocabulary).max_by(|a, b| logits[*a].total_cmp(&logits[*b]));
            agreed +=
                wanted.chunks(vocabulary).zip(found.chunks(vocabulary)).filter(|(a, b)| best(a) == best(b)).count();
            rows += ids.len();
        }
    }
    // Models of random numbers have close seconds.
    assert!(agreed * 100 >= rows * 95, "{agreed} of {rows} choices");
}

/// Where weights lie some rows side by side, rows in eight bits are not the few alone; without room for that the weights
/// stay in their file, and the few are rounded as before.
#[test]
fn prompts_of_any_length_stay_near_the_exact_answer_wherever_weights_lie_s4_5() {
    let (exact, rounded) = (engine(), engine().with_eight_bit_rows(true));
    let in_file = engine().with_eight_bit_rows(true).with_room(0);
    let kernels = Engine::kernels("cpu").expect("a processor");
    let is_rearranged = kernels.byte_products().is_some() && kernels.name() != "amx";
    for family in FAMILIES {
        let home = tempfile::tempdir().expect("a folder");
        let base = model(family, &home);
        let path = home.path().join("q5_0.gguf");
        written(&exact, &base, None, None, FileType::Q5_0, &path);
        let file = BaseModel::open("file", &path).expect("a model");
        for count in [9, 40] {
            let ids: Vec<u32> = (0..count).map(|i| (i * 37 + 5) % base.spec().vocab_size as u32).collect();
            let [wanted, rearranged, stored] = [&exact, &rounded, &in_file]
                .map(|engine| engine.session(&file, None, None).expect("loaded").logits(&ids, false).expect("logits"));
            let size = wanted.iter().map(|x| x * x).sum::<f32>().sqrt();
            for (which, found) in [("rearranged", &rearranged), ("stored", &stored)] {
                let off = wanted.iter().zip(found).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt() / size;
                assert!(off < 0.04, "{family}, {count} tokens, {which}: {off}");
            }
            // Sums in another order have other last bits.
            assert_eq!(rearranged != stored, is_rearranged, "{family}, {count} tokens");
        }
    }
}

#[test]
fn a_cache_in_eight_bits_chooses_the_tokens_of_an_exact_one_s4_5() {
    let exact = engine();
    let rounded = exact.with_eight_bit_cache(true).expect("a processor");
    let (mut agreed, mut all) = (0, 0);
    for family in FAMILIES {
        let home = tempfile::tempdir().expect("a folder");
        let base = model(family, &home);
        let vocabulary = base.spec().vocab_size as u32;
        for seed in 0..8 {
            let ids: Vec<u32> = (0..20).map(|i| (i * 37 + seed * 11 + 5) % vocabulary).collect();
            let prompts = [Prompt { ids, adapter: false }];
            let options = GenerateOptions { max_new_tokens: 2, ..GenerateOptions::default() };
            let [wanted, found] = [&exact, &rounded].map(|engine| {
                let mut session = engine.session(&base, None, None).expect("loaded");
                let done = session.generate(&prompts, &options, &mut |_, _| ControlFlow::Continue(()));
                done.expect("answered").answers.remove(0).ids
            });
            agreed += usize::from(wanted == found);
            all += 1;
        }
    }
    // Models of random numbers have close seconds.
    assert!(agreed * 10 >= all * 9, "{agreed} of {all} answers");
}

#[test]
fn an_adapter_file_folds_its_scale_and_orders_its_rows_7_1() {
    let home = tempfile::tempdir().expect("a folder");
    let base = model("llama", &home);
    let tuned = adapter(&base, 4, 8.0, true, 5);
    let path = home.path().join("a.gguf");
    write_lora(&path, base.spec(), &tuned, &Metadata::default()).expect("written");
    let file = File::open(&path).expect("a file");
    assert_eq!(file.metadata().text("general.type"), Some("adapter"));
    assert_eq!(file.metadata().float("adapter.lora.alpha"), Some(16.0), "8·√4");
    let b = file.tensor("blk.0.attn_q.weight.lora_b").expect("a tensor");
    assert_eq!(b.shape, [128, 4]);
    let (_, values) = &tuned.tensors["base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"];
    // Row 1 of a head of 32 is row 16 of the checkpoint's order.
    let row: Vec<u8> = values[16 * 4..17 * 4].iter().flat_map(|x| x.to_le_bytes()).collect();
    assert_eq!(b.bytes.as_slice()[16..32], row[..]);
    let mut dora = tuned.clone();
    dora.config.use_dora = true;
    let fault = write_lora(&path, base.spec(), &dora, &Metadata::default()).expect_err("no place for magnitudes");
    assert_eq!(fault.code, "PS-GGUF-001");
}

#[test]
fn what_gguf_cannot_hold_is_refused_by_name_7_bad_input() {
    for (family, says) in [("olmo2", "olmo2"), ("gemma", "gemma"), ("mixtral", "mixtral"), ("gemma2", "scaled by")] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/parity/{family}/model"));
        let base = Checkpoint::open(&folder).expect("a model");
        let Err(fault) = Architecture::of(base.spec()) else { panic!("{family} can be written") };
        assert!(fault.code == "PS-GGUF-001" && fault.detail.contains(says), "{family}: {}", fault.detail);
    }
}
