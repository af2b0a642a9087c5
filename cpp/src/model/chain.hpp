// Layers run step by step, one after the other, with what each carries. Nothing is allocated in a call.
#pragma once

#include <memory>
#include <vector>

#include "fastrnn/model.hpp"
#include "memory.hpp"

namespace fastrnn {

class Stage {
 public:
  Stage(index inputs, index outputs) : inputs(inputs), outputs(outputs) {}
  virtual ~Stage() = default;
  // x (steps, inputs) -> y (steps, outputs)
  virtual void process(const float* x, index steps, float* y) noexcept = 0;
  virtual void reset() noexcept {}
  const index inputs, outputs;
};

struct ModelStream::State {
  explicit State(std::vector<std::unique_ptr<Stage>> stages);
  std::vector<std::unique_ptr<Stage>> stages;  // at least one
  Buffer<float> between;                       // two blocks of what stages hand on
  index block_values;
};

}  // namespace fastrnn
