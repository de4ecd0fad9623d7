// Frozen weights to f32, whole rows: what products multiply with, and what an embedding looks up.
// Output row `i` is row `rows[i]` of the weight, or row `first + i` where there are no `rows`.
#include "weights.cuh"

// Dense numbers: type 0 is f32, 1 is binary16, 2 is bfloat16; `words` are their 16-bit halves, low half first.
DEVICE float dense_at(Ptr<const u16> words, i64 at, int type) {
  return type == 0   ? __uint_as_float((u32)words[2 * at] | (u32)words[2 * at + 1] << 16)
         : type == 1 ? from_f16(words[at])
                     : from_bf16(words[at]);
}

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

// The same of 4-bit codes, eight at a time: `cols`, `padded_cols` and the blocks are multiples of 8.
KERNEL(decode_four_bit_bf16, THREADS)
(Ptr<u16> out, FOUR_BIT_PARAMETERS, i64 first, i64 n_rows, i64 cols, i64 padded_rows, i64 padded_cols) {
  FourBit w = FOUR_BIT_ARGUMENTS;
  i64 across = padded_cols / 8;
  for (i64 e = thread_index(); e < padded_rows * across; e += thread_count()) {
    i64 i = e / across, j = e % across * 8;
    u32 numbers[4] = {0u, 0u, 0u, 0u};
    if (i < n_rows && j < cols) {
      i64 at = (first + i) * cols + j;
      float absmax = four_bit_scale(w, at / w.block);
#pragma unroll
      for (int pair = 0; pair < 4; pair++) {
        u32 byte = w.codes[at / 2 + pair];
        u32 low = to_bf16(four_bit_value(w, byte, true, absmax)), high = to_bf16(four_bit_value(w, byte, false, absmax));
        numbers[pair] = low | high << 16;
      }
    }
    store_16_bytes(out + e * 8, numbers);
  }
}
