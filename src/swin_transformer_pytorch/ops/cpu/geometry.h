// Sizes, and which tokens of the map a window holds.
#pragma once

#include "vectors.h"

namespace {

constexpr int64_t kBlockFloats = 16384;  // scores that are in work at once: 64 KB, for the second-level cache

struct Geometry {
  int64_t batch, height, width, heads, head_dim, window_height, window_width, shift_y, shift_x;
  bool cosine;

  int64_t tokens() const { return window_height * window_width; }
  int64_t keys() const { return (tokens() + kLanes - 1) / kLanes * kLanes; }     // padded to whole vectors
  int64_t columns() const { return (head_dim + kLanes - 1) / kLanes * kLanes; }  // likewise
  // Floats from one row of scores to the next: at a large power of two apart, rows would share few places of a cache.
  int64_t score_step() const { return keys() | 16; }
  int64_t channels() const { return heads * head_dim; }
  int64_t window_rows() const { return (height + window_height - 1) / window_height; }
  int64_t window_columns() const { return (width + window_width - 1) / window_width; }
  int64_t windows() const { return batch * window_rows() * window_columns(); }
  int64_t block_rows() const { return std::min(std::max<int64_t>(kBlockFloats / keys(), 4), tokens()); }
};

// Which token of the map each token of a window is; -1 is padding. And its region: tokens of different regions were
// brought together by the shift alone.
struct Window {
  AlignedArray<int64_t> rows;
  Floats regions;
  bool has_seam = false;
  int64_t index = -1;

  explicit Window(const Geometry& g) : rows(g.tokens()), regions(g.keys()) {}

  void move_to(const Geometry& g, int64_t to) {
    if (index == to) return;
    index = to;
    const int64_t column = to % g.window_columns(), row = to / g.window_columns() % g.window_rows();
    const int64_t image = to / (g.window_columns() * g.window_rows());
    const int64_t padded_height = g.window_rows() * g.window_height, padded_width = g.window_columns() * g.window_width;
    const bool seam_y = g.shift_y > 0 && row == g.window_rows() - 1;
    const bool seam_x = g.shift_x > 0 && column == g.window_columns() - 1;
    has_seam = seam_y || seam_x;
    for (int64_t y = 0; y < g.window_height; y++) {
      int64_t map_y = row * g.window_height + y + g.shift_y;
      if (map_y >= padded_height) map_y -= padded_height;
      for (int64_t x = 0; x < g.window_width; x++) {
        int64_t map_x = column * g.window_width + x + g.shift_x;
        if (map_x >= padded_width) map_x -= padded_width;
        const bool inside = map_y < g.height && map_x < g.width;
        const int64_t token = y * g.window_width + x;
        rows[token] = inside ? (image * g.height + map_y) * g.width + map_x : -1;
        const int wrapped_y = seam_y && y >= g.window_height - g.shift_y;
        const int wrapped_x = seam_x && x >= g.window_width - g.shift_x;
        regions[token] = static_cast<float>(2 * wrapped_y + wrapped_x);
      }
    }
  }
};

// The windows that a thread is at: the present one and the next.
class Windows {
 public:
  explicit Windows(const Geometry& g) : g_(g), pair_{Window(g), Window(g)} {}
  const Window& at(int64_t index) {
    Window& window = pair_[index % 2];
    window.move_to(g_, index);
    return window;
  }

 private:
  const Geometry& g_;
  Window pair_[2];
};

// Has the processor fetch a token of a window that is to be gathered next: tokens lie too far apart for it to see them
// coming. To be called now and then, since it drops what is asked for faster than memory answers.
template <typename T>
inline void prefetch(const T* map, int64_t channels, int64_t offset, const Window& window, const Geometry& g,
                     int64_t token) {
  if (window.rows[token] < 0) return;
  const char* from = reinterpret_cast<const char*>(map + window.rows[token] * channels + offset);
  const int64_t bytes = g.head_dim * static_cast<int64_t>(sizeof(T));
  for (int64_t byte = 0; byte < bytes; byte += 64) __builtin_prefetch(from + byte);
  asm volatile("");  // GCC leaves out calls of functions that do nothing but prefetch
}

// The same for all that `gather_window` reads.
template <typename T>
inline void prefetch_qkv(const T* qkv, int64_t head, const Window& window, const Geometry& g, int64_t token) {
  for (int64_t part = 0; part < 3; part++)
    prefetch(qkv, 3 * g.channels(), part * g.channels() + head * g.head_dim, window, g, token);
}

// Reads the tokens of a window from channels [offset, offset + head_dim) of a map into rows of columns() floats.
// Padding is `padding`, or zero where that is null.
template <typename T>
void gather(const T* map, int64_t channels, int64_t offset, const T* padding, const Window& window, const Geometry& g,
            float* to) {
  for (int64_t token = 0; token < g.tokens(); token++, to += g.columns()) {
    const int64_t row = window.rows[token];
    const T* from = row >= 0 ? map + row * channels + offset : padding == nullptr ? nullptr : padding + offset;
    if (from == nullptr) {
      std::fill_n(to, g.head_dim, 0.0f);
      continue;
    }
    widen(from, to, g.head_dim);
  }
}

// The reverse: writes rows, times a factor, to where they were read. What goes to padding is added up.
template <typename T>
void scatter(const float* rows, float factor, int64_t channels, int64_t offset, const Window& window, const Geometry& g,
             T* map, float* padding_sum) {
  for (int64_t token = 0; token < g.tokens(); token++, rows += g.columns()) {
    const int64_t row = window.rows[token];
    if (row >= 0)
      narrow(rows, factor, map + row * channels + offset, g.head_dim);
    else
      for (int64_t d = 0; d < g.head_dim; d++) padding_sum[d] += rows[d] * factor;
  }
}

}  // namespace
