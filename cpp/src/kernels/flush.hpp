// The floating-point mode of a stream's calls: denormals flushed, rounding to nearest, no traps.
//
// A decaying state reaches denormal numbers, which cost some CPUs a hundred cycles each. A mode that will do is left
// alone. What runs under the mode must be a call that is not inlined: to the compiler, arithmetic does not depend on
// the mode and may be moved across.
#pragma once

#include "simd.hpp"

#if defined(__SSE2__) || defined(_M_X64)
#include <xmmintrin.h>
#endif

namespace fastrnn {
namespace {

#if defined(__SSE2__) || defined(_M_X64)
// Whether denormals are zero, as operands and as results, and sums rounded to nearest. Reading the register that says so
// waits for all arithmetic before it, a tenth of a small step; these few operations tell as well.
FASTRNN_INLINE bool flushes_already() {
  static const volatile float denormal = 1e-39f, small = 1e-20f, one = 1, less = 0.25f / (1 << 23), more = 0.75f / (1 << 23);
  return denormal == 0 && small * small == 0 && (one + more) - (one + less) != 0;
}

class FlushDenormals {
 public:
  FASTRNN_ALWAYS FlushDenormals() : change_(!flushes_already()) {
    if (!change_) return;
    before_ = _mm_getcsr();
    _mm_setcsr(kWanted);
  }
  FASTRNN_ALWAYS ~FlushDenormals() {
    if (change_) _mm_setcsr(before_);
  }

 private:
  static constexpr unsigned kWanted = 0x9fc0;  // flush to zero, denormals are zero, every exception masked
  bool change_;
  unsigned before_;
};
#elif defined(__aarch64__) && defined(__GNUC__)
class FlushDenormals {
 public:
  FASTRNN_ALWAYS FlushDenormals() {
    asm volatile("mrs %0, fpcr" : "=r"(before_));
    if (before_ != kWanted) asm volatile("msr fpcr, %0" : : "r"(kWanted));
  }
  FASTRNN_ALWAYS ~FlushDenormals() {
    if (before_ != kWanted) asm volatile("msr fpcr, %0" : : "r"(before_));
  }

 private:
  static constexpr uint64_t kWanted = uint64_t(1) << 24;  // FZ
  uint64_t before_;
};
#else
struct FlushDenormals {
  FASTRNN_ALWAYS FlushDenormals() {}
  FASTRNN_ALWAYS ~FlushDenormals() {}
};
#endif

}  // namespace
}  // namespace fastrnn
