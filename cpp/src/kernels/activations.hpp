// The activations known to the kernels, and their derivatives.
//
// Backward has one saved value per gate. For most activations that is the output y, from which the derivative follows;
// a few (needs_input) cannot be inverted and save their input instead. Formulas: Keras 3 and ONNX's RNN operators.
#pragma once

#include "math.hpp"

namespace fastrnn {
namespace {

template <class T>
FASTRNN_INLINE Vec<T> positive(Vec<T> x) {  // max(x, 0); NaN passes
  const Vec<T> zero{};
  return x < zero ? zero : x;
}

template <class T>
FASTRNN_INLINE Vec<T> select_positive(Vec<T> x, Vec<T> yes, Vec<T> no) {
  return x > Vec<T>{} ? yes : no;
}

// x * sigmoid(x). The kernel's sigmoid ends at the smallest normal number, so x is held where the product is 0 anyway.
template <class T>
FASTRNN_INLINE Vec<T> silu(Vec<T> x) {
  const Vec<T> low = splat<T>(T(-1000));
  return (x < low ? low : x) * sigmoid<T>(x);
}

constexpr double kSeluAlpha = 1.6732632423543772848170429916717;  // Klambauer et al. 2017, eq. 2
constexpr double kSeluScale = 1.0507009873554804934193349852946;

template <class T>
static Vec<T> activate_rare(Vec<T> x, Activation<T> act) {
  switch (act.kind) {
    case ActivationKind::softplus:  // log(1 + e^x) = max(x, 0) + log1p(e^-|x|)
      return by_lane<T>(x, [](T v) {
        T lane[kLanes<T>];
        store<T>(lane, exp<T>(splat<T>(v > 0 ? -v : v)));
        return (v > 0 ? v : T(0)) + scalar_log1p(lane[0]);
      });
    case ActivationKind::gelu:
      return by_lane<T>(x, [](T v) { return T(0.5) * v * (T(1) + scalar_erf(v * T(0.70710678118654752440))); });
    case ActivationKind::softsign:
      return x / (T(1) + (x < Vec<T>{} ? -x : x));
    case ActivationKind::scaled_tanh:
      return act.alpha * tanh<T>(act.beta * x);
    case ActivationKind::thresholded_relu:
      return x <= splat<T>(act.alpha) ? Vec<T>{} : x;  // NaN passes
    case ActivationKind::selu:
      return T(kSeluScale) * select_positive<T>(x, x, T(kSeluAlpha) * expm1_negative<T>(x));
    case ActivationKind::exponential:
      return exp<T>(x);
    default:
      return x;
  }
}

template <class T>
FASTRNN_INLINE Vec<T> activate(Vec<T> x, Activation<T> act) {
  switch (act.kind) {
    case ActivationKind::linear: return x;
    case ActivationKind::tanh: return tanh<T>(x);
    case ActivationKind::sigmoid: return sigmoid<T>(x);
    case ActivationKind::relu: return positive<T>(x);
    case ActivationKind::hard_sigmoid: return clamp(act.alpha * x + act.beta, T(0), T(1));
    case ActivationKind::affine: return act.alpha * x + act.beta;
    case ActivationKind::leaky_relu: return select_positive<T>(x, x, act.alpha * x);
    case ActivationKind::elu: return select_positive<T>(x, x, act.alpha * expm1_negative<T>(x));
    case ActivationKind::silu: return silu<T>(x);
    default: return activate_rare<T>(x, act);
  }
}

// d act / dx, from the saved value (the output, or the input where needs_input). `y` returns the output.
template <class T>
static Vec<T> derivative_rare(Vec<T> saved, Activation<T> act, Vec<T>& y) {
  y = saved;
  const Vec<T> zero{};
  const Vec<T> one = splat<T>(1);
  switch (act.kind) {
    case ActivationKind::leaky_relu:
      y = activate<T>(saved, act);
      return select_positive<T>(saved, one, splat<T>(act.alpha));
    case ActivationKind::elu:
      if (needs_input(act)) y = activate<T>(saved, act);
      return select_positive<T>(saved, one, y + act.alpha);
    case ActivationKind::softplus:  // sigmoid(x) = 1 - e^-y
      return -expm1_negative<T>(-y);
    case ActivationKind::softsign: {  // 1 / (1 + |x|)^2 = (1 - |y|)^2
      const Vec<T> d = T(1) - (y < zero ? -y : y);
      return d * d;
    }
    case ActivationKind::scaled_tanh: {
      const Vec<T> t = tanh<T>(act.beta * saved);
      y = act.alpha * t;
      return (act.alpha * act.beta) * (T(1) - t * t);
    }
    case ActivationKind::thresholded_relu:
      y = activate<T>(saved, act);
      return saved > splat<T>(act.alpha) ? one : zero;
    case ActivationKind::selu:
      return select_positive<T>(y, splat<T>(T(kSeluScale)), y + T(kSeluScale * kSeluAlpha));
    case ActivationKind::gelu: {  // Phi(x) + x phi(x)
      y = activate<T>(saved, act);
      const Vec<T> cdf = by_lane<T>(saved, [](T v) { return T(0.5) * (T(1) + scalar_erf(v * T(0.70710678118654752440))); });
      return cdf + saved * (T(0.39894228040143267794) * exp<T>(T(-0.5) * saved * saved));
    }
    case ActivationKind::silu: {
      const Vec<T> s = sigmoid<T>(saved);
      y = silu<T>(saved);
      return s + y * (T(1) - s);
    }
    case ActivationKind::exponential: return y;
    default: return one;
  }
}

template <class T>
FASTRNN_INLINE Vec<T> derivative(Vec<T> saved, Activation<T> act, Vec<T>& y) {
  y = saved;
  switch (act.kind) {
    case ActivationKind::linear: return splat<T>(1);
    case ActivationKind::tanh: return T(1) - y * y;
    case ActivationKind::sigmoid: return y * (T(1) - y);
    case ActivationKind::relu: return select_positive<T>(y, splat<T>(1), Vec<T>{});
    case ActivationKind::hard_sigmoid: {
      const Vec<T> zero{};
      const Vec<T> inside = y < splat<T>(1) ? splat<T>(act.alpha) : zero;
      return y > zero ? inside : zero;
    }
    case ActivationKind::affine: return splat<T>(act.alpha);
    default: return derivative_rare<T>(saved, act, y);
  }
}

// What forward keeps of a gate for backward.
template <class T>
FASTRNN_INLINE Vec<T> keep(Vec<T> x, Vec<T> y, Activation<T> act) {
  return needs_input(act) ? x : y;
}

}  // namespace
}  // namespace fastrnn
