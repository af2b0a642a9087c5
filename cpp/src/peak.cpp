// The rate of multiply-adds that this machine reaches: what a percentage of "peak" is a percentage of.
#include <algorithm>
#include <chrono>
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

}  // namespace fastrnn
