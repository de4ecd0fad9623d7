//! `evaluate`: the tuned model beside its base, in numbers, and row by row where a file is named.

use super::args::EvaluateArgs;
use super::context::Context;
use super::export::{Source, source_of_run};
use super::{evaluate_preference, output};
use crate::jobs::evaluate::{Column, EvaluateRequest, Report, RowReport, evaluate};
use crate::jobs::memory::available_memory;
use crate::jobs::open_model;
use crate::jobs::run::find;
use crate::jobs::sources::files_of;
use peft_data::{BadLine, ReadOptions};
use peft_models::engine::Engine;
use peft_plan::{Arithmetic, Fault, Result, RunConfig};
use serde_json::Value;
use std::path::Path;

/// Score examples.
pub fn run(context: &Context, args: &EvaluateArgs) -> Result<u8> {
    let request = request(context, args)?;
    // Rows that compare answers are judged by which of two the model prefers.
    let options = ReadOptions { on_bad_line: BadLine::Fail, ..ReadOptions::default() };
    let dataset = peft_data::read(&files_of(&request.data)?, &options)?;
    if let Some(objective) = evaluate_preference::objective_of(&dataset) {
        return evaluate_preference::run(context, &request, &open_model(&request.model)?, &dataset, objective);
    }
    let engine = Engine::open(&context.backend, context.threads)?.with_arithmetic(arithmetic_of(&args.precision));
    let mut rows: Vec<RowReport> = Vec::new();
    let mut keep = |row: &RowReport| {
        if args.per_row.is_some() {
            rows.push(row.clone());
        }
        Ok(())
    };
    let report = evaluate(&engine, &request, &dataset, &mut keep)?;
    if let Some(path) = &args.per_row {
        write_rows(path, &rows)?;
    }
    if context.json {
        output::print_json(&report);
    } else {
        print(&report, request.adapter.is_some());
        if let Some(path) = &args.per_row {
            output::line(&format!("Every example: {}", path.display()));
        }
    }
    Ok(0)
}

/// What `--precision` asks for; `auto` is what results are compared in.
pub(super) fn arithmetic_of(precision: &str) -> Arithmetic {
    if precision == "bf16" { Arithmetic::Bf16 } else { Arithmetic::F32 }
}

/// The engine as `--precision` of a command that answers asks for. `int8` is whatever is fastest; `auto` takes only the
/// whole numbers of it, which concern weights that were rounded more than they are, and only where they are faster.
pub(super) fn answering(engine: &Engine, precision: &str) -> Engine {
    let arithmetic = if precision == "int8" { engine.fastest_arithmetic() } else { arithmetic_of(precision) };
    let engine = engine.with_arithmetic(arithmetic);
    let engine =
        if precision == "auto" { engine.for_answers() } else { engine.with_eight_bit_rows(precision == "int8") };
    engine.with_room(available_memory())
}

fn request(context: &Context, args: &EvaluateArgs) -> Result<EvaluateRequest> {
    let mut request = EvaluateRequest {
        adapter: args.adapter.clone(),
        data: args.data.clone(),
        template: args.chat_template.clone(),
        max_sequence_length: args.max_sequence_length,
        generate: args.generate,
        labels: (!args.labels.is_empty()).then(|| args.labels.clone()),
        schema: args.schema.as_deref().map(read_schema).transpose()?,
        max_rows: args.max_rows,
        max_new_tokens: args.max_new_tokens,
        ..EvaluateRequest::default()
    };
    match (&args.run, &args.model) {
        (Some(name), _) => {
            let run = find(&context.store()?, name)?;
            let Source { model, adapter, quantize } = source_of_run(&run)?;
            let dataset = RunConfig::from_value(run.config)?.dataset;
            request.model = model;
            request.adapter = adapter;
            request.quantize = quantize;
            request.system = dataset.system_prompt;
            request.template = request.template.or(dataset.chat_template);
        }
        (None, Some(model)) => request.model.clone_from(model),
        (None, None) => return Err(Fault::new("PS-CFG-001", "Say what to evaluate: `--run RUN`, or `--model MODEL`")),
    }
    Ok(request)
}

fn read_schema(path: &Path) -> Result<Value> {
    let text = std::fs::read(path).map_err(|error| Fault::io("read the schema", path, error))?;
    match serde_json::from_slice::<Value>(&text) {
        Ok(schema) if schema.is_object() => Ok(schema),
        Ok(_) => Err(Fault::new("PS-CFG-001", format!("`{}` is no JSON schema: it is not an object", path.display()))),
        Err(error) => Err(Fault::new("PS-CFG-001", format!("`{}` is not valid JSON: {error}", path.display()))),
    }
}

fn write_rows(path: &Path, rows: &[RowReport]) -> Result<()> {
    let written = durable::write_file_with(path, |out| {
        for row in rows {
            serde_json::to_writer(&mut *out, row).map_err(std::io::Error::from)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    });
    written.map(|_| ()).map_err(|error| Fault::io("write", path, error))
}

/// A figure of a column, where it was measured.
type Number = fn(&Column) -> Option<f64>;

fn print(report: &Report, tuned: bool) {
    output::line(&format!("{} examples, {} answer tokens", report.examples, report.tokens));
    if report.generated_rows > 0 {
        output::line(&format!("{} of them answered in words", report.generated_rows));
    }
    output::line(&if tuned { format!("{:<26} {:>10} {:>10}", "", "tuned", "base") } else { String::new() });
    let numbers: [(&str, Number); 11] = [
        ("loss", |c| Some(c.loss)),
        ("perplexity", |c| Some(c.perplexity)),
        ("token accuracy", |c| Some(c.token_accuracy)),
        ("exact match", |c| c.exact_match),
        ("exact match, normalized", |c| c.exact_match_normalized),
        ("overlap of words (F1)", |c| c.f1),
        ("right label likeliest", |c| c.label_accuracy),
        ("right label answered", |c| c.label_accuracy_generated),
        ("answer is JSON", |c| c.json_valid),
        ("answer fits the schema", |c| c.schema_valid),
        ("same JSON value", |c| c.json_equal),
    ];
    for (name, number) in numbers {
        match (number(&report.tuned), number(&report.base)) {
            (Some(t), Some(b)) if tuned => output::line(&format!("{name:<26} {t:>10.4} {b:>10.4}")),
            (Some(t), _) => output::line(&format!("{name:<26} {t:>10.4}")),
            _ => {}
        }
    }
    if let Some(labels) = &report.labels {
        let (rows, majority) = (labels.rows, labels.majority);
        output::line(&format!("Labels of {rows} examples; always saying the commonest is right in {majority:.4}"));
        for label in &labels.each {
            let name = output::printable(&label.label);
            output::line(&format!("  {name:<24} {:>10} of {}", label.right, label.rows));
        }
    }
    for remark in &report.notes {
        output::note(&output::printable(remark));
    }
}
