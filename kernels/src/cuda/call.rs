//! One launch, put together argument by argument in the order of the kernel's parameters.

use super::device::{Arg, Device, Lane, Lanes};
use super::memory::Memory;
use super::{Cuda, THREADS};
use crate::backend::Write;
use crate::error::{Error, Result};
use crate::tensor::{In, Out, Tensor, Window};

/// Blocks beyond this many go round again: kernels of elements stride over the grid.
const MOST_BLOCKS: usize = 1 << 16;

/// A window's first element, the distance of its rows in elements, and whether these are bfloat16 instead of f32.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) address: u64,
    pub(super) stride: usize,
    pub(super) is_narrow: bool,
}

impl Place {
    /// Rows of f32.
    pub(super) fn single(address: u64, stride: usize) -> Self {
        Self { address, stride, is_narrow: false }
    }

    /// Rows of bfloat16.
    pub(super) fn narrow(address: u64, stride: usize) -> Self {
        Self { address, stride, is_narrow: true }
    }

    fn of<D: Device>(buf: &Memory<D>, stride: usize, at: &Window) -> Self {
        let all = Self { address: buf.address(), stride, is_narrow: buf.is_narrow() };
        all.at_row(at.row).at_col(at.col)
    }

    /// Bytes of an element.
    fn width(self) -> usize {
        if self.is_narrow { 2 } else { 4 }
    }

    /// Whether all rows begin at a multiple of 16 bytes.
    pub(super) fn is_wide(self) -> bool {
        self.address.is_multiple_of(16) && (self.stride * self.width()).is_multiple_of(16)
    }

    /// From another column on.
    pub(super) fn at_col(self, col: usize) -> Self {
        Self { address: self.address + (self.width() * col) as u64, ..self }
    }

    /// From another row on.
    pub(super) fn at_row(self, row: usize) -> Self {
        Self { address: self.address + (self.width() * row * self.stride) as u64, ..self }
    }
}

/// The address of f32 number `index` of memory at `base`.
pub(super) fn element(base: u64, index: usize) -> u64 {
    base + 4 * index as u64
}

/// Anything that lies in the device's memory row by row.
pub(super) trait Placed {
    fn place(&self) -> Place;
}

impl<D: Device> Placed for In<'_, Cuda<D>> {
    fn place(&self) -> Place {
        Place::of(&self.tensor.buf, self.tensor.cols(), &self.at)
    }
}

impl<D: Device> Placed for Out<'_, Cuda<D>> {
    fn place(&self) -> Place {
        Place::of(&self.tensor.buf, self.tensor.cols(), &self.at)
    }
}

impl<D: Device> Placed for Tensor<Cuda<D>> {
    fn place(&self) -> Place {
        Place { address: self.buf.address(), stride: self.cols(), is_narrow: self.buf.is_narrow() }
    }
}

impl Placed for Place {
    fn place(&self) -> Place {
        *self
    }
}

/// A launch that is being put together.
pub(super) struct Call<'a, D: Device> {
    device: &'a D,
    kernel: &'static str,
    args: Vec<Arg>,
    /// A number in bfloat16 was given to a kernel that reads f32.
    is_refused: bool,
    /// It runs beside what is computed.
    beside: Option<&'a dyn Lanes>,
}

impl<'a, D: Device> Call<'a, D> {
    pub(super) fn new(device: &'a D, kernel: &'static str) -> Self {
        Self { device, kernel, args: Vec::with_capacity(24), is_refused: false, beside: None }
    }

    /// Run it in [`Lane::Ahead`] of these, if there are any.
    pub(super) fn beside(self, lanes: Option<&'a dyn Lanes>) -> Self {
        Self { beside: lanes, ..self }
    }

    fn arg(mut self, arg: Arg) -> Self {
        self.args.push(arg);
        self
    }

    /// Address and distance of the rows, of f32.
    pub(super) fn window(self, x: &impl Placed) -> Self {
        let stride = x.place().stride;
        self.whole(x).size(stride)
    }

    /// The same of f32 or bfloat16, and which of the two.
    pub(super) fn either(self, x: &impl Placed) -> Self {
        let Place { address, stride, is_narrow } = x.place();
        self.address(address).size(stride).flag(is_narrow)
    }

    /// As [`Call::either`], of nothing.
    pub(super) fn neither(self) -> Self {
        self.address(0).size(0).flag(false)
    }

    /// Address and distance of rows of bfloat16.
    pub(super) fn packed(self, x: Place) -> Self {
        let is_refused = self.is_refused || !x.is_narrow;
        Self { is_refused, ..self }.address(x.address).size(x.stride)
    }

    /// The address of a whole matrix of f32.
    pub(super) fn whole(self, x: &impl Placed) -> Self {
        let Place { address, is_narrow, .. } = x.place();
        let is_refused = self.is_refused || is_narrow;
        Self { is_refused, ..self }.address(address)
    }

    pub(super) fn memory(self, memory: &Memory<D>) -> Self {
        self.address(memory.address())
    }

    /// Memory that may not be there.
    pub(super) fn maybe(self, memory: Option<&Memory<D>>) -> Self {
        self.address(memory.map_or(0, Memory::address))
    }

    pub(super) fn address(self, address: u64) -> Self {
        self.arg(Arg::Address(address))
    }

    pub(super) fn size(self, n: usize) -> Self {
        self.arg(Arg::Long(n as u64))
    }

    pub(super) fn sizes<const N: usize>(self, sizes: [usize; N]) -> Self {
        sizes.into_iter().fold(self, Self::size)
    }

    pub(super) fn long(self, n: u64) -> Self {
        self.arg(Arg::Long(n))
    }

    pub(super) fn word(self, n: u32) -> Self {
        self.arg(Arg::Word(n))
    }

    pub(super) fn flag(self, is: bool) -> Self {
        self.word(u32::from(is))
    }

    /// Whether to add.
    pub(super) fn write(self, write: Write) -> Self {
        self.flag(write == Write::Add)
    }

    pub(super) fn number(self, x: f32) -> Self {
        self.arg(Arg::Single(x))
    }

    pub(super) fn numbers<const N: usize>(self, numbers: [f32; N]) -> Self {
        numbers.into_iter().fold(self, Self::number)
    }

    /// Run with a thread for each of `n` elements; nothing where there is none.
    pub(super) fn elements(self, n: usize) -> Result<()> {
        self.blocks(n.div_ceil(THREADS as usize))
    }

    /// Run with a thread for every eight columns of a matrix.
    pub(super) fn pieces(self, rows: usize, cols: usize) -> Result<()> {
        self.elements(rows * cols.div_ceil(8))
    }

    /// Run with a block for each of `n` things, which go round again where there are very many.
    pub(super) fn blocks(self, n: usize) -> Result<()> {
        self.run(n.min(MOST_BLOCKS), THREADS)
    }

    /// Run with exactly so many blocks.
    pub(super) fn run(self, blocks: usize, threads: u32) -> Result<()> {
        if self.is_refused {
            return Err(Error::shape(self.kernel, "it reads other numbers than these: f32, or bfloat16".to_owned()));
        }
        if blocks == 0 {
            return Ok(());
        }
        let Some(blocks) = u32::try_from(blocks).ok().filter(|&n| i32::try_from(n).is_ok()) else {
            return Err(Error::shape(self.kernel, format!("{blocks} blocks are more than a launch can have")));
        };
        match self.beside {
            Some(lanes) => lanes.launch_in(Lane::Ahead, self.kernel, blocks, threads, &self.args),
            None => self.device.launch(self.kernel, blocks, threads, &self.args),
        }
    }
}
