// Backpropagation through time.
//
// Each thread walks its own rows from the last step to the first: gate gradients go into a small ring, dx follows at
// once. After every chunk of steps the chunk's gate gradients, still in cache, become weight gradients. No sum may depend
// on the number of threads, so they are summed per shard of rows (row r belongs to shard r mod S, S from the shape alone)
// and a thread owns whole shards: threads never meet. Where the weights are so large, or the rows so few, that S = 1, all
// threads meet after each chunk and share its product by weights. The ring holds two chunks: one is read while the next
// is written, so one meeting per chunk is enough.
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

template <class T>
class Backward {
 public:
  Backward(const State<T>& w, const View<const T>& grad_output, const View<const T>& grad_h_n,
           const View<const T>& grad_c_n, const RnnGradients<T>& g)
      : w(w), s(*w.schedule), cell(*w.cell), dy(grad_output), g(g),
        dy_offsets(s, dy.stride[bt()], dy.stride[1 - bt()]), dx_offsets(s, g.x.stride[bt()], g.x.stride[1 - bt()]),
        shards(gradient_shards(w.B, size_t((w.I + w.H) * w.gates_stride) * sizeof(T))),
        chunk(chunk_steps(w.B, size_t(w.gates_stride) * sizeof(T), s.steps)) {
    const size_t state = size_t(std::max<index>(w.B, 1) * w.state_stride);
    for (auto& half : ring) half = Buffer<T>(size_t(chunk * std::max<index>(w.B, 1) * w.gates_stride));
    direct = zeros<T>(state);
    if (cell.has_c) {
      dc = Buffer<T>(state);
      gather_rows(grad_c_n, s, dc.data(), w.state_stride, w.H);
    }
    if (grad_h_n) {
      dh_n = Buffer<T>(state);
      gather_rows(grad_h_n, s, dh_n.data(), w.state_stride, w.H);
    }
    x_runs = backward_runs(cell.x_all, cell.slots, w.H, w.kernels->lanes);
    for (int p = 0; p < cell.phases; ++p)
      h_runs[p] = backward_runs(cell.h_all[p], cell.slots, w.H, w.kernels->lanes);
    if (g.weight_ih) d_weight_ih = Accumulator<T>(cell.x_all, w, w.I, shards);
    for (int p = 0; p < cell.phases; ++p) {
      if (g.weight_hh) d_weight_hh[p] = Accumulator<T>(cell.h_all[p], w, w.H, shards);
      if (g.bias_hh) d_bias_hh[p] = Accumulator<T>(cell.h_all[p], w, 1, shards);
    }
    if (g.bias_ih) d_bias_ih = Accumulator<T>(cell.x_all, w, 1, shards);
  }

  void run() {
    const double flops = 4.0 * double(s.total()) * double(cell.gates * w.H) * double(w.I + w.H);
    int threads = plan_threads(flops, w.B);
    if (shards > 1) threads = threads_for_shards(threads, shards);
    offsets.assign(size_t(threads), std::vector<index>(size_t(3 * chunk * w.B)));
    run_team(threads, [&](int id, Team& team) { run_rows(id, team); });
    finish();
  }

 private:
  int bt() const { return w.options.batch_first ? 0 : 1; }
  index chunk_of(index step) const { return step / chunk; }
  // B rows for every step, whether they run or not: row r then has places of its own, which no other thread touches.
  T* ring_at(index step) const {
    const index c = chunk_of(step);
    return ring[c % 2].data() + (step - c * chunk) * w.B * w.gates_stride;
  }

  void run_rows(int id, Team& team) {
    const index every = team.size();
    if (g.x)
      for (index r = id; r < w.B; r += every)
        if (s.count[r] < w.T_) zero_row(g.x, s, r, w.options.batch_first);
    for (index c = chunk_of(s.steps - 1); s.steps > 0 && c >= 0; --c) {
      const index begin = c * chunk, end = std::min(begin + chunk, s.steps);
      for (index step = end - 1; step >= begin; --step) {
        const index active = s.active(step), later = step + 1 < s.steps ? s.active(step + 1) : 0;
        run_step(step, id, every, std::min(active, later), true);
        index ends = id;  // the first of our rows that end at this step
        if (later > id) ends += (later - id + every - 1) / every * every;
        run_step(step, ends, every, active, false);
        if (g.x) input_gradient(step, id, every);
      }
      if (shards == 1) {
        team.barrier();
        weight_gradients(begin, end, 0, id, every, offsets[size_t(id)]);
      } else {
        for (index shard = id; shard < shards; shard += every)
          weight_gradients(begin, end, shard, 0, 1, offsets[size_t(id)]);
      }
    }
  }

  // The rows first, first + every, ... below `limit`; `continues` says that they have a later step.
  void run_step(index step, index first, index every, index limit, bool continues) {
    if (first >= limit) return;
    const index L = w.state_stride;
    BackwardStep<T> b{};
    b.first_row = first;
    b.row_step = every;
    b.rows = (limit - first + every - 1) / every;
    b.hidden = w.H;
    b.gates_stride = w.gates_stride;
    b.state_stride = L;
    b.grad_h_n = continues ? nullptr : dh_n.data();
    b.dy = dy ? dy.data + dy_offsets.base(step) : nullptr;
    b.dy_offset = dy_offsets.at(step);
    b.recurrent_mask = w.recurrent_mask.data();
    b.saved = w.saved ? w.saved.data() + s.start[step] * w.gates_stride : nullptr;
    b.saved_stride = w.gates_stride;
    b.h = w.h.data() + w.block(step + 1) * L;
    b.h_prev = w.h.data() + w.block(step) * L;
    b.c = w.c ? w.c.data() + w.block(step + 1) * L : nullptr;
    b.c_prev = w.c ? w.c.data() + w.block(step) * L : nullptr;
    b.dc = dc.data();
    b.direct = direct.data();
    b.gates = ring_at(step);
    b.gate = w.options.gate;
    b.candidate = w.options.candidate;
    b.output = w.options.output;
    for (int p = 0; p < cell.phases; ++p) {
      // the first phase takes back what the later step left, a second one what the first has just computed
      b.next = p > 0 ? b.gates : continues ? ring_at(step + 1) : nullptr;
      b.weight_hh_t = w.weight_hh_t[p].data();
      b.segment = h_runs[p].offset.data();
      b.segment_length = h_runs[p].length.data();
      b.segments = h_runs[p].count();
      w.kernels->backward[int(w.options.cell)][p](b);
    }
  }

  void input_gradient(index step, index first, index every) {
    const index active = s.active(step);
    if (first >= active) return;
    Gemm<T> m{};
    m.rows = (active - first + every - 1) / every;
    m.a = ring_at(step) + first * w.gates_stride;
    m.a_stride = every * w.gates_stride;
    m.segment = x_runs.offset.data();
    m.segment_length = x_runs.length.data();
    m.segments = x_runs.count();
    m.b = w.weight_ih_t.data();
    m.columns = w.I;
    m.c = g.x.data + dx_offsets.base(step);
    m.c_offset = dx_offsets.at(step) + first;
    m.c_stride = every;
    w.kernels->gemm(m);
  }

  // Part `id` of `every` (split over the weights) of the sums over one shard's rows of the steps [begin, end).
  void weight_gradients(index begin, index end, index shard, index id, index every, std::vector<index>& row_offsets) {
    index* x_at = row_offsets.data();
    index* h_at = x_at + chunk * w.B;
    index* d_at = h_at + chunk * w.B;
    index rows = 0;
    for (index step = begin; step < end; ++step)
      for (index r = shard; r < s.active(step); r += shards, ++rows) {
        x_at[rows] = w.x_offsets->base(step) + w.x_offsets->at(step)[r];
        h_at[rows] = (w.block(step) + r) * w.state_stride;
        d_at[rows] = ((step - begin) * w.B + r) * w.gates_stride;
      }
    if (rows == 0) return;
    static const T one = 1;
    Outer<T> o{};
    o.rows = rows;
    o.d = ring_at(begin);
    o.d_offset = d_at;
    const auto add = [&](Accumulator<T>& to, const T* a, const index* at, index first, index last) {
      if (!to.sum || first >= last) return;
      o.a = a;
      o.a_offset = at;
      o.first = first;
      o.last = last;
      o.column = to.columns.data();
      o.columns = index(to.columns.size());
      o.c = to.sum.data() + shard * to.size;
      o.c_stride = to.stride;
      w.kernels->outer(o);
    };
    add(d_weight_ih, w.x.data, x_at, w.I * id / every, w.I * (id + 1) / every);
    const index from = w.H * id / every, to = w.H * (id + 1) / every;
    add(d_weight_hh[0], (w.operand ? w.operand : w.h).data(), h_at, from, to);
    if (cell.phases == 2) {  // the second product read r*h_prev
      index i = 0;
      for (index step = begin; step < end; ++step)
        for (index r = shard; r < s.active(step); r += shards) h_at[i++] = (s.start[step] + r) * w.state_stride;
      add(d_weight_hh[1], w.reset_h.data(), h_at, from, to);
    }
    if (id < every - 1) return;
    std::fill_n(x_at, rows, index(0));
    add(d_bias_ih, &one, x_at, 0, 1);
    for (int p = 0; p < cell.phases; ++p) add(d_bias_hh[p], &one, x_at, 0, 1);
  }

  void finish() {
    const int L = w.kernels->lanes;
    const auto unpack = [&](const Accumulator<T>& from, const Side& side, const View<T>& to) {
      for (index shard = 1; from.sum && shard < shards; ++shard)
        w.kernels->add(from.size, from.sum.data() + shard * from.size, from.sum.data());
      if (from.sum) unpack_gradient<T>(from.sum.data(), from.stride, side, w.H, L, to);
    };
    unpack(d_weight_ih, cell.x_all, g.weight_ih);
    unpack(d_bias_ih, cell.x_all, g.bias_ih);
    for (int p = 0; p < cell.phases; ++p) {
      unpack(d_weight_hh[p], cell.h_all[p], g.weight_hh);
      unpack(d_bias_hh[p], cell.h_all[p], g.bias_hh);
    }
    if (g.h0) initial_gradient();
    if (g.c0)
      for (index r = 0; r < w.B; ++r) scatter_row<T>(dc.data() + r * w.state_stride, s, r, w.H, g.c0);
  }

  void initial_gradient() {
    const index active = s.steps > 0 ? s.active(0) : 0;
    Buffer<T> through_r = zeros<T>(size_t(std::max<index>(w.B, 1) * w.state_stride));
    if (active > 0) {  // (gate gradients of the first step) . R
      Gemm<T> m{};
      m.rows = active;
      m.a = ring_at(0);
      m.a_stride = w.gates_stride;
      m.segment = h_runs[0].offset.data();
      m.segment_length = h_runs[0].length.data();
      m.segments = h_runs[0].count();
      m.b = w.weight_hh_t[0].data();
      m.columns = w.H;
      m.c = through_r.data();
      m.c_stride = w.state_stride;
      w.kernels->gemm(m);
    }
    for (index r = 0; r < w.B; ++r) {
      const index at = r * w.state_stride;
      T* row = through_r.data() + at;
      for (index u = 0; u < w.H; ++u) {
        if (w.recurrent_mask) row[u] *= w.recurrent_mask.data()[at + u];
        row[u] += r < active ? direct.data()[at + u] : dh_n ? dh_n.data()[at + u] : T(0);
      }
      scatter_row<T>(row, s, r, w.H, g.h0);
    }
  }

  const State<T>& w;
  const Schedule& s;
  const CellLayout& cell;
  const View<const T>& dy;
  const RnnGradients<T>& g;
  RowOffsets dy_offsets, dx_offsets;
  index shards, chunk;
  Buffer<T> ring[2], direct, dc, dh_n;
  Runs x_runs, h_runs[kMaxPhases];
  Accumulator<T> d_weight_ih, d_weight_hh[kMaxPhases], d_bias_ih, d_bias_hh[kMaxPhases];
  std::vector<std::vector<index>> offsets;  // scratch of each thread
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
