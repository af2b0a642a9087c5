// Recurrent layers: one direction of one layer over a whole batch of sequences, forward and backward.
//
// Dimensions: T time, B batch, I input, H hidden, G gates (RNN 1, GRU 3, LSTM 4). Gate order i f g o and r z n.
// T is float or double. Every function throws std::invalid_argument with a message
// "[op] argument: expected ..., got ..." before anything is computed.
#pragma once

#include <memory>
#include <string>

#include "fastrnn/export.h"
#include "fastrnn/types.hpp"
#include "fastrnn/view.hpp"

namespace fastrnn {

struct TokenIndex;  // the distinct tokens of a batch: internal, made by the Python layer

template <class T>
struct RnnOptions {
  Cell cell = Cell::lstm;
  Activation<T> gate{ActivationKind::sigmoid, 0, 0};    // LSTM i f o, GRU r z
  Activation<T> candidate{ActivationKind::tanh, 0, 0};  // LSTM g, GRU n, RNN
  Activation<T> output{ActivationKind::tanh, 0, 0};     // LSTM: of c
  bool reverse = false;      // walk each row's valid steps from the last to the first
  bool batch_first = true;   // x and output are (B, T, .) rather than (T, B, .)
  // Training keeps the states of every so many steps (rounded up to whole chunks of gradients) and computes the rest
  // again in backward, with the same result. 0: keep every step. -1: about as many steps as states.
  index checkpoint = 0;
};

// Weights in the order in which the kernels read them, for many forward calls with the same weights. A copy, cheap to
// copy itself; it keeps to the instruction set that was in use when it was made. Throws std::invalid_argument.
template <class T>
class FASTRNN_API PackedWeights {
 public:
  struct State;
  PackedWeights() = default;
  PackedWeights(Cell cell, const View<const T>& weight_ih, const View<const T>& weight_hh, const View<const T>& bias_ih,
                const View<const T>& bias_hh, Precision precision = Precision::full);
  std::shared_ptr<const State> state;
  explicit operator bool() const { return state != nullptr; }
  Cell cell() const;
  Precision precision() const;
  index inputs() const, hidden() const;
  size_t bytes() const;
};

// W x + bias of every row of an embedding (V, I): what remains of the input product is then to pick rows.
template <class T>
class FASTRNN_API ProjectionTable {
 public:
  struct State;
  ProjectionTable() = default;
  ProjectionTable(const PackedWeights<T>& weights, const View<const T>& rows);
  // Of the rows of these tokens alone.
  ProjectionTable(const PackedWeights<T>& weights, const View<const T>& rows, const TokenIndex& distinct);
  std::shared_ptr<const State> state;
  explicit operator bool() const { return state != nullptr; }
  const PackedWeights<T>& weights() const;
  index rows() const;
  size_t bytes() const;
};

template <class T>
struct RnnInputs {
  View<const T> x;               // (B, T, I) or (T, B, I), last axis contiguous
  View<const T> weight_ih;       // (G*H, I), any strides
  View<const T> weight_hh;       // (G*H, H), any strides
  View<const T> bias_ih;         // (G*H,) or not given
  View<const T> bias_hh;         // (G*H,) or not given
  View<const T> h0;              // (B, H) or not given: zeros
  View<const T> c0;              // (B, H) or not given: zeros; LSTM only
  View<const T> recurrent_mask;  // (B, H) or not given: multiplies h where it enters the recurrent product
  View<const index> lengths;     // (B,) or not given: valid steps of each row, 0..T
  View<const bool> mask;         // (B, T) or not given: valid steps, gaps allowed
  PackedWeights<T> packed;       // in place of the weights and biases; inference only
  ProjectionTable<T> table;      // in place of x, beside its own `packed`: rows are picked by `tokens`
  View<const index> tokens;      // (B, T) or (T, B)
  // In place of x (B, T, I): x is an embedding (V, I), looked up by the ids that `distinct` was made of. Each distinct
  // token is multiplied by W once; backward sums the gates' gradients of a token before it does so. g.x is then (V, I).
  const TokenIndex* distinct = nullptr;
  index id_axes[2] = {0, 0};  // of the ids: B, T or T, B

  const index* axes() const { return table ? tokens.shape : distinct ? id_axes : x.shape; }  // B, T or T, B
};

template <class T>
struct RnnOutputs {
  View<T> output;  // (B, T, H) or (T, B, H), last axis contiguous, or not given; zeros where no step is valid
  View<T> h_n;     // (B, H): the state after the last valid step
  View<T> c_n;     // (B, H); LSTM only
};

template <class T>
struct RnnGradients {
  View<T> x;  // as the input x (an embedding included, dense); or not given: not computed
  View<T> weight_ih, weight_hh, bias_ih, bias_hh, h0, c0;  // each may be not given
};

// What forward keeps for backward: gates, h and c of every step, or with `checkpoint` h and c of some, and the packed
// weights. It refers to x (and distinct), which must stay alive and unchanged; the weights may change. Backward may
// be called any number of times.
template <class T>
class FASTRNN_API Workspace {
 public:
  struct State;
  Workspace();
  ~Workspace();
  Workspace(Workspace&&) noexcept;
  Workspace& operator=(Workspace&&) noexcept;
  std::unique_ptr<State> state;
  index batch() const, steps() const, inputs() const, hidden() const;
  size_t bytes() const;
};

template <class T>
FASTRNN_API void rnn_forward(const RnnOptions<T>& options, const RnnInputs<T>& in, const RnnOutputs<T>& out,
                             Workspace<T>* workspace = nullptr);

// grad_output: as the output, or not given (zeros); grad_h_n, grad_c_n: (B, H) or not given.
template <class T>
FASTRNN_API void rnn_backward(const Workspace<T>& workspace, const View<const T>& grad_output,
                              const View<const T>& grad_h_n, const View<const T>& grad_c_n,
                              const RnnGradients<T>& gradients);

// Two calls that do not need each other, such as the directions of a bidirectional layer. The results are bitwise those
// of the calls one after the other; they run side by side, one thread each, where that is faster. Where both would
// throw, the first one's exception is thrown.
template <class T>
struct RnnCall {
  RnnOptions<T> options;
  RnnInputs<T> in;
  RnnOutputs<T> out;
  Workspace<T>* workspace = nullptr;
};
template <class T>
FASTRNN_API void rnn_forward_pair(const RnnCall<T>& first, const RnnCall<T>& second);

template <class T>
struct RnnBackwardCall {
  const Workspace<T>& workspace;
  View<const T> grad_output, grad_h_n, grad_c_n;
  RnnGradients<T> gradients;
};
template <class T>
FASTRNN_API void rnn_backward_pair(const RnnBackwardCall<T>& first, const RnnBackwardCall<T>& second);

}  // namespace fastrnn
