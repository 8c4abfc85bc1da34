// Work shared out among the threads of the caller, who hands in how a team of them is set to work: so the library needs
// nothing of PyTorch to be built, and one that is built ahead goes with every version of it.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

// Has each thread of a team call work(data), and waits for all: GOMP_parallel of OpenMP's runtimes. `threads` of 0 are
// as many as the runtime was told to take.
using Parallel = void (*)(void (*work)(void*), void* data, unsigned threads, unsigned flags);

namespace {

// Stretches of nearly equal length, none longer than `most`.
struct Parts {
  int64_t length, count;
  Parts(int64_t length, int64_t most) : length(length), count((length + most - 1) / most) {}
  int64_t begin(int64_t part) const { return length * part / count; }
};

// `count` is how many threads the team has; answers do not depend on it.
struct Threads {
  Parallel parallel;
  int64_t count;
};

// Calls run(begin, end) for stretches of at most `at_once` of `count` items. A thread that is done takes the next one,
// so that none waits long for another that the system has interrupted.
template <typename Run>
void in_turns(Threads threads, int64_t count, int64_t at_once, const Run& run) {
  std::atomic<int64_t> next{0};
  auto work = [&] {
    for (int64_t begin; (begin = next.fetch_add(at_once, std::memory_order_relaxed)) < count;)
      run(begin, std::min(begin + at_once, count));
  };
  if (threads.count == 1 || count <= at_once) return work();
  // Teams of one and the same size: the runtime would end threads for a smaller one, and start them anew.
  threads.parallel([](void* data) { (*static_cast<decltype(work)*>(data))(); }, &work, 0, 0);
}

// Likewise, in about eight turns of each thread.
template <typename Run>
void in_turns(Threads threads, int64_t count, const Run& run) {
  in_turns(threads, count, count / (8 * threads.count) + 1, run);
}

}  // namespace
