// Backpropagation through time.
//
// A thread walks the rows of a shard from the last step to the first: gate gradients go into a small ring, dx follows at
// once. After every chunk of steps the chunk's gate gradients, still in cache, become weight gradients with
// K = rows of the chunk. Every shard sums its own; the sums are added up in order at the end, so that they do not depend
// on the number of threads. The ring holds two chunks, because a chunk's first product reads the last step of the one before.
#include <algorithm>
#include <vector>

#include "checks.hpp"
#include "plan.hpp"
#include "threads.hpp"
#include "workspace.hpp"

namespace fastrnn {
namespace {

template <class T>
using State = typename Workspace<T>::State;

template <class T>
void check_backward(const State<T>* w, const View<const T>& grad_output, const View<const T>& grad_h_n,
                    const View<const T>& grad_c_n) {
  if (!w) fail("rnn_backward", "workspace", "one filled by a forward pass", "an empty one");
  const std::string op = std::string(w->cell->name) + "_backward";
  const bool bf = w->options.batch_first;
  if (grad_output)
    expect_shape(op, "grad_output", grad_output, bf ? "(B, T, H)" : "(T, B, H)",
                 {bf ? w->B : w->T_, bf ? w->T_ : w->B, w->H});
  if (grad_h_n) expect_shape(op, "grad_h_n", grad_h_n, "(B, H)", {w->B, w->H});
  if (grad_c_n) expect_shape(op, "grad_c_n", grad_c_n, "(B, H)", {w->B, w->H});
}

// A sum over the rows of the chunks, one per shard: dW, dR or db in the order of the packed columns.
template <class T>
struct Accumulator {
  std::vector<index> columns;
  index stride = 0, size = 0;
  Buffer<T> sum;

  Accumulator() = default;
  Accumulator(const Side& side, const State<T>& w, index rows, index shards) {
    const int L = w.kernels->lanes;
    columns = side_columns(side, w.cell->slots, w.H, L);
    stride = index(columns.size()) * L;
    size = rows * stride;
    sum = zeros<T>(size_t(shards * size));
  }
};

// What a thread needs while it works on a shard.
template <class T>
struct Scratch {
  Buffer<T> ring[2], direct, dc, dh_n, through_r;
  std::vector<index> x_at, h_at, d_at;  // offsets of a chunk's rows in x, h and the ring
};

template <class T>
class Backward {
 public:
  Backward(const State<T>& w, const View<const T>& grad_output, const View<const T>& grad_h_n,
           const View<const T>& grad_c_n, const RnnGradients<T>& g)
      : w(w), cell(*w.cell), dy(grad_output), dh_n(grad_h_n), dc_n(grad_c_n), g(g), shards(index(w.shards.size())) {
    for (const Shard<T>& s : w.shards) {
      rows = std::max(rows, s.rows());
      steps = std::max(steps, s.schedule.steps());
      total += double(s.schedule.total());
    }
    chunk = chunk_steps(rows, size_t(w.gates_stride) * sizeof(T), steps);
    const int L = w.kernels->lanes;
    x_runs = backward_runs(cell.x_all, cell.slots, w.H, L);
    if (g.weight_ih) d_weight_ih = Accumulator<T>(cell.x_all, w, w.I, shards);
    if (g.bias_ih) d_bias_ih = Accumulator<T>(cell.x_all, w, 1, shards);
    for (int p = 0; p < cell.phases; ++p) {
      h_runs[p] = backward_runs(cell.h_all[p], cell.slots, w.H, L);
      if (g.weight_hh) d_weight_hh[p] = Accumulator<T>(cell.h_all[p], w, w.H, shards);
      if (g.bias_hh) d_bias_hh[p] = Accumulator<T>(cell.h_all[p], w, 1, shards);
    }
  }

  void run() {
    const double flops = 4.0 * total * double(cell.gates * w.H) * double(w.I + w.H);
    const int threads = plan_threads(flops, shards);
    std::vector<Scratch<T>> scratch(static_cast<size_t>(threads));
    const size_t state = size_t(std::max<index>(rows, 1) * w.state_stride), chunk_rows = size_t(chunk * rows);
    for (Scratch<T>& t : scratch) {
      for (auto& half : t.ring) half = Buffer<T>(std::max<size_t>(chunk_rows, 1) * size_t(w.gates_stride));
      t.direct = Buffer<T>(state);
      t.dh_n = Buffer<T>(state);
      t.through_r = Buffer<T>(state);
      if (cell.has_c) t.dc = Buffer<T>(state);
      t.x_at.resize(chunk_rows);
      t.h_at.resize(chunk_rows);
      t.d_at.resize(chunk_rows);
    }
    run_tasks(threads, shards, [&](int thread, index i) { run_shard(i, scratch[size_t(thread)]); });
    finish();
  }

 private:
  int batch_axis() const { return w.options.batch_first ? 0 : 1; }
  RowOffsets offsets(const Shard<T>& s, const index* stride) const {
    return RowOffsets(s.schedule, stride[batch_axis()], stride[1 - batch_axis()]);
  }
  // Every step has room for all rows, whether they run or not.
  T* ring_at(Scratch<T>& t, index step) const {
    const index c = step / chunk;
    return t.ring[c % 2].data() + (step - c * chunk) * rows * w.gates_stride;
  }

  void run_shard(index i, Scratch<T>& t) {
    const Shard<T>& shard = w.shards[size_t(i)];
    const Schedule& s = shard.schedule;
    const RowOffsets dy_offsets = offsets(shard, dy.stride), dx_offsets = offsets(shard, g.x.stride);
    zero_padding(g.x, s, w.options.batch_first);
    std::fill_n(t.direct.data(), shard.rows() * w.state_stride, T(0));
    gather_rows(dh_n, s, t.dh_n.data(), w.state_stride, w.H);
    if (cell.has_c) gather_rows(dc_n, s, t.dc.data(), w.state_stride, w.H);
    for (index end = s.steps(); end > 0;) {
      const index begin = (end - 1) / chunk * chunk;
      for (index step = end - 1; step >= begin; --step) {
        const index active = s.active(step), later = s.active(step + 1);
        run_step(shard, t, dy_offsets, step, 0, later);       // rows that go on
        run_step(shard, t, dy_offsets, step, later, active);  // rows that end here
        if (g.x) input_gradient(t, dx_offsets, step, active);
      }
      weight_gradients(i, t, begin, end);
      end = begin;
    }
    if (g.h0) initial_gradient(shard, t);
    if (g.c0)
      for (index r = 0; r < shard.rows(); ++r) scatter_row<T>(t.dc.data() + r * w.state_stride, s, r, w.H, g.c0);
  }

  void run_step(const Shard<T>& shard, Scratch<T>& t, const RowOffsets& dy_offsets, index step, index first, index last) {
    if (first >= last) return;
    const bool ends = first >= shard.schedule.active(step + 1);
    const index h = shard.block(step + 1) * w.state_stride, h_prev = shard.block(step) * w.state_stride;
    BackwardStep<T> b{};
    b.first_row = first;
    b.rows = last - first;
    b.hidden = w.H;
    b.gates_stride = w.gates_stride;
    b.state_stride = w.state_stride;
    b.grad_h_n = ends && dh_n ? t.dh_n.data() : nullptr;
    b.dy = dy ? dy.data + dy_offsets.base(step) : nullptr;
    b.dy_offset = dy_offsets.at(step);
    b.recurrent_mask = shard.recurrent_mask.data();
    b.saved = shard.saved ? shard.saved.data() + shard.schedule.start[step] * w.gates_stride : nullptr;
    b.saved_stride = w.gates_stride;
    b.h = shard.h.data() + h;
    b.h_prev = shard.h.data() + h_prev;
    b.c = shard.c ? shard.c.data() + h : nullptr;
    b.c_prev = shard.c ? shard.c.data() + h_prev : nullptr;
    b.dc = t.dc.data();
    b.direct = t.direct.data();
    b.gates = ring_at(t, step);
    b.gate = w.options.gate;
    b.candidate = w.options.candidate;
    b.output = w.options.output;
    for (int p = 0; p < cell.phases; ++p) {
      // the first phase takes back what the later step left, a second one what the first has just computed
      b.next = p > 0 ? b.gates : ends ? nullptr : ring_at(t, step + 1);
      b.weight_hh_t = w.weight_hh_t[p].data();
      b.segment = h_runs[p].offset.data();
      b.segment_length = h_runs[p].length.data();
      b.segments = h_runs[p].count();
      w.kernels->backward[int(w.options.cell)][p](b);
    }
  }

  // C = (gate gradients of a step) . weight, for the rows [0, rows).
  Gemm<T> take_back(Scratch<T>& t, index step, index active, const Runs& runs, const Buffer<T>& weight, index columns) {
    Gemm<T> m{};
    m.rows = active;
    m.a = ring_at(t, step);
    m.a_stride = w.gates_stride;
    m.segment = runs.offset.data();
    m.segment_length = runs.length.data();
    m.segments = runs.count();
    m.b = weight.data();
    m.columns = columns;
    return m;
  }

  void input_gradient(Scratch<T>& t, const RowOffsets& dx_offsets, index step, index active) {
    Gemm<T> m = take_back(t, step, active, x_runs, w.weight_ih_t, w.I);
    m.c = g.x.data + dx_offsets.base(step);
    m.c_offset = dx_offsets.at(step);
    w.kernels->gemm(m);
  }

  // Adds the rows of the steps [begin, end) to the shard's sums.
  void weight_gradients(index i, Scratch<T>& t, index begin, index end) {
    const Shard<T>& shard = w.shards[size_t(i)];
    const Schedule& s = shard.schedule;
    Outer<T> o{};
    for (index step = begin; step < end; ++step)
      for (index r = 0; r < s.active(step); ++r, ++o.rows) {
        t.x_at[size_t(o.rows)] = shard.x.base(step) + shard.x.at(step)[r];
        t.h_at[size_t(o.rows)] = (shard.block(step) + r) * w.state_stride;
        t.d_at[size_t(o.rows)] = ((step - begin) * rows + r) * w.gates_stride;
      }
    o.d = ring_at(t, begin);
    o.d_offset = t.d_at.data();
    const auto add = [&](const Accumulator<T>& to, const T* a, const index* at, index last) {
      if (!to.sum) return;
      o.a = a;
      o.a_offset = at;
      o.last = last;
      o.column = to.columns.data();
      o.columns = index(to.columns.size());
      o.c = to.sum.data() + i * to.size;
      o.c_stride = to.stride;
      w.kernels->outer(o);
    };
    static const T one = 1;
    add(d_weight_ih, w.x.data, t.x_at.data(), w.I);
    add(d_bias_ih, &one, nullptr, 1);
    add(d_weight_hh[0], (shard.operand ? shard.operand : shard.h).data(), t.h_at.data(), w.H);
    for (int p = 0; p < cell.phases; ++p) add(d_bias_hh[p], &one, nullptr, 1);
    if (cell.phases == 1) return;
    for (index n = 0; n < o.rows; ++n) t.h_at[size_t(n)] = (s.start[begin] + n) * w.state_stride;
    add(d_weight_hh[1], shard.reset_h.data(), t.h_at.data(), w.H);  // the second product read r*h_prev
  }

  // dL/dh0 = (gate gradients of the first step) . R * recurrent_mask + what did not pass through R.
  void initial_gradient(const Shard<T>& shard, Scratch<T>& t) {
    const index active = shard.schedule.active(0);
    if (active > 0) {
      Gemm<T> m = take_back(t, 0, active, h_runs[0], w.weight_hh_t[0], w.H);
      m.c = t.through_r.data();
      m.c_stride = w.state_stride;
      w.kernels->gemm(m);
    }
    const T* mask = shard.recurrent_mask.data();
    for (index r = 0; r < shard.rows(); ++r) {
      const index at = r * w.state_stride;
      T* row = t.through_r.data() + at;
      for (index u = 0; u < w.H; ++u)
        row[u] = r >= active ? t.dh_n.data()[at + u] : row[u] * (mask ? mask[at + u] : T(1)) + t.direct.data()[at + u];
      scatter_row<T>(row, shard.schedule, r, w.H, g.h0);
    }
  }

  void finish() {
    const auto give = [&](const Accumulator<T>& from, const Side& side, const View<T>& to) {
      if (!from.sum) return;
      for (index i = 1; i < shards; ++i) w.kernels->add(from.size, from.sum.data() + i * from.size, from.sum.data());
      unpack_gradient<T>(from.sum.data(), from.stride, side, w.H, w.kernels->lanes, to);
    };
    give(d_weight_ih, cell.x_all, g.weight_ih);
    give(d_bias_ih, cell.x_all, g.bias_ih);
    for (int p = 0; p < cell.phases; ++p) {
      give(d_weight_hh[p], cell.h_all[p], g.weight_hh);
      give(d_bias_hh[p], cell.h_all[p], g.bias_hh);
    }
  }

  const State<T>& w;
  const CellLayout& cell;
  const View<const T>&dy, &dh_n, &dc_n;
  const RnnGradients<T>& g;
  index shards, rows = 0, steps = 0, chunk = 1;  // rows, steps: of the largest shard
  double total = 0;                              // row steps
  Runs x_runs, h_runs[kMaxPhases];
  Accumulator<T> d_weight_ih, d_weight_hh[kMaxPhases], d_bias_ih, d_bias_hh[kMaxPhases];
};

}  // namespace

template <class T>
void rnn_backward(const Workspace<T>& workspace, const View<const T>& grad_output, const View<const T>& grad_h_n,
                  const View<const T>& grad_c_n, const RnnGradients<T>& gradients) {
  check_backward<T>(workspace.state.get(), grad_output, grad_h_n, grad_c_n);
  Backward<T>(*workspace.state, grad_output, grad_h_n, grad_c_n, gradients).run();
}

template void rnn_backward(const Workspace<float>&, const View<const float>&, const View<const float>&,
                           const View<const float>&, const RnnGradients<float>&);
template void rnn_backward(const Workspace<double>&, const View<const double>&, const View<const double>&,
                           const View<const double>&, const RnnGradients<double>&);

}  // namespace fastrnn
