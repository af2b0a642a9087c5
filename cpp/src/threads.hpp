// Work on several threads: one parallel region per call, denormals flushed to zero inside.
#pragma once

#include <functional>

#include "fastrnn/types.hpp"

namespace fastrnn {

// task(thread, i) for each i in [0, count), on at most `threads` threads (fewer where the system gives fewer): whoever is
// free takes the next i, so a result must not depend on the thread. Tasks must not throw.
void run_tasks(int threads, index count, const std::function<void(int thread, index i)>& task);

}  // namespace fastrnn
