// Random cases of layer normalisation, whole blocks and what is between stages for `sanitize_cpu_kernel.py`: norms are
// compared with plain loops in double precision, the others with their layers called one by one, to the bit. Arrays have
// exactly their size. The exit code is the number of wrong cases, at most 100.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "block.cpp"
#include "layer_norm.cpp"
#include "linear.cpp"
#include "sanitize_threads.h"
#include "window_attention.cpp"

namespace {

using Array = std::vector<float>;

struct Chance {
  std::mt19937 engine;
  int64_t between(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(engine); }
  Array normal(int64_t count, float scale = 1.0f) {
    std::normal_distribution<float> draw(0.0f, scale);
    Array array(count);
    for (float& x : array) x = draw(engine);
    return array;
  }
};

// The bytes of a map, of floats or rounded.
std::vector<char> stored(const Array& array, bool bfloat16) {
  std::vector<char> bytes(array.size() * (bfloat16 ? 2 : 4));
  for (size_t i = 0; i < array.size(); i++) {
    BFloat16 narrow;
    store_number(&narrow, array[i]);
    std::memcpy(bytes.data() + i * (bfloat16 ? 2 : 4), bfloat16 ? static_cast<void*>(&narrow) : (void*)&array[i],
                bfloat16 ? 2 : 4);
  }
  return bytes;
}

double number(const std::vector<char>& bytes, int64_t i, bool bfloat16) {
  BFloat16 narrow;
  float wide;
  std::memcpy(&narrow, bytes.data() + (bfloat16 ? 2 * i : 0), 2);
  std::memcpy(&wide, bytes.data() + (bfloat16 ? 0 : 4 * i), 4);
  return bfloat16 ? to_float(narrow) : wide;
}

bool norm_is_right(Chance& chance) {
  const int64_t rows = chance.between(0, 300), width = 16 * chance.between(1, 20);
  const bool bfloat16 = chance.between(0, 1) == 1, with_residual = chance.between(0, 1) == 1;
  const auto x = stored(chance.normal(rows * width, 3.0f), bfloat16);
  const auto residual = stored(chance.normal(with_residual ? rows * width : 0), bfloat16);
  const Array weight = chance.normal(width), bias = chance.normal(width);
  std::vector<char> out(x.size());
  swin_layer_norm(x.data(), weight.data(), bias.data(), with_residual ? residual.data() : nullptr, out.data(), rows,
                  width, 1e-5f, bfloat16, plain_threads, kThreads);
  for (int64_t row = 0; row < rows; row++) {
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < width; i++) mean += number(x, row * width + i, bfloat16) / static_cast<double>(width);
    for (int64_t i = 0; i < width; i++)
      variance += std::pow(number(x, row * width + i, bfloat16) - mean, 2) / static_cast<double>(width);
    for (int64_t i = 0; i < width; i++) {
      const int64_t at = row * width + i;
      double y = (number(x, at, bfloat16) - mean) / std::sqrt(variance + 1e-5) * weight[i] + bias[i];
      if (with_residual) y += number(residual, at, bfloat16);
      if (!(std::abs(number(out, at, bfloat16) - y) <= std::abs(y) * (bfloat16 ? 4e-3 : 1e-6) + 1e-5)) return false;
    }
  }
  return true;
}

// A linear layer's panels and bias.
struct Weights {
  Array panels, bias;
  Weights(int64_t depth, int64_t columns, bool bfloat16, Chance& chance) : bias(chance.normal(columns)) {
    const auto weight = stored(chance.normal(depth * columns, 1.0f / std::sqrt(static_cast<float>(depth))), bfloat16);
    Array words(weight.size() / 4);
    std::memcpy(words.data(), weight.data(), weight.size());
    panels.resize(words.size());
    swin_pack(words.data(), columns, depth / (bfloat16 ? 2 : 1), 1, panels.data(), plain_threads, kThreads);
  }
  Linear linear() const { return {panels.data(), bias.data()}; }
};

bool block_is_the_sum_of_its_layers(Chance& chance) {
  const bool bfloat16 = chance.between(0, 1) == 1, norm_first = chance.between(0, 1) == 1;
  const int64_t heads = 2 * chance.between(1, 3), width = 16 * heads, hidden = 32 * chance.between(1, 6);
  const int64_t batch = chance.between(1, 3), height = chance.between(1, 15), breadth = chance.between(1, 15);
  const int64_t window_height = chance.between(1, 8), window_width = chance.between(1, 8);
  const int64_t tokens = window_height * window_width, rows = batch * height * breadth;
  const int64_t keys = (tokens + kLanes - 1) / kLanes * kLanes;
  const Weights qkv(width, 3 * width, bfloat16, chance), proj(width, width, bfloat16, chance);
  const Weights fc1(width, hidden, bfloat16, chance), fc2(hidden, width, bfloat16, chance);
  const Array weight1 = chance.normal(width), bias1 = chance.normal(width), weight2 = chance.normal(width);
  const Array scores = chance.normal(heads * tokens * tokens);
  Array padded(heads * tokens * keys, kNoKey), scale = chance.normal(heads);
  for (int64_t row = 0; row < heads * tokens; row++)
    std::copy_n(scores.data() + row * tokens, tokens, padded.data() + row * keys);
  const auto padding = stored(chance.normal(3 * width), bfloat16), x = stored(chance.normal(rows * width), bfloat16);
  const int64_t shift_y = chance.between(0, window_height - 1), shift_x = chance.between(0, window_width - 1);
  const Block block{norm_first, window_height, window_width, shift_y, shift_x, {weight1.data(), bias1.data(), 1e-5},
                    {weight2.data(), bias1.data(), 1e-5}, qkv.linear(), proj.linear(), fc1.linear(), fc2.linear(),
                    padded.data(), norm_first ? nullptr : scale.data(), padding.data()};
  const int64_t sizes[] = {batch, height, breadth, width, hidden, heads};
  std::vector<char> out(x.size()), normed(x.size()), wide(x.size() / width * std::max(3 * width, hidden));
  // From a copy, in place.
  void* bases[] = {const_cast<char*>(x.data()), normed.data(), wide.data(), out.data()};
  Step steps[3] = {{kCopy, nullptr, {0, 0}, {3, 0}, {1, 0}, {2, 0}, {static_cast<int64_t>(x.size())}},
                   {kBlock, &block, {3, 0}, {3, 0}, {1, 0}, {2, 0}, {}},
                   {kBlock, &block, {3, 0}, {3, 0}, {1, 0}, {2, 0}, {}}};
  for (int i = 1; i < 3; i++) std::copy_n(sizes, 6, steps[i].sizes);
  swin_layers(steps, 3, bases, bfloat16, plain_threads, kThreads);

  std::vector<char> now = x, a(x.size()), b(x.size()), c(wide.size());
  const int64_t geometry[] = {batch, height, breadth, heads, width / heads, window_height, window_width, shift_y, shift_x};
  const auto linear = [&](const Weights& part, const void* from, int64_t depth, const void* residual, void* to,
                          int64_t columns, bool with_gelu) {
    swin_linear(from, part.panels.data(), part.bias.data(), residual, to, rows, depth, columns, with_gelu, bfloat16,
                plain_threads, kThreads);
  };
  const auto norm = [&](const Array& weight, const void* from, const void* residual, void* to) {
    swin_layer_norm(from, weight.data(), bias1.data(), residual, to, rows, width, 1e-5f, bfloat16, plain_threads,
                    kThreads);
  };
  for (int64_t i = 0; i < 2; i++) {
    if (norm_first) norm(weight1, now.data(), nullptr, a.data());
    linear(qkv, norm_first ? a.data() : now.data(), width, nullptr, c.data(), 3 * width, false);
    swin_window_attention_forward(c.data(), scores.data(), padding.data(), norm_first ? nullptr : scale.data(), a.data(),
                                  nullptr, geometry, bfloat16, plain_threads, kThreads);
    linear(proj, a.data(), width, norm_first ? now.data() : nullptr, b.data(), width, false);
    if (!norm_first) norm(weight1, b.data(), now.data(), a.data());
    const std::vector<char> middle = norm_first ? b : a;
    if (norm_first) norm(weight2, middle.data(), nullptr, a.data());
    linear(fc1, a.data(), width, nullptr, c.data(), hidden, true);
    linear(fc2, c.data(), hidden, norm_first ? middle.data() : nullptr, b.data(), width, false);
    if (!norm_first) norm(weight2, b.data(), middle.data(), a.data());
    now = norm_first ? b : a;
  }
  return now == out;
}

// Patch merging and embedding: what they gather, element by element, through the same layers.
bool patches_are_gathered(Chance& chance) {
  const bool bfloat16 = chance.between(0, 1) == 1, norm_first = chance.between(0, 1) == 1;
  const int64_t size = bfloat16 ? 2 : 4, batch = chance.between(1, 3);
  const int64_t channels = 16 * chance.between(1, 4), height = chance.between(1, 13), width = chance.between(1, 13);
  const int64_t rows = batch * ((height + 1) / 2) * ((width + 1) / 2);
  const auto layers = [&](const Weights& weights, const Norm& norm, std::vector<char>& from, int64_t count, int64_t depth,
                          int64_t columns, bool first) {
    std::vector<char> result(count * columns * size);
    if (first)
      swin_layer_norm(from.data(), norm.weight, norm.bias, nullptr, from.data(), count, depth, 1e-5f, bfloat16,
                      plain_threads, kThreads);
    swin_linear(from.data(), weights.panels.data(), weights.bias.data(), nullptr, result.data(), count, depth, columns, 0,
                bfloat16, plain_threads, kThreads);
    if (!first)
      swin_layer_norm(result.data(), norm.weight, norm.bias, nullptr, result.data(), count, columns, 1e-5f, bfloat16,
                      plain_threads, kThreads);
    return result;
  };
  const Array factors = chance.normal(4 * channels), terms = chance.normal(4 * channels);
  const Norm norm{factors.data(), terms.data(), 1e-5};
  const Weights reduction(4 * channels, 2 * channels, bfloat16, chance);
  const auto x = stored(chance.normal(batch * height * width * channels), bfloat16);
  std::vector<char> gathered(rows * 4 * channels * size), between(gathered.size()), out(rows * 2 * channels * size);
  for (int64_t row = 0; row < rows; row++)
    for (int64_t i = 0; i < 4 * channels; i++) {
      const int64_t image = row / (((height + 1) / 2) * ((width + 1) / 2)), which = i / channels;
      const int64_t y = row / ((width + 1) / 2) % ((height + 1) / 2) * 2 + which % 2;
      const int64_t column = row % ((width + 1) / 2) * 2 + which / 2;
      if (y < height && column < width)
        std::memcpy(&gathered[(row * 4 * channels + i) * size],
                    &x[(((image * height + y) * width + column) * channels + i % channels) * size], size);
    }
  const PatchMerging merging{norm_first, norm, reduction.linear()};
  void* bases[] = {const_cast<char*>(x.data()), between.data(), out.data()};
  const Step merge{kPatchMerging, &merging, {0, 0}, {2, 0}, {1, 0}, {1, 0}, {batch, height, width, channels}};
  swin_layers(&merge, 1, bases, bfloat16, plain_threads, kThreads);
  if (out != layers(reduction, norm, gathered, rows, 4 * channels, 2 * channels, norm_first)) return false;

  const int64_t patch_height = chance.between(1, 5), patch_width = chance.between(1, 5), planes = chance.between(1, 4);
  const int64_t depth = (planes * patch_height * patch_width + 31) / 32 * 32;
  const int64_t down = (height + patch_height - 1) / patch_height, across = (width + patch_width - 1) / patch_width;
  const Weights proj(depth, channels, bfloat16, chance);
  const auto images = stored(chance.normal(batch * planes * height * width), bfloat16);
  std::vector<char> cut(batch * down * across * depth * size), space(cut.size());
  std::vector<char> map(batch * down * across * channels * size);
  for (int64_t i = 0; i < batch * planes * height * width; i++) {
    const int64_t px = i % width, y = i / width % height, plane = i / (width * height) % planes;
    const int64_t image = i / (width * height * planes);
    const int64_t row = (image * down + y / patch_height) * across + px / patch_width;
    const int64_t at = (plane * patch_height + y % patch_height) * patch_width + px % patch_width;
    std::memcpy(&cut[(row * depth + at) * size], &images[i * size], size);
  }
  const PatchEmbed embed{proj.linear(), norm};
  void* places[] = {const_cast<char*>(images.data()), space.data(), map.data()};
  const Step step{kPatchEmbed, &embed, {0, 0}, {2, 0}, {1, 0}, {1, 0},
                  {batch, planes, height, width, patch_height, patch_width, planes * height * width, height * width,
                   width, depth, channels}};
  swin_layers(&step, 1, places, bfloat16, plain_threads, kThreads);
  return map == layers(proj, norm, cut, batch * down * across, depth, channels, false);
}

}  // namespace

// COUNT and SEED of the cases.
int main(int count, char** arguments) {
  if (count != 3) return 100;
  Chance chance{std::mt19937(std::atoi(arguments[2]))};
  struct Kind {
    const char* name;
    bool (*is_right)(Chance&);
  };
  const Kind block{"block", block_is_the_sum_of_its_layers};
  const Kind cases[] = {{"norm", norm_is_right}, block, {"patch", patches_are_gathered}, block};
  int wrong = 0;
  for (int i = 0; i < std::atoi(arguments[1]); i++) {
    const auto [name, is_right] = cases[i % 4];
    if (is_right(chance)) continue;
    std::printf("%s case %d is wrong\n", name, i);
    wrong++;
  }
  return std::min(wrong, 100);
}
