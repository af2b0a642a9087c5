// A stream: one step or one block in, the state kept.
#include <atomic>
#include <memory>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <variant>

#include "arrays.hpp"
#include "cell_layout.hpp"
#include "fastrnn/stream.hpp"

namespace fastrnn::bindings {
namespace {

const std::string kOp = "stream";

// Below about this many floating-point operations, giving up the interpreter's lock costs more than it lets others do.
constexpr double kWorthRelease = 1e5;

template <class T>
Stream<T> make(Cell cell, const py::tuple& gate, const py::tuple& candidate, const py::tuple& output,
               const py::object& weight_ih, const py::object& weight_hh, const py::object& bias_ih,
               const py::object& bias_hh) {
  const char* like = "weight_ih";
  const RnnOptions<T> options{cell, activation<T>(gate), activation<T>(candidate), activation<T>(output), false, true};
  const Input<T> w_ih = input<T>(kOp, "weight_ih", weight_ih, false, like),
                 w_hh = input<T>(kOp, "weight_hh", weight_hh, false, like),
                 b_ih = input<T>(kOp, "bias_ih", bias_ih, false, like),
                 b_hh = input<T>(kOp, "bias_hh", bias_hh, false, like);
  return Stream<T>(options, {w_ih, w_hh, b_ih, b_hh});
}

// An array of one row or of rows: what x and y are.
template <class T>
index rows_of(const char* name, const py::array& a, index width, const char* letters) {
  expect_dtype<T>(kOp, name, a, "the weights");
  if ((a.ndim() != 1 && a.ndim() != 2) || a.shape(a.ndim() - 1) != width)
    fail(kOp, name, letters + std::to_string(width), text(a.attr("shape")));
  return a.ndim() == 2 ? index(a.shape(0)) : 1;
}

template <class T>
py::object process(Stream<T>& stream, const py::object& object, const py::object& out) {
  py::array x = as_array(kOp, "x", object);
  const index steps = rows_of<T>("x", x, stream.inputs(), "shape (T, I) or (I,) with I = ");
  if (!(x.flags() & py::array::c_style) || reinterpret_cast<uintptr_t>(x.data()) % alignof(T) != 0)
    x = py::array_t<T, py::array::c_style | py::array::forcecast>(x);
  py::array y;
  if (out.is_none()) {
    y = x.ndim() == 2 ? new_array<T>({steps, stream.hidden()}) : new_array<T>({stream.hidden()});
  } else {
    y = as_array(kOp, "out", out);
    const index rows = rows_of<T>("out", y, stream.hidden(), "shape (T, H) or (H,) with H = ");
    if (rows != steps || y.ndim() != x.ndim())
      fail(kOp, "out", "as many steps as x = " + text(x.attr("shape")), text(y.attr("shape")));
    if (!y.writeable()) fail(kOp, "out", "a writeable array", "a read-only one");
    if (!(y.flags() & py::array::c_style)) fail(kOp, "out", "a C-contiguous array", "one with other strides");
    if (reinterpret_cast<uintptr_t>(y.data()) % alignof(T) != 0) fail(kOp, "out", "aligned elements", "an odd address");
    if (overlap(x, y)) fail(kOp, "out", "an array that does not overlap x", "one that does");
  }
  const T* from = static_cast<const T*>(x.data());
  T* to = static_cast<T*>(y.mutable_data());
  const double flops = 2.0 * double(steps) * double(stream.hidden()) * double(stream.hidden() + stream.inputs());
  if (flops < kWorthRelease) {
    stream.process(from, steps, to);
  } else {
    py::gil_scoped_release nogil;
    stream.process(from, steps, to);
  }
  return out.is_none() ? py::object(std::move(y)) : out;
}

template <class T>
py::tuple get_state(const Stream<T>& stream) {
  auto h = new_array<T>({stream.hidden()});
  if (stream.cell() != Cell::lstm) {
    stream.get_state(h.mutable_data(), nullptr);
    return py::make_tuple(h);
  }
  auto c = new_array<T>({stream.hidden()});
  stream.get_state(h.mutable_data(), c.mutable_data());
  return py::make_tuple(h, c);
}

template <class T>
void set_state(Stream<T>& stream, const py::object& h, const py::object& c) {
  const auto row = [&](const char* name, const py::object& object) {
    if (object.is_none()) return Input<T>{};
    Input<T> in = input<T>(kOp, name, object, true, "the weights");
    expect_shape(kOp, name, in.view, "(H,)", {stream.hidden()});
    return in;
  };
  const Input<T> in_h = row("h", h), in_c = row("c", c);
  stream.set_state(in_h.data(), in_c.data());
}

// Long blocks run without the interpreter's lock, so a second thread may come in: it is told, rather than let loose on
// the state.
class PyStream {
 public:
  template <class T>
  explicit PyStream(Stream<T>&& stream) : core_(std::move(stream)) {}

  template <class F>
  auto visit(F f) {
    const Turn turn(busy_);
    return std::visit(f, core_);
  }
  template <class F>
  auto look(F f) const { return std::visit(f, core_); }  // at what does not change

 private:
  struct Turn {
    std::atomic<bool>& busy;
    explicit Turn(std::atomic<bool>& flag) : busy(flag) {
      if (busy.exchange(true, std::memory_order_acquire))
        throw std::runtime_error("[stream] call: expected one thread at a time, got a second one");
    }
    ~Turn() { busy.store(false, std::memory_order_release); }
  };
  std::variant<Stream<float>, Stream<double>> core_;
  std::atomic<bool> busy_{false};
};

}  // namespace

void bind_stream(py::module_& m) {
  py::class_<PyStream>(m, "Stream", "One recurrent layer with its state; see fastrnn.streaming.")
      .def(py::init([](int cell, const py::tuple& gate, const py::tuple& candidate, const py::tuple& output,
                       const py::object& weight_ih, const py::object& weight_hh, const py::object& bias_ih,
                       const py::object& bias_hh) {
             if (cell < 0 || cell >= kCells) throw py::value_error("[stream] cell: expected 0 to 3");
             const auto of = [&](auto zero) {
               using T = decltype(zero);
               return std::make_unique<PyStream>(
                   make<T>(Cell(cell), gate, candidate, output, weight_ih, weight_hh, bias_ih, bias_hh));
             };
             return is_double(kOp, "weight_ih", weight_ih) ? of(double()) : of(float());
           }))
      .def("process", [](PyStream& s, const py::object& x, const py::object& out) {
             return s.visit([&](auto& core) { return process(core, x, out); });
           }, py::arg("x"), py::arg("out") = py::none())
      .def("reset", [](PyStream& s) { s.visit([](auto& core) { core.reset(); }); })
      .def("get_state", [](PyStream& s) { return s.visit([](auto& core) { return get_state(core); }); })
      .def("set_state", [](PyStream& s, const py::object& h, const py::object& c) {
        s.visit([&](auto& core) { set_state(core, h, c); });
      })
      .def("copy", [](PyStream& s) {
        return s.visit([](auto& core) { return std::make_unique<PyStream>(std::decay_t<decltype(core)>(core)); });
      })
      .def_property_readonly("inputs", [](const PyStream& s) {
        return s.look([](const auto& core) { return core.inputs(); });
      })
      .def_property_readonly("hidden", [](const PyStream& s) {
        return s.look([](const auto& core) { return core.hidden(); });
      })
      .def_property_readonly("nbytes", [](const PyStream& s) {
        return s.look([](const auto& core) { return core.bytes(); });
      })
      .def_property_readonly("is_double", [](const PyStream& s) {
        return s.look([](const auto& core) { return std::is_same_v<std::decay_t<decltype(core)>, Stream<double>>; });
      });
}

}  // namespace fastrnn::bindings
