// The kernel table in use.
#pragma once

#include "kernels/kernel_table.hpp"

namespace fastrnn {

const Kernels& active_table();

template <class T>
const KernelTable<T>& active_kernels();
template <>
inline const KernelTable<float>& active_kernels<float>() {
  return active_table().f32;
}
template <>
inline const KernelTable<double>& active_kernels<double>() {
  return active_table().f64;
}

}  // namespace fastrnn
