//! The backend whose only virtue is to be obviously right: plain loops, sums in f64.
//!
//! Finite differences check its backward operations (`tests/conformance`); it checks every other
//! backend. Frozen weights are decoded to f32 when they arrive. Never use it for speed.

mod attention;
mod columns;
mod dropout;
mod embed;
mod gated;
mod gated_clamped;
mod linear;
mod loss;
mod norm;
mod optim;
mod rope;
mod rows;

use crate::backend::{
    Activation, AdamW, AttentionParams, Backend, CachedSegment, ClampedGate, Dropout, LossParams, NormParams, Operand,
    RopeParams, Turn, Write,
};
use crate::error::Result;
use crate::host::{self, View, ViewMut};
use crate::quant;
use crate::quant::eight_bit::{EightBit, Rounding};
use crate::shapes;
use crate::tensor::{In, Out, Tensor};
use crate::weight::{FrozenWeight, Matrix};
use std::sync::Arc;

/// Plain loops on one thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reference;

/// A frozen weight, decoded.
#[derive(Clone, Debug)]
pub struct Decoded {
    data: Arc<Vec<f32>>,
    rows: usize,
    cols: usize,
}

fn matrix(w: Matrix<'_, Reference>) -> View<'_> {
    match w {
        Matrix::Frozen(w) => View::dense(&w.data, w.rows, w.cols),
        Matrix::Dense(t) => View::whole(t),
    }
}

fn dims(w: Matrix<'_, Reference>) -> (usize, usize) {
    let w = matrix(w);
    (w.rows(), w.cols())
}

impl Write {
    /// What is there before the sum begins.
    fn start(self, old: f32) -> f64 {
        match self {
            Self::Set => 0.0,
            Self::Add => f64::from(old),
        }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

impl Backend for Reference {
    type Buf = Vec<f32>;
    type Weight = Decoded;
    type Codes = Vec<u8>;
    const NAME: &'static str = "reference";

    fn fingerprint(&self) -> String {
        "reference".into()
    }

    fn zeros(&self, rows: usize, cols: usize) -> Result<Tensor<Self>> {
        Ok(Tensor::from_buf(host::zeros("zeros", rows, cols)?, rows, cols))
    }

    fn upload(&self, t: &mut Tensor<Self>, data: &[f32]) -> Result<()> {
        shapes::upload(t, data)?;
        t.buf.copy_from_slice(data);
        Ok(())
    }

    fn download(&self, t: &Tensor<Self>) -> Result<Vec<f32>> {
        Ok(t.buf.clone())
    }

    fn copy(&self, y: Out<Self>, x: In<Self>, write: Write) -> Result<()> {
        shapes::same("copy", &y, &x)?;
        columns::copy(ViewMut::of(y), View::of(x), write);
        Ok(())
    }

    fn fill(&self, y: Out<Self>, value: f32) -> Result<()> {
        shapes::window("fill", &y)?;
        ViewMut::of(y).into_rows().for_each(|row| row.fill(value));
        Ok(())
    }

    fn scale(&self, y: Out<Self>, s: f32) -> Result<()> {
        shapes::window("scale", &y)?;
        ViewMut::of(y).into_rows().flatten().for_each(|y| *y *= s);
        Ok(())
    }

    fn weight(&self, w: FrozenWeight) -> Result<Decoded> {
        w.check()?;
        let (rows, cols) = w.shape();
        let mut data = host::zeros("weight", rows, cols)?;
        quant::decode(&w, 0, &mut data);
        Ok(Decoded { data: Arc::new(data), rows, cols })
    }

    fn weight_shape(w: &Decoded) -> (usize, usize) {
        (w.rows, w.cols)
    }

    fn codes(&self, data: &[u8]) -> Result<Vec<u8>> {
        Ok(data.to_vec())
    }

    fn download_codes(&self, codes: &Vec<u8>) -> Result<Vec<u8>> {
        Ok(codes.clone())
    }

    fn linear(
        &self,
        y: Out<Self>,
        x: In<Self>,
        w: Matrix<Self>,
        bias: Option<&Tensor<Self>>,
        write: Write,
    ) -> Result<()> {
        shapes::linear(&y, &x, dims(w), bias)?;
        linear::linear(ViewMut::of(y), View::of(x), matrix(w), bias.map(|b| b.buf.as_slice()), write);
        Ok(())
    }

    fn linear_bwd_input(&self, dx: Out<Self>, dy: In<Self>, w: Matrix<Self>, write: Write) -> Result<()> {
        shapes::linear_bwd_input(&dx, &dy, dims(w))?;
        linear::linear_bwd_input(ViewMut::of(dx), View::of(dy), matrix(w), write);
        Ok(())
    }

    fn gemm(&self, y: Out<Self>, a: Operand<Self>, b: Operand<Self>, alpha: f32, write: Write) -> Result<()> {
        let k = shapes::gemm(&y, &a, &b)?;
        let (a, b) = ((View::of(a.x), a.transposed), (View::of(b.x), b.transposed));
        linear::gemm(ViewMut::of(y), a, b, k, alpha, write);
        Ok(())
    }

    fn embed(&self, y: Out<Self>, tokens: &[u32], table: Matrix<Self>, scale: f32) -> Result<()> {
        shapes::embed(&y, tokens, dims(table))?;
        embed::embed(ViewMut::of(y), tokens, matrix(table), scale);
        Ok(())
    }

    fn embed_bwd(&self, dtable: &mut Tensor<Self>, dy: In<Self>, tokens: &[u32], scale: f32) -> Result<()> {
        shapes::embed_bwd(dtable, &dy, tokens)?;
        embed::embed_bwd(ViewMut::whole(dtable), View::of(dy), tokens, scale);
        Ok(())
    }

    fn rms_norm(
        &self,
        y: Out<Self>,
        rstd: &mut Tensor<Self>,
        x: In<Self>,
        w: &Tensor<Self>,
        params: &NormParams,
    ) -> Result<()> {
        shapes::rms_norm(&y, rstd, &x, w)?;
        norm::rms_norm(ViewMut::of(y), ViewMut::whole(rstd), View::of(x), &w.buf, *params);
        Ok(())
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
        shapes::rms_norm_bwd(&dx, dw.as_deref(), &dy, &x, w, rstd)?;
        let dw = dw.map(|dw| dw.buf.as_mut_slice());
        norm::rms_norm_bwd(ViewMut::of(dx), dw, View::of(dy), View::of(x), &w.buf, View::whole(rstd), *params, write);
        Ok(())
    }

    fn rope(
        &self,
        x: Out<Self>,
        table: &Tensor<Self>,
        positions: &[u32],
        params: &RopeParams,
        turn: Turn,
    ) -> Result<()> {
        shapes::rope(&x, table, positions, params)?;
        rope::rope(ViewMut::of(x), View::whole(table), positions, params, turn);
        Ok(())
    }

    fn attention(&self, y: Out<Self>, lse: &mut Tensor<Self>, qkv: In<Self>, params: &AttentionParams) -> Result<()> {
        shapes::attention(&y, lse, &qkv, params)?;
        attention::attention(ViewMut::of(y), ViewMut::whole(lse), View::of(qkv), params);
        Ok(())
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
        shapes::attention_bwd(&dqkv, &dy, &y, lse, &qkv, params)?;
        let (dqkv, lse) = (ViewMut::of(dqkv), View::whole(lse));
        attention::attention_bwd(dqkv, View::of(dy), View::of(y), lse, View::of(qkv), params);
        Ok(())
    }

    fn attention_cached(
        &self,
        y: Out<Self>,
        cache: &mut Tensor<Self>,
        qkv: In<Self>,
        segments: &[CachedSegment],
        params: &AttentionParams,
    ) -> Result<()> {
        shapes::attention_cached(&y, cache, &qkv, segments, params)?;
        attention::attention_cached(ViewMut::of(y), ViewMut::whole(cache), View::of(qkv), segments, params);
        Ok(())
    }

    fn gated(&self, h: Out<Self>, gate_up: In<Self>, act: Activation) -> Result<()> {
        shapes::gated("gated", &h, &gate_up)?;
        gated::gated(ViewMut::of(h), View::of(gate_up), act);
        Ok(())
    }

    fn gated_bwd(&self, dgate_up: Out<Self>, dh: In<Self>, gate_up: In<Self>, act: Activation) -> Result<()> {
        shapes::gated("gated_bwd", &dh, &gate_up)?;
        shapes::gated("gated_bwd", &dh, &dgate_up)?;
        gated::gated_bwd(ViewMut::of(dgate_up), View::of(dh), View::of(gate_up), act);
        Ok(())
    }

    fn gated_clamped(&self, h: Out<Self>, gate_up: In<Self>, params: &ClampedGate) -> Result<()> {
        shapes::gated_clamped("gated_clamped", &h, &gate_up, *params)?;
        gated_clamped::gated_clamped(ViewMut::of(h), View::of(gate_up), *params);
        Ok(())
    }

    fn gated_clamped_bwd(
        &self,
        dgate_up: Out<Self>,
        dh: In<Self>,
        gate_up: In<Self>,
        params: &ClampedGate,
    ) -> Result<()> {
        shapes::gated_clamped("gated_clamped_bwd", &dh, &gate_up, *params)?;
        shapes::gated("gated_clamped_bwd", &dh, &dgate_up)?;
        let (dgate_up, dh) = (ViewMut::of(dgate_up), View::of(dh));
        gated_clamped::gated_clamped_bwd(dgate_up, dh, View::of(gate_up), *params);
        Ok(())
    }

    fn dropout(&self, y: Out<Self>, x: In<Self>, params: &Dropout, write: Write) -> Result<()> {
        shapes::dropout(&y, &x, params)?;
        dropout::dropout(ViewMut::of(y), View::of(x), params, write);
        Ok(())
    }

    fn sum_rows(&self, out: &mut Tensor<Self>, dy: In<Self>) -> Result<()> {
        shapes::row_of("sum_rows", "out", out, &dy)?;
        columns::sum_rows(&mut out.buf, View::of(dy));
        Ok(())
    }

    fn scale_columns(&self, y: Out<Self>, x: In<Self>, s: &Tensor<Self>, write: Write) -> Result<()> {
        shapes::same("scale_columns", &y, &x)?;
        shapes::row_of("scale_columns", "s", s, &x)?;
        columns::scale_columns(ViewMut::of(y), View::of(x), &s.buf, write);
        Ok(())
    }

    fn column_dots(&self, out: &mut Tensor<Self>, a: In<Self>, b: In<Self>) -> Result<()> {
        shapes::same("column_dots", &a, &b)?;
        shapes::row_of("column_dots", "out", out, &a)?;
        columns::column_dots(&mut out.buf, View::of(a), View::of(b));
        Ok(())
    }

    fn scale_rows(&self, y: Out<Self>, x: In<Self>, s: &Tensor<Self>, write: Write) -> Result<()> {
        shapes::same("scale_rows", &y, &x)?;
        shapes::column_of("scale_rows", "s", s, &x)?;
        rows::scale_rows(ViewMut::of(y), View::of(x), &s.buf, write);
        Ok(())
    }

    fn row_dots(&self, out: &mut Tensor<Self>, a: In<Self>, b: In<Self>) -> Result<()> {
        shapes::same("row_dots", &a, &b)?;
        shapes::column_of("row_dots", "out", out, &a)?;
        rows::row_dots(&mut out.buf, View::of(a), View::of(b));
        Ok(())
    }

    fn row_squares(&self, out: &mut Tensor<Self>, w: Matrix<Self>) -> Result<()> {
        shapes::is("row_squares", "out", out, (1, dims(w).0))?;
        columns::row_squares(&mut out.buf, matrix(w));
        Ok(())
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
        shapes::dora_norm(out, squares, projected, gram, b)?;
        let (projected, gram, b) = (View::whole(projected), View::whole(gram), View::whole(b));
        columns::dora_norm(&mut out.buf, &squares.buf, projected, gram, b, s);
        Ok(())
    }

    fn divide(&self, y: &mut Tensor<Self>, a: &Tensor<Self>, b: &Tensor<Self>) -> Result<()> {
        shapes::same("divide", y, a)?;
        shapes::same("divide", y, b)?;
        for (y, (a, b)) in y.buf.iter_mut().zip(a.buf.iter().zip(&b.buf)) {
            *y = a / b;
        }
        Ok(())
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
        shapes::head_loss(loss, correct, dx.as_ref(), dw.as_deref(), &x, dims(w), targets)?;
        let (dx, dw) = (dx.map(ViewMut::of), dw.map(ViewMut::whole));
        loss::head_loss(&mut loss.buf, &mut correct.buf, dx, dw, View::of(x), matrix(w), targets, params);
        Ok(())
    }

    fn softcap(&self, x: &mut Tensor<Self>, cap: f32) -> Result<()> {
        let cap = f64::from(cap);
        x.buf.iter_mut().for_each(|x| *x = (cap * (f64::from(*x) / cap).tanh()) as f32);
        Ok(())
    }

    fn sum_squares(&self, x: &Tensor<Self>) -> Result<f64> {
        Ok(dot(&x.buf, &x.buf))
    }

    fn adamw(
        &self,
        p: &mut Tensor<Self>,
        m: &mut Tensor<Self>,
        v: &mut Tensor<Self>,
        g: &Tensor<Self>,
        params: &AdamW,
    ) -> Result<()> {
        shapes::adamw(p, m, v, g, params.step)?;
        optim::adamw(&mut p.buf, &mut m.buf, &mut v.buf, &g.buf, params);
        Ok(())
    }

    fn noise(&self, y: Out<Self>, amplitudes: &[f32], seed: u64, stream: u64) -> Result<()> {
        shapes::noise(&y, amplitudes)?;
        dropout::noise(ViewMut::of(y), amplitudes, seed, stream);
        Ok(())
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
        shapes::adamw_8bit(p, [(m, m.codes.len()), (v, v.codes.len())], g, params.step)?;
        optim::adamw_8bit(&mut p.buf, m, v, &g.buf, params, rounding);
        Ok(())
    }
}
