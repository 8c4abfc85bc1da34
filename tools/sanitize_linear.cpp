// Random cases of the CPU's products, their gradients and GELU for `sanitize_cpu_kernel.py`: each is compared with plain loops in
// double precision. Arrays have exactly their size. The exit code is the number of wrong cases, at most 100.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "linear.cpp"
#include "sanitize_threads.h"
#include "weight_gradient.cpp"

namespace {

using Array = std::vector<float>;

Array normal(int64_t count, std::mt19937& chance) {
  std::normal_distribution<float> draw;
  Array array(count);
  for (float& x : array) x = draw(chance);
  return array;
}

double exact_gelu(double x) { return 0.5 * x * std::erfc(-x / std::sqrt(2.0)); }
double exact_derivative(double x) {
  return 0.5 * std::erfc(-x / std::sqrt(2.0)) + x * std::exp(-0.5 * x * x) / std::sqrt(2.0 * 3.14159265358979323846);
}

double larger_or_nan(double a, double b) { return a <= b || b != b ? b : a; }

// The largest error of one random case, in parts of what rounding allows.
double product_error(std::mt19937& chance) {
  const auto between = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(chance);
  };
  const int64_t rows = between(0, 230), depth = 16 * between(1, between(0, 7) == 0 ? 110 : 12);
  const int64_t columns = 16 * between(1, 12);
  const int64_t ending = between(0, 2);
  const bool transposed = between(0, 1) == 1, with_bias = between(0, 1) == 1;
  const Array x = normal(rows * depth, chance), weight = normal(columns * depth, chance);
  const Array bias = normal(with_bias ? columns : 0, chance);
  const Array residual = normal(ending == 1 ? rows * columns : 0, chance);
  Array panels(weight.size()), out(rows * columns);
  // The weight is (columns, depth) if it is transposed in the product, else (depth, columns).
  swin_pack(weight.data(), transposed ? columns : depth, transposed ? depth : columns, transposed, panels.data(),
            plain_threads, kThreads);
  swin_linear(x.data(), panels.data(), with_bias ? bias.data() : nullptr, ending == 1 ? residual.data() : nullptr,
              out.data(), rows, depth, columns, ending == 2, 0, plain_threads, kThreads);
  double most = 0;
  for (int64_t row = 0; row < rows; row++)
    for (int64_t column = 0; column < columns; column++) {
      double sum = with_bias ? bias[column] : 0.0;
      for (int64_t k = 0; k < depth; k++)
        sum += static_cast<double>(x[row * depth + k]) * weight[transposed ? column * depth + k : k * columns + column];
      if (ending == 1) sum += residual[row * columns + column];
      if (ending == 2) sum = exact_gelu(sum);
      const double error = std::abs(out[row * columns + column] - sum) / (1e-6 * static_cast<double>(depth) + 1e-5);
      most = larger_or_nan(error, most);
    }
  return most;
}

std::vector<BFloat16> rounded(const Array& array) {
  std::vector<BFloat16> result(array.size());
  for (size_t i = 0; i < array.size(); i++) store_number(&result[i], array[i]);
  return result;
}

// As above, of bfloat16.
double product_error16(std::mt19937& chance) {
  const auto between = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(chance);
  };
  const int64_t rows = between(0, 230), depth = 32 * between(1, between(0, 7) == 0 ? 60 : 6);
  const int64_t columns = 16 * between(1, 12), ending = between(0, 2);
  const auto x = rounded(normal(rows * depth, chance)), weight = rounded(normal(columns * depth, chance));
  const Array bias = normal(columns, chance);
  const auto residual = rounded(normal(ending == 1 ? rows * columns : 0, chance));
  Array words(weight.size() / 2), panels(words.size());
  std::memcpy(words.data(), weight.data(), words.size() * sizeof(float));
  std::vector<BFloat16> out(rows * columns);
  swin_pack(words.data(), columns, depth / 2, 1, panels.data(), plain_threads, kThreads);
  swin_linear(x.data(), panels.data(), bias.data(), ending == 1 ? residual.data() : nullptr, out.data(), rows, depth,
              columns, ending == 2, 1, plain_threads, kThreads);
  double most = 0;
  for (int64_t row = 0; row < rows; row++)
    for (int64_t column = 0; column < columns; column++) {
      double sum = bias[column];
      for (int64_t k = 0; k < depth; k++)
        sum += static_cast<double>(to_float(x[row * depth + k])) * to_float(weight[column * depth + k]);
      if (ending == 1) sum += to_float(residual[row * columns + column]);
      if (ending == 2) sum = exact_gelu(sum);
      const double allowed = std::abs(sum) / 256 + 1e-6 * static_cast<double>(depth) + 1e-5;
      most = larger_or_nan(std::abs(to_float(out[row * columns + column]) - sum) / allowed, most);
    }
  return most;
}

double gradient_error(std::mt19937& chance) {
  const auto between = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(chance);
  };
  const int64_t rows = between(0, between(0, 3) == 0 ? 5000 : 300);
  const int64_t outputs = 16 * between(1, 10), inputs = 16 * between(1, 10);
  const Array grad = normal(rows * outputs, chance), x = normal(rows * inputs, chance);
  const Array before = normal(outputs * inputs, chance), bias_before = normal(outputs, chance);
  const bool with_bias = between(0, 1) == 1;
  Array weight = before, bias = bias_before;
  swin_weight_gradient(grad.data(), x.data(), weight.data(), with_bias ? bias.data() : nullptr, rows, outputs, inputs,
                       plain_threads, kThreads);
  const double allowed = 1e-6 * static_cast<double>(rows) + 1e-5;
  double most = 0;
  for (int64_t output = 0; output < outputs; output++) {
    double column = bias_before[output];
    for (int64_t row = 0; with_bias && row < rows; row++) column += grad[row * outputs + output];
    most = larger_or_nan(std::abs(bias[output] - column) / allowed, most);
    for (int64_t input = 0; input < inputs; input++) {
      double sum = before[output * inputs + input];
      for (int64_t row = 0; row < rows; row++)
        sum += static_cast<double>(grad[row * outputs + output]) * x[row * inputs + input];
      most = larger_or_nan(std::abs(weight[output * inputs + input] - sum) / allowed, most);
    }
  }
  return most;
}

double gelu_error(std::mt19937& chance) {
  Array x = normal(std::uniform_int_distribution<int64_t>(0, 70000)(chance), chance), out(x.size());
  for (float& value : x) value *= 4;
  Array grad = normal(static_cast<int64_t>(x.size()), chance);
  const Array upstream = grad;
  swin_gelu(x.data(), out.data(), static_cast<int64_t>(x.size()), plain_threads, kThreads);
  swin_gelu_backward(grad.data(), x.data(), grad.data(), static_cast<int64_t>(x.size()), plain_threads, kThreads);
  double most = 0;
  for (size_t i = 0; i < x.size(); i++) {
    const double error = std::abs(out[i] - exact_gelu(x[i])) / 2e-6;
    const double grad_error = std::abs(grad[i] - upstream[i] * exact_derivative(x[i])) / 4e-6;
    most = larger_or_nan(error, most);
    most = larger_or_nan(grad_error, most);
  }
  return most;
}

}  // namespace

// COUNT and SEED of the cases.
int main(int count, char** arguments) {
  if (count != 3) return 100;
  std::mt19937 chance(std::atoi(arguments[2]));
  struct Kind {
    const char* name;
    double (*error_of)(std::mt19937&);
  };
  const Kind product{"product", product_error}, product16{"bfloat16 product", product_error16};
  const Kind gradient{"gradient", gradient_error}, activation{"GELU", gelu_error};
  const Kind cases[] = {product, product16, gradient, product, product16, gradient, product, activation};
  int wrong = 0;
  for (int i = 0; i < std::atoi(arguments[1]); i++) {
    const auto [name, error_of] = cases[i % 8];
    const double error = error_of(chance);
    if (error <= 1) continue;
    std::printf("%s case %d is off by %.2g of what is allowed\n", name, i, error);
    wrong++;
  }
  return std::min(wrong, 100);
}
