// What the kernels do for one another, each in the file of its name: as the functions of the library that they are behind.
#pragma once

#include <cstdint>

#include "turns.h"

void run_layer_norm(const void* x, const float* weight, const float* bias, const void* residual, void* out,
                    int64_t rows, int64_t width, float eps, bool bfloat16, Threads threads);

// `following`, which may be null, are panels that will be read next: they are fetched towards the end.
void run_linear(const void* x, const float* panels, const float* bias, const void* residual, void* out, int64_t rows,
                int64_t depth, int64_t columns, bool with_gelu, bool bfloat16, const float* following,
                Threads threads);

// With `padded`, the bias's rows are filled up to whole vectors of keys as `PaddedBias` does it.
void run_window_attention(const void* qkv, const float* bias, bool padded, const void* padding,
                          const float* logit_scale, void* out, float* log_sums, const int64_t* sizes, bool bfloat16,
                          Threads threads);
