// Instruction sets, threads, memory.
#include <pybind11/stl.h>

#include "arrays.hpp"
#include "fastrnn/runtime.hpp"

namespace fastrnn::bindings {

void bind_runtime(py::module_& m) {
  current_isa();  // a bad FASTRNN_ISA is reported at import, not at the first call
  m.def("available_isas", &available_isas);
  m.def("current_isa", &current_isa);
  m.def("use_isa", &use_isa, py::arg("name"));
  m.def("num_threads", &num_threads);
  m.def("set_num_threads", &set_num_threads, py::arg("threads"));
  m.def("has_openmp", &has_openmp);
  m.def("compiler", &compiler);
  m.def("version", &version);
  m.def("cached_memory", &cached_memory);
  m.def("release_memory", &release_memory);
}

}  // namespace fastrnn::bindings
