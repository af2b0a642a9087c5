// Microseconds per step of Stream<float>, one row, state carried: median over repeats of 10,000 steps of random input;
// and of the same layer on Eigen's fixed-size matrices (eigen.hpp), in turns, where CMake finds Eigen.
//
//   cmake -S . -B build -DCMAKE_BUILD_TYPE=Release -DFASTRNN_PYTHON=OFF -DFASTRNN_BENCH=ON
//   cmake --build build -j && build/bench_streaming [repeats] [isa ...]
//
// "step": one call a step; "flushing": the same in a caller that flushes denormals already, as audio hosts do;
// "process": one call for all steps. The last column is Eigen's time over that of "step".
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "eigen.hpp"
#include "fastrnn/runtime.hpp"
#include "fastrnn/stream.hpp"
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

using fastrnn::Cell;
typedef fastrnn::index Index;  // as `index` it would meet the function of strings.h

namespace {

constexpr Index kSteps = 10000;

struct Case {
  Cell cell;
  Index inputs, hidden;
};
const Case kCases[] = {{Cell::lstm, 1, 16},  {Cell::lstm, 1, 32},    {Cell::lstm, 1, 64}, {Cell::lstm, 64, 64},
                       {Cell::lstm, 128, 128}, {Cell::gru, 1, 16}, {Cell::gru, 64, 64}};

std::vector<float> random_values(Index n, double scale) {
  static std::mt19937 generator(1);
  std::normal_distribution<float> normal(0, float(scale));
  std::vector<float> v(static_cast<size_t>(n));
  for (float& value : v) value = normal(generator);
  return v;
}

fastrnn::View<const float> matrix(const std::vector<float>& v, Index rows, Index columns) {
  fastrnn::View<const float> view;
  view.data = v.data();
  view.ndim = 2;
  view.shape[0] = rows;
  view.shape[1] = columns;
  view.stride[0] = columns;
  view.stride[1] = 1;
  return view;
}

struct Weights {
  std::vector<float> w, r, b;
  explicit Weights(const Case& c) {
    const Index rows = (c.cell == Cell::lstm ? 4 : 3) * c.hidden;
    w = random_values(rows * c.inputs, 1 / std::sqrt(c.inputs + 1.0));
    r = random_values(rows * c.hidden, 1 / std::sqrt(c.hidden + 1.0));
    b = random_values(rows, 0.5);
  }
};

fastrnn::Stream<float> make(const Case& c, const Weights& from) {
  const Index rows = (c.cell == Cell::lstm ? 4 : 3) * c.hidden;
  fastrnn::RnnOptions<float> options;
  options.cell = c.cell;
  fastrnn::StreamWeights<float> weights;
  weights.weight_ih = matrix(from.w, rows, c.inputs);
  weights.weight_hh = matrix(from.r, rows, c.hidden);
  weights.bias_ih = matrix(from.b, rows, 1);
  weights.bias_ih.ndim = 1;
  return fastrnn::Stream<float>(options, weights);
}

template <class F>
double microseconds_per_step(F f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count() / double(kSteps);
}

double median(std::vector<double> v) {
  std::nth_element(v.begin(), v.begin() + std::ptrdiff_t(v.size() / 2), v.end());
  return v[v.size() / 2];
}

std::unique_ptr<EigenLayer> make_peer(const Case& c, const Weights& from) {
#if defined(FASTRNN_HAS_EIGEN)
  return make_eigen_layer(c.cell == Cell::lstm, long(c.inputs), long(c.hidden), from.w.data(), from.r.data(),
                          from.b.data());
#else
  (void)c, (void)from;
  return nullptr;
#endif
}

}  // namespace

int main(int argc, char** argv) {
  const int repeats = argc > 1 ? std::max(1, std::atoi(argv[1])) : 31;
  std::vector<std::string> isas(argv + std::min(argc, 2), argv + argc);
  if (isas.empty()) isas = fastrnn::available_isas();
  for (const std::string& isa : isas) {
    fastrnn::use_isa(isa);
    std::printf("%s, FMA peak %.0f GFLOP/s, us per step\n%-16s %8s %8s %8s %8s %8s\n", isa.c_str(),
                fastrnn::measure_peak(1) * 1e-9, "", "step", "flushing", "process", "Eigen", "ratio");
    for (const Case& c : kCases) {
      const Weights weights(c);
      fastrnn::Stream<float> stream = make(c, weights);
      const std::unique_ptr<EigenLayer> peer = make_peer(c, weights);
      const std::vector<float> x = random_values(kSteps * c.inputs, 1);
      std::vector<float> y(size_t(kSteps * c.hidden)), wanted(y);
      const auto steps = [&] {
        for (Index t = 0; t < kSteps; ++t) stream.step(&x[size_t(t * c.inputs)], y.data());
      };
      if (peer) {  // the first steps, before two states that round differently drift apart
        peer->run(x.data(), 20, wanted.data());
        stream.process(x.data(), 20, y.data());
        for (Index i = 0; i < 20 * c.hidden; ++i)
          if (!(std::fabs(y[size_t(i)] - wanted[size_t(i)]) < 1e-4f)) {
            std::fprintf(stderr, "the answers differ: %g and %g\n", double(y[size_t(i)]), double(wanted[size_t(i)]));
            return 1;
          }
      }
      std::vector<double> step, flushing, process, eigen;
      for (int i = 0; i < repeats; ++i) {
        step.push_back(microseconds_per_step(steps));
#if defined(__SSE__)
        const unsigned mode = _mm_getcsr();
        _mm_setcsr(mode | 0x8040);
        flushing.push_back(microseconds_per_step(steps));
        _mm_setcsr(mode);
#else
        flushing.push_back(step.back());
#endif
        process.push_back(microseconds_per_step([&] { stream.process(x.data(), kSteps, y.data()); }));
        eigen.push_back(peer ? microseconds_per_step([&] { peer->run(x.data(), kSteps, wanted.data()); }) : 0);
      }
      std::printf("%-4s %3d -> %3d  %8.4f %8.4f %8.4f %8.4f %8.2f\n", c.cell == Cell::lstm ? "lstm" : "gru",
                  int(c.inputs), int(c.hidden), median(step), median(flushing), median(process), median(eigen),
                  median(eigen) / median(step));
    }
  }
}
