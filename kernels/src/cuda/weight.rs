//! Frozen weights on the device: as stored, decoded by the device when they are used.
//!
//! Blocks of GGUF files are the exception: they are decoded on the processor when they arrive, and take the room of f32.

use super::call::{Call, Place};
use super::device::{Device, Lanes};
use super::few::{self, DenseRows, FewRows};
use super::memory::Memory;
use crate::error::Result;
use crate::quant;
use crate::quant::decode::code_table;
use crate::weight::{Absmax, DType, FourBit, FrozenWeight};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Words of eight codes that a thread of `decode_four_bit_bf16` has at once.
const FLIGHT: usize = 4;

/// What a weight has decoded.
type Held<D> = Arc<Mutex<Option<Arc<Memory<D>>>>>;

/// A frozen weight.
pub struct CudaWeight<D: Device> {
    /// No other weight of this process has it.
    id: u64,
    stored: Arc<Stored<D>>,
    /// All of it in bfloat16, with zeros around, where there is room for that besides.
    held: Held<D>,
    rows: usize,
    cols: usize,
}

/// The number of the next weight: one tells its panels from others of the same shape.
static MADE: AtomicU64 = AtomicU64::new(0);

impl<D: Device> Clone for CudaWeight<D> {
    fn clone(&self) -> Self {
        Self { stored: Arc::clone(&self.stored), held: Arc::clone(&self.held), ..*self }
    }
}

/// A weight that may be gone when it is asked for.
pub(super) struct WeakWeight<D: Device> {
    id: u64,
    stored: Weak<Stored<D>>,
    held: Held<D>,
    rows: usize,
    cols: usize,
}

impl<D: Device> Clone for WeakWeight<D> {
    fn clone(&self) -> Self {
        Self { stored: Weak::clone(&self.stored), held: Arc::clone(&self.held), ..*self }
    }
}

impl<D: Device> WeakWeight<D> {
    /// The weight, if somebody still has it.
    pub(super) fn upgrade(&self) -> Option<CudaWeight<D>> {
        let &Self { id, rows, cols, .. } = self;
        Some(CudaWeight { id, stored: self.stored.upgrade()?, held: Arc::clone(&self.held), rows, cols })
    }
}

enum Stored<D: Device> {
    Dense { words: Memory<D>, dtype: DType },
    FourBit(Codes<D>),
}

struct Codes<D: Device> {
    /// Two to a byte.
    packed: Memory<D>,
    /// The 16 values.
    table: Memory<D>,
    /// A scale for a block, or one for a group of them.
    scales: Memory<D>,
    nested: Option<Nested<D>>,
    block: usize,
    low_first: bool,
    rounding: DType,
}

struct Nested<D: Device> {
    codes: Memory<D>,
    map: Memory<D>,
    offset: f32,
    group: usize,
}

/// Which rows of a weight, and what multiplies them.
struct Rows<'a, D: Device> {
    chosen: Option<&'a Memory<D>>,
    first: usize,
    count: usize,
    scale: f32,
}

/// A type as `weights.cu` counts them.
pub(super) fn number_of(dtype: DType) -> u32 {
    match dtype {
        DType::F32 => 0,
        DType::F16 => 1,
        DType::BF16 => 2,
    }
}

impl<D: Device> CudaWeight<D> {
    /// Take `w` to the device.
    pub(super) fn new(device: &Arc<D>, w: &FrozenWeight) -> Result<Self> {
        const OP: &str = "weight";
        w.check()?;
        let (rows, cols) = w.shape();
        let stored = match w {
            FrozenWeight::Dense { bytes, dtype, .. } => {
                Stored::Dense { words: Memory::holding(device, OP, bytes.as_slice())?, dtype: *dtype }
            }
            FrozenWeight::FourBit(w) => Stored::FourBit(Codes::new(device, w)?),
            FrozenWeight::Blocks { .. } => {
                let mut numbers = crate::host::zeros(OP, rows, cols)?;
                quant::decode(w, 0, &mut numbers);
                Stored::Dense { words: Memory::of(device, OP, &numbers)?, dtype: DType::F32 }
            }
        };
        let id = MADE.fetch_add(1, Ordering::Relaxed);
        Ok(Self { id, stored: Arc::new(stored), held: Arc::default(), rows, cols })
    }

    /// All of it in bfloat16, if that is there.
    pub(super) fn held(&self) -> Option<Arc<Memory<D>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// No other weight has this number.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Whether it is 4-bit codes that one kernel decodes.
    pub(super) fn is_coded(&self) -> bool {
        matches!(&*self.stored, Stored::FourBit(w) if self.is_by_eight(w.block))
    }

    /// The same without holding it. What it has decoded does not hold it either.
    pub(super) fn downgrade(&self) -> WeakWeight<D> {
        let &Self { id, rows, cols, .. } = self;
        WeakWeight { id, stored: Arc::downgrade(&self.stored), held: Arc::clone(&self.held), rows, cols }
    }

    /// Use this instead of decoding, or decode again.
    pub(super) fn set_held(&self, decoded: Option<Memory<D>>) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = decoded.map(Arc::new);
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn cols(&self) -> usize {
        self.cols
    }

    /// Rows `first..first + count` as f32.
    pub(super) fn decode(&self, device: &Arc<D>, to: Place, first: usize, count: usize) -> Result<()> {
        self.run(device, to, &Rows { chosen: None, first, count, scale: 1.0 })
    }

    /// `rows` = the first and how many, in bfloat16, as `padded` rows and columns with zeros around. `beside`: beside what
    /// is computed, of a weight that [`CudaWeight::is_coded`].
    pub(super) fn decode_bf16(
        &self,
        device: &Arc<D>,
        to: u64,
        (first, count): (usize, usize),
        padded: (usize, usize),
        beside: Option<&dyn Lanes>,
    ) -> Result<()> {
        let sizes = [first, count, self.cols, padded.0, padded.1];
        match &*self.stored {
            Stored::Dense { words, dtype } => {
                let call = Call::new(&**device, "decode_dense_bf16").address(to).memory(words);
                call.sizes(sizes).word(number_of(*dtype)).elements(padded.0 * padded.1)
            }
            Stored::FourBit(w) if self.is_by_eight(w.block) => {
                let call = w.parts(Call::new(&**device, "decode_four_bit_bf16").beside(beside).address(to));
                call.sizes(sizes).elements((padded.0 * padded.1 / 8).div_ceil(FLIGHT))
            }
            Stored::FourBit(w) => {
                // Odd shapes go through f32.
                let plain = Memory::uninit(device, "linear", count.saturating_mul(self.cols), size_of::<f32>())?;
                let at = Place::single(plain.address(), self.cols);
                w.decode(device, at, &Rows { chosen: None, first, count, scale: 1.0 }, self.cols)?;
                let call = Call::new(&**device, "pack_bf16").address(to).either(&at);
                call.sizes([count, self.cols, padded.0, padded.1]).number(1.0).pieces(padded.0, padded.1)
            }
        }
    }

    /// `scale` times the `count` rows whose numbers (u32) lie at `chosen`.
    pub(super) fn look_up(
        &self,
        device: &Arc<D>,
        to: Place,
        chosen: &Memory<D>,
        count: usize,
        scale: f32,
    ) -> Result<()> {
        self.run(device, to, &Rows { chosen: Some(chosen), first: 0, count, scale })
    }

    /// A product of few rows without decoding the weight first, exactly as it is stored or with its numbers not rounded;
    /// `None` where there is no such kernel.
    pub(super) fn times_few(&self, device: &Arc<D>, few: &FewRows, is_exact: bool) -> Option<Result<()>> {
        if !few.fits() {
            return None;
        }
        match &*self.stored {
            Stored::Dense { words, dtype } => {
                let rows = DenseRows { address: words.address(), stride: self.cols, kind: number_of(*dtype) };
                Some(few::dense(&**device, few, rows, 1.0))
            }
            Stored::FourBit(w) if self.is_by_eight(w.block) => {
                let names = ["gemv_four_bit_1", "gemv_four_bit_2", "gemv_four_bit_4", "gemv_four_bit_8"];
                let call = w.parts(Call::new(&**device, few.kernel(names)).either(&few.y).either(&few.x));
                let call = call.address(few.bias.unwrap_or(0)).word(few.rows as u32).sizes([self.rows, self.cols]);
                let call = call.word(few.share() as u32);
                let call = call.flag(is_exact && w.rounding != DType::F32);
                Some(few.run(call.flag(few.bias.is_some()).write(few.write)))
            }
            Stored::FourBit(_) => None,
        }
    }

    /// Whether rows and blocks of 4-bit codes are whole words of eight, and 32 bits count them.
    fn is_by_eight(&self, block: usize) -> bool {
        let words = self.rows.saturating_mul(self.cols) / 8;
        self.cols.is_multiple_of(8) && block.is_multiple_of(8) && u32::try_from(words).is_ok()
    }

    fn run(&self, device: &Arc<D>, to: Place, rows: &Rows<D>) -> Result<()> {
        match &*self.stored {
            Stored::Dense { words, dtype } => decode_dense(device, to, words.address(), *dtype, rows, self.cols),
            Stored::FourBit(w) => w.decode(device, to, rows, self.cols),
        }
    }
}

/// Rows of a dense tensor of `cols` columns at `from`, as [`CudaWeight::look_up`].
pub(super) fn look_up_dense<D: Device>(
    device: &Arc<D>,
    to: Place,
    from: Place,
    chosen: &Memory<D>,
    count: usize,
    scale: f32,
) -> Result<()> {
    let rows = Rows { chosen: Some(chosen), first: 0, count, scale };
    let dtype = if from.is_narrow { DType::BF16 } else { DType::F32 };
    decode_dense(device, to, from.address, dtype, &rows, from.stride)
}

fn decode_dense<D: Device>(
    device: &Arc<D>,
    to: Place,
    words: u64,
    dtype: DType,
    rows: &Rows<D>,
    cols: usize,
) -> Result<()> {
    let call = Call::new(&**device, "decode_dense").window(&to).address(words).maybe(rows.chosen);
    let call = call.flag(rows.chosen.is_some()).sizes([rows.first, rows.count, cols]);
    call.word(number_of(dtype)).number(rows.scale).elements(rows.count * cols)
}

impl<D: Device> Codes<D> {
    fn new(device: &Arc<D>, w: &FourBit) -> Result<Self> {
        const OP: &str = "weight";
        let (scales, nested) = match &w.absmax {
            Absmax::Plain(scales) => (scales, None),
            Absmax::Nested { codes, map, scales, offset, group } => {
                let codes = Memory::holding(device, OP, codes.as_slice())?;
                let map = Memory::of(device, OP, map.as_slice())?;
                // One scale for all blocks is a group without end, which a kernel's index must hold.
                let group = (*group).min(isize::MAX as usize);
                (scales, Some(Nested { codes, map, offset: *offset, group }))
            }
        };
        Ok(Self {
            packed: Memory::holding(device, OP, w.codes.as_slice())?,
            table: Memory::of(device, OP, code_table(w.kind))?,
            scales: Memory::of(device, OP, scales.as_slice())?,
            nested,
            block: w.block,
            low_first: w.kind.low_half_first(),
            rounding: w.rounding,
        })
    }

    /// The parameters of all kernels that read 4-bit codes, in their order.
    fn parts<'a>(&self, call: Call<'a, D>) -> Call<'a, D> {
        let nested = self.nested.as_ref();
        let call = call.memory(&self.packed).memory(&self.table).memory(&self.scales);
        let call = call.maybe(nested.map(|n| &n.codes)).maybe(nested.map(|n| &n.map));
        let call = call.number(nested.map_or(0.0, |n| n.offset));
        let call = call.sizes([self.block, nested.map_or(1, |n| n.group)]).flag(nested.is_some());
        call.flag(self.low_first).word(number_of(self.rounding))
    }

    fn decode(&self, device: &Arc<D>, to: Place, rows: &Rows<D>, cols: usize) -> Result<()> {
        let call = self.parts(Call::new(&**device, "decode_four_bit").window(&to)).maybe(rows.chosen);
        let call = call.flag(rows.chosen.is_some()).sizes([rows.first, rows.count, cols]);
        call.number(rows.scale).elements(rows.count * cols)
    }
}
