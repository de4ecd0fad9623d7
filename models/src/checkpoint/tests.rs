//! Folders that are models, folders that are not, and folders that pretend.

use super::*;
use crate::merge_writer::{OutTensor, write_tensors};
use serde_json::json;
use std::fs;
use tempfile::TempDir;

fn config() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "torch_dtype": "float32", "vocab_size": 10, "hidden_size": 8,
        "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
        "max_position_embeddings": 32
    })
}

/// Name, type, shape and content of the tensors of [`config`]'s model.
type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn tensors() -> Tensors {
    let mut all = Tensors::new();
    let mut add = |name: String, shape: &[usize]| {
        let n = shape.iter().product::<usize>();
        let bytes = (0..n).flat_map(|i| (i as f32 * 0.5).to_le_bytes()).collect();
        all.insert(name, (Dtype::F32, shape.to_vec(), bytes));
    };
    add("model.embed_tokens.weight".into(), &[10, 8]);
    add("lm_head.weight".into(), &[10, 8]);
    add("model.norm.weight".into(), &[8]);
    for i in 0..2 {
        for (name, shape) in [
            ("input_layernorm", &[8][..]),
            ("post_attention_layernorm", &[8]),
            ("self_attn.q_proj", &[8, 8]),
            ("self_attn.k_proj", &[4, 8]),
            ("self_attn.v_proj", &[4, 8]),
            ("self_attn.o_proj", &[8, 8]),
            ("mlp.gate_proj", &[12, 8]),
            ("mlp.up_proj", &[12, 8]),
            ("mlp.down_proj", &[8, 12]),
        ] {
            add(format!("model.layers.{i}.{name}.weight"), shape);
        }
    }
    all
}

fn bytes_of(tensors: &Tensors) -> Vec<u8> {
    let out: Vec<OutTensor> = tensors
        .iter()
        .map(|(name, (dtype, shape, _))| OutTensor {
            name: name.clone(),
            canonical: name.clone(),
            dtype: *dtype,
            shape: shape.clone(),
        })
        .collect();
    let mut bytes = Vec::new();
    write_tensors(&mut bytes, &out.iter().collect::<Vec<_>>(), |t| Ok(tensors[&t.name].2.clone())).expect("in memory");
    bytes
}

fn folder(config: &Value, tensors: &Tensors) -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    fs::write(dir.path().join("config.json"), config.to_string()).expect("written");
    fs::write(dir.path().join("model.safetensors"), bytes_of(tensors)).expect("written");
    dir
}

/// The same in two shards with an index.
fn sharded() -> TempDir {
    let dir = folder(&config(), &tensors());
    fs::remove_file(dir.path().join("model.safetensors")).expect("removed");
    let all = tensors();
    let (first, second): (Tensors, Tensors) = all.into_iter().partition(|(name, _)| name.contains("layers.0"));
    let mut map = Map::new();
    for (file, part) in [("model-00001-of-00002.safetensors", first), ("model-00002-of-00002.safetensors", second)] {
        fs::write(dir.path().join(file), bytes_of(&part)).expect("written");
        map.extend(part.into_keys().map(|name| (name, json!(file))));
    }
    write_index(&dir, &map);
    dir
}

fn write_index(dir: &TempDir, map: &Map<String, Value>) {
    let index = json!({"metadata": {"total_size": 1}, "weight_map": map});
    fs::write(dir.path().join(files::INDEX), index.to_string()).expect("written");
}

fn index_of(dir: &TempDir) -> Map<String, Value> {
    let text = fs::read(dir.path().join(files::INDEX)).expect("an index");
    let index: Value = serde_json::from_slice(&text).expect("JSON");
    index["weight_map"].as_object().expect("a map").clone()
}

fn refused(dir: &Path) -> (&'static str, String) {
    let fault = Checkpoint::open(dir).and_then(|c| c.check()).expect_err("not a usable model");
    (fault.code, fault.detail)
}

fn expect(dir: &Path, code: &str, words: &str) {
    let (found, detail) = refused(dir);
    assert!(found == code && detail.contains(words), "{found}: {detail}");
}

#[test]
fn a_model_is_opened_checked_and_read() {
    let dir = folder(&config(), &tensors());
    let model = Checkpoint::open(dir.path()).expect("opens");
    model.check().expect("complete");
    assert_eq!(model.spec().hidden_size, 8);
    assert_eq!(model.vector("model.norm.weight").expect("a vector")[3].to_bits(), 1.5f32.to_bits());
    assert_eq!(model.frozen("model.layers.1.mlp.down_proj.weight").expect("a matrix").shape(), (8, 12));
    let expected: usize = tensors().values().map(|(_, _, bytes)| bytes.len()).sum();
    assert_eq!(model.total_bytes(), expected as u64);
    assert!(model.has("lm_head.weight") && !model.has("lm_head.bias"));
    assert!(model.non_finite(|_| true).is_none());
    assert_eq!(model.hash().len(), 64);
}

#[test]
fn shards_are_one_model() {
    let (one, two) = (folder(&config(), &tensors()), sharded());
    let (one, two) = (Checkpoint::open(one.path()).expect("opens"), Checkpoint::open(two.path()).expect("opens"));
    two.check().expect("complete");
    for (name, tensor) in one.tensors() {
        assert_eq!(two.tensor(name).expect("there").bytes.as_slice(), tensor.bytes.as_slice());
    }
}

#[test]
fn a_missing_shard_is_named() {
    let dir = sharded();
    fs::remove_file(dir.path().join("model-00002-of-00002.safetensors")).expect("removed");
    expect(dir.path(), "PS-MODEL-003", "model-00002-of-00002.safetensors");
    let dir = sharded();
    fs::remove_file(dir.path().join(files::INDEX)).expect("removed");
    expect(dir.path(), "PS-MODEL-003", files::INDEX);
}

#[test]
fn an_index_that_does_not_fit_its_shards_is_refused() {
    let dir = sharded();
    let mut map = index_of(&dir);
    map.insert("model.layers.9.mlp.up_proj.weight".into(), json!("model-00001-of-00002.safetensors"));
    write_index(&dir, &map);
    expect(dir.path(), "PS-MODEL-003", "model.layers.9.mlp.up_proj.weight");
    for path in ["../model.safetensors", "/etc/passwd", "a\\b", "", "c:x", ".hidden"] {
        let mut map = index_of(&dir);
        map.insert("lm_head.weight".into(), json!(path));
        write_index(&dir, &map);
        expect(dir.path(), "PS-MODEL-005", "not a file name");
    }
    fs::write(dir.path().join(files::INDEX), "{").expect("written");
    expect(dir.path(), "PS-MODEL-005", "not valid JSON");
}

#[test]
fn a_cut_file_names_itself_and_the_tensor() {
    let dir = folder(&config(), &tensors());
    let bytes = bytes_of(&tensors());
    for length in (0..bytes.len()).step_by(97) {
        fs::write(dir.path().join("model.safetensors"), &bytes[..length]).expect("written");
        expect(dir.path(), "PS-MODEL-005", "`model.safetensors`");
    }
    fs::write(dir.path().join("model.safetensors"), &bytes[..bytes.len() - 1]).expect("written");
    expect(dir.path(), "PS-MODEL-005", "`model.norm.weight` lacks 1 byte.");
}

#[test]
fn folders_that_are_no_model_say_what_they_are() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path();
    expect(&path.join("nowhere"), "PS-FILE-001", "nowhere");
    expect(path, "PS-MODEL-003", "config.json");
    fs::write(path.join("model.gguf"), "GGUF").expect("written");
    expect(path, "PS-MODEL-002", "GGUF");
    expect(&path.join("model.gguf"), "PS-MODEL-005", "model.gguf");
    fs::write(path.join("config.json"), config().to_string()).expect("written");
    expect(path, "PS-MODEL-002", "GGUF");
    fs::write(path.join("pytorch_model.bin"), "PK").expect("written");
    expect(path, "PS-MODEL-004", "pickle");
    expect(&path.join("pytorch_model.bin"), "PS-MODEL-004", "pickle");
    expect(&path.join("config.json"), "PS-MODEL-003", "Give the folder");
}

#[test]
fn an_adapter_is_not_a_model() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    fs::write(dir.path().join("adapter_config.json"), r#"{"base_model_name_or_path": "some/base"}"#).expect("written");
    fs::write(dir.path().join("adapter_model.safetensors"), "").expect("written");
    expect(dir.path(), "PS-MODEL-003", "`some/base`");
}

#[test]
fn tensors_that_do_not_suit_the_architecture_are_named() {
    let mut all = tensors();
    all.remove("model.layers.1.mlp.up_proj.weight");
    all.remove("model.norm.weight");
    expect(folder(&config(), &all).path(), "PS-MODEL-003", "`model.layers.1.mlp.up_proj.weight` and 1 more");
    let mut all = tensors();
    all.remove("lm_head.weight");
    expect(folder(&config(), &all).path(), "PS-MODEL-003", "tie_word_embeddings");
    let mut tied = config();
    tied["tie_word_embeddings"] = json!(true);
    Checkpoint::open(folder(&tied, &all).path()).expect("opens").check().expect("a tied model needs no head");
    let mut larger = config();
    larger["vocab_size"] = json!(11);
    expect(folder(&larger, &tensors()).path(), "PS-MODEL-005", "[11, 8] and it is [10, 8]");
    let mut all = tensors();
    all.get_mut("model.norm.weight").expect("there").1 = vec![2, 4];
    expect(folder(&config(), &all).path(), "PS-MODEL-005", "model.norm.weight");
    let mut all = tensors();
    all.insert("lm_head.weight".into(), (Dtype::F8_E4M3, vec![10, 8], vec![0; 80]));
    expect(folder(&config(), &all).path(), "PS-MODEL-002", "F8_E4M3");
}

#[test]
fn packed_checkpoints_without_a_word_in_the_configuration_are_recognised() {
    let mut all = tensors();
    all.remove("model.layers.0.mlp.up_proj.weight");
    all.insert("model.layers.0.mlp.up_proj.qweight".into(), (Dtype::I32, vec![1, 12], vec![0; 48]));
    expect(folder(&config(), &all).path(), "PS-MODEL-002", "AWQ");
    all.insert("model.layers.0.mlp.up_proj.g_idx".into(), (Dtype::I32, vec![8], vec![0; 32]));
    expect(folder(&config(), &all).path(), "PS-MODEL-002", "GPTQ");
}

#[test]
fn prefixes_of_wrapped_models_do_not_matter() {
    let renamed = |from: &str, to: &str| -> Tensors {
        tensors().into_iter().map(|(name, t)| (name.replacen(from, to, 1), t)).collect()
    };
    for all in [
        renamed("model.", "model.language_model."),
        renamed("model.", "language_model.model."),
        renamed("model.", ""),
        renamed("model.", "base_model.model.model."),
    ] {
        let model = Checkpoint::open(folder(&config(), &all).path()).expect("opens");
        model.check().expect("complete");
        let tensor = model.tensor("model.norm.weight").expect("there");
        assert!(all.contains_key(&tensor.stored_name));
    }
    let mut twice = tensors();
    twice.insert("norm.weight".into(), tensors()["model.norm.weight"].clone());
    expect(folder(&config(), &twice).path(), "PS-MODEL-005", "same tensor");
}

#[test]
fn weights_that_are_not_numbers_are_found() {
    for (dtype, bad) in [
        (Dtype::F32, f32::NAN.to_le_bytes().to_vec()),
        (Dtype::F32, f32::NEG_INFINITY.to_le_bytes().to_vec()),
        (Dtype::F16, half::f16::INFINITY.to_le_bytes().to_vec()),
        (Dtype::BF16, half::bf16::NAN.to_le_bytes().to_vec()),
    ] {
        // Beyond the first chunk, so that the position counts chunks too.
        let at = (1 << 14) + 77;
        let size = bad.len();
        let mut bytes = vec![0x11; (1 << 15) * size];
        bytes[at * size..(at + 1) * size].copy_from_slice(&bad);
        let mut all = tensors();
        all.insert("extra".into(), (dtype, vec![1 << 15], bytes));
        let found = Checkpoint::open(folder(&config(), &all).path()).expect("opens").non_finite(|_| true);
        assert_eq!(found.as_deref(), Some(&*format!("element {at} of `extra` in `model.safetensors`")));
    }
}

#[test]
fn the_hash_tells_fine_tunes_of_one_model_apart() {
    let hash =
        |config: &Value, all: &Tensors| Checkpoint::open(folder(config, all).path()).expect("opens").hash().to_owned();
    let base = hash(&config(), &tensors());
    assert_eq!(base, hash(&config(), &tensors()));
    let mut changed = tensors();
    changed.get_mut("model.norm.weight").expect("there").2[5] ^= 1;
    assert_ne!(base, hash(&config(), &changed));
    let mut other = config();
    other["rms_norm_eps"] = json!(1e-5);
    assert_ne!(base, hash(&other, &tensors()));
}

#[test]
fn a_model_inside_the_program_is_the_same_as_on_disk() {
    let bytes: &'static [u8] = Box::leak(bytes_of(&tensors()).into_boxed_slice());
    let inside = Checkpoint::from_bytes(config().to_string().as_bytes(), bytes).expect("opens");
    inside.check().expect("complete");
    let dir = folder(&config(), &tensors());
    let outside = Checkpoint::open(dir.path()).expect("opens");
    assert_eq!(inside.hash(), outside.hash());
    assert!(inside.dir().is_none() && outside.dir() == Some(dir.path()));
    assert_eq!(Checkpoint::from_bytes(b"{", bytes).expect_err("no JSON").code, "PS-MODEL-005");
}

/// A 4-bit `lm_head` of 10 x 8: two blocks of 64, of which the second is partial.
fn four_bit(state: &Value, codes: usize, scales: usize) -> Tensors {
    let mut all = tensors();
    let state = state.to_string().into_bytes();
    all.insert("lm_head.weight".into(), (Dtype::U8, vec![codes, 1], vec![0xF0; codes]));
    all.insert("lm_head.weight.absmax".into(), (Dtype::F32, vec![scales], 2f32.to_le_bytes().repeat(scales)));
    all.insert("lm_head.weight.quant_state.bitsandbytes__nf4".into(), (Dtype::U8, vec![state.len()], state));
    all
}

fn state() -> Value {
    json!({"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [10, 8]})
}

#[test]
fn four_bit_weights_are_found_by_their_companions() {
    let model = Checkpoint::open(folder(&config(), &four_bit(&state(), 40, 2)).path()).expect("opens");
    model.check().expect("complete");
    let FrozenWeight::FourBit(weight) = model.frozen("lm_head.weight").expect("a weight") else { panic!("dense") };
    let values = peft_kernels::quant::dequantize(&weight);
    // Codes 15 and 0 of NF4 are 1 and -1, times the scale.
    assert!(values.chunks(2).all(|pair| pair[0].to_bits() == 2f32.to_bits() && pair[1].to_bits() == (-2f32).to_bits()));
}

#[test]
fn four_bit_codes_may_be_declared_as_any_type() {
    let mut all = four_bit(&state(), 40, 2);
    let codes = all.get_mut("lm_head.weight").expect("there");
    (codes.0, codes.1) = (Dtype::BF16, vec![20, 1]);
    Checkpoint::open(folder(&config(), &all).path()).expect("opens").check().expect("complete");
}

#[test]
fn four_bit_parts_that_contradict_each_other_are_refused() {
    let with = |key: &str, value: Value| {
        let mut state = state();
        state[key] = value;
        state
    };
    for (state, codes, scales) in [
        (state(), 39, 2),
        (state(), 41, 2),
        (state(), 40, 1),
        (state(), 40, 3),
        (with("blocksize", json!(0)), 40, 2),
        (with("blocksize", json!(1u64 << 40)), 40, 2),
        (with("shape", json!([10])), 40, 2),
        (with("shape", json!([u64::MAX, 8])), 40, 2),
        (with("shape", json!([8, 10])), 40, 2),
        (with("quant_type", json!("fp4")), 40, 2),
        (with("dtype", json!("float8")), 40, 2),
        (json!([]), 40, 2),
    ] {
        expect(folder(&config(), &four_bit(&state, codes, scales)).path(), "PS-MODEL-005", "lm_head.weight");
    }
    let mut all = four_bit(&state(), 40, 2);
    all.remove("lm_head.weight.absmax");
    expect(folder(&config(), &all).path(), "PS-MODEL-003", "lm_head.weight.absmax");
    let mut all = four_bit(&state(), 40, 2);
    all.insert("lm_head.weight.quant_map".into(), (Dtype::F32, vec![16], 1f32.to_le_bytes().repeat(16)));
    expect(folder(&config(), &all).path(), "PS-MODEL-005", "16 values");
    // Scales in 8 bits without a word on how.
    let mut all = four_bit(&state(), 40, 2);
    all.insert("lm_head.weight.absmax".into(), (Dtype::U8, vec![2], vec![0; 2]));
    expect(folder(&config(), &all).path(), "PS-MODEL-005", "scales were quantised");
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures")
}

#[test]
fn every_fixture_opens_and_is_complete() {
    let mut opened = 0;
    for family in fs::read_dir(fixtures().join("parity")).expect("fixtures").flatten() {
        for model in fs::read_dir(family.path()).expect("a family").flatten() {
            if model.file_name().to_string_lossy().starts_with("model") && model.path().is_dir() {
                let checkpoint = Checkpoint::open(&model.path()).unwrap_or_else(|f| panic!("{model:?}: {f}"));
                checkpoint.check().unwrap_or_else(|f| panic!("{model:?}: {f}"));
                assert_eq!(checkpoint.non_finite(|_| true), None, "{model:?}");
                opened += 1;
            }
        }
    }
    assert!(opened >= 14, "{opened} models");
}

#[test]
fn the_sharded_fixture_holds_what_the_single_one_holds() {
    let open = |family: &str| Checkpoint::open(&fixtures().join("parity").join(family).join("model")).expect("opens");
    let (one, shards) = (open("llama"), open("llama-sharded"));
    assert_eq!(one.total_bytes(), shards.total_bytes());
    for (name, tensor) in one.tensors() {
        assert_eq!(shards.tensor(name).expect("there").bytes.as_slice(), tensor.bytes.as_slice(), "{name}");
    }
}

#[test]
fn four_bit_fixtures_decode_to_the_numbers_of_bitsandbytes() {
    for name in ["nf4-f32-52x320", "nf4-bf16-50x70", "fp4-bf16-50x70", "fp4-f32-24x70"] {
        let bytes = fs::read(fixtures().join(format!("bnb/{name}.safetensors"))).expect("a fixture");
        let model = Checkpoint::from_bytes(config().to_string().as_bytes(), Box::leak(bytes.into_boxed_slice()));
        let model = model.expect("opens");
        for kind in [&name[..3], &format!("{}dq", &name[..3])] {
            let FrozenWeight::FourBit(weight) = model.frozen(&format!("{kind}.weight")).expect("a weight") else {
                panic!("{name}: dense")
            };
            let expected = model.tensor(&format!("{kind}.dequantised")).expect("there");
            assert_eq!([weight.rows, weight.cols], expected.shape[..]);
            let mut found = peft_kernels::quant::dequantize(&weight);
            // bitsandbytes rounds what it returns to the type of the quant state; here everything stays f32.
            if expected.dtype == Dtype::BF16 {
                for x in &mut found {
                    *x = half::bf16::from_f32(*x).to_f32();
                }
            }
            let expected = expected.to_f32().expect("floats");
            assert!(
                found.iter().zip(&expected).all(|(f, e)| f.to_bits() == e.to_bits() || (*f == 0.0 && *e == 0.0)),
                "{name} {kind}"
            );
            assert_eq!(found.len(), expected.len());
        }
    }
}

#[test]
fn modules_left_out_of_quantisation_are_dense() {
    let model = Checkpoint::open(&fixtures().join("parity/llama/model-bnb-4bit-skip")).expect("opens");
    let four_bit = |name: &str| matches!(model.frozen(name).expect("a weight"), FrozenWeight::FourBit(_));
    assert!(four_bit("model.layers.0.self_attn.q_proj.weight") && four_bit("model.layers.1.mlp.up_proj.weight"));
    assert!(!four_bit("model.layers.0.mlp.up_proj.weight") && !four_bit("lm_head.weight"));
}
