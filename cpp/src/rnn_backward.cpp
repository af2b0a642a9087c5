// Backpropagation through time.
//
// A team walks the rows of a shard from the last step to the first: gate gradients go into a small ring, in this order. After
// every chunk of steps, or behind the walker in a pipeline, the gate gradients, still in cache, become dx and weight
// gradients, always in the order of the walk. Every shard sums its own; the sums are added up in order at the end, so that
// they do not depend on the number of threads. The ring holds two chunks, because a chunk's first product reads the last
// step of the one before. With checkpoints, the forward values of a stretch of chunks are computed again before the team
// walks through it.
#include <algorithm>
#include <optional>
#include <vector>

#include "checks.hpp"
#include "embedded_tokens.hpp"
#include "forward_pass.hpp"
#include "pipeline.hpp"
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

// A sum over the rows of the chunks: dW, dR or db. The first chunk fills it. One per shard, transposed, in the order of the packed
// columns; or the gradient that the caller asked for, where its rows are whole vectors.
template <class T>
struct Accumulator {
  const Side* side = nullptr;  // null: not asked for
  View<T> direct;
  std::vector<index> columns;  // vectors of gate gradients, or of direct's rows
  index plane = 0, stride = 0, size = 0;
  Buffer<T> sum;

  Accumulator() = default;
  Accumulator(const Side& side, const UnitPanels& panels, index plane, const State<T>& w, const View<T>& grad)
      : side(&side), plane(plane) {
    const index L = panels.lanes, J = grad.ndim == 2 ? grad.shape[1] : 1, shards = index(w.shards.size());
    if (grad.ndim == 2 && sums_in_place(w.total, shards) && grad.stride[1] == 1 && J % L == 0) {
      direct = grad;
      for (index at = 0; at < J; at += L) columns.push_back(at);
      return;
    }
    columns = side_columns(side, panels, plane);
    stride = padded_stride(index(columns.size()) * L, sizeof(T));
    size = J * stride;
    sum = Buffer<T>(size_t(shards * size));
  }
};

// What a team needs while it works on a shard. Gate gradients of a chunk: planes of panels, in a plane the packed rows of
// the chunk's steps, (slots, L) each.
template <class T>
struct Scratch {
  Buffer<T> ring[2], direct, dc, dh_n, through_r;
  TraceBuffers<T> trace;  // with checkpoints: of one stretch
  typename ForwardPass<T>::Scratch forward;
  std::unique_ptr<StreamsBehind> streams;  // in a pipeline
};

// Offsets of a chunk's rows in x, dx, h and r*h, in the order of the walk; every member has its own.
struct ChunkRows {
  std::vector<index> x, dx, h, reset_h;
  explicit ChunkRows(index rows) : x(size_t(rows)), dx(x), h(x), reset_h(x) {}
};

// What the gate gradients of a chunk become; that of a bias goes with its weight.
enum class Gradient { input, weight_ih, weight_hh };

template <class T>
class Backward {
 public:
  Backward(const State<T>& w, const View<const T>& grad_output, const View<const T>& grad_h_n,
           const View<const T>& grad_c_n, const RnnGradients<T>& g)
      : w(w), cell(*w.cell), dy(grad_output), dh_n(grad_h_n), dc_n(grad_c_n), g(g), units(cell, w.H, w.kernels->lanes), shards(index(w.shards.size())),
        rows(w.rows), chunk(w.chunk) {
    if (w.checkpoint > 0) {
      inputs.x = w.x;
      if (w.distinct) {
        projected = ProjectedTokens<T>(w, w.weights);
        projected.replace_x(inputs);
      }
      forward.emplace(w, *w.weights.state, inputs, no_outputs);
    }
    const int L = w.kernels->lanes;
    row_values = cell.slots * L;
    panels = units.count();
    plane = chunk * rows * row_values;
    const index x_plane = w.distinct ? cell.x_all.count * L : plane;  // W meets the ring, or its sums over tokens
    x_runs = backward_runs(cell.x_all, units, x_plane);
    if (g.weight_ih) d_weight_ih = Accumulator<T>(cell.x_all, units, x_plane, w, g.weight_ih);
    if (g.bias_ih) d_bias_ih = Accumulator<T>(cell.x_all, units, x_plane, w, g.bias_ih);
    token_values = panels * cell.x_all.count * L;
    if (w.distinct) tokens.resize(size_t(shards));
    for (int p = 0; p < cell.phases; ++p) {
      h_runs[p] = backward_runs(cell.h_all[p], units, plane);
      if (g.weight_hh) d_weight_hh[p] = Accumulator<T>(cell.h_all[p], units, plane, w, g.weight_hh);
      if (g.bias_hh) d_bias_hh[p] = Accumulator<T>(cell.h_all[p], units, plane, w, g.bias_hh);
    }
  }

  void run() {
    const double flops = w.backward_flops();
    const TeamPlan plan = w.backward_team();
    const int threads = plan_threads(flops, shards * plan.members);
    std::vector<Scratch<T>> scratch(size_t(std::min<index>(threads, shards)));
    index stretch = 0;  // its rows, which are most in the first
    for (const Shard<T>& s : w.shards)
      stretch = std::max(stretch, s.schedule.start[size_t(std::min(w.checkpoint, s.schedule.steps()))]);
    const size_t state = size_t(std::max<index>(rows, 1) * w.state_stride);
    for (Scratch<T>& t : scratch) {
      for (auto& half : t.ring) half = Buffer<T>(size_t(std::max<index>(plane * panels, 1)));
      t.direct = Buffer<T>(state);
      t.dh_n = Buffer<T>(state);
      t.through_r = Buffer<T>(state);
      if (cell.has_c) t.dc = Buffer<T>(state);
      if (plan.pipelined && threads > 1) t.streams = std::make_unique<StreamsBehind>(1 + 2 * plan.members);
      if (!forward) continue;
      t.trace = w.trace(rows, stretch, true);
      t.forward = forward->scratch();
    }
    run_groups(threads, shards, plan_patience(flops), [&](Team& team, int group, index i) {
      run_shard(i, scratch[size_t(group)], team);
    });
    finish();
  }

 private:
  int batch_axis() const { return w.options.batch_first ? 0 : 1; }
  RowOffsets offsets(const Shard<T>& s, const index* stride) const {
    return RowOffsets(s.schedule, stride[batch_axis()], stride[1 - batch_axis()]);
  }
  T* ring_at(Scratch<T>& t, const Schedule& s, index step) const {
    const index c = step / chunk, end = std::min((c + 1) * chunk, s.steps());
    return t.ring[c % 2].data() + (s.start[end] - s.start[step + 1]) * row_values;
  }

  // For one member of the team. Either it computes the gate gradients of its own panels, and meets the others after each
  // product, because the next one reads all panels; or one member computes all of them.
  void run_shard(index i, Scratch<T>& t, Team& team) {
    const Shard<T>& shard = w.shards[size_t(i)];
    const Schedule& s = shard.schedule;
    const index none[4] = {};
    const RowOffsets dy_offsets = offsets(shard, dy.stride);
    const RowOffsets dx_offsets = offsets(shard, w.distinct ? none : g.x.stride);
    if (team.rank == 0) {
      if (w.distinct)
        tokens[size_t(i)] = TokenSums<T>(w, shard, token_values, g.x ? w.I : 0);
      else
        zero_padding(g.x, s, w.options.batch_first);
      std::fill_n(t.direct.data(), shard.rows() * w.state_stride, T(0));
      gather_rows(dh_n, s, t.dh_n.data(), w.state_stride, w.H);
      if (cell.has_c) gather_rows(dc_n, s, t.dc.data(), w.state_stride, w.H);
      if (t.streams) t.streams->reset();
    }
    team.barrier();
    const bool pipelined = t.streams && team.size > 1;
    Team alone;
    Team& walkers = pipelined ? alone : team;
    ChunkRows at(chunk * rows);
    Trace<T> trace = shard.trace.from(s, 0, shard.rows(), true);
    for (index end = s.steps(); end > 0;) {
      const index begin = (end - 1) / chunk * chunk;
      if (forward && (end == s.steps() || end % w.checkpoint == 0))
        trace = forward->again(shard, (end - 1) / w.checkpoint * w.checkpoint, end, t.trace, t.forward, team);
      for (index step = end - 1; step >= begin && !(pipelined && team.rank > 0); --step) {
        const index active = s.active(step), later = s.active(step + 1);
        for (int p = 0; p < cell.phases; ++p) {
          run_step(shard, trace, t, walkers, dy_offsets, step, p, 0, later);       // rows that go on
          run_step(shard, trace, t, walkers, dy_offsets, step, p, later, active);  // rows that end here
          walkers.barrier();
        }
        if (pipelined) t.streams->advance(s.total() - s.start[step]);
      }
      list_rows(shard, trace, dx_offsets, begin, end, at);
      const index first = s.total() - s.start[end], last = s.total() - s.start[begin];
      const T* const gates = ring_at(t, s, end - 1);
      if (pipelined) {
        // dx is one stream, and so is each member's share of a weight gradient
        t.streams->follow(team, 1 + 2 * team.size, last, [&](int stream, index from, index to) {
          const Gradient of = stream == 0 ? Gradient::input : stream % 2 == 1 ? Gradient::weight_ih : Gradient::weight_hh;
          const Team share = stream == 0 ? Team() : Team((stream - 1) / 2, team.size);
          add_gradient(of, i, trace, gates, share, first, from - first, to - first, at);
        });
      } else {
        for (Gradient of : {Gradient::input, Gradient::weight_ih, Gradient::weight_hh})
          add_gradient(of, i, trace, gates, team, first, 0, last - first, at);
      }
      end = begin;
    }
    if (team.rank == 0 && s.steps() == 0) clear_sums(i);
    if (w.distinct && s.steps() > 0) token_gradients(i, team);
    if (team.rank > 0) return;
    if (g.h0) initial_gradient(shard, t);
    if (g.c0)
      for (index r = 0; r < shard.rows(); ++r) scatter_row<T>(t.dc.data() + r * w.state_stride, s, r, w.H, g.c0);
  }

  void run_step(const Shard<T>& shard, const Trace<T>& trace, Scratch<T>& t, const Team& team,
                const RowOffsets& dy_offsets, index step, int p, index first, index last) {
    if (first >= last) return;
    const Schedule& s = shard.schedule;
    const bool ends = first >= s.active(step + 1);
    const index h = trace.block(step + 1) * w.state_stride, h_prev = trace.block(step) * w.state_stride;
    BackwardStep<T> b{};
    b.first_row = first;
    b.rows = last - first;
    b.first_panel = team.begin(panels);
    b.last_panel = team.end(panels);
    b.descending = step % 2 != 0;
    b.fold = units.fold;
    b.folded = units.folded();
    b.hidden = w.H;
    b.gates_panel = plane;
    b.state_stride = w.state_stride;
    b.grad_h_n = ends && dh_n ? t.dh_n.data() : nullptr;
    b.dy = dy ? dy.data + dy_offsets.base(step) : nullptr;
    b.dy_offset = dy_offsets.at(step);
    b.recurrent_mask = shard.recurrent_mask.data();
    b.saved = trace.saved ? trace.saved + trace.row(step) * w.saved_stride : nullptr;
    b.saved_stride = w.saved_stride;
    b.h = trace.h + h;
    b.h_prev = trace.h + h_prev;
    b.c = trace.c ? trace.c + h : nullptr;
    b.c_prev = trace.c ? trace.c + h_prev : nullptr;
    if (step > trace.begin) {
      b.dy_ahead = dy_offsets.base(step - 1) - dy_offsets.base(step);
      b.saved_ahead = (trace.row(step - 1) - trace.row(step)) * w.saved_stride;
      b.state_ahead = (trace.block(step - 1) - trace.block(step)) * w.state_stride;
    }
    b.dc = t.dc.data();
    b.direct = t.direct.data();
    b.gates = ring_at(t, s, step);
    b.gate = w.options.gate;
    b.candidate = w.options.candidate;
    b.output = w.options.output;
    // the first phase takes back what the later step left, a second one what the first has just computed
    b.next = p > 0 ? b.gates : ends ? nullptr : ring_at(t, s, step + 1);
    b.weight_hh_t = w.weight_hh_t[p].data();
    b.segment = h_runs[p].offset.data();
    b.segment_length = h_runs[p].length.data();
    b.segments = h_runs[p].count();
    w.kernels->backward[int(w.options.cell)][p](b);
  }

  void list_rows(const Shard<T>& shard, const Trace<T>& trace, const RowOffsets& dx_offsets, index begin, index end,
                 ChunkRows& at) const {
    size_t n = 0;
    for (index step = end - 1; step >= begin; --step)
      for (index r = 0; r < shard.schedule.active(step); ++r, ++n) {
        at.x[n] = shard.x.base(step) + shard.x.at(step)[r];
        if (g.x && !w.distinct) at.dx[n] = dx_offsets.base(step) + dx_offsets.at(step)[r];
        at.h[n] = (trace.block(step) + r) * w.state_stride;
        at.reset_h[n] = (trace.row(step) + r) * w.state_stride;
      }
  }

  // C = (gate gradients from `gates` on) . weight.
  Gemm<T> take_back(const T* gates, index stride, index count, const Runs& runs, const Buffer<T>& weight,
                    index columns) {
    Gemm<T> m{};
    m.rows = count;
    m.a = gates;
    m.a_stride = stride;
    m.segment = runs.offset.data();
    m.segment_length = runs.length.data();
    m.segments = runs.count();
    m.b = weight.data();
    m.columns = columns;
    return m;
  }

  // dx of `count` rows of gate gradients (of a chunk, or summed over tokens); members share the columns, or the rows where
  // there are few columns.
  void input_gradient(index count, const T* gates, index stride, T* dx, const index* dx_at, const Team& team) {
    const int L = w.kernels->lanes;
    const index x_panels = panels_of(w.I, L);
    Gemm<T> m = take_back(gates, stride, count, x_runs, w.weight_ih_t, w.I);
    m.c = dx;
    m.c_offset = dx_at;
    if (x_panels >= 2 * team.size) {
      const index first = team.begin(x_panels) * L;
      m.b += first * w.H * cell.x_all.count;
      m.c += first;
      m.columns = std::min(w.I, team.end(x_panels) * L) - first;
    } else {
      m.rows = team.end(count) - team.begin(count);
      m.a += team.begin(count) * stride;
      m.c_offset += team.begin(count);
    }
    w.kernels->gemm(m);
  }

  // What the rows [begin, end) of a chunk add to a gradient, in the share of this member. The gate gradients of the chunk stand
  // at `gates`; its first row is number `first` of the walk.
  void add_gradient(Gradient of, index i, const Trace<T>& trace, const T* gates, const Team& team, index first, index begin,
                   index end, const ChunkRows& at) {
    gates += begin * row_values;
    if (of == Gradient::input) {
      if (w.distinct)
        sum_tokens(i, gates, team, first + begin, end - begin);
      else if (g.x)
        input_gradient(end - begin, gates, row_values, g.x.data, at.dx.data() + begin, team);
      return;
    }
    Outer<T> o{};
    o.fresh = first + begin == 0;
    o.rows = end - begin;
    o.d = gates;
    o.d_stride = row_values;
    if (of == Gradient::weight_ih) {
      if (w.distinct) return;  // from their sums
      add_outer(o, i, team, d_weight_ih, w.x.data, at.x.data() + begin, w.I);
      add_outer(o, i, team, d_bias_ih, &one, nullptr, 1);
      return;
    }
    add_outer(o, i, team, d_weight_hh[0], trace.operand ? trace.operand : trace.h, at.h.data() + begin, w.H);
    for (int p = 0; p < cell.phases; ++p) add_outer(o, i, team, d_bias_hh[p], &one, nullptr, 1);
    if (cell.phases > 1)  // the second product read r*h_prev
      add_outer(o, i, team, d_weight_hh[1], trace.reset_h, at.reset_h.data() + begin, w.H);
  }

  // Of a shard in which no row has a step.
  void clear_sums(index i) {
    for (const Accumulator<T>* a :
         {&d_weight_ih, &d_bias_ih, &d_weight_hh[0], &d_weight_hh[1], &d_bias_hh[0], &d_bias_hh[1]}) {
      if (a->sum) std::fill_n(a->sum.data() + i * a->size, a->size, T(0));
      for (index r = 0; a->direct && r < a->direct.shape[0]; ++r)
        std::fill_n(a->direct.data + r * a->direct.stride[0], a->direct.shape[1], T(0));
    }
  }

  // `to` += D^T . A for the rows and the gate gradients D of `o`, in the panels of this member: A's rows stand at
  // a + rows_of_a[.] (null: all at a).
  void add_outer(Outer<T> o, index i, const Team& team, const Accumulator<T>& to, const T* a, const index* rows_of_a,
                 index last) const {
    if (!to.side) return;
    const index L = w.kernels->lanes, first_panel = team.begin(panels), last_panel = team.end(panels);
    if (to.direct) {
      const T* const gates = o.d;
      o.a_stride = o.d_stride;
      o.d = a;
      o.d_offset = rows_of_a;
      o.column = to.columns.data();
      o.columns = index(to.columns.size());
      o.c_stride = to.direct.stride[0];
      for (index p = first_panel; p < last_panel; ++p)
        for (int c = 0; c < to.side->count; ++c) {
          o.a = gates + p * to.plane + to.side->slot[c] * units.slot_stride(p);
          o.last = units.units(p);
          o.c = to.direct.data + (to.side->gate[c] * w.H + p * L) * o.c_stride;
          w.kernels->outer(o);
        }
      return;
    }
    o.a = a;
    o.a_offset = rows_of_a;
    o.last = last;
    const index first = first_panel * to.side->count;  // only the last panel may have fewer vectors
    o.column = to.columns.data() + first;
    o.columns = std::min(last_panel * to.side->count, index(to.columns.size())) - first;
    o.c = to.sum.data() + i * to.size + first * L;
    o.c_stride = to.stride;
    w.kernels->outer(o);
  }

  // Adds the gate gradients of so many rows, the `first` of the walk and those after it, to those of their tokens, in the
  // panels of this member.
  void sum_tokens(index i, const T* gates, const Team& team, index first, index count) {
    const TokenSums<T>& k = tokens[size_t(i)];
    const index L = w.kernels->lanes;  // x adds to the first slots
    for (index p = team.begin(panels); p < team.end(panels); ++p)
      w.kernels->scatter_add(count, k.at.data() + first, units.vectors(p, cell.x_all.count) * L, row_values,
                             gates + p * plane, token_values, k.sums.data() + p * cell.x_all.count * L);
  }

  // What the chunks of a shard left for W: one product per distinct token.
  void token_gradients(index i, Team& team) {
    TokenSums<T>& k = tokens[size_t(i)];
    Outer<T> o{};
    o.fresh = true;
    o.rows = k.count();
    o.d = k.sums.data();
    o.d_stride = token_values;
    add_outer(o, i, team, d_weight_ih, w.x.data, k.row.data(), w.I);
    add_outer(o, i, team, d_bias_ih, &one, nullptr, 1);
    team.barrier();  // all panels are summed
    if (g.x) input_gradient(k.count(), k.sums.data(), token_values, k.grad.data(), k.out.data(), team);
  }

  // dL/dh0 = (gate gradients of the first step) . R * recurrent_mask + what did not pass through R.
  void initial_gradient(const Shard<T>& shard, Scratch<T>& t) {
    const index active = shard.schedule.active(0);
    if (active > 0) {
      Gemm<T> m = take_back(ring_at(t, shard.schedule, 0), row_values, active, h_runs[0], w.weight_hh_t[0], w.H);
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
    if (w.distinct && g.x)
      add_token_gradients(*w.kernels, tokens, *w.distinct, w.I,
                          plan_threads(4.0 * double(w.distinct->vocabulary * w.I), num_threads()), g.x);
    const auto give = [&](const Accumulator<T>& from, const Side& side, const View<T>& to) {
      if (from.sum) unpack_gradient(*w.kernels, from.sum.data(), shards, from.size, from.stride, side, units, to);
    };
    give(d_weight_ih, cell.x_all, g.weight_ih);
    give(d_bias_ih, cell.x_all, g.bias_ih);
    for (int p = 0; p < cell.phases; ++p) {
      give(d_weight_hh[p], cell.h_all[p], g.weight_hh);
      give(d_bias_hh[p], cell.h_all[p], g.bias_hh);
    }
  }

  static constexpr T one = 1;

  const State<T>& w;
  const CellLayout& cell;
  const View<const T>&dy, &dh_n, &dc_n;
  const RnnGradients<T>& g;
  const UnitPanels units;
  index shards, rows, chunk;                    // rows: of the largest shard
  index panels = 1, row_values = 0, plane = 0;  // of the ring: values of a row of a plane, and from plane to plane
  index token_values = 0;                       // of a row of sums over tokens
  std::vector<TokenSums<T>> tokens;             // of each shard
  RnnInputs<T> inputs;                          // with checkpoints: of the second forward pass
  ProjectedTokens<T> projected;                 // of its tokens
  const RnnOutputs<T> no_outputs{};
  std::optional<ForwardPass<T>> forward;
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
