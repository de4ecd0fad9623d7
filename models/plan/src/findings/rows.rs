//! The loss of single rows: what the ledger holds.

use serde::{Deserialize, Serialize};

/// What one row of the dataset cost in one step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RowLoss {
    /// Which row: an index into the rows as read.
    pub row: u32,
    /// Its trained tokens.
    pub tokens: u32,
    /// Mean loss over them, nats.
    pub loss: f32,
}
