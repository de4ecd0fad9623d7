// The kernels of `kernels/cu`, compiled for a processor, behind the few calls that a device has.
//
// Built by `tests/src/emulated.rs` with `-I` of the kernels' folder. `ONLY_<file>` leaves out all files but
// those named, so that a test that damages one of them compiles that one alone.
#include "machine.h"

#if defined(ONLY)
#define WITH(name) defined(ONLY_##name)
#else
#define WITH(name) 1
#endif
#if WITH(move)
#include "move.cu"
#endif
#if WITH(columns)
#include "columns.cu"
#endif
#if WITH(norm)
#include "norm.cu"
#endif
#if WITH(rope)
#include "rope.cu"
#endif
#if WITH(gated)
#include "gated.cu"
#endif
#if WITH(random)
#include "random.cu"
#endif
#if WITH(gemm)
#include "gemm.cu"
#endif
#if WITH(gemm_bf16)
#include "gemm_bf16.cu"
#endif
#if WITH(gemm_skinny)
#include "gemm_skinny.cu"
#endif
#if WITH(gemm_wgmma)
#include "gemm_wgmma.cu"
#endif
#if WITH(gemv)
#include "gemv.cu"
#endif
#if WITH(weights)
#include "weights.cu"
#endif
#if WITH(embed)
#include "embed.cu"
#endif
#if WITH(optim)
#include "optim.cu"
#endif
#if WITH(sample)
#include "sample.cu"
#endif
#if WITH(loss)
#include "loss.cu"
#endif
#if WITH(attention)
#include "attention.cu"
#endif
#if WITH(attention_bwd)
#include "attention_bwd.cu"
#endif
#if WITH(attention_few)
#include "attention_few.cu"
#endif
#if WITH(attention_bf16)
#include "attention_bf16.cu"
#endif
#if WITH(attention_bf16_256)
#include "attention_bf16_256.cu"
#endif
#if WITH(attention_bf16_bwd)
#include "attention_bf16_bwd.cu"
#endif

namespace {

// An argument as the host gives it: its bits and what they are.
struct Arg {
  uint64_t bits;
  uint8_t kind;
};
enum Kind : uint8_t { Address = 0, Word = 1, Single = 2, Long = 3 };

struct Machine {
  int schedule = 0;
  uint32_t serial = 0;
  size_t capacity = 0, used = 0;
  std::map<uint64_t, std::unique_ptr<emu::Region>> regions;  // by first address
  std::vector<char> stacks;
  std::string message;

  // Null where there is nothing to say; otherwise a text that lasts until the next one.
  const char* report(std::string text) {
    message = std::move(text);
    return message.empty() ? nullptr : message.c_str();
  }
  emu::Region* at(uint64_t address) {
    auto next = regions.upper_bound(address);
    if (next == regions.begin()) return nullptr;
    emu::Region* region = std::prev(next)->second.get();
    // One past the end belongs to it, too: an empty window may begin there.
    return address <= (uint64_t)region->base + region->bytes ? region : nullptr;
  }
  bool holds(uint64_t address, size_t bytes) {
    emu::Region* region = at(address);
    return region != nullptr && address - (uint64_t)region->base + bytes <= region->bytes;
  }
};

// An argument as the kernel takes it. The kinds were compared before.
template <class T> struct Take {
  static constexpr Kind kind = std::is_same_v<T, float> ? Single : sizeof(T) == 8 ? Long : Word;
  static T from(Machine&, uint64_t bits) {
    T value;
    memcpy(&value, &bits, sizeof value);
    return value;
  }
};
template <class T> struct Take<emu::Ptr<T>> {
  static constexpr Kind kind = Address;
  static emu::Ptr<T> from(Machine& machine, uint64_t bits) { return {(T*)bits, machine.at(bits)}; }
};

template <auto F> struct Entry;
template <class... A, void (*F)(A...)> struct Entry<F> {
  template <size_t... I>
  static void call(Machine& machine, const Arg* args, std::index_sequence<I...>) {
    F(Take<A>::from(machine, args[I].bits)...);
  }
  static std::string run(Machine& machine, emu::Index grid, emu::Index block, const Arg* args, size_t count) {
    constexpr Kind kinds[] = {Take<A>::kind...};
    if (count != sizeof...(A)) return std::to_string(count) + " arguments instead of " + std::to_string(sizeof...(A));
    for (size_t i = 0; i < count; i++) {
      if (args[i].kind != kinds[i]) return "argument " + std::to_string(i) + " is of another kind";
    }
    auto body = [&] { call(machine, args, std::index_sequence_for<A...>()); };
    return emu::launch(++machine.serial, grid, block, machine.schedule, machine.stacks, body);
  }
};

using Run = std::string (*)(Machine&, emu::Index, emu::Index, const Arg*, size_t);
#define ENTRY(name) {#name, Entry<name>::run}
const std::map<std::string, Run>& table() {
  static const std::map<std::string, Run> entries = {
#include "entries.inc"
  };
  return entries;
}

}  // namespace

extern "C" {

void* emu_new(int schedule, uint64_t capacity) {
  Machine* machine = new Machine;
  machine->schedule = schedule;
  machine->capacity = capacity;
  return machine;
}

void emu_free(void* machine) {
  for (auto& entry : ((Machine*)machine)->regions) free(entry.second->base);
  delete (Machine*)machine;
}

// Memory that holds no number; 0 where there is no room.
uint64_t emu_alloc(void* machine, uint64_t bytes) {
  Machine& m = *(Machine*)machine;
  if (m.used + bytes > m.capacity) return 0;
  char* base = (char*)aligned_alloc(256, (bytes + 511) / 256 * 256);
  if (base == nullptr) return 0;
  memset(base, 0xFF, (bytes + 511) / 256 * 256);
  auto region = std::make_unique<emu::Region>();
  region->base = base;
  region->bytes = bytes;
  m.used += bytes;
  m.regions.emplace((uint64_t)base, std::move(region));
  return (uint64_t)base;
}

const char* emu_release(void* machine, uint64_t address) {
  Machine& m = *(Machine*)machine;
  auto found = m.regions.find(address);
  if (found == m.regions.end()) return m.report("releases what is no allocation");
  m.used -= found->second->bytes;
  free(found->second->base);
  m.regions.erase(found);
  return nullptr;
}

const char* emu_write(void* machine, uint64_t address, const void* from, uint64_t bytes) {
  if (!((Machine*)machine)->holds(address, bytes)) return ((Machine*)machine)->report("uploads outside of an allocation");
  memcpy((void*)address, from, bytes);
  return nullptr;
}

const char* emu_read(void* machine, void* to, uint64_t address, uint64_t bytes) {
  if (!((Machine*)machine)->holds(address, bytes)) return ((Machine*)machine)->report("downloads from outside of an allocation");
  memcpy(to, (const void*)address, bytes);
  return nullptr;
}

const char* emu_launch(void* machine, const char* name, const uint32_t* grid, const uint32_t* block, const Arg* args,
                       uint64_t count) {
  Machine& m = *(Machine*)machine;
  auto entry = table().find(name);
  if (entry == table().end()) return m.report(std::string("no kernel ") + name);
  emu::Index g = {grid[0], grid[1], grid[2]}, b = {block[0], block[1], block[2]};
  std::string error = entry->second(m, g, b, args, count);
  return m.report(error.empty() ? error : std::string(name) + ": " + error);
}

// 1 where the kernel is there.
int emu_knows(const char* name) { return table().count(name) > 0; }
}
