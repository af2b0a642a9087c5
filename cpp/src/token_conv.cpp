// Conv1D over embedded tokens. A batch has far fewer distinct tokens than positions, so the product with the weights is
// done once per token: table[token] = its embedding through each tap. An output is then a sum of `kernel` rows.
//
// Backward, the other way round: the gradients of all windows that a token stands in are summed first, tap by tap, and
// one product turns the sum into the gradients of the embedding and of the weights. A frequent token is summed in
// pieces of a fixed size, and pieces are dealt to shards whose number depends on the batch alone: the same sums for
// every number of threads.
#include <algorithm>
#include <vector>

#include "dispatch.hpp"
#include "fastrnn/ops.hpp"
#include "plan.hpp"
#include "taps.hpp"
#include "threads.hpp"
#include "token_index.hpp"

namespace fastrnn {
namespace {

constexpr index kShards = 8;
constexpr index kTableRows = 96;  // tokens projected at a time: a multiple of every register tile
constexpr index kPiece = 512;     // occurrences of one token that are summed at a time
constexpr double kSumCost = 6;    // adding a value read from anywhere, in operations of a product

// weight (F, C, K) as the operand of the table: rows c, columns (k, f padded to whole vectors).
template <class T>
Buffer<T> pack_table(const KernelTable<T>& kernels, const View<const T>& weight) {
  const int L = kernels.lanes;
  const index F = weight.shape[0], C = weight.shape[1], K = weight.shape[2], panels = panels_of(F, L);
  Buffer<T> packed(size_t(K * panels * C * L));
  for (index k = 0; k < K; ++k)
    for (index p = 0; p < panels; ++p)
      pack_panel(kernels, weight.data + k * weight.stride[2] + p * L * weight.stride[0], weight.stride[1],
                 weight.stride[0], C, std::min<index>(L, F - p * L), packed.data() + (k * panels + p) * C * L, L);
  return packed;
}

// Every distinct token through every tap: rows (kernel, pitch), and a row of zeros for what lies outside a sequence.
template <class T>
Buffer<T> project(const ConvShape& s, const TokenIndex& tokens, const T* embedding, const View<const T>& weight,
                  index pitch) {
  const KernelTable<T>& kernels = active_kernels<T>();
  const Buffer<T> packed = pack_table(kernels, weight);
  const index width = s.kernel * pitch, blocks = (tokens.distinct + kTableRows - 1) / kTableRows;
  Buffer<T> table(size_t((tokens.distinct + 1) * width));
  std::fill_n(table.data() + tokens.distinct * width, width, T(0));
  const int threads = plan_threads(2.0 * double(tokens.distinct) * double(s.channels) * double(width),
                                   std::max<index>(blocks, 1));
  Buffer<T> scratch(size_t(threads * kTableRows * s.channels));
  run_tasks(threads, blocks, [&](int thread, index i) {
    const index first = i * kTableRows, zero = 0;
    T* rows = scratch.data() + thread * kTableRows * s.channels;
    Gemm<T> m{};
    m.rows = std::min(kTableRows, tokens.distinct - first);
    kernels.gather(m.rows, tokens.token.data() + first, s.channels, embedding, rows);
    m.a = rows;
    m.a_stride = s.channels;
    m.segment = &zero;
    m.segment_length = &s.channels;
    m.segments = 1;
    m.b = packed.data();
    m.columns = width;
    m.c = table.data() + first * width;
    m.c_stride = width;
    m.activation = {ActivationKind::linear, 0, 0};
    kernels.gemm(m);
  });
  return table;
}

}  // namespace

template <class T>
void token_conv1d(const ConvShape& s, const TokenIndex& tokens, const T* embedding, const View<const T>& weight,
                  const View<const T>& bias, Activation<T> activation, T* y) {
  check_padding("token_conv1d", s);
  const KernelTable<T>& kernels = active_kernels<T>();
  const index outputs = s.out_time(), pitch = panels_of(s.filters, kernels.lanes) * kernels.lanes;
  const index width = s.kernel * pitch;
  const Buffer<T> table = project(s, tokens, embedding, weight, pitch);
  const Buffer<T> packed_bias = pack_filter_bias(kernels, bias, s.filters);
  const std::vector<Block> work = row_blocks(s.batch, outputs);
  const double cost = kSumCost * double(s.batch * outputs) * double(width);
  const int threads = plan_threads(cost, index(work.size()));
  const index most = rows_needed(s, std::min<index>(std::max<index>(outputs, 1), kBlockRows));
  Buffer<index> offsets(size_t(threads * most));
  run_tasks(threads, index(work.size()), [&](int thread, index i) {
    const Block& block = work[size_t(i)];
    if (block.first == block.last) return;
    TokenSum<T> m{};
    m.outputs = block.last - block.first;
    index* offset = offsets.data() + thread * most;
    const int32_t* rank = tokens.inverse.data() + block.b * s.time;
    const index t0 = block.first * s.stride - s.pad_left, rows = rows_needed(s, m.outputs);
    for (index r = 0; r < rows; ++r) {
      const index t = t0 + r;
      offset[r] = (t < 0 || t >= s.time ? tokens.distinct : index(rank[t])) * width;
    }
    m.taps = s.kernel;
    m.stride = s.stride;
    m.dilation = s.dilation;
    m.offset = offset;
    m.table = table.data();
    m.pitch = pitch;
    m.bias = packed_bias.data();
    m.columns = s.filters;
    m.y = y + (block.b * outputs + block.first) * s.filters;
    m.activation = activation;
    kernels.token_sum(m);
  });
}

namespace {

// Some occurrences of one token: order[first..last).
struct Piece {
  index rank, first, last;
};

// The first piece of every token, then the further pieces of the frequent ones.
std::vector<Piece> pieces_of(const TokenIndex& tokens) {
  std::vector<Piece> pieces;
  pieces.reserve(size_t(tokens.distinct + tokens.positions / kPiece + 1));
  const index* start = tokens.start.data();
  for (index r = 0; r < tokens.distinct; ++r)
    pieces.push_back({r, start[r], std::min(start[r + 1], start[r] + kPiece)});
  for (index r = 0; r < tokens.distinct; ++r)
    for (index i = start[r] + kPiece; i < start[r + 1]; i += kPiece)
      pieces.push_back({r, i, std::min(start[r + 1], i + kPiece)});
  return pieces;
}

// Bounds of even shards: a piece costs its occurrences and about as much as kProducts of them for the products.
std::vector<index> deal(const std::vector<Piece>& pieces, index shards) {
  constexpr index kProducts = 8;
  index total = 0;
  for (const Piece& p : pieces) total += p.last - p.first + kProducts;
  std::vector<index> bounds{0};
  index sum = 0;
  for (index i = 0; i < index(pieces.size()); ++i) {
    sum += pieces[size_t(i)].last - pieces[size_t(i)].first + kProducts;
    while (index(bounds.size()) < shards && sum * shards >= total * index(bounds.size())) bounds.push_back(i + 1);
  }
  while (index(bounds.size()) <= shards) bounds.push_back(index(pieces.size()));
  return bounds;
}

template <class T>
struct TokenConvBackward {
  const ConvShape& s;
  const TokenIndex& tokens;
  const KernelTable<T>& kernels;
  const T* embedding;
  const T* y;
  const T* grad_y;
  Activation<T> activation;
  T* grad_embedding;
  index outputs, pitch, width, reach;
  Buffer<T> z;       // (B, T + reach, pitch): in row t + i*dilation the output that sees t at tap K-1-i, or zero
  Buffer<T> packed;  // rows (K-1-k, f), columns c
  Runs runs;         // of a row of sums, in the order of `packed`
  std::vector<index> columns;
  std::vector<Piece> pieces;
  Buffer<T> further;  // embedding gradients of the pieces after the first of each token

  // The gradients before the activation of one sequence, zeros around them, and their sum over time.
  void spread(index b, T* bias_sum) const {
    const index rows = s.time + reach, shift = s.pad_left - reach;  // row r is step r + shift of the padded input
    T* to = z.data() + b * rows * pitch;
    const T* g = grad_y + b * outputs * s.filters;
    const T* saved = y + b * outputs * s.filters;
    const bool whole = s.stride == 1 && pitch == s.filters;
    index r = 0;
    for (index o = 0; o < outputs; ++o) {
      const index row = o * s.stride - shift, count = whole ? outputs : 1;
      std::fill_n(to + r * pitch, (row - r) * pitch, T(0));
      T* out = to + row * pitch;
      if (activation.kind == ActivationKind::linear)
        std::copy_n(g + o * s.filters, count * s.filters, out);
      else
        kernels.activate_backward(count * s.filters, saved + o * s.filters, g + o * s.filters, out, activation);
      if (!whole) std::fill_n(out + s.filters, pitch - s.filters, T(0));
      r = row + count;
      if (whole) break;
    }
    std::fill_n(to + r * pitch, (rows - r) * pitch, T(0));
    if (!bias_sum || outputs == 0) return;
    static const T one = 1;
    Outer<T> o{};
    o.rows = outputs;
    o.a = &one;
    o.last = 1;
    o.d = to - shift * pitch;
    o.d_stride = s.stride * pitch;
    o.column = columns.data();
    o.columns = pitch / kernels.lanes;
    o.c = bias_sum;
    kernels.outer(o);
  }

  // The sum of the windows of gradients over the occurrences of one piece: a row (K-1-k, f).
  void sum_piece(const Piece& piece, index* offset, T* row) const {
    const index n = piece.last - piece.first;
    const int32_t* order = tokens.order.data() + piece.first;
    for (index i = 0; i < n; ++i) offset[i] = (order[i] + order[i] / uint32_t(s.time) * reach) * pitch;
    if (s.dilation == 1) return kernels.sum_rows(n, offset, width, z.data(), row);
    for (index k = 0; k < s.kernel; ++k)
      kernels.sum_rows(n, offset, pitch, z.data() + k * s.dilation * pitch, row + k * pitch);
  }

  // Pieces [first, last), at most kTableRows, all of them first pieces or none.
  void run(index first, index last, index* offset, T* rows, T* sum) const {
    index at[kTableRows], to[kTableRows];
    const bool further_ones = first >= tokens.distinct;
    for (index i = first; i < last; ++i) {
      sum_piece(pieces[size_t(i)], offset, rows + (i - first) * width);
      at[i - first] = tokens.token.data()[pieces[size_t(i)].rank] * s.channels;
      to[i - first] = further_ones ? (i - tokens.distinct) * s.channels : at[i - first];
    }
    Outer<T> o{};
    o.rows = last - first;
    o.a = embedding;
    o.a_offset = at;
    o.last = s.channels;
    o.d = rows;
    o.d_stride = width;
    o.column = columns.data();
    o.columns = index(columns.size());
    o.c = sum;
    o.c_stride = width;
    kernels.outer(o);
    if (!grad_embedding) return;
    Gemm<T> m{};
    m.rows = last - first;
    m.a = rows;
    m.a_stride = width;
    m.segment = runs.offset.data();
    m.segment_length = runs.length.data();
    m.segments = runs.count();
    m.b = packed.data();
    m.columns = s.channels;
    m.c = further_ones ? further.data() : grad_embedding;
    m.c_offset = to;
    m.activation = {ActivationKind::linear, 0, 0};
    kernels.gemm(m);
  }

  // Zeros for the tokens of [first, last) that the batch does not have.
  void clear_unused(index first, index last) const {
    const index* token = tokens.token.data();
    const index* end = token + tokens.distinct;
    for (const index* next = std::lower_bound(token, end, first); first < last; ++next) {
      const index used = next < end ? std::min(*next, last) : last;
      std::fill_n(grad_embedding + first * s.channels, (used - first) * s.channels, T(0));
      first = used + 1;
    }
  }
};

}  // namespace

template <class T>
void token_conv1d_backward(const ConvShape& s, const TokenIndex& tokens, const T* embedding,
                           const View<const T>& weight, Activation<T> activation, const T* y, const T* grad_y,
                           T* grad_embedding, T* grad_weight, T* grad_bias) {
  check_padding("token_conv1d_backward", s);
  if (needs_input(activation))
    fail("token_conv1d_backward", "activation", "one whose derivative follows from its output",
         "one that needs its input");
  const KernelTable<T>& kernels = active_kernels<T>();
  const int L = kernels.lanes;
  const index outputs = s.out_time(), pitch = panels_of(s.filters, L) * L, reach = (s.kernel - 1) * s.dilation;
  TokenConvBackward<T> task{s, tokens, kernels, embedding, y, grad_y, activation, grad_embedding, outputs, pitch,
                            s.kernel * pitch, reach, {}, {}, {}, {}, {}, {}};
  const index width = task.width;
  task.z = Buffer<T>(size_t(s.batch) * size_t(s.time + reach) * size_t(pitch) + 1);
  for (index n = 0; n < width; n += L) task.columns.push_back(n);
  task.pieces = pieces_of(tokens);
  const index pieces = index(task.pieces.size()), further = pieces - tokens.distinct;
  if (grad_embedding) {
    task.packed = pack_taps(kernels, weight, true);
    task.runs = window_runs(s.kernel, 1, s.filters, pitch);
    task.further = Buffer<T>(size_t(further * s.channels) + 1);
  }

  // what every window reads, the sums of the biases and the zeros of the embedding's gradient
  const index bias_shards = std::max<index>(1, std::min(kShards, s.batch));
  Buffer<T> bias_sums = zeros<T>(size_t(bias_shards * pitch));
  const double moved = double(s.batch) * double(s.time + reach) * double(pitch);
  run_tasks(plan_threads(10 * moved, bias_shards), bias_shards, [&](int, index shard) {
    for (index b = s.batch * shard / bias_shards; b < s.batch * (shard + 1) / bias_shards; ++b)
      task.spread(b, grad_bias ? bias_sums.data() + shard * pitch : nullptr);
    if (grad_embedding)
      task.clear_unused(tokens.vocabulary * shard / bias_shards, tokens.vocabulary * (shard + 1) / bias_shards);
  });

  const index shards = std::max<index>(1, std::min(kShards, pieces / 16)), shard_size = s.channels * width;
  const std::vector<index> bounds = deal(task.pieces, shards);
  Buffer<T> sums = zeros<T>(size_t(shards * shard_size));
  const double cost = (kSumCost * double(tokens.positions) + 4.0 * double(pieces) * double(s.channels)) * double(width);
  const int threads = plan_threads(cost, shards);
  Buffer<T> scratch(size_t(threads * kTableRows * width));
  Buffer<index> offsets(size_t(threads * kPiece));
  run_tasks(threads, shards, [&](int thread, index shard) {
    const index end = bounds[size_t(shard) + 1];
    for (index first = bounds[size_t(shard)], last; first < end; first = last) {
      last = std::min(end, first + kTableRows);
      if (first < tokens.distinct) last = std::min(last, tokens.distinct);
      task.run(first, last, offsets.data() + thread * kPiece, scratch.data() + thread * kTableRows * width,
               sums.data() + shard * shard_size);
    }
  });
  for (index i = 0; grad_embedding && i < further; ++i) {
    const index token = tokens.token.data()[task.pieces[size_t(tokens.distinct + i)].rank];
    kernels.add(s.channels, task.further.data() + i * s.channels, grad_embedding + token * s.channels);
  }
  for (index shard = 1; shard < shards; ++shard) kernels.add(shard_size, sums.data() + shard * shard_size, sums.data());
  for (index shard = 1; shard < bias_shards; ++shard) kernels.add(pitch, bias_sums.data() + shard * pitch, bias_sums.data());
  for (index f = 0; f < s.filters; ++f) {
    for (index c = 0; c < s.channels; ++c)
      for (index k = 0; k < s.kernel; ++k)
        grad_weight[(f * s.channels + c) * s.kernel + k] = sums.data()[c * width + (s.kernel - 1 - k) * pitch + f];
    if (grad_bias) grad_bias[f] = bias_sums.data()[f];
  }
}

#define FASTRNN_INSTANTIATE(T)                                                                                      \
  template void token_conv1d(const ConvShape&, const TokenIndex&, const T*, const View<const T>&,                   \
                             const View<const T>&, Activation<T>, T*);                                              \
  template void token_conv1d_backward(const ConvShape&, const TokenIndex&, const T*, const View<const T>&,          \
                                      Activation<T>, const T*, const T*, T*, T*, T*);
FASTRNN_INSTANTIATE(float)
FASTRNN_INSTANTIATE(double)

}  // namespace fastrnn
