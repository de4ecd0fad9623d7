//! Models worth a try, with their licences and shapes, so that a choice can be offered without a network.

use serde::Deserialize;
use serde_json::Value;
use std::sync::OnceLock;

/// A model that we know.
#[derive(Clone, Debug, Deserialize)]
pub struct Recommended {
    /// Its id at the hub.
    pub id: String,
    /// Its licence, in the words of the hub.
    pub licence: String,
    /// What the licence asks for beyond naming it, in a sentence.
    #[serde(default)]
    pub terms: Option<String>,
    /// Its terms must be accepted at the hub first.
    #[serde(default)]
    pub gated: bool,
    /// Bytes of its weights at the hub.
    pub weight_bytes: u64,
    /// What it is good for, in a few words.
    pub good_for: String,
    /// What of its `config.json` decides its shape.
    pub config: Value,
}

/// All of them, the smallest first.
///
/// # Panics
/// If the embedded list is not valid, which a test rules out.
pub fn all() -> &'static [Recommended] {
    static ALL: OnceLock<Vec<Recommended>> = OnceLock::new();
    ALL.get_or_init(|| serde_json::from_str(include_str!("../recommended.json")).expect("checked by a test"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::RepositoryId;
    use peft_plan::family::spec_from_config;

    /// Parameters as the hub counts them, which no mistake in a shape would give.
    const PARAMETERS: &[(&str, u64)] = &[
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 134_515_008),
        ("google/gemma-3-270m-it", 268_098_176),
        ("HuggingFaceTB/SmolLM2-360M-Instruct", 361_821_120),
        ("Qwen/Qwen2.5-0.5B-Instruct", 494_032_768),
        ("Qwen/Qwen3-0.6B", 596_049_920),
        ("google/gemma-3-1b-it", 999_885_952),
        ("TinyLlama/TinyLlama-1.1B-Chat-v1.0", 1_100_048_384),
        ("meta-llama/Llama-3.2-1B-Instruct", 1_235_814_400),
        ("allenai/OLMo-2-0425-1B-Instruct", 1_484_916_736),
        ("Qwen/Qwen2.5-1.5B-Instruct", 1_543_714_304),
        ("HuggingFaceTB/SmolLM2-1.7B-Instruct", 1_711_376_384),
        ("Qwen/Qwen3-1.7B", 1_720_574_976),
        ("HuggingFaceTB/SmolLM3-3B", 3_075_098_624),
        ("meta-llama/Llama-3.2-3B-Instruct", 3_212_749_824),
        ("microsoft/Phi-3.5-mini-instruct", 3_821_079_552),
        ("Qwen/Qwen3-4B", 4_022_468_096),
        ("mistralai/Mistral-7B-Instruct-v0.3", 7_248_023_552),
        ("Qwen/Qwen2.5-7B-Instruct", 7_615_616_512),
    ];

    #[test]
    fn every_shape_gives_the_published_number_of_parameters() {
        let ids: Vec<&str> = all().iter().map(|model| model.id.as_str()).collect();
        let known: Vec<&str> = PARAMETERS.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, known);
        for (model, (_, parameters)) in all().iter().zip(PARAMETERS) {
            let spec = spec_from_config(&model.config).expect(&model.id);
            assert_eq!(spec.parameters(), *parameters, "{}", model.id);
            // Two bytes each; some files hold a tied head twice.
            assert!(model.weight_bytes >= 2 * parameters && model.weight_bytes < 3 * parameters, "{}", model.id);
            assert!(RepositoryId::new(&model.id).is_some() && !model.licence.is_empty() && !model.good_for.is_empty());
        }
    }

    #[test]
    fn licences_that_ask_for_more_say_what() {
        for model in all() {
            let is_free = ["apache-2.0", "mit"].contains(&model.licence.as_str());
            assert_eq!(model.terms.is_some(), !is_free, "{}", model.id);
        }
    }
}
