"""Sequential.export: what ONNX Runtime computes from the file is what the model computes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastrnn.layers import (
    GRU,
    LSTM,
    Activation,
    Attention,
    AveragePooling1D,
    Bidirectional,
    Conv1D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    Input,
    Masking,
    MaxPooling1D,
    Permute,
    RepeatVector,
    Reshape,
    SimpleRNN,
    SpatialDropout1D,
    TimeDistributed,
    gates,
)
from fastrnn.models import Sequential

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import fastrnn.onnx  # noqa: E402
from onnx_tools import relative_error, run_runtime  # noqa: E402

CELLS = {"rnn": SimpleRNN, "lstm": LSTM, "gru": GRU, "gru_before": GRU}
cells = pytest.mark.parametrize("cell", CELLS)


def make(cell: str, units: int, **options: Any) -> Any:
    return CELLS[cell](units, **options, **({"reset_after": False} if cell == "gru_before" else {}))


def built(layers: list[Any], x: Any, seed: int = 0) -> Sequential:
    """A model of these layers with random weights, biases among them; not so large that they amplify rounding."""
    model, rng = Sequential(layers), np.random.default_rng(seed)
    model(x)
    model.set_weights([rng.standard_normal(w.shape) * 0.7 * w.shape[0] ** -0.5 for w in model.get_weights()])
    return model


def check(model: Sequential, x: Any, **options: Any) -> Any:
    """Export, check in full, compare ONNX Runtime and our own loader with the model; returns the ModelProto."""
    proto = fastrnn.onnx.to_proto(model, **options)
    onnx.checker.check_model(proto, full_check=True)
    x = x.astype(np.int64) if x.dtype.kind == "i" else x
    expected = model(x)
    expected = expected if isinstance(expected, list) else [expected]
    for actual in (run_runtime(proto, {"input": x}), list(fastrnn.onnx.load(proto).run({"input": x}).values())):
        assert len(actual) == len(expected)
        for a, e in zip(actual, expected, strict=True):
            assert relative_error(a, e) < 1e-6
    return proto


def kinds(proto: Any) -> list[str]:
    return [node.op_type for node in proto.graph.node]


def series(*shape: int, seed: int = 1) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# ---- recurrent layers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@cells
def test_recurrent(cell: str, direction: str, bias: bool, layers: int) -> None:
    def layer(sequences: bool) -> Any:
        inner = make(cell, 7, use_bias=bias, return_sequences=sequences, go_backwards=direction == "reverse")
        return Bidirectional(inner) if direction == "bidirectional" else inner

    for last in (True, False):
        x = series(3, 9, 4)
        proto = check(built([*(layer(True) for _ in range(layers - 1)), layer(last)], x), x)
        nodes = [node for node in proto.graph.node if node.op_type in ("RNN", "LSTM", "GRU")]
        assert [node.op_type for node in nodes] == [cell.split("_")[0].upper()] * layers
        assert all(
            b"".join(a.s for a in node.attribute if a.name == "direction").decode() == direction for node in nodes
        )


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_from_pytorch(cell: str, direction: str, bias: bool, layers: int) -> None:
    """PyTorch's weights, as layers, as ONNX, in ONNX Runtime: PyTorch's results."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(5)
    both = direction == "bidirectional"
    kind = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell]
    theirs = kind(4, 7, layers, bias=bias, bidirectional=both, batch_first=True)
    x = series(3, 9, 4)
    stack = [make(cell, 7, use_bias=bias, return_sequences=True) for _ in range(layers)]
    model = Sequential([Bidirectional(layer) for layer in stack] if both else stack)
    model(x)
    weights: list[Any] = []
    for k in range(layers):
        for suffix in ["", "_reverse"][: 1 + both]:
            names = ["weight_ih", "weight_hh"] + (["bias_ih", "bias_hh"] if bias else [])
            arrays = [getattr(theirs, f"{name}_l{k}{suffix}").detach().numpy() for name in names]
            if bias and cell != "gru":  # the layers have one bias
                arrays[2:] = [arrays[2] + arrays[3], None]
            weights += [w for w in gates.to_keras(cell, *arrays, *([] if bias else [None, None])) if w is not None]
    model.set_weights(weights)
    expected = theirs(torch.from_numpy(x))[0].detach().numpy()
    assert relative_error(model(x), expected) < 1e-6
    (actual,) = run_runtime(fastrnn.onnx.to_proto(model), {"input": x})
    assert relative_error(actual, expected) < 1e-6


ACTIVATIONS = [
    "relu", "linear", "hard_sigmoid", ("hard_sigmoid", 0.3, 0.4), ("elu", 0.7), "leaky_relu", "softsign", "softplus",
    ("scaled_tanh", 1.2, 0.8), ("affine", 0.6, 0.1), ("thresholded_relu", 0.4),
]  # fmt: skip


@pytest.mark.parametrize("spec", ACTIVATIONS, ids=str)
def test_recurrent_activations(spec: Any) -> None:
    x = series(3, 5, 4) / 4
    for layer in (
        SimpleRNN(3, activation=spec),
        GRU(3, recurrent_activation=spec),
        LSTM(3, activation=spec),
        Bidirectional(LSTM(3, activation=spec), backward_layer=LSTM(3, recurrent_activation=spec, go_backwards=True)),
    ):
        check(built([layer], x), x)


def test_an_activation_that_onnx_lacks_is_named() -> None:
    x = series(1, 2, 3)
    for layer, slot in (
        (LSTM(2, activation="gelu"), "activation"),
        (GRU(2, recurrent_activation="silu"), "recurrent_"),
    ):
        model = built([Dense(3), layer], x)
        with pytest.raises(fastrnn.onnx.Unsupported, match=rf"\[export\] layer '{layer.name}' \(.*, 2 of 2\): {slot}"):
            fastrnn.onnx.to_proto(model)


def test_one_node_for_both_directions_where_they_match() -> None:
    x = series(3, 6, 4)
    pairs = [
        (LSTM(3, return_sequences=True), LSTM(3, return_sequences=True, go_backwards=True), 1),
        (LSTM(3, use_bias=False), LSTM(3, go_backwards=True), 1),
        (GRU(3), GRU(3, go_backwards=True, reset_after=False), 2),
        (LSTM(3, return_sequences=True), LSTM(5, return_sequences=True, go_backwards=True), 2),
        (LSTM(3), GRU(3, go_backwards=True), 2),
        (GRU(3, return_sequences=True, go_backwards=True), GRU(3, return_sequences=True), 2),
    ]
    for one, other, nodes in pairs:
        proto = check(built([Bidirectional(one, backward_layer=other)], x), x)
        assert (
            len({"RNN", "LSTM", "GRU"} & {*kinds(proto)}) and sum(k in ("LSTM", "GRU") for k in kinds(proto)) == nodes
        )


def test_states_are_outputs() -> None:
    x = series(3, 6, 4)
    proto = check(built([LSTM(3, return_state=True, return_sequences=True)], x), x)
    assert [o.name for o in proto.graph.output] == ["output_0", "output_1", "output_2"]
    check(built([Bidirectional(GRU(3, return_state=True))], x), x)


# ---- masks ----------------------------------------------------------------------------------------------------------

# rows: full, padded in front, behind, gaps, both ends and a gap, nothing
MASKS = np.array(
    [[1, 2, 3, 4, 1, 2], [0, 0, 0, 3, 1, 2], [4, 2, 0, 0, 0, 0], [1, 0, 0, 2, 0, 3], [0, 2, 0, 0, 3, 0], [0] * 6]
)


@pytest.mark.parametrize("zero", [False, True], ids=["hold", "zero"])
@pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
@cells
def test_masks_of_any_form(cell: str, backwards: bool, zero: bool) -> None:
    def layer(**options: Any) -> Any:
        return make(cell, 4, go_backwards=backwards, zero_output_for_mask=zero, **options)

    for layers in (
        [layer(return_sequences=True)],
        [layer(return_sequences=True), layer(return_sequences=True), layer()],
        [layer(return_state=True)],
    ):
        check(built([Embedding(5, 3, mask_zero=True), *layers], MASKS), MASKS)


@pytest.mark.parametrize("mode", ["concat", "sum", "mul", "ave", None])
def test_masks_both_ways(mode: Any) -> None:
    for sequences in (True, False):
        layer = Bidirectional(LSTM(4, return_sequences=sequences), merge_mode=mode)
        proto = check(built([Embedding(5, 3, mask_zero=True), layer], MASKS), MASKS)
        assert kinds(proto).count("LSTM") == 1
    back = Bidirectional(GRU(4, return_sequences=True, go_backwards=True), backward_layer=GRU(4, return_sequences=True))
    check(built([Embedding(5, 3, mask_zero=True), back, LSTM(2)], MASKS), MASKS)


def test_masking_layer() -> None:
    x = series(3, 6, 4)
    x[0, 2:4], x[1], x[2, :3] = 0.5, 0.5, 0.5
    check(built([Masking(0.5), LSTM(4, return_sequences=True), Bidirectional(GRU(3))], x), x)


def test_padding_at_the_end_needs_lengths_alone() -> None:
    post = np.where(np.arange(6) < np.array([3, 6, 1, 0])[:, None], MASKS[:1], 0)
    layers = [LSTM(4, return_sequences=True), Bidirectional(GRU(3, return_sequences=True)), SimpleRNN(3)]
    model = built([Embedding(5, 3, mask_zero=True), *layers], post)
    proto = check(model, post, padding="post")
    assert "TopK" not in kinds(proto) and "TopK" in kinds(fastrnn.onnx.to_proto(model))
    with pytest.raises(ValueError, match=r"\[export\] padding: expected 'any' or 'post', got 'pre'"):
        fastrnn.onnx.to_proto(model, padding="pre")


# ---- other layers ---------------------------------------------------------------------------------------------------

WINDOWS = [
    *(Conv1D(5, k, padding=p, activation="relu") for k in (1, 3, 4) for p in ("valid", "same", "causal")),
    *(Conv1D(5, 3, padding=p, dilation_rate=2, use_bias=False) for p in ("valid", "same", "causal")),
    *(Conv1D(5, 4, padding=p, strides=3, activation="softmax") for p in ("valid", "same", "causal")),
    *(pool(size, step, p) for pool in (MaxPooling1D, AveragePooling1D)
      for size, step in ((2, None), (3, 2), (5, 2)) for p in ("valid", "same")),
]  # fmt: skip


@pytest.mark.parametrize("layer", WINDOWS, ids=lambda layer: layer.name)
def test_windows(layer: Any) -> None:
    for T in (11, 12):
        x = series(3, T, 4)
        model = built([layer], x)
        check(model, x)


OTHERS: dict[str, list[Any]] = {
    "dense": [Dense(5, activation="gelu"), Dense(3, use_bias=False), LSTM(3), Dense(2, activation="softmax")],
    "activations": [
        Dense(3, activation=a)
        for a in (*ACTIVATIONS, "tanh", "selu", "silu", "exponential", "sigmoid")
    ],
    "global": [GlobalMaxPooling1D(keepdims=True), GlobalAveragePooling1D(), Activation("softmax")],
    "reshaping": [Permute((2, 1)), Reshape((3, 16)), LSTM(3), RepeatVector(4), Flatten(), Dense(2)],
    "dropout": [Dropout(0.5), SpatialDropout1D(0.5), GRU(3, dropout=0.2, recurrent_dropout=0.2)],
    "time": [TimeDistributed(Dense(3, activation="tanh")), TimeDistributed(Dropout(0.1)), LSTM(2)],
    "additive": [Attention(6)],
    "dot": [Attention(score="dot")],
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_other_layers(name: str) -> None:
    x = series(3, 12, 4) / 4
    proto = check(built(OTHERS[name], x), x)
    assert "Dropout" not in kinds(proto)


def test_masks_reach_pooling_and_attention() -> None:
    for layer in (
        GlobalMaxPooling1D(), GlobalMaxPooling1D(keepdims=True), GlobalAveragePooling1D(), Attention(),
        Attention(score="dot"),
    ):  # fmt: skip
        check(built([Embedding(5, 3, mask_zero=True), Dense(4, activation="relu"), layer], MASKS), MASKS)


def test_time_distributed_layers_with_time_inside() -> None:
    x = series(3, 5, 6, 4)
    check(built([TimeDistributed(Conv1D(2, 3)), TimeDistributed(LSTM(3)), LSTM(2)], x), x)


# ---- axes, files, refusals ------------------------------------------------------------------------------------------


def axes(value: Any) -> list[Any]:
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def test_batch_and_time_are_open() -> None:
    model = Sequential([Input((20, 4)), Bidirectional(LSTM(3, return_sequences=True)), Conv1D(2, 3)])
    proto = fastrnn.onnx.to_proto(model)
    assert axes(proto.graph.input[0]) == ["batch", "time", 4]
    assert axes(proto.graph.output[0])[0] == "batch" and axes(proto.graph.output[0])[2] == 2
    for shape in ((1, 3, 4), (5, 30, 4)):
        x = series(*shape)
        assert relative_error(run_runtime(proto, {"input": x})[0], model(x)) < 1e-6
    text = Sequential([Input((20,)), Embedding(9, 3, mask_zero=True), GRU(3, return_sequences=True)])
    proto = fastrnn.onnx.to_proto(text)
    assert axes(proto.graph.input[0]) == ["batch", "time"] and axes(proto.graph.output[0]) == ["batch", "time", 3]
    fixed = fastrnn.onnx.to_proto(Sequential([Input((20, 4)), Flatten(), Dense(2)]))
    assert axes(fixed.graph.input[0]) == ["batch", 20, 4]


def test_float64_keeps_its_precision() -> None:
    from onnx.reference import ReferenceEvaluator

    pytest.importorskip("onnx", minversion="1.23")  # the evaluator had no Y_c before
    x = series(3, 6, 4).astype(np.float64)
    layers = [LSTM(5, dtype="float64", return_sequences=True), GRU(3, dtype="float64"), Dense(2, dtype="float64")]
    model = built(layers, x)
    proto = fastrnn.onnx.to_proto(model)
    assert relative_error(ReferenceEvaluator(proto).run(None, {"input": x})[0], model(x)) < 1e-14
    assert relative_error(fastrnn.onnx.load(proto)(x), model(x)) < 1e-14


def test_the_file(tmp_path: Path) -> None:
    x = np.array([[1, 2, 3]])
    model = built([Embedding(5, 3), LSTM(4), Dense(1, activation="sigmoid")], x)
    model.extra["labels"] = "no,yes"
    path = tmp_path / "m.onnx"
    model.export(path)
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]
    loaded = fastrnn.onnx.load(path)
    assert loaded.metadata == {"labels": "no,yes"}
    np.testing.assert_array_equal(loaded(x), model(x))
    with pytest.raises(ValueError, match=r"\[export\] filepath: expected a file, got the folder"):
        model.export(tmp_path)
    with pytest.raises(ValueError, match=r"\[export\] format: expected 'onnx', got 'tflite'"):
        model.export(path, format="tflite")


class Doubled(Dense):
    """An heir that computes something else."""


def test_what_cannot_be_exported_is_named() -> None:
    with pytest.raises(ValueError, match=r"\[export\] model: expected a built model"):
        fastrnn.onnx.to_proto(Sequential([LSTM(3)]))
    with pytest.raises(TypeError, match=r"\[export\] model: expected a Sequential, got Dense"):
        fastrnn.onnx.to_proto(Dense(3))
    stateful = Sequential([LSTM(3, stateful=True, batch_input_shape=(2, 4, 3), name="held")])
    with pytest.raises(fastrnn.onnx.Unsupported, match=r"layer 'held' \(LSTM, 1 of 1\): stateful: expected False"):
        fastrnn.onnx.to_proto(stateful)
    model = Sequential([Input((4,)), Dense(3), Doubled(2, name="twice")])
    with pytest.raises(
        fastrnn.onnx.Unsupported, match=r"layer 'twice' \(Doubled, 2 of 2\): expected one of Activation"
    ):
        fastrnn.onnx.to_proto(model)


@pytest.mark.parametrize(
    "code",
    [
        "import fastrnn, fastrnn.models; assert 'onnx' not in sys.modules",
        "sys.modules['onnx'] = None\n"
        "try: import fastrnn.onnx\n"
        "except ImportError as e: assert str(e) == \"[fastrnn.onnx] needs onnx: pip install 'fastrnn[onnx]'\", e\n"
        "else: raise AssertionError",
    ],
    ids=["lazy", "missing"],
)
def test_import(code: str) -> None:
    subprocess.run([sys.executable, "-c", f"import sys\n{code}"], check=True)
