//! Models that cannot be trained here, and what to say about them.

use super::FAMILIES;
use super::keys::Keys;
use crate::fault::{Fault, Result};
use serde_json::Value;

/// A checkpoint of this architecture needs something the decoder does not do.
pub(super) fn operation(architecture: &str, lacking: &str) -> Fault {
    Fault::new(
        "PS-MODEL-002",
        format!("`{architecture}` with this configuration needs {lacking}, which is not there yet."),
    )
}

/// What well-known unsupported classes would need: part of the class name, what is lacking.
///
/// The first match counts.
const LACKING: &[(&str, &str)] = &[
    ("Moe", "a mixture of experts"),
    ("MoE", "a mixture of experts"),
    ("Mixtral", "a mixture of experts"),
    ("Dbrx", "a mixture of experts"),
    ("GptOss", "a mixture of experts"),
    ("DeepseekV", "a mixture of experts and compressed keys and values"),
    ("Llama4", "a mixture of experts and interleaved rotary pairs"),
    ("Mamba", "a state-space layer"),
    ("Jamba", "a state-space layer"),
    ("Rwkv", "a recurrent layer"),
    ("Qwen3Next", "a recurrent layer"),
    ("GPT2", "learned positions and norms with a mean"),
    ("GPTNeoX", "a parallel residual stream and norms with a mean"),
    ("PhiFor", "a parallel residual stream and norms with a mean"),
    ("Falcon", "a parallel residual stream and norms with a mean"),
    ("Cohere", "a parallel residual stream and norms with a mean"),
    ("T5", "an encoder with cross attention"),
    ("Bart", "an encoder with cross attention"),
    ("Whisper", "an encoder with cross attention"),
    ("Bert", "an encoder"),
    ("Roberta", "an encoder"),
    ("VLFor", "an image encoder"),
    ("Llava", "an image encoder"),
    ("ForSequenceClassification", "a classification head"),
    ("ForTokenClassification", "a classification head"),
    ("ForQuestionAnswering", "a question-answering head"),
];

/// Keys that only mixture-of-experts configurations have.
const EXPERT_KEYS: &[&str] = &["num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"];

/// An architecture that has no row.
pub(super) fn architecture(class: &str, keys: &Keys) -> Fault {
    let supported: Vec<&str> = FAMILIES.iter().map(|f| f.title).collect();
    let experts = EXPERT_KEYS.iter().any(|key| keys.get(key).and_then(Value::as_u64).is_some_and(|n| n > 1));
    let lacking = LACKING
        .iter()
        .find(|(part, _)| class.contains(part))
        .map(|(_, what)| *what)
        .or(experts.then_some("a mixture of experts"));
    let why = lacking.map(|what| format!(" It needs {what}, which is not there yet.")).unwrap_or_default();
    Fault::new(
        "PS-MODEL-002",
        format!("This model is a `{class}`.{why} The kinds that can be trained are {}.", supported.join(", ")),
    )
}

/// Refuse weights that were packed in a way that cannot be trained upon.
pub(super) fn quantisation(config: &Value) -> Result<()> {
    let nested = config.get("text_config").and_then(|text| text.get("quantization_config"));
    let Some(quantisation) = config
        .get("quantization_config")
        .or(nested)
        .or_else(|| config.get("compression_config"))
        .and_then(Value::as_object)
    else {
        return Ok(());
    };
    let set = |key: &str| quantisation.get(key).and_then(Value::as_bool).unwrap_or(false);
    let eight = set("load_in_8bit") || set("_load_in_8bit");
    let four = set("load_in_4bit") || set("_load_in_4bit");
    let method = quantisation.get("quant_method").and_then(Value::as_str);
    let refused = |detail: String| Err(Fault::new("PS-MODEL-002", detail));
    let packed = |name: &str| {
        refused(format!(
            "This is {name} checkpoint. Its weights are packed for inference and cannot be fine-tuned here. \
             Choose the original model it was made from, or a bitsandbytes 4-bit build."
        ))
    };
    match method.unwrap_or(if four || eight { "bitsandbytes" } else { "unnamed" }) {
        "bitsandbytes" if eight => refused(
            "This checkpoint holds bitsandbytes 8-bit weights, which are not read here. \
             Choose the original model, or a bitsandbytes 4-bit build."
                .to_owned(),
        ),
        "bitsandbytes" => Ok(()),
        "gptq" => packed("a GPTQ"),
        "awq" => packed("an AWQ"),
        other => refused(format!(
            "This checkpoint is quantised with `{other}`, which is not read here. \
             Choose the unquantised model it was made from, or a bitsandbytes 4-bit build."
        )),
    }
}
