//! What can go wrong in a kernel: shapes that do not fit, memory that is not there, a lost device.

/// `Result` with an [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed operation.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Operands whose shapes do not go together: a bug of the caller, never of the user.
    #[error("{op}: {what}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// Which operand, and both shapes.
        what: String,
    },
    /// The device (or the budget given to it) has no room for an allocation.
    #[error("{op}: no memory for {bytes} bytes")]
    OutOfMemory {
        /// The operation that asked.
        op: &'static str,
        /// How much it asked for.
        bytes: usize,
    },
    /// A weight whose stored parts contradict each other.
    #[error("damaged weight: {what}")]
    Weight {
        /// What does not fit.
        what: String,
    },
    /// The device cannot be used.
    #[error("{reason}")]
    Unavailable {
        /// Why, in words for a person.
        reason: String,
    },
    /// The driver of the device is older than the kernels need.
    #[error("{reason}")]
    OldDriver {
        /// What it lacks.
        reason: String,
    },
    /// The device is older than the kernels need.
    #[error("{reason}")]
    OldCard {
        /// Which, and what is needed.
        reason: String,
    },
    /// The device stopped in the middle of its work.
    #[error("{reason}")]
    Lost {
        /// What it did last, in the driver's words.
        reason: String,
    },
}

impl Error {
    /// A shape error of `op`.
    pub fn shape(op: &'static str, what: impl Into<String>) -> Self {
        Self::Shape { op, what: what.into() }
    }
}
