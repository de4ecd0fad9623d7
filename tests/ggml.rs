//! Blocks and mixes of GGUF files against what llama.cpp's own code made (`fixtures/ggml`).

use peft_kernels::cpu::Cpu;
use peft_kernels::quant::{GgmlType, ggml};
use peft_models::export::gguf::mix::{Facts, FileType, choose};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/ggml").join(name)
}

fn json(name: &str) -> Value {
    let path = fixture(name);
    let text = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&text).expect("a fixture is JSON")
}

/// The letters of `make_mixes.py`.
fn lettered(letter: char) -> GgmlType {
    let name = match letter {
        'f' => "F32",
        'h' => "F16",
        'b' => "BF16",
        '8' => "Q8_0",
        '6' => "Q6_K",
        '5' => "Q5_K",
        '4' => "Q4_K",
        '3' => "Q3_K",
        '2' => "Q2_K",
        'p' => "Q5_0",
        'q' => "Q5_1",
        'm' => "Q4_0",
        'n' => "Q4_1",
        'i' => "IQ4_NL",
        other => panic!("{other} is no letter of make_mixes.py"),
    };
    GgmlType::from_name(name).expect("a type of ours")
}

/// S4.15: the type of every tensor of every family, file type, depth and width is the one llama.cpp's quantiser gives it.
#[test]
fn mixes_and_fall_backs_are_those_of_llama_cpp() {
    let mixes = json("mixes.json");
    let mut compared = 0;
    for (case, files) in mixes.as_object().expect("cases") {
        let words: Vec<&str> = case.split(' ').collect();
        let number = |at: usize| -> usize { words[at].parse().expect("a number") };
        let model = Facts {
            architecture: words[0],
            layers: number(1),
            heads: number(2),
            kv_heads: number(3),
            tied: words[4] == "tied",
            importance: words[5] == "imatrix",
        };
        let (hidden, attention, ffn) = (number(6), number(7), number(8));
        for (file, types) in files.as_object().expect("file types") {
            let kind = FileType::from_name(file).unwrap_or_else(|| panic!("{file} is not known"));
            let mut types = types.as_str().expect("text").split(' ');
            let most = types.next().expect("the letter of most tensors");
            let named: Vec<(&str, &str)> = types.map(|word| word.split_once(':').expect("NAME:LETTERS")).collect();
            let parts: &[&str] = match words[0] {
                "phi3" => &["attn_qkv", "attn_output", "ffn_up", "ffn_down"],
                _ => &["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"],
            };
            let in_layers = parts.iter().flat_map(|part| (0..model.layers).map(move |layer| (*part, Some(layer))));
            let head = (!model.tied).then_some(("output", None));
            for (part, layer) in in_layers.chain(head).chain([("token_embd", None)]) {
                let letters = named.iter().find(|row| row.0 == part).map_or(most, |row| row.1);
                let letter = letters.chars().nth(layer.filter(|_| letters.len() > 1).unwrap_or(0)).expect("a letter");
                let cols = match part {
                    "attn_output" => attention,
                    "ffn_down" => ffn,
                    _ => hidden,
                };
                let name = layer.map_or(format!("{part}.weight"), |layer| format!("blk.{layer}.{part}.weight"));
                let got = choose(kind, &model, &name, cols, 2).kind;
                assert_eq!(got, lettered(letter), "{name} of {case} as {file}");
                compared += 1;
            }
        }
    }
    assert!(compared > 200_000, "{compared} tensors");
}

fn bytes(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().expect("hexadecimal");
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal")).collect()
}

fn sha256(x: &[f32]) -> String {
    let bytes: Vec<u8> = x.iter().flat_map(|x| x.to_le_bytes()).collect();
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("text grows");
        text
    })
}

/// Issue 7: blocks decode bit-identical to llama.cpp's decoder, whole and in parts, with any number of threads.
#[test]
fn blocks_decode_to_the_bits_of_llama_cpp() {
    let golden = json("blocks.json");
    let kinds = golden["blocks"].as_object().expect("types");
    assert_eq!(kinds.len(), GgmlType::all().filter(|kind| kind.quantized()).count());
    for (name, row) in kinds {
        let kind = GgmlType::from_name(name).expect("a type of ours");
        for what in ["random", "encoded"] {
            let blocks = bytes(&row[what]);
            let mut whole = vec![f32::NAN; blocks.len() / kind.block_bytes() * kind.block_len()];
            ggml::dequantize(kind, &blocks, &mut whole);
            assert_eq!(sha256(&whole), row[&format!("{what}_decoded")].as_str().expect("a digest"), "{name}, {what}");
            for threads in [1, 2] {
                let mut again = vec![f32::NAN; whole.len()];
                Cpu::new(threads).expect("a processor").decode_blocks(&mut again, kind, &blocks).expect("whole blocks");
                assert!(again.iter().zip(&whole).all(|(a, b)| a.to_bits() == b.to_bits()), "{name}, {threads} threads");
            }
            for (start, len) in [(0, 1), (1, 255), (31, 2), (250, 300), (17, 991), (256, 512), (700, 0)] {
                let mut part = vec![f32::NAN; len];
                ggml::decode(kind, &blocks, start, &mut part);
                assert!(
                    part.iter().zip(&whole[start..]).all(|(a, b)| a.to_bits() == b.to_bits()),
                    "{name} from {start}"
                );
            }
        }
    }
}

/// `n` numbers in -0.5 .. 0.5, as in `make_blocks.py`.
fn uniform(seed: u32, n: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..n).map(|_| next()).collect()
}

const ROWS: usize = 16;
const COLS: usize = 1024;

/// The matrices of `make_blocks.py`, bit for bit.
fn matrix(name: &str) -> Vec<f32> {
    let n = ROWS * COLS;
    let u = uniform(1, 4 * n);
    let bell = |i: usize| ((u[i] + u[n + i]) + (u[2 * n + i] + u[3 * n + i])) * 0.0625;
    let element = |i: usize| match name {
        "small" => bell(i) * 0.007_812_5,
        "flat" => u[i] * 0.125,
        "tails" => u[i] / (u[n + i].abs() + 0.03125) * 0.015_625,
        "columns" if i % COLS % 37 == 5 => bell(i) * 16.0,
        "bell" | "columns" => bell(i),
        "shifted" => bell(i) + 0.0625,
        "sparse" if u[n + i] > 0.25 => bell(i),
        "sparse" => 0.0,
        other => panic!("{other} is not in make_blocks.py"),
    };
    (0..n).map(element).collect()
}

fn importance() -> Vec<f32> {
    uniform(2, COLS).into_iter().map(|u| u + 0.5).map(|u| u * u * u * u + 0.000_976_562_5).collect()
}

/// `√(Σ w·(x - y)² / Σ w)`
fn error(x: &[f32], y: &[f32], weight: Option<&[f32]>) -> f64 {
    let weight = |i: usize| weight.map_or(1.0, |w| f64::from(w[i % COLS]));
    let (miss, all) = x.iter().zip(y).enumerate().fold((0.0, 0.0), |(miss, all), (i, (x, y))| {
        (miss + weight(i) * (f64::from(*y) - f64::from(*x)).powi(2), all + weight(i))
    });
    (miss / all).sqrt()
}

/// Issue 7: the error of every type is at most 1.02 times that of llama.cpp's quantiser, with and without importance.
#[test]
fn encoding_is_as_close_as_that_of_llama_cpp() {
    let golden = json("blocks.json");
    let cpu = Cpu::new(2).expect("a processor");
    let importance = importance();
    let mut worst = (0.0, String::new());
    for (name, row) in golden["errors"].as_object().expect("types") {
        let kind = GgmlType::from_name(name).expect("a type of ours");
        for (matrix_name, theirs) in row.as_object().expect("matrices") {
            let x = matrix(matrix_name);
            for (at, weight) in [None, Some(&importance[..])].into_iter().enumerate() {
                let mut blocks = vec![0; kind.row_bytes(x.len()).expect("whole blocks")];
                cpu.encode_blocks(kind, &mut blocks, &x, COLS, weight).expect("plain numbers");
                let mut y = vec![f32::NAN; x.len()];
                ggml::dequantize(kind, &blocks, &mut y);
                let theirs = theirs[at].as_f64().expect("an error");
                let ratio = error(&x, &y, weight) / theirs;
                assert!(ratio <= 1.02, "{name}, {matrix_name}, importance {}: {ratio} times", weight.is_some());
                if ratio > worst.0 {
                    worst = (ratio, format!("{name} of {matrix_name}"));
                }
            }
        }
    }
    assert!(worst.0 > 0.9, "{worst:?}: too good to be the same matrices");
}
