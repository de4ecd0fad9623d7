//! One launch, put together argument by argument in the order of the kernel's parameters.

use super::device::{Arg, Device};
use super::memory::Memory;
use super::{Cuda, THREADS};
use crate::backend::Write;
use crate::error::{Error, Result};
use crate::tensor::{In, Out, Tensor, Window};

/// Blocks beyond this many go round again: kernels of elements stride over the grid.
const MOST_BLOCKS: usize = 1 << 16;

/// A window's first element and the distance of its rows.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) address: u64,
    pub(super) stride: usize,
}

impl Place {
    fn of(base: u64, stride: usize, at: &Window) -> Self {
        Self { address: element(base, at.row * stride + at.col), stride }
    }

    /// Whether all rows begin at a multiple of 16 bytes.
    pub(super) fn is_wide(self) -> bool {
        self.address.is_multiple_of(16) && self.stride.is_multiple_of(4)
    }

    /// From another column on.
    pub(super) fn at_col(self, col: usize) -> Self {
        Self { address: element(self.address, col), ..self }
    }

    /// From another row on.
    pub(super) fn at_row(self, row: usize) -> Self {
        Self { address: element(self.address, row * self.stride), ..self }
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
        Place::of(self.tensor.buf.address(), self.tensor.cols(), &self.at)
    }
}

impl<D: Device> Placed for Out<'_, Cuda<D>> {
    fn place(&self) -> Place {
        Place::of(self.tensor.buf.address(), self.tensor.cols(), &self.at)
    }
}

impl<D: Device> Placed for Tensor<Cuda<D>> {
    fn place(&self) -> Place {
        Place { address: self.buf.address(), stride: self.cols() }
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
}

impl<'a, D: Device> Call<'a, D> {
    pub(super) fn new(device: &'a D, kernel: &'static str) -> Self {
        Self { device, kernel, args: Vec::with_capacity(20) }
    }

    fn arg(mut self, arg: Arg) -> Self {
        self.args.push(arg);
        self
    }

    /// Address and distance of the rows.
    pub(super) fn window(self, x: &impl Placed) -> Self {
        let Place { address, stride } = x.place();
        self.address(address).size(stride)
    }

    /// The address of a whole matrix.
    pub(super) fn whole(self, x: &impl Placed) -> Self {
        let address = x.place().address;
        self.address(address)
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

    /// Run with a block for each of `n` things, which go round again where there are very many.
    pub(super) fn blocks(self, n: usize) -> Result<()> {
        self.run(n.min(MOST_BLOCKS), THREADS)
    }

    /// Run with exactly so many blocks.
    pub(super) fn run(self, blocks: usize, threads: u32) -> Result<()> {
        if blocks == 0 {
            return Ok(());
        }
        let Some(blocks) = u32::try_from(blocks).ok().filter(|&n| i32::try_from(n).is_ok()) else {
            return Err(Error::shape(self.kernel, format!("{blocks} blocks are more than a launch can have")));
        };
        self.device.launch(self.kernel, blocks, threads, &self.args)
    }
}
