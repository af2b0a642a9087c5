// The kernel table of one instruction set. CMake compiles this file once per set, with that set's flags and
// FASTRNN_TABLE naming the one symbol the object exports.
#include "elementwise.hpp"
#include "gemm.hpp"
#include "peak.hpp"
#include "step_backward.hpp"
#include "step_forward.hpp"
#include "stream_step.hpp"
#include "transpose.hpp"
#include "token_sum.hpp"

#define FASTRNN_STRING_(x) #x
#define FASTRNN_STRING(x) FASTRNN_STRING_(x)

namespace fastrnn {
namespace {

template <class T>
constexpr KernelTable<T> table() {
  return {
      FASTRNN_STRING(FASTRNN_ISA_NAME),
      kLanes<T>,
      kHalved,
      kManyRegisters,
      {{forward_step<T, T, RnnCell<T>, true>, nullptr},
       {forward_step<T, T, LstmCell<T>, true>, nullptr},
       {forward_step<T, T, GruCell<T>, true>, nullptr},
       {forward_step<T, T, GruBeforeGates<T>, true>, forward_step<T, T, GruBeforeCandidate<T>, false>}},
      {{backward_step<T, RnnCell<T>, true>, nullptr},
       {backward_step<T, LstmCell<T>, true>, nullptr},
       {backward_step<T, GruCell<T>, true>, nullptr},
       {backward_step<T, GruBeforeGates<T>, true>, backward_step<T, GruBeforeCandidate<T>, false>}},
      stream_kernel<T>,
      gemm<T>,
      outer<T>,
      copy_rows<T>,
      transpose<T>,
      activate_all<T>,
      activate_backward<T>,
      add<T>,
      gather<T>,
      scatter_add<T>,
      token_sum<T>,
      sum_rows<T>,
      max_rows<T>,
      max_unpool<T>,
      add_scaled<T>,
      dropout_mask<T>,
      exp_shifted<T>,
      adam<T>,
      rmsprop<T>,
      sgd<T>,
      multiply_adds<T>,
      nullptr,
  };
}

}  // namespace

extern const Kernels FASTRNN_TABLE;
const Kernels FASTRNN_TABLE = {table<float>(), table<double>()};

}  // namespace fastrnn
