// One row's step, and beside it a share of the input products of later rows.
//
// With one row every weight is read for a single multiply-add, and a cache beyond the first sends a vector of them in
// about twice the time that this takes: half of the multiply-adds that the core could start are left over. The products
// of x need few weights for many multiply-adds. So both are made in one loop, and the processor does those of x while it
// waits for the weights of h. No sum changes its order.
#pragma once

#include "cells.hpp"

namespace fastrnn {
namespace {

template <class T, class W>
using FinishForward = void (*)(const ForwardStep<T, W>&, const Vec<T>* acc, int rows, int panels, index row,
                               index panel);

// Steps of h for one of x: about as long as x's multiply-adds, kBesideRows times as many, take.
constexpr int kBesideSteps = kBesideRows;

// side[m] += x[m] . wx over n inputs, acc += h . wh over K units: N vectors each, C of each panel, the panels x_panel and
// h_panel apart.
template <int N, int C, class T>
FASTRNN_INLINE void accumulate_beside(Vec<T> (&side)[kBesideRows][N], ScatteredRows<T, kBesideRows>& x, const T* wx,
                                      index x_panel, index n, Vec<T> (&acc)[N], const T* h, const T* wh, index h_panel,
                                      index K) {
  constexpr int L = kLanes<T>;
  const auto add_x = [&]() FASTRNN_ALWAYS {
    Vec<T> column[N];
#pragma GCC unroll 16
    for (int i = 0; i < N; ++i) column[i] = load<T>(wx + i / C * x_panel + i % C * L);
#pragma GCC unroll 16
    for (int m = 0; m < kBesideRows; ++m) {
      const Vec<T> row = splat<T>(x.get(m));
#pragma GCC unroll 16
      for (int i = 0; i < N; ++i) side[m][i] += row * column[i];
    }
    x.advance(1);
    wx += C * L;
  };
  const auto add_h = [&](int ahead) FASTRNN_ALWAYS {
    const Vec<T> row = splat<T>(h[ahead]);
#pragma GCC unroll 16
    for (int i = 0; i < N; ++i) acc[i] += row * load<T>(wh + i / C * h_panel + (ahead * C + i % C) * L);
  };
  index k = 0;
  for (; k + kBesideSteps <= K && n > 0; k += kBesideSteps, --n) {
    add_x();
#pragma GCC unroll 16
    for (int ahead = 0; ahead < kBesideSteps; ++ahead) add_h(ahead);
    h += kBesideSteps;
    wh += kBesideSteps * C * L;
  }
  for (; k < K; ++k, ++h, wh += C * L) add_h(0);
  for (; n > 0; --n) add_x();
}

template <class T, class P>
struct BesideTile {
  const ForwardStep<T>& s;
  FinishForward<T, T> finish;

  template <int NP>
  FASTRNN_ALWAYS void run(index panel) const {
    using X = typename P::X;
    using H = typename P::H;
    constexpr int L = kLanes<T>, S = P::slots, C = H::count, N = NP * C;
    const ForwardStep<T>& b = *s.beside;
    const bool begins = b.share_first == 0;
    const auto later = [&](int m, int n) FASTRNN_ALWAYS {
      return b.projected + m * b.projected_row + (panel + n) * b.projected_panel;
    };
    Vec<T> out[NP * S], acc[N], side[kBesideRows][N];
    ScatteredRows<T, kBesideRows> x;
#pragma GCC unroll 16
    for (int n = 0; n < NP; ++n) {
      const T* const start = s.start + s.start_offset[0] + (panel + n) * s.start_panel;
      const T* const bias = b.start + (panel + n) * b.start_panel;
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) {
        acc[n * C + c] = load<T>(start + H::at(c) * L);
        if (X::at(c) != H::at(c)) out[n * S + X::at(c)] = load<T>(start + X::at(c) * L);
#pragma GCC unroll 16
        for (int m = 0; m < kBesideRows; ++m) {
          side[m][n * C + c] = load<T>((begins ? bias : later(m, n)) + X::at(c) * L);
          if (X::at(c) != H::at(c) && begins) store<T>(later(m, n) + H::at(c) * L, load<T>(bias + H::at(c) * L));
        }
      }
    }
    for (int m = 0; m < kBesideRows; ++m) x.row[m] = b.x + b.x_offset[m] + b.share_first;
    const index x_panel = b.inputs * C * L, h_panel = s.recurrent * C * L;
    accumulate_beside<N, C, T>(side, x, b.weight_ih + panel * x_panel + b.share_first * C * L, x_panel,
                               b.share_last - b.share_first, acc, s.operand, s.weight_hh + panel * h_panel, h_panel,
                               s.recurrent);
#pragma GCC unroll 16
    for (int n = 0; n < NP; ++n)
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) {
        out[n * S + H::at(c)] = acc[n * C + c];
#pragma GCC unroll 16
        for (int m = 0; m < kBesideRows; ++m) store<T>(later(m, n) + X::at(c) * L, side[m][n * C + c]);
      }
    finish(s, out, 1, NP, 0, panel);
  }
};

}  // namespace
}  // namespace fastrnn
