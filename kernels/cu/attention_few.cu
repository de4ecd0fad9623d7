// Attention of single queries over their past, as when answers are generated: the keys of a query are cut into pieces of
// PIECE positions, a block has a piece for one head, and a second kernel joins the pieces in their order. Where a piece
// begins depends on positions alone, so that a query's result does not depend on what else is asked with it.
#include "attention.cuh"

constexpr int PIECE = 128;
// The most columns of a head that a lane has.
constexpr int LANE_COLS = 8;

// Of each query, piece and head: the largest score, the sum of the chances beside it, then what the chances make of the
// values, not divided by the sum. A tile is one query.
KERNEL(attention_pieces, ATTENTION_THREADS)
(Ptr<float> parts, EITHER(q), Ptr<const float> k, Ptr<const float> v, i64 ldk, Ptr<const i64> tiles,
 i64 pieces, int heads, int kv_heads, int head_dim, float scale, i64 window, float cap) {
  NUMBERS(q);
  SHARED(float, scores, PIECE);
  SHARED(float, scratch, WARPS);
  int head = blockIdx.x % heads, kv = head / (heads / kv_heads);
  i64 piece = blockIdx.x / heads % pieces, query = blockIdx.x / heads / pieces;
  Tile tile = tile_at(tiles, query);
  i64 begin = piece * PIECE, end = begin + PIECE, first = first_seen(tile, window);
  if (begin < first) begin = first;
  if (end > tile.position + 1) end = tile.position + 1;
  if (begin >= end) return;  // the whole block
  int count = (int)(end - begin), lane = threadIdx.x % 32;
  k = k + ((tile.key_row + begin) * ldk + kv * head_dim);
  v = v + ((tile.key_row + begin) * ldk + kv * head_dim);

  float mine[LANE_COLS];
#pragma unroll
  for (int c = 0; c < LANE_COLS; c++) {
    int col = lane + c * 32;
    mine[c] = col < head_dim ? q[tile.row * ldq + head * head_dim + col] : 0.0f;
  }
  for (int j = threadIdx.x / 32; j < count; j += ATTENTION_THREADS / 32) {
    float dot = 0.0f;
#pragma unroll
    for (int c = 0; c < LANE_COLS; c++) {
      int col = lane + c * 32;
      if (col < head_dim) dot += mine[c] * k[j * ldk + col];
    }
    for (int distance = 16; distance > 0; distance /= 2) dot += __shfl_xor_sync(0xffffffffu, dot, distance);
    dot *= scale;
    if (cap > 0.0f) dot = cap * tanhf(dot / cap);
    if (lane == 0) scores[j] = dot;
  }
  __syncthreads();  // the scores are there
  float largest = minus_infinity(), sum = 0.0f;
  for (int j = threadIdx.x; j < count; j += ATTENTION_THREADS) largest = fmaxf(largest, scores[j]);
  largest = block_reduce(scratch, largest, Max());
  for (int j = threadIdx.x; j < count; j += ATTENTION_THREADS) {
    float p = expf(scores[j] - largest);
    scores[j] = p;
    sum += p;
  }
  sum = block_reduce(scratch, sum, Sum());  // its barriers stand between the chances and their readers
  Ptr<float> to = parts + ((query * pieces + piece) * heads + head) * (head_dim + 2);
  if (threadIdx.x == 0) {
    to[0] = largest;
    to[1] = sum;
  }
  for (int col = threadIdx.x; col < head_dim; col += ATTENTION_THREADS) {
    float out = 0.0f;
#pragma unroll 8
    for (int j = 0; j < count; j++) out += scores[j] * v[j * ldk + col];
    to[2 + col] = out;
  }
}

// y of each query and head from its pieces.
KERNEL(attention_join, ATTENTION_THREADS)
(EITHER(y), Ptr<const float> parts, Ptr<const float> sinks, Ptr<const i64> tiles, i64 pieces, int heads,
 int head_dim, i64 window, int has_sinks) {
  NUMBERS(y);
  int head = blockIdx.x % heads;
  i64 query = blockIdx.x / heads;
  Tile tile = tile_at(tiles, query);
  i64 first = first_seen(tile, window) / PIECE, last = tile.position / PIECE, step = (i64)heads * (head_dim + 2);
  Ptr<const float> from = parts + (query * pieces * heads + head) * (head_dim + 2);
  // A sink takes part in the softmax and has no value.
  float largest = has_sinks ? (float)sinks[head] : minus_infinity();
  for (i64 piece = first; piece <= last; piece++) largest = fmaxf(largest, from[piece * step]);
  float sum = has_sinks ? expf(sinks[head] - largest) : 0.0f;
  for (i64 piece = first; piece <= last; piece++) sum += from[piece * step + 1] * expf(from[piece * step] - largest);
  for (int col = threadIdx.x; col < head_dim; col += ATTENTION_THREADS) {
    float out = 0.0f;
    for (i64 piece = first; piece <= last; piece++) {
      out += from[piece * step + 2 + col] * expf(from[piece * step] - largest);
    }
    y.put(tile.row * ldy + head * head_dim + col, out / sum);
  }
}
