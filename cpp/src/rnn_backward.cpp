// Backpropagation through time.
//
// A team walks the rows of a shard from the last step to the first: gate gradients go into a small ring, in this order.
// After every chunk of steps, or behind the walker in a pipeline, the gate gradients, still in cache, become dx and
// weight gradients (gradient_sums.hpp), always in the order of the walk. The ring holds two chunks, because a chunk's
// first product reads the last step of the one before. With checkpoints, the forward values of a stretch of chunks are
// computed again before the team walks through it.
#include <algorithm>
#include <optional>
#include <vector>

#include "checks.hpp"
#include "embedded_tokens.hpp"
#include "forward_pass.hpp"
#include "gradient_sums.hpp"
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

// What a team needs while it works on a shard. Gate gradients of a chunk: planes of panels, in a plane the packed rows
// of the chunk's steps, (slots, L) each.
template <class T>
struct Scratch {
  Buffer<T> ring[2], direct, dc, dh_n, through_r;
  TraceBuffers<T> trace;  // with checkpoints: of one stretch
  typename ForwardPass<T>::Scratch forward;
  std::unique_ptr<StreamsBehind> streams;  // in a pipeline
};

template <class T>
class Backward {
 public:
  Backward(const State<T>& w, const View<const T>& grad_output, const View<const T>& grad_h_n,
           const View<const T>& grad_c_n, const RnnGradients<T>& g)
      : w(w), cell(*w.cell), dy(grad_output), dh_n(grad_h_n), dc_n(grad_c_n), g(g),
        units(cell, w.H, w.kernels->lanes), panels(units.count()), row_values(cell.slots * w.kernels->lanes),
        plane(w.chunk * w.rows * row_values), sums(w, g, units, plane) {
    if (w.checkpoint > 0) {
      inputs.x = w.x;
      if (w.distinct) {
        projected = ProjectedTokens<T>(w, w.weights);
        projected.replace_x(inputs);
      }
      forward.emplace(w, *w.weights.state, inputs, no_outputs);
    }
    for (int p = 0; p < cell.phases; ++p) h_runs[p] = backward_runs(cell.h_all[p], units, plane);
  }

  void run() {
    const double flops = w.backward_flops();
    const TeamPlan plan = w.backward_team();
    const index shards = index(w.shards.size()), rows = w.rows;
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
    sums.finish();
  }

 private:
  // For one member of the team. Either it computes the gate gradients of its own panels, and meets the others after
  // each product, because the next one reads all panels; or one member computes all of them.
  void run_shard(index i, Scratch<T>& t, Team& team) {
    const Shard<T>& shard = w.shards[size_t(i)];
    const Schedule& s = shard.schedule;
    const RowOffsets dy_offsets = shard_offsets(w, shard, dy.stride);
    if (team.rank == 0) {
      sums.begin(i);
      std::fill_n(t.direct.data(), shard.rows() * w.state_stride, T(0));
      gather_rows(dh_n, s, t.dh_n.data(), w.state_stride, w.H);
      if (cell.has_c) gather_rows(dc_n, s, t.dc.data(), w.state_stride, w.H);
      if (t.streams) t.streams->reset();
    }
    team.barrier();
    const bool pipelined = t.streams && team.size > 1;
    Team alone;
    Team& walkers = pipelined ? alone : team;
    ChunkRows<T> rows(w, g, shard);
    MemberRoom<T> room = sums.member_room();
    BackwardStep<T> b = common(shard, t, walkers, dy_offsets);
    Trace<T> trace = shard.trace.from(s, 0, shard.rows(), true);
    for (index end = s.steps(); end > 0;) {
      const index begin = (end - 1) / w.chunk * w.chunk;
      if (forward && (end == s.steps() || end % w.checkpoint == 0))
        trace = forward->again(shard, (end - 1) / w.checkpoint * w.checkpoint, end, t.trace, t.forward, team);
      T* const ring = t.ring[begin / w.chunk % 2].data();
      for (index step = end - 1; step >= begin && !(pipelined && team.rank > 0); --step) {
        const index active = s.active(step), later = s.active(step + 1);
        const T* const next = b.gates;  // of the later step
        b.gates = ring + (s.start[end] - s.start[step + 1]) * row_values;
        place(b, trace, dy_offsets, step);
        for (int p = 0; p < cell.phases; ++p) {
          // rows that go on: the first phase takes back what the later step left, a second one what the first has just
          // computed
          if (later > 0) run_rows(b, room, p, 0, later, p > 0 ? b.gates : next);
          if (later < active) {  // rows that end here
            b.grad_h_n = dh_n ? t.dh_n.data() : nullptr;
            run_rows(b, room, p, later, active, p > 0 ? b.gates : nullptr);
            b.grad_h_n = nullptr;
          }
          walkers.barrier();
        }
        if (pipelined) t.streams->advance(s.total() - s.start[step]);
      }
      rows.list(trace, begin, end, ring);
      if (pipelined) {
        // dx is one stream, and so is each member's share of a weight gradient
        const index at_once[] = {pipeline_rows(w.matrices_dx), pipeline_sums(w.matrices_dw), pipeline_sums(w.matrices_dr)};
        const auto gradient = [](int stream) {
          return stream == 0 ? Gradient::input : stream % 2 == 1 ? Gradient::weight_ih : Gradient::weight_hh;
        };
        const auto rows_at_once = [&](int stream) { return at_once[int(gradient(stream))]; };
        t.streams->follow(team, 1 + 2 * team.size, rows_at_once, rows.last, [&](int stream, index from, index to) {
          const Gradient of = gradient(stream);
          const Team share = stream == 0 ? Team() : Team((stream - 1) / 2, team.size);
          sums.add(of, i, rows, from, to, share, room);
        });
      } else {
        for (Gradient of : {Gradient::input, Gradient::weight_ih, Gradient::weight_hh})
          sums.add(of, i, rows, rows.first, rows.last, team, room);
      }
      end = begin;
    }
    sums.finish_shard(i, team, room);
    if (team.rank > 0) return;
    if (g.h0) initial_gradient(shard, t, b.gates);
    if (g.c0)
      for (index r = 0; r < shard.rows(); ++r) scatter_row<T>(t.dc.data() + r * w.state_stride, s, r, w.H, g.c0);
  }

  // What the steps of a shard have in common.
  BackwardStep<T> common(const Shard<T>& shard, Scratch<T>& t, const Team& team, const RowOffsets& dy_offsets) const {
    BackwardStep<T> b{};
    b.first_panel = team.begin(panels);
    b.last_panel = team.end(panels);
    b.fold = units.fold;
    b.folded = units.folded();
    b.hidden = w.H;
    b.gates_panel = plane;
    b.state_stride = w.state_stride;
    b.recurrent_mask = shard.recurrent_mask.data();
    b.saved_stride = w.saved_stride;
    b.dy_ahead = -dy_offsets.base(1);
    b.dc = t.dc.data();
    b.direct = t.direct.data();
    b.gate = w.options.gate;
    b.candidate = w.options.candidate;
    b.output = w.options.output;
    return b;
  }

  void place(BackwardStep<T>& b, const Trace<T>& trace, const RowOffsets& dy_offsets, index step) const {
    const index h = trace.block(step + 1) * w.state_stride, h_prev = trace.block(step) * w.state_stride;
    b.descending = step % 2 != 0;
    if (dy) b.dy = dy.data + dy_offsets.base(step);
    b.dy_offset = dy_offsets.at(step);
    if (trace.saved) b.saved = trace.saved + trace.row(step) * w.saved_stride;
    b.h = trace.h + h;
    b.h_prev = trace.h + h_prev;
    if (trace.c) {
      b.c = trace.c + h;
      b.c_prev = trace.c + h_prev;
    }
    if (step > trace.begin) {
      b.saved_ahead = (trace.row(step - 1) - trace.row(step)) * w.saved_stride;
      b.state_ahead = (trace.block(step - 1) - trace.block(step)) * w.state_stride;
    }
  }

  // The rows [first, last) of a step, whose dh comes from the gate gradients `next`, if any.
  void run_rows(BackwardStep<T>& b, MemberRoom<T>& room, int p, index first, index last, const T* next) const {
    b.first_row = first;
    b.rows = last - first;
    b.next = next;
    b.weight_hh_t = w.backward_weights.hh[p].data();
    b.segment = h_runs[p].offset.data();
    b.segment_length = h_runs[p].length.data();
    b.segments = h_runs[p].count();
    const index K = w.H * cell.h_all[p].count;
    b.room = gathered_room<T>(b.rows, K, b.last_panel - b.first_panel, w.kernels->lanes) > 0 ? room.gathered.data() : nullptr;
    w.kernels->backward[int(w.options.cell)][p](b);
  }

  // dL/dh0 = (`gates`, the gate gradients of the first step) . R * recurrent_mask + what did not pass through R.
  void initial_gradient(const Shard<T>& shard, Scratch<T>& t, const T* gates) {
    const index active = shard.schedule.active(0);
    if (active > 0) {
      Gemm<T> m = take_back<T>(gates, row_values, active, h_runs[0], w.backward_weights.hh[0], w.H);
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

  const State<T>& w;
  const CellLayout& cell;
  const View<const T>&dy, &dh_n, &dc_n;
  const RnnGradients<T>& g;
  const UnitPanels units;
  const index panels, row_values, plane;  // of the ring: values of a row of a plane, and from plane to plane
  RnnInputs<T> inputs;                    // with checkpoints: of the second forward pass
  ProjectedTokens<T> projected;           // of its tokens
  const RnnOutputs<T> no_outputs{};
  std::optional<ForwardPass<T>> forward;
  Runs h_runs[kMaxPhases];
  GradientSums<T> sums;
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
