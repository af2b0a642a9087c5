// A model saved by fastrnn (`model.save("m.safetensors")`, `fastrnn train`), run without Python.
//
// Layers: InputLayer, Embedding (first), Conv1D, MaxPooling1D, AveragePooling1D, GlobalMaxPooling1D,
// GlobalAveragePooling1D, SimpleRNN, LSTM, GRU, Bidirectional, Attention, Dense, Activation; Dropout and
// SpatialDropout1D do nothing here. float32. Any other layer or setting is refused with its name and place.
//
// A file is read whole and checked before anything is made of it, and nothing in it is executed. Memory is bounded: a
// few copies of the file, and what its JSON becomes, at most a million values of some 100 bytes for each text in it
// (header, description of the model, vocabulary). A small file can thus take 50 times its size.
//
//   const fastrnn::Model model = fastrnn::Model::load("bidirectional-lstm.safetensors");
//   float probability;
//   model.run_text("Not a bad film", &probability);
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>

#include "fastrnn/export.h"
#include "fastrnn/types.hpp"

namespace fastrnn {

// A file that gives no model. `kind`: it cannot be read; it is damaged or something else; or it is a good file with
// something that only Python runs.
class FASTRNN_API ModelError : public std::runtime_error {
 public:
  enum class Kind { unreadable, damaged, unsupported };
  ModelError(Kind kind, const std::string& message);
  ~ModelError() override;
  Kind kind() const noexcept { return kind_; }

 private:
  Kind kind_;
};

// Layers that can be run step by step, with their state: of `Model::stream`. Like a Stream (stream.hpp): all memory is
// taken at construction, and step and process neither allocate nor lock nor start threads nor throw; a block gives
// bitwise what its steps give; for one thread at a time.
class FASTRNN_API ModelStream {
 public:
  struct State;
  explicit ModelStream(std::unique_ptr<State> state);
  ModelStream(ModelStream&&) noexcept;  // what is moved from can only be assigned to or destroyed
  ModelStream& operator=(ModelStream&&) noexcept;
  ~ModelStream();

  index inputs() const noexcept, outputs() const noexcept;  // values of a step
  // x (steps, inputs) -> y (steps, outputs), which must not overlap.
  void process(const float* x, index steps, float* y) noexcept;
  void step(const float* x, float* y) noexcept { process(x, 1, y); }
  void reset() noexcept;  // all states to zeros

 private:
  std::unique_ptr<State> state_;
};

// Immutable: any number of threads may run one model at the same time. Copies share the weights; what is moved from can
// only be assigned to or destroyed.
class FASTRNN_API Model {
 public:
  struct State;
  // Throws ModelError.
  static Model load(const std::string& path);
  // Of a file's contents in memory, which are copied. `name` stands in messages.
  static Model parse(const void* data, std::size_t size, const std::string& name = "model");

  bool takes_ids() const noexcept;  // word ids in place of features
  index inputs() const noexcept;    // features of a step; 0 where the model takes ids
  index outputs() const noexcept;   // values of an output row
  index steps() const noexcept;     // of the sequences that the model was built for; 0: any number
  // Output rows for sequences of so many steps: 1 where the model gives one for a whole sequence. Throws
  // std::invalid_argument for a number of steps that a layer cannot take.
  index output_rows(index steps) const;

  // x (batch, steps, inputs), or ids (batch, steps) -> y (batch, output_rows(steps), outputs). Recurrent layers start
  // from zeros. Throws std::invalid_argument, for ids outside the embedding too.
  void run(index batch, index steps, const float* x, float* y) const;
  void run(index batch, index steps, const std::int32_t* ids, float* y) const;

  // Text, where the file has its vocabulary, as those of `fastrnn train` have. Words are split and looked up as
  // `fastrnn predict` does it, but that of letters outside ASCII only those of Latin-1 are lower-cased.
  index text_ids() const noexcept;  // ids that a text becomes, padded or cut in front; 0: no vocabulary
  void encode(const char* utf8, std::size_t size, std::int32_t* ids) const;
  void run_text(const std::string& utf8, float* y) const;

  // The layers step by step. Throws ModelError(unsupported) for one that needs the whole sequence (Bidirectional,
  // pooling, Attention, Conv1D, Embedding). What return_sequences says does not matter: each step has its output.
  ModelStream stream() const;

 private:
  explicit Model(std::shared_ptr<const State> state);
  std::shared_ptr<const State> state_;
};

}  // namespace fastrnn
