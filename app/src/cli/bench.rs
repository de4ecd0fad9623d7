//! `bench`: how fast a model is here.

use super::args::{BenchCommand, BenchGenerateArgs, BenchTrainArgs};
use super::context::Context;
use super::evaluate::answering;
use super::output;
use crate::jobs::bench::{BenchRequest, generate, keep};
use crate::jobs::bench_make::make;
use crate::jobs::bench_train::{TrainBenchRequest, train};
use crate::jobs::hardware::machine_facts;
use peft_models::engine::Engine;
use peft_plan::{Fault, Result};

pub(super) fn run(context: &Context, command: &BenchCommand) -> Result<u8> {
    match command {
        BenchCommand::Generate(args) => run_generate(context, args),
        BenchCommand::Train(args) => run_train(context, args),
        BenchCommand::Make(args) => make(&args.shape, args.layers, &args.out).map(|()| 0),
    }
}

/// Measure and tell.
fn run_train(context: &Context, args: &BenchTrainArgs) -> Result<u8> {
    let BenchTrainArgs { model, method, precision, rank, sequence_length, batch, steps, warmup, .. } = args;
    let mut settings = vec![
        format!("adapter.method={method}"),
        format!("training.precision={precision}"),
        "training.gradient_accumulation=1".to_owned(),
    ];
    if !args.fit {
        settings.push(format!("training.activation_checkpointing={}", args.activation_checkpointing));
        settings.push(format!("training.kept_layers={}", args.kept_layers));
        settings.push(format!("training.offloaded_layers={}", args.offloaded_layers));
        settings.push(format!("training.decoded_layers={}", args.decoded_layers));
        settings.push(format!("training.decode_ahead={}", args.decode_ahead));
    }
    if method != "full" {
        settings.push(format!("adapter.rank={rank}"));
    }
    let request = TrainBenchRequest {
        model: model.clone(),
        batch: *batch,
        sequence_length: *sequence_length,
        steps: *steps,
        warmup: *warmup,
        settings,
        fit: args.fit.then(|| machine_facts(&context.data_dir, &context.backend)),
    };
    let engine = Engine::open(&context.backend, context.threads)?;
    let report = train(&engine, &request)?;
    if context.json {
        output::print_json(&report);
        return Ok(0);
    }
    let speed = report.tokens_per_second;
    output::line(&format!("trained {:>10.1} tokens/s ({:.1} to {:.1})", speed.median, speed.min, speed.max));
    let (taken, planned) = (output::bytes(report.peak_memory_bytes), output::bytes(report.planned_memory_bytes));
    output::line(&format!("memory  {taken:>12}, {planned} planned"));
    output::line(&format!("layers  {:>12}, {} of them computed twice", report.layers, report.layers_computed_twice));
    output::line(&format!("device  {}", report.device));
    Ok(0)
}

/// Measure, tell, keep, judge.
fn run_generate(context: &Context, args: &BenchGenerateArgs) -> Result<u8> {
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
    let engine = answering(&Engine::open(&context.backend, context.threads)?, &args.precision);
    let engine = engine.with_eight_bit_cache(args.kv_cache == "int8")?;
    let report = generate(&engine, &mut request, &context.data_dir.join("exports"))?;
    let usual = csv.as_deref().map(|path| keep(&report, &request, path)).transpose()?.flatten();
    if context.json {
        output::print_json(&report);
    } else {
        let speed = report.decode_tokens_per_second;
        output::line(&format!("read    {:>10.1} tokens/s", report.prompt_tokens_per_second));
        let first = report.first_token_seconds;
        let [median, min, max] = [first.median, first.min, first.max].map(|seconds| 1e3 * seconds);
        output::line(&format!("first   {median:>10.1} ms ({min:.1} to {max:.1})"));
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
