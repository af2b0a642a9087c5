"""fastrnn.onnx.load: every attribute of RNN, LSTM and GRU against ONNX Runtime, models of other exporters."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import helper  # noqa: E402

import fastrnn.onnx  # noqa: E402
from fastrnn.onnx.export import to_proto  # noqa: E402
from fastrnn.onnx.node import OPERATORS  # noqa: E402
from onnx_tools import graph_model, recurrent_arrays, recurrent_model, relative_error, run_runtime  # noqa: E402

OPS = ["RNN", "LSTM", "GRU"]
DIRECTIONS = ["forward", "reverse", "bidirectional"]
ops = pytest.mark.parametrize("op", OPS)
directions = pytest.mark.parametrize("direction", DIRECTIONS)


def count(direction: str) -> int:
    return 2 if direction == "bidirectional" else 1


def compare(model: Any, inputs: dict[str, Any], bound: float = 1e-6) -> None:
    """Our results and ONNX Runtime's."""
    actual = list(fastrnn.onnx.load(model).run(inputs).values())
    expected = run_runtime(model, inputs)
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        assert relative_error(a, e) < bound


# ---- recurrent nodes


@pytest.mark.parametrize("fixed", [True, False], ids=["packed", "inputs"])
@pytest.mark.parametrize("lengths", [True, False], ids=["ragged", "full"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@directions
@ops
def test_inputs(op: str, direction: str, bias: bool, lengths: bool, fixed: bool) -> None:
    rng = np.random.default_rng(1)
    for states in (True, False):
        arrays = recurrent_arrays(op, rng, D=count(direction), bias=bias, lengths=lengths, states=states)
        for extra in ({"linear_before_reset": 0}, {"linear_before_reset": 1}) if op == "GRU" else ({},):
            model, inputs = recurrent_model(op, arrays, fixed=fixed, direction=direction, **extra)
            compare(model, inputs)


@pytest.mark.parametrize("opset", [7, 14, 17, 22])
@ops
def test_opsets(op: str, opset: int) -> None:
    compare(*recurrent_model(op, recurrent_arrays(op, np.random.default_rng(2)), opset=opset))


@directions
@ops
def test_layout_1(op: str, direction: str) -> None:
    """ONNX Runtime refuses it; it is layout 0 with the batch first."""
    rng = np.random.default_rng(3)
    arrays = recurrent_arrays(op, rng, D=count(direction), lengths=True, states=True)
    model, inputs = recurrent_model(op, arrays, direction=direction)
    expected = fastrnn.onnx.load(model).run(inputs)
    model, inputs = recurrent_model(op, arrays, direction=direction, layout=1)
    turned = {name: x.swapaxes(0, 1) if x.ndim == 3 else x for name, x in inputs.items()}
    actual = fastrnn.onnx.load(model).run(turned)
    np.testing.assert_array_equal(actual["Y"], expected["Y"].transpose(2, 0, 1, 3))
    for name in list(expected)[1:]:
        np.testing.assert_array_equal(actual[name], expected[name].transpose(1, 0, 2))


# per direction: names, alphas, betas; every activation of the specification is among them
LISTS = {
    "RNN": [["Relu"], ["Tanh"], ["LeakyRelu"], ["Affine"], ["Elu"], ["Softsign"], ["Softplus"], ["ScaledTanh"]],
    "LSTM": [
        ["HardSigmoid", "ScaledTanh", "Affine"], ["Sigmoid", "ThresholdedRelu", "LeakyRelu"],
        ["Sigmoid", "HardSigmoid", "Softsign"], ["sigmoid", "Elu", "Tanh"],
    ],
    "GRU": [
        ["HardSigmoid", "Affine"], ["Sigmoid", "LeakyRelu"], ["HardSigmoid", "ScaledTanh"], ["Sigmoid", "Softplus"],
    ],
}  # fmt: skip
ALPHA = {"leakyrelu": 0.05, "affine": 0.6, "elu": 0.7, "scaledtanh": 1.2, "hardsigmoid": 0.3, "thresholdedrelu": 0.2}
BETA = {"affine": 0.1, "scaledtanh": 0.8, "hardsigmoid": 0.4}


def activation_attributes(names: list[str]) -> dict[str, Any]:
    alphas = [ALPHA[n.lower()] for n in names if n.lower() in ALPHA]
    betas = [BETA[n.lower()] for n in names if n.lower() in BETA]
    given = {"activations": names, "activation_alpha": alphas, "activation_beta": betas}
    return {key: value for key, value in given.items() if value}


@ops
def test_activations(op: str) -> None:
    rng = np.random.default_rng(4)
    lists = LISTS[op]
    for one, other in zip(lists, [*lists[1:], lists[0]], strict=True):
        arrays = recurrent_arrays(op, rng)
        compare(*recurrent_model(op, arrays, **activation_attributes(one)))
        arrays = recurrent_arrays(op, rng, D=2)
        compare(*recurrent_model(op, arrays, direction="bidirectional", **activation_attributes([*one, *other])))


def test_names_of_activations_in_any_case() -> None:
    arrays = recurrent_arrays("RNN", np.random.default_rng(4))
    one, other = (
        fastrnn.onnx.load(recurrent_model("RNN", arrays, activations=[n])[0]) for n in ("softSIGN", "Softsign")
    )
    np.testing.assert_array_equal(one(arrays["X"])[0], other(arrays["X"])[0])


@directions
def test_peepholes_and_coupled_gates(direction: str) -> None:
    rng = np.random.default_rng(5)
    for peepholes, coupled in ((True, 0), (False, 1), (True, 1)):
        for lengths in (False, True):
            arrays = recurrent_arrays(
                "LSTM", rng, D=count(direction), lengths=lengths, states=True, peepholes=peepholes
            )
            compare(*recurrent_model("LSTM", arrays, direction=direction, input_forget=coupled))


@directions
@ops
def test_clip(op: str, direction: str) -> None:
    """Bounds the sums that go into the activations of the gates, and not the state."""
    rng = np.random.default_rng(6)
    arrays = recurrent_arrays(op, rng, D=count(direction), lengths=True)
    model, inputs = recurrent_model(op, arrays, direction=direction, clip=0.3)
    free = fastrnn.onnx.load(recurrent_model(op, arrays, direction=direction)[0]).run(inputs)
    assert relative_error(fastrnn.onnx.load(model).run(inputs)["Y"], free["Y"]) > 0.01
    compare(model, inputs)


@pytest.mark.parametrize("before", [0, 1])
@directions
@ops
def test_the_plain_recurrence_is_the_kernels(op: str, direction: str, before: int) -> None:
    """A clip that never binds changes nothing but who computes."""
    if before and op != "GRU":
        pytest.skip("GRU alone has it")
    arrays = recurrent_arrays(
        op, np.random.default_rng(7), D=count(direction), lengths=True, states=True, dtype=np.float64
    )
    extra = {"linear_before_reset": before} if op == "GRU" else {}
    model, inputs = recurrent_model(op, arrays, direction=direction, **extra)
    clipped, _ = recurrent_model(op, arrays, direction=direction, clip=1e6, **extra)
    expected, actual = (fastrnn.onnx.load(m).run(inputs) for m in (model, clipped))
    for name in expected:
        assert relative_error(actual[name], expected[name]) < 1e-14


def test_a_negative_elu() -> None:
    arrays = recurrent_arrays("RNN", np.random.default_rng(8))
    compare(*recurrent_model("RNN", arrays, activations=["Elu"], activation_alpha=[-0.5]))


@ops
def test_float16(op: str) -> None:
    """Computed in float32, rounded at the end."""
    arrays = recurrent_arrays(op, np.random.default_rng(9), states=True, dtype=np.float16)
    model, inputs = recurrent_model(op, arrays, opset=22)
    wide = {name: a.astype(np.float32) for name, a in arrays.items()}
    model32, inputs32 = recurrent_model(op, wide)
    expected = fastrnn.onnx.load(model32).run(inputs32)
    for name, array in fastrnn.onnx.load(model).run(inputs).items():
        np.testing.assert_array_equal(array, expected[name].astype(np.float16))


@given(
    op=st.sampled_from(OPS), direction=st.sampled_from(DIRECTIONS), seed=st.integers(0, 2**32 - 1),
    T=st.integers(0, 4), B=st.integers(0, 3), I=st.integers(1, 5), H=st.integers(1, 18),
    bias=st.booleans(), states=st.booleans(), ragged=st.booleans(), clip=st.booleans(),
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_odd_shapes(
    op: str, direction: str, seed: int, T: int, B: int, I: int, H: int, bias: bool, states: bool, ragged: bool,
    clip: bool,
) -> None:  # fmt: skip
    """No steps and no rows too: nothing comes out, and the states are the initial ones."""
    rng, D = np.random.default_rng(seed), count(direction)
    arrays = recurrent_arrays(op, rng, D=D, T=T, B=B, I=I, H=H, bias=bias, states=states)
    if ragged:
        arrays["sequence_lens"] = rng.integers(0, T + 1, B).astype(np.int32)
    model, inputs = recurrent_model(op, arrays, direction=direction, **({"clip": 0.5} if clip else {}))
    actual = fastrnn.onnx.load(model).run(inputs)
    assert actual["Y"].shape == (T, D, B, H)
    if T and B and (not ragged or arrays["sequence_lens"].min() > 0):
        for a, e in zip(actual.values(), run_runtime(model, inputs), strict=True):
            assert relative_error(a, e) < 2e-6
    empty = np.zeros(B, bool) if T else np.ones(B, bool)
    empty |= arrays["sequence_lens"] == 0 if ragged else False
    assert not actual["Y"][:, :, empty].any()
    for name, first in (("Y_h", "initial_h"), ("Y_c", "initial_c")):
        if name in actual:
            expected = arrays.get(first, np.zeros((D, B, H), np.float32))
            np.testing.assert_array_equal(actual[name][:, empty], expected[:, empty])


# ---- whole models


@pytest.mark.filterwarnings("ignore")  # of PyTorch's exporter
@pytest.mark.parametrize("both", [False, True], ids=["forward", "bidirectional"])
@pytest.mark.parametrize("cell", OPS)
def test_models_of_pytorch(cell: str, both: bool) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)

    class Net(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Embedding(20, 5)
            self.conv = torch.nn.Conv1d(5, 6, 3, padding=1)
            self.cell = getattr(torch.nn, cell)(6, 7, 2, batch_first=True, bidirectional=both, dropout=0.1)
            self.out = torch.nn.Linear(7 * (1 + both), 3)

        def forward(self, ids: Any) -> Any:
            x = torch.relu(self.conv(self.table(ids).transpose(1, 2))).transpose(1, 2)
            y = self.cell(x)[0]
            return torch.softmax(self.out(y[:, -1]), dim=-1), y.max(dim=1).values

    net = Net().eval()
    ids = torch.randint(0, 20, (3, 9))
    file = io.BytesIO()
    torch.onnx.export(
        net, (ids,), file, dynamo=False, input_names=["ids"], dynamic_axes={"ids": {0: "batch", 1: "time"}}
    )
    model = fastrnn.onnx.load(file.getvalue())
    for shape in ((3, 9), (1, 4)):
        ids = torch.randint(0, 20, shape)
        for a, e in zip(model(ids.numpy()), net(ids), strict=True):
            assert relative_error(a, e.detach().numpy()) < 1e-6


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cell", OPS)
def test_models_of_pytorch_with_its_newer_exporter(cell: str, tmp_path: Any) -> None:
    """Its files may keep weights in a second one, beside the model."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    net = getattr(torch.nn, cell)(4, 5, 2, batch_first=True, bidirectional=True).eval()
    x = torch.randn(3, 6, 4)
    path = tmp_path / "m.onnx"
    torch.onnx.export(net, (x,), path, dynamo=True, external_data=True, verbose=False)
    actual = fastrnn.onnx.load(path)(x.numpy())
    assert relative_error(actual[0], net(x)[0].detach().numpy()) < 1e-6


def test_a_model_as_tf2onnx_writes_it() -> None:
    """Lengths and zero states computed from the shape, a concatenation of both directions by Transpose and Reshape."""
    rng = np.random.default_rng(10)
    arrays = recurrent_arrays("LSTM", rng, D=2, I=4, H=3)
    x = rng.standard_normal((5, 6, 4)).astype(np.float32)
    constants = {n: arrays[n] for n in "WRB"}
    constants |= {
        "zero": np.array([0]), "one": np.array([1]), "two": np.array([2]), "head": np.array([2]), "wide": np.array([3]),
        "flat": np.array([0, 0, -1]), "last": np.array(-1),
    }  # fmt: skip
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Slice", ["shape", "zero", "one"], ["rows"]),
        helper.make_node("Slice", ["shape", "one", "two"], ["steps"]),
        helper.make_node("Cast", ["steps"], ["steps32"], to=onnx.TensorProto.INT32),
        helper.make_node("Expand", ["steps32", "rows"], ["lengths"]),
        helper.make_node("Concat", ["head", "rows", "wide"], ["state"], axis=0),
        helper.make_node("ConstantOfShape", ["state"], ["h0"]),
        helper.make_node("Transpose", ["x"], ["xt"], perm=[1, 0, 2]),
        helper.make_node(
            "LSTM", ["xt", "W", "R", "B", "lengths", "h0", "h0"], ["Y"], hidden_size=3, direction="bidirectional"
        ),
        helper.make_node("Transpose", ["Y"], ["yt"], perm=[2, 0, 1, 3]),
        helper.make_node("Reshape", ["yt", "flat"], ["y"]),
        helper.make_node("Gather", ["y", "last"], ["end"], axis=1),
        helper.make_node("Identity", ["end"], ["out"]),
    ]
    model = graph_model(nodes, {"x": x}, ["out"], constants)
    compare(model, {"x": x})
    assert fastrnn.onnx.load(model)(x[:, :2]).shape == (5, 6)


def test_windows_of_every_kind() -> None:
    rng = np.random.default_rng(11)
    x = rng.standard_normal((2, 4, 11)).astype(np.float32)
    w = rng.standard_normal((6, 2, 3)).astype(np.float32)
    for attributes in (
        {"pads": [2, 1]}, {"strides": [2], "auto_pad": "SAME_LOWER"}, {"dilations": [2], "pads": [0, 3]},
        {"auto_pad": "SAME_UPPER"}, {"auto_pad": "VALID", "strides": [4]},
    ):  # fmt: skip
        node = helper.make_node("Conv", ["x", "w"], ["y"], group=2, **attributes)
        compare(graph_model([node], {"x": x}, ["y"], {"w": w}), {"x": x})
    for kind, attributes in (
        ("MaxPool", {"pads": [1, 0], "ceil_mode": 1, "strides": [3]}),
        ("MaxPool", {"dilations": [2], "strides": [2]}),
        ("AveragePool", {"pads": [1, 1], "strides": [2], "count_include_pad": 1}),
        ("AveragePool", {"pads": [0, 1], "strides": [2]}),
        ("AveragePool", {"auto_pad": "SAME_UPPER", "strides": [2]}),
    ):
        node = helper.make_node(kind, ["x"], ["y"], kernel_shape=[3], **attributes)
        compare(graph_model([node], {"x": x}, ["y"]), {"x": x})


# ---- calls


def test_how_a_model_is_called() -> None:
    model, inputs = recurrent_model("LSTM", recurrent_arrays("LSTM", np.random.default_rng(12), states=True))
    loaded = fastrnn.onnx.load(model.SerializeToString())
    assert list(loaded.inputs) == ["X", "initial_h", "initial_c"] and list(loaded.outputs) == ["Y", "Y_h", "Y_c"]
    expected = loaded.run(inputs)
    for result in (loaded(*inputs.values()), loaded(inputs["X"], **{k: inputs[k] for k in ("initial_h", "initial_c")})):
        assert isinstance(result, list)
        for a, e in zip(result, expected.values(), strict=True):
            np.testing.assert_array_equal(a, e)
    np.testing.assert_array_equal(loaded.run({k: v.tolist() for k, v in inputs.items()})["Y"], expected["Y"])


def test_bad_calls() -> None:
    node = helper.make_node("Add", ["a", "b"], ["y"], name="sum")
    x = np.ones((2, 3), np.float32)
    model = fastrnn.onnx.load(graph_model([node], {"a": x, "b": x}, ["y"]))
    for inputs, error, words in (
        ({"a": x}, ValueError, r"\[onnx.run\] b: expected an array, got none"),
        ({"a": x, "b": x, "c": x}, ValueError, r"inputs: expected a, b, got 'c'"),
        ({"a": x, "b": x[0]}, ValueError, r"b: expected shape \('\?', '\?'\), got \(3,\)"),
        ({"a": x, "b": x > 0}, TypeError, r"b: expected float32, got bool"),
        ({"a": x, "b": x[:, :2]}, ValueError, r"node 'sum' \(Add, 1 of 1\): inputs: expected shapes that broadcast"),
        ([x, x], TypeError, r"inputs: expected a dictionary"),
    ):
        with pytest.raises(error, match=words):
            model.run(inputs)
    with pytest.raises(TypeError, match=r"inputs: expected 2 \(a, b\), got 3"):
        model(x, x, x)


def test_initialisers_that_are_inputs_are_defaults() -> None:
    """Files before IR 4 list all weights among the inputs."""
    arrays = recurrent_arrays("GRU", np.random.default_rng(13))
    model, inputs = recurrent_model("GRU", arrays)
    for name in "WRB":
        model.graph.input.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, arrays[name].shape))
    loaded = fastrnn.onnx.load(model)
    expected = run_runtime(model, inputs)
    assert relative_error(loaded(arrays["X"])[0], expected[0]) < 1e-6
    other = {**inputs, "B": arrays["B"] + 1}
    assert relative_error(loaded.run(other)["Y"], run_runtime(model, other)[0]) < 1e-6


def test_the_documented_operators_are_the_operators() -> None:
    page = Path(__file__).parents[1] / "docs" / "onnx.md"
    if not page.exists():
        pytest.skip("the documentation is not here")
    listed = page.read_text().split("## What is run")[1].split("Element types")[0]
    assert set(OPERATORS) <= set(re.findall(r"\b[A-Z][A-Za-z]+\b", listed))


def test_results_are_the_caller_s_own() -> None:
    x, a = np.ones((2, 3), np.float32), np.full((2, 3), 2, np.float32)
    nodes = [helper.make_node("Add", ["a", "a"], ["y"]), helper.make_node("Flatten", ["x"], ["z"])]
    model = fastrnn.onnx.load(graph_model(nodes, {"x": x}, ["y", "z"], {"a": a}))
    first = model.run({"x": x})
    for result in first.values():
        result[:] = 99
    again = model.run({"x": x})
    np.testing.assert_array_equal(again["y"], 2 * a)
    np.testing.assert_array_equal(x, np.ones((2, 3)))
    flat = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Flatten", ["y"], ["z"])]
    both = fastrnn.onnx.load(graph_model(flat, {"x": x}, ["y", "z"])).run({"x": memoryview(x)})
    both["y"][:] = 7
    np.testing.assert_array_equal(both["z"], x)
    same = fastrnn.onnx.load(graph_model([helper.make_node("Identity", ["x"], ["y"])], {"x": x}, ["y"]))
    same(memoryview(x))[:] = 7
    np.testing.assert_array_equal(x, np.ones((2, 3)))


def test_an_unnamed_result_is_no_input() -> None:
    arrays = recurrent_arrays("RNN", np.random.default_rng(0), bias=False)
    x = arrays.pop("X")
    plain = helper.make_node("RNN", ["x", "W", "R", "", "", ""], ["y"], hidden_size=arrays["R"].shape[-1])
    split = helper.make_node("TopK", ["c", "k"], ["", "at"], axis=-1)
    more = {"c": np.ones((1, 2 * arrays["R"].shape[-1]), np.float32), "k": np.array([2 * arrays["R"].shape[-1]])}
    results = [
        fastrnn.onnx.load(graph_model(nodes, {"x": x}, ["y"], {**arrays, **given})).run({"x": x})["y"]
        for nodes, given in (([plain], {}), ([split, plain], more))
    ]
    np.testing.assert_array_equal(*results)


def test_an_initial_state_of_another_rank_is_refused_with_layout_1() -> None:
    arrays = recurrent_arrays("GRU", np.random.default_rng(1), states=True)
    model, inputs = recurrent_model("GRU", arrays, layout=1)
    for entry in model.graph.input:
        entry.type.tensor_type.ClearField("shape")
    loaded = fastrnn.onnx.load(model)
    state = np.swapaxes(inputs["initial_h"], 0, 1)
    with pytest.raises(ValueError, match="initial_h: expected shape"):
        loaded.run({"X": np.swapaxes(inputs["X"], 0, 1), "initial_h": state[:, 0]})


@pytest.mark.parametrize("reverse", [0, 1])
def test_exclusive_sums_neither_round_nor_cancel(reverse: int) -> None:
    for values in ([1, 1e8, 1], [1, np.inf, 2], []):
        x = np.array(values, np.float32)
        node = helper.make_node("CumSum", ["x", "axis"], ["y"], exclusive=1, reverse=reverse)
        model = graph_model([node], {"x": x}, ["y"], {"axis": np.array(0)})
        np.testing.assert_array_equal(fastrnn.onnx.load(model)(x), run_runtime(model, {"x": x})[0])


@pytest.mark.parametrize("op", ["Max", "Sum", "Concat"])
def test_a_variadic_input_without_a_name_is_named(op: str) -> None:
    x = np.ones((2, 3), np.float32)
    options = {"axis": 0} if op == "Concat" else {}
    model = graph_model([helper.make_node(op, ["x", ""], ["y"], **options)], {"x": x}, ["y"])
    with pytest.raises(ValueError, match=rf"\({op}, 1 of 1\): .*expected an input"):
        fastrnn.onnx.load(model)


def test_a_range_without_end_is_refused() -> None:
    given = {"a": np.float32(-3e38), "b": np.float32(3e38), "c": np.float32(1e-38)}
    node = helper.make_node("Range", ["a", "b", "c"], ["y"])
    with pytest.raises(ValueError, match=r"expected a (countable range|result of at most)"):
        fastrnn.onnx.load(graph_model([node], {}, ["y"], {k: np.asarray(v) for k, v in given.items()}))


@pytest.mark.parametrize(
    ("start", "end", "step"), [(-100, -1000, -1), (100, -100, -2), (2, -100, -1), (-1, 0, -1), (-100, 3, 1)]
)
def test_slices_beyond_the_ends(start: int, end: int, step: int) -> None:
    x = np.arange(5, dtype=np.float32)
    given = {"s": np.array([start]), "e": np.array([end]), "a": np.array([0]), "t": np.array([step])}
    model = graph_model([helper.make_node("Slice", ["x", "s", "e", "a", "t"], ["y"])], {"x": x}, ["y"], given)
    np.testing.assert_array_equal(fastrnn.onnx.load(model)(x), run_runtime(model, {"x": x})[0])


@pytest.mark.parametrize(
    ("shape", "wanted", "result"),
    [((0, 5, 2, 3), [0, 0, -1], (0, 5, 6)), ((4, 0, 6), [0, 0, -1], (4, 0, 6)), ((0, 3), [-1, 3], (0, 3))],
)
def test_reshaping_nothing(shape: tuple[int, ...], wanted: list[int], result: tuple[int, ...]) -> None:
    x = np.zeros(shape, np.float32)
    node = helper.make_node("Reshape", ["x", "s"], ["y"])
    assert fastrnn.onnx.load(graph_model([node], {"x": x}, ["y"], {"s": np.array(wanted)}))(x).shape == result


def test_the_attribute_of_an_old_top_k() -> None:
    x = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    model = graph_model([helper.make_node("TopK", ["x"], ["y", "i"], k=2)], {"x": x}, ["y"], {}, 9)
    np.testing.assert_array_equal(fastrnn.onnx.load(model)(x), run_runtime(model, {"x": x})[0])


def test_uneven_parts_are_refused_where_onnx_has_none() -> None:
    x = np.zeros((2, 3), np.float32)
    model = graph_model([helper.make_node("Split", ["x"], ["y", "z"], axis=1)], {"x": x}, ["y", "z"], {}, 13)
    with pytest.raises(ValueError, match=r"\(Split, 1 of 1\): split: expected 2 equal parts of 3"):
        fastrnn.onnx.load(model)(x)


def test_an_extent_below_zero_is_open() -> None:
    x = np.ones((2, 3), np.float32)
    model = graph_model([helper.make_node("Relu", ["x"], ["y"])], {"x": x}, ["y"])
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    assert fastrnn.onnx.load(model)(x).shape == (2, 3)


def test_an_embedding_at_each_step_takes_integers() -> None:
    layers = [fastrnn.layers.TimeDistributed(fastrnn.layers.Embedding(9, 3)), fastrnn.layers.Flatten()]
    model = fastrnn.Sequential([fastrnn.Input((5, 4), dtype="int64"), *layers])
    ids = np.random.default_rng(0).integers(0, 9, (2, 5, 4))
    proto = to_proto(model)
    expected = model.predict(ids, verbose=0)
    assert relative_error(fastrnn.onnx.load(proto)(ids), expected) < 1e-6
    assert relative_error(run_runtime(proto, {proto.graph.input[0].name: ids})[0], expected) < 1e-6
