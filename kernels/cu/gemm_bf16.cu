// Dense products on tensor cores: y (=|+=) alpha·A·B + bias with factors in bfloat16 and sums in f32.
//
// A block makes ROWS x COLS outputs, a warp a rectangle of them; 32 steps of the sum are multiplied while the next 64
// come in. A lies with its steps together, B with its steps together (a column of the result is a row of memory) or with
// its columns together (a step is a row). Rows of shared memory have no gaps: pieces of 16 bytes change places with the
// row, so that the eight rows of a matrix lie in different banks.
#include "gemm_bf16.cuh"

// Rows as rows of bfloat16, times `scale`, zeros beyond `rows` and `depth`, eight numbers at a time: `padded_depth` is a
// multiple of 8.
KERNEL(pack_bf16, THREADS)
(Ptr<u16> to, EITHER(x), i64 rows, i64 depth, i64 padded_rows, i64 padded_depth, float scale) {
  NUMBERS(x);
  bool wide = x.is_wide(ldx);
  each_piece(padded_rows, padded_depth, [&](i64 i, i64 l, i64) {
    float numbers[8];
    i64 there = i < rows ? depth - l : 0;
    x.load(numbers, i * ldx + l, there, wide);
#pragma unroll
    for (int e = 0; e < 8; e++) numbers[e] = numbers[e] * scale;
    store_8_bf16(to + (i * padded_depth + l), numbers);
  });
}

// The same of columns: row `i` is column `i` of `x`. A block turns 32 x 32 numbers round.
KERNEL(pack_bf16_columns, THREADS)
(Ptr<u16> to, EITHER(x), i64 rows, i64 depth, i64 padded_rows, i64 padded_depth) {
  NUMBERS(x);
  SHARED(float, tile, 32 * 33);
  i64 across = padded_depth / 32, tiles = padded_rows / 32 * across;
  int lane = threadIdx.x % 32, first = threadIdx.x / 32;
  for (i64 at = blockIdx.x; at < tiles; at += gridDim.x) {
    i64 i0 = at / across * 32, l0 = at % across * 32;
    for (int l = first; l < 32; l += WARPS) {
      bool inside = i0 + lane < rows && l0 + l < depth;
      tile[l * 33 + lane] = inside ? x[(l0 + l) * ldx + i0 + lane] : 0.0f;
    }
    __syncthreads();
    for (int i = first; i < 32; i += WARPS) to[(i0 + i) * padded_depth + l0 + lane] = to_bf16(tile[lane * 33 + i]);
    __syncthreads();  // before the next tile is loaded
  }
}

// Where piece `piece` of row `row` lies in rows of WIDTH columns.
template <int WIDTH> DEVICE int column_place(int row, int piece) { return row * WIDTH + ((piece ^ (row & 7)) * 8); }

// 32 steps of WIDTH columns, `ld` apart.
template <int WIDTH, int MEMBERS> DEVICE void start_columns(Ptr<u16> to, Ptr<const u16> from, i64 ld) {
  constexpr int PIECES = WIDTH / 8;
  for (int at = threadIdx.x; at < STEPS_BF16 * PIECES; at += MEMBERS) {
    int row = at / PIECES, piece = at % PIECES;
    copy_16_bytes(to + column_place<WIDTH>(row, piece), from + (row * ld + piece * 8));
  }
}

// With `parts` above one the sum is cut into so many pieces, a block has one of them, and piece `p` of the result is at
// `y + p * m * ldy`, as it is (`add_parts` makes the result of them).
//
// DOWN x ACROSS warps. A is [m, k]. B is [n, k] with rows up to the next multiple of COLS, or [k, n] with columns up to it.
// k, and the number of steps behind it, are multiples of 32.
template <int ROWS, int COLS, int DOWN, int ACROSS, bool BY_STEP>
DEVICE void product_bf16(Numbers y, i64 ldy, const Factors& own, const Factors& more, Ptr<const float> bias, i64 m, i64 n,
                         i64 parts, float alpha, int has_bias, int is_add) {
  constexpr int MEMBERS = DOWN * ACROSS * 32, HIGH = ROWS / DOWN / 16, WIDE = COLS / ACROSS / 8;
  SHARED(u16, left, STAGES_BF16 * ROWS * STEPS_BF16);
  SHARED(u16, right, STAGES_BF16 * COLS * STEPS_BF16);
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int warp_row = warp / ACROSS * (ROWS / DOWN), warp_col = warp % ACROSS * (COLS / ACROSS);
  Cell cell = cell_of_block<ROWS, COLS>(m, n, own.steps + more.steps, parts);
  i64 k = cell.count, last = m - 1 - cell.row;
  y = y.from(cell.part * m * ldy);
  auto start_stage = [&](int stage, i64 step) {
    step += cell.begin;
    bool is_own = step < own.steps;
    // Not a choice between two structs: that one would lie in memory.
    Ptr<const u16> a = is_own ? own.a : more.a, b = is_own ? own.b : more.b;
    i64 lda = is_own ? own.lda : more.lda, ldb = is_own ? own.ldb : more.ldb;
    if (!is_own) step -= own.steps;
    start_steps<ROWS, MEMBERS>(left + stage * ROWS * STEPS_BF16, a + (cell.row * lda + step), lda, last);
    Ptr<u16> to = right + stage * COLS * STEPS_BF16;
    if (BY_STEP) start_columns<COLS, MEMBERS>(to, b + (step * ldb + cell.col), ldb);
    else start_steps<COLS, MEMBERS>(to, b + (cell.col * ldb + step), ldb, COLS);
  };
  float sum[HIGH][WIDE][4];
#pragma unroll
  for (int i = 0; i < HIGH; i++)
#pragma unroll
    for (int j = 0; j < WIDE; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) sum[i][j][e] = 0.0f;

  // Two stages are under way before the first is multiplied. A group without copies counts, too.
#pragma unroll
  for (int early = 0; early < STAGES_BF16 - 1; early++) {
    if (early * STEPS_BF16 < k) start_stage(early, early * STEPS_BF16);
    copy_group();
  }
  int stage = 0;
  for (i64 at = 0; at < k; at += STEPS_BF16) {
    wait_copies<STAGES_BF16 - 2>();
    __syncthreads();  // this stage is there for all, and all have done with the one before
    i64 ahead = at + (STAGES_BF16 - 1) * STEPS_BF16;
    if (ahead < k) start_stage(stage == 0 ? STAGES_BF16 - 1 : stage - 1, ahead);
    copy_group();
    Ptr<u16> p_stage = left + stage * ROWS * STEPS_BF16, q_stage = right + stage * COLS * STEPS_BF16;
#pragma unroll
    for (int step = 0; step < STEPS_BF16; step += 16) {
      u32 p[HIGH][4], q[WIDE / 2][4];
#pragma unroll
      for (int i = 0; i < HIGH; i++) {
        load_matrices(p[i], p_stage + step_place(warp_row + i * 16 + lane % 16, step / 8 + lane / 16));
      }
#pragma unroll
      for (int j = 0; j < WIDE / 2; j++) {
        int first = warp_col + j * 16;
        if (BY_STEP) {
          int row = step + lane / 8 % 2 * 8 + lane % 8;
          load_matrices_transposed(q[j], q_stage + column_place<COLS>(row, first / 8 + lane / 16));
        } else {
          load_matrices(q[j], q_stage + step_place(first + lane % 8 + lane / 16 * 8, step / 8 + lane / 8 % 2));
        }
      }
#pragma unroll
      for (int i = 0; i < HIGH; i++)
#pragma unroll
        for (int j = 0; j < WIDE; j++) multiply_bf16(sum[i][j], p[i], q[j / 2][j % 2 * 2], q[j / 2][j % 2 * 2 + 1]);
    }
    stage = stage == STAGES_BF16 - 1 ? 0 : stage + 1;
  }
#pragma unroll
  for (int i = 0; i < HIGH; i++)
#pragma unroll
    for (int j = 0; j < WIDE; j++) {
      store_sums(y, ldy, sum[i][j], cell.row + warp_row + i * 16, cell.col + warp_col + j * 8, bias, m, n, alpha,
                 has_bias, is_add);
    }
}

#define PRODUCT_BF16(name, rows, cols, down, across, by_step)                                                          \
  KERNEL(name, down* across * 32)(EITHER(y), FACTORS) {                                                                \
    NUMBERS(y);                                                                                                        \
    Factors own = OWN_FACTORS, behind = MORE_FACTORS;                                                                  \
    product_bf16<rows, cols, down, across, by_step>(y, ldy, own, behind, bias, m, n, parts, alpha, has_bias, is_add);  \
  }

PRODUCT_BF16(gemm_bf16, 64, 64, 2, 2, false)
PRODUCT_BF16(gemm_bf16_steps, 64, 64, 2, 2, true)
PRODUCT_BF16(gemm_bf16_large, 128, 128, 2, 4, false)
PRODUCT_BF16(gemm_bf16_large_steps, 128, 128, 2, 4, true)

// y (=|+=) alpha·(the pieces of a sum, in their order) + bias.
KERNEL(add_parts, THREADS)
(EITHER(y), Ptr<const float> pieces, Ptr<const float> bias, i64 m, i64 n, i64 parts, float alpha, int has_bias,
 int is_add) {
  NUMBERS(y);
  for (i64 e = thread_index(); e < m * n; e += thread_count()) {
    float value = 0.0f;
    for (i64 part = 0; part < parts; part++) value += pieces[part * m * n + e];
    value *= alpha;
    if (has_bias) value += bias[e % n];
    y.write_one(e / n * ldy + e % n, value, is_add);
  }
}
