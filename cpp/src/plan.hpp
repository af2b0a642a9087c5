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

// Parts into which the rows of a batch are dealt, the unit of work of a thread. Each sums weight gradients of its own, which
// are added up in order at the end: the number of shards depends on the shape alone, so results do not depend on the
// number of threads. Sixteen rows fill the register tiles; large sums are kept fewer times.
inline index row_shards(index batch, size_t sum_bytes) {
  constexpr size_t kAllSums = size_t(128) << 20;
  constexpr index kMost = 8, kRows = 16;
  index shards = std::max<index>(1, std::min<index>(batch, 2));
  while (2 * shards <= kMost && 2 * shards * kRows <= batch && 2 * size_t(shards) * sum_bytes <= kAllSums) shards *= 2;
  return shards;
}

// Steps whose gate gradients are turned into weight gradients together: enough rows for a long inner product, few
// enough bytes to be still in the cache of the core that wrote them.
inline index chunk_steps(index rows, size_t bytes_per_row, index steps) {
  constexpr size_t kCacheBytes = size_t(256) << 10;
  constexpr index kRows = 64;
  const index by_cache = index(kCacheBytes / std::max<size_t>(1, bytes_per_row * size_t(std::max<index>(rows, 1))));
  const index by_rows = (kRows + rows - 1) / std::max<index>(rows, 1);
  return std::max<index>(1, std::min(steps, std::max(by_cache, by_rows)));
}

}  // namespace fastrnn
