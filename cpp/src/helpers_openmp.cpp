// Helpers from OpenMP, for programs that want all their threads from one place (cmake -DFASTRNN_OPENMP=ON).
//
// All helpers come at once, and the region ends when the last has been there, even one that the system woke up too late
// to do anything: on a busy machine that costs a time slice, which is why it is not the default.
#include <omp.h>

#include <atomic>

#include "helpers.hpp"

#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace fastrnn {
namespace {

std::atomic<bool> leased{false};
// GNU's OpenMP hangs in a child process whose parent had used it: one thread is what is left there.
std::atomic<bool> forked{false};
#if !defined(_WIN32)
const int at_fork = pthread_atfork(nullptr, nullptr, [] { forked.store(true); });
#endif

struct FixedCrew final : Crew {
  int count = 0;
  int joined() override { return count; }
  int coming() override { return count; }
  int close() override { return count; }
};

}  // namespace

void with_helpers(int wanted, const std::function<void(int)>& help, const std::function<void(Crew&)>& lead) {
  FixedCrew crew;
  if (wanted < 1 || forked.load() || omp_in_parallel() || leased.exchange(true)) return lead(crew);
#pragma omp parallel num_threads(wanted + 1)
  if (omp_get_thread_num() == 0) {
    crew.count = omp_get_num_threads() - 1;
    lead(crew);
  } else {
    help(omp_get_thread_num());
  }
  leased.store(false, std::memory_order_release);
}

bool helpers_awake() { return true; }  // for all that is known

const char* helpers_kind() { return "openmp"; }

}  // namespace fastrnn
