// The register tile: MR rows times NP panels of S vectors, all accumulated in registers over K.
#pragma once

#include "simd.hpp"

namespace fastrnn {
namespace {

// Which accumulator each packed vector of one k belongs to.
template <int... slot>
struct Slots {
  static constexpr int count = int(sizeof...(slot));
  static constexpr int at(int i) {
    constexpr int table[] = {slot...};
    return table[i];
  }
};

// MR rows anywhere: a pointer each.
template <class T, int MR>
struct ScatteredRows {
  const T* row[MR];
  FASTRNN_ALWAYS T get(int m) const { return *row[m]; }
  FASTRNN_ALWAYS void advance(index n) {
    for (int m = 0; m < MR; ++m) row[m] += n;
  }
};

// MR rows `stride` bytes apart: a pointer for every three, the others by x86's base + 1 or 2 times index, so that twelve
// rows fit the registers that addresses have.
template <class T, int MR>
struct StridedRows {
  const char* group[(MR + 2) / 3];
  index stride;
  FASTRNN_ALWAYS StridedRows(const T* first, index stride_values) : stride(stride_values * index(sizeof(T))) {
    for (int g = 0; g < (MR + 2) / 3; ++g) group[g] = reinterpret_cast<const char*>(first) + 3 * g * stride;
  }
  FASTRNN_ALWAYS T get(int m) const {
    return *reinterpret_cast<const T*>(group[m / 3] + (m % 3) * stride);
  }
  FASTRNN_ALWAYS void advance(index n) {
    for (int g = 0; g < (MR + 2) / 3; ++g) group[g] += n * index(sizeof(T));
  }
};

// acc[m][n*S + Map(c)] += sum over k of a[m][k] * w[n*panel_stride + (k*count + c)*L]; leaves `a` at K.
template <class T, int MR, int NP, int S, class Map, class Rows>
FASTRNN_INLINE void accumulate(Vec<T> (&acc)[MR][NP * S], Rows& a, const T* w, index panel_stride, index K) {
  constexpr int C = Map::count;
  constexpr int L = kLanes<T>;
  for (index k = 0; k < K; ++k) {
    Vec<T> column[NP * C];
#pragma GCC unroll 16
    for (int n = 0; n < NP; ++n)
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) column[n * C + c] = load<T>(w + n * panel_stride + c * L);
#pragma GCC unroll 16
    for (int m = 0; m < MR; ++m) {
      const Vec<T> row = splat<T>(a.get(m));
#pragma GCC unroll 16
      for (int n = 0; n < NP; ++n)
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) acc[m][n * S + Map::at(c)] += row * column[n * C + c];
    }
    a.advance(1);
    w += C * L;
  }
}

template <int N>
struct Width {
  static constexpr int value = N;
};

// All whole tiles of MR rows from `row` on, the panels taken NP at a time, then by the next smaller NP.
// Panels are the outer loop: a panel of weights stays in cache while the rows pass by. Returns the first row left.
template <int MR, int... NP, class Tile>
FASTRNN_INLINE index tile_rows(const Tile& tile, index row, index rows, index panels) {
  const index count = (rows - row) / MR;
  if (count == 0) return row;
  index p = 0;
  const auto by = [&](auto width) FASTRNN_ALWAYS {
    constexpr int W = decltype(width)::value;
    for (; p + W <= panels; p += W)
      for (index i = 0; i < count; ++i) tile.template run<MR, W>(row + i * MR, p);
  };
  (by(Width<NP>{}), ...);
  return row + count * MR;
}

}  // namespace
}  // namespace fastrnn
