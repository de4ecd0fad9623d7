//! `verify`: replay a reference run written by another framework, or the first steps of a run of our own.

use super::args::VerifyArgs;
use super::context::Context;
use super::output;
use crate::jobs::open_model;
use crate::jobs::receipt::{self, Verdict, VerifyRequest};
use peft_models::engine::Engine;
use peft_plan::{Fault, Result};
use std::path::Path;

/// Replay and report; 1 when something is not as it should be.
pub fn run(context: &Context, args: &VerifyArgs) -> Result<u8> {
    match (&args.receipt, &args.reference, &args.model) {
        (Some(path), _, _) => check_receipt(context, args, path),
        (None, Some(reference), Some(model)) => replay_reference(context, model, reference),
        (None, ..) => Err(Fault::new("PS-CFG-001", "Say what to verify: `--model` with `--reference`, or `--receipt`")),
    }
}

fn replay_reference(context: &Context, model: &str, reference: &Path) -> Result<u8> {
    let base = open_model(model)?;
    let engine = Engine::open(&context.backend, context.threads)?;
    let found = engine.verify(&base, reference)?;
    if context.json {
        output::print_json(&found);
    } else {
        let line = |what: &str, error: f64, allowed: f64, tensor: &str| {
            let mark = if error <= allowed { "ok" } else { "TOO LARGE" };
            output::line(&format!("{what:<28} {error:>10.2e}   allowed {allowed:>7.0e}   {mark}   {tensor}"));
        };
        let t = &found.tolerance;
        output::line(&format!("{} steps replayed; largest relative errors:", found.steps));
        line("loss", found.loss_relative_error, t.loss, "");
        line("logits", found.logits_relative_error, t.logits, "");
        line("gradients", found.gradient_relative_error.worst, t.gradient, &found.gradient_relative_error.tensor);
        let updated = &found.updated_weight_relative_error;
        line("weights after the last step", updated.worst, t.updated_weight, &updated.tensor);
    }
    Ok(u8::from(!found.within_tolerance))
}

fn check_receipt(context: &Context, args: &VerifyArgs, path: &Path) -> Result<u8> {
    let request = VerifyRequest {
        receipt: path.to_owned(),
        steps: args.steps,
        model: args.model.clone(),
        data: args.data.clone(),
    };
    let verdict = receipt::verify(context, &request)?;
    if context.json {
        output::print_json(&verdict);
    } else {
        describe(&verdict);
    }
    Ok(u8::from(!verdict.verified))
}

fn describe(verdict: &Verdict) {
    output::line("The receipt is whole.");
    for what in &verdict.differs {
        output::line(match what.as_str() {
            "program" => "This is another build of the program: the last bits of losses may differ.",
            "backend" => {
                "The run was computed on other hardware, or with other kernels: the last bits of losses may differ."
            }
            "base" => "The base model's files are not those of the run.",
            "data" => "The data is not that of the run.",
            "init_from" => "The adapter that the run continued from is not the one of then.",
            "result" => "The adapter or model beside the receipt is not the one that the run wrote.",
            "configuration" => "The configuration in the receipt is not the one that its hash was made of.",
            "plan" => "The settings in the receipt are not those that their hash was made of.",
            _ => "The losses in the receipt contradict themselves.",
        });
    }
    let Verdict { steps, replayable_steps, replayed, .. } = verdict;
    if replayable_steps < steps {
        output::line(&format!(
            "Only the first {replayable_steps} of {steps} steps can be computed again: after them the run went on with other settings."
        ));
    }
    if *replayed == 0 {
        output::line("No step was computed again.");
    } else if verdict.bit_for_bit {
        output::line(&format!("{replayed} of {steps} steps were computed again; their losses agree bit for bit."));
    } else {
        let (largest, allowed) = (verdict.largest_relative_difference, verdict.tolerance);
        let word = if verdict.losses_agree { "agree" } else { "DO NOT AGREE" };
        let limit = if verdict.bits_must_agree {
            "not one bit may differ".to_owned()
        } else {
            format!("{allowed:.0e} is allowed")
        };
        output::line(&format!(
            "{replayed} of {steps} steps were computed again; their losses {word}: they differ by up to {largest:.1e} of themselves, and {limit}."
        ));
    }
    if let Some(first) = &verdict.first_difference {
        let number = |n: Option<f64>| n.map_or_else(|| "not a number".to_owned(), |n| n.to_string());
        let (then, now) = (number(first.recorded), number(first.replayed));
        output::line(&format!("The first that differs is step {}: {then} in the receipt, {now} now.", first.step));
    }
    output::line(if verdict.verified { "Verified." } else { "NOT verified." });
}
