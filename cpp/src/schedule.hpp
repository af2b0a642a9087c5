// Which time step of which row is processed when, so that no padding is ever computed.
//
// Rows are sorted by their number of valid steps, longest first: at step s the rows [0, active(s)) run. Masked steps
// are skipped, not carried: skipping leaves the state as it was, which is what a mask means. Buffers that keep values
// per step are packed: step s, row r stands at start[s] + r.
#pragma once

#include <vector>

#include "fastrnn/types.hpp"

namespace fastrnn {

class Schedule {
 public:
  Schedule(index batch, index steps, const View<const index>& lengths, const View<const bool>& mask, bool reverse);

  index batch = 0;
  index steps = 0;                // of the longest row
  index time = 0;                 // T: positions of the padded array
  std::vector<index> row;         // sorted position -> row of the batch
  std::vector<index> count;       // valid steps of the sorted row, descending
  std::vector<index> start;       // steps + 1 values
  index active(index s) const { return start[s + 1] - start[s]; }
  index total() const { return start[steps]; }
  bool full() const { return total() == batch * time; }

  // Position in time of step s of sorted row r.
  index time_of(index s, index r) const {
    return times_.empty() ? first_[r] + s * direction_ : times_[start[s] + r];
  }

 private:
  friend class RowOffsets;
  index direction_ = 1;
  std::vector<index> first_;  // position of the first step
  std::vector<index> times_;  // only if a mask has gaps
};

// Where the sorted rows of step s stand in an array of the given strides: base(s) + at(s)[r].
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
