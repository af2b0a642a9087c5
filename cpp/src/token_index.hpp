// Which tokens a batch of ids holds, and where: what is done once per distinct token instead of once per position
// starts here.
#pragma once

#include "fastrnn/types.hpp"
#include "memory.hpp"

namespace fastrnn {

struct TokenIndex {
  index positions = 0, vocabulary = 0, distinct = 0;
  Buffer<index> token;      // (distinct,) the ids in use, ascending
  Buffer<int32_t> inverse;  // (positions,) the rank of each position's id in `token`
  Buffer<int32_t> order;    // (positions,) the positions sorted by id, those of one id ascending
  Buffer<index> start;      // (distinct + 1,) where each token's positions begin in `order`
};

constexpr index kMostPositions = (index(1) << 31) - 1;

// A counting sort, O(positions + vocabulary). Throws std::invalid_argument when an id is outside 0..vocabulary-1 or
// there are more than kMostPositions of them.
template <class Id>
TokenIndex index_tokens(index positions, const Id* ids, index vocabulary);

}  // namespace fastrnn
