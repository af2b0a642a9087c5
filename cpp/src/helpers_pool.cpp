// fastrnn's own pool: threads that wait for the next call, awake for a moment and asleep after that.
//
// A call opens a gate; workers that see it join, as many as are wanted; then the call closes it and waits for those
// that joined, and for nobody else. So a call never waits for a worker that the system does not run, one call at a time
// has the workers (the others do their work alone: never more threads than callers and workers), and a child process
// simply starts a pool of its own.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>

#include "helpers.hpp"
#include "spin.hpp"

#if !defined(_WIN32)
#include <pthread.h>
#include <signal.h>
#endif
#if defined(__linux__)
#include <sched.h>
#endif

namespace fastrnn {
namespace {

// About as long as the Python between two layers takes; a worker that sleeps needs as long again to wake up.
constexpr auto kAwake = std::chrono::microseconds(200);

// The gate: generation (32 bits), how many may join (16), how many have joined (16).
constexpr uint64_t kOne = 1, kMany = 0xffff;
uint64_t gate_of(uint64_t generation, uint64_t limit) { return generation << 32 | limit << 16; }
uint64_t generation_of(uint64_t gate) { return gate >> 32; }
uint64_t limit_of(uint64_t gate) { return gate >> 16 & kMany; }
uint64_t joined_of(uint64_t gate) { return gate & kMany; }

#if defined(__linux__)
int this_processor() { return sched_getcpu(); }

// A thread that is started or woken often finds itself on the processor of the one that woke it, and stays there for
// milliseconds, in which the two take turns instead of working side by side. A moment without that processor moves it.
void leave_processor(int processor) {
  cpu_set_t all, others;
  if (processor < 0 || sched_getcpu() != processor || sched_getaffinity(0, sizeof(all), &all) != 0) return;
  others = all;
  CPU_CLR(processor, &others);
  if (CPU_COUNT(&others) == 0 || sched_setaffinity(0, sizeof(others), &others) != 0) return;
  sched_setaffinity(0, sizeof(all), &all);
}
#else
int this_processor() { return -1; }
void leave_processor(int) {}
#endif

class Pool {
 public:
  bool lease() { return !leased_.exchange(true, std::memory_order_acquire); }
  void give_back() { leased_.store(false, std::memory_order_release); }

  // For the call that has the lease: how many of `count` workers there are, fewer where the system refuses another
  // thread.
  int grow(int count) {
    try {
      for (; started_ < count; ++started_) start();
    } catch (const std::exception&) {
    }
    return std::min<int>(started_, count);
  }

  void open(int wanted, const std::function<void(int)>& help) {
    caller_.store(this_processor(), std::memory_order_relaxed);
    help_ = &help;
    finished_.store(0, std::memory_order_relaxed);
    gate_.store(gate_of(++generation_ & 0xffffffff, uint64_t(wanted)));
    // a worker that is about to sleep either is counted here or sees the gate
    const int asleep = asleep_.load(), missing = std::min(asleep, wanted - (started_ - asleep));
    if (missing <= 0) return;
    { const std::lock_guard<std::mutex> lock(mutex_); }
    for (int i = 0; i < missing; ++i) wake_.notify_one();
  }

  bool awake() const { return started_ > asleep_.load(std::memory_order_relaxed); }

  int joined() const { return int(joined_of(gate_.load(std::memory_order_acquire))); }

  int close() { return int(joined_of(gate_.fetch_and(~(kMany << 16), std::memory_order_acq_rel))); }

  void wait_for(int joined) const {
    Spin spin;
    while (finished_.load(std::memory_order_acquire) < joined) spin.once();
  }

 private:
  using Clock = std::chrono::steady_clock;

  void start() {
#if !defined(_WIN32)
    // Signals belong to the threads of the program; except those that say where this one has crashed.
    sigset_t most, old;
    sigfillset(&most);
    for (const int crash : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT}) sigdelset(&most, crash);
    pthread_sigmask(SIG_SETMASK, &most, &old);
    struct Restore {
      sigset_t* mask;
      ~Restore() { pthread_sigmask(SIG_SETMASK, mask, nullptr); }
    } restore{&old};
#endif
    std::thread([this] { work(); }).detach();
  }

  [[noreturn]] void work() {
    uint64_t seen = 0;
    for (auto sleepy = Clock::now() + kAwake;;) {
      uint64_t gate = wait_for_gate(seen, sleepy);
      seen = generation_of(gate);
      leave_processor(caller_.load(std::memory_order_relaxed));
      if (!join(gate)) continue;  // others did: this one may be one too many to stay awake for
      (*help_)(int(joined_of(gate)) + 1);
      finished_.fetch_add(1, std::memory_order_release);
      sleepy = Clock::now() + kAwake;
    }
  }

  bool join(uint64_t& gate) {
    const uint64_t generation = generation_of(gate);
    while (generation_of(gate) == generation && joined_of(gate) < limit_of(gate))
      if (gate_.compare_exchange_weak(gate, gate + kOne, std::memory_order_acq_rel)) return true;
    return false;
  }

  uint64_t wait_for_gate(uint64_t seen, Clock::time_point& sleepy) {
    Spin spin;
    for (int i = 1;; ++i, spin.once()) {
      const uint64_t gate = gate_.load(std::memory_order_acquire);
      if (generation_of(gate) != seen) return gate;
      if (i % 64 == 0 && Clock::now() > sleepy) break;
    }
    std::unique_lock<std::mutex> lock(mutex_);
    asleep_.fetch_add(1);
    uint64_t gate = 0;
    wake_.wait(lock, [&] { return generation_of(gate = gate_.load()) != seen; });
    asleep_.fetch_sub(1);
    sleepy = Clock::now() + kAwake;
    return gate;
  }

  std::atomic<bool> leased_{false};
  std::atomic<int> caller_{-1};  // the processor the call came from
  std::atomic<int> started_{0};
  uint64_t generation_ = 0;
  const std::function<void(int)>* help_ = nullptr;
  alignas(64) std::atomic<uint64_t> gate_{0};
  alignas(64) std::atomic<int> finished_{0};
  alignas(64) std::atomic<int> asleep_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
};

// Never destroyed: workers wait on it until the process ends. A child process has none of its parent's threads, so it
// begins with a new pool.
std::atomic<Pool*> current{nullptr};

#if !defined(_WIN32)
const int at_fork = pthread_atfork(nullptr, nullptr, [] { current.store(nullptr); });
#endif

Pool& pool() {
  Pool* p = current.load(std::memory_order_acquire);
  if (p) return *p;
  Pool* mine = new Pool;
  if (current.compare_exchange_strong(p, mine, std::memory_order_acq_rel)) return *mine;
  delete mine;
  return *p;
}

struct NoCrew final : Crew {
  int joined() override { return 0; }
  int coming() override { return 0; }
  int close() override { return 0; }
};

struct PoolCrew final : Crew {
  Pool& p;
  const int most;
  PoolCrew(Pool& pool, int most) : p(pool), most(most) {}
  int joined() override { return p.joined(); }
  int coming() override { return most; }
  int close() override { return p.close(); }
};

}  // namespace

void with_helpers(int wanted, const std::function<void(int)>& help, const std::function<void(Crew&)>& lead) {
  Pool* p = wanted > 0 ? &pool() : nullptr;
  if (!p || !p->lease()) {
    NoCrew crew;
    return lead(crew);
  }
  wanted = std::min(wanted, int(kMany));
  PoolCrew crew(*p, p->grow(wanted));
  p->open(wanted, help);
  lead(crew);
  p->wait_for(p->close());
  p->give_back();
}

bool helpers_awake() { return pool().awake(); }

const char* helpers_kind() { return "pool"; }

}  // namespace fastrnn
