// The exact GELU, x times the normal distribution up to x, and its gradient; storage is float32 or bfloat16.
#pragma once

#include <ATen/Parallel.h>

#include "vectors.h"

namespace {

typedef uint16_t HalfVec __attribute__((vector_size(kLanes * 2)));
typedef uint32_t WordVec __attribute__((vector_size(kLanes * 4)));

constexpr float kFar = 12.0f;  // beyond it the tail is below 2e-33, which counts as nothing

inline Vec load(const BFloat16* from) {
  HalfVec half;
  std::memcpy(&half, from, sizeof half);
  const WordVec bits = __builtin_convertvector(half, WordVec) << 16;
  Vec x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

inline void store(BFloat16* to, Vec x) {
  WordVec bits;
  std::memcpy(&bits, &x, sizeof bits);
  const WordVec rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;  // to nearest, ties to even
  const WordVec nan = rounded * 0 + 0x7fc0;
  const HalfVec half = __builtin_convertvector(x != x ? nan : rounded, HalfVec);
  std::memcpy(to, &half, sizeof half);
}

// x within [-kFar, kFar], its size, exp(-x^2 / 2), and the normal distribution beyond that size. NaN stays in x and tail.
struct Normal {
  Vec x, size, density, tail;
  explicit Normal(Vec any) {
    // `larger` gives its second argument if that is NaN.
    x = -larger(splat(-kFar), -larger(splat(-kFar), any));
    size = larger(x, -x);
    density = exp_of_negative(size * size * -0.5f);
    density = size < kFar ? density : Vec{};
    // The tail over the density, by the ratio of polynomials with the least relative error: 3e-7 on [0, kFar].
    Vec top = splat(1.64823358e-2f), bottom = splat(4.13215472e-2f);
    top = top * size + 1.17131330e-1f;
    bottom = bottom * size + 2.93362621e-1f;
    top = top * size + 3.57766770e-1f;
    bottom = bottom * size + 9.41906233e-1f;
    top = top * size + 4.99999851e-1f;
    bottom = bottom * size + 1.51340297f;
    bottom = bottom * size + 1.0f;
    tail = density * (top / bottom);
  }
};

inline Vec gelu(Vec x) {
  const Normal normal(x);
  return larger(Vec{}, x) - normal.size * normal.tail;
}

inline Vec gelu_gradient(Vec grad, Vec x) {
  const Normal normal(x);
  const Vec below = normal.x > 0.0f ? 1.0f - normal.tail : normal.tail;
  return grad * (below + normal.x * normal.density * 0.398942280f);
}

// out[i] = function(in[i]...), whole vectors at a time; what is left over is copied into one. Blocks do not depend on
// the number of threads.
template <typename T, typename Function, typename... In>
void for_each(int64_t count, T* out, Function function, const In*... in) {
  constexpr int64_t kBlock = 4096;
  at::parallel_for(0, (count + kBlock - 1) / kBlock, 4, [&](int64_t first, int64_t last) {
    const int64_t end = std::min(last * kBlock, count);
    int64_t i = first * kBlock;
    for (; i + kLanes <= end; i += kLanes) store(out + i, function(load(in + i)...));
    if (i == end) return;
    const auto rest = [&](const T* from) {
      T padded[kLanes]{};
      std::copy_n(from + i, end - i, padded);
      return load(padded);
    };
    T results[kLanes];
    store(results, function(rest(in)...));
    std::copy_n(results, end - i, out + i);
  });
}

}  // namespace

extern "C" {

// `out` may be `x`.
__attribute__((visibility("default"))) void swin_gelu_forward(const void* x, void* out, int64_t count,
                                                              int32_t bfloat16) {
  if (bfloat16)
    for_each(count, static_cast<BFloat16*>(out), [](Vec v) { return gelu(v); }, static_cast<const BFloat16*>(x));
  else
    for_each(count, static_cast<float*>(out), [](Vec v) { return gelu(v); }, static_cast<const float*>(x));
}

__attribute__((visibility("default"))) void swin_gelu_backward(const void* grad, const void* x, void* out,
                                                               int64_t count, int32_t bfloat16) {
  if (bfloat16)
    for_each(count, static_cast<BFloat16*>(out), [](Vec g, Vec v) { return gelu_gradient(g, v); }, static_cast<const BFloat16*>(grad),
             static_cast<const BFloat16*>(x));
  else
    for_each(count, static_cast<float*>(out), [](Vec g, Vec v) { return gelu_gradient(g, v); }, static_cast<const float*>(grad),
             static_cast<const float*>(x));
}

}  // extern "C"
