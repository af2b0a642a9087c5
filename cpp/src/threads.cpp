// The only file that knows OpenMP. Without it everything runs on the calling thread.
#include "threads.hpp"

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <string>

#include "fastrnn/runtime.hpp"

#if defined(_OPENMP)
#include <omp.h>
#endif
#if defined(__SSE2__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace fastrnn {
namespace {

std::atomic<int> thread_limit{0};

int default_threads() {
#if defined(_OPENMP)
  return std::max(1, std::min(omp_get_max_threads(), omp_get_num_procs()));
#else
  return 1;
#endif
}

// A decaying state reaches denormal numbers, which cost a hundred cycles each: flush them while we compute.
class FlushDenormals {
 public:
#if defined(__SSE2__) || defined(_M_X64)
  FlushDenormals() : old_(_mm_getcsr()) { _mm_setcsr(old_ | 0x8040); }  // FTZ | DAZ
  ~FlushDenormals() { _mm_setcsr(old_); }
  unsigned old_;
#elif defined(__aarch64__)
  FlushDenormals() {
    __asm__ volatile("mrs %0, fpcr" : "=r"(old_));
    __asm__ volatile("msr fpcr, %0" ::"r"(old_ | (uint64_t(1) << 24)));
  }
  ~FlushDenormals() { __asm__ volatile("msr fpcr, %0" ::"r"(old_)); }
  uint64_t old_;
#else
  FlushDenormals() {}
  ~FlushDenormals() {}
#endif
};

}  // namespace

bool has_openmp() {
#if defined(_OPENMP)
  return true;
#else
  return false;
#endif
}

int num_threads() {
  int n = thread_limit.load();
  if (n == 0) thread_limit.store(n = default_threads());
  return n;
}

void set_num_threads(int threads) {
  if (threads < 1)
    throw std::invalid_argument("[set_num_threads] threads: expected a positive integer, got " +
                                std::to_string(threads));
  thread_limit.store(threads);
}

void run_tasks(int threads, index count, const std::function<void(int, index)>& task) {
  std::atomic<index> next{0};
  const auto work = [&](int thread) {
    FlushDenormals flush;
    for (index i = next++; i < count; i = next++) task(thread, i);
  };
#if defined(_OPENMP)
  // Inside somebody else's parallel region one thread is what is left for us.
  if (threads > 1 && count > 1 && !omp_in_parallel()) {
#pragma omp parallel num_threads(int(std::min<index>(threads, count)))
    work(omp_get_thread_num());
    return;
  }
#endif
  (void)threads;
  work(0);
}

}  // namespace fastrnn
