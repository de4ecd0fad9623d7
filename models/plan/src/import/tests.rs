//! Documents of each program, and what is no such document.

use super::*;
use crate::config::{Method, Scheduler, TargetModules, TrainOn};
use serde_json::json;

fn fate<'a>(imported: &'a Imported, field: &str) -> &'a ImportedField {
    imported.report.iter().find(|f| f.field == field).unwrap_or_else(|| panic!("{field} is not in the report"))
}

#[test]
fn axolotl_s4_8_5() {
    let document = json!({
        "base_model": "NousResearch/Llama-3.2-1B", "load_in_4bit": true, "adapter": "qlora",
        "datasets": [{"path": "teknium/GPT4-LLM-Cleaned", "type": "alpaca"}, {"path": "./own.jsonl", "type": "chat_template"}],
        "val_set_size": 0.05, "sequence_len": 4096, "sample_packing": true, "lora_r": 32, "lora_alpha": 16,
        "lora_dropout": 0.05, "lora_target_linear": true, "gradient_accumulation_steps": 4, "micro_batch_size": 2,
        "num_epochs": 3, "optimizer": "adamw_bnb_8bit", "lr_scheduler": "cosine", "learning_rate": "2e-4",
        "train_on_inputs": false, "bf16": "auto", "gradient_checkpointing": true, "warmup_steps": 10, "max_steps": 200,
        "wandb_project": "x", "flash_attention": true, "special_tokens": {"pad_token": "<|end_of_text|>"}
    });
    let imported = import(&document, None, None).expect("known");
    let c = &imported.config;
    assert_eq!(imported.program, Program::Axolotl);
    assert_eq!(c.adapter.method, Some(Method::Qlora));
    assert_eq!((c.adapter.rank, c.adapter.alpha, c.adapter.dropout), (Some(32), Some(16.0), Some(0.05)));
    assert_eq!(c.adapter.target_modules, Some(TargetModules::Pattern("all-linear".into())));
    assert_eq!((c.training.epochs, c.training.max_steps), (Some(3.0), Some(200)));
    assert_eq!(c.training.learning_rate, Some(2e-4));
    assert_eq!(c.training.warmup_ratio, Some(0.05));
    assert_eq!(c.training.train_on, Some(TrainOn::Assistant));
    assert_eq!(c.training.max_sequence_length, Some(4096));
    assert_eq!(c.dataset.sources.len(), 2);
    assert_eq!(c.dataset.sources[0].hub.as_deref(), Some("teknium/GPT4-LLM-Cleaned"));
    assert_eq!(c.dataset.sources[1].path.as_deref(), Some("./own.jsonl"));
    assert_eq!(fate(&imported, "warmup_steps").outcome, Outcome::Approximated);
    assert_eq!(fate(&imported, "wandb_project").outcome, Outcome::Ignored);
    assert_eq!(fate(&imported, "special_tokens.pad_token").outcome, Outcome::Ignored);
    // Every field of the document is in the report.
    for key in document.as_object().expect("an object").keys().filter(|k| *k != "special_tokens") {
        assert!(imported.report.iter().any(|f| f.field == *key), "{key} was dropped without a word");
    }
}

#[test]
fn llama_factory_s4_8_5() {
    let document = json!({
        "model_name_or_path": "Qwen/Qwen2.5-0.5B-Instruct", "stage": "sft", "do_train": true, "finetuning_type": "lora",
        "lora_rank": 8, "lora_target": "q_proj,v_proj", "dataset": "identity,alpaca_en_demo", "template": "qwen",
        "cutoff_len": 2048, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 8, "learning_rate": 1.0e-4,
        "num_train_epochs": 3.0, "lr_scheduler_type": "cosine", "warmup_ratio": 0.1, "bf16": true, "val_size": 0.1,
        "quantization_bit": 4, "plot_loss": true
    });
    let info = json!({"identity": {"file_name": "identity.json"}});
    let imported = import(&document, None, Some(&info)).expect("known");
    let c = &imported.config;
    assert_eq!(imported.program, Program::LlamaFactory);
    assert_eq!(c.adapter.method, Some(Method::Qlora));
    assert_eq!(c.adapter.target_modules, Some(TargetModules::List(vec!["q_proj".into(), "v_proj".into()])));
    assert_eq!(c.dataset.sources[0].path.as_deref(), Some("identity.json"));
    assert_eq!(c.dataset.validation_split, Some(0.1));
    assert_eq!(fate(&imported, "template").outcome, Outcome::Approximated);
}

#[test]
fn an_unsloth_script_is_read_without_running_it() {
    let script = r#"
from unsloth import FastLanguageModel
max_seq_length = 1024 # any
model, tokenizer = FastLanguageModel.from_pretrained(
    model_name = "unsloth/Llama-3.2-1B-Instruct-bnb-4bit", max_seq_length = max_seq_length, load_in_4bit = True,
)
model = FastLanguageModel.get_peft_model(model, r = 16,
    target_modules = ["q_proj", "k_proj", # attention
                      "v_proj"],
    lora_alpha = 16, lora_dropout = 0, use_gradient_checkpointing = "unsloth", random_state = 3407, use_rslora = False)
trainer = SFTTrainer(model = model, args = SFTConfig(per_device_train_batch_size = 2, gradient_accumulation_steps = 4,
    warmup_steps = 5, max_steps = 60, learning_rate = 2e-4, optim = "adamw_8bit", lr_scheduler_type = "linear",
    fp16 = not is_bf16(), output_dir = "outputs"))
"#;
    let arguments = keyword_arguments(script);
    assert!(!arguments.contains_key("fp16"), "what is computed stays unknown");
    let imported = import(&Value::Object(arguments), Some(Program::Unsloth), None).expect("known");
    let c = &imported.config;
    assert_eq!(c.model.id.as_deref(), Some("unsloth/Llama-3.2-1B-Instruct-bnb-4bit"));
    assert_eq!(c.training.max_sequence_length, Some(1024));
    assert_eq!(c.training.scheduler, Some(Scheduler::Linear));
    assert_eq!((c.adapter.rank, c.training.seed), (Some(16), Some(3407)));
    assert_eq!(c.adapter.method, Some(Method::Qlora));
    assert_eq!(c.training.activation_checkpointing, Some(true));
}

#[test]
fn trl_and_sections_of_unsloth_studio() {
    let trl = json!({"model_name_or_path": "m/x", "dataset_name": "trl-lib/Capybara", "learning_rate": 2e-4,
        "num_train_epochs": 1, "use_peft": true, "lora_r": 32, "packing": true, "max_length": 1024, "use_dora": true});
    let imported = import(&trl, None, None).expect("known");
    assert_eq!(imported.program, Program::Trl);
    assert_eq!(imported.config.adapter.method, Some(Method::Dora));
    assert_eq!(imported.config.dataset.sources[0].hub.as_deref(), Some("trl-lib/Capybara"));
    let studio = json!({"model": "unsloth/x", "training": {"training_type": "LoRA/QLoRA", "max_seq_length": 2048,
        "load_in_4bit": true, "num_epochs": 2, "batch_size": 4}, "lora": {"lora_r": 64, "target_modules": "q_proj, v_proj"}});
    let imported = import(&studio, None, None).expect("known");
    assert_eq!(imported.program, Program::Unsloth);
    assert_eq!(imported.config.adapter.method, Some(Method::Qlora));
    assert_eq!((imported.config.adapter.rank, imported.config.training.micro_batch_size), (Some(64), Some(4)));
}

#[test]
fn something_else_is_refused_and_impossible_values_are_reported() {
    for document in [json!([1]), json!({}), json!({"colour": "blue"}), json!({"stage": {"a": 1}})] {
        assert_eq!(import(&document, None, None).expect_err("no configuration").code, "PS-PRE-001", "{document}");
    }
    let imported = import(&json!({"base_model": "m", "lora_r": "many", "adapter": "lora"}), None, None).expect("known");
    assert_eq!(fate(&imported, "lora_r").outcome, Outcome::Ignored);
}

#[test]
fn hostile_scripts_end() {
    for script in ["f(a = [[[[[[[[[", "f(a = \"", "f(a = '''", "=====", "f(a=1,a=2)", "x = (", &"(".repeat(100_000)] {
        keyword_arguments(script);
    }
    assert_eq!(keyword_arguments("f(a=1, a=2)")["a"], json!(1));
}
