// What the two convolutions share: blocks of rows, the taps of a window, weights packed by taps, checks of the shape.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "checks.hpp"
#include "fastrnn/ops.hpp"
#include "memory.hpp"
#include "packing.hpp"

namespace fastrnn {

constexpr index kBlockRows = 480;  // at most; a multiple of every register tile
constexpr index kFewestRows = 48, kBlocks = 8;  // fewer, down to these, where there would not be so many blocks

struct Block {
  index b, first, last;
};

// The rows of each sequence in even blocks.
inline std::vector<Block> row_blocks(index batch, index rows) {
  std::vector<Block> list;
  const index for_threads = std::min(kBlocks / std::max<index>(batch, 1), rows / kFewestRows);
  const index per = std::max<index>({1, (rows + kBlockRows - 1) / kBlockRows, for_threads});
  for (index b = 0; b < batch; ++b)
    for (index i = 0; i < per; ++i) list.push_back({b, rows * i / per, rows * (i + 1) / per});
  return list;
}

// The taps of a window in rows of `width` values that stand `pitch` apart.
inline Runs window_runs(index kernel, index dilation, index width, index pitch) {
  Runs runs;
  for (index k = 0; k < kernel; ++k) runs.add(k * dilation * pitch, width);
  return runs;
}

// weight (F, C, K) as a product operand. Forward: rows (k, c), columns f; backward: rows (K-1-k, f), columns c.
template <class T>
Buffer<T> pack_taps(const KernelTable<T>& kernels, const View<const T>& weight, bool backward) {
  const int L = kernels.lanes;
  const index F = weight.shape[0], C = weight.shape[1], K = weight.shape[2];
  const index depth = backward ? F : C, columns = backward ? C : F;
  const index by_row = weight.stride[backward ? 0 : 1], by_column = weight.stride[backward ? 1 : 0];
  Buffer<T> packed(size_t(std::max<index>(1, panels_of(columns, L) * L * K * depth)));
  for_panels(panels_of(columns, L), K * depth * L, [&](index p) {
    for (index k = 0; k < K; ++k)
      pack_panel(kernels, weight.data + (backward ? K - 1 - k : k) * weight.stride[2] + p * L * by_column, by_row,
                 by_column, depth, std::min<index>(L, columns - p * L), packed.data() + (p * K + k) * depth * L, L);
  });
  return packed;
}

// bias (F,) padded to whole vectors; empty if there is none.
template <class T>
Buffer<T> pack_filter_bias(const KernelTable<T>& kernels, const View<const T>& bias, index filters) {
  if (!bias) return {};
  const int L = kernels.lanes;
  Buffer<T> packed(size_t(panels_of(filters, L) * L));
  for (index n = 0; n < filters; n += L)
    pack_panel(kernels, bias.data + n * bias.stride[0], 0, bias.stride[0], 1, std::min<index>(L, filters - n),
               packed.data() + n, L);
  return packed;
}

inline void check_padding(const std::string& op, const ConvShape& s) {
  // far beyond any use, and small enough that no product of two sizes below overflows
  constexpr index kLimit = index(1) << 31;
  for (index value : {s.kernel, s.dilation, s.stride})
    if (value < 1 || value >= kLimit)
      fail(op, "kernel, dilation and stride", "1 to 2^31 - 1", std::to_string(value));
  if (s.window() >= kLimit) fail(op, "dilation", "a window below 2^31 steps", std::to_string(s.window()));
  if (s.pad_left < 0 || s.pad_right < 0 || s.pad_left >= s.window() || s.pad_right >= s.window())
    fail(op, "padding", "0 to window - 1 = " + std::to_string(s.window() - 1),
         std::to_string(s.pad_left) + " and " + std::to_string(s.pad_right));
}

// Input rows under the windows of so many outputs.
inline index rows_needed(const ConvShape& s, index outputs) { return (outputs - 1) * s.stride + s.window(); }

}  // namespace fastrnn
