//! The proof that an exported file is the model that was trained: it is read again by our own reader, run, and
//! compared with base and adapter.
//!
//! The reader rebuilds tokenizer, layout and weights from the file alone, as llama.cpp does, so nothing of the
//! source can cover for something that is missing.

use super::gguf::architecture::{Architecture, Change};
use super::gguf::importance::Importance;
use super::gguf::write::{Source, Written};
use super::gguf::{FileType, metadata};
use super::strength::Strength;
use crate::base::BaseModel;
use crate::engine::{Engine, Session};
use crate::generate::{GenerateOptions, Prompt, StopReason};
use crate::merge::{Merger, dense};
use crate::train::SamplePrompt;
use peft_kernels::cpu::Cpu;
use peft_kernels::{FrozenWeight, quant};
use peft_plan::{Example, Fault, ModelSpec, Result, Role, Turn};
use peft_text::{ChatTemplate, RenderOptions, Tokenizer};
use serde::Serialize;
use std::ops::ControlFlow;
use std::path::Path;

/// Numbers of a matrix that are compared at a time.
const STRIP: usize = 1 << 20;
/// Tokens of a held-out row that are compared.
const ROW_TOKENS: usize = 256;
/// Longest answer that is waited for.
const ANSWER_TOKENS: usize = 96;
/// Texts in which ways to split differ.
const TEXTS: [&str; 6] = [
    "Hello, world! I'VE 1234567 apples; it's 3.14%.",
    "  leading, double  spaces\tand a tab\nnew line\n\n\nend ",
    "Grüße, l'été, niño — „quoted“",
    "今天天气很好。Ещё раз, 한국어",
    "def f(x):\n    return x ** 2  # square\n",
    "😀 👩‍💻 don't DON'T we'll camelCase HTTPServer",
];

/// One thing that was checked.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// Whether it holds.
    pub passed: bool,
    /// What was found.
    pub detail: String,
}

/// How far the answers are from those of base and adapter.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Divergence {
    /// Mean Kullback-Leibler divergence of the next token, nats.
    pub kl: f64,
    /// How often the most likely token is the same.
    pub top1_agreement: f64,
    /// Positions that were compared.
    pub tokens: usize,
}

/// What was found about one file.
#[derive(Clone, Debug, Serialize)]
pub struct Certificate {
    /// Its name.
    pub file: String,
    /// Its type.
    #[serde(rename = "type")]
    pub file_type: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: String,
    /// Which model it was made from.
    pub base_hash: String,
    /// What its columns were weighed by, if they were.
    pub importance: Option<String>,
    /// All of it.
    pub checks: Vec<Check>,
    /// Against base and adapter, where both could be run.
    pub divergence: Option<Divergence>,
    /// A question and what the file answers.
    pub sample: Option<(String, String)>,
}

impl Certificate {
    /// Whether everything holds.
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.passed)
    }

    /// The checks that do not hold, in a sentence.
    pub fn failures(&self) -> String {
        let failed = self.checks.iter().filter(|check| !check.passed);
        failed.map(|check| format!("{}: {}", check.name, check.detail)).collect::<Vec<_>>().join("; ")
    }
}

/// What a file is held against.
pub struct Reference<'a> {
    /// Base and adapter.
    pub source: Source<'a>,
    /// How conversations became tokens in training; `None` for a model without a layout.
    pub render: Option<&'a RenderOptions>,
    /// Token ids of rows that were not trained on.
    pub rows: &'a [Vec<u32>],
    /// A question of the kind that it was trained for; without one it is asked something that every model can answer.
    pub sample: Option<&'a SamplePrompt>,
}

/// How far the answers of a type may be from the original, nats.
fn most_divergence(file_type: FileType) -> f64 {
    match file_type.base().bits() {
        16.0.. => 0.01,
        8.0.. => 0.05,
        6.0.. => 0.1,
        5.0.. => 0.2,
        4.0.. => 0.5,
        3.0.. => 1.0,
        _ => 3.0,
    }
}

/// How far weights of a type may be from the original, relative to their size.
fn most_error(bits: f64) -> f64 {
    match bits {
        32.0.. => 1e-6,
        16.0.. => 5e-3,
        8.0.. => 0.015,
        6.0.. => 0.05,
        5.0.. => 0.09,
        4.0.. => 0.18,
        3.0.. => 0.35,
        _ => 0.7,
    }
}

/// Read the file again and compare it with what it was made from.
pub fn certify(engine: &Engine, cpu: &Cpu, reference: &Reference, written: &Written) -> Result<Certificate> {
    let mut checks = Vec::new();
    let mut certificate = Certificate {
        file: written.path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned()),
        file_type: written.file_type.name().to_owned(),
        bytes: written.digest.bytes,
        sha256: written.digest.sha256.clone(),
        base_hash: reference.source.base.checkpoint().hash().to_owned(),
        importance: reference.source.importance.map(Importance::described),
        checks: Vec::new(),
        divergence: None,
        sample: None,
    };
    let model = match reopened(written, &mut checks) {
        Ok(model) => model,
        Err(fault) => {
            checks.push(Check { name: "opens", passed: false, detail: fault.detail });
            certificate.checks = checks;
            return Ok(certificate);
        }
    };
    checks.push(architecture(reference.source.base.spec(), model.spec()));
    checks.push(vocabulary(&model));
    weights(cpu, &reference.source, &model, &mut checks)?;
    texts(reference.source.base.tokenizer(), model.tokenizer(), &mut checks);
    let mut prompts = Vec::new();
    if let Some(render) = reference.render {
        conversations(reference.source.base.tokenizer(), &model, render, &mut checks, &mut prompts)?;
        checks.push(stop_token(&model, render));
    }
    if checks.iter().all(|check| check.passed) {
        let Source { base, adapter, quantize, .. } = reference.source;
        let mut tuned = engine.sparing_session(base, adapter, quantize)?;
        let mut file = engine.sparing_session(&model, None, None)?;
        let rows = if reference.rows.is_empty() { &prompts } else { reference.rows };
        let divergence = divergence(&mut *tuned, &mut *file, rows, adapter.is_some())?;
        checks.push(judged(&divergence, written.file_type));
        certificate.divergence = Some(divergence);
        let general = prompts.first().map(|ids| (QUESTION, ids));
        let asked = reference.sample.map(|sample| (sample.prompt.as_str(), &sample.ids)).or(general);
        if let (Some(render), Some((question, prompt))) = (reference.render, asked) {
            let (check, answer) = stops(&mut *tuned, &mut *file, &model, prompt, render, adapter.is_some())?;
            checks.push(check);
            certificate.sample = Some((question.to_owned(), answer));
        }
    }
    certificate.checks = checks;
    Ok(certificate)
}

fn reopened(written: &Written, checks: &mut Vec<Check>) -> Result<BaseModel> {
    let path: &Path = &written.path;
    let digest = durable::sha256_file(path).map_err(|error| Fault::io("read back", path, error))?;
    let same = digest == written.digest;
    let detail =
        if same { "every byte is what was written" } else { "the bytes on the disk are not those that were written" };
    checks.push(Check { name: "bytes", passed: same, detail: detail.to_owned() });
    let model = BaseModel::open(&certified_name(path), path)?;
    checks.push(Check {
        name: "opens",
        passed: true,
        detail: format!("{} tensors", model.checkpoint().tensors().count()),
    });
    Ok(model)
}

fn certified_name(path: &Path) -> String {
    path.display().to_string()
}

/// What the file says about the architecture is what the base says.
fn architecture(base: &ModelSpec, file: &ModelSpec) -> Check {
    let mut wrong = Vec::new();
    let mut same = |what: &str, equal: bool| {
        if !equal {
            wrong.push(what.to_owned());
        }
    };
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-5 * a.abs().max(b.abs());
    let cap = |a: Option<f64>, b: Option<f64>| near(a.unwrap_or(0.0), b.unwrap_or(0.0));
    same("rows of the vocabulary", base.vocab_size == file.vocab_size);
    same("width", base.hidden_size == file.hidden_size && base.intermediate_size == file.intermediate_size);
    same("layers", base.layers.len() == file.layers.len());
    same("heads", (base.n_heads, base.n_kv_heads, base.head_dim) == (file.n_heads, file.n_kv_heads, file.head_dim));
    same("epsilon of the norms", near(base.norm_eps, file.norm_eps));
    same("scale of attention", near(base.attention_scale, file.attention_scale));
    same(
        "soft caps",
        cap(base.attention_softcap, file.attention_softcap) && cap(base.logit_softcap, file.logit_softcap),
    );
    let frequencies = |spec: &ModelSpec| {
        let rope = metadata::global_rope(spec);
        peft_plan::rope::inverse_frequencies(rope, spec.rotary_dim, 1)
    };
    let (a, b) = (frequencies(base), frequencies(file));
    let equal = a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| near(f64::from(*a), f64::from(*b)));
    same("rotary frequencies", equal);
    let detail = if wrong.is_empty() { "as the base".to_owned() } else { format!("another {}", wrong.join(", ")) };
    Check { name: "architecture", passed: wrong.is_empty(), detail }
}

/// As many tokens as rows.
fn vocabulary(model: &BaseModel) -> Check {
    let file = model.checkpoint().gguf();
    let tokens = file.and_then(|f| f.metadata().strings("tokenizer.ggml.tokens")).map_or(0, <[String]>::len);
    let rows = model.spec().vocab_size;
    let detail = format!("{tokens} tokens, {rows} rows of the embedding");
    Check { name: "vocabulary", passed: tokens == rows, detail }
}

/// Every tensor is that of base and adapter, as exactly as its type can say it; the adapter has its full strength.
fn weights(cpu: &Cpu, source: &Source, model: &BaseModel, checks: &mut Vec<Check>) -> Result<()> {
    let Source { base, adapter, quantize, .. } = *source;
    let merger = Merger::new(cpu, base.checkpoint(), adapter, quantize)?;
    let bare = Merger::new(cpu, base.checkpoint(), None, quantize)?;
    let spec = model.spec();
    let mut strength = Strength::default();
    let mut worst: Option<(f64, String)> = None;
    let mut count = 0;
    for named in Architecture::of(spec)?.tensors(spec, !spec.tied) {
        let name = &named.canonical;
        let Some(stored) = model.checkpoint().tensor(name) else { continue };
        let merged = merger.tensor(name)?;
        let changed = merged.is_some();
        let of_base = || -> Result<Vec<f32>> {
            match bare.tensor(name)? {
                Some(values) => Ok(values),
                None if named.shape.len() == 1 => base.checkpoint().vector(name),
                None => Ok(dense(&base.checkpoint().frozen(name)?)),
            }
        };
        let bits = stored.blocks.map_or_else(|| stored.dtype.bitsize() as f64, peft_kernels::quant::GgmlType::bits);
        // What Gemma stores less one has lost its last digits on the way through the gain itself.
        let offset = if named.change == Change::AddOne { 1.0 } else { 0.0 };
        let error = if changed || named.shape.len() != 2 || !base.checkpoint().has(name) {
            let wanted = merged.map_or_else(of_base, Ok)?;
            let found = stored.to_f32()?;
            if changed && adapter.is_some() && base.checkpoint().has(name) {
                strength.add(&of_base()?, &wanted, &found);
            }
            let mut error = Error::default();
            error.add(&wanted, &found, offset);
            error.relative()
        } else {
            strip_by_strip(&base.checkpoint().frozen(name)?, &model.checkpoint().frozen(name)?)
        };
        let over = error / most_error(bits);
        count += 1;
        if worst.as_ref().is_none_or(|(most, _)| over > *most) {
            worst = Some((over, stored.stored_name.clone()));
        }
        model.checkpoint().release(name);
        base.checkpoint().release(name);
    }
    let (over, name) = worst.unwrap_or((0.0, String::new()));
    let passed = over <= 1.0;
    let detail = if passed {
        format!("{count} tensors as near as their types allow")
    } else {
        format!("`{name}` is {over:.1} times as far from the original as its type allows")
    };
    checks.push(Check { name: "weights", passed, detail });
    if let Some((share, tolerance)) = strength.share() {
        let passed = (share - 1.0).abs() <= tolerance;
        let detail = format!("{:.1} % of the adapter is in the file", share * 100.0);
        checks.push(Check { name: "adapter", passed, detail });
    }
    Ok(())
}

/// How far numbers are from others, relative to their size.
#[derive(Default)]
struct Error {
    error: f64,
    size: f64,
}

impl Error {
    fn add(&mut self, wanted: &[f32], found: &[f32], offset: f64) {
        if wanted.len() != found.len() {
            self.error = f64::INFINITY;
        }
        for (a, b) in wanted.iter().zip(found) {
            self.error += f64::from(a - b).powi(2);
            self.size += (f64::from(*a) + offset).powi(2);
        }
    }

    fn relative(&self) -> f64 {
        if self.size == 0.0 { self.error.sqrt() } else { (self.error / self.size).sqrt() }
    }
}

/// The error of a matrix that no adapter changes: neither side is in memory whole.
fn strip_by_strip(wanted: &FrozenWeight, found: &FrozenWeight) -> f64 {
    if wanted.shape() != found.shape() {
        return f64::INFINITY;
    }
    let (rows, cols) = wanted.shape();
    let mut error = Error::default();
    let mut sides = [vec![0.0; STRIP.min(rows * cols)], vec![0.0; STRIP.min(rows * cols)]];
    for start in (0..rows * cols).step_by(STRIP) {
        let count = STRIP.min(rows * cols - start);
        for (side, weight) in sides.iter_mut().zip([wanted, found]) {
            quant::decode(weight, start, &mut side[..count]);
        }
        error.add(&sides[0][..count], &sides[1][..count], 0.0);
    }
    error.relative()
}

/// Raw text becomes the same tokens.
fn texts(source: &Tokenizer, file: &Tokenizer, checks: &mut Vec<Check>) {
    let ids = |tokenizer: &Tokenizer, text: &str| tokenizer.encode_text(text, false).ok();
    let wrong = TEXTS.iter().find(|text| ids(source, text).is_none() || ids(source, text) != ids(file, text));
    let detail = match wrong {
        None => format!("{} texts become the same tokens", TEXTS.len()),
        Some(text) => format!("the text {text:?} becomes other tokens"),
    };
    checks.push(Check { name: "tokenizer", passed: wrong.is_none(), detail });
}

/// The question that is put to a file of which nobody knows what it is for.
const QUESTION: &str = "What can you help me with?";

fn talks() -> Vec<Vec<Turn>> {
    let turn = Turn::new;
    let (system, user, answer) = (Role::System, Role::User, Role::Assistant);
    vec![
        vec![turn(user, QUESTION)],
        vec![turn(system, "You are a careful assistant."), turn(user, "How much is 12 × 345?")],
        vec![
            turn(user, "Hello there!\nI have two questions."),
            turn(answer, "Ask away — I'm listening."),
            turn(user, "  Wie heißt du, and what's 3.14 rounded?"),
        ],
    ]
}

/// Conversations become the same tokens in training, through the layout of the file, and as llama.cpp reads the text.
fn conversations(
    source: &Tokenizer,
    model: &BaseModel,
    render: &RenderOptions,
    checks: &mut Vec<Check>,
    prompts: &mut Vec<Vec<u32>>,
) -> Result<()> {
    let file = model.tokenizer();
    let metadata = model.checkpoint().gguf().map(super::gguf::File::metadata);
    let adds_bos = metadata.and_then(|m| m.flag("tokenizer.ggml.add_bos_token")).unwrap_or(false);
    let own = match ChatTemplate::resolve("auto", file) {
        Ok(template) => RenderOptions { template, ..render.clone() },
        Err(fault) => {
            checks.push(Check { name: "conversations", passed: false, detail: fault.detail });
            return Ok(());
        }
    };
    let bos = file.bos().or(source.bos());
    let (mut other, mut begins, mut compared, mut added) = (None, None, 0, false);
    for turns in talks() {
        // A layout that refuses a role refuses it everywhere.
        let Ok(wanted) = source.render_prompt(&turns, render) else { continue };
        compared += 1;
        let found = file.render_prompt(&turns, &own).unwrap_or_default();
        if wanted != found {
            other.get_or_insert_with(|| turns.last().map(|t| t.content.clone()).unwrap_or_default());
        }
        let mut whole = turns.clone();
        whole.push(Turn::new(Role::Assistant, "Gladly. It is 42."));
        if let Ok(rendered) = source.render(&Example::Messages(whole.clone()), render) {
            let printed = own_text(file, whole, &own)?;
            let read = as_read(file, &printed, adds_bos)?;
            let count = |ids: &[u32]| bos.map_or(0, |bos| ids.iter().filter(|id| **id == bos.id).count());
            let trained = &rendered.ids;
            // A tokenizer that begins every text with a token does so where the layout prints none, too.
            let is_begun = count(trained) == 0 && count(&read) == 1 && read[1..] == trained[..];
            added |= is_begun;
            if (read != *trained && !is_begun) || count(&read) > 1 {
                begins.get_or_insert((count(&read), count(trained)));
            }
        }
        prompts.push(wanted);
    }
    let detail = match &other {
        None => format!("{compared} conversations become the same tokens"),
        Some(text) => format!("a conversation that ends in {text:?} becomes other tokens"),
    };
    checks.push(Check { name: "conversations", passed: other.is_none() && compared > 0, detail });
    let detail = match begins {
        None if added => {
            "a conversation is as in training, behind the begin token that its tokenizer puts before every text"
                .to_owned()
        }
        None => "a conversation begins as it did in training".to_owned(),
        Some((read, trained)) => {
            format!("read as text, a conversation has {read} begin tokens or others inside, in training {trained}")
        }
    };
    checks.push(Check { name: "begin", passed: begins.is_none(), detail });
    Ok(())
}

fn own_text(file: &Tokenizer, turns: Vec<Turn>, own: &RenderOptions) -> Result<String> {
    Ok(file.render(&Example::Messages(turns), own)?.text)
}

/// The tokens of a printed conversation as llama.cpp reads it: the begin token that the layout printed makes room for
/// the one that the tokenizer adds.
fn as_read(file: &Tokenizer, text: &str, adds_bos: bool) -> Result<Vec<u32>> {
    let Some(bos) = file.bos().filter(|_| adds_bos) else { return file.encode_text(text, false) };
    let mut ids = vec![bos.id];
    ids.extend(file.encode_text(text.strip_prefix(bos.text.as_str()).unwrap_or(text), false)?);
    Ok(ids)
}

/// The token that ended answers in training ends them in the file.
fn stop_token(model: &BaseModel, render: &RenderOptions) -> Check {
    let metadata = model.checkpoint().gguf().map(super::gguf::File::metadata);
    let number = |key: &str| metadata.and_then(|m| m.number(&format!("tokenizer.ggml.{key}_token_id")));
    let ids: Vec<u64> = ["eos", "eot"].into_iter().filter_map(number).collect();
    let Some(end) = render.template.end_of_turn() else {
        let detail = "the layout ends answers with no token of its own".to_owned();
        return Check { name: "stop token", passed: !ids.is_empty(), detail };
    };
    let id = model.tokenizer().token_to_id(end).map(u64::from);
    let passed = id.is_some_and(|id| ids.contains(&id));
    let detail = if passed { format!("`{end}` ends an answer") } else { format!("`{end}` does not end an answer") };
    Check { name: "stop token", passed, detail }
}

fn divergence(
    tuned: &mut dyn Session,
    file: &mut dyn Session,
    rows: &[Vec<u32>],
    adapters: bool,
) -> Result<Divergence> {
    let (mut kl, mut agree, mut tokens) = (0.0, 0usize, 0usize);
    for row in rows {
        let row = &row[..row.len().min(ROW_TOKENS)];
        if row.is_empty() {
            continue;
        }
        let (p, q) = (tuned.logits(row, adapters)?, file.logits(row, false)?);
        let width = p.len() / row.len();
        for (p, q) in p.chunks_exact(width).zip(q.chunks_exact(width)) {
            kl += divergence_of(p, q);
            agree += usize::from(largest(p) == largest(q));
            tokens += 1;
        }
    }
    let count = tokens.max(1) as f64;
    Ok(Divergence { kl: kl / count, top1_agreement: agree as f64 / count, tokens })
}

fn divergence_of(p: &[f32], q: &[f32]) -> f64 {
    let log_sum = |z: &[f32]| {
        let top = f64::from(z.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        top + z.iter().map(|x| (f64::from(*x) - top).exp()).sum::<f64>().ln()
    };
    let (a, b) = (log_sum(p), log_sum(q));
    let term = |(p, q): (&f32, &f32)| {
        let (p, q) = (f64::from(*p) - a, f64::from(*q) - b);
        p.exp() * (p - q)
    };
    p.iter().zip(q).map(term).sum::<f64>().max(0.0)
}

fn largest(logits: &[f32]) -> usize {
    let best =
        logits.iter().enumerate().fold((0, f32::NEG_INFINITY), |best, (i, x)| if *x > best.1 { (i, *x) } else { best });
    best.0
}

fn judged(found: &Divergence, file_type: FileType) -> Check {
    let most = most_divergence(file_type);
    // A NaN is not below it either.
    let passed = found.tokens > 0 && found.kl <= most;
    let detail = format!(
        "{:.5} nats on {} tokens (at most {most} for {}), the same first choice {:.1} % of the time",
        found.kl,
        found.tokens,
        file_type.name(),
        found.top1_agreement * 100.0
    );
    Check { name: "divergence", passed, detail }
}

/// The file ends its answer where base and adapter do; and what it answers.
fn stops(
    tuned: &mut dyn Session,
    file: &mut dyn Session,
    model: &BaseModel,
    prompt: &[u32],
    render: &RenderOptions,
    adapters: bool,
) -> Result<(Check, String)> {
    let mut stop_ids = model.tokenizer().stop_ids().to_vec();
    stop_ids.extend_from_slice(render.template.stop_ids());
    let room = model.spec().max_positions.saturating_sub(prompt.len()).clamp(1, ANSWER_TOKENS);
    let answer = |session: &mut dyn Session, adapter: bool, own: bool| {
        let prompts = [Prompt { ids: prompt.to_vec(), adapter }];
        let stop_ids = if own { model.tokenizer().stop_ids().to_vec() } else { stop_ids.clone() };
        let options = GenerateOptions { max_new_tokens: room, stop_ids, ..GenerateOptions::default() };
        session.generate(&prompts, &options, &mut |_, _| ControlFlow::Continue(()))
    };
    let found = answer(file, false, true)?;
    let ended = |g: &crate::generate::Generated| g.answers.first().is_some_and(|a| a.stop == StopReason::Stop);
    let (passed, detail) = if ended(&found) {
        (true, "the answer to a question ends".to_owned())
    } else {
        let wanted = answer(tuned, adapters, false)?;
        let last = wanted.answers.first().filter(|answer| answer.stop == StopReason::Stop);
        match last.map(|answer| last_token(tuned, (prompt, &answer.ids), &stop_ids, adapters)).transpose()?.flatten() {
            None => (true, format!("neither model nor file ended an answer within {room} tokens")),
            // Rounded weights answer in other words, some of them at greater length; how far they are from the model
            // is measured by the divergence. Here it counts that programs stop where the model does.
            Some(end) if model.tokenizer().stop_ids().contains(&end) => (
                true,
                format!("the model ends its answer with a token that stops the file, which took over {room} tokens"),
            ),
            Some(_) => (false, "the model ends its answer with a token that does not stop the file".to_owned()),
        }
    };
    let ids = found.answers.first().map(|a| a.ids.clone()).unwrap_or_default();
    let text = model.tokenizer().decode(&ids)?;
    Ok((Check { name: "end of answer", passed, detail }, text))
}

/// The one of `stops` with which an answer to a prompt ended: the likeliest there.
fn last_token(
    session: &mut dyn Session,
    (prompt, answer): (&[u32], &[u32]),
    stops: &[u32],
    adapters: bool,
) -> Result<Option<u32>> {
    let tokens = [prompt, answer].concat();
    let logits = session.logits(&tokens, adapters)?;
    let last = &logits[logits.len() - logits.len() / tokens.len().max(1)..];
    let likely = |id: &u32| last.get(*id as usize).copied().unwrap_or(f32::NEG_INFINITY);
    Ok(stops.iter().copied().max_by(|a, b| likely(a).total_cmp(&likely(b))))
}
