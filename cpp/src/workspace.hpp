// What stands between forward and backward (Workspace::State), and how its buffers are laid out.
#pragma once

#include <memory>
#include <vector>

#include "cell_layout.hpp"
#include "fastrnn/rnn.hpp"
#include "memory.hpp"
#include "packing.hpp"
#include "schedule.hpp"

namespace fastrnn {

// The part of a batch that one thread works on, with everything it writes: shards share no cache line, and neighbours in
// memory are not touched by another thread.
//
// h and c: the initial rows, then the packed rows of each step: step s reads block(s) and writes block(s + 1).
template <class T>
struct Shard {
  Schedule schedule;
  RowOffsets x;
  Buffer<T> h, c, saved, reset_h;     // reset_h: rows as saved
  Buffer<T> recurrent_mask, operand;  // operand: h * recurrent_mask, rows as h

  index rows() const { return schedule.rows(); }
  index block(index s) const { return s == 0 ? 0 : rows() + schedule.start[s - 1]; }
};

template <class T>
struct Workspace<T>::State {
  RnnOptions<T> options;
  const KernelTable<T>* kernels = nullptr;
  const CellLayout* cell = nullptr;
  index B = 0, T_ = 0, I = 0, H = 0;
  View<const T> x;
  index state_stride = 0, gates_stride = 0;
  Buffer<T> weight_ih_t, weight_hh_t[kMaxPhases];
  std::vector<Shard<T>> shards;
};

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
