// Random images for `sanitize_cpu_kernel.py`: resized, moved and normalised, and compared with plain loops that follow
// the same arithmetic one byte at a time. Arrays have exactly their size. The exit code is the number of wrong cases, at
// most 100.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "resample.cpp"
#include "sanitize_threads.h"

namespace {

using Picture = std::vector<uint8_t>;

int64_t between_of(std::mt19937& chance, int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(chance);
}

Picture noise(int64_t bytes, std::mt19937& chance) {
  Picture picture(bytes);
  for (uint8_t& byte : picture) byte = static_cast<uint8_t>(between_of(chance, 0, 255));
  return picture;
}

// One axis of a picture (before, in, after) -> (before, out, after), in the plainest way.
Picture along_axis(const Picture& from, int64_t before, int64_t in, int64_t after, int64_t out, bool is_cubic) {
  Weights weights(in, out, 0, out, is_cubic);
  Picture to(before * out * after);
  for (int64_t b = 0; b < before; b++)
    for (int64_t o = 0; o < out; o++)
      for (int64_t a = 0; a < after; a++) {
        int32_t sum = kHalf;
        for (int64_t j = 0; j < weights.count(o); j++)
          sum += from[(b * in + weights.first() + weights.begin(o) + j) * after + a] * weights.of(o)[j];
        to[(b * out + o) * after + a] = static_cast<uint8_t>(std::clamp(sum >> kFractionBits, 0, 255));
      }
  return to;
}

std::vector<float> levels_of(bool computed, std::mt19937& chance) {
  std::vector<float> values(3 * kLevelValues);
  for (int c = 0; c < 3; c++) {
    const float mean = 0.4f + 0.05f * static_cast<float>(c), deviation = computed ? 0.225f : 0.0f;
    for (int i = 0; i < 256; i++) {
      const float level = static_cast<float>(i) / 255;
      values[c * kLevelValues + i] =
          computed ? (level - mean) / deviation : static_cast<float>(between_of(chance, -99, 99));
    }
    values[c * kLevelValues + 256] = mean;
    values[c * kLevelValues + 257] = deviation;
  }
  return values;
}

bool resized_wrongly(std::mt19937& chance) {
  const int64_t most = between_of(chance, 0, 3) == 0 ? 300 : 40;
  const int64_t channels = between_of(chance, 0, 1) ? 3 : 1;
  const int64_t height = between_of(chance, 1, most), width = between_of(chance, 1, most);
  const int64_t rows = between_of(chance, 1, most), columns = between_of(chance, 1, most);
  const int64_t top = between_of(chance, 0, rows - 1), left = between_of(chance, 0, columns - 1);
  const int64_t some_rows = between_of(chance, 1, rows - top), some_columns = between_of(chance, 1, columns - left);
  const bool is_cubic = between_of(chance, 0, 1), columns_first = between_of(chance, 0, 1);
  const bool flip = between_of(chance, 0, 1), as_floats = between_of(chance, 0, 1);
  // The last row of a part of a larger image ends where the image does.
  const int64_t step = width * channels + between_of(chance, 0, 5);
  const Picture image = noise((height - 1) * step + width * channels, chance);
  Picture whole;
  for (int64_t y = 0; y < height; y++)
    whole.insert(whole.end(), image.begin() + y * step, image.begin() + y * step + width * channels);
  const auto rows_made = [&](const Picture& from, int64_t h) {
    return along_axis(from, h, width, channels, columns, is_cubic);
  };
  const Picture expected =
      columns_first ? rows_made(along_axis(whole, 1, height, width * channels, rows, is_cubic), rows)
                    : along_axis(rows_made(whole, height), 1, height, columns * channels, rows, is_cubic);
  const std::vector<float> values = levels_of(between_of(chance, 0, 1), chance);
  const int64_t sizes[13] = {step, height, width, channels, rows, columns, top, left, some_rows, some_columns,
                             is_cubic, columns_first, flip};
  Picture bytes(as_floats ? 0 : some_rows * some_columns * channels);
  std::vector<float> floats(as_floats ? some_rows * some_columns * channels : 0);
  swin_resample(image.data(), sizes, as_floats ? values.data() : nullptr,
                as_floats ? static_cast<void*>(floats.data()) : bytes.data(), plain_threads, kThreads);
  for (int64_t y = 0; y < some_rows; y++)
    for (int64_t x = 0; x < some_columns; x++)
      for (int64_t c = 0; c < channels; c++) {
        const int64_t column = left + (flip ? some_columns - 1 - x : x);
        const uint8_t right = expected[((top + y) * columns + column) * channels + c];
        if (as_floats ? floats[(c * some_rows + y) * some_columns + x] != values[c * kLevelValues + right]
                      : bytes[(y * some_columns + x) * channels + c] != right)
          return true;
      }
  return false;
}

bool moved_wrongly(std::mt19937& chance) {
  const int64_t height = between_of(chance, 1, 60), width = between_of(chance, 1, 60);
  const Picture image = noise(height * width * 3, chance);
  const auto number = [&](double most) { return std::uniform_real_distribution<double>(-most, most)(chance); };
  double matrix[6] = {1, 0, 0, 0, 1, 0};
  const int64_t kind = between_of(chance, 0, 5);
  if (kind == 0) matrix[1] = number(1);
  if (kind == 1) matrix[3] = number(1);
  if (kind == 2) matrix[2] = number(70);
  if (kind == 3) matrix[5] = number(70);
  if (kind == 4)
    for (double& value : matrix) value += number(1);
  const uint8_t fill[3] = {1, 2, 3};
  Picture out(image.size());
  swin_affine(image.data(), height, width, matrix, fill, out.data(), plain_threads, kThreads);
  const auto cubic_of = [](double a, double b, double c, double d, double part) {
    const double p2 = -a + c, p3 = 2 * (a - b) + c - d, p4 = -a + b - c + d;
    return b + part * (p2 + part * (p3 + part * p4));
  };
  for (int64_t row = 0; row < height; row++)
    for (int64_t column = 0; column < width; column++) {
      const double xc = static_cast<double>(column) + 0.5, yc = static_cast<double>(row) + 0.5;
      const double x = matrix[0] * xc + matrix[1] * yc + matrix[2], y = matrix[3] * xc + matrix[4] * yc + matrix[5];
      const bool inside = x >= 0 && x < static_cast<double>(width) && y >= 0 && y < static_cast<double>(height);
      const double left = std::floor(x - 0.5), upper = std::floor(y - 0.5);
      for (int64_t c = 0; c < 3; c++) {
        uint8_t right = fill[c];
        if (inside) {
          const auto at = [&](int64_t j, int64_t i) -> double {
            j = std::clamp<int64_t>(static_cast<int64_t>(upper) + j, 0, height - 1);
            i = std::clamp<int64_t>(static_cast<int64_t>(left) + i, 0, width - 1);
            return image[(j * width + i) * 3 + c];
          };
          double rows[4];
          for (int64_t j = 0; j < 4; j++)
            rows[j] = cubic_of(at(j - 1, -1), at(j - 1, 0), at(j - 1, 1), at(j - 1, 2), x - 0.5 - left);
          right = static_cast<uint8_t>(
              std::clamp(cubic_of(rows[0], rows[1], rows[2], rows[3], y - 0.5 - upper), 0.0, 255.0));
        }
        if (out[(row * width + column) * 3 + c] != right) return true;
      }
    }
  return false;
}

bool levelled_wrongly(std::mt19937& chance) {
  const int64_t pixels = between_of(chance, 1, 700), channels = between_of(chance, 0, 1) ? 3 : 1;
  const Picture image = noise(pixels * channels, chance);
  const std::vector<float> values = levels_of(between_of(chance, 0, 1), chance);
  std::vector<float> out(image.size());
  swin_levels(image.data(), pixels, channels, values.data(), out.data(), plain_threads, kThreads);
  for (int64_t i = 0; i < pixels; i++)
    for (int64_t c = 0; c < channels; c++)
      if (out[c * pixels + i] != values[c * kLevelValues + image[i * channels + c]]) return true;
  return false;
}

}  // namespace

// COUNT and SEED of the cases.
int main(int count, char** arguments) {
  if (count != 3) return 100;
  std::mt19937 chance(std::atoi(arguments[2]));
  int wrong = 0;
  for (int i = 0; i < std::atoi(arguments[1]); i++) {
    const bool is_wrong = i % 3 == 0   ? resized_wrongly(chance)
                          : i % 3 == 1 ? moved_wrongly(chance)
                                       : levelled_wrongly(chance);
    if (!is_wrong) continue;
    std::printf("%s case %d is wrong\n", i % 3 == 0 ? "resizing" : i % 3 == 1 ? "moving" : "level", i);
    wrong++;
  }
  return std::min(wrong, 100);
}
