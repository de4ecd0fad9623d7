// Frozen weights to f32, whole rows: what products multiply with, and what an embedding looks up.
// Output row `i` is row `rows[i]` of the weight, or row `first + i` where there are no `rows`.
#include "weights.cuh"

// Dense numbers: type 0 is f32, 1 is binary16, 2 is bfloat16; `words` are their 16-bit halves, low half first.
KERNEL(decode_dense, THREADS)
(Ptr<float> out, i64 ldo, Ptr<const u16> words, Ptr<const u32> rows, int has_rows, i64 first, i64 n_rows, i64 cols,
 int type, float scale) {
  for (i64 e = thread_index(); e < n_rows * cols; e += thread_count()) {
    i64 i = e / cols, j = e % cols, at = (has_rows ? (i64)rows[i] : first + i) * cols + j;
    float value = type == 0   ? __uint_as_float((u32)words[2 * at] | (u32)words[2 * at + 1] << 16)
                  : type == 1 ? from_f16(words[at])
                              : from_bf16(words[at]);
    out[i * ldo + j] = mul(scale, value);
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
