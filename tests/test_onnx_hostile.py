"""Files that lie: sizes, names, cycles, other files, unknown operators. A clear error, and nothing allocated."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import fastrnn.onnx  # noqa: E402
from onnx_tools import graph_model, recurrent_arrays, recurrent_model  # noqa: E402

X = np.ones((2, 3), np.float32)
make = helper.make_node


def refused(model: Any, words: str, error: type[Exception] = ValueError, **options: Any) -> None:
    with pytest.raises(error, match=words):
        fastrnn.onnx.load(model, **options)


def relu(**constants: Any) -> Any:
    return graph_model([helper.make_node("Add", ["x", "w"], ["y"])], {"x": X}, ["y"], {"w": X, **constants})


# ---- tensors


@pytest.mark.parametrize(
    ("dims", "data", "words"),
    [
        ([1 << 40], b"abcd", r"raw_data: expected 4398046511104 bytes for FLOAT \[1099511627776\], got 4"),
        ([-1, 3], b"abcd", r"dims: expected extents >= 0"),
        ([0, 1 << 62, 1 << 62], b"", r"dims: expected extents >= 0 of a tensor that fits in memory"),
        ([1] * 40, b"abcd", r"dims: expected extents >= 0 of a tensor that fits"),
        ([3], b"abcd", r"raw_data: expected 12 bytes for FLOAT \[3\], got 4"),
    ],
)
def test_sizes(dims: list[int], data: bytes, words: str) -> None:
    model = relu()
    del model.graph.initializer[:]
    model.graph.initializer.append(TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, raw_data=data))
    refused(model, rf"\[onnx.load\] initializer 'w': {words}")


def test_values_that_do_not_fit_their_type() -> None:
    model = relu()
    tensor = model.graph.initializer[0]
    tensor.CopyFrom(TensorProto(name="w", data_type=TensorProto.INT8, dims=[2], int32_data=[1, 300]))
    refused(model, r"values: expected those of INT8, got 1 to 300")
    tensor.CopyFrom(TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], float_data=[1]))
    refused(model, r"float_data: expected 2 values for dims \[2\], got 1")
    tensor.CopyFrom(TensorProto(name="w", data_type=TensorProto.STRING, dims=[1], string_data=[b"a"]))
    refused(model, r"expected one of FLOAT, .*, got STRING")
    tensor.CopyFrom(TensorProto(name="w", data_type=99, dims=[1]))
    refused(model, r"got element type 99")


def external(location: str, **entries: Any) -> Any:
    model = relu()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    return model


def test_external_data_stays_in_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    secret = tmp_path / "secret.bin"
    secret.write_bytes(X.tobytes())
    (folder / "w.bin").write_bytes(b"head" + X.tobytes())
    os.symlink(secret, folder / "link.bin")
    path = folder / "m.onnx"

    def write(model: Any) -> Path:
        path.write_bytes(model.SerializeToString())
        return path

    np.testing.assert_array_equal(fastrnn.onnx.load(write(external("w.bin", offset=4, length=24)))(X), X + X)
    for location in ("../secret.bin", str(secret), "link.bin", "", "a\0b"):
        refused(write(external(location)), r"external data: expected a file in the model's folder, got")
    refused(write(external("none.bin")), r"expected the file 'none.bin' beside the model, found none")
    refused(write(external(".")), r"expected the file '.' beside the model, found none")
    refused(write(external("w.bin", offset=8)), r"expected bytes 8 to 32 of 'w.bin', it has 28")
    refused(write(external("w.bin", offset=-4)), r"expected bytes -4 to 20")
    refused(write(external("w.bin", length=1 << 40)), r"expected 24 bytes for its dims, got length 1099511627776")
    refused(write(external("w.bin", offset="x")), r"expected integers for offset and length")
    refused(external("w.bin"), r"external data: expected a model loaded from a file, got one in memory")


# ---- graphs


def test_names_and_cycles() -> None:
    def load(nodes: list[Any], words: str) -> None:
        refused(graph_model(nodes, {"x": X}, ["y"]), words)

    cycle = [make("Add", ["x", "b"], ["a"], name="first"), make("Relu", ["a"], ["b"]), make("Relu", ["b"], ["y"])]
    load(cycle, r"node 'first' \(Add, 1 of 3\): expected input 'b' to be the result of a node before it \(cycles")
    load([make("Relu", ["y"], ["y"])], r"expected input 'y' to be the result of a node before it")
    load([make("Relu", ["x"], ["y"]), make("Tanh", ["x"], ["y"])], r"\(Tanh, 2 of 2\): .* got 'y', which exists")
    load([make("Relu", ["x"], ["x"])], r"got 'x', which exists")
    load([make("Relu", ["x"], ["z"])], r"output 'y': expected the name of a result")
    load([make("Relu", [""], ["y"])], r"X: expected an input \(it is not optional\), got none")
    load([make("Relu", ["x", "x"], ["y"])], r"inputs: expected 1 to 1, got 2")


def test_unsupported_things_are_named_with_their_place() -> None:
    unsupported = fastrnn.onnx.Unsupported
    first = make("Relu", ["x"], ["a"])
    refused(
        graph_model([first, make("Einsum", ["a"], ["y"], name="e", equation="ij->ji")], {"x": X}, ["y"]),
        r"\[onnx\] node 'e' \(Einsum, 2 of 2\): expected a supported operator \(Abs, .*Xor\), got Einsum", unsupported,
    )  # fmt: skip
    refused(
        graph_model([first, make("Gelu", ["a"], ["y"], domain="com.microsoft")], {"x": X}, ["y"]),
        r"2 of 2\): expected a supported operator .*, got com.microsoft.Gelu", unsupported,
    )  # fmt: skip
    body = helper.make_graph([make("Relu", ["x"], ["t"])], "body", [], [helper.make_empty_tensor_value_info("t")])
    refused(
        graph_model([make("If", ["x"], ["y"], then_branch=body, else_branch=body)], {"x": X}, ["y"]), r"got If",
        unsupported,
    )  # fmt: skip
    for attributes, words in (
        ({"alphas": 1.0}, r"attribute alphas: expected one of alpha"),
        ({"alpha": 1}, r"attribute alpha: expected type"),
        ({"alpha": [1.0]}, r"attribute alpha: expected type"),
    ):
        refused(graph_model([make("Elu", ["x"], ["y"], **attributes)], {"x": X}, ["y"]), words)
    refused(graph_model([make("Cast", ["x"], ["y"])], {"x": X}, ["y"]), r"attribute to: expected it \(it is required\)")
    refused(graph_model([make("Gelu", ["x"], ["y"])], {"x": X}, ["y"], opset=13), r"expected an operator of opset 13")
    image = np.ones((1, 1, 3, 3), np.float32)
    refused(
        graph_model([make("Conv", ["x", "w"], ["y"])], {"x": image}, ["y"], {"w": image}),
        r"\(Conv, 1 of 1\): W: expected shape \(filters, channels, kernel\), got", unsupported,
    )  # fmt: skip


def test_recurrent_attributes() -> None:
    arrays = recurrent_arrays("LSTM", np.random.default_rng(0))
    for attributes, words in (
        ({"direction": "sideways"}, r"direction: expected forward, reverse or bidirectional, got 'sideways'"),
        ({"direction": "bidirectional"}, r"node 'cell' \(LSTM, 1 of 1\): W: expected shape \(2, 20, 3\), got \(1,"),
        ({"layout": 2}, r"layout: expected 0 or 1, got 2"),
        ({"activations": ["Tanh"]}, r"activations: expected 3 \(3 for each of 1 directions\), got 1: Tanh"),
        ({"activations": ["Sigmoid", "Gelu", "Tanh"]}, r"activations: expected one of Relu, .*, got 'Gelu'"),
        ({"activation_alpha": [1.0]}, r"activation_alpha: expected at most 0 values.*, got 1"),
        ({"clip": -1.0}, r"clip: expected a number >= 0, got -1"),
        ({"input_forget": 7}, r"input_forget: expected 0 or 1, got 7"),
        ({"linear_before_reset": 1}, r"attribute linear_before_reset: expected one of"),
    ):
        refused(recurrent_model("LSTM", arrays, **attributes)[0], words)
    model, _ = recurrent_model("LSTM", arrays)
    model.graph.node[0].attribute[0].i = 1 << 40
    refused(model, r"W: expected shape \(1, 4398046511104, 3\), got \(1, 20, 3\)")
    bad = {**arrays, "B": arrays["B"].astype(np.float64)}
    refused(recurrent_model("LSTM", bad)[0], r"B: expected float32 as X and W, got float64")


def test_recurrent_inputs() -> None:
    arrays = recurrent_arrays("LSTM", np.random.default_rng(0), lengths=True, states=True)
    model, inputs = recurrent_model("LSTM", arrays)
    loaded = fastrnn.onnx.load(model)
    for name, value, words in (
        ("sequence_lens", [1, 2, 3, 7], r"sequence_lens: expected 0 to 6, got 1 to 7"),
        ("sequence_lens", [1, 2, 3], r"sequence_lens: expected int32 \(4,\), got int32 \(3,\)"),
        ("initial_h", inputs["initial_h"][:, :2], r"initial_h: expected shape \(1, 4, 5\), got \(1, 2, 5\)"),
        ("X", inputs["X"][:, :, :2], r"X: expected float32 \(time, batch, 3\), got float32 \(6, 4, 2\)"),
    ):
        with pytest.raises(ValueError, match=words):
            loaded.run({**inputs, name: np.asarray(value, inputs[name].dtype)})


# ---- memory


def test_results_are_bounded() -> None:
    huge = np.array([1 << 20, 1 << 20])

    def constants(nodes: list[Any], given: dict[str, Any], words: str, **options: Any) -> None:
        refused(graph_model(nodes, {}, ["y"], given), words, **options)

    constants([make("ConstantOfShape", ["s"], ["y"])], {"s": huge}, r"expected a result of at most 4294967296 bytes")
    constants([make("Expand", ["a", "s"], ["y"])], {"s": huge, "a": X[:1, :1]}, r"expected a result of at most")
    constants([make("Tile", ["a", "s"], ["y"])], {"s": huge, "a": X}, r"expected a result of at most")
    ends = {"a": np.array(0), "b": np.array(1 << 50), "c": np.array(1)}
    constants([make("Range", ["a", "b", "c"], ["y"])], ends, r"expected a result of at most")
    column = np.ones((1 << 16, 1), np.float32)
    for kind in ("Add", "MatMul"):
        nodes = [make(kind, ["a", "b"], ["y"])]
        constants(nodes, {"a": column, "b": column.T}, r"expected a result of at most", max_bytes=1 << 30)
    doubling = [make("Concat", [f"a{k}"] * 2, [f"a{k + 1}"], axis=0) for k in range(50)]
    doubling.append(make("Identity", ["a50"], ["y"]))
    constants(doubling, {"a0": X}, r"expected a(t most| result of at most) 1048576 bytes", max_bytes=1 << 20)
    wide = make("MaxPool", ["x"], ["y"], kernel_shape=[3], dilations=[1 << 28])  # no window fits: nothing is made
    assert fastrnn.onnx.load(graph_model([wide], {"x": X[None]}, ["y"]))(X[None]).shape == (1, 2, 0)
    pool = make("MaxPool", ["x"], ["y"], kernel_shape=[3], pads=[1 << 30, 1 << 30])
    constants([pool], {"x": X[None]}, r"expected a result of at most")
    model = fastrnn.onnx.load(
        graph_model([make("Concat", ["x"] * 8, ["y"], axis=0)], {"x": X}, ["y"]), max_bytes=100
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"\(Concat, 1 of 1\): expected a result of at most 100 bytes"):
        model(X)


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """Nothing within takes more than `size` bytes."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < size
    finally:
        tracemalloc.stop()


MB = 1 << 20
FLOATS = np.random.default_rng(0).standard_normal((2 * MB, 1, 1), dtype=np.float32)  # 8 MB
SMALL = (FLOATS > 0).astype(np.uint8)  # 2 MB


@pytest.mark.parametrize(
    ("node", "inputs"),
    [
        *[
            (make(op, ["x"], ["y"]), [FLOATS])
            for op in ("Abs", "Exp", "Erf", "Relu", "Softplus", "Selu", "Gelu", "Softmax", "GlobalMaxPool")
        ],
        (make("Clip", ["x", "a"], ["y"]), [FLOATS, np.float32(0)]),
        (make("Cast", ["x"], ["y"], to=TensorProto.DOUBLE), [SMALL]),
        (make("CastLike", ["x", "a"], ["y"]), [SMALL, np.float64(0)]),
        (make("Pow", ["x", "a"], ["y"]), [SMALL[: MB // 6].astype(np.int32), np.float32(2)]),
        (make("Dropout", ["x"], ["y", "mask"]), [SMALL.astype(np.float16)]),
        (make("ArgMax", ["x"], ["y"], axis=1), [SMALL]),
        (make("ArgMin", ["x"], ["y"], axis=1, select_last_index=1), [SMALL]),
        (make("ReduceSum", ["x", "a"], ["y"]), [SMALL.astype(np.int32), np.array([1])]),
        (make("CumSum", ["x", "a"], ["y"], exclusive=1), [FLOATS, np.array(1)]),
        (make("TopK", ["x", "a"], ["y", "at"], axis=1), [SMALL, np.array([1])]),
        (make("GatherElements", ["x", "a"], ["y"], axis=1), [FLOATS, SMALL.astype(np.int32) * 0]),
        (make("MaxPool", ["x"], ["y"], kernel_shape=[1]), [FLOATS]),
        (make("Conv", ["x", "a"], ["y"]), [SMALL[: MB // 3].astype(np.float16), np.ones((1, 1, 1), np.float16)]),
    ],
    ids=lambda part: part.op_type if isinstance(part, onnx.NodeProto) else "",
)  # fmt: skip
def test_nothing_is_made_before_its_size_is_known(node: Any, inputs: list[Any]) -> None:
    given = dict(zip(node.input, map(np.asarray, inputs), strict=True))
    entries = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for name, a in given.items()
    ]
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.output]
    proto = helper.make_model(
        helper.make_graph([node], "test", entries, outputs), opset_imports=[helper.make_opsetid("", 20)]
    )
    model = fastrnn.onnx.load(proto, max_bytes=MB)
    with (
        at_most(MB),
        pytest.raises(ValueError, match=rf"\({node.op_type}, 1 of 1\): expected a result of at most {MB} bytes"),
    ):
        model.run(given)


LONG = 1 << 40


@pytest.mark.parametrize(
    ("node", "shapes"),
    [
        (make("GRU", ["x", "a", "b"], ["", "y"], hidden_size=2), [(0, LONG, 3), (1, 6, 3), (1, 6, 2)]),
        (make("AveragePool", ["x"], ["y"], kernel_shape=[2]), [(0, 1, LONG)]),
        (make("ReduceSum", ["x", "i0"], ["y"]), [(0, LONG)]),
        (make("GatherElements", ["x", "j"], ["y"], axis=1), [(LONG, 0)]),
        (make("GatherND", ["x", "k"], ["y"]), [(3,)]),
        (make("TopK", ["x", "i0"], ["y", "at"], axis=0), [(0, LONG)]),
    ],
    ids=lambda part: part.op_type if isinstance(part, onnx.NodeProto) else "",
)
def test_an_empty_array_with_a_long_axis(node: Any, shapes: list[Any]) -> None:
    """It takes nothing itself, but what is made from its extents would."""
    constants = {name: np.zeros(shape, np.float32) for name, shape in zip("xab", shapes, strict=False)}
    constants |= {"i0": np.array([0]), "j": np.zeros((LONG, 0), np.int64), "k": np.zeros((LONG, 0, 1), np.int64)}
    refused(graph_model([node], {}, ["y"], constants), rf"\({node.op_type}, 1 of 1\): expected a result of at most")


def test_an_empty_array_with_a_long_axis_and_its_sums() -> None:
    constants = {"x": np.zeros((0, LONG), np.float32), "a": np.array([1])}
    model = graph_model([make("CumSum", ["x", "a"], ["y"], exclusive=1)], {}, ["y"], constants)
    assert fastrnn.onnx.load(model)().shape == (0, LONG)


def test_memory_that_is_not_there() -> None:
    """Whatever max_bytes allows: one of our messages."""
    node = make("ConstantOfShape", ["s"], ["y"], name="zeros")
    model = graph_model([node], {}, ["y"], {"s": np.array([1 << 56])})
    words = r"node 'zeros' \(ConstantOfShape, 1 of 1\): expected results that fit in memory, got Unable to allocate"
    refused(model, words, max_bytes=1 << 60)


# ---- files


def test_not_a_model(tmp_path: Path) -> None:
    for data in (b"", b"PK\x03\x04 not a model", b"\x08" * 100):
        refused(data, r"\[onnx.load\] source: expected an ONNX model")
    refused(3, r"source: expected a path, bytes or a ModelProto, got int", TypeError)
    refused(relu(), r"max_bytes: expected an integer >= 1, got 0", max_bytes=0)
    with pytest.raises(FileNotFoundError, match=r"^\[onnx\] .*none.onnx: expected an ONNX file, got no such file$"):
        fastrnn.onnx.load(tmp_path / "none.onnx")


def test_opsets() -> None:
    model = relu()
    for version in (6, 999, -1):
        model.opset_import[0].version = version
        refused(model, rf"opset_import: expected version 7 to .*, got {version}", fastrnn.onnx.Unsupported)
    del model.opset_import[:]
    refused(model, r"opset_import: expected one version of the ONNX operators, got \[\]")


DATA = recurrent_model("GRU", recurrent_arrays("GRU", np.random.default_rng(0)))[0].SerializeToString()


@given(cut=st.integers(0, len(DATA)), place=st.integers(0, len(DATA) - 1), bytes_=st.binary(max_size=12))
@settings(max_examples=150, deadline=None)
def test_damaged_files(cut: int, place: int, bytes_: bytes) -> None:
    """Loaded, or refused with one of our messages; never anything else."""
    for data in (DATA[:cut], DATA[:place] + bytes_ + DATA[place + len(bytes_) :]):
        try:
            fastrnn.onnx.load(data)
        except ValueError as error:
            assert str(error).startswith("[onnx")


def test_deep_nesting() -> None:
    """Graphs within graphs: protobuf has a limit of its own, and no operator with graphs is taken."""

    def field(number: int, payload: bytes) -> bytes:
        head, size = bytes([number << 3 | 2]), len(payload)
        while size > 127:
            head, size = head + bytes([size & 127 | 128]), size >> 7
        return head + bytes([size]) + payload

    graph = b""
    for _ in range(5000):  # a node's attribute that is a graph
        graph = field(1, field(4, b"If") + field(5, field(1, b"then_branch") + field(6, graph)))
    refused(field(7, graph), r"\[onnx.load\] source: expected an ONNX model")


def test_sparse_and_repeated() -> None:
    model = relu()
    model.graph.sparse_initializer.add()
    refused(model, r"sparse_initializer: expected dense tensors", fastrnn.onnx.Unsupported)
    model = relu()
    model.graph.initializer.append(numpy_helper.from_array(X, "w"))
    refused(model, r"initializer 'w': expected a name of its own")
    model = relu()
    model.graph.input.append(model.graph.input[0])
    refused(model, r"input 'x': expected a name of its own, got it twice")


def in_a_file(tensor: Any, size: int) -> None:
    """`tensor` as `size` floats that stand in the file w.bin."""
    tensor.data_type, tensor.data_location = TensorProto.FLOAT, TensorProto.EXTERNAL
    tensor.dims.append(size)
    tensor.external_data.add(key="location", value="w.bin")


def test_tensors_that_share_a_file_are_counted(tmp_path: Path) -> None:
    """Initializers, and attributes too; and before they are read."""
    (tmp_path / "w.bin").write_bytes(bytes(MB))
    shape = np.array([2])
    initializers = graph_model([make("Relu", ["x"], ["y"])], {"x": np.zeros(3, np.float32)}, ["y"])
    for index in range(50):
        in_a_file(initializers.graph.initializer.add(name=f"t{index}"), MB // 4)
    nodes = [make("ConstantOfShape", ["x"], ["y" if k == 0 else f"y{k}"], name=f"t{k}") for k in range(50)]
    for node in nodes:
        in_a_file(node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR).t, MB // 4)
    attributes = graph_model(nodes, {"x": shape}, ["y"])
    path = tmp_path / "m.onnx"
    for model, place in (
        (initializers, r"\[onnx.load\] initializer 't1': "),
        (attributes, r"\[onnx\] node 't1' \(ConstantOfShape, 2 of 50\): attribute value: "),
    ):
        path.write_bytes(model.SerializeToString())
        assert fastrnn.onnx.load(path).outputs
        with at_most(3 * MB // 2), pytest.raises(ValueError, match=f"{place}expected no more than the {MB} bytes of"):
            fastrnn.onnx.load(path, max_bytes=MB)
