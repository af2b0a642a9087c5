// The module fastrnn._core: a list of its parts.
#include "arrays.hpp"

PYBIND11_MODULE(_core, m, pybind11::mod_gil_not_used()) {
  m.doc() = "The C++ core of fastrnn. Use fastrnn.functional and fastrnn.runtime.";
  fastrnn::bindings::bind_runtime(m);
  fastrnn::bindings::bind_rnn(m);
  fastrnn::bindings::bind_stream(m);
  fastrnn::bindings::bind_ops(m);
  fastrnn::bindings::bind_pooling(m);
  fastrnn::bindings::bind_tokens(m);
}
