// RMS norm (Zhang & Sennrich 2019) of groups of `n` columns. A block has one group of one row; groups as short as a head
// have a warp each. A thread has eight columns at a time.
#include "device.cuh"

// Which group a thread works on, which of its threads it is, and how many there are: a block's, or a warp's.
template <bool BY_WARP> struct Group {
  i64 first, step;
  int member, members;
  DEVICE Group() {
    int warp = threadIdx.x / 32;
    first = BY_WARP ? (i64)blockIdx.x * WARPS + warp : (i64)blockIdx.x;
    step = (i64)gridDim.x * (BY_WARP ? WARPS : 1);
    member = BY_WARP ? threadIdx.x % 32 : threadIdx.x;
    members = BY_WARP ? 32 : THREADS;
  }
};

// The sum over the threads of a group.
template <bool BY_WARP> DEVICE float group_sum(Ptr<float> scratch, float sum) {
  if constexpr (BY_WARP) {
    for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
    return sum;
  } else {
    return block_reduce(scratch, sum, Sum());
  }
}

// rstd = 1/√(mean(x²) + eps), y = x·rstd·(offset + w). With `has_branch` x is the sum of `x` and `branch`, and goes to
// `sum`, too.
template <bool BY_WARP>
DEVICE void norm_groups(const Numbers& y, i64 ldy, Ptr<float> rstd, const Numbers& sum, i64 ldsum, const Numbers& x, i64 ldx,
                        const Numbers& branch, i64 ldbranch, Ptr<const float> w, i64 rows, i64 groups, i64 n, float eps,
                        float offset, int has_branch) {
  SHARED(float, scratch, WARPS);
  Group<BY_WARP> group;
  bool x_wide = x.is_wide(ldx) && n % 8 == 0, y_wide = y.is_wide(ldy) && n % 8 == 0;
  bool sum_wide = sum.is_wide(ldsum) && n % 8 == 0, branch_wide = branch.is_wide(ldbranch) && n % 8 == 0;
  for (i64 at = group.first; at < rows * groups; at += group.step) {
    i64 row = at / groups, col = at % groups * n;
    float squares = 0.0f;
    for (i64 j = group.member * 8; j < n; j += group.members * 8) {
      i64 there = n - j < 8 ? n - j : 8;
      float in[8];
      x.load(in, row * ldx + col + j, there, x_wide);
      if (has_branch) {
        float also[8];
        branch.load(also, row * ldbranch + col + j, there, branch_wide);
#pragma unroll
        for (int e = 0; e < 8; e++) in[e] = in[e] + also[e];
        sum.store(row * ldsum + col + j, in, there, sum_wide);
      }
#pragma unroll
      for (int e = 0; e < 8; e++) squares += in[e] * in[e];
    }
    squares = group_sum<BY_WARP>(scratch, squares);
    float r = 1.0f / sqrtf(squares / (float)n + eps);
    for (i64 j = group.member * 8; j < n; j += group.members * 8) {
      i64 there = n - j < 8 ? n - j : 8;
      float in[8];
      // This thread's own sums, or what they were made of.
      if (has_branch) sum.load(in, row * ldsum + col + j, there, sum_wide);
      else x.load(in, row * ldx + col + j, there, x_wide);
#pragma unroll
      for (int e = 0; e < 8; e++) in[e] = e < there ? in[e] * r * (offset + w[j + e]) : 0.0f;
      y.store(row * ldy + col + j, in, there, y_wide);
    }
    if (group.member == 0) rstd[at] = r;
  }
}

#define RMS_NORM(name, by_warp)                                                                                       \
  KERNEL(name, THREADS)                                                                                               \
  (EITHER(y), Ptr<float> rstd, EITHER(sum), EITHER(x), EITHER(branch), Ptr<const float> w, i64 rows, i64 groups,      \
   i64 n, float eps, float offset, int has_branch) {                                                                  \
    NUMBERS(y);                                                                                                       \
    NUMBERS(sum);                                                                                                     \
    NUMBERS(x);                                                                                                       \
    NUMBERS(branch);                                                                                                  \
    norm_groups<by_warp>(y, ldy, rstd, sum, ldsum, x, ldx, branch, ldbranch, w, rows, groups, n, eps, offset,         \
                         has_branch);                                                                                 \
  }
RMS_NORM(rms_norm, false)
RMS_NORM(rms_norm_short, true)

// With x̂ = x·rstd and g = dy·(offset + w): dx (=|+=) rstd·(g - x̂·mean(g·x̂))
template <bool BY_WARP>
DEVICE void norm_groups_bwd(const Numbers& dx, i64 lddx, const Numbers& dy, i64 lddy, const Numbers& x, i64 ldx,
                            Ptr<const float> w, Ptr<const float> rstd, i64 rows, i64 groups, i64 n, float offset,
                            int is_add) {
  SHARED(float, scratch, WARPS);
  Group<BY_WARP> group;
  bool x_wide = x.is_wide(ldx) && n % 8 == 0, dy_wide = dy.is_wide(lddy) && n % 8 == 0;
  bool dx_wide = dx.is_wide(lddx) && n % 8 == 0;
  for (i64 at = group.first; at < rows * groups; at += group.step) {
    i64 row = at / groups, col = at % groups * n;
    float r = rstd[at], sum = 0.0f;
    for (i64 j = group.member * 8; j < n; j += group.members * 8) {
      i64 there = n - j < 8 ? n - j : 8;
      float in[8], from[8];
      x.load(in, row * ldx + col + j, there, x_wide);
      dy.load(from, row * lddy + col + j, there, dy_wide);
#pragma unroll
      for (int e = 0; e < 8; e++) {
        if (e < there) sum += from[e] * (offset + w[j + e]) * (in[e] * r);
      }
    }
    float mean = group_sum<BY_WARP>(scratch, sum) / (float)n;
    for (i64 j = group.member * 8; j < n; j += group.members * 8) {
      i64 there = n - j < 8 ? n - j : 8;
      float in[8], from[8];
      x.load(in, row * ldx + col + j, there, x_wide);
      dy.load(from, row * lddy + col + j, there, dy_wide);
#pragma unroll
      for (int e = 0; e < 8; e++) {
        in[e] = e < there ? r * (from[e] * (offset + w[j + e]) - in[e] * r * mean) : 0.0f;
      }
      dx.write(row * lddx + col + j, in, there, dx_wide, is_add);
    }
  }
}

#define RMS_NORM_BWD(name, by_warp)                                                                                   \
  KERNEL(name, THREADS)                                                                                               \
  (EITHER(dx), EITHER(dy), EITHER(x), Ptr<const float> w, Ptr<const float> rstd, i64 rows, i64 groups, i64 n,         \
   float offset, int is_add) {                                                                                        \
    NUMBERS(dx);                                                                                                      \
    NUMBERS(dy);                                                                                                      \
    NUMBERS(x);                                                                                                       \
    norm_groups_bwd<by_warp>(dx, lddx, dy, lddy, x, ldx, w, rstd, rows, groups, n, offset, is_add);                   \
  }
RMS_NORM_BWD(rms_norm_bwd, false)
RMS_NORM_BWD(rms_norm_bwd_short, true)

// dw += Σ dy·x̂ over rows and groups. A thread has a column.
KERNEL(rms_norm_bwd_gain, THREADS)
(Ptr<float> dw, EITHER(dy), EITHER(x), Ptr<const float> rstd, i64 rows, i64 groups, i64 n) {
  NUMBERS(dy);
  NUMBERS(x);
  for (i64 j = thread_index(); j < n; j += thread_count()) {
    float sum = 0.0f;
    for (i64 at = 0; at < rows * groups; at++) {
      i64 row = at / groups, col = at % groups * n + j;
      sum += dy[row * lddy + col] * (x[row * ldx + col] * rstd[at]);
    }
    dw[j] = dw[j] + sum;
  }
}
