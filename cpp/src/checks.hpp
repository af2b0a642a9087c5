// One message per mistake: "[op] argument: expected ..., got ...".
#pragma once

#include <initializer_list>
#include <stdexcept>
#include <string>

#include "fastrnn/types.hpp"

namespace fastrnn {

[[noreturn]] inline void fail(const std::string& op, const std::string& argument, const std::string& expected,
                              const std::string& got) {
  throw std::invalid_argument("[" + op + "] " + argument + ": expected " + expected + ", got " + got);
}

inline std::string shape_text(const index* shape, int ndim) {
  std::string text = "(";
  for (int i = 0; i < ndim; ++i) text += std::to_string(shape[i]) + (i + 1 < ndim ? ", " : ndim == 1 ? ",)" : ")");
  return ndim == 0 ? "()" : text;
}

template <class T>
std::string shape_text(const View<T>& v) {
  return shape_text(v.shape, v.ndim);
}

// `letters` is the shape in the letters of the documentation, `shape` what they are here.
template <class T>
void expect_shape(const std::string& op, const std::string& argument, const View<T>& v, const std::string& letters,
                  std::initializer_list<index> shape) {
  bool same = v.ndim == int(shape.size());
  int i = 0;
  for (index n : shape) same = same && v.shape[i++] == n;
  if (!same)
    fail(op, argument, "shape " + letters + " = " + shape_text(shape.begin(), int(shape.size())), shape_text(v));
}

template <class T>
void expect_ndim(const std::string& op, const std::string& argument, const View<T>& v, const std::string& letters,
                 int ndim) {
  if (v.ndim != ndim) fail(op, argument, "shape " + letters, shape_text(v));
}

inline const char* activation_name(ActivationKind kind) {
  static const char* const names[kActivationKinds] = {
      "linear", "tanh", "sigmoid", "relu", "hard_sigmoid", "elu", "leaky_relu", "softsign", "softplus", "scaled_tanh",
      "affine", "thresholded_relu", "selu", "gelu", "silu", "exponential"};
  return names[int(kind)];
}

// With the parameters it has where none are given: as fastrnn.activations.DEFAULTS.
template <class T>
Activation<T> standard_activation(ActivationKind kind) {
  switch (kind) {
    case ActivationKind::hard_sigmoid: return {kind, T(1.0 / 6.0), T(0.5)};
    case ActivationKind::leaky_relu: return {kind, T(0.2), 0};
    case ActivationKind::scaled_tanh: return {kind, 1, 1};
    case ActivationKind::elu:
    case ActivationKind::affine:
    case ActivationKind::thresholded_relu: return {kind, 1, 0};
    default: return {kind, 0, 0};
  }
}

template <class T>
void expect_activation(const std::string& op, const std::string& argument, const Activation<T>& act) {
  const int kind = int(act.kind);
  if (kind < 0 || kind >= kActivationKinds)
    fail(op, argument, "a known activation", "number " + std::to_string(kind));
  if (!(act.alpha - act.alpha == 0) || !(act.beta - act.beta == 0))
    fail(op, argument, "a finite alpha and beta", std::to_string(act.alpha) + " and " + std::to_string(act.beta));
}

}  // namespace fastrnn
