//! A matrix on a device, and rectangular windows into it.
//!
//! Everything is row-major `[rows, cols]` with rows = tokens. The only view is a window of whole
//! elements: a range of rows (some of the sequences) and a range of columns (one part of a fused
//! projection). There are no strides, no broadcasting, no layouts.

use crate::backend::Backend;
use std::ops::Range;

/// A dense matrix on device `B`, row-major; of f32, or as [`Backend::activation`] says.
pub struct Tensor<B: Backend> {
    /// The device's memory: `rows * cols` elements.
    pub buf: B::Buf,
    rows: usize,
    cols: usize,
}

impl<B: Backend> Tensor<B> {
    /// Wrap `buf`, which holds `rows * cols` elements. For backends.
    pub fn from_buf(buf: B::Buf, rows: usize, cols: usize) -> Self {
        Self { buf, rows, cols }
    }

    /// `buf` holds `rows * cols` elements now. For backends.
    pub fn set_shape(&mut self, rows: usize, cols: usize) {
        (self.rows, self.cols) = (rows, cols);
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.rows * self.cols
    }

    /// No elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The whole matrix, to read.
    pub fn view(&self) -> In<'_, B> {
        In { tensor: self, at: Window { row: 0, rows: self.rows, col: 0, cols: self.cols } }
    }

    /// The whole matrix, to write.
    pub fn view_mut(&mut self) -> Out<'_, B> {
        let at = Window { row: 0, rows: self.rows, col: 0, cols: self.cols };
        Out { tensor: self, at }
    }
}

/// Which elements of a matrix: `rows` rows from `row`, `cols` columns from `col`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First row.
    pub row: usize,
    /// Number of rows.
    pub rows: usize,
    /// First column.
    pub col: usize,
    /// Number of columns.
    pub cols: usize,
}

impl Window {
    fn narrow_rows(self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.rows, "rows {range:?} of {self:?}");
        Self { row: self.row + range.start, rows: range.len(), ..self }
    }

    fn narrow_cols(self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.cols, "columns {range:?} of {self:?}");
        Self { col: self.col + range.start, cols: range.len(), ..self }
    }
}

/// A window to read.
pub struct In<'a, B: Backend> {
    /// The matrix.
    pub tensor: &'a Tensor<B>,
    /// The window.
    pub at: Window,
}

#[expect(clippy::expl_impl_clone_on_copy, reason = "a derive would ask for `B: Copy`")]
impl<B: Backend> Clone for In<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<B: Backend> Copy for In<'_, B> {}

impl<B: Backend> In<'_, B> {
    /// Only these rows of it.
    pub fn rows(self, range: Range<usize>) -> Self {
        In { tensor: self.tensor, at: self.at.narrow_rows(range) }
    }

    /// Only these columns of it.
    pub fn cols(self, range: Range<usize>) -> Self {
        In { tensor: self.tensor, at: self.at.narrow_cols(range) }
    }
}

/// A window to write (or to change in place).
pub struct Out<'a, B: Backend> {
    /// The matrix.
    pub tensor: &'a mut Tensor<B>,
    /// The window.
    pub at: Window,
}

impl<B: Backend> Out<'_, B> {
    /// The same window, lent for one call.
    pub fn by_ref(&mut self) -> Out<'_, B> {
        Out { tensor: self.tensor, at: self.at }
    }

    /// Only these rows of it.
    pub fn rows(self, range: Range<usize>) -> Self {
        let at = self.at.narrow_rows(range);
        Out { tensor: self.tensor, at }
    }

    /// Only these columns of it.
    pub fn cols(self, range: Range<usize>) -> Self {
        let at = self.at.narrow_cols(range);
        Out { tensor: self.tensor, at }
    }
}
