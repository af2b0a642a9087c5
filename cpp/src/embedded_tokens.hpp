// Embedded tokens in place of x. Forward, the accumulators start at the products of the distinct ones. Backward, the
// gate gradients of a shard are summed per distinct token before they meet the weights; rows of the sums are (P, slots
// of x, L).
#pragma once

#include <algorithm>
#include <vector>

#include "threads.hpp"
#include "token_index.hpp"
#include "workspace.hpp"

namespace fastrnn {

// The distinct tokens of a call through W, and which of them each position reads: what a forward pass needs of x.
template <class T>
class ProjectedTokens {
 public:
  ProjectedTokens() = default;
  ProjectedTokens(const typename Workspace<T>::State& w, const PackedWeights<T>& weights)
      : ranks_(size_t(w.distinct->positions) + 1), table_(weights, w.x, *w.distinct) {
    std::copy_n(w.distinct->inverse.data(), w.distinct->positions, ranks_.data());
    axes_[0] = w.options.batch_first ? w.B : w.T_;
    axes_[1] = w.options.batch_first ? w.T_ : w.B;
  }
  void replace_x(RnnInputs<T>& in) const {
    in.table = table_;
    in.tokens = {ranks_.data(), 2, {axes_[0], axes_[1]}, {axes_[1], 1}};
  }

 private:
  Buffer<index> ranks_;
  ProjectionTable<T> table_;
  index axes_[2] = {0, 0};
};

// The gradients of one shard. Its distinct tokens are numbered as they first come up.
template <class T>
class TokenSums {
 public:
  TokenSums() = default;
  // `I` > 0: with room for the gradients of the embedding's rows.
  TokenSums(const typename Workspace<T>::State& w, const Shard<T>& shard, index width, index I)
      : at(size_t(shard.schedule.total()) + 1) {
    std::vector<int32_t> number(size_t(w.distinct->distinct), -1);
    const Schedule& s = shard.schedule;
    index position = 0;
    for (index step = s.steps() - 1; step >= 0; --step)
      for (index r = 0; r < s.active(step); ++r) {
        const index token = w.distinct->inverse.data()[shard.x.base(step) + shard.x.at(step)[r]];
        int32_t& n = number[size_t(token)];
        if (n < 0) {
          n = int32_t(rank.size());
          rank.push_back(token);
          row.push_back(w.distinct->token.data()[token] * w.x.stride[0]);
          out.push_back(index(n) * I);
        }
        at.data()[position++] = n;
      }
    sums = zeros<T>(rank.size() * size_t(width) + 1);
    grad = Buffer<T>(rank.size() * size_t(I) + 1);
  }
  index count() const { return index(rank.size()); }

  Buffer<index> at;  // of each packed row, from the last step to the first, the number of its token
  // of a token: its rank in the batch, where its row stands in the embedding, and in `grad`
  std::vector<index> rank, row, out;
  Buffer<T> sums, grad;
};

// The gradient of the embedding (V, I): those of the shards added up in order, zeros for tokens that are not there.
// Each task has rows of its own.
template <class T>
void add_token_gradients(const KernelTable<T>& kernels, const std::vector<TokenSums<T>>& shards,
                         const TokenIndex& distinct, index I, int tasks, const View<T>& grad) {
  run_tasks(tasks, tasks, [&](int, index task) {
    const index first = distinct.vocabulary * task / tasks, last = distinct.vocabulary * (task + 1) / tasks;
    for (index v = first; v < last; ++v) std::fill_n(grad.data + v * grad.stride[0], I, T(0));
    for (const TokenSums<T>& shard : shards)
      for (index n = 0; n < shard.count(); ++n) {
        const index v = distinct.token.data()[shard.rank[size_t(n)]];
        if (v >= first && v < last) kernels.add(I, shard.grad.data() + n * I, grad.data + v * grad.stride[0]);
      }
  });
}

}  // namespace fastrnn
