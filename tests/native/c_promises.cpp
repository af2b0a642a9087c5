// What fastrnn.h promises of streams: no allocation in a call, a block is its steps, the caller's floating-point mode;
// and how long a step takes. Arguments: saved models to run as streams too.
#include <chrono>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "count_allocations.hpp"
#include "fastrnn/fastrnn.h"
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace {

int failures = 0;

void expect(bool holds, const char* what, const std::string& where) {
  if (holds) return;
  ++failures;
  std::printf("%s: %s\n", where.c_str(), what);
}

std::vector<float> waves(int64_t n, double scale) {
  std::vector<float> v(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) v[size_t(i)] = float(scale * std::sin(1.7 * double(i) + 0.3));
  return v;
}

fastrnn_stream* from_weights(fastrnn_cell cell, int64_t inputs, int64_t hidden) {
  const int64_t gates = cell == FASTRNN_RNN ? 1 : cell == FASTRNN_LSTM ? 4 : 3, rows = gates * hidden;
  const std::vector<float> w = waves(rows * inputs, 0.3), r = waves(rows * hidden, 0.2), b = waves(rows, 0.1);
  fastrnn_recurrent layer;
  fastrnn_recurrent_init(&layer, cell, inputs, hidden);
  layer.weight_ih = w.data();
  layer.weight_hh = r.data();
  layer.bias_ih = b.data();
  fastrnn_stream* stream = nullptr;
  if (fastrnn_stream_create(&layer, &stream) != FASTRNN_OK) std::printf("%s\n", fastrnn_last_error());
  return stream;
}

fastrnn_stream* from_file(const char* path) {
  fastrnn_model* model = nullptr;
  fastrnn_stream* stream = nullptr;
  if (fastrnn_model_load(path, &model) != FASTRNN_OK || fastrnn_model_stream(model, &stream) != FASTRNN_OK)
    std::printf("%s\n", fastrnn_last_error());
  fastrnn_model_free(model);
  return stream;
}

void check(fastrnn_stream* stream, const std::string& where) {
  expect(stream != nullptr, "cannot be made", where);
  if (!stream) return;
  const int64_t inputs = fastrnn_stream_inputs(stream), outputs = fastrnn_stream_outputs(stream), steps = 131;
  const std::vector<float> x = waves(steps * inputs, 1);
  std::vector<float> one(size_t(steps * outputs)), whole(one);
  const auto run_whole = [&] {
    fastrnn_stream_reset(stream);
    fastrnn_stream_process(stream, x.data(), steps, whole.data());
  };

  const long before = allocations;
  for (int64_t t = 0; t < steps; ++t) fastrnn_stream_step(stream, &x[size_t(t * inputs)], &one[size_t(t * outputs)]);
  run_whole();
  const long counted = allocations - before;
  expect(counted == 0, "a call allocates", where);
  expect(one == whole, "a block is not its steps", where);

#if defined(__SSE__)
  const unsigned mode = _mm_getcsr();
  for (unsigned special : {mode | 0x8040u, mode | 0x6000u}) {
    _mm_setcsr(special);
    run_whole();
    const unsigned after = _mm_getcsr();
    _mm_setcsr(mode);
    expect((after & 0xffc0) == (special & 0xffc0), "the floating-point mode is not restored", where);
    expect(one == whole, "the result depends on the caller's floating-point mode", where);
  }
#endif

  constexpr int kRounds = 9, kSteps = 2000;
  double best = 1e30;
  for (int round = 0; round < kRounds; ++round) {
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < kSteps; ++i) fastrnn_stream_step(stream, &x[size_t(i % steps * inputs)], one.data());
    const std::chrono::duration<double, std::micro> passed = std::chrono::steady_clock::now() - start;
    if (passed.count() / kSteps < best) best = passed.count() / kSteps;
  }
  std::printf("%-24s %ld allocations in %ld steps, %.3f us per step\n", where.c_str(), counted, long(2 * steps), best);
  fastrnn_stream_free(stream);
}

}  // namespace

int main(int argc, char** argv) {
  std::printf("fastrnn %s, %s\n", fastrnn_version(), fastrnn_isa());
  const char* const names[] = {"rnn", "lstm", "gru", "gru (reset before)"};
  for (int cell = FASTRNN_RNN; cell <= FASTRNN_GRU_RESET_BEFORE; ++cell)
    for (const auto& size : {std::pair<int, int>(1, 16), {64, 64}})
      check(from_weights(fastrnn_cell(cell), size.first, size.second),
            std::string(names[cell]) + " " + std::to_string(size.first) + " -> " + std::to_string(size.second));
  for (int i = 1; i < argc; ++i) check(from_file(argv[i]), argv[i]);
  expect(allocations > 0, "nothing is counted", "allocations");
  return failures != 0;
}
