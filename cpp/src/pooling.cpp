// Pooling over time of channels-last arrays. One pass over memory each; the compiler's own vectors are enough.
#include <algorithm>

#include "dispatch.hpp"
#include "fastrnn/ops.hpp"
#include "plan.hpp"
#include "threads.hpp"

namespace fastrnn {
namespace {

template <class F>
void for_batch(index batch, index values, F body) {
  run_tasks(plan_threads(4.0 * double(batch) * double(values), std::max<index>(batch, 1)), batch,
            [&](int, index b) { body(b); });
}

// y = max(y, x) with the time of the winner; NaN wins, as in NumPy.
template <class T>
void take_max(index channels, const T* x, int32_t t, T* y, int32_t* at) {
  for (index c = 0; c < channels; ++c) {
    const bool wins = x[c] > y[c] || x[c] != x[c];
    y[c] = wins ? x[c] : y[c];
    at[c] = wins ? t : at[c];
  }
}

// The steps of window o that lie inside the sequence.
struct Window {
  index first, last;
  Window(const PoolShape& s, index o)
      : first(std::max<index>(0, o * s.stride - s.pad_left)),
        last(std::min(s.time, o * s.stride - s.pad_left + s.size)) {}
};

}  // namespace

template <class T>
void max_pool1d(const PoolShape& s, const T* x, T* y, int32_t* indices) {
  const auto& kernels = active_kernels<T>();
  for_batch(s.batch, s.time * s.channels, [&](index b) {
    for (index o = 0; o < s.out_time; ++o) {
      const index at = (b * s.out_time + o) * s.channels;
      const Window w(s, o);
      kernels.max_rows(w.first, w.last, s.channels, x + b * s.time * s.channels, y + at, indices + at);
    }
  });
}

template <class T>
void max_pool1d_backward(const PoolShape& s, const int32_t* indices, const T* grad_y, T* grad_x) {
  const auto& kernels = active_kernels<T>();
  for_batch(s.batch, s.time * s.channels, [&](index b) {
    const index at = b * s.out_time * s.channels;
    kernels.max_unpool(s.channels > 0 ? s.out_time : 0, s.channels, s.time, indices + at, grad_y + at,
                       grad_x + b * s.time * s.channels);
  });
}

template <class T>
void avg_pool1d(const PoolShape& s, const T* x, T* y) {
  for_batch(s.batch, s.time * s.channels, [&](index b) {
    for (index o = 0; o < s.out_time; ++o) {
      T* to = y + (b * s.out_time + o) * s.channels;
      const Window w(s, o);
      std::fill_n(to, s.channels, T(0));
      for (index t = w.first; t < w.last; ++t)
        for (index c = 0; c < s.channels; ++c) to[c] += x[(b * s.time + t) * s.channels + c];
      for (index c = 0; c < s.channels; ++c) to[c] /= T(w.last - w.first);
    }
  });
}

template <class T>
void avg_pool1d_backward(const PoolShape& s, const T* grad_y, T* grad_x) {
  for_batch(s.batch, s.time * s.channels, [&](index b) {
    T* gx = grad_x + b * s.time * s.channels;
    std::fill_n(gx, s.time * s.channels, T(0));
    for (index o = 0; o < s.out_time; ++o) {
      const T* g = grad_y + (b * s.out_time + o) * s.channels;
      const Window w(s, o);
      for (index t = w.first; t < w.last; ++t)
        for (index c = 0; c < s.channels; ++c) gx[t * s.channels + c] += g[c] / T(w.last - w.first);
    }
  });
}

template <class T>
void global_max_pool1d(index batch, index time, index channels, const T* x, const bool* mask, T* y,
                       int32_t* indices) {
  for_batch(batch, time * channels, [&](index b) {
    T* to = y + b * channels;
    int32_t* at = indices + b * channels;
    std::fill_n(to, channels, T(0));
    std::fill_n(at, channels, int32_t(-1));
    bool any = false;
    for (index t = 0; t < time; ++t) {
      if (mask && !mask[b * time + t]) continue;
      const T* from = x + (b * time + t) * channels;
      if (any) {
        take_max(channels, from, int32_t(t), to, at);
        continue;
      }
      std::copy_n(from, channels, to);
      std::fill_n(at, channels, int32_t(t));
      any = true;
    }
  });
}

namespace {

index valid_steps(index time, const bool* mask) { return mask ? std::count(mask, mask + time, true) : time; }

}  // namespace

template <class T>
void global_avg_pool1d(index batch, index time, index channels, const T* x, const bool* mask, T* y) {
  for_batch(batch, time * channels, [&](index b) {
    const bool* m = mask ? mask + b * time : nullptr;
    T* to = y + b * channels;
    std::fill_n(to, channels, T(0));
    for (index t = 0; t < time; ++t)
      if (!m || m[t])
        for (index c = 0; c < channels; ++c) to[c] += x[(b * time + t) * channels + c];
    const index n = valid_steps(time, m);
    for (index c = 0; n > 0 && c < channels; ++c) to[c] /= T(n);
  });
}

template <class T>
void global_avg_pool1d_backward(index batch, index time, index channels, const T* grad_y, const bool* mask,
                                T* grad_x) {
  for_batch(batch, time * channels, [&](index b) {
    const bool* m = mask ? mask + b * time : nullptr;
    const index n = valid_steps(time, m);
    for (index t = 0; t < time; ++t)
      for (index c = 0; c < channels; ++c)
        grad_x[(b * time + t) * channels + c] = !m || m[t] ? grad_y[b * channels + c] / T(n) : T(0);
  });
}

#define FASTRNN_INSTANTIATE(T)                                                                            \
  template void max_pool1d(const PoolShape&, const T*, T*, int32_t*);                                     \
  template void max_pool1d_backward(const PoolShape&, const int32_t*, const T*, T*);                      \
  template void avg_pool1d(const PoolShape&, const T*, T*);                                               \
  template void avg_pool1d_backward(const PoolShape&, const T*, T*);                                      \
  template void global_max_pool1d(index, index, index, const T*, const bool*, T*, int32_t*);              \
  template void global_avg_pool1d(index, index, index, const T*, const bool*, T*);                        \
  template void global_avg_pool1d_backward(index, index, index, const T*, const bool*, T*);
FASTRNN_INSTANTIATE(float)
FASTRNN_INSTANTIATE(double)

}  // namespace fastrnn
