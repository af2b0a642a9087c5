// The other layers' hot loops: products, convolution, embedding, pooling, attention, dropout, optimiser updates.
//
// All arrays are C-contiguous unless a parameter says otherwise; the Python layer checks shapes before it calls.
// Functions that take user-dependent values (ids) check them and throw std::invalid_argument or std::out_of_range.
#pragma once

#include "fastrnn/export.h"
#include "fastrnn/types.hpp"
#include "fastrnn/view.hpp"

namespace fastrnn {

// x (B, T, C) -> y (B, To, F): y[o] = act(bias + sum over k of weight[:, :, k] . x[o*stride + k*dilation - pad_left]).
// A dense layer is the case B = 1, K = 1 over its rows.
struct ConvShape {
  index batch, time, channels, filters, kernel;
  index stride, dilation, pad_left, pad_right;
  index window() const { return (kernel - 1) * dilation + 1; }
  index out_time() const {
    const index span = time + pad_left + pad_right - window();
    return span < 0 ? 0 : span / stride + 1;
  }
};

template <class T>
FASTRNN_API void conv1d(const ConvShape& shape, const T* x, const View<const T>& weight /* (F, C, K), any strides */,
                        const View<const T>& bias /* (F,) or not given */, Activation<T> activation, T* y);

// grad_weight (F, C, K), grad_x (B, T, C), grad_bias (F,); grad_x and grad_bias may be null. The derivative of the
// activation is taken from y.
template <class T>
FASTRNN_API void conv1d_backward(const ConvShape& shape, const T* x, const View<const T>& weight,
                                 Activation<T> activation, const T* y, const T* grad_y, T* grad_x, T* grad_weight,
                                 T* grad_bias);

template <class T>
FASTRNN_API void activate(index n, const T* x, Activation<T> activation, T* y);
template <class T>
FASTRNN_API void activate_backward(index n, const T* x, const T* grad_y, Activation<T> activation, T* grad_x);

// Over the last axis of (rows, n); mask (rows, n) or null: masked values get 0.
template <class T>
FASTRNN_API void softmax(index rows, index n, const T* x, const bool* mask, T* y);
template <class T>
FASTRNN_API void softmax_backward(index rows, index n, const T* y, const T* grad_y, T* grad_x);

// ids: `count` of them, weight (V, E). Throws std::invalid_argument when an id is outside 0..V-1.
template <class T>
FASTRNN_API void embedding(index count, const index* ids, index vocabulary, index features, const T* weight, T* y);
template <class T>
FASTRNN_API void embedding_backward(index count, const index* ids, index vocabulary, index features, const T* grad_y,
                                    T* grad_weight);

// conv1d of embedding(ids) with the tokens of the batch found beforehand: each distinct token goes through every tap
// once, and an output is a sum of `kernel` rows of that table. embedding (V, C) with C = shape.channels; ids (B, T).
struct TokenIndex;  // internal
template <class T>
FASTRNN_API void token_conv1d(const ConvShape& shape, const TokenIndex& tokens, const T* embedding,
                              const View<const T>& weight, const View<const T>& bias, Activation<T> activation, T* y);

// grad_embedding (V, C) and grad_bias (F,) may be null. The derivative of the activation is taken from y.
template <class T>
FASTRNN_API void token_conv1d_backward(const ConvShape& shape, const TokenIndex& tokens, const T* embedding,
                                       const View<const T>& weight, Activation<T> activation, const T* y,
                                       const T* grad_y, T* grad_embedding, T* grad_weight, T* grad_bias);

struct PoolShape {
  index batch, time, channels, size, stride, pad_left, out_time;
};
template <class T>
FASTRNN_API void max_pool1d(const PoolShape& shape, const T* x, T* y, int32_t* indices);
template <class T>
FASTRNN_API void avg_pool1d(const PoolShape& shape, const T* x, T* y);
template <class T>
FASTRNN_API void avg_pool1d_backward(const PoolShape& shape, const T* grad_y, T* grad_x);
// The gradient of both max poolings: out_time rows of winners per sequence, -1 for none.
template <class T>
FASTRNN_API void max_pool1d_backward(const PoolShape& shape, const int32_t* indices, const T* grad_y, T* grad_x);
template <class T>
FASTRNN_API void global_max_pool1d(index batch, index time, index channels, const T* x, const bool* mask, T* y,
                                   int32_t* indices);
template <class T>
FASTRNN_API void global_avg_pool1d(index batch, index time, index channels, const T* x, const bool* mask, T* y);
template <class T>
FASTRNN_API void global_avg_pool1d_backward(index batch, index time, index channels, const T* grad_y, const bool* mask,
                                            T* grad_x);

// weights = softmax of the scores (B, T) over valid time, y (B, F) = sum of weights * x (B, T, F).
template <class T>
FASTRNN_API void attention_pool(index batch, index time, index features, const T* x, const T* scores, const bool* mask,
                                T* y, T* weights);
template <class T>
FASTRNN_API void attention_pool_backward(index batch, index time, index features, const T* x, const T* weights,
                                         const T* grad_y, T* grad_x, T* grad_scores);

// Masked steps repeat the last valid one (zeros before the first), and the gradient of that.
template <class T>
FASTRNN_API void hold_last(index batch, index time, index features, const T* y, const bool* mask, T* held);
template <class T>
FASTRNN_API void hold_last_backward(index batch, index time, index features, const T* grad, const bool* mask,
                                    T* grad_y);

// y[i] = x[i] * m, m = 0 with probability `rate` and 1/(1 - rate) otherwise, from a generator keyed by (seed, position
// of i). With x == null the mask itself. The array is (outer, repeat, inner); the mask is constant along `repeat`.
template <class T>
FASTRNN_API void dropout(index outer, index repeat, index inner, const T* x, double rate, uint64_t seed, T* y);

// In place. Formulas of Keras 3; decay is the decoupled weight decay.
template <class T>
FASTRNN_API void sgd_update(index n, T* param, const T* grad, T* velocity, double rate, double momentum, bool nesterov,
                            double decay);
template <class T>
FASTRNN_API void rmsprop_update(index n, T* param, const T* grad, T* square, T* momentum_state, T* average, double rate,
                                double rho, double momentum, double eps, double decay);
template <class T>
FASTRNN_API void adam_update(index n, T* param, const T* grad, T* m, T* v, T* vhat, double rate, double beta1,
                             double beta2, double eps, index step, double decay);

}  // namespace fastrnn
