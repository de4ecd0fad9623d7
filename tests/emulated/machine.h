// A machine that runs the kernels of `kernels/cu` on a processor and watches them.
//
// A thread of a block is a fiber; it runs until it waits. Every access goes through `Ptr`, which knows the memory it
// points into, so that a kernel fails with a sentence when it
//   - reads or writes outside of an allocation, or at an address that does not fit the type;
//   - reads shared memory that nobody wrote;
//   - touches what another thread wrote (or overwrites what another thread read) with no barrier between the two:
//     found from the barriers passed, whatever order the threads ran in;
//   - waits at a barrier that others never reach, or has more shared memory than a block gets.
// What it does not see: alignment in banks, speed, memory orders weaker than a barrier.
//
// `schedule` decides the order of threads and blocks: bit 0 turns it round, bit 1 runs one warp as far as it can go,
// higher numbers shuffle.
#pragma once
#include <cmath>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace emu {

constexpr size_t STACK = 64 * 1024;
constexpr size_t SHARED_LIMIT = 48 * 1024;

// Who touched a piece of memory last, and which barriers that thread had passed.
struct Access {
  uint32_t launch = 0, block = 0, thread = 0, epoch = 0, warp_epoch = 0;
  enum : uint8_t { One, OneWarp, Many } who = One;
};

// Memory with one owner: an allocation, or an array that a block shares.
struct Region {
  char* base = nullptr;
  size_t bytes = 0, granule = 0;
  bool shared = false;
  std::vector<Access> writes, reads;
  void track(size_t size) {
    if (granule != 0 && granule <= size) return;
    granule = size;
    writes.assign(bytes / size + 1, Access());
    reads.assign(shared ? bytes / size + 1 : 0, Access());
  }
};

enum State : uint8_t { Ready, AtBarrier, AtWarp, Done };
struct Fiber {
  void* sp;
  State state;
};
struct Warp {
  uint32_t arrived = 0, epoch = 0;
  uint64_t slots[2][32];
  uint32_t operands[2][32][6];
};
// A copy to shared memory that was asked for and not waited for.
struct Copy {
  uint16_t* to;
  const uint16_t* from;
  Region *to_region, *from_region;
};
struct Index {
  unsigned x = 0, y = 0, z = 0;
};
// A product of tiles that was asked for and not waited for.
struct Product {
  float (*sums)[4];
  uint64_t left, right;
  bool by_step;
};
struct SharedArray {
  const char* file;
  int line;
  // Where it lies among the shared memory of its block, as descriptors of tiles say it.
  uint32_t place;
  std::unique_ptr<Region> region;
  std::vector<char> bytes;
};

// The launch that runs on this thread of the processor.
struct Launch {
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  std::vector<SharedArray> arrays;
  // For each thread its groups of copies, the oldest first; the last one is still open.
  std::vector<std::vector<std::vector<Copy>>> copies;
  // The same of products of tiles.
  std::vector<std::vector<std::vector<Product>>> products;
  bool copies_at_once = false;
  uint32_t serial = 0, block = 0, arrived = 0, epoch = 0, current = 0;
  void* scheduler = nullptr;
  const std::function<void()>* body = nullptr;
  std::string error;
  Index thread_index, block_index, block_size, grid_size;
};
inline thread_local Launch* now = nullptr;

extern "C" void emu_switch(void** save, void* load);
__asm__(
    ".text\n.globl emu_switch\n.type emu_switch,@function\nemu_switch:\n"
    " push %rbp\n push %rbx\n push %r12\n push %r13\n push %r14\n push %r15\n"
    " mov %rsp,(%rdi)\n mov %rsi,%rsp\n"
    " pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n pop %rbp\n ret\n");

inline void pause() { emu_switch(&now->fibers[now->current].sp, now->scheduler); }

// Ends the launch with a sentence; this fiber never runs again.
[[noreturn]] inline void fail(const char* format, ...) {
  char text[400];
  va_list values;
  va_start(values, format);
  vsnprintf(text, sizeof text, format, values);
  va_end(values);
  if (now->error.empty()) {
    now->error = std::string(text) + " (block " + std::to_string(now->block_index.x) + ", thread " +
                 std::to_string(now->current) + ")";
  }
  for (;;) pause();
}

// Whether a barrier lies between an access and now.
inline bool ordered(const Access& a) {
  if (a.launch != now->serial) return true;
  if (a.block != now->block) return false;
  if (a.epoch != now->epoch) return true;
  if (a.who == Access::One && a.thread == now->current) return true;
  if (a.who == Access::Many || a.thread / 32 != now->current / 32) return false;
  return a.warp_epoch != now->warps[now->current / 32].epoch;
}

inline void check(Region* region, const void* at, size_t size, bool is_write) {
  const char* what = is_write ? "writes" : "reads";
  if (region == nullptr) fail("%s at an address of no allocation", what);
  ptrdiff_t offset = (const char*)at - region->base;
  if (offset < 0 || (size_t)offset + size > region->bytes) {
    fail("%s %zu bytes at offset %td of %zu", what, size, offset, region->bytes);
  }
  if ((uintptr_t)at % size != 0) fail("%s %zu bytes at an address that is not a multiple", what, size);
  if (is_write || region->shared) region->track(size);
  if (region->granule == 0) return;
  size_t cell = (size_t)offset / region->granule;
  Access& write = region->writes[cell];
  if (!ordered(write)) fail("%s what thread %u of block %u writes, with no barrier between", what, write.thread, write.block);
  const Access mine = {now->serial, now->block, now->current, now->epoch, now->warps[now->current / 32].epoch};
  if (is_write) {
    if (region->shared && !ordered(region->reads[cell])) {
      fail("overwrites what thread %u reads, with no barrier between", region->reads[cell].thread);
    }
    write = mine;
  } else if (region->shared) {
    if (write.launch != now->serial || write.block != now->block) fail("reads shared memory that nobody wrote");
    Access& read = region->reads[cell];
    Access next = mine;
    if (read.launch == mine.launch && read.block == mine.block && read.epoch == mine.epoch && !(read.who == Access::One && read.thread == mine.thread)) {
      bool same_warp = read.who != Access::Many && read.thread / 32 == mine.thread / 32;
      // Readers before the warp's last barrier need not be remembered.
      next.who = !same_warp ? Access::Many : read.warp_epoch == mine.warp_epoch ? Access::OneWarp : Access::One;
    }
    read = next;
  }
}

// An element of memory: reading and writing it are watched.
template <class T> struct Ref {
  using Value = std::remove_const_t<T>;
  T* at;
  Region* region;
  operator Value() const {
    check(region, at, sizeof(T), false);
    return *at;
  }
  Ref& operator=(Value value) {
    check(region, at, sizeof(T), true);
    *at = value;
    return *this;
  }
  Ref& operator=(const Ref& other) { return *this = (Value)other; }
};

template <class T> struct Ptr {
  T* at;
  Region* region;
  Ref<T> operator[](long long i) const { return {at + i, region}; }
  Ref<T> operator*() const { return {at, region}; }
  Ptr operator+(long long n) const { return {at + n, region}; }
  operator Ptr<const T>() const { return {at, region}; }
};

// The array of a block that is declared here; the first thread that comes by makes it.
template <class T> Ptr<T> shared_array(const char* file, int line, size_t count) {
  size_t all = count * sizeof(T);
  for (SharedArray& array : now->arrays) {
    if (array.line == line && array.file == file) return {(T*)array.region->base, array.region.get()};
    all += array.region->bytes;
  }
  if (all > SHARED_LIMIT) fail("a block shares %zu bytes, more than %zu", all, SHARED_LIMIT);
  uint32_t place = 0;
  for (SharedArray& array : now->arrays) place += (array.region->bytes + 1023) / 1024 * 1024;
  SharedArray array{file, line, place, std::make_unique<Region>(), std::vector<char>(count * sizeof(T) + 16, (char)0xFF)};
  array.region->base = (char*)(((uintptr_t)array.bytes.data() + 15) & ~(uintptr_t)15);
  array.region->bytes = count * sizeof(T);
  array.region->shared = true;
  now->arrays.push_back(std::move(array));
  return {(T*)now->arrays.back().region->base, now->arrays.back().region.get()};
}

inline void block_barrier() {
  Launch& l = *now;
  if (++l.arrived == l.fibers.size()) {
    l.arrived = 0;
    l.epoch++;
    for (Fiber& fiber : l.fibers) {
      if (fiber.state == AtBarrier) fiber.state = Ready;
    }
    return;
  }
  l.fibers[l.current].state = AtBarrier;
  pause();
}

// All lanes of a warp leave a value and go on when the last has.
inline void warp_barrier() {
  Launch& l = *now;
  uint32_t first = l.current / 32 * 32;
  Warp& warp = l.warps[l.current / 32];
  if (++warp.arrived == 32) {
    warp.arrived = 0;
    warp.epoch++;
    for (uint32_t lane = first; lane < first + 32; lane++) {
      if (l.fibers[lane].state == AtWarp) l.fibers[lane].state = Ready;
    }
    return;
  }
  l.fibers[l.current].state = AtWarp;
  pause();
}

template <class T> T shuffle(T value, unsigned source) {
  static_assert(sizeof(T) <= 8, "a register or two");
  Warp& warp = now->warps[now->current / 32];
  uint64_t* slots = warp.slots[warp.epoch % 2];
  memcpy(&slots[now->current % 32], &value, sizeof value);
  warp_barrier();
  T got;
  memcpy(&got, &slots[source % 32], sizeof got);
  return got;
}

// Copies 16 bytes now; the thread that asked for them is the one that writes.
inline void carry_out(const Copy& copy) {
  if ((uintptr_t)copy.to % 16 != 0 || (uintptr_t)copy.from % 16 != 0) fail("copies 16 bytes at an address that is not a multiple");
  for (int i = 0; i < 8; i++) Ref<uint16_t>{copy.to + i, copy.to_region} = (uint16_t)Ref<const uint16_t>{copy.from + i, copy.from_region};
}

inline std::vector<std::vector<Copy>>& my_copies() {
  auto& groups = now->copies[now->current];
  if (groups.empty()) groups.emplace_back();
  return groups;
}

inline void start_copy(Ptr<uint16_t> to, Ptr<const uint16_t> from) {
  Copy copy = {to.at, from.at, to.region, from.region};
  if (now->copies_at_once) carry_out(copy);
  else my_copies().back().push_back(copy);
}

inline void finish_copies(size_t left) {
  auto& groups = my_copies();
  while (groups.size() > left + 1) {
    for (const Copy& copy : groups.front()) carry_out(copy);
    groups.erase(groups.begin());
  }
}

inline void load_matrices(uint32_t (&to)[4], Ptr<const uint16_t> row) {
  if ((uintptr_t)row.at % 16 != 0) fail("loads a matrix at an address that is not a multiple of 16");
  uint32_t lane = now->current % 32;
  for (uint32_t m = 0; m < 4; m++) {
    uint32_t from = m * 8 + lane / 4;
    Ptr<const uint16_t> at = {shuffle(row.at, from), shuffle(row.region, from)};
    to[m] = (uint32_t)(uint16_t)at[lane % 4 * 2] | (uint32_t)(uint16_t)at[lane % 4 * 2 + 1] << 16;
  }
}

inline void load_matrices_transposed(uint32_t (&to)[4], Ptr<const uint16_t> row) {
  if ((uintptr_t)row.at % 16 != 0) fail("loads a matrix at an address that is not a multiple of 16");
  uint32_t lane = now->current % 32;
  for (uint32_t m = 0; m < 4; m++) {
    to[m] = 0;
    for (uint32_t half = 0; half < 2; half++) {
      uint32_t from = m * 8 + lane % 4 * 2 + half;
      Ptr<const uint16_t> at = {shuffle(row.at, from), shuffle(row.region, from)};
      to[m] |= (uint32_t)(uint16_t)at[lane / 4] << 16 * half;
    }
  }
}

template <class T> inline void load_16_bytes(uint32_t (&words)[4], Ptr<const T> from) {
  if ((uintptr_t)from.at % 16 != 0) fail("loads 16 bytes at an address that is not a multiple");
  T values[16 / sizeof(T)];
  for (size_t i = 0; i < 16 / sizeof(T); i++) values[i] = from[i];
  memcpy(words, values, 16);
}

inline uint32_t load_4_bytes(Ptr<const uint8_t> from) {
  if ((uintptr_t)from.at % 4 != 0) fail("loads 4 bytes at an address that is not a multiple");
  uint32_t word = 0;
  for (int i = 0; i < 4; i++) word |= (uint32_t)(uint8_t)from[i] << 8 * i;
  return word;
}

template <class T> inline void store_16_bytes(Ptr<T> to, const uint32_t (&words)[4]) {
  if ((uintptr_t)to.at % 16 != 0) fail("stores 16 bytes at an address that is not a multiple");
  T values[16 / sizeof(T)];
  memcpy(values, words, 16);
  for (size_t i = 0; i < 16 / sizeof(T); i++) to[i] = values[i];
}

inline void store_4_bytes(Ptr<uint16_t> to, uint32_t word) {
  if ((uintptr_t)to.at % 4 != 0) fail("stores 4 bytes at an address that is not a multiple");
  for (int i = 0; i < 2; i++) to[i] = (uint16_t)(word >> 16 * i);
}

inline Ptr<float> as_single(Ptr<uint16_t> from) { return {(float*)from.at, from.region}; }
template <class T> inline uint64_t address_of(Ptr<T> at) { return (uint64_t)at.at; }

// A descriptor of a tile: see `tile_at_shared` of `device.cuh`.
inline uint64_t tile_at_shared(Ptr<uint16_t> at, uint32_t columns, uint32_t rows, uint32_t pattern) {
  for (SharedArray& array : now->arrays) {
    if (array.region.get() != at.region) continue;
    uint64_t address = array.place + ((char*)at.at - array.region->base);
    if (address % 16 != 0 || columns % 16 != 0 || rows % 16 != 0) fail("a tile begins at what is no multiple of 16");
    return address >> 4 | (uint64_t)(columns >> 4) << 16 | (uint64_t)(rows >> 4) << 32 | (uint64_t)pattern << 62;
  }
  fail("a tile of no shared memory");
}

// The number of a tile in step `k` of row `i` (or of column `i`, where a row is a step).
inline float tile_number(uint64_t tile, uint32_t i, uint32_t k, bool by_step) {
  uint32_t columns = (tile >> 16 & 0x3fff) << 4, rows = (tile >> 32 & 0x3fff) << 4, pattern = tile >> 62;
  uint32_t width = pattern == 1 ? 128 : 64, line = by_step ? k : i, across = (by_step ? i : k) * 2;
  if (pattern != 1 && pattern != 2) fail("a tile of another pattern");
  uint32_t address = ((tile & 0x3fff) << 4) + line / 8 * rows + line % 8 * width + across / width * columns + across % width;
  // Pieces of 16 bytes change places with the row, found from the address.
  address ^= (address >> 7 & (width / 16 - 1)) << 4;
  for (SharedArray& array : now->arrays) {
    if (address < array.place || address + 2 > array.place + array.region->bytes) continue;
    Ref<const uint16_t> at = {(const uint16_t*)(array.region->base + (address - array.place)), array.region.get()};
    uint32_t bits = (uint32_t)(uint16_t)at << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
  }
  fail("a tile reaches outside of shared memory");
}

inline void carry_out(const Product& product) {
  uint32_t warp = now->current / 32 % 4, lane = now->current % 32;
  float left[2][16];
  for (int half = 0; half < 2; half++) {
    for (uint32_t k = 0; k < 16; k++) left[half][k] = tile_number(product.left, warp * 16 + lane / 4 + half * 8, k, false);
  }
  for (uint32_t j = 0; j < 16; j++) {
    for (uint32_t odd = 0; odd < 2; odd++) {
      for (uint32_t k = 0; k < 16; k++) {
        float right = tile_number(product.right, j * 8 + lane % 4 * 2 + odd, k, product.by_step);
        for (uint32_t half = 0; half < 2; half++) product.sums[j][half * 2 + odd] += left[half][k] * right;
      }
    }
  }
}

inline std::vector<std::vector<Product>>& my_products() {
  auto& groups = now->products[now->current];
  if (groups.empty()) groups.emplace_back();
  return groups;
}

inline void finish_products(size_t left) {
  auto& groups = my_products();
  while (groups.size() > left + 1) {
    for (const Product& product : groups.front()) carry_out(product);
    groups.erase(groups.begin());
  }
}

// At once, or as late as it is waited for, as copies are.
template <bool BY_STEP> inline void multiply_tiles(float (&d)[16][4], uint64_t a, uint64_t b) {
  Product product = {d, a, b, BY_STEP};
  if (now->copies_at_once) carry_out(product);
  else my_products().back().push_back(product);
}

inline float bf16_half(uint32_t word, int high) {
  uint32_t bits = high ? word & 0xffff0000u : word << 16;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

inline void multiply_bf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  Warp& warp = now->warps[now->current / 32];
  auto& operands = warp.operands[warp.epoch % 2];
  uint32_t lane = now->current % 32;
  memcpy(operands[lane], a, 16);
  operands[lane][4] = b0;
  operands[lane][5] = b1;
  warp_barrier();
  for (int out = 0; out < 4; out++) {
    int row = lane / 4 + out / 2 * 8, col = lane % 4 * 2 + out % 2;
    for (int k = 0; k < 16; k++) {
      float left = bf16_half(operands[row % 8 * 4 + k % 8 / 2][k / 8 * 2 + row / 8], k % 2);
      float right = bf16_half(operands[col * 4 + k % 8 / 2][4 + k / 8], k % 2);
      d[out] += left * right;
    }
  }
}

inline void enter() {
  (*now->body)();
  now->fibers[now->current].state = Done;
  for (;;) pause();
}

inline uint32_t mixed(uint32_t x) {
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}

// The `i`-th of `n` in the order of a schedule.
inline uint32_t in_order(uint32_t i, uint32_t n, int schedule) {
  if (schedule < 4) return schedule & 1 ? n - 1 - i : i;
  // An odd stride prime to n goes through all of them.
  uint32_t stride = mixed(schedule) % n | 1;
  auto common = [](uint32_t a, uint32_t b) {
    while (b != 0) {
      uint32_t rest = a % b;
      a = b;
      b = rest;
    }
    return a;
  };
  while (common(stride, n) != 1) stride += 2;
  return (uint32_t)(((uint64_t)i * stride + mixed(schedule + 1)) % n);
}

inline void run_block(Launch& l, std::vector<char>& stacks, int schedule) {
  const uint32_t n = l.fibers.size();
  l.arrays.clear();
  l.arrived = l.epoch = 0;
  for (Warp& warp : l.warps) warp.arrived = warp.epoch = 0;
  l.copies.assign(n, {});
  l.products.assign(n, {});
  for (uint32_t t = 0; t < n; t++) {
    void** sp = (void**)(((uintptr_t)stacks.data() + (t + 1) * STACK) & ~(uintptr_t)63);
    *--sp = nullptr;
    *--sp = (void*)enter;
    for (int i = 0; i < 6; i++) *--sp = nullptr;
    l.fibers[t] = {sp, Ready};
  }
  auto run = [&](uint32_t t) {
    if (l.fibers[t].state != Ready) return false;
    l.current = t;
    l.thread_index = {t % l.block_size.x, t / l.block_size.x % l.block_size.y, t / (l.block_size.x * l.block_size.y)};
    emu_switch(&l.scheduler, l.fibers[t].sp);
    return true;
  };
  for (;;) {
    bool moved = false;
    for (uint32_t i = 0; i < n && l.error.empty(); i++) {
      uint32_t t = in_order(i, n, schedule);
      if (!run(t)) continue;
      moved = true;
      bool again = schedule & 2;
      while (again && l.error.empty()) {
        again = false;
        for (uint32_t lane = t / 32 * 32; lane < t / 32 * 32 + 32 && l.error.empty(); lane++) again |= run(lane);
      }
    }
    if (!l.error.empty()) return;
    if (!moved) break;
  }
  uint32_t waiting = 0;
  for (Fiber& fiber : l.fibers) waiting += fiber.state != Done;
  if (waiting > 0) l.error = std::to_string(waiting) + " threads wait at a barrier that others never reach";
}

// All blocks of a launch, one after the other. Empty: it went well.
inline std::string launch(uint32_t serial, Index grid, Index block, int schedule, std::vector<char>& stacks,
                          const std::function<void()>& body) {
  Launch l;
  const uint32_t threads = block.x * block.y * block.z;
  if (threads == 0 || threads % 32 != 0 || threads > 1024) return "a block of " + std::to_string(threads) + " threads";
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return "a grid of no blocks";
  if (stacks.size() < (threads + 1) * STACK) stacks.resize((threads + 1) * STACK);
  l.fibers.resize(threads);
  l.warps.resize(threads / 32);
  l.serial = serial;
  l.body = &body;
  l.block_size = block;
  l.grid_size = grid;
  // Both of what a GPU may do: the copy is there at once, or as late as it is waited for.
  l.copies_at_once = (schedule & 1) || schedule >= 4;
  now = &l;
  const uint32_t blocks = grid.x * grid.y * grid.z;
  for (uint32_t i = 0; i < blocks && l.error.empty(); i++) {
    l.block = in_order(i, blocks, schedule);
    l.block_index = {l.block % grid.x, l.block / grid.x % grid.y, l.block / (grid.x * grid.y)};
    run_block(l, stacks, schedule);
  }
  now = nullptr;
  return l.error;
}

}  // namespace emu

// What CUDA C++ has of its own.
using emu::Ptr;
#define DEVICE inline
#define KERNEL(name, threads) static void name
#define SHARED_TILE SHARED
#define SHARED(type, name, count) emu::Ptr<type> name = emu::shared_array<type>(__FILE__, __LINE__, count)
#define threadIdx (emu::now->thread_index)
#define blockIdx (emu::now->block_index)
#define blockDim (emu::now->block_size)
#define gridDim (emu::now->grid_size)
static inline void __syncthreads() { emu::block_barrier(); }
static inline void copy_16_bytes(emu::Ptr<uint16_t> to, emu::Ptr<const uint16_t> from) { emu::start_copy(to, from); }
static inline void copy_group() { emu::my_copies().emplace_back(); }
template <int left> static inline void wait_copies() { emu::finish_copies(left); }
using emu::tile_at_shared;
using emu::multiply_tiles;
// Between copies and tensor cores of one thread nothing is out of order here.
static inline void show_tensor_cores() {}
static inline void begin_products() {}
static inline void product_group() { emu::my_products().emplace_back(); }
template <int left> static inline void wait_products() { emu::finish_products(left); }
using emu::load_matrices;
using emu::load_matrices_transposed;
using emu::load_16_bytes;
using emu::load_4_bytes;
using emu::store_16_bytes;
using emu::store_4_bytes;
using emu::as_single;
using emu::address_of;
template <class T> static inline void load_own_16_bytes(uint32_t (&words)[4], emu::Ptr<T> from) {
  emu::load_16_bytes<T>(words, emu::Ptr<const T>(from));
}
static inline float quick_exp2(float x) { return exp2f(x); }
static inline float quick_reciprocal(float x) { return 1.0f / x; }
using emu::multiply_bf16;
static inline void __syncwarp() { emu::warp_barrier(); }
template <class T> static inline T __shfl_xor_sync(unsigned, T value, int mask) {
  return emu::shuffle(value, emu::now->current % 32 ^ (unsigned)mask);
}
static inline float __uint_as_float(unsigned bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}
static inline unsigned __float_as_uint(float value) {
  unsigned bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}
// Compiled with `-ffp-contract=off`: nothing is fused that is not called `fmaf`.
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fadd_rn(float a, float b) { return a + b; }
