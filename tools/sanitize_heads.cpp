// Random cases of the CPU's 3x3 convolutions and of regions for `sanitize_cpu_kernel.py`: each is compared with plain
// loops in double precision. Arrays have exactly their size. The exit code is the number of wrong cases, at most 100.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "regions.cpp"
#include "winograd.cpp"
#include "sanitize_threads.h"

namespace {

using Array = std::vector<float>;

int64_t between(std::mt19937& chance, int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(chance);
}

Array normal(int64_t count, std::mt19937& chance) {
  std::normal_distribution<float> draw;
  Array array(count);
  for (float& x : array) x = draw(chance);
  return array;
}

double larger_or_nan(double a, double b) { return a <= b || b != b ? b : a; }

// Calls run(pixel of the result, pixel of the map, tap) for all that a convolution padded by 1 brings together.
template <typename Run>
void over_taps(int64_t batch, int64_t height, int64_t width, const Run& run) {
  for (int64_t b = 0; b < batch; b++)
    for (int64_t y = 0; y < height; y++)
      for (int64_t x = 0; x < width; x++)
        for (int64_t i = 0; i < 3; i++)
          for (int64_t j = 0; j < 3; j++) {
            const int64_t v = y + i - 1, u = x + j - 1;
            if (v < 0 || v >= height || u < 0 || u >= width) continue;
            run((b * height + y) * width + x, (b * height + v) * width + u, i * 3 + j);
          }
}

double convolution_error(std::mt19937& chance) {
  const int64_t batch = between(chance, 0, 2), height = between(chance, 1, 9), width = between(chance, 1, 9);
  const int64_t channels = 16 * between(chance, 1, 2), columns = 16 * between(chance, 1, 5);
  const int64_t pixels = batch * height * width;
  const bool with_bias = between(chance, 0, 1) == 1, relu = between(chance, 0, 1) == 1;
  const Array x = normal(pixels * channels, chance), grad = normal(pixels * columns, chance);
  const Array weight = normal(columns * channels * 9, chance), bias = normal(with_bias ? columns : 0, chance);
  Array packed(36 * columns * channels), out(pixels * columns), back(pixels * channels), taps(9 * channels * columns);
  swin_winograd_pack(weight.data(), columns, channels, 0, packed.data(), plain_threads, kThreads);
  swin_winograd(x.data(), packed.data(), with_bias ? bias.data() : nullptr, out.data(), batch, height, width, channels,
                columns, relu, plain_threads, kThreads);
  swin_winograd_pack(weight.data(), columns, channels, 1, packed.data(), plain_threads, kThreads);
  swin_winograd(grad.data(), packed.data(), nullptr, back.data(), batch, height, width, columns, channels, 0,
                plain_threads, kThreads);
  if (pixels > 0) {
    int64_t room;
    swin_winograd_space(channels, columns, &room, plain_threads, kThreads);
    Array space(room);
    swin_winograd_weight_gradient(x.data(), grad.data(), taps.data(), space.data(), batch, height, width, channels,
                                  columns, plain_threads, kThreads);
  }
  std::vector<double> right_out(out.size()), right_back(back.size()), right_taps(taps.size());
  for (int64_t p = 0; p < pixels; p++)
    for (int64_t d = 0; d < columns; d++) right_out[p * columns + d] = with_bias ? bias[d] : 0.0;
  over_taps(batch, height, width, [&](int64_t to, int64_t from, int64_t tap) {
    for (int64_t c = 0; c < channels; c++)
      for (int64_t d = 0; d < columns; d++) {
        const double w = weight[(d * channels + c) * 9 + tap], a = x[from * channels + c], g = grad[to * columns + d];
        right_out[to * columns + d] += a * w;
        right_back[from * channels + c] += g * w;
        right_taps[(tap * channels + c) * columns + d] += a * g;
      }
  });
  double most = 0;
  const auto compare = [&](const Array& found, const std::vector<double>& right, double size, bool cut) {
    for (size_t i = 0; i < found.size(); i++) {
      const double wanted = cut && right[i] < 0 ? 0 : right[i];
      most = larger_or_nan(std::abs(found[i] - wanted) / (2e-5 * std::sqrt(size) + 2e-5), most);
    }
  };
  compare(out, right_out, 9.0 * static_cast<double>(channels), relu);
  compare(back, right_back, 9.0 * static_cast<double>(columns), false);
  compare(taps, right_taps, static_cast<double>(pixels), false);
  return most;
}

// The mean over a cell's samples, one by one; add(weight, place of the map) for each place that a sample looks at.
template <typename Add>
void over_samples(const float* roi, float scale, int64_t height, int64_t width, int64_t size, int64_t y, int64_t x,
                  const Add& add) {
  const float left = roi[1] * scale - 0.5f, top = roi[2] * scale - 0.5f;
  const float wide = roi[3] * scale - 0.5f - left, high = roi[4] * scale - 0.5f - top;
  const auto cells = static_cast<float>(size);
  const auto down = static_cast<int64_t>(std::max(std::ceil(high / cells), 0.0f));
  const auto across = static_cast<int64_t>(std::max(std::ceil(wide / cells), 0.0f));
  for (int64_t i = 0; i < down; i++)
    for (int64_t j = 0; j < across; j++) {
      float v = top + static_cast<float>(y) * (high / cells) +
                (static_cast<float>(i) + 0.5f) * (high / cells) / static_cast<float>(down);
      float u = left + static_cast<float>(x) * (wide / cells) +
                (static_cast<float>(j) + 0.5f) * (wide / cells) / static_cast<float>(across);
      if (v < -1 || v > static_cast<float>(height) || u < -1 || u > static_cast<float>(width)) continue;
      v = std::min(std::max(v, 0.0f), static_cast<float>(height - 1));
      u = std::min(std::max(u, 0.0f), static_cast<float>(width - 1));
      const auto v0 = static_cast<int64_t>(v), u0 = static_cast<int64_t>(u);
      const int64_t v1 = std::min(v0 + 1, height - 1), u1 = std::min(u0 + 1, width - 1);
      const double fv = v - static_cast<float>(v0), fu = u - static_cast<float>(u0);
      const double part = 1.0 / static_cast<double>(down * across);
      add(part * (1 - fv) * (1 - fu), v0 * width + u0), add(part * (1 - fv) * fu, v0 * width + u1);
      add(part * fv * (1 - fu), v1 * width + u0), add(part * fv * fu, v1 * width + u1);
    }
}

double region_error(std::mt19937& chance) {
  const int64_t batch = between(chance, 1, 2), levels = between(chance, 1, 3), size = between(chance, 1, 8);
  const int64_t channels = 16 * between(chance, 1, 11), n = between(chance, 0, 9), cells = size * size;
  const bool channels_first = between(chance, 0, 1) == 1;
  std::vector<Array> maps, grads;
  std::vector<std::vector<double>> right_grads;
  std::vector<float*> places, grad_places;
  std::vector<int64_t> sizes;
  Array scales;
  for (int64_t i = 0; i < levels; i++) {
    sizes.push_back(between(chance, 1, 20)), sizes.push_back(between(chance, 1, 20));
    scales.push_back(0.5f / static_cast<float>(i + 1));
    maps.push_back(normal(batch * sizes[2 * i] * sizes[2 * i + 1] * channels, chance));
    grads.emplace_back(maps.back().size()), right_grads.emplace_back(maps.back().size());
  }
  for (int64_t i = 0; i < levels; i++) places.push_back(maps[i].data()), grad_places.push_back(grads[i].data());
  Array rois;
  std::vector<int64_t> level;
  std::uniform_real_distribution<float> corner(-20, 60), side(-5, 60);
  for (int64_t i = 0; i < n; i++) {
    const float x = corner(chance), y = corner(chance);
    const Array row{static_cast<float>(between(chance, 0, batch - 1)), x, y, x + side(chance), y + side(chance)};
    rois.insert(rois.end(), row.begin(), row.end());
    level.push_back(between(chance, 0, levels - 1));
    const auto chosen = between(chance, 0, 19);
    if (chosen < 3) rois[5 * i + 3] = chosen == 0 ? NAN : chosen == 1 ? INFINITY : 3e38f;
  }
  Array out(n * cells * channels);
  const Array grad = normal(n * cells * channels, chance);
  swin_roi_align(places.data(), sizes.data(), scales.data(), levels, rois.data(), level.data(), out.data(), n, channels,
                 size, channels_first, 0, plain_threads, kThreads);
  swin_roi_align(grad_places.data(), sizes.data(), scales.data(), levels, rois.data(), level.data(),
                 const_cast<float*>(grad.data()), n, channels, size, channels_first, 1, plain_threads, kThreads);
  double most = 0;
  for (int64_t r = 0; r < n; r++) {
    const int64_t l = level[r], height = sizes[2 * l], width = sizes[2 * l + 1];
    const int64_t start = static_cast<int64_t>(rois[5 * r]) * height * width;
    const bool finite = std::abs(rois[5 * r + 3]) < 1e6f;
    for (int64_t k = 0; k < cells; k++)
      for (int64_t c = 0; c < channels; c++) {
        const int64_t at = (r * cells * channels) + (channels_first ? c * cells + k : k * channels + c);
        double mean = 0;
        if (finite)
          over_samples(&rois[5 * r], scales[l], height, width, size, k / size, k % size, [&](double weight, int64_t p) {
            mean += weight * maps[l][(start + p) * channels + c];
            right_grads[l][(start + p) * channels + c] += weight * grad[at];
          });
        most = larger_or_nan(std::abs(out[at] - mean) / 2e-4, most);
      }
  }
  for (int64_t l = 0; l < levels; l++)
    for (size_t i = 0; i < grads[l].size(); i++)
      most = larger_or_nan(std::abs(grads[l][i] - right_grads[l][i]) / 1e-3, most);
  return most;
}

// 0 where the boxes kept are those of a plain loop.
double suppression_error(std::mt19937& chance) {
  const int64_t n = between(chance, 0, 200), groups = between(chance, 1, 5), most = between(chance, 0, 60);
  std::uniform_real_distribution<float> corner(0, 40), side(0, 30);
  Array boxes;
  std::vector<int64_t> group, kept(std::min(n, most)), right;
  for (int64_t i = 0; i < n; i++) {
    const float x = corner(chance), y = corner(chance);
    for (const float value : {x, y, x + side(chance), y + side(chance)}) boxes.push_back(value);
    group.push_back(between(chance, 0, groups - 1));
  }
  int64_t count = -1;
  swin_nms(boxes.data(), group.data(), n, groups, 0.3, most, kept.data(), &count, plain_threads, kThreads);
  for (int64_t i = 0; i < n && static_cast<int64_t>(right.size()) < most; i++) {
    bool free = true;
    for (const int64_t j : right) {
      if (group[j] != group[i]) continue;
      const float *a = &boxes[4 * j], *b = &boxes[4 * i];
      const double wide = std::min(a[2], b[2]) - std::max(a[0], b[0]), high = std::min(a[3], b[3]) - std::max(a[1], b[1]);
      const double inter = std::max(wide, 0.0) * std::max(high, 0.0);
      const double all = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter;
      if (inter / all > 0.3) free = false;
    }
    if (free) right.push_back(i);
  }
  kept.resize(count);
  return kept == right ? 0 : 2;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 3) return 101;
  std::mt19937 chance(static_cast<uint32_t>(std::atoi(arguments[2])));
  int wrong = 0;
  for (int i = 0; i < std::atoi(arguments[1]); i++) {
    const double errors[] = {convolution_error(chance), region_error(chance), suppression_error(chance)};
    for (const double error : errors)
      if (!(error <= 1)) std::printf("case %d is off by %g times what rounding allows\n", i, error), wrong++;
  }
  return std::min(wrong, 100);
}
