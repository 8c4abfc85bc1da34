// Linear layers in float32 and bfloat16, and GELU in float32: products of large matrices, cut into blocks that stay in caches.
//
// Weights come in panels (products.h). What follows a product, GELU or a residual sum, is done while a tile is still in
// registers. The threads are the caller's. A sum has one order whatever their number, so that results are the same to
// the bit.

#include "gelu.h"
#include "kernels.h"
#include "products.h"
#include "turns.h"
#include "vectors.h"

namespace {

constexpr int64_t kBlockRows = 96;      // of a left factor, which with kBlockDepth columns stays in the second cache
constexpr int64_t kBlockDepth = 768;    // summed up before the next rows
constexpr int64_t kTileRows = tile_rows(kPanelVectors);
constexpr int64_t kTasks = 64;          // at least, where there are columns enough: for as many threads
constexpr int64_t kElements = 1 << 14;  // of GELU, in a turn

// Blocks of a result's rows and groups of its panels, by which tasks are numbered: one group after the other.
struct Tasks {
  Parts blocks, groups;
  Tasks(int64_t rows, int64_t columns)
      : blocks(rows, kBlockRows), groups((columns + kPanelColumns - 1) / kPanelColumns, 1) {
    groups.count = std::clamp<int64_t>((kTasks + blocks.count - 1) / blocks.count, 1, groups.length);
  }
  int64_t count() const { return blocks.count * groups.count; }
  int64_t block(int64_t task) const { return task % blocks.count; }
  int64_t group(int64_t task) const { return task / blocks.count; }
};

// How numbers of a type are multiplied, and how many of them fill a float's place in a panel.
template <typename T>
struct Numbers;
template <>
struct Numbers<float> {
  using Factors = Floats32;
  static constexpr int64_t in_a_place = 1;
};
template <>
struct Numbers<BFloat16> {
  using Factors = Pairs16;
  static constexpr int64_t in_a_place = 2;
};

// Maps are far larger than caches: the lines that a tile is stored to are fetched while it is computed.
struct Store : Keep {
  void prefetch(const void* out, int64_t) const { __builtin_prefetch(out, 1); }
};

struct Gelu : Store {
  Vec operator()(Vec x, int64_t, int64_t) const { return gelu(x); }
};

template <typename T>
struct Add : Store {
  Rows<const T> residual;
  explicit Add(Rows<const T> rows) : residual(rows) {}
  Vec operator()(Vec x, int64_t row, int64_t v) const {
    return x + load(residual.data + row * residual.step + v * kLanes);
  }
  void prefetch(const void* out, int64_t row) const {
    Store::prefetch(out, row);
    __builtin_prefetch(residual.data + row * residual.step);
  }
  void advance(int64_t rows) { residual.data += rows * residual.step; }
};

// What a task fetches while a part of a panel is multiplied: its block's share of the part that its thread will come to
// next, as far as is known, when all threads take panels in turn. `following` is memory that is read after all panels,
// or null.
struct Fetching {
  const float *panels, *following;
  int64_t threads, blocks, panel_floats;  // of a whole panel, of which the last may be narrower
  int64_t panel_count;

  Ahead next(int64_t block, int64_t panel, const float* part, int64_t part_floats, bool is_last_part, int64_t steps) const {
    const int64_t later = panel + (threads + blocks - 1) / blocks + (blocks > 1);
    const float* from = !is_last_part         ? part + part_floats
                        : later < panel_count ? panels + later * panel_floats
                        : following != nullptr ? following + (later - panel_count) * part_floats
                                               : nullptr;
    if (from == nullptr) return {nullptr, nullptr, 0};
    const char* bytes = reinterpret_cast<const char*>(from);
    const int64_t begin = part_floats * 4 * block / blocks, end = part_floats * 4 * (block + 1) / blocks;
    const int64_t lines = (end - begin) / kLineBytes;
    return {bytes + begin, bytes + end, (lines + steps - 1) / steps};
  }
};

// out (rows, columns) = finish(x (rows, depth) * panels + bias); finish_at(row, column) makes the functor that takes
// the vectors from there on. Sums are float32, also where they go on from one part of the depth to the next.
template <typename T, typename FinishAt>
void linear(const T* x, const float* panels, const float* bias, T* out, int64_t rows, int64_t depth, int64_t columns,
            const float* following, Threads threads, FinishAt finish_at) {
  using Factors = typename Numbers<T>::Factors;
  if (rows == 0) return;
  const Tasks tasks(rows, columns);
  const int64_t places = depth / Numbers<T>::in_a_place;
  const Parts depths(places / kStepsOfDepth, kBlockDepth / kStepsOfDepth);
  const float* factors_of_x = reinterpret_cast<const float*>(x);
  const Fetching fetching{panels, following, threads.count, tasks.blocks.count, kPanelColumns * places,
                          tasks.groups.length};
  in_turns(threads, tasks.count(), 1, [&](int64_t task, int64_t) {
    alignas(64) float sums[kBlockRows * kPanelColumns];
    const Rows<float> so_far{sums, kPanelColumns};
    const int64_t block = tasks.block(task), group = tasks.group(task);
    const int64_t row = tasks.blocks.begin(block), height = tasks.blocks.begin(block + 1) - row;
    for (int64_t i = tasks.groups.begin(group); i < tasks.groups.begin(group + 1); i++) {
      const int64_t column = i * kPanelColumns;
      const Panel panel(i * kPanelVectors, columns / kLanes, places);
      Rows<const float> start{bias == nullptr ? nullptr : bias + column, 0};  // of every row
      for (int64_t part = 0; part < depths.count; part++) {
        const int64_t k = depths.begin(part) * kStepsOfDepth, some = depths.begin(part + 1) * kStepsOfDepth - k;
        const float* factors = panels + panel.begin + k * panel.vectors * kLanes;
        const Left<false> left{factors_of_x + row * places + k, places};
        const int64_t steps = (height + kTileRows - 1) / kTileRows * (some / kStepsOfDepth);
        const Ahead next = fetching.next(block, i, factors, panel.vectors * kLanes * some, part + 1 == depths.count, steps);
        if (part + 1 < depths.count)
          multiply_panel<Factors>(panel.vectors, left, factors, height, some, start, so_far, Keep{}, next);
        else
          multiply_panel<Factors>(panel.vectors, left, factors, height, some, start,
                                  Rows<T>{out + row * columns + column, columns}, finish_at(row, column), next);
        start = {sums, kPanelColumns};
      }
    }
  });
}

template <typename T>
void linear(const T* x, const float* panels, const float* bias, const T* residual, T* out, int64_t rows, int64_t depth,
            int64_t columns, bool with_gelu, const float* following, Threads threads) {
  if (with_gelu)
    linear(x, panels, bias, out, rows, depth, columns, following, threads, [](int64_t, int64_t) { return Gelu{}; });
  else if (residual != nullptr)
    linear(x, panels, bias, out, rows, depth, columns, following, threads, [&](int64_t row, int64_t column) {
      return Add<T>({residual + row * columns + column, columns});
    });
  else
    linear(x, panels, bias, out, rows, depth, columns, following, threads, [](int64_t, int64_t) { return Store{}; });
}

// Panels of a weight (rows, columns): of its transpose, for x * weight^T, or of itself, for grad * weight.
void pack(const float* weight, int64_t rows, int64_t columns, bool transposed, float* panels, Threads threads) {
  const int64_t across = transposed ? rows : columns, depth = transposed ? columns : rows;
  in_turns(threads, (across + kPanelColumns - 1) / kPanelColumns, 1, [&](int64_t i, int64_t) {
    const Panel panel(i * kPanelVectors, across / kLanes, depth);
    const int64_t first = i * kPanelColumns;
    if (transposed)
      to_transposed_panels(weight + first * columns, panel.vectors * kLanes, columns, depth, panels + panel.begin);
    else
      to_panel(weight + first, columns, rows, panel.vectors, panels + panel.begin);
  });
}

// to[i] = function(vectors of the arrays from i on), for any count.
template <typename Function, typename... Arrays>
void each(Threads threads, int64_t count, float* to, Function function, Arrays... from) {
  in_turns(threads, count, kElements, [&](int64_t begin, int64_t end) {
    int64_t i = begin;
    for (; i + kLanes <= end; i += kLanes) store(to + i, function(load(from + i)...));
    if (i == end) return;
    const auto rest = [&](const float* array) {
      Vec x{};
      std::memcpy(&x, array + i, (end - i) * sizeof(float));
      return x;
    };
    const Vec last = function(rest(from)...);
    std::memcpy(to + i, &last, (end - i) * sizeof(float));
  });
}

}  // namespace

void run_linear(const void* x, const float* panels, const float* bias, const void* residual, void* out, int64_t rows,
                int64_t depth, int64_t columns, bool with_gelu, bool bfloat16, const float* following,
                Threads threads) {
  if (bfloat16)
    linear(static_cast<const BFloat16*>(x), panels, bias, static_cast<const BFloat16*>(residual),
           static_cast<BFloat16*>(out), rows, depth, columns, with_gelu, following, threads);
  else
    linear(static_cast<const float*>(x), panels, bias, static_cast<const float*>(residual), static_cast<float*>(out),
           rows, depth, columns, with_gelu, following, threads);
}

// All arrays are contiguous, and float32 where nothing else is said; every number of columns, and a weight's of rows, is
// a multiple of 16. Null is allowed for biases and residuals. `threads` is how many the team of `parallel` has; with one
// it is not called.
#define EXPORT __attribute__((visibility("default")))

extern "C" {

// Whether products of bfloat16 are made by instructions for them.
#if defined(__AVX512BF16__) && !defined(SWIN_PLAIN_VECTORS)
EXPORT int32_t swin_multiplies_bfloat16 = 1;
#else
EXPORT int32_t swin_multiplies_bfloat16 = 0;
#endif

EXPORT void swin_pack(const float* weight, int64_t rows, int64_t columns, int32_t transposed, float* panels,
                      Parallel parallel, int64_t threads) {
  pack(weight, rows, columns, transposed != 0, panels, {parallel, threads});
}

// With `bfloat16`, x, residual and out are that, and panels are of pairs of it: those of a weight's memory taken as
// floats. The depth is then a multiple of 32.
EXPORT void swin_linear(const void* x, const float* panels, const float* bias, const void* residual, void* out,
                        int64_t rows, int64_t depth, int64_t columns, int32_t with_gelu, int32_t bfloat16,
                        Parallel parallel, int64_t threads) {
  run_linear(x, panels, bias, residual, out, rows, depth, columns, with_gelu != 0, bfloat16 != 0, nullptr,
             {parallel, threads});
}

EXPORT void swin_gelu(const float* x, float* out, int64_t count, Parallel parallel, int64_t threads) {
  each({parallel, threads}, count, out, [](Vec v) { return gelu(v); }, x);
}

EXPORT void swin_gelu_backward(const float* grad, const float* x, float* out, int64_t count, Parallel parallel,
                               int64_t threads) {
  each({parallel, threads}, count, out, [](Vec g, Vec v) { return g * gelu_derivative(v); }, grad, x);
}

}  // extern "C"
