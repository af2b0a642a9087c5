#include "matrices.hpp"

#include <type_traits>

#include "plan.hpp"

namespace fastrnn {

template <class T>
PackPanels split_forward(const KernelTable<T>& kernels, index K, const Side& side, const UnitPanels& panels,
                         const Buffer<T>& packed, Buffer<char>& tiles, std::atomic<bool>& finite) {
  const index L = kernels.lanes, C = side.count, whole = panels.folded() < 0 ? panels.count() : panels.folded();
  if (!kernels.matrices || !worth_matrices(K, whole * C * L)) return [](index, index) {};
  const size_t size = matrix_tiles(K);
  tiles = Buffer<char>(size_t(whole * C) * size);
  return [=, &kernels, &finite, from = packed.data(), to = tiles.data(), column = equally_spaced(C, L)](index first,
                                                                                                     index last) {
    if constexpr (std::is_same_v<T, float>) {
      for (index p = first; p < std::min(last, whole); ++p) {
        MatrixProduct m{};
        m.K = K;
        m.columns = C;
        m.b = from + p * K * C * L;
        m.b_stride = C * L;
        m.b_column = column.data();
        if (!kernels.matrices->split(m, to + size_t(p * C) * size, size)) finite = false;
      }
    }
  };
}

template <class T>
PackPanels split_backward(const KernelTable<T>& kernels, index N, const Side& side, index hidden,
                          const Buffer<T>& packed, Buffer<char>& tiles, std::atomic<bool>& finite) {
  const index L = kernels.lanes, C = side.count, K = hidden * C;
  const index vectors = panels_of(N - narrow_columns(N, K, L), int(L));
  if (!kernels.matrices || !worth_matrices(K, vectors * L)) return [](index, index) {};
  const size_t size = matrix_tiles(K);
  tiles = Buffer<char>(size_t(vectors) * size);
  return [=, &kernels, &finite, from = packed.data(), to = tiles.data(), column = equally_spaced(vectors, K * L)](
             index first, index last) {
    if constexpr (std::is_same_v<T, float>) {
      const index begin = first * L * C, end = std::min(last * L, hidden) * C;
      MatrixProduct m{};
      m.K = end - begin;
      m.columns = vectors;
      m.b = from + begin * L;
      m.b_stride = L;
      m.b_column = column.data();
      if (!kernels.matrices->split(m, to + matrix_tiles(begin), size)) finite = false;
    }
  };
}

void gemm_by_matrices(const KernelTable<float>& kernels, const Gemm<float>& g, const char* tiles, MatrixRoom& room) {
  const index L = kernels.lanes;
  index K = 0;
  for (index i = 0; i < g.segments; ++i) K += g.segment_length[i];
  const index narrow = g.narrow ? narrow_columns(g.columns, K, L) : 0, columns = g.columns - narrow;
  Gemm<float> part = g;
  if (narrow > 0) {
    part.b = g.b + columns * K;
    part.c = g.c + columns;
    part.columns = narrow;
    kernels.gemm(part);
  }
  if (columns == 0 || g.rows == 0) return;
  const index panels = panels_of(columns, int(L)), stride = panels * L;
  const std::vector<index> c_column = equally_spaced(panels, L);
  MatrixProduct p{};
  p.rows = g.rows;
  p.K = K;
  p.columns = panels;
  p.a = g.a;
  p.a_stride = g.a_stride;
  p.segment = g.segment;
  p.segment_length = g.segment_length;
  p.segments = g.segments;
  p.b_tiles = tiles;
  p.c = room.values(size_t(g.rows * stride));  // C's own rows may stand anywhere
  p.c_stride = stride;
  p.c_column = c_column.data();
  const bool* const special = room.run_checked(*kernels.matrices, p);
  part.b = g.b;
  part.columns = columns;
  part.rows = 1;
  part.c_offset = nullptr;
  for (index r = 0; r < g.rows; ++r) {
    part.c = g.c + (g.c_offset ? g.c_offset[r] : r * g.c_stride);
    part.a = g.a + r * g.a_stride;
    if (special[r])
      kernels.gemm(part);
    else
      kernels.copy_rows(1, columns, p.c + r * stride, stride, part.c, stride);
  }
}

#define FASTRNN_INSTANTIATE(T)                                                                                         \
  template PackPanels split_forward(const KernelTable<T>&, index, const Side&, const UnitPanels&, const Buffer<T>&,    \
                                    Buffer<char>&, std::atomic<bool>&);                                                \
  template PackPanels split_backward(const KernelTable<T>&, index, const Side&, index, const Buffer<T>&, Buffer<char>&, \
                                     std::atomic<bool>&);
FASTRNN_INSTANTIATE(float)
FASTRNN_INSTANTIATE(double)

}  // namespace fastrnn
