// NVIDIA's driver as far as `kernels/src/cuda/driver.rs` calls it, over the emulated machine: built as a library of the
// driver's name, it lets the program itself run on a card that is none.
//
// The environment says what kind of card it is:
//   EMULATED_CARDS     how many (1)           EMULATED_DRIVER    version, as 12040
//   EMULATED_CHIP      compute capability, as 75    EMULATED_MEMORY    bytes
//   EMULATED_SCHEDULE  order of threads       EMULATED_BREAKS    the kernel that fails when it is launched
//   EMULATED_SHRINKS   "N BYTES": from the N-th launch of adamw after memory was asked for last there is so much of it, as
//                      if another program had taken the rest
//   EMULATED_REPORT    a file that is written when the last user leaves: how often memory was asked for, most bytes,
//                      launches, and how often memory was asked for after the first launch of adamw
#include <mutex>

#include "kernels.cpp"

namespace {

std::mutex one_at_a_time;

uint64_t setting(const char* name, uint64_t otherwise) {
  const char* text = getenv(name);
  return text == nullptr ? otherwise : strtoull(text, nullptr, 10);
}

// What happened on the card.
struct Story {
  uint64_t allocations = 0, most = 0, launches = 0, late = 0, since = 0;
  bool has_learnt = false;
} story;

void tell() {
  const char* path = getenv("EMULATED_REPORT");
  FILE* file = path == nullptr ? nullptr : fopen(path, "w");
  if (file == nullptr) return;
  fprintf(file, "{\"allocations\": %llu, \"most_bytes\": %llu, \"launches\": %llu, \"late_allocations\": %llu}\n",
          (unsigned long long)story.allocations, (unsigned long long)story.most, (unsigned long long)story.launches,
          (unsigned long long)story.late);
  fclose(file);
}

Machine& card() {
  static Machine* machine = [] {
    Machine* made = new Machine;
    made->schedule = (int)setting("EMULATED_SCHEDULE", 0);
    made->capacity = setting("EMULATED_MEMORY", 2ull << 30);
    return made;
  }();
  return *machine;
}

// A launch as the driver takes it: where each parameter lies.
template <auto F> struct Packed;
template <class... A, void (*F)(A...)> struct Packed<F> {
  static std::string run(Machine& machine, emu::Index grid, emu::Index block, void** parameters) {
    constexpr Kind kinds[] = {Take<A>::kind...};
    Arg args[sizeof...(A)];
    for (size_t i = 0; i < sizeof...(A); i++) {
      bool is_long = kinds[i] == Address || kinds[i] == Long;
      args[i] = {0, kinds[i]};
      memcpy(&args[i].bits, parameters[i], is_long ? 8 : 4);
    }
    return Entry<F>::run(machine, grid, block, args, sizeof...(A));
  }
};

struct Function {
  const char* name;
  std::string (*run)(Machine&, emu::Index, emu::Index, void**);
};

const Function* function(const char* name) {
#undef ENTRY
#define ENTRY(name) {#name, Packed<name>::run}
  static const Function all[] = {
#include "entries.inc"
  };
  for (const Function& found : all) {
    if (strcmp(found.name, name) == 0) return &found;
  }
  return nullptr;
}

enum : int { Success = 0, Invalid = 1, OutOfMemory = 2, NoDevice = 100, InvalidDevice = 101, NotFound = 500, Illegal = 700 };

}  // namespace

#define ANSWER extern "C" __attribute__((visibility("default"))) int
ANSWER cuInit(unsigned) { return setting("EMULATED_CARDS", 1) > 0 ? Success : NoDevice; }
ANSWER cuDriverGetVersion(int* version) { return *version = (int)setting("EMULATED_DRIVER", 12040), Success; }
ANSWER cuDeviceGetCount(int* count) { return *count = (int)setting("EMULATED_CARDS", 1), Success; }
ANSWER cuDeviceGet(int* device, int ordinal) { return *device = ordinal, Success; }
ANSWER cuDeviceGetName(char* name, int room, int) { return snprintf(name, room, "Emulated card"), Success; }
ANSWER cuDeviceTotalMem_v2(size_t* bytes, int) { return *bytes = setting("EMULATED_MEMORY", 2ull << 30), Success; }
ANSWER cuDeviceGetAttribute(int* value, int attribute, int) {
  int chip = (int)setting("EMULATED_CHIP", 80);
  *value = attribute == 75 ? chip / 10 : attribute == 76 ? chip % 10 : 0;
  return Success;
}
ANSWER cuDevicePrimaryCtxRetain(void** context, int) { return *context = &card(), Success; }
ANSWER cuDevicePrimaryCtxRelease_v2(int) {
  // Whoever leaves must have given everything back.
  if (card().used != 0) fprintf(stderr, "the emulated card still holds %zu bytes\n", card().used);
  tell();
  return Success;
}
ANSWER cuCtxSetCurrent(void*) { return Success; }
ANSWER cuCtxSynchronize() { return Success; }
ANSWER cuModuleLoadData(void** module, const void* text) {
  if (strncmp((const char*)text, "// sources ", 11) != 0) return 218;  // no PTX
  return *module = (void*)text, Success;
}
ANSWER cuModuleUnload(void*) { return Success; }
ANSWER cuModuleGetFunction(void** found, void* module, const char* name) {
  // It must be in the emulation, and declared in the PTX that was loaded.
  std::string declared = std::string(".visible .entry ") + name + "(";
  *found = (void*)function(name);
  return *found != nullptr && strstr((const char*)module, declared.c_str()) != nullptr ? Success : NotFound;
}
ANSWER cuMemAlloc_v2(uint64_t* address, size_t bytes) {
  std::lock_guard<std::mutex> guard(one_at_a_time);
  *address = emu_alloc(&card(), bytes);
  story.allocations++;
  story.since = 0;
  story.late += story.has_learnt;
  if (card().used > story.most) story.most = card().used;
  return *address != 0 ? Success : OutOfMemory;
}
ANSWER cuMemFree_v2(uint64_t address) {
  std::lock_guard<std::mutex> guard(one_at_a_time);
  return emu_release(&card(), address) == nullptr ? Success : Invalid;
}
ANSWER cuMemGetInfo_v2(size_t* free, size_t* total) {
  std::lock_guard<std::mutex> guard(one_at_a_time);
  *total = card().capacity;
  *free = card().capacity > card().used ? card().capacity - card().used : 0;
  return Success;
}
ANSWER cuMemcpyHtoD_v2(uint64_t to, const void* from, size_t bytes) {
  std::lock_guard<std::mutex> guard(one_at_a_time);
  return emu_write(&card(), to, from, bytes) == nullptr ? Success : Invalid;
}
ANSWER cuMemcpyDtoH_v2(void* to, uint64_t from, size_t bytes) {
  std::lock_guard<std::mutex> guard(one_at_a_time);
  return emu_read(&card(), to, from, bytes) == nullptr ? Success : Invalid;
}
ANSWER cuLaunchKernel(const Function* what, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                      unsigned, void*, void** parameters, void**) {
  std::lock_guard<std::mutex> guard(one_at_a_time);
  const char* broken = getenv("EMULATED_BREAKS");
  if (broken != nullptr && strcmp(broken, what->name) == 0) return Illegal;
  story.launches++;
  if (strcmp(what->name, "adamw") == 0) {
    story.has_learnt = true;
    story.since++;
    const char* shrinks = getenv("EMULATED_SHRINKS");
    unsigned long long from, bytes;
    if (shrinks != nullptr && sscanf(shrinks, "%llu %llu", &from, &bytes) == 2 && story.since == from) {
      card().capacity = bytes;
    }
  }
  std::string error = what->run(card(), {gx, gy, gz}, {bx, by, bz}, parameters);
  if (error.empty()) return Success;
  fprintf(stderr, "%s: %s\n", what->name, error.c_str());
  return Illegal;
}
ANSWER cuGetErrorName(int error, const char** name) {
  *name = error == Illegal ? "CUDA_ERROR_ILLEGAL_ADDRESS" : error == OutOfMemory ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_UNKNOWN";
  return Success;
}
ANSWER cuGetErrorString(int error, const char** text) {
  *text = error == Illegal ? "an illegal memory access was encountered" : "an error of the emulated card";
  return Success;
}
