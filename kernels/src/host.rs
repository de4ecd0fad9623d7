//! Windows of matrices in ordinary memory, of f32 or of what else a backend keeps there.

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::pages;
use crate::tensor::{In, Out, Tensor, Window};
use std::ops::Range;

/// A window to read.
pub(crate) struct View<'a, T = f32> {
    /// From the first element of the window to its last.
    data: &'a [T],
    stride: usize,
    rows: usize,
    cols: usize,
}

impl<T> Clone for View<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for View<'_, T> {}

impl<'a> View<'a> {
    /// A window of a tensor.
    pub(crate) fn of<B: Backend<Buf = Vec<f32>>>(x: In<'a, B>) -> Self {
        Self::window(&x.tensor.buf, x.tensor.cols(), &x.at)
    }

    /// A whole tensor.
    pub(crate) fn whole<B: Backend<Buf = Vec<f32>>>(t: &'a Tensor<B>) -> Self {
        Self::of(t.view())
    }

    /// Element `(i, j)`.
    pub(crate) fn at(&self, i: usize, j: usize) -> f32 {
        self.row(i)[j]
    }
}

impl<'a, T> View<'a, T> {
    /// A window of `data`, whose rows have `stride` elements.
    pub(crate) fn window(data: &'a [T], stride: usize, at: &Window) -> Self {
        Self { data: &data[span(at, stride)], stride, rows: at.rows, cols: at.cols }
    }

    /// `data` as `[rows, cols]`.
    pub(crate) fn dense(data: &'a [T], rows: usize, cols: usize) -> Self {
        assert_eq!(data.len(), rows * cols, "a dense view covers its slice");
        Self { data, stride: cols, rows, cols }
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    /// Row `i`.
    pub(crate) fn row(&self, i: usize) -> &'a [T] {
        assert!(i < self.rows, "row {i} of {}", self.rows);
        &self.data[i * self.stride..][..self.cols]
    }

    /// Everything from the first element of row `i` on, and from one row to the next.
    pub(crate) fn rest(&self, i: usize) -> (&'a [T], usize) {
        (&self.data[i * self.stride..], self.stride)
    }

    /// Columns `col..col + cols` of every row.
    pub(crate) fn columns(&self, col: usize, cols: usize) -> Self {
        assert!(col + cols <= self.cols, "columns {col}+{cols} of {}", self.cols);
        let data = if self.rows == 0 { self.data } else { &self.data[col..self.data.len() - (self.cols - col - cols)] };
        Self { data, cols, ..*self }
    }

    /// Rows `row..row + rows`.
    pub(crate) fn rows_from(&self, row: usize, rows: usize) -> Self {
        assert!(row + rows <= self.rows, "rows {row}+{rows} of {}", self.rows);
        let data = if rows == 0 || self.cols == 0 {
            &[]
        } else {
            &self.data[row * self.stride..(row + rows - 1) * self.stride + self.cols]
        };
        Self { data, rows, ..*self }
    }
}

/// A window to write.
pub(crate) struct ViewMut<'a, T = f32> {
    data: &'a mut [T],
    stride: usize,
    rows: usize,
    cols: usize,
}

impl<'a> ViewMut<'a> {
    /// A window of a tensor.
    #[expect(clippy::needless_pass_by_value, reason = "it is the exclusive borrow that moves")]
    pub(crate) fn of<B: Backend<Buf = Vec<f32>>>(y: Out<'a, B>) -> Self {
        let stride = y.tensor.cols();
        Self::window(&mut y.tensor.buf, stride, &y.at)
    }

    /// A whole tensor.
    pub(crate) fn whole<B: Backend<Buf = Vec<f32>>>(t: &'a mut Tensor<B>) -> Self {
        Self::of(t.view_mut())
    }
}

impl<'a, T> ViewMut<'a, T> {
    /// A window of `data`, whose rows have `stride` elements.
    pub(crate) fn window(data: &'a mut [T], stride: usize, at: &Window) -> Self {
        Self { data: &mut data[span(at, stride)], stride, rows: at.rows, cols: at.cols }
    }

    /// `data` as `[rows, cols]`.
    pub(crate) fn dense(data: &'a mut [T], rows: usize, cols: usize) -> Self {
        assert_eq!(data.len(), rows * cols, "a dense view covers its slice");
        Self { data, stride: cols, rows, cols }
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    /// Row `i`.
    pub(crate) fn row(&mut self, i: usize) -> &mut [T] {
        assert!(i < self.rows, "row {i} of {}", self.rows);
        &mut self.data[i * self.stride..][..self.cols]
    }

    /// Every row in turn. A window without columns has no rows to give.
    pub(crate) fn into_rows(self) -> impl ExactSizeIterator<Item = &'a mut [T]> {
        let cols = self.cols;
        self.data.chunks_mut(self.stride.max(1)).map(move |row| &mut row[..cols])
    }

    /// Columns `col..col + cols` of every row.
    pub(crate) fn columns(self, col: usize, cols: usize) -> Self {
        assert!(col + cols <= self.cols, "columns {col}+{cols} of {}", self.cols);
        let end = if self.rows == 0 || self.cols == 0 { col } else { self.data.len() - (self.cols - col - cols) };
        let data = if end == col { &mut [] } else { &mut self.data[col..end] };
        Self { data, stride: self.stride, rows: self.rows, cols }
    }

    /// Rows `row..row + rows`.
    pub(crate) fn rows_from(self, row: usize, rows: usize) -> Self {
        assert!(row + rows <= self.rows, "rows {row}+{rows} of {}", self.rows);
        let data = if rows == 0 || self.cols == 0 {
            &mut []
        } else {
            &mut self.data[row * self.stride..(row + rows - 1) * self.stride + self.cols]
        };
        Self { data, stride: self.stride, rows, cols: self.cols }
    }

    /// Blocks of at most `step` rows, each with the number of its first row.
    pub(crate) fn blocks(self, step: usize) -> Vec<(usize, ViewMut<'a, T>)> {
        let Self { data, stride, rows, cols } = self;
        let firsts = (0..rows).step_by(step);
        let block =
            |(data, first): (&'a mut [T], usize)| (first, ViewMut { data, stride, rows: step.min(rows - first), cols });
        data.chunks_mut((step * stride).max(1)).zip(firsts).map(block).collect()
    }

    /// Tiles of at most `col_step` columns for each of the row ranges, which ascend without overlap.
    pub(crate) fn tiles(self, ranges: impl IntoIterator<Item = Range<usize>>, col_step: usize) -> Vec<Tile<'a, T>> {
        let tile = |(row, col, rows)| Tile { row, col, rows };
        self.tiles_of(ranges, col_step, |part| part).into_iter().map(tile).collect()
    }

    /// The same as the first row and the first column of each, and what `part` makes of its part of every row.
    pub(crate) fn tiles_of<R>(
        self,
        ranges: impl IntoIterator<Item = Range<usize>>,
        col_step: usize,
        part: impl Fn(&'a mut [T]) -> R,
    ) -> Vec<(usize, usize, Vec<R>)> {
        let (n_rows, n_cols) = (self.rows, self.cols);
        let mut rows = self.into_rows().enumerate().peekable();
        let mut tiles = Vec::new();
        for range in ranges {
            let (first, height) = (tiles.len(), range.end.min(n_rows).saturating_sub(range.start));
            let tile = |col| (range.start, col, Vec::with_capacity(height));
            tiles.extend((0..n_cols).step_by(col_step).map(tile));
            while let Some((i, row)) = rows.next_if(|(i, _)| *i < range.end) {
                if i < range.start {
                    continue;
                }
                for ((.., rows), of_tile) in tiles[first..].iter_mut().zip(row.chunks_mut(col_step)) {
                    rows.push(part(of_tile));
                }
            }
        }
        tiles
    }

    /// Written to the end: from here on it is read.
    pub(crate) fn into_view(self) -> View<'a, T> {
        View { data: self.data, stride: self.stride, rows: self.rows, cols: self.cols }
    }

    /// The same window for a shorter time.
    pub(crate) fn reborrow(&mut self) -> ViewMut<'_, T> {
        ViewMut { data: self.data, stride: self.stride, rows: self.rows, cols: self.cols }
    }
}

/// A rectangle of a matrix that one task writes.
pub(crate) struct Tile<'a, T = f32> {
    /// Its first row.
    pub(crate) row: usize,
    /// Its first column.
    pub(crate) col: usize,
    /// What it covers of each row.
    pub(crate) rows: Vec<&'a mut [T]>,
}

/// The elements from the first of the window to its last.
fn span(at: &Window, stride: usize) -> Range<usize> {
    if at.rows == 0 || at.cols == 0 {
        return 0..0;
    }
    let start = at.row * stride + at.col;
    start..start + (at.rows - 1) * stride + at.cols
}

/// `rows * cols` zeros, or [`Error::OutOfMemory`].
pub(crate) fn zeros<T: Clone + Default>(op: &'static str, rows: usize, cols: usize) -> Result<Vec<T>> {
    let count = rows.saturating_mul(cols);
    let mut data = Vec::new();
    if data.try_reserve_exact(count).is_err() {
        return Err(Error::OutOfMemory { op, bytes: count.saturating_mul(size_of::<T>()) });
    }
    pages::ask_for_large(data.spare_capacity_mut());
    data.resize(count, T::default());
    Ok(data)
}
