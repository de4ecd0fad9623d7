// Numbers of frozen weights from their stored bytes, with the bits of the processor.
#pragma once
#include "device.cuh"

// A number of half precision (IEEE 754 binary16).
DEVICE float from_f16(u32 h) {
  float magnitude = (h & 0x7c00u) == 0x7c00u ? __uint_as_float(0x7f800000u | (h & 0x3ffu) << 13)
                                             // The exponents are 112 apart, of the smallest numbers too.
                                             : mul(__uint_as_float((h & 0x7fffu) << 13), 5.192296858534828e33f);
  return __uint_as_float(__float_as_uint(magnitude) | (h & 0x8000u) << 16);
}

// Dense numbers: type 0 is f32, 1 is binary16, 2 is bfloat16; `words` are their 16-bit halves, low half first.
DEVICE float dense_at(Ptr<const u16> words, i64 at, int type) {
  return type == 0   ? __uint_as_float((u32)words[2 * at] | (u32)words[2 * at + 1] << 16)
         : type == 1 ? from_f16(words[at])
                     : from_bf16(words[at]);
}

// Eight of them from `at` on; `is_wide`: they lie at a multiple of 16 bytes.
DEVICE void eight_numbers(float (&to)[8], Ptr<const u16> words, i64 at, int type, int is_wide) {
  if (!is_wide) {
#pragma unroll
    for (int e = 0; e < 8; e++) to[e] = dense_at(words, at + e, type);
    return;
  }
  u32 raw[4];
  if (type == 0) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      load_16_bytes(raw, words + (at + half * 4) * 2);
#pragma unroll
      for (int e = 0; e < 4; e++) to[half * 4 + e] = __uint_as_float(raw[e]);
    }
    return;
  }
  load_16_bytes(raw, words + at);
#pragma unroll
  for (int e = 0; e < 8; e++) {
    u32 half = raw[e / 2] >> 16 * (e % 2) & 0xffffu;
    to[e] = type == 1 ? from_f16(half) : from_bf16(half);
  }
}

// `x` rounded to a type and back: 0 stays, 1 is binary16, 2 is bfloat16.
DEVICE float round_to(float x, int type) {
  if (type == 0 || !is_finite(x)) return x;  // neither infinities nor what is no number
  if (type == 2) return __uint_as_float(rounded_bits(x, 16));
  if (fabsf(x) >= 65520.0f) return copysignf(__uint_as_float(0x7f800000u), x);
  // Below the normal range the numbers are 2^-24 apart, as those from 0.5 to 1 of f32 are.
  if (fabsf(x) < 6.103515625e-5f) return copysignf(add(add(fabsf(x), 0.75f), -0.75f), x);
  return __uint_as_float(rounded_bits(x, 13));
}

// 4-bit codes in the layout of bitsandbytes, and of gpt-oss where the low half of a byte is first. `is_nested`: a
// block's scale is map[its code]·scales + offset with a scale for `group` blocks; otherwise there is a scale a block.
struct FourBit {
  Ptr<const u8> codes;
  Ptr<const float> table, scales;
  Ptr<const u8> scale_codes;
  Ptr<const float> map;
  float offset;
  i64 block, group;
  int is_nested, low_first, rounding;
};
#define FOUR_BIT_PARAMETERS                                                                                          \
  Ptr<const u8> codes, Ptr<const float> table, Ptr<const float> scales, Ptr<const u8> scale_codes,                   \
      Ptr<const float> map, float offset, i64 block, i64 group, int is_nested, int low_first, int rounding
#define FOUR_BIT_ARGUMENTS \
  { codes, table, scales, scale_codes, map, offset, block, group, is_nested, low_first, rounding }

// The scale of block `of`.
DEVICE float four_bit_scale(const FourBit& w, i64 of) {
  return w.is_nested ? add(mul(w.map[w.scale_codes[of]], w.scales[of / w.group]), w.offset) : (float)w.scales[of];
}

// The same of block `of` in 32 bits, of a weight that has no more.
DEVICE float four_bit_scale_32(const FourBit& w, u32 of) {
  u32 group = w.group > 0xffffffffll ? 0xffffffffu : (u32)w.group;
  return w.is_nested ? add(mul(w.map[w.scale_codes[of]], w.scales[of / group]), w.offset) : (float)w.scales[of];
}

// The 16 values where all threads of a block find them, each in a bank of its own.
DEVICE void share_values(Ptr<float> values, Ptr<const float> table) {
  if (threadIdx.x < 16) values[threadIdx.x] = table[threadIdx.x];
  __syncthreads();
}
// The values of eight codes, of which the first is in the low byte of `word`, not yet scaled.
DEVICE void eight_values(float (&to)[8], Ptr<const float> values, u32 word, int low_first) {
#pragma unroll
  for (int pair = 0; pair < 4; pair++) {
    float low = values[word >> 8 * pair & 15u], high = values[word >> (8 * pair + 4) & 15u];
    to[2 * pair] = low_first ? low : high;
    to[2 * pair + 1] = low_first ? high : low;
  }
}

// The number of one half of a byte, of a block with scale `absmax`.
DEVICE float four_bit_value(const FourBit& w, u32 byte, bool is_first, float absmax) {
  u32 code = is_first == (w.low_first != 0) ? byte & 15u : byte >> 4;
  return round_to(mul(w.table[code], absmax), w.rounding);
}

// Element `at`, counted row after row.
DEVICE float four_bit_at(const FourBit& w, i64 at) {
  return four_bit_value(w, w.codes[at / 2], at % 2 == 0, four_bit_scale(w, at / w.block));
}
