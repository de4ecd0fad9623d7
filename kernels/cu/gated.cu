// The gate of the feed-forward block, and its backward.
#include "device.cuh"

DEVICE float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// An activation and its derivative: 0 is x·sigmoid(x), 1 is GELU in its tanh form.
DEVICE void activate(int kind, float x, float* value, float* slope) {
  if (kind == 0) {
    float s = sigmoid(x);
    *value = x * s;
    *slope = s * (1.0f + x * (1.0f - s));
  } else {
    const float c = 0.7978845608028654f;  // √(2/π)
    float t = tanhf(c * (x + 0.044715f * x * x * x));
    float dt = (1.0f - t * t) * c * (1.0f + 3.0f * 0.044715f * x * x);
    *value = 0.5f * x * (1.0f + t);
    *slope = 0.5f * (1.0f + t) + 0.5f * x * dt;
  }
}

// h = act(gate)·up; a row of `gate_up` is all gates, then all ups.
KERNEL(gated, THREADS)(Ptr<float> h, i64 ldh, Ptr<const float> gate_up, i64 ldg, i64 rows, i64 d_ff, int kind) {
  for (i64 e = thread_index(); e < rows * d_ff; e += thread_count()) {
    i64 i = e / d_ff, j = e % d_ff;
    float value, slope;
    activate(kind, gate_up[i * ldg + j], &value, &slope);
    h[i * ldh + j] = value * gate_up[i * ldg + d_ff + j];
  }
}

// dgate = dh·up·act'(gate), dup = dh·act(gate)
KERNEL(gated_bwd, THREADS)
(Ptr<float> d, i64 ldd, Ptr<const float> dh, i64 lddh, Ptr<const float> gate_up, i64 ldg, i64 rows, i64 d_ff, int kind) {
  for (i64 e = thread_index(); e < rows * d_ff; e += thread_count()) {
    i64 i = e / d_ff, j = e % d_ff;
    float value, slope, grad = dh[i * lddh + j], up = gate_up[i * ldg + d_ff + j];
    activate(kind, gate_up[i * ldg + j], &value, &slope);
    d[i * ldd + j] = grad * up * slope;
    d[i * ldd + d_ff + j] = grad * value;
  }
}

// The gate of gpt-oss, a gate and its other half side by side: h = (u + 1)·g·sigmoid(alpha·g),
// g at most `limit`, u within plus and minus `limit`.
KERNEL(gated_clamped, THREADS)
(Ptr<float> h, i64 ldh, Ptr<const float> gate_up, i64 ldg, i64 rows, i64 d_ff, float alpha, float limit) {
  for (i64 e = thread_index(); e < rows * d_ff; e += thread_count()) {
    i64 i = e / d_ff, j = e % d_ff;
    float g = fminf(gate_up[i * ldg + 2 * j], limit);
    float u = fminf(fmaxf(gate_up[i * ldg + 2 * j + 1], -limit), limit);
    h[i * ldh + j] = (u + 1.0f) * (g * sigmoid(alpha * g));
  }
}

// What a limit cut off has no gradient.
KERNEL(gated_clamped_bwd, THREADS)
(Ptr<float> d, i64 ldd, Ptr<const float> dh, i64 lddh, Ptr<const float> gate_up, i64 ldg, i64 rows, i64 d_ff,
 float alpha, float limit) {
  for (i64 e = thread_index(); e < rows * d_ff; e += thread_count()) {
    i64 i = e / d_ff, j = e % d_ff;
    float gate = gate_up[i * ldg + 2 * j], other = gate_up[i * ldg + 2 * j + 1], grad = dh[i * lddh + j];
    float g = fminf(gate, limit), u = fminf(fmaxf(other, -limit), limit), s = sigmoid(alpha * g);
    float slope = gate <= limit ? s + alpha * g * s * (1.0f - s) : 0.0f;
    d[i * ldd + 2 * j] = grad * (u + 1.0f) * slope;
    d[i * ldd + 2 * j + 1] = fabsf(other) <= limit ? grad * (g * s) : 0.0f;
  }
}
