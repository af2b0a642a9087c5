// exp, sigmoid and tanh on a lane type, from one polynomial; sigmoid and tanh on bundles, too.
//
// x*log2(e) = k + r with k an integer and |r| <= 1/2; 2^r - 1 = r*q(r) with q a minimax polynomial (our own Remez fit,
// weighted by the value): relative error 1.1e-8 for the 6 coefficients of float, 1.8e-17 for the 11 of double. Then
//   exp(x)   = 2^k + 2^k (2^r - 1)
//   expm1(x) = (2^k - 1) + 2^k (2^r - 1)      exact where it matters: near 0, k = 0 and the first term vanishes.
// In sigmoid and tanh the product x*log2(e) is rounded once, where it is not part of a multiply-add: that costs their
// exponential a relative error of 6e-8*|x| (float), which they damp (exp itself reduces in two parts). Measured on a
// grid of 300,000 points (tests/test_accuracy.py), sigmoid is within 1e-7 and tanh within 1.6e-7 absolute and 4 ulp in float, 3e-16 and 4 ulp
// in double. Infinities saturate and NaN stays NaN.
#pragma once

#include "bundle.hpp"

namespace fastrnn {
namespace {

template <class T>
struct Exp2;

template <>
struct Exp2<float> {
  static constexpr float log2e = 1.44269504088896341f;
  static constexpr float ln2_high = 0.693145751953125f;  // 15 bits: k*ln2_high is exact
  static constexpr float ln2_low = 1.42860682030941723e-6f;
  static constexpr float round = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
  static constexpr int mantissa = 23;
  static constexpr uint32_t bias = 127;
  static constexpr float limit = 126.0f;  // |k| at most: 2^k stays normal
  static constexpr int terms = 6;
  static constexpr float q[terms] = {0.6931471879f,   0.2402264979f,   0.05550357434f,
                                     0.009618237494f, 0.001339073548f, 0.0001540351262f};
};

template <>
struct Exp2<double> {
  static constexpr double log2e = 1.44269504088896340736;
  static constexpr double ln2_high = 0.693147180369123816490;  // 32 bits
  static constexpr double ln2_low = 1.90821492927058770002e-10;
  static constexpr double round = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr int mantissa = 52;
  static constexpr uint64_t bias = 1023;
  static constexpr double limit = 1022.0;
  static constexpr int terms = 11;
  static constexpr double q[terms] = {0.6931471805599453112,    0.2402265069591009789,    0.0555041086648212365,
                                      0.0096181291076070653,    0.001333355814653164471,  0.0001540353044148128375,
                                      0.00001525273370120071307, 1.321544272387838816e-6, 1.017812130580671801e-7,
                                      7.072561768398301166e-9,  4.445536131848176023e-10};
};

// 2^r - 1 for |r| <= 1/2.
template <class T, class V>
FASTRNN_INLINE V exp2_minus_one(V r) {
  using C = Exp2<T>;
  V q = r * C::q[C::terms - 1] + C::q[C::terms - 2];
#pragma GCC unroll 16
  for (int i = C::terms - 3; i >= 0; --i) q = q * r + C::q[i];
  return q * r;
}

// 2^t as scale * (1 + fraction), for |t| <= limit.
template <class T>
FASTRNN_INLINE void exp2_parts(Vec<T> t, Vec<T>& scale, Vec<T>& fraction) {
  using C = Exp2<T>;
  const Vec<T> shifted = t + C::round;
  const Vec<T> k = shifted - C::round;
  fraction = exp2_minus_one<T>(t - k);
  // the integer k stands in the low bits of `shifted`; the bits of the constant are shifted out
  scale = as_float<T>((as_int<T>(shifted) + C::bias) << C::mantissa);
}

// 2^(x*factor) = scale * 2^r, for |x*factor| <= limit: as exp2_parts, but in fewer instructions. The constant that is
// added has the exponent's bias in its low bits, too.
template <class T, class V>
FASTRNN_INLINE V split_exp2(V x, T factor, V& scale) {
  using C = Exp2<T>;
  constexpr T round = C::round + T(C::bias);
  const V shifted = x * factor + round;
  scale = each([](Vec<T> s) FASTRNN_ALWAYS { return as_float<T>(as_int<T>(s) << C::mantissa); }, shifted);
  return x * factor - (shifted - round);
}

// Where sigmoid and tanh end. With exact products a hair beyond the limit 1/2^t is not normal; tanh(20.8) is 1 in double.
template <class T>
constexpr T kSigmoidEnd = (Exp2<T>::limit - T(0.001)) / Exp2<T>::log2e;
template <class T>
constexpr T kTanhEnd = T(21);

#if defined(__AVX512DQ__)
// An infinite t leaves no remainder, and 2^t is infinite or 0: nothing has to be clamped but what would be inf / inf.
template <class T>
FASTRNN_INLINE Vec<T> sigmoid(Vec<T> x) {
  const Vec<T> t = x * -Exp2<T>::log2e;
  return T(1) / (T(1) + times_exp2(T(1) + exp2_minus_one<T>(past_nearest(t)), nearest(t)));
}

template <class T>
FASTRNN_INLINE Vec<T> tanh(Vec<T> x) {
  const Vec<T> t = at_most(x * (T(2) * Exp2<T>::log2e), T(60));  // tanh(20.8) is 1 in double
  const Vec<T> scale = times_exp2(splat<T>(1), nearest(t));
  const Vec<T> e = (scale - T(1)) + scale * exp2_minus_one<T>(past_nearest(t));
  return e / (e + T(2));
}
#else
template <class T, class V>
FASTRNN_INLINE V sigmoid(V x) {
  using C = Exp2<T>;
  V scale;
  const V r = split_exp2<T>(clamp(x, -kSigmoidEnd<T>, kSigmoidEnd<T>), -C::log2e, scale);
  return T(1) / (T(1) + scale * (T(1) + exp2_minus_one<T>(r)));
}

template <class T, class V>
FASTRNN_INLINE V tanh(V x) {
  using C = Exp2<T>;
  V scale;
  const V r = split_exp2<T>(clamp(x, -kTanhEnd<T>, kTanhEnd<T>), T(2) * C::log2e, scale);
  const V e = (scale - T(1)) + scale * exp2_minus_one<T>(r);
  return e / (e + T(2));
}
#endif

// exp over the whole range, within 2e-7 (float) or 4e-16 relative: k*ln2 is taken off in two parts, and 2^k applied as
// two factors, so that it overflows to inf and underflows to 0 as it should.
template <class T>
FASTRNN_INLINE Vec<T> exp(Vec<T> x) {
  using C = Exp2<T>;
  const Vec<T> bounded = clamp(x, T(-2) * C::limit * C::ln2_high, T(2) * C::limit * C::ln2_high);
  const Vec<T> k = (bounded * C::log2e + C::round) - C::round;
  const Vec<T> r = (bounded - k * C::ln2_high) - k * C::ln2_low;
  const Vec<T> half = (k * T(0.5) + C::round) - C::round;
  Vec<T> half_scale, scale, fraction, none;
  exp2_parts<T>(half, half_scale, none);
  exp2_parts<T>(k - half, scale, none);
  Vec<T> unit;
  exp2_parts<T>(r * C::log2e, unit, fraction);  // the unit is 1, or 2 or 1/2 where r lies on the border
  return half_scale * (scale * (unit + unit * fraction));
}

template <class T>
FASTRNN_INLINE Vec<T> expm1_negative(Vec<T> x) {  // exp(x) - 1 for x <= 0 (x > 0 gives 0), without cancellation near 0
  using C = Exp2<T>;
  Vec<T> scale, fraction;
  exp2_parts<T>(clamp(x * C::log2e, -C::limit, T(0)), scale, fraction);
  return (scale - T(1)) + scale * fraction;
}

// The rare ones, a lane at a time through the C library.
FASTRNN_INLINE float scalar_erf(float x) { return FASTRNN_BUILTIN(erff)(x); }
FASTRNN_INLINE double scalar_erf(double x) { return FASTRNN_BUILTIN(erf)(x); }
FASTRNN_INLINE float scalar_log1p(float x) { return FASTRNN_BUILTIN(log1pf)(x); }
FASTRNN_INLINE double scalar_log1p(double x) { return FASTRNN_BUILTIN(log1p)(x); }

template <class T, class F>
FASTRNN_INLINE Vec<T> by_lane(Vec<T> x, F f) {
  T lane[kLanes<T>];
  store<T>(lane, x);
  for (int i = 0; i < kLanes<T>; ++i) lane[i] = f(lane[i]);
  return load<T>(lane);
}

}  // namespace
}  // namespace fastrnn
