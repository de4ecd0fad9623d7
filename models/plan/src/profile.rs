//! Optimisation profiles: what people want to make, and the settings that suit it (S4.3). Data, not code:
//! `profiles.json` beside the sources.

use crate::config::RunConfig;
use crate::fault::{Fault, Result};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// A profile.
#[derive(Clone, Debug, Deserialize)]
pub struct Profile {
    /// What `use_case` and `--profile` say.
    pub id: String,
    /// What people read.
    pub name: String,
    /// Other spellings of the id.
    pub aliases: Vec<String>,
    /// One line.
    pub description: String,
    /// What it is good for.
    pub example_uses: Vec<String>,
    /// Questions to try a trained model with (S4.7.2).
    pub example_prompts: Vec<String>,
    /// About so many examples make a good result.
    pub examples_needed: usize,
    /// Tokens of a typical example.
    pub typical_tokens: usize,
    /// Its values, laid out as a run file.
    pub settings: Value,
    /// Why a value is what it is, by its key.
    pub reasons: BTreeMap<String, String>,
    /// What is looked at besides the settings.
    pub checks: Vec<String>,
}

impl Profile {
    /// Its values as a configuration.
    pub fn config(&self) -> Result<RunConfig> {
        RunConfig::from_value(self.settings.clone())
    }
}

/// A model to estimate with where none is named.
#[derive(Clone, Debug, Deserialize)]
pub struct ReferenceModel {
    /// What it is, for people.
    pub name: String,
    /// Bytes of its tensors.
    pub stored_bytes: u64,
    /// Bytes of its tokenizer.
    pub tokenizer_bytes: u64,
    /// Its `config.json`.
    pub config: Value,
}

#[derive(Deserialize)]
struct File {
    reference_model: ReferenceModel,
    profiles: Vec<Profile>,
}

fn file() -> &'static File {
    static FILE: OnceLock<File> = OnceLock::new();
    FILE.get_or_init(|| {
        serde_json::from_str(include_str!("../profiles.json")).expect("profiles.json is checked by a test")
    })
}

/// All profiles, in the order they are shown.
pub fn profiles() -> &'static [Profile] {
    &file().profiles
}

/// A model to estimate with where none is named.
pub fn reference_model() -> &'static ReferenceModel {
    &file().reference_model
}

/// The profile that `name` means: its id, its name or an alias, however it is spelt. PS-CFG-001 for anything else.
pub fn find(name: &str) -> Result<&'static Profile> {
    let plain = |text: &str| text.trim().to_lowercase().replace([' ', '_', '/'], "-");
    let wanted = &plain(name);
    let names = |p: &'static Profile| [&p.id, &p.name].into_iter().chain(&p.aliases);
    if let Some(found) = profiles().iter().find(|p| names(p).any(|n| plain(n) == *wanted)) {
        return Ok(found);
    }
    let nearest = profiles()
        .iter()
        .flat_map(|p| names(p).map(move |n| (strsim::jaro_winkler(&plain(n), wanted), p)))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map_or("chatbot", |(_, p)| p.id.as_str());
    let known: Vec<&str> = profiles().iter().map(|p| p.id.as_str()).collect();
    Err(Fault::new("PS-CFG-001", format!("`use_case` is `{name}`; allowed is {}", known.join(", ")))
        .action(format!("Use `{nearest}`, the nearest"), None)
        .action("See what each is for", Some("peft-studio profiles".to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_nine_profiles_each_complete_s4_3_1_s4_3_2() {
        assert!(profiles().len() >= 9);
        for p in profiles() {
            assert!(p.example_uses.len() >= 3 && p.example_prompts.len() >= 3, "{}", p.id);
            assert!(!p.description.is_empty() && p.examples_needed > 0, "{}", p.id);
            let c = p.config().expect("its settings are a run file");
            crate::resolve::check_values(&c).expect("its values are possible");
            let (a, t) = (&c.adapter, &c.training);
            assert!(a.rank.is_some() && a.alpha.is_some() && a.target_modules.is_some(), "{}", p.id);
            assert!(t.learning_rate.is_some() && t.epochs.is_some() && t.max_sequence_length.is_some(), "{}", p.id);
            for key in p.reasons.keys() {
                let known = p.settings.pointer(&format!("/{}", key.replace('.', "/")));
                assert!(known.is_some(), "{}: a reason for {key}, which it does not set", p.id);
            }
            assert_eq!(find(&p.id).expect("by id").id, p.id);
            assert_eq!(find(&p.name).expect("by name").id, p.id);
        }
    }

    #[test]
    fn chatbot_and_code_are_what_they_must_be_s4_3_4_s4_3_5() {
        let chat = find("Chatbot").expect("there").config().expect("valid");
        assert!(chat.training.max_sequence_length >= Some(2048));
        let code = find("code generation").expect("there");
        let config = code.config().expect("valid");
        assert_eq!(config.training.max_sequence_length, Some(4096));
        assert!(code.checks.iter().any(|c| c.contains("indentation")), "syntax is kept");
    }

    #[test]
    fn the_reference_model_is_one_that_can_be_trained() {
        let spec = crate::family::spec_from_config(&reference_model().config).expect("a known model");
        assert_eq!(spec.parameters() * 2 / 1_000_000, reference_model().stored_bytes / 1_000_000);
    }

    #[test]
    fn an_unknown_profile_names_the_nearest() {
        let fault = find("chatbt").expect_err("unknown");
        assert_eq!(fault.code, "PS-CFG-001");
        assert!(fault.shown_actions()[0].label.contains("chatbot"));
    }
}
