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
// One at a multiple of 1024, where patterns of the tensor cores begin.
#define SHARED_TILE(type, name, count) __shared__ __align__(1024) type name[count]
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
// 16 bytes of memory that nobody writes meanwhile, at a multiple of 16.
template <class T> DEVICE void load_16_bytes(u32 (&words)[4], const T* from) {
  asm("ld.global.nc.v4.u32 {%0,%1,%2,%3}, [%4];"
      : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
      : "l"(from));
}
// The memory of a matrix in f32 that is counted in halves of its numbers.
DEVICE float* as_single(u16* at) { return (float*)at; }
template <class T> DEVICE u64 address_of(const T* at) { return (u64)at; }
// 16 bytes at a multiple of 16 that this thread may write, too.
struct __align__(16) SixteenBytes {
  u32 words[4];
};
template <class T> DEVICE void load_own_16_bytes(u32 (&words)[4], const T* from) {
  SixteenBytes all = *(const SixteenBytes*)from;
#pragma unroll
  for (int e = 0; e < 4; e++) words[e] = all.words[e];
}
// Four of them at a multiple of 4, the first in the low bits.
DEVICE u32 load_4_bytes(const u8* from) {
  u32 word;
  asm("ld.global.nc.u32 %0, [%1];" : "=r"(word) : "l"(from));
  return word;
}
// Two numbers as bfloat16, the first in the low half.
DEVICE u32 pair_bf16(float low, float high) {
  u32 both;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  return both;
}
// 16 bytes to memory at a multiple of 16.
template <class T> DEVICE void store_16_bytes(T* to, const u32 (&words)[4]) {
  asm volatile("st.v4.u32 [%0], {%1,%2,%3,%4};" ::"l"(to), "r"(words[0]), "r"(words[1]), "r"(words[2]),
               "r"(words[3])
               : "memory");
}
// Four at a multiple of 4.
DEVICE void store_4_bytes(u16* to, u32 word) { *(u32*)to = word; }
// 2 to the power of `x`, and 1/x, as exact as the hardware makes them: two numbers in bfloat16 apart are far more.
DEVICE float quick_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
DEVICE float quick_reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
// d += a·b of 16 x 16 by 16 x 8 numbers in bfloat16, spread over a warp.
DEVICE void multiply_bf16(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Compute capability 9.0 alone: a group of four warps multiplies tiles of shared memory while its threads go on.
// Where a tile lies: its address, the distances in bytes of its groups of columns and of its groups of eight rows, and
// the pattern in which its pieces change places (1: of rows of 128 bytes, 2: of 64).
DEVICE u64 tile_at_shared(const u16* at, u32 columns, u32 rows, u32 pattern) {
  u64 address = shared_address(at) >> 4 & 0x3fffu;
  return address | (u64)(columns >> 4) << 16 | (u64)(rows >> 4) << 32 | (u64)pattern << 62;
}
// What this thread copied to shared memory is there for the tensor cores, too.
DEVICE void show_tensor_cores() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
DEVICE void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void product_group() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Until at most `left` groups of products are under way.
template <int left> DEVICE void wait_products() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(left) : "memory"); }
// d += a·b of 64 x 16 by 16 x 128 numbers in bfloat16. A row of `a` lies together; of `b` a column of the result does, or
// with BY_STEP a row.
template <bool BY_STEP> DEVICE void multiply_tiles(float (&d)[16][4], u64 a, u64 b) {
#define FOUR(j) "+f"(d[j][0]), "+f"(d[j][1]), "+f"(d[j][2]), "+f"(d[j][3])
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
      "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,"
      "%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, %64, %65, 1, 1, 1, 0, %66;"
      : FOUR(0), FOUR(1), FOUR(2), FOUR(3), FOUR(4), FOUR(5), FOUR(6), FOUR(7), FOUR(8), FOUR(9), FOUR(10), FOUR(11),
        FOUR(12), FOUR(13), FOUR(14), FOUR(15)
      : "l"(a), "l"(b), "n"(BY_STEP ? 1 : 0));
#undef FOUR
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

#ifdef HOST_EMU
DEVICE u32 pair_bf16(float low, float high) { return (u32)to_bf16(low) | (u32)to_bf16(high) << 16; }
#endif

// Eight numbers as bfloat16 to a multiple of 16 bytes.
DEVICE void store_8_bf16(Ptr<u16> to, const float (&numbers)[8]) {
  u32 words[4];
#pragma unroll
  for (int e = 0; e < 4; e++) words[e] = pair_bf16(numbers[2 * e], numbers[2 * e + 1]);
  store_16_bytes(to, words);
}

DEVICE float from_bf16(u32 h) { return __uint_as_float(h << 16); }

// Numbers of a matrix that are f32, or bfloat16 where `is_narrow`: activations are, in a run whose products round them
// anyway. `words` are counted in 16 bits, the numbers from the first on in numbers.
struct Numbers {
  Ptr<u16> words;
  int is_narrow;

  DEVICE Numbers from(i64 i) const {
    Numbers there = {words + (is_narrow ? i : 2 * i), is_narrow};
    return there;
  }
  DEVICE float operator[](i64 i) const { return is_narrow ? from_bf16(words[i]) : (float)as_single(words)[i]; }
  DEVICE void put(i64 i, float x) const {
    if (is_narrow) words[i] = (u16)pair_bf16(x, 0.0f);
    else as_single(words)[i] = x;
  }
  // Whether rows `ld` numbers apart begin at a multiple of 16 bytes.
  DEVICE bool is_wide(i64 ld) const { return ((address_of(words) | (u64)ld * (is_narrow ? 2 : 4)) & 15u) == 0; }
  // Eight numbers from `i` on of which only `there` exist, zeros for the others.
  DEVICE void load(float (&to)[8], i64 i, i64 there, bool is_wide) const {
    if (there < 8 || !is_wide) {
#pragma unroll
      for (int e = 0; e < 8; e++) to[e] = e < there ? (*this)[i + e] : 0.0f;
    } else if (is_narrow) {
      u32 raw[4];
      load_own_16_bytes(raw, words + i);
#pragma unroll
      for (int e = 0; e < 8; e++) to[e] = from_bf16(raw[e / 2] >> 16 * (e % 2) & 0xffffu);
    } else {
#pragma unroll
      for (int half = 0; half < 2; half++) {
        u32 raw[4];
        load_own_16_bytes(raw, as_single(words) + (i + half * 4));
#pragma unroll
        for (int e = 0; e < 4; e++) to[half * 4 + e] = __uint_as_float(raw[e]);
      }
    }
  }
  // The same the other way.
  DEVICE void store(i64 i, const float (&x)[8], i64 there, bool is_wide) const {
    if (there < 8 || !is_wide) {
#pragma unroll
      for (int e = 0; e < 8; e++) {
        if (e < there) put(i + e, x[e]);
      }
    } else if (is_narrow) {
      store_8_bf16(words + i, x);
    } else {
#pragma unroll
      for (int half = 0; half < 2; half++) {
        u32 raw[4];
#pragma unroll
        for (int e = 0; e < 4; e++) raw[e] = __float_as_uint(x[half * 4 + e]);
        store_16_bytes(as_single(words) + (i + half * 4), raw);
      }
    }
  }
  // Add to them, or overwrite them.
  DEVICE void write(i64 i, const float (&x)[8], i64 there, bool is_wide, int is_add) const {
    if (!is_add) return store(i, x, there, is_wide);
    float sum[8];
    load(sum, i, there, is_wide);
#pragma unroll
    for (int e = 0; e < 8; e++) sum[e] = sum[e] + x[e];
    store(i, sum, there, is_wide);
  }
  // Two that lie together.
  DEVICE void put_2(i64 i, float first, float second) const {
    if (is_narrow && (address_of(words + i) & 3u) == 0) {
      store_4_bytes(words + i, pair_bf16(first, second));
    } else {
      put(i, first);
      put(i + 1, second);
    }
  }
  DEVICE void write_one(i64 i, float x, int is_add) const { put(i, is_add ? (*this)[i] + x : x); }
};
// A window of them among the parameters of a kernel: rows `ld` apart.
#define EITHER(name) Ptr<u16> words_of_##name, i64 ld##name, int name##_is_narrow
#define NUMBERS(name) Numbers name = {words_of_##name, name##_is_narrow}

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

// Row and first column of every piece of eight columns of a matrix, spread over all threads of a launch, and how many of
// the eight exist.
template <class Body> DEVICE void each_piece(i64 rows, i64 cols, Body body) {
  i64 across = (cols + 7) / 8, all = rows * across;
  bool is_small = all < 0x100000000ll;
  for (i64 at = thread_index(); at < all; at += thread_count()) {
    // 64-bit divisions take as long as the rest together.
    i64 i = is_small ? (i64)((u32)at / (u32)across) : at / across;
    i64 j = (at - i * across) * 8;
    body(i, j, cols - j < 8 ? cols - j : 8);
  }
}
