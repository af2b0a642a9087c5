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
class FlushDenormals {
 public:
  FASTRNN_ALWAYS FlushDenormals() : before_(_mm_getcsr()) {
    if ((before_ & kControl) != kWanted) _mm_setcsr(kWanted);
  }
  FASTRNN_ALWAYS ~FlushDenormals() {
    if ((before_ & kControl) != kWanted) _mm_setcsr(before_);
  }

 private:
  static constexpr unsigned kControl = 0xffc0;  // all but the sticky flags
  static constexpr unsigned kWanted = 0x9fc0;   // flush to zero, denormals are zero, every exception masked
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
