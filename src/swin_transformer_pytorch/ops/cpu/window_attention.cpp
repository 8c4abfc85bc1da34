// Shifted-window attention in one pass over the map's natural layout, forward and backward, for any processor.
//
// A task is one head of one window: its queries, keys and values are gathered by index arithmetic (shift, padding and
// partition are nothing but indices) into a few kilobytes, two small products with a softmax between them stay in the
// first-level cache, and the result is put back to where its tokens were. Arithmetic is float32; storage is float32 or
// bfloat16. Vectors are those of GCC and Clang, as wide as the processor's. The threads are torch's own. Every sum has
// one order, whatever the number of threads, so that results are the same to the bit.

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

// Floats in a vector, and vectors of a row that a tile of a product holds: 6 rows of them fill the registers.
#if defined(__AVX512F__)
constexpr int64_t kLanes = 16, kTileVectors = 4;
#elif defined(__AVX__)
constexpr int64_t kLanes = 8, kTileVectors = 2;
#elif defined(__aarch64__)
constexpr int64_t kLanes = 4, kTileVectors = 4;
#else
constexpr int64_t kLanes = 4, kTileVectors = 2;
#endif
constexpr int64_t kTileRows = 6;

// may_alias and an alignment of one float: a vector may be read from anywhere in an array of floats.
typedef float Vec __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));
typedef int32_t IntVec __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));

constexpr float kMasked = -100.0f;  // the official value; see windows.py
constexpr float kNoKey = -1e30f;    // beyond the window: its weight is zero
constexpr float kTiny = 1e-12f;     // least length of a vector that is normalised, as torch's normalize has it
constexpr int64_t kBlockFloats = 16384;  // scores that are in work at once: 64 KB, for the second-level cache
constexpr int64_t kPartialFloats = int64_t{1} << 24;  // at most this many floats for the parts of the bias's gradient

struct BFloat16 {
  uint16_t bits;
};

inline float to_float(float x) { return x; }
inline float to_float(BFloat16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}
inline void store(float* to, float x) { *to = x; }
inline void store(BFloat16* to, float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;  // to nearest, ties to even
  to->bits = static_cast<uint16_t>(x != x ? 0x7fc0 : rounded);
}

// Head dimensions are multiples of 8, so that both loops become whole vectors.
inline void widen(const float* from, float* to, int64_t count) { std::memcpy(to, from, count * sizeof(float)); }
inline void widen(const BFloat16* __restrict from, float* __restrict to, int64_t count) {
  for (int64_t i = 0; i < count; i += 8)
    for (int64_t j = 0; j < 8; j++) to[i + j] = to_float(from[i + j]);
}
template <typename T>
inline void narrow(const float* __restrict from, float factor, T* __restrict to, int64_t count) {
  for (int64_t i = 0; i < count; i += 8)
    for (int64_t j = 0; j < 8; j++) store(to + i + j, from[i + j] * factor);
}

inline Vec load(const float* from) { return *reinterpret_cast<const Vec*>(from); }
inline void store_vector(float* to, Vec x) { *reinterpret_cast<Vec*>(to) = x; }
inline Vec splat(float x) { return x - Vec{}; }

inline float sum(Vec x) {
  float total = 0;
  for (int64_t i = 0; i < kLanes; i++) total += x[i];
  return total;
}

// exp for x <= 0, to about two units in the last place: 2^n times a polynomial on [-0.5, 0.5].
inline Vec exp_of_negative(Vec x) {
  x = x < -87.0f ? splat(-87.0f) : x;
  // Adding 1.5 * 2^23 rounds to a whole number, which then stands in the low bits.
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
  IntVec exponent;
  std::memcpy(&exponent, &shifted, sizeof exponent);
  exponent = (exponent - 0x4b400000 + 127) << 23;
  Vec power;
  std::memcpy(&power, &exponent, sizeof power);
  return p * power;
}

// C = start + A B for a tile of ROWS rows and VECTORS vectors, kept in registers. A is read as A[row * row_step +
// k * k_step], so that it may be transposed; B and C are rows of vectors. `start` is zero where it is null.
template <int ROWS, int VECTORS>
void multiply_tile(
    const float* a, int64_t row_step, int64_t k_step, const float* b, int64_t b_step, const float* start,
    int64_t start_step, float* c, int64_t c_step, int64_t depth) {
  Vec total[ROWS][VECTORS];
  for (int r = 0; r < ROWS; r++)
    for (int v = 0; v < VECTORS; v++)
      total[r][v] = start != nullptr ? load(start + r * start_step + v * kLanes) : Vec{};
  for (int64_t k = 0; k < depth; k++) {
    Vec column[VECTORS];
    for (int v = 0; v < VECTORS; v++) column[v] = load(b + k * b_step + v * kLanes);
    for (int r = 0; r < ROWS; r++) {
      const Vec factor = splat(a[r * row_step + k * k_step]);
      for (int v = 0; v < VECTORS; v++) total[r][v] += factor * column[v];
    }
  }
  for (int r = 0; r < ROWS; r++)
    for (int v = 0; v < VECTORS; v++) store_vector(c + r * c_step + v * kLanes, total[r][v]);
}

template <int VECTORS>
void multiply_columns(
    const float* a, int64_t row_step, int64_t k_step, const float* b, int64_t b_step, const float* start,
    int64_t start_step, float* c, int64_t c_step, int64_t rows, int64_t depth) {
  // Tiles of nearly equal height: a low one at the end would leave most of the processor idle.
  int64_t tiles = (rows + kTileRows - 1) / kTileRows;
  for (; tiles > 0; tiles--) {
    const int64_t height = (rows + tiles - 1) / tiles;
#define TILE(R) \
  multiply_tile<R, VECTORS>(a, row_step, k_step, b, b_step, start, start_step, c, c_step, depth)
    switch (height) {
      case 6: TILE(6); break;
      case 5: TILE(5); break;
      case 4: TILE(4); break;
      case 3: TILE(3); break;
      case 2: TILE(2); break;
      default: TILE(1);
    }
#undef TILE
    rows -= height;
    a += height * row_step;
    c += height * c_step;
    if (start != nullptr) start += height * start_step;
  }
}

// C (rows, columns) = start + A (rows, depth) B (depth, columns); columns is a whole number of vectors.
void multiply(
    const float* a, int64_t row_step, int64_t k_step, const float* b, int64_t b_step, const float* start,
    int64_t start_step, float* c, int64_t c_step, int64_t rows, int64_t columns, int64_t depth) {
  int64_t vectors = columns / kLanes;
  while (vectors > 0) {
    const int64_t width = std::min(vectors, kTileVectors);
#define COLUMNS(V) \
  multiply_columns<V>(a, row_step, k_step, b, b_step, start, start_step, c, c_step, rows, depth)
    switch (width) {
      case 4: COLUMNS(4); break;
      case 3: COLUMNS(3); break;
      case 2: COLUMNS(2); break;
      default: COLUMNS(1);
    }
#undef COLUMNS
    b += width * kLanes;
    c += width * kLanes;
    if (start != nullptr) start += width * kLanes;
    vectors -= width;
  }
}

struct Geometry {
  int64_t batch, height, width, heads, head_dim, window_height, window_width, shift_y, shift_x;
  bool cosine;

  int64_t tokens() const { return window_height * window_width; }
  int64_t keys() const { return (tokens() + kLanes - 1) / kLanes * kLanes; }         // padded to whole vectors
  int64_t columns() const { return (head_dim + kLanes - 1) / kLanes * kLanes; }      // likewise
  int64_t window_rows() const { return (height + window_height - 1) / window_height; }
  int64_t window_columns() const { return (width + window_width - 1) / window_width; }
  int64_t windows() const { return batch * window_rows() * window_columns(); }
  int64_t block_rows() const { return std::min(std::max<int64_t>(kBlockFloats / keys(), 4), tokens()); }
};

// Which token of the map each token of a window is; -1 is padding. And its region: tokens of different regions were
// brought together by the shift alone.
struct Window {
  std::vector<int64_t> rows;
  std::vector<float> regions;
  bool has_seam = false, has_padding = false;
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
    has_padding = false;
    for (int64_t y = 0; y < g.window_height; y++) {
      int64_t map_y = row * g.window_height + y + g.shift_y;
      if (map_y >= padded_height) map_y -= padded_height;
      for (int64_t x = 0; x < g.window_width; x++) {
        int64_t map_x = column * g.window_width + x + g.shift_x;
        if (map_x >= padded_width) map_x -= padded_width;
        const bool inside = map_y < g.height && map_x < g.width;
        const int64_t token = y * g.window_width + x;
        rows[token] = inside ? (image * g.height + map_y) * g.width + map_x : -1;
        has_padding |= !inside;
        const int wrapped_y = seam_y && y >= g.window_height - g.shift_y;
        const int wrapped_x = seam_x && x >= g.window_width - g.shift_x;
        regions[token] = static_cast<float>(2 * wrapped_y + wrapped_x);
      }
    }
  }
};

// One thread's queries, keys and values of a window and head, and what is made of them.
struct Workspace {
  std::vector<float> q, k, v, keys_transposed, values_transposed, scores, grad_scores, out, grad_out, grad_q, grad_k,
      grad_v, q_length, k_length, last_bias, sums;

  Workspace(const Geometry& g, bool backward) {
    const int64_t rows = g.tokens(), columns = g.columns(), keys = g.keys(), block = g.block_rows();
    for (auto* part : {&q, &k, &v}) part->assign(rows * columns, 0.0f);
    keys_transposed.assign(g.head_dim * keys, 0.0f);
    scores.assign(block * keys, 0.0f);
    last_bias.assign(keys, 0.0f);
    q_length.assign(rows, 1.0f);
    k_length.assign(rows, 1.0f);
    if (!backward) {
      sums.assign(block, 0.0f);
      out.assign(block * columns, 0.0f);
      return;
    }
    values_transposed.assign(g.head_dim * keys, 0.0f);
    grad_scores.assign(block * keys, 0.0f);
    for (auto* part : {&grad_out, &grad_q, &grad_k, &grad_v}) part->assign(rows * columns, 0.0f);
  }
};

template <typename T>
void gather(const T* map, int64_t channels, int64_t offset, const T* padding, const Window& window, const Geometry& g,
            float* to) {
  const int64_t bytes = g.head_dim * static_cast<int64_t>(sizeof(T));
  for (int64_t token = 0; token < g.tokens(); token++) {
    const int64_t row = window.rows[token];
    const T* from = row >= 0 ? map + row * channels + offset : padding == nullptr ? nullptr : padding + offset;
    float* row_to = to + token * g.columns();
    if (from == nullptr) {
      std::fill_n(row_to, g.head_dim, 0.0f);
      continue;
    }
    // The next head, which follows, is wanted next; the rows lie too far apart for the processor to see it coming.
    for (int64_t byte = 0; byte < bytes; byte += 64) __builtin_prefetch(reinterpret_cast<const char*>(from) + bytes + byte);
    widen(from, row_to, g.head_dim);
  }
}

void transpose(const float* from, const Geometry& g, float* to) {
  for (int64_t token = 0; token < g.tokens(); token++)
    for (int64_t d = 0; d < g.head_dim; d++) to[d * g.keys() + token] = from[token * g.columns() + d];
}

void scale_rows(float* rows, const Geometry& g, float factor) {
  for (int64_t i = 0; i < g.tokens() * g.columns(); i++) rows[i] *= factor;
}

// Brings each row to length one, and keeps its length.
void normalise_rows(float* rows, const Geometry& g, float* lengths) {
  for (int64_t token = 0; token < g.tokens(); token++) {
    float* row = rows + token * g.columns();
    float squares = 0;
    for (int64_t d = 0; d < g.head_dim; d++) squares += row[d] * row[d];
    lengths[token] = std::sqrt(squares);
    const float factor = 1.0f / std::max(lengths[token], kTiny);
    for (int64_t d = 0; d < g.head_dim; d++) row[d] *= factor;
  }
}

// Queries are left with the factor of the scores in them: 1 / sqrt(head_dim), or V2's scale of the head.
template <typename T>
void gather_window(const T* qkv, const T* padding, const Window& window, int64_t head, const Geometry& g, float scale,
                   Workspace& w) {
  const int64_t channels = 3 * g.heads * g.head_dim, part = g.heads * g.head_dim;
  gather(qkv, channels, head * g.head_dim, padding, window, g, w.q.data());
  gather(qkv, channels, part + head * g.head_dim, padding, window, g, w.k.data());
  gather(qkv, channels, 2 * part + head * g.head_dim, padding, window, g, w.v.data());
  if (g.cosine) {
    normalise_rows(w.q.data(), g, w.q_length.data());
    normalise_rows(w.k.data(), g, w.k_length.data());
  }
  scale_rows(w.q.data(), g, scale);
  transpose(w.k.data(), g, w.keys_transposed.data());
}

// Scores of queries [first, last) into w.scores: products, bias, mask; keys beyond the window get no weight.
void score(const float* bias, const Window& window, const Geometry& g, int64_t first, int64_t last, bool last_head,
           Workspace& w) {
  const int64_t tokens = g.tokens(), keys = g.keys(), rows = last - first;
  float* scores = w.scores.data();
  // A row of the bias is read in whole vectors, into the next row, whose numbers kNoKey then replaces. The very last
  // row has none behind it, so it is read from a copy.
  const int64_t direct = last_head && last == tokens ? rows - 1 : rows;
  multiply(w.q.data() + first * g.columns(), g.columns(), 1, w.keys_transposed.data(), keys, bias + first * tokens,
           tokens, scores, keys, direct, keys, g.head_dim);
  if (direct < rows) {
    std::copy_n(bias + (tokens - 1) * tokens, tokens, w.last_bias.data());
    multiply(w.q.data() + (tokens - 1) * g.columns(), g.columns(), 1, w.keys_transposed.data(), keys,
             w.last_bias.data(), keys, scores + direct * keys, keys, 1, keys, g.head_dim);
  }
  for (int64_t row = 0; row < rows; row++) {
    float* line = scores + row * keys;
    if (window.has_seam) {
      const float region = window.regions[first + row];
      for (int64_t key = 0; key < tokens; key++) line[key] += window.regions[key] != region ? kMasked : 0.0f;
    }
    for (int64_t key = tokens; key < keys; key++) line[key] = kNoKey;
  }
}

// exp(score - largest) in place of each score; gives the sum of the row, and the largest by reference.
inline float exponentials(float* line, int64_t keys, float& largest) {
  Vec most = load(line);
  for (int64_t key = kLanes; key < keys; key += kLanes) {
    const Vec next = load(line + key);
    most = next > most ? next : most;
  }
  largest = most[0];
  for (int64_t i = 1; i < kLanes; i++) largest = std::max(largest, most[i]);
  Vec total{};
  for (int64_t key = 0; key < keys; key += kLanes) {
    const Vec weight = exp_of_negative(load(line + key) - largest);
    store_vector(line + key, weight);
    total += weight;
  }
  return sum(total);
}

template <typename T>
void forward(const T* qkv, const float* bias, const T* padding, const float* logit_scale, T* out, float* log_sums,
             const Geometry& g) {
  const int64_t tokens = g.tokens(), keys = g.keys(), columns = g.columns();
  const float scale = 1.0f / std::sqrt(static_cast<float>(g.head_dim));
  at::parallel_for(0, g.windows() * g.heads, 1, [&](int64_t begin, int64_t end) {
    Window window(g);
    Workspace w(g, false);
    for (int64_t task = begin; task < end; task++) {
      const int64_t head = task % g.heads;
      window.move_to(g, task / g.heads);
      gather_window(qkv, padding, window, head, g, logit_scale != nullptr ? logit_scale[head] : scale, w);
      const float* head_bias = bias + head * tokens * tokens;
      for (int64_t first = 0; first < tokens; first += g.block_rows()) {
        const int64_t last = std::min(first + g.block_rows(), tokens);
        score(head_bias, window, g, first, last, head == g.heads - 1, w);
        for (int64_t row = 0; row < last - first; row++) {
          float largest;
          w.sums[row] = exponentials(w.scores.data() + row * keys, keys, largest);
          const int64_t map_row = window.rows[first + row];
          if (log_sums != nullptr && map_row >= 0)
            log_sums[map_row * g.heads + head] = largest + std::log(w.sums[row]);
        }
        multiply(w.scores.data(), keys, 1, w.v.data(), columns, nullptr, 0, w.out.data(), columns, last - first,
                 columns, tokens);
        for (int64_t row = 0; row < last - first; row++) {
          const int64_t map_row = window.rows[first + row];
          if (map_row < 0) continue;  // what padding attends to is cropped
          const float factor = 1.0f / w.sums[row];
          T* to = out + (map_row * g.heads + head) * g.head_dim;
          narrow(w.out.data() + row * columns, factor, to, g.head_dim);
        }
      }
    }
  });
}

// From the gradient of unit vectors (times `scale`) to that of the vectors, as autograd has it for torch's normalize.
void denormalise_gradient(float* grad, const float* unit, const float* lengths, float unit_scale, const Geometry& g) {
  for (int64_t token = 0; token < g.tokens(); token++) {
    float* row = grad + token * g.columns();
    const float* direction = unit + token * g.columns();
    float along = 0;
    // A vector shorter than kTiny was divided by a constant.
    if (lengths[token] > kTiny)
      for (int64_t d = 0; d < g.head_dim; d++) along += row[d] * direction[d];
    along *= unit_scale * unit_scale;
    const float factor = 1.0f / std::max(lengths[token], kTiny);
    for (int64_t d = 0; d < g.head_dim; d++) row[d] = (row[d] - along * direction[d]) * factor;
  }
}

template <typename T>
void scatter_gradient(const float* grad, int64_t offset, const Window& window, const Geometry& g, T* grad_qkv,
                      float* grad_padding) {
  const int64_t channels = 3 * g.heads * g.head_dim;
  for (int64_t token = 0; token < g.tokens(); token++) {
    const float* from = grad + token * g.columns();
    const int64_t row = window.rows[token];
    if (row >= 0) {
      T* to = grad_qkv + row * channels + offset;
      narrow(from, 1.0f, to, g.head_dim);
    } else if (grad_padding != nullptr) {
      for (int64_t d = 0; d < g.head_dim; d++) grad_padding[d] += from[d];
    }
  }
}

template <typename T>
void backward(const T* grad_out, const T* qkv, const float* bias, const T* padding, const float* logit_scale,
              const float* log_sums, T* grad_qkv, float* grad_bias, float* grad_padding, float* grad_logit_scale,
              const Geometry& g) {
  const int64_t tokens = g.tokens(), keys = g.keys(), columns = g.columns(), square = tokens * tokens;
  const float scale = 1.0f / std::sqrt(static_cast<float>(g.head_dim));
  // The windows are cut into parts by their number alone, each with sums of its own, which are then added in order.
  const int64_t parts =
      std::min(g.windows(), std::clamp<int64_t>(kPartialFloats / (g.heads * square), 1, 64));
  const int64_t per_part = (g.windows() + parts - 1) / parts;
  const int64_t head_sums = square + 3 * g.head_dim + 1;
  std::vector<float> partial(parts * g.heads * head_sums, 0.0f);

  at::parallel_for(0, parts * g.heads, 1, [&](int64_t begin, int64_t end) {
    Window window(g);
    Workspace w(g, true);
    for (int64_t task = begin; task < end; task++) {
      const int64_t head = task % g.heads, part = task / g.heads;
      float* sums = partial.data() + task * head_sums;
      float* sums_of_padding = sums + square;
      const float head_scale = logit_scale != nullptr ? logit_scale[head] : scale;
      const float* head_bias = bias + head * square;
      const int64_t stop = std::min((part + 1) * per_part, g.windows());
      for (int64_t index = part * per_part; index < stop; index++) {
        window.move_to(g, index);
        gather_window(qkv, padding, window, head, g, head_scale, w);
        transpose(w.v.data(), g, w.values_transposed.data());
        gather(grad_out, g.heads * g.head_dim, head * g.head_dim, static_cast<const T*>(nullptr), window, g,
               w.grad_out.data());
        for (int64_t first = 0; first < tokens; first += g.block_rows()) {
          const int64_t last = std::min(first + g.block_rows(), tokens), rows = last - first;
          score(head_bias, window, g, first, last, head == g.heads - 1, w);
          multiply(w.grad_out.data() + first * columns, columns, 1, w.values_transposed.data(), keys, nullptr, 0,
                   w.grad_scores.data(), keys, rows, keys, g.head_dim);
          for (int64_t row = 0; row < rows; row++) {
            float* weights = w.scores.data() + row * keys;
            float* grads = w.grad_scores.data() + row * keys;
            const int64_t map_row = window.rows[first + row];
            if (map_row < 0) {  // a query of padding: nothing depends on it
              std::fill_n(weights, keys, 0.0f);
              std::fill_n(grads, keys, 0.0f);
              continue;
            }
            const float log_sum = log_sums[map_row * g.heads + head];
            Vec dot{};
            for (int64_t key = 0; key < keys; key += kLanes) {
              const Vec weight = exp_of_negative(load(weights + key) - log_sum);
              store_vector(weights + key, weight);
              dot += weight * load(grads + key);
            }
            const float mean = sum(dot);
            for (int64_t key = 0; key < keys; key += kLanes)
              store_vector(grads + key, load(weights + key) * (load(grads + key) - mean));
            float* bias_sums = sums + (first + row) * tokens;
            for (int64_t key = 0; key < tokens; key++) bias_sums[key] += grads[key];
          }
          const float* so_far = first == 0 ? nullptr : w.grad_v.data();
          multiply(w.scores.data(), 1, keys, w.grad_out.data() + first * columns, columns, so_far, columns,
                   w.grad_v.data(), columns, tokens, columns, rows);
          so_far = first == 0 ? nullptr : w.grad_k.data();
          multiply(w.grad_scores.data(), 1, keys, w.q.data() + first * columns, columns, so_far, columns,
                   w.grad_k.data(), columns, tokens, columns, rows);
          multiply(w.grad_scores.data(), keys, 1, w.k.data(), columns, nullptr, 0, w.grad_q.data() + first * columns,
                   columns, rows, columns, tokens);
        }
        if (g.cosine) {
          // The queries in the workspace are unit vectors times the head's scale.
          float along = 0;
          for (int64_t i = 0; i < tokens * columns; i++) along += w.grad_q[i] * w.q[i];
          sums[head_sums - 1] += along / head_scale;
        }
        scale_rows(w.grad_q.data(), g, head_scale);
        if (g.cosine) {
          denormalise_gradient(w.grad_q.data(), w.q.data(), w.q_length.data(), 1.0f / head_scale, g);
          denormalise_gradient(w.grad_k.data(), w.k.data(), w.k_length.data(), 1.0f, g);
        }
        const int64_t channels = g.heads * g.head_dim, offset = head * g.head_dim;
        scatter_gradient(w.grad_q.data(), offset, window, g, grad_qkv, sums_of_padding);
        scatter_gradient(w.grad_k.data(), channels + offset, window, g, grad_qkv, sums_of_padding + g.head_dim);
        scatter_gradient(w.grad_v.data(), 2 * channels + offset, window, g, grad_qkv,
                         sums_of_padding + 2 * g.head_dim);
      }
    }
  });

  at::parallel_for(0, g.heads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t head = begin; head < end; head++) {
      float* total = partial.data() + head * head_sums;
      for (int64_t part = 1; part < parts; part++) {
        const float* more = partial.data() + (part * g.heads + head) * head_sums;
        for (int64_t i = 0; i < head_sums; i++) total[i] += more[i];
      }
      std::copy_n(total, square, grad_bias + head * square);
      if (grad_padding != nullptr)
        for (int64_t which = 0; which < 3; which++)
          std::copy_n(total + square + which * g.head_dim, g.head_dim,
                      grad_padding + (which * g.heads + head) * g.head_dim);
      if (grad_logit_scale != nullptr) grad_logit_scale[head] = total[head_sums - 1];
    }
  });
}

Geometry geometry(const int64_t* sizes, bool cosine) {
  return {sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], sizes[6], sizes[7], sizes[8], cosine};
}

}  // namespace

// `sizes`: batch, height, width, heads, head_dim, window height, window width, shift down, shift right. All arrays are
// contiguous. Null is allowed for padding, logit_scale, log_sums (where no backward follows) and their gradients.
#define EXPORT __attribute__((visibility("default")))

extern "C" {

EXPORT void swin_window_attention_forward(
    const void* qkv, const float* bias, const void* padding, const float* logit_scale, void* out, float* log_sums,
    const int64_t* sizes, int32_t bfloat16) {
  const Geometry g = geometry(sizes, logit_scale != nullptr);
  if (bfloat16)
    forward(static_cast<const BFloat16*>(qkv), bias, static_cast<const BFloat16*>(padding), logit_scale,
            static_cast<BFloat16*>(out), log_sums, g);
  else
    forward(static_cast<const float*>(qkv), bias, static_cast<const float*>(padding), logit_scale,
            static_cast<float*>(out), log_sums, g);
}

EXPORT void swin_window_attention_backward(
    const void* grad_out, const void* qkv, const float* bias, const void* padding, const float* logit_scale,
    const float* log_sums, void* grad_qkv, float* grad_bias, float* grad_padding, float* grad_logit_scale,
    const int64_t* sizes, int32_t bfloat16) {
  const Geometry g = geometry(sizes, logit_scale != nullptr);
  if (bfloat16)
    backward(static_cast<const BFloat16*>(grad_out), static_cast<const BFloat16*>(qkv), bias,
             static_cast<const BFloat16*>(padding), logit_scale, log_sums, static_cast<BFloat16*>(grad_qkv), grad_bias,
             grad_padding, grad_logit_scale, g);
  else
    backward(static_cast<const float*>(grad_out), static_cast<const float*>(qkv), bias,
             static_cast<const float*>(padding), logit_scale, log_sums, static_cast<float*>(grad_qkv), grad_bias,
             grad_padding, grad_logit_scale, g);
}

}  // extern "C"
