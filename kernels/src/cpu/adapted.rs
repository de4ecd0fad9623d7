//! Weights with adapters beside them: both in one product, several with the same input together.

use super::Cpu;
use super::few;
use super::gemm::{Epilogue, Narrow, Wide, products};
use super::int8::MOST_ROWS;
use super::linear::few_rows;
use super::norm::{self, NormedRows};
use super::numbers::{Numbers, slice, view, whole, whole_mut};
use super::panels::{Kernel, Side};
use super::pool::Scratch;
use super::rank::{Both, Left, Sum, rank_sums};
use super::sink::Sink;
use super::source::Source;
use crate::adapted::{self, Adapted, AdaptedGradient, Adapter, AdapterGradient, Input, Normed};
use crate::backend::{Backend, Part, Write};
use crate::error::Result;
use crate::host::{View, ViewMut};
use crate::shapes::{self, Dims};
use crate::tensor::{In, Out, Tensor};

/// Whether these rows are many enough, and nothing is empty.
fn is_blocked(rows: usize, sizes: impl IntoIterator<Item = usize>) -> bool {
    rows > MOST_ROWS && sizes.into_iter().all(|size| size > 0)
}

/// Several weights with the same input, without adapters.
pub(super) fn linears(cpu: &Cpu, mut y: Out<Cpu>, x: In<Cpu>, parts: &[Part<Cpu>]) -> Result<()> {
    shapes::linears(&y, &x, parts.iter().map(|part| (&part.columns, Source::of(part.w).dims(), part.bias)))?;
    let few = parts.iter().map(|part| {
        let epilogue = Epilogue { bias: part.bias.map(slice).transpose()?, ..Epilogue::plain(Write::Set) };
        Ok(few::Part { columns: part.columns.clone(), w: Source::of(part.w), epilogue })
    });
    let few = few.collect::<Result<Vec<few::Part>>>()?;
    if few_rows(cpu, cpu.few(), Sink::of(y.by_ref()), Source::window(x), &few).is_some() {
        for Part { columns, w, bias } in parts {
            cpu.linear(y.by_ref().cols(columns.clone()), x, *w, *bias, Write::Set)?;
        }
    }
    Ok(())
}

/// Whether these products are computed in blocks; shapes that do not fit are errors.
pub(super) fn blocks(y: &impl Dims, x: &In<Cpu>, parts: &[Adapted<Cpu>]) -> Result<bool> {
    let described = parts.iter().map(|Adapted { part, .. }| (&part.columns, Source::of(part.w).dims(), part.bias));
    shapes::linears(y, x, described)?;
    for Adapted { part, adapter } in parts {
        if let Some(Adapter { a, b, .. }) = adapter {
            shapes::adapter("adapted", *a, *b, Source::of(part.w).dims())?;
        }
    }
    let ranks = parts.iter().filter_map(|part| part.adapter.as_ref()).map(|adapter| adapter.a.rows());
    let outputs = parts.iter().map(|part| part.part.columns.len());
    // Products in whole numbers are made alone, and the adapters' added to them.
    let in_strips = parts.iter().any(|part| matches!(Source::of(part.part.w), Source::Interleaved(..)));
    Ok(!in_strips && is_blocked(x.at.rows, ranks.chain(outputs).chain([x.at.cols, parts.len()])))
}

pub(super) fn forward(cpu: &Cpu, y: Out<Cpu>, x: In<Cpu>, parts: &mut [Adapted<Cpu>]) -> Result<()> {
    if !blocks(&y, &x, parts)? {
        return adapted::forward(cpu, y, x, parts);
    }
    sums(cpu, y, Source::window(x), parts)
}

/// The same of the norm of `x`, which is computed where it is packed.
pub(super) fn forward_of_norm(
    cpu: &Cpu,
    y: Out<Cpu>,
    rstd: &mut Tensor<Cpu>,
    normed: &Normed<Cpu>,
    parts: &mut [Adapted<Cpu>],
) -> Result<()> {
    let Normed { x, gain, params } = normed;
    shapes::rms_norm(x, rstd, x, *gain)?;
    if !blocks(&y, x, parts)? || gain.cols() != x.at.cols || is_narrow(x) {
        return adapted::forward_of_norm(cpu, y, rstd, normed, parts);
    }
    norm::rstd_of(&cpu.pool, cpu.isa, whole_mut(rstd)?, view(*x)?, params.eps);
    sums(cpu, y, normed_rows(normed, rstd)?, parts)
}

/// What is packed of `x`; the root of a norm is set. `None` of a norm that has to be in memory.
pub(super) fn packed_input<'a>(cpu: &Cpu, x: &'a mut Input<Cpu, &mut Tensor<Cpu>>) -> Result<Option<Source<'a>>> {
    let (normed, rstd) = match x {
        Input::Rows(x) => return Ok(Some(Source::window(*x))),
        Input::Norm(normed, rstd) => (normed, rstd),
    };
    let Normed { x, gain, params } = normed;
    shapes::rms_norm(x, &**rstd, x, *gain)?;
    if gain.cols() != x.at.cols || is_narrow(x) {
        return Ok(None);
    }
    norm::rstd_of(&cpu.pool, cpu.isa, whole_mut(rstd)?, view(*x)?, params.eps);
    normed_rows(normed, rstd).map(Some)
}

/// Rows that are packed under a norm are f32, as the residual stream is.
fn is_narrow(x: &In<Cpu>) -> bool {
    matches!(x.tensor.buf, Numbers::Bf16(_))
}

fn normed_rows<'a>(normed: &Normed<'a, Cpu>, rstd: &'a Tensor<Cpu>) -> Result<Source<'a>> {
    let &Normed { x, gain, params } = normed;
    Ok(Source::Normed(NormedRows { x: view(x)?, rstd: whole(rstd)?, w: slice(gain)?, offset: params.offset }))
}

/// All products of `x`, in blocks.
fn sums(cpu: &Cpu, y: Out<Cpu>, x: Source, parts: &mut [Adapted<Cpu>]) -> Result<()> {
    let (wides, mut narrows) = sides(cpu, x, parts)?;
    let left = Side::of(x, false);
    products(&cpu.pool, cpu.kernel(), Some(Sink::of(y)), left, &wides, &mut narrows, 1.0, Write::Set);
    Ok(())
}

/// The right operands of all products of `x`.
pub(super) fn sides<'a>(
    cpu: &Cpu,
    x: Source,
    parts: &'a mut [Adapted<Cpu>],
) -> Result<(Vec<Wide<'a>>, Vec<Narrow<'a>>)> {
    let (rows, k) = x.dims();
    let (mut wides, mut narrows) = (Vec::new(), Vec::new());
    for Adapted { part, adapter } in parts {
        let first = narrows.len();
        if let Some(Adapter { a, b, scaling, xa }) = adapter {
            cpu.reshape(xa, rows, a.rows())?;
            narrows.push(Narrow {
                of: 0..k,
                first: Side::of(Source::window(a.view()), true),
                alpha: 1.0,
                out: whole_mut(xa)?,
                scale: *scaling,
                second: Side::of(Source::window(b.view()), true),
            });
        }
        wides.push(Wide {
            of: 0..k,
            w: Side::of(Source::of(part.w), true),
            columns: part.columns.clone(),
            bias: part.bias.map(slice).transpose()?,
            narrow: first..narrows.len(),
        });
    }
    Ok((wides, narrows))
}

/// The same of the way back.
pub(super) fn blocks_back(
    dx: Option<&Out<Cpu>>,
    dy: &In<Cpu>,
    x: &impl Dims,
    parts: &[AdaptedGradient<Cpu>],
) -> Result<bool> {
    let none: Option<&Tensor<Cpu>> = None;
    shapes::linears(dy, x, parts.iter().map(|part| (&part.columns, Source::of(part.w).dims(), none)))?;
    if let Some(dx) = dx {
        shapes::same("adapted_bwd", dx, x)?;
    }
    for AdaptedGradient { w, adapter, .. } in parts {
        let Some(AdapterGradient { a, b, xa, da, db, .. }) = adapter else { continue };
        shapes::adapter("adapted_bwd", *a, *b, Source::of(*w).dims())?;
        shapes::is("adapted_bwd", "xa", *xa, (dy.at.rows, a.rows()))?;
        da.as_deref().map_or(Ok(()), |da| shapes::same("adapted_bwd", da, *a))?;
        db.as_deref().map_or(Ok(()), |db| shapes::same("adapted_bwd", db, *b))?;
    }
    let ranks = parts.iter().filter_map(|part| part.adapter.as_ref()).map(|adapter| adapter.a.rows());
    let outputs = parts.iter().map(|part| part.columns.len());
    Ok(is_blocked(dy.at.rows, ranks.chain(outputs).chain([x.dims().1, parts.len()])))
}

pub(super) fn backward(
    cpu: &Cpu,
    dx: Option<Out<Cpu>>,
    dy: In<Cpu>,
    x: In<Cpu>,
    parts: &mut [AdaptedGradient<Cpu>],
    dxa: &mut Tensor<Cpu>,
) -> Result<()> {
    if !blocks_back(dx.as_ref(), &dy, &x, parts)? {
        return adapted::backward(cpu, dx, dy, x, parts, dxa);
    }
    sums_back(cpu, dx, dy, Source::window(x), parts)
}

/// The same behind a norm of `x`, which is computed where it is packed.
pub(super) fn backward_of_norm(
    cpu: &Cpu,
    dx: Option<Out<Cpu>>,
    dy: In<Cpu>,
    normed: &Normed<Cpu>,
    rstd: &Tensor<Cpu>,
    parts: &mut [AdaptedGradient<Cpu>],
    dxa: &mut Tensor<Cpu>,
) -> Result<()> {
    let Normed { x, gain, .. } = normed;
    shapes::rms_norm(x, rstd, x, *gain)?;
    if !blocks_back(dx.as_ref(), &dy, x, parts)? || gain.cols() != x.at.cols || is_narrow(x) {
        return adapted::backward_of_norm(cpu, dx, dy, normed, parts, dxa);
    }
    sums_back(cpu, dx, dy, normed_rows(normed, rstd)?, parts)
}

/// All gradients, in blocks.
fn sums_back(
    cpu: &Cpu,
    dx: Option<Out<Cpu>>,
    dy: In<Cpu>,
    x: Source,
    parts: &mut [AdaptedGradient<Cpu>],
) -> Result<()> {
    let (rows, inputs) = x.dims();
    let kernel = cpu.kernel();
    let mut inner = inner(cpu, rows, parts);
    let (wides, mut narrows) = sides_back((rows, inputs), parts, &mut inner);
    let left = Side::of(Source::window(dy), false);
    products(&cpu.pool, kernel, dx.map(Sink::of), left, &wides, &mut narrows, 1.0, Write::Set);
    drop((wides, narrows));
    gradients(cpu, kernel, dy, x, parts, &inner)
}

/// Room for the gradient of what each adapter's first factor gave.
pub(super) fn inner<'p>(cpu: &'p Cpu, rows: usize, parts: &[AdaptedGradient<Cpu>]) -> Vec<Scratch<'p>> {
    let adapters = parts.iter().filter_map(|part| part.adapter.as_ref());
    adapters.map(|adapter| cpu.pool.scratch(rows * adapter.a.rows())).collect()
}

/// The right operands of the gradient of so many rows and inputs; the narrow products are set in `inner`.
pub(super) fn sides_back<'a>(
    (rows, inputs): (usize, usize),
    parts: &'a [AdaptedGradient<Cpu>],
    inner: &'a mut [Scratch],
) -> (Vec<Wide<'a>>, Vec<Narrow<'a>>) {
    let adapters = parts.iter().filter_map(|part| Some((part.columns.clone(), part.adapter.as_ref()?)));
    let narrows: Vec<Narrow> = adapters
        .zip(inner)
        .map(|((columns, AdapterGradient { a, b, scaling, .. }), inner)| Narrow {
            of: columns,
            first: Side::of(Source::window(b.view()), false),
            alpha: *scaling,
            out: ViewMut::dense(inner, rows, a.rows()),
            scale: 1.0,
            second: Side::of(Source::window(a.view()), false),
        })
        .collect();
    let last = parts.len() - 1;
    let wides = (parts.iter().enumerate())
        .map(|(i, part)| Wide {
            of: part.columns.clone(),
            w: Side::of(Source::of(part.w), false),
            columns: 0..inputs,
            bias: None,
            narrow: if i == last { 0..narrows.len() } else { 0..0 },
        })
        .collect();
    (wides, narrows)
}

/// `da += dxaᵀ·x`, `db += s·dyᵀ·xa`
pub(super) fn gradients(
    cpu: &Cpu,
    kernel: Kernel,
    dy: In<Cpu>,
    x: Source,
    parts: &mut [AdaptedGradient<Cpu>],
    inner: &[Scratch],
) -> Result<()> {
    let (mut lefts, mut of_x, mut sums) = (Vec::new(), Vec::new(), Vec::new());
    let adapters = parts.iter_mut().filter_map(|part| Some((part.columns.clone(), part.adapter.as_mut()?)));
    for ((columns, adapter), inner) in adapters.zip(inner) {
        let AdapterGradient { a, scaling, xa, da, db, .. } = adapter;
        if let Some(da) = da {
            of_x.push(Sum { left: lefts.len(), alpha: 1.0, out: whole_mut(da)?, is_turned: false });
            lefts.push(Left(View::dense(inner, dy.at.rows, a.rows())));
        }
        if let Some(db) = db {
            let sum = Sum { left: lefts.len(), alpha: *scaling, out: whole_mut(db)?, is_turned: true };
            sums.push(Both { right: Source::window(dy.cols(columns)), sums: vec![sum] });
            lefts.push(Left(whole(xa)?));
        }
    }
    sums.push(Both { right: x, sums: of_x });
    rank_sums(&cpu.pool, kernel, &lefts, sums);
    Ok(())
}
