//! What a run will take: time, energy, money, carbon, disk (S4.9, B11). A pure function of facts, plan and a
//! calibration, so that it can be made anew on every change of a setting.
//!
//! The calibration holds seconds that were measured with the real kernels on this machine; how they grow with the
//! settings is counted in multiplications.

mod passes;

use crate::config::Method;
use crate::event::Interval;
use crate::facts::{Facts, Targets};
use crate::lengths::Lengths;
use crate::order::weighted_steps;
use crate::preference::PreferencePlan;
use crate::resolve::TrainingPlan;
use passes::{Passes, squares};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// Seconds that one block took for a micro-batch, forward and backward.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Tokens of the micro-batch.
    pub tokens: usize,
    /// Σ tokens² of its examples, which attention grows with.
    pub squares: f64,
    /// Forward and backward.
    pub seconds: f64,
    /// Forward alone.
    pub forward_seconds: f64,
}

/// What was measured on this machine, with a model of these shapes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Method that was measured.
    pub method: Method,
    /// Rank that was measured.
    pub rank: usize,
    /// With dropout.
    pub dropout: bool,
    /// Micro-batches of different sizes, the smallest first.
    pub points: Vec<Point>,
    /// One trained row through the head, forward and backward.
    pub head_row_seconds: f64,
    /// The optimizer, a trained parameter.
    pub update_seconds: f64,
    /// One more token of every answer, of as many as a run gives at an evaluation, through the whole model.
    pub answer_seconds: f64,
    /// Building a block: reading it, and quantising where the method does.
    pub build_seconds: f64,
    /// A small file, durably.
    pub sync_seconds: f64,
    /// And every byte of a large one.
    pub write_seconds_per_byte: f64,
    /// Threads that computed.
    pub threads: usize,
    /// Power while it ran, where the processor says.
    pub watts: Option<f64>,
    /// What finished runs took over what had been expected, in this machine's past; 1 before the first.
    pub correction: f64,
}

/// What electricity costs and causes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Price of a kilowatt-hour.
    pub electricity_rate: f64,
    /// In this currency.
    pub currency: String,
    /// Where the price is from.
    pub electricity_source: String,
    /// Grams of CO₂ a kilowatt-hour.
    pub carbon_grams_per_kwh: f64,
    /// Where that is from.
    pub carbon_source: String,
}

/// `energy.json`: numbers of others, each with its source.
#[derive(Clone, Debug, Deserialize)]
pub struct EnergyData {
    /// A busy core.
    pub processor_watts_per_core: Sourced,
    /// Memory that is powered.
    pub memory_watts_per_gigabyte: Sourced,
    /// A price.
    pub electricity: Price,
    /// By country, and `world`.
    pub carbon_grams_per_kwh: BTreeMap<String, Sourced>,
}

/// A number and where it is from.
#[derive(Clone, Debug, Deserialize)]
pub struct Sourced {
    /// The number.
    pub value: f64,
    /// Where it is from.
    pub source: String,
}

/// A price and where it is from.
#[derive(Clone, Debug, Deserialize)]
pub struct Price {
    /// A kilowatt-hour.
    pub rate: f64,
    /// In this currency.
    pub currency: String,
    /// Where it is from.
    pub source: String,
}

/// The numbers of others.
///
/// # Panics
/// If the embedded file is not valid, which a test rules out.
pub fn energy_data() -> &'static EnergyData {
    static DATA: OnceLock<EnergyData> = OnceLock::new();
    DATA.get_or_init(|| serde_json::from_str(include_str!("../energy.json")).expect("energy.json is checked by a test"))
}

impl Default for Rates {
    fn default() -> Self {
        let data = energy_data();
        let carbon = &data.carbon_grams_per_kwh["world"];
        Self {
            electricity_rate: data.electricity.rate,
            currency: data.electricity.currency.clone(),
            electricity_source: data.electricity.source.clone(),
            carbon_grams_per_kwh: carbon.value,
            carbon_source: carbon.source.clone(),
        }
    }
}

/// What a run will take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Active time of the run.
    pub seconds: Interval,
    /// Before its first step: reading the model and the data.
    pub loading_seconds: f64,
    /// Hours of the device that computes.
    pub device_hours: f64,
    /// Energy.
    pub energy_kwh: f64,
    /// Mean power.
    pub watts: f64,
    /// Where the power is from.
    pub power_source: String,
    /// Price of it.
    pub cost: f64,
    /// In this currency.
    pub currency: String,
    /// A kilowatt-hour.
    pub electricity_rate: f64,
    /// Where the rate is from.
    pub electricity_source: String,
    /// Carbon.
    pub carbon_grams: f64,
    /// A kilowatt-hour.
    pub carbon_grams_per_kwh: f64,
    /// Where that is from.
    pub carbon_source: String,
    /// Full states, small adapters and the result.
    pub disk_bytes: u64,
    /// Optimizer steps.
    pub steps: u64,
    /// Examples a step.
    pub examples_per_step: usize,
}

/// Micro-batches that are looked at; the mean of more is the same.
const SAMPLED: usize = 4000;

/// What `plan` will take under `facts`.
pub fn estimate(facts: &Facts, plan: &TrainingPlan, calibration: &Calibration, rates: &Rates) -> Estimate {
    let spec = facts.spec;
    let targets = facts.targets.clone().unwrap_or_else(|| Targets::all(spec));
    let blocks = spec.layers.len() as f64;
    let first = |all: &[usize]| -> Vec<usize> { all.iter().take(SAMPLED * 4).copied().collect() };
    let cut = Lengths::cut(&first(facts.lengths), &first(&facts.data.firsts), plan);
    let weights: Vec<f64> = facts.weights.iter().take(SAMPLED * 4).copied().collect();
    let learnt = if facts.data.learnt_share > 0.0 { facts.data.learnt_share } else { 1.0 };
    let passes = Passes { facts, plan, calibration, targets: &targets, learnt };

    let steps = weighted_steps(&cut.whole, &weights, &plan.order(), 0);
    // What every step takes, and what only the first look at its examples does.
    let (mut seconds, mut referring) = (0.0, 0.0);
    let mut counted = 0usize;
    let mut micros = 0usize;
    for step in &steps {
        counted += 1;
        for micro in step {
            micros += 1;
            let sequences: Vec<[usize; 2]> = micro.iter().map(|&i| cut.sequences(i)).collect();
            let (each, once) = passes.micro_batch(&sequences);
            seconds += each;
            referring += once;
        }
        if micros >= SAMPLED {
            break;
        }
    }
    let per_step = seconds / counted.max(1) as f64;
    let trainable = targets.trainable(spec, plan.method, plan.rank);
    let update = trainable as f64 * calibration.update_seconds;
    let mut total = plan.total_steps as f64 * (per_step + update);
    // An example meets its reference once.
    total += (plan.total_steps as f64)
        .min(steps.len() as f64 * (facts.lengths.len() as f64 / cut.whole.len().max(1) as f64))
        * (referring / counted.max(1) as f64);

    let adapter_bytes = trainable * 4;
    let save =
        |bytes: u64, files: f64| files * calibration.sync_seconds + bytes as f64 * calibration.write_seconds_per_byte;
    let is_full = plan.method == Method::Full;
    // A full state, and the small adapter beside it.
    let state_bytes = trainable * 12;
    let checkpoint = save(state_bytes, 6.0) + if is_full { 0.0 } else { save(adapter_bytes, 2.0) };

    // Before the first step, within the run, and after the last.
    let every = plan.evaluate_every;
    let within = plan.total_steps.checked_div(every).unwrap_or(0);
    let looks = 1.0 + within as f64 + f64::from(u8::from(every == 0 || !plan.total_steps.is_multiple_of(every)));
    let held_out = Lengths::cut(&facts.data.held_out, &facts.data.held_out_firsts, plan);
    let look: f64 = {
        let sequences: Vec<[usize; 2]> = (0..held_out.whole.len()).map(|i| held_out.sequences(i)).collect();
        let tokens: usize = held_out.whole.iter().sum();
        let typical = crate::facts::score_rows(&held_out.whole).max(1) as f64;
        passes.scored(tokens as f64, squares(sequences.iter().flatten()), (tokens as f64 / typical).max(1.0))
    };
    if !held_out.whole.is_empty() {
        if plan.preference.as_ref().is_some_and(PreferencePlan::has_reference) {
            total += look;
        }
        total += looks * look + if is_full { 0.0 } else { (looks - 1.0) * save(adapter_bytes, 1.0) };
    }
    total += passes.answers(&held_out.whole, looks) + passes.probes(&held_out.whole, &cut.whole);
    total *= calibration.correction;
    let by_time = if plan.checkpoint_every_seconds > 0.0 {
        (total / plan.checkpoint_every_seconds).floor()
    } else {
        plan.total_steps as f64
    };
    // Those that a run can go back to are saved as well, whatever else is asked for.
    let by_steps =
        (plan.total_steps / plan.checkpoint_every_steps.unwrap_or(u64::MAX).min(plan.anchor_every()).max(1)) as f64;
    let saves = by_time.max(by_steps) + 1.0;
    total += saves * checkpoint;
    // The result.
    let result_bytes = if is_full { facts.model.stored_bytes } else { adapter_bytes };
    total += save(result_bytes, 3.0);

    let loading_seconds = calibration.build_seconds * blocks + facts.model.stored_bytes as f64 / 1.5e9;
    let (watts, power_source) = power(facts, calibration);
    let hours = (total + loading_seconds) / 3600.0;
    let energy_kwh = watts * hours / 1000.0;
    Estimate {
        seconds: interval(total),
        loading_seconds,
        device_hours: hours,
        energy_kwh,
        watts,
        power_source,
        cost: energy_kwh * rates.electricity_rate,
        currency: rates.currency.clone(),
        electricity_rate: rates.electricity_rate,
        electricity_source: rates.electricity_source.clone(),
        carbon_grams: energy_kwh * rates.carbon_grams_per_kwh,
        carbon_grams_per_kwh: rates.carbon_grams_per_kwh,
        carbon_source: rates.carbon_source.clone(),
        disk_bytes: disk_bytes(plan, trainable, facts.model.stored_bytes, saves as u64),
        steps: plan.total_steps,
        examples_per_step: plan.micro_batch_size * plan.gradient_accumulation,
    }
}

/// Disk that a run takes: the full states that are kept and one that is being written, the small adapter of each of
/// `saves` checkpoints, the best one, and the result.
pub fn disk_bytes(plan: &TrainingPlan, trainable: u64, model_bytes: u64, saves: u64) -> u64 {
    let states = (plan.checkpoint_keep as u64 + 1) * trainable * 12;
    states + if plan.method == Method::Full { model_bytes } else { (saves + 2) * trainable * 4 }
}

/// The interval around an expected duration: high over low is below 1.5, and below 2 where all of it is under 30 s.
pub fn interval(expected: f64) -> Interval {
    if expected * 1.22 < 30.0 {
        return Interval { low: expected / 1.40, expected, high: (expected * 1.40).min(29.99) };
    }
    Interval { low: expected / 1.22, expected, high: expected * 1.22 }
}

fn power(facts: &Facts, calibration: &Calibration) -> (f64, String) {
    if let Some(watts) = calibration.watts {
        return (watts, "measured by the processor (RAPL) while it was calibrated".to_owned());
    }
    let data = energy_data();
    let memory = facts.machine.map_or(0.0, |m| m.memory_bytes as f64 / 1e9);
    let watts = calibration.threads as f64 * data.processor_watts_per_core.value
        + memory * data.memory_watts_per_gigabyte.value;
    (watts, data.processor_watts_per_core.source.clone())
}

#[cfg(test)]
mod tests;
