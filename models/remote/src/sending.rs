//! A part of a file as the body of a request: read while it is sent, its length known before.

use hyper::body::{Body, Bytes, Frame, SizeHint};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

/// Bytes that are read at once.
const PIECE: u64 = 256 << 10;

/// Bytes `from..from + length` of a file. What was sent is counted in `sent`.
pub(crate) struct FilePart {
    file: File,
    left: u64,
    sent: Arc<AtomicU64>,
}

impl FilePart {
    pub(crate) fn open(path: &Path, from: u64, length: u64, sent: &Arc<AtomicU64>) -> io::Result<Self> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(from))?;
        Ok(Self { file, left: length, sent: Arc::clone(sent) })
    }
}

impl Body for FilePart {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let mut piece = vec![0; self.left.min(PIECE) as usize];
        Poll::Ready(Some(match self.file.read(&mut piece) {
            Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter")),
            Ok(read) => {
                piece.truncate(read);
                self.left -= read as u64;
                self.sent.fetch_add(read as u64, Ordering::Relaxed);
                Ok(Frame::data(piece.into()))
            }
            Err(error) => Err(error),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
