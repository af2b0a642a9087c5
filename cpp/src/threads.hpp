// A team of threads for one call: a parallel region with a spin barrier inside.
#pragma once

#include <atomic>
#include <functional>

#include "fastrnn/types.hpp"

namespace fastrnn {

class Team {
 public:
  explicit Team(int size) : size_(size) {}
  int size() const { return size_; }
  // Waits until every member is here. Microseconds apart at most, so it spins, and yields only when it takes longer.
  void barrier();

 private:
  int size_;
  std::atomic<int> waiting_{0};
  std::atomic<int> generation_{0};
};

// Runs body(id, team) on up to `threads` threads (fewer where the system gives fewer), denormals flushed to zero
// inside. The body must not throw.
void run_team(int threads, const std::function<void(int id, Team& team)>& body);

// body(i) for i in [0, count), in contiguous shares.
void parallel_for(int threads, index count, const std::function<void(index i)>& body);

}  // namespace fastrnn
