//! How fast products are, beside what the machine can do: GFLOP/s of a training step's, GB/s of weights of decoding.
//!
//! ```text
//! cargo bench -p peft_kernels -- [THREADS [PATH [TOKENS]]]
//! ```
//!
//! Every figure is the best of some rounds, with its part of the ceiling of the same run: the register tile alone, on
//! panels that nothing has to be fetched for, or a sum over more memory than any cache holds. Forward (`y = x·wᵀ`) and
//! backward (`dx = dy·w`) are told apart, because weights lie along the one and across the other. `exact` rows are
//! multiplied with decoded weights, `int8` ones in whole numbers. It takes about two minutes.
#![expect(clippy::print_stdout, reason = "its output is the point")]

use peft_kernels::cpu::{Cpu, Factors, Path};
use peft_kernels::quant::{GgmlType, quantize};
use peft_kernels::{Backend, Bytes, DType, FourBitKind, FrozenWeight, Matrix, Result, Write};
use std::env;
use std::time::{Duration, Instant};

/// Rounds of which the best counts: at least the first number, then more until the time below is over.
const ROUNDS: [usize; 2] = [2, 7];
/// How long a figure is tried to be bettered.
const PATIENCE: Duration = Duration::from_millis(400);

/// `out x in` of the large matrices of models with 0.06, 0.5 and 1.1 billion parameters.
const SHAPES: [(&str, usize, usize); 6] = [
    ("0.06b up", 1536, 512),
    ("0.5b qkv", 1152, 896),
    ("0.5b up", 4864, 896),
    ("0.5b down", 896, 4864),
    ("1.1b up", 5632, 2048),
    ("1.1b down", 2048, 5632),
];
/// Tokens that are written at a time: one, base and tuned, four and sixteen conversations.
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
    let bytes = path.byte_products().unwrap_or("plain loops");
    println!("{threads} threads, {}, bytes with {bytes}, {tokens} tokens", path.name());
    let mut all = vec![Factors::F32];
    // Elsewhere such factors are a model of another processor.
    all.extend(Some(path.fastest_factors()).filter(|factors| *factors != Factors::F32));
    for factors in all {
        let cpu = cpu.with_factors(factors);
        let ceiling = cpu.ceiling() / 1e9;
        println!("\nproducts with factors in {}, GFLOP/s; register tile alone {ceiling:.1}", factors.name());
        println!("{:10} {:5} {:>8} {:>5} {:>9} {:>5}", "shape", "as", "forward", "", "backward", "");
        for (name, outputs, inputs) in SHAPES {
            for (stored, weight) in weights(outputs, inputs) {
                let weight = cpu.weight(weight)?;
                let (forward, backward) = rates(&cpu, &weight, tokens, outputs, inputs)?;
                let [of_forward, of_backward] = [forward, backward].map(|rate| 100.0 * rate / ceiling);
                println!("{name:10} {stored:5} {forward:8.1} {of_forward:3.0} % {backward:9.1} {of_backward:3.0} %");
            }
        }
    }
    let ceiling = cpu.read_ceiling()? / 1e9;
    println!("\ndecoding 5632 x 2048 for some rows, GB of weights a second; reading alone {ceiling:.1}");
    println!("{:11} {}", "", FEW.map(|rows| format!("{rows:>11} row")).join(""));
    for (stored, weight) in weights(5632, 2048) {
        for (how, cpu) in [("exact", cpu.clone()), ("int8", cpu.with_eight_bit_rows(true))] {
            // Plain numbers have no codes.
            if how == "int8" && matches!(weight, FrozenWeight::Dense { .. }) {
                continue;
            }
            let told = |rate: f64| format!("{rate:9.1} {:3.0} %", 100.0 * rate / ceiling);
            let rates = FEW.map(|rows| decoding(&cpu, &weight, rows).map(told));
            println!("{stored:5} {how:5} {}", rates.into_iter().collect::<Result<String>>()?);
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

/// As checkpoints and files of llama.cpp store them, where rows are of whole blocks.
fn weights(outputs: usize, inputs: usize) -> Vec<(&'static str, FrozenWeight)> {
    let data = numbers(outputs * inputs);
    // Small numbers: cutting the lower half off is rounding enough.
    let dense = |dtype: DType, skipped: usize| {
        let bytes = data.iter().flat_map(|x| x.to_le_bytes().into_iter().skip(skipped)).collect();
        FrozenWeight::Dense { bytes: Bytes::from_vec(bytes), dtype, rows: outputs, cols: inputs }
    };
    let nf4 = quantize(&data, outputs, inputs, FourBitKind::Nf4, 64, true, DType::BF16);
    let mut all =
        vec![("f32", dense(DType::F32, 0)), ("bf16", dense(DType::BF16, 2)), ("nf4", FrozenWeight::FourBit(nf4))];
    let kinds = [
        ("q4_k", GgmlType::Q4K),
        ("q5_k", GgmlType::Q5K),
        ("q6_k", GgmlType::Q6K),
        ("q4_0", GgmlType::Q4_0),
        ("q5_0", GgmlType::Q5_0),
        ("q8_0", GgmlType::Q8_0),
    ];
    for (name, kind) in kinds {
        let Some(row) = kind.row_bytes(inputs) else { continue };
        // Any bytes are blocks; those of small scales are numbers.
        let bytes = Bytes::from_vec(vec![0x11; row * outputs]);
        all.push((name, FrozenWeight::Blocks { bytes, kind, rows: outputs, cols: inputs }));
    }
    all
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
    let (mut seconds, begun) = (f64::MAX, Instant::now());
    for round in 0..ROUNDS[1] {
        if round >= ROUNDS[0] && begun.elapsed() > PATIENCE {
            break;
        }
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
