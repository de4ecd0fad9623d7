// What attention on tensor cores shares: rows of heads in shared memory, and the fragments that warps multiply.
//
// Four warps have a tile of 64 rows, 16 each. WIDTH is the number of columns of a head, a multiple of 16; rows of shared
// memory are WIDTH + 8 apart, an odd number of pieces of 16 bytes, so that the eight rows of a matrix lie in different
// banks. Factors are bfloat16; scores, sums and what is added up are f32.
#pragma once
#include "attention.cuh"

constexpr int SIDE_MMA = 64;

// `COUNT` rows of a head from row `first` on; after row `last` that one again, which no query counts.
template <int WIDTH, int COUNT> DEVICE void start_head(Ptr<u16> to, Ptr<const u16> from, i64 ld, i64 first, i64 last) {
  constexpr int PIECES = WIDTH / 8;
  for (int at = threadIdx.x; at < COUNT * PIECES; at += ATTENTION_THREADS) {
    int row = at / PIECES, piece = at % PIECES;
    i64 source = first + row < last ? first + row : last;
    copy_16_bytes(to + (row * (WIDTH + 8) + piece * 8), from + (source * ld + piece * 8));
  }
}

// 16 rows by 16 columns as the left factor: rows from `row`, columns from `col`.
template <int WIDTH> DEVICE void left_fragment(u32 (&to)[4], Ptr<const u16> rows, int row, int col) {
  int lane = threadIdx.x % 32;
  load_matrices(to, rows + ((row + lane % 16) * (WIDTH + 8) + col + lane / 16 * 8));
}
// 16 rows by 16 columns as the right factor, a row being a column of the result.
template <int WIDTH> DEVICE void column_fragment(u32 (&to)[4], Ptr<const u16> rows, int row, int col) {
  int lane = threadIdx.x % 32;
  load_matrices(to, rows + ((row + lane % 8 + lane / 16 * 8) * (WIDTH + 8) + col + lane / 8 % 2 * 8));
}
// The same, a row being a step of the sum.
template <int WIDTH> DEVICE void step_fragment(u32 (&to)[4], Ptr<const u16> rows, int row, int col) {
  int lane = threadIdx.x % 32;
  load_matrices_transposed(to, rows + ((row + lane / 8 % 2 * 8 + lane % 8) * (WIDTH + 8) + col + lane / 16 * 8));
}

// 16 x 16 results as the left factor of the next product.
DEVICE void as_left(u32 (&to)[4], const float (&first)[4], const float (&second)[4]) {
  to[0] = pair_bf16(first[0], first[1]);
  to[1] = pair_bf16(first[2], first[3]);
  to[2] = pair_bf16(second[0], second[1]);
  to[3] = pair_bf16(second[2], second[3]);
}

// sums += left·right for 16 columns of the result, two results of 8 columns.
DEVICE void multiply_16(float (&first)[4], float (&second)[4], const u32 (&left)[4], const u32 (&right)[4]) {
  multiply_bf16(first, left, right[0], right[1]);
  multiply_bf16(second, left, right[2], right[3]);
}

// This warp's 16 of a tile's rows as left factors, by way of shared memory that is free afterwards.
template <int WIDTH>
DEVICE void tile_fragments(u32 (&to)[WIDTH / 16][4], Ptr<u16> way, Ptr<const u16> from, i64 ld, const Tile& tile) {
  start_head<WIDTH, SIDE_MMA>(way, from, ld, tile.row, tile.row + tile.count - 1);
  copy_group();
  wait_copies<0>();
  __syncthreads();
#pragma unroll
  for (int c = 0; c < WIDTH / 16; c++) left_fragment<WIDTH>(to[c], way, (int)threadIdx.x / 32 * 16, c * 16);
  __syncthreads();  // the rows have been read: others may come
}

// scores += left·rowsᵀ, of 16 rows by N * 8 rows of shared memory.
template <int WIDTH, int N>
DEVICE void add_scores(float (&scores)[N][4], const u32 (&left)[WIDTH / 16][4], Ptr<const u16> rows) {
#pragma unroll
  for (int c = 0; c < WIDTH / 16; c++) {
#pragma unroll
    for (int j = 0; j < N / 2; j++) {
      u32 right[4];
      column_fragment<WIDTH>(right, rows, j * 16, c * 16);
      multiply_16(scores[2 * j], scores[2 * j + 1], left[c], right);
    }
  }
}

// out += factors·rows, of 16 rows by N * 8 steps, each a row of shared memory.
template <int WIDTH, int N>
DEVICE void add_rows(float (&out)[WIDTH / 8][4], const float (&factors)[N][4], Ptr<const u16> rows) {
#pragma unroll
  for (int j = 0; j < N / 2; j++) {
    u32 left[4];
    as_left(left, factors[2 * j], factors[2 * j + 1]);
#pragma unroll
    for (int c = 0; c < WIDTH / 16; c++) {
      u32 right[4];
      step_fragment<WIDTH>(right, rows, j * 16, c * 16);
      multiply_16(out[2 * c], out[2 * c + 1], left, right);
    }
  }
}

template <int N> DEVICE void clear(float (&sums)[N][4]) {
#pragma unroll
  for (int j = 0; j < N; j++)
#pragma unroll
    for (int e = 0; e < 4; e++) sums[j][e] = 0.0f;
}

// Row and column of result `e` among 16 x 8, for this lane.
DEVICE int result_row(int e) { return (int)(threadIdx.x % 32 / 4) + e / 2 * 8; }
DEVICE int result_col(int e) { return (int)(threadIdx.x % 4 * 2) + e % 2; }

// The largest, and the sum, over the four lanes that have a row together.
DEVICE float row_largest(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}
DEVICE float row_sum(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

// p and ds of a score from dot = q·k and dyv = dy·v; both 0 where the query does not see the key.
DEVICE void slope_of(float& dot, float& dyv, bool is_seen, float lse, float weighted, float scale, float cap) {
  float s = dot * scale, slope = 1.0f;
  if (cap > 0.0f) {
    float t = tanhf(s / cap);
    s = cap * t;
    slope = 1.0f - t * t;
  }
  dot = is_seen ? expf(s - lse) : 0.0f;
  dyv = is_seen ? dot * (dyv - weighted) * slope * scale : 0.0f;
}
