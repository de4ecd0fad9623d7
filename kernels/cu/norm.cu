// RMS norm (Zhang & Sennrich 2019) of groups of `n` columns. A block has one group of one row.
#include "device.cuh"

// rstd = 1/√(mean(x²) + eps), y = x·rstd·(offset + w)
KERNEL(rms_norm, THREADS)
(Ptr<float> y, i64 ldy, Ptr<float> rstd, Ptr<const float> x, i64 ldx, Ptr<const float> w, i64 rows, i64 groups, i64 n,
 float eps, float offset) {
  SHARED(float, scratch, WARPS);
  for (i64 at = blockIdx.x; at < rows * groups; at += gridDim.x) {
    Ptr<const float> in = x + (at / groups * ldx + at % groups * n);
    Ptr<float> out = y + (at / groups * ldy + at % groups * n);
    float sum = 0.0f;
    for (i64 j = threadIdx.x; j < n; j += blockDim.x) sum += in[j] * in[j];
    sum = block_reduce(scratch, sum, Sum());
    float r = 1.0f / sqrtf(sum / (float)n + eps);
    for (i64 j = threadIdx.x; j < n; j += blockDim.x) out[j] = in[j] * r * (offset + w[j]);
    if (threadIdx.x == 0) rstd[at] = r;
  }
}

// With x̂ = x·rstd and g = dy·(offset + w): dx (=|+=) rstd·(g - x̂·mean(g·x̂))
KERNEL(rms_norm_bwd, THREADS)
(Ptr<float> dx, i64 lddx, Ptr<const float> dy, i64 lddy, Ptr<const float> x, i64 ldx, Ptr<const float> w,
 Ptr<const float> rstd, i64 rows, i64 groups, i64 n, float offset, int is_add) {
  SHARED(float, scratch, WARPS);
  for (i64 at = blockIdx.x; at < rows * groups; at += gridDim.x) {
    i64 row = at / groups, col = at % groups * n;
    Ptr<const float> in = x + (row * ldx + col), from = dy + (row * lddy + col);
    Ptr<float> out = dx + (row * lddx + col);
    float r = rstd[at], sum = 0.0f;
    for (i64 j = threadIdx.x; j < n; j += blockDim.x) sum += from[j] * (offset + w[j]) * (in[j] * r);
    float mean = block_reduce(scratch, sum, Sum()) / (float)n;
    for (i64 j = threadIdx.x; j < n; j += blockDim.x) {
      float value = r * (from[j] * (offset + w[j]) - in[j] * r * mean);
      out[j] = is_add ? out[j] + value : value;
    }
  }
}

// dw += Σ dy·x̂ over rows and groups. A thread has a column.
KERNEL(rms_norm_bwd_gain, THREADS)
(Ptr<float> dw, Ptr<const float> dy, i64 lddy, Ptr<const float> x, i64 ldx, Ptr<const float> rstd, i64 rows, i64 groups,
 i64 n) {
  for (i64 j = thread_index(); j < n; j += thread_count()) {
    float sum = 0.0f;
    for (i64 at = 0; at < rows * groups; at++) {
      i64 row = at / groups, col = at % groups * n + j;
      sum += dy[row * lddy + col] * (x[row * ldx + col] * rstd[at]);
    }
    dw[j] = dw[j] + sum;
  }
}
