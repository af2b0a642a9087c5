// A Dense layer: weights packed once, then a leaf function without allocation that streams may call.
#pragma once

#include <vector>

#include "fastrnn/types.hpp"
#include "kernels/kernel_table.hpp"
#include "memory.hpp"

namespace fastrnn {

// An activation, or a softmax over the last axis.
struct OutputActivation {
  bool softmax = false;
  Activation<float> act{ActivationKind::linear, 0, 0};
  // Of rows (rows, width) in place, on this thread, without allocation.
  void apply(const KernelTable<float>& kernels, index rows, index width, float* y) const;
};

class Dense {
 public:
  // kernel (inputs, outputs), bias (outputs,) or empty.
  Dense(index inputs, index outputs, const float* kernel, const std::vector<float>& bias,
        const OutputActivation& activation);
  index inputs() const { return inputs_; }
  index outputs() const { return outputs_; }
  // x (rows, inputs) -> y (rows, outputs), on this thread, without allocation; a row's bits do not depend on the
  // others.
  void rows(index rows, const float* x, float* y) const;
  // The same on as many threads as it is worth.
  void run(index rows, const float* x, float* y) const;

 private:
  const KernelTable<float>* kernels_;
  index inputs_, outputs_;
  Buffer<float> packed_, bias_;
  OutputActivation activation_;
};

}  // namespace fastrnn
