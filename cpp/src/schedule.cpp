// Lengths and masks to a schedule; see schedule.hpp.
#include "schedule.hpp"

#include <algorithm>
#include <numeric>

namespace fastrnn {

Schedule::Schedule(index batch_, index steps_, const View<const index>& lengths, const View<const bool>& mask,
                   bool reverse)
    : batch(batch_), time(steps_), row(batch_), direction_(reverse ? -1 : 1) {
  std::vector<index> valid(batch, time), first(batch, 0);
  bool gaps = false;
  for (index b = 0; b < batch; ++b) {
    if (lengths) valid[b] = lengths.data[b * lengths.stride[0]];
    if (mask) {
      index n = 0, lo = -1, hi = -1;
      for (index t = 0; t < time; ++t)
        if (mask.data[b * mask.stride[0] + t * mask.stride[1]]) {
          if (lo < 0) lo = t;
          hi = t;
          ++n;
        }
      valid[b] = n;
      first[b] = std::max<index>(lo, 0);
      gaps |= n > 0 && hi - lo + 1 != n;
    }
  }
  std::iota(row.begin(), row.end(), index(0));
  std::stable_sort(row.begin(), row.end(), [&](index a, index b) { return valid[a] > valid[b]; });
  for (index b : row) {
    count.push_back(valid[b]);
    first_.push_back(reverse ? first[b] + valid[b] - 1 : first[b]);
  }
  steps = batch > 0 ? count[0] : 0;
  start.assign(1, 0);
  for (index s = 0, n = batch; s < steps; ++s) {
    while (n > 0 && count[n - 1] <= s) --n;
    start.push_back(start.back() + n);
  }
  if (!gaps) return;
  times_.resize(total());
  for (index r = 0; r < batch; ++r) {
    const bool* m = mask.data + row[r] * mask.stride[0];
    for (index s = 0, t = reverse ? time - 1 : 0; s < count[r]; t += direction_)
      if (m[t * mask.stride[1]]) times_[start[s++] + r] = t;
  }
}

RowOffsets::RowOffsets(const Schedule& s, index stride_batch, index stride_time)
    : gaps_(!s.times_.empty()), per_step_(gaps_ ? 0 : s.direction_ * stride_time) {
  if (!gaps_) {
    for (index r = 0; r < s.batch; ++r) table_.push_back(s.row[r] * stride_batch + s.first_[r] * stride_time);
    return;
  }
  start_ = s.start;
  table_.resize(s.total());
  for (index step = 0; step < s.steps; ++step)
    for (index r = 0; r < s.active(step); ++r)
      table_[s.start[step] + r] = s.row[r] * stride_batch + s.times_[s.start[step] + r] * stride_time;
}

}  // namespace fastrnn
