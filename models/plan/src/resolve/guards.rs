//! What a plan says of trouble, and of rows that are drawn more often than others.

use serde::{Deserialize, Serialize};

/// How often the rows of one source are drawn in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceWeight {
    /// Its rows come before this one, and after those of the source before it.
    pub end: u32,
    /// Draws of each row in an epoch, on average.
    pub weight: f64,
}

/// What happens when a run goes wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GuardPlan {
    /// The loss climbs.
    pub on_divergence: Reaction,
    /// The gradient explodes.
    pub on_gradient_explosion: Reaction,
    /// Share of the memory that may be used.
    pub memory_limit_fraction: f64,
    /// Rows that are not trained on: indices into the rows as read, ascending.
    pub exclude_rows: Vec<u32>,
}

impl Default for GuardPlan {
    fn default() -> Self {
        Self {
            on_divergence: Reaction::Pause,
            on_gradient_explosion: Reaction::Rewind,
            memory_limit_fraction: 0.9,
            exclude_rows: Vec::new(),
        }
    }
}

/// What is done about trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reaction {
    /// Save and halt.
    Pause,
    /// Go back to before it, change what caused it, go on.
    Rewind,
    /// Only say so.
    Continue,
}

impl Reaction {
    fn named(name: Option<&str>, default: Self) -> Self {
        match name {
            Some("pause") => Self::Pause,
            Some("rewind" | "clip_and_rewind") => Self::Rewind,
            Some("continue") => Self::Continue,
            _ => default,
        }
    }
}

impl GuardPlan {
    /// What a configuration asks for. Rows are named by people and found where the data is.
    pub fn of_config(config: &crate::config::GuardConfig) -> Self {
        let usual = Self::default();
        Self {
            on_divergence: Reaction::named(config.on_divergence.as_deref(), usual.on_divergence),
            on_gradient_explosion: Reaction::named(
                config.on_gradient_explosion.as_deref(),
                usual.on_gradient_explosion,
            ),
            memory_limit_fraction: config.memory_limit_fraction.unwrap_or(usual.memory_limit_fraction),
            exclude_rows: Vec::new(),
        }
    }
}
