// Runs cases of the CPU kernel, read from a file, for `sanitize_cpu_kernel.py`. Each array is a piece of memory of its
// own and of exactly its size, so that a sanitizer sees the first element read or written beyond it.

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "sanitize_threads.h"
#include "window_attention.cpp"

namespace {

struct Array {
  int64_t bytes;
  std::unique_ptr<void, decltype(&std::free)> memory{nullptr, &std::free};

  explicit Array(int64_t size) : bytes(size) {
    if (size > 0) memory.reset(std::malloc(size));
  }
  void* data() { return memory.get(); }
  float* floats() { return static_cast<float*>(memory.get()); }
};

void check(bool fine, const char* what) {
  if (fine) return;
  std::fprintf(stderr, "%s failed\n", what);
  std::exit(2);
}

Array read(std::FILE* from) {
  int64_t bytes;
  check(std::fread(&bytes, sizeof bytes, 1, from) == 1, "reading a size");
  Array array(bytes);
  check(bytes == 0 || std::fread(array.data(), bytes, 1, from) == 1, "reading an array");
  return array;
}

void write(Array& array, std::FILE* to) {
  check(array.bytes == 0 || std::fwrite(array.data(), array.bytes, 1, to) == 1, "writing an array");
}

}  // namespace

// CASES and ANSWERS are files. A case: the nine sizes and whether the map is bfloat16; then map, bias, padding, logit
// scale and the result's gradient, each after its number of bytes, which is 0 for what is not there.
int main(int count, char** arguments) {
  check(count == 3, "reading the arguments CASES ANSWERS");
  std::FILE* cases = std::fopen(arguments[1], "rb");
  std::FILE* answers = std::fopen(arguments[2], "wb");
  check(cases != nullptr && answers != nullptr, "opening the files");
  int64_t numbers[10];
  while (std::fread(numbers, sizeof numbers, 1, cases) == 1) {
    const bool bfloat16 = numbers[9] != 0;
    Array qkv = read(cases), bias = read(cases), padding = read(cases), scale = read(cases), grad = read(cases);
    const int64_t tokens = numbers[0] * numbers[1] * numbers[2], heads = numbers[3], head_dim = numbers[4];
    Array out(grad.bytes), log_sums(tokens * heads * 4), grad_qkv(qkv.bytes), grad_bias(bias.bytes);
    Array grad_padding(padding.bytes > 0 ? 3 * heads * head_dim * 4 : 0), grad_scale(scale.bytes);
    for (float* wanted : {static_cast<float*>(nullptr), log_sums.floats()})  // for inference, and for training
      swin_window_attention_forward(qkv.data(), bias.floats(), padding.data(), scale.floats(), out.data(), wanted,
                                    numbers, bfloat16, plain_threads, kThreads);
    swin_window_attention_backward(grad.data(), qkv.data(), bias.floats(), padding.data(), scale.floats(),
                                   log_sums.floats(), grad_qkv.data(), grad_bias.floats(), grad_padding.floats(),
                                   grad_scale.floats(), numbers, bfloat16, plain_threads, kThreads);
    for (Array* array : {&out, &grad_qkv, &grad_bias, &grad_padding, &grad_scale}) write(*array, answers);
  }
  check(std::fclose(answers) == 0, "writing the answers");
  std::fclose(cases);
}
