// Transposition in registers: log2 rounds that exchange halves between pairs of rows.
#pragma once

#include "simd.hpp"

#if FASTRNN_VECTOR_BYTES > 0 && defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define FASTRNN_SHUFFLES 1
#endif
#endif

namespace fastrnn {
namespace {

#if defined(FASTRNN_SHUFFLES)
template <int... i>
struct Sequence {};
template <int N, int... i>
struct MakeSequence : MakeSequence<N - 1, N - 1, i...> {};
template <int... i>
struct MakeSequence<0, i...> {
  using type = Sequence<i...>;
};

// Columns with bit `step` set change places with those of the partner row that have it not.
template <class T, int step, int... i>
FASTRNN_INLINE void exchange(Vec<T>& a, Vec<T>& b, Sequence<i...>) {
  constexpr int L = kLanes<T>;
  const Vec<T> upper = __builtin_shufflevector(a, b, ((i & step) ? L + i - step : i)...);
  b = __builtin_shufflevector(a, b, ((i & step) ? L + i : i + step)...);
  a = upper;
}

// F rows, taken as F x F blocks of L/F neighbouring lanes.
template <class T, int F, int step = 1>
FASTRNN_INLINE void transpose_rows(Vec<T>* row) {
  constexpr int L = kLanes<T>;
  if constexpr (step < F) {
#pragma GCC unroll 16
    for (int r = 0; r < F; ++r)
      if (!(r & step)) exchange<T, step * (L / F)>(row[r], row[r + step], typename MakeSequence<L>::type());
    transpose_rows<T, F, 2 * step>(row);
  }
}

template <class T>
FASTRNN_INLINE void transpose_block(const T* x, index x_stride, T* y, index y_stride) {
  Vec<T> row[kLanes<T>];
#pragma GCC unroll 16
  for (int r = 0; r < kLanes<T>; ++r) row[r] = load<T>(x + r * x_stride);
  transpose_rows<T, kLanes<T>>(row);
#pragma GCC unroll 16
  for (int r = 0; r < kLanes<T>; ++r) store<T>(y + r * y_stride, row[r]);
}
#else
template <class T, int F>
FASTRNN_INLINE void transpose_rows(Vec<T>* row) {
  constexpr int L = kLanes<T>, W = L / F;
  T from[F][L], to[F][L];
  for (int r = 0; r < F; ++r) store<T>(from[r], row[r]);
  for (int r = 0; r < F; ++r)
    for (int i = 0; i < L; ++i) to[i / W][r * W + i % W] = from[r][i];
  for (int r = 0; r < F; ++r) row[r] = load<T>(to[r]);
}
template <class T>
FASTRNN_INLINE void transpose_block(const T* x, index x_stride, T* y, index y_stride) {
  for (int r = 0; r < kLanes<T>; ++r)
    for (int c = 0; c < kLanes<T>; ++c) y[c * y_stride + r] = x[r * x_stride + c];
}
#endif

template <class T>
static void copy_rows(index rows, index columns, const T* x, index x_stride, T* y, index y_stride) {
  constexpr index L = kLanes<T>;
  for (index r = 0; r < rows; ++r, x += x_stride, y += y_stride) {
    index c = 0;
    for (; c + L <= columns; c += L) store<T>(y + c, load<T>(x + c));
    if (c < columns) store_first<T>(y + c, load_first<T>(x + c, columns - c), columns - c);
  }
}

// y[c][r] = x[r][c] for r < rows, c < columns.
template <class T>
static void transpose(index rows, index columns, const T* x, index x_stride, T* y, index y_stride) {
  constexpr index L = kLanes<T>;
  for (index r = 0; r < rows; r += L)
    for (index c = 0; c < columns; c += L) {
      if (r + L <= rows && c + L <= columns) {
        transpose_block<T>(x + r * x_stride + c, x_stride, y + c * y_stride + r, y_stride);
        continue;
      }
      const index r_end = r + L < rows ? r + L : rows, c_end = c + L < columns ? c + L : columns;
      for (index i = r; i < r_end; ++i)
        for (index j = c; j < c_end; ++j) y[j * y_stride + i] = x[i * x_stride + j];
    }
}

}  // namespace
}  // namespace fastrnn
