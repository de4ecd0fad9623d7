//! 4-bit weights against files that bitsandbytes itself wrote (`fixtures/bnb`, made by `make_bnb.py`).

use half::bf16;
use peft_kernels::quant::{self, double};
use peft_kernels::{Absmax, Bytes, DType, FourBit, FourBitKind, FrozenWeight};
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const BLOCK: usize = 64;

fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/bnb");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let paths = entries.map(|entry| entry.expect("a readable folder").path());
    let mut found: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|e| e == "safetensors")).collect();
    found.sort();
    assert!(!found.is_empty(), "no fixtures in {}", folder.display());
    found
}

fn f32s(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// One quantised matrix of a file.
struct Golden<'a> {
    file: SafeTensors<'a>,
    /// `nf4`, `nf4dq`, `fp4` or `fp4dq`.
    prefix: String,
    kind: FourBitKind,
    nested: bool,
}

impl Golden<'_> {
    fn bytes(&self, name: &str) -> &[u8] {
        let name = format!("{}.{name}", self.prefix);
        self.file.tensor(&name).unwrap_or_else(|e| panic!("{name}: {e}")).data()
    }

    fn numbers(&self, name: &str) -> (Vec<f32>, DType) {
        let tensor = self.file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        match tensor.dtype() {
            safetensors::Dtype::F32 => (f32s(tensor.data()), DType::F32),
            safetensors::Dtype::F16 => (
                tensor.data().as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect(),
                DType::F16,
            ),
            safetensors::Dtype::BF16 => {
                let halves = tensor.data().as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32());
                (halves.collect(), DType::BF16)
            }
            other => panic!("{name} is {other:?}"),
        }
    }

    fn shape(&self) -> (usize, usize) {
        let shape = self.file.tensor("original").expect("the input").shape().to_vec();
        (shape[0], shape[1])
    }

    fn state(&self) -> serde_json::Value {
        let kind = if self.kind == FourBitKind::Nf4 { "nf4" } else { "fp4" };
        let state = self.bytes(&format!("weight.quant_state.bitsandbytes__{kind}"));
        serde_json::from_slice(state).expect("the state is JSON")
    }

    fn offset(&self) -> f32 {
        self.state()["nested_offset"].as_f64().expect("a nested offset") as f32
    }

    /// The matrix as the file stores it.
    fn stored(&self) -> FourBit {
        let absmax = if self.nested {
            Absmax::Nested {
                codes: Bytes::from_vec(self.bytes("weight.absmax").to_vec()),
                map: Arc::new(f32s(self.bytes("weight.nested_quant_map"))),
                scales: Arc::new(f32s(self.bytes("weight.nested_absmax"))),
                offset: self.offset(),
                group: 256,
            }
        } else {
            Absmax::Plain(Arc::new(f32s(self.bytes("weight.absmax"))))
        };
        let (rows, cols) = self.shape();
        let rounding = self.numbers("original").1;
        let codes = Bytes::from_vec(self.bytes("weight").to_vec());
        FourBit { kind: self.kind, codes, absmax, block: BLOCK, rows, cols, rounding }
    }
}

/// `check` on every matrix of every file.
fn each(check: impl Fn(&str, &Golden)) {
    for path in fixtures() {
        let bytes = std::fs::read(&path).expect("a readable fixture");
        let mut seen = 0;
        for (prefix, kind, nested) in [
            ("nf4", FourBitKind::Nf4, false),
            ("nf4dq", FourBitKind::Nf4, true),
            ("fp4", FourBitKind::Fp4, false),
            ("fp4dq", FourBitKind::Fp4, true),
        ] {
            let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
            if file.tensor(&format!("{prefix}.weight")).is_ok() {
                let golden = Golden { file, prefix: prefix.into(), kind, nested };
                check(&format!("{} {prefix}", path.display()), &golden);
                seen += 1;
            }
        }
        assert!(seen > 0, "{} holds nothing quantised", path.display());
    }
}

#[test]
fn stored_weights_decode_to_the_bits_of_bitsandbytes() {
    each(|name, golden| {
        let stored = golden.stored();
        FrozenWeight::FourBit(stored.clone()).check().unwrap_or_else(|e| panic!("{name}: {e}"));
        let want = golden.numbers(&format!("{}.dequantised", golden.prefix)).0;
        let got = quant::dequantize(&stored);
        assert_eq!(bits(&got), bits(&want), "{name}");
        let mut row = vec![f32::NAN; stored.cols];
        for (i, want) in want.chunks_exact(stored.cols).enumerate() {
            quant::dequantize_row(&stored, i, &mut row);
            assert_eq!(bits(&row), bits(want), "{name}, row {i}");
        }
    });
}

#[test]
fn quantising_gives_the_bytes_of_bitsandbytes() {
    each(|name, golden| {
        let (original, rounding) = golden.numbers("original");
        let (rows, cols) = golden.shape();
        let ours = quant::quantize(&original, rows, cols, golden.kind, BLOCK, golden.nested, rounding);
        assert_eq!(ours.codes.as_slice(), golden.bytes("weight"), "{name}: codes");
        match &ours.absmax {
            Absmax::Plain(scales) => {
                assert_eq!(bits(scales), bits(&f32s(golden.bytes("weight.absmax"))), "{name}: absmax");
            }
            Absmax::Nested { codes, map, scales, offset, .. } => {
                assert_eq!(offset.to_bits(), golden.offset().to_bits(), "{name}: {offset} {}", golden.offset());
                assert_eq!(bits(map), bits(&f32s(golden.bytes("weight.nested_quant_map"))), "{name}: map");
                assert_eq!(bits(scales), bits(&f32s(golden.bytes("weight.nested_absmax"))), "{name}: nested absmax");
                assert_eq!(codes.as_slice(), golden.bytes("weight.absmax"), "{name}: absmax codes");
            }
        }
    });
}

#[test]
fn code_tables_are_those_in_the_files() {
    each(|name, golden| {
        let table = quant::decode::code_table(golden.kind);
        let stored = f32s(golden.bytes("weight.quant_map"));
        // Code 8 of FP4 is a zero of either sign.
        assert!(table.iter().zip(&stored).all(|(a, b)| (a - b).abs() == 0.0), "{name}: {stored:?}");
        if golden.nested {
            assert_eq!(bits(&double::dynamic_map()), bits(&f32s(golden.bytes("weight.nested_quant_map"))), "{name}");
        }
    });
}

/// Weights keep their meaning: half a step of the coarsest gap is the largest error.
#[test]
fn decoding_what_was_encoded_stays_within_half_a_gap() {
    each(|name, golden| {
        let (original, rounding) = golden.numbers("original");
        let (rows, cols) = golden.shape();
        let ours = quant::quantize(&original, rows, cols, golden.kind, BLOCK, golden.nested, rounding);
        let back = quant::dequantize(&ours);
        for (block, (was, is)) in original.chunks(BLOCK).zip(back.chunks(BLOCK)).enumerate() {
            let largest = was.iter().fold(0.0_f32, |a, x| a.max(x.abs()));
            let allowed = 0.18 * largest + 0.05 * ours.absmax.get(block).abs() + 1e-3;
            assert!(was.iter().zip(is).all(|(a, b)| (a - b).abs() <= allowed), "{name}, block {block}");
        }
    });
}
