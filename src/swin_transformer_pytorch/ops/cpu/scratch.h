// Memory for what is written before it is read.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace {

// Uninitialised memory, freed at the end.
template <typename T>
class Scratch {
 public:
  explicit Scratch(int64_t count) : data_(static_cast<T*>(std::malloc(count * sizeof(T) + 64))) {
    if (data_ == nullptr) {
      std::fputs("Swin's CPU kernels: out of memory\n", stderr);
      std::abort();
    }
  }
  ~Scratch() { std::free(data_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  T* data() { return data_; }
  T& operator[](int64_t index) { return data_[index]; }

 private:
  T* data_;
};

}  // namespace
