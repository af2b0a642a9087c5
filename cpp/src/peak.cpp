// What the benchmarks measure of the machine itself: the rate of its multiply-adds, which a percentage of "peak" is a
// percentage of, and how long its threads take to meet.
#include <algorithm>
#include <chrono>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "dispatch.hpp"
#include "fastrnn/runtime.hpp"
#include "threads.hpp"

namespace fastrnn {

double measure_peak(int threads) {
  if (threads < 1)
    throw std::invalid_argument("[measure_peak] threads: expected a positive integer, got " + std::to_string(threads));
  constexpr index kIterations = 1 << 19;  // half a millisecond or more: long against the start of the threads
  constexpr int kRounds = 16;             // the best one counts, the others were disturbed
  const KernelTable<float>& kernels = active_kernels<float>();
  const index size = index(kSinkVectors) * kernels.lanes;
  std::vector<float> sink(size_t(size * threads));
  std::vector<double> flops(static_cast<size_t>(threads));
  double best = 0;
  for (int round = 0; round < kRounds; ++round) {
    std::fill(sink.begin(), sink.end(), 0.5f);  // the chains tend to 1
    const auto start = std::chrono::steady_clock::now();
    run_tasks(threads, threads, [&](int, index i) {
      flops[size_t(i)] = kernels.multiply_adds(kIterations, sink.data() + i * size);
    });
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    best = std::max(best, threads * flops[0] / seconds.count());
  }
  return best;
}

double measure_meeting(int threads) {
  if (threads < 1)
    throw std::invalid_argument("[measure_meeting] threads: expected a positive integer, got " + std::to_string(threads));
  constexpr int kMeetings = 1000, kRounds = 4;
  constexpr double kPatience = 2e4;  // microseconds for threads to start or wake up
  double best = std::numeric_limits<double>::infinity();
  run_groups(threads, 1, kPatience, [&](Team& team, int, index) {
    for (int round = 0; round < kRounds; ++round) {
      const auto start = std::chrono::steady_clock::now();
      for (int i = 0; i < kMeetings; ++i) team.barrier();
      const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
      if (team.rank == 0) best = std::min(best, team.size > 1 ? seconds.count() / kMeetings : 0);
    }
  });
  return best;
}

}  // namespace fastrnn
