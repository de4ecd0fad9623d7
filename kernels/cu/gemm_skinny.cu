// Products on tensor cores of factors that lie as they are: y (=|+=) alpha·A·B + bias, for results or sums that
// are short on one side, as the matrices of an adapter make them. Such a product takes as long as its factors need to
// come in; they are read once, and rounded to bfloat16 between memory and shared memory.
//
// A block makes 64 x 64 outputs; four warps have a quarter each. Of two stages one is multiplied while the other is
// filled. A lies with its steps together, or TURNED with its rows together; B as in `gemm_bf16.cu`.
#include "gemm_bf16.cuh"

constexpr int SIDE_SKINNY = 64, MEMBERS_SKINNY = 128, STAGE_SKINNY = SIDE_SKINNY * STEPS_BF16;
// Pieces of eight numbers that a thread brings of each factor.
constexpr int PIECES_SKINNY = STAGE_SKINNY / 8 / MEMBERS_SKINNY;

// A factor: so many lines, `ld` apart, of so many numbers that lie together. A line is a step of the sum where `by_step`.
struct Factor {
  Numbers x;
  i64 ld, lines, along;
  bool is_wide;
};

// The place of a thread's piece `p`: which line of the stage, and which piece of it.
template <bool BY_STEP> DEVICE void place_of_piece(int p, int& line, int& piece) {
  constexpr int ACROSS = (BY_STEP ? SIDE_SKINNY : STEPS_BF16) / 8;
  int at = threadIdx.x + p * MEMBERS_SKINNY;
  line = at / ACROSS;
  piece = at % ACROSS;
}

// Rows (columns of the result) from `first` and steps from `step`; zeros where there is none.
template <bool BY_STEP>
DEVICE void fetch(float (&to)[PIECES_SKINNY][8], const Factor& from, i64 first, i64 step) {
#pragma unroll
  for (int p = 0; p < PIECES_SKINNY; p++) {
    int line, piece;
    place_of_piece<BY_STEP>(p, line, piece);
    i64 i = (BY_STEP ? step : first) + line, j = (BY_STEP ? first : step) + piece * 8;
    from.x.load(to[p], i * from.ld + j, i < from.lines ? from.along - j : 0, from.is_wide);
  }
}

// Rows of 64 columns change places as rows of 32 steps do, for the same reason.
DEVICE int turned_place(int row, int piece) { return row * SIDE_SKINNY + ((piece ^ (row & 7)) * 8); }

template <bool BY_STEP> DEVICE void put(Ptr<u16> stage, const float (&from)[PIECES_SKINNY][8]) {
#pragma unroll
  for (int p = 0; p < PIECES_SKINNY; p++) {
    int line, piece;
    place_of_piece<BY_STEP>(p, line, piece);
    store_8_bf16(stage + (BY_STEP ? turned_place(line, piece) : step_place(line, piece)), from[p]);
  }
}

template <bool TURNED, bool BY_STEP>
DEVICE void product_skinny(Numbers y, i64 ldy, const Factor& a, const Factor& b, Ptr<const float> bias, i64 m, i64 n,
                           i64 k, i64 parts, float alpha, int has_bias, int is_add) {
  SHARED(u16, left, 2 * STAGE_SKINNY);
  SHARED(u16, right, 2 * STAGE_SKINNY);
  int lane = threadIdx.x % 32, warp_row = threadIdx.x / 64 * 32, warp_col = threadIdx.x / 32 % 2 * 32;
  Cell cell = cell_of_block<SIDE_SKINNY, SIDE_SKINNY>(m, n, (k + STEPS_BF16 - 1) / STEPS_BF16 * STEPS_BF16, parts);
  y = y.from(cell.part * m * ldy);
  float sum[2][4][4], of_a[PIECES_SKINNY][8], of_b[PIECES_SKINNY][8];
#pragma unroll
  for (int i = 0; i < 2; i++)
#pragma unroll
    for (int j = 0; j < 4; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) sum[i][j][e] = 0.0f;

  if (cell.count > 0) {
    fetch<TURNED>(of_a, a, cell.row, cell.begin);
    fetch<BY_STEP>(of_b, b, cell.col, cell.begin);
    put<TURNED>(left, of_a);
    put<BY_STEP>(right, of_b);
  }
  int stage = 0;
  for (i64 at = 0; at < cell.count; at += STEPS_BF16) {
    __syncthreads();  // this stage is there for all, and all have done with the other
    bool more = at + STEPS_BF16 < cell.count;
    if (more) {
      fetch<TURNED>(of_a, a, cell.row, cell.begin + at + STEPS_BF16);
      fetch<BY_STEP>(of_b, b, cell.col, cell.begin + at + STEPS_BF16);
    }
    Ptr<u16> p_stage = left + stage * STAGE_SKINNY, q_stage = right + stage * STAGE_SKINNY;
#pragma unroll
    for (int step = 0; step < STEPS_BF16; step += 16) {
      u32 p[2][4], q[2][4];
#pragma unroll
      for (int i = 0; i < 2; i++) {
        int first = warp_row + i * 16;
        if (TURNED) {
          load_matrices_transposed(p[i], p_stage + turned_place(step + lane / 16 * 8 + lane % 8, first / 8 + lane / 8 % 2));
        } else {
          load_matrices(p[i], p_stage + step_place(first + lane % 16, step / 8 + lane / 16));
        }
      }
#pragma unroll
      for (int j = 0; j < 2; j++) {
        int first = warp_col + j * 16;
        if (BY_STEP) {
          load_matrices_transposed(q[j], q_stage + turned_place(step + lane / 8 % 2 * 8 + lane % 8, first / 8 + lane / 16));
        } else {
          load_matrices(q[j], q_stage + step_place(first + lane % 8 + lane / 16 * 8, step / 8 + lane / 8 % 2));
        }
      }
#pragma unroll
      for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) multiply_bf16(sum[i][j], p[i], q[j / 2][j % 2 * 2], q[j / 2][j % 2 * 2 + 1]);
    }
    stage = 1 - stage;
    if (more) {
      put<TURNED>(left + stage * STAGE_SKINNY, of_a);
      put<BY_STEP>(right + stage * STAGE_SKINNY, of_b);
    }
  }
#pragma unroll
  for (int i = 0; i < 2; i++)
#pragma unroll
    for (int j = 0; j < 4; j++) {
      store_sums(y, ldy, sum[i][j], cell.row + warp_row + i * 16, cell.col + warp_col + j * 8, bias, m, n, alpha,
                 has_bias, is_add);
    }
}

#define PRODUCT_SKINNY(name, turned, by_step)                                                                          \
  KERNEL(name, MEMBERS_SKINNY)                                                                                         \
  (EITHER(y), EITHER(a), EITHER(b), Ptr<const float> bias, i64 m, i64 n, i64 k, i64 parts, float alpha, int has_bias,  \
   int is_add) {                                                                                                       \
    NUMBERS(y);                                                                                                        \
    NUMBERS(a);                                                                                                        \
    NUMBERS(b);                                                                                                        \
    Factor left = {a, lda, turned ? k : m, turned ? m : k, a.is_wide(lda)};                                            \
    Factor right = {b, ldb, by_step ? k : n, by_step ? n : k, b.is_wide(ldb)};                                         \
    product_skinny<turned, by_step>(y, ldy, left, right, bias, m, n, k, parts, alpha, has_bias, is_add);               \
  }

PRODUCT_SKINNY(gemm_skinny, false, false)
PRODUCT_SKINNY(gemm_skinny_steps, false, true)
PRODUCT_SKINNY(gemm_skinny_turned, true, false)
PRODUCT_SKINNY(gemm_skinny_turned_steps, true, true)
