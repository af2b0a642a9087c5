// The forward pass: checks, packing, what is kept. The time loop is in forward_pass.hpp.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "checks.hpp"
#include "dispatch.hpp"
#include "embedded_tokens.hpp"
#include "forward_pass.hpp"
#include "plan.hpp"
#include "threads.hpp"
#include "weights.hpp"
#include "workspace.hpp"

namespace fastrnn {
namespace {

template <class T>
using State = typename Workspace<T>::State;

// Of x and the weights, whichever is wrong: x comes first.
template <class T>
void expect_inputs(const RnnOptions<T>& o, const RnnInputs<T>& in) {
  if (in.x.shape[2] < 1) fail(layout(o.cell).name, "x", "at least one input feature", shape_text(in.x));
  const CellLayout& cell = layout(o.cell);
  const std::string op = cell.name, G = cell.gates == 1 ? "" : std::to_string(cell.gates) + "*";
  if (in.weight_hh.ndim != 2 || in.weight_hh.shape[1] < 1) return;
  const index H = in.weight_hh.shape[1];
  expect_shape(op, "weight_hh", in.weight_hh, "(" + G + "H, H)", {cell.gates * H, H});
  expect_shape(op, "weight_ih", in.weight_ih, "(" + G + "H, I)", {cell.gates * H, in.x.shape[2]});
}

// Integers in steps of 1/127 hold an h that its activations keep within [-1, 1].
template <class T>
void expect_bounded(const RnnOptions<T>& o) {
  const auto expect = [&](const char* argument, const Activation<T>& act, bool below_zero) {
    const bool positive = act.kind == ActivationKind::sigmoid || act.kind == ActivationKind::hard_sigmoid;
    const bool bounded = positive || act.kind == ActivationKind::tanh || act.kind == ActivationKind::softsign;
    if (below_zero ? !bounded : !positive)
      fail(layout(o.cell).name, argument,
           std::string(below_zero ? "tanh, sigmoid, softsign or hard_sigmoid" : "sigmoid or hard_sigmoid") +
               " with int8 weights, which need an h within [-1, 1]",
           activation_name(act.kind));
  };
  if (o.cell == Cell::lstm) {
    expect("recurrent_activation", o.gate, true);
    expect("output_activation", o.output, true);
  } else {
    expect("activation", o.candidate, true);
    if (o.cell != Cell::rnn) expect("recurrent_activation", o.gate, false);  // h' lies between n and h
  }
}

template <class T>
void check_forward(const RnnOptions<T>& o, const RnnInputs<T>& in, const PackedWeights<T>& weights,
                   const RnnOutputs<T>& out) {
  const CellLayout& cell = layout(o.cell);
  const std::string op = cell.name;
  if (weights.cell() != o.cell)
    fail(op, "weights", std::string("those of this cell (") + cell.name + ", and the same reset)", "another cell's");
  if (in.table && in.distinct) fail(op, "embedding", "none beside a table of its products", "one");
  if (in.table) {
    expect_ndim(op, "tokens", in.tokens, o.batch_first ? "(B, T)" : "(T, B)", 2);
    if (in.table.state->weights.state != weights.state) fail(op, "table", "one made with these weights", "another's");
  } else if (in.distinct) {
    if (in.id_axes[0] < 0 || in.id_axes[1] < 0 || in.id_axes[0] * in.id_axes[1] != in.distinct->positions)
      fail(op, "id_axes", "the axes of " + std::to_string(in.distinct->positions) + " ids", shape_text(in.id_axes, 2));
    expect_shape(op, "embedding", in.x, "(V, I)", {in.distinct->vocabulary, weights.inputs()});
  } else {
    expect_ndim(op, "x", in.x, o.batch_first ? "(B, T, I)" : "(T, B, I)", 3);
    if (in.x.shape[2] != weights.inputs())
      fail(op, "x", "I = " + std::to_string(weights.inputs()) + " input features", shape_text(in.x));
  }
  const index* shape = in.axes();
  const index B = shape[o.batch_first ? 0 : 1], steps = shape[o.batch_first ? 1 : 0], H = weights.hidden();
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
  if (weights.precision() == Precision::int8) expect_bounded(o);
  if (!in.table) return;
  const index V = in.table.rows();
  for (index i = 0; i < shape[0]; ++i)
    for (index j = 0; j < shape[1]; ++j) {
      const index token = in.tokens.data[i * in.tokens.stride[0] + j * in.tokens.stride[1]];
      if (token < 0 || token >= V)
        fail(op, "tokens", "values from 0 to V - 1 = " + std::to_string(V - 1), std::to_string(token));
    }
}

template <class T>
Shard<T> make_shard(Schedule&& schedule, const State<T>& w, const RnnInputs<T>& in) {
  const index stride = w.state_stride, rows = schedule.rows();
  const int batch_axis = w.options.batch_first ? 0 : 1;
  const index* steps = in.table ? in.tokens.stride : in.x.stride;
  RowOffsets offsets(schedule, steps[batch_axis], steps[1 - batch_axis]);
  TraceBuffers<T> trace = w.trace(rows, schedule.total(), w.kept);
  Shard<T> shard{std::move(schedule), std::move(offsets), {}, std::move(trace), {}, {}, {}};
  gather_rows(in.h0, shard.schedule, shard.trace.h.data(), stride, w.H);
  if (w.cell->has_c) gather_rows(in.c0, shard.schedule, shard.trace.c.data(), stride, w.H);
  if (in.recurrent_mask) {
    shard.recurrent_mask = Buffer<T>(size_t(rows * stride));
    gather_rows(in.recurrent_mask, shard.schedule, shard.recurrent_mask.data(), stride, w.H);
    for (index i = 0; i < rows * stride; ++i)
      shard.trace.operand.data()[i] = shard.trace.h.data()[i] * shard.recurrent_mask.data()[i];
  }
  if (w.checkpoint == 0) return shard;
  index kept = 0;
  for (index s = 0; s < shard.schedule.steps(); s += w.checkpoint) {
    shard.border.push_back(kept);
    kept += shard.schedule.active(s);
  }
  shard.border_h = Buffer<T>(size_t(kept * stride));
  if (w.cell->has_c) shard.border_c = Buffer<T>(size_t(kept * stride));
  return shard;
}

// The initial rows of what products read, where that is not T: both blocks and r*h begin with padding of zeros.
template <class T, class W>
void reduce_operand(Shard<T>& shard, const typename PackedWeights<T>::State& weights, const State<T>& w) {
  if constexpr (!std::is_same_v<T, W>) {
    const index rows = shard.rows(), stride = w.state_stride;
    shard.trace.operand = zeros<T>(size_t(2 * rows * stride));
    if (shard.trace.reset_h) shard.trace.reset_h = zeros<T>(size_t(rows * stride));
    if (std::is_same_v<W, Int8>) shard.quantum = Buffer<Quantum>(size_t(rows));
    Buffer<T> masked(size_t(w.H));
    for (index r = 0; r < rows; ++r) {
      T bound = 1, most = 0;
      for (index u = 0; u < w.H; ++u) {
        const T h = shard.trace.h.data()[r * stride + u];
        const T mask = shard.recurrent_mask ? shard.recurrent_mask.data()[r * stride + u] : 1;
        masked.data()[u] = h * mask;
        bound = std::max(bound, std::fabs(h));
        most = std::max(most, std::fabs(mask));
      }
      W* to = operand_rows<W>(shard.trace.operand.data()) + r * stride;
      if constexpr (std::is_same_v<W, Int8>) {
        shard.quantum.data()[r] = quantum_of(most > 0 ? bound * most : bound);
        weights.reduced->to_int8(w.H, masked.data(), shard.quantum.data()[r], to);
      } else {
        weights.reduced->to_bfloat16(w.H, masked.data(), to);
      }
    }
  }
}

// Plans, and runs all shards on as many threads as they are worth. Products of h read W.
template <class T, class W>
void run_passes(State<T>& w, const PackedWeights<T>& packed, const RnnInputs<T>& in, const RnnOutputs<T>& out,
                bool training) {
  const RnnOptions<T>& options = w.options;
  const CellLayout& cell = *w.cell;
  const auto& weights = *packed.state;
  const RecurrentPlan plan = plan_recurrent(w.B, w.T_, w.I, w.H, cell.slots, sizeof(W), training);
  w.matrices_x = bool(weights.tiles_ih[0]);
  w.matrices_dx = bool(w.backward_weights.tiles_ih);
  w.chunked = plan.chunked || w.matrices_x || !std::is_same_v<T, W>;
  w.operand = in.recurrent_mask || !std::is_same_v<T, W>;
  w.from_zero = !in.h0 && !std::is_same_v<W, Int8>;  // whose product takes back the offset that its sums begin with
  std::vector<Schedule> schedules = make_schedules(w.B, w.T_, in.lengths, in.mask, options.reverse, plan.shards);
  for (const Schedule& schedule : schedules) {
    w.rows = std::max(w.rows, schedule.rows());
    w.steps = std::max(w.steps, schedule.steps());
    w.total += double(schedule.total());
  }
  const size_t gates = size_t(weights.panels() * weights.kernels->lanes * cell.slots) * sizeof(T);  // bytes of a row
  if (std::is_same_v<T, W> && !w.matrices_x && projected_steps(w.rows, gates, gates * size_t(w.I), false, w.steps) == 1)
    w.chunked = false;  // made with its step, a chunk of one step is not stored and loaded
  if (training) {
    if (w.kernels->matrices) {
      w.matrices_dw = worth_matrix_sums(w.rows, w.T_, w.I, cell.gates * w.H);
      w.matrices_dr = worth_matrix_sums(w.rows, w.T_, w.H, cell.gates * w.H);
    }
    w.chunk = chunk_steps(w.rows, gates, gates * size_t(w.I + w.H), w.matrices_dr, w.steps);
    w.checkpoint = plan_checkpoint(options.checkpoint, w.chunk, w.steps);
    const double row = double(w.state_stride * (1 + cell.has_c) + w.saved_stride * w.saves(true)) * sizeof(T);
    if (w.total * row < 2.0 * double(packed.bytes())) w.checkpoint = 0;  // which would have to be kept
    w.kept = w.checkpoint == 0;
  }
  w.shards.reserve(schedules.size());
  for (Schedule& schedule : schedules) {
    w.shards.push_back(make_shard(std::move(schedule), w, in));
    reduce_operand<T, W>(w.shards.back(), weights, w);
  }

  const bool projects = w.chunked && !in.table;
  const double per_input = 2.0 * w.total * double(cell.gates * w.H), flops = per_input * double(w.H + (in.table ? 0 : w.I));
  const double ahead = projects ? per_input * double(w.I) : 0, steps = double(std::max<index>(w.steps, 1) * plan.shards);
  const TeamPlan team = plan_team(w.rows, (flops - ahead) / steps, ahead / steps, weights.panels());
  w.pipelined = team.pipelined && projects;
  const int threads = plan_threads(flops, plan.shards * team.members);
  const ForwardPass<T, W> pass(w, weights, in, out);
  std::vector<typename ForwardPass<T, W>::Scratch> scratch;
  for (index i = 0; i < std::min<index>(threads, plan.shards); ++i) scratch.push_back(pass.scratch());
  run_groups(threads, plan.shards, plan_patience(flops), [&](Team& team, int group, index i) {
    pass.run(w.shards[size_t(i)], scratch[size_t(group)], team);
  });
  if (w.checkpoint > 0) {
    w.weights = packed;
    for (Shard<T>& shard : w.shards) shard.trace = TraceBuffers<T>();
  }
}

}  // namespace

template <class T>
void rnn_forward(const RnnOptions<T>& options, const RnnInputs<T>& given, const RnnOutputs<T>& out,
                 Workspace<T>* workspace) {
  const CellLayout& cell = layout(options.cell);
  const bool training = workspace != nullptr;
  if (training && given.packed) fail(cell.name, "weights", "arrays in training", "packed weights");
  if (!given.packed && !given.distinct && given.x.ndim == 3) expect_inputs(options, given);
  auto own = std::make_unique<State<T>>();
  auto& w = *own;
  PackedWeights<T> packed = given.packed;
  if (!packed)
    packed.state = pack<T>(options.cell, given.weight_ih, given.weight_hh, given.bias_ih, given.bias_hh,
                           Precision::full, training ? &w.backward_weights : nullptr);
  check_forward(options, given, packed, out);
  const auto& weights = *packed.state;
  const int batch_axis = options.batch_first ? 0 : 1;
  const index* shape = given.axes();
  w.options = options;
  w.kernels = weights.kernels;
  w.cell = &cell;
  w.B = shape[batch_axis];
  w.T_ = shape[1 - batch_axis];
  w.I = weights.inputs;
  w.H = weights.hidden;
  w.x = given.x;
  const index units = weights.panels() * w.kernels->lanes;
  w.state_stride = padded_stride(units, sizeof(T));
  w.saved_stride = padded_stride(units * cell.slots, sizeof(T));
  RnnInputs<T> in = given;
  ProjectedTokens<T> projected;
  if (given.distinct) {
    w.distinct = given.distinct;
    projected = ProjectedTokens<T>(w, packed);
    projected.replace_x(in);
  }

  if constexpr (std::is_same_v<T, float>) {
    if (weights.precision == Precision::bfloat16) return run_passes<T, Bfloat16>(w, packed, in, out, training);
    if (weights.precision == Precision::int8) return run_passes<T, Int8>(w, packed, in, out, training);
  }
  run_passes<T, T>(w, packed, in, out, training);
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
  size_t sum = state->backward_weights.ih.bytes() + state->backward_weights.tiles_ih.bytes() + (state->weights ? state->weights.bytes() : 0);
  for (const Buffer<T>& b : state->backward_weights.hh) sum += b.bytes();
  for (const Shard<T>& s : state->shards)
    sum += s.trace.bytes() + s.border_h.bytes() + s.border_c.bytes() + s.recurrent_mask.bytes();
  return sum;
}

#define FASTRNN_INSTANTIATE(T)                                                                                  \
  template class Workspace<T>;                                                                                  \
  template void rnn_forward(const RnnOptions<T>&, const RnnInputs<T>&, const RnnOutputs<T>&, Workspace<T>*);
FASTRNN_INSTANTIATE(float)
FASTRNN_INSTANTIATE(double)

}  // namespace fastrnn
