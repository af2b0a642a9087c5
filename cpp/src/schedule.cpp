// Lengths and masks to schedules; see schedule.hpp.
#include "schedule.hpp"

#include <algorithm>
#include <numeric>

namespace fastrnn {

std::vector<Schedule> make_schedules(index batch, index time, const View<const index>& lengths,
                                     const View<const bool>& mask, bool reverse, index shards) {
  const auto is_valid = [&](index b, index t) { return mask.data[b * mask.stride[0] + t * mask.stride[1]]; };
  std::vector<index> valid(batch, time), first(batch, 0), order(batch);
  bool gaps = false;
  for (index b = 0; b < batch; ++b) {
    if (lengths) valid[b] = lengths.data[b * lengths.stride[0]];
    if (!mask) continue;
    index n = 0, low = 0, high = -1;
    for (index t = 0; t < time; ++t)
      if (is_valid(b, t)) {
        if (n++ == 0) low = t;
        high = t;
      }
    valid[b] = n;
    first[b] = low;
    gaps |= high - low + 1 != n && n > 0;
  }
  std::iota(order.begin(), order.end(), index(0));
  if (lengths || mask)
    std::stable_sort(order.begin(), order.end(), [&](index a, index b) { return valid[a] > valid[b]; });

  std::vector<Schedule> result(size_t(std::max<index>(shards, 1)));
  for (Schedule& s : result)
    for (std::vector<index>* rows : {&s.row, &s.count, &s.first_})
      rows->reserve(size_t(batch) / result.size() + 1);
  for (index i = 0; i < batch; ++i) {
    Schedule& s = result[size_t(i % shards)];
    const index b = order[i];
    s.row.push_back(b);
    s.count.push_back(valid[b]);
    s.first_.push_back(reverse ? first[b] + valid[b] - 1 : first[b]);
  }
  for (Schedule& s : result) {
    s.time = time;
    s.direction_ = reverse ? -1 : 1;
    s.start.reserve(size_t(s.rows() > 0 ? s.count[0] + 1 : 1));
    s.start.push_back(0);
    for (index n = s.rows(); n > 0; --n)  // the rows [0, n) run until the last of them ends
      while (s.steps() < s.count[n - 1]) s.start.push_back(s.start.back() + n);
    if (!gaps) continue;
    s.times_.resize(s.total());
    for (index r = 0; r < s.rows(); ++r)
      for (index step = 0, t = reverse ? time - 1 : 0; step < s.count[r]; t += s.direction_)
        if (is_valid(s.row[r], t)) s.times_[s.start[step++] + r] = t;
  }
  return result;
}

RowOffsets::RowOffsets(const Schedule& s, index stride_batch, index stride_time)
    : gaps_(!s.times_.empty()), per_step_(gaps_ ? 0 : s.direction_ * stride_time) {
  if (!gaps_) {
    table_.reserve(size_t(s.rows()));
    for (index r = 0; r < s.rows(); ++r) table_.push_back(s.row[r] * stride_batch + s.first_[r] * stride_time);
    return;
  }
  start_ = s.start;
  table_.resize(s.total());
  for (index step = 0; step < s.steps(); ++step)
    for (index r = 0; r < s.active(step); ++r)
      table_[s.start[step] + r] = s.row[r] * stride_batch + s.times_[s.start[step] + r] * stride_time;
}

}  // namespace fastrnn
