// Weights in the order in which the kernels read them: panels of L units, all gates of a unit side by side.
#pragma once

#include <algorithm>
#include <functional>
#include <vector>

#include "cell_layout.hpp"
#include "kernels/kernel_table.hpp"
#include "memory.hpp"
#include "plan.hpp"
#include "threads.hpp"

namespace fastrnn {

inline index panels_of(index n, int lanes) { return (n + lanes - 1) / lanes; }

// The hidden units in panels: of a row of a panel, L values for each slot, the slots one after the other. A last panel
// of so few units that they fill a half or a quarter of the lanes is folded, where the cell lets it: 2 or 4 slots share
// a vector.
struct UnitPanels {
  index hidden;
  int lanes, slots, fold = 1;

  UnitPanels(const CellLayout& cell, index hidden, int lanes, bool may_fold = true)
      : hidden(hidden), lanes(lanes), slots(cell.slots) {
    const index last = hidden % lanes;
    if (!may_fold || !cell.folds || last == 0) return;
    while (fold < 4 && lanes % (2 * fold) == 0 && 2 * fold * last <= lanes) fold *= 2;
  }
  index count() const { return panels_of(hidden, lanes); }
  index units(index p) const { return std::min<index>(lanes, hidden - p * lanes); }
  index folded() const { return fold > 1 ? count() - 1 : -1; }
  index slot_stride(index p) const { return p == folded() ? lanes / fold : lanes; }
  // Vectors that hold the `side` slots of a product; a folded panel holds all slots.
  index vectors(index p, int side) const { return p == folded() ? slots / fold : side; }
  // Where slot number c of a side stands among its vectors: of packed weights and sums, which hold the side's slots
  // only.
  index packed_slot(index p, const Side& side, int c) const {
    return p == folded() ? side.slot[c] * slot_stride(p) : c * lanes;
  }
};

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

// What takes gate gradients back to x and h.
template <class T>
struct BackwardWeights {
  Buffer<T> ih, hh[kMaxPhases];
  Buffer<char> tiles_ih;  // of whole panels; empty: not for matrices.hpp
};

// Packs what comes from the weights of the panels [first, last) of units; different ones at the same time, if wanted.
// What it was made of, but for `weight` and `panels`, has to stay where it is.
using PackPanels = std::function<void(index first, index last)>;

// (G*H, K) -> `packed` (P, K, side.count, L): the forward operand. `halved`: four slots as (P, 2, K, 2, L), but for a
// folded panel.
template <class T>
PackPanels pack_forward(const KernelTable<T>& kernels, const View<const T>& weight, const Side& side,
                       const UnitPanels& panels, bool halved, Buffer<T>& packed);

// (G*H, N) -> `packed` (N/L, K, L) with K over (panel, slot of the side, unit), a narrow panel last: the operand that
// takes gate gradients back.
template <class T>
PackPanels pack_backward(const KernelTable<T>& kernels, const View<const T>& weight, const Side& side, index hidden,
                        Buffer<T>& packed);

// (P, accumulators, L) from the two biases, either of which may be missing.
template <class T>
Buffer<T> pack_bias(const View<const T>& bias_ih, const View<const T>& bias_hh, const CellLayout& cell, int phase,
                    const UnitPanels& panels);

// Moving a value of a matrix that fits a cache costs about this many operations' time (0.14 nanoseconds).
constexpr double kMoveCost = 15;

// f(p) for each panel, or group of panels, on as many threads as moving so many values is worth.
template <class F>
void for_panels(index count, index values_of_each, const F& f) {
  const double cost = kMoveCost * double(count) * double(values_of_each);
  run_tasks(plan_threads(cost, std::max<index>(count, 1)), count, [&](int, index p) { f(p); });
}

// Where that K stands in a row of gate gradients whose panels are `plane` apart.
Runs backward_runs(const Side& side, const UnitPanels& panels, index plane);

// Offsets in a row of gate gradients of the whole vectors that belong to a side, in the order (panel, slot).
std::vector<index> side_columns(const Side& side, const UnitPanels& panels, index plane);

// The sums of the shards (`size` values each; rows j, columns as side_columns), added up in order -> grad (G*H, J).
template <class T>
void unpack_gradient(const KernelTable<T>& kernels, T* sums, index shards, index size, index stride, const Side& side,
                     const UnitPanels& panels, const View<T>& grad);

// One panel of N columns: b(k, n) = data[k*stride_k + n*stride_n] goes to packed[k*row_stride + n], the lanes from N to
// `width` (0: L) are zero.
template <class T>
void pack_panel(const KernelTable<T>& kernels, const T* data, index stride_k, index stride_n, index K, index N,
                T* packed, index row_stride, index width = 0);

}  // namespace fastrnn
