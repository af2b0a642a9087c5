// The time loop, for one call's first pass over all steps and for backward's second pass over some.
#pragma once

#include <algorithm>
#include <cstring>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include "matrices.hpp"
#include "pipeline.hpp"
#include "plan.hpp"
#include "threads.hpp"
#include "weights.hpp"
#include "workspace.hpp"

namespace fastrnn {

// The time loop of a shard, for one member of the team that works on it. Either members compute the units of their own
// panels and meet after each product, because the next one reads all units; or, in a pipeline, one computes the steps
// and the others the input products ahead of it. Products of h read W, those of x read X.
template <class T, class W = T>
class ForwardPass {
  static constexpr bool kReduced = !std::is_same_v<T, W>;
  using X = std::conditional_t<kReduced, Bfloat16, T>;

 public:
  using State = typename Workspace<T>::State;

  ForwardPass(const State& w, const typename PackedWeights<T>::State& weights, const RnnInputs<T>& in,
              const RnnOutputs<T>& out)
      : w(w), weights(weights), in(in), out(out) {
    const index rows = std::max<index>(w.rows, 1);
    index values = 0;
    for (int p = 0; p < w.cell->phases; ++p) values += weights.panels() * weights.start_values(p);
    if (projects()) {
      const index steps = std::max<index>(w.checkpoint > 0 ? w.checkpoint : w.steps, 1);
      chunk = projected_steps(rows, size_t(values) * sizeof(T), size_t(values * w.I) * sizeof(X), w.matrices_x, steps);
      if (w.pipelined) {
        block = block_steps(rows, w.matrices_x);
        chunk = (chunk + block - 1) / block * block;
      }
    }
    const size_t units = size_t(weights.panels() * w.kernels->lanes);
    const size_t recurrent = size_t(w.H) * units * size_t(w.cell->h[0].count) * sizeof(T);
    // with one row, whose weights come from beyond the first cache; not worth it if most of it is a beginning and an end
    beside = !kReduced && rows == 1 && projects() && !w.pipelined && !w.matrices_x && w.kernels->beside &&
             w.cell->phases == 1 && w.I >= kBesideRows && w.steps >= 4 * kBesideRows && recurrent > size_t(kRowWaits);
    chunk_rows = beside ? kBlocks * kBesideRows : chunk * rows;
  }

  // Room for the input products of a chunk; one for each team.
  struct Scratch {
    Buffer<T> start[kMaxPhases];
    InputRows<T, X> x;
    std::unique_ptr<BlocksAhead> blocks;  // in a pipeline
  };
  Scratch scratch() const {
    Scratch s;
    if (!projects()) return s;
    s.x = InputRows<T, X>(chunk_rows, w.I);
    for (int p = 0; p < w.cell->phases; ++p)
      s.start[p] = Buffer<T>(size_t(chunk_rows * weights.panels() * weights.start_values(p)));
    if (w.pipelined) s.blocks = std::make_unique<BlocksAhead>(chunk / block);
    return s;
  }

  // All steps, with outputs and checkpoints.
  void run(const Shard<T>& shard, Scratch& scratch, Team& team) const {
    const Schedule& schedule = shard.schedule;
    if (team.rank == 0) {
      zero_padding(out.output, schedule, w.options.batch_first);
      const TraceBuffers<T>& initial = shard.trace;  // of rows without steps
      give_state(shard, initial.h.data(), initial.c.data(), schedule.active(0), shard.rows());
      if (scratch.blocks) scratch.blocks->reset();
    }
    team.barrier();  // nobody writes an output before the padding is zeroed
    steps(shard, shard.trace.from(schedule, 0, shard.rows(), w.kept), schedule.steps(), scratch, team);
  }

  // The steps [begin, end) once more, from the checkpoint before them; everything is kept in `buffers`.
  Trace<T> again(const Shard<T>& shard, index begin, index end, const TraceBuffers<T>& buffers, Scratch& scratch,
                 Team& team) const {
    const index entering = shard.schedule.active(begin), stride = w.state_stride;
    const index border = shard.border[size_t(begin / w.checkpoint)] * stride;
    const Trace<T> trace = buffers.from(shard.schedule, begin, entering, true);
    team.barrier();  // another member may still read what stands in the buffers
    if (team.rank == 0 && scratch.blocks) scratch.blocks->reset();
    copy_units(shard.border_h.data() + border, trace.h, entering, team);
    if (trace.c) copy_units(shard.border_c.data() + border, trace.c, entering, team);
    for (index r = 0; trace.operand && r < entering; ++r)
      for (index u = r * stride + first_unit(team); u < r * stride + last_unit(team); ++u)
        trace.operand[u] = trace.h[u] * shard.recurrent_mask.data()[u];
    team.barrier();
    steps(shard, trace, end, scratch, team);
    if (scratch.blocks) team.barrier();  // one member walks, and all read what it leaves
    return trace;
  }

 private:
  bool projects() const { return w.chunked && !in.table; }
  index first_unit(const Team& team) const { return team.begin(weights.panels()) * w.kernels->lanes; }
  index last_unit(const Team& team) const { return team.end(weights.panels()) * w.kernels->lanes; }

  void copy_units(const T* from, T* to, index rows, const Team& team) const {
    const index first = first_unit(team), count = last_unit(team) - first;
    for (index at = first; at < rows * w.state_stride; at += w.state_stride)
      std::memcpy(to + at, from + at, size_t(count) * sizeof(T));
  }

  void steps(const Shard<T>& shard, const Trace<T>& trace, index end, Scratch& scratch, Team& team) const {
    std::vector<index> at(static_cast<size_t>(chunk_rows));
    MatrixRoom room(w.matrices_x && projects());
    if (scratch.blocks && team.size > 1) {
      Team alone;
      const auto ahead = [&](index i) {
        const index first = trace.begin + i * block;
        project(shard, scratch, alone, trace.begin, first, std::min(first + block, end), at, room);
      };
      if (team.rank > 0) return scratch.blocks->help(team, (end - trace.begin + block - 1) / block, ahead);
      return walk(shard, trace, end, block, scratch, alone, [&](index first, index) -> Stretch {
        scratch.blocks->enter(team, (first - trace.begin) / block, ahead);
        return {row_of_chunk(shard.schedule, trace.begin, first), nullptr};
      });
    }
    if (!projects()) return walk(shard, trace, end, end, scratch, team, [](index, index) { return Stretch{}; });
    if (!beside)
      return walk(shard, trace, end, chunk, scratch, team, [&](index first, index last) {
        project(shard, scratch, team, trace.begin, first, last, at, room);
        return Stretch{};
      });
    // The steps of one row take along the input products of the next stretch, a share each (step_beside.hpp). What they
    // do not make, of the first stretch and of a shorter one at the end, is made as above.
    ForwardStep<T, X> later{};
    bool made = false;
    walk(shard, trace, end, kBesideRows, scratch, team, [&](index first, index last) {
      if (!made) project(shard, scratch, team, trace.begin, first, last, at, room);
      Stretch stretch{row_of_chunk(shard.schedule, trace.begin, first), nullptr};
      made = last + kBesideRows <= end;
      if (!made) return stretch;
      later = projecting(shard, scratch, team, trace.begin, last, last + kBesideRows, at);
      projecting(later, scratch, 0, row_of_chunk(shard.schedule, trace.begin, last));
      if constexpr (!kReduced) stretch.beside = &later;
      return stretch;
    });
  }

  // Of some steps: the row of the chunk's buffers where the input products of the first begin, and what the steps take
  // along, or null.
  struct Stretch {
    index row = 0;
    ForwardStep<T, W>* beside = nullptr;
  };

  // All steps up to `end`, `length` at a time: prepare(first, last) comes before each such stretch. With one row a step
  // takes 150 nanoseconds and less, so what stays the same is set once.
  template <class F>
  void walk(const Shard<T>& shard, const Trace<T>& trace, index end, index length, Scratch& scratch, Team& team,
            const F& prepare) const {
    const Schedule& schedule = shard.schedule;
    const CellLayout& cell = *w.cell;
    const int batch_axis = w.options.batch_first ? 0 : 1;
    ForwardStep<T, W> step = common<W>(team);
    step.recurrent_mask = shard.recurrent_mask.data();
    step.quantum = shard.quantum.data();
    step.x_ahead = shard.x.base(1);
    std::optional<RowOffsets> y_offsets;
    if (out.output) {
      y_offsets.emplace(schedule, out.output.stride[batch_axis], out.output.stride[1 - batch_axis]);
      step.y_ahead = y_offsets->base(1);
    }
    W* const operand = operand_rows<W>(trace.operand);
    W* const reset_h = operand_rows<W>(trace.reset_h);
    Starts starts(*this, shard.rows());
    index h_next = trace.block(trace.begin) * w.state_stride;
    for (index first = trace.begin, last; first < end; first = last) {
      last = std::min(first + length, end);
      const Stretch stretch = prepare(first, last);
      step.beside = stretch.beside;
      for (index s = first; s < last; ++s) {
        const index h = std::exchange(h_next, trace.block(s + 1) * w.state_stride);
        step.rows = schedule.start[s + 1] - schedule.start[s];
        step.recurrent = s == 0 && w.from_zero ? 0 : w.H;
        step.descending = s % 2 != 0;
        step.h_prev = trace.h + h;
        step.h_next = trace.h + h_next;
        if constexpr (!kReduced) step.operand = step.h_prev;
        if (operand) {
          step.operand = operand + h;
          step.operand_next = operand + h_next;
        }
        if (trace.c) {
          step.c_prev = trace.kept ? trace.c + h : trace.c;
          step.c_next = trace.kept ? trace.c + h_next : trace.c;
        }
        if (trace.saved) step.saved = trace.saved + trace.row(s) * w.saved_stride;
        if (reset_h) step.reset_h = reset_h + trace.row(s) * w.state_stride;
        if (y_offsets) {
          step.y = out.output.data + y_offsets->base(s);
          step.y_offset = y_offsets->at(s);
        }
        if (stretch.beside) {
          stretch.beside->share_first = w.I * (s - first) / kBesideRows;
          stretch.beside->share_last = w.I * (s - first + 1) / kBesideRows;
        }
        if (!trace.kept && w.checkpoint > 0 && s % w.checkpoint == 0) keep_border(shard, step, s, team);
        for (int p = 0; p < cell.phases; ++p) {
          begin_at(shard, scratch, step, s, stretch.row + schedule.start[s] - schedule.start[first], p, starts);
          step.weight_hh = weights.template hh<W>(p);
          step.scale = weights.reduced_hh[p].scale.data();
          step.offset = weights.reduced_hh[p].offset.data();
          weights.run(p, step);
          team.barrier();
        }
        if (team.rank == 0) give_state(shard, step.h_next, step.c_next, schedule.active(s + 1), step.rows);
      }
    }
  }

  // Each member its own units, which nobody else writes.
  void keep_border(const Shard<T>& shard, const ForwardStep<T, W>& step, index s, const Team& team) const {
    const index border = shard.border[size_t(s / w.checkpoint)] * w.state_stride;
    copy_units(step.h_prev, shard.border_h.data() + border, step.rows, team);
    if (step.c_prev) copy_units(step.c_prev, shard.border_c.data() + border, step.rows, team);
  }

  template <class V>
  ForwardStep<T, V> common(const Team& team) const {
    ForwardStep<T, V> step{};
    step.first_panel = team.begin(weights.panels());
    step.last_panel = team.end(weights.panels());
    step.fold = weights.units.fold;
    step.folded = weights.units.folded();
    step.hidden = w.H;
    step.state_stride = w.state_stride;
    step.saved_stride = w.saved_stride;
    step.gate = w.options.gate;
    step.candidate = w.options.candidate;
    step.output = w.options.output;
    return step;
  }

  void give_state(const Shard<T>& shard, const T* h, const T* c, index first, index last) const {
    for (index r = first; r < last; ++r) {
      scatter_row<T>(h + r * w.state_stride, shard.schedule, r, w.H, out.h_n);
      if (w.cell->has_c) scatter_row<T>(c + r * w.state_stride, shard.schedule, r, w.H, out.c_n);
    }
  }

  // A step that makes bias + x.W of the steps [begin, end) of a trace that starts at `origin`, for the panels of this
  // member.
  ForwardStep<T, X> projecting(const Shard<T>& shard, Scratch& scratch, Team& team, index origin, index begin, index end,
                               std::vector<index>& at) const {
    ForwardStep<T, X> step = common<X>(team);
    const index first = row_of_chunk(shard.schedule, origin, begin);
    index last = first;
    for (index s = begin; s < end; ++s)
      for (index r = 0; r < shard.schedule.active(s); ++r) at[size_t(last++)] = shard.x.base(s) + shard.x.at(s)[r];
    step.rows = last - first;
    step.inputs = w.I;
    step.x = scratch.x.fill(weights.reduced, in.x.data, at.data(), first + team.begin(step.rows),
                            first + team.end(step.rows));
    scratch.x.place(at.data(), first, last);
    step.x_offset = at.data() + first;
    if (kReduced) team.barrier();  // all rows are copied
    return step;
  }
  // Of phase p, from row `first` of the chunk on.
  void projecting(ForwardStep<T, X>& step, Scratch& scratch, int p, index first) const {
    step.weight_ih = weights.template ih<X>(p);
    step.start = weights.bias[p].data();
    step.start_panel = step.projected_row = weights.start_values(p);
    step.projected_panel = chunk_rows * step.projected_row;
    step.projected = scratch.start[p].data() + first * step.projected_row;
  }
  void project(const Shard<T>& shard, Scratch& scratch, Team& team, index origin, index begin, index end,
               std::vector<index>& at, MatrixRoom& room) const {
    ForwardStep<T, X> step = projecting(shard, scratch, team, origin, begin, end, at);
    for (int p = 0; p < w.cell->phases; ++p) {
      projecting(step, scratch, p, row_of_chunk(shard.schedule, origin, begin));
      if constexpr (std::is_same_v<X, float>) {
        if (w.matrices_x && weights.tiles_ih[p]) {
          project_by_matrices(weights, p, step, begin - origin < chunk, room);
          continue;
        }
      }
      weights.run(p, step);
    }
  }
  // Of the rows of step s, the first, in the buffers of its chunk.
  index row_of_chunk(const Schedule& schedule, index origin, index s) const {
    if (beside) return (s - origin) % (kBlocks * kBesideRows);
    return schedule.start[s] - schedule.start[s - (s - origin) % chunk];
  }

  // Of the rows of a step, where the accumulators of each begin, from the first row's: in the buffers of a chunk, or in the
  // table.
  struct Starts {
    std::vector<index> at[kMaxPhases];

    Starts(const ForwardPass& pass, index rows) {
      for (int p = 0; p < pass.w.cell->phases; ++p)
        for (index r = 0; r < rows; ++r) at[p].push_back(r * pass.weights.start_values(p));
    }
  };

  // Where the accumulators of step s begin: at the bias, at the input products of the chunk, of which those of the step
  // begin at `row`, or at rows of the table.
  void begin_at(const Shard<T>& shard, Scratch& scratch, ForwardStep<T, W>& step, index s, index row, int p,
                Starts& starts) const {
    const index values = weights.start_values(p);
    if constexpr (!kReduced) {
      if (!w.chunked && !in.table) {
        step.inputs = w.I;
        step.x = in.x.data + shard.x.base(s);
        step.x_offset = shard.x.at(s);
        step.weight_ih = weights.weight_ih[p].data();
        step.start = weights.bias[p].data();
        step.start_panel = values;
        return;
      }
    }
    step.start_offset = starts.at[p].data();
    if (in.table) {
      for (index r = 0; r < step.rows; ++r)
        starts.at[p][size_t(r)] = in.tokens.data[shard.x.base(s) + shard.x.at(s)[r]] * weights.panels() * values;
      step.start = in.table.state->start[p].data();
      step.start_panel = values;
      return;
    }
    step.start = scratch.start[p].data() + row * values;
    step.start_panel = chunk_rows * values;
  }

  const State& w;
  const typename PackedWeights<T>::State& weights;
  const RnnInputs<T>& in;
  const RnnOutputs<T>& out;
  static constexpr index kBlocks = 2;  // of steps that are `beside`: those under way and the next
  bool beside = false;
  index chunk = 1, chunk_rows = 1, block = 1;
};

}  // namespace fastrnn
