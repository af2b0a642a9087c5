// The last panel where its units fill a half or a quarter of the lanes: F slots of a unit share a vector, L/F lanes
// each, and the epilogue takes F rows at once. Products then cost 1/F, and so does the cell's maths.
#pragma once

#include "transpose.hpp"

namespace fastrnn {
namespace {

// Whether a cell has folded panels of F slots: all its slots in one phase, and lanes enough.
template <class T, class P, int F>
constexpr bool kFolds = P::slots == 4 && P::saved_slots == 4 && kLanes<T> % F == 0;

// Up to F rows of a panel's epilogue. A row that is not there repeats the first, and is not stored.
template <class T, int F>
struct FoldedRows {
  static constexpr int L = kLanes<T>;
  int count;

  // (rows) of (S/F vectors of F slots) -> (S slots) of (F rows), `row_stride` vectors from row to row.
  template <int S>
  FASTRNN_ALWAYS void to_slots(const Vec<T>* rows, int row_stride, Vec<T>* slot) const {
    for (int v = 0; v < S / F; ++v) {
      for (int r = 0; r < F; ++r) slot[v * F + r] = rows[(r < count ? r : 0) * row_stride + v];
      transpose_rows<T, F>(slot + v * F);
    }
  }
  template <int S>
  FASTRNN_ALWAYS void load_slots(const T* rows, index row_stride, Vec<T>* slot) const {
    for (int v = 0; v < S / F; ++v) {
      for (int r = 0; r < F; ++r) slot[v * F + r] = load<T>(rows + (r < count ? r : 0) * row_stride + v * L);
      transpose_rows<T, F>(slot + v * F);
    }
  }
  // And back; the slots are lost.
  template <int S>
  FASTRNN_ALWAYS void store_slots(T* rows, index row_stride, Vec<T>* slot) const {
    for (int v = 0; v < S / F; ++v) {
      transpose_rows<T, F>(slot + v * F);
      for (int r = 0; r < count; ++r) store<T>(rows + r * row_stride + v * L, slot[v * F + r]);
    }
  }
  // The first L/F lanes of vectors, side by side.
  FASTRNN_ALWAYS Vec<T> join(const Vec<T>* rows, int row_stride) const {
    Vec<T> v[F];
    for (int r = 0; r < F; ++r) v[r] = rows[(r < count ? r : 0) * row_stride];
    transpose_rows<T, F>(v);
    return v[0];
  }
  FASTRNN_ALWAYS Vec<T> load_rows(const T* rows, index row_stride) const {
    Vec<T> v[F];
    for (int r = 0; r < F; ++r) v[r] = load<T>(rows + (r < count ? r : 0) * row_stride);
    transpose_rows<T, F>(v);
    return v[0];
  }
  // And back, zeros behind them.
  FASTRNN_ALWAYS void split(Vec<T> joined, Vec<T>* rows) const {
    rows[0] = joined;
    for (int r = 1; r < F; ++r) rows[r] = Vec<T>{};
    transpose_rows<T, F>(rows);
  }
  FASTRNN_ALWAYS void store_rows(T* rows, index row_stride, Vec<T> joined) const {
    Vec<T> v[F];
    split(joined, v);
    for (int r = 0; r < count; ++r) store<T>(rows + r * row_stride, v[r]);
  }
};

}  // namespace
}  // namespace fastrnn
