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
// An entry point. `threads`: the most a block may have; two such blocks fit the registers of a multiprocessor.
#define KERNEL(name, threads) extern "C" __global__ void __launch_bounds__(threads, 2) name
// An array that the threads of a block share.
#define SHARED(type, name, count) __shared__ __align__(16) type name[count]
// An address in the memory of the device; the emulation checks what is done with it.
template <class T> using Ptr = T*;

DEVICE u32 shared_address(const void* at) { return (u32)__cvta_generic_to_shared(at); }
// 16 bytes to shared memory; they are there when this thread has waited for their group.
DEVICE void copy_16_bytes(u16* to, const u16* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(from) : "memory");
}
// What was copied since the last group is a group.
DEVICE void copy_group() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Until at most `left` groups of this thread are under way.
template <int left> DEVICE void wait_copies() { asm volatile("cp.async.wait_group %0;" ::"n"(left) : "memory"); }
// Four 8 x 8 matrices of 16-bit numbers; lane `8 i + j` has the address of row `j` of matrix `i`.
DEVICE void load_matrices(u32 (&to)[4], const u16* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(shared_address(row))
               : "memory");
}
// The same, each matrix turned round.
DEVICE void load_matrices_transposed(u32 (&to)[4], const u16* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(shared_address(row))
               : "memory");
}
// 16 bytes to memory at a multiple of 16.
DEVICE void store_16_bytes(u16* to, const u32 (&words)[4]) {
  asm volatile("st.v4.u32 [%0], {%1,%2,%3,%4};" ::"l"(to), "r"(words[0]), "r"(words[1]), "r"(words[2]),
               "r"(words[3])
               : "memory");
}
// d += a·b of 16 x 16 by 16 x 8 numbers in bfloat16, spread over a warp.
DEVICE void multiply_bf16(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#endif

// Threads of a block wherever nothing else is said, and its warps.
constexpr int THREADS = 256;
constexpr int WARPS = THREADS / 32;

DEVICE float minus_infinity() { return __uint_as_float(0xff800000u); }
// A product and a sum that are rounded each for itself.
DEVICE float mul(float a, float b) { return __fmul_rn(a, b); }
DEVICE float add(float a, float b) { return __fadd_rn(a, b); }

// `x` to the nearest number whose significand has `dropped` bits less, ties to even. Not for infinities.
DEVICE u32 rounded_bits(float x, u32 dropped) {
  u32 bits = __float_as_uint(x), last = bits >> dropped & 1u;
  return (bits + (1u << (dropped - 1)) - 1u + last) >> dropped << dropped;
}
DEVICE bool is_finite(float x) { return fabsf(x) <= 3.402823466e38f; }
// `x` as bfloat16.
DEVICE u16 to_bf16(float x) {
  u32 bits = is_finite(x) ? rounded_bits(x, 16) : __float_as_uint(x);
  // What is no number must stay none, wherever its bits are.
  return (u16)(x == x ? bits >> 16 : 0x7fc0u);
}

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
