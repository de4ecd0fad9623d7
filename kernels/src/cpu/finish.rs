//! What becomes of the sums of a register tile: scaled, with a bias, added to what was there, rounded where that is asked.

#[cfg(target_arch = "x86_64")]
use super::factors::Factors;
use super::gemm::Epilogue;
use super::numbers::{Half, round_half, widen_half};
use super::panels::{Kernel, Multiply, Pair};
use super::simd_dispatch::{Isa, ask_for, vectorized};
use super::tiles::BLOCK;
use crate::backend::Write;
use std::ops::Range;

/// Numbers that a product writes.
pub(super) trait Written: Send + Sized {
    /// Bring the sums of one register tile, `nr` a row, to these columns of its rows.
    fn finish(isa: Isa, rows: &mut [&mut [Self]], cols: Range<usize>, sums: &[f32], nr: usize, epilogue: Epilogue);

    /// A register tile of these panels that goes from the registers to its place, where there is such a one. False
    /// elsewhere, and nothing is done.
    fn fill(_: Kernel, _: &[Pair], _: &mut [&mut [Self]], _: Range<usize>, _: Epilogue, _: &mut dyn Multiply) -> bool {
        false
    }
}

/// One register tile of these panels, at its place.
pub(super) fn tile<T: Written>(
    kernel: Kernel,
    pairs: &[Pair],
    rows: &mut [&mut [T]],
    cols: Range<usize>,
    epilogue: Epilogue,
    multiply: &mut dyn Multiply,
) {
    if !T::fill(kernel, pairs, rows, cols.clone(), epilogue, multiply) {
        // Its place is wanted when the sums are there.
        for row in &*rows {
            ask_for(&row[cols.clone()]);
        }
        multiply.sums(pairs, rows.len(), cols.len(), &mut |sums| {
            T::finish(kernel.isa, rows, cols.clone(), sums, kernel.nr, epilogue);
        });
    }
}

impl Written for f32 {
    #[cfg(target_arch = "x86_64")]
    fn fill(
        kernel: Kernel,
        pairs: &[Pair],
        rows: &mut [&mut [f32]],
        cols: Range<usize>,
        epilogue: Epilogue,
        multiply: &mut dyn Multiply,
    ) -> bool {
        match (kernel.isa, kernel.factors) {
            (Isa::Avx2(isa), Factors::F32) => isa.tile_to(pairs, rows, cols, epilogue),
            (Isa::Avx512(isa), Factors::F32) => isa.tile_to(pairs, rows, cols, epilogue),
            (isa, Factors::Bf16) if isa.tiles(Factors::Bf16).is_none() => {
                isa.pairs().is_some_and(|isa| isa.tile_to(pairs, rows, cols, epilogue))
            }
            (_, Factors::Bf16) if is_plain(epilogue) && cols.len() == BLOCK => {
                let Some(rows) = rows.first_chunk_mut::<BLOCK>() else { return false };
                let mut rows = rows.each_mut().map(|row| row[cols.clone()].first_chunk_mut().expect("of that width"));
                for row in &rows {
                    ask_for(&**row);
                }
                multiply.place(pairs, &mut rows)
            }
            _ => false,
        }
    }

    fn finish(isa: Isa, rows: &mut [&mut [f32]], cols: Range<usize>, sums: &[f32], nr: usize, epilogue: Epilogue) {
        finish(isa, rows, cols, sums, nr, epilogue);
    }
}

impl Written for Half {
    fn finish(isa: Isa, rows: &mut [&mut [Half]], cols: Range<usize>, sums: &[f32], nr: usize, epilogue: Epilogue) {
        #[cfg(target_arch = "x86_64")]
        if let Some(isa) = isa.pairs() {
            let rows = rows.iter_mut().zip(sums.chunks_exact(nr));
            return rows.for_each(|(row, sums)| isa.finish(&mut row[cols.clone()], sums, epilogue));
        }
        let mut numbers = [0.0; BLOCK];
        let numbers = &mut numbers[..cols.len()];
        for (row, sums) in rows.iter_mut().zip(sums.chunks_exact(nr)) {
            let row = &mut row[cols.clone()];
            if epilogue.write == Write::Add {
                widen_half(isa, numbers, row);
            }
            finish(isa, &mut [&mut *numbers], 0..row.len(), sums, nr, epilogue);
            round_half(isa, row, numbers);
        }
    }
}

/// Whether sums are set as they are.
#[cfg(target_arch = "x86_64")]
fn is_plain(epilogue: Epilogue) -> bool {
    epilogue.write == Write::Set && epilogue.alpha.to_bits() == 1.0_f32.to_bits() && epilogue.bias.is_none()
}

/// Numbers that are brought to their place together: one vector, or a few.
const TOGETHER: usize = 16;

/// Bring the sums of one register tile to their place.
fn finish(isa: Isa, rows: &mut [&mut [f32]], cols: Range<usize>, sums: &[f32], nr: usize, epilogue: Epilogue) {
    #[cfg(target_arch = "x86_64")]
    if let Isa::Avx512(isa) = isa {
        return isa.finish(rows, cols, sums, nr, epilogue);
    }
    bring_all(isa, rows, cols, sums, nr, epilogue);
}

vectorized! {
    fn bring_all(rows: &mut [&mut [f32]], cols: Range<usize>, sums: &[f32], nr: usize, epilogue: Epilogue) {
        for (row, sums) in rows.iter_mut().zip(sums.chunks_exact(nr)) {
            let (together, rest) = row[cols.clone()].as_chunks_mut::<TOGETHER>();
            let (sums, last_sums) = sums.as_chunks::<TOGETHER>();
            let bias = epilogue.bias.map(<[f32]>::as_chunks::<TOGETHER>);
            // Lengths that the compiler knows: a loop for any length takes half vectors for rows as short as these.
            for (i, (y, sums)) in together.iter_mut().zip(sums).enumerate() {
                bring(y, sums, epilogue, bias.map(|(bias, _)| &bias[i][..]));
            }
            if !rest.is_empty() {
                let last = sums.get(together.len()).map_or(last_sums, <[f32; TOGETHER]>::as_slice);
                let at = TOGETHER * together.len();
                bring(rest, last, epilogue, epilogue.bias.map(|bias| &bias[at..]));
            }
        }
    }
}

/// `y (=|+=) alpha·sums + bias`
#[inline(always)]
fn bring(y: &mut [f32], sums: &[f32], epilogue: Epilogue, bias: Option<&[f32]>) {
    let Epilogue { alpha, write, .. } = epilogue;
    if write == Write::Set {
        y.iter_mut().zip(sums).for_each(|(y, &sum)| *y = alpha * sum);
    } else {
        y.iter_mut().zip(sums).for_each(|(y, &sum)| *y += alpha * sum);
    }
    if let Some(bias) = bias {
        y.iter_mut().zip(bias).for_each(|(y, &bias)| *y += bias);
    }
}

#[cfg(test)]
mod tests {
    use super::{Epilogue, Kernel, Pair, Write, Written};
    use crate::cpu::factors::Factors;
    use crate::cpu::path::{PATHS, Path};

    #[test]
    fn whole_tiles_come_to_their_place_with_the_bits_of_sums_brought_there() {
        let mut state = 9_u32;
        // Numbers from a half to one, and so are both halves of a word.
        let mut number = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f32::from_bits(0x3F00_3F00 | (state >> 8) & 0x007F_007F | (state & 0x80) << 24)
        };
        let mut filled = Vec::new();
        let paths = PATHS.into_iter().map(|row| row.0).chain([Path::ModelledTiles]);
        for (path, factors) in paths.flat_map(|path| [(path, Factors::F32), (path, Factors::Bf16)]) {
            let Some(kernel) = path.isa().map(|isa| Kernel::of(isa, factors)) else { continue };
            let (mr, nr) = (kernel.mr, kernel.nr);
            let mut panel = |len: usize| -> Vec<f32> { (0..len).map(|_| number()).collect() };
            let panels = [90, 16].map(|steps| (panel(kernel.left_len(mr, steps)), panel(kernel.right_len(nr, steps))));
            let pairs: Vec<Pair> = panels.iter().map(|(a, b)| (&a[..], &b[..])).collect();
            let biases = panel(nr);
            let cases = [(Write::Set, false), (Write::Add, false), (Write::Set, true), (Write::Add, true)];
            for ((write, bias), alpha) in cases.into_iter().flat_map(|case| [(case, -0.75), (case, 1.0)]) {
                let epilogue = Epilogue { alpha, bias: bias.then_some(&biases[..]), write };
                // Rows of one matrix: a unit that multiplies tiles sets no others.
                let mut placed = panel(mr * (nr + 9));
                let mut brought = placed.clone();
                let mut rows: Vec<&mut [f32]> = placed.chunks_exact_mut(nr + 9).collect();
                let mut is_filled = false;
                kernel.ready(|multiply| {
                    let edge = f32::fill(kernel, &pairs, &mut rows, 5..4 + nr, epilogue, multiply);
                    assert!(!edge, "no whole tile");
                    is_filled = f32::fill(kernel, &pairs, &mut rows, 5..5 + nr, epilogue, multiply);
                });
                if !is_filled {
                    continue;
                }
                let mut rows: Vec<&mut [f32]> = brought.chunks_exact_mut(nr + 9).collect();
                kernel.ready(|multiply| {
                    multiply.sums(&pairs, mr, nr, &mut |sums| {
                        f32::finish(kernel.isa, &mut rows, 5..5 + nr, sums, nr, epilogue);
                    });
                });
                let bits = |rows: &[f32]| rows.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&placed), bits(&brought), "{path:?}, {factors:?}, {write:?}, bias {bias}");
                assert!(placed.iter().all(|x| x.is_finite()));
                filled.push((path, factors));
            }
        }
        let expected = |path: Path, factors| path.isa().is_none() || filled.contains(&(path, factors));
        assert!(expected(Path::Avx2, Factors::F32) && expected(Path::Avx512, Factors::F32));
        assert!(expected(Path::Avx512Bf16, Factors::Bf16) && expected(Path::Amx, Factors::Bf16));
        assert!(expected(Path::ModelledTiles, Factors::Bf16));
    }
}
