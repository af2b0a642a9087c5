// The only file that knows OpenMP. Without it everything runs on the calling thread.
#include "threads.hpp"

#include <algorithm>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <thread>

#include "fastrnn/runtime.hpp"

#if defined(_OPENMP)
#include <omp.h>
#endif
#if defined(__SSE2__)
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

void pause() {
#if defined(__SSE2__)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// A decaying state reaches denormal numbers, which cost a hundred cycles each: flush them while we compute.
class FlushDenormals {
 public:
#if defined(__SSE2__)
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

void Team::barrier() {
  if (size_ == 1) return;
  const int generation = generation_.load(std::memory_order_acquire);
  if (waiting_.fetch_add(1, std::memory_order_acq_rel) == size_ - 1) {
    waiting_.store(0, std::memory_order_relaxed);
    generation_.store(generation + 1, std::memory_order_release);
    return;
  }
  for (int spins = 0; generation_.load(std::memory_order_acquire) == generation; ++spins) {
    if (spins < 4000)
      pause();
    else
      std::this_thread::yield();  // the other thread may be waiting for our core
  }
}

void run_team(int threads, const std::function<void(int, Team&)>& body) {
#if defined(_OPENMP)
  // Inside somebody else's parallel region one thread is what is left for us.
  if (threads > 1 && !omp_in_parallel()) {
    Team* team = nullptr;
#pragma omp parallel num_threads(threads)
    {
#pragma omp single
      team = new Team(omp_get_num_threads());
      FlushDenormals flush;
      body(omp_get_thread_num(), *team);
    }
    delete team;
    return;
  }
#endif
  (void)threads;
  Team team(1);
  FlushDenormals flush;
  body(0, team);
}

void parallel_for(int threads, index count, const std::function<void(index)>& body) {
  run_team(int(std::min<index>(threads, std::max<index>(count, 1))), [&](int id, Team& team) {
    const index first = count * id / team.size(), last = count * (id + 1) / team.size();
    for (index i = first; i < last; ++i) body(i);
  });
}

}  // namespace fastrnn
