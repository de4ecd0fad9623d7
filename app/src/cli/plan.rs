//! `plan`: what a run would be, before it is one.

use super::args::{PlanArgs, TrainArgs};
use super::context::Context;
use super::quantity::{bytes, duration};
use super::{output, table, train};
use crate::jobs::plan::{Answer, plan};
use crate::jobs::specification::specify;
use peft_plan::alternatives::Alternative;
use peft_plan::defaults::{Reasoned, Source};
use peft_plan::estimate::{Estimate, Rates, energy_data};
use peft_plan::memory::card::{ASSUMED, GRAPHS};
use peft_plan::{Fault, Result};
use serde_json::{Value, json};
use std::path::Path;

pub(super) fn run(context: &Context, args: &PlanArgs) -> Result<u8> {
    let same = TrainArgs { request: args.request.clone(), ..TrainArgs::default() };
    let config = train::configuration(context, &same)?;
    let rates = rates(args)?;
    let answer = plan(context, config, &rates)?;
    if let Some(out) = &args.out {
        write(out, &answer.planned.config.to_value())?;
    }
    if let Some(path) = &args.write_spec {
        write(path, &json!(specify(context, &answer)?))?;
    }
    if context.json {
        output::print_json(&document(&answer));
    } else {
        for note in &answer.notes {
            output::note(note);
        }
        output::text(&output::printable(&for_people(&answer)));
        if let Some(out) = &args.out {
            output::line(&format!("The run file is {}", out.display()));
        }
        if let Some(path) = &args.write_spec {
            output::line(&format!("The specification is {}; `peft-studio train` takes it", path.display()));
        }
    }
    Ok(0)
}

fn write(path: &Path, config: &Value) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(config).expect("a configuration is plain data");
    text.push(b'\n');
    durable::write_file(path, &text).map_err(|e| Fault::io("write the run file", path, e))
}

/// What electricity costs and causes: as asked for, or the defaults with their sources.
fn rates(args: &PlanArgs) -> Result<Rates> {
    let mut rates = Rates::default();
    if let Some(rate) = args.electricity_rate {
        rates.electricity_rate = rate;
        "given".clone_into(&mut rates.electricity_source);
    }
    if let Some(currency) = &args.currency {
        rates.currency.clone_from(currency);
        if args.electricity_rate.is_none() {
            return Err(Fault::new(
                "PS-CFG-001",
                format!(
                    "`--currency {currency}` needs a price in it; the default price is in {}",
                    Rates::default().currency
                ),
            )
            .action(
                "Give your price of a kilowatt-hour",
                Some(format!("--electricity-rate 0.30 --currency {currency}")),
            ));
        }
    }
    if let Some(text) = &args.carbon_intensity {
        if let Some(known) = energy_data().carbon_grams_per_kwh.get(&text.to_lowercase()) {
            rates.carbon_grams_per_kwh = known.value;
            rates.carbon_source.clone_from(&known.source);
        } else {
            let grams = text.parse::<f64>().ok().filter(|grams| (0.0..=5000.0).contains(grams));
            rates.carbon_grams_per_kwh = grams.ok_or_else(|| {
                let known: Vec<&str> = energy_data().carbon_grams_per_kwh.keys().map(String::as_str).collect();
                let detail = format!(
                    "`--carbon-intensity` is `{text}`; allowed is a number of grams from 0 to 5000, or one of {}",
                    known.join(", ")
                );
                Fault::new("PS-CFG-001", detail)
            })?;
            "given".clone_into(&mut rates.carbon_source);
        }
    }
    Ok(rates)
}

/// The document of `--json`.
pub(super) fn document(answer: &Answer) -> Value {
    let Answer { planned, budget_bytes, alternatives, problems, notes, .. } = answer;
    json!({
        "config": planned.config.to_value(),
        "values": planned.values,
        "memory": {
            "total_bytes": planned.memory.total_bytes,
            "budget_bytes": budget_bytes,
            "items": planned.memory.items,
        },
        "estimate": planned.estimate,
        "alternatives": alternatives,
        "problems": problems.iter().map(|fault| super::error::to_json(fault)["error"].clone()).collect::<Vec<_>>(),
        "notes": notes,
    })
}

fn for_people(answer: &Answer) -> String {
    let Answer { planned, budget_bytes, alternatives, problems, .. } = answer;
    let rows: Vec<Vec<String>> = planned.values.iter().map(value_row).collect();
    let mut lines = vec![table::render(&["setting", "value", "from", "why"], &rows)];
    lines.push("\nMemory\n".to_owned());
    let mut items = planned.memory.items.clone();
    items.sort_by_key(|item| std::cmp::Reverse(item.bytes));
    for item in &items {
        lines.push(format!("  {:<34}{:>10}\n", item.name, bytes(item.bytes)));
    }
    lines.push(format!(
        "  {} in all, of {} that may be used\n",
        bytes(planned.memory.total_bytes),
        bytes(*budget_bytes)
    ));
    if items.iter().any(|item| item.name == GRAPHS) {
        lines.push(format!("  {ASSUMED}\n"));
    }
    lines.push("\nEstimate\n".to_owned());
    lines.push(estimate(&planned.estimate));
    if !alternatives.is_empty() {
        lines.push("\nAlternatives\n".to_owned());
        lines.extend(alternatives.iter().map(alternative));
    }
    if !problems.is_empty() {
        lines.push("\nNotes\n".to_owned());
    }
    for fault in problems {
        lines.push(format!("  {} ({}): {}\n", fault.entry().title, fault.code, fault.detail));
        for action in fault.shown_actions() {
            let command = action.command.map_or_else(String::new, |command| format!(": {command}"));
            lines.push(format!("    - {}{command}\n", action.label));
        }
    }
    lines.concat()
}

fn value_row(value: &Reasoned) -> Vec<String> {
    let shown = match &value.value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let source = match value.source {
        Source::You => "you",
        Source::Profile => "profile",
        Source::Data => "data",
        Source::Model => "model",
        Source::Hardware => "hardware",
    };
    vec![value.key.clone(), shown, source.to_owned(), value.reason.clone()]
}

pub(super) fn range(estimate: &Estimate) -> String {
    format!("{} to {}", duration(estimate.seconds.low), duration(estimate.seconds.high))
}

fn estimate(e: &Estimate) -> String {
    [
        format!("  time      {} ({} steps of {} examples)", range(e), e.steps, e.examples_per_step),
        format!(", after about {} of loading\n", duration(e.loading_seconds)),
        format!("  energy    {:.4} kWh at {:.0} W ({})\n", e.energy_kwh, e.watts, e.power_source),
        format!(
            "  cost      {:.4} {} at {} a kWh ({})\n",
            e.cost, e.currency, e.electricity_rate, e.electricity_source
        ),
        format!(
            "  carbon    {:.1} g CO2 at {} g a kWh ({})\n",
            e.carbon_grams, e.carbon_grams_per_kwh, e.carbon_source
        ),
        format!("  disk      {}\n", bytes(e.disk_bytes)),
    ]
    .concat()
}

fn alternative(a: &Alternative) -> String {
    let changes: Vec<String> = a.changes.iter().map(|(key, value)| format!("--set {key}={value}")).collect();
    let sign = |negative: bool| if negative { "-" } else { "+" };
    let memory = a.deltas.memory_bytes;
    format!(
        "  {:<8}{} ({}{}, {}{} of memory)\n          {}\n          {}\n",
        a.name,
        range(&a.estimate),
        sign(a.deltas.seconds < 0.0),
        duration(a.deltas.seconds.abs()),
        sign(memory < 0),
        bytes(memory.unsigned_abs()),
        a.description,
        changes.join(" ").replace('"', "")
    )
}
