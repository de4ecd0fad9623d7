// Rotary embedding (Su et al. 2021) in place, half-split: the pairs are `(x[i], x[i + rotary/2])` of every head. A thread
// has eight pairs at a time.
#include "device.cuh"

// A row of the table: cosines, then sines. Back turns the other way.
KERNEL(rope, THREADS)
(EITHER(x), Ptr<const float> table, Ptr<const u32> positions, i64 rows, i64 heads, i64 head_dim, i64 rotary, int is_back) {
  NUMBERS(x);
  i64 half = rotary / 2, pieces = (half + 7) / 8;
  Numbers other = x.from(half);
  bool is_even = head_dim % 8 == 0, wide = is_even && x.is_wide(ldx), other_wide = is_even && other.is_wide(ldx);
  // Pieces of a row are those of its heads, one after the other.
  each_piece(rows, heads * pieces * 8, [&](i64 row, i64 at, i64) {
    u32 piece = (u32)(at / 8), head = piece / (u32)pieces;
    i64 j = (i64)(piece - head * (u32)pieces) * 8, there = half - j < 8 ? half - j : 8;
    i64 begin = row * ldx + head * head_dim + j;
    Ptr<const float> turn = table + ((i64)positions[row] * rotary + j);
    float a[8], b[8], first[8], second[8];
    x.load(a, begin, there, wide);
    other.load(b, begin, there, other_wide);
#pragma unroll
    for (int e = 0; e < 8; e++) {
      float c = e < there ? (float)turn[e] : 0.0f, s = e < there ? (float)turn[half + e] : 0.0f;
      if (is_back) s = -s;
      first[e] = a[e] * c - b[e] * s;
      second[e] = b[e] * c + a[e] * s;
    }
    x.store(begin, first, there, wide);
    other.store(begin, second, there, other_wide);
  });
}
