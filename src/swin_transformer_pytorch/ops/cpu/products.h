// Matrix products whose tiles stay in registers.
//
// The right factor of a product is kept in panels: the first kPanelVectors vectors of each of its rows, one row after
// the other, then the next vectors of each row. A tile reads one panel from its beginning to its end.
#pragma once

#include "vectors.h"

namespace {

constexpr int64_t kPanelVectors = kRegisters == 32 ? 4 : 2;
constexpr int64_t kPanelColumns = kPanelVectors * kLanes;

// Rows of a tile: with its part of a panel's row and one factor they fill the registers.
constexpr int64_t tile_rows(int64_t vectors) { return std::min<int64_t>(12, kRegisters * 3 / 4 / vectors); }

// Where the panel with that vector begins, and how many vectors it is wide.
struct Panel {
  int64_t begin, vectors;
  Panel(int64_t first_vector, int64_t all_vectors, int64_t rows)
      : begin(first_vector * kLanes * rows), vectors(std::min(kPanelVectors, all_vectors - first_vector)) {}
};

// Puts a part of rows, each `step` floats after the other, into one panel.
inline void to_panel(const float* from, int64_t step, int64_t rows, int64_t vectors, float* to) {
  for (int64_t row = 0; row < rows; row++)
    for (int64_t v = 0; v < vectors; v++, to += kLanes) store(to, load(from + row * step + v * kLanes));
}

// Puts rows of `columns` floats, a whole number of vectors, into panels.
inline void to_panels(const float* from, int64_t rows, int64_t columns, float* to) {
  const int64_t all = columns / kLanes;
  for (int64_t first = 0; first < all; first += kPanelVectors) {
    const Panel panel(first, all, rows);
    to_panel(from + first * kLanes, columns, rows, panel.vectors, to + panel.begin);
  }
}

// Puts the transpose of rows of `columns` floats into panels: `depth` rows of as many vectors as the rows fill, and
// of them there are a whole number.
inline void to_transposed_panels(const float* from, int64_t rows, int64_t columns, int64_t depth, float* to) {
  const int64_t all = rows / kLanes;
  for (int64_t vector = 0; vector < all; vector++) {
    const int64_t within = vector % kPanelVectors;
    const Panel panel(vector - within, all, depth);
    for (int64_t d = 0; d < depth; d += kLanes) {
      Vec square[kLanes];
      for (int64_t i = 0; i < kLanes; i++) square[i] = load(from + (vector * kLanes + i) * columns + d);
      transpose(square);
      const int64_t wanted = std::min(kLanes, depth - d);
      float* next = to + panel.begin + (d * panel.vectors + within) * kLanes;
      for (int64_t i = 0; i < wanted; i++) store(next + i * panel.vectors * kLanes, square[i]);
    }
  }
}

// The left factor of a product: element (row, k) is data[row * step + k], or data[k * step + row] if it is transposed.
template <bool transposed>
struct Left {
  const float* data;
  int64_t step;
  const float* at(int64_t row, int64_t k) const { return data + (transposed ? k * step + row : row * step + k); }
  void advance(int64_t rows) { data += transposed ? rows : rows * step; }
};

// Factors that are floats.
struct Floats32 {
  static Vec factor(const float* from) { return splat(*from); }
  static Vec add(Vec total, Vec factor, Vec row) { return total + factor * row; }
};

// Factors of which a float's place holds two in bfloat16, one after the other along the depth: their products are
// summed up in float32.
struct Pairs16 {
  static Vec factor(const float* from) {  // as bits: read as a float, two numbers may be one that is not kept
    int32_t pair;
    std::memcpy(&pair, from, sizeof pair);
    return from_bits(pair - IntVec{});
  }
#if defined(__AVX512BF16__) && !defined(SWIN_PLAIN_VECTORS)
  static Vec add(Vec total, Vec factor, Vec row) {
    return _mm512_dpbf16_ps(total, (__m512bh)factor, (__m512bh)row);  // NOLINT: a cast of bits
  }
#else
  static Vec first(Vec pair) { return from_bits(bits(pair) << 16); }
  static Vec second(Vec pair) { return from_bits(bits(pair) & static_cast<int32_t>(0xffff0000)); }
  static Vec add(Vec total, Vec factor, Vec row) {
    return total + second(factor) * second(row) + first(factor) * first(row);
  }
#endif
};

// Rows of vectors.
template <typename Number>
struct Rows {
  Number* data;
  int64_t step;
};

// What becomes of a product's vectors before they are stored. `row` and `v` count from the tile's first; `prefetch` is
// called for the place of each row of a tile before it is computed.
struct Keep {
  Vec operator()(Vec x, int64_t, int64_t) const { return x; }
  void prefetch(const void*, int64_t) const {}
  void advance(int64_t) {}
};

// What is read after a panel: tiles fetch its lines into the cache while they are computed, some every few steps of the
// depth, which is a multiple of these, as the memory that weights come from is slow to begin.
constexpr int64_t kStepsOfDepth = 4, kLineBytes = 64;
struct Ahead {
  const char *at, *end;
  int64_t lines;
  void fetch() {
    if (at >= end) return;
    for (int64_t i = 0; i < lines; i++) __builtin_prefetch(at + i * kLineBytes, 0, 2);
    at += lines * kLineBytes;
  }
  void advance(int64_t depth) { at += depth / kStepsOfDepth * lines * kLineBytes; }
};

struct NothingAhead {
  void advance(int64_t) {}
};

// A tile of ROWS rows and VECTORS vectors of out = finish(start + left * panel); `start` is zero where it is null.
template <typename Factors, int ROWS, int VECTORS, bool transposed, typename Out, typename Finish, typename Next>
void multiply_tile(Left<transposed> left, const float* panel, int64_t depth, Rows<const float> start, Rows<Out> out,
                   Finish finish, Next next) {
  Vec total[ROWS][VECTORS];
  for (int r = 0; r < ROWS; r++) finish.prefetch(out.data + r * out.step, r);
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; r++)
    for (int v = 0; v < VECTORS; v++)
      total[r][v] = start.data != nullptr ? load(start.data + r * start.step + v * kLanes) : Vec{};
  const auto add_row = [&](int64_t k) __attribute__((always_inline)) {
    Vec row[VECTORS];
    for (int v = 0; v < VECTORS; v++) row[v] = load(panel + (k * VECTORS + v) * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; r++) {
      const Vec factor = Factors::factor(left.at(r, k));
      for (int v = 0; v < VECTORS; v++) total[r][v] = Factors::add(total[r][v], factor, row[v]);
    }
  };
  if constexpr (std::is_same_v<Next, Ahead>) {
    for (int64_t k = 0; k < depth; k += kStepsOfDepth) {
      next.fetch();
#pragma GCC unroll 4
      for (int64_t i = 0; i < kStepsOfDepth; i++) add_row(k + i);
    }
  } else {
#pragma GCC unroll 4
    for (int64_t k = 0; k < depth; k++) add_row(k);
  }
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; r++)
    for (int v = 0; v < VECTORS; v++) store(out.data + r * out.step + v * kLanes, finish(total[r][v], r, v));
}

// The tile of `height` rows, which is at most ROWS.
template <typename Factors, int ROWS, int VECTORS, bool transposed, typename Out, typename Finish, typename Next>
void multiply_tile_of(int64_t height, Left<transposed> left, const float* panel, int64_t depth, Rows<const float> start,
                      Rows<Out> out, Finish finish, Next next) {
  if constexpr (ROWS > 1)
    if (height < ROWS)
      return multiply_tile_of<Factors, ROWS - 1, VECTORS>(height, left, panel, depth, start, out, finish, next);
  multiply_tile<Factors, ROWS, VECTORS>(left, panel, depth, start, out, finish, next);
}

template <typename Factors, int VECTORS, bool transposed, typename Out, typename Finish, typename Next>
void multiply_tiles(Left<transposed> left, const float* panel, int64_t rows, int64_t depth, Rows<const float> start,
                    Rows<Out> out, Finish finish, Next next) {
  constexpr int64_t most = tile_rows(VECTORS);
  // Tiles of nearly equal height: a low one at the end would leave most of the processor idle.
  for (int64_t tiles = (rows + most - 1) / most; tiles > 0; tiles--) {
    const int64_t height = (rows + tiles - 1) / tiles;
    multiply_tile_of<Factors, most, VECTORS>(height, left, panel, depth, start, out, finish, next);
    rows -= height;
    next.advance(depth);
    left.advance(height);
    finish.advance(height);
    out.data += height * out.step;
    if (start.data != nullptr) start.data += height * start.step;
  }
}

// The columns of out = finish(start + left * panel) that a panel of that many vectors makes.
template <typename Factors, bool transposed, typename Out, typename Finish = Keep, typename Next = NothingAhead>
void multiply_panel(int64_t vectors, Left<transposed> left, const float* panel, int64_t rows, int64_t depth,
                    Rows<const float> start, Rows<Out> out, Finish finish = {}, Next next = {}) {
  const auto with = [&](auto most) {
    constexpr int wide = std::min<int64_t>(most, kPanelVectors);
    multiply_tiles<Factors, wide>(left, panel, rows, depth, start, out, finish, next);
  };
  switch (vectors) {
    case 4: return with(std::integral_constant<int, 4>{});
    case 3: return with(std::integral_constant<int, 3>{});
    case 2: return with(std::integral_constant<int, 2>{});
    default: return with(std::integral_constant<int, 1>{});
  }
}

// out (rows, columns) = start + left (rows, depth) * panels (depth, columns); columns is a whole number of vectors.
template <typename Factors = Floats32, bool transposed>
void multiply(Left<transposed> left, const float* panels, int64_t rows, int64_t columns, int64_t depth,
              Rows<const float> start, Rows<float> out) {
  const int64_t all = columns / kLanes;
  for (int64_t first = 0; first < all; first += kPanelVectors) {
    const Panel panel(first, all, depth);
    const Rows<const float> from{start.data == nullptr ? nullptr : start.data + first * kLanes, start.step};
    const Rows<float> to{out.data + first * kLanes, out.step};
    multiply_panel<Factors>(panel.vectors, left, panels + panel.begin, rows, depth, from, to);
  }
}

}  // namespace
