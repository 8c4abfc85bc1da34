// A team for the CPU kernels: three plain threads, of which a sanitizer sees all.
#pragma once

#include <cstdint>
#include <thread>
#include <vector>

constexpr int64_t kThreads = 3;

inline void plain_threads(void (*work)(void*), void* data, unsigned, unsigned) {
  std::vector<std::thread> threads;
  for (int64_t i = 0; i < kThreads; i++) threads.emplace_back(work, data);
  for (auto& thread : threads) thread.join();
}
