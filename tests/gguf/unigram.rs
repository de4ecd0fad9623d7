//! Tokenizers of SentencePiece's unigram model: through a GGUF file and back they make the same tokens.

use crate::world::{engine, layout, render, written};
use peft_models::base::BaseModel;
use peft_models::export::certificate::Reference;
use peft_models::export::gguf::write::Source;
use peft_models::export::gguf::{Array, File, FileType, Metadata, Value as Said};
use serde_json::{Value, json};
use std::path::Path;

const TEMPLATE: &str = "{{ bos_token }}{% for m in messages %}{{ m['role'] + ': ' + m['content'] + eos_token }}{% endfor %}\
                        {% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}";

/// The small Llama with the unigram tokenizer of the fixtures, after a change of its `tokenizer.json`.
fn model(folder: &Path, change: impl FnOnce(&mut Value)) -> BaseModel {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let from = fixtures.join("parity/llama/model");
    let json = |path: &Path| -> Value { serde_json::from_slice(&std::fs::read(path).expect("read")).expect("JSON") };
    let put = |name: &str, value: &Value| std::fs::write(folder.join(name), value.to_string()).expect("written");
    std::fs::copy(from.join("model.safetensors"), folder.join("model.safetensors")).expect("copied");
    let mut config = json(&from.join("config.json"));
    for (key, id) in [("bos_token_id", json!(1)), ("eos_token_id", json!(2)), ("pad_token_id", Value::Null)] {
        config[key] = id;
    }
    put("config.json", &config);
    let mut tokenizer = json(&fixtures.join("gguf/unigram/tokenizer.json"));
    change(&mut tokenizer);
    put("tokenizer.json", &tokenizer);
    let settings = json!({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "chat_template": TEMPLATE});
    put("tokenizer_config.json", &settings);
    BaseModel::open("unigram", folder).expect("a model")
}

#[test]
fn a_unigram_tokenizer_makes_the_same_tokens_in_a_gguf_file_7() {
    let engine = engine();
    let home = tempfile::tempdir().expect("a folder");
    let base = model(home.path(), |_| {});
    let path = home.path().join("m.gguf");
    let made = written(&engine, &base, None, Some(&layout(&base)), FileType::Q8_0, &path);
    let file = File::open(&path).expect("a file");
    let said = file.metadata();
    assert_eq!(said.text("tokenizer.ggml.model"), Some("t5"));
    assert_eq!(said.flag("tokenizer.ggml.remove_extra_whitespaces"), Some(true));
    assert!(said.bytes("tokenizer.ggml.precompiled_charsmap").is_some_and(|table| table.len() > 100));

    let again = BaseModel::open("again", &path).expect("a model");
    let ids =
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/gguf/unigram/ids.json")).expect("read");
    let ids: Vec<(String, Vec<u32>)> = serde_json::from_slice(&ids).expect("JSON");
    assert!(ids.len() > 8);
    for (text, wanted) in &ids {
        for tokenizer in [base.tokenizer(), again.tokenizer()] {
            assert_eq!(&tokenizer.encode_text(text, false).expect("tokens"), wanted, "{text:?}");
        }
        let back = |model: &BaseModel| model.tokenizer().decode(wanted).expect("text");
        assert_eq!(back(&base), back(&again), "{text:?}");
    }

    let (about, layout, render) = (Metadata::default(), layout(&base), render(&base));
    let source =
        Source { base: &base, adapter: None, quantize: None, layout: Some(&layout), about: &about, importance: None };
    let reference = Reference { source, render: Some(&render), rows: &[], sample: None };
    let found = engine.certify(&reference, &made).expect("a certificate");
    assert!(found.passed(), "{}", found.failures());

    // From the file into another type: the tokenizer comes along, its table too.
    let second = home.path().join("second.gguf");
    written(&engine, &again, None, None, FileType::F16, &second);
    let second = File::open(&second).expect("a file");
    for (key, value) in said.iter().filter(|(key, _)| key.starts_with("tokenizer.")) {
        assert_eq!(second.metadata().get(key), Some(value), "{key}");
    }
    assert!(matches!(second.metadata().get("tokenizer.ggml.precompiled_charsmap"), Some(Said::Array(Array::Bytes(_)))));
}

#[test]
fn a_unigram_tokenizer_that_llama_cpp_cannot_follow_is_refused_before_anything_is_written_7() {
    let engine = engine();
    let home = tempfile::tempdir().expect("a folder");
    let base = model(home.path(), |tokenizer| tokenizer["model"]["byte_fallback"] = json!(true));
    let about = Metadata::default();
    let source = Source { base: &base, adapter: None, quantize: None, layout: None, about: &about, importance: None };
    let Err(fault) = engine.conversion(source, &[FileType::Q8_0]) else { panic!("planned") };
    assert!(fault.code == "PS-GGUF-001" && fault.detail.contains("as bytes"), "{}", fault.detail);
}
