// Dense product in f32: y (=|+=) alpha·A·B + bias. Strides make every transposition the same kernel:
// element (i, l) of A lies at `i * a_row + l * a_inner`, element (l, j) of B at `j * b_col + l * b_inner`.
//
// A block makes 64 x 64 outputs, 16 steps of the inner dimension at a time; a thread makes 4 x 4 of them,
// 16 apart in both directions, so that neighbouring threads read neighbouring words.
#include "device.cuh"

constexpr int TILE = 64, DEPTH = 16, EACH = 4, ACROSS = TILE / EACH;

// Rows `first..` of an operand, steps `inner..`, into `tile[step][row]`; zeros where there is none.
DEVICE void load_tile(Ptr<float> tile, Ptr<const float> x, i64 row_stride, i64 inner_stride, i64 first, i64 rows,
                      i64 inner, i64 depth) {
  for (int e = threadIdx.x; e < TILE * DEPTH; e += THREADS) {
    // Neighbouring threads follow whichever stride is one.
    int row = inner_stride == 1 ? e / DEPTH : e % TILE, step = inner_stride == 1 ? e % DEPTH : e / TILE;
    bool inside = first + row < rows && inner + step < depth;
    tile[step * TILE + row] = inside ? (float)x[(first + row) * row_stride + (inner + step) * inner_stride] : 0.0f;
  }
}

KERNEL(gemm_f32, THREADS)
(Ptr<float> y, i64 ldy, Ptr<const float> a, i64 a_row, i64 a_inner, Ptr<const float> b, i64 b_col, i64 b_inner,
 Ptr<const float> bias, i64 m, i64 n, i64 k, float alpha, int has_bias, int is_add) {
  SHARED(float, left, TILE * DEPTH);
  SHARED(float, right, TILE * DEPTH);
  i64 across = (n + TILE - 1) / TILE;
  i64 row0 = blockIdx.x / across * TILE, col0 = blockIdx.x % across * TILE;
  int ty = threadIdx.x / ACROSS, tx = threadIdx.x % ACROSS;
  float sum[EACH][EACH];
#pragma unroll
  for (int i = 0; i < EACH; i++)
#pragma unroll
    for (int j = 0; j < EACH; j++) sum[i][j] = 0.0f;
  for (i64 inner = 0; inner < k; inner += DEPTH) {
    load_tile(left, a, a_row, a_inner, row0, m, inner, k);
    load_tile(right, b, b_col, b_inner, col0, n, inner, k);
    __syncthreads();
    for (int step = 0; step < DEPTH; step++) {
      float p[EACH], q[EACH];
#pragma unroll
      for (int i = 0; i < EACH; i++) p[i] = left[step * TILE + ty + ACROSS * i];
#pragma unroll
      for (int j = 0; j < EACH; j++) q[j] = right[step * TILE + tx + ACROSS * j];
#pragma unroll
      for (int i = 0; i < EACH; i++)
#pragma unroll
        for (int j = 0; j < EACH; j++) sum[i][j] += p[i] * q[j];
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < EACH; i++)
#pragma unroll
    for (int j = 0; j < EACH; j++) {
      i64 row = row0 + ty + ACROSS * i, col = col0 + tx + ACROSS * j;
      if (row >= m || col >= n) continue;
      float value = alpha * sum[i][j];
      if (has_bias) value += bias[col];
      y[row * ldy + col] = is_add ? y[row * ldy + col] + value : value;
    }
}
