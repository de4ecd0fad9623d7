//! `evaluate` on rows that say which answers are preferred: how often the model agrees.

use super::context::Context;
use super::output;
use crate::jobs::evaluate::EvaluateRequest;
use crate::jobs::setup;
use peft_data::Dataset;
use peft_models::base::BaseModel;
use peft_models::engine::Engine;
use peft_models::prepare::{CutPairs, render_pairs};
use peft_models::train::PreferenceScores;
use peft_plan::{Example, Fault, Objective, PreferencePlan, Result, TrainOn};
use serde_json::{Value, json};

/// The objective that rows are for, if they compare answers.
pub(super) fn objective_of(dataset: &Dataset) -> Option<Objective> {
    let any = |fits: fn(&Example) -> bool| dataset.rows.iter().any(|row| fits(&row.example));
    if any(|e| matches!(e, Example::Preference { .. })) {
        return Some(Objective::Dpo);
    }
    any(|e| matches!(e, Example::Rated { .. })).then_some(Objective::Kto)
}

fn scores(scores: &PreferenceScores) -> Value {
    json!({
        "loss": scores.answers.mean_loss(),
        "perplexity": scores.answers.mean_loss().exp(),
        "token_accuracy": scores.answers.accuracy(),
        "chosen_is_likelier": scores.likelier,
    })
}

/// What only a tuned model has: the base is the reference, and compared with itself it prefers nothing.
fn rewards(document: &mut Value, scores: &PreferenceScores) {
    let metrics = scores.metrics();
    document["preference_loss"] = json!(scores.loss);
    document["preference_accuracy"] = json!(metrics.accuracy);
    document["chosen_reward"] = json!(metrics.chosen_reward);
    document["rejected_reward"] = json!(metrics.rejected_reward);
    document["margin"] = json!(metrics.margin);
}

/// Score the rows of a file. The reference is the base: rewards say how far the adapter moved from it.
pub(super) fn run(
    context: &Context,
    request: &EvaluateRequest,
    base: &BaseModel,
    dataset: &Dataset,
    objective: Objective,
) -> Result<u8> {
    let engine = Engine::open(&context.backend, context.threads)?;
    let render_options =
        setup::render_options(base, request.template.as_deref(), TrainOn::Assistant, request.system.as_deref())?;
    let indices: Vec<usize> = (0..dataset.rows.len()).collect();
    // For scoring, answers that all have one label are as good as any.
    let comparable = |&i: &usize| match &dataset.rows[i].example {
        Example::Preference { .. } => true,
        Example::Rated { .. } => objective == Objective::Kto,
        _ => false,
    };
    let indices: Vec<usize> = indices.into_iter().filter(comparable).collect();
    let pairs = render_pairs(base, &dataset.rows, &indices, &render_options, objective)?;
    let limit = request.max_sequence_length.unwrap_or(base.spec().max_positions).min(base.spec().max_positions);
    let CutPairs { examples, truncated, .. } = pairs.cut(limit);
    if examples.is_empty() {
        return Err(Fault::new("PS-PREF-001", "None of the examples has two answers that differ"));
    }
    let plan = PreferencePlan::new(objective);
    let mut session = engine.session(base, request.adapter.as_deref(), request.quantize)?;
    let untuned = session.score_preferences(&examples, &plan, false)?;
    let is_tuned = request.adapter.is_some();
    let tuned = if is_tuned { session.score_preferences(&examples, &plan, true)? } else { untuned };
    let mut document = scores(&tuned);
    if is_tuned {
        rewards(&mut document, &tuned);
    }
    document["objective"] = json!(objective.name());
    document["tokens"] = json!(tuned.answers.tokens);
    document["examples"] = json!(examples.len());
    document["truncated"] = json!(truncated);
    document["base"] = scores(&untuned);
    if context.json {
        output::print_json(&document);
    } else {
        let what = if objective == Objective::Kto { "rated answers" } else { "pairs of answers" };
        output::line(&format!("{} {what}", examples.len()));
        output::line("                          tuned       base");
        let number = |value: Option<f64>| value.map_or_else(|| format!("{:>10}", "-"), |v| format!("{v:>10.4}"));
        let metrics = tuned.metrics();
        let reward = |value: Option<f64>| value.filter(|_| is_tuned);
        for (name, tuned, base) in [
            ("preference loss", reward(Some(tuned.loss)), None),
            ("preferences right", reward(Some(metrics.accuracy)), None),
            ("reward of chosen", reward(metrics.chosen_reward), None),
            ("reward of rejected", reward(metrics.rejected_reward), None),
            ("chosen is likelier", tuned.likelier, untuned.likelier),
            ("loss of chosen", Some(tuned.answers.mean_loss()), Some(untuned.answers.mean_loss())),
        ] {
            if tuned.is_some() || base.is_some() {
                output::line(&format!("{name:<20} {} {}", number(tuned), number(base)));
            }
        }
    }
    Ok(0)
}
