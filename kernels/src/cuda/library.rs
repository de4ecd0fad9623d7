//! Whether products go to the library of a card's maker (`lt.rs`): examined on the card, measured there, and used from the
//! sizes on at which it is faster.
//!
//! What was measured decides once, and nothing is measured while a model is trained: a [`Choice`] gives the same answer
//! for the same shape, so that two runs have the same bits. It is part of what a run records of its device, and a run
//! goes on with the one it was begun with. An adapter's part of a product is made first, by our kernels, and the library
//! adds to it.

use super::call::Place;
use super::device::Device;
use super::driver::{Driver, unavailable};
use super::lt::{Dense, DenseShape, Lt, WORKSPACE};
use super::memory::{self, Memory};
use super::product::Side;
use super::product_bf16::{DEPTH, More, Packed};
use super::wgmma::numbers;
use super::{Cuda, Precision};
use crate::backend::Write;
use crate::error::{Error, Result};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError};
use std::time::Instant;

/// By so much the library must be faster than the kernels here.
const GAIN: f64 = 1.03;
/// Sizes that are measured, from the first in doublings to the last: cubes.
const SIZES: (usize, usize) = (64, 4096);
/// Smaller ones say nothing about a training, where a card is fast enough to go on.
const TELLING: usize = 1024;
/// Nothing larger is measured than what takes a kernel of ours so long, in seconds.
const LONG: f64 = 0.005;
/// Measurements, of which the one in the middle counts.
const TIMES: usize = 5;
/// Launches of one measurement, where one is short.
const TOGETHER: usize = 8;
/// No side of a product is shorter than the size from which the library is used, by more than this.
const SHORTER: usize = 4;
/// Rank of the adapter in what is measured and compared.
const RANK: usize = 16;

/// Rows, columns and steps that are compared: whole tiles and torn ones, short sums and a long one.
const SHAPES: [[usize; 3]; 3] = [[128, 128, 64], [200, 328, 96], [72, 64, 1056]];
/// The largest normalised mean square errors between the two: sums in f32, and results rounded to bfloat16.
const TOLERANCE: f64 = 1e-9;
const TOLERANCE_OF_NARROW: f64 = 2e-5;

/// What a fingerprint calls the library.
const NAME: &str = "cuBLASLt ";

/// How long a product of `size` rows, columns and steps takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Rows, columns and steps.
    pub size: usize,
    /// Rows of the right factor are steps: the way back through a weight.
    pub by_step: bool,
    /// Seconds of the kernels here.
    pub ours: f64,
    /// Seconds of the library.
    pub theirs: f64,
}

impl Measured {
    fn is_faster(&self) -> bool {
        self.ours > self.theirs * GAIN
    }
}

/// From which size on the library multiplies: the cube root of rows, columns and steps. `None`: never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Forward, where rows of a weight are columns of the result.
    pub forward: Option<usize>,
    /// Back, where they are steps.
    pub back: Option<usize>,
}

impl Choice {
    /// From the smallest size on at which the library, and at all larger ones, is faster.
    pub fn of(measured: &[Measured]) -> Self {
        let from = |by_step| {
            let mut alike: Vec<&Measured> = measured.iter().filter(|m| m.by_step == by_step).collect();
            alike.sort_by_key(|m| std::cmp::Reverse(m.size));
            alike.into_iter().take_while(|m| m.is_faster()).last().map(|m| m.size)
        };
        Self { forward: from(false), back: from(true) }
    }

    /// Whether the library multiplies anything.
    pub fn is_any(self) -> bool {
        self != Self::default()
    }

    /// What a fingerprint says of it, behind the version of the library; `None`: it speaks of none.
    fn recorded(fingerprint: &str) -> Option<(&str, Self)> {
        let (version, words) = fingerprint.split_once(NAME)?.1.split_once(' ')?;
        let size = |name: &str| {
            let text = words.split_once(name)?.1;
            text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        };
        Some((version, Self { forward: size("forward from "), back: size("back from ") }))
    }

    fn suits(self, shape: &DenseShape) -> bool {
        let Some(from) = (if shape.by_step { self.back } else { self.forward }) else { return false };
        let size = shape.sizes.iter().map(|&n| n as f64).product::<f64>().cbrt();
        size * 1.0001 >= from as f64 && shape.sizes.iter().all(|&n| n.saturating_mul(SHORTER) >= from)
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let words = |name: &str, size: Option<usize>| size.map(|size| format!("{name} from {size}"));
        let parts: Vec<String> =
            [words("forward", self.forward), words("back", self.back)].into_iter().flatten().collect();
        f.write_str(&if parts.is_empty() { "never".to_owned() } else { parts.join(" and ") })
    }
}

/// What a card has of its maker's library.
#[derive(Default)]
pub(super) struct Library {
    /// Where one lies that passed its trial.
    offered: Option<PathBuf>,
    used: Option<Used>,
    /// Why it is not used any more.
    stopped: Option<String>,
    /// From which sizes on, where nobody says otherwise.
    choice: Choice,
}

struct Used {
    lt: Lt,
    workspace: u64,
}

impl Driver {
    fn library_state(&self) -> MutexGuard<'_, Library> {
        // Its content is whole between any two calls.
        self.library.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The library at `path` passed its trial: use it as far as `choice` says, and keep it for a run that was begun with it.
    pub fn use_library(&self, path: &Path, choice: Choice) -> Result<()> {
        self.close_library();
        *self.library_state() = Library { offered: Some(path.to_owned()), choice, ..Library::default() };
        if choice.is_any() { self.open_offered() } else { Ok(()) }
    }

    /// Open what was offered.
    pub(super) fn open_offered(&self) -> Result<()> {
        let mut state = self.library_state();
        let Some(path) = state.offered.clone().filter(|_| state.used.is_none()) else { return Ok(()) };
        self.bind()?;
        let workspace = Self::take_apart(WORKSPACE)?;
        match Lt::open(&path, workspace) {
            Ok(lt) => {
                state.used = Some(Used { lt, workspace });
                Ok(())
            }
            Err(e) => {
                self.give_apart(workspace);
                Err(e)
            }
        }
    }

    /// Give it back.
    pub(super) fn close_library(&self) {
        let used = self.library_state().used.take();
        if let Some(used) = used {
            if self.bind().is_ok() {
                let _unstarted = self.run_launched();
            }
            self.end_library(used);
        }
    }

    fn end_library(&self, Used { lt, workspace }: Used) {
        // It may still work there: giving memory back waits for that.
        self.give_apart(workspace);
        drop(lt);
    }

    /// Bytes of the card that it has to work in.
    pub(super) fn library_bytes(&self) -> usize {
        if self.library_state().used.is_some() { WORKSPACE } else { 0 }
    }

    /// Its version, while it is open, and from which sizes on it is used.
    pub(super) fn library_in_use(&self) -> Option<(String, Choice)> {
        let state = self.library_state();
        state.used.as_ref().map(|used| (used.lt.version(), state.choice))
    }

    /// The same as words.
    pub fn library_words(&self) -> Option<String> {
        let (version, choice) = self.library_in_use().filter(|(_, choice)| choice.is_any())?;
        Some(format!("{NAME}{version} {choice}"))
    }

    /// Why it was given up while it was used.
    pub fn library_stopped(&self) -> Option<String> {
        self.library_state().stopped.clone()
    }

    pub(super) fn multiply_by_library(&self, dense: &Dense) -> Result<bool> {
        self.bind()?;
        self.run_launched()?;
        let mut state = self.library_state();
        let Some(used) = &mut state.used else { return Ok(false) };
        used.lt.multiply(dense).or_else(|e| {
            // Our kernels do this product, and all others from here on.
            state.stopped = Some(e.to_string());
            let used = state.used.take();
            drop(state);
            if let Some(used) = used {
                self.end_library(used);
            }
            Ok(false)
        })
    }
}

impl<D: Device> Cuda<D> {
    /// How a fingerprint names the library; empty where none multiplies.
    pub(super) fn library_mark(&self) -> String {
        let version = self.device.library().map(|(version, _)| version).filter(|_| self.library.is_any());
        version.map_or_else(String::new, |version| format!(", {NAME}{version} {}", self.library))
    }

    /// The same with the products that a run of this fingerprint was begun with, as far as they are there: the same
    /// sizes go to the library, and to the kernels of compute capability 9.0, as went there then.
    #[must_use]
    pub fn as_begun(self, fingerprint: &str) -> Self {
        let wgmma = self.wgmma && fingerprint.contains(super::wgmma::MARK);
        let Some((version, choice)) = Choice::recorded(fingerprint) else {
            return Self { library: Choice::default(), wgmma, ..self };
        };
        // What cannot be opened is missing in the fingerprint, which is compared.
        let is_same = self.device.open_library().is_ok_and(|now| now.as_deref() == Some(version));
        Self { library: if is_same { choice } else { self.library }, wgmma, ..self }
    }

    /// A product without a bias where the library does it; otherwise `None`, and nothing is done.
    pub(super) fn product_by_library(
        &self,
        y: Place,
        (a, b): (&Packed<D>, &Packed<D>),
        more: Option<&More<D>>,
        [m, n, k]: [usize; 3],
        alpha: f32,
        write: Write,
    ) -> Option<Result<()>> {
        let shape = DenseShape {
            sizes: [m, n, k.next_multiple_of(DEPTH)],
            strides: [y.stride, a.stride, b.stride],
            by_step: b.by_step,
            is_narrow: y.is_narrow,
        };
        if !y.is_wide() || !self.library.suits(&shape) {
            return None;
        }
        Some((|| {
            let mut write = write;
            if let Some(More { a, b, steps }) = more {
                self.own_product_bf16(y, (a, b), None, None, [m, n, *steps], alpha, write)?;
                write = Write::Add;
            }
            let (y_at, a_at, b_at) = (y.address, a.address, b.address);
            let dense = Dense { y: y_at, a: a_at, b: b_at, shape, alpha, add: write == Write::Add };
            if self.device.multiply(&dense)? {
                return Ok(());
            }
            self.own_product_bf16(y, (a, b), None, None, [m, n, k], alpha, write)
        })())
    }
}

/// A product as a training step has it: factors in bfloat16, an adapter beside them.
struct Sample<D: Device> {
    left: Packed<D>,
    right: Packed<D>,
    more: More<D>,
    y: Memory<D>,
    stride: usize,
    shape: [usize; 3],
    _sources: [Memory<D>; 4],
}

impl<D: Device> Sample<D> {
    fn new(be: &Cuda<D>, shape: [usize; 3], by_step: bool, is_narrow: bool) -> Result<Self> {
        const OP: &str = "selftest";
        let [m, n, k] = shape;
        let noise = |stream, count: usize| {
            // A few thousand numbers over and over: a card does not see that they repeat.
            let some = memory::to_bytes(&numbers(stream, count.min(4099)));
            let bytes: Vec<u8> = some.iter().copied().cycle().take(4 * count).collect();
            Memory::holding(&be.device, OP, &bytes)
        };
        let [a, b, more_a, more_b] = [noise(1, m * k)?, noise(2, n * k)?, noise(3, m * RANK)?, noise(4, n * RANK)?];
        let right = |memory: &Memory<D>, steps| {
            let cols = if by_step { n } else { steps };
            let at = Place::single(memory.address(), cols);
            be.packed_right(if by_step { Side::columns(at) } else { Side::rows(at) }, n, steps)
        };
        let left =
            |memory: &Memory<D>, steps| be.packed_left(Side::rows(Place::single(memory.address(), steps)), m, steps);
        let more = More { a: left(&more_a, RANK)?, b: right(&more_b, RANK)?, steps: RANK };
        let (left, right, stride) = (left(&a, k)?, right(&b, k)?, n.next_multiple_of(8) + 8);
        let y = Memory::uninit(&be.device, OP, m * stride, if is_narrow { 2 } else { 4 })?;
        Ok(Self { left, right, more, y, stride, shape, _sources: [a, b, more_a, more_b] })
    }

    fn run(&self, be: &Cuda<D>, write: Write) -> Result<()> {
        let at = Place { address: self.y.address(), stride: self.stride, is_narrow: self.y.is_narrow() };
        be.product_bf16(at, (&self.left, &self.right), Some(&self.more), None, self.shape, 0.75, write)
    }

    /// What it makes of a matrix full of halves, with what lies behind its columns.
    fn result(&self, be: &Cuda<D>, write: Write) -> Result<Vec<f32>> {
        let halves = vec![0.5; self.shape[0] * self.stride];
        let is_narrow = self.y.is_narrow();
        self.y.write(&if is_narrow { memory::to_bf16_bytes(&halves) } else { memory::to_bytes(&halves) })?;
        self.run(be, write)?;
        let bytes = self.y.read()?;
        Ok(if is_narrow { memory::from_bf16_bytes(&bytes) } else { memory::to_f32(&bytes) })
    }

    /// Seconds that it takes.
    fn seconds(&self, be: &Cuda<D>) -> Result<f64> {
        let timed = |times: usize| -> Result<f64> {
            let start = Instant::now();
            (0..times).try_for_each(|_| self.run(be, Write::Set))?;
            // Waits for everything before.
            be.device.download(&mut [0; 4], self.y.address())?;
            Ok(start.elapsed().as_secs_f64() / times as f64)
        };
        timed(1)?;
        let times = if timed(1)? < LONG / 4.0 { TOGETHER } else { 1 };
        let mut all = (0..TIMES).map(|_| timed(times)).collect::<Result<Vec<f64>>>()?;
        all.sort_by(f64::total_cmp);
        Ok(all[TIMES / 2])
    }
}

impl Cuda<Driver> {
    /// Compare the library at `path` with the kernels here, then measure both. An error says why it is not to be used.
    pub fn try_library(&self, path: &Path) -> Result<Vec<Measured>> {
        let always = Choice { forward: Some(1), back: Some(1) };
        self.device.use_library(path, always)?;
        let ours = Self { library: Choice::default(), ..self.clone().with_precision(Precision::Bf16) };
        let theirs = Self { library: always, ..ours.clone() };
        let is_used = || self.device.library_stopped().map_or(Ok(()), |reason| Err(unavailable(reason)));
        let tried = compare(&ours, &theirs).and_then(|()| is_used()).and_then(|()| measure(&ours, &theirs));
        let tried = tried.and_then(|measured| is_used().map(|()| measured));
        self.device.close_library();
        tried
    }
}

/// An error where the two do not compute the same.
fn compare<D: Device>(ours: &Cuda<D>, theirs: &Cuda<D>) -> Result<()> {
    for shape in SHAPES {
        for (by_step, is_narrow) in [(false, false), (false, true), (true, false), (true, true)] {
            let sample = Sample::new(ours, shape, by_step, is_narrow)?;
            let write = if is_narrow { Write::Set } else { Write::Add };
            let (want, got) = (sample.result(ours, write)?, sample.result(theirs, write)?);
            let again = sample.result(theirs, write)?;
            let behind = |all: &[f32]| {
                all.chunks(sample.stride).flat_map(|row| &row[shape[1]..]).all(|x| x.to_bits() == 0.5_f32.to_bits())
            };
            if !behind(&got) {
                return Err(unavailable(format!("its product of {shape:?} writes behind its columns")));
            }
            let square = |x: f32| f64::from(x) * f64::from(x);
            let error: f64 = want.iter().zip(&got).map(|(&want, &got)| square(want - got)).sum();
            let error = error / want.iter().map(|&x| square(x)).sum::<f64>();
            let tolerance = if is_narrow { TOLERANCE_OF_NARROW } else { TOLERANCE };
            // What is no number is no small error, either.
            if error.is_nan() || error > tolerance {
                return Err(unavailable(format!("its product of {shape:?} has an error of {error:.1e}")));
            }
            if got.iter().zip(&again).any(|(a, b)| a.to_bits() != b.to_bits()) {
                return Err(unavailable(format!("its product of {shape:?} has other bits the second time")));
            }
        }
    }
    Ok(())
}

/// Both, in both directions, as large as time and memory allow.
fn measure<D: Device>(ours: &Cuda<D>, theirs: &Cuda<D>) -> Result<Vec<Measured>> {
    let mut all = Vec::new();
    for by_step in [false, true] {
        let (mut size, mut found) = (SIZES.0, Vec::new());
        while size <= SIZES.1 {
            let sample = match Sample::new(ours, [size; 3], by_step, true) {
                Err(Error::OutOfMemory { .. }) if !found.is_empty() => break,
                other => other?,
            };
            let (ours, theirs) = (sample.seconds(ours)?, sample.seconds(theirs)?);
            found.push(Measured { size, by_step, ours, theirs });
            if ours > LONG {
                break;
            }
            size *= 2;
        }
        let telling = found.iter().filter(|m| m.size >= TELLING).count().max(1);
        all.extend(found.split_off(found.len() - telling.min(found.len())));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(size: usize, by_step: bool, ours: f64, theirs: f64) -> Measured {
        Measured { size, by_step, ours, theirs }
    }

    fn shape(sizes: [usize; 3], by_step: bool) -> DenseShape {
        DenseShape { sizes, strides: [sizes[1]; 3], by_step, is_narrow: true }
    }

    #[test]
    fn it_is_used_from_the_size_on_from_which_it_is_always_faster() {
        let list = [
            measured(4096, false, 1.0, 0.5),
            measured(1024, false, 1.0, 0.99),
            measured(2048, false, 1.0, 0.9),
            measured(1024, true, 1.0, 0.5),
            measured(2048, true, 1.0, 1.2),
            measured(4096, true, 1.0, 0.9),
        ];
        let choice = Choice::of(&list);
        assert_eq!(choice, Choice { forward: Some(2048), back: Some(4096) });
        for (sizes, by_step, wanted) in [
            ([1024, 1024, 1024], false, false),
            ([2048, 2048, 2048], false, true),
            ([8192, 4096, 4096], false, true),
            ([1024, 1024, 1024], true, false),
            ([4095, 4096, 4096], true, true),
            ([4000, 4096, 4096], true, false),
            ([100_000, 4096, 128], false, false),
        ] {
            assert_eq!(choice.suits(&shape(sizes, by_step)), wanted, "{sizes:?} {by_step}");
        }
        assert!(!Choice::of(&[]).is_any() && !Choice::of(&list[4..5]).is_any());
        assert!(!Choice::default().suits(&shape([4096; 3], false)));
    }

    #[test]
    fn a_fingerprint_says_what_was_chosen() {
        for (forward, back) in [(Some(1024), Some(2048)), (None, Some(64)), (Some(4096), None)] {
            let choice = Choice { forward, back };
            let fingerprint = format!("cuda, a card, 9.0, Bf16, {NAME}12.4.5 {choice}, wgmma");
            assert_eq!(Choice::recorded(&fingerprint), Some(("12.4.5", choice)), "{fingerprint}");
        }
        assert_eq!(Choice::recorded("cuda, a card from 1999, 9.0, Bf16, wgmma"), None);
    }
}
