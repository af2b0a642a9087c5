// How a team shares steps that wait for each other: one member walks through them, the others do ahead of it or behind
// it what no step waits for. They meet a few times per call instead of at every step.
#pragma once

#include <atomic>
#include <memory>

#include "plan.hpp"
#include "threads.hpp"

namespace fastrnn {

// Blocks of work that must be there before the walker comes. Whoever is free takes the next; the walker itself does the
// one it needs if nobody has begun it. Room for `slots` blocks: block i uses the place of block i - slots.
class BlocksAhead {
 public:
  explicit BlocksAhead(index slots) : slots_(slots), done_(new std::atomic<index>[size_t(slots)]) { reset(); }

  void reset() {  // by one member, while the others wait
    next_ = walker_ = 0;
    for (index i = 0; i < slots_; ++i) done_[i] = -1;
  }
  // For the others: work(i) for each i < count that nobody has taken.
  template <class F>
  void help(const Team& team, index count, const F& work) {
    index i = 0;
    const auto has_place = [&] {
      i = next_.load(std::memory_order_relaxed);
      return i >= count || i < walker_.load(std::memory_order_acquire) + slots_;
    };
    for (;;) {
      team.until(has_place);
      if (i >= count) return;
      if (next_.compare_exchange_strong(i, i + 1)) finish(i, work);
    }
  }
  // For the walker: block i, which from now on it reads; it has left those before.
  template <class F>
  void enter(const Team& team, index i, const F& work) {
    walker_.store(i, std::memory_order_release);
    index next = i;
    if (next_.compare_exchange_strong(next, i + 1)) return finish(i, work);
    team.until([&] { return done_[i % slots_].load(std::memory_order_acquire) == i; });
  }

 private:
  template <class F>
  void finish(index i, const F& work) {
    work(i);
    done_[i % slots_].store(i, std::memory_order_release);
  }
  std::atomic<index> next_{0}, walker_{0};
  const index slots_;
  std::unique_ptr<std::atomic<index>[]> done_;
};

// Work behind the walker: several streams that each take in, in order, what it leaves. A stream is one member's at a
// time, so that its sums do not depend on who comes when.
class StreamsBehind {
 public:
  explicit StreamsBehind(int most) : most_(most), streams_(new Stream[size_t(most)]) {}

  void reset() {  // by one member, while the others wait
    walked_ = 0;
    for (int i = 0; i < most_; ++i) streams_[i].done = 0;
  }
  void advance(index walked) { walked_.store(walked, std::memory_order_release); }

  // For every member, the walker when it has come to `last`: work(stream, begin, end) until `count` streams have taken
  // in all that stands before `last`, multiples of at_once(stream) rows but for the last.
  template <class R, class F>
  void follow(const Team& team, int count, const R& at_once, index last, const F& work) {
    const auto look = [&] {  // true: all is done
      bool all = true;
      for (int i = 0; i < count; ++i) {
        const int at = (team.rank * count / team.size + i) % count;  // each begins elsewhere
        Stream& s = streams_[at];
        if (s.done.load(std::memory_order_acquire) >= last) continue;
        all = false;
        if (s.taken.exchange(true, std::memory_order_acquire)) continue;
        const index begin = s.done.load(std::memory_order_relaxed), walked = walked_.load(std::memory_order_acquire);
        // fewer rows wait for more to come
        const index end = walked >= last ? last : begin + (walked - begin) / at_once(at) * at_once(at);
        if (begin < end) {
          work(at, begin, end);
          s.done.store(end, std::memory_order_release);
        }
        s.taken.store(false, std::memory_order_release);
      }
      return all;
    };
    team.until(look);
  }

 private:
  struct alignas(64) Stream {
    std::atomic<index> done{0};
    std::atomic<bool> taken{false};
  };
  std::atomic<index> walked_{0};
  const int most_;
  std::unique_ptr<Stream[]> streams_;
};

}  // namespace fastrnn
