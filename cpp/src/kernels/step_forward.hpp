// One time step: pre-activations in registers (bias + x.W + h.R with the same accumulators), then the cell's maths.
#pragma once

#include "cells.hpp"

namespace fastrnn {
namespace {

template <class T>
using FinishForward = void (*)(const ForwardStep<T>&, const Vec<T>* acc, int rows, int panels, index row, index panel);

template <class T, class P, bool kStandard>
static void finish_forward(const ForwardStep<T>& s, const Vec<T>* acc, int rows, int panels, index row, index panel) {
  constexpr int L = kLanes<T>;
  const Gates<T, kStandard> gates{{s.gate}, {s.candidate}, {s.output}};
  for (int m = 0; m < rows; ++m) {
    const index r = row + m;
    for (int n = 0; n < panels; ++n, acc += P::slots) {
      const index unit = (panel + n) * L;
      const index state = r * s.state_stride + unit;
      T* keep = s.saved ? s.saved + r * s.saved_stride + unit * P::saved_slots : nullptr;
      Unit<T> u;
      Vec<T> saved[P::saved_slots];
      u.h_prev = load<T>(s.h_prev + state);
      if (P::has_c) u.c_prev = load<T>(s.c_prev + state);
      for (int i = 0; i < P::keep_from; ++i) saved[i] = load<T>(keep + i * L);
      P::template forward<kStandard>(acc, u, saved, gates);
      if (keep)
        for (int i = P::keep_from; i < P::keep_to; ++i) store<T>(keep + i * L, saved[i]);
      if (!P::final_phase) {
        store<T>(s.reset_h + state, s.recurrent_mask ? u.reset_h * load<T>(s.recurrent_mask + state) : u.reset_h);
        continue;
      }
      if (P::has_c) store<T>(s.c_next + state, u.c);
      store<T>(s.h_next + state, u.h);
      if (s.operand_next) store<T>(s.operand_next + state, u.h * load<T>(s.recurrent_mask + state));
      if (s.y) {
        const index left = s.hidden - unit;
        store_first<T>(s.y + s.y_offset[r] + unit, u.h, left < L ? left : L);
      }
    }
  }
}

template <class T, class P, bool kFirstPhase>
struct ForwardTile {
  const ForwardStep<T>& s;
  FinishForward<T> finish;

  template <int MR, int NP>
  FASTRNN_ALWAYS void run(index row, index panel) const {
    constexpr int L = kLanes<T>, S = P::slots;
    ScatteredRows<T, MR> x;
    for (int m = 0; m < MR; ++m) x.row[m] = s.x + s.x_offset[row + m];
    StridedRows<T, MR> h((kFirstPhase ? s.operand : s.reset_h) + row * s.state_stride, s.state_stride);
    Vec<T> acc[MR][NP * S];
#pragma GCC unroll 16
    for (int i = 0; i < NP * S; ++i) {
      const Vec<T> bias = load<T>(s.bias + (panel * S + i) * L);
#pragma GCC unroll 16
      for (int m = 0; m < MR; ++m) acc[m][i] = bias;
    }
    const index x_panel = s.inputs * P::X::count * L, h_panel = s.hidden * P::H::count * L;
    accumulate<T, MR, NP, S, typename P::X>(acc, x, s.weight_ih + panel * x_panel, x_panel, s.inputs);
    accumulate<T, MR, NP, S, typename P::H>(acc, h, s.weight_hh + panel * h_panel, h_panel, s.hidden);
    Vec<T> out[MR * NP * S];
#pragma GCC unroll 16
    for (int m = 0; m < MR; ++m)
#pragma GCC unroll 16
      for (int i = 0; i < NP * S; ++i) out[m * NP * S + i] = acc[m][i];
    finish(s, out, MR, NP, row, panel);
  }
};

template <class T, class P, bool kFirstPhase>
static void forward_step(const ForwardStep<T>& s) {
  const bool standard = is_standard<P>(s);
  const ForwardTile<T, P, kFirstPhase> tile{s, standard ? finish_forward<T, P, true> : finish_forward<T, P, false>};
  const index panels = (s.hidden + kLanes<T> - 1) / kLanes<T>;
  index row = 0;
  // Tiles small in rows are wide in panels: eight accumulators at least hide the latency of the FMA.
  if (P::slots == 4 && kManyRegisters) {
    row = tile_rows<6, 1>(tile, row, s.rows, panels);
    row = tile_rows<4, 1>(tile, row, s.rows, panels);
    row = tile_rows<2, 1>(tile, row, s.rows, panels);
  } else if (P::slots == 4) {
    row = tile_rows<3, 1>(tile, row, s.rows, panels);
  } else if (kManyRegisters) {
    row = tile_rows<12 / P::slots, 2, 1>(tile, row, s.rows, panels);
    row = tile_rows<4 / P::slots, 4, 2, 1>(tile, row, s.rows, panels);
  } else {
    row = tile_rows<6 / P::slots, 2, 1>(tile, row, s.rows, panels);
  }
  if (P::slots == 4)
    tile_rows<1, 2, 1>(tile, row, s.rows, panels);
  else
    tile_rows<1, 8 / P::slots, 2, 1>(tile, row, s.rows, panels);
}

}  // namespace
}  // namespace fastrnn
