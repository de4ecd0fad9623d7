//! Preference tuning as pure functions: settings, and the losses with their gradients.
//!
//! DPO (Rafailov et al. 2023, arXiv 2305.18290) with its variants IPO (Azar et al. 2023, 2310.12036), hinge (`SLiC`,
//! Zhao et al. 2023, 2305.10425), conservative (label smoothing) and robust DPO (Ray Chowdhury et al. 2024, 2403.00409); ORPO
//! (Hong et al. 2024, 2403.07691); KTO (Ethayarajh et al. 2024, 2402.01306). Where the papers leave a choice, TRL 1.16.0
//! is followed; `tests/fixtures/preference/` holds its numbers.

use crate::config::{Method, RunConfig, TrainOn, TrainingConfig};
use crate::fault::{Fault, Result};
use serde::{Deserialize, Serialize};

/// What a run learns from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// Answers to copy.
    Sft,
    /// A better and a worse answer, against the model as it was (direct preference optimisation).
    Dpo,
    /// A better and a worse answer, without a reference (odds ratio preference optimisation).
    Orpo,
    /// Single answers marked as wanted or not (Kahneman-Tversky optimisation).
    Kto,
}

/// Every value of `training.objective`.
pub const OBJECTIVES: [&str; 4] = ["sft", "dpo", "orpo", "kto"];

/// Every value of `training.preference_loss`.
pub const PAIR_LOSSES: [&str; 4] = ["sigmoid", "robust", "hinge", "ipo"];

/// How DPO weighs the difference between two answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PairLoss {
    /// `-log σ(βΔ)`; with label smoothing ε `-(1-ε)·log σ(βΔ) - ε·log σ(-βΔ)`.
    Sigmoid,
    /// `-((1-ε)·log σ(βΔ) - ε·log σ(-βΔ)) / (1-2ε)`: unbiased where a share ε of the labels is wrong.
    Robust,
    /// `max(0, 1 - βΔ)`
    Hinge,
    /// `(Δ - 1/(2β))²`, with Δ a difference of means over tokens.
    Ipo,
}

/// The settings of a run that learns preferences; every value is there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreferencePlan {
    /// `dpo`, `orpo` or `kto`.
    pub objective: Objective,
    /// How DPO weighs a difference.
    pub loss: PairLoss,
    /// How much a difference counts; ORPO calls it lambda.
    pub beta: f64,
    /// Share of the pairs that are assumed to be the wrong way round.
    pub label_smoothing: f64,
    /// Weight of wanted answers (KTO).
    pub desirable_weight: f64,
    /// Weight of unwanted answers (KTO).
    pub undesirable_weight: f64,
}

impl Objective {
    /// The objective of a configuration; one that is unknown is a fault of [`check`].
    pub fn of(config: &RunConfig) -> Self {
        match config.training.objective.as_deref() {
            Some("dpo") => Self::Dpo,
            Some("orpo") => Self::Orpo,
            Some("kto") => Self::Kto,
            _ => Self::Sft,
        }
    }

    /// As it is written in a run file.
    pub fn name(self) -> &'static str {
        OBJECTIVES[self as usize]
    }

    /// Whether answers are compared.
    pub fn is_preference(self) -> bool {
        self != Self::Sft
    }

    /// The peak learning rate where nothing is asked for, for adapters.
    ///
    /// TRL's examples for LoRA take ten times their rate for all weights: 2e-4 for sft, 5e-6 for dpo; the same for kto.
    /// ORPO also learns the answers themselves: ten times the 8e-6 of its paper.
    pub fn learning_rate(self) -> f64 {
        match self {
            Self::Sft => 2e-4,
            Self::Dpo | Self::Kto => 5e-6,
            Self::Orpo => 8e-5,
        }
    }

    /// Share of the steps in which the rate rises, where nothing is asked for: preference losses start at their
    /// steepest, and the published recipes (Zephyr, TRL) take a tenth.
    pub fn warmup_ratio(self) -> f64 {
        if self.is_preference() { 0.1 } else { 0.03 }
    }
}

/// Check the settings of a configuration that belong to preferences.
pub fn check(config: &RunConfig) -> Result<()> {
    let t = &config.training;
    let refuse = |text: String| Err(Fault::new("PS-CFG-001", text));
    let one_of = |field: &str, value: &Option<String>, allowed: &[&str]| match value {
        Some(v) if !allowed.contains(&v.as_str()) => {
            refuse(format!("`{field}` is `{v}`; allowed is {}", allowed.join(", ")))
        }
        _ => Ok(()),
    };
    one_of("training.objective", &t.objective, &OBJECTIVES)?;
    one_of("training.preference_loss", &t.preference_loss, &PAIR_LOSSES)?;
    for (field, value, low, high) in [
        ("training.preference_beta", t.preference_beta, 1e-4, 100.0),
        ("training.label_smoothing", t.label_smoothing, 0.0, 0.499),
        ("training.kto_desirable_weight", t.kto_desirable_weight, 0.0, 1000.0),
        ("training.kto_undesirable_weight", t.kto_undesirable_weight, 0.0, 1000.0),
    ] {
        if let Some(v) = value
            && !(low..=high).contains(&v)
        {
            return refuse(format!("`{field}` is {v}; allowed is {low} to {high}"));
        }
    }
    let objective = Objective::of(config);
    let name = objective.name();
    let belongs = |field: &str, given: bool, to: &[Objective]| {
        if given && !to.contains(&objective) {
            let homes: Vec<&str> = to.iter().map(|o| o.name()).collect();
            return refuse(format!(
                "`{field}` does nothing with `training.objective` {name}; it belongs to {}",
                homes.join(", ")
            ));
        }
        Ok(())
    };
    // `preference_beta` may stand in any run file: configurations of other programs carry it along.
    belongs("training.preference_loss", t.preference_loss.is_some(), &[Objective::Dpo])?;
    belongs("training.label_smoothing", t.label_smoothing.is_some(), &[Objective::Dpo])?;
    belongs("training.kto_desirable_weight", t.kto_desirable_weight.is_some(), &[Objective::Kto])?;
    belongs("training.kto_undesirable_weight", t.kto_undesirable_weight.is_some(), &[Objective::Kto])?;
    if !objective.is_preference() {
        return Ok(());
    }
    let smoothed = t.label_smoothing.is_some_and(|v| v > 0.0);
    if smoothed && matches!(t.preference_loss.as_deref(), Some("hinge" | "ipo")) {
        return refuse(
            "`training.label_smoothing` works with `training.preference_loss` sigmoid and robust only".to_owned(),
        );
    }
    if t.kto_desirable_weight == Some(0.0) && t.kto_undesirable_weight == Some(0.0) {
        return refuse("With both weights of kto at 0 there is nothing to learn".to_owned());
    }
    if config.adapter.method == Some(Method::Full) {
        return refuse(format!(
            "`training.objective` {name} needs an adapter that can be switched off to see the model as it was; use \
             adapter.method=lora, qlora, dora or qdora"
        ));
    }
    if t.packing == Some(true) {
        return refuse(format!("`training.packing` cannot be used with `training.objective` {name}; leave it out"));
    }
    if t.train_on == Some(TrainOn::All) {
        return refuse(format!("`training.objective` {name} compares answers; `training.train_on` must be assistant"));
    }
    Ok(())
}

impl PreferencePlan {
    /// The settings of a run; `None` where it copies answers.
    pub fn of(config: &RunConfig) -> Option<Self> {
        let t: &TrainingConfig = &config.training;
        let objective = Objective::of(config);
        objective.is_preference().then(|| Self {
            objective,
            loss: match t.preference_loss.as_deref() {
                Some("robust") => PairLoss::Robust,
                Some("hinge") => PairLoss::Hinge,
                Some("ipo") => PairLoss::Ipo,
                _ => PairLoss::Sigmoid,
            },
            // The value of all three papers' main experiments and of TRL.
            beta: t.preference_beta.unwrap_or(0.1),
            label_smoothing: t.label_smoothing.unwrap_or(0.0),
            desirable_weight: t.kto_desirable_weight.unwrap_or(1.0),
            undesirable_weight: t.kto_undesirable_weight.unwrap_or(1.0),
        })
    }

    /// With the usual values.
    pub fn new(objective: Objective) -> Self {
        let loss = PairLoss::Sigmoid;
        Self { objective, loss, beta: 0.1, label_smoothing: 0.0, desirable_weight: 1.0, undesirable_weight: 1.0 }
    }

    /// Whether the model as it was is needed.
    pub fn has_reference(&self) -> bool {
        self.objective != Objective::Orpo
    }
}

/// One answer, scored: sums over its tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Answer {
    /// Log-probability under the model in training.
    pub logp: f64,
    /// Log-probability under the reference.
    pub reference: f64,
    /// Its tokens.
    pub tokens: u64,
}

impl Answer {
    fn ratio(&self) -> f64 {
        self.logp - self.reference
    }

    fn mean(&self) -> f64 {
        self.logp / self.tokens.max(1) as f64
    }
}

/// What a pair costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairTerm {
    /// Its loss.
    pub loss: f64,
    /// `d loss / d logp`, of the chosen and of the rejected answer.
    pub slopes: [f64; 2],
    /// Implicit rewards, of the chosen and of the rejected answer.
    pub rewards: [f64; 2],
}

/// What a rated answer costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RatedTerm {
    /// Its loss.
    pub loss: f64,
    /// `d loss / d logp`.
    pub slope: f64,
    /// Implicit reward.
    pub reward: f64,
    /// Whether its reward is on the right side of the mean.
    pub is_right: bool,
}

/// `log σ(x)`
fn log_sigmoid(x: f64) -> f64 {
    if x >= 0.0 { -(-x).exp().ln_1p() } else { x - x.exp().ln_1p() }
}

/// `σ(x)`
fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}

/// Loss, slopes and rewards of a pair. Of ORPO this is the odds-ratio part; the other part is the mean cross entropy of
/// the chosen conversations.
pub fn pair(plan: &PreferencePlan, chosen: &Answer, rejected: &Answer) -> PairTerm {
    if plan.objective == Objective::Orpo {
        return odds_ratio(plan.beta, chosen, rejected);
    }
    let (beta, smooth) = (plan.beta, plan.label_smoothing);
    let rewards = [beta * chosen.ratio(), beta * rejected.ratio()];
    let x = rewards[0] - rewards[1];
    // Loss and its slope by Δ.
    let (loss, slope) = match plan.loss {
        PairLoss::Sigmoid => (
            -(1.0 - smooth) * log_sigmoid(x) - smooth * log_sigmoid(-x),
            beta * (smooth * sigmoid(x) - (1.0 - smooth) * sigmoid(-x)),
        ),
        PairLoss::Robust => {
            let scale = 1.0 / (1.0 - 2.0 * smooth);
            (
                scale * (smooth * log_sigmoid(-x) - (1.0 - smooth) * log_sigmoid(x)),
                -scale * beta * ((1.0 - smooth) * sigmoid(-x) + smooth * sigmoid(x)),
            )
        }
        PairLoss::Hinge => ((1.0 - x).max(0.0), if x < 1.0 { -beta } else { 0.0 }),
        PairLoss::Ipo => {
            let lengths = [chosen, rejected].map(|a| a.tokens.max(1) as f64);
            let gap = chosen.ratio() / lengths[0] - rejected.ratio() / lengths[1] - 0.5 / beta;
            let slopes = [2.0 * gap / lengths[0], -2.0 * gap / lengths[1]];
            return PairTerm { loss: gap * gap, slopes, rewards };
        }
    };
    PairTerm { loss, slopes: [slope, -slope], rewards }
}

/// `-λ·log σ(log odds(chosen) - log odds(rejected))`, with the odds of the mean log-probability of a token.
fn odds_ratio(lambda: f64, chosen: &Answer, rejected: &Answer) -> PairTerm {
    // A token that is certain would have infinite odds.
    let [a, b] = [chosen, rejected].map(|answer| answer.mean().min(-1e-7));
    // log(1 - eᵃ), without cancellation on either side of -ln 2.
    let log_miss = |a: f64| if a < -std::f64::consts::LN_2 { (-a.exp()).ln_1p() } else { (-a.exp_m1()).ln() };
    let log_odds = (a - b) - (log_miss(a) - log_miss(b));
    let slope = -lambda * sigmoid(-log_odds);
    // d log odds / d a = 1 / (1 - eᵃ)
    let by_token = |a: f64, answer: &Answer| slope / (-a.exp_m1() * answer.tokens.max(1) as f64);
    PairTerm {
        loss: -lambda * log_sigmoid(log_odds),
        slopes: [by_token(a, chosen), -by_token(b, rejected)],
        rewards: [lambda * chosen.mean(), lambda * rejected.mean()],
    }
}

/// Loss, slope and reward of a rated answer (KTO, equation 7). `kl`: the divergence from the reference, estimated from
/// answers to other questions and not differentiated.
pub fn rated(plan: &PreferencePlan, answer: &Answer, desirable: bool, kl: f64) -> RatedTerm {
    let (weight, sign) = if desirable { (plan.desirable_weight, 1.0) } else { (plan.undesirable_weight, -1.0) };
    let value = sigmoid(sign * plan.beta * (answer.ratio() - kl));
    RatedTerm {
        loss: weight * (1.0 - value),
        slope: -weight * sign * plan.beta * value * (1.0 - value),
        reward: plan.beta * answer.ratio(),
        is_right: value > 0.5,
    }
}

/// KTO's estimate of the divergence, from mismatched answers: never below 0.
pub fn divergence(mismatched: &[Answer]) -> f64 {
    let sum: f64 = mismatched.iter().map(Answer::ratio).sum();
    (sum / mismatched.len().max(1) as f64).max(0.0)
}

/// Means over the examples of a step or an evaluation; what an objective does not have is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PreferenceMetrics {
    /// Implicit reward of chosen (wanted) answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen_reward: Option<f64>,
    /// Implicit reward of rejected (unwanted) answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected_reward: Option<f64>,
    /// Their difference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    /// Share of the pairs whose chosen answer has the larger reward; of rated answers, the share on the right side.
    pub accuracy: f64,
    /// Estimated divergence from the reference (KTO).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl: Option<f64>,
}

/// Collects [`PreferenceMetrics`], and the loss.
#[derive(Clone, Copy, Debug, Default)]
pub struct PreferenceTotals {
    /// Sum of the losses.
    pub loss: f64,
    /// Pairs or rated answers.
    pub examples: u64,
    rewards: [f64; 2],
    counts: [u64; 2],
    right: u64,
    kl: Option<f64>,
}

impl PreferenceTotals {
    /// One pair.
    pub fn pair(&mut self, term: &PairTerm) {
        self.loss += term.loss;
        self.examples += 1;
        for side in 0..2 {
            self.rewards[side] += term.rewards[side];
            self.counts[side] += 1;
        }
        self.right += u64::from(term.rewards[0] > term.rewards[1]);
    }

    /// One rated answer, under the divergence `kl`.
    pub fn rated(&mut self, term: &RatedTerm, desirable: bool, kl: f64) {
        self.loss += term.loss;
        self.examples += 1;
        let side = usize::from(!desirable);
        self.rewards[side] += term.reward;
        self.counts[side] += 1;
        self.right += u64::from(term.is_right);
        self.kl = Some(kl);
    }

    /// The means.
    pub fn metrics(&self) -> PreferenceMetrics {
        let mean = |side: usize| (self.counts[side] > 0).then(|| self.rewards[side] / self.counts[side] as f64);
        let (chosen_reward, rejected_reward) = (mean(0), mean(1));
        PreferenceMetrics {
            chosen_reward,
            rejected_reward,
            margin: chosen_reward.zip(rejected_reward).map(|(chosen, rejected)| chosen - rejected),
            accuracy: self.right as f64 / self.examples.max(1) as f64,
            kl: self.kl,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(logp: f64, reference: f64, tokens: u64) -> Answer {
        Answer { logp, reference, tokens }
    }

    fn plans() -> Vec<PreferencePlan> {
        let with = |objective, loss, label_smoothing| PreferencePlan {
            loss,
            label_smoothing,
            beta: 0.3,
            ..PreferencePlan::new(objective)
        };
        vec![
            with(Objective::Dpo, PairLoss::Sigmoid, 0.0),
            with(Objective::Dpo, PairLoss::Sigmoid, 0.2),
            with(Objective::Dpo, PairLoss::Robust, 0.2),
            with(Objective::Dpo, PairLoss::Hinge, 0.0),
            with(Objective::Dpo, PairLoss::Ipo, 0.0),
            with(Objective::Orpo, PairLoss::Sigmoid, 0.0),
        ]
    }

    #[test]
    fn slopes_are_those_of_finite_differences() {
        for plan in plans() {
            for (a, b) in [(-7.0, -9.0), (-30.0, -4.0), (-1.0, -2.5)] {
                let loss = |a: f64, b: f64| pair(&plan, &answer(a, -8.0, 4), &answer(b, -7.5, 3)).loss;
                let term = pair(&plan, &answer(a, -8.0, 4), &answer(b, -7.5, 3));
                let h = 1e-5;
                let measured =
                    [(loss(a + h, b) - loss(a - h, b)) / (2.0 * h), (loss(a, b + h) - loss(a, b - h)) / (2.0 * h)];
                for (slope, measured) in term.slopes.iter().zip(measured) {
                    assert!((slope - measured).abs() < 1e-7, "{plan:?} {a} {b}: {slope} {measured}");
                }
            }
        }
        let plan = PreferencePlan { desirable_weight: 1.4, ..PreferencePlan::new(Objective::Kto) };
        for desirable in [true, false] {
            let loss = |a: f64| rated(&plan, &answer(a, -8.0, 4), desirable, 0.7).loss;
            let measured = (loss(-5.0 + 1e-5) - loss(-5.0 - 1e-5)) / 2e-5;
            let slope = rated(&plan, &answer(-5.0, -8.0, 4), desirable, 0.7).slope;
            assert!((slope - measured).abs() < 1e-8, "{slope} {measured}");
        }
    }

    #[test]
    fn a_model_that_has_not_moved_loses_ln_2_and_pulls_the_pair_apart() {
        let plan = PreferencePlan::new(Objective::Dpo);
        let term = pair(&plan, &answer(-5.0, -5.0, 3), &answer(-9.0, -9.0, 3));
        assert!((term.loss - std::f64::consts::LN_2).abs() < 1e-15);
        assert!((term.slopes[0] + 0.05).abs() < 1e-15 && (term.slopes[1] - 0.05).abs() < 1e-15, "{term:?}");
        let mut totals = PreferenceTotals::default();
        totals.pair(&term);
        assert!(totals.metrics().accuracy.abs() < 1e-15, "equal rewards decide nothing");
        assert_eq!(totals.metrics().margin, Some(0.0));
    }

    #[test]
    fn nothing_overflows_however_far_apart_answers_are() {
        for plan in plans() {
            for (a, b) in [(0.0, -1e6), (-1e6, 0.0), (0.0, 0.0), (-1e-300, -1e5)] {
                let term = pair(&plan, &answer(a, -5.0, 9), &answer(b, -5.0, 2));
                let numbers = [term.loss, term.slopes[0], term.slopes[1]];
                assert!(numbers.iter().all(|n| n.is_finite()), "{plan:?} {a} {b}: {term:?}");
            }
        }
        let plan = PreferencePlan::new(Objective::Kto);
        for logp in [0.0, -1e7] {
            let term = rated(&plan, &answer(logp, -1e3, 5), false, 0.0);
            assert!(term.loss.is_finite() && term.slope.is_finite());
        }
    }

    #[test]
    fn the_divergence_is_a_mean_that_is_never_negative() {
        let mean = divergence(&[answer(-1.0, -3.0, 1), answer(-2.0, -3.0, 1)]);
        assert!((mean - 1.5).abs() < 1e-15, "{mean}");
        assert!(divergence(&[answer(-9.0, -3.0, 1)]).abs() < 1e-15 && divergence(&[]).abs() < 1e-15);
    }

    #[test]
    fn impossible_settings_are_refused_by_name() {
        let fault = |settings: &[&str]| {
            let mut config = RunConfig::default();
            for setting in settings {
                config.set(setting).expect("a known setting");
            }
            check(&config).err().map(|fault| (fault.code, fault.detail))
        };
        assert_eq!(fault(&[]), None);
        for objective in ["sft", "dpo", "orpo", "kto"] {
            assert_eq!(fault(&[&format!("training.objective={objective}")]), None);
        }
        for (settings, named) in [
            (&["training.objective=ppo"][..], "training.objective"),
            (&["training.objective=dpo", "training.preference_beta=0"], "training.preference_beta"),
            (&["training.objective=dpo", "training.preference_beta=-1"], "training.preference_beta"),
            (&["training.objective=dpo", "training.label_smoothing=0.5"], "training.label_smoothing"),
            (&["training.objective=dpo", "training.preference_loss=cosine"], "training.preference_loss"),
            (&["training.objective=kto", "training.kto_desirable_weight=-1"], "kto_desirable_weight"),
            (&["training.label_smoothing=0.2"], "training.label_smoothing"),
            (&["training.objective=orpo", "training.label_smoothing=0.1"], "training.label_smoothing"),
            (&["training.objective=dpo", "training.kto_undesirable_weight=1"], "kto_undesirable_weight"),
            (&["training.objective=dpo", "adapter.method=full"], "adapter.method"),
            (&["training.objective=dpo", "training.packing=true"], "training.packing"),
            (&["training.objective=kto", "training.train_on=all"], "training.train_on"),
            (
                &["training.objective=dpo", "training.preference_loss=ipo", "training.label_smoothing=0.1"],
                "training.label_smoothing",
            ),
            (
                &["training.objective=kto", "training.kto_desirable_weight=0", "training.kto_undesirable_weight=0"],
                "nothing to learn",
            ),
        ] {
            let (code, detail) = fault(settings).expect("refused");
            assert_eq!(code, "PS-CFG-001");
            assert!(detail.contains(named), "{settings:?}: {detail}");
        }
    }
}
