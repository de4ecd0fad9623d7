//! The backend for NVIDIA GPUs: kernels of `kernels/cu`, and the host code that launches them.
//!
//! | file | what |
//! | --- | --- |
//! | `device.rs` | what a machine must do: memory, launches |
//! | `driver.rs`, `arena.rs`, `shipped.rs` | the machine that is a card: NVIDIA's driver, its memory, the PTX |
//! | `graphs.rs`, `graph_room.rs`, `replay.rs` | launches that come again, the memory they take, their examination |
//! | `lanes.rs`, `aside.rs`, `ahead.rs` | beside what is computed: copies to the computer and back, weights decoded ahead |
//! | `memory.rs`, `recent.rs`, `call.rs` | allocations, small lists that are used again, one launch put together |
//! | `weight.rs`, `product.rs`, `few.rs` | frozen weights, products, those of few rows |
//! | `adapted.rs` | weights with adapters beside them |
//! | `product_bf16.rs`, `skinny.rs`, `wgmma.rs` | products on tensor cores: large, of adapters, of compute capability 9.0 |
//! | `lt.rs`, `library.rs` | cuBLASLt where it is installed, and whether it is used |
//! | `attention.rs`, `attention_bf16.rs`, `attention_few.rs` | attention, that on tensor cores, that of single queries |
//! | `windows.rs`, `loss.rs`, `optim.rs`, `sample.rs` | what is done to every row; what takes more than one launch |
//!
//! [`Cuda`] is the same code over a driver and over the emulation in `tests`, where every kernel's own source runs
//! through the conformance suite on a processor.

mod adapted;
mod ahead;
mod arena;
mod aside;
mod attention;
mod attention_bf16;
mod attention_few;
mod call;
pub mod device;
pub mod driver;
mod few;
mod graph_room;
mod graphs;
mod lanes;
pub mod library;
mod loss;
pub mod lt;
mod memory;
mod optim;
mod product;
mod product_bf16;
mod recent;
mod replay;
mod sample;
pub mod shipped;
mod skinny;
mod weight;
mod wgmma;
mod windows;

use crate::adapted::{Adapted, AdaptedGradient};
use crate::aside::Aside;
use crate::backend::{
    Activation, AdamW, AttentionParams, Backend, CachedSegment, ClampedGate, Dropout, LossParams, NormParams, Operand,
    RopeParams, Turn, Write,
};
use crate::error::Result;
use crate::largest::Penalties;
use crate::quant::eight_bit::{EightBit, Rounding};
use crate::shapes;
use crate::tensor::{In, Out, Tensor};
use crate::weight::{FrozenWeight, Matrix};
use call::{Call, Placed};
use device::{Device, DeviceMemory};
use memory::Memory;
use optim::Maps;
use product::Side;
use recent::Recent;
use std::sync::Arc;
use windows::{blocks_of, is_short, number_of};

/// Threads of a block wherever nothing else is said, as in `device.cuh`.
const THREADS: u32 = 256;

/// What the factors of a product are rounded to. Sums are f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// To nothing: the numbers of the processor.
    Single,
    /// To bfloat16, for the tensor cores.
    Bf16,
}

/// A GPU, or what stands in for one.
pub struct Cuda<D: Device> {
    device: Arc<D>,
    maps: Arc<Maps<D>>,
    recent: Arc<Recent<D>>,
    precision: Precision,
    /// Large products run on kernels that this card alone has, and passed.
    wgmma: bool,
    /// From which sizes on products go to a library of the card's maker.
    library: library::Choice,
}

impl<D: Device> Clone for Cuda<D> {
    fn clone(&self) -> Self {
        let Self { device, maps, recent, precision, wgmma, library } = self;
        let (device, maps, recent) = (Arc::clone(device), Arc::clone(maps), Arc::clone(recent));
        Self { device, maps, recent, precision: *precision, wgmma: *wgmma, library: *library }
    }
}

impl<D: Device> Cuda<D> {
    /// On this machine.
    pub fn new(device: D) -> Result<Self> {
        let device = Arc::new(device);
        let maps = Arc::new(Maps::new(&device)?);
        let recent = Arc::new(Recent::new());
        let library = device.library().map_or_else(Default::default, |(_, choice)| choice);
        Ok(Self { device, maps, recent, precision: Precision::Single, wgmma: false, library }.with_wgmma())
    }

    /// The same with products in this precision.
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// The machine it runs on.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// Somebody else uses the machine through a clone of this.
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.maps) > 1
    }

    fn call(&self, kernel: &'static str) -> Call<'_, D> {
        Call::new(&*self.device, kernel)
    }

    /// A small list that kernels only read.
    fn small<T: memory::Number>(&self, op: &'static str, data: &[T]) -> Result<Arc<Memory<D>>> {
        self.recent.holding(&self.device, op, memory::to_bytes(data))
    }
}

/// `(rows, cols)` of a matrix.
fn dims<D: Device>(w: Matrix<'_, Cuda<D>>) -> (usize, usize) {
    match w {
        Matrix::Frozen(w) => (w.rows(), w.cols()),
        Matrix::Dense(t) => (t.rows(), t.cols()),
    }
}

impl<D: Device> Backend for Cuda<D> {
    type Buf = Memory<D>;
    type Weight = weight::CudaWeight<D>;
    type Codes = Memory<D>;
    const NAME: &'static str = "cuda";

    fn fingerprint(&self) -> String {
        let wgmma = if self.wgmma { wgmma::MARK } else { "" };
        format!("cuda, {}, {:?}{}{wgmma}", self.device.name(), self.precision, self.library_mark())
    }

    fn zeros(&self, rows: usize, cols: usize) -> Result<Tensor<Self>> {
        let buf = Memory::uninit(&self.device, "zeros", rows.saturating_mul(cols), size_of::<f32>())?;
        let t = Tensor::from_buf(buf, rows, cols);
        self.fill_rows(t.place(), rows, cols, 0.0)?;
        Ok(t)
    }

    fn activation(&self) -> Result<Tensor<Self>> {
        let size = if self.precision == Precision::Bf16 { 2 } else { size_of::<f32>() };
        Ok(Tensor::from_buf(Memory::uninit(&self.device, "activation", 0, size)?, 0, 0))
    }

    fn reshape(&self, t: &mut Tensor<Self>, rows: usize, cols: usize) -> Result<()> {
        if (t.rows(), t.cols()) != (rows, cols) {
            // Empty where no room was found.
            t.set_shape(0, 0);
            t.buf.resize("reshape", rows.saturating_mul(cols))?;
            t.set_shape(rows, cols);
        }
        Ok(())
    }

    fn reserve(&self, bytes: usize) -> Result<()> {
        self.device.reserve(bytes)
    }

    fn trim(&self) {
        self.recent.clear();
        self.device.trim();
    }

    fn release(&self, t: &mut Tensor<Self>) {
        t.set_shape(0, 0);
        t.buf.give_back();
    }

    fn set_graph_room(&self, bytes: Option<usize>) {
        self.device.set_graph_room(bytes);
    }

    fn memory(&self) -> Option<DeviceMemory> {
        self.device.memory()
    }

    fn aside(&self, slabs: usize, bytes: usize) -> Result<Box<dyn Aside<Self>>> {
        Ok(Box::new(aside::HostSlabs::new(&self.device, slabs, bytes)?))
    }

    fn submit(&self) -> Result<()> {
        self.device.submit()
    }

    fn upload(&self, t: &mut Tensor<Self>, data: &[f32]) -> Result<()> {
        shapes::upload(t, data)?;
        t.buf.write(&if t.buf.is_narrow() { memory::to_bf16_bytes(data) } else { memory::to_bytes(data) })
    }

    fn download(&self, t: &Tensor<Self>) -> Result<Vec<f32>> {
        let bytes = t.buf.read()?;
        Ok(if t.buf.is_narrow() { memory::from_bf16_bytes(&bytes) } else { memory::to_f32(&bytes) })
    }

    fn copy(&self, y: Out<Self>, x: In<Self>, write: Write) -> Result<()> {
        shapes::same("copy", &y, &x)?;
        self.copy_rows(y.place(), x.place(), x.at.rows, x.at.cols, write)
    }

    fn fill(&self, y: Out<Self>, value: f32) -> Result<()> {
        shapes::window("fill", &y)?;
        self.fill_rows(y.place(), y.at.rows, y.at.cols, value)
    }

    fn scale(&self, y: Out<Self>, s: f32) -> Result<()> {
        shapes::window("scale", &y)?;
        let call = self.call("scale_window").either(&y).sizes([y.at.rows, y.at.cols]);
        call.number(s).pieces(y.at.rows, y.at.cols)
    }

    fn weight(&self, w: FrozenWeight) -> Result<Self::Weight> {
        weight::CudaWeight::new(&self.device, &w)
    }

    fn decode_ahead(&self, fewest_rows: Option<usize>) -> Result<()> {
        self.recent.set_ahead(fewest_rows.map(|n| ahead::Ahead::new(&self.device, n)).transpose()?);
        Ok(())
    }

    fn hold_decoded(&self, w: &Self::Weight, hold: bool) -> Result<()> {
        self.hold(w, hold)
    }

    fn weight_shape(w: &Self::Weight) -> (usize, usize) {
        (w.rows(), w.cols())
    }

    fn codes(&self, data: &[u8]) -> Result<Self::Codes> {
        Memory::holding(&self.device, "codes", data)
    }

    fn download_codes(&self, codes: &Self::Codes) -> Result<Vec<u8>> {
        codes.read()
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
        self.times_weight(y.place(), x.place(), w, bias.map(|b| b.buf.address()), x.at.rows, write)
    }

    fn adapted(&self, y: Out<Self>, x: In<Self>, parts: &mut [Adapted<Self>]) -> Result<()> {
        self.adapted_products(y, x, parts)
    }

    fn adapted_bwd(
        &self,
        dx: Option<Out<Self>>,
        dy: In<Self>,
        x: In<Self>,
        parts: &mut [AdaptedGradient<Self>],
        dxa: &mut Tensor<Self>,
    ) -> Result<()> {
        self.adapted_products_back(dx, dy, x, parts, dxa)
    }

    fn linear_bwd_input(&self, dx: Out<Self>, dy: In<Self>, w: Matrix<Self>, write: Write) -> Result<()> {
        shapes::linear_bwd_input(&dx, &dy, dims(w))?;
        self.times_weight_back(dx.place(), dy.place(), w, dy.at.rows, write)
    }

    fn gemm(&self, y: Out<Self>, a: Operand<Self>, b: Operand<Self>, alpha: f32, write: Write) -> Result<()> {
        let inner = shapes::gemm(&y, &a, &b)?;
        let left = if a.transposed { Side::columns(a.x.place()) } else { Side::rows(a.x.place()) };
        let right = if b.transposed { Side::rows(b.x.place()) } else { Side::columns(b.x.place()) };
        self.product(y.place(), (left, right), None, [y.at.rows, y.at.cols, inner], alpha, write)
    }

    fn embed(&self, y: Out<Self>, tokens: &[u32], table: Matrix<Self>, scale: f32) -> Result<()> {
        shapes::embed(&y, tokens, dims(table))?;
        // Every pass over a model begins with this.
        self.recent.next_pass();
        let chosen = self.small("embed", tokens)?;
        match table {
            Matrix::Frozen(w) => w.look_up(&self.device, y.place(), &chosen, tokens.len(), scale),
            Matrix::Dense(t) => weight::look_up_dense(&self.device, y.place(), t.place(), &chosen, tokens.len(), scale),
        }
    }

    fn embed_bwd(&self, dtable: &mut Tensor<Self>, dy: In<Self>, tokens: &[u32], scale: f32) -> Result<()> {
        const OP: &str = "embed_bwd";
        shapes::embed_bwd(dtable, &dy, tokens)?;
        // Rows by token, so that every row of the table has one writer.
        let mut order: Vec<u32> = (0..tokens.len() as u32).collect();
        order.sort_by_key(|&row| tokens[row as usize]);
        let (mut distinct, mut starts) = (Vec::new(), Vec::new());
        for (at, &row) in order.iter().enumerate() {
            let token = tokens[row as usize];
            if distinct.last() != Some(&token) {
                distinct.push(token);
                starts.push(at as u32);
            }
        }
        starts.push(order.len() as u32);
        let lists = [self.small(OP, &distinct)?, self.small(OP, &starts)?, self.small(OP, &order)?];
        let call = lists.iter().fold(self.call(OP).either(dtable).either(&dy), |call, list| call.memory(list));
        call.sizes([distinct.len(), dy.at.cols]).number(scale).blocks(distinct.len())
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
        self.norm(y.place(), rstd, x.place(), None, w, *params)
    }

    fn add_rms_norm(
        &self,
        sum: &mut Tensor<Self>,
        y: Out<Self>,
        rstd: &mut Tensor<Self>,
        (x, branch): (In<Self>, In<Self>),
        w: &Tensor<Self>,
        params: &NormParams,
    ) -> Result<()> {
        shapes::same("add_rms_norm", &x, &branch)?;
        shapes::same("add_rms_norm", &sum.view(), &x)?;
        shapes::rms_norm(&y, rstd, &x, w)?;
        self.norm(y.place(), rstd, x.place(), Some((sum.place(), branch.place())), w, *params)
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
        let sizes = [rstd.rows(), rstd.cols(), w.cols()];
        let kernel = if is_short(w.cols()) { "rms_norm_bwd_short" } else { "rms_norm_bwd" };
        let call = self.call(kernel).either(&dx).either(&dy).either(&x).whole(w).whole(rstd).sizes(sizes);
        call.number(params.offset).write(write).blocks(blocks_of(rstd.len(), w.cols()))?;
        let Some(dw) = dw else { return Ok(()) };
        let call = self.call("rms_norm_bwd_gain").whole(dw).either(&dy).either(&x).whole(rstd).sizes(sizes);
        call.elements(w.cols())
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
        let at = self.small("rope", positions)?;
        let (rows, heads) = (x.at.rows, x.at.cols / params.head_dim);
        let call = self.call("rope").either(&x).whole(table).memory(&at);
        let call = call.sizes([rows, heads, params.head_dim, params.rotary_dim]).flag(turn == Turn::Back);
        call.elements(rows * heads * (params.rotary_dim / 2).div_ceil(8))
    }

    fn attention(&self, y: Out<Self>, lse: &mut Tensor<Self>, qkv: In<Self>, params: &AttentionParams) -> Result<()> {
        shapes::attention(&y, lse, &qkv, params)?;
        if attention::leaves_rows(&params.segments, qkv.at.rows) {
            self.fill_rows(y.place(), y.at.rows, y.at.cols, 0.0)?;
            self.fill_rows(lse.place(), lse.rows(), lse.cols(), 0.0)?;
        }
        let done = self.attention_mma((y.place(), lse.place()), qkv.place(), qkv.at.rows, params);
        done.unwrap_or_else(|| self.attention_of((y.place(), lse.place()), (qkv.place(), qkv.at.rows), params))
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
        if attention::leaves_rows(&params.segments, qkv.at.rows) {
            self.fill_rows(dqkv.place(), dqkv.at.rows, dqkv.at.cols, 0.0)?;
        }
        let inputs = (dy.place(), y.place(), lse.place(), qkv.place());
        self.attention_back(dqkv.place(), inputs, qkv.at.rows, params)
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
        self.fill_rows(y.place(), y.at.rows, y.at.cols, 0.0)?;
        self.attention_over(y.place(), cache.place(), (qkv.place(), qkv.at.rows), segments, params)
    }

    fn gated(&self, h: Out<Self>, gate_up: In<Self>, act: Activation) -> Result<()> {
        shapes::gated("gated", &h, &gate_up)?;
        let call = self.call("gated").either(&h).either(&gate_up).sizes([h.at.rows, h.at.cols]);
        call.word(number_of(act)).pieces(h.at.rows, h.at.cols)
    }

    fn gated_bwd(&self, dgate_up: Out<Self>, dh: In<Self>, gate_up: In<Self>, act: Activation) -> Result<()> {
        shapes::gated("gated_bwd", &dh, &gate_up)?;
        shapes::gated("gated_bwd", &dh, &dgate_up)?;
        let call = self.call("gated_bwd").either(&dgate_up).either(&dh).either(&gate_up);
        let call = call.sizes([dh.at.rows, dh.at.cols]).word(number_of(act));
        call.pieces(dh.at.rows, dh.at.cols)
    }

    fn gated_clamped(&self, h: Out<Self>, gate_up: In<Self>, params: &ClampedGate) -> Result<()> {
        shapes::gated_clamped("gated_clamped", &h, &gate_up, *params)?;
        let call = self.call("gated_clamped").either(&h).either(&gate_up).sizes([h.at.rows, h.at.cols]);
        call.numbers([params.alpha, params.limit]).elements(h.at.rows * h.at.cols)
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
        let call = self.call("gated_clamped_bwd").either(&dgate_up).either(&dh).either(&gate_up);
        let call = call.sizes([dh.at.rows, dh.at.cols]).numbers([params.alpha, params.limit]);
        call.elements(dh.at.rows * dh.at.cols)
    }

    fn dropout(&self, y: Out<Self>, x: In<Self>, params: &Dropout, write: Write) -> Result<()> {
        shapes::dropout(&y, &x, params)?;
        let keep = (1.0 / (1.0 - f64::from(params.p))) as f32;
        let call = self.call("dropout").either(&y).either(&x).sizes([x.at.rows, x.at.cols]);
        let call = call.numbers([params.p, keep]).long(params.seed).long(params.stream).write(write);
        call.elements(x.at.rows * x.at.cols)
    }

    fn noise(&self, y: Out<Self>, amplitudes: &[f32], seed: u64, stream: u64) -> Result<()> {
        shapes::noise(&y, amplitudes)?;
        let amplitudes = self.small("noise", amplitudes)?;
        let call = self.call("noise").window(&y).memory(&amplitudes).sizes([y.at.rows, y.at.cols]);
        call.long(seed).long(stream).elements(y.at.rows * y.at.cols)
    }

    fn sum_rows(&self, out: &mut Tensor<Self>, dy: In<Self>) -> Result<()> {
        shapes::row_of("sum_rows", "out", out, &dy)?;
        let call = self.call("column_sums").whole(out).either(&dy).neither();
        call.sizes([dy.at.rows, dy.at.cols]).flag(false).elements(dy.at.cols)
    }

    fn scale_columns(&self, y: Out<Self>, x: In<Self>, s: &Tensor<Self>, write: Write) -> Result<()> {
        shapes::same("scale_columns", &y, &x)?;
        shapes::row_of("scale_columns", "s", s, &x)?;
        self.scale_lines(&y, &x, s, false, write)
    }

    fn column_dots(&self, out: &mut Tensor<Self>, a: In<Self>, b: In<Self>) -> Result<()> {
        shapes::same("column_dots", &a, &b)?;
        shapes::row_of("column_dots", "out", out, &a)?;
        let call = self.call("column_sums").whole(out).either(&a).either(&b);
        call.sizes([a.at.rows, a.at.cols]).flag(true).elements(a.at.cols)
    }

    fn scale_rows(&self, y: Out<Self>, x: In<Self>, s: &Tensor<Self>, write: Write) -> Result<()> {
        shapes::same("scale_rows", &y, &x)?;
        shapes::column_of("scale_rows", "s", s, &x)?;
        self.scale_lines(&y, &x, s, true, write)
    }

    fn row_dots(&self, out: &mut Tensor<Self>, a: In<Self>, b: In<Self>) -> Result<()> {
        shapes::same("row_dots", &a, &b)?;
        shapes::column_of("row_dots", "out", out, &a)?;
        let call = self.call("row_dots").whole(out).either(&a).either(&b);
        call.sizes([a.at.rows, a.at.cols]).blocks(a.at.rows)
    }

    fn row_squares(&self, out: &mut Tensor<Self>, w: Matrix<Self>) -> Result<()> {
        shapes::is("row_squares", "out", out, (1, dims(w).0))?;
        let (to, cols) = (out.place(), dims(w).1);
        self.panels(w, |panel| {
            let call = self.call("row_dots").address(to.at_col(panel.first).address);
            call.either(&panel.at).either(&panel.at).sizes([panel.rows, cols]).blocks(panel.rows)
        })
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
        let call = self.call("dora_norm").whole(out).whole(squares).whole(projected).whole(gram).whole(b);
        call.sizes([b.rows(), b.cols()]).number(s).elements(b.rows())
    }

    fn divide(&self, y: &mut Tensor<Self>, a: &Tensor<Self>, b: &Tensor<Self>) -> Result<()> {
        shapes::same("divide", y, a)?;
        shapes::same("divide", y, b)?;
        self.call("divide").whole(y).whole(a).whole(b).size(y.len()).elements(y.len())
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
        self.loss_of_head(loss, correct, dx, dw, x, w, targets, params)
    }

    fn softcap(&self, x: &mut Tensor<Self>, cap: f32) -> Result<()> {
        self.call("softcap").whole(x).size(x.len()).number(cap).elements(x.len())
    }

    fn largest(&self, x: &mut Tensor<Self>, row: usize, penalties: &Penalties) -> Result<Option<Vec<(u32, f32)>>> {
        shapes::largest(x, row, penalties)?;
        self.largest_of(x.place().at_row(row), x.cols(), penalties).map(Some)
    }

    fn sum_squares(&self, x: &Tensor<Self>) -> Result<f64> {
        self.squares(&[x])
    }

    fn sum_squares_of(&self, all: &[&Tensor<Self>]) -> Result<f64> {
        self.squares(all)
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
        self.step(p, m, v, g, params)
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
        self.step_8bit(p, m, v, g, params, rounding)
    }
}
