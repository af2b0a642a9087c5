// The register tile: MR rows times NP panels of S vectors, all accumulated in registers over K.
#pragma once

#include "product.hpp"

namespace fastrnn {
namespace {

// Which slot each packed vector of one k adds to.
template <int... slot>
struct Slots {
  static constexpr int count = int(sizeof...(slot));
  static constexpr int at(int i) {
    constexpr int table[] = {slot...};
    return table[i];
  }
};

template <int count>
struct FirstSlots;
template <>
struct FirstSlots<1> : Slots<0> {};
template <>
struct FirstSlots<2> : Slots<0, 1> {};
template <>
struct FirstSlots<3> : Slots<0, 1, 2> {};
template <>
struct FirstSlots<4> : Slots<0, 1, 2, 3> {};

// MR rows anywhere: a pointer each.
template <class T, int MR>
struct ScatteredRows {
  const T* row[MR];
  FASTRNN_ALWAYS T get(int m) const { return read<T>(row[m]); }
  FASTRNN_ALWAYS void advance(index n) {
    for (int m = 0; m < MR; ++m) row[m] += n;
  }
};

// MR rows `stride` bytes apart: a pointer for every three, the others by x86's base + 1 or 2 times index, so that
// twelve rows fit the registers that addresses have.
template <class T, int MR>
struct StridedRows {
  const char* group[(MR + 2) / 3];
  index stride;
  FASTRNN_ALWAYS StridedRows(const T* first, index stride_values) : stride(stride_values * index(sizeof(T))) {
    for (int g = 0; g < (MR + 2) / 3; ++g) group[g] = reinterpret_cast<const char*>(first) + 3 * g * stride;
  }
  FASTRNN_ALWAYS T get(int m) const {
    return read<T>(group[m / 3] + (m % 3) * stride);
  }
  FASTRNN_ALWAYS void advance(index n) {
    for (int g = 0; g < (MR + 2) / 3; ++g) group[g] += n * index(sizeof(T));
  }
};

// The panels of a product, walked upwards or downwards: what one pass used last the next one then finds in the cache.
struct Panels {
  index first, last;
  bool descending;
};

// Tiles of few rows read weights as fast as they come; there is nothing to gain from looking ahead.
template <int MR>
constexpr bool kFetchesAhead = MR >= 4;
constexpr int kLaterStep = 12;

// Where registers are few, a tile of four slots walks along K twice, for two of them each: the weights are packed that
// way (KernelTable::halved). Walks that take every second line are slower.
constexpr bool kHalved = !kManyRegisters;

// acc[m][n*U + u] += sum over k of a[m][k] * w(n, k, u), k in words: U vectors of each panel, of which G stand side by
// side; w(n, k, u) = w[n*panel_stride + (u/G*K*G + k*G + u%G)*L]. Leaves `a` at K. A vector of `ahead` is fetched with
// each k (next_panels); kFar: and the weights of a later one, from the second cache to the first.
template <class W, int MR, int NP, int G, int U, bool kFar = false, class Rows>
FASTRNN_INLINE void accumulate(typename Product<W>::Sum (&acc)[MR][NP * U], Rows& a, const Word<W>* w,
                               index panel_stride, index K, const Word<W>* ahead) {
  using Kind = Product<W>;
  constexpr int L = Kind::lanes;
  for (index k = 0; k < K; ++k) {
#pragma GCC unroll 4
    for (int part = 0; part < Kind::parts; ++part) {
      typename Kind::Factor column[NP * U];
#pragma GCC unroll 16
      for (int n = 0; n < NP; ++n)
#pragma GCC unroll 4
        for (int u = 0; u < U; ++u)
          column[n * U + u] = Kind::weights(w + n * panel_stride + (u / G * K * G + u % G) * L, part);
#pragma GCC unroll 16
      for (int m = 0; m < MR; ++m) {
        const typename Kind::Factor row = Kind::operand(a.get(m), part);
#pragma GCC unroll 16
        for (int i = 0; i < NP * U; ++i) Kind::add(acc[m][i], row, column[i]);
      }
    }
    if (kFetchesAhead<MR>) prefetch(ahead + k * L);
    if (kFetchesAhead<MR> && kFar)
#pragma GCC unroll 16
      for (int n = 0; n < NP; ++n)
#pragma GCC unroll 4
        for (int u = 0; u < U; ++u) prefetch<kIntoFirstCache>(w + n * panel_stride + (kLaterStep * G + u) * L);
    a.advance(1);
    w += G * L;
  }
}

// sum[c] += x(c) . w of N chains over K values each, of one row: NP panels, and chains in a panel, so far apart.
template <class T, int N, int NP, class X>
FASTRNN_INLINE void accumulate_chains(Vec<T> (&sum)[N][NP], const X& x, const T* w, index panel_stride, index chain,
                                      index K) {
  constexpr int L = kLanes<T>;
  const T* row[N];
  for (int c = 0; c < N; ++c) row[c] = x(c);
  for (index k = 0; k < K; ++k, w += L)
#pragma GCC unroll 4
    for (int c = 0; c < N; ++c) {
      const Vec<T> value = splat<T>(row[c][k]);
#pragma GCC unroll 16
      for (int n = 0; n < NP; ++n) sum[c][n] += value * load<T>(w + n * panel_stride + c * chain);
    }
}

// acc += products in C chains (sum_chains): one(sum, c) adds chain c; several(sum, c), for one row of fewer than eight
// panels, N chains from c on, as many as make eight sums.
template <class T, int C, int MR, int NP, class One, class Several>
FASTRNN_INLINE void in_chains(Vec<T> (&acc)[MR][NP], const One& one, const Several& several) {
  constexpr int kEnough = NP < 8 ? 8 / NP : 1, N = MR > 1 ? 1 : C < kEnough ? C : kEnough;
  if constexpr (N > 1) {
#pragma GCC unroll 4
    for (int c = 0; c < C; c += N) {
      Vec<T> sum[N][NP] = {};
      for (int n = 0; n < NP; ++n) sum[0][n] = c == 0 ? acc[0][n] : Vec<T>{};
      several(sum, c);
#pragma GCC unroll 16
      for (int n = 0; n < NP; ++n) {
        acc[0][n] = c == 0 ? sum[0][n] : acc[0][n] + sum[0][n];
        for (int i = 1; i < N; ++i) acc[0][n] += sum[i][n];
      }
    }
  } else {
    constexpr int L = kLanes<T>;
    alignas(64) T before[MR * NP * L];  // the sum of the chains before: registers hold that of one chain
    for (int c = 0; c < C; ++c) {
      if (c > 0)
#pragma GCC unroll 16
        for (int m = 0; m < MR; ++m)
#pragma GCC unroll 16
          for (int n = 0; n < NP; ++n) {
            store<T>(before + (m * NP + n) * L, acc[m][n]);
            acc[m][n] = Vec<T>{};
          }
      in_memory(before);
      one(acc, c);
      if (c > 0)
#pragma GCC unroll 16
        for (int m = 0; m < MR; ++m)
#pragma GCC unroll 16
          for (int n = 0; n < NP; ++n) acc[m][n] += load<T>(before + (m * NP + n) * L);
    }
  }
}

template <int N>
struct Width {
  static constexpr int value = N;
};

// Where the walk number `turn` along K, of those that read these panels, looks ahead: at its share of the next panels'
// weights, a vector per k. When those weights come from beyond the core's own cache, they are there by the time the rows
// of this panel are done. At the last panel there is nothing ahead, and the tile looks at its own.
template <int NP, class T>
FASTRNN_INLINE const T* next_panels(const T* weights, index panel_stride, index K, Panels panels, index turn,
                                    index panel) {
  const index next = panels.descending ? panel - NP : panel + NP;
  const index at = next >= panels.first && next + NP <= panels.last ? next : panel;
  const index vectors = panel_stride / kLanes<T> * NP;
  return weights + at * panel_stride + (K > 0 ? turn * K % vectors : 0) * kLanes<T>;
}

// f(width, panel) for the panels, taken NP at a time, then by the next smaller NP.
template <int... NP, class F>
FASTRNN_INLINE void each_panels(Panels panels, const F& f) {
  const index all = panels.last - panels.first;
  index p = 0;
  const auto by = [&](auto width) FASTRNN_ALWAYS {
    constexpr int W = decltype(width)::value;
    for (; p + W <= all; p += W) f(width, panels.first + (panels.descending ? all - p - W : p));
  };
  (by(Width<NP>{}), ...);
}

// All whole tiles of MR rows from `row` on.
// Panels are the outer loop: a panel of weights stays in cache while the rows pass by. Returns the first row left.
template <int MR, int... NP, class Tile>
FASTRNN_INLINE index tile_rows(const Tile& tile, index row, index rows, Panels panels) {
  const index count = (rows - row) / MR;
  if (count <= 0) return row;
  each_panels<NP...>(panels, [&](auto width, index panel) FASTRNN_ALWAYS {
    constexpr int W = decltype(width)::value;
    for (index i = 0; i < count; ++i) tile.template run<MR, W>(row + i * MR, panel);
  });
  return row + count * MR;
}

// The end of the rows to be done MR at a time: two that would be left are better done with the last MR, as eight rows in
// two tiles of four, or ten in tiles of six and four.
template <int MR>
FASTRNN_INLINE index end_of(index row, index rows) {
  return (rows - row) % MR == 2 ? rows - MR : rows;
}

// Tiles of six, five and four rows, as many as of six alone and as even as can be: where the weights come from the second
// cache, tiles of four wait for them. Every panel meets all of these tiles before the next one, and of a tile that comes
// in parts each part does. Returns the first row left.
template <int... NP, class Tile>
FASTRNN_INLINE index tile_even_rows(const Tile& tile, index rows, Panels panels) {
  if (rows < 4) return 0;
  const index tiles = (rows + 5) / 6, least = rows / tiles, larger = rows % tiles;
  const index sixes = least == 6 ? tiles : least == 5 ? larger : rows == 7 ? 1 : 0;
  const index fives = least == 5 ? tiles - larger : least == 4 ? larger : 0;
  const index fours = least == 4 ? tiles - larger : 0;
  each_panels<NP...>(panels, [&](auto width, index panel) FASTRNN_ALWAYS {
    constexpr int W = decltype(width)::value;
    for (index part = 0; part < tile.parts(); ++part) {
      index row = 0;
      for (index i = 0; i < sixes; ++i, row += 6) tile.template run<6, W>(row, panel, part);
      for (index i = 0; i < fives; ++i, row += 5) tile.template run<5, W>(row, panel, part);
      for (index i = 0; i < fours; ++i, row += 4) tile.template run<4, W>(row, panel, part);
    }
  });
  return 6 * sixes + 5 * fives + 4 * fours;
}

}  // namespace
}  // namespace fastrnn
