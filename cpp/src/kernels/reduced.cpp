// The kernel table of one instruction set for steps of reduced precision, compiled as kernels.cpp is. FASTRNN_TABLE
// names the one symbol of the object.
#include "step_forward.hpp"

namespace fastrnn {
namespace {

template <class W>
static void reduce(index n, const float* x, Quantum quantum, W* y) {
  for (index i = 0; i < n; i += kLanes<float>)
    store_reduced(y + i, load_first<float>(x + i, n - i < kLanes<float> ? n - i : kLanes<float>), n - i, quantum);
}
static void to_bfloat16(index n, const float* x, Bfloat16* y) { reduce(n, x, Quantum{}, y); }

#define FASTRNN_STEPS(W)                                               \
  {{forward_step<float, W, RnnCell<float>, true>, nullptr},            \
   {forward_step<float, W, LstmCell<float>, true>, nullptr},           \
   {forward_step<float, W, GruCell<float>, true>, nullptr},            \
   {forward_step<float, W, GruBeforeGates<float>, true>,               \
    forward_step<float, W, GruBeforeCandidate<float>, false>}}

#if defined(__AVX512BF16__)
constexpr bool kNativeBfloat16 = true;
#else
constexpr bool kNativeBfloat16 = false;
#endif
#if defined(__AVX512VNNI__)
constexpr bool kNativeInt8 = true;
#else
constexpr bool kNativeInt8 = false;
#endif

}  // namespace

extern const ReducedKernels FASTRNN_TABLE;
const ReducedKernels FASTRNN_TABLE = {
    kNativeBfloat16, kNativeInt8, FASTRNN_STEPS(Bfloat16), FASTRNN_STEPS(Int8), to_bfloat16, reduce<Int8>,
};

}  // namespace fastrnn
