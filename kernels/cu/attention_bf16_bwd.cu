// Backward of attention on tensor cores, in the two kernels and the letters of `attention_bwd.cu`: one has a tile of
// queries and goes over keys, the other has a tile of keys and goes over the queries of all heads that share it. Every
// number has one writer.
#include "attention_bf16.cuh"

// dq of 64 queries: KEYS keys at a time, while the next ones come in.
template <int WIDTH, int KEYS>
DEVICE void attention_dq_mma(const Numbers& dq, i64 lddq, Ptr<const u16> dy, i64 lddy, Ptr<const u16> q, Ptr<const u16> k,
                             Ptr<const u16> v, i64 ld, Ptr<const float> lse, Ptr<const float> dots, Ptr<const i64> tiles,
                             int heads, int kv_heads, float scale, i64 window, float cap) {
  constexpr int STAGE = KEYS * (WIDTH + 8);
  static_assert(2 * KEYS == SIDE_MMA, "two stages of keys have the room of the queries");
  SHARED(u16, keys, 2 * STAGE);
  SHARED(u16, values, 2 * STAGE);
  Tile tile = tile_at(tiles, blockIdx.x / heads);
  int head = blockIdx.x % heads, kv = head / (heads / kv_heads);
  int mine = threadIdx.x / 32 * 16;
  i64 last_row = tile.row + tile.count - 1;
  k = k + (tile.key_row * ld + kv * WIDTH);
  v = v + (tile.key_row * ld + kv * WIDTH);

  u32 query[WIDTH / 16][4], grad[WIDTH / 16][4];
  tile_fragments<WIDTH>(query, keys, q + head * WIDTH, ld, tile);
  tile_fragments<WIDTH>(grad, keys, dy + head * WIDTH, lddy, tile);

  float row_lse[2], row_dot[2];
#pragma unroll
  for (int r = 0; r < 2; r++) {
    i64 row = tile.row + mine + result_row(2 * r);
    i64 at = (row < last_row ? row : last_row) * heads + head;
    row_lse[r] = lse[at];
    row_dot[r] = dots[at];
  }
  float out[WIDTH / 8][4];
  clear(out);
  i64 last = tile.position + tile.count - 1;
  i64 begin = first_seen(tile, window) / KEYS * KEYS;
  start_head<WIDTH, KEYS>(keys, k, ld, begin, last);
  start_head<WIDTH, KEYS>(values, v, ld, begin, last);
  copy_group();
  int stage = 0;
  for (i64 at = begin; at <= last; at += KEYS) {
    wait_copies<0>();
    __syncthreads();  // these keys and values are there, and all have done with those before
    Ptr<u16> key_rows = keys + stage * STAGE, value_rows = values + stage * STAGE;
    stage = 1 - stage;
    if (at + KEYS <= last) {
      start_head<WIDTH, KEYS>(keys + stage * STAGE, k, ld, at + KEYS, last);
      start_head<WIDTH, KEYS>(values + stage * STAGE, v, ld, at + KEYS, last);
    }
    copy_group();
    float score[KEYS / 8][4], dyv[KEYS / 8][4];
    clear(score);
    clear(dyv);
    add_scores<WIDTH>(score, query, key_rows);
    add_scores<WIDTH>(dyv, grad, value_rows);
#pragma unroll
    for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        i64 key = at + j * 8 + result_col(e);
        bool is_seen = sees(tile.position + mine + result_row(e), key, window);
        slope_of(score[j][e], dyv[j][e], is_seen, row_lse[e / 2], row_dot[e / 2], scale, cap);
      }
    add_rows<WIDTH>(out, dyv, key_rows);
  }
#pragma unroll
  for (int e = 0; e < 4; e += 2) {
    int row = mine + result_row(e);
    if (row >= tile.count) continue;
#pragma unroll
    for (int c = 0; c < WIDTH / 8; c++) {
      dq.put_2((tile.row + row) * lddq + head * WIDTH + c * 8 + result_col(e), out[c][e], out[c][e + 1]);
    }
  }
}

// dk and dv of 64 keys: 16 queries at a time. Tiles as in `attention_dkv_tile`.
template <int WIDTH>
DEVICE void attention_dkv_mma(const Numbers& dk, const Numbers& dv, i64 ldd, Ptr<const u16> dy, i64 lddy, Ptr<const u16> q,
                              Ptr<const u16> k, Ptr<const u16> v, i64 ld, Ptr<const float> lse, Ptr<const float> dots,
                              Ptr<const i64> tiles, int heads, int kv_heads, float scale, i64 window, float cap) {
  constexpr int QUERIES = 16;
  SHARED(u16, keys, SIDE_MMA * (WIDTH + 8));
  SHARED(u16, values, SIDE_MMA * (WIDTH + 8));
  SHARED(u16, queries, QUERIES * (WIDTH + 8));
  SHARED(u16, grads, QUERIES * (WIDTH + 8));
  Tile tile = tile_at(tiles, blockIdx.x / kv_heads);
  int kv = blockIdx.x % kv_heads, group = heads / kv_heads;
  int mine = threadIdx.x / 32 * 16;
  start_head<WIDTH, SIDE_MMA>(keys, k + kv * WIDTH, ld, tile.row, tile.row + tile.count - 1);
  start_head<WIDTH, SIDE_MMA>(values, v + kv * WIDTH, ld, tile.row, tile.row + tile.count - 1);
  copy_group();
  float key_out[WIDTH / 8][4], value_out[WIDTH / 8][4];
  clear(key_out);
  clear(value_out);
  i64 rest = tile.key_row - tile.row, reach = reach_of_keys(tile, window);
  for (int head = kv * group; head < (kv + 1) * group; head++) {
    for (i64 at = 0; at < reach; at += QUERIES) {
      __syncthreads();  // what the step before read
      start_head<WIDTH, QUERIES>(queries, q + head * WIDTH, ld, tile.row + at, tile.key_row - 1);
      start_head<WIDTH, QUERIES>(grads, dy + head * WIDTH, lddy, tile.row + at, tile.key_row - 1);
      copy_group();
      wait_copies<0>();
      __syncthreads();  // keys, values, queries and gradients are there
      float score[2][4], dyv[2][4];
      clear(score);
      clear(dyv);
#pragma unroll
      for (int c = 0; c < WIDTH / 16; c++) {
        u32 left[4], right[4];
        left_fragment<WIDTH>(left, keys, mine, c * 16);
        column_fragment<WIDTH>(right, queries, 0, c * 16);
        multiply_16(score[0], score[1], left, right);
        left_fragment<WIDTH>(left, values, mine, c * 16);
        column_fragment<WIDTH>(right, grads, 0, c * 16);
        multiply_16(dyv[0], dyv[1], left, right);
      }
#pragma unroll
      for (int j = 0; j < 2; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
          int key = mine + result_row(e);
          i64 query = at + j * 8 + result_col(e);
          bool is_seen = query < rest && key < tile.count && sees(query, key, window);
          i64 of = (tile.row + (query < rest ? query : rest - 1)) * heads + head;
          slope_of(score[j][e], dyv[j][e], is_seen, lse[of], dots[of], scale, cap);
        }
      add_rows<WIDTH>(value_out, score, grads);
      add_rows<WIDTH>(key_out, dyv, queries);
    }
  }
#pragma unroll
  for (int e = 0; e < 4; e += 2) {
    int row = mine + result_row(e);
    if (row >= tile.count) continue;
#pragma unroll
    for (int c = 0; c < WIDTH / 8; c++) {
      i64 at = (tile.row + row) * ldd + kv * WIDTH + c * 8 + result_col(e);
      dk.put_2(at, key_out[c][e], key_out[c][e + 1]);
      dv.put_2(at, value_out[c][e], value_out[c][e + 1]);
    }
  }
}

#define ATTENTION_BF16_BWD(width, keys)                                                                             \
  KERNEL(attention_bf16_dq_##width, ATTENTION_THREADS)                                                              \
  (EITHER(dq), Ptr<const u16> dy, i64 lddy, Ptr<const u16> q, Ptr<const u16> k, Ptr<const u16> v, i64 ld,           \
   Ptr<const float> lse, Ptr<const float> dots, Ptr<const i64> tiles, int heads, int kv_heads, float scale,         \
   i64 window, float cap) {                                                                                         \
    NUMBERS(dq);                                                                                                    \
    attention_dq_mma<width, keys>(dq, lddq, dy, lddy, q, k, v, ld, lse, dots, tiles, heads, kv_heads, scale, window, \
                                  cap);                                                                             \
  }                                                                                                                 \
  KERNEL(attention_bf16_dkv_##width, ATTENTION_THREADS)                                                             \
  (Ptr<u16> words_of_dk, EITHER(dv), Ptr<const u16> dy, i64 lddy, Ptr<const u16> q, Ptr<const u16> k,               \
   Ptr<const u16> v, i64 ld, Ptr<const float> lse, Ptr<const float> dots, Ptr<const i64> tiles, int heads,          \
   int kv_heads, float scale, i64 window, float cap) {                                                              \
    NUMBERS(dv);                                                                                                    \
    Numbers dk = {words_of_dk, dv_is_narrow};                                                                       \
    attention_dkv_mma<width>(dk, dv, lddv, dy, lddy, q, k, v, ld, lse, dots, tiles, heads, kv_heads, scale, window, \
                             cap);                                                                                  \
  }

ATTENTION_BF16_BWD(16, 32)
ATTENTION_BF16_BWD(64, 32)
ATTENTION_BF16_BWD(80, 32)
ATTENTION_BF16_BWD(96, 32)
ATTENTION_BF16_BWD(128, 32)
