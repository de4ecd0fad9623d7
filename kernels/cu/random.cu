// Dropout and noise from the counter-based generator Philox4x32-10 (Salmon et al. 2011): element `i` of a
// stream is word `i % 4` of the block with counter `(i / 4, stream)`, the same number as on a processor.
#include "device.cuh"

// Uniform `i` of `stream` under `seed`, a multiple of 2^-24 in [0, 1).
DEVICE float uniform(u64 seed, u64 stream, u64 i) {
  u64 index = i / 4;
  u32 c0 = (u32)index, c1 = (u32)(index >> 32), c2 = (u32)stream, c3 = (u32)(stream >> 32);
  u32 k0 = (u32)seed, k1 = (u32)(seed >> 32);
  for (int round = 0; round < 10; round++) {
    u64 low = (u64)c0 * 0xD2511F53u, high = (u64)c2 * 0xCD9E8D57u;
    u32 n0 = (u32)(high >> 32) ^ c1 ^ k0, n2 = (u32)(low >> 32) ^ c3 ^ k1;
    c0 = n0;
    c1 = (u32)high;
    c2 = n2;
    c3 = (u32)low;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  u32 word = i % 4 == 0 ? c0 : i % 4 == 1 ? c1 : i % 4 == 2 ? c2 : c3;
  return (float)(word >> 8) * (1.0f / 16777216.0f);
}

// y (=|+=) mask∘x·keep, kept where the uniform of the element is at least p.
KERNEL(dropout, THREADS)
(EITHER(y), EITHER(x), i64 rows, i64 cols, float p, float keep, u64 seed, u64 stream, int is_add) {
  NUMBERS(y);
  NUMBERS(x);
  for (i64 e = thread_index(); e < rows * cols; e += thread_count()) {
    i64 i = e / cols, j = e % cols;
    y.write_one(i * ldy + j, uniform(seed, stream, (u64)e) >= p ? x[i * ldx + j] * keep : 0.0f, is_add);
  }
}

// y[i, j] += amplitudes[i]·(2u - 1)
KERNEL(noise, THREADS)
(Ptr<float> y, i64 ldy, Ptr<const float> amplitudes, i64 rows, i64 cols, u64 seed, u64 stream) {
  for (i64 e = thread_index(); e < rows * cols; e += thread_count()) {
    i64 i = e / cols, j = e % cols;
    float u = uniform(seed, stream, (u64)e);
    y[i * ldy + j] = y[i * ldy + j] + amplitudes[i] * (2.0f * u - 1.0f);
  }
}
