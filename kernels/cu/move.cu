// Copies and element-wise arithmetic of windows: row `i` of a window begins at `i * ld`.
#include "device.cuh"

// y (=|+=) x
KERNEL(copy_window, THREADS)(Ptr<float> y, i64 ldy, Ptr<const float> x, i64 ldx, i64 rows, i64 cols, int is_add) {
  for (i64 e = thread_index(); e < rows * cols; e += thread_count()) {
    i64 i = e / cols, j = e % cols;
    float value = x[i * ldx + j];
    y[i * ldy + j] = is_add ? y[i * ldy + j] + value : value;
  }
}

// Row `i` of y is row `chosen[i]` of x, or with `is_back` row `chosen[i]` of y is row `i` of x; no row is chosen twice.
KERNEL(move_rows, THREADS)
(Ptr<float> y, i64 ldy, Ptr<const float> x, i64 ldx, Ptr<const u32> chosen, i64 count, i64 cols, int is_back) {
  for (i64 e = thread_index(); e < count * cols; e += thread_count()) {
    i64 i = e / cols, j = e % cols, other = chosen[i];
    y[(is_back ? other : i) * ldy + j] = x[(is_back ? i : other) * ldx + j];
  }
}

// y = value
KERNEL(fill_window, THREADS)(Ptr<float> y, i64 ldy, i64 rows, i64 cols, float value) {
  for (i64 e = thread_index(); e < rows * cols; e += thread_count()) y[e / cols * ldy + e % cols] = value;
}

// y *= s
KERNEL(scale_window, THREADS)(Ptr<float> y, i64 ldy, i64 rows, i64 cols, float s) {
  for (i64 e = thread_index(); e < rows * cols; e += thread_count()) {
    i64 at = e / cols * ldy + e % cols;
    y[at] = y[at] * s;
  }
}

// y = a / b
KERNEL(divide, THREADS)(Ptr<float> y, Ptr<const float> a, Ptr<const float> b, i64 n) {
  for (i64 e = thread_index(); e < n; e += thread_count()) y[e] = a[e] / b[e];
}

// x = cap·tanh(x / cap)
KERNEL(softcap, THREADS)(Ptr<float> x, i64 n, float cap) {
  for (i64 e = thread_index(); e < n; e += thread_count()) x[e] = cap * tanhf(x[e] / cap);
}

// y (=|+=) x∘s: `s` has a number for each column, or for each row.
KERNEL(scale_lines, THREADS)
(Ptr<float> y, i64 ldy, Ptr<const float> x, i64 ldx, Ptr<const float> s, i64 rows, i64 cols, int by_row, int is_add) {
  for (i64 e = thread_index(); e < rows * cols; e += thread_count()) {
    i64 i = e / cols, j = e % cols;
    float value = x[i * ldx + j] * s[by_row ? i : j];
    y[i * ldy + j] = is_add ? y[i * ldy + j] + value : value;
  }
}
