#include "model/chain.hpp"

#include <algorithm>
#include <utility>

#include "kernels/flush.hpp"

namespace fastrnn {
namespace {

constexpr index kBlockSteps = 48;  // steps that a stage takes before the next one does: a multiple of kStreamAhead

}  // namespace

ModelStream::State::State(std::vector<std::unique_ptr<Stage>> list) : stages(std::move(list)) {
  index widest = 0;
  for (size_t i = 0; i + 1 < stages.size(); ++i) widest = std::max(widest, stages[i]->outputs);
  block_values = kBlockSteps * widest;
  if (widest > 0) between = Buffer<float>(size_t(2 * block_values));
}

ModelStream::ModelStream(std::unique_ptr<State> state) : state_(std::move(state)) {}
ModelStream::ModelStream(ModelStream&&) noexcept = default;
ModelStream& ModelStream::operator=(ModelStream&&) noexcept = default;
ModelStream::~ModelStream() = default;

index ModelStream::inputs() const noexcept { return state_->stages.front()->inputs; }
index ModelStream::outputs() const noexcept { return state_->stages.back()->outputs; }

void ModelStream::process(const float* x, index steps, float* y) noexcept {
  const FlushDenormals mode;
  const auto& stages = state_->stages;
  if (stages.size() == 1) return stages.front()->process(x, steps, y);
  const index from = inputs(), to = outputs();
  for (index t = 0; t < steps; t += kBlockSteps) {
    const index count = std::min(kBlockSteps, steps - t);
    const float* in = x + t * from;
    for (size_t i = 0; i < stages.size(); ++i) {
      float* out = i + 1 == stages.size() ? y + t * to : state_->between.data() + index(i % 2) * state_->block_values;
      stages[i]->process(in, count, out);
      in = out;
    }
  }
}

void ModelStream::reset() noexcept {
  for (const auto& stage : state_->stages) stage->reset();
}

}  // namespace fastrnn
