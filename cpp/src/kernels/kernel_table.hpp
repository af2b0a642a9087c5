// The seam between the core and the kernels: one table of leaf functions per instruction set and precision.
//
// Plain data only: this header is seen both by the core and by the ISA objects. No function here touches threads,
// allocation or the standard library. Dimensions: T time, B batch, I input, H hidden, L lanes of a vector, P =
// ceil(H/L) panels. "Packed" arrays are aligned and padded to whole panels by the core (packing.cpp); (P, ..., slots,
// L) leaves out that slots of the last panel may share vectors (UnitPanels in packing.hpp).
#pragma once

#include "fastrnn/types.hpp"
#include "matrix_product.hpp"

namespace fastrnn {

constexpr int kSinkVectors = 12;
constexpr int kMaxPhases = 2;  // products per step: two for the GRU with reset before

// What a product may read in place of T: values of fewer bits, of which neighbours along K share a word of 32.
struct Bfloat16 {
  uint16_t bits;
};
struct Int8 {
  uint8_t bits;  // 128 + q with q in [-127, 127]: VNNI multiplies unsigned operands by signed weights
};

template <class W>
struct WordOf {
  typedef uint32_t type;
};
template <>
struct WordOf<float> {
  typedef float type;
};
template <>
struct WordOf<double> {
  typedef double type;
};
template <class W>
using Word = typename WordOf<W>::type;
template <class W>
constexpr index kPerWord = index(sizeof(Word<W>) / sizeof(W));
template <class W>
constexpr index words(index values) {
  return (values + kPerWord<W> - 1) / kPerWord<W>;
}

// Of the last panel of a product, the columns if they are few enough to be inner products (narrow.hpp): the weights of
// that panel then stand as (columns, K). Else 0.
constexpr index narrow_columns(index columns, index K, index lanes) {
  constexpr index kSum = 8;  // adding up the lanes takes as long as so many vectors of K
  const index last = columns % lanes;
  return 4 * last <= lanes && last * ((K + lanes - 1) / lanes + kSum) < K ? last : 0;
}

constexpr int kBesideRows = 5;  // later rows whose input products one row's step may make beside its own (step_beside.hpp)

// How a row of h becomes integers: q = round(h * per_one), h = q * size.
struct Quantum {
  float size, per_one;
};

// One time step of the recurrence for the rows [0, rows) and the units of the panels [first_panel, last_panel).
// r*stride or offset[r] finds row r in an array. The accumulators begin at `start`: the bias, or bias + x.W where
// another call has computed that (`projected`), or a row of a table. Products read W, everything else is T; rows of W
// are padded to whole words with zeros.
template <class T, class W = T>
struct ForwardStep {
  index rows;
  index first_panel, last_panel;
  bool descending;       // from the last panel to the first
  int fold;              // 2 or 4: in panel `folded`, the last of all, so many slots share a vector, L/fold lanes each
  index folded;
  index inputs, recurrent;  // lengths of the products: I, or 0 where that of x is in `start`; H, or 0 where there is no
                            // h yet, or `projected` (not with Int8, whose sums begin with an offset)
  index hidden;
  const W* x;            // row r: x + x_offset[r], `inputs` values
  const index* x_offset;
  index x_ahead, y_ahead;  // from this step's rows to those of the next step, which are fetched meanwhile
  const Word<W>* weight_ih;  // packed (P, words of I, slots of x, L), or in halves (KernelTable::halved)
  const Word<W>* weight_hh;  // packed (P, words of H, slots of h, L), likewise
  const T* start;      // row r, panel p: start + start_offset[r] + p*start_panel, (slots, L)
  const index* start_offset;  // null: the same for all rows
  index start_panel;
  T* projected;        // not null: stop at bias + x.W and store it here: r*projected_row + p*projected_panel
  index projected_row, projected_panel;
  // Of one row (KernelTable::beside): null, or a step that projects kBesideRows later rows. This call makes a share of
  // that, the inputs [share_first, share_last); the panels that have no tile for it all inputs with the first share.
  const ForwardStep* beside;
  index share_first, share_last;
  index state_stride;  // of h, c, reset_h, operand, recurrent_mask: P*L or a little more
  const T* h_prev;
  T* h_next;
  const W* operand;    // what R multiplies: h_prev, or h_prev * recurrent_mask
  W* operand_next;     // null where that is h_next
  const T* c_prev;
  T* c_next;
  W* reset_h;              // gru_reset_before: r * operand, from phase 0 to phase 1
  T* saved;                // (P, slots, L) per row for backward; null at inference
  index saved_stride;
  const T* recurrent_mask;
  T* y;                     // null, or the output rows y + y_offset[r], `hidden` values
  const index* y_offset;
  Activation<T> gate, candidate, output;
  const float* scale;      // Int8: of a unit's weights, (P, slots of h, L)
  const int32_t* offset;   // Int8: what the 128 of the operands adds to a sum, negated, likewise
  const Quantum* quantum;  // Int8: of each row
};

constexpr index kFirstCache = 32 << 10;  // weights of so many bytes stay in the first cache from step to step
constexpr index kRowWaits = 2 * kFirstCache;  // a step of one row waits for weights of more bytes, rather than for its sums

// Into how many chains the sum over K values behind each of `hidden` outputs is cut: even parts of K, whole panels of
// units, of which all but the first begin at zero and which are added up in order. One row has no other sums to fill the
// time with that a multiply-add takes: two that start in each cycle, of four cycles each, need eight sums, and a member of
// a team has half of the panels. (A row that takes input products along has other sums: its weights are more than kRowWaits.)
constexpr index kChainSums = 16;
template <class T>
constexpr index sum_chains(index hidden, index K, index lanes) {
  constexpr index kLeast = 32;
  if (hidden * K * index(sizeof(T)) > kRowWaits) return 1;
  for (index n = 4; n > 1; n /= 2)
    if (hidden % (n * lanes) == 0 && hidden / lanes * n <= kChainSums && K >= n * kLeast) return n;
  return 1;
}

// Rows that stand in runs are read faster from a copy in which each is one run (gemm.hpp): of so many rows at a time that
// reading all weights once for them does not matter.
constexpr index kWholeTiles = 12;  // rows: a multiple of those of the largest tiles
template <class T>
constexpr index gathered_stride(index K) {
  return K + 64 / index(sizeof(T));  // rows whose length is a power of two would displace each other
}
template <class T>
constexpr index gathered_rows(index K) {
  constexpr index kBytes = 1600 << 10, kLeast = 4 * kWholeTiles;
  const index fit = kBytes / (gathered_stride<T>(K) * index(sizeof(T))) / kWholeTiles * kWholeTiles;
  return fit > kLeast ? fit : kLeast;
}
constexpr index kGatheredPanels = 12;
// How many values the copy takes. 0: it does not pay, because a tile's rows stay in the first cache or too few panels read
// it; or because a vector is a whole cache line: then runs are read as fast as the copy, which costs 1 to 2 %.
template <class T>
constexpr index gathered_room(index rows, index K, index panels, index lanes) {
  constexpr index kRows = 6, kLine = 64;
  const index size = index(sizeof(T));
  const bool pays = lanes * size < kLine && rows >= kRows && panels >= kGatheredPanels && kRows * K * size > kFirstCache / 4;
  return pays ? gathered_rows<T>(K) * gathered_stride<T>(K) : 0;
}
static_assert(kChainSums / 2 < kGatheredPanels, "rows that are gathered stand in one run, which has no chains");

// One step of backpropagation through time: from dL/dh to the gradients of the gates' pre-activations.
// dh = (next . R) * recurrent_mask + direct + dy + grad_h_n.
template <class T>
struct BackwardStep {
  index first_row, rows;  // the rows [first_row, first_row + rows)
  index first_panel, last_panel;
  bool descending;
  int fold;  // as in ForwardStep: of `saved` and `gates`
  index folded;
  index hidden;
  const T* next;           // gate gradients of the later step, as `gates`; null if there is none
  const T* weight_hh_t;    // packed (P, K, L), K over (P, slots of h, units); a narrow panel last
  const index* segment;    // where the K values of a row of gate gradients stand: runs (offset, length)
  const index* segment_length;
  index segments;
  T* room;                 // null, or gathered_room values
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
  // From this step's values to those of the step that comes next (the earlier one), which are fetched meanwhile: the
  // rows of a step are too far apart for the processor to see them coming.
  index dy_ahead, saved_ahead, state_ahead;
  T* gates;                // out: gate gradients, rows of (slots, L) in planes of panels
  index gates_panel;       // from plane to plane
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
  T* room;     // null, or gathered_room values
  const T* b;  // packed (N/L, K, L)
  bool narrow;  // the last panel of b is a narrow one, where narrow_columns says so
  const T* bias;  // packed (N/L, L), or null
  index columns;
  T* c;  // row r: c + c_offset[r] if given, else c + r*c_stride
  const index* c_offset;
  index c_stride;
  Activation<T> activation;
};

// C[j] += sum over rows of A[r][j] * D[r], or C[j] = it: gradients of weights. D's columns are whole vectors picked by
// `column`.
template <class T>
struct Outer {
  index rows;
  const T* a;
  const index* a_offset;  // row r: a + a_offset[r] if given, else a + r*a_stride
  index a_stride;
  index first, last;  // the range of j
  const T* d;  // row r: d + d_offset[r] if given, else d + r*d_stride
  const index* d_offset;
  index d_stride;
  const index* column;  // offsets in a row of D, one per vector
  index columns;
  T* c;  // row j: c + j*c_stride, columns*L values
  index c_stride;
  bool fresh;  // C is not read: it holds nothing yet (rows > 0)
};

constexpr index kStreamAhead = 12;      // steps of a block whose input products are made together

// One row whose state is carried from step to step (stream.cpp). Tiles of `width` panels at most follow one another; a
// tile of N panels is its bias (N, slots, L), then (k, N, slots of x, L) over the inputs, then the same over h.
template <class T>
struct StreamCell {
  index inputs, hidden, panels;
  const T* weights[kMaxPhases];
  T* h;        // P*L values
  T* h_next;   // changes places with h at each step
  T* c;        // LSTM
  T* reset_h;  // gru_reset_before: r * h, and z as `keep` left it
  T* z;
  T* projected;  // null, or kStreamAhead rows (P, slots, L) of each phase: the input product of the steps to come
  bool last_first;  // panels are walked from the last to the first: turned round at each step
  Activation<T> gate, candidate, output;
};

template <class T>
struct StreamKernel {
  void (*run)(StreamCell<T>&, const T* x, index steps, T* y);  // x (steps, I) -> y (steps, H) or null
  int width;  // panels per tile: 4, 2 or 1
};

// Panels of the tile that begins `left` panels before the end.
constexpr int stream_tile(int width, index left) {
  while (width > left) width /= 2;
  return width;
}

// y[o] = act(bias + sum over taps k of table[offset[o*stride + k*dilation] + k*pitch]), `pitch` values each: a
// convolution over rows that went through every tap beforehand.
template <class T>
struct TokenSum {
  index outputs, taps, stride, dilation;
  const index* offset;  // of a row of the table
  const T* table;       // rows of taps*pitch values; pitch: the columns padded to whole vectors
  index pitch;
  const T* bias;  // packed (pitch,), or null
  index columns;
  T* y;  // row o: y + o*columns
  Activation<T> activation;
};

template <class T>
struct KernelTable {
  const char* isa;
  int lanes;
  bool halved;  // forward weights of four slots are packed in two halves: (P, 2, K, 2, L)
  bool beside;  // steps of one phase can take ForwardStep::beside
  void (*forward[kCells][kMaxPhases])(const ForwardStep<T>&);
  void (*backward[kCells][kMaxPhases])(const BackwardStep<T>&);
  StreamKernel<T> (*stream)(Cell cell, const StreamCell<T>&);  // for the sizes and activations of this one
  void (*gemm)(const Gemm<T>&);
  void (*outer)(const Outer<T>&);
  // y[r*y_stride + c] = x[r*x_stride + c]
  void (*copy_rows)(index rows, index columns, const T* x, index x_stride, T* y, index y_stride);
  // y[c*y_stride + r] = x[r*x_stride + c]
  void (*transpose)(index rows, index columns, const T* x, index x_stride, T* y, index y_stride);
  void (*activate)(index n, const T* x, T* y, Activation<T>);
  // grad_x = grad_y * act'(.), from the saved value (the output, or the input where needs_input)
  void (*activate_backward)(index n, const T* saved, const T* grad_y, T* grad_x, Activation<T>);
  void (*add)(index n, const T* x, T* y);                        // y += x
  // y[i*width + j] = x[ids[i]*width + j]
  void (*gather)(index n, const index* ids, index width, const T* x, T* y);
  // y[ids[i]*y_stride + j] += x[i*x_stride + j] for j < width
  void (*scatter_add)(index n, const index* ids, index width, index x_stride, const T* x, index y_stride, T* y);
  void (*token_sum)(const TokenSum<T>&);
  // y[j] = sum over i of x[offset[i] + j] for j < width, a whole number of vectors
  void (*sum_rows)(index n, const index* offset, index width, const T* x, T* y);
  // The largest of rows [first, last) of x and its row: y (channels,), winner (channels,). The first of equals; NaN
  // wins.
  void (*max_rows)(index first, index last, index channels, const T* x, T* y, int32_t* winner);
  // One sequence of max pooling backward: gx (time, channels) from the winners' times and the gradients of the windows.
  void (*max_unpool)(index windows, index channels, index time, const int32_t* winner, const T* g, T* gx);
  void (*add_scaled)(index n, T scale, const T* x, T* y);        // y += scale*x
  // mask[i] = 0 with probability limit / 2^32, else scale: draw i of the generator with this key, i < 2^32
  void (*dropout_mask)(index n, uint64_t key, uint32_t limit, T scale, T* mask);
  void (*exp_shifted)(index n, const T* x, T shift, T* y);       // y = exp(x - shift)
  void (*adam)(index n, T* p, const T* g, T* m, T* v, T* vhat, T rate, T beta1, T beta2, T eps, T decay);
  void (*rmsprop)(index n, T* p, const T* g, T* sq, T* mom, T* avg, T rate, T rho, T momentum, T eps, T decay);
  void (*sgd)(index n, T* p, const T* g, T* velocity, T rate, T momentum, bool nesterov, T decay);
  double (*multiply_adds)(index iterations, T* sink);            // rounds in registers (peak.hpp); sink: kSinkVectors*L
  const MatrixKernels* matrices;  // null: gemm and outer are the fastest there is (and always for double)
};

// Steps whose products read fewer bits. An instruction set has one such table, and more of them, from further objects,
// for CPUs that have instructions of their own for it.
struct ReducedKernels {
  bool native_bfloat16, native_int8;
  void (*bfloat16[kCells][kMaxPhases])(const ForwardStep<float, Bfloat16>&);
  void (*int8[kCells][kMaxPhases])(const ForwardStep<float, Int8>&);  // no input product: that is in bfloat16
  void (*to_bfloat16)(index n, const float* x, Bfloat16* y);
  void (*to_int8)(index n, const float* x, Quantum quantum, Int8* y);
};

struct Kernels {
  KernelTable<float> f32;
  KernelTable<double> f64;
};

}  // namespace fastrnn
