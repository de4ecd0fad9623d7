// What products on tensor cores share: which tile a block has, how pieces of a factor come to shared memory, and how a
// block's sums leave it.
#pragma once
#include "device.cuh"

constexpr int STEPS_BF16 = 32, STAGES_BF16 = 3;
// Neighbouring blocks go down so many tiles before they go across: what they read stays in the cache.
constexpr int GROUP_BF16 = 8;

// The first row and column of a block's tile, and which piece of the sum it has: `count` steps from `begin` on, none or
// less where the pieces before have all.
struct Cell {
  i64 row, col, part, begin, count;
};
template <int ROWS, int COLS> DEVICE Cell cell_of_block(i64 m, i64 n, i64 k, i64 parts) {
  i64 down = (m + ROWS - 1) / ROWS, across = (n + COLS - 1) / COLS;
  i64 part = blockIdx.x / (down * across), tile = blockIdx.x % (down * across);
  i64 group = tile / (GROUP_BF16 * across) * GROUP_BF16, inside = tile % (GROUP_BF16 * across);
  i64 height = down - group < GROUP_BF16 ? down - group : GROUP_BF16;
  i64 piece = (k / STEPS_BF16 + parts - 1) / parts * STEPS_BF16, begin = part * piece;
  Cell cell = {(group + inside % height) * ROWS, inside / height * COLS, part, begin, k - begin < piece ? k - begin : piece};
  return cell;
}

// Where piece `piece` of row `row` lies in rows of 32 steps: pieces of 16 bytes change places with the row, so that the
// eight rows of a matrix lie in different banks.
DEVICE int step_place(int row, int piece) { return row * STEPS_BF16 + ((piece ^ (row >> 1 & 3)) * 8); }

// `COUNT` rows of 32 steps, `ld` apart; after row `last` that one again, whose results nobody stores.
template <int COUNT, int MEMBERS> DEVICE void start_steps(Ptr<u16> to, Ptr<const u16> from, i64 ld, i64 last) {
  for (int at = threadIdx.x; at < COUNT * 4; at += MEMBERS) {
    int row = at / 4, piece = at % 4;
    copy_16_bytes(to + step_place(row, piece), from + ((row < last ? row : last) * ld + piece * 8));
  }
}

// Factors in bfloat16, and more steps of the same sum behind theirs: an adapter's product is added where the weight's is,
// before anything is rounded. A row of `a` has its steps together.
struct Factors {
  Ptr<const u16> a;
  i64 lda;
  Ptr<const u16> b;
  i64 ldb;
  i64 steps;
};
#define FACTORS                                                                                                       \
  Ptr<const u16> a, i64 lda, Ptr<const u16> b, i64 ldb, Ptr<const u16> more_a, i64 ldmore_a, Ptr<const u16> more_b,   \
      i64 ldmore_b, Ptr<const float> bias, i64 m, i64 n, i64 k, i64 more, i64 parts, float alpha, int has_bias,       \
      int is_add
#define OWN_FACTORS {a, lda, b, ldb, k}
#define MORE_FACTORS {more_a, ldmore_a, more_b, ldmore_b, more}

// y (=|+=) alpha·sums + bias: 16 x 8 results of a warp, the first at `row` and `col` of the matrix.
DEVICE void store_sums(const Numbers& y, i64 ldy, const float (&sum)[4], i64 row, i64 col, Ptr<const float> bias, i64 m,
                       i64 n, float alpha, int has_bias, int is_add) {
  int lane = threadIdx.x % 32;
  i64 j = col + lane % 4 * 2;
#pragma unroll
  for (int half = 0; half < 2; half++) {
    i64 i = row + lane / 4 + half * 8, at = i * ldy + j;
    if (i >= m || j >= n) continue;
    float value[2];
    bool is_pair = j + 1 < n;
#pragma unroll
    for (int e = 0; e < 2; e++) {
      value[e] = alpha * sum[half * 2 + e];
      if (e > 0 && !is_pair) continue;
      if (has_bias) value[e] += bias[j + e];
      if (is_add) value[e] = y[at + e] + value[e];
    }
    if (is_pair) y.put_2(at, value[0], value[1]);
    else y.put(at, value[0]);
  }
}
