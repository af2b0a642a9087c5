// Which time step of which row is processed when, so that no padding is ever computed.
//
// The rows of a batch are sorted by their number of valid steps, longest first, and dealt to shards; each shard is then
// worked on by one thread from its first step to its last. At step s of a shard the rows [0, active(s)) run. Masked
// steps are skipped, not carried: skipping leaves the state as it was, which is what a mask means. Buffers that keep
// values per step are packed: step s, row r stands at start[s] + r.
#pragma once

#include <vector>

#include "fastrnn/types.hpp"

namespace fastrnn {

class Schedule {
 public:
  index rows() const { return index(row.size()); }
  index steps() const { return index(start.size()) - 1; }  // of the longest row
  index active(index s) const { return s < steps() ? start[s + 1] - start[s] : 0; }
  index total() const { return start.back(); }

  index time = 0;            // T: positions of the padded array
  std::vector<index> row;    // row of the shard -> row of the batch
  std::vector<index> count;  // valid steps of the row, descending
  std::vector<index> start;  // steps + 1 values

 private:
  friend class RowOffsets;
  friend std::vector<Schedule> make_schedules(index, index, const View<const index>&, const View<const bool>&, bool,
                                              index);
  index direction_ = 1;
  std::vector<index> first_;  // position in time of the row's first step
  std::vector<index> times_;  // of every step and row; only if a mask has gaps
};

// Every `shards`-th row of the sorted batch goes to the same shard. Lengths and mask may be missing.
std::vector<Schedule> make_schedules(index batch, index time, const View<const index>& lengths,
                                     const View<const bool>& mask, bool reverse, index shards);

// Where the rows of step s stand in an array of the given strides: base(s) + at(s)[r].
class RowOffsets {
 public:
  RowOffsets(const Schedule& schedule, index stride_batch, index stride_time);
  const index* at(index s) const { return table_.data() + (gaps_ ? start_[s] : 0); }
  index base(index s) const { return s * per_step_; }

 private:
  bool gaps_;
  index per_step_;
  std::vector<index> table_;
  std::vector<index> start_;
};

}  // namespace fastrnn
