#include "model/recurrent.hpp"

#include <algorithm>

#include "cell_layout.hpp"
#include "checks.hpp"

namespace fastrnn {
namespace {

View<const float> optional(const std::vector<float>& bias) {
  return bias.empty() ? View<const float>() : view(bias.data(), index(bias.size()));
}

// Each row turned round in time.
Buffer<bool> reversed(const Buffer<bool>& mask, index rows, index steps) {
  Buffer<bool> turned(size_t(rows * steps));
  for (index b = 0; b < rows; ++b)
    std::reverse_copy(mask.data() + b * steps, mask.data() + (b + 1) * steps, turned.data() + b * steps);
  return turned;
}

// What comes out carries the mask in the order of processing.
void pass_mask(Batch& batch, const Recurrent& first) {
  if (!first.sequences)
    batch.mask = Buffer<bool>();
  else if (batch.mask && first.options.reverse)
    batch.mask = reversed(batch.mask, batch.rows, batch.steps);
}

class RecurrentStage final : public Stage {
 public:
  explicit RecurrentStage(Stream<float> stream) : Stage(stream.inputs(), stream.hidden()), stream_(std::move(stream)) {}
  void process(const float* x, index steps, float* y) noexcept override { stream_.process(x, steps, y); }
  void reset() noexcept override { stream_.reset(); }

 private:
  Stream<float> stream_;
};

}  // namespace

std::unique_ptr<Stage> recurrent_stage(Stream<float> stream) {
  return std::make_unique<RecurrentStage>(std::move(stream));
}

void Recurrent::pack() {
  const StreamWeights<float> w = weights();
  packed = PackedWeights<float>(options.cell, w.weight_ih, w.weight_hh, w.bias_ih, w.bias_hh);
}

StreamWeights<float> Recurrent::weights() const {
  const index rows = layout(options.cell).gates * hidden;
  return {view(weight_ih.data(), rows, inputs), view(weight_hh.data(), rows, hidden), optional(bias_ih),
          optional(bias_hh)};
}

void Recurrent::run(const Batch& in, bool flip, View<float> out) const {
  const index B = in.rows, T = in.steps;
  RnnInputs<float> inputs_of;
  inputs_of.x = view(in.data.data(), B, T, in.width);
  inputs_of.packed = packed;
  if (in.mask) inputs_of.mask = view(in.mask.data(), B, T);
  Buffer<float> last(size_t(B * hidden)), cell_state(size_t(B * hidden));
  RnnOutputs<float> outputs;
  outputs.h_n = writable_view(last.data(), B, hidden);
  if (layout(options.cell).has_c) outputs.c_n = writable_view(cell_state.data(), B, hidden);
  // The kernels leave the output where the input stood.
  const bool flipped = options.reverse != flip;
  if (sequences) {
    outputs.output = out;
    if (flipped) {
      outputs.output.data += (T - 1) * out.stride[1];
      outputs.output.stride[1] = -out.stride[1];
    }
  }
  rnn_forward(options, inputs_of, outputs);
  if (!sequences) {
    for (index b = 0; b < B; ++b) {
      const bool dropped = in.mask && zero_masked && !in.mask.data()[b * T + (options.reverse ? 0 : T - 1)];
      float* to = out.data + b * out.stride[0];
      if (dropped)
        std::fill_n(to, hidden, 0.0f);
      else
        std::copy_n(last.data() + b * hidden, hidden, to);
    }
  } else if (in.mask && !zero_masked) {  // masked steps repeat the step before; `out` is contiguous then
    const Buffer<bool> turned = flipped ? reversed(in.mask, B, T) : Buffer<bool>();
    Buffer<float> held(size_t(B * T * hidden));
    hold_last<float>(B, T, hidden, out.data, flipped ? turned.data() : in.mask.data(), held.data());
    std::copy_n(held.data(), B * T * hidden, out.data);
  }
}

namespace {

View<float> output_view(const Recurrent& cell, const Batch& batch, float* to, index width) {
  View<float> out =
      cell.sequences ? writable_view(to, batch.rows, batch.steps, width) : writable_view(to, batch.rows, width);
  out.shape[out.ndim - 1] = cell.hidden;
  return out;
}

void expect_no_state(const std::string& where, const Recurrent& cell) {
  if (cell.stateful) fail("run", where, "stateful=False for whole sequences (its stream carries the state)", "True");
}

}  // namespace

void RecurrentLayer::run(Batch& batch) const {
  expect_no_state(where, cell_);
  const index steps = output_steps(batch.steps);
  Buffer<float> y(size_t(batch.rows * steps * cell_.hidden));
  cell_.run(batch, false, output_view(cell_, batch, y.data(), cell_.hidden));
  pass_mask(batch, cell_);
  batch.replace(steps, cell_.hidden, std::move(y));
}

std::unique_ptr<Stage> RecurrentLayer::stage() const {
  if (cell_.options.reverse) return Layer::stage();
  return recurrent_stage(Stream<float>(cell_.options, cell_.weights()));
}

void BidirectionalLayer::run(Batch& batch) const {
  expect_no_state(where, one_);
  const index steps = output_steps(batch.steps), rows = batch.rows * steps;
  const bool concat = merge_ == Merge::concat;
  const index width = concat ? one_.hidden + other_.hidden : one_.hidden;
  Buffer<float> y(size_t(rows * width)), second(size_t(concat ? 0 : rows * width));
  one_.run(batch, false, output_view(one_, batch, y.data(), width));
  other_.run(batch, true, output_view(other_, batch, concat ? y.data() + one_.hidden : second.data(), width));
  for (index i = 0; !concat && i < rows * width; ++i) {
    float& a = y.data()[i];
    const float b = second.data()[i];
    a = merge_ == Merge::mul ? a * b : merge_ == Merge::sum ? a + b : (a + b) * 0.5f;
  }
  pass_mask(batch, one_);
  batch.replace(steps, width, std::move(y));
}

}  // namespace fastrnn
