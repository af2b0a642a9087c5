// Softmax of one row, with the kernels of an instruction set; no allocation.
#pragma once

#include <algorithm>

#include "kernels/kernel_table.hpp"

namespace fastrnn {

// y = softmax of the valid x; zeros where not valid. Returns false if nothing is valid.
template <class T>
bool softmax_row(const KernelTable<T>& kernels, index n, const T* x, const bool* mask, T* y) {
  bool any = false;
  T top = 0;
  for (index i = 0; i < n; ++i)
    if (!mask || mask[i]) {
      top = !any || !(x[i] <= top) ? x[i] : top;  // a NaN becomes the top and so reaches the result
      any = true;
    }
  if (!any) {
    std::fill_n(y, n, T(0));
    return false;
  }
  kernels.exp_shifted(n, x, top, y);
  T sum = 0;
  for (index i = 0; i < n; ++i) {
    if (mask && !mask[i]) y[i] = T(0);
    sum += y[i];
  }
  for (index i = 0; i < n; ++i) y[i] /= sum;
  return true;
}

}  // namespace fastrnn
