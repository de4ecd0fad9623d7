// Backward of attention in two kernels, so that every number has one writer and no sum depends on timing: one goes
// over the keys of a tile of queries and makes dq, the other over the queries of a tile of keys, through all heads
// that share it, and makes dk and dv. With p = exp(s - lse) and D = dy·y:
//   dv += p·dy, ds = p·(dy·v - D)·ds/du·scale, dq += ds·k, dk += ds·q.
#include "attention.cuh"

// dots[row, head] = dy·y. A warp has a row and a head.
KERNEL(attention_dots, THREADS)
(Ptr<float> dots, EITHER(dy), EITHER(y), i64 rows, int heads, int head_dim) {
  NUMBERS(dy);
  NUMBERS(y);
  i64 all = rows * heads;
  for (i64 at = thread_index() / 32; at < all; at += thread_count() / 32) {
    i64 row = at / heads, col = at % heads * head_dim;
    float sum = 0.0f;
    for (int c = threadIdx.x % 32; c < head_dim; c += 32) sum += dy[row * lddy + col + c] * y[row * ldy + col + c];
    for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
    if (threadIdx.x % 32 == 0) dots[at] = sum;
  }
}

// p and ds of a score whose dot product is `dot`, where dy·v is `dyv`.
DEVICE void backward_score(float dot, float dyv, float lse, float weighted, float scale, float cap, float* p, float* ds) {
  float s = dot * scale, slope = 1.0f;
  if (cap > 0.0f) {
    float t = tanhf(s / cap);
    s = cap * t;
    slope = 1.0f - t * t;
  }
  *p = expf(s - lse);
  *ds = *p * (dyv - weighted) * slope * scale;
}

// Scores of `SIDE` queries by `SIDE` keys: p and ds into `chances` and `slopes`, zeros where nothing is seen.
template <int WIDTH, int SIDE>
DEVICE void backward_scores(Ptr<float> chances, Ptr<float> slopes, Ptr<const float> queries, Ptr<const float> keys,
                            Ptr<const float> grads, Ptr<const float> values, Ptr<const float> lse, Ptr<const float> dots,
                            i64 first_row, i64 n_queries, i64 query, i64 key, int heads, int head, int head_dim,
                            float scale, i64 window, float cap) {
  for (int e = threadIdx.x; e < SIDE * SIDE; e += ATTENTION_THREADS) {
    int i = e / SIDE, j = e % SIDE;
    float p = 0.0f, ds = 0.0f;
    if (i < n_queries && sees(query + i, key + j, window)) {
      float dot = 0.0f, dyv = 0.0f;
      for (int c = 0; c < head_dim; c++) {
        dot += queries[i * WIDTH + c] * keys[j * WIDTH + c];
        dyv += grads[i * WIDTH + c] * values[j * WIDTH + c];
      }
      i64 at = (first_row + i) * heads + head;
      backward_score(dot, dyv, lse[at], dots[at], scale, cap, &p, &ds);
    }
    chances[e] = p;
    slopes[e] = ds;
  }
}

template <int WIDTH, int SIDE>
DEVICE void attention_dq_tile(Ptr<float> dq, i64 lddq, Ptr<const float> dy, i64 lddy, Ptr<const float> q,
                              Ptr<const float> k, Ptr<const float> v, i64 ld, Ptr<const float> lse,
                              Ptr<const float> dots, Ptr<const i64> tiles, int heads, int kv_heads, int head_dim,
                              float scale, i64 window, float cap) {
  constexpr int SHARERS = ATTENTION_THREADS / SIDE, COLS = WIDTH / SHARERS;
  SHARED(float, queries, SIDE * WIDTH);
  SHARED(float, grads, SIDE * WIDTH);
  SHARED(float, keys, SIDE * WIDTH);
  SHARED(float, values, SIDE * WIDTH);
  SHARED(float, chances, SIDE * SIDE);
  SHARED(float, slopes, SIDE * SIDE);
  Tile tile = tile_at(tiles, blockIdx.x / heads);
  int head = blockIdx.x % heads, kv = head / (heads / kv_heads);
  int mine = threadIdx.x / SHARERS, share = threadIdx.x % SHARERS;
  load_rows(queries, q + head * head_dim, ld, tile.row, tile.count, SIDE, head_dim, WIDTH);
  load_rows(grads, dy + head * head_dim, lddy, tile.row, tile.count, SIDE, head_dim, WIDTH);
  float out[COLS];
#pragma unroll
  for (int c = 0; c < COLS; c++) out[c] = 0.0f;
  i64 last = tile.position + tile.count - 1;
  for (i64 at = first_seen(tile, window) / SIDE * SIDE; at <= last; at += SIDE) {
    __syncthreads();  // what the step before read
    load_rows(keys, k + kv * head_dim, ld, tile.key_row + at, last + 1 - at, SIDE, head_dim, WIDTH);
    load_rows(values, v + kv * head_dim, ld, tile.key_row + at, last + 1 - at, SIDE, head_dim, WIDTH);
    __syncthreads();
    backward_scores<WIDTH, SIDE>(chances, slopes, queries, keys, grads, values, lse, dots, tile.row, tile.count,
                                 tile.position, at, heads, head, head_dim, scale, window, cap);
    __syncthreads();
    for (int j = 0; j < SIDE; j++) {
      float ds = slopes[mine * SIDE + j];
#pragma unroll
      for (int c = 0; c < COLS; c++) {
        if (share + c * SHARERS < head_dim) out[c] += ds * keys[j * WIDTH + share + c * SHARERS];
      }
    }
  }
  if (mine >= tile.count) return;  // no barrier follows
#pragma unroll
  for (int c = 0; c < COLS; c++) {
    int col = share + c * SHARERS;
    if (col < head_dim) dq[(tile.row + mine) * lddq + head * head_dim + col] = out[c];
  }
}

// Tiles of keys: `row`, `count` and `position` as of queries; `key_row` is the row after the sequence's last.
template <int WIDTH, int SIDE>
DEVICE void attention_dkv_tile(Ptr<float> dk, Ptr<float> dv, i64 ldd, Ptr<const float> dy, i64 lddy, Ptr<const float> q,
                               Ptr<const float> k, Ptr<const float> v, i64 ld, Ptr<const float> lse,
                               Ptr<const float> dots, Ptr<const i64> tiles, int heads, int kv_heads, int head_dim,
                               float scale, i64 window, float cap) {
  constexpr int SHARERS = ATTENTION_THREADS / SIDE, COLS = WIDTH / SHARERS;
  SHARED(float, queries, SIDE * WIDTH);
  SHARED(float, grads, SIDE * WIDTH);
  SHARED(float, keys, SIDE * WIDTH);
  SHARED(float, values, SIDE * WIDTH);
  SHARED(float, chances, SIDE * SIDE);
  SHARED(float, slopes, SIDE * SIDE);
  Tile tile = tile_at(tiles, blockIdx.x / kv_heads);
  int kv = blockIdx.x % kv_heads, group = heads / kv_heads;
  int mine = threadIdx.x / SHARERS, share = threadIdx.x % SHARERS;
  load_rows(keys, k + kv * head_dim, ld, tile.row, tile.count, SIDE, head_dim, WIDTH);
  load_rows(values, v + kv * head_dim, ld, tile.row, tile.count, SIDE, head_dim, WIDTH);
  float key_out[COLS], value_out[COLS];
#pragma unroll
  for (int c = 0; c < COLS; c++) key_out[c] = value_out[c] = 0.0f;
  i64 rest = tile.key_row - tile.row, reach = reach_of_keys(tile, window);
  for (int head = kv * group; head < (kv + 1) * group; head++) {
    for (i64 at = 0; at < reach; at += SIDE) {
      i64 n_queries = rest - at;
      __syncthreads();  // what the step before read
      load_rows(queries, q + head * head_dim, ld, tile.row + at, n_queries, SIDE, head_dim, WIDTH);
      load_rows(grads, dy + head * head_dim, lddy, tile.row + at, n_queries, SIDE, head_dim, WIDTH);
      __syncthreads();
      backward_scores<WIDTH, SIDE>(chances, slopes, queries, keys, grads, values, lse, dots, tile.row + at, n_queries,
                                   tile.position + at, tile.position, heads, head, head_dim, scale, window, cap);
      __syncthreads();
      for (int i = 0; i < SIDE; i++) {
        float p = chances[i * SIDE + mine], ds = slopes[i * SIDE + mine];
#pragma unroll
        for (int c = 0; c < COLS; c++) {
          if (share + c * SHARERS >= head_dim) continue;
          value_out[c] += p * grads[i * WIDTH + share + c * SHARERS];
          key_out[c] += ds * queries[i * WIDTH + share + c * SHARERS];
        }
      }
    }
  }
  if (mine >= tile.count) return;  // no barrier follows
#pragma unroll
  for (int c = 0; c < COLS; c++) {
    int col = share + c * SHARERS;
    if (col >= head_dim) continue;
    dk[(tile.row + mine) * ldd + kv * head_dim + col] = key_out[c];
    dv[(tile.row + mine) * ldd + kv * head_dim + col] = value_out[c];
  }
}

#define ATTENTION_BWD(width, side)                                                                                   \
  KERNEL(attention_dq_##width, ATTENTION_THREADS)                                                                    \
  (Ptr<float> dq, i64 lddq, Ptr<const float> dy, i64 lddy, Ptr<const float> q, Ptr<const float> k,                   \
   Ptr<const float> v, i64 ld, Ptr<const float> lse, Ptr<const float> dots, Ptr<const i64> tiles, int heads,         \
   int kv_heads, int head_dim, float scale, i64 window, float cap) {                                                 \
    attention_dq_tile<width, side>(dq, lddq, dy, lddy, q, k, v, ld, lse, dots, tiles, heads, kv_heads, head_dim,     \
                                   scale, window, cap);                                                              \
  }                                                                                                                  \
  KERNEL(attention_dkv_##width, ATTENTION_THREADS)                                                                   \
  (Ptr<float> dk, Ptr<float> dv, i64 ldd, Ptr<const float> dy, i64 lddy, Ptr<const float> q, Ptr<const float> k,     \
   Ptr<const float> v, i64 ld, Ptr<const float> lse, Ptr<const float> dots, Ptr<const i64> tiles, int heads,         \
   int kv_heads, int head_dim, float scale, i64 window, float cap) {                                                 \
    attention_dkv_tile<width, side>(dk, dv, ldd, dy, lddy, q, k, v, ld, lse, dots, tiles, heads, kv_heads, head_dim, \
                                    scale, window, cap);                                                             \
  }

ATTENTION_BWD(64, 16)
ATTENTION_BWD(128, 16)
ATTENTION_BWD(256, 8)
