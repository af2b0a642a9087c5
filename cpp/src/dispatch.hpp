// The kernel tables in use.
#pragma once

#include <string>

#include "kernels/kernel_table.hpp"

namespace fastrnn {

const Kernels& active_table();
// The best for reduced precision beside the kernels of an instruction set.
const ReducedKernels& reduced_kernels(const std::string& isa);

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
