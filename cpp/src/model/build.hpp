// From the header and the tensors of a model file to layers.
#pragma once

#include <memory>
#include <vector>

#include "model/layers.hpp"
#include "model/tensor_file.hpp"
#include "model/text.hpp"

namespace fastrnn {

struct Model::State {
  std::vector<std::unique_ptr<Layer>> layers;  // those that do something
  std::unique_ptr<TextEncoder> encoder;        // or null
  bool takes_ids = false;
  bool has_time = true;  // of the input: rows of features otherwise
  index inputs = 0, outputs = 0, steps = 0;
  index widest = 1;  // the most values of a step anywhere between the layers
};

// Throws ModelError.
std::unique_ptr<Model::State> build_model(const std::string& name, const TensorFile& file);

}  // namespace fastrnn
