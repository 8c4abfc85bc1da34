// Window attention forward on products of pairs of bfloat16: nothing is widened but scores, and sums are float32. A
// float's place holds two numbers, here called a word.
#pragma once

#include "softmax.h"

namespace {

// Whether it is faster than arithmetic in float32. Plain vectors are for tests.
#if defined(__AVX512BF16__) || defined(SWIN_PLAIN_VECTORS)
constexpr bool kHasPairs = true;
#else
constexpr bool kHasPairs = false;
#endif

struct Words {
  int64_t count, columns;  // of a head's channels, and filled up to whole vectors
  explicit Words(const Geometry& g) : count(g.head_dim / 2), columns((count + kLanes - 1) / kLanes * kLanes) {}
};

// One thread's rows of queries, keys and values; those beyond tokens() stay zero. Values go into panels of pairs of
// keys: first all even channels, then all odd ones. Scores are multiplied by a factor of the query and one of the key.
struct Workspace16 {
  Words words;
  int64_t weight_step;
  Floats q, k, v, keys, values, scores, out, query_factors, key_factors, largest, sums;
  AlignedArray<BFloat16> weights;
  explicit Workspace16(const Geometry& g)
      : words(g), weight_step(g.keys() + 32), q(g.keys() * words.columns), k(g.keys() * words.columns),
        v(g.keys() * words.columns), keys(words.count * g.keys()), values(g.keys() * words.columns),
        scores(g.block_rows() * g.score_step()), out(g.block_rows() * 2 * words.columns), query_factors(g.tokens()),
        key_factors(g.keys()), largest(g.block_rows()), sums(g.block_rows()),
        weights(g.block_rows() * weight_step) {}
};

// As `gather`, but numbers stay what they are.
void gather_words(const BFloat16* map, int64_t channels, int64_t offset, const BFloat16* padding, const Window& window,
                  const Geometry& g, int64_t step, float* to) {
  for (int64_t token = 0; token < g.tokens(); token++, to += step) {
    const int64_t row = window.rows[token];
    const BFloat16* from = row >= 0 ? map + row * channels + offset : padding == nullptr ? nullptr : padding + offset;
    if (from == nullptr) {
      std::fill_n(to, g.head_dim / 2, 0.0f);
      continue;
    }
    for (int64_t i = 0; i < g.head_dim; i += 8) std::memcpy(to + i / 2, from + i, 16);
  }
}

// Rows of values, two by two, into panels: `pairs` rows of even channels and odd ones.
void to_value_panels(const float* rows, int64_t pairs, Words words, float* to) {
  const int64_t half = words.columns / kLanes;
  const auto place = [&](int64_t pair, int64_t vector) {
    const int64_t within = vector % kPanelVectors;
    const Panel panel(vector - within, 2 * half, pairs);
    return to + panel.begin + (pair * panel.vectors + within) * kLanes;
  };
  const IntVec lower = IntVec{} + 0xffff;
  for (int64_t pair = 0; pair < pairs; pair++)
    for (int64_t i = 0; i < half; i++) {
      const IntVec first = bits(load(rows + 2 * pair * words.columns + i * kLanes));
      const IntVec second = bits(load(rows + (2 * pair + 1) * words.columns + i * kLanes));
      store(place(pair, i), from_bits((first & lower) | (second << 16)));
      store(place(pair, half + i), from_bits(((first >> 16) & lower) | (second & ~lower)));
    }
}

// One over the length of each row of words, but not more than it has for the least length.
void inverse_lengths(const float* rows, int64_t count, Words words, float factor, float* to) {
  for (int64_t row = 0; row < count; row++, rows += words.columns) {
    Vec total{};
    for (int64_t i = 0; i < words.columns; i += kLanes)
      total = Pairs16::add(total, load(rows + i), load(rows + i));
    to[row] = factor / std::max(std::sqrt(sum(total)), kTiny);
  }
}

template <bool cosine>
struct Score : Keep {
  Rows<const float> bias;
  const float *query_factors, *key_factors;
  float factor;
  Score(Rows<const float> bias, const float* query_factors, const float* key_factors, float factor)
      : bias(bias), query_factors(query_factors), key_factors(key_factors), factor(factor) {}
  Vec operator()(Vec x, int64_t row, int64_t v) const {
    const Vec added = load(bias.data + row * bias.step + v * kLanes);
    if constexpr (cosine) return x * query_factors[row] * load(key_factors + v * kLanes) + added;
    return x * factor + added;
  }
  void advance(int64_t rows) {
    bias.data += rows * bias.step;
    query_factors += rows;
  }
};

// Scores of `rows` queries from `first` on into w.scores.
template <bool cosine>
void score(const PaddedBias& bias, const Window& window, int64_t head, const Geometry& g, int64_t first, int64_t rows,
           float factor, Workspace16& w) {
  const Left<false> queries{w.q.data() + first * w.words.columns, w.words.columns};
  const Rows<const float> added = bias.rows(head, first);
  for (int64_t vector = 0; vector < g.keys() / kLanes; vector += kPanelVectors) {
    const Panel panel(vector, g.keys() / kLanes, w.words.count);
    const int64_t key = vector * kLanes;
    const Score<cosine> finish({added.data + key, added.step}, w.query_factors.data() + first,
                               w.key_factors.data() + key, factor);
    multiply_panel<Pairs16>(panel.vectors, queries, w.keys.data() + panel.begin, rows, w.words.count, kZero,
                            Rows<float>{w.scores.data() + key, g.score_step()}, finish);
  }
  mask_seam(window, first, rows, g, w.scores.data());
}

// Even channels in `out`, and odd ones from `columns` on: to one row of words, times a factor.
void interleave(const float* out, Words words, float factor, BFloat16* to) {
  for (int64_t i = 0; i < words.count; i += kLanes) {
    const IntVec even = rounded_bits(load(out + i) * factor), odd = rounded_bits(load(out + words.columns + i) * factor);
    const IntVec pairs = ((even >> 16) & 0xffff) | odd;
    std::memcpy(to + 2 * i, &pairs, std::min(kLanes, words.count - i) * sizeof(float));
  }
}

template <bool cosine>
void forward16(const BFloat16* qkv, const PaddedBias& bias, const BFloat16* padding, const float* logit_scale,
               BFloat16* out, float* log_sums, const Geometry& g, Threads threads) {
  const float factor = 1.0f / std::sqrt(static_cast<float>(g.head_dim));
  const int64_t all = g.channels(), pairs = (g.tokens() + 1) / 2;
  in_turns(threads, g.windows() * g.heads, [&](int64_t begin, int64_t end) {
    Windows windows(g);
    Workspace16 w(g);
    for (int64_t task = begin; task < end; task++) {
      const int64_t head = task % g.heads, offset = head * g.head_dim;
      const Window& window = windows.at(task / g.heads);
      const int64_t next = std::min(task + 1, end - 1);
      const Window& next_window = windows.at(next / g.heads);
      gather_words(qkv, 3 * all, offset, padding, window, g, w.words.columns, w.q.data());
      gather_words(qkv, 3 * all, all + offset, padding, window, g, w.words.columns, w.k.data());
      gather_words(qkv, 3 * all, 2 * all + offset, padding, window, g, w.words.columns, w.v.data());
      if constexpr (cosine) {
        inverse_lengths(w.q.data(), g.tokens(), w.words, logit_scale[head], w.query_factors.data());
        inverse_lengths(w.k.data(), g.tokens(), w.words, 1.0f, w.key_factors.data());
      }
      to_transposed_panels(w.k.data(), g.keys(), w.words.columns, w.words.count, w.keys.data());
      to_value_panels(w.v.data(), pairs, w.words, w.values.data());
      for (int64_t first = 0; first < g.tokens(); first += g.block_rows()) {
        const int64_t rows = std::min(g.block_rows(), g.tokens() - first);
        score<cosine>(bias, window, head, g, first, rows, factor, w);
        exponentials(rows, g, w.scores.data(), Rows<BFloat16>{w.weights.data(), w.weight_step}, w.largest.data(),
                     w.sums.data(), [&](int64_t row) {
                       prefetch(out, all, offset, window, g, first + row);
                       prefetch_qkv(qkv, next % g.heads, next_window, g, first + row);
                     });
        const Left<false> weights{reinterpret_cast<const float*>(w.weights.data()), w.weight_step / 2};
        multiply<Pairs16>(weights, w.values.data(), rows, 2 * w.words.columns, pairs, kZero,
                          {w.out.data(), 2 * w.words.columns});
        for (int64_t row = 0; row < rows; row++) {
          const int64_t map_row = window.rows[first + row];
          if (map_row < 0) continue;  // what padding attends to is cropped
          interleave(w.out.data() + row * 2 * w.words.columns, w.words, 1.0f / w.sums[row],
                     out + (map_row * g.heads + head) * g.head_dim);
          if (log_sums != nullptr) log_sums[map_row * g.heads + head] = w.largest[row] + std::log(w.sums[row]);
        }
      }
    }
  });
}

}  // namespace
