//! Models written and read back, whole and in shards, and writes that must leave nothing.

use super::*;
use std::fs;
use std::path::PathBuf;

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/parity").join(path)
}

fn options(dtype: DType, shard_bytes: Option<u64>) -> Options {
    Options { dtype, shard_bytes, extra_files: vec![("README.md".to_owned(), b"# x".to_vec())], made_of: None }
}

fn write(base: &Checkpoint, out: &Path, options: &Options) -> Result<Manifest> {
    let tensors = tensors_of(base, options.dtype)?;
    write_model(out, base, &tensors, options, |tensor| base_bytes(base, tensor))
}

#[test]
fn a_model_written_unchanged_is_the_same_model() {
    let base = Checkpoint::open(&fixture("llama/model")).expect("a fixture");
    let dir = tempfile::tempdir().expect("a temporary folder");
    for (name, shard_bytes) in [("one", None), ("many", Some(20_000))] {
        let out = dir.path().join("new").join(name);
        let manifest = write(&base, &out, &options(DType::BF16, shard_bytes)).expect("written");
        assert!(durable::verify_directory(&out).is_ok());
        let copy = Checkpoint::open(&out).expect("opens");
        copy.check().expect("complete");
        assert_eq!(copy.spec(), base.spec());
        for (name, tensor) in base.tensors() {
            assert_eq!(copy.tensor(name).expect("there").bytes.as_slice(), tensor.bytes.as_slice(), "{name}");
        }
        let shards = manifest.files.iter().filter(|f| f.name.ends_with(".safetensors")).count();
        assert_eq!(shards > 1, shard_bytes.is_some());
        for file in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
            assert_eq!(fs::read(out.join(file)).ok(), fs::read(fixture("llama/model").join(file)).ok(), "{file}");
        }
        assert_eq!(copy.config(), base.config());
        assert_eq!(fs::read(out.join("README.md")).expect("there"), b"# x");
    }
}

#[test]
fn a_four_bit_model_becomes_a_plain_one() {
    let base = Checkpoint::open(&fixture("llama/model-bnb-4bit")).expect("a fixture");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let out = dir.path().join("dense");
    write(&base, &out, &options(DType::BF16, None)).expect("written");
    let copy = Checkpoint::open(&out).expect("opens");
    copy.check().expect("complete");
    assert!(copy.config().get("quantization_config").is_none());
    assert_eq!(copy.spec(), base.spec());
    assert!(!copy.tensors().any(|(name, _)| name.contains("absmax") || name.contains("quant")));
    let name = "model.layers.1.mlp.gate_proj.weight";
    let FrozenWeight::FourBit(weight) = base.frozen(name).expect("a weight") else { panic!("dense") };
    let dense = copy.tensor(name).expect("there");
    assert_eq!(dense.dtype, Dtype::BF16);
    let rounded: Vec<f32> = quant::dequantize(&weight).iter().map(|x| half::bf16::from_f32(*x).to_f32()).collect();
    assert_eq!(dense.to_f32().expect("floats"), rounded);
}

#[test]
fn the_type_is_changed_everywhere() {
    let base = Checkpoint::open(&fixture("gemma2/model")).expect("a fixture");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let out = dir.path().join("f32");
    write(&base, &out, &options(DType::F32, None)).expect("written");
    let copy = Checkpoint::open(&out).expect("opens");
    copy.check().expect("complete");
    assert!(copy.tensors().all(|(_, tensor)| tensor.dtype == Dtype::F32));
    assert_eq!(copy.config()["torch_dtype"], "float32");
    for (name, tensor) in base.tensors() {
        assert_eq!(copy.tensor(name).expect("there").to_f32().expect("floats"), tensor.to_f32().expect("floats"));
    }
}

#[test]
fn a_tensor_that_cannot_be_produced_leaves_nothing() {
    let base = Checkpoint::open(&fixture("llama/model")).expect("a fixture");
    let tensors = tensors_of(&base, DType::BF16).expect("a list");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let out = dir.path().join("model");
    for short in [false, true] {
        let mut calls = 0;
        let fault = write_model(&out, &base, &tensors, &options(DType::BF16, Some(20_000)), |tensor| {
            calls += 1;
            match (calls < 9, short) {
                (true, _) => base_bytes(&base, tensor),
                (false, true) => Ok(vec![0]),
                (false, false) => Err(Fault::new("PS-MODEL-005", "damaged source")),
            }
        })
        .expect_err("a failing source");
        assert_eq!(fault.code, if short { "PS-EXP-002" } else { "PS-MODEL-005" });
        assert_eq!(fs::read_dir(dir.path()).expect("the folder").count(), 0);
    }
}

#[test]
fn a_folder_with_files_is_not_written_over() {
    let base = Checkpoint::open(&fixture("llama/model")).expect("a fixture");
    let dir = tempfile::tempdir().expect("a temporary folder");
    fs::write(dir.path().join("precious"), "x").expect("written");
    let fault = write(&base, dir.path(), &options(DType::BF16, None)).expect_err("occupied");
    assert!(fault.code == "PS-CFG-001" && dir.path().join("precious").exists(), "{}", fault.detail);
    let twice = vec![tensors_of(&base, DType::BF16).expect("a list")[0].clone(); 2];
    let out = dir.path().join("new");
    let fault = write_model(&out, &base, &twice, &options(DType::BF16, None), |t| base_bytes(&base, t));
    assert_eq!(fault.expect_err("a name twice").code, "PS-EXP-002");
}

#[test]
fn configurations_change_only_where_they_must() {
    let old = json!({"torch_dtype": "float16", "z": 1, "quantization_config": {"bits": 4}, "a": 2,
        "text_config": {"dtype": "float16", "quantization_config": {}}});
    assert_eq!(
        merged_config(&old, DType::BF16).to_string(),
        r#"{"torch_dtype":"bfloat16","z":1,"a":2,"text_config":{"dtype":"bfloat16"}}"#
    );
    assert_eq!(merged_config(&json!({"a": 1}), DType::F32), json!({"a": 1, "dtype": "float32"}));
}

#[test]
fn numbers_are_rounded_to_nearest_even() {
    let ties = [1.0 + 2f32.powi(-8), 1.0 + 3.0 * 2f32.powi(-8)];
    assert_eq!(narrow(DType::BF16, &ties), [0x80, 0x3f, 0x82, 0x3f]);
    assert_eq!(narrow(DType::F32, &[1.0]), [0, 0, 0x80, 0x3f]);
}
