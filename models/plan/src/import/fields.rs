//! What other programs call our settings.

use super::{Program, Writer, find, leaf};
use serde_json::{Value, json};

/// How a value there becomes one here.
#[derive(Clone, Copy)]
enum Conversion {
    /// As it is.
    Same,
    /// As it is; -1, 0 and `null` mean "not set".
    Positive,
    /// `true` or `false` only.
    Flag,
    /// A list of module names, `all`, or a comma-separated text.
    Modules,
    /// The name of a learning rate's shape.
    Scheduler,
    /// The name of an optimizer.
    Optimizer,
    /// `lora`, `qlora`, `full` ...
    Method,
    /// A share of the rows, or a number of them.
    Share,
    /// Steps, or a share of all steps.
    Steps,
    /// Steps of the rise; ours is a share of the run.
    WarmupSteps,
    /// `true`: the prompt is learnt too.
    TrainAll,
    /// `true`: only the answers are learnt.
    TrainAnswers,
    /// The name of a chat layout.
    Template,
    /// What the preference method is.
    Objective,
}

use Conversion as C;

/// Their name, our setting, how it is converted.
const FIELDS: &[(&str, &str, Conversion)] = &[
    ("base_model", "model.id", C::Same),
    ("model_name_or_path", "model.id", C::Same),
    ("model_name", "model.id", C::Same),
    ("model", "model.id", C::Same),
    ("model_revision", "model.revision", C::Same),
    ("revision_of_model", "model.revision", C::Same),
    ("revision", "model.revision", C::Same),
    ("adapter", "adapter.method", C::Method),
    ("finetuning_type", "adapter.method", C::Method),
    ("training_type", "adapter.method", C::Method),
    ("lora_r", "adapter.rank", C::Same),
    ("lora_rank", "adapter.rank", C::Same),
    ("r", "adapter.rank", C::Same),
    ("lora_alpha", "adapter.alpha", C::Same),
    ("lora_dropout", "adapter.dropout", C::Same),
    ("lora_target_modules", "adapter.target_modules", C::Modules),
    ("lora_target", "adapter.target_modules", C::Modules),
    ("target_modules", "adapter.target_modules", C::Modules),
    ("lora_attn_modules", "adapter.target_modules", C::Modules),
    ("lora_target_linear", "adapter.target_modules", C::Modules),
    ("lora_modules_to_save", "adapter.modules_to_save", C::Same),
    ("modules_to_save", "adapter.modules_to_save", C::Same),
    ("additional_target", "adapter.modules_to_save", C::Modules),
    ("use_rslora", "adapter.use_rslora", C::Flag),
    ("peft_use_rslora", "adapter.use_rslora", C::Flag),
    ("loraplus_lr_ratio", "adapter.lora_plus_ratio", C::Same),
    ("adapter_name_or_path", "adapter.init_from", C::Same),
    ("lora_model_dir", "adapter.init_from", C::Same),
    ("bnb_4bit_quant_type", "quantization.format", C::Same),
    ("quantization_type", "quantization.format", C::Same),
    ("bnb_4bit_use_double_quant", "quantization.double_quantization", C::Flag),
    ("use_bnb_nested_quant", "quantization.double_quantization", C::Flag),
    ("double_quantization", "quantization.double_quantization", C::Flag),
    ("num_epochs", "training.epochs", C::Positive),
    ("num_train_epochs", "training.epochs", C::Positive),
    ("epochs", "training.epochs", C::Positive),
    ("max_steps", "training.max_steps", C::Positive),
    ("max_steps_per_epoch", "training.max_steps", C::Positive),
    ("micro_batch_size", "training.micro_batch_size", C::Same),
    ("per_device_train_batch_size", "training.micro_batch_size", C::Same),
    ("batch_size", "training.micro_batch_size", C::Same),
    ("gradient_accumulation_steps", "training.gradient_accumulation", C::Same),
    ("sequence_len", "training.max_sequence_length", C::Positive),
    ("cutoff_len", "training.max_sequence_length", C::Positive),
    ("max_seq_length", "training.max_sequence_length", C::Positive),
    ("max_seq_len", "training.max_sequence_length", C::Positive),
    ("max_length", "training.max_sequence_length", C::Positive),
    ("sample_packing", "training.packing", C::Flag),
    ("packing", "training.packing", C::Flag),
    ("packed", "training.packing", C::Flag),
    ("train_on_inputs", "training.train_on", C::TrainAll),
    ("train_on_prompt", "training.train_on", C::TrainAll),
    ("train_on_input", "training.train_on", C::TrainAll),
    ("assistant_only_loss", "training.train_on", C::TrainAnswers),
    ("completion_only_loss", "training.train_on", C::TrainAnswers),
    ("train_on_responses_only", "training.train_on", C::TrainAnswers),
    ("train_on_completions", "training.train_on", C::TrainAnswers),
    ("learning_rate", "training.learning_rate", C::Same),
    ("lr", "training.learning_rate", C::Same),
    ("lr_scheduler", "training.scheduler", C::Scheduler),
    ("lr_scheduler_type", "training.scheduler", C::Scheduler),
    ("warmup_ratio", "training.warmup_ratio", C::Same),
    ("warmup_steps", "training.warmup_ratio", C::WarmupSteps),
    ("num_warmup_steps", "training.warmup_ratio", C::WarmupSteps),
    ("weight_decay", "training.weight_decay", C::Same),
    ("adam_beta2", "training.adam_beta2", C::Same),
    ("optimizer", "training.optimizer", C::Optimizer),
    ("optim", "training.optimizer", C::Optimizer),
    ("max_grad_norm", "training.max_gradient_norm", C::Same),
    ("gradient_clipping", "training.max_gradient_norm", C::Same),
    ("clip_grad_norm", "training.max_gradient_norm", C::Same),
    ("neftune_noise_alpha", "training.neftune_alpha", C::Positive),
    ("gradient_checkpointing", "training.activation_checkpointing", C::Flag),
    ("use_gradient_checkpointing", "training.activation_checkpointing", C::Flag),
    ("enable_activation_checkpointing", "training.activation_checkpointing", C::Flag),
    ("seed", "training.seed", C::Same),
    ("random_seed", "training.seed", C::Same),
    ("random_state", "training.seed", C::Same),
    ("rl", "training.objective", C::Objective),
    ("stage", "training.objective", C::Objective),
    ("dpo_beta", "training.preference_beta", C::Same),
    ("pref_beta", "training.preference_beta", C::Same),
    ("rl_beta", "training.preference_beta", C::Same),
    ("beta", "training.preference_beta", C::Same),
    ("val_set_size", "dataset.validation_split", C::Share),
    ("val_size", "dataset.validation_split", C::Share),
    ("chat_template", "dataset.chat_template", C::Template),
    ("template", "dataset.chat_template", C::Template),
    ("default_system_message", "dataset.system_prompt", C::Same),
    ("default_system", "dataset.system_prompt", C::Same),
    ("eval_steps", "evaluation.every_steps", C::Steps),
    ("early_stopping_patience", "evaluation.early_stopping_patience", C::Positive),
    ("early_stopping_steps", "evaluation.early_stopping_patience", C::Positive),
    ("save_steps", "checkpoint.every_steps", C::Steps),
    ("save_total_limit", "checkpoint.keep", C::Positive),
];

/// Fields that `settle` reads; they are said to be mapped there.
const METHOD_FLAGS: [&str; 5] = ["load_in_4bit", "quantization_bit", "use_dora", "peft_use_dora", "lora_use_dora"];

/// Fields that mean nothing here, and why.
const WITHOUT_EFFECT: &[(&[&str], &str)] = &[
    (
        &[
            "bf16",
            "fp16",
            "tf32",
            "pure_bf16",
            "bfloat16",
            "dtype",
            "torch_dtype",
            "compute_dtype",
            "bnb_4bit_compute_dtype",
        ],
        "numbers are chosen for the device; see training.precision",
    ),
    (
        &[
            "flash_attention",
            "flash_attn",
            "attn_implementation",
            "xformers_attention",
            "sdp_attention",
            "sdpa_attention",
            "use_liger_kernel",
            "enable_liger_kernel",
            "liger_rope",
            "compile",
            "torch_compile",
            "use_unsloth",
        ],
        "the program has its own fused kernels, which are always on",
    ),
    (
        &[
            "deepspeed",
            "fsdp",
            "fsdp_config",
            "ddp_timeout",
            "ddp_find_unused_parameters",
            "world_size",
            "local_rank",
            "tensor_parallel_size",
        ],
        "a run uses one device",
    ),
    (
        &[
            "group_by_length",
            "pad_to_sequence_len",
            "pad_to_multiple_of",
            "dataloader_num_workers",
            "preprocessing_num_workers",
            "dataset_num_proc",
            "dataloader_pin_memory",
            "overwrite_cache",
            "dataset_prepared_path",
            "dataset_processes",
        ],
        "there is no padding and no data cache",
    ),
    (
        &["output_dir", "overwrite_output_dir", "logging_dir", "run_name", "project_name"],
        "a run's folder and name are given with --out and --name",
    ),
    (
        &["trust_remote_code", "hf_token", "token", "use_auth_token"],
        "no code of a model is ever run, and tokens do not belong in a run file",
    ),
    (
        &[
            "model_type",
            "tokenizer_type",
            "is_llama_derived_model",
            "tokenizer_name",
            "tokenizer_config",
            "resize_vocab",
        ],
        "read from the model's own files",
    ),
    (
        &[
            "evals_per_epoch",
            "saves_per_epoch",
            "evaluation_strategy",
            "eval_strategy",
            "save_strategy",
            "eval_batch_size",
            "per_device_eval_batch_size",
            "do_eval",
            "do_train",
            "do_predict",
            "eval_sample_packing",
        ],
        "about ten evaluations a run and a checkpoint a minute are the default; see evaluation.every_steps and checkpoint.every_steps",
    ),
    (&["load_in_8bit"], "8-bit bases are not trained on; 4-bit or 16-bit is chosen instead"),
    (&["adam_beta1", "adam_epsilon", "adam_eps", "eps"], "AdamW's usual 0.9 and 1e-8 are used"),
    (&["max_samples", "max_new_tokens", "streaming"], "all rows of the data are used"),
];

/// What happens to one field.
pub(super) fn apply(writer: &mut Writer, program: Program, path: &str, value: &Value, all: &[(String, Value)]) {
    let name = leaf(path);
    if value.is_null() || value.as_str().is_some_and(str::is_empty) {
        return;
    }
    if METHOD_FLAGS.contains(&name) {
        let known = value.as_bool().is_some() || value.as_u64() == Some(4);
        if known {
            let method = if name.contains("dora") { "a weight-decomposed method" } else { "a 4-bit base" };
            writer.report.push(super::ImportedField {
                field: path.to_owned(),
                value: value.clone(),
                outcome: super::Outcome::Mapped,
                setting: Some("adapter.method".to_owned()),
                note: (value != &json!(false)).then(|| format!("chooses {method}")),
            });
        } else {
            writer.ignore(path, value, "bases are held in 4 bit or as they are stored");
        }
        return;
    }
    // torchtune names the model by its builder and keeps files elsewhere; `model` of a section is no model id.
    if name == "model" && !value.is_string() {
        return writer.ignore(path, value, "it does not name a model");
    }
    if path.starts_with("optimizer.") && name == "_component_" {
        return convert(writer, path, value, "training.optimizer", C::Optimizer, all);
    }
    // LLaMA-Factory's `pt` stage, Axolotl's `completion` and the like are said by `stage`, `type`, not here.
    if let Some((_, setting, conversion)) = FIELDS.iter().find(|(theirs, ..)| *theirs == name) {
        if program == Program::Torchtune && name == "batch_size" && path != "batch_size" {
            return writer.ignore(path, value, "batches of other stages are not set");
        }
        return convert(writer, path, value, setting, *conversion, all);
    }
    if let Some((_, why)) = WITHOUT_EFFECT.iter().find(|(names, _)| names.contains(&name)) {
        return writer.ignore(path, value, why);
    }
    let prefix =
        ["wandb", "mlflow", "comet", "swanlab", "report_to", "hub_", "push_to_hub", "logging", "log_", "plot_"];
    if prefix.iter().any(|p| name.starts_with(p)) {
        return writer.ignore(path, value, "runs are recorded in the program's own history");
    }
    writer.ignore(path, value, "it is not known here");
}

fn convert(
    writer: &mut Writer,
    path: &str,
    value: &Value,
    setting: &str,
    conversion: Conversion,
    all: &[(String, Value)],
) {
    // Numbers are often written as text, such as 2e-4, which YAML does not take for a number.
    let number = value.as_f64().or_else(|| value.as_str().and_then(|s| s.trim().parse().ok()));
    let flag = value.as_bool().or_else(|| match value.as_str().map(str::to_ascii_lowercase).as_deref() {
        Some("true" | "yes" | "unsloth") => Some(true),
        Some("false" | "no" | "none") => Some(false),
        _ => None,
    });
    let whole = |n: f64| if n.fract() == 0.0 && n.abs() < 9e15 { json!(n as i64) } else { json!(n) };
    match conversion {
        C::Same => {
            let ours = match (value, number) {
                (Value::String(_), Some(n)) if setting != "model.id" && setting != "model.revision" => whole(n),
                (Value::Number(_), Some(n)) => whole(n),
                _ => value.clone(),
            };
            writer.put(path, value, setting, &ours, None);
        }
        C::Positive => match number {
            Some(n) if n > 0.0 => writer.put(path, value, setting, &whole(n), None),
            _ => writer.ignore(path, value, "it says that this is not set"),
        },
        C::Flag => match flag {
            Some(flag) => writer.put(path, value, setting, &json!(flag), None),
            None => writer.ignore(path, value, "it is neither true nor false"),
        },
        C::Modules => modules(writer, path, value, setting),
        C::Scheduler => {
            let name = value.as_str().unwrap_or_default();
            let (ours, note) = match name {
                "cosine" | "linear" | "constant" => (name, None),
                "constant_with_warmup" => ("constant", None),
                "warmup_stable_decay" | "wsd" => ("wsd", None),
                _ if name.contains("cosine") => ("cosine", Some(format!("`{name}` becomes a plain half cosine"))),
                _ => ("linear", Some(format!("there is no `{name}` here; a straight line down comes nearest"))),
            };
            writer.put(path, value, setting, &json!(ours), note);
        }
        C::Optimizer => {
            let name = value.as_str().unwrap_or_default().to_ascii_lowercase();
            let eight = name.contains("8bit");
            let adam = name.contains("adamw");
            let ours = if eight { "adamw_8bit" } else { "adamw" };
            let note = (!adam).then(|| format!("there is no `{name}` here; AdamW comes nearest"));
            writer.put(path, value, setting, &json!(ours), note);
        }
        C::Method => {
            let name = value.as_str().unwrap_or_default().to_ascii_lowercase();
            match name.as_str() {
                "lora" | "qlora" | "dora" | "qdora" | "full" => writer.put(path, value, setting, &json!(name), None),
                "lora/qlora" => writer.put(path, value, setting, &json!("lora"), None),
                _ if name.contains("lora") => {
                    writer.put(path, value, setting, &json!("lora"), Some(format!("`{name}` becomes plain LoRA")));
                }
                _ if name.contains("full") => writer.put(path, value, setting, &json!("full"), None),
                _ => writer.put(path, value, setting, &json!("lora"), Some(format!("there is no `{name}` here"))),
            }
        }
        C::Share => match number {
            Some(n) if (0.0..=0.5).contains(&n) => writer.put(path, value, setting, &json!(n), None),
            Some(n) if n >= 1.0 => writer.ignore(
                path,
                value,
                "a number of rows; held-out rows are given as a share here, about a tenth by default",
            ),
            _ => writer.ignore(path, value, "it is no share between 0 and 0.5"),
        },
        C::Steps => match number {
            Some(n) if n >= 1.0 => writer.put(path, value, setting, &whole(n.round()), None),
            Some(n) if n > 0.0 => match steps(all) {
                Some(total) => {
                    let every = (n * total).round().max(1.0);
                    writer.put(path, value, setting, &whole(every), Some(format!("{n} of {total} steps")));
                }
                None => writer.ignore(path, value, "a share of the steps, whose number the file does not say"),
            },
            _ => writer.ignore(path, value, "it says that this is not set"),
        },
        C::WarmupSteps => match (number, steps(all)) {
            (Some(n), Some(total)) if n >= 1.0 => {
                let share = ((n / total).min(1.0) * 1e4).round() / 1e4;
                writer.put(path, value, setting, &json!(share), Some(format!("{n} of {total} steps")));
            }
            (Some(n), _) if n > 0.0 && n < 1.0 => writer.put(path, value, setting, &json!(n), None),
            (Some(0.0), _) => writer.put(path, value, setting, &json!(0), None),
            _ => writer.put(
                path,
                value,
                setting,
                &json!(0.03),
                Some("warm-up is a share of the run here, and the file does not say how many steps it has".to_owned()),
            ),
        },
        C::TrainAll | C::TrainAnswers => match flag {
            Some(flag) => {
                let ours = if flag == matches!(conversion, C::TrainAll) { "all" } else { "assistant" };
                writer.put(path, value, setting, &json!(ours), None);
            }
            None => writer.ignore(path, value, "it is neither true nor false"),
        },
        C::Template => {
            let name = value.as_str().unwrap_or_default();
            if ["chatml", "plain", "auto"].contains(&name) {
                writer.put(path, value, setting, &json!(name), None);
            } else {
                let note = format!(
                    "the model's own layout is used instead of `{}`",
                    name.chars().take(40).collect::<String>()
                );
                writer.put(path, value, setting, &json!("auto"), Some(note));
            }
        }
        C::Objective => {
            let name = value.as_str().unwrap_or_default();
            match name {
                "sft" | "dpo" | "orpo" | "kto" => writer.put(path, value, setting, &json!(name), None),
                "pt" => writer.put(path, value, "training.train_on", &json!("all"), None),
                "ipo" | "simpo" => {
                    writer.put(path, value, setting, &json!("dpo"), Some(format!("`{name}` becomes DPO")));
                }
                _ => writer.ignore(path, value, "there is no such method here"),
            }
        }
    }
}

fn modules(writer: &mut Writer, path: &str, value: &Value, setting: &str) {
    let list = |text: &str| -> Vec<String> {
        text.split(',').map(|w| w.trim().to_owned()).filter(|w| !w.is_empty()).collect()
    };
    match value {
        Value::Bool(true) => writer.put(path, value, setting, &json!("all-linear"), None),
        Value::Bool(false) => {}
        Value::String(text) if text == "all" || text == "all-linear" => {
            writer.put(path, value, setting, &json!("all-linear"), None);
        }
        Value::String(text) => writer.put(path, value, setting, &json!(list(text)), None),
        _ => writer.put(path, value, setting, value, None),
    }
}

/// Optimizer steps of the run, where the document says so.
fn steps(all: &[(String, Value)]) -> Option<f64> {
    find(all, &["max_steps"]).and_then(Value::as_f64).filter(|&n| n > 0.0)
}
