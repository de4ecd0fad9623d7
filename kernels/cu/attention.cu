// Causal grouped-query attention, forward: scores of a tile of queries by as many keys at a time, softmax as they
// pass (Milakov & Gimelshein 2018, Dao et al. 2022); nothing of the size of the scores is ever stored.
#include "attention.cuh"

// WIDTH: the most columns of a head. SIDE: queries, and keys, of a tile.
template <int WIDTH, int SIDE>
DEVICE void attention_tile(Ptr<float> y, i64 ldy, Ptr<float> lse, Ptr<const float> q, i64 ldq, Ptr<const float> k,
                           Ptr<const float> v, i64 ldk, Ptr<const float> sinks, Ptr<const i64> tiles, int heads,
                           int kv_heads, int head_dim, float scale, i64 window, float cap, int has_sinks, int has_lse) {
  constexpr int SHARERS = ATTENTION_THREADS / SIDE, COLS = WIDTH / SHARERS;
  SHARED(float, queries, SIDE * WIDTH);
  SHARED(float, keys, SIDE * WIDTH);
  SHARED(float, values, SIDE * WIDTH);
  SHARED(float, scores, SIDE * SIDE);
  Tile tile = tile_at(tiles, blockIdx.x / heads);
  int head = blockIdx.x % heads, kv = head / (heads / kv_heads);
  int mine = threadIdx.x / SHARERS, share = threadIdx.x % SHARERS;
  k = k + kv * head_dim;
  v = v + kv * head_dim;
  load_rows(queries, q + head * head_dim, ldq, tile.row, tile.count, SIDE, head_dim, WIDTH);

  float out[COLS];
#pragma unroll
  for (int c = 0; c < COLS; c++) out[c] = 0.0f;
  // A sink takes part in the softmax from the beginning and has no value.
  float largest = has_sinks ? (float)sinks[head] : minus_infinity(), sum = has_sinks ? 1.0f : 0.0f;

  i64 last = tile.position + tile.count - 1;
  for (i64 at = first_seen(tile, window) / SIDE * SIDE; at <= last; at += SIDE) {
    __syncthreads();  // the keys and scores of the step before have been read
    load_rows(keys, k, ldk, tile.key_row + at, last + 1 - at, SIDE, head_dim, WIDTH);
    load_rows(values, v, ldk, tile.key_row + at, last + 1 - at, SIDE, head_dim, WIDTH);
    __syncthreads();
    for (int e = threadIdx.x; e < SIDE * SIDE; e += ATTENTION_THREADS) {
      int i = e / SIDE, j = e % SIDE;
      float dot = 0.0f;
      for (int c = 0; c < head_dim; c++) dot += queries[i * WIDTH + c] * keys[j * WIDTH + c];
      dot *= scale;
      if (cap > 0.0f) dot = cap * tanhf(dot / cap);
      scores[e] = sees(tile.position + i, at + j, window) ? dot : minus_infinity();
    }
    __syncthreads();
    float before = largest;
    for (int j = 0; j < SIDE; j++) largest = fmaxf(largest, scores[mine * SIDE + j]);
    // Nothing seen yet: no score to subtract, and nothing to correct.
    float shift = largest == minus_infinity() ? 0.0f : largest;
    float correction = before == minus_infinity() ? 0.0f : expf(before - shift);
    sum *= correction;
#pragma unroll
    for (int c = 0; c < COLS; c++) out[c] *= correction;
    for (int j = 0; j < SIDE; j++) {
      float p = expf(scores[mine * SIDE + j] - shift);
      sum += p;
#pragma unroll
      for (int c = 0; c < COLS; c++) {
        if (share + c * SHARERS < head_dim) out[c] += p * values[j * WIDTH + share + c * SHARERS];
      }
    }
  }
  if (mine >= tile.count) return;  // no barrier follows
  i64 row = tile.row + mine;
#pragma unroll
  for (int c = 0; c < COLS; c++) {
    if (share + c * SHARERS < head_dim) y[row * ldy + head * head_dim + share + c * SHARERS] = out[c] / sum;
  }
  if (has_lse && share == 0) lse[row * heads + head] = largest + logf(sum);
}

#define ATTENTION(name, width, side)                                                                                \
  KERNEL(name, ATTENTION_THREADS)                                                                                   \
  (Ptr<float> y, i64 ldy, Ptr<float> lse, Ptr<const float> q, i64 ldq, Ptr<const float> k, Ptr<const float> v,      \
   i64 ldk, Ptr<const float> sinks, Ptr<const i64> tiles, int heads, int kv_heads, int head_dim, float scale,       \
   i64 window, float cap, int has_sinks, int has_lse) {                                                             \
    attention_tile<width, side>(y, ldy, lse, q, ldq, k, v, ldk, sinks, tiles, heads, kv_heads, head_dim, scale,     \
                                window, cap, has_sinks, has_lse);                                                   \
  }

ATTENTION(attention_64, 64, 16)
ATTENTION(attention_128, 128, 16)
ATTENTION(attention_256, 256, 8)
