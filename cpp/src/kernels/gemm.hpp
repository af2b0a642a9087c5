// General products on packed operands: C = act(bias + A.B), and the gradient form C += A^T.D.
#pragma once

#include "activations.hpp"
#include "narrow.hpp"
#include "tile.hpp"

namespace fastrnn {
namespace {

// A run of MR rows comes into the first cache. From one run to the next is too far for the processor to see it coming.
template <class T, int MR>
FASTRNN_INLINE void fetch_rows(const T* a, index a_stride, index length) {
#pragma GCC unroll 16
  for (int m = 0; m < MR; ++m)
    for (index k = 0; k < length; k += 64 / index(sizeof(T))) prefetch<kIntoFirstCache>(a + m * a_stride + k);
}

// Rows of A: `stride` apart, each in runs (offset, length) in the order of K.
template <class T>
struct Rows {
  const T* a;
  index stride;
  const index *segment, *length;
  index segments;

  // acc += the MR rows from `row` on, times a panel.
  template <int MR, int NP>
  FASTRNN_ALWAYS void accumulate(Vec<T> (&acc)[MR][NP], index row, const T* b, index panel_stride,
                                 const T* ahead) const {
    constexpr int L = kLanes<T>;
    constexpr index kLaterRun = L < 16 ? 16 / L : 1;  // with four slots 64 values of K later
    // worth it where all the rows' weights do not stay in the first cache, or the rows themselves; of vectors that are
    // less than a line, the processor fetches enough by itself
    const index bytes = panel_stride * index(sizeof(T));
    const bool far = sizeof(Vec<T>) >= 64 && NP * bytes > kFirstCache, rows_far = MR * bytes / L > kFirstCache / 4;
    for (index i = 0; i < segments; ++i) {
      const index later = i + kLaterRun;
      if (rows_far && later < segments) fetch_rows<T, MR>(a + row * stride + segment[later], stride, length[later]);
      StridedRows<T, MR> run(a + row * stride + segment[i], stride);
      if (far)
        fastrnn::accumulate<T, MR, NP, 1, 1, true>(acc, run, b, panel_stride, length[i], ahead);
      else
        fastrnn::accumulate<T, MR, NP, 1, 1>(acc, run, b, panel_stride, length[i], ahead);
      b += length[i] * L;
      ahead += length[i] * L;
    }
  }

  // The first `count` rows, copied to `to` as one run each, gathered_stride apart.
  FASTRNN_ALWAYS void gather(index count, index K, T* to) const {
    constexpr int L = kLanes<T>;
    for (index i = 0; i < segments; to += length[i++])
      for (index r = 0; r < count; ++r) {
        const T* from = a + r * stride + segment[i];
        T* row = to + r * gathered_stride<T>(K);
        index k = 0;
        for (; k + L <= length[i]; k += L) store<T>(row + k, load<T>(from + k));
        if (k < length[i]) store_first<T>(row + k, load_first<T>(from + k, length[i] - k), length[i] - k);
      }
  }
};

// Rows times packed panels. The weights of some panels may be more than the second cache holds, and then come from beyond
// it for every tile of rows. So K is taken in parts: the weights of a part stay there until all tiles have met them, and
// the sums wait for the next part.
template <class T>
struct RowsByPanels {
  static constexpr int L = kLanes<T>, kMostParts = 16, kMostPanels = 4;
  static constexpr index kWhole = -1;  // instead of a part: all of K
  static constexpr index kRows = 6 * kWholeTiles, kWaiting = kRows * kMostPanels * L;  // of a product in parts

  Rows<T> rows;
  const T* weights;
  index K;
  Panels panels;
  T* waiting;  // kWaiting values
  index chains;  // sum_chains: of as many runs each; a product in several has no parts, and its rows are not gathered
  index parts = 1, first_run[kMostParts + 1], first_k[kMostParts];  // if there are several: they are not set otherwise

  // `gathered`: `rows` will be replaced by copies of one run each, which have no parts.
  RowsByPanels(const Rows<T>& rows, bool gathered, const T* weights, index K, Panels panels, T* waiting, index chains = 1)
      : rows(rows), weights(weights), K(K), panels(panels), waiting(waiting), chains(chains) {
    constexpr index kStays = 512 << 10, kPart = 256 << 10, kBytes = kMostPanels * index(sizeof(Vec<T>));
    if (gathered || !kManyRegisters || K * kBytes <= kStays || panels.last - panels.first < kMostPanels) return;
    first_run[0] = first_k[0] = 0;
    const index enough = kPart / kBytes > K / kMostParts ? kPart / kBytes : K / kMostParts + 1;
    for (index i = 0, k = 0; i < rows.segments; k += rows.length[i++])
      if (k - first_k[parts - 1] >= enough) first_run[parts] = i, first_k[parts++] = k;
    first_run[parts] = rows.segments;
  }

  index rows_at_once() const { return parts > 1 ? kRows : 0; }

  // acc += the product in C chains, each of as many runs.
  template <int C, int MR, int NP>
  FASTRNN_ALWAYS void add_chains(Vec<T> (&acc)[MR][NP], index row, index panel) const {
    const index runs = rows.segments / C, chain = K / C * L;
    const T* const b = weights + panel * K * L;
    in_chains<T, C>(
        acc,
        [&](Vec<T>(&sum)[MR][NP], int c) FASTRNN_ALWAYS {
          const Rows<T> some{rows.a, rows.stride, rows.segment + c * runs, rows.length + c * runs, runs};
          some.accumulate(sum, row, b + c * chain, K * L, b + c * chain);
        },
        [&](auto& sum, int first) FASTRNN_ALWAYS {
          const T* w = b + first * chain;
          for (index i = first * runs; i < (first + 1) * runs; w += rows.length[i++] * L)
            accumulate_chains<T>(sum, [&](int c) { return rows.a + row * rows.stride + rows.segment[i + c * runs]; }, w,
                                 K * L, chain, rows.length[i]);
        });
  }

  // The product in `part`, of sums that begin with begin(m, n): whether they are complete.
  template <int MR, int NP, class Begin>
  FASTRNN_ALWAYS bool add(Vec<T> (&acc)[MR][NP], index row, index panel, index part, const Begin& begin) const {
    const bool whole = part < 0 || parts == 1, last = whole || part + 1 == parts;
    const index stride = K * L, turn = row / MR;
    const auto sum = [&](int m, int n) FASTRNN_ALWAYS { return waiting + ((row + m) * kMostPanels + n) * L; };
#pragma GCC unroll 16
    for (int m = 0; m < MR; ++m)
#pragma GCC unroll 16
      for (int n = 0; n < NP; ++n) acc[m][n] = whole || part == 0 ? begin(m, n) : load<T>(sum(m, n));
    if (whole && chains > 1) {
      chains == 2 ? add_chains<2>(acc, row, panel) : add_chains<4>(acc, row, panel);
      return true;
    }
    if (whole) {
      rows.accumulate(acc, row, weights + panel * stride, stride, next_panels<NP>(weights, stride, K, panels, turn, panel));
      return true;
    }
    // each tile fetches a panel of the next part, or of the next panels' first part
    const index next = panels.descending ? panel - NP : panel + NP;
    const index fetched = last && next >= panels.first && next + NP <= panels.last ? next : panel;
    const T* ahead = weights + (fetched + turn % NP) * stride + (last ? 0 : first_k[part + 1] * L);
    const index run = first_run[part];
    const Rows<T> some{rows.a, rows.stride, rows.segment + run, rows.length + run, first_run[part + 1] - run};
    some.accumulate(acc, row, weights + panel * stride + first_k[part] * L, stride, ahead);
    if (last) return true;
#pragma GCC unroll 16
    for (int m = 0; m < MR; ++m)
#pragma GCC unroll 16
      for (int n = 0; n < NP; ++n) store<T>(sum(m, n), acc[m][n]);
    return false;
  }
};

// f(rows, first, count) for blocks of rows: copied to `room`, if there is any, else as they stand, at most `most` of them if
// that is not zero.
template <class T, class F>
FASTRNN_INLINE void in_blocks(const Rows<T>& rows, index count, index K, T* room, index most, const F& f) {
  if (room) most = gathered_rows<T>(K);
  const index blocks = most > 0 ? (count - 1) / most + 1 : 1, none = 0;
  const index block = blocks > 1 ? ((count - 1) / blocks / kWholeTiles + 1) * kWholeTiles : count;
  for (index first = 0; first < count; first += block) {
    const index n = count - first < block ? count - first : block;
    Rows<T> part = rows;
    part.a += first * rows.stride;
    if (room) {
      part.gather(n, K, room);
      part = {room, gathered_stride<T>(K), &none, &K, 1};
    }
    f(part, first, n);
  }
}

FASTRNN_INLINE index total_length(const index* length, index segments) {
  index sum = 0;
  for (index i = 0; i < segments; ++i) sum += length[i];
  return sum;
}

// One accumulator per panel: rows many and panels few, or the other way round. A product in parts has kMostPanels at most
// in its even tiles, and no parts in the others.
template <class Tile>
FASTRNN_INLINE void tile_single(const Tile& tile, index rows, Panels panels) {
  index row = 0;
  if (kManyRegisters) {
    if (panels.last - panels.first >= 4)
      row = tile_even_rows<4, 2, 1>(tile, rows, panels);
    else
      row = tile_rows<12, 2, 1>(tile, row, rows, panels);
    row = tile_rows<4, 4, 2, 1>(tile, row, rows, panels);
  } else {
    row = tile_rows<6, 2, 1>(tile, row, end_of<6>(row, rows), panels);
    row = tile_rows<4, 3, 2, 1>(tile, row, rows, panels);
    row = tile_rows<2, 4, 2, 1>(tile, row, rows, panels);
  }
  tile_rows<1, 8, 4, 2, 1>(tile, row, rows, panels);
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
  const RowsByPanels<T>& product;
  index first;  // of all rows, the first of these

  index parts() const { return product.parts; }

  template <int MR, int NP>
  FASTRNN_ALWAYS void run(index row, index panel, index part = RowsByPanels<T>::kWhole) const {
    constexpr int L = kLanes<T>;
    // rows far apart, in memory that no cache may hold: fetched while their product, or its last part, is made
    if (g.c_offset && (part < 0 || part + 1 == parts()))
#pragma GCC unroll 16
      for (int m = 0; m < MR; ++m)
#pragma GCC unroll 16
        for (int n = 0; n < NP; ++n) prefetch<kIntoFirstCache>(g.c + g.c_offset[first + row + m] + (panel + n) * L);
    Vec<T> acc[MR][NP];
    const auto bias = [&](int, int n) FASTRNN_ALWAYS { return g.bias ? load<T>(g.bias + (panel + n) * L) : Vec<T>{}; };
    if (!product.add(acc, row, panel, part, bias)) return;
    Vec<T> out[MR * NP];
#pragma GCC unroll 16
    for (int m = 0; m < MR; ++m)
#pragma GCC unroll 16
      for (int n = 0; n < NP; ++n) out[m * NP + n] = acc[m][n];
    finish_gemm<T>(g, out, MR, NP, first + row, panel);
  }
};

template <class T>
static void gemm(const Gemm<T>& g) {
  constexpr int L = kLanes<T>;
  const index K = total_length(g.segment_length, g.segments);
  const index narrow = g.narrow ? narrow_columns(g.columns, K, L) : 0;
  const Panels panels{0, (g.columns - narrow + L - 1) / L, false};
  const Rows<T> all{g.a, g.a_stride, g.segment, g.segment_length, g.segments};
  alignas(64) T waiting[RowsByPanels<T>::kWaiting];
  RowsByPanels<T> product(all, g.room, g.b, K, panels, waiting);
  in_blocks(all, g.rows, K, g.room, product.rows_at_once(), [&](const Rows<T>& rows, index first, index count) FASTRNN_ALWAYS {
    product.rows = rows;
    tile_single(GemmTile<T>{g, product, first}, count, panels);
  });
  if (narrow == 0) return;
  const Vec<T> bias = g.bias ? load<T>(g.bias + panels.last * L) : Vec<T>{};
  narrow_panel(g.a, g.a_stride, g.b + panels.last * K * L, K, narrow, g.segment, g.segment_length, g.segments, g.rows,
               [&](Vec<T>* out, int rows, index row) FASTRNN_ALWAYS {
                 for (int m = 0; m < rows; ++m) out[m] += bias;
                 finish_gemm<T>(g, out, rows, 1, row, panels.last);
               });
}

// Rows of C that a tile of `outer` takes where so many are left.
constexpr index outer_rows(index left) {
  constexpr index kMost = kManyRegisters ? 12 : 6;
  return left >= kMost ? kMost : kManyRegisters && left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

// A block of rows of A, copied strip by strip: what one tile reads stands side by side.
template <class T>
struct Strips {
  static constexpr index kRows = 256, kWide = 288 / index(sizeof(T)), L = kLanes<T>;  // kWide: a multiple of every tile
  T values[(kRows + L) * kWide];

  // A vector is copied at a time: behind each strip is room for what the last one brings along.
  static constexpr index at(index first) { return first * (kRows + L); }

  // `wide` values of each row, strip by strip: of a few rows at a time, which are in the first cache from the second on.
  template <class Row>
  FASTRNN_ALWAYS void copy(index rows, index wide, const Row& row) {
    constexpr index kFew = 32;
    for (index few = 0; few < rows; few += kFew) {
      const index end = rows - few < kFew ? rows : few + kFew;
      for (index first = 0, width; first < wide; first += width) {
        width = outer_rows(wide - first);
        T* to = values + at(first) + few * width;
        const index left = wide - first;
        if (width <= L && left >= L)
          for (index r = few; r < end; ++r, to += width) store<T>(to, load<T>(row(r) + first));
        else
          for (index r = few; r < end; ++r, to += width)
            for (index i = 0; i < width; i += L)
              store<T>(to + i, left - i >= L ? load<T>(row(r) + first + i) : load_first<T>(row(r) + first + i, left - i));
      }
    }
  }
};

// C += A^T.D, or C = A^T.D: a tile of MR rows of C (a range of j) times NV vectors stays in registers while a block of
// rows passes by.
template <class T>
struct OuterTile {
  const Outer<T>& o;
  const Strips<T>& a;
  index rows, first_j, wide;
  const T* later;         // what is copied next stands at later + later_at[r], and is fetched meanwhile
  const index* later_at;  // null: nothing is

  template <int MR, int NV>
  FASTRNN_ALWAYS void run(index row, index column) const {
    constexpr int L = kLanes<T>;
    T* c = o.c + (first_j + row) * o.c_stride + column * L;
    // the sums of the next tile, which no cache may hold, are fetched while this one is computed
    const index down = MR * o.c_stride, right = NV * L - row * o.c_stride;
    const T* next = c + (row + 2 * MR <= wide ? down : column + 2 * NV <= o.columns ? right : 0);
#pragma GCC unroll 16
    for (int m = 0; m < MR; ++m)
#pragma GCC unroll 16
      for (int v = 0; v < NV; ++v) prefetch<kIntoFirstCache>(next + m * o.c_stride + v * L);
    const T* d[NV];
    for (int v = 0; v < NV; ++v) d[v] = o.d + o.column[column + v];
    Vec<T> acc[MR][NV];
#pragma GCC unroll 16
    for (int m = 0; m < MR; ++m)
#pragma GCC unroll 16
      for (int v = 0; v < NV; ++v) acc[m][v] = o.fresh ? Vec<T>{} : load<T>(c + m * o.c_stride + v * L);
    const T* ar = a.values + Strips<T>::at(row);
    // each tile of the first columns fetches a line of each row that is copied next
    const index line = row / MR * (64 / index(sizeof(T)));
    const T* fetched = later + line;
    const index* at = column == 0 && line < wide ? later_at : nullptr;
    // and the first tile of each column what the next column reads of D, unless all of it is in the first cache
    const bool far = rows * o.columns * index(sizeof(Vec<T>)) > kFirstCache;
    const bool ahead = kFetchesAhead<MR> && far && row == 0 && column + 2 * NV <= o.columns;
    const T* next_d[NV];
    for (int v = 0; v < NV; ++v) next_d[v] = ahead ? o.d + o.column[column + NV + v] : o.d;
    for (index r = 0; r < rows; ++r) {
      if (at) prefetch(fetched + at[r]);
      if (ahead) {
#pragma GCC unroll 16
        for (int v = 0; v < NV; ++v) prefetch(next_d[v] + (o.d_offset ? o.d_offset[r] : r * o.d_stride));
      }
      Vec<T> dv[NV];
#pragma GCC unroll 16
      for (int v = 0; v < NV; ++v) dv[v] = load<T>(d[v] + (o.d_offset ? o.d_offset[r] : r * o.d_stride));
#pragma GCC unroll 16
      for (int m = 0; m < MR; ++m) {
        const Vec<T> am = splat<T>(ar[m]);
#pragma GCC unroll 16
        for (int v = 0; v < NV; ++v) acc[m][v] += am * dv[v];
      }
      ar += MR;
    }
#pragma GCC unroll 16
    for (int m = 0; m < MR; ++m)
#pragma GCC unroll 16
      for (int v = 0; v < NV; ++v) store<T>(c + m * o.c_stride + v * L, acc[m][v]);
  }
};

// Blocks of rows and of j: the rows of A, which stand anywhere, are copied side by side, and what a column of tiles
// reads of D stays in the first cache.
template <class T>
static void outer(const Outer<T>& o) {
  constexpr index kRows = Strips<T>::kRows, kWide = Strips<T>::kWide;
  Strips<T> strips;
  Outer<T> part = o;
  for (index first = 0; first < o.rows; first += kRows) {
    const index rows = o.rows - first < kRows ? o.rows - first : kRows;
    part.d = o.d_offset ? o.d : o.d + first * o.d_stride;
    part.d_offset = o.d_offset ? o.d_offset + first : nullptr;
    part.fresh = o.fresh && first == 0;
    for (index j = o.first; j < o.last; j += kWide) {
      const index wide = o.last - j < kWide ? o.last - j : kWide;
      const T* const from = o.a + (o.a_offset ? 0 : first * o.a_stride) + j;
      const index* const offset = o.a_offset ? o.a_offset + first : nullptr;
      strips.copy(rows, wide, [&](index r) FASTRNN_ALWAYS { return from + (offset ? offset[r] : r * o.a_stride); });
      // the next block: these rows further on, or the next rows if there are as many
      const bool further = j + kWide < o.last, known = o.a_offset && (further || first + 2 * kRows <= o.rows);
      const OuterTile<T> tile{part, strips, rows, j, wide, o.a + (further ? j + kWide : o.first),
                              known ? o.a_offset + first + (further ? 0 : kRows) : nullptr};
      const Panels columns{0, o.columns, false};
      index row = 0;
      if (kManyRegisters) {
        row = tile_rows<12, 2, 1>(tile, row, wide, columns);
        row = tile_rows<4, 4, 2, 1>(tile, row, wide, columns);
      } else {
        row = tile_rows<6, 2, 1>(tile, row, wide, columns);
      }
      row = tile_rows<2, 4, 2, 1>(tile, row, wide, columns);
      tile_rows<1, 8, 4, 2, 1>(tile, row, wide, columns);
    }
  }
}

}  // namespace
}  // namespace fastrnn
