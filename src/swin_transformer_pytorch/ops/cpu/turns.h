// Work shared out among the threads of the caller, who hands in how a team of them is set to work: so the library needs
// nothing of PyTorch to be built, and one that is built ahead goes with every version of it.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <ctime>

// Has each thread of a team call work(data), and waits for all: GOMP_parallel of OpenMP's runtimes. `threads` of 0 are
// as many as the runtime was told to take.
using Parallel = void (*)(void (*work)(void*), void* data, unsigned threads, unsigned flags);

// How far the turns of one loop are that all threads of a team go through together.
struct Phase {
  alignas(64) std::atomic<int64_t> next{0};
  alignas(64) std::atomic<int64_t> done{0};
};

// `count` is how many threads the team has; answers do not depend on it. With `phases`, the caller is one of a team that
// goes through the same loops, and `at` is its own place among them.
struct Threads {
  Parallel parallel;
  int64_t count;
  Phase* phases = nullptr;
  int64_t* at = nullptr;
};

namespace {

constexpr int64_t kSpinNanoseconds = 200'000, kSleepNanoseconds = 50'000;

// Stretches of nearly equal length, none longer than `most`.
struct Parts {
  int64_t length, count;
  Parts(int64_t length, int64_t most) : length(length), count((length + most - 1) / most) {}
  int64_t begin(int64_t part) const { return length * part / count; }
};

inline int64_t nanoseconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{1'000'000'000} * now.tv_sec + now.tv_nsec;
}

// Returns when `done` has come to `count`. A thread that another waits for may have been taken off its core by some
// other program: so the waiting one sleeps after a while, and leaves its own core to it.
inline void wait_for(const std::atomic<int64_t>& done, int64_t count) {
  int64_t begin = 0;
  for (int64_t i = 1; done.load(std::memory_order_acquire) != count; i++) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
    if (i % 64 != 0) continue;
    const int64_t now = nanoseconds();
    if (begin == 0) begin = now;
    if (now - begin < kSpinNanoseconds) continue;
    const timespec rest{0, kSleepNanoseconds};
    nanosleep(&rest, nullptr);
  }
}

// Calls run(begin, end) for stretches of at most `at_once` of `count` items. A thread that is done takes the next one,
// so that none waits long for another that the system has interrupted.
template <typename Run>
void in_turns(Threads threads, int64_t count, int64_t at_once, const Run& run) {
  if (threads.phases != nullptr) {
    Phase& phase = threads.phases[(*threads.at)++];
    for (int64_t begin; (begin = phase.next.fetch_add(at_once, std::memory_order_relaxed)) < count;) {
      const int64_t end = std::min(begin + at_once, count);
      run(begin, end);
      phase.done.fetch_add(end - begin, std::memory_order_release);
    }
    return wait_for(phase.done, count);
  }
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

// Has a team go through run(threads) together, whose loops are as many as `phases` at most. Between two loops no thread
// waits for one that has not come: what is to be done is done by those that are there.
template <typename Run>
void together(Threads threads, Phase* phases, const Run& run) {
  if (threads.count == 1) return run(threads);
  auto work = [&] {
    int64_t at = 0;
    run(Threads{threads.parallel, threads.count, phases, &at});
  };
  threads.parallel([](void* data) { (*static_cast<decltype(work)*>(data))(); }, &work, 0, 0);
}

}  // namespace
