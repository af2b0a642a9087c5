// Sums of rows of a table: what a convolution of embedded tokens comes down to once each distinct token is projected.
#pragma once

#include "activations.hpp"

namespace fastrnn {
namespace {

#if defined(__GNUC__) || defined(__clang__)
#define FASTRNN_PREFETCH(p) __builtin_prefetch(p)
#else
#define FASTRNN_PREFETCH(p) (void)(p)
#endif

// The random reads of a sum are asked for so many sums ahead.
constexpr index kAhead = 4;

// [p, p + count) into the first cache.
template <class T>
FASTRNN_INLINE void prefetch(const T* p, index count) {
  constexpr index kLine = 64 / index(sizeof(T));
  for (index i = 0; i < count; i += kLine) FASTRNN_PREFETCH(p + i);
}

template <class T>
FASTRNN_NOINLINE Vec<T> activate_apart(Vec<T> x, Activation<T> act) {
  return activate<T>(x, act);
}

// NV vectors of each output, from column `first` on.
template <class T, int NV>
FASTRNN_INLINE void token_columns(const TokenSum<T>& s, index first) {
  constexpr int L = kLanes<T>;
  const T* table = s.table + first;
  const index width = s.taps * s.pitch;
  Vec<T> bias[NV];
#pragma GCC unroll 4
  for (int v = 0; v < NV; ++v) bias[v] = s.bias ? load<T>(s.bias + first + v * L) : Vec<T>{};
  // with one step between the taps and between the outputs, an output brings one new token
  const bool sliding = s.stride == 1 && s.dilation == 1 && first == 0;
  for (index o = 0; o < s.outputs; ++o) {
    const index* offset = s.offset + o * s.stride;
    if (sliding && o + kAhead < s.outputs) prefetch(s.table + offset[s.taps - 1 + kAhead], width);
    Vec<T> acc[NV];
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) acc[v] = bias[v];
    const T* tap = table;
    for (index k = 0; k < s.taps; ++k, offset += s.dilation, tap += s.pitch) {
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) acc[v] += load<T>(tap + *offset + v * L);
    }
    T* y = s.y + o * s.columns + first;
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
      const index left = s.columns - first - v * L;
      Vec<T> value = acc[v];
      if (s.activation.kind == ActivationKind::relu)
        value = positive<T>(value);
      else if (s.activation.kind != ActivationKind::linear)
        value = activate_apart<T>(value, s.activation);
      store_first<T>(y + v * L, value, left < L ? left : L);
    }
  }
}

template <class T>
static void token_sum(const TokenSum<T>& s) {
  constexpr int L = kLanes<T>;
  const index vectors = s.pitch / L;
  index v = 0;
  for (; v + 4 <= vectors; v += 4) token_columns<T, 4>(s, v * L);
  for (; v + 2 <= vectors; v += 2) token_columns<T, 2>(s, v * L);
  for (; v < vectors; ++v) token_columns<T, 1>(s, v * L);
}

template <class T, int NV>
FASTRNN_INLINE void sum_columns(index n, const index* offset, const T* x, T* y) {
  constexpr int L = kLanes<T>;
  Vec<T> acc[NV];
#pragma GCC unroll 16
  for (int v = 0; v < NV; ++v) acc[v] = Vec<T>{};
  for (index i = 0; i < n; ++i) {
    if (i + kAhead < n) prefetch(x + offset[i + kAhead], NV * L);
    const T* row = x + offset[i];
#pragma GCC unroll 16
    for (int v = 0; v < NV; ++v) acc[v] += load<T>(row + v * L);
  }
#pragma GCC unroll 16
  for (int v = 0; v < NV; ++v) store<T>(y + v * L, acc[v]);
}

// y[j] = sum over i of x[offset[i] + j], j < width, a whole number of vectors. Wide rows are done in even parts.
template <class T>
static void sum_rows(index n, const index* offset, index width, const T* x, T* y) {
  constexpr index kMost = kManyRegisters ? 16 : 14;
  constexpr int L = kLanes<T>;
  const index vectors = width / L, parts = (vectors + kMost - 1) / kMost;
  for (index part = 0; part < parts; ++part) {
    const index first = vectors * part / parts, last = vectors * (part + 1) / parts;
    const T* from = x + first * L;
    T* to = y + first * L;
    switch (last - first) {
#define FASTRNN_CASE(NV) case NV: sum_columns<T, NV>(n, offset, from, to); break
      FASTRNN_CASE(1);
      FASTRNN_CASE(2);
      FASTRNN_CASE(3);
      FASTRNN_CASE(4);
      FASTRNN_CASE(5);
      FASTRNN_CASE(6);
      FASTRNN_CASE(7);
      FASTRNN_CASE(8);
      FASTRNN_CASE(9);
      FASTRNN_CASE(10);
      FASTRNN_CASE(11);
      FASTRNN_CASE(12);
      FASTRNN_CASE(13);
      FASTRNN_CASE(14);
      FASTRNN_CASE(15);
      FASTRNN_CASE(16);
#undef FASTRNN_CASE
    }
  }
}

}  // namespace
}  // namespace fastrnn
