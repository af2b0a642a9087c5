#include "reduced.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace fastrnn {

ReducedWeights reduce_bfloat16(const ReducedKernels& kernels, const float* packed, index panels, index K, index width) {
  const index rows = words<Bfloat16>(K);
  ReducedWeights reduced;
  reduced.words = Buffer<uint32_t>(size_t(std::max<index>(panels * rows * width, 1)));
  Buffer<Bfloat16> rounded(static_cast<size_t>(width));
  for (index p = 0; p < panels; ++p)
    for (index k = 0; k < K; ++k) {
      kernels.to_bfloat16(width, packed + (p * K + k) * width, rounded.data());
      uint32_t* word = reduced.words.data() + (p * rows + k / 2) * width;
      for (index i = 0; i < width; ++i) {
        const uint32_t bits = rounded.data()[i].bits;
        word[i] = k % 2 == 0 ? bits : word[i] | bits << 16;
      }
    }
  return reduced;
}

ReducedWeights reduce_int8(const float* packed, index panels, index K, index width) {
  const index rows = words<Int8>(K);
  ReducedWeights reduced;
  reduced.words = zeros<uint32_t>(size_t(std::max<index>(panels * rows * width, 1)));
  reduced.scale = zeros<float>(size_t(panels * width));
  reduced.offset = zeros<int32_t>(size_t(panels * width));
  Buffer<float> per_one(static_cast<size_t>(width));
  for (index p = 0; p < panels; ++p) {
    const float* panel = packed + p * K * width;
    float* scale = reduced.scale.data() + p * width;
    int32_t* offset = reduced.offset.data() + p * width;
    for (index k = 0; k < K; ++k)
      for (index i = 0; i < width; ++i) scale[i] = std::max(scale[i], std::fabs(panel[k * width + i]));
    for (index i = 0; i < width; ++i) {
      per_one.data()[i] = 127.0f / scale[i];
      if (per_one.data()[i] > std::numeric_limits<float>::max()) per_one.data()[i] = 0;  // all zero, or next to it
      scale[i] /= 127.0f;
    }
    for (index k = 0; k < K; ++k) {
      uint32_t* word = reduced.words.data() + (p * rows + k / 4) * width;
      for (index i = 0; i < width; ++i) {
        const int32_t q = int32_t(std::nearbyint(panel[k * width + i] * per_one.data()[i]));
        word[i] |= (uint32_t(q) & 0xffu) << (8 * (k % 4));
        offset[i] -= 128 * q;
      }
    }
  }
  return reduced;
}

}  // namespace fastrnn
