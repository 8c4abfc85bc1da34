// Images of 8 bits, resized and normalised with the arithmetic of Pillow: the same bytes, to the last bit.
//
// A resize is two passes, along rows and then along columns, each a weighted sum in fixed point that is rounded to 8
// bits. Weights are found in double precision, so nothing here may be contracted into fused operations, which round
// less. The first pass takes blocks of rows, one in each lane of a vector; only rows and columns that the wanted part
// needs are touched. All runs on the caller's thread: images are prepared by many processes at a time.

#include "unfused.h"

#include "scratch.h"
#include "turns.h"
#include "vectors.h"

namespace {

constexpr int64_t kBlock = 16;  // rows in a block, and columns of a square that is transposed
constexpr int kFractionBits = 22;
constexpr int32_t kHalf = 1 << (kFractionBits - 1);

typedef uint8_t Bytes __attribute__((vector_size(kBlock)));

// Sixteen sums, in as many vectors as the processor needs.
constexpr int kParts = kBlock / kLanes;
struct Sums {
  IntVec part[kParts];
};

// x * y + z, rounded once, where the processor has that.
#if defined(__AVX512F__) && !defined(SWIN_PLAIN_VECTORS)
#define SWIN_FUSED
inline Vec fused(Vec x, Vec y, Vec z) { return _mm512_fmadd_ps(x, y, z); }
#elif defined(__AVX2__) && defined(__FMA__) && !defined(SWIN_PLAIN_VECTORS)
#define SWIN_FUSED
inline Vec fused(Vec x, Vec y, Vec z) { return _mm256_fmadd_ps(x, y, z); }
#endif

inline Bytes load_bytes(const uint8_t* from) {
  Bytes x;
  std::memcpy(&x, from, sizeof x);
  return x;
}
inline void store_bytes(uint8_t* to, Bytes x) { std::memcpy(to, &x, sizeof x); }

// The first, or the last, halves of two vectors, byte by byte in turn.
template <int first, int... lane>
inline Bytes interleave(Bytes a, Bytes b, std::integer_sequence<int, lane...>) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, (lane / 2 + first + lane % 2 * kBlock)...);
#else
  return __builtin_shuffle(a, b, Bytes{static_cast<uint8_t>(lane / 2 + first + lane % 2 * kBlock)...});
#endif
}

// Transposes a square of bytes: four times, a row and the one eight rows below are interleaved.
inline void transpose(Bytes (&rows)[kBlock]) {
  constexpr auto lanes = std::make_integer_sequence<int, kBlock>{};
  for (int step = 0; step < 4; step++) {
    Bytes next[kBlock];
    for (int i = 0; i < kBlock / 2; i++) {
      next[2 * i] = interleave<0>(rows[i], rows[i + kBlock / 2], lanes);
      next[2 * i + 1] = interleave<kBlock / 2>(rows[i], rows[i + kBlock / 2], lanes);
    }
    for (int i = 0; i < kBlock; i++) rows[i] = next[i];
  }
}

// Bytes as whole numbers, and sums in fixed point as bytes: shifted, and kept within 0 and 255. Of these GCC makes loops
// over single bytes.
#if defined(__AVX512F__) && !defined(SWIN_PLAIN_VECTORS)
inline IntVec widened(const uint8_t* from) {
  return reinterpret_cast<IntVec>(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
}
inline Bytes rounded(const Sums& x) {
  const __m512i whole = _mm512_max_epi32(reinterpret_cast<__m512i>(x.part[0] >> kFractionBits), _mm512_setzero_si512());
  return reinterpret_cast<Bytes>(_mm512_cvtusepi32_epi8(whole));
}
#elif defined(__AVX2__) && !defined(SWIN_PLAIN_VECTORS)
inline IntVec widened(const uint8_t* from) {
  return reinterpret_cast<IntVec>(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
}
inline Bytes rounded(const Sums& x) {
  const __m256i words = _mm256_packs_epi32(reinterpret_cast<__m256i>(x.part[0] >> kFractionBits),
                                           reinterpret_cast<__m256i>(x.part[1] >> kFractionBits));
  const __m256i ordered = _mm256_permute4x64_epi64(words, 0xd8);
  return reinterpret_cast<Bytes>(_mm_packus_epi16(_mm256_castsi256_si128(ordered), _mm256_extracti128_si256(ordered, 1)));
}
#else
inline IntVec widened(const uint8_t* from) {
  typedef uint8_t Few __attribute__((vector_size(kLanes)));
  Few x;
  std::memcpy(&x, from, sizeof x);
  return __builtin_convertvector(x, IntVec);
}
inline Bytes rounded(const Sums& x) {
  Bytes result;
  for (int i = 0; i < kBlock; i++)
    result[i] = static_cast<uint8_t>(std::clamp(x.part[i / kLanes][i % kLanes] >> kFractionBits, 0, 255));
  return result;
}
#endif

inline Sums started() {
  Sums x;
  for (IntVec& part : x.part) part = IntVec{} + kHalf;
  return x;
}
inline void add(Sums& x, const uint8_t* from, int32_t weight) {
  for (int p = 0; p < kParts; p++) x.part[p] += widened(from + p * kLanes) * weight;
}

// The weight of a pixel at a distance of x, in units of the filter's own.
inline double triangle(double x) {
  x = x < 0 ? -x : x;
  return x < 1 ? 1 - x : 0;
}
inline double cubic(double x) {  // Keys' with a = -1/2
  constexpr double a = -0.5;
  x = x < 0 ? -x : x;
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

// For results first .. first + count of `out` along an axis of `in` pixels: which pixels they are of, and their weights.
class Weights {
 public:
  Weights(int64_t in, int64_t out, int64_t first, int64_t count, bool is_cubic)
      : scale_(static_cast<double>(in) / static_cast<double>(out)),
        stretch_(scale_ < 1 ? 1 : scale_),
        support_((is_cubic ? 2 : 1) * stretch_),
        most_(2 * static_cast<int64_t>(std::ceil(support_)) + 1),
        begins_(count),
        counts_(count),
        weights_(count * most_) {
    Scratch<double> exact(most_);
    const double inverse = 1 / stretch_;
    for (int64_t i = 0; i < count; i++) {
      const double centre = (static_cast<double>(first + i) + 0.5) * scale_;
      const int64_t begin = std::max<int64_t>(static_cast<int64_t>(centre - support_ + 0.5), 0);
      const int64_t some = std::min<int64_t>(static_cast<int64_t>(centre + support_ + 0.5), in) - begin;
      double sum = 0;
      for (int64_t j = 0; j < some; j++) {
        const double distance = (static_cast<double>(j + begin) - centre + 0.5) * inverse;
        exact[j] = is_cubic ? cubic(distance) : triangle(distance);
        sum += exact[j];
      }
      for (int64_t j = 0; j < some; j++) {
        const double weight = (sum != 0 ? exact[j] / sum : exact[j]) * (1 << kFractionBits);
        weights_[i * most_ + j] = static_cast<int32_t>(weight < 0 ? weight - 0.5 : weight + 0.5);
      }
      begins_[i] = begin;
      counts_[i] = some;
    }
    first_ = begins_[0];
    last_ = begins_[count - 1] + counts_[count - 1];
    for (int64_t i = 0; i < count; i++) {
      first_ = std::min(first_, begins_[i]);
      last_ = std::max(last_, begins_[i] + counts_[i]);
    }
  }

  // The pixels that any result is of.
  int64_t first() const { return first_; }
  int64_t needed() const { return last_ - first_; }
  // Those of a result, counted from first(), and their weights.
  int64_t begin(int64_t i) { return begins_[i] - first_; }
  int64_t count(int64_t i) { return counts_[i]; }
  const int32_t* of(int64_t i) { return weights_.data() + i * most_; }

 private:
  double scale_, stretch_, support_;
  int64_t most_;
  Scratch<int64_t> begins_, counts_;
  Scratch<int32_t> weights_;
  int64_t first_, last_;
};

// Sizes as `swin_resample` takes them.
struct Sizes {
  int64_t step, in_height, in_width, channels, out_height, out_width, top, left, height, width;
  int64_t is_cubic, columns_first, flip;
};

// Sixteen rows of `count` bytes each, turned: byte i of all rows becomes vector i. Below the last row it is repeated.
inline void turn_block(const uint8_t* from, int64_t step, int64_t rows, int64_t count, uint8_t* to) {
  Bytes square[kBlock];
  for (int64_t i = 0; i < count; i += kBlock) {
    for (int64_t row = 0; row < kBlock; row++) {
      const uint8_t* at = from + std::min(row, rows - 1) * step + i;
      if (i + kBlock <= count) {
        square[row] = load_bytes(at);
      } else {
        square[row] = Bytes{};
        std::memcpy(&square[row], at, count - i);
      }
    }
    transpose(square);
    for (int64_t j = 0; j < kBlock; j++) store_bytes(to + (i + j) * kBlock, square[j]);
  }
}

inline int64_t whole_blocks(int64_t count) { return (count + kBlock - 1) / kBlock * kBlock; }

// The pass along rows, of which `from` begins with the first pixel that is needed: -> (channel, row, whole_blocks(columns)),
// mirrored or not.
template <int channels>
void along_rows(const uint8_t* from, int64_t step, int64_t rows, Weights& x, int64_t columns, bool flip, uint8_t* to) {
  const int64_t padded = whole_blocks(columns), bytes = x.needed() * channels;
  Scratch<uint8_t> turned(whole_blocks(bytes) * kBlock), results(channels * padded * kBlock);
  std::memset(results.data(), 0, channels * padded * kBlock);
  for (int64_t top = 0; top < rows; top += kBlock) {
    const int64_t some = std::min(rows - top, kBlock);
    turn_block(from + top * step, step, some, bytes, turned.data());
    for (int64_t column = 0; column < columns; column++) {
      const uint8_t* at = turned.data() + x.begin(column) * channels * kBlock;
      const int32_t* weights = x.of(column);
      Sums sums[channels];
      for (Sums& sum : sums) sum = started();
      for (int64_t j = 0; j < x.count(column); j++, at += channels * kBlock)
        for (int c = 0; c < channels; c++) add(sums[c], at + c * kBlock, weights[j]);
      const int64_t place = flip ? columns - 1 - column : column;
      for (int c = 0; c < channels; c++)
        store_bytes(results.data() + (c * padded + place) * kBlock, rounded(sums[c]));
    }
    for (int c = 0; c < channels; c++)
      for (int64_t column = 0; column < padded; column += kBlock) {
        Bytes square[kBlock];
        for (int64_t j = 0; j < kBlock; j++)
          square[j] = load_bytes(results.data() + (c * padded + column + j) * kBlock);
        transpose(square);
        for (int64_t row = 0; row < some; row++)
          store_bytes(to + (c * rows + top + row) * padded + column, square[row]);
      }
  }
}

// The pass along columns: one row of `bytes`, a weighted sum of rows that lie `step` apart.
template <int vectors>
inline void column_sums(const uint8_t* from, int64_t step, const int32_t* weights, int64_t count, uint8_t* to) {
  Sums sums[vectors];
  for (Sums& sum : sums) sum = started();
  for (int64_t j = 0; j < count; j++, from += step)
    for (int v = 0; v < vectors; v++) add(sums[v], from + v * kBlock, weights[j]);
  for (int v = 0; v < vectors; v++) store_bytes(to + v * kBlock, rounded(sums[v]));
}
inline void along_columns(const uint8_t* from, int64_t step, const int32_t* weights, int64_t count, int64_t bytes,
                          uint8_t* to) {
  constexpr int64_t many = 4 * kBlock;
  int64_t i = 0;
  for (; i + many <= bytes; i += many) column_sums<4>(from + i, step, weights, count, to + i);
  for (; i + kBlock <= bytes; i += kBlock) column_sums<1>(from + i, step, weights, count, to + i);
  for (; i < bytes; i++) {
    int32_t sum = kHalf;
    for (int64_t j = 0; j < count; j++) sum += from[j * step + i] * weights[j];
    to[i] = static_cast<uint8_t>(std::clamp(sum >> kFractionBits, 0, 255));
  }
}

// The lanes that are given, counted on from the first vector to the second.
template <int... from>
inline Bytes chosen(Bytes a, Bytes b, std::integer_sequence<int, from...>) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, from...);
#else
  return __builtin_shuffle(a, b, Bytes{static_cast<uint8_t>(from)...});
#endif
}
template <int channel, int... lane>
inline Bytes plane_of(const Bytes (&in_turn)[3], std::integer_sequence<int, lane...>) {
  const Bytes two = chosen(in_turn[0], in_turn[1], std::integer_sequence<int, (3 * lane + channel) % 32 ...>{});
  return chosen(two, in_turn[2],
                std::integer_sequence<int, (3 * lane + channel < 32 ? lane : 3 * lane + channel - 16)...>{});
}
template <int part, int... lane>
inline Bytes in_turn_of(const Bytes (&planes)[3], std::integer_sequence<int, lane...>) {
  const Bytes two = chosen(planes[0], planes[1],
                           std::integer_sequence<int, ((16 * part + lane) % 3 % 2 * 16 + (16 * part + lane) / 3)...>{});
  return chosen(two, planes[2],
                std::integer_sequence<int, ((16 * part + lane) % 3 == 2 ? 16 + (16 * part + lane) / 3 : lane)...>{});
}
using Block = std::make_integer_sequence<int, kBlock>;

// What bytes of a channel become. `values` has 256 for the levels, then the mean and the deviation that they are of:
// where (level / 255 - mean) / deviation gives the same bits for all of them, that is computed, which is faster.
class Levels {
 public:
  explicit Levels(const float* values) : values_(values), mean_(values[256]), deviation_(values[257]) {
#if defined(SWIN_FUSED)
    computed_ = deviation_ != 0;
    for (int level = 0; level < 256 && computed_; level += kLanes) {
      uint8_t bytes[kLanes];
      for (int i = 0; i < kLanes; i++) bytes[i] = static_cast<uint8_t>(level + i);
      const Vec found = computed(bytes);
      computed_ = std::memcmp(&found, values + level, sizeof found) == 0;
    }
#endif
  }
  void write(const uint8_t* from, int64_t count, float* to) const {
    int64_t i = 0;
#if defined(SWIN_FUSED)
    if (computed_)
      for (; i + kLanes <= count; i += kLanes) store(to + i, computed(from + i));
#endif
    for (; i < count; i++) to[i] = values_[from[i]];
  }

 private:
#if defined(SWIN_FUSED)
  // Markstein's division: a quotient by the reciprocal, mended by what it leaves.
  static Vec divided(Vec x, float by) {
    const float reciprocal = 1 / by;
    const Vec quotient = x * reciprocal;
    return fused(fused(-quotient, splat(by), x), splat(reciprocal), quotient);
  }
  Vec computed(const uint8_t* from) const {
    return divided(divided(__builtin_convertvector(widened(from), Vec), 255) - mean_, deviation_);
  }
#endif
  const float* values_;
  float mean_, deviation_;
  bool computed_ = false;
};

constexpr int64_t kLevelValues = 258;

// What becomes of a row of planar bytes, (channels, step): bytes in turn, or floats.
struct InTurn {
  uint8_t* out;
  void row(const uint8_t* from, int64_t step, int channels, int64_t y, int64_t, int64_t width) const {
    uint8_t* to = out + y * width * channels;
    if (channels == 1) {
      std::memcpy(to, from, width);
      return;
    }
    int64_t x = 0;
    for (; x + kBlock <= width; x += kBlock, to += 3 * kBlock) {
      const Bytes planes[3] = {load_bytes(from + x), load_bytes(from + step + x), load_bytes(from + 2 * step + x)};
      store_bytes(to, in_turn_of<0>(planes, Block{}));
      store_bytes(to + kBlock, in_turn_of<1>(planes, Block{}));
      store_bytes(to + 2 * kBlock, in_turn_of<2>(planes, Block{}));
    }
    for (; x < width; x++)
      for (int c = 0; c < 3; c++) *to++ = from[c * step + x];
  }
};
struct ByLevel {
  Levels levels[3];
  float* out;
  ByLevel(const float* values, int channels, float* to)
      : levels{Levels(values), Levels(values + (channels > 1 ? kLevelValues : 0)),
               Levels(values + (channels > 1 ? 2 * kLevelValues : 0))},
        out(to) {}
  void row(const uint8_t* from, int64_t step, int channels, int64_t y, int64_t height, int64_t width) const {
    for (int c = 0; c < channels; c++) levels[c].write(from + c * step, width, out + (c * height + y) * width);
  }
};

template <int channels, typename Finish>
void resample(const uint8_t* image, int64_t step, Weights& x, Weights& y, const Sizes& sizes, Finish finish) {
  const int64_t height = sizes.height, width = sizes.width, padded = whole_blocks(width), rows = y.needed();
  const uint8_t* from = image + y.first() * step + x.first() * channels;
  if (sizes.columns_first) {
    const int64_t bytes = x.needed() * channels;
    Scratch<uint8_t> low(height * bytes), made(channels * height * padded);
    for (int64_t row = 0; row < height; row++)
      along_columns(from + y.begin(row) * step, step, y.of(row), y.count(row), bytes, low.data() + row * bytes);
    along_rows<channels>(low.data(), bytes, height, x, width, sizes.flip, made.data());
    for (int64_t row = 0; row < height; row++)
      finish.row(made.data() + row * padded, height * padded, channels, row, height, width);
    return;
  }
  Scratch<uint8_t> narrow(channels * rows * padded), line(channels * padded);
  along_rows<channels>(from, step, rows, x, width, sizes.flip, narrow.data());
  for (int64_t row = 0; row < height; row++) {
    for (int c = 0; c < channels; c++)
      along_columns(narrow.data() + (c * rows + y.begin(row)) * padded, padded, y.of(row), y.count(row), padded,
                    line.data() + c * padded);
    finish.row(line.data(), padded, channels, row, height, width);
  }
}

template <int channels>
void resample_to(const uint8_t* image, const Sizes& sizes, const float* levels, void* out) {
  Weights x(sizes.in_width, sizes.out_width, sizes.left, sizes.width, sizes.is_cubic);
  Weights y(sizes.in_height, sizes.out_height, sizes.top, sizes.height, sizes.is_cubic);
  if (levels != nullptr)
    resample<channels>(image, sizes.step, x, y, sizes, ByLevel(levels, channels, static_cast<float*>(out)));
  else
    resample<channels>(image, sizes.step, x, y, sizes, InTurn{static_cast<uint8_t*>(out)});
}

}  // namespace

#define SWIN_EXPORT extern "C" __attribute__((visibility("default")))

// Resizes in_height x in_width pixels of 1 or 3 bytes to out_height x out_width, of which only height x width from
// (top, left) on are made, each row mirrored if `flip`.
//   image   rows of pixels, `step` bytes from one to the next
//   levels  what bytes become, as `Levels` takes it, each channel; or null
//   out     (channels, height, width) floats, or without levels (height, width, channels) bytes
SWIN_EXPORT void swin_resample(const uint8_t* image, const int64_t* sizes, const float* levels, void* out, Parallel,
                               int64_t) {
  Sizes all;
  std::memcpy(&all, sizes, sizeof all);
  if (all.channels == 3)
    resample_to<3>(image, all, levels, out);
  else
    resample_to<1>(image, all, levels, out);
}

// (height, width, channels) bytes -> (channels, height, width) floats; `pixels` is height * width.
SWIN_EXPORT void swin_levels(const uint8_t* image, int64_t pixels, int64_t channels, const float* values, float* out,
                             Parallel, int64_t) {
  const ByLevel by(values, static_cast<int>(channels), out);
  if (channels == 1) return by.levels[0].write(image, pixels, out);
  constexpr int64_t many = 16 * kBlock;
  uint8_t planes[3][many];
  for (int64_t begin = 0; begin < pixels; begin += many) {
    const int64_t count = std::min(many, pixels - begin);
    const uint8_t* from = image + 3 * begin;
    int64_t i = 0;
    for (; i + kBlock <= count; i += kBlock) {
      const Bytes in_turn[3] = {load_bytes(from + 3 * i), load_bytes(from + 3 * i + kBlock),
                                load_bytes(from + 3 * i + 2 * kBlock)};
      store_bytes(planes[0] + i, plane_of<0>(in_turn, Block{}));
      store_bytes(planes[1] + i, plane_of<1>(in_turn, Block{}));
      store_bytes(planes[2] + i, plane_of<2>(in_turn, Block{}));
    }
    for (; i < count; i++)
      for (int c = 0; c < 3; c++) planes[c][i] = from[3 * i + c];
    for (int c = 0; c < 3; c++) by.levels[c].write(planes[c], count, out + c * pixels + begin);
  }
}
