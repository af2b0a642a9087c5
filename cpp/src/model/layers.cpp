#include "model/layers.hpp"

#include <algorithm>

#include "checks.hpp"
#include "dispatch.hpp"

namespace fastrnn {
namespace {

// Keras's padding "same": zeros in front, and the number of windows.
index same_windows(index steps, index stride) { return (steps + stride - 1) / stride; }
index same_padding(index steps, index window, index stride) {
  return std::max<index>((same_windows(steps, stride) - 1) * stride + window - steps, 0);
}

void expect_steps(const std::string& where, index steps, index least) {
  if (steps < least) fail("run", where, "at least " + std::to_string(least) + " steps", std::to_string(steps));
}

class DenseStage final : public Stage {
 public:
  explicit DenseStage(std::shared_ptr<const Dense> dense)
      : Stage(dense->inputs(), dense->outputs()), dense_(std::move(dense)) {}
  void process(const float* x, index steps, float* y) noexcept override { dense_->rows(steps, x, y); }

 private:
  std::shared_ptr<const Dense> dense_;
};

class ActivationStage final : public Stage {
 public:
  ActivationStage(index width, const OutputActivation& activation)
      : Stage(width, width), kernels_(active_kernels<float>()), activation_(activation) {}
  void process(const float* x, index steps, float* y) noexcept override {
    std::copy_n(x, steps * inputs, y);
    activation_.apply(kernels_, steps, inputs, y);
  }

 private:
  const KernelTable<float>& kernels_;
  OutputActivation activation_;
};

}  // namespace

std::unique_ptr<Stage> Layer::stage() const {
  throw ModelError(ModelError::Kind::unsupported,
                   "[stream] " + where + ": expected a layer that can be run step by step, got one that cannot");
}

EmbeddingLayer::EmbeddingLayer(std::string name, index vocabulary, index width, bool mask_zero, std::vector<float> table)
    : Layer(std::move(name)), vocabulary_(vocabulary), width_(width), mask_zero_(mask_zero), table_(std::move(table)) {}

void EmbeddingLayer::run(Batch& batch) const {
  const index n = batch.values();
  Buffer<index> ids(size_t(n + 1));
  std::copy_n(batch.ids, n, ids.data());
  Buffer<float> y(size_t(n * width_));
  embedding<float>(n, ids.data(), vocabulary_, width_, table_.data(), y.data());
  if (mask_zero_ && std::find(batch.ids, batch.ids + n, 0) != batch.ids + n) {
    batch.mask = Buffer<bool>(size_t(n));
    for (index i = 0; i < n; ++i) batch.mask.data()[i] = batch.ids[i] != 0;
  }
  batch.ids = nullptr;
  batch.replace(batch.steps, width_, std::move(y));
}

ConvLayer::ConvLayer(std::string name, const ConvShape& shape, Padding padding, std::vector<float> kernel,
                     std::vector<float> bias, const OutputActivation& activation)
    : Layer(std::move(name)), shape_(shape), padding_(padding), kernel_(std::move(kernel)), bias_(std::move(bias)),
      activation_(activation) {}

ConvShape ConvLayer::shaped(index steps) const {
  ConvShape s = shape_;
  s.time = steps;
  if (padding_ == Padding::causal) s.pad_left = s.window() - 1;
  if (padding_ == Padding::same) {
    const index total = same_padding(steps, s.window(), s.stride);
    s.pad_left = total / 2;
    s.pad_right = total - s.pad_left;
  }
  if (padding_ == Padding::valid) expect_steps(where, steps, s.window());
  return s;
}

void ConvLayer::run(Batch& batch) const {
  ConvShape s = shaped(batch.steps);
  s.batch = batch.rows;
  View<const float> weight;  // (F, C, K)
  weight.data = kernel_.data();
  weight.ndim = 3;
  weight.shape[0] = s.filters, weight.shape[1] = s.channels, weight.shape[2] = s.kernel;
  weight.stride[0] = 1, weight.stride[1] = s.filters, weight.stride[2] = s.filters * s.channels;
  const View<const float> bias = bias_.empty() ? View<const float>() : view(bias_.data(), s.filters);
  Buffer<float> y(size_t(s.batch * s.out_time() * s.filters));
  conv1d<float>(s, batch.data.data(), weight, bias, activation_.act, y.data());
  if (activation_.softmax)
    activation_.apply(active_kernels<float>(), s.batch * s.out_time(), s.filters, y.data());
  batch.mask = Buffer<bool>();
  batch.replace(s.out_time(), s.filters, std::move(y));
}

PoolLayer::PoolLayer(std::string name, bool maximum, index size, index stride, bool same)
    : Layer(std::move(name)), maximum_(maximum), size_(size), stride_(stride), same_(same) {}

PoolShape PoolLayer::shaped(index steps) const {
  PoolShape s{};
  s.time = steps;
  s.size = size_;
  s.stride = stride_;
  if (same_) {
    s.pad_left = same_padding(steps, size_, stride_) / 2;
    s.out_time = same_windows(steps, stride_);
  } else {
    expect_steps(where, steps, size_);
    s.out_time = (steps - size_) / stride_ + 1;
  }
  return s;
}

void PoolLayer::run(Batch& batch) const {
  PoolShape s = shaped(batch.steps);
  s.batch = batch.rows;
  s.channels = batch.width;
  const size_t values = size_t(s.batch * s.out_time * s.channels);
  Buffer<float> y(values);
  if (maximum_) {
    const Buffer<int32_t> winners(values);
    max_pool1d<float>(s, batch.data.data(), y.data(), winners.data());
  } else {
    avg_pool1d<float>(s, batch.data.data(), y.data());
  }
  batch.mask = Buffer<bool>();
  batch.replace(s.out_time, s.channels, std::move(y));
}

void GlobalPoolLayer::run(Batch& batch) const {
  const size_t values = size_t(batch.rows * batch.width);
  Buffer<float> y(values);
  if (maximum_) {
    const Buffer<int32_t> winners(values);
    global_max_pool1d<float>(batch.rows, batch.steps, batch.width, batch.data.data(), batch.mask.data(), y.data(),
                             winners.data());
  } else {
    global_avg_pool1d<float>(batch.rows, batch.steps, batch.width, batch.data.data(), batch.mask.data(), y.data());
  }
  batch.mask = Buffer<bool>();
  batch.replace(1, batch.width, std::move(y));
}

AttentionLayer::AttentionLayer(std::string name, std::unique_ptr<Dense> keys, Dense query)
    : Layer(std::move(name)), keys_(std::move(keys)), query_(std::move(query)) {}

void AttentionLayer::run(Batch& batch) const {
  const index n = batch.values();
  const float* met = batch.data.data();
  Buffer<float> keys, scores{size_t(n)}, weights{size_t(n)}, y{size_t(batch.rows * batch.width)};
  if (keys_) {
    keys = Buffer<float>(size_t(n * keys_->outputs()));
    keys_->run(n, met, keys.data());
    met = keys.data();
  }
  query_.run(n, met, scores.data());
  attention_pool<float>(batch.rows, batch.steps, batch.width, batch.data.data(), scores.data(), batch.mask.data(),
                        y.data(), weights.data());
  batch.mask = Buffer<bool>();
  batch.replace(1, batch.width, std::move(y));
}

void DenseLayer::run(Batch& batch) const {
  Buffer<float> y(size_t(batch.values() * dense_->outputs()));
  dense_->run(batch.values(), batch.data.data(), y.data());
  batch.replace(batch.steps, dense_->outputs(), std::move(y));
}

std::unique_ptr<Stage> DenseLayer::stage() const { return std::make_unique<DenseStage>(dense_); }

void ActivationLayer::run(Batch& batch) const {
  activation_.apply(active_kernels<float>(), batch.values(), batch.width, batch.data.data());
}

std::unique_ptr<Stage> ActivationLayer::stage() const { return std::make_unique<ActivationStage>(width_, activation_); }

}  // namespace fastrnn
