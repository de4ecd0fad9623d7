// AdamW (Loshchilov & Hutter 2019) in PyTorch's order, with moments in f32 or in 8 bits, and the norm for clipping.
#include "device.cuh"

// What one step has in common for all parameters, computed in f64 by the host: decay = 1 - lr·wd,
// rate = lr/c₁, spread = 1/√c₂, grow1 = 1 - β₁, grow2 = 1 - β₂. It lies in memory, so that the launches of every step
// have the same arguments.
struct Step {
  float decay, rate, spread, grow1, beta2, grow2, eps, gradient_scale;
};
DEVICE Step step_at(Ptr<const float> s) { return {s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]}; }

// p = decay·p; m += grow1·(g - m); v = β₂v + grow2·g²; p -= rate·m / (√v·spread + eps)
DEVICE float updated(const Step& s, float p, float* m, float* v, float g) {
  g = g * s.gradient_scale;
  *m = *m + s.grow1 * (g - *m);
  *v = s.beta2 * *v + s.grow2 * g * g;
  return p * s.decay - s.rate * *m / (sqrtf(*v) * s.spread + s.eps);
}

KERNEL(adamw, THREADS)
(Ptr<float> p, Ptr<float> m, Ptr<float> v, Ptr<const float> g, i64 n, Ptr<const float> common) {
  Step step = step_at(common);
  for (i64 e = thread_index(); e < n; e += thread_count()) {
    float first = m[e], second = v[e];
    p[e] = updated(step, p[e], &first, &second, g[e]);
    m[e] = first;
    v[e] = second;
  }
}

// The code of `x`, in units of its block's largest: `[-1, 1]` is cut into 65536 cells, `cells` has their codes.
DEVICE u8 nearest_code(Ptr<const u8> cells, float unit) {
  if (!(unit == unit)) return cells[0];
  unit = add(fminf(fmaxf(unit, -1.0f), 1.0f), 1.0f) * 0.5f;
  float cell = fmaf(unit, 65535.0f, 0.5f);
  return cells[(i64)cell];
}

// One of the two codes around `unit`, by a threshold that goes evenly through all values from step to step.
DEVICE u8 dithered_code(Ptr<const float> values, float unit, u32 element, u32 step) {
  float threshold = (float)((element * 0x9E3779B9u + step * 0xC13FA9A9u) >> 8) * (1.0f / 16777216.0f);
  unit = fminf(fmaxf(unit, 1.0f / 65535.0f), 1.0f);
  int below = 0, above = 256;  // values[below - 1] < unit <= values[above]
  while (below < above) {
    int middle = (below + above) / 2;
    if (values[middle] < unit) below = middle + 1;
    else above = middle;
  }
  int upper = below < 1 ? 1 : below > 255 ? 255 : below;
  float low = values[upper - 1], high = values[upper];
  return (u8)(add(unit, -low) > mul(threshold, add(high, -low)) ? upper : upper - 1);
}

// The same step on blocks of 256 parameters whose moments are decoded before and encoded after. A thread has a
// parameter; the parameters see the moments before they are encoded.
KERNEL(adamw_8bit, THREADS)
(Ptr<float> p, Ptr<u8> m, Ptr<float> m_absmax, Ptr<u8> v, Ptr<float> v_absmax, Ptr<const float> g,
 Ptr<const float> signed_values, Ptr<const float> unsigned_values, Ptr<const u8> signed_cells,
 Ptr<const u8> unsigned_cells, i64 n, u32 step_number, int is_dithered, Ptr<const float> common) {
  SHARED(float, scratch, WARPS);
  Step step = step_at(common);
  for (i64 block = blockIdx.x; block * THREADS < n; block += gridDim.x) {
    i64 e = block * THREADS + threadIdx.x;
    float first = 0.0f, second = 0.0f;
    if (e < n) {
      first = mul(signed_values[m[e]], m_absmax[block]);
      second = mul(unsigned_values[v[e]], v_absmax[block]);
      p[e] = updated(step, p[e], &first, &second, g[e]);
    }
    // A number that is none is passed over by the largest.
    float m_largest = block_reduce(scratch, fabsf(first) > 0.0f ? fabsf(first) : 0.0f, Max());
    float v_largest = block_reduce(scratch, fabsf(second) > 0.0f ? fabsf(second) : 0.0f, Max());
    if (e < n) {
      m[e] = m_largest == 0.0f ? (u8)0 : nearest_code(signed_cells, mul(first, 1.0f / m_largest));
      float share = mul(second, 1.0f / v_largest);
      if (v_largest == 0.0f) v[e] = (u8)0;
      else if (is_dithered) v[e] = dithered_code(unsigned_values, share, (u32)e, step_number);
      else v[e] = nearest_code(unsigned_cells, share);
    }
    if (threadIdx.x == 0) {
      m_absmax[block] = m_largest;
      v_absmax[block] = v_largest;
    }
  }
}

// partial[block] = Σ x² of what the block has, in f64.
KERNEL(sum_squares, THREADS)(Ptr<double> partial, Ptr<const float> x, i64 n) {
  SHARED(double, scratch, WARPS);
  double sum = 0.0;
  for (i64 e = thread_index(); e < n; e += thread_count()) sum += (double)(float)x[e] * (double)(float)x[e];
  sum = block_reduce(scratch, sum, Sum());
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}
