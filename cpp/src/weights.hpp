// What PackedWeights and ProjectionTable hold.
#pragma once

#include <type_traits>

#include "cell_layout.hpp"
#include "fastrnn/rnn.hpp"
#include "matrices.hpp"
#include "memory.hpp"
#include "reduced.hpp"
#include "workspace.hpp"

namespace fastrnn {

template <class T>
struct PackedWeights<T>::State {
  Cell kind{};
  const CellLayout* cell;
  const KernelTable<T>* kernels;
  index inputs, hidden;
  UnitPanels units;
  Precision precision;
  const ReducedKernels* reduced = nullptr;
  Buffer<T> weight_ih[kMaxPhases], weight_hh[kMaxPhases], bias[kMaxPhases];  // the former two in full precision only
  Buffer<char> tiles_ih[kMaxPhases];  // of whole panels; empty: not for matrices.hpp
  ReducedWeights reduced_ih[kMaxPhases], reduced_hh[kMaxPhases];             // or these

  State(const CellLayout& cell, const KernelTable<T>& kernels, index inputs, index hidden, Precision precision)
      : cell(&cell), kernels(&kernels), inputs(inputs), hidden(hidden),
        units(cell, hidden, kernels.lanes, precision == Precision::full), precision(precision) {}
  index panels() const { return units.count(); }
  index start_values(int phase) const { return index(cell->accumulators[phase]) * kernels->lanes; }  // of a panel

  // The kernel and the weights of products that read W.
  template <class W>
  void run(int phase, const ForwardStep<T, W>& step) const {
    if constexpr (std::is_same_v<W, T>) kernels->forward[int(kind)][phase](step);
    else if constexpr (std::is_same_v<W, Bfloat16>) reduced->bfloat16[int(kind)][phase](step);
    else reduced->int8[int(kind)][phase](step);
  }
  template <class W>
  const Word<W>* ih(int phase) const {
    if constexpr (std::is_same_v<W, T>) return weight_ih[phase].data();
    else return reduced_ih[phase].words.data();
  }
  template <class W>
  const Word<W>* hh(int phase) const {
    if constexpr (std::is_same_v<W, T>) return weight_hh[phase].data();
    else return reduced_hh[phase].words.data();
  }
};

// Checked and packed; with `backward`, for that too. Throws std::invalid_argument.
template <class T>
std::shared_ptr<const typename PackedWeights<T>::State> pack(Cell kind, const View<const T>& weight_ih,
                                                             const View<const T>& weight_hh,
                                                             const View<const T>& bias_ih,
                                                             const View<const T>& bias_hh, Precision precision,
                                                             BackwardWeights<T>* backward);

// Rows of x as a product reads them: in their own place, or rounded copies, padded to whole words.
template <class T, class X>
class InputRows {
 public:
  InputRows() = default;
  InputRows(index rows, index inputs) : inputs_(inputs), stride_(padded_stride(inputs, sizeof(X))) {
    if (kCopies) copy_ = zeros<X>(size_t(rows * stride_));
  }
  // Copies the rows [first, last), which stand at x + at[.]. Returns what `place` counts from.
  const X* fill(const ReducedKernels* kernels, const T* x, const index* at, index first, index last) const {
    if constexpr (kCopies) {
      for (index r = first; r < last; ++r) kernels->to_bfloat16(inputs_, x + at[r], copy_.data() + r * stride_);
      return copy_.data();
    } else {
      return x;
    }
  }
  // at[r] of the rows [first, last): where row r stands, which is where it stood unless there are copies.
  void place(index* at, index first, index last) const {
    for (index r = first; kCopies && r < last; ++r) at[r] = r * stride_;
  }

 private:
  static constexpr bool kCopies = !std::is_same_v<T, X>;
  index inputs_ = 0, stride_ = 0;
  Buffer<X> copy_;
};

// What weights.run(p, step) leaves of a projection, where there are tiles of phase p. Slots that x has no part in are
// made if `fresh`; otherwise an earlier call has left them in the same place.
void project_by_matrices(const PackedWeights<float>::State& weights, int p, ForwardStep<float> step, bool fresh,
                         MatrixRoom& room);

template <class T>
struct ProjectionTable<T>::State {
  PackedWeights<T> weights;
  index rows;
  Buffer<T> start[kMaxPhases];  // (rows, P, accumulators, L)
};

}  // namespace fastrnn
