// Pooling, attention over time, held outputs: reductions of (B, T, F) arrays with an optional mask (B, T).
#include <algorithm>

#include "arrays.hpp"
#include "fastrnn/ops.hpp"

namespace fastrnn::bindings {
namespace {

// x (B, T, F) and the mask that goes with it.
template <class T>
struct Sequence {
  Input<T> x;
  Input<bool> mask_array;
  const bool* mask = nullptr;
  index B, T_, F;

  Sequence(const std::string& op, const std::string& name, const py::object& object, const py::object& mask_object)
      : x(dense<T>(op, name, object, "(B, T, F)", {-1, -1, -1})),
        B(x.array.shape(0)), T_(x.array.shape(1)), F(x.array.shape(2)) {
    if (mask_object.is_none()) return;
    const py::array a = as_array(op, "mask", mask_object);
    if (a.dtype().kind() != 'b') fail_type(op, "mask", "dtype bool", text(a.dtype()));
    mask_array = dense<bool>(op, "mask", mask_object, "(B, T)", {B, T_});
    mask = mask_array.data();
  }
};

template <class T>
PoolShape pool_shape(const std::string& op, index B, index time, index F, index size, index stride, index left,
                     index out_time) {
  if (size < 1) fail(op, "pool_size", "a positive integer", std::to_string(size));
  if (stride < 1) fail(op, "stride", "a positive integer", std::to_string(stride));
  // every window touches the sequence
  if (out_time > 0 && (left < 0 || left >= size || (out_time - 1) * stride - left >= time))
    fail(op, "padding", "windows that overlap the sequence", "a padding of " + std::to_string(left));
  return {B, time, F, size, stride, left, out_time};
}

template <class T>
py::tuple max_pool(const py::object& x, index size, index stride, index left, index out_time) {
  const Sequence<T> in("max_pool1d", "x", x, py::none());
  const PoolShape s = pool_shape<T>("max_pool1d", in.B, in.T_, in.F, size, stride, left, out_time);
  auto y = new_array<T>({in.B, out_time, in.F});
  auto at = new_array<int32_t>({in.B, out_time, in.F});
  T* py_ = y.mutable_data();
  int32_t* pi = at.mutable_data();
  {
    NoGil nogil;
    max_pool1d<T>(s, in.x.data(), py_, pi);
  }
  return py::make_tuple(y, at);
}

// All of -1 .. time - 1? Without a branch in the loop, for it is as long as the arrays.
void check_winners(const std::string& op, index n, const int32_t* winner, index time) {
  const uint32_t most = uint32_t(std::min<index>(time, INT32_MAX));
  uint32_t outside = 0;
  for (index i = 0; i < n; ++i) outside |= uint32_t(uint32_t(winner[i]) + 1u > most);
  if (!outside) return;
  const auto wrong = std::find_if(winner, winner + n, [=](int32_t w) { return uint32_t(w) + 1u > most; });
  fail(op, "indices", "values from -1 to T - 1 = " + std::to_string(time - 1), std::to_string(*wrong));
}

// (B, To, F) or, after global pooling, (B, F)
template <class T>
py::object max_pool_backward(const py::object& indices, const py::object& grad_y, index time) {
  const bool global = as_array("max_pool1d_backward", "grad_y", grad_y).ndim() == 2;
  const char* op = global ? "global_max_pool1d_backward" : "max_pool1d_backward";
  const Input<T> dy = input<T>(op, "grad_y", grad_y);
  if (!global) expect_ndim(op, "grad_y", dy.view, "(B, To, F) or (B, F)", 3);
  const std::vector<index> shape(dy.view.shape, dy.view.shape + dy.view.ndim);
  const Input<T> g = dense<T>(op, "grad_y", grad_y, "of indices", shape);
  const Input<int32_t> at = dense<int32_t>(op, "indices", indices, "of grad_y", shape, "indices from the forward pass");
  if (time < 0) fail(op, "T", "0 or more", std::to_string(time));
  const index B = shape[0], To = global ? 1 : shape[1], F = shape.back();
  check_winners(op, index(at.array.size()), at.data(), time);
  auto dx = new_array<T>({B, time, F});
  T* out = dx.mutable_data();
  {
    NoGil nogil;
    max_pool1d_backward<T>({B, time, F, 1, 1, 0, To}, at.data(), g.data(), out);
  }
  return std::move(dx);
}

template <class T>
py::object avg_pool(const py::object& x, index size, index stride, index left, index out_time) {
  const Sequence<T> in("avg_pool1d", "x", x, py::none());
  const PoolShape s = pool_shape<T>("avg_pool1d", in.B, in.T_, in.F, size, stride, left, out_time);
  auto y = new_array<T>({in.B, out_time, in.F});
  T* out = y.mutable_data();
  {
    NoGil nogil;
    avg_pool1d<T>(s, in.x.data(), out);
  }
  return std::move(y);
}

template <class T>
py::object avg_pool_backward(const py::object& grad_y, index time, index size, index stride, index left) {
  const Sequence<T> g("avg_pool1d_backward", "grad_y", grad_y, py::none());
  const PoolShape s = pool_shape<T>("avg_pool1d_backward", g.B, time, g.F, size, stride, left, g.T_);
  auto dx = new_array<T>({g.B, time, g.F});
  T* out = dx.mutable_data();
  {
    NoGil nogil;
    avg_pool1d_backward<T>(s, g.x.data(), out);
  }
  return std::move(dx);
}

template <class T>
py::tuple global_max(const py::object& x, const py::object& mask) {
  const Sequence<T> in("global_max_pool1d", "x", x, mask);
  auto y = new_array<T>({in.B, in.F});
  auto at = new_array<int32_t>({in.B, in.F});
  T* out = y.mutable_data();
  int32_t* pi = at.mutable_data();
  {
    NoGil nogil;
    global_max_pool1d<T>(in.B, in.T_, in.F, in.x.data(), in.mask, out, pi);
  }
  return py::make_tuple(y, at);
}

template <class T>
py::object global_avg(const py::object& x, const py::object& mask) {
  const Sequence<T> in("global_avg_pool1d", "x", x, mask);
  auto y = new_array<T>({in.B, in.F});
  T* out = y.mutable_data();
  {
    NoGil nogil;
    global_avg_pool1d<T>(in.B, in.T_, in.F, in.x.data(), in.mask, out);
  }
  return std::move(y);
}

template <class T>
py::object global_avg_backward(const py::object& grad_y, index time, const py::object& mask) {
  const char* op = "global_avg_pool1d_backward";
  const Input<T> g = dense<T>(op, "grad_y", grad_y, "(B, F)", {-1, -1});
  const index B = g.array.shape(0), F = g.array.shape(1);
  if (time < 0) fail(op, "T", "0 or more", std::to_string(time));
  Input<bool> m;
  if (!mask.is_none()) m = dense<bool>(op, "mask", mask, "(B, T)", {B, time}, "a mask");
  auto dx = new_array<T>({B, time, F});
  T* out = dx.mutable_data();
  {
    NoGil nogil;
    global_avg_pool1d_backward<T>(B, time, F, g.data(), m.data(), out);
  }
  return std::move(dx);
}

template <class T>
py::tuple attend(const py::object& x, const py::object& scores, const py::object& mask) {
  const Sequence<T> in("attention_pool", "x", x, mask);
  const Input<T> s = dense<T>("attention_pool", "scores", scores, "(B, T)", {in.B, in.T_});
  auto y = new_array<T>({in.B, in.F});
  auto w = new_array<T>({in.B, in.T_});
  T *out = y.mutable_data(), *pw = w.mutable_data();
  {
    NoGil nogil;
    attention_pool<T>(in.B, in.T_, in.F, in.x.data(), s.data(), in.mask, out, pw);
  }
  return py::make_tuple(y, w);
}

template <class T>
py::tuple attend_backward(const py::object& x, const py::object& weights, const py::object& grad_y) {
  const char* op = "attention_pool_backward";
  const Sequence<T> in(op, "x", x, py::none());
  const Input<T> w = dense<T>(op, "weights", weights, "(B, T)", {in.B, in.T_}),
                 g = dense<T>(op, "grad_y", grad_y, "(B, F)", {in.B, in.F});
  auto dx = new_array<T>({in.B, in.T_, in.F});
  auto ds = new_array<T>({in.B, in.T_});
  T *px = dx.mutable_data(), *ps = ds.mutable_data();
  {
    NoGil nogil;
    attention_pool_backward<T>(in.B, in.T_, in.F, in.x.data(), w.data(), g.data(), px, ps);
  }
  return py::make_tuple(dx, ds);
}

template <class T>
py::object hold(bool backward, const py::object& y, const py::object& mask) {
  const char* op = backward ? "hold_last_backward" : "hold_last";
  if (mask.is_none()) fail_type(op, "mask", "a NumPy array", "None");
  const Sequence<T> in(op, backward ? "grad_y" : "y", y, mask);
  auto result = new_array<T>({in.B, in.T_, in.F});
  T* out = result.mutable_data();
  {
    NoGil nogil;
    (backward ? hold_last_backward<T> : hold_last<T>)(in.B, in.T_, in.F, in.x.data(), in.mask, out);
  }
  return std::move(result);
}

}  // namespace

#define FASTRNN_BY_DTYPE(op, name, object, f) (is_double(op, name, object) ? f<double> : f<float>)

void bind_pooling(py::module_& m) {
  m.def("max_pool1d", [](const py::object& x, index size, index stride, index left, index out_time) {
    return FASTRNN_BY_DTYPE("max_pool1d", "x", x, max_pool)(x, size, stride, left, out_time);
  });
  m.def("max_pool1d_backward", [](const py::object& indices, const py::object& grad_y, index time) {
    return FASTRNN_BY_DTYPE("max_pool1d_backward", "grad_y", grad_y, max_pool_backward)(indices, grad_y, time);
  });
  m.def("avg_pool1d", [](const py::object& x, index size, index stride, index left, index out_time) {
    return FASTRNN_BY_DTYPE("avg_pool1d", "x", x, avg_pool)(x, size, stride, left, out_time);
  });
  m.def("avg_pool1d_backward", [](const py::object& grad_y, index time, index size, index stride, index left) {
    return FASTRNN_BY_DTYPE("avg_pool1d_backward", "grad_y", grad_y, avg_pool_backward)(grad_y, time, size, stride, left);
  });
  m.def("global_max_pool1d", [](const py::object& x, const py::object& mask) {
    return FASTRNN_BY_DTYPE("global_max_pool1d", "x", x, global_max)(x, mask);
  });
  m.def("global_avg_pool1d", [](const py::object& x, const py::object& mask) {
    return FASTRNN_BY_DTYPE("global_avg_pool1d", "x", x, global_avg)(x, mask);
  });
  m.def("global_avg_pool1d_backward", [](const py::object& grad_y, index time, const py::object& mask) {
    return FASTRNN_BY_DTYPE("global_avg_pool1d_backward", "grad_y", grad_y, global_avg_backward)(grad_y, time, mask);
  });
  m.def("attention_pool", [](const py::object& x, const py::object& scores, const py::object& mask) {
    return FASTRNN_BY_DTYPE("attention_pool", "x", x, attend)(x, scores, mask);
  });
  m.def("attention_pool_backward", [](const py::object& x, const py::object& weights, const py::object& grad_y) {
    return FASTRNN_BY_DTYPE("attention_pool_backward", "x", x, attend_backward)(x, weights, grad_y);
  });
  m.def("hold_last", [](const py::object& y, const py::object& mask) {
    return FASTRNN_BY_DTYPE("hold_last", "y", y, hold)(false, y, mask);
  });
  m.def("hold_last_backward", [](const py::object& grad_y, const py::object& mask) {
    return FASTRNN_BY_DTYPE("hold_last_backward", "grad_y", grad_y, hold)(true, grad_y, mask);
  });
}

}  // namespace fastrnn::bindings
