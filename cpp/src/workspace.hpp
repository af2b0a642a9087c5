// What stands between forward and backward (Workspace::State), and how its buffers are laid out.
//
// h and c: B rows of initial state, then the packed rows of each step: step s, row r at block(s + 1) + r. Row strides
// keep rows on cache lines of their own and, for large H, off the same cache set.
#pragma once

#include <memory>
#include <vector>

#include "cell_layout.hpp"
#include "fastrnn/rnn.hpp"
#include "memory.hpp"
#include "packing.hpp"
#include "schedule.hpp"

namespace fastrnn {

template <class T>
struct Workspace<T>::State {
  RnnOptions<T> options;
  const KernelTable<T>* kernels = nullptr;
  const CellLayout* cell = nullptr;
  index B = 0, T_ = 0, I = 0, H = 0;
  bool has_bias_ih = false, has_bias_hh = false, has_output = false;
  View<const T> x;
  std::unique_ptr<Schedule> schedule;
  std::unique_ptr<RowOffsets> x_offsets;

  index state_stride = 0, gates_stride = 0;
  Buffer<T> h, c, saved, reset_h;  // reset_h: rows as saved, stride state_stride
  Buffer<T> operand;               // h * recurrent_mask, rows as h; only with a recurrent_mask
  Buffer<T> recurrent_mask;        // (B, state_stride), sorted
  Buffer<T> weight_ih_t, weight_hh_t[kMaxPhases];

  // First row of the state that step s reads; step s writes block(s + 1).
  index block(index s) const { return s == 0 ? 0 : B + schedule->start[s - 1]; }
};

inline index padded_stride(index values, size_t size) {
  const index line = 64 / index(size);
  index stride = (values + line - 1) / line * line;
  if (size_t(stride) * size % 2048 == 0) stride += line;
  return stride;
}

// (B, H) of the user -> sorted, padded rows; and back.
template <class T>
void gather_rows(const View<const T>& rows, const Schedule& s, T* sorted, index stride, index hidden) {
  for (index r = 0; r < s.batch; ++r) {
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

// Zeroes the rows (b, t) of a (B, T, N) array of the sorted row r, all of them: padding is never visited again.
template <class T>
void zero_row(const View<T>& array, const Schedule& s, index r, bool batch_first) {
  const index sb = array.stride[batch_first ? 0 : 1], st = array.stride[batch_first ? 1 : 0];
  for (index t = 0; t < s.time; ++t) {
    T* to = array.data + s.row[r] * sb + t * st;
    for (index n = 0; n < array.shape[2]; ++n) to[n] = T(0);
  }
}

}  // namespace fastrnn
