// Frozen weights to f32, whole rows: what products multiply with, and what an embedding looks up.
// Output row `i` is row `rows[i]` of the weight, or row `first + i` where there are no `rows`.
#include "device.cuh"

// A number of half precision (IEEE 754 binary16).
DEVICE float from_f16(u32 h) {
  float magnitude = (h & 0x7c00u) == 0x7c00u ? __uint_as_float(0x7f800000u | (h & 0x3ffu) << 13)
                                             // The exponents are 112 apart, of the smallest numbers too.
                                             : mul(__uint_as_float((h & 0x7fffu) << 13), 5.192296858534828e33f);
  return __uint_as_float(__float_as_uint(magnitude) | (h & 0x8000u) << 16);
}

DEVICE float from_bf16(u32 h) { return __uint_as_float(h << 16); }

// `x` rounded to a type and back: 0 stays, 1 is binary16, 2 is bfloat16.
DEVICE float round_to(float x, int type) {
  if (type == 0 || !is_finite(x)) return x;  // neither infinities nor what is no number
  if (type == 2) return __uint_as_float(rounded_bits(x, 16));
  if (fabsf(x) >= 65520.0f) return copysignf(__uint_as_float(0x7f800000u), x);
  // Below the normal range the numbers are 2^-24 apart, as those from 0.5 to 1 of f32 are.
  if (fabsf(x) < 6.103515625e-5f) return copysignf(add(add(fabsf(x), 0.75f), -0.75f), x);
  return __uint_as_float(rounded_bits(x, 13));
}

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

// 4-bit codes in the layout of bitsandbytes, and of gpt-oss where the low half of a byte is first: the bits of
// the processor. `is_nested`: scale = map[codes]·scales + offset with a scale for `group` blocks; otherwise a
// scale for a block.
KERNEL(decode_four_bit, THREADS)
(Ptr<float> out, i64 ldo, Ptr<const u8> codes, Ptr<const float> table, Ptr<const float> scales, Ptr<const u8> scale_codes,
 Ptr<const float> map, float offset, i64 block, i64 group, int is_nested, int low_first, int rounding,
 Ptr<const u32> rows, int has_rows, i64 first, i64 n_rows, i64 cols, float scale) {
  for (i64 e = thread_index(); e < n_rows * cols; e += thread_count()) {
    i64 i = e / cols, j = e % cols, at = (has_rows ? (i64)rows[i] : first + i) * cols + j;
    i64 of = at / block;
    float absmax = is_nested ? add(mul(map[scale_codes[of]], scales[of / group]), offset) : (float)scales[of];
    u32 byte = codes[at / 2], code = (at % 2 == 0) == (low_first != 0) ? byte & 15u : byte >> 4;
    out[i * ldo + j] = mul(scale, round_to(mul(table[code], absmax), rounding));
  }
}
