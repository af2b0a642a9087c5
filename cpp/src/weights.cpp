#include "weights.hpp"

#include <algorithm>
#include <atomic>
#include <vector>

#include "checks.hpp"
#include "dispatch.hpp"
#include "matrices.hpp"
#include "packing.hpp"
#include "plan.hpp"
#include "threads.hpp"
#include "token_index.hpp"

namespace fastrnn {
namespace {

template <class T>
void expect_finite(const std::string& op, const std::string& argument, const View<const T>& weight) {
  for (index i = 0; i < weight.shape[0]; ++i)
    for (index j = 0; j < weight.shape[1]; ++j) {
      const T value = weight.data[i * weight.stride[0] + j * weight.stride[1]];
      if (!(value - value == 0)) fail(op, argument, "finite values, to be packed as int8", std::to_string(value));
    }
}

// Puts words in the place of the packed floats.
void reduce(PackedWeights<float>::State& s) {
  s.reduced = &reduced_kernels(s.kernels->isa);
  for (int p = 0; p < s.cell->phases; ++p) {
    const index x = index(s.cell->x[p].count) * s.kernels->lanes, h = index(s.cell->h[p].count) * s.kernels->lanes;
    s.reduced_ih[p] = reduce_bfloat16(*s.reduced, s.weight_ih[p].data(), s.panels(), s.inputs, x);
    s.reduced_hh[p] = s.precision == Precision::int8
                          ? reduce_int8(s.weight_hh[p].data(), s.panels(), s.hidden, h)
                          : reduce_bfloat16(*s.reduced, s.weight_hh[p].data(), s.panels(), s.hidden, h);
    s.weight_ih[p] = Buffer<float>();
    s.weight_hh[p] = Buffer<float>();
  }
}

}  // namespace

template <class T>
std::shared_ptr<const typename PackedWeights<T>::State> pack(Cell kind, const View<const T>& weight_ih,
                                                             const View<const T>& weight_hh,
                                                             const View<const T>& bias_ih,
                                                             const View<const T>& bias_hh, Precision precision,
                                                             BackwardWeights<T>* backward) {
  const CellLayout& cell = layout(kind);
  const std::string op = cell.name, G = cell.gates == 1 ? "" : std::to_string(cell.gates) + "*";
  expect_ndim(op, "weight_hh", weight_hh, "(" + G + "H, H)", 2);
  const index H = weight_hh.shape[1];
  if (H < 1) fail(op, "weight_hh", "at least one hidden unit", shape_text(weight_hh));
  expect_shape(op, "weight_hh", weight_hh, "(" + G + "H, H)", {cell.gates * H, H});
  expect_ndim(op, "weight_ih", weight_ih, "(" + G + "H, I)", 2);
  const index I = weight_ih.shape[1];
  if (I < 1) fail(op, "weight_ih", "at least one input feature", shape_text(weight_ih));
  expect_shape(op, "weight_ih", weight_ih, "(" + G + "H, I)", {cell.gates * H, I});
  if (bias_ih) expect_shape(op, "bias_ih", bias_ih, "(" + G + "H,)", {cell.gates * H});
  if (bias_hh) expect_shape(op, "bias_hh", bias_hh, "(" + G + "H,)", {cell.gates * H});
  if (precision != Precision::full && !std::is_same_v<T, float>)
    fail(op, "weight_ih", "dtype float32, to be packed in another precision", "float64");
  if (precision == Precision::int8) expect_finite(op, "weight_hh", weight_hh);
  auto s = std::make_shared<typename PackedWeights<T>::State>(cell, active_kernels<T>(), I, H, precision);
  s->kind = kind;
  // Some panels of a weight are packed in all its forms at once, while its rows are in the second cache.
  std::vector<PackPanels> forms_ih, forms_hh;
  std::atomic<bool> finite{true};
  const bool halved = s->kernels->halved && precision == Precision::full;
  if (backward) {
    forms_ih.push_back(pack_backward(*s->kernels, weight_ih, cell.x_all, H, backward->ih));
    forms_ih.push_back(split_backward(*s->kernels, I, cell.x_all, H, backward->ih, backward->tiles_ih, finite));
  }
  for (int p = 0; p < cell.phases; ++p) {
    if (backward) forms_hh.push_back(pack_backward(*s->kernels, weight_hh, cell.h_all[p], H, backward->hh[p]));
    forms_ih.push_back(pack_forward(*s->kernels, weight_ih, cell.x[p], s->units, halved, s->weight_ih[p]));
    if (precision == Precision::full)
      forms_ih.push_back(
          split_forward(*s->kernels, I, cell.x[p], s->units, s->weight_ih[p], s->tiles_ih[p], finite));
    forms_hh.push_back(pack_forward(*s->kernels, weight_hh, cell.h[p], s->units, halved, s->weight_hh[p]));
    s->bias[p] = pack_bias(bias_ih, bias_hh, cell, p, s->units);
  }
  constexpr index kCached = 128 << 10, kLeast = 2, kMost = 4;  // an even number: split_backward
  const index values = (I + H) / 2 * cell.gates * s->kernels->lanes;  // of a panel, on average
  const index at_once = std::clamp<index>(kCached / (values * index(sizeof(T))) / 2 * 2, kLeast, kMost);
  const index panels = s->panels(), groups = (panels + at_once - 1) / at_once;
  for_panels(2 * groups, (backward ? 2 : 1) * values * at_once, [&](index i) {
    const index first = i % groups * at_once;
    for (const PackPanels& form : i < groups ? forms_ih : forms_hh) form(first, std::min(panels, first + at_once));
  });
  if (!finite) {  // the register tiles know what to do with that
    for (Buffer<char>& tiles : s->tiles_ih) tiles = Buffer<char>();
    if (backward) backward->tiles_ih = Buffer<char>();
  }
  if constexpr (std::is_same_v<T, float>) {
    if (precision != Precision::full) reduce(*s);
  }
  return s;
}

template <class T>
PackedWeights<T>::PackedWeights(Cell kind, const View<const T>& weight_ih, const View<const T>& weight_hh,
                                const View<const T>& bias_ih, const View<const T>& bias_hh, Precision precision)
    : state(pack<T>(kind, weight_ih, weight_hh, bias_ih, bias_hh, precision, nullptr)) {}

template <class T>
Cell PackedWeights<T>::cell() const { return state->kind; }
template <class T>
Precision PackedWeights<T>::precision() const { return state->precision; }
template <class T>
index PackedWeights<T>::inputs() const { return state->inputs; }
template <class T>
index PackedWeights<T>::hidden() const { return state->hidden; }
template <class T>
size_t PackedWeights<T>::bytes() const {
  size_t sum = 0;
  for (int p = 0; p < state->cell->phases; ++p)
    sum += state->weight_ih[p].bytes() + state->weight_hh[p].bytes() + state->bias[p].bytes() + state->tiles_ih[p].bytes() +
           state->reduced_ih[p].bytes() + state->reduced_hh[p].bytes();
  return sum;
}

void project_by_matrices(const PackedWeights<float>::State& w, int p, ForwardStep<float> step, bool fresh,
                       MatrixRoom& room) {
  const Side& side = w.cell->x[p];
  const index L = w.kernels->lanes, last = w.units.folded() < 0 ? step.last_panel : w.units.folded();
  const index slots = w.cell->accumulators[p];
  std::vector<index> c_column, start_column;
  for (index panel = step.first_panel; panel < std::min(last, step.last_panel); ++panel)
    for (int slot = 0, c = 0; slot < slots; ++slot) {
      const index to = panel * step.projected_panel + slot * L, start = panel * step.start_panel + slot * L;
      if (c < side.count && side.slot[c] == slot) {
        ++c;
        c_column.push_back(to);
        start_column.push_back(start);
      } else {
        for (index r = 0; fresh && r < step.rows; ++r)
          std::copy_n(step.start + start, L, step.projected + r * step.projected_row + to);
      }
    }
  MatrixProduct m{};
  m.rows = step.rows;
  m.K = w.inputs;
  m.columns = index(c_column.size());
  m.a = step.x;
  m.a_offset = step.x_offset;
  m.b_tiles = w.tiles_ih[p].data() + size_t(step.first_panel * side.count) * matrix_tiles(w.inputs);
  m.c = step.projected;
  m.c_stride = step.projected_row;
  m.c_column = c_column.data();
  m.start = step.start;
  m.start_column = start_column.data();
  const index rows = step.rows;
  if (last < step.last_panel) {  // a folded panel is another kernel's
    ForwardStep<float> folded = step;
    folded.first_panel = last;
    w.run(p, folded);
  }
  if (m.columns == 0 || rows == 0) return;
  step.last_panel = std::min(last, step.last_panel);
  const bool* const special = room.run_checked(*w.kernels->matrices, m);
  step.rows = 1;
  for (index r = 0; r < rows; ++r, ++step.x_offset, step.projected += step.projected_row)
    if (special[r]) w.run(p, step);
}

namespace {

// The products of a phase with `count` rows of an embedding: those of these tokens, or the first ones.
template <class T, class X>
void project_rows(const typename PackedWeights<T>::State& w, const View<const T>& rows, const index* token, index count,
                  int phase, T* projected) {
  constexpr index kBlock = 240;  // rows of a task: a multiple of every register tile
  const index blocks = (count + kBlock - 1) / kBlock, panel = w.start_values(phase), row = w.panels() * panel;
  const double flops = 2.0 * double(count) * double(w.inputs) * double(row);
  const int threads = plan_threads(flops, std::max<index>(blocks, 1));
  std::vector<InputRows<T, X>> copies;
  for (int i = 0; i < threads; ++i) copies.emplace_back(kBlock, w.inputs);
  const bool matrices = std::is_same_v<X, float> && w.tiles_ih[phase];
  run_tasks(threads, blocks, [&](int thread, index block) {
    index at[kBlock];
    ForwardStep<T, X> step{};
    const index first = block * kBlock;
    step.rows = std::min(kBlock, count - first);
    for (index r = 0; r < step.rows; ++r) at[r] = (token ? token[first + r] : first + r) * rows.stride[0];
    step.x = copies[size_t(thread)].fill(w.reduced, rows.data, at, 0, step.rows);
    copies[size_t(thread)].place(at, 0, step.rows);
    step.last_panel = w.panels();
    step.fold = w.units.fold;
    step.folded = w.units.folded();
    step.inputs = w.inputs;
    step.hidden = w.hidden;
    step.x_offset = at;
    step.weight_ih = w.template ih<X>(phase);
    step.start = w.bias[phase].data();
    step.start_panel = panel;
    step.projected = projected + first * row;
    step.projected_row = row;
    step.projected_panel = panel;
    if constexpr (std::is_same_v<X, float>) {
      if (matrices) {
        MatrixRoom room(true);
        return project_by_matrices(w, phase, step, true, room);
      }
    }
    w.run(phase, step);
  });
}

template <class T>
std::shared_ptr<const typename ProjectionTable<T>::State> project(const PackedWeights<T>& weights,
                                                                  const View<const T>& rows, index vocabulary,
                                                                  const index* token, index count) {
  const auto& w = *weights.state;
  expect_shape(w.cell->name, "embedding", rows, "(V, I)", {vocabulary, w.inputs});
  if (vocabulary > 0 && w.inputs > 1 && rows.stride[1] != 1)
    fail(w.cell->name, "embedding", "a contiguous last axis", "another stride");
  auto s = std::make_shared<typename ProjectionTable<T>::State>();
  s->weights = weights;
  s->rows = count;
  for (int p = 0; p < w.cell->phases; ++p) {
    s->start[p] = Buffer<T>(size_t(std::max<index>(s->rows * w.panels() * w.start_values(p), 1)));
    if constexpr (std::is_same_v<T, float>) {
      if (w.precision != Precision::full) {
        project_rows<T, Bfloat16>(w, rows, token, count, p, s->start[p].data());
        continue;
      }
    }
    project_rows<T, T>(w, rows, token, count, p, s->start[p].data());
  }
  return s;
}

}  // namespace

template <class T>
ProjectionTable<T>::ProjectionTable(const PackedWeights<T>& weights, const View<const T>& rows)
    : state(project(weights, rows, rows.ndim == 2 ? rows.shape[0] : 0, nullptr, rows.shape[0])) {}
template <class T>
ProjectionTable<T>::ProjectionTable(const PackedWeights<T>& weights, const View<const T>& rows,
                                    const TokenIndex& distinct)
    : state(project(weights, rows, distinct.vocabulary, distinct.token.data(), distinct.distinct)) {}

template <class T>
const PackedWeights<T>& ProjectionTable<T>::weights() const { return state->weights; }
template <class T>
index ProjectionTable<T>::rows() const { return state->rows; }
template <class T>
size_t ProjectionTable<T>::bytes() const {
  size_t sum = 0;
  for (const Buffer<T>& b : state->start) sum += b.bytes();
  return sum;
}

template std::shared_ptr<const PackedWeights<float>::State> pack(Cell, const View<const float>&,
                                                                 const View<const float>&, const View<const float>&,
                                                                 const View<const float>&, Precision,
                                                                 BackwardWeights<float>*);
template std::shared_ptr<const PackedWeights<double>::State> pack(Cell, const View<const double>&,
                                                                  const View<const double>&, const View<const double>&,
                                                                  const View<const double>&, Precision,
                                                                  BackwardWeights<double>*);
template class PackedWeights<float>;
template class PackedWeights<double>;
template class ProjectionTable<float>;
template class ProjectionTable<double>;

}  // namespace fastrnn
