// Classifies an image with libtorch and no Python: classify PACKAGE CLASSES IMAGE
//
// PACKAGE is what `export_aoti(model, "fashion.pt2", byte_input=True)` wrote, CLASSES a file with a name a line, and
// IMAGE a binary PGM (grey) or PPM (RGB) of the size that the model was trained for: resizing is left to the caller.
// For each of the likeliest classes it prints the name, a tab and the probability.
//
// TORCH is the folder of the torch that wrote the package (python -c 'import torch; print(torch.__path__[0])'), or of a
// libtorch of the same version:
//
//   g++ -std=c++20 -O2 -isystem $TORCH/include -isystem $TORCH/include/torch/csrc/api/include main.cpp -o classify
//       -L$TORCH/lib -Wl,-rpath,$TORCH/lib -ltorch -ltorch_cpu -lc10

#include <algorithm>
#include <cstdint>
#include <exception>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

namespace {

// The next number of a PNM header, in which lines after # are comments.
std::int64_t header_number(std::istream& file) {
  while (file >> std::ws && file.peek() == '#') {
    file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  std::int64_t number = 0;
  if (!(file >> number) || number < 1) {
    throw std::runtime_error("the image's header is damaged");
  }
  return number;
}

// Bytes (1, height, width, channels).
at::Tensor read_image(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string kind;
  if (!(file >> kind) || (kind != "P5" && kind != "P6")) {
    throw std::runtime_error(path + " is not a binary PGM or PPM file");
  }
  const std::int64_t width = header_number(file), height = header_number(file), largest = header_number(file);
  if (largest != 255 || std::max(width, height) > 65535) {
    throw std::runtime_error(path + " must have 8 bits a channel, and sides up to 65535");
  }
  file.get();  // one blank ends the header
  at::Tensor image = at::empty({1, height, width, kind == "P5" ? 1 : 3}, at::kByte);
  if (!file.read(static_cast<char*>(image.data_ptr()), image.numel())) {
    throw std::runtime_error(path + " ends too early");
  }
  return image;
}

std::vector<std::string> read_lines(const std::string& path) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) {
    lines.push_back(line);
  }
  return lines;
}

void classify(const std::string& package, const std::string& classes, const std::string& image) {
  const at::NoGradGuard no_grad;
  const std::vector<std::string> names = read_lines(classes);
  const at::Tensor pixels = read_image(image);
  torch::inductor::AOTIModelPackageLoader model(package);
  // The machine code itself does not look at what it is given.
  const std::string description = model.get_metadata()["swin_transformer_pytorch"];
  for (const std::string& part : {std::string("\"input\": \"uint8"), "\"in_channels\": " + std::to_string(pixels.size(3))}) {
    if (description.find(part) == std::string::npos) {
      throw std::runtime_error(package + " does not say " + part + ": it is not for such images");
    }
  }
  const at::Tensor logits = model.run({pixels}).at(0);
  if (logits.size(1) != static_cast<std::int64_t>(names.size())) {
    throw std::runtime_error(classes + " has another number of classes than the model");
  }
  const bool several = description.find("\"multi_label\": true") != std::string::npos;
  const at::Tensor probabilities = several ? logits[0].sigmoid() : logits[0].softmax(0);
  const auto [scores, labels] = probabilities.topk(std::min<std::int64_t>(5, probabilities.size(0)));
  std::cout << std::setprecision(std::numeric_limits<float>::max_digits10);
  for (std::int64_t i = 0; i < scores.size(0); ++i) {
    std::cout << names.at(labels[i].item<std::int64_t>()) << '\t' << scores[i].item<float>() << '\n';
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 4) {
    std::cerr << "usage: classify PACKAGE CLASSES IMAGE\n";
    return 2;
  }
  try {
    classify(arguments[1], arguments[2], arguments[3]);
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
  return 0;
}
