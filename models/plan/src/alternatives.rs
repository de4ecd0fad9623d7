//! The same run, otherwise: faster, leaner, better; each with what changes and what that does (S4.9.5).

use crate::config::{Method, RunConfig};
use crate::defaults;
use crate::estimate::{Calibration, Estimate, Rates, estimate};
use crate::facts::Facts;
use crate::fault::Result;
use crate::memory::{MemoryPlan, of_run};
use crate::resolve::{TrainingPlan, build};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// A completed configuration with everything that follows from it.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The configuration, nothing left open.
    pub config: RunConfig,
    /// Every value with its reason.
    pub values: Vec<defaults::Reasoned>,
    /// What the trainer gets.
    pub plan: TrainingPlan,
    /// Its memory.
    pub memory: MemoryPlan,
    /// Its time, energy, money, carbon and disk.
    pub estimate: Estimate,
}

/// Complete `config` and work out what it takes.
pub fn planned(config: &RunConfig, facts: &Facts, calibration: &Calibration, rates: &Rates) -> Result<Planned> {
    crate::resolve::check(config)?;
    let defaults::Defaults { config, values } = defaults::fill(config, facts)?;
    let plan = build(&config, facts)?;
    let memory = of_run(facts, &plan);
    let estimate = estimate(facts, &plan, calibration, rates);
    Ok(Planned { config, values, plan, memory, estimate })
}

/// Another way to do the same.
#[derive(Clone, Debug, Serialize)]
pub struct Alternative {
    /// `faster`, `leaner` or `better`.
    pub name: &'static str,
    /// What it does and what it costs, in one sentence.
    pub description: String,
    /// Settings that change, by their keys.
    pub changes: Map<String, Value>,
    /// What it takes.
    pub estimate: Estimate,
    /// Its memory.
    pub memory_bytes: u64,
    /// Against the configuration it is compared with.
    pub deltas: Deltas,
}

/// Differences; negative is less.
#[derive(Clone, Debug, Serialize)]
pub struct Deltas {
    /// Expected time.
    pub seconds: f64,
    /// Peak memory.
    pub memory_bytes: i64,
    /// Energy.
    pub energy_kwh: f64,
    /// Money.
    pub cost: f64,
    /// Carbon.
    pub carbon_grams: f64,
    /// Disk.
    pub disk_bytes: i64,
}

/// At least three alternatives to `current`.
pub fn alternatives(current: &Planned, facts: &Facts, calibration: &Calibration, rates: &Rates) -> Vec<Alternative> {
    let ideas = [("faster", faster(current)), ("leaner", leaner(current, facts)), ("better", better(current, facts))];
    ideas
        .into_iter()
        .filter_map(|(name, (changes, description))| {
            let mut config = current.config.clone();
            for (key, value) in &changes {
                config.set(&format!("{key}={value}")).ok()?;
            }
            let plan = build(&config, facts).ok()?;
            let memory = of_run(facts, &plan).total_bytes;
            let new = estimate(facts, &plan, calibration, rates);
            let old = &current.estimate;
            let deltas = Deltas {
                seconds: new.seconds.expected - old.seconds.expected,
                memory_bytes: memory as i64 - current.memory.total_bytes as i64,
                energy_kwh: new.energy_kwh - old.energy_kwh,
                cost: new.cost - old.cost,
                carbon_grams: new.carbon_grams - old.carbon_grams,
                disk_bytes: new.disk_bytes as i64 - old.disk_bytes as i64,
            };
            Some(Alternative { name, description, changes, estimate: new, memory_bytes: memory, deltas })
        })
        .collect()
}

type Idea = (Map<String, Value>, String);

fn idea(changes: Value, description: &str) -> Idea {
    let changes = match changes {
        Value::Object(changes) => changes,
        _ => Map::new(),
    };
    (changes, description.to_owned())
}

fn faster(current: &Planned) -> Idea {
    let plan = &current.plan;
    if current.config.training.max_steps.is_some() {
        let steps = (plan.total_steps / 2).max(1);
        return idea(json!({"training.max_steps": steps}), "Half the steps: a first look at whether it works at all.");
    }
    if plan.epochs > 1.0 {
        let epochs = (plan.epochs / 2.0).max(1.0).ceil();
        let epochs = if epochs < plan.epochs { epochs } else { 1.0 };
        return idea(
            json!({"training.epochs": epochs}),
            "Fewer passes over the examples: sooner done, a little less learnt.",
        );
    }
    idea(
        json!({"training.epochs": plan.epochs / 2.0}),
        "Half of the examples once: a first look at whether it works at all.",
    )
}

fn leaner(current: &Planned, facts: &Facts) -> Idea {
    let plan = &current.plan;
    if !facts.stored_in_4bit && matches!(plan.method, Method::Lora | Method::Dora) {
        let method = if plan.method == Method::Dora { "qdora" } else { "qlora" };
        let changes = json!({"adapter.method": method, "training.activation_checkpointing": true});
        return idea(changes, "The model in 4 bit, and passes computed twice: less memory for more time.");
    }
    if !plan.recompute {
        let changes = json!({"training.activation_checkpointing": true});
        return idea(changes, "Passes are computed twice instead of kept: less memory for about a third more time.");
    }
    if plan.micro_batch_size > 1 {
        let micro = plan.micro_batch_size / 2;
        let accumulation = (plan.micro_batch_size * plan.gradient_accumulation).div_ceil(micro);
        let changes = json!({"training.micro_batch_size": micro, "training.gradient_accumulation": accumulation});
        return idea(changes, "Fewer examples at a time, as many a step: less memory, the same result.");
    }
    let length = (plan.max_sequence_length / 2).max(64);
    idea(
        json!({"training.max_sequence_length": length}),
        "Shorter examples: less memory and time, and long answers lose their end.",
    )
}

fn better(current: &Planned, facts: &Facts) -> Idea {
    let plan = &current.plan;
    let few = facts.data.rows < 1000;
    if plan.method == Method::Full {
        return idea(json!({"training.epochs": plan.epochs + 1.0}), "One more pass over the examples.");
    }
    let rank = (plan.rank * 2).min(256);
    let mut changes = json!({"adapter.rank": rank, "adapter.alpha": plan.alpha / plan.rank as f64 * rank as f64});
    if few && current.config.training.max_steps.is_none() {
        changes["training.epochs"] = json!(plan.epochs + 1.0);
        return idea(changes, "A larger adapter and one more pass: learns more from few examples, for more time.");
    }
    idea(changes, "A larger adapter: room for more, for a little more time and memory.")
}
