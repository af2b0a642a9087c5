// What stream.hpp promises and Python cannot see: no allocation, the floating-point mode, noexcept, copies and moves.
#include <cfenv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "count_allocations.hpp"
#include "fastrnn/runtime.hpp"
#include "fastrnn/stream.hpp"
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

using fastrnn::Cell;
typedef fastrnn::index Index;  // as `index` it would meet the function of strings.h

namespace {
int failures = 0;

void expect(bool holds, const char* what, const std::string& where) {
  if (holds) return;
  ++failures;
  std::printf("%s: %s\n", where.c_str(), what);
}
}  // namespace

namespace {

template <class T>
fastrnn::View<const T> view(const std::vector<T>& v, std::initializer_list<Index> shape) {
  fastrnn::View<const T> a;
  a.data = v.data();
  a.ndim = int(shape.size());
  int i = 0;
  for (Index n : shape) a.shape[i++] = n;
  Index stride = 1;
  for (i = a.ndim - 1; i >= 0; stride *= a.shape[i--]) a.stride[i] = stride;
  return a;
}

template <class T>
std::vector<T> waves(Index n, double scale) {
  std::vector<T> v(static_cast<size_t>(n));
  for (Index i = 0; i < n; ++i) v[size_t(i)] = T(scale * std::sin(1.7 * double(i) + 0.3));
  return v;
}

template <class T>
void check(Cell cell, Index I, Index H, fastrnn::ActivationKind candidate, const std::string& where) {
  using Stream = fastrnn::Stream<T>;
  static_assert(noexcept(std::declval<Stream&>().step(nullptr, nullptr)), "step");
  static_assert(noexcept(std::declval<Stream&>().process(nullptr, 1, nullptr)), "process");
  static_assert(noexcept(std::declval<Stream&>().reset()), "reset");
  static_assert(noexcept(std::declval<Stream&>().set_state(nullptr, nullptr)), "set_state");
  static_assert(std::is_nothrow_move_constructible<Stream>::value, "move");

  const Index rows = (cell == Cell::lstm ? 4 : cell == Cell::rnn ? 1 : 3) * H, steps = 5;
  const std::vector<T> w = waves<T>(rows * I, 0.3), r = waves<T>(rows * H, 0.2), b = waves<T>(rows, 0.1);
  fastrnn::RnnOptions<T> options;
  options.cell = cell;
  options.candidate.kind = candidate;
  Stream stream(options, {view(w, {rows, I}), view(r, {rows, H}), view(b, {rows}), {}});
  const std::vector<T> x = waves<T>(steps * I, 1);
  std::vector<T> one(size_t(steps * H)), whole(one), h(static_cast<size_t>(H)), c(h);

  const long before = allocations;
  for (Index t = 0; t < steps; ++t) stream.step(&x[size_t(t * I)], &one[size_t(t * H)]);
  stream.get_state(h.data(), c.data());
  stream.reset();
  stream.process(x.data(), steps, whole.data());
  stream.set_state(h.data(), c.data());
  stream.process(x.data(), steps, nullptr);
  expect(allocations == before, "a call allocates", where);
  expect(one == whole, "a block is not its steps", where);
  expect(stream.inputs() == I && stream.hidden() == H && stream.cell() == cell, "sizes", where);

  Stream copy(stream), moved(std::move(stream));
  copy.process(x.data(), steps, one.data());
  moved.process(x.data(), steps, whole.data());
  expect(one == whole, "a copy or what was moved to differs", where);
  copy = moved;
  copy.step(x.data(), one.data());
  moved.step(x.data(), whole.data());
  expect(one == whole, "what was assigned differs", where);

#if defined(__SSE__)
  moved.reset();
  moved.process(x.data(), steps, whole.data());
  const unsigned mode = _mm_getcsr();
  // flushing all, one or the other; each rounding, flushing or not; exceptions that trap; all flags set
  for (unsigned special : {mode, mode | 0x8040u, mode | 0x0040u, mode | 0x8000u, mode | 0x2000u, mode | 0x4000u,
                           mode | 0x6000u, mode | 0xa040u, mode | 0xc040u, mode | 0xe040u, mode & ~0x0080u,
                           (mode | 0x8040u) & ~0x0880u, mode & ~0x0100u, mode | 0x003fu}) {
    moved.reset();
    _mm_setcsr(special);
    moved.process(x.data(), steps, one.data());
    const unsigned after = _mm_getcsr();
    _mm_setcsr(mode);
    expect((after & 0xffc0) == (special & 0xffc0), "the floating-point mode is not restored", where);
    expect(one == whole, "the result depends on the caller's floating-point mode", where);
  }
#endif
}

void check_refusal() {
  const std::vector<float> w(24);
  try {
    fastrnn::Stream<float>({}, {view(w, {4, 2}), view(w, {5, 1}), {}, {}});
    expect(false, "wrong weights are taken", "refusal");
  } catch (const std::invalid_argument& error) {
    expect(std::string(error.what()) == "[stream] weight_hh: expected shape (4*H, H) = (4, 1), got (5, 1)",
           error.what(), "refusal");
  }
  fastrnn::RnnOptions<float> reversed;
  reversed.reverse = true;
  try {
    fastrnn::Stream<float>(reversed, {view(w, {4, 2}), view(w, {4, 1}), {}, {}});
    expect(false, "reverse is taken", "refusal");
  } catch (const std::invalid_argument& error) {
    expect(std::string(error.what()).rfind("[stream] reverse: expected false", 0) == 0, error.what(), "refusal");
  }
}

}  // namespace

int main() {
  check_refusal();
  for (const std::string& isa : fastrnn::available_isas()) {
    fastrnn::use_isa(isa);
    for (int cell = 0; cell < fastrnn::kCells; ++cell)
      for (const auto& [I, H] : {std::pair<Index, Index>(1, 16), {3, 33}, {64, 64}})
        for (auto kind : {fastrnn::ActivationKind::tanh, fastrnn::ActivationKind::softsign}) {
          const std::string where = isa + " cell " + std::to_string(cell) + " " + std::to_string(I) + "->" +
                                    std::to_string(H) + " activation " + std::to_string(int(kind));
          check<float>(Cell(cell), I, H, kind, where + " float");
          check<double>(Cell(cell), I, H, kind, where + " double");
        }
  }
  std::printf("%ld allocations seen, %d failures\n", allocations, failures);
  return failures != 0 || allocations == 0;
}
