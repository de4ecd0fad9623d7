// Attention on tensor cores for heads of 256 columns, forward and backward: what `attention_bf16.cu` and
// `attention_bf16_bwd.cu` compute, of tiles whose sums no longer fit the registers of four warps.
//
// Eight warps share a tile, several of them its same 16 rows: they divide first the scores among themselves and then the
// columns of what is added up, and hand each other what the second needs of the first through shared memory. All of it
// stays below the 48 KB that every card gives a block without being asked.
#include "attention_bf16.cuh"

constexpr int HEAD_256 = 256, THREADS_256 = 256;
// Distance of rows in shared memory, as in `attention_bf16.cuh`.
constexpr int ROW_256 = HEAD_256 + 8;
// Keys of a step, and queries of a step of the keys' gradients.
constexpr int KEYS_256 = 32, QUERIES_256 = 16;

// An entry point whose block has the registers of a multiprocessor alone.
#ifdef HOST_EMU
#define KERNEL_ALONE(name, threads) KERNEL(name, threads)
#else
#define KERNEL_ALONE(name, threads) extern "C" __global__ void __launch_bounds__(threads, 1) name
#endif

// `COUNT` rows of a head from row `first` on; after row `last` that one again.
template <int COUNT> DEVICE void start_rows_256(Ptr<u16> to, Ptr<const u16> from, i64 ld, i64 first, i64 last) {
  constexpr int PIECES = HEAD_256 / 8;
  for (int at = threadIdx.x; at < COUNT * PIECES; at += THREADS_256) {
    int row = at / PIECES, piece = at % PIECES;
    i64 source = first + row < last ? first + row : last;
    copy_16_bytes(to + (row * ROW_256 + piece * 8), from + (source * ld + piece * 8));
  }
}

// scores += left·rowsᵀ over STEPS pieces of 16 columns from `col` on: 16 rows by N * 8 rows of shared memory from `first` on.
template <int STEPS, int N>
DEVICE void add_scores_256(float (&scores)[N][4], const u32 (&left)[STEPS][4], Ptr<const u16> rows, int first, int col) {
#pragma unroll
  for (int c = 0; c < STEPS; c++) {
#pragma unroll
    for (int j = 0; j < N / 2; j++) {
      u32 right[4];
      column_fragment<HEAD_256>(right, rows, first + j * 16, col + c * 16);
      multiply_16(scores[2 * j], scores[2 * j + 1], left[c], right);
    }
  }
}

// out += left·rows: 16 rows by N * 8 columns from `col` on, over the 16 rows of shared memory from `first` on.
template <int N> DEVICE void add_columns_256(float (&out)[N][4], const u32 (&left)[4], Ptr<const u16> rows, int first, int col) {
#pragma unroll
  for (int c = 0; c < N / 2; c++) {
    u32 right[4];
    step_fragment<HEAD_256>(right, rows, first, col + c * 16);
    multiply_16(out[2 * c], out[2 * c + 1], left, right);
  }
}

// 16 x 16 factors of this warp to rows of KEYS_256 in shared memory.
DEVICE void hand_over_256(Ptr<u16> to, const float (&factors)[2][4], int row, int col) {
#pragma unroll
  for (int j = 0; j < 2; j++)
#pragma unroll
    for (int e = 0; e < 4; e += 2) {
      int at = (row + result_row(e)) * (KEYS_256 + 8) + col + j * 8 + result_col(e);
      store_4_bytes(to + at, pair_bf16(factors[j][e], factors[j][e + 1]));
    }
}

// Of 64 queries two warps have the same 16: each has the scores of half of a step's keys, and half of the columns of y.
KERNEL_ALONE(attention_bf16_256, THREADS_256)
(EITHER(y), Ptr<float> lse, Ptr<const u16> q, i64 ldq, Ptr<const u16> k, Ptr<const u16> v, i64 ldk, Ptr<const float> sinks,
 Ptr<const i64> tiles, int heads, int kv_heads, float scale, i64 window, float cap, int has_sinks) {
  NUMBERS(y);
  // The queries' way to registers is the room of keys and values together.
  SHARED(u16, rooms, SIDE_MMA * ROW_256);
  SHARED(u16, chances, SIDE_MMA * (KEYS_256 + 8));
  SHARED(float, told, 2 * SIDE_MMA);
  static_assert(2 * KEYS_256 == SIDE_MMA, "keys and values have the room of the queries");
  Ptr<u16> keys = rooms, values = rooms + KEYS_256 * ROW_256;
  Tile tile = tile_at(tiles, blockIdx.x / heads);
  int head = blockIdx.x % heads, kv = head / (heads / kv_heads);
  int mine = threadIdx.x / 32 % 4 * 16, half = threadIdx.x / 128;
  k = k + (tile.key_row * ldk + kv * HEAD_256);
  v = v + (tile.key_row * ldk + kv * HEAD_256);

  u32 query[HEAD_256 / 16][4];
  start_rows_256<SIDE_MMA>(rooms, q + head * HEAD_256, ldq, tile.row, tile.row + tile.count - 1);
  copy_group();
  wait_copies<0>();
  __syncthreads();
#pragma unroll
  for (int c = 0; c < HEAD_256 / 16; c++) left_fragment<HEAD_256>(query[c], rooms, mine, c * 16);
  __syncthreads();  // the queries have been read: others may come
  float out[HEAD_256 / 16][4];
  clear(out);
  // Rows `result_row(0)` and `result_row(2)`: the largest score of all keys, and the sum over this warp's.
  float largest[2], sum[2];
#pragma unroll
  for (int r = 0; r < 2; r++) {
    largest[r] = has_sinks ? (float)sinks[head] : minus_infinity();
    sum[r] = has_sinks && half == 0 ? 1.0f : 0.0f;
  }
  i64 last = tile.position + tile.count - 1;
  i64 begin = first_seen(tile, window) / KEYS_256 * KEYS_256;
  start_rows_256<KEYS_256>(keys, k, ldk, begin, last);
  copy_group();
  start_rows_256<KEYS_256>(values, v, ldk, begin, last);
  copy_group();
  for (i64 at = begin; at <= last; at += KEYS_256) {
    wait_copies<1>();
    __syncthreads();  // the keys are there
    float score[2][4], part[2] = {minus_infinity(), minus_infinity()};
    clear(score);
    add_scores_256(score, query, keys, half * 16, 0);
#pragma unroll
    for (int j = 0; j < 2; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        float s = score[j][e] * scale;
        if (cap > 0.0f) s = cap * tanhf(s / cap);
        i64 key = at + half * 16 + j * 8 + result_col(e);
        if (!sees(tile.position + mine + result_row(e), key, window)) s = minus_infinity();
        score[j][e] = s;
        part[e / 2] = fmaxf(part[e / 2], s);
      }
#pragma unroll
    for (int r = 0; r < 2; r++) {
      part[r] = row_largest(part[r]);
      if (threadIdx.x % 4 == 0) told[half * SIDE_MMA + mine + result_row(2 * r)] = part[r];
    }
    __syncthreads();  // what the other half's largest is, and the keys have been read
    if (at + KEYS_256 <= last) start_rows_256<KEYS_256>(keys, k, ldk, at + KEYS_256, last);
    copy_group();
    float shift[2], correction[2], added[2] = {0.0f, 0.0f};
#pragma unroll
    for (int r = 0; r < 2; r++) {
      float before = largest[r];
      float theirs = told[(1 - half) * SIDE_MMA + mine + result_row(2 * r)];
      largest[r] = fmaxf(before, fmaxf(part[r], theirs));
      // Nothing seen yet: no score to subtract, and nothing to correct.
      shift[r] = largest[r] == minus_infinity() ? 0.0f : largest[r];
      correction[r] = before == minus_infinity() ? 0.0f : expf(before - shift[r]);
    }
#pragma unroll
    for (int j = 0; j < 2; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        score[j][e] = expf(score[j][e] - shift[e / 2]);
        added[e / 2] += score[j][e];
      }
#pragma unroll
    for (int r = 0; r < 2; r++) sum[r] = sum[r] * correction[r] + row_sum(added[r]);
    hand_over_256(chances, score, mine, half * 16);
#pragma unroll
    for (int c = 0; c < HEAD_256 / 16; c++)
#pragma unroll
      for (int e = 0; e < 4; e++) out[c][e] *= correction[e / 2];
    wait_copies<1>();
    __syncthreads();  // the values are there, and the chances of all keys
#pragma unroll
    for (int j = 0; j < KEYS_256 / 16; j++) {
      u32 left[4];
      left_fragment<KEYS_256>(left, chances, mine, j * 16);
      add_columns_256(out, left, values, j * 16, half * (HEAD_256 / 2));
    }
    __syncthreads();  // the values and the chances have been read
    if (at + KEYS_256 <= last) start_rows_256<KEYS_256>(values, v, ldk, at + KEYS_256, last);
    copy_group();
  }
#pragma unroll
  for (int r = 0; r < 2; r++) {
    if (threadIdx.x % 4 == 0) told[half * SIDE_MMA + mine + result_row(2 * r)] = sum[r];
  }
  __syncthreads();  // both halves' sums are there
#pragma unroll
  for (int e = 0; e < 4; e += 2) {
    int row = mine + result_row(e);
    if (row >= tile.count) continue;
    float all = told[row] + told[SIDE_MMA + row];
#pragma unroll
    for (int c = 0; c < HEAD_256 / 16; c++) {
      i64 at = (tile.row + row) * ldy + head * HEAD_256 + half * (HEAD_256 / 2) + c * 8 + result_col(e);
      y.put_2(at, out[c][e] / all, out[c][e + 1] / all);
    }
    if (half == 0 && threadIdx.x % 4 == 0) lse[(tile.row + row) * heads + head] = largest[e / 2] + logf(all);
  }
}

// Of 64 queries two warps have the same 16: one makes q·k of a step's keys, the other dy·v; they change half of it, so that
// each has the slopes of half of the keys, and then half of the columns of dq.
KERNEL_ALONE(attention_bf16_dq_256, THREADS_256)
(EITHER(dq), Ptr<const u16> dy, i64 lddy, Ptr<const u16> q, Ptr<const u16> k, Ptr<const u16> v, i64 ld, Ptr<const float> lse,
 Ptr<const float> dots, Ptr<const i64> tiles, int heads, int kv_heads, float scale, i64 window, float cap) {
  NUMBERS(dq);
  SHARED(u16, rooms, SIDE_MMA * ROW_256);
  SHARED(u16, slopes, SIDE_MMA * (KEYS_256 + 8));
  SHARED(float, swapped, THREADS_256 * 8);
  Ptr<u16> keys = rooms, values = rooms + KEYS_256 * ROW_256;
  Tile tile = tile_at(tiles, blockIdx.x / heads);
  int head = blockIdx.x % heads, kv = head / (heads / kv_heads);
  int mine = threadIdx.x / 32 % 4 * 16, half = threadIdx.x / 128;
  i64 last_row = tile.row + tile.count - 1;
  k = k + (tile.key_row * ld + kv * HEAD_256);
  v = v + (tile.key_row * ld + kv * HEAD_256);

  // Rows of q, or of dy.
  u32 rows[HEAD_256 / 16][4];
  start_rows_256<SIDE_MMA>(rooms, q + head * HEAD_256, ld, tile.row, last_row);
  copy_group();
  wait_copies<0>();
  __syncthreads();
#pragma unroll
  for (int c = 0; c < HEAD_256 / 16; c++) left_fragment<HEAD_256>(rows[c], rooms, mine, c * 16);
  __syncthreads();  // the queries have been read
  start_rows_256<SIDE_MMA>(rooms, dy + head * HEAD_256, lddy, tile.row, last_row);
  copy_group();
  wait_copies<0>();
  __syncthreads();
  if (half == 1) {
#pragma unroll
    for (int c = 0; c < HEAD_256 / 16; c++) left_fragment<HEAD_256>(rows[c], rooms, mine, c * 16);
  }
  __syncthreads();  // and the gradients: others may come

  float row_lse[2], row_dot[2];
#pragma unroll
  for (int r = 0; r < 2; r++) {
    i64 row = tile.row + mine + result_row(2 * r);
    i64 at = (row < last_row ? row : last_row) * heads + head;
    row_lse[r] = lse[at];
    row_dot[r] = dots[at];
  }
  float out[HEAD_256 / 16][4];
  clear(out);
  i64 last = tile.position + tile.count - 1;
  i64 begin = first_seen(tile, window) / KEYS_256 * KEYS_256;
  start_rows_256<KEYS_256>(keys, k, ld, begin, last);
  start_rows_256<KEYS_256>(values, v, ld, begin, last);
  copy_group();
  for (i64 at = begin; at <= last; at += KEYS_256) {
    wait_copies<0>();
    __syncthreads();  // these keys and values are there
    float product[4][4];
    clear(product);
    add_scores_256(product, rows, half == 0 ? keys : values, 0, 0);
#pragma unroll
    for (int j = 0; j < 2; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        swapped[(j * 4 + e) * THREADS_256 + threadIdx.x] = half == 0 ? product[2 + j][e] : product[j][e];
      }
    __syncthreads();  // what the other warp made is there, and the values have been read
    if (at + KEYS_256 <= last) start_rows_256<KEYS_256>(values, v, ld, at + KEYS_256, last);
    copy_group();
    float dyv[2][4];
#pragma unroll
    for (int j = 0; j < 2; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        float own = half == 0 ? product[j][e] : product[2 + j][e];
        float theirs = swapped[(j * 4 + e) * THREADS_256 + ((int)threadIdx.x ^ 128)];
        float dot = half == 0 ? own : theirs;
        dyv[j][e] = half == 0 ? theirs : own;
        i64 key = at + half * 16 + j * 8 + result_col(e);
        bool is_seen = sees(tile.position + mine + result_row(e), key, window);
        slope_of(dot, dyv[j][e], is_seen, row_lse[e / 2], row_dot[e / 2], scale, cap);
      }
    hand_over_256(slopes, dyv, mine, half * 16);
    __syncthreads();  // the slopes of all keys are there
#pragma unroll
    for (int j = 0; j < KEYS_256 / 16; j++) {
      u32 left[4];
      left_fragment<KEYS_256>(left, slopes, mine, j * 16);
      add_columns_256(out, left, keys, j * 16, half * (HEAD_256 / 2));
    }
    __syncthreads();  // the keys have been read
    if (at + KEYS_256 <= last) start_rows_256<KEYS_256>(keys, k, ld, at + KEYS_256, last);
    copy_group();
  }
#pragma unroll
  for (int e = 0; e < 4; e += 2) {
    int row = mine + result_row(e);
    if (row >= tile.count) continue;
#pragma unroll
    for (int c = 0; c < HEAD_256 / 16; c++) {
      i64 at = (tile.row + row) * lddq + head * HEAD_256 + half * (HEAD_256 / 2) + c * 8 + result_col(e);
      dq.put_2(at, out[c][e], out[c][e + 1]);
    }
  }
}

// Of 32 keys four warps have the same 16: two make k·q of half of the columns each, two v·dy, and each has a quarter of the
// columns of dk and dv. Tiles as in `attention_dkv_tile`.
KERNEL_ALONE(attention_bf16_dkv_256, THREADS_256)
(Ptr<u16> words_of_dk, EITHER(dv), Ptr<const u16> dy, i64 lddy, Ptr<const u16> q, Ptr<const u16> k, Ptr<const u16> v, i64 ld,
 Ptr<const float> lse, Ptr<const float> dots, Ptr<const i64> tiles, int heads, int kv_heads, float scale, i64 window,
 float cap) {
  NUMBERS(dv);
  Numbers dk = {words_of_dk, dv_is_narrow};
  constexpr int STAGE = 2 * QUERIES_256 * ROW_256, QUARTER = HEAD_256 / 4;
  // Two stages of queries and gradients, and before them the way of keys and values to registers.
  SHARED(u16, rooms, 2 * STAGE);
  SHARED(float, parts, THREADS_256 * 8);
  static_assert(2 * QUERIES_256 == KEYS_256, "keys and values have the room of the queries");
  Tile tile = tile_at(tiles, blockIdx.x / kv_heads);
  int kv = blockIdx.x % kv_heads, group = heads / kv_heads;
  int mine = threadIdx.x / 128 * 16, role = threadIdx.x / 32 % 4;
  int is_value = role / 2, col = role % 2 * (HEAD_256 / 2);
  start_rows_256<KEYS_256>(rooms, k + kv * HEAD_256, ld, tile.row, tile.row + tile.count - 1);
  start_rows_256<KEYS_256>(rooms + STAGE, v + kv * HEAD_256, ld, tile.row, tile.row + tile.count - 1);
  copy_group();
  wait_copies<0>();
  __syncthreads();
  u32 rows[HEAD_256 / 32][4];
#pragma unroll
  for (int c = 0; c < HEAD_256 / 32; c++) left_fragment<HEAD_256>(rows[c], rooms + is_value * STAGE, mine, col + c * 16);
  __syncthreads();  // keys and values have been read: queries may come

  float key_out[QUARTER / 8][4], value_out[QUARTER / 8][4];
  clear(key_out);
  clear(value_out);
  i64 rest = tile.key_row - tile.row;
  int each = (int)((reach_of_keys(tile, window) + QUERIES_256 - 1) / QUERIES_256);
  for (int step = -1; step < each * group; step++) {
    // The next step's queries come in while this one's are multiplied; before the first there is nothing to multiply.
    if (step >= 0) {
      wait_copies<0>();
      __syncthreads();  // these queries and gradients are there, and all have done with those before
    }
    if (step + 1 < each * group) {
      i64 first = tile.row + (step + 1) % each * QUERIES_256;
      int head = kv * group + (step + 1) / each;
      Ptr<u16> next = rooms + (step + 1) % 2 * STAGE;
      start_rows_256<QUERIES_256>(next, q + head * HEAD_256, ld, first, tile.key_row - 1);
      start_rows_256<QUERIES_256>(next + QUERIES_256 * ROW_256, dy + head * HEAD_256, lddy, first, tile.key_row - 1);
    }
    copy_group();
    if (step < 0) continue;
    Ptr<u16> queries = rooms + step % 2 * STAGE, grads = queries + QUERIES_256 * ROW_256;
    i64 at = step % each * QUERIES_256;
    int head = kv * group + step / each;
    float product[2][4];
    clear(product);
    add_scores_256(product, rows, is_value ? grads : queries, 0, col);
#pragma unroll
    for (int j = 0; j < 2; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) parts[(j * 4 + e) * THREADS_256 + threadIdx.x] = product[j][e];
    __syncthreads();  // all four warps' products are there
    float score[2][4], dyv[2][4];
    int whose = threadIdx.x / 128 * 128 + threadIdx.x % 32;
#pragma unroll
    for (int j = 0; j < 2; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        int place = (j * 4 + e) * THREADS_256 + whose;
        score[j][e] = parts[place] + parts[place + 32];
        dyv[j][e] = parts[place + 64] + parts[place + 96];
        int key = mine + result_row(e);
        i64 query = at + j * 8 + result_col(e);
        bool is_seen = query < rest && key < tile.count && sees(query, key, window);
        i64 of = (tile.row + (query < rest ? query : rest - 1)) * heads + head;
        slope_of(score[j][e], dyv[j][e], is_seen, lse[of], dots[of], scale, cap);
      }
    u32 left[4];
    as_left(left, score[0], score[1]);
    add_columns_256(value_out, left, grads, 0, role * QUARTER);
    as_left(left, dyv[0], dyv[1]);
    add_columns_256(key_out, left, queries, 0, role * QUARTER);
  }
#pragma unroll
  for (int e = 0; e < 4; e += 2) {
    int row = mine + result_row(e);
    if (row >= tile.count) continue;
#pragma unroll
    for (int c = 0; c < QUARTER / 8; c++) {
      i64 at = (tile.row + row) * lddv + kv * HEAD_256 + role * QUARTER + c * 8 + result_col(e);
      dk.put_2(at, key_out[c][e], key_out[c][e + 1]);
      dv.put_2(at, value_out[c][e], value_out[c][e + 1]);
    }
  }
}
