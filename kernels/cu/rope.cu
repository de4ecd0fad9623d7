// Rotary embedding (Su et al. 2021) in place, half-split: the pairs are `(x[i], x[i + rotary/2])` of every head.
#include "device.cuh"

// A row of the table: cosines, then sines. Back turns the other way.
KERNEL(rope, THREADS)
(Ptr<float> x, i64 ldx, Ptr<const float> table, Ptr<const u32> positions, i64 rows, i64 heads, i64 head_dim, i64 rotary,
 int is_back) {
  i64 half = rotary / 2;
  for (i64 e = thread_index(); e < rows * heads * half; e += thread_count()) {
    i64 row = e / (heads * half), head = e / half % heads, j = e % half;
    Ptr<const float> turn = table + (i64)positions[row] * rotary;
    Ptr<float> first = x + (row * ldx + head * head_dim + j), second = first + half;
    float a = *first, b = *second, c = turn[j], s = turn[half + j];
    if (is_back) s = -s;
    *first = a * c - b * s;
    *second = b * c + a * s;
  }
}
