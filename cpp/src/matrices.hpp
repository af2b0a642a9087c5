// Products of whole matrices, by the instruction set's kernels for these where it has them (KernelTable::matrices).
//
// They add in another order than the register tiles of a step, so which of them makes a product of rows depends on the
// sizes of the weights alone: a row gives the same bits in any batch, at any length and from a table.
#pragma once

#include <algorithm>
#include <atomic>
#include <vector>

#include "kernels/kernel_table.hpp"
#include "memory.hpp"
#include "packing.hpp"

namespace fastrnn {

// 0, by, 2*by, ...
inline std::vector<index> equally_spaced(index count, index by) {
  std::vector<index> at(static_cast<size_t>(count));
  for (index i = 0; i < count; ++i) at[size_t(i)] = i * by;
  return at;
}

// Weights in the parts that a product reads, made once, of each whole panel as soon as it is packed. `tiles` stays empty
// where there is no kernel for them or they are not worth it. Not all finite: `finite` becomes false.
template <class T>
PackPanels split_forward(const KernelTable<T>& kernels, index K, const Side& side, const UnitPanels& panels,
                         const Buffer<T>& packed, Buffer<char>& tiles, std::atomic<bool>& finite);
template <class T>  // groups of panels begin at even ones
PackPanels split_backward(const KernelTable<T>& kernels, index N, const Side& side, index hidden,
                          const Buffer<T>& packed, Buffer<char>& tiles, std::atomic<bool>& finite);

// Room of one thread.
class MatrixRoom {
 public:
  MatrixRoom() = default;
  explicit MatrixRoom(bool wanted) : room_(wanted ? kMatrixRoom : 0) {}

  void run(const MatrixKernels& kernels, const MatrixProduct& product) { kernels.product(product, room_.data()); }

  // The same. Returns for each row whether it has met an infinite value or NaN: then it has to be made in another way.
  const bool* run_checked(const MatrixKernels& kernels, MatrixProduct product) {
    if (special_.bytes() < size_t(product.rows)) special_ = Buffer<bool>(size_t(product.rows));
    product.special = special_.data();
    std::fill_n(product.special, product.rows, false);
    kernels.product(product, room_.data());
    return product.special;
  }

  // So many values, which the next call that wants some takes again.
  float* values(size_t count) {
    if (values_.bytes() < count * sizeof(float)) values_ = Buffer<float>(count);
    return values_.data();
  }

 private:
  Buffer<char> room_;
  Buffer<bool> special_;
  Buffer<float> values_;
};

// kernels.gemm(g), without a bias or an activation; `tiles`: its whole panels.
void gemm_by_matrices(const KernelTable<float>& kernels, const Gemm<float>& g, const char* tiles, MatrixRoom& room);

}  // namespace fastrnn
