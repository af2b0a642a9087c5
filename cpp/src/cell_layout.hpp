// What the driver knows of a cell: counts and tables, no maths. The maths stands in kernels/cells.hpp.
#pragma once

#include "fastrnn/types.hpp"
#include "kernels/kernel_table.hpp"

namespace fastrnn {

// The slots of a unit that one product adds to, and the gate of the weight matrix behind each.
struct Side {
  int count;
  int slot[4];
  int gate[4];
};

struct CellLayout {
  const char* name;
  int gates;   // in weight_ih and weight_hh
  int slots;   // accumulators per unit, saved values per unit, gate gradients per unit
  int phases;  // products per step
  bool has_c;
  bool folds;  // its slots may share vectors (UnitPanels in packing.hpp): the kernels have a version for that
  int accumulators[kMaxPhases];      // of the slots, those that phase p computes: its packed bias has this many
  int first_slot[kMaxPhases];
  Side x[kMaxPhases], h[kMaxPhases];  // forward, per phase; slots count from the phase's first
  Side x_all, h_all[kMaxPhases];      // backward: slots count from 0
};

inline const CellLayout& layout(Cell cell) {
  static constexpr Side one{1, {0}, {0}}, four{4, {0, 1, 2, 3}, {0, 1, 2, 3}}, none{0, {}, {}};
  static constexpr Side gru_x{3, {0, 1, 2}, {0, 1, 2}}, gru_h{3, {0, 1, 3}, {0, 1, 2}};
  static constexpr Side two{2, {0, 1}, {0, 1}}, candidate{1, {0}, {2}}, candidate_all{1, {2}, {2}};
  static constexpr CellLayout layouts[kCells] = {
      {"rnn", 1, 1, 1, false, false, {1, 0}, {0, 0}, {one, none}, {one, none}, one, {one, none}},
      {"lstm", 4, 4, 1, true, true, {4, 0}, {0, 0}, {four, none}, {four, none}, four, {four, none}},
      {"gru", 3, 4, 1, false, true, {4, 0}, {0, 0}, {gru_x, none}, {gru_h, none}, gru_x, {gru_h, none}},
      {"gru", 3, 3, 2, false, false, {2, 1}, {0, 2}, {two, candidate}, {two, candidate}, gru_x, {two, candidate_all}},
  };
  return layouts[int(cell)];
}

}  // namespace fastrnn
