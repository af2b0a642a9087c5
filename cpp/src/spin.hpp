// Waiting for another thread that is about to be done.
#pragma once

#include <thread>

#if defined(__SSE2__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace fastrnn {

// A few microseconds of pauses, then the core is offered to others: the thread waited for may need it.
class Spin {
 public:
  void once() {
    if (++count_ > 200) {  // a pause takes 10 to 140 cycles, by the processor
      std::this_thread::yield();
      return;
    }
#if defined(__SSE2__) || defined(_M_X64)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
  }

 private:
  int count_ = 0;
};

}  // namespace fastrnn
