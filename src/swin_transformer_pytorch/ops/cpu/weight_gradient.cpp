// Gradients of a linear layer's weight and bias in float32: grad^T * x, and the sums of grad's columns.
//
// Here the depth of the product is the number of rows, which is large, and the result is small. So a task takes a part
// of the result and goes through the rows in pieces: those of both factors are put where they stay in the first two
// caches. Where a result has few parts, the rows are cut into stretches, whose sums are added up at the end. The cut
// depends on sizes alone: results are the same to the bit whatever the number of threads.

#include "products.h"
#include "turns.h"
#include "vectors.h"

namespace {

constexpr int64_t kPieceRows = 128;     // of x and grad, whose panels stay in the caches
constexpr int64_t kBlockHeight = 96;    // columns of grad that a task takes
constexpr int64_t kGroupPanels = 4;     // panels of x that it takes
constexpr int64_t kFewestRows = 1024;   // of a stretch
constexpr int64_t kEnoughTasks = 64;    // for as many threads
constexpr int64_t kSumsAtOnce = 1 << 12;

// Tasks are numbered stretch by stretch, since those of one stretch read the same rows.
struct Cut {
  Parts blocks, groups, stretches;
  Cut(int64_t rows, int64_t outputs, int64_t inputs)
      : blocks(outputs / kLanes, kBlockHeight / kLanes),
        groups((inputs + kPanelColumns - 1) / kPanelColumns, kGroupPanels), stretches(rows, kFewestRows) {
    const int64_t parts = blocks.count * groups.count;
    stretches.count = std::clamp<int64_t>((kEnoughTasks + parts - 1) / parts, 1, std::max<int64_t>(rows / kFewestRows, 1));
  }
  int64_t tasks() const { return blocks.count * groups.count * stretches.count; }
};

struct Sums {
  float *weight, *bias;  // (outputs, inputs) and (outputs); the latter may be null
};

// Columns [first, first + width) of grad's rows, one after the other, and their sums added to `sums` unless it is null.
void to_block(const float* grad, int64_t step, int64_t rows, int64_t width, float* to, float* sums) {
  for (int64_t row = 0; row < rows; row++, grad += step)
    for (int64_t i = 0; i < width; i += kLanes, to += kLanes) {
      const Vec x = load(grad + i);
      store(to, x);
      if (sums != nullptr) store(sums + i, load(sums + i) + x);
    }
}

struct Layer {
  const float *grad, *x;
  int64_t rows, outputs, inputs;
};

// Adds a task's part to `sums`.
void add_part(const Layer& layer, const Cut& cut, int64_t task, Sums sums, float* block, float* panel_of_x) {
  const int64_t stretch = task / (cut.blocks.count * cut.groups.count);
  const int64_t part = task % (cut.blocks.count * cut.groups.count);
  const int64_t of_block = part / cut.groups.count, group = part % cut.groups.count;
  const int64_t output = cut.blocks.begin(of_block) * kLanes;
  const int64_t height = cut.blocks.begin(of_block + 1) * kLanes - output;
  const int64_t begin = cut.stretches.begin(stretch), end = cut.stretches.begin(stretch + 1);
  const Parts pieces(end - begin, kPieceRows);
  for (int64_t piece = 0; piece < pieces.count; piece++) {
    const int64_t row = begin + pieces.begin(piece), some = begin + pieces.begin(piece + 1) - row;
    float* bias = group == 0 && sums.bias != nullptr ? sums.bias + output : nullptr;
    to_block(layer.grad + row * layer.outputs + output, layer.outputs, some, height, block, bias);
    for (int64_t i = cut.groups.begin(group); i < cut.groups.begin(group + 1); i++) {
      const int64_t input = i * kPanelColumns;
      const Panel panel(i * kPanelVectors, layer.inputs / kLanes, some);
      to_panel(layer.x + row * layer.inputs + input, layer.inputs, some, panel.vectors, panel_of_x);
      const Rows<float> out{sums.weight + output * layer.inputs + input, layer.inputs};
      multiply_panel<Floats32>(panel.vectors, Left<true>{block, height}, panel_of_x, height, some,
                               Rows<const float>{out.data, out.step}, out);
    }
  }
}

// to = the sum of `count` arrays, each `size` long and after the other, added to `to` in their order.
void add_up(const float* from, int64_t count, int64_t size, float* to, Threads threads) {
  in_turns(threads, size, kSumsAtOnce, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += kLanes) {
      Vec total = load(to + i);
      for (int64_t array = 0; array < count; array++) total += load(from + array * size + i);
      store(to + i, total);
    }
  });
}

void add_gradients(const Layer& layer, Sums sums, Threads threads) {
  const Cut cut(layer.rows, layer.outputs, layer.inputs);
  const int64_t weights = layer.outputs * layer.inputs, all = cut.stretches.count > 1 ? cut.stretches.count : 0;
  Floats partial(all * weights), partial_bias(sums.bias == nullptr ? 0 : all * layer.outputs);
  in_turns(threads, cut.tasks(), 1, [&](int64_t task, int64_t) {
    alignas(64) float block[kPieceRows * kBlockHeight], panel[kPieceRows * kPanelColumns];
    const int64_t stretch = task / (cut.blocks.count * cut.groups.count);
    Sums to = sums;
    if (all != 0) {
      to.weight = partial.data() + stretch * weights;
      if (sums.bias != nullptr) to.bias = partial_bias.data() + stretch * layer.outputs;
    }
    add_part(layer, cut, task, to, block, panel);
  });
  if (all == 0) return;
  add_up(partial.data(), all, weights, sums.weight, threads);
  if (sums.bias != nullptr) add_up(partial_bias.data(), all, layer.outputs, sums.bias, threads);
}

}  // namespace

#define EXPORT __attribute__((visibility("default")))

extern "C" {

// Adds grad^T * x to `weight` (outputs, inputs) and grad's sums to `bias` (outputs), which may be null. All arrays are
// float32 and contiguous; grad is (rows, outputs), x (rows, inputs), both widths multiples of 16.
EXPORT void swin_weight_gradient(const float* grad, const float* x, float* weight, float* bias, int64_t rows,
                                 int64_t outputs, int64_t inputs, Parallel parallel, int64_t threads) {
  add_gradients({grad, x, rows, outputs, inputs}, {weight, bias}, {parallel, threads});
}

}  // extern "C"
