//! Options of training against the programs that have them: `modules_to_save` and LoRA+ of PEFT, 8-bit AdamW of
//! bitsandbytes. The numbers are those of `fixtures/make_options.py`.

use peft_kernels::cpu::Cpu;
use peft_kernels::quant::eight_bit::{BLOCK, DynamicMap, EightBit, Rounding};
use peft_kernels::reference::Reference;
use peft_kernels::{AdamW, Backend};
use peft_models::checkpoint::Checkpoint;
use peft_models::verify::verify;
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/options").join(name)
}

fn replay<B: Backend>(be: &B, model: &str, name: &str) {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/parity").join(model).join("model");
    let checkpoint = Checkpoint::open(&model).expect("a fixture opens");
    let found = verify(be, &checkpoint, &fixture(&format!("{name}.safetensors"))).expect("it can be replayed");
    assert!(found.within_tolerance && found.steps == 5, "{name}: {found:?}");
    assert!(found.gradient_norm_relative_error < 1e-4, "{name}: {found:?}");
}

/// Loss, every gradient and five updates, those of head, embedding and all norms included (issue 3, item 8).
#[test]
fn modules_trained_whole_match_peft() {
    let cpu = Cpu::new(2).expect("two threads");
    replay(&cpu, "llama", "save-matrices");
    replay(&Reference, "llama", "save-matrices");
    replay(&cpu, "qwen3", "save-norms");
}

/// PEFT makes two matrices of a tied one where either is trained: five losses tell whether that was done.
#[test]
fn a_tied_head_is_untied_as_peft_does() {
    let cpu = Cpu::new(2).expect("two threads");
    for name in ["save-tied-head", "save-tied-embedding", "save-tied-both"] {
        replay(&cpu, "llama-tied", name);
    }
}

/// `create_loraplus_optimizer`: B and what has one dimension at sixteen times the rate, A at one.
#[test]
fn lora_plus_matches_peft() {
    replay(&Cpu::new(2).expect("two threads"), "llama", "lora-plus");
}

struct Golden(Vec<u8>);

impl Golden {
    fn open() -> Self {
        Self(std::fs::read(fixture("adamw-8bit.safetensors")).expect("a fixture"))
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        let file = SafeTensors::deserialize(&self.0).expect("a fixture");
        file.tensor(name).expect("in the fixture").data().to_vec()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        self.bytes(name).as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect()
    }
}

/// Maps, codes, magnitudes and numbers of `quantize_blockwise`, bit for bit.
#[test]
fn blocks_of_8_bits_are_those_of_bitsandbytes() {
    let golden = Golden::open();
    for (name, map) in [("signed", DynamicMap::signed()), ("unsigned", DynamicMap::unsigned())] {
        let get = |what: &str| golden.floats(&format!("{name}.{what}"));
        assert!(map.values.iter().eq(&get("map")), "{name}: another map");
        let (data, codes, absmax, back) =
            (get("data"), golden.bytes(&format!("{name}.codes")), get("absmax"), get("back"));
        assert_eq!(data.len(), 4 * BLOCK + 100, "a broken block is among them");
        for (block, numbers) in data.chunks(BLOCK).enumerate() {
            let at = block * BLOCK..block * BLOCK + numbers.len();
            let (mut own, mut again) = (vec![0; numbers.len()], vec![0.0; numbers.len()]);
            let largest = map.encode(&mut own, numbers);
            assert_eq!((largest, &own[..]), (absmax[block], &codes[at.clone()]), "{name}, block {block}");
            map.decode(&mut again, &own, largest);
            assert!(again.iter().eq(&back[at]), "{name}, block {block}");
        }
    }
}

fn updates<B: Backend>(be: &B) {
    let golden = Golden::open();
    let p0 = golden.floats("p0");
    let len = p0.len();
    let mut p = be.tensor(60, 70, &p0).expect("memory");
    let (mut m, mut v) = (EightBit::zeros(be, len).expect("memory"), EightBit::zeros(be, len).expect("memory"));
    for step in 1..=3 {
        let g = be.tensor(60, 70, &golden.floats(&format!("g{step}"))).expect("memory");
        let params = AdamW {
            learning_rate: 2e-3,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.1,
            step,
            gradient_scale: 1.0,
        };
        be.adamw_8bit(&mut p, &mut m, &mut v, &g, &params, Rounding::Nearest).expect("shapes fit");
        let (got, want) = (be.download(&p).expect("numbers"), golden.floats(&format!("p{step}")));
        let error = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(error < 2e-6, "step {step}: parameters are off by {error}");
        for (state, number) in [(&m, 1), (&v, 2)] {
            let (codes, want) =
                (be.download_codes(&state.codes).expect("codes"), golden.bytes(&format!("state{number}.{step}")));
            let same = codes.iter().zip(&want).filter(|(a, b)| a == b).count();
            // A moment in the middle between two codes may get either; PyTorch multiplies and adds in another order.
            assert!(same * 1000 >= len * 999, "step {step}, moment {number}: {same} of {len} codes agree");
            let near = codes.iter().zip(&want).all(|(a, b)| a.abs_diff(*b) <= 1);
            assert!(near, "step {step}, moment {number}: a code is another altogether");
            let (absmax, want) =
                (be.download(&state.absmax).expect("scales"), golden.floats(&format!("absmax{number}.{step}")));
            // One minus the decay, which is an f32 here and an f64 there, is off by 1.3e-5 of itself.
            assert!(absmax.iter().zip(&want).all(|(a, b)| (a - b).abs() <= 5e-5 * b), "step {step}, moment {number}");
        }
    }
}

/// Three steps of `bitsandbytes.optim.AdamW8bit` on the CPU, which rounds to the nearest.
#[test]
fn steps_with_8_bit_moments_are_those_of_bitsandbytes() {
    updates(&Reference);
    updates(&Cpu::new(2).expect("two threads"));
}
