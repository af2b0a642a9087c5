// What gate gradients become: dx and the sums dW, dR and db. Every shard sums its own, in the order in which its rows
// were walked; the sums are added up in order at the end, so that they do not depend on the number of threads.
#pragma once

#include <algorithm>
#include <vector>

#include "embedded_tokens.hpp"
#include "matrices.hpp"
#include "plan.hpp"
#include "threads.hpp"
#include "workspace.hpp"

namespace fastrnn {

// A sum over the rows of the chunks: dW, dR or db. The first chunk fills it. One per shard, transposed, in the order of
// the packed columns; or the gradient that the caller asked for, where its rows are whole vectors.
template <class T>
struct Accumulator {
  const Side* side = nullptr;  // null: not asked for
  View<T> direct;
  std::vector<index> columns;  // vectors of gate gradients, or of direct's rows
  index plane = 0, stride = 0, size = 0;
  Buffer<T> sum;

  Accumulator() = default;
  Accumulator(const Side& side, const UnitPanels& panels, index plane, const typename Workspace<T>::State& w,
              const View<T>& grad)
      : side(&side), plane(plane) {
    const index L = panels.lanes, J = grad.ndim == 2 ? grad.shape[1] : 1, shards = index(w.shards.size());
    const bool whole = !(w.matrices_dw || w.matrices_dr) || panels.hidden % L == 0;  // as tiles of matrices have to be
    if (grad.ndim == 2 && sums_in_place(w.total, shards) && grad.stride[1] == 1 && J % L == 0 && whole) {
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

// Where a shard's rows stand in an array of these strides, (B, T, .) or (T, B, .).
template <class T>
RowOffsets shard_offsets(const typename Workspace<T>::State& w, const Shard<T>& shard, const index* stride) {
  const int batch_axis = w.options.batch_first ? 0 : 1;
  return RowOffsets(shard.schedule, stride[batch_axis], stride[1 - batch_axis]);
}

// The rows of a chunk in the order of the walk, `first` to `last` of it: their gate gradients, and offsets of theirs in
// x, dx, h and r*h. Every member of a team has its own.
template <class T>
struct ChunkRows {
  index first = 0, last = 0;
  const T* gates = nullptr;
  const Trace<T>* trace = nullptr;
  std::vector<index> x, dx, h, reset_h;

  ChunkRows(const typename Workspace<T>::State& w, const RnnGradients<T>& g, const Shard<T>& shard)
      : x(size_t(w.chunk * w.rows)), dx(x), h(x), reset_h(x), w_(w), shard_(shard),
        dx_offsets_(shard_offsets(w, shard, w.distinct ? kNone : g.x.stride)) {}

  void list(const Trace<T>& steps, index begin, index end, const T* gate_gradients) {
    const Schedule& s = shard_.schedule;
    first = s.total() - s.start[end];
    last = s.total() - s.start[begin];
    gates = gate_gradients;
    trace = &steps;
    size_t n = 0;
    for (index step = end - 1; step >= begin; --step)
      for (index r = 0; r < s.active(step); ++r, ++n) {
        x[n] = shard_.x.base(step) + shard_.x.at(step)[r];
        dx[n] = dx_offsets_.base(step) + dx_offsets_.at(step)[r];
        h[n] = (steps.block(step) + r) * w_.state_stride;
        reset_h[n] = (steps.row(step) + r) * w_.state_stride;
      }
  }

 private:
  static constexpr index kNone[2] = {0, 0};
  const typename Workspace<T>::State& w_;
  const Shard<T>& shard_;
  const RowOffsets dx_offsets_;
};

// That of a bias goes with its weight.
enum class Gradient { input, weight_ih, weight_hh };

// C = (gate gradients from `gates` on) . weight.
template <class T>
Gemm<T> take_back(const T* gates, index stride, index count, const Runs& runs, const Buffer<T>& weight, index columns) {
  Gemm<T> m{};
  m.rows = count;
  m.a = gates;
  m.a_stride = stride;
  m.segment = runs.offset.data();
  m.segment_length = runs.length.data();
  m.segments = runs.count();
  m.b = weight.data();
  m.narrow = true;
  m.columns = columns;
  return m;
}

// Where one member of a team works; `gathered` is empty where no product gathers its rows (gathered_room).
template <class T>
struct MemberRoom {
  MatrixRoom matrices;
  Buffer<T> gathered;
};

// The gradients of all shards, from the gate gradients that backward's walk leaves.
template <class T>
class GradientSums {
 public:
  // `plane`: from panel to panel of the gate gradients.
  GradientSums(const typename Workspace<T>::State& w, const RnnGradients<T>& g, const UnitPanels& units, index plane)
      : w(w), cell(*w.cell), g(g), units(units), panels(units.count()), row_values(cell.slots * w.kernels->lanes),
        token_values(panels * cell.x_all.count * w.kernels->lanes), plane(plane) {
    // W meets the gate gradients, or their sums over tokens
    const index x_plane = w.distinct ? index(cell.x_all.count) * w.kernels->lanes : plane;
    x_runs = backward_runs(cell.x_all, units, x_plane);
    if (g.weight_ih) d_weight_ih = Accumulator<T>(cell.x_all, units, x_plane, w, g.weight_ih);
    if (g.bias_ih) d_bias_ih = Accumulator<T>(cell.x_all, units, x_plane, w, g.bias_ih);
    if (w.distinct) tokens.resize(w.shards.size());
    for (int p = 0; p < cell.phases; ++p) {
      if (g.weight_hh) d_weight_hh[p] = Accumulator<T>(cell.h_all[p], units, plane, w, g.weight_hh);
      if (g.bias_hh) d_bias_hh[p] = Accumulator<T>(cell.h_all[p], units, plane, w, g.bias_hh);
    }
  }

  MemberRoom<T> member_room() const {
    const index L = w.kernels->lanes, x_panels = panels_of(w.I, int(L));
    index values = 0;
    if (g.x && !w.distinct && !w.matrices_dx)
      values = gathered_room<T>(w.chunk * w.rows, w.H * cell.x_all.count, x_panels, L);
    for (int p = 0; p < cell.phases; ++p)
      values = std::max(values, gathered_room<T>(w.rows, w.H * cell.h_all[p].count, panels, L));
    MemberRoom<T> room{MatrixRoom(w.matrices_dx || w.matrices_dw || w.matrices_dr), {}};
    if (values > 0) room.gathered = Buffer<T>(size_t(values));
    return room;
  }

  // Of shard i, by one member before any rows.
  void begin(index i) {
    const Shard<T>& shard = w.shards[size_t(i)];
    if (w.distinct)
      tokens[size_t(i)] = TokenSums<T>(w, shard, token_values, g.x ? w.I : 0);
    else
      zero_padding(g.x, shard.schedule, w.options.batch_first);
  }

  // What the rows [begin, end) of the walk, which belong to this chunk, add to a gradient, in the share of this member.
  void add(Gradient of, index i, const ChunkRows<T>& rows, index begin, index end, const Team& team,
           MemberRoom<T>& room) {
    const index at = begin - rows.first, count = end - begin;
    const T* const gates = rows.gates + at * row_values;
    if (of == Gradient::input) {
      if (w.distinct)
        sum_tokens(i, gates, team, begin, count);
      else if (g.x)
        input_gradient(count, gates, row_values, g.x.data, rows.dx.data() + at, team, room);
      return;
    }
    Outer<T> o{};
    o.fresh = begin == 0;
    o.rows = count;
    o.d = gates;
    o.d_stride = row_values;
    if (of == Gradient::weight_ih) {
      if (w.distinct) return;  // from their sums
      add_outer(o, i, team, d_weight_ih, w.x.data, rows.x.data() + at, w.I, w.matrices_dw ? &room.matrices : nullptr);
      add_outer(o, i, team, d_bias_ih, &one, nullptr, 1);
      return;
    }
    const Trace<T>& trace = *rows.trace;
    for (int p = 0; p < cell.phases; ++p) add_outer(o, i, team, d_bias_hh[p], &one, nullptr, 1);
    if (w.from_zero) {  // the first step of each row, which comes last, has met no h
      const Schedule& s = w.shards[size_t(i)].schedule;
      o.rows = std::min(end, s.total() - s.start[1]) - begin;
      for (int p = 0; o.rows <= 0 && o.fresh && team.rank == 0 && p < cell.phases; ++p) clear(d_weight_hh[p], i);
      if (o.rows <= 0) return;
    }
    MatrixRoom* const matrices = w.matrices_dr ? &room.matrices : nullptr;
    add_outer(o, i, team, d_weight_hh[0], trace.operand ? trace.operand : trace.h, rows.h.data() + at, w.H, matrices);
    if (cell.phases > 1)  // the second product read r*h_prev
      add_outer(o, i, team, d_weight_hh[1], trace.reset_h, rows.reset_h.data() + at, w.H, matrices);
  }

  // By every member, when all rows of the shard are in.
  void finish_shard(index i, Team& team, MemberRoom<T>& room) {
    if (w.shards[size_t(i)].schedule.steps() == 0) {
      for (const Accumulator<T>* a :
           {&d_weight_ih, &d_bias_ih, &d_weight_hh[0], &d_weight_hh[1], &d_bias_hh[0], &d_bias_hh[1]})
        if (team.rank == 0) clear(*a, i);
    } else if (w.distinct) {
      token_gradients(i, team, room);
    }
  }

  // When all shards are done: their sums are added up.
  void finish() {
    if (w.distinct && g.x)
      add_token_gradients(*w.kernels, tokens, *w.distinct, w.I,
                          plan_threads(4.0 * double(w.distinct->vocabulary * w.I), num_threads()), g.x);
    const auto give = [&](const Accumulator<T>& from, const Side& side, const View<T>& to) {
      if (!from.sum) return;
      unpack_gradient(*w.kernels, from.sum.data(), index(w.shards.size()), from.size, from.stride, side, units, to);
    };
    give(d_weight_ih, cell.x_all, g.weight_ih);
    give(d_bias_ih, cell.x_all, g.bias_ih);
    for (int p = 0; p < cell.phases; ++p) {
      give(d_weight_hh[p], cell.h_all[p], g.weight_hh);
      give(d_bias_hh[p], cell.h_all[p], g.bias_hh);
    }
  }

 private:
  // dx of `count` rows of gate gradients (of a chunk, or summed over tokens); members share the columns, or the rows
  // where there are few columns.
  void input_gradient(index count, const T* gates, index stride, T* dx, const index* dx_at, const Team& team,
                      MemberRoom<T>& room) {
    const int L = w.kernels->lanes;
    const index x_panels = panels_of(w.I, L);
    Gemm<T> m = take_back<T>(gates, stride, count, x_runs, w.backward_weights.ih, w.I);
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
    if constexpr (std::is_same_v<T, float>) {
      if (w.matrices_dx) {
        const index first = (m.b - w.backward_weights.ih.data()) / (w.H * cell.x_all.count * L);
        const char* tiles = w.backward_weights.tiles_ih.data();
        return gemm_by_matrices(*w.kernels, m, tiles + size_t(first) * matrix_tiles(w.H * cell.x_all.count),
                                room.matrices);
      }
    }
    if (!w.distinct && gathered_room<T>(m.rows, w.H * cell.x_all.count, panels_of(m.columns, L), L) > 0)
      m.room = room.gathered.data();
    w.kernels->gemm(m);
  }

  // Of a shard in which no row has a step that adds to it.
  void clear(const Accumulator<T>& a, index i) const {
    if (a.sum) std::fill_n(a.sum.data() + i * a.size, a.size, T(0));
    for (index r = 0; a.direct && r < a.direct.shape[0]; ++r)
      std::fill_n(a.direct.data + r * a.direct.stride[0], a.direct.shape[1], T(0));
  }

  // `to` += D^T . A for the rows and the gate gradients D of `o`, in the panels of this member: A's rows stand at
  // a + rows_of_a[.] (null: all at a).
  void add_outer(Outer<T> o, index i, const Team& team, const Accumulator<T>& to, const T* a, const index* rows_of_a,
                 index last, MatrixRoom* room = nullptr) const {
    if (!to.side) return;
    const index L = w.kernels->lanes, first_panel = team.begin(panels), last_panel = team.end(panels);
    if constexpr (std::is_same_v<T, float>) {
      if (room) return add_matrices(o, i, team, to, a, rows_of_a, last, *room);
    }
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

  // The same by the kernel for matrices.
  void add_matrices(const Outer<float>& o, index i, const Team& team, const Accumulator<float>& to, const float* a,
                    const index* rows_of_a, index last, MatrixRoom& room) const {
    const index L = w.kernels->lanes, first_panel = team.begin(panels), last_panel = team.end(panels);
    const index first = first_panel * to.side->count;
    std::vector<index> rows, rows_of_c;
    MatrixProduct m{};
    m.K = o.rows;
    m.add = !o.fresh;
    if (to.direct) {
      for (index p = first_panel; p < last_panel; ++p)
        for (int c = 0; c < to.side->count; ++c) {
          rows.push_back(p * to.plane + to.side->slot[c] * L);
          rows_of_c.push_back((to.side->gate[c] * w.H + p * L) * to.direct.stride[0]);
        }
      m.rows = index(rows.size()) * L;
      m.a = o.d;
      m.a_stride = o.d_stride;
      m.b = a;
      m.b_offset = rows_of_a;
      m.b_column = to.columns.data();
      m.columns = index(to.columns.size());
      m.c = to.direct.data;
      m.c_stride = to.direct.stride[0];
      m.c_block = rows_of_c.data();
    } else {
      rows = equally_spaced(panels_of(last, int(L)), L);
      m.rows = last;
      m.a = a;
      m.a_offset = rows_of_a;
      m.b = o.d;
      m.b_stride = o.d_stride;
      m.b_column = to.columns.data() + first;
      m.columns = std::min(last_panel * to.side->count, index(to.columns.size())) - first;
      m.c = to.sum.data() + i * to.size + first * L;
      m.c_stride = to.stride;
    }
    const std::vector<index> c_column = equally_spaced(m.columns, L);
    m.vector_of_rows = rows.data();
    m.c_column = c_column.data();
    if (m.rows > 0 && m.columns > 0 && m.K > 0) room.run(*w.kernels->matrices, m);
  }

  // Adds the gate gradients of so many rows, the `first` of the walk and those after it, to those of their tokens, in
  // the panels of this member.
  void sum_tokens(index i, const T* gates, const Team& team, index first, index count) {
    const TokenSums<T>& k = tokens[size_t(i)];
    const index L = w.kernels->lanes;  // x adds to the first slots
    for (index p = team.begin(panels); p < team.end(panels); ++p)
      w.kernels->scatter_add(count, k.at.data() + first, units.vectors(p, cell.x_all.count) * L, row_values,
                             gates + p * plane, token_values, k.sums.data() + p * cell.x_all.count * L);
  }

  // What the chunks of a shard left for W: one product per distinct token.
  void token_gradients(index i, Team& team, MemberRoom<T>& room) {
    TokenSums<T>& k = tokens[size_t(i)];
    Outer<T> o{};
    o.fresh = true;
    o.rows = k.count();
    o.d = k.sums.data();
    o.d_stride = token_values;
    add_outer(o, i, team, d_weight_ih, w.x.data, k.row.data(), w.I, w.matrices_dw ? &room.matrices : nullptr);
    add_outer(o, i, team, d_bias_ih, &one, nullptr, 1);
    team.barrier();  // all panels are summed
    if (g.x) input_gradient(k.count(), k.sums.data(), token_values, k.grad.data(), k.out.data(), team, room);
  }

  static constexpr T one = 1;

  const typename Workspace<T>::State& w;
  const CellLayout& cell;
  const RnnGradients<T>& g;
  const UnitPanels& units;
  const index panels, row_values, token_values, plane;  // of gate gradients, and of a row of sums over tokens
  std::vector<TokenSums<T>> tokens;                     // of each shard
  Runs x_runs;
  Accumulator<T> d_weight_ih, d_weight_hh[kMaxPhases], d_bias_ih, d_bias_hh[kMaxPhases];
};

}  // namespace fastrnn
