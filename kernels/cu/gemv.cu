// Few rows times a weight, as when answers are generated: the weight is read once, whatever the number of rows, and
// decoded on its way to the sum. What counts is how fast its bytes come in.
//
// A lane has eight numbers of a row of the weight at a time, so that a warp reads 256 that lie together. `share` warps
// have an output together: each every `share`-th piece of the sum, and the pieces are added in the order of the warps.
#include "weights.cuh"

// Σ over this lane's pieces of x[i, k]·w[j, k] for R rows; `eight(k, w)` sets eight numbers and returns their scale.
template <int R, class Eight>
DEVICE void lane_sums(float (&sum)[R], const Numbers& x, i64 ldx, int rows, i64 inputs, int part, int share,
                      Eight eight) {
  int lane = threadIdx.x % 32;
  bool is_wide = x.is_wide(ldx);
#pragma unroll
  for (int i = 0; i < R; i++) sum[i] = 0.0f;
#pragma unroll 2
  for (i64 k = (part * 32 + lane) * 8; k < inputs; k += share * 256) {
    float w[8];
    float scale = eight(k, w);
#pragma unroll
    for (int i = 0; i < R; i++) {
      float numbers[8], dot = 0.0f;
      // A row that is not there is the last one again, and nobody reads its sum.
      x.load(numbers, (i < rows ? i : rows - 1) * ldx + k, 8, is_wide);
#pragma unroll
      for (int e = 0; e < 8; e++) dot += numbers[e] * w[e];
      sum[i] += scale * dot;
    }
  }
}

// y[i, j] (=|+=) alpha·(the sum over all lanes of all sharers) + bias[j]. All threads of a block come here.
template <int R>
DEVICE void finish_sums(const Numbers& y, i64 ldy, float (&sum)[R], Ptr<float> parts, Ptr<const float> bias, i64 j,
                        i64 outputs, int rows, int share, float alpha, int has_bias, int is_add) {
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
  for (int i = 0; i < R; i++) {
    for (int distance = 16; distance > 0; distance /= 2) sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], distance);
  }
  __syncthreads();  // the parts of the outputs before have been read
#pragma unroll
  for (int i = 0; i < R; i++) {
    if (lane == 0) parts[warp * R + i] = sum[i];
  }
  __syncthreads();
  if (warp % share != 0 || lane >= rows || j >= outputs) return;  // the caller's loop is the block's
  float value = 0.0f;
  for (int part = 0; part < share; part++) value += parts[(warp + part) * R + lane];
  value *= alpha;
  if (has_bias) value += bias[j];
  y.write_one(lane * ldy + j, value, is_add);
}

// 4-bit codes; `inputs` and the blocks are multiples of 8, and there are fewer than 2^32 words of eight. With
// `is_exact` the numbers are rounded as the weight says before they are multiplied.
template <int R>
DEVICE void gemv_codes(const Numbers& y, i64 ldy, const Numbers& x, i64 ldx, const FourBit& w, Ptr<const float> bias,
                       int rows, i64 outputs, i64 inputs, int share, int is_exact, int has_bias, int is_add) {
  SHARED(float, values, 16);
  SHARED(float, parts, WARPS * R);
  share_values(values, w.table);
  int part = threadIdx.x / 32 % share, mine = threadIdx.x / 32 / share, at_once = WARPS / share;
  u32 per_block = (u32)(w.block / 8);
  for (i64 first = (i64)blockIdx.x * at_once; first < outputs; first += (i64)gridDim.x * at_once) {
    i64 j = first + mine;
    float sum[R];
    // An output that is not there is the last one again.
    u32 row = (u32)((j < outputs ? j : outputs - 1) * (inputs / 8));
    lane_sums(sum, x, ldx, rows, inputs, part, share, [&](i64 k, float(&to)[8]) {
      u32 at = row + (u32)(k / 8);
      u32 word = load_4_bytes(w.codes + (i64)at * 4);
      float absmax = four_bit_scale_32(w, at / per_block);
      eight_values(to, values, word, w.low_first);
      if (!is_exact) return absmax;
#pragma unroll
      for (int e = 0; e < 8; e++) to[e] = round_to(mul(to[e], absmax), w.rounding);
      return 1.0f;
    });
    finish_sums(y, ldy, sum, parts, bias, j, outputs, rows, share, 1.0f, has_bias, is_add);
  }
}

// Numbers of a type, rows `ldw` apart; `inputs` is a multiple of 8 or the last ones are taken one by one.
template <int R>
DEVICE void gemv_numbers(const Numbers& y, i64 ldy, const Numbers& x, i64 ldx, Ptr<const u16> w, i64 ldw, int type,
                         Ptr<const float> bias, int rows, i64 outputs, i64 inputs, int share, int is_wide_weight,
                         float alpha, int has_bias, int is_add) {
  SHARED(float, parts, WARPS * R);
  int part = threadIdx.x / 32 % share, mine = threadIdx.x / 32 / share, at_once = WARPS / share;
  i64 whole = inputs / 8 * 8;
  for (i64 first = (i64)blockIdx.x * at_once; first < outputs; first += (i64)gridDim.x * at_once) {
    i64 j = first + mine, row = (j < outputs ? j : outputs - 1) * ldw;
    float sum[R];
    lane_sums(sum, x, ldx, rows, whole, part, share, [&](i64 k, float(&to)[8]) {
      eight_numbers(to, w, row + k, type, is_wide_weight);
      return 1.0f;
    });
    i64 k = whole + threadIdx.x % 32;
    if (part == 0 && k < inputs) {
#pragma unroll
      for (int i = 0; i < R; i++) sum[i] += x[(i < rows ? i : rows - 1) * ldx + k] * dense_at(w, row + k, type);
    }
    finish_sums(y, ldy, sum, parts, bias, j, outputs, rows, share, alpha, has_bias, is_add);
  }
}

#define GEMV(rows_at_most)                                                                                           \
  KERNEL(gemv_four_bit_##rows_at_most, THREADS)                                                                      \
  (EITHER(y), EITHER(x), FOUR_BIT_PARAMETERS, Ptr<const float> bias, int rows, i64 outputs, i64 inputs, int share,   \
   int is_exact, int has_bias, int is_add) {                                                                         \
    NUMBERS(y);                                                                                                      \
    NUMBERS(x);                                                                                                      \
    FourBit w = FOUR_BIT_ARGUMENTS;                                                                                  \
    gemv_codes<rows_at_most>(y, ldy, x, ldx, w, bias, rows, outputs, inputs, share, is_exact, has_bias, is_add);     \
  }                                                                                                                  \
  KERNEL(gemv_dense_##rows_at_most, THREADS)                                                                         \
  (EITHER(y), EITHER(x), Ptr<const u16> w, i64 ldw, int type, Ptr<const float> bias, int rows, i64 outputs,          \
   i64 inputs, int share, int is_wide_weight, float alpha, int has_bias, int is_add) {                               \
    NUMBERS(y);                                                                                                      \
    NUMBERS(x);                                                                                                      \
    gemv_numbers<rows_at_most>(y, ldy, x, ldx, w, ldw, type, bias, rows, outputs, inputs, share, is_wide_weight,     \
                               alpha, has_bias, is_add);                                                             \
  }

GEMV(1)
GEMV(2)
GEMV(4)
GEMV(8)
