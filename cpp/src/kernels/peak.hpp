// The measuring stick of the benchmarks: multiply-adds and nothing else.
#pragma once

#include "simd.hpp"

namespace fastrnn {
namespace {

// `iterations` rounds of independent multiply-adds in registers; the number of floating-point operations done. Twelve
// chains cover the latency of two units and leave registers of sixteen for the factors, which come from the sink: the
// compiler can neither foresee what goes in nor drop what comes out.
template <class T>
double multiply_adds(index iterations, T* sink) {
  constexpr int kChains = kSinkVectors;
  const Vec<T> factor = load(sink), summand = load(sink + kLanes<T>);
  Vec<T> chain[kChains];
#if defined(__GNUC__) || defined(__clang__)
#pragma GCC unroll 16
#endif
  for (int i = 0; i < kChains; ++i) chain[i] = splat<T>(T(i));
  for (index n = 0; n < iterations; ++n) {
#if defined(__GNUC__) || defined(__clang__)
#pragma GCC unroll 16
#endif
    for (int i = 0; i < kChains; ++i) chain[i] = chain[i] * factor + summand;
  }
#if defined(__GNUC__) || defined(__clang__)
#pragma GCC unroll 16
#endif
  for (int i = 0; i < kChains; ++i) store(sink + i * kLanes<T>, chain[i]);
  return 2.0 * kChains * kLanes<T> * double(iterations);
}

}  // namespace
}  // namespace fastrnn
