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

/// What well-known unsupported classes and types would need: part of the name, what is lacking.
///
/// The first match counts.
const LACKING: &[(&str, &str)] = &[
    ("Qwen2Moe", "an expert that all tokens share, with a gate of its own"),
    ("Qwen3Next", "a recurrent layer"),
    ("Qwen3_5", "a recurrent layer"),
    ("GraniteMoeHybrid", "a state-space layer"),
    ("GraniteMoe", "experts whose input matrices are one tensor for gate and up"),
    ("DeepseekV", "compressed keys and values, and experts that all tokens share"),
    ("Glm4Moe", "experts that all tokens share and a router with a correction"),
    ("Llama4", "interleaved rotary pairs and a router by sigmoid"),
    ("Phimoe", "norms with a mean and a router that picks one expert at a time"),
    ("PhiMoE", "norms with a mean and a router that picks one expert at a time"),
    ("Dbrx", "norms with a mean and experts in one matrix"),
    ("Moe", "a mixture of experts of a kind that is not read"),
    ("MoE", "a mixture of experts of a kind that is not read"),
    ("Mamba", "a state-space layer"),
    ("Jamba", "a state-space layer"),
    ("FalconH1", "a state-space layer"),
    ("Zamba", "a state-space layer"),
    ("Rwkv", "a recurrent layer"),
    ("RecurrentGemma", "a recurrent layer"),
    ("Lfm2", "a convolution in place of attention"),
    ("Gemma3n", "embeddings by layer and predicted residual streams"),
    ("ministral3", "queries that are scaled by their position"),
    ("Ministral3", "queries that are scaled by their position"),
    ("Arcee", "an MLP without a gate"),
    ("Nemotron", "an MLP without a gate and norms with a mean"),
    ("Apertus", "an MLP without a gate"),
    ("Phi4MM", "an image and speech encoder"),
    ("Phi4Flash", "a state-space layer"),
    ("GPT2", "learned positions and norms with a mean"),
    ("GPTNeoX", "a parallel residual stream and norms with a mean"),
    ("PhiFor", "a parallel residual stream and norms with a mean"),
    ("Falcon", "a parallel residual stream and norms with a mean"),
    ("Cohere", "a parallel residual stream and norms with a mean"),
    ("StableLm", "norms with a mean"),
    ("Starcoder2", "an MLP without a gate and norms with a mean"),
    ("OlmoFor", "norms with a mean and without a gain"),
    ("Glm", "interleaved rotary pairs"),
    ("T5", "an encoder with cross attention"),
    ("Bart", "an encoder with cross attention"),
    ("Whisper", "an encoder with cross attention"),
    ("Bert", "an encoder"),
    ("Roberta", "an encoder"),
    ("VLFor", "an image encoder"),
    ("Llava", "an image encoder"),
    ("Mllama", "an image encoder with cross attention"),
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

/// The packing of gpt-oss.
const MXFP4: &str = "mxfp4";

/// Refuse MXFP4 weights of any other family than that which is read so.
pub(super) fn packing(config: &Value, read: bool) -> Result<()> {
    let text = config.get("text_config").unwrap_or(config);
    let packed = |config: &Value| config["quantization_config"]["quant_method"] == MXFP4;
    if (packed(config) || packed(text)) && !read {
        return Err(Fault::new(
            "PS-MODEL-002",
            "This checkpoint is quantised with `mxfp4`, which is read for gpt-oss alone. \
             Choose the unquantised model it was made from, or a bitsandbytes 4-bit build.",
        ));
    }
    Ok(())
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
        // Whether MXFP4 is read depends on the family, which is not known yet.
        "bitsandbytes" | MXFP4 => Ok(()),
        "gptq" => packed("a GPTQ"),
        "awq" => packed("an AWQ"),
        other => refused(format!(
            "This checkpoint is quantised with `{other}`, which is not read here. \
             Choose the unquantised model it was made from, or a bitsandbytes 4-bit build."
        )),
    }
}
