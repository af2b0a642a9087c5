// How many threads a piece of work is worth, and how long a chunk of time is: the tunable numbers of the recurrence.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>

#include "fastrnn/runtime.hpp"
#include "fastrnn/types.hpp"
#include "meeting.hpp"

namespace fastrnn {

// Entering a parallel region costs a microsecond while the workers are awake: a few times that, in floating-point
// operations. (While they sleep: worth_helpers.)
constexpr double kWorkPerThread = 6e5;
constexpr double kFar = 100;  // nanoseconds to meet, from which on it costs more

constexpr size_t kCoreCache = size_t(1) << 20;  // weights that a core's own cache no longer holds

inline int plan_threads(double flops, index shares) {
  const auto plan = [&](double meeting) {  // far apart, what the threads share takes longer to come, too
    const double worth = std::max(1.0, flops / (kWorkPerThread * std::max(1.0, meeting / kFar)));
    return int(std::max<index>(1, std::min<index>(shares, index(std::min<double>(num_threads(), worth)))));
  };
  const int near = plan(kNear);
  return near > 1 && worth_helpers(flops) ? plan(meeting_time()) : 1;
}

// How long a team waits for its members, in microseconds: a tenth of the work, at a rate that a small case reaches.
inline double plan_patience(double flops) { return flops / 20e3 * 0.1; }

// How the recurrence of one call is cut up.
//
// By rows: each shard of rows is one thread's from the first step to the last; nobody waits for anybody. By units: one
// shard, which a team shares (plan_team). Results do not depend on the number of threads, and the choice may not
// either: a shard sums weight gradients of its own, so the number of shards, which depends on the shape alone, decides
// the order of the sums.
struct RecurrentPlan {
  index shards;
  bool chunked;  // the input product of a chunk of steps, if it is more than one, comes before its recurrence, rather than
                 // with each step
};

// For bench/plan.py, which measures what each choice costs: automatic unless set.
enum class Split : int { automatic, rows, units, pipeline };
inline std::atomic<Split> forced_split{Split::automatic};

inline RecurrentPlan plan_recurrent(index batch, index steps, index inputs, index hidden, index slots, size_t value,
                                    bool training) {
  constexpr index kMostShards = 8, kRows = 16;       // sixteen rows fill the register tiles
  constexpr index kFewRows = 8;                       // too few for the register tiles when shared out
  constexpr double kShortStep = 2e4;                 // operations for a gate: a team would mostly wait
  constexpr size_t kAllSums = size_t(128) << 20;     // weight gradients are summed once per shard
  const size_t recurrent = size_t(slots * hidden * hidden) * value;
  const size_t weights = size_t(slots * hidden * inputs) * value + recurrent;
  const Split wanted = forced_split.load(std::memory_order_relaxed);
  // one thread is better off with all rows in one shard; in training the sums forbid asking for the number of threads
  const double step = 2.0 * double(batch * slots * hidden) * double(inputs + hidden);
  const bool alone = batch < 2 || step * double(steps) < 2 * kWorkPerThread || (!training && num_threads() == 1);
  const bool few = batch < kFewRows && (alone || step >= kShortStep * double(slots));
  // far apart, threads that share out rows of several gates are faster from fewer rows on; a call without gradients may
  // choose by that
  const bool apart = !training && !alone && slots > 1 && 2 * batch >= kFewRows && meeting_time() > 2 * kNear;
  const bool units = wanted == Split::automatic ? (few && !apart) || recurrent >= kCoreCache : wanted != Split::rows;
  if (units) return {1, true};
  index shards = std::max<index>(1, std::min<index>(batch, 2));
  while (2 * shards <= kMostShards && 2 * shards * kRows <= batch && 2 * size_t(shards) * weights <= kAllSums) shards *= 2;
  return {shards, false};
}

// Products that no step waits for may go by kernels for whole matrices, where there are any (matrices.hpp). Those of
// rows, whose bits must depend on nothing else, by the sizes of the weights; those that add up over rows, by the rows,
// too.
inline bool worth_matrices(index K, index columns) {
  constexpr index kLeast = 32, kWeights = 20000;
  return K >= kLeast && columns >= kLeast && K * columns >= kWeights;
}
inline bool worth_matrix_sums(index rows, index steps, index inputs, index columns) {
  constexpr index kSteps = 16, kRows = 4, kSum = 1 << 17;
  return steps >= kSteps && inputs >= 32 && (rows >= kRows ? inputs * columns >= 16384 : inputs * columns >= kSum);
}

// How the members of a team share the steps of a shard: each has units of its own, and they meet after each step; or,
// in a pipeline, one walks through the steps while the others do what no step waits for, the products of x ahead of it
// and those of the weight gradients behind it. Neither choice changes a result.
struct TeamPlan {
  int members;
  bool pipelined;
};

// Of a step, in operations: `walk` waits for the step before, `others` do not.
inline TeamPlan plan_team(index rows, double walk, double others, index panels) {
  constexpr double kRate = 100;       // operations that one thread does in a nanosecond
  constexpr double kMeetings = 2.5;   // a step by units takes longer by so many: what the others wrote has to come, too
  constexpr double kHandedOver = 0.5; // one of a pipeline by so many of what a meeting takes beyond kNear, per product
  constexpr double kWait = 1e4;       // a step waits for the one before
  constexpr double kGain = 0.85;      // more time than that of one thread is not worth a second
  // divided by the rows:
  constexpr double kSlower = 1;       // a step waits for weights, which only its rows share
  constexpr double kUneven = 0.1;     // in a pipeline somebody waits at the ends
  const auto at_most = [](double n) { return int(std::max(1.0, std::min<double>(n, num_threads()))); };
  const double few = 1 / double(std::max<index>(rows, 1)), alone = walk * (1 + kSlower * few) + kWait;
  const Split wanted = forced_split.load(std::memory_order_relaxed);
  const auto plan = [&](double meeting) -> TeamPlan {
    const double meet = kMeetings * kRate * meeting;
    const double hand_over = kHandedOver * kRate * std::max(0.0, meeting - kNear) * others / std::max(walk, 1.0);
    const int by_units = at_most(std::min<double>(double(panels), (walk + others) / meet));
    const int stages = at_most(1 + std::ceil(others / alone));
    const double units = by_units > 1 ? (alone + others) / by_units + meet : kGain * (alone + others);
    const double pipeline = std::max(alone, (1 + kUneven * few) * (alone + others) / stages) + hand_over;
    const bool pipelined = wanted == Split::automatic ? stages > 1 && pipeline < units : wanted == Split::pipeline;
    return {pipelined ? stages : by_units, pipelined};
  };
  const TeamPlan near = plan(kNear);
  return near.members > 1 && wanted == Split::automatic ? plan(meeting_time()) : near;
}

// A pipeline takes so many rows at once: those of a register tile, or of a tile of matrices; what these sum, whose order
// depends on it, twice as many.
constexpr index pipeline_rows(bool matrices) { return matrices ? 16 : 12; }
constexpr index pipeline_sums(bool matrices) { return matrices ? 32 : 12; }

// Steps of which a pipeline makes the products of x at once.
inline index block_steps(index rows, bool matrices) {
  return std::max<index>(1, pipeline_rows(matrices) / std::max<index>(1, rows));
}

// What a call would take by itself.
struct Work {
  double flops;
  index steps;
  int threads;
  size_t recurrent;  // bytes of the weights that every step reads
};

// For tests and measurements: automatic unless set.
enum class Order : int { automatic, in_turn, side_by_side };
inline std::atomic<Order> forced_order{Order::automatic};

// Two calls that do not need each other: at the same time on one thread each, or in turn, each on all the threads it
// would take? Side by side they are twice as fast where one thread each is what they would take; and where two would,
// still faster, as nobody waits for anybody within a call: by 1.1 to 1.3 times by units, and up to 1.1 by rows.
inline bool plan_side_by_side(const Work& a, const Work& b) {
  constexpr double kStep = 4e3;  // a step of few units costs as much as so many operations, 60 to 100 nanoseconds
  constexpr double kGain = 0.8;  // what each thread after the first adds to a call's speed
  const Order wanted = forced_order.load(std::memory_order_relaxed);
  if (wanted != Order::automatic) return wanted == Order::side_by_side;
  // in turn, each thread reads its share of the weights, which fits a cache of its own for longer
  if (num_threads() == 1 || std::max(a.recurrent, b.recurrent) > kCoreCache) return false;
  const auto work = [](const Work& w) { return w.flops + kStep * double(w.steps); };
  const auto alone = [&](const Work& w) {
    return work(w) / (1 + kGain * (w.threads - 1)) + (w.threads > 1 ? kWorkPerThread : 0);
  };
  return std::max(work(a), work(b)) + kWorkPerThread < alone(a) + alone(b);
}

// Steps whose input product is computed at once: rows enough for the register tiles, and to pay for reading weights
// that no cache of a core holds; few enough bytes to stay in cache.
inline index projected_steps(index rows, size_t bytes_per_row, size_t weight_bytes, bool matrices, index steps) {
  const size_t cache_bytes = size_t(matrices ? 1024 : 256) << 10;  // matrices: where AMX is, the second cache is 2 MB
  const index enough = matrices || weight_bytes > (size_t(2) << 20) ? 256 : 48;
  rows = std::max<index>(rows, 1);
  const index by_cache = index(cache_bytes / std::max<size_t>(1, bytes_per_row * size_t(rows)));
  return std::max<index>(1, std::min(steps, std::max(by_cache, (enough + rows - 1) / rows)));
}

// Steps whose gate gradients are turned into weight gradients together: enough rows for a long inner product, few
// enough bytes to be still in the cache of the core that wrote them. Sums that do not fit a cache are read and
// written once per chunk: then a chunk is longer.
inline index chunk_steps(index rows, size_t bytes_per_row, size_t sum_bytes, bool matrices, index steps) {
  const size_t cache_bytes = size_t(matrices ? 1024 : 256) << 10;
  const index enough = matrices || sum_bytes > (size_t(2) << 20) ? 256 : 64;
  const index by_cache = index(cache_bytes / std::max<size_t>(1, bytes_per_row * size_t(std::max<index>(rows, 1))));
  const index by_rows = (enough + rows - 1) / std::max<index>(rows, 1);
  return std::max<index>(1, std::min(steps, std::max(by_cache, by_rows)));
}

// Whether so many rows make their weight gradients in place. Otherwise these are summed transposed, in full register
// tiles, which is up to 8 % faster, and moved at the end: with 50 rows and 512 units that was a tenth of the time.
inline bool sums_in_place(double rows, index shards) { return shards == 1 && rows <= 256; }

// Steps from one state that is kept to the next, where what lies between is computed again: whole chunks, so that the
// weight gradients are summed in the same order. `wanted` -1: about as many as there are such states. 0: keep all.
inline index plan_checkpoint(index wanted, index chunk, index steps) {
  if (wanted == 0) return 0;
  if (wanted < 0) wanted = index(std::ceil(std::sqrt(double(steps))));
  const index every = wanted > steps ? steps : (wanted + chunk - 1) / chunk * chunk;
  return every < steps ? every : 0;
}

}  // namespace fastrnn
