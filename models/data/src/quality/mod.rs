//! How good each row is for training, with the reasons, and which rows of an evaluation a training set gives away.

mod contamination;
mod difference;
mod provenance;
mod score;

pub use contamination::{Leak, LeakKind, RowPlace, contamination};
pub use difference::{Change, Difference, difference};
pub use provenance::{Counted, Provenance, provenance};
pub use score::{REASONS, Reason, RowScore, language_of, reasons_of, score_rows};
