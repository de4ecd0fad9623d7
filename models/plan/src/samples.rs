//! How many prompts a run answers at each evaluation, and how long the answers may get (S4.7).

use crate::config::EvaluationConfig;
use serde::{Deserialize, Serialize};

/// Held-out examples that are asked where nothing else is said.
const USUAL: usize = 3;
/// Longest answer where nothing else is said, tokens.
const USUAL_TOKENS: usize = 64;

/// The answers of each evaluation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SamplePlan {
    /// Prompts.
    pub prompts: usize,
    /// Longest answer, tokens.
    pub tokens: usize,
}

impl SamplePlan {
    /// What a configuration asks for, where so many rows are held out.
    pub fn of_config(config: &EvaluationConfig, held_out: usize) -> Self {
        let there_are = config.sample_prompts.as_ref().map_or(held_out, Vec::len);
        let wanted = config.samples.unwrap_or(if config.sample_prompts.is_some() { usize::MAX } else { USUAL });
        Self { prompts: there_are.min(wanted), tokens: config.sample_tokens.unwrap_or(USUAL_TOKENS) }
    }
}
