// NVIDIA's driver as far as `kernels/src/cuda/driver.rs` calls it, over the emulated machine: built as a library of the
// driver's name, it lets the program itself run on a card that is none.
//
// The environment says what kind of card it is:
//   EMULATED_CARDS     how many (1)           EMULATED_DRIVER    version, as 12040
//   EMULATED_CHIP      compute capability, as 75    EMULATED_MEMORY    bytes
//   EMULATED_SCHEDULE  order of threads       EMULATED_BREAKS    the kernel that fails when it is launched, or the call
//   EMULATED_CRASHES   the kernel that ends the process when it is launched, or the call
//   EMULATED_HANGS     the kernel that never comes back, or the call
//   EMULATED_LAGS      how the names of kernels begin that take five times as long
//   EMULATED_STALE     1: a graph that is told of other arguments keeps its old ones
//   EMULATED_SHRINKS   "N BYTES": from the N-th launch of adamw after memory was asked for last there is so much of it, as
//                      if another program had taken the rest
//   EMULATED_LATE      "copies": what is in another stream than the first happens as late as it may; "kernels": what is in
//                      the first one. What happens when is said by events and by calls that wait, and by nothing else.
//   EMULATED_DEAF      number of a stream whose waits are forgotten: 0 the first, others as they were made
//   EMULATED_PINNED    bytes of the computer's memory that can be pinned
//   EMULATED_NODE      bytes that a kernel of a graph takes of the card (64 KiB before version 12.4, else 1 KiB)
//   EMULATED_REPORT    a file that is written when the last user leaves: how often memory was asked for, most bytes,
//                      launches, how often memory was asked for after the first launch of adamw, and of graphs: how many
//                      were made, how often one ran, how many kernels ran so, how many got other arguments, most bytes;
//                      products of the library; of pinned memory the most bytes, and how many copies went there and came from there
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <unordered_map>

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
  uint64_t graphs = 0, graph_runs = 0, graph_kernels = 0, graph_updates = 0, graph_bytes = 0, products = 0;
  uint64_t pinned = 0, copies_out = 0, copies_in = 0;
  bool has_learnt = false;
} story;

void tell() {
  const char* path = getenv("EMULATED_REPORT");
  FILE* file = path == nullptr ? nullptr : fopen(path, "w");
  if (file == nullptr) return;
  const std::pair<const char*, uint64_t> numbers[] = {
      {"allocations", story.allocations},       {"most_bytes", story.most},
      {"launches", story.launches},             {"late_allocations", story.late},
      {"graphs", story.graphs},                 {"graph_runs", story.graph_runs},
      {"graph_kernels", story.graph_kernels},   {"graph_updates", story.graph_updates},
      {"graph_bytes", story.graph_bytes},       {"library_products", story.products},
      {"pinned_bytes", story.pinned},           {"copies_out", story.copies_out},
      {"copies_in", story.copies_in}};
  const char* before = "{";
  for (auto& [name, number] : numbers) {
    fprintf(file, "%s\"%s\": %llu", before, name, (unsigned long long)number);
    before = ", ";
  }
  fprintf(file, "}\n");
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

// A launch as the driver takes it: where each parameter lies. What it keeps of them is a copy.
template <auto F> struct Packed;
template <class... A, void (*F)(A...)> struct Packed<F> {
  static std::vector<Arg> copy(void** parameters) {
    constexpr Kind kinds[] = {Take<A>::kind...};
    std::vector<Arg> args(sizeof...(A));
    for (size_t i = 0; i < sizeof...(A); i++) {
      bool is_long = kinds[i] == Address || kinds[i] == Long;
      args[i] = {0, kinds[i]};
      memcpy(&args[i].bits, parameters[i], is_long ? 8 : 4);
    }
    return args;
  }
  static std::string run(Machine& machine, emu::Index grid, emu::Index block, const std::vector<Arg>& args) {
    return Entry<F>::run(machine, grid, block, args.data(), args.size());
  }
};

struct Function {
  const char* name;
  std::vector<Arg> (*copy)(void**);
  std::string (*run)(Machine&, emu::Index, emu::Index, const std::vector<Arg>&);
};

const Function* function(const char* name) {
#undef ENTRY
#define ENTRY(name) {#name, Packed<name>::copy, Packed<name>::run}
  static const Function all[] = {
#include "entries.inc"
  };
  for (const Function& found : all) {
    if (strcmp(found.name, name) == 0) return &found;
  }
  return nullptr;
}

// A kernel with its arguments.
struct Work {
  const Function* what;
  emu::Index grid, block;
  std::vector<Arg> args;
};

// The driver's own structure, as far as it is read.
struct NodeParams {
  const Function* what;
  unsigned gx, gy, gz, bx, by, bz, shared;
  void** parameters;
};
Work work(const NodeParams* p) {
  return {p->what, {p->gx, p->gy, p->gz}, {p->bx, p->by, p->bz}, p->what->copy(p->parameters)};
}

// Kernels in a chain; a node is known by its address.
struct Graph {
  std::vector<std::unique_ptr<Work>> chain;
};
struct Executable {
  uint64_t bytes;
  std::vector<Work> chain;
  std::unordered_map<const Work*, size_t> places;
};

enum : int { Success = 0, Invalid = 1, OutOfMemory = 2, NoDevice = 100, InvalidDevice = 101, NotFound = 500, Illegal = 700 };

uint64_t of_graphs = 0;  // bytes that those take

// What nobody has.
uint64_t unused() {
  uint64_t used = card().used + of_graphs;
  return card().capacity > used ? card().capacity - used : 0;
}

// Work in its order. Whoever waits for a stream has it done what came before; a stream that is late does nothing until then.
struct Stream {
  struct Op {
    std::function<int()> run;
    uint64_t pinned, bytes;  // what it uses of the computer's memory
  };
  std::deque<Op> ops;
  uint64_t begun = 0, ended = 0;  // operations
  bool is_late = false;
  int error = 0;

  int add(Op op) {
    begun++;
    ops.push_back(std::move(op));
    return is_late ? error : until(begun);
  }
  // Everything up to operation number `last`.
  int until(uint64_t last) {
    while (ended < last && !ops.empty()) {
      Op op = std::move(ops.front());
      ops.pop_front();
      ended++;
      if (int found = op.run(); found != 0 && error == 0) error = found;
    }
    return error;
  }
};

// As far as a stream had come when the event was recorded; null before that.
struct Event {
  Stream* stream = nullptr;
  uint64_t last = 0;
};

bool is_late(const char* what) {
  const char* late = getenv("EMULATED_LATE");
  return late != nullptr && strcmp(late, what) == 0;
}

// The stream that has no name.
Stream& first() {
  static Stream stream;
  static bool is_new = true;
  if (is_new) stream.is_late = is_late("kernels");
  is_new = false;
  return stream;
}

std::vector<Stream*> others;
Stream& named(Stream* stream) { return stream == nullptr ? first() : *stream; }

// Everything that was asked for.
int all_of_it() {
  int error = first().until(first().begun);
  for (Stream* stream : others) {
    int found = stream->until(stream->begun);
    if (error == 0) error = found;
  }
  return error;
}

std::map<uint64_t, size_t> pinned;  // what of the computer's memory is pinned

uint64_t pinned_bytes() {
  uint64_t sum = 0;
  for (auto& [address, bytes] : pinned) sum += bytes;
  return sum;
}

bool is_pinned(uint64_t address, size_t bytes) {
  auto next = pinned.upper_bound(address);
  if (next == pinned.begin()) return false;
  auto& [base, size] = *std::prev(next);
  return address + bytes <= base + size;
}

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
  if (of_graphs != 0) fprintf(stderr, "the emulated card still holds graphs of %llu bytes\n", (unsigned long long)of_graphs);
  if (!pinned.empty()) fprintf(stderr, "the emulated card still holds %zu pieces of pinned memory\n", pinned.size());
  tell();
  return Success;
}
ANSWER cuCtxSetCurrent(void*) { return Success; }
ANSWER cuCtxSynchronize() {
  std::lock_guard<std::mutex> guard(one_at_a_time);
  return all_of_it();
}
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
  *address = bytes > unused() ? 0 : emu_alloc(&card(), bytes);
  story.allocations++;
  story.since = 0;
  story.late += story.has_learnt;
  if (card().used > story.most) story.most = card().used;
  return *address != 0 ? Success : OutOfMemory;
}
ANSWER cuMemFree_v2(uint64_t address) {
  std::lock_guard<std::mutex> guard(one_at_a_time);
  all_of_it();
  return emu_release(&card(), address) == nullptr ? Success : Invalid;
}
ANSWER cuMemGetInfo_v2(size_t* free, size_t* total) {
  std::lock_guard<std::mutex> guard(one_at_a_time);
  *total = card().capacity;
  *free = unused();
  return Success;
}
ANSWER cuMemcpyHtoD_v2(uint64_t to, const void* from, size_t bytes) {
  std::lock_guard<std::mutex> guard(one_at_a_time);
  if (int error = first().until(first().begun)) return error;
  return emu_write(&card(), to, from, bytes) == nullptr ? Success : Invalid;
}
ANSWER cuMemcpyDtoH_v2(void* to, uint64_t from, size_t bytes) {
  std::lock_guard<std::mutex> guard(one_at_a_time);
  if (int error = first().until(first().begun)) return error;
  return emu_read(&card(), to, from, bytes) == nullptr ? Success : Invalid;
}
ANSWER cuMemHostAlloc(void** address, size_t bytes, unsigned) {
  std::lock_guard<std::mutex> guard(one_at_a_time);
  if (pinned_bytes() + bytes > setting("EMULATED_PINNED", 1ull << 40)) return OutOfMemory;
  *address = malloc(bytes);
  if (*address == nullptr) return OutOfMemory;
  memset(*address, 0xFF, bytes);
  pinned[(uint64_t)*address] = bytes;
  if (pinned_bytes() > story.pinned) story.pinned = pinned_bytes();
  return Success;
}
ANSWER cuMemFreeHost(void* address) {
  std::lock_guard<std::mutex> guard(one_at_a_time);
  auto found = pinned.find((uint64_t)address);
  if (found == pinned.end()) return Invalid;
  for (Stream* stream : others) {
    for (const Stream::Op& op : stream->ops) {
      if (op.bytes > 0 && op.pinned < found->first + found->second && found->first < op.pinned + op.bytes) {
        return fprintf(stderr, "pinned memory is given back under a copy\n"), Invalid;
      }
    }
  }
  free(address);
  pinned.erase(found);
  return Success;
}
ANSWER cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t bytes, Stream* stream) {
  std::lock_guard<std::mutex> guard(one_at_a_time);
  if (!is_pinned((uint64_t)to, bytes)) return fprintf(stderr, "a copy beside goes to memory that is not pinned\n"), Invalid;
  story.copies_out++;
  auto copy = [=] { return emu_read(&card(), to, from, bytes) == nullptr ? Success : Invalid; };
  return named(stream).add({copy, (uint64_t)to, bytes});
}
ANSWER cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t bytes, Stream* stream) {
  std::lock_guard<std::mutex> guard(one_at_a_time);
  if (!is_pinned((uint64_t)from, bytes)) return fprintf(stderr, "a copy beside comes from memory that is not pinned\n"), Invalid;
  story.copies_in++;
  auto copy = [=] { return emu_write(&card(), to, from, bytes) == nullptr ? Success : Invalid; };
  return named(stream).add({copy, (uint64_t)from, bytes});
}
ANSWER cuStreamCreate(Stream** stream, unsigned flags) {
  std::lock_guard<std::mutex> guard(one_at_a_time);
  // Only what waits for nothing by itself is emulated.
  if (flags != 1) return Invalid;
  *stream = new Stream;
  (*stream)->is_late = is_late("copies");
  others.push_back(*stream);
  return Success;
}
ANSWER cuStreamSynchronize(Stream* stream) {
  std::lock_guard<std::mutex> guard(one_at_a_time);
  return named(stream).until(named(stream).begun);
}
ANSWER cuStreamDestroy_v2(Stream* stream) {
  std::lock_guard<std::mutex> guard(one_at_a_time);
  stream->until(stream->begun);
  for (auto found = others.begin(); found != others.end(); ++found) {
    if (*found == stream) {
      others.erase(found);
      break;
    }
  }
  // Events may still name it.
  return Success;
}
ANSWER cuEventCreate(Event** event, unsigned) { return *event = new Event, Success; }
ANSWER cuEventDestroy_v2(Event* event) { return delete event, Success; }
ANSWER cuEventRecord(Event* event, Stream* stream) {
  std::lock_guard<std::mutex> guard(one_at_a_time);
  *event = {&named(stream), named(stream).begun};
  return Success;
}
ANSWER cuStreamWaitEvent(Stream* stream, Event* event, unsigned) {
  std::lock_guard<std::mutex> guard(one_at_a_time);
  // What it is now counts, not what it becomes.
  if (event->stream == nullptr) return Success;
  uint64_t number = stream == nullptr ? 0 : 1 + (uint64_t)(std::find(others.begin(), others.end(), stream) - others.begin());
  if (number == setting("EMULATED_DEAF", ~0ull)) return Success;
  return named(stream).add({[now = *event] { return now.stream->until(now.last); }, 0, 0});
}

namespace {
bool is_named(const char* setting, const char* name) {
  const char* text = getenv(setting);
  return text != nullptr && strcmp(text, name) == 0;
}
bool lags(const char* name) {
  const char* text = getenv("EMULATED_LAGS");
  return text != nullptr && strncmp(text, name, strlen(text)) == 0;
}
bool breaks(const char* name) {
  if (is_named("EMULATED_CRASHES", name)) abort();
  while (is_named("EMULATED_HANGS", name)) sleep(1);
  return is_named("EMULATED_BREAKS", name);
}

int run(const Work& work) {
  const char* name = work.what->name;
  if (breaks(name)) return Illegal;
  story.launches++;
  if (strcmp(name, "adamw") == 0) {
    story.has_learnt = true;
    story.since++;
    const char* shrinks = getenv("EMULATED_SHRINKS");
    unsigned long long from, bytes;
    if (shrinks != nullptr && sscanf(shrinks, "%llu %llu", &from, &bytes) == 2 && story.since == from) {
      card().capacity = bytes;
    }
  }
  auto begun = std::chrono::steady_clock::now();
  std::string error = work.what->run(card(), work.grid, work.block, work.args);
  if (lags(name)) std::this_thread::sleep_for(4 * (std::chrono::steady_clock::now() - begun));
  if (error.empty()) return Success;
  fprintf(stderr, "%s: %s\n", name, error.c_str());
  return Illegal;
}
}  // namespace

ANSWER cuLaunchKernel(const Function* what, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                      unsigned, Stream* stream, void** parameters, void**) {
  std::lock_guard<std::mutex> guard(one_at_a_time);
  Work work = {what, {gx, gy, gz}, {bx, by, bz}, what->copy(parameters)};
  return named(stream).add({[work] { return run(work); }, 0, 0});
}
ANSWER cuGraphCreate(Graph** graph, unsigned) { return *graph = new Graph, Success; }
ANSWER cuGraphAddKernelNode_v2(Work** node, Graph* graph, Work* const* before, size_t count, const NodeParams* params) {
  // Whatever does not wait for the kernel before could run beside it.
  bool is_chain = graph->chain.empty() ? count == 0 : count == 1 && before[0] == graph->chain.back().get();
  if (!is_chain) return fprintf(stderr, "a node of a graph does not wait for the one before\n"), Invalid;
  graph->chain.push_back(std::make_unique<Work>(work(params)));
  *node = graph->chain.back().get();
  return Success;
}
ANSWER cuGraphInstantiateWithFlags(Executable** executable, Graph* graph, unsigned long long) {
  if (breaks("cuGraphInstantiateWithFlags")) return Invalid;
  std::lock_guard<std::mutex> guard(one_at_a_time);
  uint64_t node = setting("EMULATED_NODE", setting("EMULATED_DRIVER", 12040) < 12040 ? 64 << 10 : 1 << 10);
  uint64_t bytes = node * graph->chain.size();
  if (bytes > unused()) return OutOfMemory;
  story.graphs++;
  of_graphs += bytes;
  if (of_graphs > story.graph_bytes) story.graph_bytes = of_graphs;
  *executable = new Executable{bytes, {}, {}};
  for (auto& work : graph->chain) {
    (*executable)->places[work.get()] = (*executable)->chain.size();
    (*executable)->chain.push_back(*work);
  }
  return Success;
}
ANSWER cuGraphExecKernelNodeSetParams_v2(Executable* executable, Work* node, const NodeParams* params) {
  std::lock_guard<std::mutex> guard(one_at_a_time);
  auto place = executable->places.find(node);
  // A node keeps its kernel.
  if (place == executable->places.end() || params->what != node->what) return Invalid;
  story.graph_updates++;
  if (setting("EMULATED_STALE", 0) == 0) executable->chain[place->second] = work(params);
  return Success;
}
ANSWER cuGraphLaunch(Executable* executable, Stream* stream) {
  std::lock_guard<std::mutex> guard(one_at_a_time);
  story.graph_runs++;
  auto all = [chain = executable->chain] {
    for (const Work& work : chain) {
      story.graph_kernels++;
      if (int error = run(work)) return error;
    }
    return (int)Success;
  };
  return named(stream).add({all, 0, 0});
}
ANSWER cuGraphExecDestroy(Executable* executable) {
  std::lock_guard<std::mutex> guard(one_at_a_time);
  of_graphs -= executable->bytes;
  return delete executable, Success;
}
ANSWER cuGraphDestroy(Graph* graph) { return delete graph, Success; }

// For a library beside the driver (`cublaslt.cpp`): whether so many bytes lie in one allocation.
extern "C" __attribute__((visibility("default"))) int emulated_holds(uint64_t address, uint64_t bytes) {
  std::lock_guard<std::mutex> guard(one_at_a_time);
  return card().holds(address, bytes);
}
// And a product of it, which runs in its turn in a stream: it calls nothing of this driver.
extern "C" __attribute__((visibility("default"))) int emulated_product(Stream* stream, int (*run)(void*), void* what) {
  std::lock_guard<std::mutex> guard(one_at_a_time);
  return named(stream).add({[=] { return story.products++, run(what); }, 0, 0});
}

ANSWER cuGetErrorName(int error, const char** name) {
  *name = error == Illegal ? "CUDA_ERROR_ILLEGAL_ADDRESS" : error == OutOfMemory ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_UNKNOWN";
  return Success;
}
ANSWER cuGetErrorString(int error, const char** text) {
  *text = error == Illegal ? "an illegal memory access was encountered" : "an error of the emulated card";
  return Success;
}
