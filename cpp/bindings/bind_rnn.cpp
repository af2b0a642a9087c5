// rnn_forward, rnn_backward and the workspace between them.
#include <algorithm>
#include <memory>
#include <utility>
#include <variant>

#include "arrays.hpp"
#include "cell_layout.hpp"
#include "fastrnn/rnn.hpp"
#include "tokens.hpp"

namespace fastrnn::bindings {
namespace {

// What forward left for backward, with the array it refers to.
struct PyWorkspace {
  std::variant<Workspace<float>, Workspace<double>> core;
  py::array x;        // or the embedding
  py::object tokens;  // of an embedding
  index vocabulary = 0;
  Cell cell = Cell::rnn;
  bool batch_first = true, bias_ih = false, bias_hh = false, h0 = false, c0 = false;
};

// Weights packed for inference, and the table of their products with an embedding.
struct PyPackedWeights {
  std::variant<PackedWeights<float>, PackedWeights<double>> core;
};
struct PyProjectionTable {
  std::variant<ProjectionTable<float>, ProjectionTable<double>> core;
};

template <class T>
std::unique_ptr<PyPackedWeights> pack(Cell cell, const py::object& weight_ih, const py::object& weight_hh,
                                      const py::object& bias_ih, const py::object& bias_hh, Precision precision) {
  const std::string op = layout(cell).name;
  const Input<T> w_ih = input<T>(op, "weight_ih", weight_ih, false, "weight_ih"),
                 w_hh = input<T>(op, "weight_hh", weight_hh, false, "weight_ih"),
                 b_ih = input<T>(op, "bias_ih", bias_ih, false, "weight_ih"),
                 b_hh = input<T>(op, "bias_hh", bias_hh, false, "weight_ih");
  auto packed = std::make_unique<PyPackedWeights>();
  NoGil nogil;
  packed->core = PackedWeights<T>(cell, w_ih, w_hh, b_ih, b_hh, precision);
  return packed;
}

template <class T>
std::unique_ptr<PyProjectionTable> project(const PackedWeights<T>& weights, const py::object& embedding) {
  const std::string op = layout(weights.cell()).name;
  const Input<T> rows = input<T>(op, "embedding", embedding, true, "the weights");
  auto table = std::make_unique<PyProjectionTable>();
  NoGil nogil;
  table->core = ProjectionTable<T>(weights, rows);
  return table;
}

// Each axis must step over all that the smaller ones reach.
template <class T>
bool overlaps_itself(const View<T>& v) {
  std::vector<std::pair<index, index>> axes;  // stride, shape
  for (int i = 0; i < v.ndim; ++i) {
    if (v.shape[i] == 0) return false;
    if (v.shape[i] > 1) axes.emplace_back(v.stride[i] < 0 ? -v.stride[i] : v.stride[i], v.shape[i]);
  }
  std::sort(axes.begin(), axes.end());
  index reach = 0;
  for (const auto& [stride, shape] : axes) {
    if (stride <= reach) return true;
    reach += stride * (shape - 1);
  }
  return false;
}

template <class T>
View<T> checked_out(const std::string& op, py::array a, const py::array& x) {
  expect_dtype<T>(op, "out", a);
  expect_few_axes(op, "out", a);
  if (!a.writeable()) fail(op, "out", "a writeable array", "a read-only one");
  if (overlap(a, x)) fail(op, "out", "an array that does not overlap x", "one that does");
  View<T> v;
  v.data = static_cast<T*>(a.mutable_data());
  v.ndim = int(a.ndim());
  for (int i = 0; i < v.ndim; ++i) {
    if (a.strides(i) % py::ssize_t(sizeof(T)) != 0 || reinterpret_cast<uintptr_t>(v.data) % alignof(T) != 0)
      fail(op, "out", "aligned elements", "strides or an address that are not");
    v.shape[i] = a.shape(i);
    v.stride[i] = a.strides(i) / index(sizeof(T));
  }
  if (overlaps_itself(v)) fail(op, "out", "every element in a place of its own", "an array that overlaps itself");
  if (v.ndim > 0 && v.shape[v.ndim - 1] > 1 && v.stride[v.ndim - 1] != 1)
    fail(op, "out", "a contiguous last axis", "a stride of " + std::to_string(v.stride[v.ndim - 1]));
  return v;
}

Input<index> integers(const std::string& op, const std::string& name, const py::object& object) {
  if (object.is_none()) return {};
  py::array a = as_array(op, name, object);
  if (a.dtype().kind() != 'i' && a.dtype().kind() != 'u') fail_type(op, name, "an integer dtype", text(a.dtype()));
  expect_few_axes(op, name, a);
  return wrap<index>(py::array_t<index, py::array::c_style | py::array::forcecast>(a));
}

Input<bool> booleans(const std::string& op, const std::string& name, const py::object& object) {
  if (object.is_none()) return {};
  py::array a = as_array(op, name, object);
  if (a.dtype().kind() != 'b') fail_type(op, name, "dtype bool", text(a.dtype()));
  expect_few_axes(op, name, a);
  return wrap<bool>(a);
}

// The precision of a call is that of x; that of packed weights was chosen before.
template <class T, class Variant>
auto packed_of(const std::string& op, const Variant& core) {
  using Wanted = std::variant_alternative_t<std::is_same_v<T, double>, Variant>;
  if (!std::holds_alternative<Wanted>(core))
    fail_type(op, "weight_ih", "weights packed from the dtype of x", "those of another");
  return std::get<Wanted>(core);
}

// The tokens of `embedding`, or null where x is an array.
const PyTokens* embedded_tokens(const std::string& op, const py::object& x, const py::object& embedding,
                                bool is_table) {
  const bool is_tokens = py::isinstance<PyTokens>(x);
  if (is_table && is_tokens) fail_type(op, "x", "an array of ids beside a table of products", "TokenIndex");
  if (is_table && !embedding.is_none()) fail(op, "embedding", "None beside a table of its products", "an array");
  if (is_tokens && embedding.is_none()) fail(op, "embedding", "an embedding (V, I) beside token_index's tokens", "None");
  if (embedding.is_none()) return nullptr;
  if (!is_tokens)
    fail_type(op, "x", "what token_index returns, beside an embedding", text(py::type::of(x).attr("__name__")));
  const auto& tokens = x.cast<const PyTokens&>();
  if (tokens.shape.size() != 2)
    fail(op, "x", "tokens of ids with two axes, batch and time",
         shape_text(tokens.shape.data(), int(tokens.shape.size())));
  return &tokens;
}

template <class T>
py::tuple forward(Cell cell, const py::tuple& gate, const py::tuple& candidate, const py::tuple& output_activation,
                  const py::object& x, const py::object& weight_ih, const py::object& weight_hh,
                  const py::object& bias_ih, const py::object& bias_hh, const py::object& h0, const py::object& c0,
                  const py::object& lengths, const py::object& mask, const py::object& recurrent_mask, bool reverse,
                  bool batch_first, bool return_sequences, bool return_workspace, const py::object& out,
                  index checkpoint, const PyTokens* embedded, const py::object& embedding) {
  const CellLayout& info = layout(cell);
  const std::string op = info.name;
  const bool is_packed = py::isinstance<PyPackedWeights>(weight_ih), is_table = py::isinstance<PyProjectionTable>(weight_ih);
  if (is_packed || is_table) {
    for (const auto& [name, value] : {std::pair{"weight_hh", &weight_hh}, {"bias_ih", &bias_ih}, {"bias_hh", &bias_hh}})
      if (!value->is_none()) fail(op, name, "None beside packed weights", "an array");
  } else {
    if (weight_ih.is_none()) fail_type(op, "weight_ih", "a NumPy array", "None");
    if (weight_hh.is_none()) fail_type(op, "weight_hh", "a NumPy array", "None");
  }
  RnnOptions<T> options{cell, activation<T>(gate), activation<T>(candidate), activation<T>(output_activation), reverse,
                        batch_first, checkpoint};
  const bool arrays = !is_packed && !is_table;
  const auto like = [&](const char* name, const py::object& object) {
    return input<T>(op, name, object, false, embedded ? "embedding" : "x");
  };
  const Input<T> in_x = is_table   ? Input<T>{}
                        : embedded ? input<T>(op, "embedding", embedding, true, "embedding")
                                   : input<T>(op, "x", x, true),
                 w_ih = arrays ? like("weight_ih", weight_ih) : Input<T>{}, w_hh = like("weight_hh", weight_hh),
                 b_ih = like("bias_ih", bias_ih), b_hh = like("bias_hh", bias_hh), in_h0 = like("h0", h0),
                 in_c0 = like("c0", c0), r_mask = like("recurrent_mask", recurrent_mask);
  const Input<index> in_lengths = integers(op, "lengths", lengths);
  const Input<bool> in_mask = booleans(op, "mask", mask);
  const Input<index> tokens = is_table ? integers(op, "x", x) : Input<index>{};
  RnnInputs<T> in{in_x.view,  w_ih.view,  w_hh.view,   b_ih.view,       b_hh.view,
                  in_h0.view, in_c0.view, r_mask.view, in_lengths.view, in_mask.view};
  if (is_packed) {
    in.packed = packed_of<T>(op, weight_ih.cast<const PyPackedWeights&>().core);
  } else if (is_table) {
    in.table = packed_of<T>(op, weight_ih.cast<const PyProjectionTable&>().core);
    in.packed = in.table.weights();
    in.tokens = tokens;
  }
  if (embedded) {
    in.distinct = &embedded->core;
    std::copy_n(embedded->shape.data(), 2, in.id_axes);
  }
  // Shapes are checked by the core; here they only size the outputs.
  if (is_table)
    expect_ndim(op, "x", tokens.view, batch_first ? "(B, T)" : "(T, B)", 2);
  else if (!embedded)
    expect_ndim(op, "x", in.x, batch_first ? "(B, T, I)" : "(T, B, I)", 3);
  if (arrays) expect_ndim(op, "weight_hh", in.weight_hh, "(G*H, H)", 2);
  const index* shape = is_table ? tokens.view.shape : embedded ? in.id_axes : in.x.shape;
  const index B = shape[batch_first ? 0 : 1], H = arrays ? in.weight_hh.shape[1] : in.packed.hidden();
  py::object output = py::none(), c_n = py::none();
  py::object given;  // keeps the memory of a foreign `out`
  RnnOutputs<T> result;
  if (!out.is_none()) {
    const py::array a = as_array(op, "out", out);
    given = a;
    result.output = checked_out<T>(op, a, is_table ? py::array(tokens.array) : in_x.array);
    output = out;
  } else if (return_sequences) {
    auto y = new_array<T>({shape[0], shape[1], H});
    result.output = view_of(y);
    output = y;
  }
  auto h_n = new_array<T>({B, H});
  result.h_n = view_of(h_n);
  if (info.has_c) {
    auto c = new_array<T>({B, H});
    result.c_n = view_of(c);
    c_n = c;
  }
  auto kept = std::make_unique<PyWorkspace>();
  Workspace<T> workspace;
  {
    NoGil nogil;
    rnn_forward<T>(options, in, result, return_workspace ? &workspace : nullptr);
  }
  if (!return_workspace) return py::make_tuple(output, h_n, c_n, py::none());
  kept->core = std::move(workspace);
  kept->x = in_x.array;
  if (embedded) {
    kept->tokens = x;
    kept->vocabulary = embedded->core.vocabulary;
  }
  kept->cell = cell;
  kept->batch_first = batch_first;
  kept->bias_ih = !bias_ih.is_none();
  kept->bias_hh = !bias_hh.is_none();
  kept->h0 = !h0.is_none();
  kept->c0 = !c0.is_none();
  return py::make_tuple(output, h_n, c_n, std::move(kept));
}

template <class T>
py::tuple backward(const PyWorkspace& kept, const Workspace<T>& workspace, const py::object& grad_output,
                   const py::object& grad_h_n, const py::object& grad_c_n, bool need_grad_x) {
  const CellLayout& info = layout(kept.cell);
  const std::string op = std::string(info.name) + "_backward";
  const Input<T> dy = input<T>(op, "grad_output", grad_output, true), dh = input<T>(op, "grad_h_n", grad_h_n),
                 dc = input<T>(op, "grad_c_n", grad_c_n);
  const index B = workspace.batch(), I = workspace.inputs(), H = workspace.hidden(), GH = info.gates * H;
  RnnGradients<T> g;
  const auto make = [](bool wanted, const std::vector<py::ssize_t>& shape, View<T>& view) -> py::object {
    if (!wanted) return py::none();
    auto a = new_array<T>(shape);
    view = view_of(a);
    return a;
  };
  const py::ssize_t axis0 = kept.batch_first ? B : workspace.steps(), axis1 = kept.batch_first ? workspace.steps() : B;
  using Shape = std::vector<py::ssize_t>;
  const Shape x_shape = kept.tokens ? Shape{kept.vocabulary, I} : Shape{axis0, axis1, I};
  py::tuple result = py::make_tuple(
      make(need_grad_x, x_shape, g.x), make(true, {GH, I}, g.weight_ih), make(true, {GH, H}, g.weight_hh),
      make(kept.bias_ih, {GH}, g.bias_ih), make(kept.bias_hh, {GH}, g.bias_hh), make(kept.h0, {B, H}, g.h0),
      make(kept.c0, {B, H}, g.c0));
  {
    NoGil nogil;
    rnn_backward<T>(workspace, dy, dh, dc, g);
  }
  return result;
}

}  // namespace

void bind_rnn(py::module_& m) {
  py::class_<PyWorkspace>(m, "Workspace", "What a forward pass keeps for its backward pass; refers to x.")
      .def_property_readonly("cell", [](const PyWorkspace& w) { return int(w.cell); })
      .def_property_readonly("nbytes", [](const PyWorkspace& w) {
        return std::visit([](const auto& core) { return core.bytes(); }, w.core);
      });

  py::class_<PyProjectionTable>(m, "ProjectionTable", "W x + bias of every row of an embedding; see pack_weights.")
      .def_property_readonly("nbytes", [](const PyProjectionTable& t) {
        return std::visit([](const auto& core) { return core.bytes(); }, t.core);
      });

  py::class_<PyPackedWeights>(m, "PackedWeights", "Weights in the order in which the kernels read them; see pack_weights.")
      .def_property_readonly("nbytes", [](const PyPackedWeights& p) {
        return std::visit([](const auto& core) { return core.bytes(); }, p.core);
      })
      .def_property_readonly("precision", [](const PyPackedWeights& p) {
        if (p.core.index() == 1) return "float64";
        const Precision precision = std::get<0>(p.core).precision();
        return precision == Precision::full ? "float32" : precision == Precision::int8 ? "int8" : "bfloat16";
      })
      .def("project", [](const PyPackedWeights& p, const py::object& embedding) {
        return std::visit([&](const auto& core) { return project(core, embedding); }, p.core);
      }, py::arg("embedding"),
      "The table W x + bias for every row x of `embedding` (V, I): passed to rnn, lstm or gru in place of the weights, with\n"
      "token numbers (B, T) in place of x, it leaves only the recurrent product to compute.");

  m.def("pack_weights", [](int cell, const py::object& weight_ih, const py::object& weight_hh, const py::object& bias_ih,
                           const py::object& bias_hh, const std::string& precision) {
    if (cell < 0 || cell >= kCells) throw py::value_error("[pack_weights] cell: expected 0 to 3");
    const bool wide = is_double(layout(Cell(cell)).name, "weight_ih", weight_ih);
    if (wide && !precision.empty()) fail_type("pack_weights", "weight_ih", "dtype float32 for " + precision, "float64");
    const auto run = wide ? pack<double> : pack<float>;
    return run(Cell(cell), weight_ih, weight_hh, bias_ih, bias_hh,
               precision == "bfloat16" ? Precision::bfloat16 : precision == "int8" ? Precision::int8 : Precision::full);
  });

  m.def("rnn_forward", [](int cell, const py::tuple& gate, const py::tuple& candidate, const py::tuple& output,
                          const py::object& x, const py::object& weight_ih, const py::object& weight_hh,
                          const py::object& bias_ih, const py::object& bias_hh, const py::object& h0,
                          const py::object& c0, const py::object& lengths, const py::object& mask,
                          const py::object& recurrent_mask, bool reverse, bool batch_first, bool return_sequences,
                          bool return_workspace, const py::object& out, index checkpoint,
                          const py::object& embedding) {
    if (cell < 0 || cell >= kCells) throw py::value_error("[rnn_forward] cell: expected 0 to 3");
    const std::string op = layout(Cell(cell)).name;
    const bool is_table = py::isinstance<PyProjectionTable>(weight_ih);
    const PyTokens* embedded = embedded_tokens(op, x, embedding, is_table);
    const bool wide = is_table   ? weight_ih.cast<const PyProjectionTable&>().core.index() == 1
                      : embedded ? is_double(op, "embedding", embedding)
                                 : is_double(op, "x", x);
    const auto run = wide ? forward<double> : forward<float>;
    return run(Cell(cell), gate, candidate, output, x, weight_ih, weight_hh, bias_ih, bias_hh, h0, c0, lengths, mask,
               recurrent_mask, reverse, batch_first, return_sequences, return_workspace, out, checkpoint, embedded,
               embedding);
  });

  m.def("rnn_backward", [](const PyWorkspace& w, const py::object& grad_output, const py::object& grad_h_n,
                           const py::object& grad_c_n, bool need_grad_x) {
    return std::visit(
        [&](const auto& core) { return backward(w, core, grad_output, grad_h_n, grad_c_n, need_grad_x); }, w.core);
  });
}

}  // namespace fastrnn::bindings
