//! Weights with adapters beside them: both in one product, several with the same input together.

use super::Cpu;
use super::few;
use super::gemm::{Epilogue, Narrow, Wide, products};
use super::int8::MOST_ROWS;
use super::norm::{self, NormedRows};
use super::panels::{Kernel, Side};
use super::pool::Scratch;
use super::rank::{Both, Left, Sum, rank_sums};
use super::source::Source;
use crate::adapted::{self, Adapted, AdaptedGradient, Adapter, AdapterGradient, Normed};
use crate::backend::{Backend, Part, Write};
use crate::error::Result;
use crate::host::{View, ViewMut};
use crate::shapes;
use crate::tensor::{In, Out, Tensor};

/// Whether these rows are many enough, and nothing is empty.
fn is_blocked(rows: usize, sizes: impl IntoIterator<Item = usize>) -> bool {
    rows > MOST_ROWS && sizes.into_iter().all(|size| size > 0)
}

/// Several weights with the same input, without adapters.
pub(super) fn linears(cpu: &Cpu, mut y: Out<Cpu>, x: In<Cpu>, parts: &[Part<Cpu>]) -> Result<()> {
    shapes::linears(&y, &x, parts.iter().map(|part| (&part.columns, Source::of(part.w).dims(), part.bias)))?;
    let few = parts.iter().map(|part| {
        let bias = part.bias.map(|bias| bias.buf.as_slice());
        let epilogue = Epilogue { bias, ..Epilogue::plain(Write::Set) };
        few::Part { columns: part.columns.clone(), w: Source::of(part.w), epilogue }
    });
    let few: Vec<few::Part> = few.collect();
    let window = ViewMut::of(y.by_ref());
    if few::products(&cpu.pool, cpu.isa, cpu.few(), window, View::of(x), &few).is_some() {
        for Part { columns, w, bias } in parts {
            cpu.linear(y.by_ref().cols(columns.clone()), x, *w, *bias, Write::Set)?;
        }
    }
    Ok(())
}

/// Whether these products are computed in blocks; shapes that do not fit are errors.
fn blocks(y: &Out<Cpu>, x: &In<Cpu>, parts: &[Adapted<Cpu>]) -> Result<bool> {
    let described = parts.iter().map(|Adapted { part, .. }| (&part.columns, Source::of(part.w).dims(), part.bias));
    shapes::linears(y, x, described)?;
    for Adapted { part, adapter } in parts {
        if let Some(Adapter { a, b, .. }) = adapter {
            shapes::adapter("adapted", *a, *b, Source::of(part.w).dims())?;
        }
    }
    let ranks = parts.iter().filter_map(|part| part.adapter.as_ref()).map(|adapter| adapter.a.rows());
    let outputs = parts.iter().map(|part| part.part.columns.len());
    Ok(is_blocked(x.at.rows, ranks.chain(outputs).chain([x.at.cols, parts.len()])))
}

pub(super) fn forward(cpu: &Cpu, y: Out<Cpu>, x: In<Cpu>, parts: &mut [Adapted<Cpu>]) -> Result<()> {
    if !blocks(&y, &x, parts)? {
        return adapted::forward(cpu, y, x, parts);
    }
    sums(cpu, y, Source::Dense(View::of(x)), parts)
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
    if !blocks(&y, x, parts)? || gain.cols() != x.at.cols {
        return adapted::forward_of_norm(cpu, y, rstd, normed, parts);
    }
    norm::rstd_of(&cpu.pool, cpu.isa, ViewMut::whole(rstd), View::of(*x), params.eps);
    sums(cpu, y, normed_rows(normed, rstd), parts)
}

fn normed_rows<'a>(normed: &Normed<'a, Cpu>, rstd: &'a Tensor<Cpu>) -> Source<'a> {
    let &Normed { x, gain, params } = normed;
    Source::Normed(NormedRows { x: View::of(x), rstd: View::whole(rstd), w: &gain.buf, offset: params.offset })
}

/// All products of `x`, in blocks.
fn sums(cpu: &Cpu, y: Out<Cpu>, x: Source, parts: &mut [Adapted<Cpu>]) -> Result<()> {
    let (rows, k) = x.dims();
    let (mut wides, mut narrows) = (Vec::new(), Vec::new());
    for Adapted { part, adapter } in parts {
        let first = narrows.len();
        if let Some(Adapter { a, b, scaling, xa }) = adapter {
            cpu.reshape(xa, rows, a.rows())?;
            narrows.push(Narrow {
                of: 0..k,
                first: Side::of(Source::Dense(View::whole(a)), true),
                alpha: 1.0,
                out: ViewMut::whole(xa),
                scale: *scaling,
                second: Side::of(Source::Dense(View::whole(b)), true),
            });
        }
        wides.push(Wide {
            of: 0..k,
            w: Side::of(Source::of(part.w), true),
            columns: part.columns.clone(),
            bias: part.bias.map(|bias| bias.buf.as_slice()),
            narrow: first..narrows.len(),
        });
    }
    let left = Side::of(x, false);
    products(&cpu.pool, cpu.kernel(), Some(ViewMut::of(y)), left, &wides, &mut narrows, 1.0, Write::Set);
    Ok(())
}

/// The same of the way back.
fn blocks_back(dx: Option<&Out<Cpu>>, dy: &In<Cpu>, x: &In<Cpu>, parts: &[AdaptedGradient<Cpu>]) -> Result<bool> {
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
    Ok(is_blocked(dy.at.rows, ranks.chain(outputs).chain([x.at.cols, parts.len()])))
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
    sums_back(cpu, dx, dy, Source::Dense(View::of(x)), parts);
    Ok(())
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
    if !blocks_back(dx.as_ref(), &dy, x, parts)? || gain.cols() != x.at.cols {
        return adapted::backward_of_norm(cpu, dx, dy, normed, parts, dxa);
    }
    sums_back(cpu, dx, dy, normed_rows(normed, rstd), parts);
    Ok(())
}

/// All gradients, in blocks.
fn sums_back(cpu: &Cpu, dx: Option<Out<Cpu>>, dy: In<Cpu>, x: Source, parts: &mut [AdaptedGradient<Cpu>]) {
    let (rows, inputs) = x.dims();
    let adapters = || parts.iter().filter_map(|part| Some((part.columns.clone(), part.adapter.as_ref()?)));
    let mut inner: Vec<Scratch> = adapters().map(|(_, adapter)| cpu.pool.scratch(rows * adapter.a.rows())).collect();
    let mut narrows: Vec<Narrow> = adapters()
        .zip(&mut inner)
        .map(|((columns, AdapterGradient { a, b, scaling, .. }), inner)| Narrow {
            of: columns,
            first: Side::of(Source::Dense(View::whole(b)), false),
            alpha: *scaling,
            out: ViewMut::dense(inner, rows, a.rows()),
            scale: 1.0,
            second: Side::of(Source::Dense(View::whole(a)), false),
        })
        .collect();
    let last = parts.len() - 1;
    let wides: Vec<Wide> = (parts.iter().enumerate())
        .map(|(i, part)| Wide {
            of: part.columns.clone(),
            w: Side::of(Source::of(part.w), false),
            columns: 0..inputs,
            bias: None,
            narrow: if i == last { 0..narrows.len() } else { 0..0 },
        })
        .collect();
    let kernel = cpu.kernel();
    let left = Side::of(Source::Dense(View::of(dy)), false);
    products(&cpu.pool, kernel, dx.map(ViewMut::of), left, &wides, &mut narrows, 1.0, Write::Set);
    drop((wides, narrows));
    gradients(cpu, kernel, dy, x, parts, &inner);
}

/// `da += dxaᵀ·x`, `db += s·dyᵀ·xa`
fn gradients(cpu: &Cpu, kernel: Kernel, dy: In<Cpu>, x: Source, parts: &mut [AdaptedGradient<Cpu>], inner: &[Scratch]) {
    let (mut lefts, mut of_x, mut sums) = (Vec::new(), Vec::new(), Vec::new());
    let adapters = parts.iter_mut().filter_map(|part| Some((part.columns.clone(), part.adapter.as_mut()?)));
    for ((columns, adapter), inner) in adapters.zip(inner) {
        let AdapterGradient { a, scaling, xa, da, db, .. } = adapter;
        if let Some(da) = da {
            of_x.push(Sum { left: lefts.len(), alpha: 1.0, out: ViewMut::whole(da), is_turned: false });
            lefts.push(Left(View::dense(inner, dy.at.rows, a.rows())));
        }
        if let Some(db) = db {
            let sum = Sum { left: lefts.len(), alpha: *scaling, out: ViewMut::whole(db), is_turned: true };
            sums.push(Both { right: Source::Dense(View::of(dy.cols(columns))), sums: vec![sum] });
            lefts.push(Left(View::whole(xa)));
        }
    }
    sums.push(Both { right: x, sums: of_x });
    rank_sums(&cpu.pool, kernel, &lefts, sums);
}
