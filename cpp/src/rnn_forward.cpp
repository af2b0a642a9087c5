// The forward pass: checks, packing, the time loop.
#include <cstdint>
#include <vector>

#include "checks.hpp"
#include "dispatch.hpp"
#include "plan.hpp"
#include "threads.hpp"
#include "workspace.hpp"

namespace fastrnn {
namespace {

template <class T>
void check_forward(const RnnOptions<T>& o, const RnnInputs<T>& in, const RnnOutputs<T>& out) {
  const CellLayout& cell = layout(o.cell);
  const std::string op = cell.name, G = cell.gates == 1 ? "" : std::to_string(cell.gates) + "*";
  expect_ndim(op, "x", in.x, o.batch_first ? "(B, T, I)" : "(T, B, I)", 3);
  const index B = in.x.shape[o.batch_first ? 0 : 1], steps = in.x.shape[o.batch_first ? 1 : 0], I = in.x.shape[2];
  if (I < 1) fail(op, "x", "at least one input feature", shape_text(in.x));
  expect_ndim(op, "weight_hh", in.weight_hh, "(" + G + "H, H)", 2);
  const index H = in.weight_hh.shape[1];
  if (H < 1) fail(op, "weight_hh", "at least one hidden unit", shape_text(in.weight_hh));
  expect_shape(op, "weight_hh", in.weight_hh, "(" + G + "H, H)", {cell.gates * H, H});
  expect_shape(op, "weight_ih", in.weight_ih, "(" + G + "H, I)", {cell.gates * H, I});
  if (in.bias_ih) expect_shape(op, "bias_ih", in.bias_ih, "(" + G + "H,)", {cell.gates * H});
  if (in.bias_hh) expect_shape(op, "bias_hh", in.bias_hh, "(" + G + "H,)", {cell.gates * H});
  if (in.h0) expect_shape(op, "h0", in.h0, "(B, H)", {B, H});
  if (in.c0) expect_shape(op, "c0", in.c0, "(B, H)", {B, H});
  if (in.recurrent_mask) expect_shape(op, "recurrent_mask", in.recurrent_mask, "(B, H)", {B, H});
  if (in.lengths && in.mask) fail(op, "mask", "only one of lengths and mask", "both");
  if (in.lengths) {
    expect_shape(op, "lengths", in.lengths, "(B,)", {B});
    for (index b = 0; b < B; ++b) {
      const index n = in.lengths.data[b * in.lengths.stride[0]];
      if (n < 0 || n > steps)
        fail(op, "lengths", "values from 0 to T = " + std::to_string(steps),
             std::to_string(n) + " at position " + std::to_string(b));
    }
  }
  if (in.mask) expect_shape(op, "mask", in.mask, "(B, T)", {B, steps});
  if (out.output)
    expect_shape(op, "out", out.output, o.batch_first ? "(B, T, H)" : "(T, B, H)",
                 {o.batch_first ? B : steps, o.batch_first ? steps : B, H});
  expect_activation(op, "activation", o.candidate);
  if (cell.gates > 1) expect_activation(op, "recurrent_activation", o.gate);
  if (cell.has_c) expect_activation(op, "output_activation", o.output);
}

}  // namespace

template <class T>
void rnn_forward(const RnnOptions<T>& options, const RnnInputs<T>& in, const RnnOutputs<T>& out,
                 Workspace<T>* workspace) {
  check_forward(options, in, out);
  using State = typename Workspace<T>::State;
  std::unique_ptr<State> own = std::make_unique<State>();
  State& w = *own;
  const KernelTable<T>& kernels = active_kernels<T>();
  const CellLayout& cell = layout(options.cell);
  const bool training = workspace != nullptr;
  const int L = kernels.lanes;
  w.options = options;
  w.kernels = &kernels;
  w.cell = &cell;
  w.B = in.x.shape[options.batch_first ? 0 : 1];
  w.T_ = in.x.shape[options.batch_first ? 1 : 0];
  w.I = in.x.shape[2];
  w.H = in.weight_hh.shape[1];
  w.has_bias_ih = bool(in.bias_ih);
  w.has_bias_hh = bool(in.bias_hh);
  w.has_output = bool(out.output);
  w.x = in.x;
  w.schedule = std::make_unique<Schedule>(w.B, w.T_, in.lengths, in.mask, options.reverse);
  const Schedule& schedule = *w.schedule;
  const index sb = options.batch_first ? 0 : 1, st = 1 - sb;
  w.x_offsets = std::make_unique<RowOffsets>(schedule, in.x.stride[sb], in.x.stride[st]);
  RowOffsets y_offsets(schedule, out.output.stride[sb], out.output.stride[st]);

  const index units = panels_of(w.H, L) * L;
  w.state_stride = padded_stride(units, sizeof(T));
  w.gates_stride = padded_stride(units * cell.slots, sizeof(T));
  // Training keeps every step; inference swaps two blocks, and updates c in place.
  const index rows = training ? w.B + schedule.total() : 2 * w.B;
  w.h = Buffer<T>(size_t(rows * w.state_stride));
  if (cell.has_c) w.c = Buffer<T>(size_t((training ? rows : w.B) * w.state_stride));
  const bool two_phases = cell.phases == 2;
  const bool saves = two_phases || (training && (options.cell != Cell::rnn || needs_input(options.candidate)));
  if (saves) w.saved = Buffer<T>(size_t((training ? schedule.total() : w.B) * w.gates_stride));
  if (two_phases) w.reset_h = Buffer<T>(size_t((training ? schedule.total() : w.B) * w.state_stride));
  if (in.recurrent_mask) {
    w.recurrent_mask = Buffer<T>(size_t(w.B * w.state_stride));
    gather_rows(in.recurrent_mask, schedule, w.recurrent_mask.data(), w.state_stride, w.H);
    w.operand = Buffer<T>(size_t(rows * w.state_stride));
  }
  gather_rows(in.h0, schedule, w.h.data(), w.state_stride, w.H);
  if (w.operand)
    for (index i = 0; i < w.B * w.state_stride; ++i) w.operand.data()[i] = w.h.data()[i] * w.recurrent_mask.data()[i];
  if (cell.has_c) gather_rows(in.c0, schedule, w.c.data(), w.state_stride, w.H);
  Buffer<T> weight_ih[kMaxPhases], weight_hh[kMaxPhases], bias[kMaxPhases];
  for (int p = 0; p < cell.phases; ++p) {
    weight_ih[p] = pack_forward(in.weight_ih, cell.x[p], w.H, L);
    weight_hh[p] = pack_forward(in.weight_hh, cell.h[p], w.H, L);
    bias[p] = pack_bias(in.bias_ih, in.bias_hh, cell, p, w.H, L);
    if (training) w.weight_hh_t[p] = pack_backward(in.weight_hh, cell.h_all[p], w.H, L);
  }
  if (training) w.weight_ih_t = pack_backward(in.weight_ih, cell.x_all, w.H, L);

  for (index r = 0; r < w.B; ++r)
    if (schedule.count[r] == 0) {
      scatter_row(w.h.data() + r * w.state_stride, schedule, r, w.H, out.h_n);
      if (cell.has_c) scatter_row(w.c.data() + r * w.state_stride, schedule, r, w.H, out.c_n);
    }
  const auto block = [&](index s) { return training ? w.block(s) : (s % 2) * w.B; };
  const double flops = 2.0 * double(schedule.total()) * double(cell.gates * w.H) * double(w.I + w.H);
  run_team(plan_threads(flops, w.B), [&](int id, Team& team) {
    const index first = id, every = team.size();
    if (out.output)
      for (index r = first; r < w.B; r += every)
        if (schedule.count[r] < w.T_) zero_row(out.output, schedule, r, options.batch_first);
    ForwardStep<T> step{};
    step.first_row = first;
    step.row_step = every;
    step.inputs = w.I;
    step.hidden = w.H;
    step.state_stride = w.state_stride;
    step.saved_stride = w.gates_stride;
    step.recurrent_mask = w.recurrent_mask.data();
    step.gate = options.gate;
    step.candidate = options.candidate;
    step.output = options.output;
    for (index s = 0; s < schedule.steps && first < schedule.active(s); ++s) {
      const index active = schedule.active(s);
      const index kept = training ? schedule.start[s] : 0;
      step.rows = (active - first + every - 1) / every;
      step.x = in.x.data + w.x_offsets->base(s);
      step.x_offset = w.x_offsets->at(s);
      step.h_prev = w.h.data() + block(s) * w.state_stride;
      step.h_next = w.h.data() + block(s + 1) * w.state_stride;
      step.operand = w.operand ? w.operand.data() + block(s) * w.state_stride : step.h_prev;
      step.operand_next = w.operand ? w.operand.data() + block(s + 1) * w.state_stride : nullptr;
      step.c_prev = cell.has_c ? w.c.data() + (training ? block(s) : 0) * w.state_stride : nullptr;
      step.c_next = cell.has_c ? w.c.data() + (training ? block(s + 1) : 0) * w.state_stride : nullptr;
      step.saved = saves ? w.saved.data() + kept * w.gates_stride : nullptr;
      step.reset_h = two_phases ? w.reset_h.data() + kept * w.state_stride : nullptr;
      step.y = out.output ? out.output.data + y_offsets.base(s) : nullptr;
      step.y_offset = y_offsets.at(s);
      for (int p = 0; p < cell.phases; ++p) {
        step.weight_ih = weight_ih[p].data();
        step.weight_hh = weight_hh[p].data();
        step.bias = bias[p].data();
        kernels.forward[int(options.cell)][p](step);
      }
      const index still = s + 1 < schedule.steps ? schedule.active(s + 1) : 0;
      for (index r = first; r < active; r += every)
        if (r >= still) {
          scatter_row<T>(step.h_next + r * w.state_stride, schedule, r, w.H, out.h_n);
          if (cell.has_c) scatter_row<T>(step.c_next + r * w.state_stride, schedule, r, w.H, out.c_n);
        }
    }
  });
  if (training) workspace->state = std::move(own);
}

template <class T>
Workspace<T>::Workspace() = default;
template <class T>
Workspace<T>::~Workspace() = default;
template <class T>
Workspace<T>::Workspace(Workspace&&) noexcept = default;
template <class T>
Workspace<T>& Workspace<T>::operator=(Workspace&&) noexcept = default;
template <class T>
index Workspace<T>::batch() const { return state ? state->B : 0; }
template <class T>
index Workspace<T>::steps() const { return state ? state->T_ : 0; }
template <class T>
index Workspace<T>::inputs() const { return state ? state->I : 0; }
template <class T>
index Workspace<T>::hidden() const { return state ? state->H : 0; }
template <class T>
size_t Workspace<T>::bytes() const {
  if (!state) return 0;
  return state->h.bytes() + state->c.bytes() + state->saved.bytes() + state->reset_h.bytes() + state->operand.bytes();
}

#define FASTRNN_INSTANTIATE(T)                                                                                  \
  template class Workspace<T>;                                                                                  \
  template void rnn_forward(const RnnOptions<T>&, const RnnInputs<T>&, const RnnOutputs<T>&, Workspace<T>*);
FASTRNN_INSTANTIATE(float)
FASTRNN_INSTANTIATE(double)

}  // namespace fastrnn
