//! Documents of any kind to chunks that keep their place, and the search among them.
//!
//! A file becomes a [`Document`]: text that is tiled by blocks (`read` chooses among one reader per format; `archive`,
//! `xml` and `markup` are what those stand on; `apart` has the risky ones run in a process of their own). A document becomes [`Chunk`]s (`atoms`, `chunk`, measured by a
//! `ruler`), a chunk a line of a file (`record`), and the vectors of many chunks an index (`vectors`). Nothing here
//! asks a model or a service.

mod apart;
mod archive;
mod atoms;
mod block;
mod chunk;
mod docx;
mod epub;
mod folder;
mod fusion;
mod html;
mod limits;
mod markdown;
mod markup;
mod pdf;
mod plain;
mod read;
mod record;
mod records;
mod ruler;
mod vectors;
mod xml;

pub use apart::{Reader, serve};
pub use archive::texts_in;
pub use block::{Block, BlockKind, Builder, Document, Outline};
pub use chunk::{Chunk, ChunkOptions, chunks};
pub use folder::files_of;
pub use fusion::fused;
pub use limits::Limits;
pub use read::{Format, Sink, read};
pub use record::{ChunkRecord, Chunked, chunk_file};
pub use ruler::{Characters, Ruler, Tokens};
pub use vectors::{Hit, VectorIndex, VectorWriter};
