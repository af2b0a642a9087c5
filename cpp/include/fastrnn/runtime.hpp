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

bool has_openmp();
// The limit of threads per call. Starts at OMP_NUM_THREADS or the number of processors.
int num_threads();
void set_num_threads(int threads);

// Memory kept for reuse by later calls, in bytes, and giving it back to the system.
size_t cached_memory();
void release_memory();

std::string compiler();
std::string version();

}  // namespace fastrnn
