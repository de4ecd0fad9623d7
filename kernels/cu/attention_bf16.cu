// Causal grouped-query attention on tensor cores, forward: as `attention.cu`, with tiles of 64 queries by 64 keys.
#include "attention_bf16.cuh"

template <int WIDTH>
DEVICE void attention_mma(const Numbers& y, i64 ldy, Ptr<float> lse, Ptr<const u16> q, Ptr<const u16> k, Ptr<const u16> v,
                          i64 ldq, i64 ldk, Ptr<const float> sinks, Ptr<const i64> tiles, int heads, int kv_heads, float scale,
                          i64 window, float cap, int has_sinks) {
  constexpr int KEYS = SIDE_MMA;
  SHARED(u16, keys, KEYS * (WIDTH + 8));
  SHARED(u16, values, KEYS * (WIDTH + 8));
  Tile tile = tile_at(tiles, blockIdx.x / heads);
  int head = blockIdx.x % heads, kv = head / (heads / kv_heads);
  int mine = threadIdx.x / 32 * 16;
  q = q + head * WIDTH;
  k = k + (tile.key_row * ldk + kv * WIDTH);
  v = v + (tile.key_row * ldk + kv * WIDTH);

  u32 query[WIDTH / 16][4];
  tile_fragments<WIDTH>(query, keys, q, ldq, tile);
  float out[WIDTH / 8][4];
  clear(out);
  // Rows `result_row(0)` and `result_row(2)` of this warp. A sink takes part from the beginning and has no value.
  float largest[2], sum[2];
#pragma unroll
  for (int r = 0; r < 2; r++) {
    largest[r] = has_sinks ? (float)sinks[head] : minus_infinity();
    sum[r] = has_sinks ? 1.0f : 0.0f;
  }
  i64 last = tile.position + tile.count - 1;
  i64 begin = first_seen(tile, window) / KEYS * KEYS;
  start_head<WIDTH, KEYS>(keys, k, ldk, begin, last);
  copy_group();
  start_head<WIDTH, KEYS>(values, v, ldk, begin, last);
  copy_group();
  for (i64 at = begin; at <= last; at += KEYS) {
    wait_copies<1>();
    __syncthreads();  // the keys are there
    float score[KEYS / 8][4];
    clear(score);
    add_scores<WIDTH>(score, query, keys);
    wait_copies<0>();
    __syncthreads();  // the values are there, and the keys have been read
    if (at + KEYS <= last) start_head<WIDTH, KEYS>(keys, k, ldk, at + KEYS, last);
    copy_group();

    float before[2] = {largest[0], largest[1]};
#pragma unroll
    for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        float s = score[j][e] * scale;
        if (cap > 0.0f) s = cap * tanhf(s / cap);
        i64 key = at + j * 8 + result_col(e);
        if (!sees(tile.position + mine + result_row(e), key, window)) s = minus_infinity();
        score[j][e] = s;
        largest[e / 2] = fmaxf(largest[e / 2], s);
      }
    float shift[2], correction[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
      largest[r] = row_largest(largest[r]);
      // Nothing seen yet: no score to subtract, and nothing to correct.
      shift[r] = largest[r] == minus_infinity() ? 0.0f : largest[r];
      correction[r] = before[r] == minus_infinity() ? 0.0f : expf(before[r] - shift[r]);
    }
    float part[2] = {0.0f, 0.0f};
#pragma unroll
    for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        score[j][e] = expf(score[j][e] - shift[e / 2]);
        part[e / 2] += score[j][e];
      }
#pragma unroll
    for (int r = 0; r < 2; r++) sum[r] = sum[r] * correction[r] + row_sum(part[r]);
#pragma unroll
    for (int c = 0; c < WIDTH / 8; c++)
#pragma unroll
      for (int e = 0; e < 4; e++) out[c][e] *= correction[e / 2];
    add_rows<WIDTH>(out, score, values);
    __syncthreads();  // the values have been read
    if (at + KEYS <= last) start_head<WIDTH, KEYS>(values, v, ldk, at + KEYS, last);
    copy_group();
  }
#pragma unroll
  for (int e = 0; e < 4; e += 2) {
    int row = mine + result_row(e);
    if (row >= tile.count) continue;
#pragma unroll
    for (int c = 0; c < WIDTH / 8; c++) {
      i64 at = (tile.row + row) * ldy + head * WIDTH + c * 8 + result_col(e);
      y.put_2(at, out[c][e] / sum[e / 2], out[c][e + 1] / sum[e / 2]);
    }
    if (threadIdx.x % 4 == 0) lse[(tile.row + row) * heads + head] = largest[e / 2] + logf(sum[e / 2]);
  }
}

#define ATTENTION_BF16(width)                                                                                       \
  KERNEL(attention_bf16_##width, ATTENTION_THREADS)                                                                 \
  (EITHER(y), Ptr<float> lse, Ptr<const u16> q, i64 ldq, Ptr<const u16> k, Ptr<const u16> v, i64 ldk,               \
   Ptr<const float> sinks, Ptr<const i64> tiles, int heads, int kv_heads, float scale, i64 window, float cap,       \
   int has_sinks) {                                                                                                 \
    NUMBERS(y);                                                                                                     \
    attention_mma<width>(y, ldy, lse, q, k, v, ldq, ldk, sinks, tiles, heads, kv_heads, scale, window, cap,         \
                         has_sinks);                                                                                \
  }

ATTENTION_BF16(16)
ATTENTION_BF16(64)
ATTENTION_BF16(80)
ATTENTION_BF16(96)
ATTENTION_BF16(128)
