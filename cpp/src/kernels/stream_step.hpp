// One row, step after step, the state carried: the kernel behind fastrnn/stream.hpp.
//
// With one row the FMAs of a step form few chains. Where weights come from the first cache, the latency of the chains
// decides, elsewhere the reading of the weights. So k is dealt to several sets of accumulators, and tiles of large
// weights are narrow and walked the other way round every second step: the weights used last, which are still in the
// first cache, are used first. Blocks make the input product of several steps at once, reading its weights once.
// A sum's order follows from the shape alone, so that a block and its steps agree bitwise.
#pragma once

#include "cells.hpp"
#include "flush.hpp"

namespace fastrnn {
namespace {

constexpr int kChains = kManyRegisters ? 16 : 8;

// Sets of accumulators for a tile of N vectors.
template <int N>
constexpr int kSets = kChains / N >= 4 ? 4 : kChains / N >= 2 ? 2 : 1;

// Values of a packed panel: its bias and weights.
template <class T, class P>
FASTRNN_INLINE index panel_size(const StreamCell<T>& s) {
  return (P::slots + s.inputs * P::X::count + s.hidden * P::H::count) * kLanes<T>;
}

// acc[set][n*S + Map(c)] += v[k] * w[((k*NP + n)*count + c)*L], k dealt to the sets in turn.
template <class T, int NP, int S, class Map, int A>
FASTRNN_INLINE void stream_product(Vec<T> (&acc)[A][NP * S], const T* v, index K, const T* w) {
  constexpr int C = Map::count, N = NP * C, L = kLanes<T>;
  const auto add = [&](int set, const T* at, const T* row) FASTRNN_ALWAYS {
    const Vec<T> value = splat<T>(*at);
#pragma GCC unroll 4
    for (int n = 0; n < NP; ++n)
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) {
        Vec<T>& sum = acc[set][n * S + Map::at(c)];
        sum = multiply_add<T>(value, load<T>(row + (n * C + c) * L), sum);
      }
  };
  index k = 0;
  for (; k + A <= K; k += A, w += A * N * L)
#pragma GCC unroll 4
    for (int a = 0; a < A; ++a) add(a, v + k + a, w + a * N * L);
  for (; k < K; ++k, w += N * L) add(0, v + k, w);
}

// The gates of N panels at once.
template <class T, class P, int kStandard, int N>
FASTRNN_INLINE void stream_finish(const StreamCell<T>& s, const Vec<T>* sum, index panel, T* y) {
  constexpr int L = kLanes<T>, S = P::slots;
  typedef typename BundleOf<T, N>::V V;
  const Gates<T, kStandard> gates{{s.gate}, {s.candidate}, {s.output}};
  const index unit = panel * L;
  V sums[S], saved[P::saved_slots];
  Unit<V> u;
#pragma GCC unroll 4
  for (int n = 0; n < N; ++n) {
    const index at = unit + n * L;
    for (int slot = 0; slot < S; ++slot) part<T>(sums[slot], n) = sum[n * S + slot];
    part<T>(u.h_prev, n) = load<T>(s.h + at);
    if (P::has_c) part<T>(u.c_prev, n) = load<T>(s.c + at);
    if (P::keep_from > 1) part<T>(saved[1], n) = load<T>(s.z + at);
  }
  P::template forward<kStandard>(sums, u, saved, gates);
#pragma GCC unroll 4
  for (int n = 0; n < N; ++n) {
    const index at = unit + n * L;
    if (!P::final_phase) {
      store<T>(s.z + at, part<T>(saved[1], n));
      store<T>(s.reset_h + at, part<T>(u.reset_h, n));
      continue;
    }
    const Vec<T> h = part<T>(u.h, n);
    if (P::has_c) store<T>(s.c + at, part<T>(u.c, n));
    store<T>(s.h_next + at, h);
    if (y) store_first<T>(y + at, h, s.hidden - at < L ? s.hidden - at : L);
  }
}

// NP panels of a step. `projected`: bias and input product of all panels, or null: they are made here from x.
template <class T, class P, int kStandard, int NP>
FASTRNN_NOINLINE void stream_tile_step(const StreamCell<T>& s, const T* w, const T* x, const T* projected,
                                       const T* operand, index panel, T* y) {
  constexpr int L = kLanes<T>, S = P::slots, N = NP * S, A = kSets<N>;
  w += panel * panel_size<T, P>(s);
  const T* start = projected ? projected + panel * S * L : w;
  Vec<T> first[1][N];
#pragma GCC unroll 16
  for (int i = 0; i < N; ++i) first[0][i] = load<T>(start + i * L);
  w += N * L;
  if (!projected) stream_product<T, NP, S, typename P::X>(first, x, s.inputs, w);
  w += s.inputs * (NP * P::X::count * L);
  Vec<T> acc[A][N], sum[N];
#pragma GCC unroll 16
  for (int i = 0; i < N; ++i) {
    acc[0][i] = first[0][i];
#pragma GCC unroll 4
    for (int a = 1; a < A; ++a) acc[a][i] = Vec<T>{};
  }
  stream_product<T, NP, S, typename P::H>(acc, operand, s.hidden, w);
#pragma GCC unroll 16
  for (int i = 0; i < N; ++i) {
    if constexpr (A == 1) sum[i] = acc[0][i];
    if constexpr (A == 2) sum[i] = acc[0][i] + acc[1][i];
    if constexpr (A == 4) sum[i] = (acc[0][i] + acc[1][i]) + (acc[2][i] + acc[3][i]);
  }
  constexpr int B = NP < kBundle ? NP : kBundle;
#pragma GCC unroll 4
  for (int n = 0; n < NP; n += B) stream_finish<T, P, kStandard, B>(s, sum + n * S, panel + n, y);
}

// All panels of a step: tiles of W, then what is left in halves of that.
template <class T, class P, int kStandard, int W>
FASTRNN_INLINE void stream_phase(const StreamCell<T>& s, const T* w, const T* x, const T* projected, const T* operand,
                                 T* y) {
  const index whole = s.panels / W * W;
  const auto tile = [&](auto width, index panel) FASTRNN_ALWAYS {
    stream_tile_step<T, P, kStandard, decltype(width)::value>(s, w, x, projected, operand, panel, y);
  };
  const auto rest = [&](auto width) FASTRNN_ALWAYS {
    constexpr int N = decltype(width)::value;
    if (N < W && (s.panels & N)) tile(width, s.panels / (2 * N) * (2 * N));
  };
  if (!s.last_first) {
    for (index p = 0; p < whole; p += W) tile(Width<W>{}, p);
    rest(Width<2>{});
    rest(Width<1>{});
  } else {
    rest(Width<1>{});
    rest(Width<2>{});
    for (index p = whole - W; p >= 0; p -= W) tile(Width<W>{}, p);
  }
}

// Bias and input product of R steps for one panel, in the order of sums that a single step has.
template <class T, class P, int R>
FASTRNN_INLINE void stream_project_panel(const StreamCell<T>& s, const T* bias, const T* weight, index weight_stride,
                                         const T* x, T* projected) {
  constexpr int L = kLanes<T>, S = P::slots, C = P::X::count;
  Vec<T> acc[R][S];
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int i = 0; i < S; ++i) acc[r][i] = load<T>(bias + i * L);
  for (index k = 0; k < s.inputs; ++k, weight += weight_stride) {
    Vec<T> value[R];
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) value[r] = splat<T>(x[r * s.inputs + k]);
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) {
      const Vec<T> column = load<T>(weight + c * L);
#pragma GCC unroll 6
      for (int r = 0; r < R; ++r) acc[r][P::X::at(c)] = multiply_add<T>(value[r], column, acc[r][P::X::at(c)]);
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int i = 0; i < S; ++i) store<T>(projected + (r * s.panels * S + i) * L, acc[r][i]);
}

template <class T, class P, int W, int R>
FASTRNN_NOINLINE void stream_project_rows(const StreamCell<T>& s, const T* w, const T* x, T* projected) {
  constexpr int L = kLanes<T>, S = P::slots, C = P::X::count;
  for (index tile = 0, width; tile < s.panels; tile += width) {
    width = stream_tile(W, s.panels - tile);
    for (index n = 0; n < width; ++n)
      stream_project_panel<T, P, R>(s, w + n * S * L, w + (width * S + n * C) * L, width * C * L, x,
                                    projected + (tile + n) * S * L);
    w += width * panel_size<T, P>(s);
  }
}

constexpr index kTogether = kManyRegisters ? 6 : 3;  // steps that a tile of input products takes

template <class T, class P, int W>
FASTRNN_NOINLINE void stream_project(const StreamCell<T>& s, const T* w, const T* x, index steps, T* projected) {
  const index row = s.panels * P::slots * kLanes<T>;
  const auto rows = [&](auto count, index t) FASTRNN_ALWAYS {
    stream_project_rows<T, P, W, decltype(count)::value>(s, w, x + t * s.inputs, projected + t * row);
  };
  if (steps < kTogether) {
    for (index t = 0; t < steps; ++t) rows(Width<1>{}, t);
    return;
  }
  for (index t = 0; t < steps; t += kTogether)  // the last tile may make some of the one before again
    rows(Width<kTogether>{}, t < steps - kTogether ? t : steps - kTogether);
}

// How many steps of a block are projected together: most if that leaves enough for the next time, or all.
FASTRNN_INLINE index steps_ahead(index steps) {
  if (steps <= kStreamAhead) return steps;
  return steps < kStreamAhead + kTogether ? steps - kTogether : kStreamAhead;
}

template <class T, int W, int kStandard, class P, class Second>
FASTRNN_NOINLINE void stream_steps(StreamCell<T>& s, const T* x, index steps, T* y) {
  constexpr int L = kLanes<T>;
  while (steps > 0) {
    index n = steps;
    const T *ahead = nullptr, *ahead2 = nullptr;
    const index row = s.panels * P::slots * L, row2 = s.panels * Second::slots * L;
    if (s.projected && steps > 1) {
      n = steps_ahead(steps);
      ahead = s.projected;
      stream_project<T, P, W>(s, s.weights[0], x, n, s.projected);
      if (!P::final_phase) {
        ahead2 = s.projected + kStreamAhead * row;
        stream_project<T, Second, W>(s, s.weights[1], x, n, s.projected + kStreamAhead * row);
      }
    }
    steps -= n;
    for (; n > 0; --n) {
      stream_phase<T, P, kStandard, W>(s, s.weights[0], x, ahead, s.h, y);
      if (!P::final_phase) stream_phase<T, Second, kStandard, W>(s, s.weights[1], x, ahead2, s.reset_h, y);
      T* h = s.h;
      s.h = s.h_next;
      s.h_next = h;
      s.last_first = !s.last_first;
      x += s.inputs;
      if (y) y += s.hidden;
      if (ahead) ahead += row;
      if (ahead2) ahead2 += row2;
    }
  }
}

template <class T, int W, int kStandard, class P, class Second>
static void stream_run(StreamCell<T>& s, const T* x, index steps, T* y) {
  const FlushDenormals mode;
  stream_steps<T, W, kStandard, P, Second>(s, x, steps, y);
}

template <class T, class P, class Second = P>
static StreamKernel<T> stream_pick(const StreamCell<T>& s) {
  constexpr int wide = P::slots == 4 ? 2 : 4 / P::slots, narrow = P::slots == 4 && sizeof(Vec<T>) == 64 ? 1 : wide;
  if (!is_standard<P>(s)) return {stream_run<T, narrow, 0, P, Second>, narrow};  // activations are called: they decide
  constexpr int gates = kBundle > 1 && P::has_c ? 1 : kQuick;  // a bundle of an LSTM's: not latency but instructions
  if (s.panels * panel_size<T, P>(s) * index(sizeof(T)) <= kFirstCache)
    return {stream_run<T, wide, gates, P, Second>, wide};
  return {stream_run<T, narrow, gates, P, Second>, narrow};
}

template <class T>
static StreamKernel<T> stream_kernel(Cell cell, const StreamCell<T>& s) {
  switch (cell) {
    case Cell::lstm: return stream_pick<T, LstmCell<T>>(s);
    case Cell::gru: return stream_pick<T, GruCell<T>>(s);
    case Cell::gru_reset_before: return stream_pick<T, GruBeforeGates<T>, GruBeforeCandidate<T>>(s);
    default: return stream_pick<T, RnnCell<T>>(s);
  }
}

}  // namespace
}  // namespace fastrnn
