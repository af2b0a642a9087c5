// The gate maths of each cell, forward beside backward, on one vector of units; forward also on a bundle of them.
//
// A phase is one GEMM and the maths of its epilogue: `slots` accumulators per unit, `X` and `H` say which of them the
// input and the recurrent product add to, in packed order. A phase writes the saved slots [keep_from, keep_to) going
// forward and the gradient slots [grad_from, grad_to) going back. Derivatives are named after what they take: d_x is
// dL/dx. Equations as in PyTorch's documentation of nn.RNN, nn.LSTM and nn.GRU (gate order i f g o and r z n); the GRU
// with reset before is Cho et al. 2014. kStandard fixes sigmoid gates and tanh candidates at compile time.
#pragma once

#include "activations.hpp"
#include "quick_math.hpp"
#include "tile.hpp"

namespace fastrnn {
namespace {

template <class T>
FASTRNN_NOINLINE Vec<T> activate_any(Vec<T> x, Activation<T> act) {
  return activate<T>(x, act);
}
template <class T>
FASTRNN_NOINLINE Vec<T> derivative_any(Vec<T> saved, Activation<T> act, Vec<T>& y) {
  return derivative<T>(saved, act, y);
}

// kStandard: 0 for any activations, 1 for the standard ones, 2 (forward only) for those with the shortest latency.
constexpr int kQuick = 2;

// One activation slot: `kind` when kStandard, else whatever the call asks for.
template <class T, int kStandard, ActivationKind kind>
struct Slot {
  Activation<T> act;
  static constexpr bool is_tanh = kind == ActivationKind::tanh;  // else sigmoid
  FASTRNN_INLINE Activation<T> fixed() { return Activation<T>{kind, T(0), T(0)}; }
  template <class V>
  FASTRNN_ALWAYS V operator()(V x) const {
    if constexpr (kStandard == kQuick) return is_tanh ? quick_tanh<T>(x) : quick_sigmoid<T>(x);
    else if constexpr (kStandard) return is_tanh ? tanh<T>(x) : sigmoid<T>(x);
    else return each([&](Vec<T> v) { return activate_any<T>(v, act); }, x);
  }
  template <class V>
  FASTRNN_ALWAYS V keep(V x, V y) const {
    if constexpr (kStandard) return y;
    else return each([&](Vec<T> v, Vec<T> w) FASTRNN_ALWAYS { return fastrnn::keep<T>(v, w, act); }, x, y);
  }
  FASTRNN_ALWAYS Vec<T> derivative(Vec<T> saved, Vec<T>& y) const {
    return kStandard ? fastrnn::derivative<T>(saved, fixed(), y) : derivative_any<T>(saved, act, y);
  }
  // The output, from what was kept.
  template <class V>
  FASTRNN_ALWAYS V output(V saved) const {
    return each([&](Vec<T> v) FASTRNN_ALWAYS {
      Vec<T> y;
      derivative(v, y);
      return y;
    }, saved);
  }
};

template <class T, int kStandard>
struct Gates {
  Slot<T, kStandard, ActivationKind::sigmoid> gate;
  Slot<T, kStandard, ActivationKind::tanh> candidate, output;
};

// Whether a call asks for the activations that kStandard stands for, in the slots that the cell P has.
template <class P, class Step>
FASTRNN_INLINE bool is_standard(const Step& s) {
  return s.candidate.kind == ActivationKind::tanh && (!P::gated || s.gate.kind == ActivationKind::sigmoid) &&
         (!P::has_c || s.output.kind == ActivationKind::tanh);
}

// What an epilogue reads and writes of one row and one panel, or of a bundle of them.
template <class V>
struct Unit {
  V h_prev, c_prev;  // in
  V h, c;            // forward: out (backward: c is in, and h where nothing else is saved)
  V reset_h;         // gru_reset_before, phase 0: out
  V dh, dc;          // backward in; dc out: dL/dc_prev
  V direct;          // backward out: dL/dh_prev not through R
};

template <class T>
struct RnnCell {
  static constexpr int slots = 1, saved_slots = 1, keep_from = 0, keep_to = 1, grad_from = 0, grad_to = 1;
  static constexpr bool final_phase = true, has_c = false, has_direct = false, gated = false;
  using X = Slots<0>;
  using H = Slots<0>;
  template <int kStandard, class V>
  FASTRNN_INLINE void forward(const V* a, Unit<V>& u, V* saved, const Gates<T, kStandard>& g) {
    u.h = g.candidate(a[0]);
    saved[0] = g.candidate.keep(a[0], u.h);
  }
  template <int kStandard>
  FASTRNN_INLINE void backward(const Vec<T>* saved, Unit<Vec<T>>& u, Vec<T>* d, const Gates<T, kStandard>& g) {
    Vec<T> y;
    d[0] = u.dh * g.candidate.derivative(saved[0], y);
    u.direct = Vec<T>{};
  }
};

template <class T>
struct LstmCell {
  static constexpr int slots = 4, saved_slots = 4, keep_from = 0, keep_to = 4, grad_from = 0, grad_to = 4;
  static constexpr bool final_phase = true, has_c = true, has_direct = false, gated = true;
  using X = Slots<0, 1, 2, 3>;
  using H = Slots<0, 1, 2, 3>;
  template <int kStandard, class V>
  FASTRNN_INLINE void forward(const V* a, Unit<V>& u, V* saved, const Gates<T, kStandard>& g) {
    const V i = g.gate(a[0]), f = g.gate(a[1]), c = g.candidate(a[2]), o = g.gate(a[3]);
    u.c = multiply_add<T>(f, u.c_prev, i * c);
    u.h = o * g.output(u.c);
    saved[0] = g.gate.keep(a[0], i);
    saved[1] = g.gate.keep(a[1], f);
    saved[2] = g.candidate.keep(a[2], c);
    saved[3] = g.gate.keep(a[3], o);
  }
  template <int kStandard>
  FASTRNN_INLINE void backward(const Vec<T>* saved, Unit<Vec<T>>& u, Vec<T>* d, const Gates<T, kStandard>& g) {
    Vec<T> i, f, c, o, out;
    const Vec<T> d_i = g.gate.derivative(saved[0], i), d_f = g.gate.derivative(saved[1], f);
    const Vec<T> d_c = g.candidate.derivative(saved[2], c), d_o = g.gate.derivative(saved[3], o);
    out = g.output(u.c);  // recomputed: cheaper than keeping it
    Vec<T> unused;
    const Vec<T> d_out = g.output.derivative(g.output.keep(u.c, out), unused);
    const Vec<T> dc = u.dc + u.dh * o * d_out;
    d[0] = dc * c * d_i;
    d[1] = dc * u.c_prev * d_f;
    d[2] = dc * i * d_c;
    d[3] = u.dh * out * d_o;
    u.dc = dc * f;
    u.direct = Vec<T>{};
  }
};

// Slots r, z, W_n x + b_in, R_n h + b_hn; the gradients stand in the same slots.
template <class T>
struct GruCell {
  static constexpr int slots = 4, saved_slots = 4, keep_from = 0, keep_to = 4, grad_from = 0, grad_to = 4;
  static constexpr bool final_phase = true, has_c = false, has_direct = true, gated = true;
  using X = Slots<0, 1, 2>;
  using H = Slots<0, 1, 3>;
  template <int kStandard, class V>
  FASTRNN_INLINE void forward(const V* a, Unit<V>& u, V* saved, const Gates<T, kStandard>& g) {
    const V r = g.gate(a[0]), z = g.gate(a[1]);
    const V x_n = a[2] + r * a[3];
    const V n = g.candidate(x_n);
    u.h = n + z * (u.h_prev - n);
    saved[0] = g.gate.keep(a[0], r);
    saved[1] = g.gate.keep(a[1], z);
    saved[2] = g.candidate.keep(x_n, n);
    saved[3] = a[3];
  }
  template <int kStandard>
  FASTRNN_INLINE void backward(const Vec<T>* saved, Unit<Vec<T>>& u, Vec<T>* d, const Gates<T, kStandard>& g) {
    Vec<T> r, z, n;
    const Vec<T> d_r = g.gate.derivative(saved[0], r), d_z = g.gate.derivative(saved[1], z);
    const Vec<T> d_n = u.dh * (T(1) - z) * g.candidate.derivative(saved[2], n);
    d[0] = d_n * saved[3] * d_r;
    d[1] = u.dh * (u.h_prev - n) * d_z;
    d[2] = d_n;
    d[3] = d_n * r;
    u.direct = u.dh * z;
  }
};

// Reset before the product, phase 0: r, z and r*h_prev. Backward runs the phases in the order 0, 1 as well: phase 0
// takes dL/dh to dz, dn; phase 1 takes dL/d(r*h_prev) = dn.R_n to dr.
template <class T>
struct GruBeforeGates {
  static constexpr int slots = 2, saved_slots = 3, keep_from = 0, keep_to = 2;
  static constexpr bool final_phase = false, has_c = false, has_direct = true, gated = true;
  static constexpr int grad_from = 1, grad_to = 3;
  using X = Slots<0, 1>;
  using H = Slots<0, 1>;
  template <int kStandard, class V>
  FASTRNN_INLINE void forward(const V* a, Unit<V>& u, V* saved, const Gates<T, kStandard>& g) {
    const V r = g.gate(a[0]), z = g.gate(a[1]);
    u.reset_h = r * u.h_prev;
    saved[0] = g.gate.keep(a[0], r);
    saved[1] = g.gate.keep(a[1], z);
  }
  template <int kStandard>
  FASTRNN_INLINE void backward(const Vec<T>* saved, Unit<Vec<T>>& u, Vec<T>* d, const Gates<T, kStandard>& g) {
    Vec<T> z, n;
    const Vec<T> d_z = g.gate.derivative(saved[1], z);
    d[2] = u.dh * (T(1) - z) * g.candidate.derivative(saved[2], n);
    d[1] = u.dh * (u.h_prev - n) * d_z;
    u.direct = u.dh * z;
  }
};

template <class T>
struct GruBeforeCandidate {
  static constexpr int slots = 1, saved_slots = 3, keep_from = 2, keep_to = 3;
  static constexpr bool final_phase = true, has_c = false, has_direct = true, gated = true;
  static constexpr int grad_from = 0, grad_to = 1;
  using X = Slots<0>;
  using H = Slots<0>;
  template <int kStandard, class V>
  FASTRNN_INLINE void forward(const V* a, Unit<V>& u, V* saved, const Gates<T, kStandard>& g) {
    const V z = g.gate.output(saved[1]);  // as phase 0 kept it
    const V n = g.candidate(a[0]);
    u.h = n + z * (u.h_prev - n);
    saved[2] = g.candidate.keep(a[0], n);
  }
  template <int kStandard>
  FASTRNN_INLINE void backward(const Vec<T>* saved, Unit<Vec<T>>& u, Vec<T>* d, const Gates<T, kStandard>& g) {
    Vec<T> r;
    const Vec<T> d_r = g.gate.derivative(saved[0], r);
    d[0] = u.dh * u.h_prev * d_r;  // here dh is dL/d(r*h_prev)
    u.direct = u.direct + u.dh * r;
  }
};

}  // namespace
}  // namespace fastrnn
