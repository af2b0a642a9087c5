// Element-wise operations, softmax, embedding, attention over time, held outputs, optimiser updates.
#include "fastrnn/ops.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "checks.hpp"
#include "dispatch.hpp"
#include "plan.hpp"
#include "softmax.hpp"
#include "threads.hpp"

namespace fastrnn {
namespace {

// Contiguous work in pieces; the cost is that of a memory pass, about ten operations per value.
template <class F>
void in_pieces(index n, double cost, F body) {
  constexpr index kPiece = 1 << 14;
  const index pieces = (n + kPiece - 1) / kPiece;
  run_tasks(plan_threads(cost * double(n), std::max<index>(pieces, 1)), pieces, [&](int, index i) {
    body(i * kPiece, std::min(kPiece, n - i * kPiece));
  });
}

template <class F>
void for_rows(index rows, index per_row, F body) {
  run_tasks(plan_threads(10.0 * double(rows) * double(per_row), std::max<index>(rows, 1)), rows,
            [&](int, index r) { body(r); });
}

template <class T>
T dot(index n, const T* a, const T* b) {
  T sum[8] = {};
  index i = 0;
  for (; i + 8 <= n; i += 8)
    for (int k = 0; k < 8; ++k) sum[k] += a[i + k] * b[i + k];
  for (; i < n; ++i) sum[0] += a[i] * b[i];
  return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

}  // namespace

template <class T>
void activate(index n, const T* x, Activation<T> activation, T* y) {
  expect_activation("activation", "activation", activation);
  const auto& kernels = active_kernels<T>();
  in_pieces(n, 10, [&](index i, index k) { kernels.activate(k, x + i, y + i, activation); });
}

template <class T>
void activate_backward(index n, const T* x, const T* grad_y, Activation<T> activation, T* grad_x) {
  expect_activation("activation_backward", "activation", activation);
  const auto& kernels = active_kernels<T>();
  in_pieces(n, 20, [&](index i, index k) {
    if (needs_input(activation)) return kernels.activate_backward(k, x + i, grad_y + i, grad_x + i, activation);
    constexpr index kStep = 512;
    T y[kStep];
    for (index j = i; j < i + k; j += kStep) {
      const index m = std::min(kStep, i + k - j);
      kernels.activate(m, x + j, y, activation);
      kernels.activate_backward(m, y, grad_y + j, grad_x + j, activation);
    }
  });
}

template <class T>
void softmax(index rows, index n, const T* x, const bool* mask, T* y) {
  const auto& kernels = active_kernels<T>();
  for_rows(rows, n, [&](index r) { softmax_row(kernels, n, x + r * n, mask ? mask + r * n : nullptr, y + r * n); });
}

template <class T>
void softmax_backward(index rows, index n, const T* y, const T* grad_y, T* grad_x) {
  for_rows(rows, n, [&](index r) {
    const T *p = y + r * n, *g = grad_y + r * n;
    const T mean = dot(n, p, g);
    for (index i = 0; i < n; ++i) grad_x[r * n + i] = p[i] * (g[i] - mean);
  });
}

namespace {

void check_ids(const char* op, index count, const index* ids, index vocabulary) {
  for (index i = 0; i < count; ++i)
    if (ids[i] < 0 || ids[i] >= vocabulary)
      fail(op, "ids", "values from 0 to " + std::to_string(vocabulary - 1),
           std::to_string(ids[i]) + " at position " + std::to_string(i));
}

}  // namespace

template <class T>
void embedding(index count, const index* ids, index vocabulary, index features, const T* weight, T* y) {
  check_ids("embedding", count, ids, vocabulary);
  const auto& kernels = active_kernels<T>();
  constexpr index kPiece = 256;
  const index pieces = (count + kPiece - 1) / kPiece;
  for_rows(pieces, kPiece * features, [&](index piece) {
    const index first = piece * kPiece;
    kernels.gather(std::min(count - first, kPiece), ids + first, features, weight, y + first * features);
  });
}

template <class T>
void embedding_backward(index count, const index* ids, index vocabulary, index features, const T* grad_y,
                        T* grad_weight) {
  check_ids("embedding_backward", count, ids, vocabulary);
  const auto& kernels = active_kernels<T>();
  // Each task owns whole cache lines of every row of the weight, and adds in the order of the ids.
  constexpr index kLine = 64 / index(sizeof(T));
  const index lines = (features + kLine - 1) / kLine;
  const int threads = plan_threads(4.0 * double(count) * double(features), std::max<index>(lines, 1));
  run_tasks(threads, threads, [&](int, index task) {
    const index first = lines * task / threads * kLine, last = std::min(features, lines * (task + 1) / threads * kLine);
    for (index v = 0; v < vocabulary; ++v)
      std::fill(grad_weight + v * features + first, grad_weight + v * features + last, T(0));
    kernels.scatter_add(count, ids, last - first, features, grad_y + first, features, grad_weight + first);
  });
}

template <class T>
void attention_pool(index batch, index time, index features, const T* x, const T* scores, const bool* mask, T* y,
                    T* weights) {
  const auto& kernels = active_kernels<T>();
  for_rows(batch, time * features, [&](index b) {
    T* w = weights + b * time;
    T* out = y + b * features;
    std::fill_n(out, features, T(0));
    if (!softmax_row(kernels, time, scores + b * time, mask ? mask + b * time : nullptr, w)) return;
    for (index t = 0; t < time; ++t)
      if (!mask || mask[b * time + t]) kernels.add_scaled(features, w[t], x + (b * time + t) * features, out);
  });
}

template <class T>
void attention_pool_backward(index batch, index time, index features, const T* x, const T* weights, const T* grad_y,
                             T* grad_x, T* grad_scores) {
  const auto& kernels = active_kernels<T>();
  for_rows(batch, 2 * time * features, [&](index b) {
    const T* w = weights + b * time;
    const T* g = grad_y + b * features;
    T* ds = grad_scores + b * time;
    T mean = 0;
    for (index t = 0; t < time; ++t) {
      const index at = (b * time + t) * features;
      std::fill_n(grad_x + at, features, T(0));
      ds[t] = 0;
      if (w[t] == T(0)) continue;  // masked
      kernels.add_scaled(features, w[t], g, grad_x + at);
      ds[t] = dot(features, x + at, g);
      mean += w[t] * ds[t];
    }
    for (index t = 0; t < time; ++t) ds[t] = w[t] * (ds[t] - mean);
  });
}

template <class T>
void hold_last(index batch, index time, index features, const T* y, const bool* mask, T* held) {
  for_rows(batch, time * features, [&](index b) {
    index last = -1;
    for (index t = 0; t < time; ++t) {
      if (mask[b * time + t]) last = t;
      T* to = held + (b * time + t) * features;
      if (last < 0)
        std::fill_n(to, features, T(0));
      else
        std::copy_n(y + (b * time + last) * features, features, to);
    }
  });
}

template <class T>
void hold_last_backward(index batch, index time, index features, const T* grad, const bool* mask, T* grad_y) {
  const auto& kernels = active_kernels<T>();
  for_rows(batch, time * features, [&](index b) {
    index last = -1;
    for (index t = 0; t < time; ++t) {
      const index at = (b * time + t) * features;
      std::fill_n(grad_y + at, features, T(0));
      if (mask[b * time + t]) last = t;
      if (last >= 0) kernels.add(features, grad + at, grad_y + (b * time + last) * features);
    }
  });
}

template <class T>
void sgd_update(index n, T* param, const T* grad, T* velocity, double rate, double momentum, bool nesterov,
                double decay) {
  const auto& kernels = active_kernels<T>();
  in_pieces(n, 10, [&](index i, index k) {
    kernels.sgd(k, param + i, grad + i, velocity ? velocity + i : nullptr, T(rate), T(momentum), nesterov, T(decay));
  });
}

template <class T>
void rmsprop_update(index n, T* param, const T* grad, T* square, T* momentum_state, T* average, double rate,
                    double rho, double momentum, double eps, double decay) {
  const auto& kernels = active_kernels<T>();
  in_pieces(n, 20, [&](index i, index k) {
    kernels.rmsprop(k, param + i, grad + i, square + i, momentum_state ? momentum_state + i : nullptr,
                    average ? average + i : nullptr, T(rate), T(rho), T(momentum), T(eps), T(decay));
  });
}

template <class T>
void adam_update(index n, T* param, const T* grad, T* m, T* v, T* vhat, double rate, double beta1, double beta2,
                 double eps, index step, double decay) {
  const auto& kernels = active_kernels<T>();
  const double corrected =
      rate * std::sqrt(1.0 - std::pow(beta2, double(step))) / (1.0 - std::pow(beta1, double(step)));
  in_pieces(n, 20, [&](index i, index k) {
    kernels.adam(k, param + i, grad + i, m + i, v + i, vhat ? vhat + i : nullptr, T(corrected), T(beta1), T(beta2),
                 T(eps), T(decay));
  });
}

#define FASTRNN_INSTANTIATE(T)                                                                                      \
  template void activate(index, const T*, Activation<T>, T*);                                                       \
  template void activate_backward(index, const T*, const T*, Activation<T>, T*);                                    \
  template void softmax(index, index, const T*, const bool*, T*);                                                   \
  template void softmax_backward(index, index, const T*, const T*, T*);                                             \
  template void embedding(index, const index*, index, index, const T*, T*);                                         \
  template void embedding_backward(index, const index*, index, index, const T*, T*);                                \
  template void attention_pool(index, index, index, const T*, const T*, const bool*, T*, T*);                       \
  template void attention_pool_backward(index, index, index, const T*, const T*, const T*, T*, T*);                 \
  template void hold_last(index, index, index, const T*, const bool*, T*);                                          \
  template void hold_last_backward(index, index, index, const T*, const bool*, T*);                                 \
  template void sgd_update(index, T*, const T*, T*, double, double, bool, double);                                  \
  template void rmsprop_update(index, T*, const T*, T*, T*, T*, double, double, double, double, double);            \
  template void adam_update(index, T*, const T*, T*, T*, T*, double, double, double, double, index, double);
FASTRNN_INSTANTIATE(float)
FASTRNN_INSTANTIATE(double)

}  // namespace fastrnn
