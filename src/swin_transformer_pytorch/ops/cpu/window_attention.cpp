// Shifted-window attention in one pass over the map's natural layout, forward and backward, for any processor.
//
// A task is one head of one window: its queries, keys and values are gathered by index arithmetic (shift, padding and
// partition are nothing but indices) into a few kilobytes, two small products with a softmax between them stay in the
// first-level cache, and the result is put back to where its tokens were. Storage is float32 or bfloat16; arithmetic is
// float32, but forward in bfloat16 where the processor multiplies pairs of it (attention16.h). The threads are the caller's. Every sum has one order, whatever the number of threads, so that results are
// the same to the bit.

#include "attention16.h"
#include "geometry.h"
#include "kernels.h"
#include "products.h"
#include "softmax.h"
#include "turns.h"
#include "vectors.h"

namespace {

constexpr int64_t kPartialFloats = int64_t{1} << 24;  // at most this many floats for the parts of the bias's gradient

using Rowwise = Left<false>;
using Transposed = Left<true>;

// One thread's queries, keys and values of a window and head, and what is made of them. Rows have columns() floats, of
// which those beyond head_dim stay zero, and so do rows beyond tokens().
struct Workspace {
  Floats q, k, v, keys, values, scores, out, q_length, k_length, largest, sums;
  Workspace(const Geometry& g)
      : q(g.keys() * g.columns()), k(g.keys() * g.columns()), v(g.keys() * g.columns()),
        keys(g.head_dim * g.keys()), values(g.keys() * g.columns()), scores(g.block_rows() * g.score_step()),
        out(g.block_rows() * g.columns()), q_length(g.tokens()), k_length(g.tokens()), largest(g.block_rows()),
        sums(g.block_rows()) {}
};

// What the backward pass needs besides.
struct GradientWorkspace : Workspace {
  Floats grad_out, grad_scores, grad_q, grad_k, grad_v, q_panels, k_panels, grad_out_panels;
  GradientWorkspace(const Geometry& g)
      : Workspace(g), grad_out(g.tokens() * g.columns()), grad_scores(g.block_rows() * g.score_step()),
        grad_q(g.tokens() * g.columns()), grad_k(g.tokens() * g.columns()), grad_v(g.tokens() * g.columns()),
        q_panels(g.block_rows() * g.columns()), k_panels(g.tokens() * g.columns()),
        grad_out_panels(g.block_rows() * g.columns()) {}
};

float dot(const float* a, const float* b, int64_t count) {
  Vec total{};
  for (int64_t i = 0; i < count; i += kLanes) total += load(a + i) * load(b + i);
  return sum(total);
}

void scale(float* rows, float factor, int64_t count) {
  for (int64_t i = 0; i < count; i += kLanes) store(rows + i, load(rows + i) * factor);
}

// Brings each row to length one times a factor, and keeps its length.
void normalise_rows(float* rows, float factor, const Geometry& g, float* lengths) {
  for (int64_t token = 0; token < g.tokens(); token++, rows += g.columns()) {
    lengths[token] = std::sqrt(dot(rows, rows, g.columns()));
    scale(rows, factor / std::max(lengths[token], kTiny), g.columns());
  }
}

// Queries are left with the factor of the scores in them: 1 / sqrt(head_dim), or V2's scale of the head.
template <typename T>
void gather_window(const T* qkv, const T* padding, const Window& window, int64_t head, const Geometry& g, float factor,
                   Workspace& w) {
  const int64_t offset = head * g.head_dim, all = g.channels();
  gather(qkv, 3 * all, offset, padding, window, g, w.q.data());
  gather(qkv, 3 * all, all + offset, padding, window, g, w.k.data());
  gather(qkv, 3 * all, 2 * all + offset, padding, window, g, w.v.data());
  if (g.cosine) {
    normalise_rows(w.q.data(), factor, g, w.q_length.data());
    normalise_rows(w.k.data(), 1.0f, g, w.k_length.data());
  } else {
    scale(w.q.data(), factor, g.tokens() * g.columns());
  }
  to_transposed_panels(w.k.data(), g.keys(), g.columns(), g.head_dim, w.keys.data());
}

// Scores of queries [first, last) into w.scores: products, bias, mask.
void score(const PaddedBias& bias, const Window& window, int64_t head, const Geometry& g, int64_t first, int64_t last,
           Workspace& w) {
  const Rowwise queries{w.q.data() + first * g.columns(), g.columns()};
  multiply(queries, w.keys.data(), last - first, g.keys(), g.head_dim, bias.rows(head, first),
           {w.scores.data(), g.score_step()});
  mask_seam(window, first, last - first, g, w.scores.data());
}

template <typename T>
void forward(const T* qkv, const PaddedBias& bias, const T* padding, const float* logit_scale, T* out, float* log_sums,
             const Geometry& g, Threads threads) {
  const float factor = 1.0f / std::sqrt(static_cast<float>(g.head_dim));
  in_turns(threads, g.windows() * g.heads, [&](int64_t begin, int64_t end) {
    Windows windows(g);
    Workspace w(g);
    for (int64_t task = begin; task < end; task++) {
      const int64_t head = task % g.heads;
      const Window& window = windows.at(task / g.heads);
      const int64_t next = std::min(task + 1, end - 1);
      const Window& next_window = windows.at(next / g.heads);
      gather_window(qkv, padding, window, head, g, logit_scale != nullptr ? logit_scale[head] : factor, w);
      to_panels(w.v.data(), g.tokens(), g.columns(), w.values.data());
      for (int64_t first = 0; first < g.tokens(); first += g.block_rows()) {
        const int64_t last = std::min(first + g.block_rows(), g.tokens()), rows = last - first;
        score(bias, window, head, g, first, last, w);
        exponentials(rows, g, w.scores.data(), Rows<float>{w.scores.data(), g.score_step()}, w.largest.data(),
                     w.sums.data(), [&](int64_t row) {
                       prefetch(out, g.channels(), head * g.head_dim, window, g, first + row);
                       prefetch_qkv(qkv, next % g.heads, next_window, g, first + row);
                     });
        multiply(Rowwise{w.scores.data(), g.score_step()}, w.values.data(), rows, g.columns(), g.tokens(), kZero,
                 {w.out.data(), g.columns()});
        for (int64_t row = 0; row < rows; row++) {
          const int64_t map_row = window.rows[first + row];
          if (map_row < 0) continue;  // what padding attends to is cropped
          const float sum = w.sums.data()[row];
          narrow(w.out.data() + row * g.columns(), 1.0f / sum, out + (map_row * g.heads + head) * g.head_dim,
                 g.head_dim);
          if (log_sums != nullptr) log_sums[map_row * g.heads + head] = w.largest.data()[row] + std::log(sum);
        }
      }
    }
  });
}

// From the gradient of unit vectors to that of the vectors, as autograd has it for torch's normalize. The unit vectors
// are given times `unit_scale`.
void denormalise_gradient(float* grad, const float* unit, const float* lengths, float unit_scale, const Geometry& g) {
  for (int64_t token = 0; token < g.tokens(); token++, grad += g.columns(), unit += g.columns()) {
    // A vector shorter than kTiny was divided by a constant.
    const float along = lengths[token] > kTiny ? dot(grad, unit, g.columns()) / (unit_scale * unit_scale) : 0.0f;
    const float factor = 1.0f / std::max(lengths[token], kTiny);
    for (int64_t d = 0; d < g.columns(); d += kLanes)
      store(grad + d, (load(grad + d) - along * load(unit + d)) * factor);
  }
}

// From w.scores to weights in their place, and from the gradient of these to that of the scores. `meanwhile` is called
// at each row.
template <typename Meanwhile>
void differentiate_softmax(const float* log_sums, const Window& window, int64_t head, const Geometry& g, int64_t first,
                           int64_t last, GradientWorkspace& w, Meanwhile meanwhile) {
  for (int64_t row = 0; row < last - first; row++) {
    float* weights = w.scores.data() + row * g.score_step();
    float* grads = w.grad_scores.data() + row * g.score_step();
    const int64_t map_row = window.rows[first + row];
    meanwhile(row);
    if (map_row < 0) {  // a query of padding: nothing depends on it
      std::fill_n(weights, g.keys(), 0.0f);
      std::fill_n(grads, g.keys(), 0.0f);
      continue;
    }
    const float log_sum = log_sums[map_row * g.heads + head];
    Vec products{};
    for (int64_t key = 0; key < g.keys(); key += kLanes) {
      const Vec weight = exp_of_negative(load(weights + key) - log_sum);
      store(weights + key, weight);
      products += weight * load(grads + key);
    }
    const float mean = sum(products);
    for (int64_t key = 0; key < g.keys(); key += kLanes)
      store(grads + key, load(weights + key) * (load(grads + key) - mean));
  }
}

// Sums over the windows of a part: the bias's gradient of one head in padded rows, the padding's, the logit scale's.
struct Sums {
  static int64_t size(const Geometry& g) { return g.tokens() * g.keys() + 3 * g.head_dim + 1; }
  float *bias, *padding, *logit_scale;
  Sums(float* data, const Geometry& g)
      : bias(data), padding(data + g.tokens() * g.keys()), logit_scale(padding + 3 * g.head_dim) {}
};

struct Task {
  const Window& window;
  int64_t head;
};

// One head of one window: gradients of its queries, keys and values go to the map, the others are added to `sums`.
template <typename T>
void backward_task(const T* grad_out, const T* qkv, const PaddedBias& bias, const T* padding, float factor,
                   const float* log_sums, Task task, Task next, const Geometry& g, GradientWorkspace& w, Sums sums,
                   T* grad_qkv) {
  const int64_t columns = g.columns(), keys = g.keys(), tokens = g.tokens(), step = g.score_step();
  const auto [window, head] = task;
  const int64_t offset = head * g.head_dim;
  gather_window(qkv, padding, window, head, g, factor, w);
  gather(grad_out, g.channels(), offset, static_cast<const T*>(nullptr), window, g, w.grad_out.data());
  to_transposed_panels(w.v.data(), keys, columns, g.head_dim, w.values.data());
  to_panels(w.k.data(), tokens, columns, w.k_panels.data());
  for (int64_t first = 0; first < tokens; first += g.block_rows()) {
    const int64_t last = std::min(first + g.block_rows(), tokens), rows = last - first;
    score(bias, window, head, g, first, last, w);
    multiply(Rowwise{w.grad_out.data() + first * columns, columns}, w.values.data(), rows, keys, g.head_dim, kZero,
             {w.grad_scores.data(), step});
    differentiate_softmax(log_sums, window, head, g, first, last, w, [&](int64_t row) {
      prefetch(grad_out, g.channels(), next.head * g.head_dim, next.window, g, first + row);
      prefetch_qkv(qkv, next.head, next.window, g, first + row);
    });
    for (int64_t row = 0; row < rows; row++) {
      float* total = sums.bias + (first + row) * keys;
      const float* more = w.grad_scores.data() + row * step;
      for (int64_t key = 0; key < keys; key += kLanes) store(total + key, load(total + key) + load(more + key));
    }
    const auto so_far = [&](const Floats& sum) { return first == 0 ? kZero : Rows<const float>{sum.data(), columns}; };
    to_panels(w.grad_out.data() + first * columns, rows, columns, w.grad_out_panels.data());
    multiply(Transposed{w.scores.data(), step}, w.grad_out_panels.data(), tokens, columns, rows, so_far(w.grad_v),
             {w.grad_v.data(), columns});
    to_panels(w.q.data() + first * columns, rows, columns, w.q_panels.data());
    multiply(Transposed{w.grad_scores.data(), step}, w.q_panels.data(), tokens, columns, rows, so_far(w.grad_k),
             {w.grad_k.data(), columns});
    multiply(Rowwise{w.grad_scores.data(), step}, w.k_panels.data(), rows, columns, tokens, kZero,
             {w.grad_q.data() + first * columns, columns});
  }
  float query_factor = factor;
  if (g.cosine) {
    // The queries in the workspace are unit vectors times the head's factor.
    *sums.logit_scale += dot(w.grad_q.data(), w.q.data(), tokens * columns) / factor;
    scale(w.grad_q.data(), factor, tokens * columns);
    denormalise_gradient(w.grad_q.data(), w.q.data(), w.q_length.data(), factor, g);
    denormalise_gradient(w.grad_k.data(), w.k.data(), w.k_length.data(), 1.0f, g);
    query_factor = 1.0f;
  }
  const int64_t all = g.channels();
  scatter(w.grad_q.data(), query_factor, 3 * all, offset, window, g, grad_qkv, sums.padding);
  scatter(w.grad_k.data(), 1.0f, 3 * all, all + offset, window, g, grad_qkv, sums.padding + g.head_dim);
  scatter(w.grad_v.data(), 1.0f, 3 * all, 2 * all + offset, window, g, grad_qkv, sums.padding + 2 * g.head_dim);
}

template <typename T>
void backward(const T* grad_out, const T* qkv, const float* bias, const T* padding, const float* logit_scale,
              const float* log_sums, T* grad_qkv, float* grad_bias, float* grad_padding, float* grad_logit_scale,
              const Geometry& g, Threads threads) {
  const PaddedBias padded_bias(bias, false, g, threads);
  const float factor = 1.0f / std::sqrt(static_cast<float>(g.head_dim));
  // The windows are cut into parts by their number alone, each with sums of its own, which are then added in order.
  const int64_t size = Sums::size(g);
  const int64_t parts = std::min(g.windows(), std::clamp<int64_t>(kPartialFloats / (g.heads * size), 1, 64));
  const int64_t per_part = (g.windows() + parts - 1) / parts;
  Floats partial(parts * g.heads * size);

  in_turns(threads, parts * g.heads, [&](int64_t begin, int64_t end) {
    Windows windows(g);
    GradientWorkspace w(g);
    // The heads of a part that are this thread's take turns at each window, whose tokens hold them side by side.
    for (int64_t part = begin / g.heads; part * g.heads < end; part++) {
      const int64_t first_head = std::max(begin - part * g.heads, int64_t{0});
      const int64_t stop_head = std::min(end - part * g.heads, g.heads);
      const int64_t stop = std::min((part + 1) * per_part, g.windows());
      for (int64_t index = part * per_part; index < stop; index++) {
        for (int64_t head = first_head; head < stop_head; head++) {
          const Task task{windows.at(index), head};
          const bool is_last = head + 1 == stop_head;
          const Task next{windows.at(is_last ? std::min(index + 1, g.windows() - 1) : index),
                          is_last ? first_head : head + 1};
          const Sums sums(partial.data() + (part * g.heads + head) * size, g);
          backward_task(grad_out, qkv, padded_bias, padding, logit_scale != nullptr ? logit_scale[head] : factor,
                        log_sums, task, next, g, w, sums, grad_qkv);
        }
      }
    }
  });

  in_turns(threads, g.heads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t head = begin; head < end; head++) {
      float* total = partial.data() + head * size;
      for (int64_t part = 1; part < parts; part++) {
        const float* more = partial.data() + (part * g.heads + head) * size;
        for (int64_t i = 0; i < size; i++) total[i] += more[i];
      }
      const Sums sums(total, g);
      for (int64_t row = 0; row < g.tokens(); row++)
        std::copy_n(sums.bias + row * g.keys(), g.tokens(), grad_bias + (head * g.tokens() + row) * g.tokens());
      if (grad_padding != nullptr)
        for (int64_t which = 0; which < 3; which++)
          std::copy_n(sums.padding + which * g.head_dim, g.head_dim,
                      grad_padding + which * g.channels() + head * g.head_dim);
      if (grad_logit_scale != nullptr) grad_logit_scale[head] = *sums.logit_scale;
    }
  });
}

Geometry geometry(const int64_t* sizes, bool cosine) {
  return {sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], sizes[6], sizes[7], sizes[8], cosine};
}

}  // namespace

void run_window_attention(const void* qkv, const float* bias, bool padded, const void* padding,
                          const float* logit_scale, void* out, float* log_sums, const int64_t* sizes, bool bfloat16,
                          Threads threads) {
  const Geometry g = geometry(sizes, logit_scale != nullptr);
  const PaddedBias rows(bias, padded, g, threads);
  if (bfloat16) {
    const auto run = !kHasPairs ? forward<BFloat16> : g.cosine ? forward16<true> : forward16<false>;
    run(static_cast<const BFloat16*>(qkv), rows, static_cast<const BFloat16*>(padding), logit_scale,
        static_cast<BFloat16*>(out), log_sums, g, threads);
  } else {
    forward(static_cast<const float*>(qkv), rows, static_cast<const float*>(padding), logit_scale,
            static_cast<float*>(out), log_sums, g, threads);
  }
}

// `sizes`: batch, height, width, heads, head_dim, window height, window width, shift down, shift right. All arrays are
// contiguous. Null is allowed for padding, logit_scale, log_sums (where no backward follows) and their gradients.
// `threads` is how many the team of `parallel` has; with one it is not called.
#define EXPORT __attribute__((visibility("default")))

extern "C" {

EXPORT void swin_window_attention_forward(
    const void* qkv, const float* bias, const void* padding, const float* logit_scale, void* out, float* log_sums,
    const int64_t* sizes, int32_t bfloat16, Parallel parallel, int64_t threads) {
  run_window_attention(qkv, bias, false, padding, logit_scale, out, log_sums, sizes, bfloat16 != 0,
                       {parallel, threads});
}

EXPORT void swin_window_attention_backward(
    const void* grad_out, const void* qkv, const float* bias, const void* padding, const float* logit_scale,
    const float* log_sums, void* grad_qkv, float* grad_bias, float* grad_padding, float* grad_logit_scale,
    const int64_t* sizes, int32_t bfloat16, Parallel parallel, int64_t threads) {
  const Geometry g = geometry(sizes, logit_scale != nullptr);
  const Threads team{parallel, threads};
  if (bfloat16)
    backward(static_cast<const BFloat16*>(grad_out), static_cast<const BFloat16*>(qkv), bias,
             static_cast<const BFloat16*>(padding), logit_scale, log_sums, static_cast<BFloat16*>(grad_qkv), grad_bias,
             grad_padding, grad_logit_scale, g, team);
  else
    backward(static_cast<const float*>(grad_out), static_cast<const float*>(qkv), bias,
             static_cast<const float*>(padding), logit_scale, log_sums, static_cast<float*>(grad_qkv), grad_bias,
             grad_padding, grad_logit_scale, g, team);
}

}  // extern "C"
