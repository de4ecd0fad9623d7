// Few rows times a frozen 4-bit weight, as when answers are generated: the weight is decoded on its way to the sum and
// read once, whatever the number of rows.
#include "weights.cuh"

// The most rows.
constexpr int FEW = 8;

// y[i, j] (=|+=) Σ_k x[i, k]·w[j, k] + bias[j]. A warp has an output.
KERNEL(gemv_four_bit, THREADS)
(Ptr<float> y, i64 ldy, Ptr<const float> x, i64 ldx, FOUR_BIT_PARAMETERS, Ptr<const float> bias, int rows, i64 outputs,
 i64 inputs, int has_bias, int is_add) {
  FourBit w = FOUR_BIT_ARGUMENTS;
  int lane = threadIdx.x % 32;
  for (i64 j = thread_index() / 32; j < outputs; j += thread_count() / 32) {
    float sum[FEW];
#pragma unroll
    for (int i = 0; i < FEW; i++) sum[i] = 0.0f;
    for (i64 k = lane; k < inputs; k += 32) {
      float value = four_bit_at(w, j * inputs + k);
#pragma unroll
      for (int i = 0; i < FEW; i++) {
        if (i < rows) sum[i] += x[i * ldx + k] * value;
      }
    }
#pragma unroll
    for (int i = 0; i < FEW; i++) {
      if (i >= rows) continue;  // the same for all lanes
      for (int distance = 16; distance > 0; distance /= 2) sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], distance);
      if (lane == 0) {
        float value = sum[i] + (has_bias ? (float)bias[j] : 0.0f);
        y[i * ldy + j] = is_add ? y[i * ldy + j] + value : value;
      }
    }
  }
}
