//! The backend for processors: threads, vectors, weights decoded inside the product.
//!
//! | file | what |
//! | --- | --- |
//! | `path.rs` | which kernels a processor runs |
//! | `factors.rs` | what the factors of large products are rounded to; pairs of bf16 |
//! | `simd_*.rs` | the only `unsafe` code: register tiles, look-ups, one body for every instruction set |
//! | `pool.rs` | threads and scratch memory |
//! | `source.rs`, `pack.rs`, `panels.rs`, `gemm.rs` | operands decoded into panels; the blocked product, adapters inside |
//! | `adapted.rs`, `rank.rs` | weights with adapters; the adapters' gradients |
//! | `whole.rs`, `adapted_gated.rs` | sums that are whole before anything is written; gate and up with their activation |
//! | `packed.rs` | weights packed once, when they are loaded |
//! | `int8*.rs`, `interleaved*.rs` | rows in eight bits with codes of weights, as they are stored and rows side by side |
//! | `pack_squares.rs`, `tiles.rs` | the left operand where pairs are multiplied; a unit that multiplies tiles (AMX), and a model of one |
//! | the others | the operations, named as in `reference/` |
//!
//! Results do not depend on the number of threads: see `pool.rs`.

// Bodies of `vectorized!` are compiled for an instruction set only if everything they call is inlined into them.
#![allow(clippy::inline_always)]

mod adapted;
mod adapted_gated;
mod attention;
mod attention_bwd;
mod attention_cached;
mod attention_keys;
mod attention_rounded;
mod blocks;
mod ceiling;
mod columns;
mod device;
mod dots;
mod dropout;
mod embed;
mod exp;
mod factors;
mod few;
mod finish;
mod gated;
mod gated_clamped;
mod gemm;
mod int8;
mod int8_groups;
mod interleaved;
mod interleaved_rows;
mod interleaved_units;
mod kernel;
mod linear;
mod loss;
mod loss_tiles;
mod norm;
mod numbers;
mod optim;
mod pack;
mod pack_squares;
mod packed;
mod panels;
mod path;
mod pool;
mod rank;
mod rope;
mod rows;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod simd_amx;
#[cfg(target_arch = "x86_64")]
mod simd_avx2;
#[cfg(target_arch = "x86_64")]
mod simd_avx2_bytes;
#[cfg(target_arch = "x86_64")]
mod simd_avx2_bytes_k;
#[cfg(target_arch = "x86_64")]
mod simd_avx2_panels;
#[cfg(target_arch = "x86_64")]
mod simd_avx2_strips;
#[cfg(target_arch = "x86_64")]
mod simd_avx2_words;
#[cfg(target_arch = "x86_64")]
mod simd_avx512;
#[cfg(target_arch = "x86_64")]
mod simd_avx512_dots;
#[cfg(target_arch = "x86_64")]
mod simd_avx512_rows;
#[cfg(target_arch = "x86_64")]
mod simd_avx512_strips;
#[cfg(target_arch = "x86_64")]
mod simd_avx512_turn;
#[cfg(target_arch = "x86_64")]
mod simd_avx512_vnni;
#[cfg(target_arch = "x86_64")]
mod simd_avx512_vnni_k;
#[cfg(target_arch = "x86_64")]
mod simd_avx512bf16;
#[cfg(target_arch = "x86_64")]
mod simd_avx512bf16_rows;
pub(crate) mod simd_dispatch;
#[cfg(target_arch = "aarch64")]
mod simd_neon;
mod simd_portable;
mod sink;
mod source;
mod tiles;
mod whole;

pub use factors::Factors;
pub use numbers::Numbers;
pub use path::Path;

use self::gemm::Epilogue;
use self::numbers::{slice, slice_mut, view, view_mut, whole, whole_mut};
use self::packed::{Held, is_packed_for};
use self::pool::Pool;
use self::simd_dispatch::Isa;
use self::sink::Sink;
use self::source::Source;
use crate::adapted::{Adapted, AdaptedGradient, Input, Normed};
use crate::backend::{
    Activation, AdamW, AttentionParams, Backend, CachedSegment, ClampedGate, Dropout, Heads, LossParams, NormParams,
    Operand, Part, RopeParams, Turn, Write,
};
use crate::error::Result;
use crate::host;
use crate::quant::eight_bit::{EightBit, Rounding};
use crate::shapes;
use crate::tensor::{In, Out, Tensor};
use crate::weight::{FrozenWeight, Matrix};
use std::sync::Arc;

/// A processor with some of its threads.
#[derive(Clone, Debug)]
pub struct Cpu {
    pool: Arc<Pool>,
    path: Path,
    isa: Isa,
    factors: Factors,
    eight_bit_rows: bool,
    eight_bit_cache: bool,
}

impl Backend for Cpu {
    type Buf = Numbers;
    type Weight = Arc<Held>;
    type Codes = Vec<u8>;
    const NAME: &'static str = "cpu";

    fn fingerprint(&self) -> String {
        self.arithmetic()
    }

    fn zeros(&self, rows: usize, cols: usize) -> Result<Tensor<Self>> {
        Ok(Tensor::from_buf(Numbers::F32(host::zeros("zeros", rows, cols)?), rows, cols))
    }

    fn activation(&self) -> Result<Tensor<Self>> {
        Ok(Tensor::from_buf(Numbers::kept(self.factors), 0, 0))
    }

    fn lent(&self) -> Result<Tensor<Self>> {
        self.zeros(0, 0)
    }

    fn rounds_what_is_kept(&self) -> bool {
        self.factors == Factors::Bf16
    }

    fn reshape(&self, t: &mut Tensor<Self>, rows: usize, cols: usize) -> Result<()> {
        numbers::reshape(t, rows, cols)
    }

    fn upload(&self, t: &mut Tensor<Self>, data: &[f32]) -> Result<()> {
        shapes::upload(t, data)?;
        t.buf.fill_from(self, data);
        Ok(())
    }

    fn download(&self, t: &Tensor<Self>) -> Result<Vec<f32>> {
        Ok(t.buf.to_f32(self))
    }

    fn into_numbers(&self, t: Tensor<Self>) -> Result<Vec<f32>> {
        Ok(t.buf.into_f32(self))
    }

    fn copy(&self, y: Out<Self>, x: In<Self>, write: Write) -> Result<()> {
        shapes::same("copy", &y, &x)?;
        columns::copy(&self.pool, self.isa, Sink::of(y), Source::window(x), write);
        Ok(())
    }

    fn fill(&self, y: Out<Self>, value: f32) -> Result<()> {
        shapes::window("fill", &y)?;
        columns::each_row(&self.pool, self.isa, Sink::of(y), |y| y.fill(value));
        Ok(())
    }

    fn scale(&self, y: Out<Self>, s: f32) -> Result<()> {
        shapes::window("scale", &y)?;
        columns::each_row(&self.pool, self.isa, Sink::of(y), |y| y.iter_mut().for_each(|y| *y *= s));
        Ok(())
    }

    fn weight(&self, w: FrozenWeight) -> Result<Arc<Held>> {
        w.check()?;
        Ok(Arc::new(Held::Stored(w)))
    }

    fn packs(&self, w: &FrozenWeight) -> bool {
        is_packed_for(self.kernel(), w) || self.interleaves(w)
    }

    fn packed_weight(&self, w: FrozenWeight) -> Result<Arc<Held>> {
        w.check()?;
        self.held(w).map(Arc::new)
    }

    fn eight_bit_weight(&self, w: &FrozenWeight) -> Result<Option<Arc<Held>>> {
        let rounded = if self.eight_bit_rows { self.in_eight_bits(w)? } else { None };
        rounded.map(|rounded| self.weight(rounded)).transpose()
    }

    fn cache_columns(&self, heads: &Heads) -> usize {
        attention_cached::columns(heads, self.eight_bit_cache)
    }

    fn weight_shape(w: &Arc<Held>) -> (usize, usize) {
        w.shape()
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
        shapes::linear(&y, &x, Source::of(w).dims(), bias)?;
        let epilogue = Epilogue { alpha: 1.0, bias: bias.map(slice).transpose()?, write };
        linear::linear(self, self.factors, self.few(), Sink::of(y), Source::window(x), Source::of(w), epilogue);
        Ok(())
    }

    fn linears(&self, y: Out<Self>, x: In<Self>, parts: &[Part<Self>]) -> Result<()> {
        adapted::linears(self, y, x, parts)
    }

    fn adapted(&self, y: Out<Self>, x: In<Self>, parts: &mut [Adapted<Self>]) -> Result<()> {
        adapted::forward(self, y, x, parts)
    }

    fn adapted_bwd(
        &self,
        dx: Option<Out<Self>>,
        dy: In<Self>,
        x: In<Self>,
        parts: &mut [AdaptedGradient<Self>],
        dxa: &mut Tensor<Self>,
    ) -> Result<()> {
        adapted::backward(self, dx, dy, x, parts, dxa)
    }

    fn fuses_products(&self, rows: usize) -> bool {
        rows > int8::MOST_ROWS
    }

    fn adapted_of_norm(
        &self,
        y: Out<Self>,
        rstd: &mut Tensor<Self>,
        x: &Normed<Self>,
        parts: &mut [Adapted<Self>],
    ) -> Result<()> {
        adapted::forward_of_norm(self, y, rstd, x, parts)
    }

    fn adapted_of_norm_bwd(
        &self,
        dx: Option<Out<Self>>,
        dy: In<Self>,
        x: &Normed<Self>,
        rstd: &Tensor<Self>,
        parts: &mut [AdaptedGradient<Self>],
        dxa: &mut Tensor<Self>,
    ) -> Result<()> {
        adapted::backward_of_norm(self, dx, dy, x, rstd, parts, dxa)
    }

    fn adapted_gated(
        &self,
        h: Out<Self>,
        gate_up: &mut Tensor<Self>,
        kept: bool,
        x: Input<Self, &mut Tensor<Self>>,
        parts: &mut [Adapted<Self>],
        act: Activation,
    ) -> Result<()> {
        adapted_gated::forward(self, h, gate_up, kept, x, parts, act)
    }

    fn adapted_gated_bwd(
        &self,
        dgate_up: Out<Self>,
        (h, dh, dxa): (&mut Tensor<Self>, &mut Tensor<Self>, &mut Tensor<Self>),
        (dy, gate_up): (In<Self>, In<Self>),
        part: AdaptedGradient<Self>,
        act: Activation,
    ) -> Result<()> {
        adapted_gated::backward(self, dgate_up, (h, dh, dxa), (dy, gate_up), part, act)
    }

    fn linear_bwd_input(&self, dx: Out<Self>, dy: In<Self>, w: Matrix<Self>, write: Write) -> Result<()> {
        shapes::linear_bwd_input(&dx, &dy, Source::of(w).dims())?;
        let (dx, dy) = (Sink::of(dx), Source::window(dy));
        linear::linear_bwd_input(&self.pool, self.isa, self.factors, dx, dy, Source::of(w), write);
        Ok(())
    }

    fn gemm(&self, y: Out<Self>, a: Operand<Self>, b: Operand<Self>, alpha: f32, write: Write) -> Result<()> {
        linear::dense(self, y, &a, &b, alpha, write)
    }

    fn embed(&self, y: Out<Self>, tokens: &[u32], table: Matrix<Self>, scale: f32) -> Result<()> {
        shapes::embed(&y, tokens, Source::of(table).dims())?;
        embed::embed(&self.pool, self.isa, view_mut(y)?, tokens, Source::of(table), scale);
        Ok(())
    }

    fn embed_bwd(&self, dtable: &mut Tensor<Self>, dy: In<Self>, tokens: &[u32], scale: f32) -> Result<()> {
        shapes::embed_bwd(dtable, &dy, tokens)?;
        embed::embed_bwd(&self.pool, whole_mut(dtable)?, view(dy)?, tokens, scale);
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
        norm::rms_norm(&self.pool, self.isa, Sink::of(y), whole_mut(rstd)?, Source::window(x), slice(w)?, *params);
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
        let (dx, dw, [dy, x]) = (Sink::of(dx), dw.map(slice_mut).transpose()?, [dy, x].map(Source::window));
        let (w, rstd) = (slice(w)?, whole(rstd)?);
        norm::rms_norm_bwd(&self.pool, self.isa, dx, dw, dy, x, w, rstd, *params, write);
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
        rope::rope(&self.pool, self.isa, Sink::of(x), whole(table)?, positions, params, turn);
        Ok(())
    }

    fn attention(&self, y: Out<Self>, lse: &mut Tensor<Self>, qkv: In<Self>, params: &AttentionParams) -> Result<()> {
        shapes::attention(&y, lse, &qkv, params)?;
        attention::attention(&self.pool, self.kernel(), Sink::of(y), whole_mut(lse)?, Source::window(qkv), params);
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
        let (dqkv, lse, [dy, y, qkv]) = (Sink::of(dqkv), whole(lse)?, [dy, y, qkv].map(Source::window));
        attention_bwd::attention_bwd(&self.pool, self.kernel(), dqkv, dy, y, lse, qkv, params);
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
        let rounded = attention_cached::rounded_columns(&params.heads).filter(|columns| *columns == cache.cols());
        shapes::attention_cached_in(&y, cache, &qkv, segments, params, rounded)?;
        let (y, cache) = (Sink::of(y), whole_mut(cache)?);
        attention_cached::attention_cached(&self.pool, self.kernel(), y, cache, Source::window(qkv), segments, params);
        Ok(())
    }

    fn gated(&self, h: Out<Self>, gate_up: In<Self>, act: Activation) -> Result<()> {
        shapes::gated("gated", &h, &gate_up)?;
        gated::gated(&self.pool, self.isa, Sink::of(h), Source::window(gate_up), act);
        Ok(())
    }

    fn gated_bwd(&self, dgate_up: Out<Self>, dh: In<Self>, gate_up: In<Self>, act: Activation) -> Result<()> {
        shapes::gated("gated_bwd", &dh, &gate_up)?;
        shapes::gated("gated_bwd", &dh, &dgate_up)?;
        let (dh, gate_up) = (Source::window(dh), Source::window(gate_up));
        gated::gated_bwd(&self.pool, self.isa, Sink::of(dgate_up), dh, gate_up, act);
        Ok(())
    }

    fn gated_clamped(&self, h: Out<Self>, gate_up: In<Self>, params: &ClampedGate) -> Result<()> {
        shapes::gated_clamped("gated_clamped", &h, &gate_up, *params)?;
        gated_clamped::gated_clamped(&self.pool, self.isa, Sink::of(h), Source::window(gate_up), *params);
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
        let (dgate_up, dh) = (Sink::of(dgate_up), Source::window(dh));
        gated_clamped::gated_clamped_bwd(&self.pool, self.isa, dgate_up, dh, Source::window(gate_up), *params);
        Ok(())
    }

    fn dropout(&self, y: Out<Self>, x: In<Self>, params: &Dropout, write: Write) -> Result<()> {
        shapes::dropout(&y, &x, params)?;
        dropout::dropout(&self.pool, self.isa, Sink::of(y), Source::window(x), params, write);
        Ok(())
    }

    fn sum_rows(&self, out: &mut Tensor<Self>, dy: In<Self>) -> Result<()> {
        shapes::row_of("sum_rows", "out", out, &dy)?;
        columns::sum_rows(&self.pool, self.isa, slice_mut(out)?, Source::window(dy));
        Ok(())
    }

    fn scale_columns(&self, y: Out<Self>, x: In<Self>, s: &Tensor<Self>, write: Write) -> Result<()> {
        shapes::same("scale_columns", &y, &x)?;
        shapes::row_of("scale_columns", "s", s, &x)?;
        columns::scale_columns(&self.pool, self.isa, Sink::of(y), Source::window(x), slice(s)?, write);
        Ok(())
    }

    fn column_dots(&self, out: &mut Tensor<Self>, a: In<Self>, b: In<Self>) -> Result<()> {
        shapes::same("column_dots", &a, &b)?;
        shapes::row_of("column_dots", "out", out, &a)?;
        columns::column_dots(&self.pool, self.isa, slice_mut(out)?, Source::window(a), Source::window(b));
        Ok(())
    }

    fn scale_rows(&self, y: Out<Self>, x: In<Self>, s: &Tensor<Self>, write: Write) -> Result<()> {
        shapes::same("scale_rows", &y, &x)?;
        shapes::column_of("scale_rows", "s", s, &x)?;
        rows::scale_rows(&self.pool, self.isa, Sink::of(y), Source::window(x), slice(s)?, write);
        Ok(())
    }

    fn row_dots(&self, out: &mut Tensor<Self>, a: In<Self>, b: In<Self>) -> Result<()> {
        shapes::same("row_dots", &a, &b)?;
        shapes::column_of("row_dots", "out", out, &a)?;
        rows::row_dots(&self.pool, self.isa, slice_mut(out)?, Source::window(a), Source::window(b));
        Ok(())
    }

    fn row_squares(&self, out: &mut Tensor<Self>, w: Matrix<Self>) -> Result<()> {
        shapes::is("row_squares", "out", out, (1, Source::of(w).dims().0))?;
        columns::row_squares(&self.pool, self.isa, slice_mut(out)?, Source::of(w));
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
        let (projected, gram, b) = (whole(projected)?, whole(gram)?, whole(b)?);
        columns::dora_norm(&self.pool, slice_mut(out)?, slice(squares)?, projected, gram, b, s);
        Ok(())
    }

    fn divide(&self, y: &mut Tensor<Self>, a: &Tensor<Self>, b: &Tensor<Self>) -> Result<()> {
        shapes::same("divide", y, a)?;
        shapes::same("divide", y, b)?;
        columns::divide(&self.pool, slice_mut(y)?, slice(a)?, slice(b)?);
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
        shapes::head_loss(loss, correct, dx.as_ref(), dw.as_deref(), &x, Source::of(w).dims(), targets)?;
        let (dx, dw) = (dx.map(view_mut).transpose()?, dw.map(whole_mut).transpose()?);
        loss::head_loss(
            &self.pool,
            self.isa,
            self.factors,
            slice_mut(loss)?,
            slice_mut(correct)?,
            dx,
            dw,
            view(x)?,
            Source::of(w),
            targets,
            params,
        );
        Ok(())
    }

    fn softcap(&self, x: &mut Tensor<Self>, cap: f32) -> Result<()> {
        columns::softcap(&self.pool, self.isa, slice_mut(x)?, cap);
        Ok(())
    }

    fn sum_squares(&self, x: &Tensor<Self>) -> Result<f64> {
        Ok(optim::sum_squares(&self.pool, self.isa, slice(x)?))
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
        let (p, m, v) = (slice_mut(p)?, slice_mut(m)?, slice_mut(v)?);
        optim::adamw(&self.pool, self.isa, p, m, v, slice(g)?, params);
        Ok(())
    }

    fn noise(&self, y: Out<Self>, amplitudes: &[f32], seed: u64, stream: u64) -> Result<()> {
        shapes::noise(&y, amplitudes)?;
        dropout::noise(&self.pool, self.isa, view_mut(y)?, amplitudes, seed, stream);
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
        optim::adamw_8bit(&self.pool, self.isa, slice_mut(p)?, m, v, slice(g)?, params, rounding)
    }
}
