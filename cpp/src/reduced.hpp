// Weights of fewer bits: from panels of floats to panels of words; see Precision.
#pragma once

#include "cell_layout.hpp"
#include "memory.hpp"

namespace fastrnn {

// One product's weights, packed (P, words of K, C, L). Int8 has a scale and an offset for each unit and gate, as
// ForwardStep says.
struct ReducedWeights {
  Buffer<uint32_t> words;
  Buffer<float> scale;
  Buffer<int32_t> offset;
  size_t bytes() const { return words.bytes() + scale.bytes() + offset.bytes(); }
};

// From (P, K, C, L) floats, C*L = `width`. Int8 takes finite weights.
ReducedWeights reduce_bfloat16(const ReducedKernels& kernels, const float* packed, index panels, index K, index width);
ReducedWeights reduce_int8(const float* packed, index panels, index K, index width);

// Rounding h * per_one gives integers of at most 127 for |h| <= bound.
inline Quantum quantum_of(float bound) { return {bound / 127.0f, 127.0f / bound}; }

}  // namespace fastrnn
