//! Memory of this process and this machine; what is measured lives with the jobs.

pub use crate::jobs::memory::{memory_reading, peak_memory, total_memory};
