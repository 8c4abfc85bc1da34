// 3x3 convolutions, padded by 1, in float32: Winograd's F(4x4, 3x3) (arXiv 1509.09308), a quarter of the multiplications.
//
// Maps are channels-last. A tile is 4x4 places of a result, and the 6x6 of the map that they are made of; both are
// brought into a form where the convolution is one product for each of 36 places, of (tiles, channels) with (channels,
// columns). The points are 0, +-sqrt(1/2), +-sqrt(2) and infinity, whose rounding errors are smaller than those of whole
// numbers. The threads are the caller's. A sum has one order whatever their number.

#include "products.h"
#include "turns.h"
#include "vectors.h"

namespace {

constexpr int64_t kOut = 4, kIn = 6, kPlaces = kIn * kIn;
constexpr int64_t kBlockFloats = 12288;                  // of a place of a block's tiles: all 36 stay in a cache
constexpr int64_t kFewestTiles = 48, kChunkTiles = 240;  // of a block; of what the weight's gradient sums up at once
constexpr float kP = 0.70710678118654752f, kQ = 1.4142135623730950f;
constexpr int64_t kPad = 16;  // floats between places: at multiples of 4096 bytes they would share a cache's lines

// B^T: of a map's six places.
inline void of_map(const Vec (&d)[kIn], Vec (&t)[kIn]) {
  const Vec even_p = d[4] - 2.0f * d[2], odd_p = kP * (d[3] - 2.0f * d[1]);
  const Vec even_q = d[4] - 0.5f * d[2], odd_q = kQ * (d[3] - 0.5f * d[1]);
  t[0] = d[4] - 2.5f * d[2] + d[0];
  t[1] = even_p + odd_p;
  t[2] = even_p - odd_p;
  t[3] = even_q + odd_q;
  t[4] = even_q - odd_q;
  t[5] = d[5] - 2.5f * d[3] + d[1];
}

// A^T: to four places of the result.
inline void to_result(const Vec (&m)[kIn], Vec (&y)[kOut]) {
  const Vec even_p = m[1] + m[2], odd_p = kP * (m[1] - m[2]);
  const Vec even_q = m[3] + m[4], odd_q = kQ * (m[3] - m[4]);
  y[0] = m[0] + even_p + even_q;
  y[1] = odd_p + odd_q;
  y[2] = 0.5f * even_p + 2.0f * even_q;
  y[3] = 0.5f * odd_p + 2.0f * odd_q + m[5];
}

// A: of four places of the result's gradient.
inline void of_gradient(const Vec (&y)[kOut], Vec (&m)[kIn]) {
  const Vec even_p = y[0] + 0.5f * y[2], odd_p = kP * (y[1] + 0.5f * y[3]);
  const Vec even_q = y[0] + 2.0f * y[2], odd_q = kQ * (y[1] + 2.0f * y[3]);
  m[0] = y[0];
  m[1] = even_p + odd_p;
  m[2] = even_p - odd_p;
  m[3] = even_q + odd_q;
  m[4] = even_q - odd_q;
  m[5] = y[3];
}

// G^T: to three taps of the weight's gradient.
inline void to_taps(const Vec (&u)[kIn], Vec (&g)[3]) {
  const Vec even_p = (u[1] + u[2]) * (-2.0f / 3), odd_p = (u[1] - u[2]) * (-2.0f / 3);
  const Vec even_q = (u[3] + u[4]) * (1.0f / 6), odd_q = (u[3] - u[4]) * (1.0f / 6);
  g[0] = u[0] + even_p + even_q;
  g[1] = kP * odd_p + kQ * odd_q;
  g[2] = 0.5f * even_p + 2.0f * even_q + u[5];
}

// G: of three taps.
inline void of_taps(const Vec (&g)[3], Vec (&u)[kIn]) {
  const Vec even_p = (g[0] + 0.5f * g[2]) * (-2.0f / 3), odd_p = g[1] * (-2.0f / 3 * kP);
  const Vec even_q = (g[0] + 2.0f * g[2]) * (1.0f / 6), odd_q = g[1] * (1.0f / 6 * kQ);
  u[0] = g[0];
  u[1] = even_p + odd_p;
  u[2] = even_p - odd_p;
  u[3] = even_q + odd_q;
  u[4] = even_q - odd_q;
  u[5] = g[2];
}

// A batch of maps, and its tiles row by row.
struct Maps {
  int64_t batch, height, width;
  int64_t down() const { return (height + kOut - 1) / kOut; }
  int64_t across() const { return (width + kOut - 1) / kOut; }
  int64_t tiles() const { return batch * down() * across(); }
};

// Where the places of a tile are, `side` a row from (top, left) on; `outside` for those that the map does not have.
template <int side, typename Float>
struct Window {
  Float* at[side][side];
  Window(Float* map, Maps maps, int64_t channels, int64_t tile, int64_t offset, Float* outside) {
    const int64_t left = tile % maps.across() * kOut - offset, row = tile / maps.across();
    const int64_t top = row % maps.down() * kOut - offset, image = row / maps.down();
    for (int i = 0; i < side; i++)
      for (int j = 0; j < side; j++) {
        const int64_t y = top + i, x = left + j;
        const bool inside = y >= 0 && y < maps.height && x >= 0 && x < maps.width;
        at[i][j] = inside ? map + ((image * maps.height + y) * maps.width + x) * channels : outside;
      }
  }
};

// Two transforms of one dimension, of `from` rows and columns to `to`: read(i, j) and write(i, j, vector).
template <int from, int to, typename Transform, typename Read, typename Write>
inline void both_ways(Transform transform, Read read, Write write) {
  Vec half[to][from];
  for (int j = 0; j < from; j++) {
    Vec column[from], changed[to];
    for (int i = 0; i < from; i++) column[i] = read(i, j);
    transform(column, changed);
    for (int i = 0; i < to; i++) half[i][j] = changed[i];
  }
  for (int i = 0; i < to; i++) {
    Vec changed[to];
    transform(half[i], changed);
    for (int j = 0; j < to; j++) write(i, j, changed[j]);
  }
}

const auto kOfMap = [](const Vec (&d)[kIn], Vec (&t)[kIn]) { of_map(d, t); };
const auto kToResult = [](const Vec (&m)[kIn], Vec (&y)[kOut]) { to_result(m, y); };
const auto kOfGradient = [](const Vec (&y)[kOut], Vec (&m)[kIn]) { of_gradient(y, m); };
const auto kOfTaps = [](const Vec (&g)[3], Vec (&u)[kIn]) { of_taps(g, u); };
const auto kToTaps = [](const Vec (&u)[kIn], Vec (&g)[3]) { to_taps(u, g); };

// All channels of a tile of the map, at 36 places that are `step` floats apart.
void transform_map(const Window<kIn, const float>& window, int64_t channels, float* to, int64_t step) {
  for (int64_t c = 0; c < channels; c += kLanes)
    both_ways<kIn, kIn>(
        kOfMap, [&](int i, int j) { return load(window.at[i][j] + c); },
        [&](int i, int j, Vec x) { store(to + (i * kIn + j) * step + c, x); });
}

// out (B, H, W, columns) = x (B, H, W, channels) * the packed weight + bias, without what is below 0 if `relu`.
void convolve(const float* x, const float* panels, const float* bias, float* out, Maps maps, int64_t channels,
              int64_t columns, bool relu, Threads threads) {
  const int64_t tiles = maps.tiles();
  const int64_t most = std::max(kFewestTiles, kBlockFloats / channels);
  const int64_t blocks = (tiles + most - 1) / most;
  const int64_t length = (tiles + blocks - 1) / blocks;
  const int64_t step = length * channels + kPad, out_step = length * kPanelColumns + kPad;
  const Vec least = splat(relu ? 0.0f : -INFINITY);
  in_turns(threads, blocks, blocks / (4 * threads.count) + 1, [&](int64_t begin, int64_t end) {
    Floats changed(kPlaces * step), results(kPlaces * out_step), nothing(std::max(channels, columns));
    for (int64_t block = begin; block < end; block++) {
      const int64_t first = tiles * block / blocks, count = tiles * (block + 1) / blocks - first;
      for (int64_t t = 0; t < count; t++)
        transform_map(Window<kIn, const float>(x, maps, channels, first + t, 1, nothing.data()), channels,
                      changed.data() + t * channels, step);
      for (int64_t column = 0; column < columns; column += kPanelColumns) {
        const Panel panel(column / kLanes, columns / kLanes, channels);
        const int64_t wide = panel.vectors * kLanes;
        for (int64_t place = 0; place < kPlaces; place++)
          multiply_panel<Floats32>(panel.vectors, Left<false>{changed.data() + place * step, channels},
                         panels + place * channels * columns + panel.begin, count, channels,
                         Rows<const float>{nullptr, 0}, Rows<float>{results.data() + place * out_step, wide});
        for (int64_t t = 0; t < count; t++) {
          const Window<kOut, float> window(out, maps, columns, first + t, 0, nullptr);
          for (int64_t v = 0; v < wide; v += kLanes) {
            const Vec start = bias == nullptr ? Vec{} : load(bias + column + v);
            const float* from = results.data() + t * wide + v;
            both_ways<kIn, kOut>(
                kToResult, [&](int i, int j) { return load(from + (i * kIn + j) * out_step); },
                [&](int i, int j, Vec y) {
                  // What is no number stays so.
                  if (window.at[i][j] != nullptr) store(window.at[i][j] + column + v, larger(least, y + start));
                });
          }
        }
      }
    }
  });
}

// The weight (columns, channels, 3, 3) in the form of 36 places, each in panels; or that of the map's gradient, whose
// columns are the weight's channels.
void pack(const float* weight, int64_t columns, int64_t channels, bool of_gradient, float* panels, Threads threads) {
  const int64_t depth = of_gradient ? columns : channels, across = of_gradient ? channels : columns;
  // From a column to the next, and from a row of the product's depth to the next; a gradient's taps are in reverse.
  const int64_t next = of_gradient ? 9 : channels * 9, down = of_gradient ? channels * 9 : 9;
  in_turns(threads, across / kLanes, 1, [&](int64_t vector, int64_t) {
    const int64_t within = vector % kPanelVectors;
    const Panel panel(vector - within, across / kLanes, depth);
    for (int64_t k = 0; k < depth; k++) {
      const float* taps = weight + vector * kLanes * next + k * down;
      float* to = panels + panel.begin + (k * panel.vectors + within) * kLanes;
      both_ways<3, kIn>(
          kOfTaps,
          [&](int i, int j) {
            Vec tap;
            for (int64_t lane = 0; lane < kLanes; lane++)
              tap[lane] = taps[lane * next + (of_gradient ? 8 - (i * 3 + j) : i * 3 + j)];
            return tap;
          },
          [&](int i, int j, Vec x) { store(to + (i * kIn + j) * depth * across, x); });
    }
  });
}

// taps (3, 3, channels, columns): the gradient of the weight. `space` has room for chunks of tiles and for sums.
void weight_gradient(const float* x, const float* grad, float* taps, float* space, Maps maps, int64_t channels,
                     int64_t columns, Threads threads) {
  const int64_t tiles = maps.tiles(), all = columns / kLanes;
  const int64_t step = kChunkTiles * channels + kPad, grad_step = kChunkTiles * columns + kPad;
  const int64_t panels = (columns + kPanelColumns - 1) / kPanelColumns;
  float *changed = space, *factors = changed + kPlaces * step, *sums = factors + kPlaces * grad_step;
  const Floats nothing(std::max(channels, columns));
  for (int64_t first = 0; first < tiles; first += kChunkTiles) {
    const int64_t count = std::min(kChunkTiles, tiles - first);
    in_turns(threads, count, 4, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; t++) {
        transform_map(Window<kIn, const float>(x, maps, channels, first + t, 1, nothing.data()), channels,
                      changed + t * channels, step);
        const Window<kOut, const float> window(grad, maps, columns, first + t, 0, nothing.data());
        for (int64_t v = 0; v < all; v++) {
          const int64_t within = v % kPanelVectors;
          const Panel panel(v - within, all, count);
          float* to = factors + panel.begin + (t * panel.vectors + within) * kLanes;
          both_ways<kOut, kIn>(
              kOfGradient, [&](int i, int j) { return load(window.at[i][j] + v * kLanes); },
              [&](int i, int j, Vec y) { store(to + (i * kIn + j) * grad_step, y); });
        }
      }
    });
    in_turns(threads, kPlaces * panels, 1, [&](int64_t task, int64_t) {
      const int64_t place = task / panels, column = task % panels * kPanelColumns;
      const Panel panel(column / kLanes, all, count);
      const Rows<float> to{sums + place * channels * columns + column, columns};
      multiply_panel<Floats32>(panel.vectors, Left<true>{changed + place * step, channels},
                     factors + place * grad_step + panel.begin, channels, count,
                     Rows<const float>{first == 0 ? nullptr : to.data, to.step}, to);
    });
  }
  in_turns(threads, channels, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin * columns; at < end * columns; at += kLanes)
      both_ways<kIn, 3>(
          kToTaps, [&](int i, int j) { return load(sums + (i * kIn + j) * channels * columns + at); },
          [&](int i, int j, Vec g) { store(taps + (i * 3 + j) * channels * columns + at, g); });
  });
}

}  // namespace

// All arrays are float32 and contiguous; channels and columns are multiples of 16. Null is allowed for biases.
#define EXPORT __attribute__((visibility("default")))

extern "C" {

EXPORT void swin_winograd_pack(const float* weight, int64_t columns, int64_t channels, int32_t of_gradient,
                               float* panels, Parallel parallel, int64_t threads) {
  pack(weight, columns, channels, of_gradient != 0, panels, {parallel, threads});
}

EXPORT void swin_winograd(const float* x, const float* panels, const float* bias, float* out, int64_t batch,
                          int64_t height, int64_t width, int64_t channels, int64_t columns, int32_t relu,
                          Parallel parallel, int64_t threads) {
  if (batch * height * width == 0) return;
  convolve(x, panels, bias, out, {batch, height, width}, channels, columns, relu != 0, {parallel, threads});
}

// How many floats `swin_winograd_weight_gradient` needs as space.
EXPORT void swin_winograd_space(int64_t channels, int64_t columns, int64_t* floats, Parallel, int64_t) {
  *floats = kPlaces * (kChunkTiles * (channels + columns) + 2 * kPad + channels * columns);
}

EXPORT void swin_winograd_weight_gradient(const float* x, const float* grad, float* taps, float* space, int64_t batch,
                                          int64_t height, int64_t width, int64_t channels, int64_t columns,
                                          Parallel parallel, int64_t threads) {
  weight_gradient(x, grad, taps, space, {batch, height, width}, channels, columns, {parallel, threads});
}

}  // extern "C"
