//! How fast products are, beside what the machine can do: GFLOP/s of a training step's, GB/s of weights of decoding.
//!
//! ```text
//! cargo bench -p peft_kernels -- [THREADS [PATH [TOKENS]]]
//! ```
//!
//! Every line is the best of several rounds. The ceilings are those of the same run: the register tile alone, on
//! panels that nothing has to be fetched for, and a sum over more memory than any cache holds. Forward (`y = x·wᵀ`)
//! and backward (`dx = dy·w`) are told apart, because weights lie along the one and across the other.
#![expect(clippy::print_stdout, reason = "its output is the point")]

use peft_kernels::cpu::{Cpu, Factors, Path};
use peft_kernels::quant::{GgmlType, quantize};
use peft_kernels::{Backend, Bytes, DType, FourBitKind, FrozenWeight, Matrix, Result, Write};
use std::env;
use std::time::Instant;

/// Rounds of which the best counts.
const ROUNDS: usize = 5;

/// `out x in` of the large matrices of models with 0.06, 0.5 and 1.1 billion parameters.
const SHAPES: [(&str, usize, usize); 6] = [
    ("0.06b up", 1536, 512),
    ("0.5b qkv", 1152, 896),
    ("0.5b up", 4864, 896),
    ("0.5b down", 896, 4864),
    ("1.1b up", 5632, 2048),
    ("1.1b down", 2048, 5632),
];
/// Tokens that are written at a time: one, base and tuned, several conversations.
const FEW: [usize; 4] = [1, 2, 4, 16];
/// Bytes of weights that one round of decoding reads: more than stays in a cache.
const READ: usize = 256 << 20;

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    // Cargo adds an option of its own.
    let args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let threads = args.first().map_or(Ok(2), |text| text.parse())?;
    let path = match args.get(1) {
        Some(name) => Path::from_name(name).ok_or_else(|| format!("{name} is no path"))?,
        None => Path::best(),
    };
    let tokens = args.get(2).map_or(Ok(512), |text| text.parse())?;
    let cpu = Cpu::with_path(threads, path)?;
    println!("{threads} threads, {}, {tokens} tokens; GFLOP/s", path.name());
    println!("{:12} {:6} {:5} {:>9} {:>9}", "shape", "stored", "", "forward", "backward");
    for factors in [Factors::F32, Factors::Bf16] {
        let cpu = cpu.with_factors(factors);
        println!("{:12} {:6} {:5} {:9.1}", "ceiling", "", factors.name(), cpu.ceiling() / 1e9);
        for (name, outputs, inputs) in SHAPES {
            for (stored, weight) in plain(outputs, inputs) {
                let weight = cpu.weight(weight)?;
                let (forward, backward) = rates(&cpu, &weight, tokens, outputs, inputs)?;
                println!("{name:12} {stored:6} {:5} {forward:9.1} {backward:9.1}", factors.name());
            }
        }
    }
    println!("\ndecoding, GB of weights a second for some rows; reading alone {:.1}", cpu.read_ceiling()? / 1e9);
    for (stored, weight) in plain(5632, 2048).into_iter().chain(blocks(5632, 2048)) {
        for (rounded, cpu) in [("", cpu.clone()), ("int8", cpu.with_eight_bit_rows(true))] {
            let rates = FEW.map(|rows| decoding(&cpu, &weight, rows).map(|rate| format!("{rows:>4}: {rate:6.1}")));
            println!("{stored:6} {rounded:4} {}", rates.into_iter().collect::<Result<Vec<_>>>()?.join("  "));
        }
    }
    Ok(())
}

/// Numbers that look like weights.
fn numbers(n: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut uniform = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..n).map(|_| 0.1 * uniform()).collect()
}

/// As a checkpoint stores them.
fn plain(outputs: usize, inputs: usize) -> [(&'static str, FrozenWeight); 2] {
    let data = numbers(outputs * inputs);
    // Small numbers: cutting the lower half off is rounding enough.
    let bytes = data.iter().flat_map(|x| x.to_le_bytes().into_iter().skip(2)).collect();
    let dense = FrozenWeight::Dense { bytes: Bytes::from_vec(bytes), dtype: DType::BF16, rows: outputs, cols: inputs };
    let nf4 = quantize(&data, outputs, inputs, FourBitKind::Nf4, 64, true, DType::BF16);
    [("bf16", dense), ("nf4", FrozenWeight::FourBit(nf4))]
}

/// As files of llama.cpp store them: rows of whole blocks of 256.
fn blocks(outputs: usize, inputs: usize) -> [(&'static str, FrozenWeight); 4] {
    let kinds = [("q4_k", GgmlType::Q4K), ("q6_k", GgmlType::Q6K), ("q5_0", GgmlType::Q5_0), ("q8_0", GgmlType::Q8_0)];
    kinds.map(|(name, kind)| {
        // Any bytes are blocks; those of small scales are numbers.
        let bytes = vec![0x11; kind.row_bytes(inputs).expect("whole blocks") * outputs];
        (name, FrozenWeight::Blocks { bytes: Bytes::from_vec(bytes), kind, rows: outputs, cols: inputs })
    })
}

/// GB/s at which copies of `weight`, together larger than a cache, are multiplied with some rows.
fn decoding(cpu: &Cpu, weight: &FrozenWeight, rows: usize) -> Result<f64> {
    let (outputs, inputs) = weight.shape();
    let bytes = weight.stored_bytes();
    let copies = (0..READ.div_ceil(bytes)).map(|_| cpu.weight(own(weight))).collect::<Result<Vec<_>>>()?;
    let x = cpu.tensor(rows, inputs, &numbers(rows * inputs))?;
    let mut y = cpu.zeros(rows, outputs)?;
    let read = (bytes * copies.len()) as f64;
    best(read, || {
        copies.iter().try_for_each(|w| cpu.linear(y.view_mut(), x.view(), Matrix::Frozen(w), None, Write::Set))
    })
}

/// A copy with bytes of its own.
fn own(weight: &FrozenWeight) -> FrozenWeight {
    let mut copy = weight.clone();
    let bytes = match &mut copy {
        FrozenWeight::Dense { bytes, .. } | FrozenWeight::Blocks { bytes, .. } => bytes,
        FrozenWeight::FourBit(w) => &mut w.codes,
    };
    *bytes = Bytes::from_vec(bytes.as_slice().to_vec());
    copy
}

/// Billions of `work` a second in the best of some rounds of `product`.
fn best(work: f64, mut product: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut seconds = f64::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        product()?;
        seconds = seconds.min(start.elapsed().as_secs_f64());
    }
    Ok(work / seconds / 1e9)
}

fn rates(
    cpu: &Cpu,
    weight: &<Cpu as Backend>::Weight,
    tokens: usize,
    outputs: usize,
    inputs: usize,
) -> Result<(f64, f64)> {
    let (x, dy) = (numbers(tokens * inputs), numbers(tokens * outputs));
    let (x, dy) = (cpu.tensor(tokens, inputs, &x)?, cpu.tensor(tokens, outputs, &dy)?);
    let (mut y, mut dx) = (cpu.zeros(tokens, outputs)?, cpu.zeros(tokens, inputs)?);
    let flops = 2.0 * (tokens * outputs * inputs) as f64;
    let w = Matrix::Frozen(weight);
    let forward = best(flops, || cpu.linear(y.view_mut(), x.view(), w, None, Write::Set))?;
    let backward = best(flops, || cpu.linear_bwd_input(dx.view_mut(), dy.view(), w, Write::Set))?;
    Ok((forward, backward))
}
