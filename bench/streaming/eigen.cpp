#include "eigen.hpp"

#define EIGEN_STACK_ALLOCATION_LIMIT 0  // the layers stand on the heap
#include <Eigen/Dense>

namespace {

template <int Rows, int Columns>
using Matrix = Eigen::Matrix<float, Rows, Columns>;
template <int Rows, int Columns>
using RowMajor = Eigen::Matrix<float, Rows, Columns, Columns == 1 ? Eigen::ColMajor : Eigen::RowMajor>;
template <int N>
using Vector = Eigen::Matrix<float, N, 1>;

// All gates in one product, gates i f g o.
template <int I, int H>
struct Lstm final : EigenLayer {
  EIGEN_MAKE_ALIGNED_OPERATOR_NEW
  Matrix<4 * H, I> w;
  Matrix<4 * H, H> r;
  Vector<4 * H> b, a;
  Vector<H> h = Vector<H>::Zero(), c = Vector<H>::Zero();
  Lstm(const float* w_, const float* r_, const float* b_)
      : w(Eigen::Map<const RowMajor<4 * H, I>>(w_)), r(Eigen::Map<const RowMajor<4 * H, H>>(r_)),
        b(Eigen::Map<const Vector<4 * H>>(b_)) {}
  void run(const float* x, long steps, float* y) override {
    for (long t = 0; t < steps; ++t) {
      a.noalias() = b + w * Eigen::Map<const Vector<I>>(x + t * I);
      a.noalias() += r * h;
      const auto i = a.template segment<H>(0).array().logistic(), f = a.template segment<H>(H).array().logistic();
      const auto g = a.template segment<H>(2 * H).array().tanh(), o = a.template segment<H>(3 * H).array().logistic();
      c = (f * c.array() + i * g).matrix();
      h = (o * c.array().tanh()).matrix();
      Eigen::Map<Vector<H>>(y + t * H) = h;
    }
  }
};

// Reset after, gates r z n.
template <int I, int H>
struct Gru final : EigenLayer {
  EIGEN_MAKE_ALIGNED_OPERATOR_NEW
  Matrix<3 * H, I> w;
  Matrix<3 * H, H> r;
  Vector<3 * H> b, ax, ah;
  Vector<H> h = Vector<H>::Zero();
  Gru(const float* w_, const float* r_, const float* b_)
      : w(Eigen::Map<const RowMajor<3 * H, I>>(w_)), r(Eigen::Map<const RowMajor<3 * H, H>>(r_)),
        b(Eigen::Map<const Vector<3 * H>>(b_)) {}
  void run(const float* x, long steps, float* y) override {
    for (long t = 0; t < steps; ++t) {
      ax.noalias() = b + w * Eigen::Map<const Vector<I>>(x + t * I);
      ah.noalias() = r * h;
      const Eigen::Array<float, 2 * H, 1> rz = (ax.template head<2 * H>() + ah.template head<2 * H>()).array().logistic();
      const Eigen::Array<float, H, 1> n =
          (ax.template tail<H>().array() + rz.template head<H>() * ah.template tail<H>().array()).tanh();
      h = (n + rz.template tail<H>() * (h.array() - n)).matrix();
      Eigen::Map<Vector<H>>(y + t * H) = h;
    }
  }
};

}  // namespace

std::unique_ptr<EigenLayer> make_eigen_layer(bool lstm, long inputs, long hidden, const float* w, const float* r,
                                             const float* b) {
#define FASTRNN_SIZE(kind, Layer, I, H) \
  if (lstm == kind && inputs == I && hidden == H) return std::make_unique<Layer<I, H>>(w, r, b);
  FASTRNN_SIZE(true, Lstm, 1, 16)
  FASTRNN_SIZE(true, Lstm, 1, 32)
  FASTRNN_SIZE(true, Lstm, 1, 64)
  FASTRNN_SIZE(true, Lstm, 64, 64)
  FASTRNN_SIZE(true, Lstm, 128, 128)
  FASTRNN_SIZE(false, Gru, 1, 16)
  FASTRNN_SIZE(false, Gru, 64, 64)
#undef FASTRNN_SIZE
  return nullptr;
}
