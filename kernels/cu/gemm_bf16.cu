// Dense product on tensor cores: y (=|+=) alpha·A·Bᵀ + bias with A and B in bfloat16 and sums in f32.
//
// A block makes 64 x 64 outputs with four warps, each 32 x 32 of them; 32 steps of the sum are multiplied while the
// next 32 come in. Rows of shared memory are 80 bytes apart, so that the eight rows of a matrix lie in different banks.
#include "device.cuh"

constexpr int SIDE_BF16 = 64, STEPS_BF16 = 32, STRIDE_BF16 = 40, THREADS_BF16 = 128;
constexpr int STAGE_BF16 = SIDE_BF16 * STRIDE_BF16;

// f32 numbers at any strides as rows of bfloat16: zeros beyond `rows` and `depth`.
KERNEL(pack_bf16, THREADS)
(Ptr<u16> to, Ptr<const float> x, i64 outer, i64 inner, i64 rows, i64 depth, i64 padded_rows, i64 padded_depth) {
  for (i64 e = thread_index(); e < padded_rows * padded_depth; e += thread_count()) {
    i64 i = e / padded_depth, l = e % padded_depth;
    to[e] = i < rows && l < depth ? to_bf16(x[i * outer + l * inner]) : (u16)0;
  }
}

// 64 rows by 32 steps of an operand whose rows are `k` apart: 16 bytes at a time.
DEVICE void start_tile(Ptr<u16> to, Ptr<const u16> from, i64 k) {
  for (int chunk = threadIdx.x; chunk < SIDE_BF16 * STEPS_BF16 / 8; chunk += THREADS_BF16) {
    int row = chunk / 4, col = chunk % 4 * 8;
    copy_16_bytes(to + (row * STRIDE_BF16 + col), from + (row * k + col));
  }
}

// A is [m, k], B is [n, k], rows up to the next multiple of 64; k is a multiple of 32.
KERNEL(gemm_bf16, THREADS_BF16)
(Ptr<float> y, i64 ldy, Ptr<const u16> a, Ptr<const u16> b, Ptr<const float> bias, i64 m, i64 n, i64 k, float alpha,
 int has_bias, int is_add) {
  SHARED(u16, left, 2 * STAGE_BF16);
  SHARED(u16, right, 2 * STAGE_BF16);
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int warp_row = warp / 2 * 32, warp_col = warp % 2 * 32;
  i64 across = (n + SIDE_BF16 - 1) / SIDE_BF16;
  i64 row0 = blockIdx.x / across * SIDE_BF16, col0 = blockIdx.x % across * SIDE_BF16;
  a = a + row0 * k;
  b = b + col0 * k;
  float sum[2][4][4];
#pragma unroll
  for (int i = 0; i < 2; i++)
#pragma unroll
    for (int j = 0; j < 4; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) sum[i][j][e] = 0.0f;
  start_tile(left, a, k);
  start_tile(right, b, k);
  copy_group();
  for (i64 at = 0, stage = 0; at < k; at += STEPS_BF16, stage ^= 1) {
    if (at + STEPS_BF16 < k) {
      start_tile(left + (stage ^ 1) * STAGE_BF16, a + (at + STEPS_BF16), k);
      start_tile(right + (stage ^ 1) * STAGE_BF16, b + (at + STEPS_BF16), k);
      copy_group();
      wait_copies<1>();
    } else {
      wait_copies<0>();
    }
    __syncthreads();
#pragma unroll
    for (int step = 0; step < STEPS_BF16; step += 16) {
      u32 p[2][4], q[2][4];
#pragma unroll
      for (int i = 0; i < 2; i++) {
        int row = warp_row + i * 16 + lane % 16, col = step + lane / 16 * 8;
        load_matrices(p[i], left + (stage * STAGE_BF16 + row * STRIDE_BF16 + col));
      }
#pragma unroll
      for (int j = 0; j < 2; j++) {
        int row = warp_col + j * 16 + lane % 8 + lane / 16 * 8, col = step + lane / 8 % 2 * 8;
        load_matrices(q[j], right + (stage * STAGE_BF16 + row * STRIDE_BF16 + col));
      }
#pragma unroll
      for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) multiply_bf16(sum[i][j], p[i], q[j / 2][j % 2 * 2], q[j / 2][j % 2 * 2 + 1]);
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < 2; i++)
#pragma unroll
    for (int j = 0; j < 4; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        i64 row = row0 + warp_row + i * 16 + lane / 4 + e / 2 * 8, col = col0 + warp_col + j * 8 + lane % 4 * 2 + e % 2;
        if (row >= m || col >= n) continue;
        float value = alpha * sum[i][j][e];
        if (has_bias) value += bias[col];
        y[row * ldy + col] = is_add ? y[row * ldy + col] + value : value;
      }
}
