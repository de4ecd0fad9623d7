//! A processor as a device: with which threads and kernels, and what products of it round.

use super::Cpu;
use super::factors::Factors;
use super::interleaved::{Interleaved, is_interleaved_for};
use super::packed::{Held, Packed, is_packed_for};
use super::path::{self, Path};
use super::pool::Pool;
use crate::error::{Error, Result};
use crate::weight::FrozenWeight;
use std::sync::Arc;

/// Changes when the arithmetic of the kernels does, and with it the last bits of results.
const KERNELS: u32 = 8;

impl Cpu {
    /// `threads` threads on the best path of this processor.
    pub fn new(threads: usize) -> Result<Self> {
        Self::with_path(threads, Path::best())
    }

    /// `threads` threads on this path; [`Error::Unavailable`] where the processor lacks what it needs.
    pub fn with_path(threads: usize, path: Path) -> Result<Self> {
        let isa = path.isa().ok_or_else(|| Error::Unavailable {
            reason: format!("this processor cannot run the {} kernels", path.name()),
        })?;
        Ok(Self {
            pool: Arc::new(Pool::new(threads)?),
            path,
            isa,
            factors: Factors::F32,
            eight_bit_rows: false,
            eight_bit_cache: false,
        })
    }

    /// The same threads, with the factors of large products rounded to this. At first they are not rounded.
    #[must_use]
    pub fn with_factors(&self, factors: Factors) -> Self {
        Self { factors, ..self.clone() }
    }

    /// The same threads, with products of up to sixteen rows with quantised weights in whole numbers: the rows are
    /// rounded to eight bits. So are any number of rows where [`Backend::packed_weight`](crate::Backend::packed_weight)
    /// lays a weight out for that. For writing answers; nothing is learned through such a product.
    #[must_use]
    pub fn with_eight_bit_rows(&self, eight_bit_rows: bool) -> Self {
        Self { eight_bit_rows, ..self.clone() }
    }

    /// Whether a weight is read eight rows side by side: where products with it are in whole numbers anyway.
    pub(super) fn interleaves(&self, w: &FrozenWeight) -> bool {
        self.eight_bit_rows && is_interleaved_for(self.isa, w)
    }

    /// `w` in the form that products read.
    pub(super) fn held(&self, w: FrozenWeight) -> Result<Held> {
        if self.interleaves(&w) {
            return Interleaved::new(&self.pool, self.isa, &w).map(Held::Interleaved);
        }
        let is_packed = is_packed_for(self.kernel(), &w);
        if is_packed { Packed::new(&self.pool, self.isa, &w).map(Held::Packed) } else { Ok(Held::Stored(w)) }
    }

    /// All that the last bits of results depend on.
    pub(super) fn arithmetic(&self) -> String {
        let path = self.path.for_factors(self.factors).name();
        let factors = match self.factors {
            Factors::F32 => String::new(),
            rounded @ Factors::Bf16 => format!(" factors={0} kept={0}", rounded.name()),
        };
        let rows = if self.eight_bit_rows { " rows=int8" } else { "" };
        format!("cpu {path} threads={} kernels={KERNELS}{factors}{rows}", self.pool.count())
    }

    /// What the factors of large products are rounded to.
    pub fn factors(&self) -> Factors {
        self.factors
    }

    /// The vector features of this processor that matter here.
    pub fn features() -> Vec<&'static str> {
        path::features()
    }

    /// Why the unit of this processor that multiplies tiles of bf16 is not used; `None` where it is, or there is none.
    pub fn unused_tiles() -> Option<&'static str> {
        path::unused_tiles()
    }

    /// The kernels in use.
    pub fn path(&self) -> Path {
        self.path
    }

    /// Whether keys and values of a cache are kept in eight bits.
    pub fn has_eight_bit_cache(&self) -> bool {
        self.eight_bit_cache
    }

    /// Bytes of the memory that operations borrow, panels above all; it is kept for the next one.
    pub fn scratch_bytes(&self) -> usize {
        self.pool.kept_bytes()
    }

    /// Threads in use.
    pub fn threads(&self) -> usize {
        self.pool.count()
    }
}
