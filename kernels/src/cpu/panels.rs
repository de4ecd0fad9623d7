//! What multiplies panels, and how panels for it are packed.

use super::Cpu;
use super::factors::{Factors, round_numbers};
use super::gemm::steps;
use super::kernel::Sums;
use super::pack::{Along, Form, pack_as, packed_len};
use super::pack_squares::pack_squares;
use super::packed::Lying;
use super::simd_dispatch::Isa;
use super::source::Source;
use super::tiles::{BLOCK, BlockSums, Multiplier, SIDE, TileUnit};
use crate::backend::Write;
use std::ops::Range;

/// Words of depth packed at a time: a panel of each operand stays close to the processor.
const DEPTH: usize = 384;
/// The same for vectors of 512 bits. On a Zen 4 products of models with 0.06 to 1.1 billion parameters reach 1 to 6 % more
/// with it than with 384: sums are brought to their place less often.
#[cfg(target_arch = "x86_64")]
const DEPTH_OF_WIDE: usize = 512;
/// The same for panels of half that width. On a Zen 3 products of models with 0.06 to 1.1 billion parameters reach 2 to 5 %
/// more with it than with 384, and deeper ones no more than that.
#[cfg(target_arch = "x86_64")]
const DEPTH_OF_NARROW: usize = 512;
/// Steps that are turned together when such panels are packed.
#[cfg(target_arch = "x86_64")]
const STEPS: usize = 8;
/// The same where a unit multiplies tiles: it is done with a panel sooner than sums are brought to their place, so those
/// are brought there as seldom as a task's panels, 1.5 MiB, allow.
const DEPTH_OF_TILES: usize = 1024;
/// Panels that one task packs where a row of the source is a lane, and where it is a step of the depth: shorter runs
/// of a row than that are read slowly.
const PACKED: (usize, usize) = (2, 4);

/// One side of a product.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    pub(super) source: Source<'a>,
    pub(super) transposed: bool,
}

impl<'a> Side<'a> {
    pub(super) fn of(source: Source<'a>, transposed: bool) -> Self {
        Self { source, transposed }
    }
}

/// Panels of both operands that belong together.
pub(super) type Pair<'a> = (&'a [f32], &'a [f32]);

/// What sums the products of all pairs, set up on a thread.
pub(super) trait Multiply {
    /// So many rows and columns of the sums at least, a tile's width a row, to `take`.
    fn sums(&mut self, pairs: &[Pair], rows: usize, cols: usize, take: &mut dyn FnMut(&[f32]));

    /// All sums set in these rows. False where they cannot be, and nothing is done.
    fn place(&mut self, _: &[Pair], _: &mut [&mut [f32; BLOCK]; BLOCK]) -> bool {
        false
    }
}

/// Sums in the processor's registers.
struct InRegisters {
    isa: Isa,
    factors: Factors,
    sums: Sums,
}

impl Multiply for InRegisters {
    fn sums(&mut self, pairs: &[Pair], rows: usize, cols: usize, take: &mut dyn FnMut(&[f32])) {
        self.isa.tile_of(self.factors, pairs, rows, cols, &mut self.sums);
        take(&self.sums);
    }
}

/// Sums in a unit that multiplies tiles.
struct InTiles<'u> {
    unit: &'u mut dyn Multiplier,
    sums: BlockSums,
}

impl Multiply for InTiles<'_> {
    fn sums(&mut self, pairs: &[Pair], rows: usize, _: usize, take: &mut dyn FnMut(&[f32])) {
        for (i, (a, b)) in pairs.iter().enumerate() {
            self.unit.multiply(a, b, rows, &mut self.sums, if i == 0 { Write::Set } else { Write::Add });
        }
        take(self.sums.0.as_flattened());
    }

    fn place(&mut self, pairs: &[Pair], rows: &mut [&mut [f32; BLOCK]; BLOCK]) -> bool {
        self.unit.multiply_to(pairs, rows)
    }
}

/// What multiplies, and so the form of the panels.
#[derive(Clone, Copy)]
pub(super) struct Kernel {
    pub(super) isa: Isa,
    pub(super) factors: Factors,
    /// Numbers are rounded to bf16 and stay f32: there is no instruction for pairs of them.
    rounds: bool,
    tiles: Option<TileUnit>,
    /// The left operand lies in squares, not in panels.
    squares: bool,
    /// Rows and columns of the sums that are computed at a time.
    pub(super) mr: usize,
    pub(super) nr: usize,
}

impl Cpu {
    /// What multiplies blocks.
    pub(super) fn kernel(&self) -> Kernel {
        Kernel::of(self.isa, self.factors)
    }
}

impl Kernel {
    pub(super) fn of(isa: Isa, factors: Factors) -> Self {
        let tiles = isa.tiles(factors);
        let (mr, nr) = if tiles.is_some() { (BLOCK, BLOCK) } else { (isa.mr(), isa.nr()) };
        let squares = isa.squares(factors).is_some();
        let rounds = factors == Factors::Bf16 && !squares;
        let factors = if rounds { Factors::F32 } else { factors };
        Self { isa, factors, rounds, tiles, squares, mr, nr }
    }

    /// Steps of the inner dimension, of `k`, that are packed at a time.
    pub(super) fn deepest(self, k: usize) -> usize {
        if self.tiles.is_none() {
            return match self.isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2(_) => even(k, DEPTH_OF_NARROW * self.factors.steps(), STEPS),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512(_) => even(k, DEPTH_OF_WIDE * self.factors.steps(), SIDE * self.factors.steps()),
                _ => DEPTH * self.factors.steps(),
            };
        }
        even(k, DEPTH_OF_TILES * self.factors.steps(), SIDE * self.factors.steps())
    }

    /// Words that `steps` of the inner dimension take in a panel of the right operand.
    pub(super) fn words(self, steps: usize) -> usize {
        let words = self.factors.words(steps);
        if self.tiles.is_some() { words.next_multiple_of(SIDE) } else { words }
    }

    /// The same of the left one.
    pub(super) fn left_words(self, steps: usize) -> usize {
        let words = self.factors.words(steps);
        if self.squares { words.next_multiple_of(SIDE) } else { words }
    }

    /// Room for panels of the left operand, and of the right one.
    pub(super) fn left_len(self, lanes: usize, steps: usize) -> usize {
        packed_len(lanes, self.mr, self.left_words(steps))
    }

    pub(super) fn right_len(self, lanes: usize, steps: usize) -> usize {
        packed_len(lanes, self.nr, self.words(steps))
    }

    /// Lanes of the left operand that one task packs.
    pub(super) fn left_lanes(self, transposed: bool) -> usize {
        self.mr * if transposed { PACKED.1 } else { PACKED.0 }
    }

    /// All of these lanes of the left operand.
    pub(super) fn left<'a>(
        self,
        side: Side<'a>,
        lanes: Range<usize>,
        depth: Range<usize>,
        out: &'a mut [f32],
    ) -> Packing<'a> {
        let along = if side.transposed { Along::Depth } else { Along::Lanes };
        let words = self.left_words(depth.len());
        Packing {
            kernel: self,
            squares: self.squares,
            source: side.source,
            along,
            lanes,
            depth,
            width: self.mr,
            words,
            out,
        }
    }

    /// Panels of the right one that need not be packed, since its weight is.
    pub(super) fn lying<'a>(self, side: Side<'a>, lanes: &Range<usize>, depth: &Range<usize>) -> Option<Lying<'a>> {
        let (Source::Packed(w, first, _), true) = (side.source, side.transposed) else { return None };
        w.lying(self, &(first + lanes.start..first + lanes.end), depth)
    }

    /// And of the right one.
    pub(super) fn right<'a>(
        self,
        side: Side<'a>,
        lanes: Range<usize>,
        depth: Range<usize>,
        out: &'a mut [f32],
    ) -> Packing<'a> {
        let along = if side.transposed { Along::Lanes } else { Along::Depth };
        let words = self.words(depth.len());
        Packing { kernel: self, squares: false, source: side.source, along, lanes, depth, width: self.nr, words, out }
    }

    /// `task` with what multiplies set up on this thread.
    pub(super) fn ready(self, task: impl FnOnce(&mut dyn Multiply)) {
        let Self { isa, factors, tiles, .. } = self;
        match tiles {
            None => task(&mut InRegisters { isa, factors, sums: [0.0; 448] }),
            Some(unit) => unit.with(|unit| task(&mut InTiles { unit, sums: BlockSums([[0.0; BLOCK]; BLOCK]) })),
        }
    }
}

/// Steps of parts of about the same depth, of at most `most`: whole `units`.
fn even(k: usize, most: usize, units: usize) -> usize {
    k.div_ceil(k.div_ceil(most).max(1)).next_multiple_of(units)
}

/// Panels, or rows of squares, to be packed.
pub(super) struct Packing<'a> {
    kernel: Kernel,
    squares: bool,
    source: Source<'a>,
    along: Along,
    lanes: Range<usize>,
    depth: Range<usize>,
    width: usize,
    words: usize,
    out: &'a mut [f32],
}

impl<'a> Packing<'a> {
    /// The same as tasks of a few panels each.
    pub(super) fn split(self) -> impl Iterator<Item = Packing<'a>> {
        let Self { kernel, squares, source, along, lanes, depth, width, words, out } = self;
        let some = width * if along == Along::Lanes { PACKED.0 } else { PACKED.1 };
        let out = &mut out[..packed_len(lanes.len(), width, words)];
        steps(lanes, some).zip(out.chunks_mut((some * words).max(1))).map(move |(lanes, out)| Packing {
            kernel,
            squares,
            source,
            along,
            lanes,
            depth: depth.clone(),
            width,
            words,
            out,
        })
    }

    /// Pack them: the panels, and words of their depth.
    pub(super) fn pack(self) -> (&'a [f32], usize) {
        let Self { kernel, squares, source, along, lanes, depth, width, words, out } = self;
        let Kernel { isa, factors, rounds, .. } = kernel;
        if let (Source::Packed(w, first, _), Along::Depth, false) = (source, along, squares)
            && w.turn(kernel, &lanes, &(first + depth.start..first + depth.end), words, out)
        {
            return (out, words);
        }
        if squares {
            pack_squares(isa, source, along, lanes, depth, (width, words), out);
        } else {
            let len = packed_len(lanes.len(), width, words);
            pack_as(isa, Form { factors, width, words }, source, along, lanes, depth, out);
            if rounds && !source.is_bf16() {
                round_numbers(isa, &mut out[..len]);
            }
        }
        (out, words)
    }
}
