//! Blocks and mixes of GGUF files against what llama.cpp's own code made (`fixtures/ggml`).

use peft_kernels::quant::GgmlType;
use peft_models::export::gguf::mix::{Facts, FileType, choose};
use serde_json::Value;
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
