// Loops over contiguous values: activations, accumulation, optimiser updates. Formulas of the updates: Keras 3.
#pragma once

#include "activations.hpp"

namespace fastrnn {
namespace {

template <class T>
FASTRNN_INLINE Vec<T> square_root(Vec<T> x) {
#if FASTRNN_VECTOR_BYTES > 0
  Vec<T> y;
  for (int i = 0; i < kLanes<T>; ++i)
    y[i] = sizeof(T) == 4 ? T(FASTRNN_BUILTIN(sqrtf)(float(x[i]))) : T(FASTRNN_BUILTIN(sqrt)(double(x[i])));
  return y;
#else
  return sizeof(T) == 4 ? T(FASTRNN_BUILTIN(sqrtf)(float(x))) : T(FASTRNN_BUILTIN(sqrt)(double(x)));
#endif
}
#if defined(__AVX512F__)
template <>
inline __attribute__((always_inline)) Vec<float> square_root<float>(Vec<float> x) {
  return (Vec<float>)_mm512_sqrt_ps((__m512)x);
}
template <>
inline __attribute__((always_inline)) Vec<double> square_root<double>(Vec<double> x) {
  return (Vec<double>)_mm512_sqrt_pd((__m512d)x);
}
#elif defined(__AVX__)
template <>
inline __attribute__((always_inline)) Vec<float> square_root<float>(Vec<float> x) {
  return (Vec<float>)_mm256_sqrt_ps((__m256)x);
}
template <>
inline __attribute__((always_inline)) Vec<double> square_root<double>(Vec<double> x) {
  return (Vec<double>)_mm256_sqrt_pd((__m256d)x);
}
#elif defined(__SSE2__)
template <>
inline __attribute__((always_inline)) Vec<float> square_root<float>(Vec<float> x) {
  return (Vec<float>)_mm_sqrt_ps((__m128)x);
}
template <>
inline __attribute__((always_inline)) Vec<double> square_root<double>(Vec<double> x) {
  return (Vec<double>)_mm_sqrt_pd((__m128d)x);
}
#endif

// body(i, lanes) for each vector, the last one partial
template <class T, class F>
FASTRNN_INLINE void each_vector(index n, F body) {
  constexpr int L = kLanes<T>;
  index i = 0;
  for (; i + L <= n; i += L) body(i, index(L));
  if (i < n) body(i, n - i);
}

template <class T>
static void activate_all(index n, const T* x, T* y, Activation<T> act) {
  each_vector<T>(n, [=](index i, index k) { store_first<T>(y + i, activate<T>(load_first<T>(x + i, k), act), k); });
}

template <class T>
static void activate_backward(index n, const T* saved, const T* grad_y, T* grad_x, Activation<T> act) {
  each_vector<T>(n, [=](index i, index k) {
    Vec<T> y;
    const Vec<T> d = derivative<T>(load_first<T>(saved + i, k), act, y);
    store_first<T>(grad_x + i, load_first<T>(grad_y + i, k) * d, k);
  });
}

template <class T>
static void add(index n, const T* x, T* y) {
  each_vector<T>(n, [=](index i, index k) { store_first<T>(y + i, load_first<T>(y + i, k) + load_first<T>(x + i, k), k); });
}

template <class T>
static void gather(index n, const index* ids, index width, const T* x, T* y) {
  for (index i = 0; i < n; ++i) {
    const T* from = x + ids[i] * width;
    T* to = y + i * width;
    each_vector<T>(width, [=](index j, index k) { store_first<T>(to + j, load_first<T>(from + j, k), k); });
  }
}

template <class T>
static void scatter_add(index n, const index* ids, index width, index x_stride, const T* x, index y_stride, T* y) {
  for (index i = 0; i < n; ++i) {
    const T* from = x + i * x_stride;
    T* to = y + ids[i] * y_stride;
    each_vector<T>(width, [=](index j, index k) {
      store_first<T>(to + j, load_first<T>(to + j, k) + load_first<T>(from + j, k), k);
    });
  }
}

template <class T>
static void max_rows(index first, index last, index channels, const T* x, T* y, int32_t* winner) {
  each_vector<T>(channels, [=](index c, index k) {
    Vec<T> best = load_first<T>(x + first * channels + c, k);
    IntVec<T> at = IntVec<T>{} + typename Lane<T>::Word(first);
    for (index t = first + 1; t < last; ++t) {
      const Vec<T> v = load_first<T>(x + t * channels + c, k);
      const auto wins = (v > best) | (v != v);
      at = wins ? IntVec<T>{} + typename Lane<T>::Word(t) : at;
      best = wins ? v : best;
    }
    store_first<T>(y + c, best, k);
    typename Lane<T>::Word lane[kLanes<T>];
    FASTRNN_BUILTIN(memcpy)(lane, &at, sizeof lane);
    for (index i = 0; i < k; ++i) winner[c + i] = int32_t(lane[i]);
  });
}

// Windows that do not overlap, the usual case, write each row of gx once and in order.
template <class T>
static void max_unpool(index windows, index channels, index time, const int32_t* winner, const T* g, T* gx) {
  const auto zero = [=](index first, index last) {
    for (index i = first * channels; i < last * channels; ++i) gx[i] = T(0);
  };
  int32_t written = 0;  // rows that have their value, or zero, already
  for (index o = 0; o < windows; ++o, winner += channels, g += channels) {
    int32_t first = winner[0], last = winner[0];
    for (index c = 1; c < channels; ++c) {
      first = winner[c] < first ? winner[c] : first;
      last = winner[c] > last ? winner[c] : last;
    }
    if (first >= written) {
      zero(written, first);
      for (int32_t t = first; t <= last; ++t)
        for (index c = 0; c < channels; ++c) gx[t * channels + c] = winner[c] == t ? g[c] : T(0);
    } else {
      if (last >= written) zero(written, last + 1);
      for (index c = 0; c < channels; ++c)
        if (winner[c] >= 0) gx[winner[c] * channels + c] += g[c];
    }
    written = last + 1 > written ? last + 1 : written;
  }
  zero(written, time);
}

template <class T>
static void add_scaled(index n, T scale, const T* x, T* y) {
  each_vector<T>(n, [=](index i, index k) {
    store_first<T>(y + i, load_first<T>(y + i, k) + scale * load_first<T>(x + i, k), k);
  });
}

// A bijection of 32 bits that flips each output bit with probability 1/2 for each input bit (the constants of
// "lowbias32", C. Wellons, Prospecting for Hash Functions, 2018).
FASTRNN_INLINE Bits scramble(Bits x) {
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}

template <class T>
static void dropout_mask(index n, uint64_t key, uint32_t limit, T scale, T* mask) {
  constexpr index L = index(sizeof(Bits) / sizeof(uint32_t));
  uint32_t lane[L];
  for (index i = 0; i < L; ++i) lane[i] = uint32_t(i) + uint32_t(key);
  Bits counter;
  FASTRNN_BUILTIN(memcpy)(&counter, lane, sizeof counter);
  for (index i = 0; i < n; i += L, counter += uint32_t(L)) {
    const Bits bits = scramble(scramble(counter) + uint32_t(key >> 32));
    FASTRNN_BUILTIN(memcpy)(lane, &bits, sizeof bits);
    const index count = n - i < L ? n - i : L;
    for (index k = 0; k < count; ++k) mask[i + k] = lane[k] < limit ? T(0) : scale;
  }
}

template <class T>
static void exp_shifted(index n, const T* x, T shift, T* y) {
  each_vector<T>(n, [=](index i, index k) { store_first<T>(y + i, exp<T>(load_first<T>(x + i, k) - shift), k); });
}

// decay is the rate times the decoupled weight decay.
template <class T>
static void adam(index n, T* p, const T* g, T* m, T* v, T* vhat, T rate, T beta1, T beta2, T eps, T decay) {
  each_vector<T>(n, [=](index i, index k) {
    const Vec<T> grad = load_first<T>(g + i, k);
    Vec<T> param = load_first<T>(p + i, k), first = load_first<T>(m + i, k), second = load_first<T>(v + i, k);
    first += (T(1) - beta1) * (grad - first);
    second += (T(1) - beta2) * (grad * grad - second);
    store_first<T>(m + i, first, k);
    store_first<T>(v + i, second, k);
    if (vhat) {
      const Vec<T> old = load_first<T>(vhat + i, k);
      second = second > old ? second : old;
      store_first<T>(vhat + i, second, k);
    }
    param -= decay * param;
    store_first<T>(p + i, param - rate * first / (square_root<T>(second) + eps), k);
  });
}

template <class T>
static void rmsprop(index n, T* p, const T* g, T* sq, T* mom, T* avg, T rate, T rho, T momentum, T eps, T decay) {
  each_vector<T>(n, [=](index i, index k) {
    const Vec<T> grad = load_first<T>(g + i, k);
    Vec<T> param = load_first<T>(p + i, k), square = load_first<T>(sq + i, k);
    square = rho * square + (T(1) - rho) * (grad * grad);
    store_first<T>(sq + i, square, k);
    Vec<T> variance = square;
    if (avg) {
      const Vec<T> mean = rho * load_first<T>(avg + i, k) + (T(1) - rho) * grad;
      store_first<T>(avg + i, mean, k);
      variance = square - mean * mean;
    }
    Vec<T> step = rate * grad / square_root<T>(variance + eps);
    if (mom) {
      step += momentum * load_first<T>(mom + i, k);
      store_first<T>(mom + i, step, k);
    }
    store_first<T>(p + i, param - decay * param - step, k);
  });
}

template <class T>
static void sgd(index n, T* p, const T* g, T* velocity, T rate, T momentum, bool nesterov, T decay) {
  each_vector<T>(n, [=](index i, index k) {
    const Vec<T> grad = load_first<T>(g + i, k);
    Vec<T> param = load_first<T>(p + i, k);
    param -= decay * param;
    Vec<T> step = -rate * grad;
    if (velocity) {
      const Vec<T> speed = momentum * load_first<T>(velocity + i, k) + step;
      store_first<T>(velocity + i, speed, k);
      step = nesterov ? momentum * speed + step : speed;
    }
    store_first<T>(p + i, param + step, k);
  });
}

}  // namespace
}  // namespace fastrnn
