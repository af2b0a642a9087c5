// A last panel of few columns (narrow_columns): as a vector, most of its lanes would multiply zeros. Its weights stand
// as (columns, K) instead, and each value is an inner product, taken a vector of K at a time.
#pragma once

#include "transpose.hpp"

namespace fastrnn {
namespace {

constexpr int kNarrowRows = 4;

// The sums of the lanes of four vectors.
template <class T>
FASTRNN_INLINE void sum_lanes(Vec<T> (&v)[kNarrowRows], T (&sum)[kNarrowRows]) {
  constexpr int W = kLanes<T> / kNarrowRows;
  transpose_rows<T, kNarrowRows>(v);
  T lane[kLanes<T>];
  store<T>(lane, (v[0] + v[1]) + (v[2] + v[3]));
  for (int m = 0; m < kNarrowRows; ++m) {
    sum[m] = lane[m * W];
    for (int i = 1; i < W; ++i) sum[m] += lane[m * W + i];
  }
}

// finish(values, count, row): so many rows from `row` on, a vector each with the columns in its first lanes. Rows of A
// are runs of contiguous values, as in Gemm.
template <class T, class Finish>
FASTRNN_INLINE void narrow_panel(const T* a, index a_stride, const T* b, index K, index columns, const index* segment,
                                 const index* length, index segments, index rows, const Finish& finish) {
  constexpr int L = kLanes<T>, M = kNarrowRows;
  if constexpr (L >= M) {
    for (index row = 0; row < rows; row += M) {
      const int count = rows - row < M ? int(rows - row) : M;
      const T* from[M];
      for (int m = 0; m < M; ++m) from[m] = a + (row + (m < count ? m : 0)) * a_stride;
      T value[M][L] = {};
      for (index c = 0; c < columns; ++c) {
        const T* w = b + c * K;
        Vec<T> sum[M] = {};
        for (index i = 0; i < segments; w += length[i++])
          for (index k = 0; k < length[i]; k += L) {
            const index left = length[i] - k, n = left < L ? left : L;
            const Vec<T> column = load_first<T>(w + k, n);
#pragma GCC unroll 4
            for (int m = 0; m < M; ++m) sum[m] += load_first<T>(from[m] + segment[i] + k, n) * column;
          }
        T sums[M];
        sum_lanes<T>(sum, sums);
        for (int m = 0; m < M; ++m) value[m][c] = sums[m];
      }
      Vec<T> out[M];
      for (int m = 0; m < M; ++m) out[m] = load<T>(value[m]);
      finish(out, count, row);
    }
  }
}

}  // namespace
}  // namespace fastrnn
