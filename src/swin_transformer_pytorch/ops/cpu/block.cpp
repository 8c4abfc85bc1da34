// A backbone's parts in one call: blocks (arXiv 2103.14030, figure 3b; V2: 2111.09883, figure 1), and what is between
// stages. The threads go through all of their layers together, and none waits for another that the system has
// interrupted before it began.

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

// From x to out, by way of `normed`, as large, and `wide`, of the hidden or three times as many channels. `following` are
// the panels that come next.
void run_block(const Block& b, const Map& m, const void* x, void* out, void* normed, void* wide,
               const float* following, Threads threads) {
  const int64_t rows = m.rows(), width = m.channels;
  const auto norm = [&](const Norm& n, const void* from, const void* residual, void* to) {
    run_layer_norm(from, n.weight, n.bias, residual, to, rows, width, static_cast<float>(n.eps), m.bfloat16, threads);
  };
  const auto linear = [&](const Linear& l, const void* from, int64_t depth, const void* residual, void* to,
                          int64_t columns, bool with_gelu, const float* next) {
    run_linear(from, l.panels, l.bias, residual, to, rows, depth, columns, with_gelu, m.bfloat16, next, threads);
  };
  const auto attend = [&] {
    const int64_t sizes[] = {m.batch,         m.height,       m.width,   m.heads,  width / m.heads,
                             b.window_height, b.window_width, b.shift_y, b.shift_x};
    run_window_attention(wide, b.bias, true, b.pad_token, b.logit_scale, normed, nullptr, sizes, m.bfloat16, threads);
  };
  if (b.norm_first) {
    norm(b.norm1, x, nullptr, normed);
    linear(b.qkv, normed, width, nullptr, wide, 3 * width, false, b.proj.panels);
    attend();
    linear(b.proj, normed, width, x, out, width, false, b.fc1.panels);
    norm(b.norm2, out, nullptr, normed);
    linear(b.fc1, normed, width, nullptr, wide, m.hidden, true, b.fc2.panels);
    linear(b.fc2, wide, m.hidden, out, out, width, false, following);
  } else {
    linear(b.qkv, x, width, nullptr, wide, 3 * width, false, b.proj.panels);
    attend();
    linear(b.proj, normed, width, nullptr, wide, width, false, b.fc1.panels);
    norm(b.norm1, wide, x, out);
    linear(b.fc1, out, width, nullptr, wide, m.hidden, true, b.fc2.panels);
    linear(b.fc2, wide, m.hidden, nullptr, normed, width, false, following);
    norm(b.norm2, normed, out, out);
  }
}

void norm_in_place(const Norm& n, void* rows, int64_t count, int64_t width, bool bfloat16, Threads threads) {
  run_layer_norm(rows, n.weight, n.bias, nullptr, rows, count, width, static_cast<float>(n.eps), bfloat16, threads);
}

constexpr int64_t kRowsAtOnce = 32;

// From a map to one of half its sides, rounded up, by way of `neighbours` with four times the channels.
void run_patch_merging(const PatchMerging& p, const Map& m, const char* x, void* out, char* neighbours,
                       const float* following, Threads threads) {
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
             m.bfloat16, following, threads);
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
  run_linear(patches, p.proj.panels, p.proj.bias, nullptr, out, rows, depth, columns, false, bfloat16, nullptr,
             threads);
  norm_in_place(p.norm, out, rows, columns, bfloat16, threads);
}

// What the steps of a program are.
enum Kind : int64_t { kBlock, kPatchMerging, kPatchEmbed, kCopy };
constexpr int64_t kLoops[] = {7, 3, 3, 1};

// One of a program's steps, as Python packs it: a part, and the places in memory that it goes from and to, each an
// address out of those of the call and bytes from there on. Places to write are two besides.
struct Step {
  struct Place {
    int64_t base, offset;
  };
  int64_t kind;
  const void* part;
  Place x, out, first, second;
  int64_t sizes[11];
};

constexpr int64_t kBytesAtOnce = 1 << 16;

void copy(const char* from, char* to, int64_t bytes, Threads threads) {
  in_turns(threads, bytes, kBytesAtOnce,
           [&](int64_t begin, int64_t end) { std::memcpy(to + begin, from + begin, end - begin); });
}

// The panels that a step begins with, or null.
const float* first_panels(const Step& step) {
  switch (step.kind) {
    case kCopy: return nullptr;
    case kBlock: return static_cast<const Block*>(step.part)->qkv.panels;
    case kPatchMerging: return static_cast<const PatchMerging*>(step.part)->reduction.panels;
    default: return static_cast<const PatchEmbed*>(step.part)->proj.panels;
  }
}

void run_step(const Step& step, const float* following, char* const* bases, bool bfloat16, Threads threads) {
  const auto at = [&](const Step::Place& place) { return bases[place.base] + place.offset; };
  const int64_t* n = step.sizes;
  switch (step.kind) {
    case kBlock:
      return run_block(*static_cast<const Block*>(step.part), {n[0], n[1], n[2], n[3], n[4], n[5], bfloat16},
                       at(step.x), at(step.out), at(step.first), at(step.second), following, threads);
    case kPatchMerging:
      return run_patch_merging(*static_cast<const PatchMerging*>(step.part),
                               {n[0], n[1], n[2], n[3], 0, 0, bfloat16}, at(step.x), at(step.out), at(step.first),
                               following, threads);
    case kCopy: return copy(at(step.x), at(step.out), n[0], threads);
    default:
      return run_patch_embed(*static_cast<const PatchEmbed*>(step.part),
                             {n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8]}, at(step.x), at(step.out),
                             at(step.first), n[9], n[10], bfloat16, threads);
  }
}

}  // namespace

#define EXPORT __attribute__((visibility("default")))

extern "C" {

// Floats in a vector: the padded bias of a block has as many times the vectors that a window's keys fill.
EXPORT int32_t swin_lanes = kLanes;

// Steps one after the other, all in float32 or bfloat16. Their sizes are, of a block: batch, height, width, channels,
// hidden, heads, where `first` is as large as the map and `second` has max(3 * channels, hidden); of a merging: batch,
// height, width, channels, where `first` has as many rows as out and 4 * channels; of an embedding: those of `Images`,
// the depth and the columns, where `first` has as many rows as out and the depth; of a copy: its bytes.
EXPORT void swin_layers(const void* steps, int64_t count, void* bases, int32_t bfloat16, Parallel parallel,
                        int64_t threads) {
  const Step* step = static_cast<const Step*>(steps);
  int64_t loops = 0;
  for (int64_t i = 0; i < count; i++) loops += kLoops[step[i].kind];
  AlignedArray<Phase> phases(loops);
  together({parallel, threads}, phases.data(), [&](Threads team) {
    for (int64_t i = 0; i < count; i++)
      run_step(step[i], i + 1 < count ? first_panels(step[i + 1]) : nullptr, static_cast<char* const*>(bases),
               bfloat16 != 0, team);
  });
}

}  // extern "C"
