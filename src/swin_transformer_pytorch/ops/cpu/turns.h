// Work shared out among torch's threads.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace {

// Calls run(begin, end) for stretches of at most `at_once` of `count` items. A thread that is done takes the next one,
// so that none waits long for another that the system has interrupted.
template <typename Run>
void in_turns(int64_t count, int64_t at_once, const Run& run) {
  std::atomic<int64_t> next{0};
  const int64_t stretches = (count + at_once - 1) / at_once;
  at::parallel_for(0, std::min<int64_t>(at::get_num_threads(), stretches), 1, [&](int64_t, int64_t) {
    for (int64_t begin; (begin = next.fetch_add(at_once, std::memory_order_relaxed)) < count;)
      run(begin, std::min(begin + at_once, count));
  });
}

// Likewise, in about eight turns of each thread.
template <typename Run>
void in_turns(int64_t count, const Run& run) {
  in_turns(count, count / (8 * at::get_num_threads()) + 1, run);
}

}  // namespace
