// The few types that every part of fastrnn shares. Plain data, no standard library.
#pragma once

#include <stdint.h>

namespace fastrnn {

typedef int64_t index;

// The public list of activations; the Python layer uses the same numbers.
enum class ActivationKind : int {
  linear, tanh, sigmoid, relu, hard_sigmoid, elu, leaky_relu, softsign, softplus, scaled_tanh, affine,
  thresholded_relu, selu, gelu, silu, exponential
};
constexpr int kActivationKinds = 16;

template <class T>
struct Activation {
  ActivationKind kind;
  T alpha, beta;
};

// Activations whose derivative cannot be had from their output.
template <class T>
constexpr bool needs_input(Activation<T> act) {
  return act.kind == ActivationKind::gelu || act.kind == ActivationKind::silu ||
         act.kind == ActivationKind::leaky_relu || act.kind == ActivationKind::thresholded_relu ||
         act.kind == ActivationKind::scaled_tanh || (act.kind == ActivationKind::elu && act.alpha < 0);
}

// The four recurrent forms. GRU: reset applied after or before the recurrent product.
enum class Cell : int { rnn, lstm, gru, gru_reset_before };
constexpr int kCells = 4;

// What the products read. full: the dtype of the weights. bfloat16: x, h and the weights rounded to it. int8: h and
// weight_hh as integers, h in steps of 1/127 and the weights in steps of their own for each unit and gate; x and
// weight_ih as bfloat16. Sums, gates and states are float in each.
enum class Precision : int { full, bfloat16, int8 };

// An array of up to four dimensions, strides in elements. `data == nullptr` means "not given".
template <class T>
struct View {
  T* data = nullptr;
  int ndim = 0;
  index shape[4] = {0, 0, 0, 0};
  index stride[4] = {0, 0, 0, 0};
  explicit operator bool() const { return data != nullptr; }
};

}  // namespace fastrnn
