// Dense layers with large weights: rows of inputs times a matrix that is worth cutting up.
#pragma once

#include "fastrnn/ops.hpp"

namespace fastrnn {

// A Conv1D of one tap that stands at every step: its windows are the rows of x. From so many weights on, packing them
// and adding up a copy of their gradient per shard of rows costs more than the blocks below.
inline bool is_large_dense(const ConvShape& s) {
  constexpr double kLarge = 65536;
  return s.kernel == 1 && s.stride == 1 && s.pad_left == 0 && s.pad_right == 0 &&
         double(s.channels) * double(s.filters) >= kLarge;
}

// As conv1d and conv1d_backward, for such a shape.
template <class T>
void large_dense(const ConvShape& shape, const T* x, const View<const T>& weight, const View<const T>& bias,
                 Activation<T> activation, T* y);
template <class T>
void large_dense_backward(const ConvShape& shape, const T* x, const View<const T>& weight, Activation<T> activation,
                          const T* y, const T* grad_y, T* grad_x, T* grad_weight, T* grad_bias);

}  // namespace fastrnn
