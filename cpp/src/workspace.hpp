// What stands between forward and backward (Workspace::State), and how its buffers are laid out.
#pragma once

#include <memory>
#include <vector>

#include "cell_layout.hpp"
#include "fastrnn/rnn.hpp"
#include "memory.hpp"
#include "packing.hpp"
#include "plan.hpp"
#include "schedule.hpp"

namespace fastrnn {

// The values of the steps of a shard from `begin` on. h, c and operand: the rows that enter `begin`, then the packed
// rows of each step; step s reads block(s) and writes block(s + 1). saved and reset_h: the packed rows of each step.
// Where they are not kept, two blocks of h take turns, and c is updated in place.
template <class T>
struct Trace {
  const Schedule* schedule = nullptr;
  index begin = 0, entering = 0;
  bool kept = false;
  T *h = nullptr, *c = nullptr, *saved = nullptr, *reset_h = nullptr, *operand = nullptr;  // null: the call has none

  index block(index s) const {
    if (!kept) return s % 2 * entering;
    return s == begin ? 0 : entering + schedule->start[s - 1] - schedule->start[begin];
  }
  index row(index s) const { return kept ? schedule->start[s] - schedule->start[begin] : 0; }
};

template <class T>
struct TraceBuffers {
  Buffer<T> h, c, saved, reset_h, operand;

  Trace<T> from(const Schedule& schedule, index begin, index entering, bool kept) const {
    return {&schedule, begin, entering, kept, h.data(), c.data(), saved.data(), reset_h.data(), operand.data()};
  }
  size_t bytes() const { return h.bytes() + c.bytes() + saved.bytes() + reset_h.bytes() + operand.bytes(); }
};

// The part of a batch that one thread or team works on, with everything it writes: shards share no cache line, and
// neighbours in memory are not touched by another thread.
template <class T>
struct Shard {
  Schedule schedule;
  RowOffsets x;  // of x, or of the tokens
  Buffer<T> recurrent_mask;
  TraceBuffers<T> trace;           // of all steps
  Buffer<T> border_h, border_c;    // with checkpoints: the states that enter each stretch
  std::vector<index> border;       // the first row of each
  Buffer<Quantum> quantum{};       // in int8: of each row

  index rows() const { return schedule.rows(); }
};

template <class T>
struct Workspace<T>::State {
  RnnOptions<T> options;
  const KernelTable<T>* kernels = nullptr;
  const CellLayout* cell = nullptr;
  index B = 0, T_ = 0, I = 0, H = 0;
  View<const T> x;                       // or, with `distinct`, the embedding that positions take their rows from
  const TokenIndex* distinct = nullptr;
  bool chunked = false;
  bool operand = false;                  // products read a copy of h: masked, or of fewer bits
  bool from_zero = false;                // no h0: the first step of a row has no product with R
  bool kept = false;                     // every step is kept
  index checkpoint = 0;                  // or the states of every so many steps, whole chunks; 0: none
  index chunk = 1;                       // steps whose gate gradients become weight gradients together
  bool pipelined = false;                // forward; see plan_team
  bool matrices_x = false, matrices_dx = false, matrices_dw = false, matrices_dr = false;  // these: by matrices.hpp
  index state_stride = 0, saved_stride = 0;
  BackwardWeights<T> backward_weights;
  PackedWeights<T> weights;  // with checkpoints: forward's
  std::vector<Shard<T>> shards;
  index rows = 0, steps = 0;  // of the largest shard, of the longest
  double total = 0;           // steps of all rows

  double backward_flops() const {
    return (checkpoint > 0 ? 6.0 : 4.0) * total * double(cell->gates * H) * double((distinct ? 0 : I) + H);
  }
  TeamPlan backward_team() const {
    const double count = double(std::max<index>(steps, 1)) * double(std::max<size_t>(shards.size(), 1));
    const double walk = (checkpoint > 0 ? 4.0 : 2.0) * total * double(cell->gates * H) * double(H);
    return plan_team(rows, walk / count, (backward_flops() - walk) / count, panels_of(H, kernels->lanes));
  }
  bool saves(bool keep) const {  // the gates
    return cell->phases == 2 || (keep && (options.cell != Cell::rnn || needs_input(options.candidate)));
  }
  // Room for a trace: of `steps` packed rows, or of none that are kept.
  TraceBuffers<T> trace(index entering, index steps, bool keep) const {
    const index states = keep ? entering + steps : 2 * entering, rows = keep ? steps : entering;
    TraceBuffers<T> t;
    t.h = Buffer<T>(size_t(states * state_stride));
    if (cell->has_c) t.c = Buffer<T>(size_t((keep ? states : rows) * state_stride));
    if (saves(keep)) t.saved = Buffer<T>(size_t(rows * saved_stride));
    if (cell->phases == 2) t.reset_h = Buffer<T>(size_t(rows * state_stride));
    if (operand) t.operand = Buffer<T>(size_t(states * state_stride));
    return t;
  }
};

// Rows of what a product reads, in memory that was sized for T.
template <class W, class T>
W* operand_rows(T* rows) {
  return reinterpret_cast<W*>(rows);
}

// A stride of an odd number of cache lines: rows then spread over all sets of the cache.
inline index padded_stride(index values, size_t size) {
  const index line = 64 / index(size);
  return ((values + line - 1) / line | 1) * line;
}

// (B, H) of the user -> the rows of a shard, padded with zeros; and back.
template <class T>
void gather_rows(const View<const T>& rows, const Schedule& s, T* sorted, index stride, index hidden) {
  for (index r = 0; r < s.rows(); ++r) {
    T* to = sorted + r * stride;
    const T* from = rows ? rows.data + s.row[r] * rows.stride[0] : nullptr;
    for (index u = 0; u < hidden; ++u) to[u] = from ? from[u * rows.stride[1]] : T(0);
    for (index u = hidden; u < stride; ++u) to[u] = T(0);
  }
}

template <class T>
void scatter_row(const T* sorted, const Schedule& s, index r, index hidden, const View<T>& rows) {
  if (!rows) return;
  T* to = rows.data + s.row[r] * rows.stride[0];
  for (index u = 0; u < hidden; ++u) to[u * rows.stride[1]] = sorted[u];
}

// Zeroes a (B, T, N) array in the rows of the shard that have positions which are never visited.
template <class T>
void zero_padding(const View<T>& array, const Schedule& s, bool batch_first) {
  if (!array) return;
  const index sb = array.stride[batch_first ? 0 : 1], st = array.stride[batch_first ? 1 : 0];
  for (index r = 0; r < s.rows(); ++r)
    for (index t = 0; s.count[r] < s.time && t < s.time; ++t) {
      T* to = array.data + s.row[r] * sb + t * st;
      for (index n = 0; n < array.shape[2]; ++n) to[n] = T(0);
    }
}

}  // namespace fastrnn
