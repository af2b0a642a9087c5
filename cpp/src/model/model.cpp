// Model: a file or bytes in, layers run one after the other.
#include "fastrnn/model.hpp"

#include <algorithm>

#include "checks.hpp"
#include "model/build.hpp"

namespace fastrnn {

ModelError::ModelError(Kind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
ModelError::~ModelError() = default;

Model::Model(std::shared_ptr<const State> state) : state_(std::move(state)) {}

Model Model::parse(const void* data, std::size_t size, const std::string& name) {
  const TensorFile file(name, static_cast<const unsigned char*>(data), size);
  return Model(build_model(name, file));
}

Model Model::load(const std::string& path) {
  const std::vector<unsigned char> bytes = read_file(path);
  return parse(bytes.data(), bytes.size(), path);
}

bool Model::takes_ids() const noexcept { return state_->takes_ids; }
index Model::inputs() const noexcept { return state_->inputs; }
index Model::outputs() const noexcept { return state_->outputs; }
index Model::steps() const noexcept { return state_->steps; }
index Model::text_ids() const noexcept { return state_->encoder ? state_->encoder->length() : 0; }

index Model::output_rows(index steps) const {
  constexpr index kMost = (index(1) << 31) - 1;
  if (steps < 1 || steps > kMost) fail("run", "steps", "1 to 2^31 - 1", std::to_string(steps));
  if (!state_->has_time && steps != 1) fail("run", "steps", "1 (the input has no time)", std::to_string(steps));
  for (const auto& layer : state_->layers) steps = layer->output_steps(steps);
  return steps;
}

namespace {

// Checked so that no product of extents overflows.
Batch make_batch(index rows, index steps, index width, index widest) {
  constexpr double kMost = 1e15;
  if (rows < 1 || double(rows) * double(steps) * double(widest) > kMost)
    fail("run", "batch", "1 or more sequences that fit in memory", std::to_string(rows));
  Batch batch;
  batch.rows = rows;
  batch.steps = steps;
  batch.width = width;
  return batch;
}

void run_layers(const Model::State& model, Batch batch, float* y) {
  for (const auto& layer : model.layers) layer->run(batch);
  std::copy_n(batch.data.data(), batch.values() * batch.width, y);
}

}  // namespace

void Model::run(index batch, index steps, const float* x, float* y) const {
  if (state_->takes_ids) fail("run", "x", "ids", "features");
  output_rows(steps);
  Batch in = make_batch(batch, steps, state_->inputs, state_->widest);
  in.data = Buffer<float>(size_t(in.values() * in.width));
  std::copy_n(x, in.values() * in.width, in.data.data());
  run_layers(*state_, std::move(in), y);
}

void Model::run(index batch, index steps, const std::int32_t* ids, float* y) const {
  if (!state_->takes_ids) fail("run", "ids", "features", "ids");
  output_rows(steps);
  Batch in = make_batch(batch, steps, 0, state_->widest);
  in.ids = ids;
  run_layers(*state_, std::move(in), y);
}

void Model::encode(const char* utf8, std::size_t size, std::int32_t* ids) const {
  if (!state_->encoder) fail("run", "text", "a model saved with its vocabulary", "one without");
  state_->encoder->encode({utf8, size}, ids);
}

void Model::run_text(const std::string& utf8, float* y) const {
  std::vector<std::int32_t> ids(size_t(text_ids()) + 1);
  encode(utf8.data(), utf8.size(), ids.data());
  run(1, text_ids(), ids.data(), y);
}

ModelStream Model::stream() const {
  if (state_->takes_ids)
    throw ModelError(ModelError::Kind::unsupported,
                     "[stream] model: expected one that takes features, got one that takes ids");
  std::vector<std::unique_ptr<Stage>> stages;
  for (const auto& layer : state_->layers) stages.push_back(layer->stage());
  return ModelStream(std::make_unique<ModelStream::State>(std::move(stages)));
}

}  // namespace fastrnn
