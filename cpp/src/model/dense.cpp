#include "model/dense.hpp"

#include <algorithm>

#include "dispatch.hpp"
#include "plan.hpp"
#include "softmax.hpp"
#include "taps.hpp"
#include "threads.hpp"

namespace fastrnn {

void OutputActivation::apply(const KernelTable<float>& kernels, index rows, index width, float* y) const {
  if (!softmax) {
    if (act.kind != ActivationKind::linear) kernels.activate(rows * width, y, y, act);
    return;
  }
  for (index r = 0; r < rows; ++r) softmax_row<float>(kernels, width, y + r * width, nullptr, y + r * width);
}

Dense::Dense(index inputs, index outputs, const float* kernel, const std::vector<float>& bias,
             const OutputActivation& activation)
    : kernels_(&active_kernels<float>()), inputs_(inputs), outputs_(outputs), activation_(activation) {
  View<const float> taps;  // (outputs, inputs, 1)
  taps.data = kernel;
  taps.ndim = 3;
  taps.shape[0] = outputs, taps.shape[1] = inputs, taps.shape[2] = 1;
  taps.stride[0] = 1, taps.stride[1] = outputs, taps.stride[2] = 1;
  packed_ = pack_taps(*kernels_, taps, false);
  if (!bias.empty()) bias_ = pack_filter_bias(*kernels_, View<const float>(view(bias.data(), outputs)), outputs);
}

void Dense::rows(index rows, const float* x, float* y) const {
  const index start = 0;
  Gemm<float> m{};
  m.rows = rows;
  m.a = x;
  m.a_stride = inputs_;
  m.segment = &start;
  m.segment_length = &inputs_;
  m.segments = 1;
  m.b = packed_.data();
  m.bias = bias_.data();
  m.columns = outputs_;
  m.c = y;
  m.c_stride = outputs_;
  m.activation = activation_.act;
  kernels_->gemm(m);
  if (activation_.softmax) activation_.apply(*kernels_, rows, outputs_, y);
}

void Dense::run(index count, const float* x, float* y) const {
  const index blocks = (count + kBlockRows - 1) / kBlockRows;
  const double flops = 2.0 * double(count) * double(inputs_) * double(outputs_);
  run_tasks(plan_threads(flops, std::max<index>(blocks, 1)), blocks, [&](int, index i) {
    const index first = i * kBlockRows;
    rows(std::min(kBlockRows, count - first), x + first * inputs_, y + first * outputs_);
  });
}

}  // namespace fastrnn
