// Checks, packing and the state of a stream; the arithmetic stands in kernels/stream_step.hpp.
#include "fastrnn/stream.hpp"

#include <algorithm>
#include <utility>

#include "checks.hpp"
#include "dispatch.hpp"
#include "packing.hpp"

namespace fastrnn {
namespace {

template <class T>
void check_stream(const RnnOptions<T>& o, const StreamWeights<T>& w) {
  const std::string op = "stream";
  if (int(o.cell) < 0 || int(o.cell) >= kCells)
    fail(op, "cell", "a known cell", "number " + std::to_string(int(o.cell)));
  const CellLayout& cell = layout(o.cell);
  const std::string G = cell.gates == 1 ? "" : std::to_string(cell.gates) + "*";
  if (o.reverse) fail(op, "reverse", "false (a stream never ends)", "true");
  if (!w.weight_ih) fail(op, "weight_ih", "shape (" + G + "H, I)", "none");
  if (!w.weight_hh) fail(op, "weight_hh", "shape (" + G + "H, H)", "none");
  expect_ndim(op, "weight_ih", w.weight_ih, "(" + G + "H, I)", 2);
  expect_ndim(op, "weight_hh", w.weight_hh, "(" + G + "H, H)", 2);
  const index H = w.weight_hh.shape[1], I = w.weight_ih.shape[1];
  if (H < 1) fail(op, "weight_hh", "at least one hidden unit", shape_text(w.weight_hh));
  if (I < 1) fail(op, "weight_ih", "at least one input feature", shape_text(w.weight_ih));
  expect_shape(op, "weight_hh", w.weight_hh, "(" + G + "H, H)", {cell.gates * H, H});
  expect_shape(op, "weight_ih", w.weight_ih, "(" + G + "H, I)", {cell.gates * H, I});
  if (w.bias_ih) expect_shape(op, "bias_ih", w.bias_ih, "(" + G + "H,)", {cell.gates * H});
  if (w.bias_hh) expect_shape(op, "bias_hh", w.bias_hh, "(" + G + "H,)", {cell.gates * H});
  expect_activation(op, "activation", o.candidate);
  if (cell.gates > 1) expect_activation(op, "recurrent_activation", o.gate);
  if (cell.has_c) expect_activation(op, "output_activation", o.output);
}

// The tiles of one phase as StreamCell describes them.
template <class T>
Buffer<T> pack_tiles(const KernelTable<T>& kernels, const StreamWeights<T>& w, const CellLayout& cell, int phase,
                     int width) {
  const int lanes = kernels.lanes;
  const Side &x = cell.x[phase], &h = cell.h[phase];
  const index H = w.weight_hh.shape[1], I = w.weight_ih.shape[1], P = panels_of(H, lanes), S = cell.accumulators[phase];
  const Buffer<T> bias = pack_bias(w.bias_ih, w.bias_hh, cell, phase, UnitPanels(cell, H, lanes, false));
  Buffer<T> packed(size_t(P * lanes * (S + I * x.count + H * h.count)));
  T* at = packed.data();
  for (index p = 0, N; p < P; p += N) {
    N = stream_tile(width, P - p);
    std::copy_n(bias.data() + p * S * lanes, N * S * lanes, at);
    at += N * S * lanes;
    for (const auto& [weight, side] : {std::pair(&w.weight_ih, &x), std::pair(&w.weight_hh, &h)}) {
      const index row = N * side->count * lanes;
      for (index n = 0; n < N; ++n)
        for (int c = 0; c < side->count; ++c) {
          const index unit = (p + n) * lanes;
          pack_panel(kernels, weight->data + (side->gate[c] * H + unit) * weight->stride[0], weight->stride[1],
                     weight->stride[0], weight->shape[1], std::min<index>(lanes, H - unit),
                     at + (n * side->count + c) * lanes, row);
        }
      at += weight->shape[1] * row;
    }
  }
  return packed;
}

template <class T>
struct Packed {
  Buffer<T> weights[kMaxPhases];
  size_t bytes() const { return weights[0].bytes() + weights[1].bytes(); }
};

// Whether a block's input products are made together: that saves reading weights, where they are many and far.
template <class T>
bool worth_projecting(index inputs, const Packed<T>& packed) {
  constexpr index kManyInputs = 8;
  return inputs >= kManyInputs && packed.bytes() > size_t(kFirstCache);
}

}  // namespace

template <class T>
struct Stream<T>::State {
  std::shared_ptr<const Packed<T>> packed;
  Cell kind;
  index units;  // whole panels: what each array of the state has
  Buffer<T> arrays, projected;
  StreamCell<T> cell{};

  State(std::shared_ptr<const Packed<T>> weights, Cell c, const StreamCell<T>& prepared, index whole)
      : packed(std::move(weights)), kind(c), units(whole), arrays(zeros<T>(size_t(5 * whole))), cell(prepared) {
    T** const place[] = {&cell.h, &cell.h_next, &cell.c, &cell.reset_h, &cell.z};
    for (int i = 0; i < 5; ++i) *place[i] = arrays.data() + i * units;
    if (!worth_projecting(cell.inputs, *packed)) return;
    projected = Buffer<T>(size_t(kStreamAhead * units * layout(kind).slots));
    cell.projected = projected.data();
  }
};

template <class T>
Stream<T>::Stream(const RnnOptions<T>& options, const StreamWeights<T>& weights) {
  check_stream(options, weights);
  const KernelTable<T>& table = active_kernels<T>();
  const CellLayout& info = layout(options.cell);
  StreamCell<T> cell{};
  cell.inputs = weights.weight_ih.shape[1];
  cell.hidden = weights.weight_hh.shape[1];
  cell.panels = panels_of(cell.hidden, table.lanes);
  cell.gate = options.gate;
  cell.candidate = options.candidate;
  cell.output = options.output;
  const StreamKernel<T> kernel = table.stream(options.cell, cell);
  auto packed = std::make_shared<Packed<T>>();
  for (int p = 0; p < info.phases; ++p) {
    packed->weights[p] = pack_tiles(table, weights, info, p, kernel.width);
    cell.weights[p] = packed->weights[p].data();
  }
  state_ = std::make_unique<State>(std::move(packed), options.cell, cell, cell.panels * table.lanes);
  cell_ = &state_->cell;
  run_ = kernel.run;
}

template <class T>
Stream<T>::Stream(const Stream& other)
    : state_(std::make_unique<State>(other.state_->packed, other.cell(), *other.cell_, other.state_->units)),
      cell_(&state_->cell),
      run_(other.run_) {
  set_state(other.cell_->h, other.cell_->c);
}

template <class T>
Stream<T>::Stream(Stream&&) noexcept = default;
template <class T>
Stream<T>& Stream<T>::operator=(Stream other) noexcept {
  std::swap(state_, other.state_);
  std::swap(cell_, other.cell_);
  std::swap(run_, other.run_);
  return *this;
}
template <class T>
Stream<T>::~Stream() = default;

template <class T>
index Stream<T>::inputs() const noexcept { return cell_->inputs; }
template <class T>
index Stream<T>::hidden() const noexcept { return cell_->hidden; }
template <class T>
Cell Stream<T>::cell() const noexcept { return state_->kind; }
template <class T>
size_t Stream<T>::bytes() const noexcept {
  return state_->packed->bytes() + state_->arrays.bytes() + state_->projected.bytes();
}

template <class T>
void Stream<T>::reset() noexcept {
  set_state(nullptr, nullptr);
}

template <class T>
void Stream<T>::set_state(const T* h, const T* c) noexcept {
  const auto fill = [&](T* to, const T* from) {
    std::fill_n(to, state_->units, T(0));
    if (from) std::copy_n(from, cell_->hidden, to);
  };
  fill(cell_->h, h);
  fill(cell_->c, layout(state_->kind).has_c ? c : nullptr);
}

template <class T>
void Stream<T>::get_state(T* h, T* c) const noexcept {
  if (h) std::copy_n(cell_->h, cell_->hidden, h);
  if (c) std::copy_n(cell_->c, cell_->hidden, c);
}

template class Stream<float>;
template class Stream<double>;

}  // namespace fastrnn
