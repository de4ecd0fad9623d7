//! How fast a model reads and writes: measured, kept, and held against what it was (S1.24, S1.25).

use super::open_model;
use peft_kernels::FourBitKind;
use peft_models::base::BaseModel;
use peft_models::engine::{Engine, Quantization, Session};
use peft_models::export::gguf::write::Source;
use peft_models::export::gguf::{FileType, Metadata};
use peft_models::generate::{GenerateOptions, Prompt};
use peft_models::peft_format::read_adapter;
use peft_plan::{AnswerMemory, Fault, Result};
use serde::Serialize;
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Most tokens and repetitions that are measured.
const MOST: usize = 1 << 16;
/// Measurements of the past that count.
const PAST: usize = 10;
/// Largest file of measurements that is read.
const HISTORY_BYTES: u64 = 64 << 20;
/// Tokens that are read where nobody says how many.
const PROMPT: usize = 512;
/// Its columns.
const COLUMNS: &str = "time,model,type,device,threads,prompt_tokens,generated_tokens,prompt_tokens_per_second,decode_tokens_per_second,peak_memory_bytes,weights_bytes,version";

/// What is measured.
pub struct BenchRequest {
    /// The base.
    pub model: String,
    /// The adapter.
    pub adapter: Option<PathBuf>,
    /// Type of the weights.
    pub quant: Option<String>,
    /// Tokens that are read; none: as many as is usual and the model has room for.
    pub prompt_tokens: Option<usize>,
    /// Tokens that are written.
    pub generate: usize,
    /// How often.
    pub repeats: usize,
}

/// Several measurements of one thing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The slowest.
    pub min: f64,
    /// The fastest.
    pub max: f64,
}

impl Spread {
    pub(super) fn of(mut all: Vec<f64>) -> Self {
        all.sort_by(f64::total_cmp);
        let last = all.len().saturating_sub(1);
        let at = |i: usize| all.get(i).copied().unwrap_or(0.0);
        Self { median: f64::midpoint(at(last / 2), at(all.len() / 2)), min: at(0), max: at(last) }
    }
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct BenchReport {
    /// Tokens read a second, the median.
    pub prompt_tokens_per_second: f64,
    /// Until the first token of an answer.
    pub first_token_seconds: Spread,
    /// Tokens written a second.
    pub decode_tokens_per_second: Spread,
    /// Most memory that this process had.
    pub peak_memory_bytes: u64,
    /// Weights, and keys and values of all tokens that were read and written.
    #[serde(flatten)]
    pub memory: AnswerMemory,
    /// Their type.
    #[serde(rename = "type")]
    pub kind: String,
    /// What computed.
    pub device: String,
    /// With so many threads.
    pub threads: usize,
}

/// Measure. A type of GGUF files is written to `scratch` first, which is removed again. What the request leaves open is
/// settled in it.
pub fn generate(engine: &Engine, request: &mut BenchRequest, scratch: &Path) -> Result<BenchReport> {
    let prompt = request.prompt_tokens.unwrap_or(PROMPT);
    let counts = [("prompt-tokens", prompt), ("generate", request.generate), ("repeats", request.repeats)];
    if let Some((name, given)) = counts.iter().find(|(_, given)| !(1..=MOST).contains(given)) {
        return Err(Fault::new("PS-CFG-001", format!("`--{name} {given}` cannot be measured; it can be 1 to {MOST}")));
    }
    let base = open_model(&request.model)?;
    let most = base.spec().max_positions;
    let room = most.saturating_sub(request.generate).max(1);
    let prompt = request.prompt_tokens.unwrap_or(prompt.min(room));
    request.prompt_tokens = Some(prompt);
    let (request, needed) = (&*request, prompt + request.generate);
    if needed > most {
        let detail = format!("{needed} tokens are more than the {most} that the model reads; measure fewer");
        return Err(Fault::new("PS-CFG-001", detail));
    }
    let adapter = request.adapter.as_deref();
    match request.quant.as_deref().map(str::to_lowercase).as_deref() {
        None => measure(&mut *engine.session(&base, adapter, None)?, &base, request, engine, stored(&base)),
        Some("nf4") => {
            let quantize = Some(Quantization { kind: FourBitKind::Nf4, double: true });
            measure(&mut *engine.session(&base, adapter, quantize)?, &base, request, engine, "nf4".to_owned())
        }
        Some(name) => {
            let Some(kind) = FileType::from_name(name) else {
                return Err(Fault::new(
                    "PS-CFG-001",
                    format!("`--quant {name}` is neither nf4 nor a type of GGUF files"),
                ));
            };
            durable::create_directories(scratch).map_err(|error| Fault::io("create the folder", scratch, error))?;
            let path = scratch.join(format!("bench-{}-{}.gguf", std::process::id(), kind.name()));
            let measured = converted(engine, &base, adapter, kind, &path).and_then(|file| {
                measure(&mut *engine.session(&file, None, None)?, &file, request, engine, name.to_owned())
            });
            // Nobody needs it any more, whatever came of it.
            std::fs::remove_file(&path).ok();
            measured
        }
    }
}

fn stored(base: &BaseModel) -> String {
    if base.checkpoint().gguf().is_some() {
        return "gguf".to_owned();
    }
    if base.stored_in_4bit() { "4bit".to_owned() } else { format!("{:?}", base.dtype()).to_lowercase() }
}

fn converted(
    engine: &Engine,
    base: &BaseModel,
    adapter: Option<&Path>,
    kind: FileType,
    path: &Path,
) -> Result<BaseModel> {
    let adapter = adapter.map(read_adapter).transpose()?;
    let about = Metadata::default();
    let source =
        Source { base, adapter: adapter.as_ref(), quantize: None, layout: None, about: &about, importance: None };
    let paths = [path.to_owned()];
    engine.conversion(source, &[kind])?.write(&paths, &mut |_, _| ControlFlow::Continue(()))?;
    BaseModel::open(&path.display().to_string(), path)
}

fn measure(
    session: &mut dyn Session,
    base: &BaseModel,
    request: &BenchRequest,
    engine: &Engine,
    kind: String,
) -> Result<BenchReport> {
    let vocabulary = base.spec().vocab_size as u32;
    // Any tokens: how long a product takes does not depend on them.
    let prompt = request.prompt_tokens.unwrap_or(PROMPT);
    let ids = (0..prompt as u32).map(|i| (i.wrapping_mul(7919) + 11) % vocabulary).collect();
    let prompts =
        [Prompt { ids, adapter: request.adapter.is_some() && request.quant.as_deref().is_none_or(|q| q == "nf4") }];
    let options = GenerateOptions { max_new_tokens: request.generate, ..GenerateOptions::default() };
    let tokens = prompt + request.generate;
    let memory = AnswerMemory::of(base.spec(), base.checkpoint().total_bytes(), tokens, engine.has_eight_bit_cache());
    let (mut first, mut written) = (Vec::new(), Vec::new());
    for round in 0..=request.repeats {
        session.forget();
        let done = session.generate(&prompts, &options, &mut |_, _| ControlFlow::Continue(()))?;
        if round > 0 {
            let tokens = done.answers.first().map_or(0, |answer| answer.ids.len());
            first.push(done.first_token_seconds);
            written.push(tokens as f64 / done.decode_seconds.max(1e-9));
        }
    }
    Ok(BenchReport {
        prompt_tokens_per_second: Spread::of(first.iter().map(|seconds| prompt as f64 / seconds.max(1e-9)).collect())
            .median,
        first_token_seconds: Spread::of(first),
        decode_tokens_per_second: Spread::of(written),
        peak_memory_bytes: engine.card_bytes().unwrap_or_else(super::memory::peak_memory),
        memory,
        kind,
        device: engine.backend().to_owned(),
        threads: engine.threads(),
    })
}

/// Add `report` to the file at `path`. The usual speed of the same measurement in it comes back, if it has one.
pub fn keep(report: &BenchReport, request: &BenchRequest, path: &Path) -> Result<Option<f64>> {
    let mut text = match std::fs::metadata(path) {
        Ok(data) if data.len() > HISTORY_BYTES => {
            return Err(Fault::new(
                "PS-CFG-001",
                format!("`{}` is too large for a file of measurements", path.display()),
            ));
        }
        Ok(_) => std::fs::read_to_string(path).map_err(|error| Fault::io("read", path, error))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Fault::io("read", path, error)),
    };
    if text.is_empty() {
        text = format!("{COLUMNS}\n");
    } else if text.lines().next() != Some(COLUMNS) {
        return Err(Fault::new(
            "PS-CFG-001",
            format!("`{}` is no file of measurements of this program", path.display()),
        ));
    }
    let name = Path::new(&request.model).file_name().unwrap_or_default().to_string_lossy();
    let name: String = name.chars().map(|c| if c == ',' || c == '"' || c.is_control() { '_' } else { c }).collect();
    let BenchReport { kind, device, threads, .. } = report;
    let what =
        format!("{name},{kind},{device},{threads},{},{},", request.prompt_tokens.unwrap_or(PROMPT), request.generate);
    let past = |line: &str| line.split_once(',')?.1.strip_prefix(&what)?.split(',').nth(1)?.parse::<f64>().ok();
    let past: Vec<f64> = text.lines().skip(1).filter_map(past).collect();
    let usual = (!past.is_empty()).then(|| Spread::of(past[past.len().saturating_sub(PAST)..].to_vec()).median);
    let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if !text.ends_with('\n') {
        text.push('\n');
    }
    writeln!(
        text,
        "{time},{what}{:.3},{:.3},{},{},{}",
        report.prompt_tokens_per_second,
        report.decode_tokens_per_second.median,
        report.peak_memory_bytes,
        report.memory.weights_bytes,
        env!("CARGO_PKG_VERSION"),
    )
    .expect("writing to a string cannot fail");
    durable::write_file(path, text.as_bytes()).map_err(|error| Fault::io("write", path, error))?;
    Ok(usual)
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn the_middle_of_an_even_number_is_between_two() {
        assert_eq!(Spread::of(vec![4.0, 1.0, 3.0, 2.0]), Spread { median: 2.5, min: 1.0, max: 4.0 });
        assert_eq!(Spread::of(vec![7.0]), Spread { median: 7.0, min: 7.0, max: 7.0 });
    }
}
