// How many threads a piece of work is worth, and how long a chunk of time is. The only tunable numbers of the core.
#pragma once

#include <algorithm>

#include "fastrnn/runtime.hpp"
#include "fastrnn/types.hpp"

namespace fastrnn {

// Entering a parallel region costs a few microseconds: about this many floating-point operations.
constexpr double kWorkPerThread = 1e6;

inline int plan_threads(double flops, index shares) {
  const double worth = std::max(1.0, flops / kWorkPerThread);
  return int(std::max<index>(1, std::min<index>(shares, index(std::min<double>(num_threads(), worth)))));
}

// Shards of rows whose weight gradients are summed apart and added up at the end, so that a thread works on rows of its
// own from the first step to the last; 1 where the sums are too large to be kept several times. A power of two that
// depends on the shape alone, so that results do not depend on the number of threads.
inline index gradient_shards(index batch, size_t sum_bytes) {
  constexpr size_t kLargestSum = size_t(4) << 20;
  constexpr index kMost = 8, kLeastRows = 8;
  index shards = 1;
  while (sum_bytes <= kLargestSum && shards < kMost && batch >= 2 * shards * kLeastRows) shards *= 2;
  return shards;
}

// The most threads, at most `threads`, that share the shards evenly.
inline int threads_for_shards(int threads, index shards) {
  int n = 1;
  while (2 * n <= threads && 2 * n <= shards) n *= 2;
  return n;
}

// Steps whose gate gradients are turned into weight gradients together: enough rows for a long inner product, few
// enough bytes to be still in the cache of the core that wrote them. Independent of the number of threads, so that
// the sums are too.
inline index chunk_steps(index batch, size_t bytes_per_row, index steps) {
  constexpr size_t kCacheBytes = size_t(256) << 10;
  constexpr index kRows = 64;
  const index by_cache = index(kCacheBytes / std::max<size_t>(1, bytes_per_row * size_t(std::max<index>(batch, 1))));
  const index by_rows = (kRows + batch - 1) / std::max<index>(batch, 1);
  return std::max<index>(1, std::min(steps, std::max(by_cache, by_rows)));
}

}  // namespace fastrnn
