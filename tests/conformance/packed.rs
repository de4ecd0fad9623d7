//! A packed weight gives the bits of one that lies as it is stored, and one for rows in eight bits all but those.

use crate::harness::{noise, tensor};
use crate::weights::{Storage, frozen};
use peft_kernels::cpu::Cpu;
use peft_kernels::quant::{GgmlType, quantize};
use peft_kernels::{
    Adapted, AdaptedGradient, Adapter, AdapterGradient, Backend, Bytes, DType, FourBitKind, FrozenWeight, IGNORE_INDEX,
    LossParams, Matrix, Part, Result, Write,
};

/// Everything that reads a weight.
fn everything<B: Backend>(
    be: &B,
    w: Matrix<B>,
    (rows, outputs, inputs): (usize, usize, usize),
) -> Result<Vec<Vec<f32>>> {
    let (x, dy) = (tensor(be, 1, rows, inputs), tensor(be, 2, rows, outputs));
    let bias = tensor(be, 3, 1, outputs);
    let mut y = tensor(be, 4, rows, outputs);
    be.linear(y.view_mut(), x.view(), w, Some(&bias), Write::Add)?;
    let mut dx = tensor(be, 5, rows, inputs);
    be.linear_bwd_input(dx.view_mut(), dy.view(), w, Write::Add)?;
    let (a, b) = (tensor(be, 6, 3, inputs), tensor(be, 7, outputs, 3));
    let (mut z, mut xa) = (be.zeros(rows, outputs)?, be.zeros(rows, 3)?);
    let part = Part { columns: 0..outputs, w, bias: None };
    let adapter = Some(Adapter { a: &a, b: &b, scaling: 0.5, xa: &mut xa });
    be.adapted(z.view_mut(), x.view(), &mut [Adapted { part, adapter }])?;
    let (mut dz, mut da, mut dxa) = (be.zeros(rows, inputs)?, be.zeros(3, inputs)?, be.zeros(rows, 3)?);
    let adapter = AdapterGradient { a: &a, b: &b, scaling: 0.5, xa: &xa, da: Some(&mut da), db: None };
    let part = AdaptedGradient { columns: 0..outputs, w, adapter: Some(adapter) };
    be.adapted_bwd(Some(dz.view_mut()), dy.view(), x.view(), &mut [part], &mut dxa)?;
    let tokens: Vec<u32> = (0..rows as u32).map(|i| i * 7 % outputs as u32).collect();
    let mut rows_of = be.zeros(rows, inputs)?;
    be.embed(rows_of.view_mut(), &tokens, w, 1.5)?;
    let mut squares = be.zeros(1, outputs)?;
    be.row_squares(&mut squares, w)?;
    let targets: Vec<i32> =
        tokens.iter().map(|&token| if token == 0 { IGNORE_INDEX } else { token as i32 - 1 }).collect();
    let (mut loss, mut correct, mut dh) = (be.zeros(rows, 1)?, be.zeros(rows, 1)?, be.zeros(rows, inputs)?);
    let params = LossParams { softcap: None, gradient_scale: 0.25 };
    be.head_loss(&mut loss, &mut correct, Some(dh.view_mut()), None, x.view(), w, &targets, &params)?;
    [y, dx, z, xa, dz, da, rows_of, squares, loss, correct, dh].iter().map(|t| be.download(t)).collect()
}

/// Few rows and many; more than one block in every direction, and rows that fill no panel.
pub(crate) fn same_bits<B: Backend>(be: &B) {
    let mut packed = 0;
    for (rows, outputs, inputs) in
        [(1, 64, 64), (4, 96, 1056), (16, 40, 96), (33, 2144, 64), (70, 77, 2112), (40, 5000, 32)]
    {
        for dtype in [DType::BF16, DType::F16] {
            let stored = || frozen(Storage::Dense(dtype), 11, outputs, inputs);
            packed += usize::from(be.packs(&stored()));
            let plain = be.weight(stored()).expect("a weight");
            let held = be.packed_weight(stored()).expect("a weight");
            assert_eq!(B::weight_shape(&held), (outputs, inputs));
            let [want, got] = [plain, held]
                .map(|w| everything(be, Matrix::Frozen(&w), (rows, outputs, inputs)).expect("shapes that fit"));
            for (i, (want, got)) in want.iter().zip(&got).enumerate() {
                let same = want.iter().map(|x| x.to_bits()).eq(got.iter().map(|x| x.to_bits()));
                assert!(same, "output {i} of [{rows}, {outputs}, {inputs}], {dtype:?}, on {}", be.fingerprint());
            }
        }
    }
    assert_eq!(packed, 6, "what is stored as bf16 is packed on {}", be.fingerprint());
    // What does not end with a square stays as it is.
    assert!(!be.packs(&frozen(Storage::Dense(DType::BF16), 11, 64, 48)));
}

/// A weight of a type that lies eight rows side by side where rows are in eight bits.
fn in_strips(be: &Cpu, which: usize, outputs: usize, inputs: usize) -> FrozenWeight {
    let numbers = noise(21, outputs * inputs);
    let kind = match which {
        0 => GgmlType::Q4K,
        1 => GgmlType::Q6K,
        2 => GgmlType::Q5_0,
        3 => GgmlType::Q5K,
        4 => GgmlType::Q4_0,
        more => {
            let kind = if more == 5 { FourBitKind::Nf4 } else { FourBitKind::Fp4 };
            return FrozenWeight::FourBit(quantize(&numbers, outputs, inputs, kind, 64, more == 5, DType::BF16));
        }
    };
    let mut bytes = vec![0; kind.row_bytes(inputs).expect("whole blocks") * outputs];
    be.encode_blocks(kind, &mut bytes, &numbers, inputs, None).expect("plain numbers");
    FrozenWeight::Blocks { bytes: Bytes::from_vec(bytes), kind, rows: outputs, cols: inputs }
}

/// Every operation on a weight in strips, beside one as it is stored: what rounds rows is near the exact result, with few
/// rows and with many, and everything else has its bits.
pub(crate) fn strips_are_near(cpu: &Cpu) {
    let be = cpu.with_eight_bit_rows(true);
    for kind in 0..7 {
        for (rows, outputs, inputs) in [(1, 64, 256), (5, 37, 512), (40, 96, 512), (70, 20, 256)] {
            let stored = || in_strips(&be, kind, outputs, inputs);
            assert!(be.packs(&stored()) && !cpu.packs(&stored()), "{kind} on {}", be.fingerprint());
            let (plain, held) =
                (cpu.weight(stored()).expect("a weight"), be.packed_weight(stored()).expect("a weight"));
            let shape = (rows, outputs, inputs);
            let want = everything(cpu, Matrix::Frozen(&plain), shape).expect("shapes that fit");
            let got = everything(&be, Matrix::Frozen(&held), shape).expect("shapes that fit");
            for (i, (want, got)) in want.iter().zip(&got).enumerate() {
                let what = format!("output {i} of {kind}, {shape:?}, on {}", be.fingerprint());
                let size = want.iter().map(|x| x * x).sum::<f32>().sqrt();
                let off = want.iter().zip(got).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt();
                match i {
                    // Rows in eight bits lose half of a step of 1/127 of the largest of 64.
                    0 | 2 => assert!(off > 0.0 && off < 0.012 * size, "{what}: {off} of {size}"),
                    // Made beside the product where that is in blocks, and alone here; its gradient follows it.
                    3 | 5 => assert!(off <= 1e-5 * size, "{what}: {off} of {size}"),
                    _ => assert!(want.iter().zip(got).all(|(a, b)| a.to_bits() == b.to_bits()), "{what}"),
                }
            }
        }
    }
}
