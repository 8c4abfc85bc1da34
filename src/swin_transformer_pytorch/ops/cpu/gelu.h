// GELU(x) = x Phi(x), with the normal distribution function Phi (arXiv 1606.08415), and its derivative. Polynomials are
// minimax fits for t = |x| up to 10, and beyond that what is left of Phi(-t), 1e-23, is the same.
#pragma once

#include "vectors.h"

namespace {

constexpr float kLargest = 10.0f;

// 2^x for x from -126 to 0, to 1e-7 of it.
inline Vec power_of_two(Vec x) {
  const Vec shifted = x + 12582912.0f;  // adding 1.5 * 2^23 rounds to a whole number
  const Vec r = x - (shifted - 12582912.0f);
  Vec p = splat(1.326472964e-3f);
  p = p * r + 9.671512991e-3f;
  p = p * r + 5.550733581e-2f;
  p = p * r + 2.402224243e-1f;
  p = p * r + 6.931470037e-1f;
  p = p * r + 1.0f;
  return times_power_of_two(p, shifted);
}

// To 1e-7: max(x, 0) - t Phi(-t), where log2 Phi(-t) is a polynomial.
inline Vec gelu(Vec x) {
  const Vec t = smaller(splat(kLargest), absolute(x));
  Vec p = splat(3.309278327e-5f);
  p = p * t - 7.692194195e-4f;
  p = p * t + 8.080715314e-3f;
  p = p * t - 5.341210216e-2f;
  p = p * t - 4.587709606e-1f;
  p = p * t - 1.151201725f;
  p = p * t - 9.999930859e-1f;
  return larger(splat(0.0f), x) - t * power_of_two(p);
}

// To 3e-7: d(-t) = Phi(-t) - t phi(t) is exp(-t^2 / 2) times a polynomial, and d(t) = 1 - d(-t).
inline Vec gelu_derivative(Vec x) {
  const Vec t = smaller(splat(kLargest), absolute(x));
  Vec p = splat(-8.063086170e-6f);
  p = p * t + 1.519421203e-4f;
  p = p * t - 1.271163780e-3f;
  p = p * t + 6.382810418e-3f;
  p = p * t - 2.223088592e-2f;
  p = p * t + 5.949680507e-2f;
  p = p * t - 1.317728907e-1f;
  p = p * t + 2.497522980e-1f;
  p = p * t - 7.978649139e-1f;
  p = p * t + 4.999997318e-1f;
  const Vec d = p * power_of_two(t * t * -0.7213475204f);
  return x > 0.0f ? 1.0f - d : d;
}

}  // namespace
