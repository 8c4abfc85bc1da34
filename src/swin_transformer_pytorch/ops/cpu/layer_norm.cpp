// Layer normalisation of rows, with a residual sum in it, in float32 or bfloat16: mean and variance in float32, each in
// a pass of its own over a row that is then in the first cache.

#include "kernels.h"
#include "turns.h"
#include "vectors.h"

namespace {

constexpr int64_t kAtOnce = 1 << 13;  // numbers of a turn

// The sum of function(vector) over a row, in one order.
template <typename T, typename Function>
float sum_of(const T* row, int64_t width, Function function) {
  Vec even{}, odd{};
  int64_t i = 0;
  for (; i + 2 * kLanes <= width; i += 2 * kLanes) {
    even += function(load(row + i));
    odd += function(load(row + i + kLanes));
  }
  if (i < width) even += function(load(row + i));
  return sum(even + odd);
}

// out = (x - mean) / sqrt(variance + eps) * weight + bias, plus a residual if there is one.
template <bool with_residual, typename T>
void layer_norm(const T* x, const float* weight, const float* bias, const T* residual, T* out, int64_t rows,
                int64_t width, float eps, Threads threads) {
  const float part = 1.0f / static_cast<float>(width);
  in_turns(threads, rows, std::max<int64_t>(kAtOnce / width, 1), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      const T* from = x + row * width;
      const float mean = part * sum_of(from, width, [](Vec v) { return v; });
      const float variance = part * sum_of(from, width, [&](Vec v) { return (v - mean) * (v - mean); });
      const float scale = 1.0f / std::sqrt(variance + eps);
      for (int64_t i = 0; i < width; i += kLanes) {
        Vec y = (load(from + i) - mean) * scale * load(weight + i) + load(bias + i);
        if constexpr (with_residual) y += load(residual + row * width + i);
        store(out + row * width + i, y);
      }
    }
  });
}

template <typename T>
void layer_norm(const void* x, const float* weight, const float* bias, const void* residual, void* out, int64_t rows,
                int64_t width, float eps, Threads threads) {
  const T *from = static_cast<const T*>(x), *added = static_cast<const T*>(residual);
  T* to = static_cast<T*>(out);
  if (added != nullptr)
    layer_norm<true>(from, weight, bias, added, to, rows, width, eps, threads);
  else
    layer_norm<false>(from, weight, bias, added, to, rows, width, eps, threads);
}

}  // namespace

void run_layer_norm(const void* x, const float* weight, const float* bias, const void* residual, void* out,
                    int64_t rows, int64_t width, float eps, bool bfloat16, Threads threads) {
  const auto run = bfloat16 ? layer_norm<BFloat16> : layer_norm<float>;
  run(x, weight, bias, residual, out, rows, width, eps, threads);
}

#define EXPORT __attribute__((visibility("default")))

extern "C" {

// x, residual (which may be null) and out are (rows, width), contiguous, float32 or bfloat16; weight and bias (width),
// float32. The width is a multiple of 16; out may be x or residual.
EXPORT void swin_layer_norm(const void* x, const float* weight, const float* bias, const void* residual, void* out,
                            int64_t rows, int64_t width, float eps, int32_t bfloat16, Parallel parallel,
                            int64_t threads) {
  run_layer_norm(x, weight, bias, residual, out, rows, width, eps, bfloat16 != 0, {parallel, threads});
}

}  // extern "C"
