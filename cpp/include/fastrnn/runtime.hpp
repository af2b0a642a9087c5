// Which instruction set and how many threads: the only global state there is.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "fastrnn/export.h"

namespace fastrnn {

// Instruction sets compiled in and supported by this CPU, best first.
FASTRNN_API std::vector<std::string> available_isas();
// The one in use: the best, or FASTRNN_ISA, or the last use_isa.
FASTRNN_API std::string current_isa();
// Throws std::invalid_argument when `name` is unknown or this CPU lacks it.
FASTRNN_API void use_isa(const std::string& name);

// Of the reduced precisions, "bfloat16" and "int8", those that the CPU has instructions for. The others run too, on the
// instructions of the set in use.
FASTRNN_API std::vector<std::string> native_precisions();
// For tests: do as if the CPU had none of the `tables` best sets of such instructions.
FASTRNN_API void skip_native(int tables);

// "pool": threads of fastrnn's own, or "openmp": the build was asked to take them from OpenMP.
FASTRNN_API std::string thread_source();
// The limit of threads per call. Starts at OMP_NUM_THREADS or the number of processors.
FASTRNN_API int num_threads();
FASTRNN_API void set_num_threads(int threads);

// Memory kept for reuse by later calls, in bytes, and giving it back to the system.
FASTRNN_API std::size_t cached_memory();
FASTRNN_API void release_memory();

// Floating-point operations per second of float multiply-adds in registers, on `threads` threads with the instruction
// set in use. Takes about 10 ms and keeps the best of its rounds.
FASTRNN_API double measure_peak(int threads);

// Seconds that `threads` threads take to meet once: each says that it has come and waits for the others. 0 for one
// thread, or where the system gives no second one. Takes a millisecond.
FASTRNN_API double measure_meeting(int threads);

FASTRNN_API std::string compiler();
FASTRNN_API std::string version();

}  // namespace fastrnn
