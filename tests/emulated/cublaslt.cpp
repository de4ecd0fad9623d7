// NVIDIA's library of products as far as `kernels/src/cuda/lt.rs` calls it, over the memory of the emulated card: what is
// wrong in a description, a layout, a wish or an address is refused with a status, and said.
//
// The environment says what kind of library it is:
//   EMULATED_LIBRARY   "wrong": results are a little off; "slow": a product takes a tenth of a second more; "unsteady":
//                      the last bits change from product to product; "refusing": no product is begun; "beyond": a result is
//                      written behind its row; "crashing": a product ends the process. Products run in their stream, as late as
//                      everything there
// Compiled with -DWITHOUT_PRODUCTS it lacks `cublasLtMatmul`.
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

extern "C" int emulated_holds(uint64_t address, uint64_t bytes);
extern "C" int emulated_product(void* stream, int (*run)(void*), void* what);

namespace {

enum : int { Success = 0, Invalid = 7, Unsupported = 15, Failed = 13 };
enum : int { F32 = 0, BF16 = 14, Compute32 = 68 };

struct Product {
  int turned = 0;
};
struct Layout {
  int type;
  uint64_t rows, cols;
  int64_t stride;
};
struct Wish {
  uint64_t workspace = 0;
  uint32_t reduction = 7, alignment = 0;
};
struct Found {
  uint64_t algorithm[8];
  size_t workspace;
  int status;
  float waves;
  int reserved[4];
};
struct Handle {
  uint64_t products = 0;
};

int refused(const char* why) { return fprintf(stderr, "the emulated library: %s\n", why), Invalid; }
bool is(const char* kind) {
  const char* text = getenv("EMULATED_LIBRARY");
  return text != nullptr && strcmp(text, kind) == 0;
}
size_t width(int type) { return type == BF16 ? 2 : 4; }

float number(const void* at, int type, uint64_t index) {
  if (type == F32) return ((const float*)at)[index];
  uint32_t bits = (uint32_t)((const uint16_t*)at)[index] << 16;
  float value;
  memcpy(&value, &bits, 4);
  return value;
}
void store(void* at, int type, uint64_t index, float value) {
  if (type == F32) {
    ((float*)at)[index] = value;
    return;
  }
  uint32_t bits;
  memcpy(&bits, &value, 4);
  ((uint16_t*)at)[index] = (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// Whether a factor or a result lies in one allocation, each column at a multiple of 16 bytes.
bool lies(uint64_t address, const Layout& l) {
  uint64_t last = l.cols == 0 ? 0 : (l.cols - 1) * (uint64_t)l.stride + l.rows;
  if (address % 16 != 0 || (uint64_t)l.stride * width(l.type) % 16 != 0) return false;
  return emulated_holds(address, last * width(l.type)) != 0;
}
bool fits(const Product& p, const Layout& a, const Layout& b, const Layout& c) {
  uint64_t rows = p.turned ? a.cols : a.rows, steps = p.turned ? a.rows : a.cols;
  return a.type == BF16 && b.type == BF16 && (c.type == BF16 || c.type == F32) && rows == c.rows && steps == b.rows && b.cols == c.cols;
}

}  // namespace

#define ANSWER extern "C" __attribute__((visibility("default"))) int
extern "C" __attribute__((visibility("default"))) size_t cublasLtGetVersion() { return 120405; }
ANSWER cublasLtCreate(Handle** handle) { return *handle = new Handle, Success; }
ANSWER cublasLtDestroy(Handle* handle) { return delete handle, Success; }
ANSWER cublasLtMatmulDescCreate(Product** made, int compute, int scale) {
  if (compute != Compute32 || scale != F32) return refused("sums are not those of f32");
  return *made = new Product, Success;
}
ANSWER cublasLtMatmulDescSetAttribute(Product* product, int attribute, const void* value, size_t bytes) {
  if (attribute != 3 || bytes != 4) return refused("an attribute of a product that is not known here");
  return memcpy(&product->turned, value, 4), Success;
}
ANSWER cublasLtMatmulDescDestroy(Product* product) { return delete product, Success; }
ANSWER cublasLtMatrixLayoutCreate(Layout** made, int type, uint64_t rows, uint64_t cols, int64_t stride) {
  if (stride < (int64_t)rows) return refused("columns that lie one in another");
  return *made = new Layout{type, rows, cols, stride}, Success;
}
ANSWER cublasLtMatrixLayoutDestroy(Layout* layout) { return delete layout, Success; }
ANSWER cublasLtMatmulPreferenceCreate(Wish** made) { return *made = new Wish, Success; }
ANSWER cublasLtMatmulPreferenceSetAttribute(Wish* wish, int attribute, const void* value, size_t bytes) {
  if (attribute == 1 && bytes == 8) return memcpy(&wish->workspace, value, 8), Success;
  if (attribute == 3 && bytes == 4) return memcpy(&wish->reduction, value, 4), Success;
  if (attribute < 5 || attribute > 8 || bytes != 4) return refused("a wish that is not known here");
  return memcpy(&wish->alignment, value, 4), Success;
}
ANSWER cublasLtMatmulPreferenceDestroy(Wish* wish) { return delete wish, Success; }
ANSWER cublasLtMatmulAlgoGetHeuristic(Handle*, const Product* product, const Layout* a, const Layout* b, const Layout* c,
                                      const Layout* d, const Wish* wish, int most, Found* found, int* count) {
  if (!fits(*product, *a, *b, *c) || c != d || most < 1) return refused("a product whose sizes do not go together");
  // Parts of sums that are joined in an order of their own have other bits every time.
  if (wish->reduction != 0 || wish->alignment != 16) return refused("sums in parts, or rows at any address");
  *found = Found{{0x5EED, product->turned ? 1ull : 0ull, (uint64_t)c->type, 0, 0, 0, 0, 0}, 1 << 20, Success, 1.0f, {}};
  if (found->workspace > wish->workspace) return Unsupported;
  return *count = 1, Success;
}
#ifndef WITHOUT_PRODUCTS
namespace {

// A product that waits for its turn: all that it is made of, by value.
struct Waiting {
  bool turned, is_uneven;
  float alpha, beta;
  Layout of_a, of_b, of_d;
  uint64_t a, b, d;
};

int multiply(void* what) {
  std::unique_ptr<Waiting> w((Waiting*)what);
  if (is("slow")) usleep(100000);
  const void *left = (const void*)w->a, *right = (const void*)w->b;
  std::vector<float> row(w->turned ? w->of_a.rows : w->of_a.cols), other(row.size() * w->of_d.cols);
  for (uint64_t j = 0; j < w->of_d.cols; j++) {
    for (uint64_t k = 0; k < row.size(); k++) other[j * row.size() + k] = number(right, BF16, j * w->of_b.stride + k);
  }
  for (uint64_t i = 0; i < w->of_d.rows; i++) {
    for (uint64_t k = 0; k < row.size(); k++) {
      row[k] = number(left, BF16, w->turned ? i * w->of_a.stride + k : k * w->of_a.stride + i);
    }
    for (uint64_t j = 0; j < w->of_d.cols; j++) {
      float sum = 0.0f;
      for (uint64_t k = 0; k < row.size(); k++) sum += row[k] * other[j * row.size() + k];
      uint64_t at = j * w->of_d.stride + i;
      float value = w->alpha * sum;
      // What is not added to is not read: it may hold no number.
      if (w->beta != 0.0f) value += w->beta * number((const void*)w->d, w->of_d.type, at);
      if (is("wrong")) value *= 1.02f;
      if (w->is_uneven && is("unsteady") && w->of_d.type == F32) value *= 1.000001f;
      store((void*)w->d, w->of_d.type, at, value);
    }
  }
  if (is("beyond")) store((void*)w->d, w->of_d.type, w->of_d.rows, 1.0f);
  return Success;
}

}  // namespace

ANSWER cublasLtMatmul(Handle* handle, const Product* product, const float* alpha, uint64_t a, const Layout* of_a, uint64_t b,
                      const Layout* of_b, const float* beta, uint64_t c, const Layout* of_c, uint64_t d, const Layout* of_d,
                      const uint64_t* algorithm, uint64_t workspace, size_t room, void* stream) {
  if (is("refusing")) return Failed;
  if (is("crashing")) abort();
  if (!fits(*product, *of_a, *of_b, *of_c) || c != d || of_c != of_d) return refused("sizes do not go together");
  if (algorithm[0] != 0x5EED || algorithm[1] != (uint64_t)product->turned || algorithm[2] != (uint64_t)of_c->type) {
    return refused("the algorithm of another product");
  }
  if (!lies(a, *of_a) || !lies(b, *of_b) || !lies(d, *of_d)) return refused("a matrix outside of an allocation");
  if (room < 1 << 20 || workspace % 256 != 0 || !emulated_holds(workspace, room)) return refused("no room to work in");
  if (stream != nullptr) return refused("another stream than that of everything else");
  bool is_uneven = handle->products++ % 2 == 1;
  auto* waiting = new Waiting{product->turned != 0, is_uneven, *alpha, *beta, *of_a, *of_b, *of_d, a, b, d};
  return emulated_product(stream, multiply, waiting) == 0 ? Success : Failed;
}
#endif
