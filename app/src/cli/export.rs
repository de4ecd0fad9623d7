//! `export --to peft|merged`.

use super::args::ExportArgs;
use super::context::Context;
use super::output;
use crate::jobs::model::spelled;
use crate::jobs::{open_model, run::find};
use peft_models::DType;
use peft_models::base::BaseModel;
use peft_models::engine::{Engine, MergeOptions, Quantization};
use peft_models::peft_format::{AdapterFile, read_adapter, write_adapter};
use peft_plan::{Fault, Result, RunConfig};
use peft_storage::Run;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// A base, perhaps an adapter, and how the base was loaded while it was trained.
pub struct Source {
    /// What the user calls the base.
    pub model: String,
    /// Its folder.
    pub adapter: Option<PathBuf>,
    /// Set where a dense base was quantised on loading.
    pub quantize: Option<Quantization>,
}

/// Write a run's result, or a model with an adapter, in the form asked for.
pub fn run(context: &Context, args: &ExportArgs) -> Result<u8> {
    let source = match (&args.run, &args.model) {
        (Some(name), _) => source_of_run(&find(&context.store()?, name)?)?,
        (None, Some(model)) => Source { model: model.clone(), adapter: args.adapter.clone(), quantize: None },
        (None, None) => {
            return Err(Fault::new("PS-CFG-001", "Say what to export: a run, or `--model` with `--adapter`"));
        }
    };
    let base = open_model(&source.model)?;
    let adapter = source.adapter.as_deref().map(read_adapter).transpose()?;
    let files = match args.to.as_str() {
        "peft" => {
            let Some(adapter) = adapter else {
                return Err(Fault::new("PS-CFG-001", "There is no adapter to export: give a run, or `--adapter DIR`"));
            };
            write_adapter(&args.out, &adapter.config, &adapter.tensors)?;
            ["adapter_model.safetensors", "adapter_config.json"].map(|n| args.out.join(n)).to_vec()
        }
        "merged" => {
            let options = merge_options(&base, args.dtype.as_deref(), args.max_shard_size, source.quantize)?;
            merge(context, &base, adapter.as_ref(), &options, &args.out)?
        }
        other => {
            return Err(Fault::new(
                "PS-CFG-001",
                format!("`--to {other}` is not a target of this version; targets are peft and merged"),
            ));
        }
    };
    let described = files.iter().map(|f| describe(f, &args.to)).collect::<Result<Vec<_>>>()?;
    if context.json {
        output::print_json(&json!({"files": described, "certificate": Value::Null}));
    } else {
        for file in &described {
            output::line(&format!(
                "{:>12}  {}",
                output::bytes(file["bytes"].as_u64().unwrap_or(0)),
                file["path"].as_str().unwrap_or("")
            ));
        }
    }
    Ok(0)
}

/// Merge the result of a finished run into `out`.
pub fn merge_run(context: &Context, run: &Run, out: &Path) -> Result<()> {
    let source = source_of_run(run)?;
    let base = open_model(&source.model)?;
    let adapter = source.adapter.as_deref().map(read_adapter).transpose()?;
    let options = merge_options(&base, None, None, source.quantize)?;
    merge(context, &base, adapter.as_ref(), &options, out)?;
    output::note(&format!("Merged model: {}", out.display()));
    Ok(())
}

/// Base and adapter of a run.
pub fn source_of_run(run: &Run) -> Result<Source> {
    let config = RunConfig::from_value(run.config.clone())?;
    let full = run.directory.join("model");
    if full.join("config.json").is_file() {
        return Ok(Source { model: full.display().to_string(), adapter: None, quantize: None });
    }
    let adapter = run.directory.join("adapter");
    if !adapter.join("adapter_config.json").is_file() {
        return Err(Fault::new(
            "PS-RUN-003",
            format!("The run `{}` has no adapter yet; let it finish, or stop it", run.name),
        )
        .action("Go on with the run", Some(format!("peft-studio resume {}", run.id.as_str()))));
    }
    let quantize = serde_json::from_value(run.plan.clone()).ok().as_ref().and_then(Quantization::of_plan);
    Ok(Source { model: spelled(&config.model), adapter: Some(adapter), quantize })
}

fn merge_options(
    base: &BaseModel,
    dtype: Option<&str>,
    shard_bytes: Option<u64>,
    quantize: Option<Quantization>,
) -> Result<MergeOptions> {
    let dtype = match dtype {
        Some("f32") => DType::F32,
        Some("f16") => DType::F16,
        Some("bf16") => DType::BF16,
        Some(other) => {
            return Err(Fault::new(
                "PS-CFG-001",
                format!("`--dtype {other}` is not known; known are bf16, f16 and f32"),
            ));
        }
        // S1.13: what was trained on a 4-bit base is kept in float16; everything else in the base's own type.
        None if base.stored_in_4bit() || quantize.is_some() => DType::F16,
        None => base.dtype(),
    };
    Ok(MergeOptions { dtype, shard_bytes, quantize })
}

fn merge(
    context: &Context,
    base: &BaseModel,
    adapter: Option<&AdapterFile>,
    options: &MergeOptions,
    out: &Path,
) -> Result<Vec<PathBuf>> {
    let engine = Engine::open(&context.backend, context.threads)?;
    let manifest = engine.merge(base, adapter, options, out)?;
    Ok(manifest.files.iter().map(|f| out.join(&f.name)).collect())
}

fn describe(path: &Path, kind: &str) -> Result<Value> {
    let path = std::path::absolute(path).map_err(|e| Fault::io("find", path, e))?;
    let digest = durable::sha256_file(&path).map_err(|e| Fault::io("read back", &path, e))?;
    Ok(json!({"path": path.display().to_string(), "type": kind, "bytes": digest.bytes, "sha256": digest.sha256}))
}
