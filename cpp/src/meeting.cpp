#include "meeting.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>

#include "fastrnn/runtime.hpp"
#include "helpers.hpp"
#include "threads.hpp"

namespace fastrnn {
namespace {

using Clock = std::chrono::steady_clock;

std::atomic<double> known{kNear}, assumed{0}, declined{0};
std::atomic<Clock::rep> next{0}, until{0}, forgotten{0};

// Nanoseconds of a meeting in the best of the rounds, the first of which waits for the last thread to come. 0 where none
// comes within `patience` microseconds.
double time_meetings(int threads, double patience, int rounds, int meetings) {
  double best = 0;
  run_groups(threads, 1, patience, [&](Team& team, int, index) {
    for (int round = 0; team.size > 1 && round < rounds; ++round) {
      const auto start = Clock::now();
      for (int i = 0; i < meetings; ++i) team.barrier();
      const std::chrono::duration<double, std::nano> each = (Clock::now() - start) / meetings;
      if (team.rank == 0) best = round == 0 ? each.count() : std::min(best, each.count());
    }
  });
  return best;
}

}  // namespace

double measure_meeting(int threads) {
  if (threads < 1)
    throw std::invalid_argument("[measure_meeting] threads: expected a positive integer, got " + std::to_string(threads));
  return 1e-9 * time_meetings(threads, 2e4, 4, 1000);
}

bool worth_helpers(double flops) {
  constexpr double kWorthWaking = 2e7;
  constexpr auto kRemembered = std::chrono::milliseconds(1);
  if (assumed.load(std::memory_order_relaxed) > 0 || helpers_awake()) return true;
  // callers on several threads may lose some of each other's work here, and wake the helpers a call later
  const Clock::time_point now = Clock::now();
  if (now.time_since_epoch().count() < forgotten.load(std::memory_order_relaxed))
    flops += declined.load(std::memory_order_relaxed);
  const bool worth = flops >= kWorthWaking;
  declined.store(worth ? 0 : flops, std::memory_order_relaxed);
  forgotten.store((now + kRemembered).time_since_epoch().count(), std::memory_order_relaxed);
  return worth;
}

double meeting_time() {
  if (const double believed = assumed.load(std::memory_order_relaxed); believed > 0) return believed;
  constexpr auto kWhile = std::chrono::milliseconds(2);  // measuring takes one to five microseconds
  // A call that finds the others too far away does not wake them, and nobody measures again: so a time is believed for a
  // while only, and for a shorter one if it is none of a distance, but of threads that had one processor together.
  constexpr auto kBelieved = std::chrono::milliseconds(50);
  constexpr double kFarthest = 5000;
  const Clock::time_point now = Clock::now();
  const auto passed = [&](const std::atomic<Clock::rep>& time) {
    return now.time_since_epoch().count() >= time.load(std::memory_order_relaxed);
  };
  if (passed(next) && helpers_awake()) {
    next.store((now + kWhile).time_since_epoch().count(), std::memory_order_relaxed);
    if (const double found = time_meetings(2, 5, 3, 4); found > 0) {
      known.store(found, std::memory_order_relaxed);
      const auto end = now + (found < kFarthest ? kBelieved : kWhile);
      until.store(end.time_since_epoch().count(), std::memory_order_relaxed);
    }
  }
  return passed(until) ? kNear : known.load(std::memory_order_relaxed);
}

void assume_meeting(double nanoseconds) { assumed.store(nanoseconds); }

}  // namespace fastrnn
