// fastrnn.h on top of Stream and Model: exceptions become a status and a message.
#include "fastrnn/fastrnn.h"

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "cell_layout.hpp"
#include "checks.hpp"
#include "fastrnn/model.hpp"
#include "fastrnn/runtime.hpp"
#include "model/recurrent.hpp"

struct fastrnn_stream {
  fastrnn::ModelStream core;
};
struct fastrnn_model {
  fastrnn::Model core;
};

namespace {

using fastrnn::fail;
using fastrnn::ModelError;
typedef fastrnn::index Index;

thread_local char last_error[1024] = "";  // of a fixed size: to fail takes no memory either

fastrnn_status failed(fastrnn_status status, const char* message) noexcept {
  std::snprintf(last_error, sizeof last_error, "%s", message);
  return status;
}

template <class F>
fastrnn_status guarded(const F& f) noexcept {
  try {
    f();
    return FASTRNN_OK;
  } catch (const ModelError& error) {
    const ModelError::Kind kind = error.kind();
    return failed(kind == ModelError::Kind::unreadable  ? FASTRNN_UNREADABLE
                  : kind == ModelError::Kind::damaged ? FASTRNN_DAMAGED
                                                      : FASTRNN_UNSUPPORTED,
                  error.what());
  } catch (const std::invalid_argument& error) {
    return failed(FASTRNN_INVALID_ARGUMENT, error.what());
  } catch (const std::bad_alloc&) {
    return failed(FASTRNN_NO_MEMORY, "[fastrnn] not enough memory");
  } catch (const std::exception& error) {
    return failed(FASTRNN_INTERNAL, error.what());
  } catch (...) {
    return failed(FASTRNN_INTERNAL, "[fastrnn] an unknown exception");
  }
}

template <class T>
void expect_given(const char* op, const char* argument, const T* pointer) {
  if (!pointer) fail(op, argument, "a pointer", "null");
}

fastrnn::Activation<float> activation(const fastrnn_activation& from) {
  return {fastrnn::ActivationKind(from.kind), from.alpha, from.beta};
}

void expect_size(const char* name, Index expected, Index got) {
  if (got < expected) fail("run", name, "room for " + std::to_string(expected) + " values", std::to_string(got));
}

// Values that `batch` outputs take; sizes that overflow are refused.
Index output_size(const fastrnn::Model& model, Index batch, Index steps) {
  const Index row = model.output_rows(steps) * model.outputs();  // both below 2^31
  if (batch < 1 || batch > INT64_MAX / row)
    fail("run", "batch", "1 or more sequences that fit in memory", std::to_string(batch));
  return batch * row;
}

// `in`: features or ids.
template <class T>
fastrnn_status run_model(const fastrnn_model* model, const char* name, const T* in, Index batch, Index steps, float* y,
                         Index y_size) noexcept {
  return guarded([&] {
    expect_given("run", "model", model);
    expect_given("run", name, in);
    expect_given("run", "y", y);
    expect_size("y", output_size(model->core, batch, steps), y_size);
    model->core.run(batch, steps, in, y);
  });
}

}  // namespace

extern "C" {

const char* fastrnn_last_error(void) { return last_error; }

const char* fastrnn_status_name(fastrnn_status status) {
  switch (status) {
    case FASTRNN_OK: return "ok";
    case FASTRNN_INVALID_ARGUMENT: return "invalid argument";
    case FASTRNN_UNREADABLE: return "unreadable file";
    case FASTRNN_DAMAGED: return "damaged file";
    case FASTRNN_UNSUPPORTED: return "unsupported model";
    case FASTRNN_NO_MEMORY: return "no memory";
    case FASTRNN_INTERNAL: return "internal error";
  }
  return "unknown status";
}

const char* fastrnn_version(void) { return FASTRNN_VERSION; }
int fastrnn_abi_version(void) { return FASTRNN_ABI_VERSION; }

const char* fastrnn_isa(void) {
  static thread_local char name[16];
  name[0] = '\0';
  guarded([] { std::snprintf(name, sizeof name, "%s", fastrnn::current_isa().c_str()); });
  return name;
}

fastrnn_status fastrnn_use_isa(const char* name) {
  return guarded([&] {
    expect_given("use_isa", "name", name);
    fastrnn::use_isa(name);
  });
}

fastrnn_status fastrnn_set_num_threads(int threads) {
  return guarded([&] { fastrnn::set_num_threads(threads); });
}

fastrnn_activation fastrnn_activation_of(fastrnn_activation_kind kind) {
  const auto standard = fastrnn::standard_activation<float>(fastrnn::ActivationKind(kind));
  return {int32_t(kind), standard.alpha, standard.beta};
}

void fastrnn_recurrent_init_sized(fastrnn_recurrent* layer, size_t struct_size, fastrnn_cell cell, int64_t inputs,
                                  int64_t hidden) {
  if (!layer) return;
  fastrnn_recurrent made{};
  made.struct_size = struct_size;
  made.cell = int32_t(cell);
  made.inputs = inputs;
  made.hidden = hidden;
  made.activation = made.output_activation = fastrnn_activation_of(FASTRNN_TANH);
  made.recurrent_activation = fastrnn_activation_of(FASTRNN_SIGMOID);
  std::memset(static_cast<void*>(layer), 0, struct_size);
  std::memcpy(static_cast<void*>(layer), &made, std::min(struct_size, sizeof made));
}

fastrnn_status fastrnn_stream_create(const fastrnn_recurrent* given, fastrnn_stream** stream) {
  if (stream) *stream = nullptr;
  return guarded([&] {
    expect_given("stream", "layer", given);
    expect_given("stream", "stream", stream);
    // The program's struct ends after the last field of its header's version.
    constexpr size_t kFirstVersion = offsetof(fastrnn_recurrent, output_activation) + sizeof(fastrnn_activation);
    size_t size;
    std::memcpy(&size, given, sizeof size);
    if (size < kFirstVersion)
      fail("stream", "struct_size", "what fastrnn_recurrent_init sets", std::to_string(size));
    if (size > sizeof(fastrnn_recurrent))
      fail("stream", "struct_size",
           "at most " + std::to_string(sizeof(fastrnn_recurrent)) + " (the program's header is newer than this library)",
           std::to_string(size));
    fastrnn_recurrent copy{};  // fields that the program does not know are zeros
    std::memcpy(static_cast<void*>(&copy), given, size);
    const fastrnn_recurrent* layer = &copy;
    if (layer->cell < 0 || layer->cell >= fastrnn::kCells)
      fail("stream", "cell", "a known cell", std::to_string(layer->cell));
    constexpr int64_t kMost = int64_t(1) << 28;  // no product of sizes overflows
    for (const auto& [name, size] : {std::pair("inputs", layer->inputs), std::pair("hidden", layer->hidden)})
      if (size < 1 || size > kMost) fail("stream", name, "1 to 2^28", std::to_string(size));
    expect_given("stream", "weight_ih", layer->weight_ih);
    expect_given("stream", "weight_hh", layer->weight_hh);
    fastrnn::RnnOptions<float> options;
    options.cell = fastrnn::Cell(layer->cell);
    options.candidate = activation(layer->activation);
    options.gate = activation(layer->recurrent_activation);
    options.output = activation(layer->output_activation);
    const Index rows = fastrnn::layout(options.cell).gates * layer->hidden;
    const fastrnn::StreamWeights<float> weights{
        fastrnn::view(layer->weight_ih, rows, layer->inputs), fastrnn::view(layer->weight_hh, rows, layer->hidden),
        fastrnn::view(layer->bias_ih, rows), fastrnn::view(layer->bias_hh, rows)};
    std::vector<std::unique_ptr<fastrnn::Stage>> stages;
    stages.push_back(fastrnn::recurrent_stage(fastrnn::Stream<float>(options, weights)));
    *stream = new fastrnn_stream{
        fastrnn::ModelStream(std::make_unique<fastrnn::ModelStream::State>(std::move(stages)))};
  });
}

void fastrnn_stream_free(fastrnn_stream* stream) { delete stream; }
int64_t fastrnn_stream_inputs(const fastrnn_stream* stream) { return stream ? stream->core.inputs() : -1; }
int64_t fastrnn_stream_outputs(const fastrnn_stream* stream) { return stream ? stream->core.outputs() : -1; }

fastrnn_status fastrnn_stream_process(fastrnn_stream* stream, const float* x, int64_t steps, float* y) {
  if (!stream || !x || !y || steps < 0)
    return failed(FASTRNN_INVALID_ARGUMENT, !stream ? "[stream] stream: expected a pointer, got null"
                                            : !x    ? "[stream] x: expected a pointer, got null"
                                            : !y    ? "[stream] y: expected a pointer, got null"
                                                    : "[stream] steps: expected 0 or more, got fewer");
  stream->core.process(x, steps, y);
  return FASTRNN_OK;
}

fastrnn_status fastrnn_stream_step(fastrnn_stream* stream, const float* x, float* y) {
  return fastrnn_stream_process(stream, x, 1, y);
}

fastrnn_status fastrnn_stream_reset(fastrnn_stream* stream) {
  if (!stream) return failed(FASTRNN_INVALID_ARGUMENT, "[stream] stream: expected a pointer, got null");
  stream->core.reset();
  return FASTRNN_OK;
}

fastrnn_status fastrnn_model_load(const char* path, fastrnn_model** model) {
  if (model) *model = nullptr;
  return guarded([&] {
    expect_given("load_model", "path", path);
    expect_given("load_model", "model", model);
    *model = new fastrnn_model{fastrnn::Model::load(path)};
  });
}

fastrnn_status fastrnn_model_load_memory(const void* data, size_t size, fastrnn_model** model) {
  if (model) *model = nullptr;
  return guarded([&] {
    expect_given("load_model", "data", static_cast<const char*>(data));
    expect_given("load_model", "model", model);
    *model = new fastrnn_model{fastrnn::Model::parse(data, size)};
  });
}

void fastrnn_model_free(fastrnn_model* model) { delete model; }
int fastrnn_model_takes_ids(const fastrnn_model* model) { return model ? model->core.takes_ids() : -1; }
int64_t fastrnn_model_inputs(const fastrnn_model* model) { return model ? model->core.inputs() : -1; }
int64_t fastrnn_model_outputs(const fastrnn_model* model) { return model ? model->core.outputs() : -1; }
int64_t fastrnn_model_steps(const fastrnn_model* model) { return model ? model->core.steps() : -1; }
int64_t fastrnn_model_text_ids(const fastrnn_model* model) { return model ? model->core.text_ids() : -1; }

fastrnn_status fastrnn_model_output_rows(const fastrnn_model* model, int64_t steps, int64_t* rows) {
  return guarded([&] {
    expect_given("run", "model", model);
    expect_given("run", "rows", rows);
    *rows = model->core.output_rows(steps);
  });
}

fastrnn_status fastrnn_model_run(const fastrnn_model* model, const float* x, int64_t batch, int64_t steps, float* y,
                                 int64_t y_size) {
  return run_model(model, "x", x, batch, steps, y, y_size);
}

fastrnn_status fastrnn_model_run_ids(const fastrnn_model* model, const int32_t* ids, int64_t batch, int64_t steps,
                                     float* y, int64_t y_size) {
  return run_model(model, "ids", ids, batch, steps, y, y_size);
}

fastrnn_status fastrnn_model_encode(const fastrnn_model* model, const char* text, int32_t* ids, int64_t ids_size) {
  return guarded([&] {
    expect_given("run", "model", model);
    expect_given("run", "text", text);
    expect_given("run", "ids", ids);
    expect_size("ids", model->core.text_ids(), ids_size);
    model->core.encode(text, std::strlen(text), ids);
  });
}

fastrnn_status fastrnn_model_run_text(const fastrnn_model* model, const char* text, float* y, int64_t y_size) {
  return guarded([&] {
    expect_given("run", "model", model);
    expect_given("run", "text", text);
    expect_given("run", "y", y);
    if (model->core.text_ids() > 0) expect_size("y", output_size(model->core, 1, model->core.text_ids()), y_size);
    model->core.run_text(text, y);
  });
}

fastrnn_status fastrnn_model_stream(const fastrnn_model* model, fastrnn_stream** stream) {
  if (stream) *stream = nullptr;
  return guarded([&] {
    expect_given("stream", "model", model);
    expect_given("stream", "stream", stream);
    *stream = new fastrnn_stream{model->core.stream()};
  });
}

}  // extern "C"
