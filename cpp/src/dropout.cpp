// Dropout from a counter-based generator: element i of a mask depends on (seed, i) alone, so backward draws the same
// mask again instead of keeping it, and the number of threads changes nothing.
#include <algorithm>

#include "dispatch.hpp"
#include "fastrnn/ops.hpp"
#include "plan.hpp"
#include "threads.hpp"

namespace fastrnn {
namespace {

// SplitMix64 (Steele, Lea, Flood 2014): the increment of its counter and its output function, a bijection of 64 bits.
constexpr uint64_t kWeyl = 0x9e3779b97f4a7c15u;
inline uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

}  // namespace

template <class T>
void dropout(index outer, index repeat, index inner, const T* x, double rate, uint64_t seed, T* y) {
  const auto& kernels = active_kernels<T>();
  const T scale = T(1.0 / (1.0 - rate));
  const uint32_t limit = uint32_t(std::min(rate * 4294967296.0, 4294967295.0));
  const uint64_t key = mix(seed + kWeyl);
  constexpr index kPiece = 1 << 12;
  // Pieces of the mask, which has outer*inner elements; element (o, i) serves (o, r, i) for every r.
  const index n = outer * inner, pieces = (n + kPiece - 1) / kPiece;
  const double cost = 4.0 * double(n) + 2.0 * double(n) * double(repeat);
  run_tasks(plan_threads(cost, std::max<index>(pieces, 1)), pieces, [&](int, index piece) {
    T mask[kPiece];
    const index first = piece * kPiece, count = std::min(kPiece, n - first);
    kernels.dropout_mask(count, mix(key + uint64_t(piece) * kWeyl), limit, scale, mask);
    for (index i = 0; i < count;) {
      const index o = (first + i) / inner, at = (first + i) % inner, run = std::min(count - i, inner - at);
      for (index r = 0; r < repeat; ++r) {
        T* to = y + (o * repeat + r) * inner + at;
        const T* from = x ? x + (o * repeat + r) * inner + at : nullptr;
        for (index k = 0; k < run; ++k) to[k] = from ? from[k] * mask[i + k] : mask[i + k];
      }
      i += run;
    }
  });
}

template void dropout(index, index, index, const float*, double, uint64_t, float*);
template void dropout(index, index, index, const double*, double, uint64_t, double*);

}  // namespace fastrnn
