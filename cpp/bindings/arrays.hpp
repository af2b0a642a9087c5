// NumPy arrays in and out: dtype checks, views with strides in elements, outputs from the memory pool.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "checks.hpp"
#include "fastrnn/types.hpp"
#include "memory.hpp"

namespace fastrnn::bindings {

namespace py = pybind11;

// The interpreter's lock given back while the core computes.
//
// Before 3.14 an interpreter that ends stops a daemon thread where it asks for the lock, by unwinding its stack. C++
// would abort the process for that, or destroy Python objects without the lock: such a thread waits here instead.
class NoGil {
 public:
  NoGil() : state_(PyEval_SaveThread()) {}
  NoGil(const NoGil&) = delete;
  ~NoGil() {
    try {
      PyEval_RestoreThread(state_);
    } catch (...) {
      for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
    }
  }

 private:
  PyThreadState* state_;
};

inline std::string text(const py::handle& object) { return py::cast<std::string>(py::str(object)); }

[[noreturn]] inline void fail_type(const std::string& op, const std::string& argument, const std::string& expected,
                                   const std::string& got) {
  throw py::type_error("[" + op + "] " + argument + ": expected " + expected + ", got " + got);
}

// A NumPy array on the memory of something else that lives on the CPU: DLPack (tensors of other libraries), the buffer
// protocol, __array_interface__. Never a copy, so that what is written into it is written into the object.
[[gnu::cold]] inline py::array shared_array(const std::string& op, const std::string& name,
                                            const py::object& object) {
  const std::string type = text(py::type::of(object).attr("__name__"));
  try {
    if (py::hasattr(object, "__dlpack__") && py::hasattr(object, "__dlpack_device__")) {
      if (py::hasattr(object, "requires_grad") && py::bool_(object.attr("requires_grad")))
        fail(op, name, "data without a gradient (pass it through .detach())", "a " + type + " that requires one");
      const py::tuple device = object.attr("__dlpack_device__")();
      const int kind = py::int_(device[0]);
      if (kind != 1 && kind != 3 && kind != 11)  // the CPU's, and memory pinned for CUDA or ROCm
        fail(op, name, "data on the CPU", "a " + type + " on DLPack's device type " + std::to_string(kind));
      return py::module_::import("numpy").attr("from_dlpack")(object);
    }
    if (PyObject_CheckBuffer(object.ptr()) || py::hasattr(object, "__array_interface__"))
      return py::module_::import("numpy").attr("asarray")(object);
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_Exception)) throw;
    fail_type(op, name, "data that NumPy can share", type + " (" + text(error.value()) + ")");
  }
  fail_type(op, name, "a NumPy array", type);
}

// Whatever becomes of a foreign object, the array that is returned must live as long as its memory is used.
inline py::array as_array(const std::string& op, const std::string& name, const py::object& object) {
  if (!py::isinstance<py::array>(object)) return shared_array(op, name, object);
  return py::reinterpret_borrow<py::array>(object);
}

// The dtype that decides the precision of a call.
inline bool is_double(const std::string& op, const std::string& name, const py::object& object) {
  const py::array a = as_array(op, name, object);
  if (py::isinstance<py::array_t<float>>(a)) return false;
  if (py::isinstance<py::array_t<double>>(a)) return true;
  fail_type(op, name, "dtype float32 or float64", text(a.dtype()));
}

template <class T>
void expect_dtype(const std::string& op, const std::string& name, const py::array& a, const char* like = "x") {
  if (!py::isinstance<py::array_t<T>>(a))
    fail_type(op, name, "dtype " + text(py::dtype::of<T>()) + " (that of " + like + ")", text(a.dtype()));
}

// An array that is kept alive together with the core's view of it; none for an argument that is None.
template <class T>
struct Input {
  py::array array = py::reinterpret_steal<py::array>(py::handle());  // py::array() would make an empty one
  View<const T> view;
  operator const View<const T>&() const { return view; }
  const T* data() const { return view.data; }
};

template <class T>
Input<T> wrap(const py::array& a) {
  Input<T> in{a, {}};
  in.view.data = static_cast<const T*>(a.data());
  in.view.ndim = int(a.ndim());
  for (int i = 0; i < in.view.ndim; ++i) {
    in.view.shape[i] = a.shape(i);
    in.view.stride[i] = a.strides(i) / index(sizeof(T));
  }
  return in;
}

inline void expect_few_axes(const std::string& op, const std::string& name, const py::array& a) {
  if (a.ndim() > 4) fail(op, name, "at most 4 axes", std::to_string(a.ndim()));
}

// Any strides that are whole elements; None gives an empty view. `rows`: the last axis must be contiguous, and an
// input that is not is copied.
template <class T>
Input<T> input(const std::string& op, const std::string& name, const py::object& object, bool rows = false,
               const char* like = "x") {
  if (object.is_none()) return {};
  py::array a = as_array(op, name, object);
  expect_dtype<T>(op, name, a, like);
  expect_few_axes(op, name, a);
  bool copy = reinterpret_cast<uintptr_t>(a.data()) % alignof(T) != 0;
  for (py::ssize_t i = 0; i < a.ndim(); ++i) copy |= a.strides(i) % py::ssize_t(sizeof(T)) != 0;
  copy |= rows && a.ndim() > 0 && a.shape(a.ndim() - 1) > 1 && a.strides(a.ndim() - 1) != py::ssize_t(sizeof(T));
  if (copy) a = py::array_t<T, py::array::c_style | py::array::forcecast>(a);
  return wrap<T>(a);
}

// C-contiguous, of a known shape (-1: any); copied if it is not contiguous.
template <class T>
Input<T> dense(const std::string& op, const std::string& name, const py::object& object, const std::string& letters,
               const std::vector<index>& shape, const char* like = "x") {
  py::array a = as_array(op, name, object);
  expect_dtype<T>(op, name, a, like);
  bool same = a.ndim() == py::ssize_t(shape.size());
  bool known = true;
  for (size_t i = 0; i < shape.size(); ++i) {
    same = same && (shape[i] < 0 || a.shape(py::ssize_t(i)) == shape[i]);
    known = known && shape[i] >= 0;
  }
  if (!same)
    fail(op, name, "shape " + letters + (known ? " = " + shape_text(shape.data(), int(shape.size())) : ""),
         text(a.attr("shape")));
  return wrap<T>(py::array_t<T, py::array::c_style | py::array::forcecast>(a));
}

// A new array, uninitialised; large ones come from the core's pool, so that steady work touches no fresh pages.
template <class T>
py::array_t<T> new_array(const std::vector<py::ssize_t>& shape) {
  size_t count = 1;
  for (py::ssize_t n : shape) count *= size_t(n);
  if (count * sizeof(T) < (size_t(1) << 16)) return py::array_t<T>(shape);
  T* block = static_cast<T*>(acquire(count * sizeof(T)));
  return py::array_t<T>(shape, block, py::capsule(block, [](void* p) { release(p); }));
}

template <class T>
View<T> view_of(py::array_t<T>& a) {
  View<T> v;
  v.data = a.mutable_data();
  v.ndim = int(a.ndim());
  for (int i = 0; i < v.ndim; ++i) {
    v.shape[i] = a.shape(i);
    v.stride[i] = a.strides(i) / index(sizeof(T));
  }
  return v;
}

// The bytes between an array's first and last element.
inline void memory_range(const py::array& a, uintptr_t& first, uintptr_t& last) {
  first = last = reinterpret_cast<uintptr_t>(a.data());
  for (py::ssize_t i = 0; i < a.ndim(); ++i) {
    if (a.shape(i) == 0) {
      last = first;
      return;
    }
    const auto reach = (a.shape(i) - 1) * a.strides(i);
    (reach < 0 ? first : last) += uintptr_t(reach);
  }
  last += uintptr_t(a.itemsize());
}

inline bool overlap(const py::array& a, const py::array& b) {
  uintptr_t a0, a1, b0, b1;
  memory_range(a, a0, a1);
  memory_range(b, b0, b1);
  return a0 < b1 && b0 < a1;
}

// Is this an array that can be written from the first to the last element: dtype T, C-contiguous, writeable?
template <class T>
void expect_writeable(const std::string& op, const std::string& name, const py::array& a, const char* like) {
  expect_dtype<T>(op, name, a, like);
  if (!(a.flags() & py::array::c_style)) fail(op, name, "a C-contiguous array", "one with other strides");
  if (!a.writeable()) fail(op, name, "a writeable array", "a read-only one");
  if (reinterpret_cast<uintptr_t>(a.data()) % alignof(T) != 0) fail(op, name, "aligned elements", "an odd address");
}

// The caller's array for a result of this shape, apart from the inputs, or a new one.
template <class T>
py::array output(const std::string& op, const py::object& out, const std::vector<py::ssize_t>& shape,
                 const std::vector<const py::array*>& inputs) {
  if (out.is_none()) return new_array<T>(shape);
  const py::array a = as_array(op, "out", out);
  expect_writeable<T>(op, "out", a, "the result");
  const std::vector<index> wanted(shape.begin(), shape.end());
  if (std::vector<py::ssize_t>(a.shape(), a.shape() + a.ndim()) != shape)
    fail(op, "out", "the shape of the result = " + shape_text(wanted.data(), int(wanted.size())), text(a.attr("shape")));
  for (const py::array* in : inputs)
    if (overlap(a, *in)) fail(op, "out", "an array apart from the arguments", "one that overlaps");
  return a;
}

template <class T>
Activation<T> activation(const py::tuple& spec) {
  return {ActivationKind(spec[0].cast<int>()), T(spec[1].cast<double>()), T(spec[2].cast<double>())};
}

void bind_rnn(py::module_& m);
void bind_ops(py::module_& m);
void bind_pooling(py::module_& m);
void bind_runtime(py::module_& m);
void bind_stream(py::module_& m);
void bind_tokens(py::module_& m);

}  // namespace fastrnn::bindings
