// Which instruction set and how many threads: the only global state there is.
#pragma once

#include <string>
#include <vector>

namespace fastrnn {

// Instruction sets compiled in and supported by this CPU, best first.
std::vector<std::string> available_isas();
// The one in use: the best, or FASTRNN_ISA, or the last use_isa.
std::string current_isa();
// Throws std::invalid_argument when `name` is unknown or this CPU lacks it.
void use_isa(const std::string& name);

// Of the reduced precisions, "bfloat16" and "int8", those that the CPU has instructions for. The others run too, on the
// instructions of the set in use.
std::vector<std::string> native_precisions();
// For tests: do as if the CPU had none of the `tables` best sets of such instructions.
void skip_native(int tables);

// "pool": threads of fastrnn's own, or "openmp": the build was asked to take them from OpenMP.
std::string thread_source();
// The limit of threads per call. Starts at OMP_NUM_THREADS or the number of processors.
int num_threads();
void set_num_threads(int threads);

// Memory kept for reuse by later calls, in bytes, and giving it back to the system.
size_t cached_memory();
void release_memory();

// Floating-point operations per second of float multiply-adds in registers, on `threads` threads with the instruction set
// in use. Takes about 10 ms and keeps the best of its rounds.
double measure_peak(int threads);

std::string compiler();
std::string version();

}  // namespace fastrnn
