// One time step: pre-activations in registers (bias + x.W + h.R with the same accumulators), then the cell's maths.
#pragma once

#include <type_traits>

#include "cells.hpp"
#include "folded.hpp"
#include "step_beside.hpp"

namespace fastrnn {
namespace {

// What a later product reads of row r from `unit` on, times the mask if there is one. In full precision the padding of
// a row may hold anything; in reduced precision a word reaches into it, so it stays as it is.
template <class T>
FASTRNN_INLINE void store_operand(const ForwardStep<T>& s, T* to, Vec<T> v, index r, index unit) {
  const index at = r * s.state_stride + unit;
  store<T>(to + at, s.recurrent_mask ? v * load<T>(s.recurrent_mask + at) : v);
}
template <class T, class W>
FASTRNN_INLINE void store_operand(const ForwardStep<T, W>& s, W* to, Vec<T> v, index r, index unit) {
  const index at = r * s.state_stride + unit;
  if (s.recurrent_mask) v = v * load<T>(s.recurrent_mask + at);
  store_reduced(to + at, v, s.hidden - unit, s.quantum ? s.quantum[r] : Quantum{});
}

// N vectors at once: of row[i], the units from unit[i] on, whose sums stand one after the other in `acc`.
template <int N, class T, class W, class P, int kStandard>
FASTRNN_INLINE void finish_bundle(const ForwardStep<T, W>& s, const Gates<T, kStandard>& gates, const Vec<T>* acc,
                                  const index* row, const index* unit) {
  constexpr int L = kLanes<T>, S = P::slots;
  typedef typename BundleOf<T, N>::V V;
  V sum[S], saved[P::saved_slots];
  Unit<V> u;
  const auto state = [&](int i) FASTRNN_ALWAYS { return row[i] * s.state_stride + unit[i]; };
  const auto keep = [&](int i) FASTRNN_ALWAYS { return s.saved + row[i] * s.saved_stride + unit[i] * P::saved_slots; };
#pragma GCC unroll 16
  for (int i = 0; i < N; ++i) {
    for (int slot = 0; slot < S; ++slot) part<T>(sum[slot], i) = acc[i * S + slot];
    part<T>(u.h_prev, i) = load<T>(s.h_prev + state(i));
    if (P::has_c) part<T>(u.c_prev, i) = load<T>(s.c_prev + state(i));
    for (int k = 0; k < P::keep_from; ++k) part<T>(saved[k], i) = load<T>(keep(i) + k * L);
  }
  P::template forward<kStandard>(sum, u, saved, gates);
#pragma GCC unroll 16
  for (int i = 0; i < N; ++i) {
    if (s.saved)
      for (int k = P::keep_from; k < P::keep_to; ++k) store<T>(keep(i) + k * L, part<T>(saved[k], i));
    if (!P::final_phase) {
      store_operand(s, s.reset_h, part<T>(u.reset_h, i), row[i], unit[i]);
      continue;
    }
    const Vec<T> h = part<T>(u.h, i);
    if (P::has_c) store<T>(s.c_next + state(i), part<T>(u.c, i));
    store<T>(s.h_next + state(i), h);
    if (s.operand_next) store_operand(s, s.operand_next, h, row[i], unit[i]);
    if (s.y) {
      const index left = s.hidden - unit[i];
      T* y = s.y + s.y_offset[row[i]] + unit[i];
      store_first<T>(y, h, left < L ? left : L);
      prefetch(y + s.y_ahead);
    }
  }
}

template <class T, class W, class P, bool kStandard>
static void finish_forward(const ForwardStep<T, W>& step, const Vec<T>* acc, int rows, int panels, index row,
                           index panel) {
  constexpr int L = kLanes<T>, S = P::slots;
  const ForwardStep<T, W> s = step;  // of our own: what is stored might else be a part of it
  const Gates<T, kStandard> gates{{s.gate}, {s.candidate}, {s.output}};
  const index first = panel * L, end = first + panels * L;
  index unit = first;
  int left = rows * panels;
  const auto finish = [&](auto width) FASTRNN_ALWAYS {
    constexpr int N = decltype(width)::value;
    for (; left >= N; left -= N, acc += N * S) {
      index at[N], units[N];
      for (int i = 0; i < N; ++i) {
        at[i] = row;
        units[i] = unit;
        unit += L;
        if (unit == end) unit = first, ++row;
      }
      finish_bundle<N, T, W, P>(s, gates, acc, at, units);
    }
  };
  finish(Width<kBundle>{});
  if (kBundle > 1) finish(Width<1>{});
}

// The same for the folded panel, F rows at a time.
template <class T, class P, bool kStandard, int F>
static void finish_folded(const ForwardStep<T>& s, const Vec<T>* acc, int rows, int, index row, index panel) {
  constexpr int L = kLanes<T>, S = P::slots;
  const Gates<T, kStandard> gates{{s.gate}, {s.candidate}, {s.output}};
  const index unit = panel * L;
  for (int m = 0; m < rows; m += F, acc += F * (S / F)) {
    const FoldedRows<T, F> group{rows - m < F ? rows - m : F};
    const index state = (row + m) * s.state_stride + unit;
    Unit<Vec<T>> u;
    Vec<T> slot[S], saved[S], h[F];
    group.template to_slots<S>(acc, S / F, slot);
    u.h_prev = group.load_rows(s.h_prev + state, s.state_stride);
    if (P::has_c) u.c_prev = group.load_rows(s.c_prev + state, s.state_stride);
    P::template forward<kStandard>(slot, u, saved, gates);
    if (s.saved)
      group.template store_slots<S>(s.saved + (row + m) * s.saved_stride + unit * S, s.saved_stride, saved);
    if (P::has_c) group.store_rows(s.c_next + state, s.state_stride, u.c);
    group.split(u.h, h);
    for (int r = 0; r < group.count; ++r) {
      const index at = row + m + r;
      store<T>(s.h_next + at * s.state_stride + unit, h[r]);
      if (s.operand_next) store_operand(s, s.operand_next, h[r], at, unit);
      if (!s.y) continue;
      T* y = s.y + s.y_offset[at] + unit;
      store_first<T>(y, h[r], s.hidden - unit);
      prefetch(y + s.y_ahead);
    }
  }
}

// Leaves bias + x.W, V vectors of each row and panel, for a later call.
template <class T, class W, int V>
static void finish_projection(const ForwardStep<T, W>& s, const Vec<T>* acc, int rows, int panels, index row,
                              index panel) {
  constexpr int L = kLanes<T>;
  for (int m = 0; m < rows; ++m)
    for (int n = 0; n < panels; ++n, acc += V)
      for (int i = 0; i < V; ++i)
        store<T>(s.projected + (panel + n) * s.projected_panel + (row + m) * s.projected_row + i * L, acc[i]);
}

// What a product makes of a folded panel of the cell P.
template <class P, int F>
struct Folded {
  static constexpr int slots = P::slots / F;
  using X = FirstSlots<slots>;
  using H = FirstSlots<slots>;
};

constexpr int kSums = kManyRegisters ? 24 : 12;  // that stay in registers: a tile with more takes half of them first

// Q: accumulators and sides of the panels that this tile computes, P: those of the panels before them.
template <class T, class W, class P, class Q, bool kFirstPhase>
struct ForwardTile {
  const ForwardStep<T, W>& s;
  FinishForward<T, W> finish;
  Panels panels;

  static constexpr index parts() { return 1; }

  template <int MR, int NP>
  FASTRNN_ALWAYS void run(index row, index panel, index = 0) const {
    Vec<T> out[MR * NP * S];
    if constexpr (Product<W>::exact) {
      add_scaled<MR, NP>(out, row, panel);
    } else {
      constexpr int U = MR * NP * C <= kSums ? C : G;
      add_products<MR, NP, 0, U>(out, row, panel);
      if constexpr (U < C) add_products<MR, NP, U, C - U>(out, row, panel);
    }
    finish(s, out, MR, NP, row, panel);
  }

 private:
  using X = typename Q::X;
  using H = typename Q::H;
  static constexpr int L = kLanes<T>, S = Q::slots, C = H::count;
  // Of the vectors of a k, those that stand side by side.
  static constexpr int G = kHalved && C == 4 && std::is_same_v<T, W> ? 2 : C;
  static_assert(X::count == C, "a vector of the input product for each of the recurrent product");

  // What the sums of a slot begin with.
  FASTRNN_ALWAYS Vec<T> begin(index row, index panel, int slot) const {
    return load<T>(s.start + (s.start_offset ? s.start_offset[row] : 0) + panel * s.start_panel + slot * L);
  }

  template <int MR>
  FASTRNN_ALWAYS StridedRows<Word<W>, MR> operand(index row) const {
    const W* first = (kFirstPhase ? s.operand : s.reset_h) + row * s.state_stride;
    return {reinterpret_cast<const Word<W>*>(first), s.state_stride / kPerWord<W>};
  }

  // Sums of floats go on from the start: those of the vectors [F, F + U) of C.
  template <int MR, int NP, int F, int U>
  FASTRNN_ALWAYS void add_products(Vec<T> (&out)[MR * NP * S], index row, index panel) const {
    const index turn = C / U * (row / MR) + F / U;
    Vec<T> acc[MR][NP * U];
    // f(sum, its row, its panel, its vector of C, the slots of its row and panel in `out`)
    const auto each_sum = [&](auto f) FASTRNN_ALWAYS {
#pragma GCC unroll 16
      for (int m = 0; m < MR; ++m)
#pragma GCC unroll 16
        for (int n = 0; n < NP; ++n)
#pragma GCC unroll 4
          for (int u = 0; u < U; ++u) f(acc[m][n * U + u], row + m, panel + n, F + u, out + (m * NP + n) * S);
    };
    each_sum([&](Vec<T>& sum, index r, index p, int c, Vec<T>*) FASTRNN_ALWAYS { sum = begin(r, p, X::at(c)); });
    if (s.inputs > 0) {
      ScatteredRows<Word<W>, MR> x;
      for (int m = 0; m < MR; ++m) x.row[m] = reinterpret_cast<const Word<W>*>(s.x + s.x_offset[row + m]);
      if (F == 0 && panel == s.first_panel)
        for (int m = 0; m < MR; ++m)
          for (index i = 0; i < s.inputs; i += L * kPerWord<W>) prefetch(s.x + s.x_offset[row + m] + s.x_ahead + i);
      const index length = words<W>(s.inputs), x_panel = length * P::X::count * L;
      accumulate<W, MR, NP, G, U>(acc, x, s.weight_ih + panel * x_panel + F * length * L, x_panel, length,
                                  next_panels<NP>(s.weight_ih, x_panel, length, panels, turn, panel));
    }
    // a sum to which only x adds is complete, and makes room for the one to which only h does
    each_sum([&](Vec<T>& sum, index r, index p, int c, Vec<T>* slot) FASTRNN_ALWAYS {
      if (X::at(c) == H::at(c)) return;
      slot[X::at(c)] = sum;
      sum = begin(r, p, H::at(c));
    });
    if (s.recurrent > 0) {
      auto h = operand<MR>(row);
      const index length = words<W>(s.recurrent), h_panel = length * P::H::count * L;
      const Word<W>* const w = s.weight_hh + panel * h_panel + F * length * L;
      const Word<W>* const ahead = next_panels<NP>(s.weight_hh, h_panel, length, panels, turn, panel);
      if (kChains && sum_chains<T>(s.hidden, length, L) > 1)
        add_chains(acc, row, h, w, h_panel, ahead);
      else
        accumulate<W, MR, NP, G, U>(acc, h, w, h_panel, length, ahead);
    }
    each_sum([&](Vec<T>& sum, index, index, int c, Vec<T>* slot) FASTRNN_ALWAYS { slot[H::at(c)] = sum; });
  }

  // Of one slot, in panels that are not folded (where there are no chains). With K = H there are never four: no vector is
  // as long.
  static constexpr bool kChains = C == 1 && std::is_same_v<T, W> && std::is_same_v<P, Q>;

  template <int MR, int NP>
  FASTRNN_ALWAYS void add_chains(Vec<T> (&acc)[MR][NP], index row, StridedRows<Word<W>, MR>& h, const Word<W>* w,
                                 index panel_stride, const Word<W>* ahead) const {
    if constexpr (kChains) {
      const index K = s.recurrent / 2;
      const T* const first = (kFirstPhase ? s.operand : s.reset_h) + row * s.state_stride;
      in_chains<T, 2>(
          acc,
          [&](Vec<T>(&sum)[MR][NP], int c) FASTRNN_ALWAYS {
            accumulate<W, MR, NP, 1, 1>(sum, h, w + c * K * L, panel_stride, K, ahead + c * K * L);
          },
          [&](auto& sum, int) FASTRNN_ALWAYS {
            accumulate_chains<T>(sum, [&](int c) { return first + c * K; }, w, panel_stride, K * L, K);
          });
    }
  }

  // Sums of integers are scaled at the end and then added to the start.
  template <int MR, int NP>
  FASTRNN_ALWAYS void add_scaled(Vec<T> (&out)[MR * NP * S], index row, index panel) const {
    typename Product<W>::Sum sums[MR][NP * C];
#pragma GCC unroll 16
    for (int m = 0; m < MR; ++m)
#pragma GCC unroll 16
      for (int i = 0; i < NP * C; ++i) sums[m][i] = Product<W>::start(s.offset + (panel * C + i) * L);
    auto h = operand<MR>(row);
    const index length = words<W>(s.recurrent), h_panel = length * C * L;
    accumulate<W, MR, NP, C, C>(sums, h, s.weight_hh + panel * h_panel, h_panel, length,
                                next_panels<NP>(s.weight_hh, h_panel, length, panels, row / MR, panel));
#pragma GCC unroll 16
    for (int m = 0; m < MR; ++m) {
      const float quantum = s.quantum[row + m].size;
#pragma GCC unroll 16
      for (int n = 0; n < NP; ++n) {
        Vec<T>* const to = out + (m * NP + n) * S;
#pragma GCC unroll 4
        for (int i = 0; i < S; ++i) to[i] = begin(row + m, panel + n, i);
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c)
          to[H::at(c)] +=
              to_float(sums[m][n * C + c]) * (load<T>(s.scale + ((panel + n) * C + c) * L) * quantum);
      }
    }
  }
};

// The folded panel, at the end of the panels [first, last).
template <class T, class P, int F>
static void forward_folded(const ForwardStep<T>& s) {
  if constexpr (kFolds<T, P, F>) {
    using Q = Folded<P, F>;
    const FinishForward<T, T> finish = s.projected         ? finish_projection<T, T, Q::slots>
                                       : is_standard<P>(s) ? finish_folded<T, P, true, F>
                                                           : finish_folded<T, P, false, F>;
    const Panels panels{s.folded, s.folded + 1, false};
    const ForwardTile<T, T, P, Q, true> tile{s, finish, panels};
    index row = tile_rows<kManyRegisters ? 12 : F == 4 ? 8 : 4, 1>(tile, 0, s.rows, panels);
    row = tile_rows<4, 1>(tile, row, s.rows, panels);
    tile_rows<1, 1>(tile, row, s.rows, panels);
  }
}

// One row's step that takes input products along. Which panels a tile takes may not depend on the direction: each share
// has to go on where the last one ended.
template <class T, class P>
FASTRNN_NOINLINE void forward_beside(const ForwardStep<T>& s, FinishForward<T, T> finish, Panels panels) {
  constexpr int kWide = P::slots == 1 ? 4 : 1;  // as many panels as make four sums of a row
  const ForwardStep<T>& later = *s.beside;
  const bool begins = later.share_first == 0;
  const BesideTile<T, P> both{s, finish};
  const index left = panels.first + (panels.last - panels.first) / kWide * kWide;
  const Panels wide{panels.first, left, panels.descending}, others{left, panels.last, panels.descending};
  each_panels<kWide>(wide, [&](auto, index panel) FASTRNN_ALWAYS { both.template run<kWide>(panel); });
  if (kWide > 1) {
    tile_rows<1, 2, 1>(ForwardTile<T, T, P, P, true>{s, finish, others}, 0, 1, others);
    if (begins)
      tile_rows<kBesideRows, 2, 1>(ForwardTile<T, T, P, P, true>{later, finish_projection<T, T, P::slots>, others}, 0,
                                   kBesideRows, others);
  }
  if (begins && later.fold > 1 && later.last_panel > later.folded)
    later.fold == 2 ? forward_folded<T, P, 2>(later) : forward_folded<T, P, 4>(later);
}

// All rows but at most one, in the largest tiles first. Tiles small in rows are wide in panels: eight accumulators at least
// hide the latency of the FMA. Returns the first row left.
template <class W, class P, class Tile>
FASTRNN_INLINE index tile_many(const Tile& tile, index rows, Panels panels) {
  constexpr bool kSpread = Product<W>::parts > 1;  // spreading words takes registers from the tile
  constexpr int C = P::H::count;
  index row = 0;
  if constexpr (C == 4 && kManyRegisters) {
    row = tile_even_rows<1>(tile, rows, panels);
    row = tile_rows<2, 1>(tile, row, rows, panels);
  } else if constexpr (C == 3 && kManyRegisters) {
    row = tile_rows<8, 1>(tile, row, end_of<8>(row, rows), panels);
    row = tile_rows<6, 1>(tile, row, rows, panels);
    row = tile_rows<4, 1>(tile, row, rows, panels);
    row = tile_rows<2, 1>(tile, row, rows, panels);
  } else if constexpr (C > 2) {
    if constexpr (!kSpread) {
      if constexpr (C == 4) row = tile_rows<6, 1>(tile, row, end_of<6>(row, rows), panels);
      row = tile_rows<4, 1>(tile, row, rows, panels);
      row = tile_rows<3, 1>(tile, row, rows, panels);
    }
    row = tile_rows<2, kSpread || C == 4 ? 1 : 2, 1>(tile, row, rows, panels);
  } else if constexpr (kManyRegisters) {
    if constexpr (C == 1)
      if (panels.last - panels.first >= 4) row = tile_even_rows<4, 2, 1>(tile, rows, panels);
    row = tile_rows<12 / C, 2, 1>(tile, row, rows, panels);
    row = tile_rows<4 / C, 4, 2, 1>(tile, row, rows, panels);
  } else if constexpr (C == 1 && !kSpread) {
    row = tile_rows<6, 2, 1>(tile, row, end_of<6>(row, rows), panels);
    row = tile_rows<4, 3, 2, 1>(tile, row, rows, panels);
    row = tile_rows<2, 4, 2, 1>(tile, row, rows, panels);
  } else {
    row = tile_rows<(kSpread ? 4 : 6) / C, 2, 1>(tile, row, rows, panels);
  }
  return row;
}

template <class T, class W, class P, bool kFirstPhase>
static void forward_step(const ForwardStep<T, W>& s) {
  const FinishForward<T, W> finish = s.projected         ? finish_projection<T, W, P::slots>
                                     : is_standard<P>(s) ? finish_forward<T, W, P, true>
                                                         : finish_forward<T, W, P, false>;
  Panels panels{s.first_panel, s.last_panel, s.descending};
  if constexpr (std::is_same_v<T, W>) {
    if (s.fold > 1 && panels.last > s.folded) {
      --panels.last;
      s.fold == 2 ? forward_folded<T, P, 2>(s) : forward_folded<T, P, 4>(s);
    }
  }
  if constexpr (std::is_same_v<T, W> && kManyRegisters && kFirstPhase && P::final_phase)
    if (s.beside) return forward_beside<T, P>(s, finish, panels);
  const ForwardTile<T, W, P, P, kFirstPhase> tile{s, finish, panels};
  const index row = s.rows > 1 ? tile_many<W, P>(tile, s.rows, panels) : 0;
  // A single row waits for its weights: tiles that are no wider than they must be, walked up and down in turn, find more of
  // them in the first cache. Where all are there, eight sums (of a GRU six) fill the time that a multiply-add takes.
  const index weights = words<W>(s.inputs) * P::X::count + words<W>(s.recurrent) * P::H::count;  // vectors of a panel
  const bool near = (panels.last - panels.first) * weights * index(sizeof(Vec<T>)) <= kFirstCache;
  if (P::slots == 1)
    tile_rows<1, 4, 2, 1>(tile, row, s.rows, panels);
  else if (near && kManyRegisters)
    tile_rows<1, 8 / P::slots, 1>(tile, row, s.rows, panels);
  else
    tile_rows<1, kManyRegisters ? 4 / P::slots : 2, 1>(tile, row, s.rows, panels);
}

}  // namespace
}  // namespace fastrnn
