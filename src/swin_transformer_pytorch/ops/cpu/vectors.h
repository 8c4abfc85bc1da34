// Vectors of floats as wide as the processor's (those of GCC and Clang), and how floats are stored.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>

#if defined(__AVX__) && !defined(SWIN_PLAIN_VECTORS)
#include <immintrin.h>
#endif

namespace {

// Floats in a vector, and the registers that hold vectors.
#if defined(__AVX512F__)
constexpr int64_t kLanes = 16, kRegisters = 32;
#elif defined(__AVX__)
constexpr int64_t kLanes = 8, kRegisters = 16;
#elif defined(__aarch64__)
constexpr int64_t kLanes = 4, kRegisters = 32;
#else
constexpr int64_t kLanes = 4, kRegisters = 16;
#endif

typedef float Vec __attribute__((vector_size(kLanes * 4)));
typedef int32_t IntVec __attribute__((vector_size(kLanes * 4)));
typedef uint16_t ShortVec __attribute__((vector_size(kLanes * 2)));

// A vector may be read from anywhere in an array of floats, and written.
inline Vec load(const float* from) {
  Vec x;
  std::memcpy(&x, from, sizeof x);
  return x;
}
inline void store(float* to, Vec x) { std::memcpy(to, &x, sizeof x); }
inline Vec splat(float x) { return x - Vec{}; }
// The larger and the smaller of two; b where either is no number. Of a > b ? a : b compilers make two instructions, but
// with SWIN_PLAIN_VECTORS vectors may be wider than the processor's.
#if defined(__AVX512F__) && !defined(SWIN_PLAIN_VECTORS)
inline Vec larger(Vec a, Vec b) { return _mm512_max_ps(a, b); }
inline Vec smaller(Vec a, Vec b) { return _mm512_min_ps(a, b); }
#elif defined(__AVX__) && !defined(SWIN_PLAIN_VECTORS)
inline Vec larger(Vec a, Vec b) { return _mm256_max_ps(a, b); }
inline Vec smaller(Vec a, Vec b) { return _mm256_min_ps(a, b); }
#else
inline Vec larger(Vec a, Vec b) { return a > b ? a : b; }
inline Vec smaller(Vec a, Vec b) { return a < b ? a : b; }
#endif
inline IntVec bits(Vec x) {
  IntVec y;
  std::memcpy(&y, &x, sizeof y);
  return y;
}
inline Vec from_bits(IntVec x) {
  Vec y;
  std::memcpy(&y, &x, sizeof y);
  return y;
}
inline Vec absolute(Vec x) { return from_bits(bits(x) & 0x7fffffff); }

// Lanes of a and b (counted on from those of a) in the order that is given, which the compiler must know.
template <int... order>
inline Vec shuffle(Vec a, Vec b) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, order...);
#else
  return __builtin_shuffle(a, b, IntVec{order...});
#endif
}

template <int... lane, typename Combine>
inline float fold(Vec x, std::integer_sequence<int, lane...>, Combine combine) {
  if constexpr (kLanes == 16) x = combine(x, shuffle<(lane ^ 8)...>(x, x));
  if constexpr (kLanes >= 8) x = combine(x, shuffle<(lane ^ 4)...>(x, x));
  x = combine(x, shuffle<(lane ^ 2)...>(x, x));
  x = combine(x, shuffle<(lane ^ 1)...>(x, x));
  return x[0];
}
using Lanes = std::make_integer_sequence<int, kLanes>;
inline float sum(Vec x) {
  return fold(x, Lanes{}, [](Vec a, Vec b) { return a + b; });
}
inline float largest(Vec x) { return fold(x, Lanes{}, larger); }

// Of two rows of blocks of `step` lanes: the second block of every pair in a, and the first in b, change places.
template <int step, int... lane>
inline void exchange(Vec& a, Vec& b, std::integer_sequence<int, lane...>) {
  const Vec first = shuffle<(lane & step ? lane - step + kLanes : lane)...>(a, b);
  b = shuffle<(lane & step ? lane + kLanes : lane + step)...>(a, b);
  a = first;
}

// Transposes a square of as many rows as a vector has lanes, by squares of twice the size at each step.
template <int step = 1>
inline void transpose(Vec (&rows)[kLanes]) {
  for (int i = 0; i < kLanes; i++)
    if ((i & step) == 0) exchange<step>(rows[i], rows[i + step], Lanes{});
  if constexpr (2 * step < kLanes) transpose<2 * step>(rows);
}

// p * 2^n for n from -126 to 0 and p about one, where n + 1.5 * 2^23 is given: n then stands in its low bits, and the
// others are lost where it is made an exponent.
inline Vec times_power_of_two(Vec p, Vec shifted) { return from_bits(bits(p) + (bits(shifted) << 23)); }

// exp for x <= 0, to about two units in the last place: 2^n times a polynomial on [-0.5 ln 2, 0.5 ln 2].
inline Vec exp_of_negative(Vec x) {
  x = larger(splat(-87.0f), x);  // in this order what is no number stays so
  // Adding 1.5 * 2^23 rounds to a whole number.
  const Vec shifted = x * 1.44269504f + 12582912.0f;
  const Vec n = shifted - 12582912.0f;
  const Vec r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  Vec p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  return times_power_of_two(p, shifted);
}

// Likewise, to 1e-5 of it: what is stored in bfloat16 loses more, and a gradient that is summed up less.
inline Vec rough_exp_of_negative(Vec x) {
  x = larger(splat(-87.0f), x);
  const Vec scaled = x * 1.44269504f, shifted = scaled + 12582912.0f;
  const Vec r = scaled - (shifted - 12582912.0f);
  Vec p = splat(9.582853082e-03f);
  p = p * r + 5.590642462e-02f;
  p = p * r + 2.402409861e-01f;
  p = p * r + 6.931241934e-01f;
  p = p * r + 1.0f;  // of the largest score the weight is exact
  return times_power_of_two(p, shifted);
}

struct BFloat16 {
  uint16_t bits;
};

// bfloat16 is the upper half of a float's bits. It is stored rounded to nearest, ties to even.
inline Vec load(const BFloat16* from) {
  ShortVec x;
  std::memcpy(&x, from, sizeof x);
  return from_bits(__builtin_convertvector(x, IntVec) << 16);
}
#if defined(__AVX512BF16__) && !defined(SWIN_PLAIN_VECTORS)
inline ShortVec rounded(Vec x) {
  const auto narrow = _mm512_cvtneps_pbh(x);
  ShortVec y;
  std::memcpy(&y, &narrow, sizeof y);
  return y;
}
inline IntVec rounded_bits(Vec x) { return __builtin_convertvector(rounded(x), IntVec) << 16; }
#else
inline IntVec rounded_bits(Vec x) {
  const IntVec even = bits(x) + 0x7fff + ((bits(x) >> 16) & 1);
  return (x == x ? even : IntVec{} + 0x7fc00000) & static_cast<int32_t>(0xffff0000);
}
inline ShortVec rounded(Vec x) { return __builtin_convertvector(rounded_bits(x) >> 16, ShortVec); }
#endif
inline void store(BFloat16* to, Vec x) {
  const ShortVec narrow = rounded(x);
  std::memcpy(to, &narrow, sizeof narrow);
}

inline float to_float(BFloat16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}
inline void store_number(float* to, float x) { *to = x; }
inline void store_number(BFloat16* to, float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;  // to nearest, ties to even
  to->bits = static_cast<uint16_t>(x != x ? 0x7fc0 : rounded);
}

// Head dimensions are multiples of 8, so that the loops become whole vectors.
inline void widen(const float* from, float* to, int64_t count) {
  for (int64_t i = 0; i < count; i += 8) std::memcpy(to + i, from + i, 8 * sizeof(float));
}
inline void widen(const BFloat16* __restrict from, float* __restrict to, int64_t count) {
  for (int64_t i = 0; i < count; i += 8)
    for (int64_t j = 0; j < 8; j++) to[i + j] = to_float(from[i + j]);
}
template <typename T>
inline void narrow(const float* __restrict from, float factor, T* __restrict to, int64_t count) {
  for (int64_t i = 0; i < count; i += 8)
    for (int64_t j = 0; j < 8; j++) store_number(to + i + j, from[i + j] * factor);
}

// Numbers that begin with a cache line, all zero at first. Of the C library alone, so that what is built ahead needs no
// C++ library; as with threads that run out of memory in one, the process ends where there is none.
template <typename T>
class AlignedArray {
 public:
  explicit AlignedArray(int64_t count) {
    void* memory;
    if (posix_memalign(&memory, 64, count * sizeof(T)) != 0) {
      std::fputs("Swin's CPU kernels: out of memory\n", stderr);
      std::abort();
    }
    data_ = static_cast<T*>(memory);
    for (int64_t i = 0; i < count; i++) new (data_ + i) T{};
  }
  ~AlignedArray() { std::free(data_); }
  AlignedArray(const AlignedArray&) = delete;
  AlignedArray& operator=(const AlignedArray&) = delete;
  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](int64_t index) { return data_[index]; }
  const T& operator[](int64_t index) const { return data_[index]; }

 private:
  T* data_;
};
using Floats = AlignedArray<float>;

}  // namespace
