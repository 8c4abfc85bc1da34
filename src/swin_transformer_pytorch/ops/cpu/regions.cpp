// Regions of interest in float32: features of regions of channels-last maps, forward and backward, and suppression.
//
// The mean over a cell's samples is a sum over places of the map, whose weights are products of one for the row and one
// for the column: each place is read once a cell, all its channels in vectors. The threads are the caller's.

#include "turns.h"
#include "vectors.h"

namespace {

constexpr int64_t kMostAtOnce = 8;      // vectors of channels that are summed up in registers
constexpr float kMostSamples = 1 << 20;  // of a cell along a side; a region of more, or of no finite side, has none

struct Level {
  int64_t height, width;
  float scale;
};

// For the cells along one side of a region: the first place of the map that each looks at, how many, and their weights.
class Side {
 public:
  Side(int64_t cells, int64_t length) : room_(length + 2), first_(cells), count_(cells), weights_(cells * room_) {}

  // A region from `low` to `high`, in places of a map of that length. As many samples a cell as it has places there.
  // Returns how many they are, 0 if none.
  int64_t set(float low, float high, int64_t length, int64_t cells) {
    const float side = high - low, cell = side / static_cast<float>(cells);
    const float wanted = std::ceil(side / static_cast<float>(cells));
    const int64_t samples = wanted > 0 && wanted < kMostSamples ? static_cast<int64_t>(wanted) : 0;
    for (int64_t i = 0; i < cells; i++) {
      first_[i] = 0, count_[i] = 0;
      float* weights = weights_.data() + i * room_;
      for (int64_t s = 0; s < samples; s++) {
        float at = low + static_cast<float>(i) * cell +
                   (static_cast<float>(s) + 0.5f) * cell / static_cast<float>(samples);
        if (!(at >= -1.0f && at <= static_cast<float>(length))) continue;
        at = std::max(at, 0.0f);
        int64_t lower = static_cast<int64_t>(at), upper = lower + 1;
        if (lower >= length - 1) lower = upper = length - 1, at = static_cast<float>(lower);
        const float fraction = at - static_cast<float>(lower);
        if (count_[i] == 0) first_[i] = lower;
        for (; count_[i] < upper - first_[i] + 1; count_[i]++) weights[count_[i]] = 0;
        weights[lower - first_[i]] += 1 - fraction;
        weights[upper - first_[i]] += fraction;
      }
    }
    return samples;
  }
  int64_t first(int64_t cell) const { return first_[cell]; }
  int64_t count(int64_t cell) const { return count_[cell]; }
  const float* weights(int64_t cell) const { return weights_.data() + cell * room_; }

 private:
  int64_t room_;
  AlignedArray<int64_t> first_, count_;
  Floats weights_;
};

// One region's rows and columns on its map.
struct Region {
  Side rows, columns;
  float factor = 0;  // of the sum, to be a mean
  Region(int64_t size, int64_t longest) : rows(size, longest), columns(size, longest) {}
  void set(const float* roi, Level level, int64_t size) {
    const int64_t down = rows.set(roi[2] * level.scale - 0.5f, roi[4] * level.scale - 0.5f, level.height, size);
    const int64_t across = columns.set(roi[1] * level.scale - 0.5f, roi[3] * level.scale - 0.5f, level.width, size);
    factor = 1.0f / static_cast<float>(std::max<int64_t>(down * across, 1));
  }
};

int64_t longest_side(const Level* levels, int64_t count) {
  int64_t longest = 1;
  for (int64_t i = 0; i < count; i++) longest = std::max({longest, levels[i].height, levels[i].width});
  return longest;
}

template <int vectors>
void cell_mean(const float* map, int64_t channels, int64_t width, const Region& region, int64_t y, int64_t x,
               float* to) {
  Vec total[vectors] = {};
  const float *down = region.rows.weights(y), *across = region.columns.weights(x);
  for (int64_t i = 0; i < region.rows.count(y); i++) {
    const float* row = map + ((region.rows.first(y) + i) * width + region.columns.first(x)) * channels;
    for (int64_t j = 0; j < region.columns.count(x); j++, row += channels) {
      const Vec weight = splat(down[i] * across[j]);
      for (int v = 0; v < vectors; v++) total[v] += weight * load(row + v * kLanes);
    }
  }
  for (int v = 0; v < vectors; v++) store(to + v * kLanes, total[v] * region.factor);
}

template <int vectors>
void add_to_cell(float* map, int64_t channels, int64_t width, const Region& region, int64_t y, int64_t x,
                 const float* from) {
  Vec grad[vectors];
  for (int v = 0; v < vectors; v++) grad[v] = load(from + v * kLanes) * region.factor;
  const float *down = region.rows.weights(y), *across = region.columns.weights(x);
  for (int64_t i = 0; i < region.rows.count(y); i++) {
    float* row = map + ((region.rows.first(y) + i) * width + region.columns.first(x)) * channels;
    for (int64_t j = 0; j < region.columns.count(x); j++, row += channels) {
      const Vec weight = splat(down[i] * across[j]);
      for (int v = 0; v < vectors; v++) store(row + v * kLanes, load(row + v * kLanes) + weight * grad[v]);
    }
  }
}

// Calls run(vectors, channel) for stretches of channels, `vectors` being a constant.
template <typename Run>
inline void over_channels(int64_t begin, int64_t end, const Run& run) {
  while (end - begin >= kMostAtOnce * kLanes) run(std::integral_constant<int, kMostAtOnce>{}, begin), begin += kMostAtOnce * kLanes;
  for (; begin < end; begin += kLanes) run(std::integral_constant<int, 1>{}, begin);
}

// out: (n, size, size, channels), or (n, channels, size, size).
void align(const float* const* maps, const Level* levels, int64_t level_count, const float* rois, const int64_t* places,
           float* out, int64_t n, int64_t channels, int64_t size, bool channels_first, Threads threads) {
  const int64_t cells = size * size, longest = longest_side(levels, level_count);
  in_turns(threads, n, [&](int64_t begin, int64_t end) {
    Region region(size, longest);
    Floats cell(channels_first ? cells * channels : 1);
    for (int64_t i = begin; i < end; i++) {
      const Level level = levels[places[i]];
      const float* roi = rois + i * 5;
      region.set(roi, level, size);
      const float* map = maps[places[i]] + static_cast<int64_t>(roi[0]) * level.height * level.width * channels;
      float *to = out + i * cells * channels, *rows = channels_first ? cell.data() : to;
      for (int64_t y = 0; y < size; y++)
        for (int64_t x = 0; x < size; x++)
          over_channels(0, channels, [&](auto vectors, int64_t c) {
            cell_mean<vectors.value>(map + c, channels, level.width, region, y, x, rows + (y * size + x) * channels + c);
          });
      if (!channels_first) continue;
      for (int64_t c = 0; c < channels; c++)
        for (int64_t k = 0; k < cells; k++) to[c * cells + k] = rows[k * channels + c];
    }
  });
}

// Adds to the maps' gradients. Threads have channels of their own, so that sums have one order.
void align_backward(float* const* maps, const Level* levels, int64_t level_count, const float* rois,
                    const int64_t* places, const float* grad, int64_t n, int64_t channels, int64_t size,
                    bool channels_first, Threads threads) {
  const int64_t cells = size * size, longest = longest_side(levels, level_count), some = 4 * kLanes;
  in_turns(threads, (channels + some - 1) / some, 1, [&](int64_t part, int64_t) {
    const int64_t begin = part * some, end = std::min(channels, begin + some), wide = end - begin;
    Region region(size, longest);
    Floats cell(cells * wide);
    for (int64_t i = 0; i < n; i++) {
      const Level level = levels[places[i]];
      const float* roi = rois + i * 5;
      region.set(roi, level, size);
      float* map = maps[places[i]] + static_cast<int64_t>(roi[0]) * level.height * level.width * channels;
      const float* from = grad + i * cells * channels;
      if (channels_first)
        for (int64_t c = 0; c < wide; c++)
          for (int64_t k = 0; k < cells; k++) cell[k * wide + c] = from[(begin + c) * cells + k];
      else
        for (int64_t k = 0; k < cells; k++) std::memcpy(&cell[k * wide], from + k * channels + begin, wide * sizeof(float));
      for (int64_t y = 0; y < size; y++)
        for (int64_t x = 0; x < size; x++)
          for (int64_t c = 0; c < wide; c += kLanes)
            add_to_cell<1>(map + begin + c, channels, level.width, region, y, x, &cell[(y * size + x) * wide + c]);
    }
  });
}

// Overlaps are compared with a threshold, so each step is rounded as it is written: nothing is contracted.
#if defined(__clang__)
#define SWIN_AS_WRITTEN _Pragma("clang fp contract(off)")
#define SWIN_UNCONTRACTED
#else
#define SWIN_AS_WRITTEN
#define SWIN_UNCONTRACTED __attribute__((optimize("fp-contract=off")))
#endif

// Boxes that were kept, of one group: their corners and areas, one array each.
struct Kept {
  float *x0, *y0, *x1, *y1, *area;
  int64_t count;
};

SWIN_UNCONTRACTED bool is_overlapped(const Kept& kept, const float* box, float area, float threshold) {
  SWIN_AS_WRITTEN
  for (int64_t first = 0; first < kept.count; first += 64) {
    const int64_t last = std::min(first + 64, kept.count);
    int32_t over = 0;
    for (int64_t i = first; i < last; i++) {
      const float x0 = kept.x0[i] > box[0] ? kept.x0[i] : box[0], y0 = kept.y0[i] > box[1] ? kept.y0[i] : box[1];
      const float x1 = kept.x1[i] < box[2] ? kept.x1[i] : box[2], y1 = kept.y1[i] < box[3] ? kept.y1[i] : box[3];
      const float width = x1 - x0 > 0 ? x1 - x0 : 0, height = y1 - y0 > 0 ? y1 - y0 : 0;
      const float inter = width * height;
      const float all = kept.area[i] + area - inter;
      over |= inter / all > threshold;
    }
    if (over) return true;
  }
  return false;
}

SWIN_UNCONTRACTED float area_of(const float* box) {
  SWIN_AS_WRITTEN
  return (box[2] - box[0]) * (box[3] - box[1]);
}

}  // namespace

#define EXPORT __attribute__((visibility("default")))

extern "C" {

// Maps are (B, height, width, channels); sizes has (height, width) of each. Regions are rows (image, x0, y0, x1, y1).
EXPORT void swin_roi_align(float* const* maps, const int64_t* sizes, const float* scales, int64_t level_count,
                           const float* rois, const int64_t* places, float* values, int64_t n, int64_t channels,
                           int64_t size, int32_t channels_first, int32_t backward, Parallel parallel, int64_t threads) {
  AlignedArray<Level> levels(level_count);
  for (int64_t i = 0; i < level_count; i++) levels[i] = {sizes[2 * i], sizes[2 * i + 1], scales[i]};
  const Threads team{parallel, threads};
  if (backward)
    align_backward(maps, levels.data(), level_count, rois, places, values, n, channels, size, channels_first != 0,
                   team);
  else
    align(maps, levels.data(), level_count, rois, places, values, n, channels, size, channels_first != 0, team);
}

// boxes (n, 4), best first, and the group of each, from 0 to less than `groups`. Writes the places of those that no
// better one of their group overlaps by more than the threshold, of the first `most` of them, and how many they are.
EXPORT void swin_nms(const float* boxes, const int64_t* group, int64_t n, int64_t groups, double iou, int64_t most,
                     int64_t* kept, int64_t* count, Parallel, int64_t) {
  // The largest float that is not above it: floats are then above both or neither.
  float threshold = static_cast<float>(iou);
  if (static_cast<double>(threshold) > iou) threshold = std::nextafter(threshold, -INFINITY);
  AlignedArray<int64_t> sizes(groups);
  for (int64_t i = 0; i < n; i++) sizes[group[i]]++;
  int64_t room = 0;
  AlignedArray<Kept> found(groups);
  for (int64_t g = 0; g < groups; g++) room += std::min(sizes[g], most);
  Floats space(5 * room);
  float* next = space.data();
  for (int64_t g = 0; g < groups; g++) {
    const int64_t length = std::min(sizes[g], most);
    found[g] = {next, next + length, next + 2 * length, next + 3 * length, next + 4 * length, 0};
    next += 5 * length;
  }
  *count = 0;
  for (int64_t i = 0; i < n && *count < most; i++) {
    const float* box = boxes + 4 * i;
    Kept& same = found[group[i]];
    const float area = area_of(box);
    if (is_overlapped(same, box, area, threshold)) continue;
    same.x0[same.count] = box[0], same.y0[same.count] = box[1], same.x1[same.count] = box[2];
    same.y1[same.count] = box[3], same.area[same.count] = area;
    same.count++;
    kept[(*count)++] = i;
  }
}

}  // extern "C"
