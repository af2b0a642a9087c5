// The seam between the core and the kernels: one table of leaf functions per instruction set and precision.
//
// Plain data only: this header is seen both by the core and by the ISA objects. No function here touches threads,
// allocation or the standard library. Dimensions: T time, B batch, I input, H hidden, L lanes of a vector,
// P = ceil(H/L) panels. "Packed" arrays are aligned and padded to whole panels by the core (packing.cpp).
#pragma once

#include "fastrnn/types.hpp"

namespace fastrnn {

constexpr int kMaxPhases = 2;  // products per step: two for the GRU with reset before

// One time step of the recurrence for the rows [0, rows) and all units. r*stride or offset[r] finds row r in an array.
template <class T>
struct ForwardStep {
  index rows;
  index inputs, hidden;
  const T* x;  // row r: x + x_offset[r], `inputs` values
  const index* x_offset;
  const T* weight_ih;  // packed (P, I, slots of x, L)
  const T* weight_hh;  // packed (P, H, slots of h, L)
  const T* bias;       // packed (P, slots, L)
  index state_stride;  // of h, c, reset_h, operand, recurrent_mask: P*L or a little more
  const T* h_prev;
  T* h_next;
  const T* operand;    // what R multiplies: h_prev, or h_prev * recurrent_mask
  T* operand_next;     // null unless there is a recurrent_mask
  const T* c_prev;
  T* c_next;
  T* reset_h;              // gru_reset_before: r * operand, from phase 0 to phase 1
  T* saved;                // (P, slots, L) per row for backward; null at inference
  index saved_stride;
  const T* recurrent_mask;
  T* y;                     // null, or the output rows y + y_offset[r], `hidden` values
  const index* y_offset;
  Activation<T> gate, candidate, output;
};

// One step of backpropagation through time: from dL/dh to the gradients of the gates' pre-activations.
// dh = (next . R) * recurrent_mask + direct + dy + grad_h_n.
template <class T>
struct BackwardStep {
  index first_row, rows;  // the rows [first_row, first_row + rows)
  index hidden;
  const T* next;           // gate gradients (P, slots, L) of the later step; null if there is none
  index gates_stride;
  const T* weight_hh_t;    // packed (P, K, L), K over (P, slots of h, units)
  const index* segment;    // where the K values of a row of gate gradients stand: runs (offset, length)
  const index* segment_length;
  index segments;
  index state_stride;
  const T* grad_h_n;       // null, or rows as the state: given at the last step of the rows
  const T* dy;             // null, or rows dy + dy_offset[r]
  const index* dy_offset;
  const T* recurrent_mask;
  const T* saved;
  index saved_stride;
  const T* h;              // this step's output (an RNN needs no other gate)
  const T* h_prev;
  const T* c;
  const T* c_prev;
  T* dc;                   // in: dL/dc from the later step; out: dL/dc_prev
  T* direct;               // the part of dL/dh_prev that does not pass through R
  T* gates;                // out: gate gradients (P, slots, L)
  Activation<T> gate, candidate, output;
};

// C[r] = act(bias + A[r] . B): rows of A in runs of contiguous values (a conv window, the slots of a gate row).
template <class T>
struct Gemm {
  index rows;
  const T* a;  // row r: a + r*a_stride
  index a_stride;
  const index* segment;  // runs (offset, length) of a row, in the order of K
  const index* segment_length;
  index segments;
  const T* b;  // packed (N/L, K, L)
  const T* bias;  // packed (N/L, L), or null
  index columns;
  T* c;  // row r: c + c_offset[r] if given, else c + r*c_stride
  const index* c_offset;
  index c_stride;
  Activation<T> activation;
};

// C[j] += sum over rows of A[r][j] * D[r]: gradients of weights. D's columns are whole vectors picked by `column`.
template <class T>
struct Outer {
  index rows;
  const T* a;
  const index* a_offset;  // row r: a + a_offset[r] if given, else a + r*a_stride
  index a_stride;
  index first, last;  // the range of j
  const T* d;
  const index* d_offset;  // row r: d + d_offset[r] if given, else d + r*d_stride
  index d_stride;
  const index* column;  // offsets in a row of D, one per vector
  index columns;
  T* c;  // row j: c + j*c_stride, columns*L values
  index c_stride;
};

template <class T>
struct KernelTable {
  const char* isa;
  int lanes;
  void (*forward[kCells][kMaxPhases])(const ForwardStep<T>&);
  void (*backward[kCells][kMaxPhases])(const BackwardStep<T>&);
  void (*gemm)(const Gemm<T>&);
  void (*outer)(const Outer<T>&);
  void (*activate)(index n, const T* x, T* y, Activation<T>);
  // grad_x = grad_y * act'(.), from the saved value (the output, or the input where needs_input)
  void (*activate_backward)(index n, const T* saved, const T* grad_y, T* grad_x, Activation<T>);
  void (*add)(index n, const T* x, T* y);                        // y += x
  // y[i*width + j] = x[ids[i]*width + j]
  void (*gather)(index n, const index* ids, index width, const T* x, T* y);
  // y[ids[i]*stride + j] += x[i*stride + j] for j < width
  void (*scatter_add)(index n, const index* ids, index width, index stride, const T* x, T* y);
  // One sequence of max pooling backward: gx (time, channels) from the winners' times and the gradients of the windows.
  void (*max_unpool)(index windows, index channels, index time, const int32_t* winner, const T* g, T* gx);
  void (*add_scaled)(index n, T scale, const T* x, T* y);        // y += scale*x
  // mask[i] = 0 with probability limit / 2^32, else scale: draw i of the generator with this key, i < 2^32
  void (*dropout_mask)(index n, uint64_t key, uint32_t limit, T scale, T* mask);
  void (*exp_shifted)(index n, const T* x, T shift, T* y);       // y = exp(x - shift)
  void (*adam)(index n, T* p, const T* g, T* m, T* v, T* vhat, T rate, T beta1, T beta2, T eps, T decay);
  void (*rmsprop)(index n, T* p, const T* g, T* sq, T* mom, T* avg, T rate, T rho, T momentum, T eps, T decay);
  void (*sgd)(index n, T* p, const T* g, T* velocity, T rate, T momentum, bool nesterov, T decay);
};

struct Kernels {
  KernelTable<float> f32;
  KernelTable<double> f64;
};

}  // namespace fastrnn
