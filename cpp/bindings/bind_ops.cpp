// Products, element-wise operations, embedding, attention over time, dropout, optimiser updates.
#include <cmath>

#include "arrays.hpp"
#include "fastrnn/ops.hpp"

namespace fastrnn::bindings {
namespace {

index size_of(const py::array& a) { return index(a.size()); }

std::vector<py::ssize_t> shape_of(const py::array& a) { return {a.shape(), a.shape() + a.ndim()}; }

template <class T>
Input<T> any_shape(const std::string& op, const std::string& name, const py::object& object) {
  const py::array a = as_array(op, name, object);
  expect_dtype<T>(op, name, a);
  Input<T> in{py::array_t<T, py::array::c_style | py::array::forcecast>(a), {}};
  in.view.data = static_cast<const T*>(in.array.data());
  return in;
}

std::vector<index> as_shape(const py::array& a) { return {a.shape(), a.shape() + a.ndim()}; }

template <class T>
Input<T> same_shape(const std::string& op, const std::string& name, const py::object& object, const py::array& like,
                    const std::string& of) {
  return dense<T>(op, name, object, "of " + of, as_shape(like));
}

// A weight of a conv or dense layer as (F, C, K).
template <class T>
Input<T> filter_view(const std::string& op, const py::object& object, bool is_dense) {
  Input<T> w = input<T>(op, "weight", object);
  expect_ndim(op, "weight", w.view, is_dense ? "(O, I)" : "(F, C, K)", is_dense ? 2 : 3);
  if (is_dense) {
    w.view.ndim = 3;
    w.view.shape[2] = 1;
    w.view.stride[2] = 1;
  }
  for (int i = 0; i < 3; ++i)
    if (w.view.shape[i] < 1) fail(op, "weight", "no empty axis", text(w.array.attr("shape")));
  return w;
}

template <class T>
ConvShape conv_shape(const std::string& op, const py::array& x, const View<const T>& w, bool is_dense, index stride,
                     index dilation, index pad_left, index pad_right) {
  if (is_dense) {
    const index I = x.ndim() > 0 ? x.shape(x.ndim() - 1) : 0;
    if (x.ndim() < 1 || I != w.shape[1])
      fail(op, "x", "shape (..., I) with I = " + std::to_string(w.shape[1]), text(x.attr("shape")));
    return {1, size_of(x) / I, I, w.shape[0], 1, 1, 1, 0, 0};
  }
  if (x.ndim() != 3 || x.shape(2) != w.shape[1])
    fail(op, "x", "shape (B, T, C) with C = " + std::to_string(w.shape[1]), text(x.attr("shape")));
  if (stride < 1) fail(op, "stride", "a positive integer", std::to_string(stride));
  if (dilation < 1) fail(op, "dilation", "a positive integer", std::to_string(dilation));
  return {x.shape(0), x.shape(1), x.shape(2), w.shape[0], w.shape[2], stride, dilation, pad_left, pad_right};
}

std::vector<py::ssize_t> conv_output(const ConvShape& s, const py::array& x, bool is_dense) {
  if (!is_dense) return {s.batch, s.out_time(), s.filters};
  std::vector<py::ssize_t> shape = shape_of(x);
  shape.back() = s.filters;
  return shape;
}

template <class T>
py::object conv(const std::string& op, bool is_dense, const py::object& x, const py::object& weight,
                const py::object& bias, index stride, index dilation, index pad_left, index pad_right,
                const py::tuple& act, const py::object& given) {
  const Input<T> in = any_shape<T>(op, "x", x), w = filter_view<T>(op, weight, is_dense);
  const ConvShape s = conv_shape(op, in.array, w.view, is_dense, stride, dilation, pad_left, pad_right);
  Input<T> b;
  if (!bias.is_none()) b = dense<T>(op, "bias", bias, is_dense ? "(O,)" : "(F,)", {s.filters});
  std::vector<const py::array*> inputs{&in.array, &w.array};
  if (!bias.is_none()) inputs.push_back(&b.array);
  py::array y = output<T>(op, given, conv_output(s, in.array, is_dense), inputs);
  T* out = static_cast<T*>(y.mutable_data());
  {
    const Activation<T> a = activation<T>(act);
    NoGil nogil;
    conv1d<T>(s, in.data(), w.view, b.view, a, out);
  }
  return given.is_none() ? py::object(std::move(y)) : given;
}

template <class T>
py::tuple conv_backward(const std::string& op, bool is_dense, const py::object& x, const py::object& weight,
                        const py::object& y, const py::object& grad_y, index stride, index dilation, index pad_left,
                        index pad_right, const py::tuple& act, bool need_grad_x, bool has_bias) {
  const Input<T> in = any_shape<T>(op, "x", x), w = filter_view<T>(op, weight, is_dense);
  const ConvShape s = conv_shape(op, in.array, w.view, is_dense, stride, dilation, pad_left, pad_right);
  const auto out_shape = conv_output(s, in.array, is_dense);
  const std::vector<index> expected(out_shape.begin(), out_shape.end());
  const Input<T> out = dense<T>(op, "y", y, "of the output", expected),
                 dy = dense<T>(op, "grad_y", grad_y, "of the output", expected);
  auto dw = new_array<T>(shape_of(py::array(w.array)));
  py::object dx = py::none(), db = py::none();
  T *px = nullptr, *pb = nullptr, *pw = dw.mutable_data();
  if (need_grad_x) {
    auto a = new_array<T>(shape_of(in.array));
    px = a.mutable_data();
    dx = a;
  }
  if (has_bias) {
    auto a = new_array<T>({s.filters});
    pb = a.mutable_data();
    db = a;
  }
  {
    const Activation<T> a = activation<T>(act);
    NoGil nogil;
    conv1d_backward<T>(s, in.data(), w, a, out.data(), dy.data(), px, pw, pb);
  }
  return py::make_tuple(dx, dw, db);
}

template <class T>
py::object unary(const py::object& x, const py::tuple& act) {
  const Input<T> in = any_shape<T>("activation", "x", x);
  auto y = new_array<T>(shape_of(in.array));
  T* out = y.mutable_data();
  const Activation<T> a = activation<T>(act);
  {
    NoGil nogil;
    activate<T>(size_of(in.array), in.data(), a, out);
  }
  return std::move(y);
}

template <class T>
py::object unary_backward(const py::object& x, const py::object& grad_y, const py::tuple& act) {
  const Input<T> in = any_shape<T>("activation_backward", "x", x),
                 dy = same_shape<T>("activation_backward", "grad_y", grad_y, in.array, "x");
  auto dx = new_array<T>(shape_of(in.array));
  T* out = dx.mutable_data();
  const Activation<T> a = activation<T>(act);
  {
    NoGil nogil;
    activate_backward<T>(size_of(in.array), in.data(), dy.data(), a, out);
  }
  return std::move(dx);
}

const bool* mask_data(const std::string& op, const py::object& mask, const std::vector<index>& shape,
                      const std::string& letters, Input<bool>& keep) {
  if (mask.is_none()) return nullptr;
  const py::array a = as_array(op, "mask", mask);
  if (a.dtype().kind() != 'b') fail_type(op, "mask", "dtype bool", text(a.dtype()));
  keep = dense<bool>(op, "mask", mask, letters, shape);
  return keep.data();
}

template <class T>
py::object soft_max(const py::object& x, const py::object& mask) {
  const Input<T> in = any_shape<T>("softmax", "x", x);
  if (in.array.ndim() < 1) fail("softmax", "x", "at least one axis", "a scalar");
  Input<bool> keep;
  const bool* m = mask_data("softmax", mask, as_shape(in.array), "of x", keep);
  auto y = new_array<T>(shape_of(in.array));
  const index n = in.array.shape(in.array.ndim() - 1), rows = n > 0 ? size_of(in.array) / n : 0;
  T* out = y.mutable_data();
  {
    NoGil nogil;
    softmax<T>(rows, n, in.data(), m, out);
  }
  return std::move(y);
}

template <class T>
py::object soft_max_backward(const py::object& y, const py::object& grad_y) {
  const Input<T> in = any_shape<T>("softmax_backward", "y", y),
                 dy = same_shape<T>("softmax_backward", "grad_y", grad_y, in.array, "y");
  if (in.array.ndim() < 1) fail("softmax_backward", "y", "at least one axis", "a scalar");
  auto dx = new_array<T>(shape_of(in.array));
  const index n = in.array.shape(in.array.ndim() - 1), rows = n > 0 ? size_of(in.array) / n : 0;
  T* out = dx.mutable_data();
  {
    NoGil nogil;
    softmax_backward<T>(rows, n, in.data(), dy.data(), out);
  }
  return std::move(dx);
}

py::array_t<index, py::array::c_style | py::array::forcecast> id_array(const std::string& op, const py::object& ids) {
  const py::array a = as_array(op, "ids", ids);
  if (a.dtype().kind() != 'i' && a.dtype().kind() != 'u') fail_type(op, "ids", "an integer dtype", text(a.dtype()));
  return a;
}

template <class T>
py::object embed(const py::object& ids, const py::object& weight, const py::object& given) {
  const auto in = id_array("embedding", ids);
  const Input<T> w = any_shape<T>("embedding", "weight", weight);
  if (w.array.ndim() != 2) fail("embedding", "weight", "shape (V, E)", text(w.array.attr("shape")));
  std::vector<py::ssize_t> shape = shape_of(in);
  shape.push_back(w.array.shape(1));
  py::array y = output<T>("embedding", given, shape, {&in, &w.array});
  const index* id = in.data();
  T* out = static_cast<T*>(y.mutable_data());
  {
    NoGil nogil;
    embedding<T>(size_of(in), id, w.array.shape(0), w.array.shape(1), w.data(), out);
  }
  return given.is_none() ? py::object(std::move(y)) : given;
}

template <class T>
py::object embed_backward(const py::object& ids, const py::object& grad_y, index vocabulary) {
  const auto in = id_array("embedding_backward", ids);
  std::vector<index> expected = as_shape(in);
  expected.push_back(-1);
  const Input<T> dy = dense<T>("embedding_backward", "grad_y", grad_y, "(..., E) after that of ids", expected);
  const index features = dy.array.shape(dy.array.ndim() - 1);
  if (vocabulary < 0) fail("embedding_backward", "num_embeddings", "0 or more", std::to_string(vocabulary));
  auto dw = new_array<T>({vocabulary, features});
  const index* id = in.data();
  T* out = dw.mutable_data();
  {
    NoGil nogil;
    embedding_backward<T>(size_of(in), id, vocabulary, features, dy.data(), out);
  }
  return std::move(dw);
}

template <class T>
py::object drop(const std::vector<index>& split, const std::vector<py::ssize_t>& shape, const py::object& x,
                double rate, uint64_t seed) {
  Input<T> in;
  if (!x.is_none()) in = any_shape<T>("dropout", "x", x);
  auto y = new_array<T>(shape);
  T* out = y.mutable_data();
  {
    NoGil nogil;
    dropout<T>(split[0], split[1], split[2], in.data(), rate, seed, out);
  }
  return std::move(y);
}

// Every optimiser: (param, grad, state arrays ...), all of one size and dtype.
template <class T>
struct Slots {
  std::string op;
  py::array array;
  std::vector<py::array> others;
  index n;
  T* param;
  Input<T> grad;
  Slots(const std::string& op_, const py::object& p, const py::object& g)
      : op(op_), array(as_array(op, "param", p)), n(size_of(array)) {
    param = in_place("param", array);
    grad = dense<T>(op, "grad", g, "of param", as_shape(array), "param");
    others = {array, grad.array};
  }
  // An array of the optimiser's own, apart from all others.
  T* state(const char* name, const py::object& o) {
    if (o.is_none()) return nullptr;
    py::array a = as_array(op, name, o);
    T* data = in_place(name, a);
    for (const py::array& other : others)
      if (overlap(a, other)) fail(op, name, "an array of its own", "one that overlaps another argument");
    others.push_back(a);
    return data;
  }
  T* in_place(const char* name, py::array& a) {
    expect_writeable<T>(op, name, a, "param");
    if (!a.attr("shape").equal(array.attr("shape")))
      fail(op, name, "the shape of param = " + text(array.attr("shape")), text(a.attr("shape")));
    return static_cast<T*>(a.mutable_data());
  }
};

template <class T>
void adam(const py::object& p, const py::object& g, const py::object& m, const py::object& v, const py::object& vhat,
          double lr, double beta1, double beta2, double eps, index step, double decay) {
  Slots<T> s("adam_update", p, g);
  if (m.is_none() || v.is_none()) fail_type(s.op, "m and v", "arrays", "None");
  T *pm = s.state("m", m), *pv = s.state("v", v), *ph = s.state("vhat", vhat);
  if (step < 1) fail(s.op, "step", "1 or more", std::to_string(step));
  NoGil nogil;
  adam_update<T>(s.n, s.param, s.grad.data(), pm, pv, ph, lr, beta1, beta2, eps, step, decay);
}

template <class T>
void rmsprop(const py::object& p, const py::object& g, const py::object& sq, const py::object& mom,
             const py::object& avg, double lr, double rho, double momentum, double eps, double decay) {
  Slots<T> s("rmsprop_update", p, g);
  if (sq.is_none()) fail_type(s.op, "sq", "an array", "None");
  T *ps = s.state("sq", sq), *pm = s.state("mom", mom), *pa = s.state("avg", avg);
  NoGil nogil;
  rmsprop_update<T>(s.n, s.param, s.grad.data(), ps, pm, pa, lr, rho, momentum, eps, decay);
}

template <class T>
void sgd(const py::object& p, const py::object& g, const py::object& velocity, double lr, double momentum,
         bool nesterov, double decay) {
  Slots<T> s("sgd_update", p, g);
  T* pv = s.state("velocity", velocity);
  NoGil nogil;
  sgd_update<T>(s.n, s.param, s.grad.data(), pv, lr, momentum, nesterov, decay);
}

}  // namespace

// f<float> or f<double>, by the dtype of one argument.
#define FASTRNN_BY_DTYPE(op, name, object, f) (is_double(op, name, object) ? f<double> : f<float>)

void bind_ops(py::module_& m) {
  m.def("as_array", &as_array);  // for the Python side of `functional` and the layers
  m.def("linear", [](const py::object& x, const py::object& w, const py::object& b, const py::tuple& act,
                     const py::object& out) {
    return FASTRNN_BY_DTYPE("linear", "x", x, conv)("linear", true, x, w, b, 1, 1, 0, 0, act, out);
  });
  m.def("linear_backward", [](const py::object& x, const py::object& w, const py::object& y, const py::object& grad_y,
                              const py::tuple& act, bool need_grad_x, bool has_bias) {
    return FASTRNN_BY_DTYPE("linear_backward", "x", x, conv_backward)("linear_backward", true, x, w, y, grad_y, 1, 1, 0,
                                                                       0, act, need_grad_x, has_bias);
  });
  m.def("conv1d", [](const py::object& x, const py::object& w, const py::object& b, index stride, index dilation,
                     index left, index right, const py::tuple& act, const py::object& out) {
    return FASTRNN_BY_DTYPE("conv1d", "x", x, conv)("conv1d", false, x, w, b, stride, dilation, left, right, act, out);
  });
  m.def("conv1d_backward", [](const py::object& x, const py::object& w, const py::object& y, const py::object& grad_y,
                              index stride, index dilation, index left, index right, const py::tuple& act,
                              bool need_grad_x, bool has_bias) {
    return FASTRNN_BY_DTYPE("conv1d_backward", "x", x, conv_backward)(
        "conv1d_backward", false, x, w, y, grad_y, stride, dilation, left, right, act, need_grad_x, has_bias);
  });
  m.def("activation", [](const py::object& x, const py::tuple& act) {
    return FASTRNN_BY_DTYPE("activation", "x", x, unary)(x, act);
  });
  m.def("activation_backward", [](const py::object& x, const py::object& grad_y, const py::tuple& act) {
    return FASTRNN_BY_DTYPE("activation_backward", "x", x, unary_backward)(x, grad_y, act);
  });
  m.def("softmax", [](const py::object& x, const py::object& mask) {
    return FASTRNN_BY_DTYPE("softmax", "x", x, soft_max)(x, mask);
  });
  m.def("softmax_backward", [](const py::object& y, const py::object& grad_y) {
    return FASTRNN_BY_DTYPE("softmax_backward", "y", y, soft_max_backward)(y, grad_y);
  });
  m.def("embedding", [](const py::object& ids, const py::object& weight, const py::object& out) {
    return FASTRNN_BY_DTYPE("embedding", "weight", weight, embed)(ids, weight, out);
  });
  m.def("embedding_backward", [](const py::object& ids, const py::object& grad_y, index vocabulary) {
    return FASTRNN_BY_DTYPE("embedding_backward", "grad_y", grad_y, embed_backward)(ids, grad_y, vocabulary);
  });
  m.def("dropout", [](const py::object& x, double rate, uint64_t seed, index outer, index repeat, index inner) {
    const py::array a = as_array("dropout", "x", x);
    const auto broadcast = [&] {  // without a product that overflows
      const index size = index(a.size());
      if (outer < 0 || repeat < 0 || inner < 0) return false;
      if (outer == 0 || repeat == 0 || inner == 0) return size == 0;
      return size % outer == 0 && size / outer % repeat == 0 && size / outer / repeat == inner;
    };
    if (!broadcast()) fail("dropout", "x", "whole broadcast axes", text(a.attr("shape")));
    return FASTRNN_BY_DTYPE("dropout", "x", x, drop)({outer, repeat, inner}, shape_of(a), x, rate, seed);
  });
  m.def("dropout_mask", [](index n, double rate, uint64_t seed, bool is_double) {
    if (n < 0) fail("dropout_mask", "shape", "no negative size", std::to_string(n));
    return (is_double ? drop<double> : drop<float>)({1, 1, n}, {n}, py::none(), rate, seed);
  });
  m.def("adam_update", [](const py::object& p, const py::object& g, const py::object& m_, const py::object& v,
                          const py::object& vhat, double lr, double beta1, double beta2, double eps, index step,
                          double decay) {
    FASTRNN_BY_DTYPE("adam_update", "param", p, adam)(p, g, m_, v, vhat, lr, beta1, beta2, eps, step, decay);
  });
  m.def("rmsprop_update", [](const py::object& p, const py::object& g, const py::object& sq, const py::object& mom,
                             const py::object& avg, double lr, double rho, double momentum, double eps, double decay) {
    FASTRNN_BY_DTYPE("rmsprop_update", "param", p, rmsprop)(p, g, sq, mom, avg, lr, rho, momentum, eps, decay);
  });
  m.def("sgd_update", [](const py::object& p, const py::object& g, const py::object& velocity, double lr,
                         double momentum, bool nesterov, double decay) {
    FASTRNN_BY_DTYPE("sgd_update", "param", p, sgd)(p, g, velocity, lr, momentum, nesterov, decay);
  });
}

}  // namespace fastrnn::bindings
