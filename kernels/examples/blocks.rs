//! Blocks of GGUF files from raw files of f32, and how fast that goes: what comparisons with other programs are made of.
//!
//! ```text
//! blocks encode TYPE COLS IN OUT [IMPORTANCE]     f32 to blocks
//! blocks decode TYPE IN OUT                       blocks to f32
//! blocks bench [THREADS [PATH [TYPE]]]            gigabytes of f32 a second, of 4096 x 4096 random numbers
//! ```
#![expect(clippy::print_stdout, reason = "its output is the point")]

use peft_kernels::cpu::{Cpu, Path};
use peft_kernels::quant::GgmlType;
use std::time::Instant;
use std::{env, error, fs};

type Result<T> = std::result::Result<T, Box<dyn error::Error>>;

fn main() -> Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["encode", kind, cols, input, output] => encode(kind, cols, input, output, None),
        ["encode", kind, cols, input, output, importance] => encode(kind, cols, input, output, Some(importance)),
        ["decode", kind, input, output] => decode(kind, input, output),
        ["bench"] => bench(&Cpu::new(1)?, None),
        ["bench", threads] => bench(&Cpu::new(threads.parse()?)?, None),
        ["bench", threads, path] => bench(&on(threads, path)?, None),
        ["bench", threads, path, kind] => bench(&on(threads, path)?, Some(named(kind)?)),
        _ => Err("see the head of this file".into()),
    }
}

fn named(kind: &str) -> Result<GgmlType> {
    GgmlType::from_name(kind).ok_or_else(|| format!("{kind} is no type").into())
}

fn on(threads: &str, path: &str) -> Result<Cpu> {
    let path = Path::from_name(path).ok_or_else(|| format!("{path} is no path"))?;
    Ok(Cpu::with_path(threads.parse()?, path)?)
}

fn floats(path: &str) -> Result<Vec<f32>> {
    Ok(fs::read(path)?.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

fn encode(kind: &str, cols: &str, input: &str, output: &str, importance: Option<&str>) -> Result<()> {
    let (kind, cols, x) = (named(kind)?, cols.parse()?, floats(input)?);
    let importance = importance.map(floats).transpose()?;
    let mut out = vec![0; kind.row_bytes(x.len()).ok_or("rows are no whole blocks")?];
    Cpu::new(1)?.encode_blocks(kind, &mut out, &x, cols, importance.as_deref())?;
    Ok(fs::write(output, out)?)
}

fn decode(kind: &str, input: &str, output: &str) -> Result<()> {
    let (kind, bytes) = (named(kind)?, fs::read(input)?);
    let mut out = vec![0.0; bytes.len() / kind.block_bytes() * kind.block_len()];
    Cpu::new(1)?.decode_blocks(&mut out, kind, &bytes)?;
    Ok(fs::write(output, out.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())?)
}

fn bench(cpu: &Cpu, only: Option<GgmlType>) -> Result<()> {
    const COLS: usize = 4096;
    let mut state = 1u32;
    let mut uniform = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    let mut x: Vec<f32> = (0..COLS * COLS).map(|_| 0.02 * (uniform() + uniform() + uniform() + uniform())).collect();
    let importance: Vec<f32> = (0..COLS).map(|_| (8.0 * uniform()).exp2()).collect();
    let size = size_of_val(&x[..]) as f64 / 1e9;
    println!("{} threads, {}; GB of f32 a second", cpu.threads(), cpu.path().name());
    println!("{:8} {:>8} {:>10} {:>8}", "type", "encode", "importance", "decode");
    for kind in GgmlType::all().filter(|kind| only.is_none_or(|only| only == *kind)) {
        let mut out = vec![0; kind.row_bytes(COLS).ok_or("whole blocks")? * COLS];
        let mut rate = |importance: Option<&[f32]>| -> Result<f64> {
            let start = Instant::now();
            cpu.encode_blocks(kind, &mut out, &x, COLS, importance)?;
            Ok(size / start.elapsed().as_secs_f64())
        };
        let best = |a: f64, b: f64| a.max(b);
        let plain = best(rate(None)?, rate(None)?);
        let important = best(rate(Some(&importance))?, rate(Some(&importance))?);
        let mut decoded = 0.0f64;
        for _ in 0..3 {
            let start = Instant::now();
            cpu.decode_blocks(&mut x, kind, &out)?;
            decoded = decoded.max(size / start.elapsed().as_secs_f64());
        }
        println!("{:8} {plain:8.3} {important:10.3} {decoded:8.2}", kind.name());
    }
    Ok(())
}
