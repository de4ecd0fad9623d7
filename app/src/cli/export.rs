//! `export`: the adapter, a complete model, or what other programs and the hub take.

use super::args::ExportArgs;
use super::context::Context;
use super::output;
use crate::jobs::export::weighing::importance;
use crate::jobs::export::{self, Exported, Origin, Registered};
use crate::jobs::model::spelled;
use crate::jobs::{open_model, run::find};
use peft_models::DType;
use peft_models::base::BaseModel;
use peft_models::engine::{Engine, MergeOptions, Quantization};
use peft_models::export::certificate::Certificate;
use peft_models::export::gguf::lora::obstacle;
use peft_models::export::ollama::TurnLayout;
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
    match args.to.as_str() {
        "peft" | "merged" => as_safetensors(context, args),
        "hub" => super::export_hub::run(context, args),
        "tensorrt-llm" => as_tensorrt(context, args),
        _ => as_gguf(context, args),
    }
}

/// The folder to write to; the parser asks for it where there is no other.
pub(super) fn out_of(args: &ExportArgs) -> Result<&Path> {
    args.out.as_deref().ok_or_else(|| Fault::new("PS-CFG-001", "Say where to write to: `--out DIR`"))
}

fn as_safetensors(context: &Context, args: &ExportArgs) -> Result<u8> {
    let out = out_of(args)?;
    let source = match (&args.run, &args.model) {
        (Some(name), _) => source_of_run(&find(&context.store()?, name)?)?,
        (None, Some(model)) => Source { model: model.clone(), adapter: args.adapter.clone(), quantize: None },
        (None, None) => return Err(nothing_named()),
    };
    let base = open_model(&source.model)?;
    let adapter = source.adapter.as_deref().map(read_adapter).transpose()?;
    let files = if args.to == "peft" {
        let Some(adapter) = adapter else {
            return Err(Fault::new("PS-CFG-001", "There is no adapter to export: give a run, or `--adapter DIR`"));
        };
        write_adapter(out, &adapter.config, &adapter.tensors)?;
        ["adapter_model.safetensors", "adapter_config.json"].map(|n| out.join(n)).to_vec()
    } else {
        let options = merge_options(&base, args.dtype.as_deref(), args.max_shard_size, source.quantize)?;
        match merge(context, &base, adapter.as_ref(), &options, out)? {
            Some(files) => files,
            None => return Ok(stopped()),
        }
    };
    let described = files.iter().map(|f| describe(f, &args.to)).collect::<Result<Vec<_>>>()?;
    show(context, &described, &[], &[]);
    Ok(0)
}

pub(super) fn nothing_named() -> Fault {
    Fault::new("PS-CFG-001", "Say what to export: a run, or `--model` with `--adapter`")
}

/// What is exported, with everything that is known about it.
pub(super) fn origin_of(context: &Context, args: &ExportArgs) -> Result<Origin> {
    match (&args.run, &args.model) {
        (Some(run), _) => Origin::of_run(context, run, args.name.as_deref()),
        (None, Some(model)) => Origin::of_model(model, args.adapter.as_deref(), args.name.as_deref()),
        (None, None) => Err(nothing_named()),
    }
}

fn as_tensorrt(context: &Context, args: &ExportArgs) -> Result<u8> {
    let folder = out_of(args)?;
    let origin = origin_of(context, args)?;
    let engine = Engine::open(&context.backend, context.threads)?;
    let mut options = merge_options(&origin.base, args.dtype.as_deref(), None, origin.quantize)?;
    if options.dtype == DType::F32 {
        options.dtype = DType::BF16;
    }
    let (files, steps) = export::tensorrt(&engine, &origin, &options, folder)?;
    let described = files.iter().map(|file| describe(file, &args.to)).collect::<Result<Vec<_>>>()?;
    show(context, &described, &[], &[]);
    output::note("TensorRT-LLM 0.8 to about 1.2 reads this; later versions take what `--to merged` writes");
    tell(&steps, folder);
    Ok(0)
}

fn as_gguf(context: &Context, args: &ExportArgs) -> Result<u8> {
    let types = export::types(&args.quant)?;
    let mut origin = origin_of(context, args)?;
    if args.to == "gguf-lora" {
        match origin.adapter.as_ref().and_then(obstacle) {
            None => return lora(context, &origin, out_of(args)?),
            Some(why) => output::note(&format!("Base and adapter are exported as one model: {why}")),
        }
    }
    let folder = match args.to.as_str() {
        "lmstudio" => export::lm_studio_folder(&origin, args.out.as_deref())?,
        _ => out_of(args)?.to_owned(),
    };
    origin.layout_prints_no_begin = args.to == "ollama";
    // What Ollama cannot lay out is better said before gigabytes are written.
    let layout = (args.to == "ollama").then(|| export::turn_layout(&origin)).transpose()?;
    let engine = Engine::open(&context.backend, context.threads)?;
    if !weigh(&engine, &mut origin, args)? {
        output::note("Stopped; nothing was written");
        return Ok(super::interrupt::EXIT_CODE);
    }
    let Some(files) = export::gguf(&engine, &origin, &types, &folder)? else {
        return Ok(stopped());
    };
    let mut steps = match (&layout, args.to.as_str()) {
        (Some(layout), _) => export::ollama(&origin, layout, &files, &folder)?,
        (None, "raspberry-pi") => export::raspberry_pi(&origin, &files, &folder)?,
        (None, _) => Vec::new(),
    };
    let registered = layout.as_ref().map(|layout| register(context, args, &origin, layout, &files));
    let names = match &registered {
        Some(Ok(Registered::As(names))) => {
            steps = names.iter().map(|name| format!("ollama run {name}")).collect();
            names.as_slice()
        }
        _ => &[],
    };
    show(context, &files.iter().map(described).collect::<Result<Vec<_>>>()?, &files, names);
    for file in files.iter().filter(|file| !file.fallbacks.is_empty()) {
        output::note(&format!(
            "{} tensors of the {} file have a type with shorter blocks, because their rows are no multiple of 256",
            file.fallbacks.len(),
            file.file_type
        ));
    }
    if let Some((question, answer)) = files.first().and_then(|f| f.certificate.sample.as_ref()).filter(|_| args.test) {
        output::note(&format!("{question}\n{}", output::printable(answer)));
    }
    tell(&steps, &folder);
    match registered.transpose()? {
        Some(Registered::Stopped) => Ok(super::interrupt::EXIT_CODE),
        _ => Ok(0),
    }
}

/// The person had enough of an export that can go on.
pub(super) fn stopped() -> u8 {
    output::note("Stopped; the same command goes on from here. What is done has `.part` in its name");
    super::interrupt::EXIT_CODE
}

/// Find out which columns matter, where that was asked for; `false`: the person had enough.
pub(super) fn weigh(engine: &Engine, origin: &mut Origin, args: &ExportArgs) -> Result<bool> {
    let Some(asked) = &args.imatrix else { return Ok(true) };
    origin.importance = importance(engine, origin, asked)?;
    Ok(origin.importance.is_some())
}

/// Tell Ollama of the model, as far as that was asked for.
fn register(
    context: &Context,
    args: &ExportArgs,
    origin: &Origin,
    layout: &TurnLayout,
    files: &[Exported],
) -> Result<Registered> {
    let nobody = |why: &str| Registered::Nobody(Fault::new("PS-OLL-001", why));
    let answer = match args.register.as_str() {
        "never" => return Ok(nobody("Ollama was not asked for.")),
        _ if context.offline => nobody("`--offline` was given, so Ollama was not told of the model."),
        _ => export::register(origin, layout, files)?,
    };
    match answer {
        Registered::Nobody(fault) if args.register == "always" => Err(fault),
        Registered::Nobody(fault) => {
            output::note(&format!("{} The model is registered with the command below.", fault.detail));
            Ok(Registered::Nobody(fault))
        }
        done => Ok(done),
    }
}

fn tell(steps: &[String], folder: &Path) {
    for step in steps {
        output::note(&format!("In {}: {step}", folder.display()));
    }
}

fn lora(context: &Context, origin: &Origin, folder: &Path) -> Result<u8> {
    let (path, digest) = export::lora(origin, folder)?;
    let path = std::path::absolute(&path).map_err(|e| Fault::io("find", &path, e))?;
    let file =
        json!({"path": path.display().to_string(), "type": "F32", "bytes": digest.bytes, "sha256": digest.sha256});
    show(context, &[file], &[], &[]);
    Ok(0)
}

pub(super) fn described(file: &Exported) -> Result<Value> {
    let path = std::path::absolute(&file.path).map_err(|e| Fault::io("find", &file.path, e))?;
    let fallbacks: Vec<Value> =
        file.fallbacks.iter().map(|(name, kind)| json!({"tensor": name, "type": kind})).collect();
    Ok(json!({
        "path": path.display().to_string(),
        "type": file.file_type,
        "bytes": file.bytes,
        "sha256": file.sha256,
        "fallbacks": fallbacks,
    }))
}

fn show(context: &Context, files: &[Value], certified: &[Exported], registered: &[String]) {
    if context.json {
        let certificates: Vec<_> = certified.iter().map(|file| &file.certificate).collect();
        output::print_json(&json!({
            "files": files,
            "certificate": certificates.first(),
            "certificates": certificates,
            "registered": registered,
        }));
        return;
    }
    list(files, certified);
    for name in registered {
        output::line(&format!("{:>12}  in Ollama: {name}", ""));
    }
}

/// The files, for people.
pub(super) fn list(files: &[Value], certified: &[Exported]) {
    for (i, file) in files.iter().enumerate() {
        let size = output::bytes(file["bytes"].as_u64().unwrap_or(0));
        output::line(&format!("{size:>12}  {}", file["path"].as_str().unwrap_or("")));
        let Some(Certificate { checks, divergence, .. }) = certified.get(i).map(|file| &file.certificate) else {
            continue;
        };
        let far = divergence.map_or_else(String::new, |d| {
            format!("; {:.4} nats from the tuned model, the same first choice {:.1} %", d.kl, d.top1_agreement * 100.0)
        });
        output::line(&format!(
            "{:>12}  checked: {} of {} hold{far}",
            "",
            checks.iter().filter(|c| c.passed).count(),
            checks.len()
        ));
    }
}

/// Merge the result of a finished run into `out`.
pub fn merge_run(context: &Context, run: &Run, out: &Path) -> Result<()> {
    let source = source_of_run(run)?;
    let base = open_model(&source.model)?;
    let adapter = source.adapter.as_deref().map(read_adapter).transpose()?;
    let options = merge_options(&base, None, None, source.quantize)?;
    match merge(context, &base, adapter.as_ref(), &options, out)? {
        Some(_) => output::note(&format!("Merged model: {}", out.display())),
        None => output::note(&format!(
            "Stopped; this goes on: peft-studio export {} --to merged --out {}",
            run.id.as_str(),
            out.display()
        )),
    }
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

pub(super) fn merge_options(
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

/// `None`: the person had enough.
pub(super) fn merge(
    context: &Context,
    base: &BaseModel,
    adapter: Option<&AdapterFile>,
    options: &MergeOptions,
    out: &Path,
) -> Result<Option<Vec<PathBuf>>> {
    let engine = Engine::open(&context.backend, context.threads)?;
    let manifest = export::merged(&engine, base, adapter, options, out)?;
    Ok(manifest.map(|manifest| manifest.files.iter().map(|f| out.join(&f.name)).collect()))
}

pub(super) fn describe(path: &Path, kind: &str) -> Result<Value> {
    let path = std::path::absolute(path).map_err(|e| Fault::io("find", path, e))?;
    let digest = durable::sha256_file(&path).map_err(|e| Fault::io("read back", &path, e))?;
    Ok(json!({"path": path.display().to_string(), "type": kind, "bytes": digest.bytes, "sha256": digest.sha256}))
}
