// General products on packed operands: C = act(bias + A.B), and the gradient form C += A^T.D.
#pragma once

#include "activations.hpp"
#include "tile.hpp"

namespace fastrnn {
namespace {

// acc += A.B over the runs that make up a row of A.
template <class T, int MR, int NP>
FASTRNN_INLINE void accumulate_runs(Vec<T> (&acc)[MR][NP], const T* a, index a_stride, const T* b, index panel_stride,
                                    const index* segment, const index* length, index segments) {
  for (index i = 0; i < segments; ++i) {
    StridedRows<T, MR> run(a + segment[i], a_stride);
    accumulate<T, MR, NP, 1, Slots<0>>(acc, run, b, panel_stride, length[i]);
    b += length[i] * kLanes<T>;
  }
}

FASTRNN_INLINE index total_length(const index* length, index segments) {
  index sum = 0;
  for (index i = 0; i < segments; ++i) sum += length[i];
  return sum;
}

// One accumulator per panel: rows many and panels few, or the other way round.
template <class Tile>
FASTRNN_INLINE void tile_single(const Tile& tile, index rows, index panels) {
  index row = 0;
  if (kManyRegisters) {
    row = tile_rows<12, 2, 1>(tile, row, rows, panels);
    row = tile_rows<4, 4, 2, 1>(tile, row, rows, panels);
  } else {
    row = tile_rows<6, 2, 1>(tile, row, rows, panels);
    row = tile_rows<2, 4, 2, 1>(tile, row, rows, panels);
  }
  tile_rows<1, 8, 2, 1>(tile, row, rows, panels);
}

template <class T>
FASTRNN_NOINLINE void finish_gemm(const Gemm<T>& g, const Vec<T>* acc, int rows, int panels, index row,
                                                  index panel) {
  constexpr int L = kLanes<T>;
  for (int m = 0; m < rows; ++m) {
    const index r = row + m;
    T* c = g.c + (g.c_offset ? g.c_offset[r] : r * g.c_stride);
    for (int n = 0; n < panels; ++n) {
      const index column = (panel + n) * L;
      const index left = g.columns - column;
      const index lanes = left < L ? left : L;
      Vec<T> v = *acc++;
      if (g.activation.kind != ActivationKind::linear)
        v = activate<T>(v, g.activation);
      store_first<T>(c + column, v, lanes);
    }
  }
}

template <class T>
struct GemmTile {
  const Gemm<T>& g;
  index panel_stride;

  template <int MR, int NP>
  FASTRNN_ALWAYS void run(index row, index panel) const {
    constexpr int L = kLanes<T>;
    Vec<T> acc[MR][NP];
#pragma GCC unroll 16
    for (int n = 0; n < NP; ++n) {
      const Vec<T> bias = g.bias ? load<T>(g.bias + (panel + n) * L) : Vec<T>{};
#pragma GCC unroll 16
      for (int m = 0; m < MR; ++m) acc[m][n] = bias;
    }
    accumulate_runs<T, MR, NP>(acc, g.a + row * g.a_stride, g.a_stride, g.b + panel * panel_stride, panel_stride,
                               g.segment, g.segment_length, g.segments);
    Vec<T> out[MR * NP];
#pragma GCC unroll 16
    for (int m = 0; m < MR; ++m)
#pragma GCC unroll 16
      for (int n = 0; n < NP; ++n) out[m * NP + n] = acc[m][n];
    finish_gemm<T>(g, out, MR, NP, row, panel);
  }
};

template <class T>
static void gemm(const Gemm<T>& g) {
  const GemmTile<T> tile{g, total_length(g.segment_length, g.segments) * kLanes<T>};
  tile_single(tile, g.rows, (g.columns + kLanes<T> - 1) / kLanes<T>);
}

// C += A^T.D: a tile of MR rows of C (a range of j) times NV vectors stays in registers while the rows pass by.
template <class T>
struct OuterTile {
  const Outer<T>& o;

  template <int MR, int NV>
  FASTRNN_ALWAYS void run(index row, index column) const {
    constexpr int L = kLanes<T>;
    const index j = o.first + row;
    T* c = o.c + j * o.c_stride + column * L;
    index at[NV];
    for (int v = 0; v < NV; ++v) at[v] = o.column[column + v];
    Vec<T> acc[MR][NV];
#pragma GCC unroll 16
    for (int m = 0; m < MR; ++m)
#pragma GCC unroll 16
      for (int v = 0; v < NV; ++v) acc[m][v] = load<T>(c + m * o.c_stride + v * L);
    for (index r = 0; r < o.rows; ++r) {
      const T* d = o.d + (o.d_offset ? o.d_offset[r] : r * o.d_stride);
      const T* a = o.a + (o.a_offset ? o.a_offset[r] : r * o.a_stride) + j;
      Vec<T> dv[NV];
#pragma GCC unroll 16
      for (int v = 0; v < NV; ++v) dv[v] = load<T>(d + at[v]);
#pragma GCC unroll 16
      for (int m = 0; m < MR; ++m) {
        const Vec<T> am = splat<T>(a[m]);
#pragma GCC unroll 16
        for (int v = 0; v < NV; ++v) acc[m][v] += am * dv[v];
      }
    }
#pragma GCC unroll 16
    for (int m = 0; m < MR; ++m)
#pragma GCC unroll 16
      for (int v = 0; v < NV; ++v) store<T>(c + m * o.c_stride + v * L, acc[m][v]);
  }
};

template <class T>
static void outer(const Outer<T>& o) {
  const OuterTile<T> tile{o};
  const index rows = o.last - o.first;
  index row = 0;
  if (kManyRegisters) {
    if (o.columns < 4) row = tile_rows<12, 2, 1>(tile, row, rows, o.columns);
    // a rest of two rows is better done as eight rows in two tiles of four
    const index sixes = (rows - row) % 6 == 2 ? rows - 6 : rows;
    row = tile_rows<6, 4, 2, 1>(tile, row, sixes, o.columns);
    row = tile_rows<4, 4, 2, 1>(tile, row, rows, o.columns);
  } else {
    row = tile_rows<6, 2, 1>(tile, row, rows, o.columns);
  }
  row = tile_rows<2, 4, 2, 1>(tile, row, rows, o.columns);
  tile_rows<1, 8, 2, 1>(tile, row, rows, o.columns);
}

}  // namespace
}  // namespace fastrnn
