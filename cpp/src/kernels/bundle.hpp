// N vectors as one value: each operation on a bundle is N of them, one after the other, which do not wait for each
// other.
//
// An activation is a chain of some twenty instructions. A processor looks ahead for other work, but not far enough to
// keep all its units busy with the chains that follow; in a bundle, N of them go side by side.
#pragma once

#include "simd.hpp"

namespace fastrnn {
namespace {

template <class T, int N>
struct Bundle {
  Vec<T> v[N];
};

// Vectors of a bundle: more than two are no faster with 16 registers. 1: not measured, every value is a Vec.
constexpr int kBundle = kManyRegisters ? 1 : 2;

template <class T, int N>
struct BundleOf {
  typedef Bundle<T, N> V;
};
template <class T>
struct BundleOf<T, 1> {
  typedef Vec<T> V;
};

// f of a vector, or of each vector of a bundle.
template <class F, class V>
FASTRNN_INLINE V each(const F& f, V x) {
  return f(x);
}
template <class F, class T, int N>
FASTRNN_INLINE Bundle<T, N> each(const F& f, Bundle<T, N> x) {
#pragma GCC unroll 16
  for (int i = 0; i < N; ++i) x.v[i] = f(x.v[i]);
  return x;
}
template <class F, class V>
FASTRNN_INLINE V each(const F& f, V x, V y) {
  return f(x, y);
}
template <class F, class T, int N>
FASTRNN_INLINE Bundle<T, N> each(const F& f, Bundle<T, N> x, Bundle<T, N> y) {
#pragma GCC unroll 16
  for (int i = 0; i < N; ++i) x.v[i] = f(x.v[i], y.v[i]);
  return x;
}

// Vector i of a bundle; the one there is.
template <class T, class V>
FASTRNN_INLINE V& part(V& x, int) {
  return x;
}
template <class T, int N>
FASTRNN_INLINE Vec<T>& part(Bundle<T, N>& x, int i) {
  return x.v[i];
}

#define FASTRNN_BUNDLE(op)                                                                     \
  template <class T, int N>                                                                    \
  FASTRNN_INLINE Bundle<T, N> operator op(Bundle<T, N> x, Bundle<T, N> y) {                     \
    return each([](Vec<T> a, Vec<T> b) FASTRNN_ALWAYS { return a op b; }, x, y);               \
  }                                                                                            \
  template <class T, int N>                                                                    \
  FASTRNN_INLINE Bundle<T, N> operator op(Bundle<T, N> x, T y) {                                \
    return each([y](Vec<T> a) FASTRNN_ALWAYS { return a op y; }, x);                           \
  }                                                                                            \
  template <class T, int N>                                                                    \
  FASTRNN_INLINE Bundle<T, N> operator op(T x, Bundle<T, N> y) {                                \
    return each([x](Vec<T> b) FASTRNN_ALWAYS { return x op b; }, y);                           \
  }
FASTRNN_BUNDLE(+)
FASTRNN_BUNDLE(-)
FASTRNN_BUNDLE(*)
FASTRNN_BUNDLE(/)
#undef FASTRNN_BUNDLE

// One vector has to round as a bundle does: where the compiler could contract a sum in two ways, this says which. (All
// others rely on -ffp-contract=fast: with "on", Clang would not fuse across these operators.)
template <class T, int N>
FASTRNN_INLINE Bundle<T, N> multiply_add(Bundle<T, N> a, Bundle<T, N> b, Bundle<T, N> c) {
#pragma GCC unroll 16
  for (int i = 0; i < N; ++i) a.v[i] = multiply_add<T>(a.v[i], b.v[i], c.v[i]);
  return a;
}
template <class T, int N>
FASTRNN_INLINE Bundle<T, N> clamp(Bundle<T, N> x, T lo, T hi) {
  return each([lo, hi](Vec<T> v) FASTRNN_ALWAYS { return clamp(v, lo, hi); }, x);
}

}  // namespace
}  // namespace fastrnn
