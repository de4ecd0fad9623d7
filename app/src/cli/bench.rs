//! `bench`: how fast a model is here.

use super::args::{BenchCommand, BenchGenerateArgs};
use super::context::Context;
use super::output;
use crate::jobs::bench::{BenchRequest, generate, keep};
use peft_models::engine::Engine;
use peft_plan::{Fault, Result};

/// Measure, tell, keep, judge.
pub(super) fn run(context: &Context, command: &BenchCommand) -> Result<u8> {
    let BenchCommand::Generate(args) = command;
    let BenchGenerateArgs { model, adapter, quant, prompt_tokens, repeats, csv, .. } = args;
    let mut request = BenchRequest {
        model: model.clone(),
        adapter: adapter.clone(),
        quant: quant.clone(),
        prompt_tokens: *prompt_tokens,
        generate: args.generate,
        repeats: *repeats,
    };
    let limits = [("min-tokens-per-second", args.min_tokens_per_second), ("regression", args.regression)];
    if let Some((name, value)) =
        limits.iter().find_map(|(name, v)| v.filter(|v| !v.is_finite() || *v < 0.0).map(|v| (name, v)))
    {
        return Err(Fault::new("PS-CFG-001", format!("`--{name} {value}` is no speed")));
    }
    let engine = Engine::open(&context.backend, context.threads)?;
    let report = generate(&engine, &mut request, &context.data_dir.join("exports"))?;
    let usual = csv.as_deref().map(|path| keep(&report, &request, path)).transpose()?.flatten();
    if context.json {
        output::print_json(&report);
    } else {
        let speed = report.decode_tokens_per_second;
        output::line(&format!("read    {:>10.1} tokens/s", report.prompt_tokens_per_second));
        output::line(&format!("written {:>10.1} tokens/s ({:.1} to {:.1})", speed.median, speed.min, speed.max));
        output::line(&format!(
            "memory  {:>12}, weights {}",
            output::bytes(report.peak_memory_bytes),
            output::bytes(report.weights_bytes)
        ));
    }
    let speed = report.decode_tokens_per_second.median;
    if let Some(least) = args.min_tokens_per_second.filter(|least| speed < *least) {
        let detail = format!("{speed:.1} tokens a second were written; at least {least} were asked for.");
        return Err(Fault::new("PS-BENCH-001", detail));
    }
    if let (Some(part), Some(usual)) = (args.regression, usual)
        && speed < part * usual
    {
        let detail = format!("{speed:.1} tokens a second were written; usually it is {usual:.1}.");
        return Err(Fault::new("PS-BENCH-001", detail));
    }
    Ok(0)
}
