//! Two to five runs side by side (S4.11): the best of each metric, what was set differently, series to draw.

use peft_plan::{Fault, Result};
use peft_storage::{Evaluation, Run, StepMetrics, Store};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Fewest and most runs that are compared.
const RUNS: std::ops::RangeInclusive<usize> = 2..=5;

/// Runs side by side. Lists are in the order of the runs.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The runs.
    pub runs: Vec<Run>,
    /// Value of each metric of each run.
    pub metrics: BTreeMap<&'static str, Vec<Option<f64>>>,
    /// Id of the best run of each metric that at least two runs have.
    pub best: BTreeMap<&'static str, String>,
    /// Settings that are not the same everywhere.
    pub differences: Vec<Difference>,
    /// Of each metric and run, points of step and value.
    pub series: BTreeMap<&'static str, Vec<Vec<(u64, f64)>>>,
}

/// One setting that is not the same everywhere.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Its dotted path.
    pub key: String,
    /// Its value in each run; `null` where it was left to the planner.
    pub values: Vec<Value>,
}

/// What is compared, and whether a smaller value is better.
const METRICS: [(&str, bool); 7] = [
    ("loss", true),
    ("validation_loss", true),
    ("token_accuracy", false),
    ("quality_score", false),
    ("tokens_per_second", false),
    ("memory_bytes", true),
    ("seconds", true),
];

/// Compare `runs`; each series is thinned to about `points` points, keeping peaks.
///
/// # Errors
/// PS-CFG-001 for fewer than two or more than five different runs.
pub fn compare(store: &Store, runs: Vec<Run>, points: usize) -> Result<Comparison> {
    let mut ids: Vec<&str> = runs.iter().map(|run| run.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    if !RUNS.contains(&runs.len()) || ids.len() != runs.len() {
        return Err(Fault::new("PS-CFG-001", "Two to five different runs can be compared")
            .action("List the runs", Some("peft-studio runs list".to_owned())));
    }
    let mut metrics: BTreeMap<&'static str, Vec<Option<f64>>> = BTreeMap::new();
    let mut series: BTreeMap<&'static str, Vec<Vec<(u64, f64)>>> = BTreeMap::new();
    for run in &runs {
        let steps = store.curve(&run.id)?;
        let evaluations = store.evaluations(&run.id)?;
        for (name, _) in METRICS {
            metrics.entry(name).or_default().push(value_of(name, run, &steps, &evaluations).filter(|v| v.is_finite()));
        }
        let mut put =
            |name: &'static str, line: Vec<(u64, f64)>| series.entry(name).or_default().push(thin(&line, points));
        put("loss", steps.iter().map(|s| (s.step, s.loss)).collect());
        put("gradient_norm", steps.iter().map(|s| (s.step, s.gradient_norm)).collect());
        put("learning_rate", steps.iter().map(|s| (s.step, s.learning_rate)).collect());
        put("tokens_per_second", steps.iter().map(|s| (s.step, s.tokens_per_second)).collect());
        put("validation_loss", evaluations.iter().map(|e| (e.step, e.loss)).collect());
    }
    let mut best = BTreeMap::new();
    for (name, smaller) in METRICS {
        let values = &metrics[name];
        if values.iter().flatten().count() < 2 {
            continue;
        }
        let ranked = values.iter().enumerate().filter_map(|(i, v)| Some((i, (*v)?)));
        let winner = if smaller {
            ranked.min_by(|a, b| a.1.total_cmp(&b.1))
        } else {
            // Of equal ones the first, as for the smallest.
            ranked.max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))
        };
        if let Some((i, _)) = winner {
            best.insert(name, runs[i].id.to_string());
        }
    }
    let differences = differences(&runs);
    Ok(Comparison { runs, metrics, best, differences, series })
}

fn value_of(name: &str, run: &Run, steps: &[StepMetrics], evaluations: &[Evaluation]) -> Option<f64> {
    match name {
        "loss" => run.loss,
        "validation_loss" => run.validation_loss,
        "token_accuracy" => evaluations.last().map(|e| e.token_accuracy),
        "quality_score" => run.quality_score,
        "tokens_per_second" => {
            let mut speeds: Vec<f64> = steps.iter().map(|s| s.tokens_per_second).filter(|s| s.is_finite()).collect();
            speeds.sort_unstable_by(f64::total_cmp);
            speeds.get(speeds.len() / 2).copied()
        }
        "memory_bytes" => steps.iter().map(|s| s.memory_bytes).max().map(|b| b as f64),
        "seconds" => (run.last_step > 0).then_some(run.seconds),
        _ => None,
    }
}

/// Thin a series to about `points`: of each stretch the lowest and the highest value stay, so no spike is lost.
fn thin(line: &[(u64, f64)], points: usize) -> Vec<(u64, f64)> {
    let points = points.max(4);
    if line.len() <= points {
        return line.to_vec();
    }
    let mut kept = Vec::with_capacity(points + 2);
    for stretch in line.chunks(line.len().div_ceil(points / 2)) {
        let low = stretch.iter().min_by(|a, b| a.1.total_cmp(&b.1));
        let high = stretch.iter().max_by(|a, b| a.1.total_cmp(&b.1));
        let mut pair: Vec<(u64, f64)> = low.into_iter().chain(high).copied().collect();
        pair.sort_unstable_by_key(|p| p.0);
        pair.dedup();
        kept.extend(pair);
    }
    kept
}

/// Settings that differ: what was asked for, and where nothing was, what the planner chose.
fn differences(runs: &[Run]) -> Vec<Difference> {
    let mut keys: Vec<String> = Vec::new();
    let mut flat: Vec<BTreeMap<String, Value>> = Vec::new();
    for run in runs {
        let mut settings = BTreeMap::new();
        flatten("", &run.config, &mut settings);
        // What was left open was decided by the plan; its names are those of the last part of the setting.
        for (key, value) in &mut settings {
            if value.is_null()
                && let Some(chosen) = run.plan.get(key.rsplit('.').next().unwrap_or(key))
            {
                *value = chosen.clone();
            }
        }
        for key in settings.keys() {
            if !keys.contains(key) {
                keys.push(key.clone());
            }
        }
        flat.push(settings);
    }
    keys.retain(|key| key != "name");
    keys.into_iter()
        .map(|key| {
            let values: Vec<Value> = flat.iter().map(|f| f.get(&key).cloned().unwrap_or(Value::Null)).collect();
            Difference { key, values }
        })
        .filter(|d| d.values.iter().any(|v| *v != d.values[0]))
        .collect()
}

fn flatten(path: &str, value: &Value, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) => {
            for (key, inner) in fields {
                flatten(&if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, inner, into);
            }
        }
        other => {
            into.insert(path.to_owned(), other.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_every_spike() {
        let mut line: Vec<(u64, f64)> = (0..100_000).map(|i| (i, 1.0)).collect();
        line[54_321].1 = 9.0;
        line[77].1 = -3.0;
        let kept = thin(&line, 500);
        assert!(kept.len() <= 502 && kept.contains(&(54_321, 9.0)) && kept.contains(&(77, -3.0)));
        assert!(kept.windows(2).all(|w| w[0].0 < w[1].0), "in order");
    }
}
