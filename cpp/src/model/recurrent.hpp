// SimpleRNN, LSTM and GRU of a loaded model, and Bidirectional.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "fastrnn/stream.hpp"
#include "model/layers.hpp"

namespace fastrnn {

// One direction: weights in the kernels' gate order, and what its layer said.
struct Recurrent {
  RnnOptions<float> options;
  index inputs = 0, hidden = 0;
  std::vector<float> weight_ih, weight_hh;  // (G*H, I), (G*H, H)
  std::vector<float> bias_ih, bias_hh;      // (G*H,) or empty
  bool sequences = false, zero_masked = false, stateful = false;
  PackedWeights<float> packed;

  void pack();
  StreamWeights<float> weights() const;
  // The layer's output into `out`, (B, T, H) or (B, H) by `sequences`, in the order of processing, or with `flip`
  // turned round.
  void run(const Batch& in, bool flip, View<float> out) const;
};

std::unique_ptr<Stage> recurrent_stage(Stream<float> stream);

class RecurrentLayer final : public Layer {
 public:
  RecurrentLayer(std::string where, Recurrent cell) : Layer(std::move(where)), cell_(std::move(cell)) {}
  index output_steps(index steps) const override { return cell_.sequences ? steps : 1; }
  void run(Batch& batch) const override;
  std::unique_ptr<Stage> stage() const override;

 private:
  Recurrent cell_;
};

class BidirectionalLayer final : public Layer {
 public:
  enum class Merge { concat, sum, mul, ave };
  BidirectionalLayer(std::string where, Recurrent forward, Recurrent backward, Merge merge)
      : Layer(std::move(where)), one_(std::move(forward)), other_(std::move(backward)), merge_(merge) {}
  index output_steps(index steps) const override { return one_.sequences ? steps : 1; }
  void run(Batch& batch) const override;

 private:
  Recurrent one_, other_;
  Merge merge_;
};

}  // namespace fastrnn
