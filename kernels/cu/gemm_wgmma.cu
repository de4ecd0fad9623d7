// The products of `gemm_bf16.cu` for compute capability 9.0 alone, whose tensor cores read shared memory themselves.
//
// Two groups of four warps make 64 x 128 outputs each. Of three stages one is multiplied, the one before may still be,
// and the next comes in: its place was that of the step before both. The host uses these kernels where they were
// compared with those of `gemm_bf16.cu` on the card itself (`kernels/src/cuda/wgmma.rs`).
#include "gemm_bf16.cuh"

constexpr int SIDE_WGMMA = 128, GROUP_WGMMA = 128, MEMBERS_WGMMA = 256;
constexpr int STAGE_WGMMA = SIDE_WGMMA * STEPS_BF16;
// Bytes between groups of eight rows: of rows of 32 steps, and of rows of 64 columns; and between groups of 64 columns.
constexpr int EIGHT_STEP_ROWS = 8 * STEPS_BF16 * 2, EIGHT_COLUMN_ROWS = 8 * 64 * 2, COLUMN_GROUP = STEPS_BF16 * 64 * 2;

// 32 steps of 128 columns, `ld` apart: two groups of 64 columns, each in rows of 128 bytes.
DEVICE void start_column_groups(Ptr<u16> to, Ptr<const u16> from, i64 ld) {
  for (int at = threadIdx.x; at < STEPS_BF16 * SIDE_WGMMA / 8; at += MEMBERS_WGMMA) {
    int row = at / (SIDE_WGMMA / 8), piece = at % (SIDE_WGMMA / 8);
    int place = piece / 8 * (COLUMN_GROUP / 2) + row * 64 + ((piece % 8) ^ (row & 7)) * 8;
    copy_16_bytes(to + place, from + (row * ld + piece * 8));
  }
}

template <bool BY_STEP>
DEVICE void product_wgmma(Numbers y, i64 ldy, const Factors& own, const Factors& more, Ptr<const float> bias, i64 m, i64 n,
                          i64 parts, float alpha, int has_bias, int is_add) {
  SHARED_TILE(u16, left, STAGES_BF16 * STAGE_WGMMA);
  SHARED_TILE(u16, right, STAGES_BF16 * STAGE_WGMMA);
  int group = threadIdx.x / GROUP_WGMMA;
  Cell cell = cell_of_block<SIDE_WGMMA, SIDE_WGMMA>(m, n, own.steps + more.steps, parts);
  i64 k = cell.count, last = m - 1 - cell.row;
  y = y.from(cell.part * m * ldy);
  auto start_stage = [&](int stage, i64 step) {
    step += cell.begin;
    bool is_own = step < own.steps;
    // Not a choice between two structs: that one would lie in memory.
    Ptr<const u16> a = is_own ? own.a : more.a, b = is_own ? own.b : more.b;
    i64 lda = is_own ? own.lda : more.lda, ldb = is_own ? own.ldb : more.ldb;
    if (!is_own) step -= own.steps;
    Ptr<const u16> rows = a + (cell.row * lda + step);
    start_steps<SIDE_WGMMA, MEMBERS_WGMMA>(left + stage * STAGE_WGMMA, rows, lda, last);
    Ptr<u16> to = right + stage * STAGE_WGMMA;
    if (BY_STEP) start_column_groups(to, b + (step * ldb + cell.col), ldb);
    else start_steps<SIDE_WGMMA, MEMBERS_WGMMA>(to, b + (cell.col * ldb + step), ldb, SIDE_WGMMA);
  };
  float sum[16][4];
#pragma unroll
  for (int j = 0; j < 16; j++)
#pragma unroll
    for (int e = 0; e < 4; e++) sum[j][e] = 0.0f;

  if (k > 0) start_stage(0, 0);
  copy_group();
  int stage = 0;
  for (i64 at = 0; at < k; at += STEPS_BF16) {
    wait_copies<0>();
    show_tensor_cores();
    wait_products<1>();
    __syncthreads();  // this stage is there for all, and all have done with the one before the last
    int next = stage == STAGES_BF16 - 1 ? 0 : stage + 1;
    i64 ahead = at + STEPS_BF16;
    if (ahead < k) start_stage(next, ahead);
    copy_group();
    begin_products();
#pragma unroll
    for (int step = 0; step < STEPS_BF16; step += 16) {
      Ptr<u16> rows = left + (stage * STAGE_WGMMA + group * 64 * STEPS_BF16 + step);
      u64 p = tile_at_shared(rows, 16, EIGHT_STEP_ROWS, 2), q;
      if (BY_STEP) q = tile_at_shared(right + (stage * STAGE_WGMMA + step * 64), COLUMN_GROUP, EIGHT_COLUMN_ROWS, 1);
      else q = tile_at_shared(right + (stage * STAGE_WGMMA + step), 16, EIGHT_STEP_ROWS, 2);
      multiply_tiles<BY_STEP>(sum, p, q);
    }
    product_group();
    stage = next;
  }
  wait_products<0>();
  i64 row = cell.row + group * 64 + threadIdx.x % GROUP_WGMMA / 32 * 16;
#pragma unroll
  for (int j = 0; j < 16; j++) {
    store_sums(y, ldy, sum[j], row, cell.col + j * 8, bias, m, n, alpha, has_bias, is_add);
  }
}

#define PRODUCT_WGMMA(name, by_step)                                                                   \
  KERNEL(name, MEMBERS_WGMMA)(EITHER(y), FACTORS) {                                                    \
    NUMBERS(y);                                                                                        \
    Factors own = OWN_FACTORS, behind = MORE_FACTORS;                                                  \
    product_wgmma<by_step>(y, ldy, own, behind, bias, m, n, parts, alpha, has_bias, is_add);           \
  }
PRODUCT_WGMMA(gemm_wgmma, false)
PRODUCT_WGMMA(gemm_wgmma_steps, true)
