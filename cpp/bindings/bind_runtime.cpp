// Instruction sets, threads, memory.
#include <pybind11/stl.h>

#include "arrays.hpp"
#include "fastrnn/runtime.hpp"
#include "plan.hpp"
#include "threads.hpp"

namespace fastrnn::bindings {

void bind_runtime(py::module_& m) {
  current_isa();  // a bad FASTRNN_ISA is reported at import, not at the first call
  m.def("available_isas", &available_isas);
  m.def("current_isa", &current_isa);
  m.def("use_isa", &use_isa, py::arg("name"));
  m.def("native_precisions", &native_precisions);
  m.def("skip_native", &skip_native);  // for tests
  m.def("num_threads", &num_threads);
  m.def("set_num_threads", &set_num_threads, py::arg("threads"));
  m.def("thread_source", &thread_source);
  // for bench/plan.py: 0 automatic, 1 by rows, 2 by units, 3 in a pipeline
  m.def("force_split", [](int split) { forced_split.store(Split(split)); });
  // for tests and measurements of pairs of calls: 0 automatic, 1 in turn, 2 side by side
  m.def("force_order", [](int order) { forced_order.store(Order(order)); });
  m.def("assume_processors", &assume_processors);  // for tests
  m.def("assume_meeting", &assume_meeting);        // the same, nanoseconds
  m.def("meeting_time", &meeting_time);            // what plans believe now, likewise
  m.def("compiler", &compiler);
  m.def("version", &version);
  m.def("cached_memory", &cached_memory);
  m.def("release_memory", &release_memory);
  m.def("measure_peak", &measure_peak, py::arg("threads"), py::call_guard<py::gil_scoped_release>());
  m.def("measure_meeting", &measure_meeting, py::arg("threads"), py::call_guard<py::gil_scoped_release>());
}

}  // namespace fastrnn::bindings
