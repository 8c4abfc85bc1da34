// A stage's blocks in one call (arXiv 2103.14030, figure 3b; V2: 2111.09883, figure 1): the threads go through all of
// their layers together, and none waits for another that the system has interrupted before it began.

#include "kernels.h"
#include "vectors.h"

namespace {

// A linear layer's weight in panels, and its bias, which may be null.
struct Linear {
  const float *panels, *bias;
};

struct Norm {
  const float *weight, *bias;
  double eps;
};

// As Python packs it: pointers and numbers of 8 bytes each.
struct Block {
  int64_t norm_first, window_height, window_width, shift_y, shift_x;
  Norm norm1, norm2;
  Linear qkv, proj, fc1, fc2;
  const float *bias, *logit_scale;  // of scores: padded; of V2 or null
  const void* pad_token;
};

struct Map {
  int64_t batch, height, width, channels, hidden, heads;
  bool bfloat16;
  int64_t rows() const { return batch * height * width; }
};

constexpr int64_t kLoops = 7;  // of a block

// From x to out, by way of `normed`, as large, and `wide`, of the hidden or three times as many channels.
void run_block(const Block& b, const Map& m, const void* x, void* out, void* normed, void* wide, Threads threads) {
  const int64_t rows = m.rows(), width = m.channels;
  const auto norm = [&](const Norm& n, const void* from, const void* residual, void* to) {
    run_layer_norm(from, n.weight, n.bias, residual, to, rows, width, static_cast<float>(n.eps), m.bfloat16, threads);
  };
  const auto linear = [&](const Linear& l, const void* from, int64_t depth, const void* residual, void* to,
                          int64_t columns, bool with_gelu) {
    run_linear(from, l.panels, l.bias, residual, to, rows, depth, columns, with_gelu, m.bfloat16, threads);
  };
  const auto attend = [&] {
    const int64_t sizes[] = {m.batch,         m.height,       m.width,   m.heads,  width / m.heads,
                             b.window_height, b.window_width, b.shift_y, b.shift_x};
    run_window_attention(wide, b.bias, true, b.pad_token, b.logit_scale, normed, nullptr, sizes, m.bfloat16, threads);
  };
  if (b.norm_first) {
    norm(b.norm1, x, nullptr, normed);
    linear(b.qkv, normed, width, nullptr, wide, 3 * width, false);
    attend();
    linear(b.proj, normed, width, x, out, width, false);
    norm(b.norm2, out, nullptr, normed);
    linear(b.fc1, normed, width, nullptr, wide, m.hidden, true);
    linear(b.fc2, wide, m.hidden, out, out, width, false);
  } else {
    linear(b.qkv, x, width, nullptr, wide, 3 * width, false);
    attend();
    linear(b.proj, normed, width, nullptr, wide, width, false);
    norm(b.norm1, wide, x, out);
    linear(b.fc1, out, width, nullptr, wide, m.hidden, true);
    linear(b.fc2, wide, m.hidden, nullptr, normed, width, false);
    norm(b.norm2, normed, out, out);
  }
}

}  // namespace

#define EXPORT __attribute__((visibility("default")))

extern "C" {

// Floats in a vector: the padded bias of a block has as many times the vectors that a window's keys fill.
EXPORT int32_t swin_lanes = kLanes;

// Blocks one after the other on x (batch, height, width, channels), float32 or bfloat16, which stays as it is. `sizes`:
// batch, height, width, channels, hidden, heads. `normed` is as large as x, `wide` has max(3 * channels, hidden).
EXPORT void swin_blocks(const void* blocks, int64_t count, const void* x, void* out, void* normed, void* wide,
                        const int64_t* sizes, int32_t bfloat16, Parallel parallel, int64_t threads) {
  const Map map{sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], bfloat16 != 0};
  AlignedArray<Phase> phases(count * kLoops);
  together({parallel, threads}, phases.data(), [&](Threads team) {
    const Block* block = static_cast<const Block*>(blocks);
    for (int64_t i = 0; i < count; i++) run_block(block[i], map, i == 0 ? x : out, out, normed, wide, team);
  });
}

}  // extern "C"
