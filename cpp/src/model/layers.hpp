// The layers of a loaded model: what each does to a batch of whole sequences, and to a stream if it can.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "fastrnn/ops.hpp"
#include "fastrnn/rnn.hpp"
#include "memory.hpp"
#include "model/chain.hpp"
#include "model/dense.hpp"

namespace fastrnn {

// What goes from layer to layer: (rows, steps, width), or (rows, width) with steps = 1 where there is no time.
struct Batch {
  index rows = 0, steps = 0, width = 0;
  const int32_t* ids = nullptr;  // (rows, steps), before an Embedding
  Buffer<float> data;
  Buffer<bool> mask;  // (rows, steps), or empty: all steps are valid

  index values() const { return rows * steps; }
  void replace(index new_steps, index new_width, Buffer<float> with) {
    steps = new_steps;
    width = new_width;
    data = std::move(with);
  }
};

class Layer {
 public:
  explicit Layer(std::string where) : where(std::move(where)) {}
  virtual ~Layer() = default;
  // Output steps for so many steps of the input; throws std::invalid_argument for too few.
  virtual index output_steps(index steps) const { return steps; }
  virtual void run(Batch& batch) const = 0;
  // Throws ModelError(unsupported) unless the layer can be run step by step.
  virtual std::unique_ptr<Stage> stage() const;
  const std::string where;  // as messages call it: layer 2 'gru' (GRU)
};

class EmbeddingLayer final : public Layer {
 public:
  EmbeddingLayer(std::string where, index vocabulary, index width, bool mask_zero, std::vector<float> table);
  void run(Batch& batch) const override;

 private:
  index vocabulary_, width_;
  bool mask_zero_;
  std::vector<float> table_;  // (vocabulary, width)
};

class ConvLayer final : public Layer {
 public:
  enum class Padding { valid, same, causal };
  // kernel (K, C, F), bias (F,) or empty. Of `shape` kernel, channels, filters, stride and dilation count.
  ConvLayer(std::string where, const ConvShape& shape, Padding padding, std::vector<float> kernel,
            std::vector<float> bias, const OutputActivation& activation);
  index output_steps(index steps) const override { return shaped(steps).out_time(); }
  void run(Batch& batch) const override;

 private:
  ConvShape shaped(index steps) const;
  ConvShape shape_;
  Padding padding_;
  std::vector<float> kernel_, bias_;
  OutputActivation activation_;
};

class PoolLayer final : public Layer {
 public:
  PoolLayer(std::string where, bool maximum, index size, index stride, bool same);
  index output_steps(index steps) const override { return shaped(steps).out_time; }
  void run(Batch& batch) const override;

 private:
  PoolShape shaped(index steps) const;
  bool maximum_;
  index size_, stride_;
  bool same_;
};

class GlobalPoolLayer final : public Layer {
 public:
  GlobalPoolLayer(std::string where, bool maximum) : Layer(std::move(where)), maximum_(maximum) {}
  index output_steps(index) const override { return 1; }
  void run(Batch& batch) const override;

 private:
  bool maximum_;
};

// A weighted mean over time; `keys` is null for the score "dot".
class AttentionLayer final : public Layer {
 public:
  AttentionLayer(std::string where, std::unique_ptr<Dense> keys, Dense query);
  index output_steps(index) const override { return 1; }
  void run(Batch& batch) const override;

 private:
  std::unique_ptr<Dense> keys_;
  Dense query_;
};

class DenseLayer final : public Layer {
 public:
  DenseLayer(std::string where, Dense dense) : Layer(std::move(where)), dense_(std::make_shared<Dense>(std::move(dense))) {}
  void run(Batch& batch) const override;
  std::unique_ptr<Stage> stage() const override;

 private:
  std::shared_ptr<const Dense> dense_;
};

class ActivationLayer final : public Layer {
 public:
  ActivationLayer(std::string where, index width, const OutputActivation& activation)
      : Layer(std::move(where)), width_(width), activation_(activation) {}
  void run(Batch& batch) const override;
  std::unique_ptr<Stage> stage() const override;

 private:
  index width_;
  OutputActivation activation_;
};

}  // namespace fastrnn
