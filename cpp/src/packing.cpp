// Packing is O(weights), once per call (forward) or once per workspace (backward); plain loops are enough.
#include "packing.hpp"

#include <algorithm>

namespace fastrnn {

template <class T>
Buffer<T> pack_forward(const View<const T>& weight, const Side& side, index hidden, int lanes) {
  const index K = weight.shape[1], P = panels_of(hidden, lanes), C = side.count;
  Buffer<T> packed(size_t(std::max<index>(P * K * C * lanes, 1)));
  for (index p = 0; p < P; ++p)
    for (index c = 0; c < C; ++c)
      pack_panel(weight.data + (side.gate[c] * hidden + p * lanes) * weight.stride[0], weight.stride[1],
                  weight.stride[0], K, std::min<index>(lanes, hidden - p * lanes), lanes,
                  packed.data() + p * K * C * lanes + c * lanes, C * lanes);
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
Buffer<T> pack_backward(const View<const T>& weight, const Side& side, index hidden, int lanes) {
  const index N = weight.shape[1], K = hidden * side.count;
  Buffer<T> packed(size_t(std::max<index>(panels_of(N, lanes) * K * lanes, 1)));
  T* at = packed.data();
  for (index p = 0; p < panels_of(hidden, lanes); ++p) {
    const index units = std::min<index>(lanes, hidden - p * lanes);
    for (int c = 0; c < side.count; ++c, at += units * lanes)
      for (index n = 0; n < N; n += lanes)
        pack_panel(weight.data + (side.gate[c] * hidden + p * lanes) * weight.stride[0] + n * weight.stride[1],
                    weight.stride[0], weight.stride[1], units, std::min<index>(lanes, N - n), lanes,
                    at + n / lanes * K * lanes, lanes);
  }
  return packed;
}

Runs backward_runs(const Side& side, int slots, index hidden, int lanes) {
  Runs runs;
  for (index p = 0; p < panels_of(hidden, lanes); ++p)
    for (int c = 0; c < side.count; ++c)
      runs.add((p * slots + side.slot[c]) * lanes, std::min<index>(lanes, hidden - p * lanes));
  return runs;
}

std::vector<index> side_columns(const Side& side, int slots, index hidden, int lanes) {
  std::vector<index> columns;
  for (index p = 0; p < panels_of(hidden, lanes); ++p)
    for (int c = 0; c < side.count; ++c) columns.push_back((p * slots + side.slot[c]) * lanes);
  return columns;
}

template <class T>
void unpack_gradient(const T* packed, index stride, const Side& side, index hidden, int lanes, const View<T>& grad) {
  for (int c = 0; c < side.count; ++c)
    for (index u = 0; u < hidden; ++u) {
      const T* column = packed + (u / lanes * side.count + c) * lanes + u % lanes;
      T* row = grad.data + (side.gate[c] * hidden + u) * grad.stride[0];
      const index J = grad.ndim == 2 ? grad.shape[1] : 1;
      for (index j = 0; j < J; ++j) row[j * grad.stride[1]] = column[j * stride];
    }
}

template <class T>
void pack_panel(const T* data, index stride_k, index stride_n, index K, index N, int lanes, T* packed,
                 index row_stride) {
  for (index k = 0; k < K; ++k) {
    T* row = packed + k * row_stride;
    for (index n = 0; n < N; ++n) row[n] = data[k * stride_k + n * stride_n];
    for (index n = N; n < lanes; ++n) row[n] = T(0);
  }
}

#define FASTRNN_INSTANTIATE(T)                                                                                      \
  template Buffer<T> pack_forward(const View<const T>&, const Side&, index, int);                                   \
  template Buffer<T> pack_bias(const View<const T>&, const View<const T>&, const CellLayout&, int, index, int);     \
  template Buffer<T> pack_backward(const View<const T>&, const Side&, index, int);                                  \
  template void unpack_gradient(const T*, index, const Side&, index, int, const View<T>&);                          \
  template void pack_panel(const T*, index, index, index, index, int, T*, index);
FASTRNN_INSTANTIATE(float)
FASTRNN_INSTANTIATE(double)

}  // namespace fastrnn
