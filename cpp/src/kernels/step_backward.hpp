// One step of backpropagation through time: dh = (gate gradients of the later step) . R in registers, then the
// derivative of the cell's maths as the epilogue.
#pragma once

#include "cells.hpp"
#include "folded.hpp"
#include "gemm.hpp"

namespace fastrnn {
namespace {

template <class T>
using FinishBackward = void (*)(const BackwardStep<T>&, const Vec<T>* acc, int rows, int panels, index row,
                                index panel);

// The folded panel, F rows at a time; `acc` is its vector of the first row, and the next row's `stride` further.
template <class T, class P, bool kStandard, int F>
static void finish_folded_backward(const BackwardStep<T>& s, const Vec<T>* acc, int stride, int rows, index row) {
  constexpr int L = kLanes<T>, S = P::slots;
  const Gates<T, kStandard> gates{{s.gate}, {s.candidate}, {s.output}};
  const index unit = s.folded * L;
  for (int m = 0; m < rows; m += F, acc += F * stride) {
    const FoldedRows<T, F> group{rows - m < F ? rows - m : F};
    const index first = s.first_row + row + m, state = first * s.state_stride + unit;
    const auto state_rows = [&](const T* from) FASTRNN_ALWAYS { return group.load_rows(from + state, s.state_stride); };
    Unit<Vec<T>> u;
    u.dh = group.join(acc, stride);
    if (s.recurrent_mask) u.dh *= state_rows(s.recurrent_mask);
    if (P::has_direct) u.dh += state_rows(s.direct);
    if (s.dy) {
      Vec<T> dy[F];
      for (int r = 0; r < F; ++r) {
        const T* from = s.dy + s.dy_offset[first + (r < group.count ? r : 0)] + unit;
        dy[r] = load_first<T>(from, s.hidden - unit);
        prefetch(from + s.dy_ahead);
      }
      u.dh += group.join(dy, 1);
    }
    if (s.grad_h_n) u.dh += state_rows(s.grad_h_n);
    u.h_prev = state_rows(s.h_prev);
    Vec<T> saved[S], d[S];
    group.template load_slots<S>(s.saved + first * s.saved_stride + unit * S, s.saved_stride, saved);
    for (int r = 0; r < group.count; ++r) {
      prefetch(s.h_prev + state + r * s.state_stride + s.state_ahead);
      prefetch(s.saved + (first + r) * s.saved_stride + unit * S + s.saved_ahead);
    }
    if (P::has_c) {
      u.c = state_rows(s.c);
      u.c_prev = state_rows(s.c_prev);
      u.dc = state_rows(s.dc);
    }
    P::template backward<kStandard>(saved, u, d, gates);
    group.template store_slots<S>(s.gates + s.folded * s.gates_panel + first * S * L, S * L, d);
    if (P::has_c) group.store_rows(s.dc + state, s.state_stride, u.dc);
    if (P::has_direct) group.store_rows(s.direct + state, s.state_stride, u.direct);
  }
}

template <class T, class P, bool kFirstPhase, bool kStandard>
static void finish_backward(const BackwardStep<T>& s, const Vec<T>* acc, int rows, int panels, index row,
                            index panel) {
  constexpr int L = kLanes<T>;
  const Gates<T, kStandard> gates{{s.gate}, {s.candidate}, {s.output}};
  const int width = panels;  // of acc
  if (s.fold > 1 && panel + panels > s.folded) {
    const Vec<T>* last = acc + --panels;
    if constexpr (kFolds<T, P, 2>)
      if (s.fold == 2) finish_folded_backward<T, P, kStandard, 2>(s, last, width, rows, row);
    if constexpr (kFolds<T, P, 4>)
      if (s.fold == 4) finish_folded_backward<T, P, kStandard, 4>(s, last, width, rows, row);
  }
  for (int m = 0; m < rows; ++m, acc += width) {
    const index r = s.first_row + row + m;
    for (int n = 0; n < panels; ++n) {
      const index unit = (panel + n) * L;
      const index state = r * s.state_stride + unit;
      Unit<Vec<T>> u;
      u.dh = acc[n];
      if (s.recurrent_mask) u.dh *= load<T>(s.recurrent_mask + state);
      if (P::has_direct) u.direct = load<T>(s.direct + state);
      if (kFirstPhase) {
        if (P::has_direct) u.dh += u.direct;
        if (s.dy) {
          const index left = s.hidden - unit;
          const T* dy = s.dy + s.dy_offset[r] + unit;
          u.dh += load_first<T>(dy, left < L ? left : L);
          prefetch(dy + s.dy_ahead);
        }
        if (s.grad_h_n) u.dh += load<T>(s.grad_h_n + state);
      }
      u.h_prev = load<T>(s.h_prev + state);
      prefetch(s.h_prev + state + s.state_ahead);
      Vec<T> saved[P::saved_slots], d[P::saved_slots];
      if (P::saved_slots == 1 && !s.saved)
        saved[0] = load<T>(s.h + state);  // an RNN's output is its only gate
      else
        for (int i = 0; i < P::saved_slots; ++i) {
          const T* from = s.saved + r * s.saved_stride + unit * P::saved_slots + i * L;
          saved[i] = load<T>(from);
          prefetch(from + s.saved_ahead);
        }
      if (P::has_c) {
        u.c = load<T>(s.c + state);
        u.c_prev = load<T>(s.c_prev + state);
        prefetch(s.c_prev + state + s.state_ahead);
        u.dc = load<T>(s.dc + state);
      }
      P::template backward<kStandard>(saved, u, d, gates);
      T* grad = s.gates + (panel + n) * s.gates_panel + r * P::saved_slots * L;
      for (int i = P::grad_from; i < P::grad_to; ++i) store<T>(grad + i * L, d[i]);
      if (P::has_c) store<T>(s.dc + state, u.dc);
      if (P::has_direct) store<T>(s.direct + state, u.direct);
    }
  }
}

template <class T>
struct BackwardTile {
  const BackwardStep<T>& s;
  FinishBackward<T> finish;
  const RowsByPanels<T>& product;  // of the later step's gate gradients
  index first;                     // of the step's rows, the first of these

  index parts() const { return product.parts; }

  template <int MR, int NP>
  FASTRNN_ALWAYS void run(index row, index panel, index part = RowsByPanels<T>::kWhole) const {
    Vec<T> acc[MR][NP];
    if (!product.add(acc, row, panel, part, [](int, int) FASTRNN_ALWAYS { return Vec<T>{}; })) return;
    Vec<T> out[MR * NP];
#pragma GCC unroll 16
    for (int m = 0; m < MR; ++m)
#pragma GCC unroll 16
      for (int n = 0; n < NP; ++n) out[m * NP + n] = acc[m][n];
    finish(s, out, MR, NP, first + row, panel);
  }
};

// The GEMM tile is the same for every cell: only the epilogue differs.
template <class T>
FASTRNN_NOINLINE void backward_tiles(const BackwardStep<T>& s, FinishBackward<T> finish, index gates_stride) {
  constexpr int L = kLanes<T>;
  const index K = total_length(s.segment_length, s.segments), whole = s.hidden / L;
  const index narrow = s.last_panel > whole ? narrow_columns(s.hidden, K, L) : 0;  // of another member, if not ours
  const Panels panels{s.first_panel, narrow > 0 ? whole : s.last_panel, s.descending};
  const T* const next = s.next ? s.next : s.gates;  // of which nothing is read
  const Rows<T> all{next + s.first_row * gates_stride, gates_stride, s.segment, s.segment_length, s.next ? s.segments : 0};
  if (narrow > 0)
    narrow_panel(all.a, all.stride, s.weight_hh_t + whole * K * L, K, narrow, all.segment, all.length, all.segments, s.rows,
                 [&](const Vec<T>* out, int rows, index row) FASTRNN_ALWAYS { finish(s, out, rows, 1, row, whole); });
  T* const room = s.next ? s.room : nullptr;
  alignas(64) T waiting[RowsByPanels<T>::kWaiting];
  RowsByPanels<T> product(all, room, s.weight_hh_t, K, panels, waiting, s.next ? sum_chains<T>(s.hidden, K, L) : 1);
  in_blocks(all, s.rows, K, room, product.rows_at_once(), [&](const Rows<T>& rows, index first, index count) FASTRNN_ALWAYS {
    product.rows = rows;
    tile_single(BackwardTile<T>{s, finish, product, first}, count, panels);
  });
}

template <class T, class P, bool kFirstPhase>
static void backward_step(const BackwardStep<T>& s) {
  const bool standard = is_standard<P>(s);
  backward_tiles<T>(s, standard ? finish_backward<T, P, kFirstPhase, true> : finish_backward<T, P, kFirstPhase, false>,
                    P::saved_slots * kLanes<T>);
}

}  // namespace
}  // namespace fastrnn
