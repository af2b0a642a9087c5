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

// Which buffers a call keeps, and for how many steps.
struct Storage {
  bool training;   // keeps every step; inference swaps two blocks of h, and updates c in place
  bool saves;      // the gates
  bool two_phases;
};

template <class T>
Shard<T> make_shard(Schedule&& schedule, const typename Workspace<T>::State& w, const RnnInputs<T>& in, Storage storage) {
  const index stride = w.state_stride, rows = schedule.rows();
  const int batch_axis = w.options.batch_first ? 0 : 1;
  RowOffsets offsets(schedule, in.x.stride[batch_axis], in.x.stride[1 - batch_axis]);
  Shard<T> shard{std::move(schedule), std::move(offsets), {}, {}, {}, {}, {}, {}};
  const index kept = storage.training ? shard.schedule.total() : rows;
  const index states = storage.training ? rows + kept : 2 * rows;
  shard.h = Buffer<T>(size_t(states * stride));
  gather_rows(in.h0, shard.schedule, shard.h.data(), stride, w.H);
  if (w.cell->has_c) {
    shard.c = Buffer<T>(size_t((storage.training ? states : rows) * stride));
    gather_rows(in.c0, shard.schedule, shard.c.data(), stride, w.H);
  }
  if (storage.saves) shard.saved = Buffer<T>(size_t(kept * w.gates_stride));
  if (storage.two_phases) shard.reset_h = Buffer<T>(size_t(kept * stride));
  if (in.recurrent_mask) {
    shard.recurrent_mask = Buffer<T>(size_t(rows * stride));
    gather_rows(in.recurrent_mask, shard.schedule, shard.recurrent_mask.data(), stride, w.H);
    shard.operand = Buffer<T>(size_t(states * stride));
    for (index i = 0; i < rows * stride; ++i)
      shard.operand.data()[i] = shard.h.data()[i] * shard.recurrent_mask.data()[i];
  }
  return shard;
}

// The packed operands of the forward pass.
template <class T>
struct ForwardWeights {
  Buffer<T> weight_ih[kMaxPhases], weight_hh[kMaxPhases], bias[kMaxPhases];
};

template <class T>
void run_shard(const typename Workspace<T>::State& w, const ForwardWeights<T>& weights, const Shard<T>& shard, Storage storage,
               const RnnOutputs<T>& out) {
  const Schedule& schedule = shard.schedule;
  const CellLayout& cell = *w.cell;
  const int batch_axis = w.options.batch_first ? 0 : 1;
  const RowOffsets y_offsets(schedule, out.output.stride[batch_axis], out.output.stride[1 - batch_axis]);
  zero_padding(out.output, schedule, w.options.batch_first);
  const auto give_state = [&](const T* h, const T* c, index first, index last) {
    for (index r = first; r < last; ++r) {
      scatter_row<T>(h + r * w.state_stride, schedule, r, w.H, out.h_n);
      if (cell.has_c) scatter_row<T>(c + r * w.state_stride, schedule, r, w.H, out.c_n);
    }
  };
  give_state(shard.h.data(), shard.c.data(), schedule.active(0), shard.rows());  // rows without a valid step

  const auto block = [&](index s) { return (storage.training ? shard.block(s) : (s % 2) * shard.rows()) * w.state_stride; };
  const auto c_block = [&](index s) { return storage.training ? block(s) : 0; };
  ForwardStep<T> step{};
  step.inputs = w.I;
  step.hidden = w.H;
  step.state_stride = w.state_stride;
  step.saved_stride = w.gates_stride;
  step.recurrent_mask = shard.recurrent_mask.data();
  step.gate = w.options.gate;
  step.candidate = w.options.candidate;
  step.output = w.options.output;
  for (index s = 0; s < schedule.steps(); ++s) {
    const index kept = storage.training ? schedule.start[s] : 0;
    step.rows = schedule.active(s);
    step.x = w.x.data + shard.x.base(s);
    step.x_offset = shard.x.at(s);
    step.h_prev = shard.h.data() + block(s);
    step.h_next = shard.h.data() + block(s + 1);
    step.operand = shard.operand ? shard.operand.data() + block(s) : step.h_prev;
    step.operand_next = shard.operand ? shard.operand.data() + block(s + 1) : nullptr;
    step.c_prev = cell.has_c ? shard.c.data() + c_block(s) : nullptr;
    step.c_next = cell.has_c ? shard.c.data() + c_block(s + 1) : nullptr;
    step.saved = storage.saves ? shard.saved.data() + kept * w.gates_stride : nullptr;
    step.reset_h = storage.two_phases ? shard.reset_h.data() + kept * w.state_stride : nullptr;
    step.y = out.output ? out.output.data + y_offsets.base(s) : nullptr;
    step.y_offset = y_offsets.at(s);
    for (int p = 0; p < cell.phases; ++p) {
      step.weight_ih = weights.weight_ih[p].data();
      step.weight_hh = weights.weight_hh[p].data();
      step.bias = weights.bias[p].data();
      w.kernels->forward[int(w.options.cell)][p](step);
    }
    give_state(step.h_next, step.c_next, schedule.active(s + 1), step.rows);
  }
}

}  // namespace

template <class T>
void rnn_forward(const RnnOptions<T>& options, const RnnInputs<T>& in, const RnnOutputs<T>& out,
                 Workspace<T>* workspace) {
  check_forward(options, in, out);
  auto own = std::make_unique<typename Workspace<T>::State>();
  auto& w = *own;
  const CellLayout& cell = layout(options.cell);
  const int batch_axis = options.batch_first ? 0 : 1;
  w.options = options;
  w.kernels = &active_kernels<T>();
  w.cell = &cell;
  w.B = in.x.shape[batch_axis];
  w.T_ = in.x.shape[1 - batch_axis];
  w.I = in.x.shape[2];
  w.H = in.weight_hh.shape[1];
  w.x = in.x;
  const int L = w.kernels->lanes;
  const index units = panels_of(w.H, L) * L;
  w.state_stride = padded_stride(units, sizeof(T));
  w.gates_stride = padded_stride(units * cell.slots, sizeof(T));

  ForwardWeights<T> weights;
  const bool training = workspace != nullptr;
  for (int p = 0; p < cell.phases; ++p) {
    weights.weight_ih[p] = pack_forward(in.weight_ih, cell.x[p], w.H, L);
    weights.weight_hh[p] = pack_forward(in.weight_hh, cell.h[p], w.H, L);
    weights.bias[p] = pack_bias(in.bias_ih, in.bias_hh, cell, p, w.H, L);
    if (training) w.weight_hh_t[p] = pack_backward(in.weight_hh, cell.h_all[p], w.H, L);
  }
  if (training) w.weight_ih_t = pack_backward(in.weight_ih, cell.x_all, w.H, L);

  const bool two_phases = cell.phases == 2;
  const bool saves = two_phases || (training && (options.cell != Cell::rnn || needs_input(options.candidate)));
  const Storage storage{training, saves, two_phases};
  const index shards = row_shards(w.B, size_t((w.I + w.H) * w.gates_stride) * sizeof(T));
  double steps = 0;
  for (Schedule& schedule : make_schedules(w.B, w.T_, in.lengths, in.mask, options.reverse, shards)) {
    steps += double(schedule.total());
    w.shards.push_back(make_shard(std::move(schedule), w, in, storage));
  }
  const double flops = 2.0 * steps * double(cell.gates * w.H) * double(w.I + w.H);
  run_tasks(plan_threads(flops, shards), shards,
            [&](int, index i) { run_shard(w, weights, w.shards[size_t(i)], storage, out); });
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
  size_t sum = 0;
  for (const Shard<T>& s : state->shards)
    sum += s.h.bytes() + s.c.bytes() + s.saved.bytes() + s.reset_h.bytes() + s.operand.bytes();
  return sum;
}

#define FASTRNN_INSTANTIATE(T)                                                                                  \
  template class Workspace<T>;                                                                                  \
  template void rnn_forward(const RnnOptions<T>&, const RnnInputs<T>&, const RnnOutputs<T>&, Workspace<T>*);
FASTRNN_INSTANTIATE(float)
FASTRNN_INSTANTIATE(double)

}  // namespace fastrnn
