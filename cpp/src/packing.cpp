#include "packing.hpp"

#include <algorithm>

namespace fastrnn {
template <class T>
void pack_panel(const KernelTable<T>& kernels, const T* data, index stride_k, index stride_n, index K, index N,
                T* packed, index row_stride) {
  if (stride_k == 1) {  // the usual weights: N rows of K values
    kernels.transpose(N, K, data, stride_n, packed, row_stride);
  } else if (stride_n == 1) {
    kernels.copy_rows(K, N, data, stride_k, packed, row_stride);
  } else {
    for (index k = 0; k < K; ++k)
      for (index n = 0; n < N; ++n) packed[k * row_stride + n] = data[k * stride_k + n * stride_n];
  }
  for (index k = 0; N < kernels.lanes && k < K; ++k)
    std::fill(packed + k * row_stride + N, packed + k * row_stride + kernels.lanes, T(0));
}

template <class T>
Buffer<T> pack_forward(const KernelTable<T>& kernels, const View<const T>& weight, const Side& side, index hidden) {
  const int L = kernels.lanes;
  const index K = weight.shape[1], P = panels_of(hidden, L), C = side.count;
  Buffer<T> packed(size_t(std::max<index>(P * K * C * L, 1)));
  for_panels(P, K * C * L, [&](index p) {
    for (index c = 0; c < C; ++c)
      pack_panel(kernels, weight.data + (side.gate[c] * hidden + p * L) * weight.stride[0], weight.stride[1],
                 weight.stride[0], K, std::min<index>(L, hidden - p * L), packed.data() + (p * K * C + c) * L, C * L);
  });
  return packed;
}

template <class T>
Buffer<T> pack_bias(const View<const T>& bias_ih, const View<const T>& bias_hh, const CellLayout& cell, int phase,
                    index hidden, int lanes) {
  const index P = panels_of(hidden, lanes), S = cell.accumulators[phase];
  Buffer<T> packed = zeros<T>(size_t(P * S * lanes));
  const auto add = [&](const View<const T>& bias, const Side& side) {
    if (!bias) return;
    for (int c = 0; c < side.count; ++c)
      for (index u = 0; u < hidden; ++u)
        packed.data()[(u / lanes * S + side.slot[c]) * lanes + u % lanes] +=
            bias.data[(side.gate[c] * hidden + u) * bias.stride[0]];
  };
  add(bias_ih, cell.x[phase]);
  add(bias_hh, cell.h[phase]);
  return packed;
}

template <class T>
Buffer<T> pack_backward(const KernelTable<T>& kernels, const View<const T>& weight, const Side& side, index hidden) {
  const int L = kernels.lanes;
  const index N = weight.shape[1], K = hidden * side.count, panels = panels_of(N, L);
  Buffer<T> packed(size_t(std::max<index>(panels * K * L, 1)));
  // rows of weights are read by several lines at a time, as they may come from memory
  constexpr index kAtOnce = 4;
  for_panels((panels + kAtOnce - 1) / kAtOnce, kAtOnce * K * L, [&](index group) {
    T* at = packed.data();
    for (index p = 0; p < panels_of(hidden, L); ++p) {
      const index units = std::min<index>(L, hidden - p * L);
      for (int c = 0; c < side.count; ++c, at += units * L)
        for (index n = group * kAtOnce; n < std::min(panels, (group + 1) * kAtOnce); ++n)
          pack_panel(kernels,
                     weight.data + (side.gate[c] * hidden + p * L) * weight.stride[0] + n * L * weight.stride[1],
                     weight.stride[0], weight.stride[1], units, std::min<index>(L, N - n * L), at + n * K * L, L);
    }
  });
  return packed;
}

Runs backward_runs(const Side& side, index hidden, int lanes, index plane) {
  Runs runs;
  for (index p = 0; p < panels_of(hidden, lanes); ++p)
    for (int c = 0; c < side.count; ++c)
      runs.add(p * plane + side.slot[c] * lanes, std::min<index>(lanes, hidden - p * lanes));
  return runs;
}

std::vector<index> side_columns(const Side& side, index hidden, int lanes, index plane) {
  std::vector<index> columns;
  for (index p = 0; p < panels_of(hidden, lanes); ++p)
    for (int c = 0; c < side.count; ++c) columns.push_back(p * plane + side.slot[c] * lanes);
  return columns;
}

template <class T>
void unpack_gradient(const KernelTable<T>& kernels, T* sums, index shards, index size, index stride, const Side& side,
                     index hidden, const View<T>& grad) {
  const int L = kernels.lanes;
  const index J = grad.ndim == 2 ? grad.shape[1] : 1, along = grad.ndim == 2 ? grad.stride[1] : 1;
  const auto unpack = [&](index rows, index units, const T* from, T* to) {
    if (along == 1) return kernels.transpose(rows, units, from, stride, to, grad.stride[0]);
    for (index u = 0; u < units; ++u)
      for (index j = 0; j < rows; ++j) to[u * grad.stride[0] + j * along] = from[j * stride + u];
  };
  for_panels(panels_of(hidden, L), shards * J * side.count * L, [&](index p) {
    const index width = side.count * L, units = std::min<index>(L, hidden - p * L);
    for (index i = 1; i < shards; ++i)
      for (index j = 0; j < J; ++j)
        kernels.add(width, sums + i * size + j * stride + p * width, sums + j * stride + p * width);
    constexpr index kAtOnce = 64;  // rows, of which all gates are read together, as they may come from memory
    for (index j = 0; j < J; j += kAtOnce)
      for (int c = 0; c < side.count; ++c)
        unpack(std::min(kAtOnce, J - j), units, sums + j * stride + p * width + c * L,
               grad.data + (side.gate[c] * hidden + p * L) * grad.stride[0] + j * along);
  });
}

#define FASTRNN_INSTANTIATE(T)                                                                                      \
  template Buffer<T> pack_forward(const KernelTable<T>&, const View<const T>&, const Side&, index);                 \
  template Buffer<T> pack_bias(const View<const T>&, const View<const T>&, const CellLayout&, int, index, int);     \
  template Buffer<T> pack_backward(const KernelTable<T>&, const View<const T>&, const Side&, index);                \
  template void unpack_gradient(const KernelTable<T>&, T*, index, index, index, const Side&, index, const View<T>&); \
  template void pack_panel(const KernelTable<T>&, const T*, index, index, index, index, T*, index);
FASTRNN_INSTANTIATE(float)
FASTRNN_INSTANTIATE(double)

}  // namespace fastrnn
