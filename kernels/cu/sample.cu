// The largest logits of a row, and logits lowered for what was said before.
#include "device.cuh"

// Numbers that a block sorts, and how many of them it keeps, as in `sample.rs`.
constexpr int SORTED = 2048;
constexpr int LARGEST = 64;

// A number and its place as one number: the larger the number, and of equals the earlier the place, the larger it is.
// 0 for what is no number.
DEVICE u64 sortable(float x, i64 at) {
  if (!(x == x)) return 0;
  u32 bits = __float_as_uint(add(x, 0.0f));  // both zeros are one
  bits = bits >> 31 ? ~bits : bits | 0x80000000u;
  return (u64)bits << 32 | (u64)~(u32)at;
}

// The LARGEST largest of each SORTED numbers, the largest first: of `x` where it `is_first`, otherwise of what blocks kept
// before. By a bitonic network (Batcher 1968): a pair changes places where it is not in the order of its run.
KERNEL(largest, THREADS)(Ptr<u64> kept, Ptr<const float> x, Ptr<const u64> before, i64 count, int is_first) {
  SHARED(u64, keys, SORTED);
  i64 begin = (i64)blockIdx.x * SORTED;
  for (int i = threadIdx.x; i < SORTED; i += THREADS) {
    i64 at = begin + i;
    keys[i] = at >= count ? 0 : is_first ? sortable(x[at], at) : (u64)before[at];
  }
  __syncthreads();
  for (int run = 2; run <= SORTED; run *= 2) {
    for (int distance = run / 2; distance > 0; distance /= 2) {
      for (int pair = threadIdx.x; pair < SORTED / 2; pair += THREADS) {
        int low = pair / distance * 2 * distance + pair % distance, high = low + distance;
        u64 a = keys[low], b = keys[high];
        if ((a < b) == ((low & run) == 0)) {
          keys[low] = b;
          keys[high] = a;
        }
      }
      __syncthreads();
    }
  }
  if (threadIdx.x < LARGEST) kept[(i64)blockIdx.x * LARGEST + threadIdx.x] = keys[threadIdx.x];
}

// x[token] is divided (or, below zero, multiplied) by `repetition`, and lowered for the times it was written.
KERNEL(penalize, THREADS)
(Ptr<float> x, Ptr<const u32> tokens, Ptr<const u32> written, i64 count, float repetition, float presence,
 float frequency) {
  for (i64 e = thread_index(); e < count; e += thread_count()) {
    float z = x[tokens[e]];
    z = z < 0.0f ? mul(z, repetition) : z / repetition;
    if (written[e] > 0) z = add(z, -add(mul(frequency, (float)written[e]), presence));
    x[tokens[e]] = z;
  }
}
