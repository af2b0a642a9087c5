// One recurrent layer on one sequence that never ends: a step or a block at a time, the state carried in the object.
//
// For audio and other real-time work: all memory is taken at construction, and step and process neither allocate nor
// lock nor start threads nor throw. Denormal numbers are flushed to zero inside a call, and the caller's floating-point
// mode is restored. A block gives bitwise what its steps give one by one. A Stream is for one thread at a time.
//
//   fastrnn::RnnOptions<float> options;  // an LSTM
//   fastrnn::Stream<float> lstm(options, {view(w, 4 * H, I), view(r, 4 * H, H), view(b, 4 * H), {}});
//   for (;;) lstm.step(x, y);  // x: inputs() values, y: hidden() values
#pragma once

#include <memory>

#include "fastrnn/rnn.hpp"

namespace fastrnn {

template <class T>
struct StreamCell;  // what the kernel works on

// As in RnnInputs. G gates (RNN 1, GRU 3, LSTM 4), in the order i f g o or r z n.
template <class T>
struct StreamWeights {
  View<const T> weight_ih;  // (G*H, I), any strides
  View<const T> weight_hh;  // (G*H, H), any strides
  View<const T> bias_ih;    // (G*H,) or not given
  View<const T> bias_hh;    // (G*H,) or not given
};

template <class T>
class FASTRNN_API Stream {
 public:
  // Copies and packs the weights for the instruction set in use; the state is zero. Throws std::invalid_argument with a
  // message "[stream] argument: expected ..., got ..."; options.reverse must be false, batch_first does not matter.
  Stream(const RnnOptions<T>& options, const StreamWeights<T>& weights);
  Stream(const Stream& other);  // the same weights, not copied, and a state of its own that starts as other's
  Stream(Stream&&) noexcept;    // what is moved from can only be assigned to or destroyed
  Stream& operator=(Stream) noexcept;
  ~Stream();

  index inputs() const noexcept, hidden() const noexcept;
  Cell cell() const noexcept;
  size_t bytes() const noexcept;  // the packed weights and the state

  // x (I,) -> y (H,), the new h; y may be null, and must not overlap x.
  void step(const T* x, T* y) noexcept { run_(*cell_, x, 1, y); }
  // x (steps, I) -> y (steps, H).
  void process(const T* x, index steps, T* y) noexcept { run_(*cell_, x, steps, y); }

  void reset() noexcept;                               // zeros
  void set_state(const T* h, const T* c) noexcept;     // (H,) each; null: zeros. c is of an LSTM only
  void get_state(T* h, T* c) const noexcept;           // either may be null

 private:
  struct State;
  std::unique_ptr<State> state_;
  StreamCell<T>* cell_;
  void (*run_)(StreamCell<T>&, const T* x, index steps, T* y);
};

}  // namespace fastrnn
