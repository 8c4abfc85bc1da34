// From products of queries and keys to weights: bias, mask, softmax.
#pragma once

#include "geometry.h"
#include "products.h"
#include "turns.h"
#include "vectors.h"

namespace {

constexpr float kMasked = -100.0f;  // the official value; see windows.py
constexpr float kNoKey = -1e30f;    // beyond the window: its weight is zero
constexpr float kTiny = 1e-12f;     // least length of a vector that is normalised, as torch's normalize has it
constexpr Rows<const float> kZero{nullptr, 0};

// The bias with its rows filled up to whole vectors, where they are not, by what makes a key's weight zero.
class PaddedBias {
 public:
  // With `padded`, the bias is so already.
  PaddedBias(const float* bias, bool padded, const Geometry& g, Threads threads)
      : tokens_(g.tokens()), step_(g.keys()), stays_(padded || step_ == tokens_),
        copy_(stays_ ? 0 : g.heads * tokens_ * step_), bias_(stays_ ? bias : copy_.data()) {
    if (stays_) return;
    in_turns(threads, g.heads * tokens_, 512, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        float* to = copy_.data() + row * step_;
        std::copy_n(bias + row * tokens_, tokens_, to);
        std::fill(to + tokens_, to + step_, kNoKey);
      }
    });
  }
  Rows<const float> rows(int64_t head, int64_t first) const {
    return {bias_ + (head * tokens_ + first) * step_, step_};
  }

 private:
  int64_t tokens_, step_;
  bool stays_;
  Floats copy_;
  const float* bias_;
};

// Of `rows` queries from `first` on: lowers the scores of keys that the shift alone brought together with them.
void mask_seam(const Window& window, int64_t first, int64_t rows, const Geometry& g, float* scores) {
  if (!window.has_seam) return;
  for (int64_t row = 0; row < rows; row++) {
    float* line = scores + row * g.score_step();
    const float region = window.regions[first + row];
    for (int64_t key = 0; key < g.keys(); key += kLanes) {
      const Vec score = load(line + key);
      store(line + key, load(window.regions.data() + key) != region ? score + kMasked : score);
    }
  }
}

// As exact as what is made of it is stored.
template <typename T>
Vec exponential(Vec x) {
  return std::is_same_v<T, float> ? exp_of_negative(x) : rough_exp_of_negative(x);
}

// exp(score - largest of the row) for each score, to rows of `weights`, which may be the scores; and the sums and
// largest scores of the rows. `meanwhile` is called at each row.
template <typename T, typename Meanwhile>
void exponentials(int64_t rows, const Geometry& g, const float* scores, Rows<T> weights, float* largest_scores,
                  float* sums, Meanwhile meanwhile) {
  for (int64_t row = 0; row < rows; row++) {
    const float* line = scores + row * g.score_step();
    Vec most = load(line);
    for (int64_t key = kLanes; key < g.keys(); key += kLanes) most = larger(most, load(line + key));
    largest_scores[row] = largest(most);
  }
  for (int64_t row = 0; row < rows; row++) {
    const float* line = scores + row * g.score_step();
    T* to = weights.data + row * weights.step;
    const float most = largest_scores[row];
    meanwhile(row);
    Vec total{};
    for (int64_t key = 0; key < g.keys(); key += kLanes) {
      const Vec weight = exponential<T>(load(line + key) - most);
      store(to + key, weight);
      total += weight;
    }
    sums[row] = sum(total);
  }
}

}  // namespace
