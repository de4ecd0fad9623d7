//! Which experts answer a token, and with what weight. On the host: a few numbers a token.

use std::ops::Range;

/// The choice of a router for the tokens of a pass.
///
/// An answer is a token and one of its experts; answers are sorted by expert and, within one, by token.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Routes {
    /// Token of each answer.
    pub tokens: Vec<u32>,
    /// Expert of each answer.
    experts: Vec<u32>,
    /// What each answer is multiplied by.
    pub weights: Vec<f32>,
    /// Every expert that answers, with its answers.
    pub runs: Vec<(usize, Range<usize>)>,
    /// `[tokens, experts]`: the weights before the choice, empty where only the chosen ones count.
    probabilities: Vec<f32>,
    count: usize,
}

impl Routes {
    /// The `top_k` experts with the largest of `logits` (`[tokens, count]`), the first where they are equal.
    ///
    /// `normalised`: the weights of a token are a softmax over its own experts; otherwise over all experts.
    pub fn choose(logits: &[f32], count: usize, top_k: usize, normalised: bool) -> Self {
        let mut answers: Vec<(u32, u32, f32)> = Vec::with_capacity(logits.len() / count.max(1) * top_k);
        let mut probabilities = Vec::new();
        let mut order: Vec<u32> = Vec::with_capacity(count);
        for (token, row) in logits.chunks_exact(count.max(1)).enumerate() {
            order.clear();
            order.extend(0..count as u32);
            order.sort_by(|&a, &b| row[b as usize].total_cmp(&row[a as usize]));
            let chosen = &order[..top_k];
            let top = f64::from(row[chosen[0] as usize]);
            let power = |expert: u32| (f64::from(row[expert as usize]) - top).exp();
            let sum: f64 = if normalised { chosen } else { &order }.iter().map(|&e| power(e)).sum();
            if !normalised {
                probabilities.extend((0..count as u32).map(|e| (power(e) / sum) as f32));
            }
            answers.extend(chosen.iter().map(|&e| (e, token as u32, (power(e) / sum) as f32)));
        }
        answers.sort_by_key(|&(expert, token, _)| (expert, token));
        let mut runs: Vec<(usize, Range<usize>)> = Vec::new();
        for (i, &(expert, ..)) in answers.iter().enumerate() {
            match runs.last_mut() {
                Some((last, run)) if *last == expert as usize => run.end = i + 1,
                _ => runs.push((expert as usize, i..i + 1)),
            }
        }
        Self {
            tokens: answers.iter().map(|a| a.1).collect(),
            experts: answers.iter().map(|a| a.0).collect(),
            weights: answers.iter().map(|a| a.2).collect(),
            runs,
            probabilities,
            count,
        }
    }

    /// Gradient of the logits, `[tokens, count]`, from the gradient of each answer's weight. Which experts were chosen
    /// takes no gradient.
    pub fn backward(&self, dweights: &[f32], tokens: usize) -> Vec<f32> {
        let count = self.count;
        // Σ w·dw of each token.
        let mut means = vec![0.0_f64; tokens];
        for ((&token, &w), &dw) in self.tokens.iter().zip(&self.weights).zip(dweights) {
            means[token as usize] += f64::from(w) * f64::from(dw);
        }
        // dl = w·(dw − Σ w·dw), where an expert that was not chosen has dw = 0 and, normalised, w = 0.
        let mut dlogits: Vec<f32> = if self.probabilities.is_empty() {
            vec![0.0; tokens * count]
        } else {
            let rows = self.probabilities.chunks_exact(count).zip(&means);
            rows.flat_map(|(row, mean)| row.iter().map(move |&p| (-f64::from(p) * mean) as f32)).collect()
        };
        let answers = self.tokens.iter().zip(&self.experts).zip(&self.weights).zip(dweights);
        for (((&token, &expert), &w), &dw) in answers {
            let slope = f64::from(w) * (f64::from(dw) - means[token as usize]);
            dlogits[token as usize * count + expert as usize] = slope as f32;
        }
        dlogits
    }
}

#[cfg(test)]
mod tests {
    use super::Routes;

    const LOGITS: [f32; 8] = [0.5, 2.0, -1.0, 1.0, 3.0, 3.0, 0.0, 1.5];

    #[test]
    fn the_largest_are_chosen_and_the_first_of_equal_ones() {
        let routes = Routes::choose(&LOGITS, 4, 2, true);
        assert_eq!(routes.tokens, [1, 0, 1, 0]);
        assert_eq!(routes.runs, [(0, 0..1), (1, 1..3), (3, 3..4)]);
        let sum = routes.weights[1] + routes.weights[3];
        assert!((sum - 1.0).abs() < 1e-6 && (routes.weights[0] - 0.5).abs() < 1e-7, "{:?}", routes.weights);
        assert!(Routes::choose(&[0.0; 4], 4, 1, true).runs == [(0, 0..1)]);
    }

    #[test]
    fn weights_that_are_not_normalised_are_shares_of_all_experts() {
        let routes = Routes::choose(&LOGITS[..4], 4, 2, false);
        let powers: Vec<f64> = LOGITS[..4].iter().map(|&x| f64::from(x).exp()).collect();
        let total: f64 = powers.iter().sum();
        for (w, p) in routes.weights.iter().zip([powers[1], powers[3]]) {
            assert!((f64::from(*w) - p / total).abs() < 1e-7);
        }
    }

    /// Central differences of `Σ g·weight`, with steps that change no choice.
    #[test]
    fn the_gradient_of_the_logits_is_that_of_the_weights() {
        let logits: [f32; 8] = [0.5, 2.0, -1.0, 1.0, 3.0, 2.7, 0.0, 1.5];
        let g = [0.7_f32, -0.4, 1.1, 0.3];
        for normalised in [true, false] {
            let value = |logits: &[f32]| -> f64 {
                let routes = Routes::choose(logits, 4, 2, normalised);
                routes.weights.iter().zip(g).map(|(w, g)| f64::from(w * g)).sum()
            };
            let got = Routes::choose(&logits, 4, 2, normalised).backward(&g, 2);
            for i in 0..8 {
                let (mut above, mut below) = (logits, logits);
                above[i] += 0.01;
                below[i] -= 0.01;
                let want = (value(&above) - value(&below)) / 0.02;
                assert!((f64::from(got[i]) - want).abs() < 2e-5, "{normalised} {i}: {} {want}", got[i]);
            }
        }
    }

    #[test]
    fn no_tokens_have_no_routes() {
        let routes = Routes::choose(&[], 4, 2, true);
        assert!(routes.runs.is_empty() && routes.backward(&[], 0).is_empty());
    }
}
