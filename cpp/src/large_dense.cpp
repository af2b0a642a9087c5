// Large weights are cut into groups of columns: whoever multiplies by a group packs it, into a block that its core's
// cache holds, and gradients are made where they belong. Every element is one chain of additions, in an order that the
// shape decides, whoever computes it.
#include "large_dense.hpp"

#include <algorithm>
#include <vector>

#include "dispatch.hpp"
#include "memory.hpp"
#include "packing.hpp"
#include "plan.hpp"
#include "taps.hpp"
#include "threads.hpp"
#include "workspace.hpp"

namespace fastrnn {
namespace {

constexpr index kPanels = 4;       // of a group: what the register tiles take at once
constexpr index kTasks = 8;        // at least, where there is enough work: for threads to share out
constexpr index kChunkRows = 1024;  // whose gradients before the activation are kept
constexpr index kUnits = 48;       // of a block of the weight gradient: a multiple of every register tile

index ceil_div(index a, index b) { return (a + b - 1) / b; }

// C = act(bias + A.B), B (K, N) with any strides.
template <class T>
class Product {
 public:
  Product(const KernelTable<T>& kernels, const Gemm<T>& whole, index depth, const T* b, index by_row, index by_column,
          int threads)
      : kernels_(kernels), whole_(whole), depth_(depth), b_(b), by_row_(by_row), by_column_(by_column),
        width_(kPanels * kernels.lanes), groups_(ceil_div(whole.columns, width_)) {
    const index for_threads = std::min(ceil_div(kTasks, std::max<index>(groups_, 1)), whole.rows / kFewestRows);
    blocks_ = std::max({index(1), ceil_div(whole.rows, kBlockRows), for_threads});
    packed_ = Buffer<T>(size_t(std::max<index>(1, threads * depth * width_)));
  }
  index tasks() const { return blocks_ * groups_; }

  void run(int thread, index i) const {
    constexpr index kTile = 12;  // rows
    const auto row = [&](index block) {
      return block == blocks_ ? whole_.rows : whole_.rows * block / blocks_ / kTile * kTile;
    };
    const int L = kernels_.lanes;
    const index block = i / groups_, first = i % groups_ * width_, start = 0;
    Gemm<T> m = whole_;
    m.columns = std::min(width_, whole_.columns - first);
    T* const packed = packed_.data() + thread * depth_ * width_;
    constexpr index kAtOnce = 64;  // of K, for all panels: weights may come from memory, a few lines of a row at a time
    for (index k = 0; k < depth_; k += kAtOnce)
      for (index n = 0; n < m.columns; n += L)
        pack_panel(kernels_, b_ + k * by_row_ + (first + n) * by_column_, by_row_, by_column_,
                   std::min(kAtOnce, depth_ - k), std::min<index>(L, m.columns - n), packed + n * depth_ + k * L, L);
    m.a += row(block) * m.a_stride;
    m.rows = row(block + 1) - row(block);
    m.segment = &start;
    m.segment_length = &depth_;
    m.segments = 1;
    m.b = packed;
    if (m.bias) m.bias += first;
    m.c += row(block) * m.c_stride + first;
    kernels_.gemm(m);
  }

 private:
  const KernelTable<T>& kernels_;
  Gemm<T> whole_;
  index depth_;
  const T* b_;
  index by_row_, by_column_, width_, groups_, blocks_;
  Buffer<T> packed_;
};

// grad_weight (O, I) and grad_bias (O,): sums over rows of d (rows, O) times x (rows, I), straight into place. What is
// left of x behind its last whole vector is a copy of its own.
template <class T>
class WeightGradient {
 public:
  WeightGradient(const KernelTable<T>& kernels, index inputs, index outputs, index most_rows, T* grad_weight, T* grad_bias)
      : kernels_(kernels), inputs_(inputs), outputs_(outputs), whole_(inputs / kernels.lanes),
        blocks_(ceil_div(outputs, kUnits)), grad_weight_(grad_weight), grad_bias_(grad_bias) {
    const index L = kernels.lanes;
    groups_ = std::max<index>(1, std::min(ceil_div(kTasks, blocks_), whole_ / kPanels));
    for (index n = 0; n < std::max(inputs, padded_stride(outputs, sizeof(T))); n += L) columns_.push_back(n);
    bias_sum_ = Buffer<T>(size_t(panels_of(outputs, int(L)) * L));
    if (inputs % L == 0) return;
    rest_ = zeros<T>(size_t(most_rows * L));
    rest_sum_ = Buffer<T>(size_t(outputs * L));
  }
  index tasks() const { return blocks_ * groups_; }

  // The rows of a chunk, before its tasks; the first chunk fills the gradient.
  void begin(index rows, const T* x, const T* d, index d_stride, bool first) {
    const index L = kernels_.lanes;
    rows_ = rows, x_ = x, d_ = d, d_stride_ = d_stride, first_ = first;
    if (rest_) kernels_.copy_rows(rows, inputs_ - whole_ * L, x + whole_ * L, inputs_, rest_.data(), L);
  }

  void run(index i) const {
    const index L = kernels_.lanes, block = i / groups_, group = i % groups_;
    const index unit = block * kUnits, units = std::min(kUnits, outputs_ - unit);
    const index from = whole_ * group / groups_, to = whole_ * (group + 1) / groups_;
    Outer<T> o{};
    o.rows = rows_;
    o.fresh = first_;
    o.a = d_ + unit;
    o.a_stride = d_stride_;
    o.last = units;
    o.d = x_;
    o.d_stride = inputs_;
    o.column = columns_.data() + from;
    o.columns = to - from;
    o.c = grad_weight_ + unit * inputs_ + from * L;
    o.c_stride = inputs_;
    kernels_.outer(o);
    if (group != 0) return;
    o.column = columns_.data();
    if (rest_) {
      o.d = rest_.data();
      o.d_stride = L;
      o.columns = 1;
      o.c = rest_sum_.data() + unit * L;
      o.c_stride = L;
      kernels_.outer(o);
      kernels_.copy_rows(units, inputs_ - whole_ * L, o.c, L, grad_weight_ + unit * inputs_ + whole_ * L, inputs_);
    }
    if (!grad_bias_) return;
    static const T one = 1;
    o.a = &one;
    o.a_stride = 0;
    o.last = 1;
    o.d = d_ + unit;
    o.d_stride = d_stride_;
    o.columns = panels_of(units, int(L));
    o.c = bias_sum_.data() + unit;
    kernels_.outer(o);
    std::copy_n(o.c, units, grad_bias_ + unit);
  }

 private:
  const KernelTable<T>& kernels_;
  index inputs_, outputs_, whole_, blocks_, groups_;  // whole_: vectors of a row of x
  T *grad_weight_, *grad_bias_;
  std::vector<index> columns_;
  Buffer<T> bias_sum_, rest_, rest_sum_;
  index rows_ = 0, d_stride_ = 0;
  const T *x_ = nullptr, *d_ = nullptr;
  bool first_ = true;
};

}  // namespace

template <class T>
void large_dense(const ConvShape& s, const T* x, const View<const T>& weight, const View<const T>& bias,
                 Activation<T> activation, T* y) {
  const KernelTable<T>& kernels = active_kernels<T>();
  const Buffer<T> packed_bias = pack_filter_bias(kernels, bias, s.filters);
  Gemm<T> m{};
  m.rows = s.batch * s.time;
  m.a = x;
  m.a_stride = s.channels;
  m.bias = packed_bias.data();
  m.columns = s.filters;
  m.c = y;
  m.c_stride = s.filters;
  m.activation = activation;
  const int threads = plan_threads(2.0 * double(m.rows) * double(s.channels) * double(s.filters), num_threads());
  const Product<T> product(kernels, m, s.channels, weight.data, weight.stride[1], weight.stride[0], threads);
  run_tasks(threads, product.tasks(), [&](int thread, index i) { product.run(thread, i); });
}

template <class T>
void large_dense_backward(const ConvShape& s, const T* x, const View<const T>& weight, Activation<T> activation,
                          const T* y, const T* grad_y, T* grad_x, T* grad_weight, T* grad_bias) {
  const KernelTable<T>& kernels = active_kernels<T>();
  const index rows = s.batch * s.time, I = s.channels, O = s.filters;
  if (rows == 0) {
    std::fill_n(grad_weight, O * I, T(0));
    if (grad_bias) std::fill_n(grad_bias, O, T(0));
    return;
  }
  const index pitch = padded_stride(O, sizeof(T)), most = std::min(rows, kChunkRows);
  const Buffer<T> d = zeros<T>(size_t(most * pitch));
  WeightGradient<T> gradient(kernels, I, O, most, grad_weight, grad_bias);
  for (index first = 0; first < rows; first += kChunkRows) {
    const index count = std::min(kChunkRows, rows - first), blocks = ceil_div(count, kFewestRows);
    const double size = double(count) * double(O);
    run_tasks(plan_threads(kMoveCost * size, blocks), blocks, [&](int, index i) {
      for (index r = count * i / blocks; r < count * (i + 1) / blocks; ++r) {
        const index at = (first + r) * O;
        kernels.activate_backward(O, y + at, grad_y + at, d.data() + r * pitch, activation);
      }
    });
    gradient.begin(count, x + first * I, d.data(), pitch, first == 0);
    const int threads = plan_threads(4.0 * size * double(I), num_threads());
    if (!grad_x) {
      run_tasks(threads, gradient.tasks(), [&](int, index i) { gradient.run(i); });
      continue;
    }
    Gemm<T> m{};
    m.rows = count;
    m.a = d.data();
    m.a_stride = pitch;
    m.columns = I;
    m.c = grad_x + first * I;
    m.c_stride = I;
    const Product<T> back(kernels, m, O, weight.data, weight.stride[0], weight.stride[1], threads);
    run_tasks(threads, back.tasks() + gradient.tasks(), [&](int thread, index i) {
      i < back.tasks() ? back.run(thread, i) : gradient.run(i - back.tasks());
    });
  }
}

#define FASTRNN_INSTANTIATE(T)                                                                                      \
  template void large_dense(const ConvShape&, const T*, const View<const T>&, const View<const T>&, Activation<T>, \
                            T*);                                                                                    \
  template void large_dense_backward(const ConvShape&, const T*, const View<const T>&, Activation<T>, const T*,     \
                                     const T*, T*, T*, T*);
FASTRNN_INSTANTIATE(float)
FASTRNN_INSTANTIATE(double)

}  // namespace fastrnn
