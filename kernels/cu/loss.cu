// Softmax, cross entropy and their gradient on a block of rows of logits, in place.
#include "device.cuh"

// loss = -log softmax(z)[target], correct = whether the first largest logit is the target's, both 0 where the target
// is below zero (ignored). z = cap·tanh(logit/cap) where there is a cap. With `is_gradient` the logits become
// gradient_scale·(softmax - onehot)·dz/dlogit, or 0 where ignored. A block has a row; row `i` of the logits has the
// target, the loss and the answer of row `places[i]`.
KERNEL(cross_entropy, THREADS)
(Ptr<float> loss, Ptr<float> correct, Ptr<float> logits, Ptr<const int> targets, Ptr<const u32> places,
 i64 rows, i64 vocab, int has_cap, float cap, float gradient_scale, int is_gradient) {
  SHARED(float, scratch, WARPS);
  SHARED(i64, positions, WARPS);
  for (i64 i = blockIdx.x; i < rows; i += gridDim.x) {
    Ptr<float> row = logits + i * vocab;
    i64 place = places[i], target = targets[place];
    if (target < 0) {  // the same for all threads of the block
      if (is_gradient) {
        for (i64 j = threadIdx.x; j < vocab; j += blockDim.x) row[j] = 0.0f;
      }
      if (threadIdx.x == 0) loss[place] = correct[place] = 0.0f;
      continue;
    }
    float largest = minus_infinity();
    for (i64 j = threadIdx.x; j < vocab; j += blockDim.x) {
      if (has_cap) row[j] = cap * tanhf(row[j] / cap);
      largest = fmaxf(largest, row[j]);
    }
    largest = block_reduce(scratch, largest, Max());
    float sum = 0.0f;
    i64 where = vocab;
    for (i64 j = threadIdx.x; j < vocab; j += blockDim.x) {
      sum += expf(row[j] - largest);
      if (row[j] == largest && j < where) where = j;
    }
    sum = block_reduce(scratch, sum, Sum());
    where = block_reduce(positions, where, Min());
    float log_sum = logf(sum);
    if (threadIdx.x == 0) {
      loss[place] = log_sum - (row[target] - largest);
      correct[place] = where == target ? 1.0f : 0.0f;
    }
    __syncthreads();  // the target's logit has been read
    if (!is_gradient) continue;
    for (i64 j = threadIdx.x; j < vocab; j += blockDim.x) {
      float z = row[j], t = has_cap ? z / cap : 0.0f;
      float p = expf(z - largest - log_sum);
      row[j] = gradient_scale * (p - (j == target ? 1.0f : 0.0f)) * (1.0f - t * t);
    }
  }
}
