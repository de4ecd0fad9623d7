//! How fast this machine trains a model of these shapes: a few timed passes through its first blocks, with the
//! kernels of a real run (B11). Nothing is learnt and nothing is kept but seconds.

use crate::adapter::{AdapterSource, AdapterSpec};
use crate::checkpoint::Checkpoint;
use crate::decoder::{Activations, Batch, BuildOptions, Decoder, build_first};
use crate::engine::Quantization;
use crate::fault::device;
use crate::generate::{GenerateOptions, Prompt, generate};
use peft_kernels::{AdamW, Backend};
use peft_plan::estimate::{Calibration, Point};
use peft_plan::{Fault, Method, ModelSpec, Result, TrainingPlan};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

/// Time that the passes may take together, about.
const BUDGET: Duration = Duration::from_secs(2);
/// Time to make the blocks that answer, about.
const BUILD: Duration = Duration::from_millis(500);
/// Rounds of passes, at most.
const PASSES: usize = 15;
/// Above so many parameters outside the blocks, training them too is counted instead of tried.
const LARGE: usize = 40_000_000;
/// Prompts that are answered, tokens of each, and of its answer.
const ANSWERS: usize = 3;
const ANSWER_PROMPT: u32 = 32;
const ANSWER_TOKENS: usize = 6;
/// Caches of processors are not larger.
const LARGEST_CACHE: usize = 128 << 20;
/// A file that is large enough to show the speed of the disk.
const FILE_BYTES: usize = 8 << 20;

/// What is measured.
pub struct Sample<'a> {
    /// The plan of the run.
    pub plan: &'a TrainingPlan,
    /// The model that is meant, of which the checkpoint may hold the first blocks only.
    pub whole: Whole,
    /// Lengths of the examples of two micro-batches: a small and a large one.
    pub micro_batches: [&'a [usize]; 2],
    /// Share of the tokens that are learnt.
    pub learnt_share: f64,
    /// A folder on the disk that runs are kept on.
    pub directory: &'a Path,
    /// Energy that the processor has used so far, joules, where it says.
    pub joules: &'a dyn Fn() -> Option<f64>,
}

/// How large a model is.
#[derive(Clone, Copy, Debug)]
pub struct Whole {
    /// Bytes as it is stored.
    pub stored_bytes: u64,
    /// Its blocks.
    pub blocks: usize,
}

pub(crate) fn run<B: Backend>(be: &B, checkpoint: &Checkpoint, sample: &Sample) -> Result<Calibration> {
    let spec = checkpoint.spec();
    // A whole embedding in f32, with gradient and moments, takes longer to make than to measure anything with.
    let is_large = spec.vocab_size * spec.hidden_size > LARGE;
    let method = match sample.plan.method {
        Method::Full if is_large => Method::Lora,
        method => method,
    };
    let plan = &TrainingPlan { method, init_from: None, ..sample.plan.clone() };
    let full = method == Method::Full;
    let blocks = if spec.parameters() / spec.layers.len().max(1) as u64 > 100_000_000 { 1 } else { 2 };
    let blocks = blocks.min(spec.layers.len());
    let source = AdapterSource::Fresh { spec: AdapterSpec::of_plan(plan), seed: 1 };
    let options = BuildOptions {
        full,
        quantize: Quantization::of_plan(plan),
        adapter: (!full).then_some(source),
        trainable: true,
    };
    let begun = Instant::now();
    let mut decoder = build_first(be, checkpoint, &options, blocks)?;
    let build_seconds = begun.elapsed().as_secs_f64() / blocks as f64;
    let mut acts = decoder.activations(false).map_err(device)?;
    let energy = (sample.joules)();
    let begun = Instant::now();

    let timed = passes(&mut decoder, &mut acts, &Rest::of(sample, blocks), sample)?;
    let points = timed.points(&decoder, blocks);
    let head_row_seconds = timed.head_row_seconds();
    let update_seconds = update(&mut decoder)?;
    let seconds = begun.elapsed().as_secs_f64();
    let watts = match (energy, (sample.joules)()) {
        // Too short a time says nothing.
        (Some(before), Some(after)) if after > before && seconds > 0.2 => Some((after - before) / seconds),
        _ => None,
    };
    drop((acts, decoder));
    let many = blocks_for_answers(sample.whole, build_seconds).clamp(blocks, spec.layers.len());
    let options = BuildOptions { trainable: false, ..options };
    let mut decoder = build_first(be, checkpoint, &options, many)?;
    let answer_seconds = answers(&mut decoder, many, spec.layers.len())?;
    let (sync_seconds, write_seconds_per_byte) = disk(sample.directory)?;
    Ok(Calibration {
        method,
        rank: plan.rank,
        dropout: plan.dropout > 0.0,
        points,
        head_row_seconds,
        update_seconds,
        answer_seconds,
        build_seconds,
        sync_seconds,
        write_seconds_per_byte,
        threads: plan.threads,
        watts,
        correction: 1.0,
    })
}

/// The blocks that are not measured. In a run all of them are read between two passes through one, so that its weights
/// come from memory each time; two blocks alone would stay in the caches of the processor.
struct Rest(Vec<u64>);

impl Rest {
    fn of(sample: &Sample, blocks: usize) -> Self {
        // Weights that are quantized on the way take about a third.
        let shrunk = if Quantization::of_plan(sample.plan).is_some() { 0.3 } else { 1.0 };
        let share = 1.0 - blocks as f64 / sample.whole.blocks.max(1) as f64;
        let bytes = (sample.whole.stored_bytes as f64 * shrunk * share.max(0.0)) as usize;
        Self(vec![1; bytes.min(LARGEST_CACHE) / size_of::<u64>()])
    }

    /// Read as much of other memory as a pass through the other blocks does.
    fn pass_by(&self) {
        let sum = self.0.iter().fold(0_u64, |sum, &word| sum.wrapping_add(word));
        std::hint::black_box(sum);
    }
}

/// A batch of sequences of these lengths, of which the last `share` of each is learnt.
pub(crate) fn batch(vocabulary: usize, lengths: &[usize], share: f64) -> Batch {
    let mut batch = Batch::default();
    let mut next = 1_usize;
    for &length in lengths {
        let ids: Vec<u32> = (0..length)
            .map(|_| {
                // Tokens spread over the vocabulary, as in a text.
                next = (next * 48_271 + 11) % 0x7fff_ffff;
                (next % vocabulary.max(1)) as u32
            })
            .collect();
        let learnt = (length as f64 * share).round() as usize;
        let trained: Vec<bool> = (0..length).map(|i| i + learnt >= length).collect();
        batch.push(&ids, &trained);
    }
    batch
}

/// The median: what disturbs a calibration now and then will disturb the run, too.
fn typical(seconds: &mut [f64]) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().unwrap_or(0.0)
}

/// The micro-batches that are timed, and their times.
struct Timed {
    /// Lengths: one example, a small and a large micro-batch, and a part of the small one that is short enough for a
    /// wide head.
    lengths: [Vec<usize>; 4],
    /// Forward and backward of the four, without the head.
    both: [f64; 4],
    /// Forward of the first three.
    forward: [f64; 3],
    /// The last with the head, and its trained rows.
    with_head: f64,
    rows: f64,
}

/// Time every kind of pass in turn, so that a disturbance meets all of them.
fn passes<B: Backend>(
    decoder: &mut Decoder<B>,
    acts: &mut Activations<B>,
    rest: &Rest,
    sample: &Sample,
) -> Result<Timed> {
    let [small, large] = sample.micro_batches;
    let vocabulary = decoder.spec.vocab_size;
    let share = if sample.learnt_share > 0.0 { sample.learnt_share } else { 1.0 };
    // A wide head is as fast for some rows as for many.
    let mut left = (2_000_000_000 / (vocabulary * decoder.spec.hidden_size).max(1)).clamp(16, 1024);
    let mut take = |length: usize| {
        let taken = length.min(left);
        left -= taken;
        taken
    };
    let short: Vec<usize> = small.iter().map(|&l| take(l)).filter(|&l| l > 1).collect();
    let one = small.iter().take(1).copied().collect();
    let lengths = [one, small.to_vec(), large.to_vec(), short];
    // Where nothing is learnt the head has nothing to do.
    let silent: Vec<Batch> = lengths.iter().map(|lengths| batch(vocabulary, lengths, 0.0)).collect();
    let loud = batch(vocabulary, &lengths[3], share);
    let mut times: [Vec<f64>; 8] = Default::default();
    let begun = Instant::now();
    let mut round = Duration::ZERO;
    for number in 0..=PASSES {
        // The first round warms up; after it and one more, only while there is time for another.
        if number >= 2 && begun.elapsed() + round > BUDGET {
            break;
        }
        let round_begun = Instant::now();
        for (kind, times) in times.iter_mut().enumerate() {
            rest.pass_by();
            let begun = Instant::now();
            match kind {
                0..=3 => drop(decoder.train_pass(acts, &silent[kind], 1.0, (1, 1)).map_err(device)?),
                4 => drop(decoder.train_pass(acts, &loud, 1.0, (1, 1)).map_err(device)?),
                _ => drop(decoder.score(acts, &silent[kind - 5], true).map_err(device)?),
            }
            if number > 0 {
                times.push(begun.elapsed().as_secs_f64());
            }
        }
        round = round_begun.elapsed();
    }
    let [a, b, c, d, with_head, e, f, g] = times.each_mut().map(|times| typical(times));
    let rows = loud.trained_tokens().max(1) as f64;
    Ok(Timed { lengths, both: [a, b, c, d], forward: [e, f, g], with_head, rows })
}

impl Timed {
    /// One block's share of the passes without the head, the smallest first.
    fn points<B: Backend>(&self, decoder: &Decoder<B>, blocks: usize) -> Vec<Point> {
        // The lowest block needs no gradient of its input, which the others do.
        let spec = &decoder.spec;
        let size = |first: bool| -> f64 {
            let modules = spec.modules.iter().filter(|m| !first || m.parts.iter().any(|p| p.is_qkv()));
            modules.map(|m| (m.in_features * m.out_features) as f64).sum()
        };
        let skipped = 0.5 * size(true) / size(false).max(1.0);
        let mut points: Vec<Point> = (0..3)
            .map(|i| Point {
                tokens: self.lengths[i].iter().sum(),
                squares: self.lengths[i].iter().map(|&l| (l * l) as f64).sum(),
                seconds: self.both[i] / (blocks as f64 - skipped),
                forward_seconds: self.forward[i] / blocks as f64,
            })
            .collect();
        points.sort_by_key(|p| p.tokens);
        points.dedup_by_key(|p| p.tokens);
        points
    }

    /// What a trained row adds to a pass.
    fn head_row_seconds(&self) -> f64 {
        (self.with_head - self.both[3]).max(0.0) / self.rows
    }
}

/// What the optimizer, and what a step does once, takes for each trained parameter.
fn update<B: Backend>(decoder: &mut Decoder<B>) -> Result<f64> {
    let be = decoder.be.clone();
    let count: usize = decoder.params_mut().iter().map(|p| p.value.len()).sum();
    let params = AdamW {
        learning_rate: 0.0,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.0,
        step: 1,
        gradient_scale: 1.0,
    };
    let mut times = Vec::new();
    for _ in 0..4 {
        let begun = Instant::now();
        // DoRA's norms follow from the adapters' values, and are made anew with them.
        decoder.prepare().map_err(device)?;
        for p in decoder.params_mut() {
            p.zero_grad(&be).map_err(device)?;
        }
        let all = decoder.params_mut();
        let gradients: Vec<_> = all.into_iter().filter_map(|p| p.grad().map(|grad| &*grad)).collect();
        be.sum_squares_of(&gradients).map_err(device)?;
        for p in decoder.params_mut() {
            p.step(&be, &params).map_err(device)?;
        }
        times.push(begun.elapsed().as_secs_f64());
    }
    let seconds = typical(&mut times);
    Ok(seconds / count.max(1) as f64)
}

/// An answer reads all weights once for a token, so that most of its time is that of the memory: as many blocks are
/// made for it as no cache holds, or as can be made quickly.
fn blocks_for_answers(whole: Whole, build_seconds: f64) -> usize {
    let block = whole.stored_bytes as f64 / whole.blocks.max(1) as f64;
    let by_size = 2.0 * LARGEST_CACHE as f64 / block.max(1.0);
    by_size.min(BUILD.as_secs_f64() / build_seconds.max(1e-6)).ceil() as usize
}

/// What one more token of a few answers takes, through all `layers` of the model, of which `blocks` are here.
fn answers<B: Backend>(decoder: &mut Decoder<B>, blocks: usize, layers: usize) -> Result<f64> {
    decoder.prepare().map_err(device)?;
    let mut acts = decoder.answering_activations().map_err(device)?;
    let vocabulary = decoder.spec.vocab_size as u32;
    let length = ANSWER_PROMPT.min(decoder.spec.max_positions as u32 / 2).max(1);
    let prompt = |n: u32| Prompt { ids: (0..length).map(|i| (i * 131 + n) % vocabulary).collect(), adapter: true };
    let prompts: Vec<Prompt> = (0..ANSWERS as u32).map(prompt).collect();
    let options = GenerateOptions { max_new_tokens: ANSWER_TOKENS, ..GenerateOptions::default() };
    let mut quiet = |_: usize, _: u32| ControlFlow::Continue(());
    // The same rows through the blocks alone: what is left is the head.
    let rows = batch(decoder.spec.vocab_size, &[1; ANSWERS], 0.0);
    let (mut whole, mut within) = (Vec::new(), Vec::new());
    for round in 0..6 {
        let generated = generate(decoder, &mut acts, &prompts, &options, &mut quiet)?;
        let begun = Instant::now();
        drop(decoder.score(&mut acts, &rows, true).map_err(device)?);
        if round > 0 {
            whole.push(generated.decode_seconds / (ANSWER_TOKENS - 1) as f64);
            within.push(begun.elapsed().as_secs_f64());
        }
    }
    Ok(through_all(typical(&mut whole), typical(&mut within), blocks, layers))
}

/// A pass through all `layers`, of which `blocks` and the head were measured: together, and `within` the blocks.
fn through_all(whole: f64, within: f64, blocks: usize, layers: usize) -> f64 {
    let head = (whole - within).max(0.0);
    head + (whole - head) / blocks as f64 * layers as f64
}

/// Weights that a pass of one token reads: those of so many blocks, and those of a head for so many tokens.
pub fn weights_read(spec: &ModelSpec, blocks: usize, vocabulary: usize) -> f64 {
    let block: usize = spec.modules.iter().map(|m| m.in_features * m.out_features).sum();
    (blocks * block + vocabulary * spec.hidden_size) as f64
}

/// Seconds of a small file that is safe on disk, and of every byte of a large one.
fn disk(directory: &Path) -> Result<(f64, f64)> {
    let path = directory.join(format!("calibration.{}.tmp", std::process::id()));
    let io = |e| Fault::io("write", &path, e);
    let time = |bytes: &[u8]| {
        let begun = Instant::now();
        durable::write_file(&path, bytes).map_err(io)?;
        Ok(begun.elapsed().as_secs_f64())
    };
    let mut small = [time(&[0; 64])?, time(&[0; 64])?, time(&[0; 64])?];
    small.sort_by(f64::total_cmp);
    let large = time(&vec![0; FILE_BYTES])?;
    std::fs::remove_file(&path).map_err(io)?;
    Ok((small[1], (large - small[1]).max(0.0) / FILE_BYTES as f64))
}

#[cfg(test)]
mod tests {
    use super::{Whole, blocks_for_answers, through_all};

    /// B11: what was measured with a few blocks is carried over to all of them; the head is there once.
    #[test]
    fn a_pass_through_all_blocks_counts_each_of_them() {
        assert!((through_all(0.005, 0.004, 2, 12) - 0.025).abs() < 1e-12);
        assert!((through_all(0.005, 0.004, 12, 12) - 0.005).abs() < 1e-12);
        // Rows alone may take longer than in an answer: then nothing is left for a head.
        assert!((through_all(0.004, 0.005, 2, 4) - 0.008).abs() < 1e-12);
    }

    /// A small model is built whole, a large one as far as no cache holds it and time allows.
    #[test]
    fn more_blocks_are_built_than_a_cache_holds() {
        let whole = |stored_bytes| Whole { stored_bytes, blocks: 32 };
        assert!(blocks_for_answers(whole(100 << 20), 1e-4) >= 32);
        assert_eq!(blocks_for_answers(whole(8 << 30), 1e-4), 1);
        assert_eq!(blocks_for_answers(whole(1 << 30), 1e-4), 8);
        assert_eq!(blocks_for_answers(whole(1 << 30), 0.25), 2);
    }
}
