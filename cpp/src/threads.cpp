// Tasks and teams on top of helpers.hpp.
#include "threads.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "fastrnn/runtime.hpp"
#include "helpers.hpp"

#if defined(__linux__)
#include <sched.h>
#endif

namespace fastrnn {
namespace {

std::atomic<int> thread_limit{0}, assumed_processors{0};

int count_processors() {
#if defined(__linux__)
  cpu_set_t set;  // those this process may use, which a container may have limited
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
  return std::max(1, int(std::thread::hardware_concurrency()));
}

int processors() {
  static std::atomic<int> counted{0};
  if (const int assumed = assumed_processors.load(std::memory_order_relaxed)) return assumed;
  int n = counted.load(std::memory_order_relaxed);
  if (n == 0) counted.store(n = count_processors(), std::memory_order_relaxed);
  return n;
}

// OMP_NUM_THREADS is where users say it once for all numerical libraries; its first number counts.
int default_threads() {
  const char* text = std::getenv("OMP_NUM_THREADS");
  const long wanted = text ? std::strtol(text, nullptr, 10) : 0;
  return wanted > 0 ? int(std::min<long>(wanted, processors())) : processors();
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

struct Abandoned {};  // thrown by Team::until

// The first exception of a call; nothing new is begun after it.
class Failure {
 public:
  std::atomic<bool> happened{false};

  template <class F>
  void guard(const F& f) {
    try {
      f();
    } catch (const Abandoned&) {
    } catch (...) {
      if (!happened.exchange(true)) first_ = std::current_exception();
    }
  }
  void rethrow() const {  // when all have stopped
    if (first_) std::rethrow_exception(first_);
  }

 private:
  std::exception_ptr first_;
};

}  // namespace

void assume_processors(int processors) { assumed_processors.store(processors); }

std::string thread_source() { return helpers_kind(); }

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

void Team::wait() {
  flags_[rank].epoch.store(++epoch_, std::memory_order_release);
  for (int other = 0; other < size; ++other)
    until([&] { return int32_t(flags_[other].epoch.load(std::memory_order_acquire) - epoch_) >= 0; });
}

void Team::abandon() { throw Abandoned{}; }

void run_tasks(int threads, index count, const std::function<void(int, index)>& task) {
  std::atomic<index> next{0};
  Failure failure;
  const auto work = [&](int rank) {
    FlushDenormals flush;
    failure.guard([&] {
      for (index i; !failure.happened.load(std::memory_order_relaxed) && (i = next++) < count;) task(rank, i);
    });
  };
  with_helpers(int(std::min<index>({threads, processors(), count})) - 1, work, [&](Crew&) { work(0); });
  failure.rethrow();
}

void run_calls(int threads, index count, const std::function<void(index)>& call) {
  std::atomic<index> next{0};
  std::vector<std::exception_ptr> thrown(static_cast<size_t>(count));
  const auto work = [&](int) {
    for (index i; (i = next++) < count;) try {
        call(i);
      } catch (...) {
        thrown[size_t(i)] = std::current_exception();
      }
  };
  with_helpers(int(std::min<index>({threads, processors(), count})) - 1, work, [&](Crew&) { work(0); });
  for (const std::exception_ptr& e : thrown)
    if (e) std::rethrow_exception(e);
}

void run_groups(int threads, index count, double patience, const std::function<void(Team&, int, index)>& work) {
  threads = std::min(threads, processors());
  if (threads < 2 * count || threads < 2)
    return run_tasks(threads, count, [&](int thread, index i) {
      Team alone;
      work(alone, thread, i);
    });
  std::vector<Team::Flag> flags(static_cast<size_t>(threads));
  std::atomic<index> next{0};
  std::atomic<int> size{0};  // known when the crew is complete
  Failure failure;
  const auto join = [&](int rank) {
    const int members = int(size.load() / count);  // of a team; one alone takes what comes
    if (members < 2) {
      for (index i; !failure.happened.load(std::memory_order_relaxed) && (i = next++) < count;) {
        Team alone;
        work(alone, int(i), i);
      }
      return;
    }
    const int group = rank / members;
    Team team(flags.data() + group * members, &failure.happened, rank - group * members, members);
    if (group < count) work(team, group, group);
  };
  const auto member = [&](int rank) {
    FlushDenormals flush;
    for (Spin spin; size.load(std::memory_order_acquire) == 0;) spin.once();
    failure.guard([&] { join(rank); });
  };
  with_helpers(threads - 1, member, [&](Crew& crew) {
    const auto late = std::chrono::steady_clock::now() + std::chrono::duration<double, std::micro>(patience);
    for (Spin spin; crew.joined() < crew.coming() && std::chrono::steady_clock::now() < late;) spin.once();
    size.store(1 + crew.close(), std::memory_order_release);
    member(0);
  });
  failure.rethrow();
}

}  // namespace fastrnn
