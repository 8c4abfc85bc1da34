// Images of 8 bits, resized, moved and normalised with the arithmetic of Pillow: the same bytes, to the last bit.
//
// A resize is two passes, along rows and then along columns, each a weighted sum in fixed point that is rounded to 8
// bits. Weights are found in double precision, so nothing here may be contracted into fused operations, which round
// less. The first pass takes blocks of rows, one in each lane of a vector; only rows and columns that the wanted part
// needs are touched. All runs on the caller's thread: images are prepared by many processes at a time.

#if defined(__clang__)
#pragma clang fp contract(off)
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#endif

#include "turns.h"
#include "vectors.h"

namespace {

constexpr int64_t kBlock = 16;  // rows in a block, and columns of a square that is transposed
constexpr int kFractionBits = 22;
constexpr int32_t kHalf = 1 << (kFractionBits - 1);

typedef uint8_t Bytes __attribute__((vector_size(kBlock)));
typedef double Pixel __attribute__((vector_size(32)));  // red, green, blue, and what follows it

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

// Uninitialised memory, freed at the end.
template <typename T>
class Scratch {
 public:
  explicit Scratch(int64_t count) : data_(static_cast<T*>(std::malloc(count * sizeof(T) + 64))) {
    if (data_ == nullptr) {
      std::fputs("Swin's CPU kernels: out of memory\n", stderr);
      std::abort();
    }
  }
  ~Scratch() { std::free(data_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  T* data() { return data_; }
  T& operator[](int64_t index) { return data_[index]; }

 private:
  T* data_;
};

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

// A pixel, with a byte that is not its own.
#if defined(__AVX2__) && !defined(SWIN_PLAIN_VECTORS)
inline Pixel load_pixel(const uint8_t* from) {
  int32_t four;
  std::memcpy(&four, from, sizeof four);
  return reinterpret_cast<Pixel>(_mm256_cvtepi32_pd(_mm_cvtepu8_epi32(_mm_cvtsi32_si128(four))));
}
inline void store_pixel(uint8_t* to, Pixel pixel) {
  const __m256d above = _mm256_max_pd(reinterpret_cast<__m256d>(pixel), _mm256_setzero_pd());
  const __m128i whole = _mm256_cvttpd_epi32(_mm256_min_pd(above, _mm256_set1_pd(255)));
  const __m128i words = _mm_packus_epi32(whole, whole);
  const int32_t four = _mm_cvtsi128_si32(_mm_packus_epi16(words, words));
  to[0] = static_cast<uint8_t>(four);
  to[1] = static_cast<uint8_t>(four >> 8);
  to[2] = static_cast<uint8_t>(four >> 16);
}
#else
inline Pixel load_pixel(const uint8_t* from) {
  return Pixel{static_cast<double>(from[0]), static_cast<double>(from[1]), static_cast<double>(from[2]), 0};
}
inline void store_pixel(uint8_t* to, Pixel pixel) {
  for (int c = 0; c < 3; c++) to[c] = static_cast<uint8_t>(std::clamp(pixel[c], 0.0, 255.0));
}
#endif

// The cubic through four values, between the second and the third.
inline Pixel between(const Pixel& a, const Pixel& b, const Pixel& c, const Pixel& d, double part) {
  const Pixel p2 = -a + c;
  const Pixel p3 = 2 * (a - b) + c - d;
  const Pixel p4 = -a + b - c + d;
  return b + part * (p2 + part * (p3 + part * p4));
}

// (height, width, 3) -> (width, height, 3).
void turn_pixels(const uint8_t* from, int64_t height, int64_t width, uint8_t* to) {
  constexpr int64_t side = 32;
  for (int64_t top = 0; top < height; top += side)
    for (int64_t left = 0; left < width; left += side)
      for (int64_t x = left; x < std::min(left + side, width); x++)
        for (int64_t y = top; y < std::min(top + side, height); y++)
          for (int c = 0; c < 3; c++) to[3 * (x * height + y) + c] = from[3 * (y * width + x) + c];
}

// Moves pixels by an affine map.
class Mover {
 public:
  Mover(const uint8_t* image, int64_t height, int64_t width, const double* matrix, const uint8_t* fill)
      : image_(image), height_(height), width_(width), matrix_(matrix), fill_(fill), x_(width), y_(width),
        parts_(3 * width) {}

  void move(uint8_t* out) {
    for (int64_t row = 0; row < height_; row++, out += 3 * width_) {
      const double centre = static_cast<double>(row) + 0.5;
      for (int64_t column = 0; column < width_; column++) {
        const double column_centre = static_cast<double>(column) + 0.5;
        x_[column] = matrix_[0] * column_centre + matrix_[1] * centre + matrix_[2];
        y_[column] = matrix_[3] * column_centre + matrix_[4] * centre + matrix_[5];
      }
      int64_t begin = 0, end = 0;
      if (matrix_[3] == 0 && matrix_[0] == 1) run(begin, end);
      if (begin < end) move_run(begin, end, out);
      for (int64_t column = 0; column < begin; column++) move_pixel(column, out + 3 * column);
      for (int64_t column = end; column < width_; column++) move_pixel(column, out + 3 * column);
    }
  }

 private:
  bool is_inside(int64_t column) {
    return x_[column] >= 0 && x_[column] < static_cast<double>(width_) && y_[column] >= 0 &&
           y_[column] < static_cast<double>(height_);
  }

  // Of a row that moves as a whole, the columns that come from successive ones which have all their neighbours.
  void run(int64_t& begin, int64_t& end) {
    const auto source = [&](int64_t column) { return static_cast<int64_t>(std::floor(x_[column] - 0.5)); };
    const auto whole = [&](int64_t column) {
      return is_inside(column) && source(column) >= 1 && source(column) + 2 < width_;
    };
    while (begin < width_ && !whole(begin)) begin++;
    for (end = begin; end < width_ && whole(end) && source(end) - source(begin) == end - begin; end++) {
    }
  }

  // Places of bytes in the run are those of the bytes that they come from, moved on by one and the same length.
  void move_run(int64_t begin, int64_t end, uint8_t* out) {
    const double upper = std::floor(y_[begin] - 0.5), dy = y_[begin] - 0.5 - upper;
    const int64_t j = static_cast<int64_t>(upper);
    const int64_t i = static_cast<int64_t>(std::floor(x_[begin] - 0.5));
    bool in_place = true;
    for (int64_t column = begin; column < end; column++) {
      const double x = x_[column] - 0.5, dx = x - std::floor(x);
      in_place = in_place && dx == 0;
      for (int c = 0; c < 3; c++) parts_[3 * column + c] = dx;
    }
    if (dy != 0 && !in_place) {
      for (int64_t column = begin; column < end; column++) move_pixel(column, out + 3 * column);
      return;
    }
    const uint8_t* from = row(j) + 3 * i;
    const int64_t count = 3 * (end - begin);
    if (dy == 0)
      along(from - 3, from, from + 3, from + 6, parts_.data() + 3 * begin, 1, count, out + 3 * begin);
    else
      along(row(j - 1) + 3 * i, from, row(j + 1) + 3 * i, row(j + 2) + 3 * i, &dy, 0, count, out + 3 * begin);
  }

  static void along(const uint8_t* a, const uint8_t* b, const uint8_t* c, const uint8_t* d, const double* part,
                    int64_t step, int64_t count, uint8_t* __restrict out) {
    for (int64_t i = 0; i < count; i++) {
      const double p2 = -a[i] + c[i], p3 = 2 * (a[i] - b[i]) + c[i] - d[i], p4 = -a[i] + b[i] - c[i] + d[i];
      const double at = part[i * step], value = b[i] + at * (p2 + at * (p3 + at * p4));
      const int32_t whole = static_cast<int32_t>(value);
      out[i] = static_cast<uint8_t>(whole < 0 ? 0 : whole > 255 ? 255 : whole);
    }
  }

  const uint8_t* row(int64_t j) const { return image_ + std::clamp<int64_t>(j, 0, height_ - 1) * width_ * 3; }

  void move_pixel(int64_t column, uint8_t* out) {
    if (!is_inside(column)) {
      for (int c = 0; c < 3; c++) out[c] = fill_[c];
      return;
    }
    const double x = x_[column] - 0.5, y = y_[column] - 0.5;
    const double left = std::floor(x), upper = std::floor(y);
    const double dx = x - left, dy = y - upper;
    const int64_t i = static_cast<int64_t>(left), j = static_cast<int64_t>(upper);
    int64_t places[4];
    for (int64_t k = 0; k < 4; k++) places[k] = 3 * std::clamp<int64_t>(i - 1 + k, 0, width_ - 1);
    const auto at_row = [&](int64_t k) __attribute__((always_inline)) {
      const uint8_t* from = row(k);
      return between(load_pixel(from + places[0]), load_pixel(from + places[1]), load_pixel(from + places[2]),
                     load_pixel(from + places[3]), dx);
    };
    if (dy == 0)
      store_pixel(out, at_row(j));
    else
      store_pixel(out, between(at_row(j - 1), at_row(j), at_row(j + 1), at_row(j + 2), dy));
  }

  const uint8_t* image_;
  int64_t height_, width_;
  const double* matrix_;
  const uint8_t* fill_;
  Scratch<double> x_, y_, parts_;
};

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

// Moves the pixels of an image (height, width, 3) by an affine map from places in the result to places in the image,
// cubic between pixels, and cut off to whole numbers; what comes from beyond it gets the colour `fill`.
SWIN_EXPORT void swin_affine(const uint8_t* image, int64_t height, int64_t width, const double* matrix,
                             const uint8_t* fill, uint8_t* out, Parallel, int64_t) {
  const int64_t bytes = height * width * 3;
  Scratch<uint8_t> copy(bytes + 1);  // pixels are read by fours
  copy[bytes] = 0;
  // Where columns stay themselves, and move up and down by different lengths, rows of the turned image move along.
  if (matrix[0] == 1 && matrix[1] == 0 && matrix[2] == 0 && matrix[3] != 0) {
    const double turned[6] = {matrix[4], matrix[3], matrix[5], 0, 1, 0};
    Scratch<uint8_t> moved(bytes);
    turn_pixels(image, height, width, copy.data());
    Mover(copy.data(), width, height, turned, fill).move(moved.data());
    turn_pixels(moved.data(), width, height, out);
    return;
  }
  std::memcpy(copy.data(), image, bytes);
  Mover(copy.data(), height, width, matrix, fill).move(out);
}
