// Where other threads come from: fastrnn's own pool (helpers_pool.cpp), or OpenMP's (helpers_openmp.cpp) where the
// build asks for it.
#pragma once

#include <functional>

namespace fastrnn {

// The helpers that have come so far.
class Crew {
 public:
  virtual int joined() = 0;
  virtual int coming() = 0;  // at most so many will have joined: those that exist, of those wanted
  virtual int close() = 0;  // nobody joins from now on; returns how many did

 protected:
  ~Crew() = default;
};

// Runs lead(crew) on the calling thread and help(rank), rank = 1, 2 ..., on up to `wanted` others as they come; returns
// when all that came have finished. Nobody comes while another call has the helpers. Neither may throw.
void with_helpers(int wanted, const std::function<void(int rank)>& help, const std::function<void(Crew&)>& lead);

// Whether at least one of them is awake.
bool helpers_awake();

const char* helpers_kind();

}  // namespace fastrnn
