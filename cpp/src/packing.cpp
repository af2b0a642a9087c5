#include "packing.hpp"

#include <algorithm>

namespace fastrnn {
template <class T>
void pack_panel(const KernelTable<T>& kernels, const T* data, index stride_k, index stride_n, index K, index N,
                T* packed, index row_stride, index width) {
  if (stride_k == 1) {  // the usual weights: N rows of K values
    kernels.transpose(N, K, data, stride_n, packed, row_stride);
  } else if (stride_n == 1) {
    kernels.copy_rows(K, N, data, stride_k, packed, row_stride);
  } else {
    for (index k = 0; k < K; ++k)
      for (index n = 0; n < N; ++n) packed[k * row_stride + n] = data[k * stride_k + n * stride_n];
  }
  if (width == 0) width = kernels.lanes;
  for (index k = 0; N < width && k < K; ++k)
    std::fill(packed + k * row_stride + N, packed + k * row_stride + width, T(0));
}

template <class T>
PackPanels pack_forward(const KernelTable<T>& kernels, const View<const T>& weight, const Side& side,
                       const UnitPanels& panels, bool halved, Buffer<T>& packed) {
  const index K = weight.shape[1], C = side.count, size = K * C * panels.lanes, half = halved && C == 4 ? 2 : C;
  packed = Buffer<T>(size_t(std::max<index>(panels.count() * size, 1)));
  return [=, &kernels, &side, to = packed.data()](index first, index last) {
    for (index p = first; p < last; ++p) {
      T* const panel = to + p * size;
      const bool folded = p == panels.folded();
      const index row = (folded ? panels.vectors(p, side.count) : half) * panels.lanes;
      if (folded) std::fill_n(panel, K * row, T(0));  // slots that are not of this side
      for (int c = 0; c < C; ++c) {
        T* const slot = panel + (folded ? panels.packed_slot(p, side, c) : c / half * K * row + c % half * panels.lanes);
        pack_panel(kernels, weight.data + (side.gate[c] * panels.hidden + p * panels.lanes) * weight.stride[0],
                   weight.stride[1], weight.stride[0], K, panels.units(p), slot, row, panels.slot_stride(p));
      }
    }
  };
}

// A panel is a part of a cache line of every row, and the lines of rows whose distance is a power of two displace each
// other: a few panels are copied together, a few rows at a time.
constexpr index kPanelsTogether = 8;

template <class T>
PackPanels pack_backward(const KernelTable<T>& kernels, const View<const T>& weight, const Side& side, index hidden,
                        Buffer<T>& packed) {
  const index L = kernels.lanes, N = weight.shape[1], K = hidden * side.count, panels = panels_of(N, int(L));
  packed = Buffer<T>(size_t(std::max<index>(panels * K * L, 1)));
  return [=, &kernels, &side, to = packed.data()](index first, index last) {
    const index narrow = narrow_columns(N, K, L);
    for (index begin = 0, end; begin < panels; begin = end) {
      end = std::min(begin + kPanelsTogether, panels);
      index k = first * L * side.count;
      for (index p = first; p < last; ++p) {
        const index units = std::min(L, hidden - p * L);
        for (int c = 0; c < side.count; ++c, k += units) {
          const T* row = weight.data + (side.gate[c] * hidden + p * L) * weight.stride[0];
          for (index n = begin; n < end; ++n) {
            const T* from = row + n * L * weight.stride[1];
            if (narrow > 0 && n == panels - 1)
              pack_panel(kernels, from, weight.stride[1], weight.stride[0], narrow, units, to + n * K * L + k, K, units);
            else
              pack_panel(kernels, from, weight.stride[0], weight.stride[1], units, std::min(L, N - n * L),
                         to + (n * K + k) * L, L);
          }
        }
      }
    }
  };
}

template <class T>
Buffer<T> pack_bias(const View<const T>& bias_ih, const View<const T>& bias_hh, const CellLayout& cell, int phase,
                    const UnitPanels& panels) {
  const index S = cell.accumulators[phase], L = panels.lanes;
  Buffer<T> packed = zeros<T>(size_t(panels.count() * S * L));
  const auto add = [&](const View<const T>& bias, const Side& side) {
    if (!bias) return;
    for (int c = 0; c < side.count; ++c)
      for (index u = 0; u < panels.hidden; ++u)
        packed.data()[u / L * S * L + side.slot[c] * panels.slot_stride(u / L) + u % L] +=
            bias.data[(side.gate[c] * panels.hidden + u) * bias.stride[0]];
  };
  add(bias_ih, cell.x[phase]);
  add(bias_hh, cell.h[phase]);
  return packed;
}

Runs backward_runs(const Side& side, const UnitPanels& panels, index plane) {
  Runs runs;
  for (index p = 0; p < panels.count(); ++p)
    for (int c = 0; c < side.count; ++c) runs.add(p * plane + side.slot[c] * panels.slot_stride(p), panels.units(p));
  return runs;
}

std::vector<index> side_columns(const Side& side, const UnitPanels& panels, index plane) {
  std::vector<index> columns;
  for (index p = 0; p < panels.count(); ++p)
    for (index v = 0; v < panels.vectors(p, side.count); ++v)
      columns.push_back(p * plane + (p == panels.folded() ? v : side.slot[v]) * panels.lanes);
  return columns;
}

template <class T>
void unpack_gradient(const KernelTable<T>& kernels, T* sums, index shards, index size, index stride, const Side& side,
                     const UnitPanels& panels, const View<T>& grad) {
  const index panel_values = side.count * panels.lanes;
  const index J = grad.ndim == 2 ? grad.shape[1] : 1, along = grad.ndim == 2 ? grad.stride[1] : 1;
  const auto unpack = [&](index rows, index units, const T* from, T* to) {
    if (along == 1) return kernels.transpose(rows, units, from, stride, to, grad.stride[0]);
    for (index u = 0; u < units; ++u)
      for (index j = 0; j < rows; ++j) to[u * grad.stride[0] + j * along] = from[j * stride + u];
  };
  for_panels(panels.count(), shards * J * panel_values, [&](index p) {
    const index first = p * panel_values, width = panels.vectors(p, side.count) * panels.lanes;
    for (index i = 1; i < shards; ++i)
      for (index j = 0; j < J; ++j)
        kernels.add(width, sums + i * size + j * stride + first, sums + j * stride + first);
    constexpr index kAtOnce = 64;  // rows, of which all gates are read together, as they may come from memory
    for (index j = 0; j < J; j += kAtOnce)
      for (int c = 0; c < side.count; ++c)
        unpack(std::min(kAtOnce, J - j), panels.units(p), sums + j * stride + first + panels.packed_slot(p, side, c),
               grad.data + (side.gate[c] * panels.hidden + p * panels.lanes) * grad.stride[0] + j * along);
  });
}

#define FASTRNN_INSTANTIATE(T)                                                                                      \
  template PackPanels pack_forward(const KernelTable<T>&, const View<const T>&, const Side&, const UnitPanels&, bool, \
                                  Buffer<T>&);                                                                      \
  template Buffer<T> pack_bias(const View<const T>&, const View<const T>&, const CellLayout&, int, const UnitPanels&); \
  template PackPanels pack_backward(const KernelTable<T>&, const View<const T>&, const Side&, index, Buffer<T>&);     \
  template void unpack_gradient(const KernelTable<T>&, T*, index, index, index, const Side&, const UnitPanels&,      \
                                const View<T>&);                                                                    \
  template void pack_panel(const KernelTable<T>&, const T*, index, index, index, index, T*, index, index);
FASTRNN_INSTANTIATE(float)
FASTRNN_INSTANTIATE(double)

}  // namespace fastrnn
