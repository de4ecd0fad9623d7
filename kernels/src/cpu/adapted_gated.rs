//! Gate and up with their adapters, and the activation of both in the same product: what they make is in no memory where
//! nobody keeps it, and is not read again where somebody does. On the way back the gradient of what the activation made
//! is in no memory either.

use super::Cpu;
use super::adapted::{blocks, blocks_back, gradients, inner, packed_input, sides, sides_back};
use super::gated::{backward_rounded, backward_row, forward_rounded, forward_row};
use super::gemm::{Piece, Side, steps};
use super::numbers::{Half, Numbers, round_half, widen_half};
use super::simd_dispatch::Isa;
use super::sink::{Row, Sink};
use super::source::Source;
use super::whole::{Strip, Taker, columns_together, products};
use crate::adapted::{self, Adapted, AdaptedGradient, Input};
use crate::backend::{Activation, Backend, Write};
use crate::error::Result;
use crate::shapes;
use crate::tensor::{In, Out, Tensor};
use std::ops::Range;

/// Columns of a place at most: of one register tile of any kernel, as often as a task takes it.
const WIDEST: usize = 256;

pub(super) fn forward(
    cpu: &Cpu,
    mut h: Out<Cpu>,
    gate_up: &mut Tensor<Cpu>,
    kept: bool,
    mut x: Input<Cpu, &mut Tensor<Cpu>>,
    parts: &mut [Adapted<Cpu>],
    act: Activation,
) -> Result<()> {
    let (rows, d_ff) = (h.at.rows, h.at.cols);
    shapes::window("adapted_gated", &h)?;
    let is_blocked = blocks(&(rows, 2 * d_ff), x.rows(), parts)?;
    let source = if is_blocked && halves(parts, d_ff).is_some() { packed_input(cpu, &mut x)? } else { None };
    let (Some(source), Some(halves)) = (source, halves(parts, d_ff)) else {
        return adapted::gated(cpu, h, gate_up, x, parts, act);
    };
    if kept {
        cpu.reshape(gate_up, rows, 2 * d_ff)?;
    }
    let is_rounded = matches!(gate_up.buf, Numbers::Bf16(_));
    let kept = kept.then(|| Sink::of(gate_up.view_mut()));
    let (wides, mut narrows) = sides(cpu, source, parts)?;
    let strips = strips(halves, d_ff, columns_together(cpu.kernel(), &wides));
    let mut taker = Gated { isa: cpu.isa, act, is_rounded, d_ff, h: Sink::of(h.by_ref()), kept };
    products(&cpu.pool, cpu.kernel(), Side::of(source, false), &wides, &mut narrows, 1.0, &strips, &mut taker);
    Ok(())
}

/// The way back through the product behind the gate, and the gate.
pub(super) fn backward(
    cpu: &Cpu,
    dgate_up: Out<Cpu>,
    (h, dh, dxa): (&mut Tensor<Cpu>, &mut Tensor<Cpu>, &mut Tensor<Cpu>),
    (dy, gate_up): (In<Cpu>, In<Cpu>),
    part: AdaptedGradient<Cpu>,
    act: Activation,
) -> Result<()> {
    let (rows, d_ff) = (gate_up.at.rows, gate_up.at.cols / 2);
    let mut parts = [part];
    shapes::same("adapted_gated_bwd", &dgate_up, &gate_up)?;
    shapes::gated("adapted_gated_bwd", &(rows, d_ff), &gate_up)?;
    if !blocks_back(None, &dy, &(rows, d_ff), &parts)? {
        let [part] = parts;
        return adapted::gated_backward(cpu, dgate_up, (h, dh, dxa), (dy, gate_up), part, act);
    }
    if parts[0].adapter.is_some() {
        cpu.reshape(h, rows, d_ff)?;
    }
    let mut inner = inner(cpu, rows, &parts);
    let (wides, mut narrows) = sides_back((rows, d_ff), &parts, &mut inner);
    let strip = |lanes: Range<usize>| Strip { at: lanes.start, width: lanes.len(), of: vec![Piece { wide: 0, lanes }] };
    let strips: Vec<Strip> = steps(0..d_ff, columns_together(cpu.kernel(), &wides)).map(strip).collect();
    let (dgate_up, gate_up) = (Sink::of(dgate_up), Source::window(gate_up));
    let h_of_adapter = parts[0].adapter.is_some().then(|| Sink::of(h.view_mut()));
    let mut taker = Back { isa: cpu.isa, act, gate_up, dgate_up, h: h_of_adapter };
    let left = Side::of(Source::window(dy), false);
    products(&cpu.pool, cpu.kernel(), left, &wides, &mut narrows, 1.0, &strips, &mut taker);
    drop((wides, narrows));
    if parts[0].adapter.is_none() {
        return Ok(());
    }
    gradients(cpu, cpu.kernel(), dy, Source::window(h.view()), &mut parts, &inner)
}

/// Of gate and of up the part that makes it, and from which of its columns on. `None` where one is made of several.
fn halves(parts: &[Adapted<Cpu>], d_ff: usize) -> Option<[(usize, usize); 2]> {
    let of = |first: usize| {
        let part = parts.iter().position(|Adapted { part, .. }| part.columns.contains(&first))?;
        let columns = &parts[part].part.columns;
        (first + d_ff <= columns.end).then(|| (part, first - columns.start))
    };
    Some([of(0)?, of(d_ff)?])
}

fn strips(halves: [(usize, usize); 2], d_ff: usize, together: usize) -> Vec<Strip> {
    let strip = |columns: Range<usize>| {
        let piece = |(wide, first): (usize, usize)| Piece { wide, lanes: first + columns.start..first + columns.end };
        Strip { at: columns.start, width: columns.len(), of: halves.map(piece).into() }
    };
    steps(0..d_ff, together / 2).map(strip).collect()
}

/// Takes tiles of gate and up.
struct Gated<'a> {
    isa: Isa,
    act: Activation,
    /// What is kept is, and the activation is that of rounded numbers whether or not it is kept.
    is_rounded: bool,
    d_ff: usize,
    h: Sink<'a>,
    kept: Option<Sink<'a>>,
}

/// Rows of a tile, and where gate and up of each are kept.
struct Place<'t> {
    isa: Isa,
    act: Activation,
    is_rounded: bool,
    h: Vec<Row<'t>>,
    /// None, or as many as rows.
    kept: [Vec<Row<'t>>; 2],
}

impl Taker for Gated<'_> {
    type Place<'t>
        = Place<'t>
    where
        Self: 't;

    fn places(&mut self, rows: Range<usize>, columns: Range<usize>, step: (usize, usize)) -> Vec<Place<'_>> {
        let Self { isa, act, is_rounded, d_ff, h, kept } = self;
        let ranges = || steps(0..rows.len(), step.0);
        let h = h.reborrow().rows_from(rows.start, rows.len()).columns(columns.start, columns.len());
        let mut places = Vec::new();
        for tile in h.tiles(ranges(), step.1) {
            let height = if kept.is_some() { tile.rows.len() } else { 0 };
            let kept = [(); 2].map(|()| Vec::with_capacity(height));
            places.push(Place { isa: *isa, act: *act, is_rounded: *is_rounded, h: tile.rows, kept });
        }
        let Some(kept) = kept else { return places };
        let all = kept.reborrow().rows_from(rows.start, rows.len()).into_rows();
        deal(all, *d_ff, &columns, step, |place, half, row| places[place].kept[half].push(row));
        places
    }

    fn take(place: Place<'_>, sums: &mut [&mut [f32]]) {
        let Place { isa, act, is_rounded, h, kept } = place;
        let [gate, up] = sums else { unreachable!("a strip is of two products") };
        let width = gate.len() / h.len().max(1);
        if is_rounded && matches!(h[..], [Row::Bf16(_), ..]) {
            let kept = kept.map(Vec::into_iter);
            return take_rounded(isa, act, h, kept, [&**gate, &**up], width);
        }
        for (sums, kept) in [&mut **gate, &mut **up].into_iter().zip(kept) {
            let mut kept = kept.into_iter();
            for sums in sums.chunks_exact_mut(width) {
                match kept.next() {
                    Some(Row::F32(row)) => row.copy_from_slice(sums),
                    Some(Row::Bf16(row)) => through(isa, sums, row),
                    None if is_rounded => through(isa, sums, &mut [[0; 2]; WIDEST][..width]),
                    None => {}
                }
            }
        }
        let mut buffer = [0.0; WIDEST];
        for (h, (gate, up)) in h.into_iter().zip(gate.chunks_exact(width).zip(up.chunks_exact(width))) {
            h.write(isa, Write::Set, &mut buffer, |h| forward_row(isa, h, gate, up, act));
        }
    }
}

/// The same where all of it is rounded, and kept if anywhere then rounded.
fn take_rounded<'t>(
    isa: Isa,
    act: Activation,
    h: Vec<Row<'t>>,
    kept: [impl Iterator<Item = Row<'t>>; 2],
    [gate, up]: [&[f32]; 2],
    width: usize,
) {
    let mut nowhere = [[[0; 2]; WIDEST]; 2];
    let [mut kept_gate, mut kept_up] = kept;
    for (h, (gate, up)) in h.into_iter().zip(gate.chunks_exact(width).zip(up.chunks_exact(width))) {
        let [of_gate, of_up] = &mut nowhere;
        let kept = match (kept_gate.next(), kept_up.next()) {
            (Some(Row::Bf16(gate)), Some(Row::Bf16(up))) => [gate, up],
            _ => [&mut of_gate[..width], &mut of_up[..width]],
        };
        if let Row::Bf16(h) = h {
            forward_rounded(isa, h, kept, [gate, up], act);
        }
    }
}

/// `numbers` rounded into `row`, and as they are read from there.
fn through(isa: Isa, numbers: &mut [f32], row: &mut [Half]) {
    round_half(isa, row, numbers);
    widen_half(isa, numbers, row);
}

/// Takes tiles of the gradient of what the gate made.
struct Back<'a> {
    isa: Isa,
    act: Activation,
    gate_up: Source<'a>,
    dgate_up: Sink<'a>,
    h: Option<Sink<'a>>,
}

/// Rows of one.
struct BackPlace<'t> {
    isa: Isa,
    act: Activation,
    gate_up: Source<'t>,
    /// Its first row, and its columns of the gate.
    row: usize,
    columns: Range<usize>,
    /// Where the gradients of gate and up go.
    halves: [Vec<Row<'t>>; 2],
    /// None, or as many as rows.
    h: Vec<Row<'t>>,
}

impl Taker for Back<'_> {
    type Place<'t>
        = BackPlace<'t>
    where
        Self: 't;

    fn places(&mut self, rows: Range<usize>, columns: Range<usize>, step: (usize, usize)) -> Vec<BackPlace<'_>> {
        let Self { isa, act, gate_up, dgate_up, h } = self;
        let d_ff = gate_up.cols() / 2;
        let mut places = Vec::new();
        for at in steps(rows.clone(), step.0) {
            for columns in steps(columns.clone(), step.1) {
                let (halves, h) = ([(); 2].map(|()| Vec::with_capacity(at.len())), Vec::new());
                places.push(BackPlace { isa: *isa, act: *act, gate_up: *gate_up, row: at.start, columns, halves, h });
            }
        }
        let halves = dgate_up.reborrow().rows_from(rows.start, rows.len());
        deal(halves.into_rows(), d_ff, &columns, step, |place, half, row| places[place].halves[half].push(row));
        if let Some(h) = h {
            let tiles = h.reborrow().rows_from(rows.start, rows.len()).columns(columns.start, columns.len());
            let tiles = tiles.tiles(steps(0..rows.len(), step.0), step.1);
            places.iter_mut().zip(tiles).for_each(|(place, tile)| place.h = tile.rows);
        }
        places
    }

    fn take(place: BackPlace<'_>, sums: &mut [&mut [f32]]) {
        let BackPlace { isa, act, gate_up, row, columns, halves, h } = place;
        let [dh] = sums else { unreachable!("a strip is of one product") };
        let (width, d_ff) = (columns.len(), gate_up.cols() / 2);
        if let Source::Narrow(kept) = gate_up
            && matches!(halves[0][..], [Row::Bf16(_), ..])
            && !matches!(h[..], [Row::F32(_), ..])
        {
            let (mut nowhere, mut h) = ([[0; 2]; WIDEST], h.into_iter());
            let [dgates, dups] = halves;
            for (i, (dh, gradients)) in dh.chunks_exact(width).zip(dgates.into_iter().zip(dups)).enumerate() {
                let h = if let Some(Row::Bf16(h)) = h.next() { h } else { &mut nowhere[..width] };
                if let (Row::Bf16(dgate), Row::Bf16(dup)) = gradients {
                    let (gate, up) = kept.row(row + i).split_at(d_ff);
                    let both = [&gate[columns.clone()], &up[columns.clone()]];
                    backward_rounded(isa, [dgate, dup], h, dh, both, act);
                }
            }
            return;
        }
        let [mut gate, mut up, mut dgate, mut dup, mut of_h] = [[0.0; WIDEST]; 5];
        let [dgates, dups] = halves;
        let mut h = h.into_iter();
        for (i, (dh, (to_gate, to_up))) in dh.chunks_exact(width).zip(dgates.into_iter().zip(dups)).enumerate() {
            let gate = gate_up.read(isa, row + i, columns.clone(), &mut gate);
            let up = gate_up.read(isa, row + i, d_ff + columns.start..d_ff + columns.end, &mut up);
            let set = |h: Option<&mut [f32]>| {
                to_gate.write(isa, Write::Set, &mut dgate, |dgate| {
                    let both = |dup: &mut [f32]| backward_row(isa, [dgate, dup], h, dh, [gate, up], act);
                    to_up.write(isa, Write::Set, &mut dup, both);
                });
            };
            match h.next() {
                Some(h) => h.write(isa, Write::Set, &mut of_h, |h| set(Some(h))),
                None => set(None),
            }
        }
    }
}

/// Parts of both halves of rows, which lie side by side, to the places of so many rows and columns.
fn deal<'t>(
    rows: Vec<Row<'t>>,
    d_ff: usize,
    columns: &Range<usize>,
    step: (usize, usize),
    mut take: impl FnMut(usize, usize, Row<'t>),
) {
    let across = columns.len().div_ceil(step.1);
    for (i, row) in rows.into_iter().enumerate() {
        let (gate, up) = row.split_at(d_ff);
        for (half, row) in [gate, up].into_iter().enumerate() {
            let row = row.split_at(columns.end).0.split_at(columns.start).1;
            for (at, part) in row.chunks(step.1).enumerate() {
                take(i / step.0 * across + at, half, part);
            }
        }
    }
}
