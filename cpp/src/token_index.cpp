// The counting sort behind TokenIndex. Each thread counts the ids of its part of the positions, one pass over the
// vocabulary turns the counts into ranks and places, and each thread puts its positions there: the order is that of one
// thread.
#include "token_index.hpp"

#include <algorithm>
#include <string>
#include <vector>

#include "checks.hpp"
#include "plan.hpp"
#include "threads.hpp"

namespace fastrnn {
namespace {

struct Entry {
  int32_t next, rank;  // next: first how often the id occurs in a part, then where its next position goes
};

// Padding is one token many times over: taking a run at a time, its count does not go through memory at each step.
template <class Id>
index run_end(const Id* ids, index first, index end) {
  index last = first + 1;
  while (last < end && ids[last] == ids[first]) ++last;
  return last;
}

}  // namespace

template <class Id>
TokenIndex index_tokens(index positions, const Id* ids, index vocabulary) {
  if (positions > kMostPositions)
    fail("token_index", "ids", "at most 2^31 - 1 of them", std::to_string(positions));
  TokenIndex t;
  t.positions = positions;
  t.vocabulary = vocabulary;
  t.inverse = Buffer<int32_t>(size_t(positions) + 1);
  t.order = Buffer<int32_t>(size_t(positions) + 1);

  constexpr double kCost = 500;  // of a position, in operations of a product
  const index parts = plan_threads(kCost * double(positions), 1 + positions / (1 + vocabulary));
  const auto bound = [=](index part) { return positions * part / parts; };
  Buffer<Entry> entries(size_t(parts * vocabulary) + 1);
  std::vector<index> wrong(size_t(parts), -1);  // the first position whose id is out of range
  run_tasks(int(parts), parts, [&](int, index part) {
    Entry* entry = entries.data() + part * vocabulary;
    std::fill_n(entry, vocabulary, Entry{0, 0});
    for (index i = bound(part), end = bound(part + 1); i < end;) {
      const index id = index(ids[i]);
      if (id < 0 || id >= vocabulary) {
        wrong[size_t(part)] = i;
        return;
      }
      const index last = run_end(ids, i, end);
      entry[id].next += int32_t(last - i);
      i = last;
    }
  });
  for (index i : wrong)
    if (i >= 0)
      fail("token_index", "ids", "values from 0 to " + std::to_string(vocabulary - 1),
           std::to_string(ids[i]) + " at position " + std::to_string(i));

  const index most = std::min(positions, vocabulary);
  t.token = Buffer<index>(size_t(most) + 1);
  t.start = Buffer<index>(size_t(most) + 1);
  int32_t at = 0;
  for (index v = 0; v < vocabulary; ++v) {
    const int32_t first = at;
    for (index part = 0; part < parts; ++part) {
      Entry& e = entries.data()[part * vocabulary + v];
      const int32_t count = e.next;
      e = {at, int32_t(t.distinct)};
      at += count;
    }
    t.token.data()[t.distinct] = v;  // overwritten by the next id if this one does not occur
    t.start.data()[t.distinct] = first;
    t.distinct += at != first;
  }
  t.start.data()[t.distinct] = at;

  run_tasks(int(parts), parts, [&](int, index part) {
    Entry* entry = entries.data() + part * vocabulary;
    int32_t *inverse = t.inverse.data(), *order = t.order.data();
    for (index i = bound(part), end = bound(part + 1); i < end;) {
      Entry& e = entry[ids[i]];
      const int32_t rank = e.rank;
      int32_t to = e.next;
      for (const index last = run_end(ids, i, end); i < last; ++i) {
        inverse[i] = rank;
        order[to++] = int32_t(i);
      }
      e.next = to;
    }
  });
  return t;
}

template TokenIndex index_tokens(index, const int32_t*, index);
template TokenIndex index_tokens(index, const int64_t*, index);

}  // namespace fastrnn
