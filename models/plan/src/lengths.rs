//! How many tokens a run computes together: what its examples, its order and its objective make of a micro-batch.

use crate::facts::score_rows;
use crate::memory::Rows;
use crate::order;
use crate::preference::Objective;
use crate::resolve::TrainingPlan;

/// Tokens of examples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lengths {
    /// Of each, all of it.
    pub whole: Vec<usize>,
    /// Of the first of two sequences, where examples compare; empty otherwise.
    pub firsts: Vec<usize>,
}

impl Lengths {
    /// As `plan` cuts them: its limit holds for each sequence.
    pub fn cut(whole: &[usize], firsts: &[usize], plan: &TrainingPlan) -> Self {
        let limit = plan.max_sequence_length;
        if firsts.len() != whole.len() {
            let longest = plan.longest_example();
            return Self { whole: whole.iter().map(|&l| l.min(longest)).collect(), firsts: Vec::new() };
        }
        let both = whole.iter().zip(firsts);
        Self {
            whole: both.map(|(&all, &first)| first.min(limit) + all.saturating_sub(first).min(limit)).collect(),
            firsts: firsts.iter().map(|&first| first.min(limit)).collect(),
        }
    }

    /// Tokens of the sequences of example `i`; the second has none where there is one.
    pub fn sequences(&self, i: usize) -> [usize; 2] {
        let first = self.firsts.get(i).copied().unwrap_or(self.whole[i]);
        [first, self.whole[i] - first]
    }

    /// Most tokens that `plan` computes together. `weights`: how often each example is drawn; empty where that is once.
    pub fn rows(&self, held_out: &[usize], weights: &[f64], plan: &TrainingPlan) -> Rows {
        let params = plan.order();
        let widest = |of: &[usize], weights: &[f64]| order::widest(&self.whole, of, weights, &params, plan.total_steps);
        let all = widest(&self.whole, weights);
        let score = score_rows(held_out);
        let Some(preference) = &plan.preference else { return Rows { train: all, score } };
        // A reference looks at the micro-batches of an epoch in which every example is drawn once.
        let referred = if preference.has_reference() && !weights.is_empty() { widest(&self.whole, &[]) } else { 0 };
        match preference.objective {
            // Somebody else's answer is only scored.
            Objective::Kto if !self.firsts.is_empty() => {
                Rows { train: widest(&self.firsts, weights), score: score.max(all).max(referred) }
            }
            _ => Rows { train: all, score: score.max(referred) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RunConfig;
    use crate::facts::Facts;
    use crate::family::spec_from_config;
    use crate::resolve::resolve;
    use serde_json::json;

    const WHOLE: [usize; 4] = [100, 60, 80, 300];
    const FIRSTS: [usize; 4] = [70, 20, 40, 200];

    fn plan(settings: &[&str]) -> TrainingPlan {
        let spec = spec_from_config(&json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 96, "hidden_size": 32,
            "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "rope_theta": 1e4
        }))
        .expect("a model");
        let mut config = RunConfig::default();
        let usual = ["model.id=m", "dataset.path=d", "training.micro_batch_size=4", "training.max_sequence_length=150"];
        for setting in usual.iter().chain(settings) {
            config.set(setting).expect("a known setting");
        }
        resolve(&config, &Facts::bare(&spec, &WHOLE, 1)).expect("a plan")
    }

    fn rows(settings: &[&str]) -> Rows {
        let plan = plan(settings);
        Lengths::cut(&WHOLE, &FIRSTS, &plan).rows(&[500, 600], &[], &plan)
    }

    #[test]
    fn each_sequence_is_cut_and_both_are_computed_together() {
        let plan = plan(&["training.objective=dpo"]);
        let cut = Lengths::cut(&WHOLE, &FIRSTS, &plan);
        assert_eq!((cut.whole[3], cut.sequences(3)), (250, [150, 100]));
        assert_eq!(rows(&["training.objective=dpo"]), Rows { train: 100 + 60 + 80 + 250, score: 600 });
        let alone = Lengths::cut(&WHOLE, &[], &plan);
        assert_eq!(alone.sequences(0), [100, 0]);
    }

    #[test]
    fn rated_answers_are_trained_on_alone_and_scored_with_another() {
        let wanted = Rows { train: 70 + 20 + 40 + 150, score: 600 };
        assert_eq!(rows(&["training.objective=kto"]), wanted);
        let plan = plan(&["training.objective=kto"]);
        let nothing_held_out = Lengths::cut(&WHOLE, &FIRSTS, &plan).rows(&[], &[], &plan);
        assert_eq!(nothing_held_out, Rows { score: 490, ..wanted });
    }
}
