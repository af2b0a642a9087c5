// The tokens of a batch, and convolution over embedded tokens.
#include <memory>

#include "arrays.hpp"
#include "fastrnn/ops.hpp"
#include "tokens.hpp"

namespace fastrnn::bindings {
namespace {

template <class Id>
TokenIndex index_ids(const py::array& ids, index vocabulary) {
  const py::array_t<Id, py::array::c_style | py::array::forcecast> in(ids);
  const Id* id = in.data();
  const index count = index(in.size());
  py::gil_scoped_release nogil;
  return index_tokens<Id>(count, id, vocabulary);
}

std::unique_ptr<PyTokens> make_index(const py::object& ids, index vocabulary) {
  const py::array a = as_array("token_index", "ids", ids);
  const char kind = a.dtype().kind();
  if (kind != 'i' && kind != 'u') fail_type("token_index", "ids", "an integer dtype", text(a.dtype()));
  const bool narrow = a.itemsize() < 4 || (a.itemsize() == 4 && kind == 'i');
  auto tokens = std::make_unique<PyTokens>();
  tokens->core = narrow ? index_ids<int32_t>(a, vocabulary) : index_ids<int64_t>(a, vocabulary);
  tokens->shape.assign(a.shape(), a.shape() + a.ndim());
  return tokens;
}

// An array that belongs to the index, for reading.
template <class T>
py::array shown(const py::object& owner, const T* data, const std::vector<index>& shape) {
  py::array_t<T> a(shape, data, owner);
  a.attr("flags").attr("writeable") = false;
  return std::move(a);
}

// The arguments of a convolution, checked.
template <class T>
struct TokenConv {
  Input<T> embedding, weight;
  ConvShape shape;

  TokenConv(const std::string& op, const PyTokens& tokens, const py::object& table, const py::object& filters,
            index stride, index dilation, index pad_left, index pad_right)
      : embedding(dense<T>(op, "embedding", table, "(V, E)", {tokens.core.vocabulary, -1}, "embedding")),
        weight(input<T>(op, "weight", filters, false, "embedding")) {
    if (tokens.shape.size() != 2)
      fail(op, "tokens", "ids of shape (B, T)", shape_text(tokens.shape.data(), int(tokens.shape.size())));
    const index channels = embedding.view.shape[1];
    if (weight.view.ndim != 3 || weight.view.shape[1] != channels)
      fail(op, "weight", "shape (F, E, K) with E = " + std::to_string(channels), shape_text(weight.view));
    for (int i = 0; i < 3; ++i)
      if (weight.view.shape[i] < 1) fail(op, "weight", "no empty axis", shape_text(weight.view));
    shape = {tokens.shape[0], tokens.shape[1], channels, weight.view.shape[0], weight.view.shape[2],
             stride, dilation, pad_left, pad_right};
  }
};

template <class T>
py::object forward(const PyTokens& tokens, const py::object& embedding, const py::object& weight,
                   const py::object& bias, index stride, index dilation, index left, index right,
                   const py::tuple& act) {
  const std::string op = "token_conv1d";
  const TokenConv<T> in(op, tokens, embedding, weight, stride, dilation, left, right);
  const ConvShape& s = in.shape;
  Input<T> b;
  if (!bias.is_none()) b = dense<T>(op, "bias", bias, "(F,)", {s.filters}, "embedding");
  auto y = new_array<T>({s.batch, s.out_time(), s.filters});
  T* out = y.mutable_data();
  {
    const Activation<T> a = activation<T>(act);
    py::gil_scoped_release nogil;
    token_conv1d<T>(s, tokens.core, in.embedding.data(), in.weight.view, b.view, a, out);
  }
  return std::move(y);
}

template <class T>
py::tuple backward(const PyTokens& tokens, const py::object& embedding, const py::object& weight, const py::object& y,
                   const py::object& grad_y, index stride, index dilation, index left, index right,
                   const py::tuple& act, bool need_grad_embedding, bool has_bias) {
  const std::string op = "token_conv1d_backward";
  const TokenConv<T> in(op, tokens, embedding, weight, stride, dilation, left, right);
  const ConvShape& s = in.shape;
  const std::vector<index> expected{s.batch, s.out_time(), s.filters};
  const Input<T> out = dense<T>(op, "y", y, "of the output", expected, "embedding"),
                 dy = dense<T>(op, "grad_y", grad_y, "of the output", expected, "embedding");
  auto dw = new_array<T>({s.filters, s.channels, s.kernel});
  py::object de = py::none(), db = py::none();
  T *pe = nullptr, *pb = nullptr, *pw = dw.mutable_data();
  if (need_grad_embedding) {
    auto a = new_array<T>({tokens.core.vocabulary, s.channels});
    pe = a.mutable_data();
    de = a;
  }
  if (has_bias) {
    auto a = new_array<T>({s.filters});
    pb = a.mutable_data();
    db = a;
  }
  {
    const Activation<T> a = activation<T>(act);
    py::gil_scoped_release nogil;
    token_conv1d_backward<T>(s, tokens.core, in.embedding.data(), in.weight.view, a, out.data(), dy.data(), pe, pw, pb);
  }
  return py::make_tuple(de, dw, db);
}

}  // namespace

void bind_tokens(py::module_& m) {
  py::class_<PyTokens>(m, "TokenIndex", "The distinct tokens of an array of ids and where they stand.")
      .def_property_readonly("shape", [](const PyTokens& t) {
        py::tuple shape(t.shape.size());
        for (size_t i = 0; i < t.shape.size(); ++i) shape[i] = t.shape[i];
        return shape;
      })
      .def_property_readonly("num_embeddings", [](const PyTokens& t) { return t.core.vocabulary; })
      .def_property_readonly("tokens", [](const py::object& self) {
        const auto& t = self.cast<const PyTokens&>().core;
        return shown(self, t.token.data(), {t.distinct});
      })
      .def_property_readonly("inverse", [](const py::object& self) {
        const auto& t = self.cast<const PyTokens&>();
        return shown(self, t.core.inverse.data(), t.shape);
      })
      .def_property_readonly("order", [](const py::object& self) {
        const auto& t = self.cast<const PyTokens&>().core;
        return shown(self, t.order.data(), {t.positions});
      })
      .def_property_readonly("start", [](const py::object& self) {
        const auto& t = self.cast<const PyTokens&>().core;
        return shown(self, t.start.data(), {t.distinct + 1});
      })
      .def("__len__", [](const PyTokens& t) { return t.core.distinct; });
  m.def("token_index", &make_index);
  m.def("token_conv1d", [](const PyTokens& tokens, const py::object& embedding, const py::object& weight,
                           const py::object& bias, index stride, index dilation, index left, index right,
                           const py::tuple& act) {
    const bool wide = is_double("token_conv1d", "embedding", embedding);
    return (wide ? forward<double> : forward<float>)(tokens, embedding, weight, bias, stride, dilation, left, right,
                                                     act);
  });
  m.def("token_conv1d_backward", [](const PyTokens& tokens, const py::object& embedding, const py::object& weight,
                                    const py::object& y, const py::object& grad_y, index stride, index dilation,
                                    index left, index right, const py::tuple& act, bool need_grad_embedding,
                                    bool has_bias) {
    const bool wide = is_double("token_conv1d_backward", "embedding", embedding);
    return (wide ? backward<double> : backward<float>)(tokens, embedding, weight, y, grad_y, stride, dilation, left,
                                                       right, act, need_grad_embedding, has_bias);
  });
}

}  // namespace fastrnn::bindings
