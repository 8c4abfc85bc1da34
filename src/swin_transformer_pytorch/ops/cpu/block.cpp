// A stage's blocks in one call (arXiv 2103.14030, figure 3b; V2: 2111.09883, figure 1), and what is between stages: the
// threads go through all of their layers together, and none waits for another that the system has interrupted before it
// began.

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

struct PatchMerging {
  int64_t norm_first;
  Norm norm;
  Linear reduction;
};

struct PatchEmbed {
  Linear proj;
  Norm norm;
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

void norm_in_place(const Norm& n, void* rows, int64_t count, int64_t width, bool bfloat16, Threads threads) {
  run_layer_norm(rows, n.weight, n.bias, nullptr, rows, count, width, static_cast<float>(n.eps), bfloat16, threads);
}

constexpr int64_t kRowsAtOnce = 32;

// From a map to one of half its sides, rounded up, by way of `neighbours` with four times the channels.
void run_patch_merging(const PatchMerging& p, const Map& m, const char* x, void* out, char* neighbours,
                       Threads threads) {
  const int64_t height = (m.height + 1) / 2, width = (m.width + 1) / 2, rows = m.batch * height * width;
  const int64_t bytes = m.channels * (m.bfloat16 ? 2 : 4);
  in_turns(threads, rows, kRowsAtOnce, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      const int64_t image = row / (height * width), y = row / width % height * 2, column = row % width * 2;
      for (int64_t which = 0; which < 4; which++) {  // column by column
        const int64_t map_y = y + which % 2, map_x = column + which / 2;
        char* to = neighbours + (4 * row + which) * bytes;
        if (map_y < m.height && map_x < m.width)
          std::memcpy(to, x + ((image * m.height + map_y) * m.width + map_x) * bytes, bytes);
        else
          std::memset(to, 0, bytes);
      }
    }
    if (p.norm_first)
      norm_in_place(p.norm, neighbours + 4 * begin * bytes, end - begin, 4 * m.channels, m.bfloat16, {nullptr, 1});
  });
  run_linear(neighbours, p.reduction.panels, p.reduction.bias, nullptr, out, rows, 4 * m.channels, 2 * m.channels, false,
             m.bfloat16, threads);
  if (!p.norm_first) norm_in_place(p.norm, out, rows, 2 * m.channels, m.bfloat16, threads);
}

// Images whose rows are contiguous; the steps count numbers.
struct Images {
  int64_t batch, channels, height, width, patch_height, patch_width, image_step, channel_step, row_step;
};

// From images to a map of `columns` channels, by way of `patches` of `depth` numbers, of which those that a patch does
// not have are zero, and so is what is beyond an image.
void run_patch_embed(const PatchEmbed& p, const Images& images, const char* from, void* out, char* patches,
                     int64_t depth, int64_t columns, bool bfloat16, Threads threads) {
  const int64_t height = (images.height + images.patch_height - 1) / images.patch_height;
  const int64_t width = (images.width + images.patch_width - 1) / images.patch_width;
  const int64_t rows = images.batch * height * width, size = bfloat16 ? 2 : 4;
  in_turns(threads, rows, kRowsAtOnce, [&](int64_t begin, int64_t end) {
    std::memset(patches + begin * depth * size, 0, (end - begin) * depth * size);
    for (int64_t row = begin; row < end; row++) {
      const int64_t image = row / (height * width), x = row % width * images.patch_width;
      const int64_t y = row / width % height * images.patch_height;
      const int64_t lines = std::min(images.patch_height, images.height - y);
      const int64_t bytes = std::min(images.patch_width, images.width - x) * size;
      for (int64_t channel = 0; channel < images.channels; channel++)
        for (int64_t line = 0; line < lines; line++)
          std::memcpy(patches + (row * depth + (channel * images.patch_height + line) * images.patch_width) * size,
                      from + (image * images.image_step + channel * images.channel_step +
                              (y + line) * images.row_step + x) * size,
                      bytes);
    }
  });
  run_linear(patches, p.proj.panels, p.proj.bias, nullptr, out, rows, depth, columns, false, bfloat16, threads);
  norm_in_place(p.norm, out, rows, columns, bfloat16, threads);
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

// x (batch, height, width, channels) to out, of half the sides, rounded up, and twice the channels. `sizes`: batch,
// height, width, channels. `neighbours` has as many rows as out and 4 * channels.
EXPORT void swin_patch_merging(const void* merging, const void* x, void* out, void* neighbours, const int64_t* sizes,
                               int32_t bfloat16, Parallel parallel, int64_t threads) {
  const Map map{sizes[0], sizes[1], sizes[2], sizes[3], 0, 0, bfloat16 != 0};
  AlignedArray<Phase> phases(3);
  together({parallel, threads}, phases.data(), [&](Threads team) {
    run_patch_merging(*static_cast<const PatchMerging*>(merging), map, static_cast<const char*>(x), out,
                      static_cast<char*>(neighbours), team);
  });
}

// Images to a map of `columns` channels. `sizes` are those of `Images`, `patches` has as many rows as out and `depth`.
EXPORT void swin_patch_embed(const void* embed, const void* images, void* out, void* patches, const int64_t* sizes,
                             int64_t depth, int64_t columns, int32_t bfloat16, Parallel parallel, int64_t threads) {
  Images shape;
  std::memcpy(&shape, sizes, sizeof shape);
  AlignedArray<Phase> phases(3);
  together({parallel, threads}, phases.data(), [&](Threads team) {
    run_patch_embed(*static_cast<const PatchEmbed*>(embed), shape, static_cast<const char*>(images), out,
                    static_cast<char*>(patches), depth, columns, bfloat16 != 0, team);
  });
}

}  // extern "C"
