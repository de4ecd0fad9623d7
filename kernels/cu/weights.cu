// Frozen weights to f32, whole rows: what products multiply with, and what an embedding looks up.
// Output row `i` is row `rows[i]` of the weight, or row `first + i` where there are no `rows`.
#include "weights.cuh"

KERNEL(decode_dense, THREADS)
(Ptr<float> out, i64 ldo, Ptr<const u16> words, Ptr<const u32> rows, int has_rows, i64 first, i64 n_rows, i64 cols,
 int type, float scale) {
  for (i64 e = thread_index(); e < n_rows * cols; e += thread_count()) {
    i64 i = e / cols, j = e % cols, at = (has_rows ? (i64)rows[i] : first + i) * cols + j;
    out[i * ldo + j] = mul(scale, dense_at(words, at, type));
  }
}

KERNEL(decode_four_bit, THREADS)
(Ptr<float> out, i64 ldo, FOUR_BIT_PARAMETERS, Ptr<const u32> rows, int has_rows, i64 first, i64 n_rows, i64 cols,
 float scale) {
  FourBit w = FOUR_BIT_ARGUMENTS;
  for (i64 e = thread_index(); e < n_rows * cols; e += thread_count()) {
    i64 i = e / cols, j = e % cols, at = (has_rows ? (i64)rows[i] : first + i) * cols + j;
    out[i * ldo + j] = mul(scale, four_bit_at(w, at));
  }
}

// Rows `first..first + n_rows` in bfloat16 for `gemm_bf16.cu`: `padded_rows` rows of `padded_cols`, zeros beyond.
KERNEL(decode_dense_bf16, THREADS)
(Ptr<u16> out, Ptr<const u16> words, i64 first, i64 n_rows, i64 cols, i64 padded_rows, i64 padded_cols, int type) {
  for (i64 e = thread_index(); e < padded_rows * padded_cols; e += thread_count()) {
    i64 i = e / padded_cols, j = e % padded_cols;
    out[e] = i < n_rows && j < cols ? to_bf16(dense_at(words, (first + i) * cols + j, type)) : (u16)0;
  }
}

// The same of 4-bit codes. Eight codes are a word, and 16 bytes of the result: what neighbouring threads load, and store,
// lies together. FLIGHT words of a thread are under way at once. `cols`, `padded_cols` and the blocks are multiples of
// 8; the weight, and the result, have fewer than 2^32 words.
constexpr int FLIGHT = 4;
KERNEL(decode_four_bit_bf16, THREADS)
(Ptr<u16> out, FOUR_BIT_PARAMETERS, i64 first, i64 n_rows, i64 cols, i64 padded_rows, i64 padded_cols) {
  SHARED(float, values, 16);
  share_values(values, table);
  FourBit w = FOUR_BIT_ARGUMENTS;
  u32 across = (u32)(padded_cols / 8), inside = (u32)(cols / 8), all = (u32)padded_rows * across;
  u32 per_block = (u32)(block / 8), stride = gridDim.x * THREADS;
  for (i64 begin = thread_index(); begin < all; begin += (i64)stride * FLIGHT) {
    u32 word[FLIGHT];
    float absmax[FLIGHT];
    bool exists[FLIGHT];
#pragma unroll
    for (int f = 0; f < FLIGHT; f++) {
      u32 e = (u32)begin + f * stride, i = e / across, j = e % across;
      exists[f] = begin + (i64)f * stride < all && i < n_rows && j < inside;
      word[f] = 0u;
      absmax[f] = 0.0f;
      if (exists[f]) {
        u32 at = (u32)(first * inside) + i * inside + j;
        word[f] = load_4_bytes(w.codes + (i64)at * 4);
        absmax[f] = four_bit_scale_32(w, at / per_block);
      }
    }
#pragma unroll
    for (int f = 0; f < FLIGHT; f++) {
      i64 e = begin + (i64)f * stride;
      if (e >= all) continue;
      float value[8];
      eight_values(value, values, word[f], w.low_first);
      u32 numbers[4];
#pragma unroll
      for (int pair = 0; pair < 4; pair++) {
        // Numbers that are rounded to bfloat16 anyway are so only once.
        float low = mul(value[2 * pair], absmax[f]), high = mul(value[2 * pair + 1], absmax[f]);
        if (w.rounding == 1) low = round_to(low, 1), high = round_to(high, 1);
        numbers[pair] = exists[f] ? pair_bf16(low, high) : 0u;
      }
      store_16_bytes(out + e * 8, numbers);
    }
  }
}
