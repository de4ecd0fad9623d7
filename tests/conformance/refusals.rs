//! Shapes that do not fit are refused, and nothing is written.

use crate::harness::{noise, refused, tensor};
use crate::weights::{Storage, frozen};
use peft_kernels::{
    Activation, AdamW, AttentionParams, Backend, CachedSegment, ClampedGate, DType, Dropout, EightBit, Error,
    FourBitKind, FrozenWeight, Heads, LossParams, Matrix, NormParams, Operand, RopeParams, Rounding, Segment, Tensor,
    Turn, Write,
};

/// Calls `op` with an output of each wrong size in turn; the output keeps its bits.
fn each<B: Backend>(
    be: &B,
    what: &str,
    sizes: &[(usize, usize)],
    op: impl Fn(&mut Tensor<B>) -> peft_kernels::Result<()>,
) {
    for &(rows, cols) in sizes {
        let mut y = tensor(be, 1, rows, cols);
        refused(&format!("{what} with an output of [{rows}, {cols}]"), &op(&mut y));
        assert_eq!(be.download(&y).expect("download"), noise(1, rows * cols), "{what} wrote before it refused");
    }
}

pub(crate) fn wrong_outputs<B: Backend>(be: &B) {
    const SET: Write = Write::Set;
    let t = |rows, cols| tensor(be, 2, rows, cols);
    let (x, w, bias) = (t(3, 4), t(5, 4), t(1, 5));
    each(be, "copy", &[(3, 5), (2, 4)], |y| be.copy(y.view_mut(), x.view(), SET));
    each(be, "linear", &[(3, 4), (2, 5)], |y| be.linear(y.view_mut(), x.view(), Matrix::Dense(&w), None, SET));
    each(be, "linear", &[(3, 5)], |y| be.linear(y.view_mut(), x.view(), Matrix::Dense(&w), Some(&t(1, 4)), SET));
    each(be, "linear", &[(3, 5)], |y| be.linear(y.view_mut(), t(3, 5).view(), Matrix::Dense(&w), Some(&bias), SET));
    each(be, "linear_bwd_input", &[(3, 5), (2, 4)], |y| {
        be.linear_bwd_input(y.view_mut(), t(3, 5).view(), Matrix::Dense(&w), SET)
    });
    each(be, "gemm", &[(3, 4), (5, 3)], |y| {
        be.gemm(y.view_mut(), Operand::plain(x.view()), Operand::transposed(w.view()), 1.0, SET)
    });
    each(be, "gemm", &[(3, 5)], |y| {
        be.gemm(y.view_mut(), Operand::plain(x.view()), Operand::plain(w.view()), 1.0, SET)
    });
    each(be, "embed", &[(2, 4), (3, 5)], |y| be.embed(y.view_mut(), &[0, 1, 2], Matrix::Dense(&w), 1.0));
    each(be, "embed", &[(3, 4)], |y| be.embed(y.view_mut(), &[0, 5, 2], Matrix::Dense(&w), 1.0));
    each(be, "embed_bwd", &[(5, 3)], |y| be.embed_bwd(y, x.view(), &[0, 1, 2], 1.0));
    each(be, "embed_bwd", &[(2, 4)], |y| be.embed_bwd(y, x.view(), &[0, 2, 1], 1.0));
    each(be, "gated", &[(3, 4), (2, 2)], |y| be.gated(y.view_mut(), x.view(), Activation::Silu));
    each(be, "gated_bwd", &[(3, 4), (2, 8)], |y| {
        be.gated_bwd(y.view_mut(), x.view(), t(3, 8).view(), Activation::Silu)
    });
    let clamp = ClampedGate { alpha: 1.7, limit: 7.0 };
    each(be, "gated_clamped", &[(3, 4), (2, 2)], |y| be.gated_clamped(y.view_mut(), x.view(), &clamp));
    each(be, "gated_clamped_bwd", &[(3, 4), (2, 8)], |y| {
        be.gated_clamped_bwd(y.view_mut(), x.view(), t(3, 8).view(), &clamp)
    });
    for limit in [0.0, -1.0, f32::NAN] {
        each(be, "gated_clamped", &[(3, 2)], |y| {
            be.gated_clamped(y.view_mut(), x.view(), &ClampedGate { alpha: 1.7, limit })
        });
    }
    each(be, "scale_rows", &[(3, 4)], |y| be.scale_rows(y.view_mut(), x.view(), &bias, SET));
    each(be, "scale_rows", &[(3, 5), (2, 4)], |y| be.scale_rows(y.view_mut(), x.view(), &t(3, 1), SET));
    each(be, "row_dots", &[(1, 3), (4, 1)], |y| be.row_dots(y, x.view(), x.view()));
    each(be, "row_dots", &[(3, 1)], |y| be.row_dots(y, x.view(), t(3, 5).view()));
    for p in [1.0, -0.1, f32::NAN] {
        let params = Dropout { p, seed: 1, stream: 1 };
        each(be, "dropout", &[(3, 4)], |y| be.dropout(y.view_mut(), x.view(), &params, SET));
    }
    each(be, "sum_rows", &[(1, 3), (3, 4)], |y| be.sum_rows(y, x.view()));
    each(be, "scale_columns", &[(3, 4)], |y| be.scale_columns(y.view_mut(), x.view(), &bias, SET));
    each(be, "column_dots", &[(1, 3), (2, 4)], |y| be.column_dots(y, x.view(), x.view()));
    each(be, "row_squares", &[(1, 4), (5, 1)], |y| be.row_squares(y, Matrix::Dense(&w)));
    each(be, "dora_norm", &[(1, 4)], |y| be.dora_norm(y, &bias, &t(2, 5), &t(2, 2), &t(5, 2), 1.0));
    each(be, "dora_norm", &[(1, 5)], |y| be.dora_norm(y, &bias, &t(2, 5), &t(2, 3), &t(5, 2), 1.0));
    each(be, "divide", &[(3, 5), (4, 3)], |y| be.divide(y, &x, &x));
    each(be, "upload", &[(3, 5)], |y| be.upload(y, &[0.0; 14]));
}

pub(crate) fn wrong_blocks<B: Backend>(be: &B) {
    let t = |rows, cols| tensor(be, 2, rows, cols);
    let x = t(3, 8);
    let norm = NormParams { eps: 1e-6, offset: 0.0 };
    each(be, "noise", &[(3, 7), (2, 8)], |y| be.noise(y.view_mut(), &[1.0], 1, 1));
    each(be, "rms_norm", &[(3, 7), (2, 8)], |y| be.rms_norm(y.view_mut(), &mut t(3, 2), x.view(), &t(1, 4), &norm));
    each(be, "rms_norm", &[(3, 8)], |y| be.rms_norm(y.view_mut(), &mut t(3, 1), x.view(), &t(1, 4), &norm));
    each(be, "rms_norm", &[(3, 8)], |y| be.rms_norm(y.view_mut(), &mut t(3, 2), x.view(), &t(1, 3), &norm));
    each(be, "rms_norm_bwd", &[(3, 7)], |dx| {
        be.rms_norm_bwd(dx.view_mut(), None, x.view(), x.view(), &t(1, 4), &t(3, 2), &norm, Write::Set)
    });
    each(be, "rms_norm_bwd", &[(1, 8)], |dw| {
        be.rms_norm_bwd(t(3, 8).view_mut(), Some(dw), x.view(), x.view(), &t(1, 4), &t(3, 2), &norm, Write::Set)
    });

    let rope = RopeParams { head_dim: 4, rotary_dim: 4 };
    let turn = |y: &mut Tensor<B>, table: (usize, usize), positions: &[u32], params: &RopeParams| {
        be.rope(y.view_mut(), &t(table.0, table.1), positions, params, Turn::Forward)
    };
    each(be, "rope", &[(3, 8)], |y| turn(y, (5, 4), &[0, 1], &rope));
    each(be, "rope", &[(3, 8)], |y| turn(y, (5, 4), &[0, 1, 5], &rope));
    each(be, "rope", &[(3, 8)], |y| turn(y, (5, 2), &[0, 1, 2], &rope));
    each(be, "rope", &[(3, 6)], |y| turn(y, (5, 4), &[0, 1, 2], &rope));
    each(be, "rope", &[(3, 8)], |y| turn(y, (5, 3), &[0, 1, 2], &RopeParams { head_dim: 4, rotary_dim: 3 }));
    each(be, "rope", &[(3, 8)], |y| turn(y, (5, 6), &[0, 1, 2], &RopeParams { head_dim: 4, rotary_dim: 6 }));

    let w = t(6, 8);
    let loss = LossParams { softcap: None, gradient_scale: 1.0 };
    let head = |loss_out: &mut Tensor<B>, targets: &[i32]| {
        be.head_loss(loss_out, &mut t(3, 1), None, None, x.view(), Matrix::Dense(&w), targets, &loss)
    };
    each(be, "head_loss", &[(2, 1), (3, 2)], |y| head(y, &[0, 1, 2]));
    for bad in [6, -1, -99, i32::MIN, i32::MAX] {
        each(be, "head_loss", &[(3, 1)], |y| head(y, &[0, bad, 2]));
    }
    each(be, "head_loss", &[(5, 8)], |dw| {
        let targets = [0, 1, 2];
        be.head_loss(&mut t(3, 1), &mut t(3, 1), None, Some(dw), x.view(), Matrix::Dense(&w), &targets, &loss)
    });

    let adamw = |step| AdamW {
        learning_rate: 0.1,
        beta1: 0.9,
        beta2: 0.99,
        eps: 1e-8,
        weight_decay: 0.0,
        step,
        gradient_scale: 1.0,
    };
    each(be, "adamw", &[(3, 7)], |p| be.adamw(p, &mut t(3, 8), &mut t(3, 8), &x, &adamw(1)));
    each(be, "adamw", &[(3, 8)], |p| be.adamw(p, &mut t(3, 8), &mut t(3, 8), &x, &adamw(0)));
    for (m, v, columns) in [(24, 24, 7), (23, 24, 8), (24, 25, 8)] {
        each(be, "adamw_8bit", &[(3, columns)], |p| {
            let state = |len| EightBit::zeros(be, len).expect("memory");
            be.adamw_8bit(p, &mut state(m), &mut state(v), &x, &adamw(1), Rounding::Nearest)
        });
    }
    each(be, "adamw_8bit", &[(3, 8)], |p| {
        let state = || EightBit::zeros(be, 24).expect("memory");
        be.adamw_8bit(p, &mut state(), &mut state(), &x, &adamw(0), Rounding::Nearest)
    });
}

pub(crate) fn wrong_attention<B: Backend>(be: &B) {
    let t = |rows, cols| tensor(be, 2, rows, cols);
    let heads = Heads { n_heads: 4, n_kv_heads: 2, head_dim: 3 };
    let params = |segments: &[(usize, usize)]| AttentionParams {
        heads,
        scale: 1.0,
        window: None,
        softcap: None,
        sinks: Vec::new(),
        segments: segments.iter().map(|&(start, len)| Segment { start, len }).collect(),
    };
    let qkv = t(5, heads.qkv_dim());
    let attend =
        |y: &mut Tensor<B>, params: &AttentionParams| be.attention(y.view_mut(), &mut t(5, 4), qkv.view(), params);
    each(be, "attention", &[(5, 11), (4, 12)], |y| attend(y, &params(&[(0, 5)])));
    for segments in [&[(0, 6)][..], &[(0, 3), (2, 2)], &[(3, 2), (0, 2)], &[(usize::MAX, 2)]] {
        each(be, "attention", &[(5, 12)], |y| attend(y, &params(segments)));
        each(be, "attention_bwd", &[(5, 24)], |d| {
            be.attention_bwd(d.view_mut(), t(5, 12).view(), t(5, 12).view(), &t(5, 4), qkv.view(), &params(segments))
        });
    }
    for heads in [Heads { n_kv_heads: 3, ..heads }, Heads { n_kv_heads: 0, ..heads }] {
        each(be, "attention", &[(5, 12)], |y| attend(y, &AttentionParams { heads, ..params(&[(0, 5)]) }));
    }
    each(be, "attention", &[(5, 12)], |y| attend(y, &AttentionParams { window: Some(0), ..params(&[(0, 5)]) }));
    each(be, "attention", &[(5, 12)], |y| attend(y, &AttentionParams { sinks: vec![0.5; 3], ..params(&[(0, 5)]) }));
    each(be, "attention_bwd", &[(5, 24)], |d| {
        be.attention_bwd(d.view_mut(), t(5, 12).view(), t(5, 12).view(), &t(5, 3), qkv.view(), &params(&[(0, 5)]))
    });

    let cached = |start, len, slot, past| CachedSegment { start, len, slot, past };
    for segments in [
        &[cached(0, 2, 0, 7)][..],
        &[cached(0, 2, usize::MAX, 1)],
        &[cached(4, 2, 0, 0)],
        &[cached(0, 2, 0, 2), cached(2, 1, 3, 0)],
    ] {
        each(be, "attention_cached", &[(8, 12)], |cache| {
            be.attention_cached(t(5, 12).view_mut(), cache, qkv.view(), segments, &params(&[]))
        });
    }
}

pub(crate) fn damaged_weights<B: Backend>(be: &B) {
    let damaged =
        |w: FrozenWeight| assert!(matches!(be.weight(w), Err(Error::Weight { .. })), "a damaged weight was taken");
    let FrozenWeight::Dense { bytes, dtype, rows, .. } = frozen(Storage::Dense(DType::BF16), 1, 4, 6) else {
        unreachable!()
    };
    damaged(FrozenWeight::Dense { bytes, dtype, rows, cols: 7 });
    let FrozenWeight::FourBit(w) = frozen(Storage::FourBit(FourBitKind::Nf4, true, DType::BF16), 1, 8, 64) else {
        unreachable!()
    };
    damaged(FrozenWeight::FourBit(peft_kernels::FourBit { cols: 65, ..w.clone() }));
    damaged(FrozenWeight::FourBit(peft_kernels::FourBit { block: 0, ..w.clone() }));
    damaged(FrozenWeight::FourBit(peft_kernels::FourBit { block: 32, ..w.clone() }));
    damaged(FrozenWeight::FourBit(peft_kernels::FourBit { rows: usize::MAX, ..w }));
}

/// More than any machine has is an error, not the end of the program.
pub(crate) fn too_much_memory<B: Backend>(be: &B) {
    for (rows, cols) in [(usize::MAX, 2), (1 << 40, 1 << 20)] {
        assert!(matches!(be.zeros(rows, cols), Err(Error::OutOfMemory { .. })), "[{rows}, {cols}]");
    }
}
