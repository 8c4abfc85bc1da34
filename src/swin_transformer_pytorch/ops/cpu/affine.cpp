// Images of 8 bits, moved by affine maps with the arithmetic of Pillow: the same bytes, to the last bit. Nothing here may
// be contracted into fused operations, which round less. All runs on the caller's thread.

#include "unfused.h"

#include "scratch.h"
#include "turns.h"
#include "vectors.h"

namespace {

typedef double Pixel __attribute__((vector_size(32)));  // red, green, blue, and what follows it

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

}  // namespace

#define SWIN_EXPORT extern "C" __attribute__((visibility("default")))

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
