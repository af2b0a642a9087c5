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
View<T> checked_out(const std::string& op, py::array a, const std::vector<py::array>& inputs) {
  expect_dtype<T>(op, "out", a);
  if (a.ndim() != 3) fail(op, "out", "an array with 3 axes", text(a.attr("shape")));
  if (!a.writeable()) fail(op, "out", "a writeable array", "a read-only one");
  for (const py::array& in : inputs)
    if (overlap(a, in)) fail(op, "out", "an array apart from the arguments", "one that overlaps");
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
  // NumPy gives arrays of nothing strides of 0
  if (a.size() > 0 && v.shape[v.ndim - 1] > 1 && v.stride[v.ndim - 1] != 1)
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

template <class C>
bool is_a(const py::handle& object) {  // py::isinstance looks the type up anew
  static PyObject* const type = py::type::of<C>().inc_ref().ptr();
  return PyObject_TypeCheck(object.ptr(), reinterpret_cast<PyTypeObject*>(type));
}

// The tokens of `embedding`, or null where x is an array.
const PyTokens* embedded_tokens(const std::string& op, const py::object& x, const py::object& embedding,
                                bool is_table) {
  const bool is_tokens = is_a<PyTokens>(x);
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

// An argument that is not as it should be, or not known to be, goes to the Python that knows.
py::object checked_by(const char* function, const std::string& op, const char* name, const py::handle& value) {
  return py::module_::import("fastrnn.functional.checks").attr(function)(op, name, value);
}

bool flag(const std::string& op, const char* name, const py::handle& value) {
  if (value.ptr() == Py_True || value.ptr() == Py_False) return value.ptr() == Py_True;
  return checked_by("flag", op, name, value).cast<bool>();
}

// Activations by name: those of most calls are the same objects each time. A few are remembered, by each thread for itself,
// as there need not be a lock of the interpreter.
Activation<double> activation_of(const std::string& op, const char* name, const py::handle& spec) {
  struct Known {
    PyObject* name;
    Activation<double> activation;
  };
  constexpr int kMost = 16;
  static thread_local Known known[kMost];
  static thread_local int count = 0;
  for (int i = 0; i < count; ++i)
    if (known[i].name == spec.ptr()) return known[i].activation;
  const auto act = activation<double>(checked_by("activation_id", op, name, spec));
  if (PyUnicode_CheckExact(spec.ptr()) && count < kMost) known[count++] = {spec.inc_ref().ptr(), act};
  return act;
}
template <class T>
Activation<T> narrowed(const Activation<double>& a) {
  return {a.kind, T(a.alpha), T(a.beta)};
}

// What may also be nested lists, or None.
py::object array_like(const std::string& op, const char* name, py::object value) {
  if (value.is_none() || py::isinstance<py::array>(value)) return value;
  return checked_by("as_array", op, name, value);
}

int cell_of(const std::string& op) {
  if (op == "rnn") return int(Cell::rnn);
  if (op == "lstm") return int(Cell::lstm);
  if (op != "gru") fail(op, "function", "rnn, lstm or gru", op);
  return int(Cell::gru);
}

// As they come from Python, checked as far as they can be one by one.
struct ForwardArguments {
  std::string op;
  int cell;
  Activation<double> gate, candidate, output_activation;
  py::object x, weight_ih, weight_hh, bias_ih, bias_hh, h0, c0, lengths, mask, recurrent_mask;
  bool reverse, batch_first, return_sequences, return_workspace;
  py::object out;
  index checkpoint;
  py::object embedding;

  explicit ForwardArguments(const py::tuple& given) {
    if (given.size() != 22) throw py::value_error("[rnn_forward] arguments: expected 22");
    Py_ssize_t i = 0;
    const auto next = [&] { return py::reinterpret_borrow<py::object>(PyTuple_GET_ITEM(given.ptr(), i++)); };
    op = next().cast<std::string>();
    cell = cell_of(op);
    x = next();
    if (!is_a<PyTokens>(x)) x = array_like(op, "x", x);
    for (py::object* array : {&weight_ih, &weight_hh, &bias_ih, &bias_hh, &h0, &c0}) *array = next();
    candidate = activation_of(op, "activation", next());
    const py::object gates = next(), last = next();
    gate = cell == int(Cell::rnn) ? candidate : activation_of(op, "recurrent_activation", gates);
    output_activation = last.is_none() ? candidate : activation_of(op, "output_activation", last);
    const bool reset_after = flag(op, "reset_after", next());
    if (cell == int(Cell::gru) && !reset_after) cell = int(Cell::gru_reset_before);
    lengths = array_like(op, "lengths", next());
    mask = array_like(op, "mask", next());
    reverse = flag(op, "reverse", next());
    batch_first = flag(op, "batch_first", next());
    recurrent_mask = next();
    return_sequences = flag(op, "return_sequences", next());
    return_workspace = flag(op, "return_workspace", next());
    const py::object steps = next();
    checkpoint = steps.is_none() ? 0 : checked_by("checkpoint_steps", op, "checkpoint", steps).cast<index>();
    out = next();
    embedding = next();
  }
};

bool is_table(const ForwardArguments& a) { return is_a<PyProjectionTable>(a.weight_ih); }

// Also the first check of the arguments.
bool is_wide(const ForwardArguments& a) {
  const std::string& op = a.op;
  const bool table = is_table(a);
  const PyTokens* embedded = embedded_tokens(op, a.x, a.embedding, table);
  return table      ? a.weight_ih.cast<const PyProjectionTable&>().core.index() == 1
         : embedded ? is_double(op, "embedding", a.embedding)
                    : is_double(op, "x", a.x);
}

// A forward call from its arguments to its result. Between the two, `call` runs without the interpreter's lock.
template <class T>
class Forward {
 public:
  explicit Forward(const ForwardArguments& a) : a_(a) {
    const CellLayout& info = layout(Cell(a.cell));
    const std::string& op = a.op;
    const bool is_packed = is_a<PyPackedWeights>(a.weight_ih), table = is_table(a);
    embedded_ = embedded_tokens(op, a.x, a.embedding, table);
    if (is_packed || table) {
      for (const auto& [name, value] :
           {std::pair{"weight_hh", &a.weight_hh}, {"bias_ih", &a.bias_ih}, {"bias_hh", &a.bias_hh}})
        if (!value->is_none()) fail(op, name, "None beside packed weights", "an array");
    } else {
      if (a.weight_ih.is_none()) fail_type(op, "weight_ih", "a NumPy array", "None");
      if (a.weight_hh.is_none()) fail_type(op, "weight_hh", "a NumPy array", "None");
    }
    call.options = {Cell(a.cell), narrowed<T>(a.gate), narrowed<T>(a.candidate), narrowed<T>(a.output_activation),
                    a.reverse, a.batch_first, a.checkpoint};
    const bool arrays = !is_packed && !table;
    RnnInputs<T>& in = call.in;
    const auto like = [&](const char* name, const py::object& object) {
      return keep(input<T>(op, name, object, false, embedded_ ? "embedding" : "x"));
    };
    kept_.reserve(11);
    if (table)
      in.tokens = keep(integers(op, "x", a.x));
    else
      in.x = keep(embedded_ ? input<T>(op, "embedding", a.embedding, true, "embedding") : input<T>(op, "x", a.x, true));
    if (arrays) in.weight_ih = like("weight_ih", a.weight_ih);
    in.weight_hh = like("weight_hh", a.weight_hh);
    in.bias_ih = like("bias_ih", a.bias_ih);
    in.bias_hh = like("bias_hh", a.bias_hh);
    in.h0 = like("h0", a.h0);
    in.c0 = like("c0", a.c0);
    in.recurrent_mask = like("recurrent_mask", a.recurrent_mask);
    in.lengths = keep(integers(op, "lengths", a.lengths));
    in.mask = keep(booleans(op, "mask", a.mask));
    if (is_packed) {
      in.packed = packed_of<T>(op, a.weight_ih.cast<const PyPackedWeights&>().core);
    } else if (table) {
      in.table = packed_of<T>(op, a.weight_ih.cast<const PyProjectionTable&>().core);
      in.packed = in.table.weights();
    }
    if (embedded_) {
      in.distinct = &embedded_->core;
      std::copy_n(embedded_->shape.data(), 2, in.id_axes);
    }
    // Shapes are checked by the core; here they only size the outputs.
    if (table)
      expect_ndim(op, "x", in.tokens, a.batch_first ? "(B, T)" : "(T, B)", 2);
    else if (!embedded_)
      expect_ndim(op, "x", in.x, a.batch_first ? "(B, T, I)" : "(T, B, I)", 3);
    if (arrays) expect_ndim(op, "weight_hh", in.weight_hh, "(G*H, H)", 2);
    const index* shape = in.axes();
    const index B = shape[a.batch_first ? 0 : 1], H = arrays ? in.weight_hh.shape[1] : in.packed.hidden();
    if (!a.out.is_none()) {
      const py::array out = as_array(op, "out", a.out);
      call.out.output = checked_out<T>(op, out, kept_);
      kept_.push_back(out);
      output_ = a.out;
    } else if (a.return_sequences) {
      output_ = make({shape[0], shape[1], H}, call.out.output);
    }
    h_n_ = make({B, H}, call.out.h_n);
    if (info.has_c) c_n_ = make({B, H}, call.out.c_n);
    if (a.return_workspace) call.workspace = &workspace_;
  }
  Forward(const Forward&) = delete;

  // (output, state) or (output, state, workspace); the state is h_n, or (h_n, c_n)
  py::tuple result() {
    const py::object state = c_n_ ? py::object(py::make_tuple(h_n_, c_n_)) : h_n_;
    if (!a_.return_workspace) return py::make_tuple(output_, state);
    auto kept = std::make_unique<PyWorkspace>();
    kept->core = std::move(workspace_);
    kept->x = kept_[0];
    if (embedded_) {
      kept->tokens = a_.x;
      kept->vocabulary = embedded_->core.vocabulary;
    }
    kept->cell = Cell(a_.cell);
    kept->batch_first = a_.batch_first;
    kept->bias_ih = !a_.bias_ih.is_none();
    kept->bias_hh = !a_.bias_hh.is_none();
    kept->h0 = !a_.h0.is_none();
    kept->c0 = !a_.c0.is_none();
    return py::make_tuple(output_, state, std::move(kept));
  }

  RnnCall<T> call;

 private:
  template <class V>
  View<const V> keep(Input<V>&& in) {
    if (in.array) kept_.push_back(std::move(in.array));
    return in.view;
  }
  static py::object make(const std::vector<py::ssize_t>& shape, View<T>& view) {
    auto a = new_array<T>(shape);
    view = view_of(a);
    return a;
  }

  const ForwardArguments& a_;
  const PyTokens* embedded_ = nullptr;
  std::vector<py::array> kept_;  // what `call` points into; x, the embedding or the tokens are the first
  py::object output_ = py::none(), h_n_, c_n_;
  Workspace<T> workspace_;
};

template <class T>
py::tuple forward(const ForwardArguments& arguments) {
  Forward<T> f(arguments);
  {
    NoGil nogil;
    rnn_forward<T>(f.call.options, f.call.in, f.call.out, f.call.workspace);
  }
  return f.result();
}

py::tuple forward(const ForwardArguments& a) { return is_wide(a) ? forward<double>(a) : forward<float>(a); }

template <class T>
py::tuple forward_pair(const ForwardArguments& first, const ForwardArguments& second) {
  Forward<T> one(first), other(second);
  {
    NoGil nogil;
    rnn_forward_pair<T>(one.call, other.call);
  }
  return py::make_tuple(one.result(), other.result());
}

struct BackwardArguments {
  const PyWorkspace& workspace;
  py::object grad_output, grad_h_n, grad_c_n;
  bool need_grad_x;

  explicit BackwardArguments(const py::tuple& given)
      : workspace(workspace_of(given)), grad_output(given[2]), grad_h_n(given[3]), grad_c_n(given[4]),
        need_grad_x(flag(op_of(given), "need_grad_x", given[5])) {}

 private:
  static std::string op_of(const py::tuple& given) { return given[0].cast<std::string>() + "_backward"; }
  static const PyWorkspace& workspace_of(const py::tuple& given) {
    const py::object workspace = given[1];
    if (!is_a<PyWorkspace>(workspace))
      fail_type(op_of(given), "workspace", "the workspace of a forward call", text(py::type::of(workspace).attr("__name__")));
    const auto& kept = workspace.cast<const PyWorkspace&>();
    const std::string op = given[0].cast<std::string>();
    if (op != layout(kept.cell).name) fail(op_of(given), "workspace", "one from " + op, "another cell's");
    return kept;
  }
};

bool is_wide(const BackwardArguments& a) { return a.workspace.core.index() == 1; }

// A backward call, likewise.
template <class T>
class Backward {
 public:
  explicit Backward(const BackwardArguments& a)
      : op_(std::string(layout(a.workspace.cell).name) + "_backward"),
        dy_(input<T>(op_, "grad_output", a.grad_output, true)),
        dh_(input<T>(op_, "grad_h_n", a.grad_h_n)),
        dc_(input<T>(op_, "grad_c_n", a.grad_c_n)),
        call{std::get<Workspace<T>>(a.workspace.core), dy_, dh_, dc_, {}} {
    const PyWorkspace& kept = a.workspace;
    const Workspace<T>& w = call.workspace;
    const index B = w.batch(), I = w.inputs(), H = w.hidden(), GH = layout(kept.cell).gates * H;
    RnnGradients<T>& g = call.gradients;
    const auto make = [](bool wanted, const std::vector<py::ssize_t>& shape, View<T>& view) -> py::object {
      if (!wanted) return py::none();
      auto a = new_array<T>(shape);
      view = view_of(a);
      return a;
    };
    const py::ssize_t axis0 = kept.batch_first ? B : w.steps(), axis1 = kept.batch_first ? w.steps() : B;
    using Shape = std::vector<py::ssize_t>;
    const Shape x_shape = kept.tokens ? Shape{kept.vocabulary, I} : Shape{axis0, axis1, I};
    result = py::make_tuple(make(a.need_grad_x, x_shape, g.x), make(true, {GH, I}, g.weight_ih),
                            make(true, {GH, H}, g.weight_hh), make(kept.bias_ih, {GH}, g.bias_ih),
                            make(kept.bias_hh, {GH}, g.bias_hh), make(kept.h0, {B, H}, g.h0),
                            make(kept.c0, {B, H}, g.c0));
  }
  Backward(const Backward&) = delete;

 private:
  const std::string op_;
  const Input<T> dy_, dh_, dc_;

 public:
  RnnBackwardCall<T> call;
  py::tuple result;
};

template <class T>
py::tuple backward(const BackwardArguments& arguments) {
  Backward<T> b(arguments);
  {
    NoGil nogil;
    rnn_backward<T>(b.call.workspace, b.call.grad_output, b.call.grad_h_n, b.call.grad_c_n, b.call.gradients);
  }
  return b.result;
}

py::tuple backward(const BackwardArguments& a) { return is_wide(a) ? backward<double>(a) : backward<float>(a); }

template <class T>
py::tuple backward_pair(const BackwardArguments& first, const BackwardArguments& second) {
  const Backward<T> one(first), other(second);
  {
    NoGil nogil;
    rnn_backward_pair<T>(one.call, other.call);
  }
  return py::make_tuple(one.result, other.result);
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

  m.def("rnn_forward", [](const py::tuple& arguments) { return forward(ForwardArguments(arguments)); });
  m.def("rnn_forward_pair", [](const py::tuple& first, const py::tuple& second) -> py::tuple {
    const ForwardArguments a(first), b(second);
    if (is_wide(a) != is_wide(b)) return py::make_tuple(forward(a), forward(b));
    return is_wide(a) ? forward_pair<double>(a, b) : forward_pair<float>(a, b);
  });
  m.def("rnn_backward", [](const py::tuple& arguments) { return backward(BackwardArguments(arguments)); });
  m.def("rnn_backward_pair", [](const py::tuple& first, const py::tuple& second) -> py::tuple {
    const BackwardArguments a(first), b(second);
    if (is_wide(a) != is_wide(b)) return py::make_tuple(backward(a), backward(b));
    return is_wide(a) ? backward_pair<double>(a, b) : backward_pair<float>(a, b);
  });
}

}  // namespace fastrnn::bindings
