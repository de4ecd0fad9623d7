//! `evaluate` on rows that say which answers are preferred: how often the model agrees.

use super::args::EvaluateArgs;
use super::context::Context;
use super::output;
use crate::jobs::setup;
use peft_data::{Dataset, Split};
use peft_models::base::BaseModel;
use peft_models::engine::Engine;
use peft_models::prepare::{CutPairs, render_pairs};
use peft_models::train::PreferenceScores;
use peft_plan::{Example, Fault, Objective, PreferencePlan, Result, TrainOn};
use serde_json::{Value, json};

/// The objective that rows are for, if they compare answers.
pub fn objective_of(dataset: &Dataset) -> Option<Objective> {
    let any = |fits: fn(&Example) -> bool| dataset.rows.iter().any(|row| fits(&row.example));
    if any(|e| matches!(e, Example::Preference { .. })) {
        return Some(Objective::Dpo);
    }
    any(|e| matches!(e, Example::Rated { .. })).then_some(Objective::Kto)
}

fn scores(scores: &PreferenceScores) -> Value {
    let metrics = scores.metrics();
    json!({
        "loss": scores.answers.mean_loss(),
        "perplexity": scores.answers.mean_loss().exp(),
        "token_accuracy": scores.answers.accuracy(),
        "preference_loss": scores.loss,
        "preference_accuracy": metrics.accuracy,
        "chosen_reward": metrics.chosen_reward,
        "rejected_reward": metrics.rejected_reward,
        "margin": metrics.margin,
        "chosen_is_likelier": scores.likelier,
    })
}

/// Score the rows of a file. The reference is the base: rewards say how far the adapter moved from it.
pub fn run(
    context: &Context,
    args: &EvaluateArgs,
    base: &BaseModel,
    dataset: &Dataset,
    objective: Objective,
) -> Result<u8> {
    let engine = Engine::open(&context.backend, context.threads)?;
    let render_options = setup::render_options(base, args.chat_template.as_deref(), TrainOn::Assistant, None)?;
    let indices: Vec<usize> = (0..dataset.rows.len()).collect();
    // For scoring, answers that all have one label are as good as any.
    let comparable = |&i: &usize| match (objective, &dataset.rows[i].example) {
        (_, Example::Preference { .. }) => true,
        (Objective::Kto, Example::Rated { .. }) => true,
        _ => false,
    };
    let split = Split { train: indices.into_iter().filter(comparable).collect(), validation: Vec::new() };
    let pairs = render_pairs(base, &dataset.rows, &split.train, &render_options, objective)?;
    let limit = args.max_sequence_length.unwrap_or(base.spec().max_positions).min(base.spec().max_positions);
    let CutPairs { examples, truncated, .. } = pairs.cut(limit);
    if examples.is_empty() {
        return Err(Fault::new("PS-PREF-001", "None of the examples has two answers that differ"));
    }
    let plan = PreferencePlan::new(objective);
    let mut session = engine.session(base, args.adapter.as_deref(), None)?;
    let untuned = session.score_preferences(&examples, &plan, false)?;
    let tuned =
        if args.adapter.is_some() { session.score_preferences(&examples, &plan, true)? } else { untuned };
    let mut document = scores(&tuned);
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
        let (t, b) = (tuned.metrics(), untuned.metrics());
        for (name, tuned, base) in [
            ("preference loss", Some(tuned.loss), Some(untuned.loss)),
            ("preferences right", Some(t.accuracy), Some(b.accuracy)),
            ("chosen is likelier", tuned.likelier, untuned.likelier),
            ("reward of chosen", t.chosen_reward, b.chosen_reward),
            ("reward of rejected", t.rejected_reward, b.rejected_reward),
            ("loss of chosen", Some(tuned.answers.mean_loss()), Some(untuned.answers.mean_loss())),
        ] {
            if tuned.is_some() || base.is_some() {
                output::line(&format!("{name:<20} {} {}", number(tuned), number(base)));
            }
        }
    }
    Ok(0)
}
