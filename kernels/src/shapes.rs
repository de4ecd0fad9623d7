//! Which shapes go together: the checks every backend makes before it writes anything.

use crate::IGNORE_INDEX;
use crate::backend::{
    AttentionParams, Backend, CachedSegment, ClampedGate, Dropout, Heads, Operand, RopeParams, Segment,
};
use crate::error::{Error, Result};
use crate::largest::Penalties;
use crate::quant::eight_bit::{BLOCK, EightBit};
use crate::tensor::{In, Out, Tensor, Window};
use std::ops::Range;

/// Anything with rows and columns.
pub(crate) trait Dims {
    /// `(rows, cols)`.
    fn dims(&self) -> (usize, usize);
    /// Whether a window lies inside its matrix.
    fn inside(&self) -> bool {
        true
    }
}

/// What is in no memory.
impl Dims for (usize, usize) {
    fn dims(&self) -> (usize, usize) {
        *self
    }
}

impl<B: Backend> Dims for Tensor<B> {
    fn dims(&self) -> (usize, usize) {
        (self.rows(), self.cols())
    }
}

impl<B: Backend> Dims for In<'_, B> {
    fn dims(&self) -> (usize, usize) {
        (self.at.rows, self.at.cols)
    }
    fn inside(&self) -> bool {
        contains(self.tensor.dims(), &self.at)
    }
}

impl<B: Backend> Dims for Out<'_, B> {
    fn dims(&self) -> (usize, usize) {
        (self.at.rows, self.at.cols)
    }
    fn inside(&self) -> bool {
        contains(self.tensor.dims(), &self.at)
    }
}

fn contains((rows, cols): (usize, usize), at: &Window) -> bool {
    at.row.checked_add(at.rows).is_some_and(|end| end <= rows)
        && at.col.checked_add(at.cols).is_some_and(|end| end <= cols)
}

/// `x` must be `want`.
pub(crate) fn is(op: &'static str, name: &str, x: &impl Dims, want: (usize, usize)) -> Result<()> {
    let got = x.dims();
    if got != want {
        return Err(Error::shape(op, format!("{name} is [{}, {}], not [{}, {}]", got.0, got.1, want.0, want.1)));
    }
    if !x.inside() {
        return Err(Error::shape(op, format!("the window of {name} leaves its matrix")));
    }
    Ok(())
}

fn ensure(op: &'static str, holds: bool, what: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::shape(op, what())) }
}

/// `y` and `x` have the same shape.
pub(crate) fn same(op: &'static str, y: &impl Dims, x: &impl Dims) -> Result<()> {
    is(op, "y", y, x.dims())?;
    is(op, "x", x, x.dims())
}

/// A row of `x`, and penalties of tokens that are in it.
pub(crate) fn largest(x: &impl Dims, row: usize, penalties: &Penalties) -> Result<()> {
    let (rows, cols) = x.dims();
    let Penalties { tokens, written, .. } = penalties;
    ensure("largest", row < rows && u32::try_from(cols).is_ok(), || format!("row {row} of [{rows}, {cols}]"))?;
    let are_inside = tokens.iter().all(|&token| (token as usize) < cols) && tokens.len() == written.len();
    ensure("largest", are_inside, || format!("penalties of tokens that are not among {cols}"))
}

/// A window that is written and nothing else.
pub(crate) fn window(op: &'static str, y: &impl Dims) -> Result<()> {
    is(op, "y", y, y.dims())
}

/// `data` has as many numbers as `t`.
pub(crate) fn upload(t: &impl Dims, data: &[f32]) -> Result<()> {
    let (rows, cols) = t.dims();
    ensure("upload", rows * cols == data.len(), || format!("{} numbers for [{rows}, {cols}]", data.len()))
}

/// y: `[rows, out]`, x: `[rows, in]`, w: `[out, in]`, bias: `[1, out]`.
pub(crate) fn linear(y: &impl Dims, x: &impl Dims, w: (usize, usize), bias: Option<&impl Dims>) -> Result<()> {
    let rows = x.dims().0;
    is("linear", "x", x, (rows, w.1))?;
    is("linear", "y", y, (rows, w.0))?;
    bias.map_or(Ok(()), |bias| is("linear", "bias", bias, (1, w.0)))
}

/// x: `[rows, in]`; of every part its columns, the shape of w and the bias: they ascend without overlap.
pub(crate) fn linears<'a>(
    y: &impl Dims,
    x: &impl Dims,
    parts: impl Iterator<Item = (&'a Range<usize>, (usize, usize), Option<&'a (impl Dims + 'a)>)>,
) -> Result<()> {
    let (rows, cols) = y.dims();
    is("linears", "y", y, (rows, cols))?;
    let mut end = 0;
    for (columns, w, bias) in parts {
        let is_in_order = end <= columns.start && columns.start <= columns.end && columns.end <= cols;
        ensure("linears", is_in_order, || format!("columns {columns:?} behind {end} of {cols}"))?;
        ensure("linears", columns.len() == w.0, || format!("columns {columns:?} for {} outputs", w.0))?;
        is("linears", "x", x, (rows, w.1))?;
        bias.map_or(Ok(()), |bias| is("linears", "bias", bias, (1, w.0)))?;
        end = columns.end;
    }
    Ok(())
}

/// Adapters beside weights of these shapes: a: `[rank, in]`, b: `[out, rank]`.
pub(crate) fn adapter(op: &'static str, a: &impl Dims, b: &impl Dims, w: (usize, usize)) -> Result<()> {
    let rank = a.dims().0;
    is(op, "a", a, (rank, w.1))?;
    is(op, "b", b, (w.0, rank))
}

/// dx: `[rows, in]`, dy: `[rows, out]`, w: `[out, in]`.
pub(crate) fn linear_bwd_input(dx: &impl Dims, dy: &impl Dims, w: (usize, usize)) -> Result<()> {
    let rows = dy.dims().0;
    is("linear_bwd_input", "dy", dy, (rows, w.0))?;
    is("linear_bwd_input", "dx", dx, (rows, w.1))
}

/// `op(a)`, `op(b)` and `y` go together. Returns the inner dimension.
pub(crate) fn gemm<B: Backend>(y: &Out<B>, a: &Operand<B>, b: &Operand<B>) -> Result<usize> {
    let turned = |o: &Operand<B>| {
        let (rows, cols) = o.x.dims();
        if o.transposed { (cols, rows) } else { (rows, cols) }
    };
    let ((m, k), (k_of_b, n)) = (turned(a), turned(b));
    ensure("gemm", k == k_of_b, || format!("a is [{m}, {k}] and b is [{k_of_b}, {n}]"))?;
    is("gemm", "a", &a.x, a.x.dims())?;
    is("gemm", "b", &b.x, b.x.dims())?;
    is("gemm", "y", y, (m, n))?;
    Ok(k)
}

fn tokens_inside(op: &'static str, tokens: &[u32], rows: usize) -> Result<()> {
    match tokens.iter().find(|&&token| token as usize >= rows) {
        Some(token) => Err(Error::shape(op, format!("token {token} of a table of {rows}"))),
        None => Ok(()),
    }
}

/// y: `[tokens, d]`, table: `[vocab, d]`.
pub(crate) fn embed(y: &impl Dims, tokens: &[u32], table: (usize, usize)) -> Result<()> {
    is("embed", "y", y, (tokens.len(), table.1))?;
    tokens_inside("embed", tokens, table.0)
}

/// dtable: `[vocab, d]`, dy: `[tokens, d]`.
pub(crate) fn embed_bwd(dtable: &impl Dims, dy: &impl Dims, tokens: &[u32]) -> Result<()> {
    is("embed_bwd", "dy", dy, (tokens.len(), dtable.dims().1))?;
    tokens_inside("embed_bwd", tokens, dtable.dims().0)
}

fn groups(op: &'static str, cols: usize, w: &impl Dims) -> Result<usize> {
    let n = w.dims().1;
    is(op, "w", w, (1, n))?;
    ensure(op, n > 0 && cols.is_multiple_of(n), || format!("{cols} columns in groups of {n}"))?;
    Ok(cols / n)
}

/// y, x: `[rows, groups·n]`, rstd: `[rows, groups]`, w: `[1, n]`.
pub(crate) fn rms_norm(y: &impl Dims, rstd: &impl Dims, x: &impl Dims, w: &impl Dims) -> Result<()> {
    same("rms_norm", y, x)?;
    let (rows, cols) = x.dims();
    is("rms_norm", "rstd", rstd, (rows, groups("rms_norm", cols, w)?))
}

/// dx, dy, x: `[rows, groups·n]`, rstd: `[rows, groups]`, dw, w: `[1, n]`.
pub(crate) fn rms_norm_bwd<T: Dims>(
    dx: &impl Dims,
    dw: Option<&T>,
    dy: &impl Dims,
    x: &impl Dims,
    w: &T,
    rstd: &T,
) -> Result<()> {
    const OP: &str = "rms_norm_bwd";
    same(OP, dx, x)?;
    is(OP, "dy", dy, x.dims())?;
    let (rows, cols) = x.dims();
    is(OP, "rstd", rstd, (rows, groups(OP, cols, w)?))?;
    dw.map_or(Ok(()), |dw| is(OP, "dw", dw, w.dims()))
}

/// x: `[rows, heads·head_dim]`, table: `[positions, rotary_dim]`, one position a row.
pub(crate) fn rope(x: &impl Dims, table: &impl Dims, positions: &[u32], params: &RopeParams) -> Result<()> {
    const OP: &str = "rope";
    let RopeParams { head_dim, rotary_dim } = *params;
    let cols = x.dims().1;
    is(OP, "x", x, (positions.len(), cols))?;
    is(OP, "table", table, (table.dims().0, rotary_dim))?;
    ensure(OP, head_dim > 0 && cols.is_multiple_of(head_dim), || format!("{cols} columns in heads of {head_dim}"))?;
    ensure(OP, rotary_dim <= head_dim && rotary_dim.is_multiple_of(2), || {
        format!("{rotary_dim} turning columns in a head of {head_dim}")
    })?;
    let rows = table.dims().0;
    match positions.iter().find(|&&p| p as usize >= rows) {
        Some(p) => Err(Error::shape(OP, format!("position {p} of a table of {rows}"))),
        None => Ok(()),
    }
}

fn heads(op: &'static str, params: &AttentionParams) -> Result<Heads> {
    let h = params.heads;
    ensure(op, h.n_kv_heads > 0 && h.head_dim > 0 && h.n_heads.is_multiple_of(h.n_kv_heads), || {
        format!("{} query heads over {} key heads of {} columns", h.n_heads, h.n_kv_heads, h.head_dim)
    })?;
    ensure(op, params.window != Some(0), || "a window of no positions".into())?;
    ensure(op, params.sinks.is_empty() || params.sinks.len() == h.n_heads, || {
        format!("{} sinks for {} query heads", params.sinks.len(), h.n_heads)
    })?;
    ensure(op, params.softcap.is_none_or(|cap| cap > 0.0), || "a soft cap that is not positive".into())?;
    Ok(h)
}

fn segments(op: &'static str, segments: &[Segment], rows: usize) -> Result<()> {
    let mut end = 0;
    for s in segments {
        let next = s.start.checked_add(s.len).filter(|&next| s.start >= end && next <= rows);
        end = next.ok_or_else(|| Error::shape(op, format!("{s:?} after row {end} of {rows}")))?;
    }
    Ok(())
}

/// y: `[rows, q_dim]`, lse: `[rows, n_heads]`, qkv: `[rows, qkv_dim]`.
pub(crate) fn attention(y: &impl Dims, lse: &impl Dims, qkv: &impl Dims, params: &AttentionParams) -> Result<()> {
    const OP: &str = "attention";
    let h = heads(OP, params)?;
    let rows = qkv.dims().0;
    is(OP, "qkv", qkv, (rows, h.qkv_dim()))?;
    is(OP, "y", y, (rows, h.q_dim()))?;
    is(OP, "lse", lse, (rows, h.n_heads))?;
    segments(OP, &params.segments, rows)
}

/// As [`attention`], with dqkv like qkv and dy like y.
pub(crate) fn attention_bwd<I: Dims>(
    dqkv: &impl Dims,
    dy: &I,
    y: &I,
    lse: &impl Dims,
    qkv: &I,
    params: &AttentionParams,
) -> Result<()> {
    const OP: &str = "attention_bwd";
    let h = heads(OP, params)?;
    let rows = qkv.dims().0;
    is(OP, "qkv", qkv, (rows, h.qkv_dim()))?;
    is(OP, "dqkv", dqkv, (rows, h.qkv_dim()))?;
    is(OP, "y", y, (rows, h.q_dim()))?;
    is(OP, "dy", dy, (rows, h.q_dim()))?;
    is(OP, "lse", lse, (rows, h.n_heads))?;
    segments(OP, &params.segments, rows)
}

/// y: `[rows, q_dim]`, cache: `[slots, 2·kv_dim]`, qkv: `[rows, qkv_dim]`; no two segments share rows or slots.
pub(crate) fn attention_cached(
    y: &impl Dims,
    cache: &impl Dims,
    qkv: &impl Dims,
    cached: &[CachedSegment],
    params: &AttentionParams,
) -> Result<()> {
    attention_cached_in(y, cache, qkv, cached, params, None)
}

/// The same where a row of the cache may be stored otherwise, in so many columns.
pub(crate) fn attention_cached_in(
    y: &impl Dims,
    cache: &impl Dims,
    qkv: &impl Dims,
    cached: &[CachedSegment],
    params: &AttentionParams,
    columns: Option<usize>,
) -> Result<()> {
    const OP: &str = "attention_cached";
    let h = heads(OP, params)?;
    let rows = qkv.dims().0;
    let slots = cache.dims().0;
    is(OP, "qkv", qkv, (rows, h.qkv_dim()))?;
    is(OP, "y", y, (rows, h.q_dim()))?;
    is(OP, "cache", cache, (slots, columns.unwrap_or(2 * h.kv_dim())))?;
    let runs: Vec<Segment> = cached.iter().map(|s| Segment { start: s.start, len: s.len }).collect();
    segments(OP, &runs, rows)?;
    let mut taken = Vec::with_capacity(cached.len());
    for s in cached {
        let end = s.slot.checked_add(s.past).and_then(|end| end.checked_add(s.len)).filter(|&end| end <= slots);
        let end = end.ok_or_else(|| Error::shape(OP, format!("{s:?} in a cache of {slots} rows")))?;
        taken.push((s.slot, end));
    }
    taken.sort_unstable();
    let apart = taken.windows(2).all(|pair| pair[0].1 <= pair[1].0);
    ensure(OP, apart, || "two sequences share rows of the cache".into())
}

/// h: `[rows, d_ff]`, `gate_up`: `[rows, 2·d_ff]`.
pub(crate) fn gated(op: &'static str, h: &impl Dims, gate_up: &impl Dims) -> Result<()> {
    let (rows, d_ff) = h.dims();
    is(op, "h", h, (rows, d_ff))?;
    is(op, "gate_up", gate_up, (rows, 2 * d_ff))
}

/// As [`gated`], with a limit above zero.
pub(crate) fn gated_clamped(op: &'static str, h: &impl Dims, gate_up: &impl Dims, params: ClampedGate) -> Result<()> {
    ensure(op, params.limit > 0.0, || format!("a limit of {}", params.limit))?;
    gated(op, h, gate_up)
}

/// Same shapes, and a probability below one.
pub(crate) fn dropout(y: &impl Dims, x: &impl Dims, params: &Dropout) -> Result<()> {
    same("dropout", y, x)?;
    ensure("dropout", (0.0..1.0).contains(&params.p), || format!("a probability of {}", params.p))
}

/// `row: [1, cols of x]`.
pub(crate) fn row_of(op: &'static str, name: &str, row: &impl Dims, x: &impl Dims) -> Result<()> {
    is(op, "x", x, x.dims())?;
    is(op, name, row, (1, x.dims().1))
}

/// `column: [rows of x, 1]`.
pub(crate) fn column_of(op: &'static str, name: &str, column: &impl Dims, x: &impl Dims) -> Result<()> {
    is(op, "x", x, x.dims())?;
    is(op, name, column, (x.dims().0, 1))
}

/// squares, out: `[1, out]`, projected: `[r, out]`, gram: `[r, r]`, b: `[out, r]`.
pub(crate) fn dora_norm<T: Dims>(out: &T, squares: &T, projected: &T, gram: &T, b: &T) -> Result<()> {
    const OP: &str = "dora_norm";
    let (n, r) = b.dims();
    is(OP, "out", out, (1, n))?;
    is(OP, "squares", squares, (1, n))?;
    is(OP, "projected", projected, (r, n))?;
    is(OP, "gram", gram, (r, r))
}

/// loss, correct: `[rows, 1]`, x, dx: `[rows, d]`, w, dw: `[vocab, d]`; a target is in the vocabulary or ignored.
pub(crate) fn head_loss<T: Dims>(
    loss: &T,
    correct: &T,
    dx: Option<&impl Dims>,
    dw: Option<&T>,
    x: &impl Dims,
    w: (usize, usize),
    targets: &[i32],
) -> Result<()> {
    const OP: &str = "head_loss";
    let rows = targets.len();
    is(OP, "x", x, (rows, w.1))?;
    is(OP, "loss", loss, (rows, 1))?;
    is(OP, "correct", correct, (rows, 1))?;
    dx.map_or(Ok(()), |dx| is(OP, "dx", dx, (rows, w.1)))?;
    dw.map_or(Ok(()), |dw| is(OP, "dw", dw, w))?;
    let known = |t: i32| t == IGNORE_INDEX || usize::try_from(t).is_ok_and(|t| t < w.0);
    match targets.iter().find(|&&t| !known(t)) {
        Some(t) => Err(Error::shape(OP, format!("target {t} of a vocabulary of {}", w.0))),
        None => Ok(()),
    }
}

/// Everything like `p`, and a step that has been counted.
pub(crate) fn adamw<T: Dims>(p: &T, m: &T, v: &T, g: &T, step: u32) -> Result<()> {
    const OP: &str = "adamw";
    is(OP, "m", m, p.dims())?;
    is(OP, "v", v, p.dims())?;
    is(OP, "g", g, p.dims())?;
    ensure(OP, step > 0, || "steps count from 1".into())
}

/// One amplitude a row.
pub(crate) fn noise(y: &impl Dims, amplitudes: &[f32]) -> Result<()> {
    window("noise", y)?;
    let rows = y.dims().0;
    ensure("noise", amplitudes.len() == rows, || format!("{} amplitudes for {rows} rows", amplitudes.len()))
}

/// A gradient like `p`, states of as many elements with a magnitude a block, and a step that has been counted.
pub(crate) fn adamw_8bit<B: Backend>(
    p: &Tensor<B>,
    states: [(&EightBit<B>, usize); 2],
    g: &Tensor<B>,
    step: u32,
) -> Result<()> {
    const OP: &str = "adamw_8bit";
    is(OP, "g", g, p.dims())?;
    for (state, codes) in states {
        let len = p.len();
        ensure(OP, state.len == len && codes == len, || format!("{codes} codes for {len} parameters"))?;
        is(OP, "absmax", &state.absmax, (1, len.div_ceil(BLOCK)))?;
    }
    ensure(OP, step > 0, || "steps count from 1".into())
}
