// The same layers on Eigen's matrices of fixed size, as RTNeural's layers with sizes known at compile time compute them:
// the peer of streaming.cpp. Built for the machine that compiles it (-march=native), where Eigen is installed.
#pragma once

#include <memory>

struct EigenLayer {
  virtual ~EigenLayer() = default;
  // x (steps, inputs) -> y (steps, hidden), one step after the other; the state is carried.
  virtual void run(const float* x, long steps, float* y) = 0;
};

// Weights (G*H, I) and (G*H, H) in rows, bias (G*H,); null for sizes that were not compiled.
std::unique_ptr<EigenLayer> make_eigen_layer(bool lstm, long inputs, long hidden, const float* w, const float* r,
                                             const float* b);
