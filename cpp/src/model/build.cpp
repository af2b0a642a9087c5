#include "model/build.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <set>

#include "cell_layout.hpp"
#include "checks.hpp"
#include "model/recurrent.hpp"

namespace fastrnn {
namespace {

constexpr int64_t kMost = (int64_t(1) << 31) - 1;
constexpr int64_t kMostWindow = int64_t(1) << 24;  // values that a window may span: a copy of the sequence's ends is made

// What the layers before this one hand to it.
struct Flow {
  bool ids = false, time = true;
  index width = 0;
};

OutputActivation make_activation(ActivationKind kind) {
  OutputActivation made;
  made.act.kind = kind;
  return made;
}

// One layer's entry in the configuration, and its tensors.
class Entry {
 public:
  Entry(const std::string& file, const TensorFile& tensors, std::set<std::string>& used, const Json& config,
        const std::string& place, const std::string& kind, const std::string& name)
      : where(place + " '" + shown(name) + "' (" + shown(kind) + ")"), kind(kind), name(name), file_(file),
        tensors_(tensors), used_(used), config_(config) {}

  const std::string where, kind, name;

  // A layer inside this one: its configuration, the same tensors.
  Entry(const Entry& outer, const Json& config, const std::string& kind)
      : where(outer.where + "." + kind), kind(kind), name(outer.name), file_(outer.file_), tensors_(outer.tensors_),
        used_(outer.used_), config_(config) {}

  [[noreturn]] void damaged(const std::string& what, const std::string& expected, const std::string& got) const {
    throw ModelError(ModelError::Kind::damaged, message(what, expected, got));
  }
  [[noreturn]] void unsupported(const std::string& what, const std::string& expected, const std::string& got) const {
    throw ModelError(ModelError::Kind::unsupported, message(what, expected, got));
  }

  const Json& get(const char* key) const {
    const Json* value = config_.find(key);
    if (!value) damaged(key, "a value", "none");
    return *value;
  }
  int64_t integer(const char* key, int64_t low = 1) const {
    int64_t value = 0;
    if (!get(key).integer(low, kMost, &value))
      damaged(key, "an integer from " + std::to_string(low) + " to 2^31 - 1", "something else");
    return value;
  }
  bool flag(const char* key) const {
    if (!get(key).is(Json::Kind::boolean)) damaged(key, "true or false", "something else");
    return get(key).boolean();
  }
  const std::string& string(const char* key) const {
    if (!get(key).is(Json::Kind::string)) damaged(key, "a string", "something else");
    return get(key).string();
  }
  int one_of(const char* key, std::initializer_list<const char*> names) const {
    const std::string& value = string(key);
    int i = 0;
    for (const char* known : names) {
      if (value == known) return i;
      ++i;
    }
    damaged(key, "a known one", "'" + shown(value) + "'");
  }
  OutputActivation activation(const char* key, bool softmax = true) const;

  // A float32 tensor of the layer, of this shape.
  std::vector<float> tensor(const std::string& variable, std::initializer_list<index> shape) const;

 private:
  std::string message(const std::string& what, const std::string& expected, const std::string& got) const {
    return "[load_model] " + file_ + ": " + where + (what.empty() ? "" : " " + what) + ": expected " + expected +
           ", got " + got;
  }
  const std::string& file_;
  const TensorFile& tensors_;
  std::set<std::string>& used_;
  const Json& config_;
};

std::vector<float> Entry::tensor(const std::string& variable, std::initializer_list<index> shape) const {
  const std::string key = name + "/" + variable;
  const auto at = tensors_.tensors().find(key);
  if (at == tensors_.tensors().end()) damaged(variable, "a tensor", "none");
  const Tensor& tensor = at->second;
  if (!tensor.is_float) unsupported(variable, "dtype F32", shown(tensor.dtype));
  if (tensor.shape != std::vector<index>(shape))
    damaged(variable, "shape " + shape_text(shape.begin(), int(shape.size())),
            shape_text(tensor.shape.data(), int(tensor.shape.size())));
  used_.insert(key);
  std::vector<float> values(tensor.size / sizeof(float));
  if (!values.empty()) std::memcpy(values.data(), tensor.bytes, tensor.size);
  return values;
}

// "tanh", or {"name": "elu", "alpha": 0.5}; see fastrnn.activations.
OutputActivation Entry::activation(const char* key, bool softmax) const {
  const Json& value = get(key);
  const Json* name = value.is(Json::Kind::object) ? value.find("name") : &value;
  OutputActivation made;
  if (!name || !name->is(Json::Kind::string)) damaged(key, "an activation", "something else");
  if (name->string() == "softmax") {
    if (!softmax) damaged(key, "an elementwise activation", "softmax");
    made.softmax = true;
    return made;
  }
  int kind = 0;
  while (kind < kActivationKinds && name->string() != activation_name(ActivationKind(kind))) ++kind;
  if (kind == kActivationKinds) unsupported(key, "a known activation", "'" + shown(name->string()) + "'");
  made.act = standard_activation<float>(ActivationKind(kind));
  for (const char* parameter : {"alpha", "beta"}) {
    const Json* number = value.find(parameter);
    if (!number || number->is(Json::Kind::null)) continue;
    if (!number->is(Json::Kind::number) || !(std::fabs(number->number()) <= 3.4e38))
      damaged(key, "a finite " + std::string(parameter), "something else");
    (*parameter == 'a' ? made.act.alpha : made.act.beta) = float(number->number());
  }
  return made;
}

// Keras's gates z r h are the kernels' r z n; those of an LSTM (i f c o) and an RNN stand alike. `keras` has (rows,
// G*H): `transposed` (G*H, rows) in the kernels' order.
std::vector<float> native_weight(const std::vector<float>& keras, index rows, index hidden, int gates) {
  std::vector<float> native(keras.size());
  for (int g = 0; g < gates; ++g) {
    const int from = gates == 3 && g < 2 ? 1 - g : g;
    for (index u = 0; u < hidden; ++u)
      for (index r = 0; r < rows; ++r)
        native[size_t((g * hidden + u) * rows + r)] = keras[size_t(r * gates * hidden + from * hidden + u)];
  }
  return native;
}

Recurrent make_recurrent(const Entry& e, index inputs, const std::string& prefix) {
  Recurrent cell;
  RnnOptions<float>& o = cell.options;
  const bool gru = e.kind == "GRU", lstm = e.kind == "LSTM";
  const bool after = gru && e.flag("reset_after");
  o.cell = lstm ? Cell::lstm : !gru ? Cell::rnn : after ? Cell::gru : Cell::gru_reset_before;
  o.candidate = o.output = e.activation("activation", false).act;
  if (gru || lstm) o.gate = e.activation("recurrent_activation", false).act;
  o.reverse = e.flag("go_backwards");
  cell.sequences = e.flag("return_sequences");
  cell.zero_masked = e.flag("zero_output_for_mask");
  cell.stateful = e.flag("stateful");
  if (e.flag("return_state")) e.unsupported("return_state", "False", "True");
  cell.inputs = inputs;
  cell.hidden = e.integer("units");
  const int gates = layout(o.cell).gates;
  const index H = cell.hidden, wide = gates * H;
  cell.weight_ih = native_weight(e.tensor(prefix + "kernel", {inputs, wide}), inputs, H, gates);
  cell.weight_hh = native_weight(e.tensor(prefix + "recurrent_kernel", {H, wide}), H, H, gates);
  if (e.flag("use_bias")) {
    const std::vector<float> bias = after ? e.tensor(prefix + "bias", {2, wide}) : e.tensor(prefix + "bias", {wide});
    const auto row = [&](index r) {
      return native_weight({bias.begin() + std::ptrdiff_t(r * wide), bias.begin() + std::ptrdiff_t((r + 1) * wide)}, 1, H,
                           gates);
    };
    cell.bias_ih = row(0);
    if (after) cell.bias_hh = row(1);
  }
  cell.pack();
  return cell;
}

void expect_time(const Entry& e, const Flow& in) {
  if (!in.time || in.ids) e.damaged("input", "(batch, time, features)", in.ids ? "ids" : "(batch, features)");
}

Recurrent make_inner(const Entry& e, const char* key, const char* prefix, index inputs) {
  const Json& entry = e.get(key);
  const Json *kind = entry.find("class_name"), *config = entry.find("config");
  if (!kind || !kind->is(Json::Kind::string) || !config || !config->is(Json::Kind::object))
    e.damaged(key, "a recurrent layer", "something else");
  const std::string& name = kind->string();
  if (name != "SimpleRNN" && name != "LSTM" && name != "GRU") e.unsupported(key, "SimpleRNN, LSTM or GRU", shown(name));
  return make_recurrent(Entry(e, *config, name), inputs, prefix);
}

std::unique_ptr<Layer> make_bidirectional(const Entry& e, Flow& flow) {
  Recurrent one = make_inner(e, "layer", "forward_", flow.width);
  Recurrent other = make_inner(e, "backward_layer", "backward_", flow.width);
  if (e.get("merge_mode").is(Json::Kind::null)) e.unsupported("merge_mode", "one output", "None (two outputs)");
  const auto merge = BidirectionalLayer::Merge(e.one_of("merge_mode", {"concat", "sum", "mul", "ave"}));
  const bool concat = merge == BidirectionalLayer::Merge::concat;
  if (one.options.reverse == other.options.reverse || one.sequences != other.sequences ||
      one.stateful != other.stateful || (!concat && one.hidden != other.hidden))
    e.damaged("backward_layer", "the mirror image of layer", "another kind");
  one.zero_masked = other.zero_masked = one.sequences;  // as the layer sets it
  flow.time = one.sequences;
  flow.width = one.hidden + (concat ? other.hidden : 0);
  return std::make_unique<BidirectionalLayer>(e.where, std::move(one), std::move(other), merge);
}

std::unique_ptr<Layer> make_conv(const Entry& e, Flow& flow) {
  ConvShape shape{};
  shape.kernel = e.integer("kernel_size");
  shape.channels = flow.width;
  shape.filters = e.integer("filters");
  shape.stride = e.integer("strides");
  shape.dilation = e.integer("dilation_rate");
  if (e.integer("groups") != 1) e.unsupported("groups", "1", std::to_string(e.integer("groups")));
  std::vector<float> kernel = e.tensor("kernel", {shape.kernel, shape.channels, shape.filters}), bias;
  if ((shape.kernel - 1) * shape.channels > kMostWindow / shape.dilation)
    e.unsupported("dilation_rate", "a window of at most 2^24 values", std::to_string(shape.window()) + " steps");
  if (e.flag("use_bias")) bias = e.tensor("bias", {shape.filters});
  const auto padding = ConvLayer::Padding(e.one_of("padding", {"valid", "same", "causal"}));
  flow.width = shape.filters;
  return std::make_unique<ConvLayer>(e.where, shape, padding, std::move(kernel), std::move(bias),
                                     e.activation("activation"));
}

std::unique_ptr<Layer> make_attention(const Entry& e, const Flow& flow) {
  const bool additive = e.one_of("score", {"additive", "dot"}) == 0;
  const index F = flow.width, width = additive && !e.get("units").is(Json::Kind::null) ? e.integer("units") : F;
  std::unique_ptr<Dense> keys;
  if (additive) {
    const std::vector<float> kernel = e.tensor("kernel", {F, width});
    const std::vector<float> bias = e.flag("use_bias") ? e.tensor("bias", {width}) : std::vector<float>();
    keys = std::make_unique<Dense>(F, width, kernel.data(), bias, make_activation(ActivationKind::tanh));
  }
  std::vector<float> query = e.tensor("query", {width});
  for (float& value : query) value *= additive ? 1.0f : float(1 / std::sqrt(double(F)));
  return std::make_unique<AttentionLayer>(e.where, std::move(keys), Dense(width, 1, query.data(), {}, {}));
}

bool is_known(const std::string& kind) {
  for (const char* known :
       {"InputLayer", "Dropout", "SpatialDropout1D", "Embedding", "Dense", "Activation", "SimpleRNN", "LSTM", "GRU",
        "Bidirectional", "Conv1D", "MaxPooling1D", "AveragePooling1D", "GlobalMaxPooling1D", "GlobalAveragePooling1D",
        "Attention"})
    if (kind == known) return true;
  return false;
}

// The layer, or null where it does nothing in prediction; `flow` becomes what it hands on.
std::unique_ptr<Layer> make_layer(const Entry& e, Flow& flow) {
  const std::string& kind = e.kind;
  if (!is_known(kind)) e.unsupported("", "a layer that C++ runs (see fastrnn/model.hpp)", "another");
  if (kind == "InputLayer" || kind == "Dropout" || kind == "SpatialDropout1D") return nullptr;
  if (e.string("dtype") != "float32") e.unsupported("dtype", "float32", shown(e.string("dtype")));
  if (kind == "Embedding") {
    if (!flow.ids) e.unsupported("", "Embedding as the first layer", "it behind another");
    const index vocabulary = e.integer("input_dim"), width = e.integer("output_dim");
    flow = {false, true, width};
    return std::make_unique<EmbeddingLayer>(e.where, vocabulary, width, e.flag("mask_zero"),
                                            e.tensor("embeddings", {vocabulary, width}));
  }
  if (kind == "Dense" || kind == "Activation") {
    if (flow.ids) e.damaged("input", "features", "ids");
    if (kind == "Activation") return std::make_unique<ActivationLayer>(e.where, flow.width, e.activation("activation"));
    const index inputs = flow.width;
    flow.width = e.integer("units");
    const std::vector<float> kernel = e.tensor("kernel", {inputs, flow.width});
    const std::vector<float> bias = e.flag("use_bias") ? e.tensor("bias", {flow.width}) : std::vector<float>();
    return std::make_unique<DenseLayer>(e.where, Dense(inputs, flow.width, kernel.data(), bias, e.activation("activation")));
  }
  expect_time(e, flow);
  if (kind == "SimpleRNN" || kind == "LSTM" || kind == "GRU") {
    Recurrent cell = make_recurrent(e, flow.width, "");
    flow.time = cell.sequences;
    flow.width = cell.hidden;
    return std::make_unique<RecurrentLayer>(e.where, std::move(cell));
  }
  if (kind == "Bidirectional") return make_bidirectional(e, flow);
  if (kind == "Conv1D") return make_conv(e, flow);
  if (kind == "MaxPooling1D" || kind == "AveragePooling1D")
    return std::make_unique<PoolLayer>(e.where, kind[0] == 'M', e.integer("pool_size"), e.integer("strides"),
                                       e.one_of("padding", {"valid", "same"}) == 1);
  if (kind == "GlobalMaxPooling1D" || kind == "GlobalAveragePooling1D") {
    flow.time = e.flag("keepdims");
    return std::make_unique<GlobalPoolLayer>(e.where, kind == "GlobalMaxPooling1D");
  }
  flow.time = false;
  return make_attention(e, flow);
}

// The part of the file that describes the model, checked as far as its outer form goes.
Json read_header(const TensorFile& file) {
  const std::string* text = file.metadata("fastrnn");
  if (!text) file.refuse("a safetensors file of another program");
  Json header;
  try {
    header = Json::parse(*text);
  } catch (const JsonError& error) {
    file.refuse(std::string("metadata that is not JSON of the right kind (expected ") + error.what() + ")");
  }
  const Json *version = header.find("version"), *format = header.find("format");
  int64_t number = 0;
  if (!version || !version->integer(1, 1, &number)) file.refuse("another version of the format (known: 1)");
  if (!format || !format->is(Json::Kind::string) || format->string() != "model")
    file.refuse("a file without a model (weights alone?)");
  return header;
}

// The input that the model was built for: (batch, time) of ids, (batch, time, features) or (batch, features).
Flow read_input(const TensorFile& file, const Json* shape, bool embedded, index* steps) {
  Flow flow;
  if (!shape || !shape->is(Json::Kind::array)) file.refuse("no input shape of the model");
  const std::vector<Json>& axes = shape->items();
  const size_t rank = axes.size();
  flow.ids = embedded;
  flow.time = embedded || rank == 3;
  if (embedded ? rank != 2 : rank != 2 && rank != 3) file.refuse("an input of " + std::to_string(rank) + " axes");
  if (flow.time && !axes[1].is(Json::Kind::null) && !axes[1].integer(1, kMost, steps))
    file.refuse("an input shape of no sense");
  if (!embedded && !axes[rank - 1].integer(1, kMost, &flow.width)) file.refuse("an input of an unknown number of features");
  return flow;
}

}  // namespace

std::unique_ptr<Model::State> build_model(const std::string& name, const TensorFile& file) {
  const Json header = read_header(file);
  const Json* config = header.find("config");
  const Json* described = config ? config->find("model") : nullptr;
  const Json* layers = described ? described->find("layers") : nullptr;
  if (!layers || !layers->is(Json::Kind::array)) file.refuse("no layers in its metadata");

  auto model = std::make_unique<Model::State>();
  std::set<std::string> used, names;
  std::optional<Flow> flow;
  index place = 0, vocabulary = 0;
  for (const Json& item : layers->items()) {
    const Json *kind = item.find("class_name"), *settings = item.find("config");
    const Json* called = settings ? settings->find("name") : nullptr;
    const std::string at = "layer " + std::to_string(place++);
    if (!kind || !kind->is(Json::Kind::string) || !called || !called->is(Json::Kind::string))
      file.refuse(at + " without class and name");
    const Entry entry(name, file, used, *settings, at, kind->string(), called->string());
    if (!names.insert(called->string()).second) entry.damaged("name", "one of its own", "that of another layer");
    if (kind->string() == "InputLayer") continue;
    if (!flow) {
      const bool embedded = kind->string() == "Embedding";
      flow = read_input(file, described->find("build_input_shape"), embedded, &model->steps);
      if (embedded) vocabulary = entry.integer("input_dim");
      model->takes_ids = flow->ids;
      model->has_time = flow->time;
      model->inputs = flow->width;
      model->widest = std::max<index>(1, flow->width);
    }
    std::unique_ptr<Layer> layer = make_layer(entry, *flow);
    if (layer) model->layers.push_back(std::move(layer));
    model->widest = std::max(model->widest, flow->width);
  }
  if (layers->items().empty()) file.refuse("no layers in its metadata");
  if (model->layers.empty())
    throw ModelError(ModelError::Kind::unsupported,
                     "[load_model] " + name + ": expected a layer that computes something, got Dropout or InputLayer alone");
  for (const auto& entry : file.tensors())
    if (!used.count(entry.first) && entry.first.rfind("optimizer/", 0) != 0)
      file.refuse("an unknown tensor '" + shown(entry.first) + "'");
  model->outputs = flow->width;

  const Json* extra = header.find("extra");
  const Json* encoder = extra ? extra->find("encoder") : nullptr;
  if (encoder && encoder->is(Json::Kind::string) && model->takes_ids) {
    try {
      model->encoder = std::make_unique<TextEncoder>(encoder->string(), vocabulary);
    } catch (const JsonError& error) {
      file.refuse(std::string("a vocabulary that cannot be used (expected ") + error.what() + ")");
    }
  }
  return model;
}

}  // namespace fastrnn
