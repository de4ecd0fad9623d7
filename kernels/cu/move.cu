// Copies and element-wise arithmetic of windows: row `i` of a window begins at `i * ld`.
#include "device.cuh"

// y (=|+=) x
KERNEL(copy_window, THREADS)(EITHER(y), EITHER(x), i64 rows, i64 cols, int is_add) {
  NUMBERS(y);
  NUMBERS(x);
  bool y_wide = y.is_wide(ldy), x_wide = x.is_wide(ldx);
  each_piece(rows, cols, [&](i64 i, i64 j, i64 there) {
    float numbers[8];
    x.load(numbers, i * ldx + j, there, x_wide);
    y.write(i * ldy + j, numbers, there, y_wide, is_add);
  });
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
KERNEL(fill_window, THREADS)(EITHER(y), i64 rows, i64 cols, float value) {
  NUMBERS(y);
  bool wide = y.is_wide(ldy);
  float numbers[8];
#pragma unroll
  for (int e = 0; e < 8; e++) numbers[e] = value;
  each_piece(rows, cols, [&](i64 i, i64 j, i64 there) { y.store(i * ldy + j, numbers, there, wide); });
}

// y *= s
KERNEL(scale_window, THREADS)(EITHER(y), i64 rows, i64 cols, float s) {
  NUMBERS(y);
  bool wide = y.is_wide(ldy);
  each_piece(rows, cols, [&](i64 i, i64 j, i64 there) {
    float numbers[8];
    y.load(numbers, i * ldy + j, there, wide);
#pragma unroll
    for (int e = 0; e < 8; e++) numbers[e] = numbers[e] * s;
    y.store(i * ldy + j, numbers, there, wide);
  });
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
KERNEL(scale_lines, THREADS)(EITHER(y), EITHER(x), Ptr<const float> s, i64 rows, i64 cols, int by_row, int is_add) {
  NUMBERS(y);
  NUMBERS(x);
  bool y_wide = y.is_wide(ldy), x_wide = x.is_wide(ldx);
  each_piece(rows, cols, [&](i64 i, i64 j, i64 there) {
    float numbers[8];
    x.load(numbers, i * ldx + j, there, x_wide);
#pragma unroll
    for (int e = 0; e < 8; e++) {
      if (e < there) numbers[e] = numbers[e] * s[by_row ? i : j + e];
    }
    y.write(i * ldy + j, numbers, there, y_wide, is_add);
  });
}
