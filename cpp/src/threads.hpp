// Work on several threads: one parallel region per call, denormals flushed to zero inside.
#pragma once

#include <stdint.h>

#include <atomic>
#include <functional>

#include "fastrnn/types.hpp"
#include "spin.hpp"

namespace fastrnn {

// One member of a team of threads that work on the same call.
class Team {
 public:
  struct alignas(64) Flag {
    std::atomic<uint32_t> epoch{0};
  };

  Team() = default;
  Team(int rank, int size) : rank(rank), size(size) {}  // to share things out; it cannot wait
  Team(Flag* flags, const std::atomic<bool>* failed, int rank, int size)
      : rank(rank), size(size), flags_(flags), failed_(failed) {}
  const int rank = 0, size = 1;

  // Returns when every member has called it as often. Members spin, then yield: a core may be taken away at any time.
  // Throws when another member has thrown: that one never comes.
  void barrier() {
    if (size > 1) wait();
  }
  // Spins until done(), as above.
  template <class F>
  void until(const F& done) const {
    for (Spin spin; !done(); spin.once())
      if (failed_ && failed_->load(std::memory_order_relaxed)) abandon();
  }
  // The share of `count` things that falls to this member: [begin(count), end(count)).
  index begin(index count) const { return count * rank / size; }
  index end(index count) const { return count * (rank + 1) / size; }

 private:
  void wait();
  [[noreturn]] static void abandon();
  Flag* flags_ = nullptr;
  const std::atomic<bool>* failed_ = nullptr;
  uint32_t epoch_ = 0;
};

// Both of these use at most `threads` threads, and no more than there are processors. What a task throws first is
// thrown to the caller when all have stopped.

// task(thread, i) for each i in [0, count): whoever is free takes the next i, so a result must not depend on the
// thread.
void run_tasks(int threads, index count, const std::function<void(int thread, index i)>& task);

// work(team, group, i) for each i in [0, count): whoever is free takes the next i, alone; with more threads than things
// each i has a team, of those threads that come within `patience` microseconds. `group` < min(threads, count) tells
// apart the teams that run at the same time.
void run_groups(int threads, index count, double patience,
                const std::function<void(Team& team, int group, index i)>& work);

// call(i) for each i in [0, count), which are calls with regions of their own: these find the helpers taken and stay on
// one thread each. Outside of them the floating-point mode is as it was, as in any call. All run to their end; what the
// first of them threw is thrown.
void run_calls(int threads, index count, const std::function<void(index i)>& call);

// For tests, which run teams larger than their machine: the number of processors to believe in; 0: the system's.
void assume_processors(int processors);

}  // namespace fastrnn
