//! Numbers that leave a device while it computes and come back before they are needed: memory of the computer, and
//! copies that run beside everything else.
//!
//! Whoever uses it says between which of its calls a copy may run: what was launched before [`Aside::put`] is in the
//! copy, and what is launched after [`Aside::arrive`] finds it. Nothing else is promised, and nothing else waits.

use crate::backend::Backend;
use crate::error::Result;
use crate::tensor::Tensor;

/// Slabs of the computer's memory that a device copies to and from.
pub trait Aside<B: Backend>: Send + Sync {
    /// Copy `x` to a slab, as everything launched so far leaves it. `x` is not written before [`Aside::reuse`].
    fn put(&self, slab: usize, x: &Tensor<B>) -> Result<()>;
    /// What is launched from here on may overwrite what `put` copies to this slab.
    fn reuse(&self, slab: usize) -> Result<()>;
    /// Copy a slab to `y`, once everything launched so far has ended. `y` is not used before [`Aside::arrive`].
    fn fetch(&self, slab: usize, y: &mut Tensor<B>) -> Result<()>;
    /// What is launched from here on finds what `fetch` copies from this slab.
    fn arrive(&self, slab: usize) -> Result<()>;
    /// What is launched from here on comes after every copy.
    fn join(&self) -> Result<()>;
    /// The first `count` numbers of a slab, after every copy.
    fn read(&self, slab: usize, count: usize) -> Result<Vec<f32>>;
}
