//! `verify`: replay a reference run written by another framework.

use super::args::VerifyArgs;
use super::context::Context;
use super::output;
use crate::jobs::open_model;
use peft_models::engine::Engine;
use peft_plan::Result;

/// Replay and report; 1 when something is out of tolerance.
pub fn run(context: &Context, args: &VerifyArgs) -> Result<u8> {
    let base = open_model(&args.model)?;
    let engine = Engine::open(&context.backend, context.threads)?;
    let found = engine.verify(&base, &args.reference)?;
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
