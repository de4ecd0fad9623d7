//! The reference with something wrong in it.

use crate::backend::{
    Activation, AdamW, AttentionParams, Backend, CachedSegment, ClampedGate, Dropout, LossParams, NormParams, Operand,
    RopeParams, Turn, Write,
};
use crate::error::{Error, Result};
use crate::quant::eight_bit::{EightBit, Rounding};
use crate::reference::{Decoded, Reference};
use crate::tensor::{In, Out, Tensor, Window};
use crate::weight::{FrozenWeight, Matrix};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Damage {
    /// One element is too large, by as much as its neighbours are large.
    Value,
    /// The last row is not written.
    Unwritten,
    /// An element beside the window is written.
    Stray,
    /// The last bit of an element depends on how often something was called.
    Unsteady,
    /// Nothing is done.
    Refuses,
}

/// The reference, damaged in one operation or in all that compute.
#[derive(Clone)]
pub(super) struct Broken {
    damage: Damage,
    only: Option<&'static str>,
    calls: Arc<AtomicU32>,
}

impl Broken {
    pub(super) fn new(damage: Damage, only: Option<&'static str>) -> Self {
        Self { damage, only, calls: Arc::default() }
    }

    fn is_broken(&self, op: &str) -> bool {
        self.only.is_none_or(|only| only == op)
    }

    /// Memory is broken only where it is asked for: everything needs it.
    fn memory_is_broken(&self, op: &str) -> bool {
        self.only == Some(op)
    }

    /// Let the reference write `y`, then spoil it.
    fn window(&self, op: &str, y: Out<Self>, write: impl FnOnce(Out<Reference>) -> Result<()>) -> Result<()> {
        let Out { tensor, at } = y;
        let (rows, cols) = (tensor.rows(), tensor.cols());
        if self.is_broken(op) && self.damage == Damage::Refuses {
            return Err(Error::OutOfMemory { op: "broken", bytes: 1 });
        }
        let mut t = Tensor::<Reference>::from_buf(std::mem::take(&mut tensor.buf), rows, cols);
        let before = t.buf.clone();
        let done = write(Out { tensor: &mut t, at });
        tensor.buf = t.buf;
        if self.is_broken(op) {
            self.spoil(&mut tensor.buf, &before, at, cols);
        }
        done
    }

    fn whole(
        &self,
        op: &str,
        y: &mut Tensor<Self>,
        write: impl FnOnce(&mut Tensor<Reference>) -> Result<()>,
    ) -> Result<()> {
        self.window(op, y.view_mut(), |y| write(y.tensor))
    }

    fn spoil(&self, buf: &mut [f32], before: &[f32], at: Window, cols: usize) {
        if at.rows == 0 || at.cols == 0 {
            return;
        }
        let last = (at.row + at.rows - 1) * cols + at.col;
        match self.damage {
            Damage::Value => {
                let largest = buf[last..last + at.cols].iter().fold(1.0_f32, |max, x| max.max(x.abs()));
                buf[last] += largest;
            }
            Damage::Unwritten => buf[last..last + at.cols].copy_from_slice(&before[last..last + at.cols]),
            Damage::Stray if buf.len() > last + at.cols => buf[last + at.cols] = 0.0,
            Damage::Unsteady => {
                buf[last] = f32::from_bits(buf[last].to_bits() ^ (self.calls.fetch_add(1, Ordering::Relaxed) & 1));
            }
            Damage::Stray | Damage::Refuses => {}
        }
    }
}

/// A frozen weight of the reference, perhaps with a wrong idea of its shape.
#[derive(Clone)]
pub(super) struct Held {
    decoded: Decoded,
    is_turned: bool,
}

fn plain(t: &Tensor<Broken>) -> Tensor<Reference> {
    Tensor::from_buf(t.buf.clone(), t.rows(), t.cols())
}

fn reading<R>(x: In<Broken>, then: impl FnOnce(In<Reference>) -> R) -> R {
    then(In { tensor: &plain(x.tensor), at: x.at })
}

fn with_matrix<R>(w: Matrix<Broken>, then: impl FnOnce(Matrix<Reference>) -> R) -> R {
    match w {
        Matrix::Frozen(w) => then(Matrix::Frozen(&w.decoded)),
        Matrix::Dense(t) => then(Matrix::Dense(&plain(t))),
    }
}

impl Backend for Broken {
    type Buf = Vec<f32>;
    type Weight = Held;
    type Codes = Vec<u8>;
    const NAME: &'static str = "broken";

    fn fingerprint(&self) -> String {
        if self.memory_is_broken("fingerprint") { String::new() } else { "broken".into() }
    }

    fn zeros(&self, rows: usize, cols: usize) -> Result<Tensor<Self>> {
        let value = if self.memory_is_broken("zeros") { 1.0 } else { 0.0 };
        Ok(Tensor::from_buf(vec![value; rows * cols], rows, cols))
    }

    fn upload(&self, t: &mut Tensor<Self>, data: &[f32]) -> Result<()> {
        t.buf.copy_from_slice(data);
        if self.memory_is_broken("upload")
            && let Some(last) = t.buf.last_mut()
        {
            *last = 0.0;
        }
        Ok(())
    }

    fn download(&self, t: &Tensor<Self>) -> Result<Vec<f32>> {
        let mut data = t.buf.clone();
        if self.memory_is_broken("download") {
            data.pop();
        }
        Ok(data)
    }

    fn reshape(&self, t: &mut Tensor<Self>, rows: usize, cols: usize) -> Result<()> {
        let (rows, cols) = if self.memory_is_broken("reshape") { (cols, rows) } else { (rows, cols) };
        *t = self.zeros(rows, cols)?;
        Ok(())
    }

    fn copy(&self, y: Out<Self>, x: In<Self>, write: Write) -> Result<()> {
        self.window("copy", y, |y| reading(x, |x| Reference.copy(y, x, write)))
    }

    fn fill(&self, y: Out<Self>, value: f32) -> Result<()> {
        self.window("fill", y, |y| Reference.fill(y, value))
    }

    fn scale(&self, y: Out<Self>, s: f32) -> Result<()> {
        self.window("scale", y, |y| Reference.scale(y, s))
    }

    fn weight(&self, mut w: FrozenWeight) -> Result<Held> {
        if let (true, FrozenWeight::FourBit(w)) = (self.memory_is_broken("weight"), &mut w) {
            w.codes = crate::Bytes::from_vec(w.codes.as_slice().iter().map(|byte| byte.rotate_left(4)).collect());
        }
        Ok(Held { decoded: Reference.weight(w)?, is_turned: self.memory_is_broken("weight_shape") })
    }

    fn weight_shape(w: &Held) -> (usize, usize) {
        let (rows, cols) = Reference::weight_shape(&w.decoded);
        if w.is_turned { (cols, rows) } else { (rows, cols) }
    }

    fn codes(&self, data: &[u8]) -> Result<Vec<u8>> {
        Ok(data.iter().map(|code| code ^ u8::from(self.memory_is_broken("codes"))).collect())
    }

    fn download_codes(&self, codes: &Vec<u8>) -> Result<Vec<u8>> {
        Ok(codes.iter().map(|code| code ^ u8::from(self.memory_is_broken("download_codes"))).collect())
    }

    fn linear(
        &self,
        y: Out<Self>,
        x: In<Self>,
        w: Matrix<Self>,
        bias: Option<&Tensor<Self>>,
        write: Write,
    ) -> Result<()> {
        let bias = bias.map(plain);
        self.window("linear", y, |y| {
            reading(x, |x| with_matrix(w, |w| Reference.linear(y, x, w, bias.as_ref(), write)))
        })
    }

    fn linear_bwd_input(&self, dx: Out<Self>, dy: In<Self>, w: Matrix<Self>, write: Write) -> Result<()> {
        self.window("linear_bwd_input", dx, |dx| {
            reading(dy, |dy| with_matrix(w, |w| Reference.linear_bwd_input(dx, dy, w, write)))
        })
    }

    fn gemm(&self, y: Out<Self>, a: Operand<Self>, b: Operand<Self>, alpha: f32, write: Write) -> Result<()> {
        self.window("gemm", y, |y| {
            reading(a.x, |ax| {
                reading(b.x, |bx| {
                    let a = Operand { x: ax, transposed: a.transposed };
                    let b = Operand { x: bx, transposed: b.transposed };
                    Reference.gemm(y, a, b, alpha, write)
                })
            })
        })
    }

    fn embed(&self, y: Out<Self>, tokens: &[u32], table: Matrix<Self>, scale: f32) -> Result<()> {
        self.window("embed", y, |y| with_matrix(table, |table| Reference.embed(y, tokens, table, scale)))
    }

    fn embed_bwd(&self, dtable: &mut Tensor<Self>, dy: In<Self>, tokens: &[u32], scale: f32) -> Result<()> {
        self.whole("embed_bwd", dtable, |dtable| reading(dy, |dy| Reference.embed_bwd(dtable, dy, tokens, scale)))
    }

    fn rms_norm(
        &self,
        y: Out<Self>,
        rstd: &mut Tensor<Self>,
        x: In<Self>,
        w: &Tensor<Self>,
        params: &NormParams,
    ) -> Result<()> {
        let mut saved = plain(rstd);
        let done =
            self.window("rms_norm", y, |y| reading(x, |x| Reference.rms_norm(y, &mut saved, x, &plain(w), params)));
        rstd.buf = saved.buf;
        done
    }

    fn rms_norm_bwd(
        &self,
        dx: Out<Self>,
        dw: Option<&mut Tensor<Self>>,
        dy: In<Self>,
        x: In<Self>,
        w: &Tensor<Self>,
        rstd: &Tensor<Self>,
        params: &NormParams,
        write: Write,
    ) -> Result<()> {
        let mut gain = dw.as_deref().map(plain);
        let done = self.window("rms_norm_bwd", dx, |dx| {
            reading(dy, |dy| {
                reading(x, |x| Reference.rms_norm_bwd(dx, gain.as_mut(), dy, x, &plain(w), &plain(rstd), params, write))
            })
        });
        if let (Some(dw), Some(gain)) = (dw, gain) {
            dw.buf = gain.buf;
        }
        done
    }

    fn rope(
        &self,
        x: Out<Self>,
        table: &Tensor<Self>,
        positions: &[u32],
        params: &RopeParams,
        turn: Turn,
    ) -> Result<()> {
        self.window("rope", x, |x| Reference.rope(x, &plain(table), positions, params, turn))
    }

    fn attention(&self, y: Out<Self>, lse: &mut Tensor<Self>, qkv: In<Self>, params: &AttentionParams) -> Result<()> {
        let mut saved = plain(lse);
        let done = self.window("attention", y, |y| reading(qkv, |qkv| Reference.attention(y, &mut saved, qkv, params)));
        lse.buf = saved.buf;
        done
    }

    fn attention_bwd(
        &self,
        dqkv: Out<Self>,
        dy: In<Self>,
        y: In<Self>,
        lse: &Tensor<Self>,
        qkv: In<Self>,
        params: &AttentionParams,
    ) -> Result<()> {
        self.window("attention_bwd", dqkv, |dqkv| {
            reading(dy, |dy| {
                reading(y, |y| reading(qkv, |qkv| Reference.attention_bwd(dqkv, dy, y, &plain(lse), qkv, params)))
            })
        })
    }

    fn attention_cached(
        &self,
        y: Out<Self>,
        cache: &mut Tensor<Self>,
        qkv: In<Self>,
        segments: &[CachedSegment],
        params: &AttentionParams,
    ) -> Result<()> {
        let mut kept = plain(cache);
        let done = self.window("attention_cached", y, |y| {
            reading(qkv, |qkv| Reference.attention_cached(y, &mut kept, qkv, segments, params))
        });
        cache.buf = kept.buf;
        done
    }

    fn gated(&self, h: Out<Self>, gate_up: In<Self>, act: Activation) -> Result<()> {
        self.window("gated", h, |h| reading(gate_up, |gate_up| Reference.gated(h, gate_up, act)))
    }

    fn gated_bwd(&self, dgate_up: Out<Self>, dh: In<Self>, gate_up: In<Self>, act: Activation) -> Result<()> {
        self.window("gated_bwd", dgate_up, |dgate_up| {
            reading(dh, |dh| reading(gate_up, |gate_up| Reference.gated_bwd(dgate_up, dh, gate_up, act)))
        })
    }

    fn dropout(&self, y: Out<Self>, x: In<Self>, params: &Dropout, write: Write) -> Result<()> {
        self.window("dropout", y, |y| reading(x, |x| Reference.dropout(y, x, params, write)))
    }

    fn sum_rows(&self, out: &mut Tensor<Self>, dy: In<Self>) -> Result<()> {
        self.whole("sum_rows", out, |out| reading(dy, |dy| Reference.sum_rows(out, dy)))
    }

    fn gated_clamped(&self, h: Out<Self>, gate_up: In<Self>, params: &ClampedGate) -> Result<()> {
        self.window("gated_clamped", h, |h| reading(gate_up, |gate_up| Reference.gated_clamped(h, gate_up, params)))
    }

    fn gated_clamped_bwd(
        &self,
        dgate_up: Out<Self>,
        dh: In<Self>,
        gate_up: In<Self>,
        params: &ClampedGate,
    ) -> Result<()> {
        self.window("gated_clamped_bwd", dgate_up, |dgate_up| {
            reading(dh, |dh| reading(gate_up, |gate_up| Reference.gated_clamped_bwd(dgate_up, dh, gate_up, params)))
        })
    }

    fn scale_rows(&self, y: Out<Self>, x: In<Self>, s: &Tensor<Self>, write: Write) -> Result<()> {
        self.window("scale_rows", y, |y| reading(x, |x| Reference.scale_rows(y, x, &plain(s), write)))
    }

    fn row_dots(&self, out: &mut Tensor<Self>, a: In<Self>, b: In<Self>) -> Result<()> {
        self.whole("row_dots", out, |out| reading(a, |a| reading(b, |b| Reference.row_dots(out, a, b))))
    }

    fn scale_columns(&self, y: Out<Self>, x: In<Self>, s: &Tensor<Self>, write: Write) -> Result<()> {
        self.window("scale_columns", y, |y| reading(x, |x| Reference.scale_columns(y, x, &plain(s), write)))
    }

    fn column_dots(&self, out: &mut Tensor<Self>, a: In<Self>, b: In<Self>) -> Result<()> {
        self.whole("column_dots", out, |out| reading(a, |a| reading(b, |b| Reference.column_dots(out, a, b))))
    }

    fn row_squares(&self, out: &mut Tensor<Self>, w: Matrix<Self>) -> Result<()> {
        self.whole("row_squares", out, |out| with_matrix(w, |w| Reference.row_squares(out, w)))
    }

    fn dora_norm(
        &self,
        out: &mut Tensor<Self>,
        squares: &Tensor<Self>,
        projected: &Tensor<Self>,
        gram: &Tensor<Self>,
        b: &Tensor<Self>,
        s: f32,
    ) -> Result<()> {
        let (squares, projected, gram, b) = (plain(squares), plain(projected), plain(gram), plain(b));
        self.whole("dora_norm", out, |out| Reference.dora_norm(out, &squares, &projected, &gram, &b, s))
    }

    fn divide(&self, y: &mut Tensor<Self>, a: &Tensor<Self>, b: &Tensor<Self>) -> Result<()> {
        self.whole("divide", y, |y| Reference.divide(y, &plain(a), &plain(b)))
    }

    fn head_loss(
        &self,
        loss: &mut Tensor<Self>,
        correct: &mut Tensor<Self>,
        dx: Option<Out<Self>>,
        dw: Option<&mut Tensor<Self>>,
        x: In<Self>,
        w: Matrix<Self>,
        targets: &[i32],
        params: &LossParams,
    ) -> Result<()> {
        let (mut losses, mut hits, mut head) = (plain(loss), plain(correct), dw.as_deref().map(plain));
        let mut call = |dx: Option<Out<Reference>>| {
            reading(x, |x| {
                with_matrix(w, |w| {
                    Reference.head_loss(&mut losses, &mut hits, dx, head.as_mut(), x, w, targets, params)
                })
            })
        };
        match dx {
            Some(dx) => self.window("head_loss", dx, |dx| call(Some(dx)))?,
            None => call(None)?,
        }
        correct.buf = hits.buf;
        if let (Some(dw), Some(head)) = (dw, head) {
            dw.buf = head.buf;
        }
        self.whole("head_loss", loss, |loss| {
            loss.buf = losses.buf;
            Ok(())
        })
    }

    fn softcap(&self, x: &mut Tensor<Self>, cap: f32) -> Result<()> {
        self.whole("softcap", x, |x| Reference.softcap(x, cap))
    }

    fn sum_squares(&self, x: &Tensor<Self>) -> Result<f64> {
        let right = Reference.sum_squares(&plain(x))?;
        Ok(if self.is_broken("sum_squares") && self.damage == Damage::Value { 1.01 * right } else { right })
    }

    fn adamw(
        &self,
        p: &mut Tensor<Self>,
        m: &mut Tensor<Self>,
        v: &mut Tensor<Self>,
        g: &Tensor<Self>,
        params: &AdamW,
    ) -> Result<()> {
        let (mut first, mut second) = (plain(m), plain(v));
        let done = self.whole("adamw", p, |p| Reference.adamw(p, &mut first, &mut second, &plain(g), params));
        (m.buf, v.buf) = (first.buf, second.buf);
        done
    }

    fn noise(&self, y: Out<Self>, amplitudes: &[f32], seed: u64, stream: u64) -> Result<()> {
        self.window("noise", y, |y| Reference.noise(y, amplitudes, seed, stream))
    }

    fn adamw_8bit(
        &self,
        p: &mut Tensor<Self>,
        m: &mut EightBit<Self>,
        v: &mut EightBit<Self>,
        g: &Tensor<Self>,
        params: &AdamW,
        rounding: Rounding,
    ) -> Result<()> {
        let held = |s: &EightBit<Self>| EightBit { codes: s.codes.clone(), absmax: plain(&s.absmax), len: s.len };
        let (mut first, mut second) = (held(m), held(v));
        let done = self
            .whole("adamw_8bit", p, |p| Reference.adamw_8bit(p, &mut first, &mut second, &plain(g), params, rounding));
        for (state, held) in [(m, first), (v, second)] {
            (state.codes, state.absmax.buf) = (held.codes, held.absmax.buf);
        }
        done
    }
}
