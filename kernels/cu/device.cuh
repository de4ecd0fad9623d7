// What kernels are written with. One header, two machines: a GPU, and the emulation that tests
// compile the same sources for (`tests/emulated/machine.h`).
//
// Rules of the kernels:
//  - no header of a toolkit; only what this file names;
//  - 64-bit sizes and indices;
//  - every sum in an order that sizes alone decide: no atomic, no result that depends on timing;
//  - a block is a multiple of 32 threads, and all of them reach every barrier;
//  - where bits must equal those of the processor, products and sums are `mul` and `add`, which no
//    compiler may fuse.
#pragma once
typedef long long i64;
typedef unsigned long long u64;
typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned char u8;

#ifdef HOST_EMU
#include "machine.h"
#else
#define DEVICE __device__ __forceinline__
// An entry point. `threads`: the most a block may have.
#define KERNEL(name, threads) extern "C" __global__ void __launch_bounds__(threads) name
// An array that the threads of a block share.
#define SHARED(type, name, count) __shared__ type name[count]
// An address in the memory of the device; the emulation checks what is done with it.
template <class T> using Ptr = T*;
#endif

// Threads of a block wherever nothing else is said, and its warps.
constexpr int THREADS = 256;
constexpr int WARPS = THREADS / 32;

DEVICE float minus_infinity() { return __uint_as_float(0xff800000u); }
// A product and a sum that are rounded each for itself.
DEVICE float mul(float a, float b) { return __fmul_rn(a, b); }
DEVICE float add(float a, float b) { return __fadd_rn(a, b); }

// This thread among all of the launch, and how many there are.
DEVICE i64 thread_index() { return (i64)blockIdx.x * blockDim.x + threadIdx.x; }
DEVICE i64 thread_count() { return (i64)gridDim.x * blockDim.x; }

struct Sum {
  template <class T> DEVICE T operator()(T a, T b) const { return a + b; }
};
struct Max {
  DEVICE float operator()(float a, float b) const { return fmaxf(a, b); }
};
struct Min {
  DEVICE i64 operator()(i64 a, i64 b) const { return a < b ? a : b; }
};

// One value a thread to one value for all threads of a block, always in the same order.
// `scratch` has room for a value a warp; it may be used again at once.
template <class T, class Op> DEVICE T block_reduce(Ptr<T> scratch, T value, Op op) {
  for (int distance = 16; distance > 0; distance /= 2) value = op(value, __shfl_xor_sync(0xffffffffu, value, distance));
  __syncthreads();  // whoever still reads the scratch of an earlier call
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = value;
  __syncthreads();
  T all = scratch[0];
  for (int warp = 1; warp < (int)blockDim.x / 32; warp++) all = op(all, (T)scratch[warp]);
  return all;
}
