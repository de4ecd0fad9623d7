// The gate of the feed-forward block, and its backward. A thread has eight columns at a time.
#include "device.cuh"

// What is stored in bfloat16 needs no more than the hardware's own exponential.
DEVICE float sigmoid(float x, bool is_quick) {
  if (is_quick) return quick_reciprocal(1.0f + quick_exp2(x * -1.4426950408889634f));
  return 1.0f / (1.0f + expf(-x));
}

// An activation and its derivative: 0 is x·sigmoid(x), 1 is GELU in its tanh form.
DEVICE void activate(int kind, bool is_quick, float x, float* value, float* slope) {
  if (kind == 0) {
    float s = sigmoid(x, is_quick);
    *value = x * s;
    *slope = s * (1.0f + x * (1.0f - s));
  } else {
    const float c = 0.7978845608028654f;  // √(2/π)
    float inner = c * (x + 0.044715f * x * x * x);
    // tanh(z) = 2·sigmoid(2z) - 1
    float t = is_quick ? 2.0f * sigmoid(2.0f * inner, true) - 1.0f : tanhf(inner);
    float dt = (1.0f - t * t) * c * (1.0f + 3.0f * 0.044715f * x * x);
    *value = 0.5f * x * (1.0f + t);
    *slope = 0.5f * (1.0f + t) + 0.5f * x * dt;
  }
}

// h = act(gate)·up; a row of `gate` is all gates, then all ups.
KERNEL(gated, THREADS)(EITHER(h), EITHER(gate), i64 rows, i64 d_ff, int kind) {
  NUMBERS(h);
  NUMBERS(gate);
  Numbers up = gate.from(d_ff);
  bool h_wide = h.is_wide(ldh), wide = gate.is_wide(ldgate), up_wide = up.is_wide(ldgate);
  each_piece(rows, d_ff, [&](i64 i, i64 j, i64 there) {
    float g[8], u[8];
    gate.load(g, i * ldgate + j, there, wide);
    up.load(u, i * ldgate + j, there, up_wide);
#pragma unroll
    for (int e = 0; e < 8; e++) {
      float value, slope;
      activate(kind, h.is_narrow, g[e], &value, &slope);
      u[e] = value * u[e];
    }
    h.store(i * ldh + j, u, there, h_wide);
  });
}

// dgate = dh·up·act'(gate), dup = dh·act(gate)
KERNEL(gated_bwd, THREADS)(EITHER(dgate), EITHER(dh), EITHER(gate), i64 rows, i64 d_ff, int kind) {
  NUMBERS(dgate);
  NUMBERS(dh);
  NUMBERS(gate);
  Numbers up = gate.from(d_ff), dup = dgate.from(d_ff);
  bool d_wide = dgate.is_wide(lddgate), dup_wide = dup.is_wide(lddgate), dh_wide = dh.is_wide(lddh);
  bool wide = gate.is_wide(ldgate), up_wide = up.is_wide(ldgate);
  each_piece(rows, d_ff, [&](i64 i, i64 j, i64 there) {
    float g[8], u[8], d[8];
    gate.load(g, i * ldgate + j, there, wide);
    up.load(u, i * ldgate + j, there, up_wide);
    dh.load(d, i * lddh + j, there, dh_wide);
#pragma unroll
    for (int e = 0; e < 8; e++) {
      float value, slope;
      activate(kind, dgate.is_narrow, g[e], &value, &slope);
      g[e] = d[e] * u[e] * slope;
      u[e] = d[e] * value;
    }
    dgate.store(i * lddgate + j, g, there, d_wide);
    dup.store(i * lddgate + j, u, there, dup_wide);
  });
}

// The gate of gpt-oss, a gate and its other half side by side: h = (u + 1)·g·sigmoid(alpha·g),
// g at most `limit`, u within plus and minus `limit`.
KERNEL(gated_clamped, THREADS)(EITHER(h), EITHER(gate), i64 rows, i64 d_ff, float alpha, float limit) {
  NUMBERS(h);
  NUMBERS(gate);
  for (i64 e = thread_index(); e < rows * d_ff; e += thread_count()) {
    i64 i = e / d_ff, j = e % d_ff;
    float g = fminf(gate[i * ldgate + 2 * j], limit);
    float u = fminf(fmaxf(gate[i * ldgate + 2 * j + 1], -limit), limit);
    h.put(i * ldh + j, (u + 1.0f) * (g * sigmoid(alpha * g, false)));
  }
}

// What a limit cut off has no gradient.
KERNEL(gated_clamped_bwd, THREADS)
(EITHER(dgate), EITHER(dh), EITHER(gate), i64 rows, i64 d_ff, float alpha, float limit) {
  NUMBERS(dgate);
  NUMBERS(dh);
  NUMBERS(gate);
  for (i64 e = thread_index(); e < rows * d_ff; e += thread_count()) {
    i64 i = e / d_ff, j = e % d_ff;
    float own = gate[i * ldgate + 2 * j], other = gate[i * ldgate + 2 * j + 1], grad = dh[i * lddh + j];
    float g = fminf(own, limit), u = fminf(fmaxf(other, -limit), limit), s = sigmoid(alpha * g, false);
    float slope = own <= limit ? s + alpha * g * s * (1.0f - s) : 0.0f;
    dgate.put(i * lddgate + 2 * j, grad * (u + 1.0f) * slope);
    dgate.put(i * lddgate + 2 * j + 1, fabsf(other) <= limit ? grad * (g * s) : 0.0f);
  }
}
