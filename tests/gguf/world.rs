//! Small models, adapters for them, and files made of both.

use peft_models::base::BaseModel;
use peft_models::engine::Engine;
use peft_models::export::gguf::vocabulary::ChatLayout;
use peft_models::export::gguf::write::{Source, Written};
use peft_models::export::gguf::{FileType, Metadata};
use peft_models::peft_format::{AdapterConfig, AdapterFile, Tensors};
use peft_plan::TargetModules;
use peft_text::{ChatTemplate, RenderOptions};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

pub(crate) const FAMILIES: [&str; 7] = ["llama", "mistral", "qwen2", "qwen3", "phi3", "gemma2", "gemma3"];

/// The model of a family. Gemma's scale of attention is what llama.cpp takes for granted, as in `make_gguf.py`.
pub(crate) fn model(family: &str, home: &TempDir) -> BaseModel {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/parity/{family}/model"));
    if !family.starts_with("gemma") {
        return BaseModel::open(family, &from).expect("a model");
    }
    let to = home.path().join(format!("model-{family}"));
    std::fs::create_dir(&to).expect("created");
    for entry in std::fs::read_dir(&from).expect("a folder") {
        let path = entry.expect("an entry").path();
        std::fs::copy(&path, to.join(path.file_name().expect("a name"))).expect("copied");
    }
    let text = std::fs::read(to.join("config.json")).expect("read");
    let mut config: Value = serde_json::from_slice(&text).expect("JSON");
    config["query_pre_attn_scalar"] = json!(config["head_dim"]);
    std::fs::write(to.join("config.json"), config.to_string()).expect("written");
    BaseModel::open(family, &to).expect("a model")
}

pub(crate) fn engine() -> Engine {
    Engine::open("cpu", 1).expect("an engine")
}

pub(crate) fn render(base: &BaseModel) -> RenderOptions {
    RenderOptions::new(ChatTemplate::resolve("auto", base.tokenizer()).expect("a layout"), "2024-07-26")
}

pub(crate) fn layout(base: &BaseModel) -> ChatLayout {
    let template = render(base).template;
    let end_of_turn = template.end_of_turn().and_then(|text| base.tokenizer().token_to_id(text));
    ChatLayout { template: template.source().to_owned(), begins: None, end_of_turn }
}

/// An adapter of all modules with numbers that `salt` decides.
pub(crate) fn adapter(base: &BaseModel, rank: usize, alpha: f64, rslora: bool, salt: u64) -> AdapterFile {
    let spec = base.spec();
    let mut config = AdapterConfig::new(
        rank,
        alpha,
        TargetModules::List(spec.target_names().iter().map(|n| (*n).to_owned()).collect()),
    );
    config.use_rslora = rslora;
    let mut state = salt.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut number = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u32 << 24) as f32 - 0.5
    };
    let mut tensors = Tensors::new();
    for i in 0..spec.layers.len() {
        for module in spec.target_modules(i) {
            let mut put = |end: &str, shape: [usize; 2]| {
                let name = format!("base_model.model.model.layers.{i}.{}.{end}.weight", module.name);
                let values = (0..shape[0] * shape[1]).map(|_| number() * 0.2).collect();
                tensors.insert(name, (shape.to_vec(), values));
            };
            put("lora_A", [rank, module.in_features]);
            put("lora_B", [module.out_features, rank]);
        }
    }
    AdapterFile { config, tensors }
}

/// Base and adapter as a file of `file_type`.
pub(crate) fn written(
    engine: &Engine,
    base: &BaseModel,
    adapter: Option<&AdapterFile>,
    layout: Option<&ChatLayout>,
    file_type: FileType,
    path: &Path,
) -> Written {
    let about = Metadata::default();
    let source = Source { base, adapter, quantize: None, layout, about: &about, importance: None };
    let conversion = engine.conversion(source, &[file_type]).expect("a plan");
    let paths: [PathBuf; 1] = [path.to_owned()];
    let mut go_on = |_: u64, _: u64| std::ops::ControlFlow::Continue(());
    let mut all = conversion.write(&paths, &mut go_on).expect("written").expect("nobody stopped it");
    assert_eq!(conversion.bytes(), all[0].digest.bytes, "the size was known before");
    all.remove(0)
}
