// Sums along rows and along columns: biases, DoRA, gates of experts.
#include "device.cuh"

// out[j] += Σ_rows a[·, j], or Σ_rows a[·, j]·b[·, j] where there is a `b`. A thread has a column.
KERNEL(column_sums, THREADS)(Ptr<float> out, EITHER(a), EITHER(b), i64 rows, i64 cols, int has_b) {
  NUMBERS(a);
  NUMBERS(b);
  for (i64 j = thread_index(); j < cols; j += thread_count()) {
    float sum = 0.0f;
    for (i64 i = 0; i < rows; i++) sum += a[i * lda + j] * (has_b ? b[i * ldb + j] : 1.0f);
    out[j] = out[j] + sum;
  }
}

// out[i] = Σ_columns a[i, ·]·b[i, ·]. A block has a row.
KERNEL(row_dots, THREADS)(Ptr<float> out, EITHER(a), EITHER(b), i64 rows, i64 cols) {
  SHARED(float, scratch, WARPS);
  NUMBERS(a);
  NUMBERS(b);
  for (i64 i = blockIdx.x; i < rows; i += gridDim.x) {
    float sum = 0.0f;
    for (i64 j = threadIdx.x; j < cols; j += blockDim.x) sum += a[i * lda + j] * b[i * ldb + j];
    sum = block_reduce(scratch, sum, Sum());
    if (threadIdx.x == 0) out[i] = sum;
  }
}

// out[j] = √(squares[j] + 2s·Σ_k b[j,k]·projected[k,j] + s²·b[j]·gram·b[j]ᵀ). A thread has a row of the weight.
KERNEL(dora_norm, THREADS)
(Ptr<float> out, Ptr<const float> squares, Ptr<const float> projected, Ptr<const float> gram, Ptr<const float> b, i64 n,
 i64 r, float s) {
  for (i64 j = thread_index(); j < n; j += thread_count()) {
    float cross = 0.0f, own = 0.0f;
    for (i64 k = 0; k < r; k++) {
      float dot = 0.0f;
      for (i64 l = 0; l < r; l++) dot += gram[k * r + l] * b[j * r + l];
      cross += b[j * r + k] * projected[k * n + j];
      own += b[j * r + k] * dot;
    }
    // Rounding can leave a tiny negative number where the adapter cancels the row.
    out[j] = sqrtf(fmaxf(squares[j] + 2.0f * s * cross + s * s * own, 0.0f));
  }
}
