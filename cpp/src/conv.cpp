// Conv1D and Dense, forward and backward: products over windows of rows, without im2col.
//
// In a channels-last array a window of K steps is K*C contiguous values, so a convolution is a product whose rows
// overlap. Edges that need padding work on a zero-padded copy of their block. Work is cut into blocks of rows; weight
// gradients are summed per shard of blocks, and the shards, whose number depends on the shape alone, are added up in
// order: the same sums for every number of threads.
#include <algorithm>
#include <vector>

#include "dispatch.hpp"
#include "fastrnn/ops.hpp"
#include "large_dense.hpp"
#include "memory.hpp"
#include "plan.hpp"
#include "taps.hpp"
#include "threads.hpp"

namespace fastrnn {
namespace {

constexpr index kShards = 8;
constexpr size_t kAllSums = size_t(16) << 20;  // bytes: large weights have fewer shards

// Rows [first, last) of one sequence x (T, C); those outside 0..T-1 are zero. Returns x itself where nothing is.
template <class T>
const T* padded_rows(const T* x, index time, index channels, index first, index last, T* scratch) {
  if (first >= 0 && last <= time) return x + first * channels;
  for (index t = first; t < last; ++t) {
    T* row = scratch + (t - first) * channels;
    if (t < 0 || t >= time)
      std::fill_n(row, channels, T(0));
    else
      std::copy_n(x + t * channels, channels, row);
  }
  return scratch;
}

}  // namespace

template <class T>
void conv1d(const ConvShape& s, const T* x, const View<const T>& weight, const View<const T>& bias,
            Activation<T> activation, T* y) {
  check_padding("conv1d", s);
  if (is_large_dense(s)) return large_dense(s, x, weight, bias, activation, y);
  const KernelTable<T>& kernels = active_kernels<T>();
  const int L = kernels.lanes;
  const index outputs = s.out_time();
  const Buffer<T> packed = pack_taps(kernels, weight, false);
  const Buffer<T> packed_bias = pack_filter_bias(kernels, bias, s.filters);
  const Runs runs = window_runs(s.kernel, s.dilation, s.channels, s.channels);
  const std::vector<Block> work = row_blocks(s.batch, outputs);
  const double flops = 2.0 * double(s.batch * outputs) * double(s.kernel * s.channels) * double(s.filters);
  const int threads = plan_threads(flops, index(work.size()));
  const index scratch_rows = rows_needed(s, std::min<index>(std::max<index>(outputs, 1), kBlockRows));
  Buffer<T> scratch(size_t(scratch_rows * s.channels * threads + 1));
  run_tasks(threads, index(work.size()), [&](int thread, index i) {
    const Block& block = work[size_t(i)];
    if (block.first == block.last) return;
    const index t = block.first * s.stride - s.pad_left;
    Gemm<T> m{};
    m.rows = block.last - block.first;
    m.a = padded_rows(x + block.b * s.time * s.channels, s.time, s.channels, t, t + rows_needed(s, m.rows),
                      scratch.data() + thread * scratch_rows * s.channels);
    m.a_stride = s.stride * s.channels;
    m.segment = runs.offset.data();
    m.segment_length = runs.length.data();
    m.segments = runs.count();
    m.b = packed.data();
    m.bias = packed_bias.data();
    m.columns = s.filters;
    m.c = y + (block.b * outputs + block.first) * s.filters;
    m.c_stride = s.filters;
    m.activation = activation;
    kernels.gemm(m);
  });
}

namespace {

template <class T>
struct ConvBackward {
  const ConvShape& s;
  const KernelTable<T>& kernels;
  const T* x;
  const T* y;
  const T* grad_y;
  Activation<T> activation;
  T* grad_x;
  index outputs, pitch;  // pitch: filters padded to whole vectors
  Buffer<T> packed;
  Runs x_runs, z_runs;
  std::vector<index> columns;

  void undo_activation(index at, index n, T* z) const {
    if (activation.kind == ActivationKind::linear)
      std::copy_n(grad_y + at, n, z);
    else
      kernels.activate_backward(n, y + at, grad_y + at, z, activation);
  }

  // The gradients before the activation on the time axis of the padded input: row q is output q/stride, zero where
  // there is none. Rows [first, last) go to z.
  void spread(index b, index first, index last, T* z) const {
    if (s.stride == 1 && pitch == s.filters) {  // contiguous: one pass over the outputs, zeros around them
      const index from = std::min(std::max<index>(first, 0), last), to = std::max(from, std::min(last, outputs));
      std::fill_n(z, (from - first) * pitch, T(0));
      undo_activation((b * outputs + from) * pitch, (to - from) * pitch, z + (from - first) * pitch);
      std::fill_n(z + (to - first) * pitch, (last - to) * pitch, T(0));
      return;
    }
    for (index q = first; q < last; ++q, z += pitch) {
      const index o = q / s.stride;
      if (q < 0 || q % s.stride != 0 || o >= outputs) {
        std::fill_n(z, pitch, T(0));
        continue;
      }
      undo_activation((b * outputs + o) * s.filters, s.filters, z);
      std::fill_n(z + s.filters, pitch - s.filters, T(0));
    }
  }

  // Input rows [block.first, block.last) and the outputs whose window starts there.
  void run(const Block& block, bool last_block, T* z, T* x_scratch, T* sum, T* bias_sum) const {
    const index reach = (s.kernel - 1) * s.dilation;
    const index z_first = block.first + s.pad_left - reach, z_last = block.last + s.pad_left;
    spread(block.b, z_first, z_last, z);
    if (grad_x && block.last > block.first) {
      Gemm<T> m{};
      m.rows = block.last - block.first;
      m.a = z;
      m.a_stride = pitch;
      m.segment = z_runs.offset.data();
      m.segment_length = z_runs.length.data();
      m.segments = z_runs.count();
      m.b = packed.data();
      m.columns = s.channels;
      m.c = grad_x + (block.b * s.time + block.first) * s.channels;
      m.c_stride = s.channels;
      kernels.gemm(m);
    }
    const index q_first = block.first == 0 ? 0 : block.first + s.pad_left, q_last = block.last + s.pad_left;
    const index o_first = (q_first + s.stride - 1) / s.stride;
    const index o_last = last_block ? outputs : std::min(outputs, (q_last + s.stride - 1) / s.stride);
    if (o_last <= o_first) return;
    const index t = o_first * s.stride - s.pad_left;
    Outer<T> o{};
    o.rows = o_last - o_first;
    o.a_stride = s.stride * s.channels;
    o.d = z + (o_first * s.stride - z_first) * pitch;
    o.d_stride = s.stride * pitch;
    o.column = columns.data();
    o.columns = index(columns.size());
    o.c_stride = pitch;
    const T* windows = padded_rows(x + block.b * s.time * s.channels, s.time, s.channels, t,
                                   t + rows_needed(s, o.rows), x_scratch);
    o.c = sum;
    for (index i = 0; i < x_runs.count(); ++i, o.c += o.last * pitch) {
      o.a = windows + x_runs.offset[size_t(i)];
      o.last = x_runs.length[size_t(i)];
      kernels.outer(o);
    }
    static const T one = 1;
    o.a = &one;
    o.a_stride = 0;
    o.last = 1;
    o.c = bias_sum;
    kernels.outer(o);
  }
};

}  // namespace

template <class T>
void conv1d_backward(const ConvShape& s, const T* x, const View<const T>& weight, Activation<T> activation,
                     const T* y, const T* grad_y, T* grad_x, T* grad_weight, T* grad_bias) {
  check_padding("conv1d", s);
  if (needs_input(activation))
    fail("conv1d_backward", "activation", "one whose derivative follows from its output", "one that needs its input");
  if (is_large_dense(s)) return large_dense_backward(s, x, weight, activation, y, grad_y, grad_x, grad_weight, grad_bias);
  const KernelTable<T>& kernels = active_kernels<T>();
  const int L = kernels.lanes;
  ConvBackward<T> task{s, kernels, x, y, grad_y, activation, grad_x, s.out_time(), panels_of(s.filters, L) * L,
                       {}, window_runs(s.kernel, s.dilation, s.channels, s.channels), {}, {}};
  if (grad_x) task.packed = pack_taps(kernels, weight, true);
  task.z_runs = window_runs(s.kernel, s.dilation, s.filters, task.pitch);
  for (index n = 0; n < task.pitch; n += L) task.columns.push_back(n);

  const std::vector<Block> work = row_blocks(s.batch, s.time);
  const index taps = s.kernel * s.channels, shard_size = (taps + 1) * task.pitch;
  const index affordable = std::max<index>(2, index(kAllSums / (size_t(shard_size + 1) * sizeof(T))));
  const index shards = std::min<index>({kShards, affordable, std::max<index>(1, index(work.size()))});
  Buffer<T> sums(size_t(shards * shard_size));
  const double flops = 4.0 * double(s.batch * task.outputs) * double(taps) * double(s.filters);
  const int threads = plan_threads(flops, shards);
  const index block_rows = std::min<index>(std::max<index>(s.time, 1), kBlockRows) + s.window();
  const index z_size = (block_rows + s.pad_left) * task.pitch;
  const index x_size = rows_needed(s, block_rows + s.pad_left + s.pad_right) * s.channels;
  Buffer<T> scratch(size_t(threads * (z_size + x_size)));
  run_tasks(threads, shards, [&](int thread, index shard) {
    T* z = scratch.data() + thread * (z_size + x_size);
    T* sum = sums.data() + shard * shard_size;
    std::fill_n(sum, shard_size, T(0));
    for (index i = index(work.size()) * shard / shards; i < index(work.size()) * (shard + 1) / shards; ++i)
      task.run(work[size_t(i)], work[size_t(i)].last == s.time, z, z + z_size, sum, sum + taps * task.pitch);
  });
  // sums (k, c), f -> grad_weight (F, C, K), and the last row to grad_bias
  for_panels(panels_of(s.filters, L), shards * taps * L, [&](index p) {
    const index first = p * L, filters = std::min<index>(L, s.filters - first);
    T* sum = sums.data() + first;
    for (index shard = 1; shard < shards; ++shard)
      for (index row = 0; row <= taps; ++row)
        kernels.add(L, sum + shard * shard_size + row * task.pitch, sum + row * task.pitch);
    T* to = grad_weight + first * taps;
    if (s.kernel == 1) {
      kernels.transpose(s.channels, filters, sum, task.pitch, to, s.channels);
    } else {
      for (index f = 0; f < filters; ++f)
        for (index c = 0; c < s.channels; ++c)
          for (index k = 0; k < s.kernel; ++k) *to++ = sum[(k * s.channels + c) * task.pitch + f];
    }
    if (grad_bias) std::copy_n(sum + taps * task.pitch, filters, grad_bias + first);
  });
}

#define FASTRNN_INSTANTIATE(T)                                                                                     \
  template void conv1d(const ConvShape&, const T*, const View<const T>&, const View<const T>&, Activation<T>, T*); \
  template void conv1d_backward(const ConvShape&, const T*, const View<const T>&, Activation<T>, const T*,         \
                                const T*, T*, T*, T*);
FASTRNN_INSTANTIATE(float)
FASTRNN_INSTANTIATE(double)

}  // namespace fastrnn
