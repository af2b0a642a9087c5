// Weights in the order in which the kernels read them: panels of L units, all gates of a unit side by side.
#pragma once

#include <algorithm>
#include <vector>

#include "cell_layout.hpp"
#include "kernels/kernel_table.hpp"
#include "memory.hpp"
#include "plan.hpp"
#include "threads.hpp"

namespace fastrnn {

inline index panels_of(index n, int lanes) { return (n + lanes - 1) / lanes; }

// Runs of contiguous values that make up the K dimension of a product (Gemm::segment).
struct Runs {
  std::vector<index> offset, length;
  void add(index at, index count) {  // merges with the run before where they touch
    if (!offset.empty() && offset.back() + length.back() == at)
      length.back() += count;
    else {
      offset.push_back(at);
      length.push_back(count);
    }
  }
  index count() const { return index(offset.size()); }
};

// (G*H, K) -> (P, K, side.count, L): the forward operand.
template <class T>
Buffer<T> pack_forward(const KernelTable<T>& kernels, const View<const T>& weight, const Side& side, index hidden);

// (P, accumulators, L) from the two biases, either of which may be missing.
template <class T>
Buffer<T> pack_bias(const View<const T>& bias_ih, const View<const T>& bias_hh, const CellLayout& cell, int phase,
                    index hidden, int lanes);

// (G*H, N) -> (N/L, K, L) with K over (panel, slot of the side, unit): the operand that takes gate gradients back.
template <class T>
Buffer<T> pack_backward(const KernelTable<T>& kernels, const View<const T>& weight, const Side& side, index hidden);

// Moving a value costs about this many operations' time.
constexpr double kMoveCost = 4;

// f(p) for each panel, on as many threads as moving so many values is worth.
template <class F>
void for_panels(index panels, index values_per_panel, const F& f) {
  const double cost = kMoveCost * double(panels) * double(values_per_panel);
  run_tasks(plan_threads(cost, std::max<index>(panels, 1)), panels, [&](int, index p) { f(p); });
}

// Where that K stands in a row of gate gradients whose panels are `plane` apart.
Runs backward_runs(const Side& side, index hidden, int lanes, index plane);

// Offsets in a row of gate gradients of the whole vectors that belong to a side, in the order (panel, slot).
std::vector<index> side_columns(const Side& side, index hidden, int lanes, index plane);

// The sums of the shards (`size` values each; rows j, columns as side_columns), added up in order -> grad (G*H, J).
template <class T>
void unpack_gradient(const KernelTable<T>& kernels, T* sums, index shards, index size, index stride, const Side& side,
                     index hidden, const View<T>& grad);

// One panel of at most L columns: b(k, n) = data[k*stride_k + n*stride_n] goes to packed[k*row_stride + n], the lanes
// past N are zero.
template <class T>
void pack_panel(const KernelTable<T>& kernels, const T* data, index stride_k, index stride_n, index K, index N,
                T* packed, index row_stride);

}  // namespace fastrnn
