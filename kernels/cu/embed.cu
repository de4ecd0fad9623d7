// Gradient of an embedding. Looking up is `weights.cu`.
#include "device.cuh"

// dtable[token] += scale·Σ dy[i] over the rows `i` that have the token. Run `r` has the token `tokens[r]` and the
// rows `order[starts[r]] ..`, ascending; a block has a run, so no two write the same row.
KERNEL(embed_bwd, THREADS)
(EITHER(dtable), EITHER(dy), Ptr<const u32> tokens, Ptr<const u32> starts, Ptr<const u32> order, i64 runs, i64 cols,
 float scale) {
  NUMBERS(dtable);
  NUMBERS(dy);
  for (i64 r = blockIdx.x; r < runs; r += gridDim.x) {
    for (i64 j = threadIdx.x; j < cols; j += blockDim.x) {
      i64 at = (i64)tokens[r] * lddtable + j;
      float sum = dtable[at];
      for (i64 o = starts[r]; o < (i64)starts[r + 1]; o++) sum += scale * dy[(i64)order[o] * lddy + j];
      dtable.put(at, sum);
    }
  }
}
