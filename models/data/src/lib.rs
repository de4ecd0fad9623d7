//! Files of any shape to conversations, with a quality report.
//!
//! A file passes through four stages, each a file or two here: bytes become UTF-8 text
//! (`source`, `encoding`), text becomes records (`container` and one reader per container),
//! records become [`peft_plan::Example`]s (`shape`, `import`, `turns`), and whole datasets are
//! split, inspected and converted. Nothing here knows about tokens or models.

mod bad_line;
mod bounded;
mod collect;
mod columns;
mod compressed;
mod container;
mod convert;
mod dataset;
mod delimited;
mod duplicates;
mod encoding;
mod fingerprint;
mod hub;
mod import;
mod inspect;
mod json_document;
mod json_lines;
mod language;
mod lines;
mod preference;
mod private_data;
mod prose;
mod quality;
mod read;
mod row_defects;
mod shape;
mod signature;
mod source;
mod split;
mod table;
mod text_copies;
mod text_file;
mod tools;
mod turns;

pub use bounded::{Bounded, next_record};
pub use convert::{ConvertOptions, ConvertReport, Target, convert};
pub use dataset::{Dataset, FileReport, Rejected, RejectedKind, dataset_hash};
pub use delimited::{Dialect, sniff_table};
pub use duplicates::copies;
pub use durable::hex;
pub use hub::{HubDataset, Located};
pub use import::{json_instruction, labelling_turns};
pub use inspect::{Inspection, Issue, IssueExample, LanguageShare, Lengths, Severity, inspect};
pub use preference::{Selected, select};
pub use quality::{
    Change, Counted, Difference, Leak, LeakKind, Provenance, REASONS, Reason, RowPlace, RowScore, contamination,
    difference, language_of, provenance, reasons_of, score_rows,
};
pub use read::{BadLine, ReadOptions, read};
pub use split::{Split, split};
pub use table::is_guarded;
pub use text_copies::{Copies, TextCopies};
pub use text_file::TextFile;
