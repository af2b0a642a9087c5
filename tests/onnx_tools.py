"""What the tests of fastrnn.onnx share: models of one node, ONNX Runtime, the error they are measured by."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = Any
TYPES = {
    "float16": TensorProto.FLOAT16, "float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE,
    "int32": TensorProto.INT32, "int64": TensorProto.INT64, "bool": TensorProto.BOOL,
}  # fmt: skip


def graph_model(
    nodes: list[Any], inputs: dict[str, Array], outputs: list[str], constants: dict[str, Array] | None = None,
    opset: int = 17,
) -> onnx.ModelProto:  # fmt: skip
    """A model of these nodes; inputs take their types from example arrays, outputs that of the first."""
    kind = TYPES[next(iter({**inputs, **(constants or {})}.values())).dtype.name]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(n, TYPES[a.dtype.name], [None] * a.ndim) for n, a in inputs.items()],
        [helper.make_tensor_value_info(name, kind, None) for name in outputs],
        [numpy_helper.from_array(a, n) for n, a in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def run_runtime(model: onnx.ModelProto, inputs: dict[str, Array]) -> list[Array]:
    """The outputs of ONNX Runtime."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, inputs))


def relative_error(actual: Any, expected: Any) -> float:
    """The largest difference over the largest magnitude; the shapes must agree."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape and actual.dtype == expected.dtype
    if not actual.size:
        return 0.0
    assert np.isfinite(actual).all() and np.isfinite(expected).all()
    return float(np.abs(actual - expected).max() / max(np.abs(expected).max(), 1e-30))


GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}


def recurrent_arrays(
    op: str, rng: np.random.Generator, *, D: int = 1, T: int = 6, B: int = 4, I: int = 3, H: int = 5,
    bias: bool = True, lengths: bool = False, states: bool = False, peepholes: bool = False, dtype: Any = np.float32,
) -> dict[str, Array]:  # fmt: skip
    """Random inputs of a recurrent node by their ONNX names, layout 0."""

    def draw(*shape: int) -> Array:
        return (rng.standard_normal(shape) * 0.6).astype(dtype)

    g = GATES[op]
    arrays = {"X": draw(T, B, I), "W": draw(D, g * H, I), "R": draw(D, g * H, H)}
    if bias:
        arrays["B"] = draw(D, 2 * g * H)
    if lengths:
        arrays["sequence_lens"] = rng.integers(1, T + 1, B).astype(np.int32)
    if states:
        arrays["initial_h"] = draw(D, B, H)
        if op == "LSTM":
            arrays["initial_c"] = draw(D, B, H)
    if peepholes:
        arrays["P"] = draw(D, 3 * H)
    return arrays


def recurrent_model(
    op: str, arrays: dict[str, Array], *, opset: int = 17, fixed: bool = True, **attributes: Any
) -> Any:
    """One recurrent node with the inputs in `arrays`; `fixed`: W, R, B and P are initialisers."""
    order = ["X", "W", "R", "B", "sequence_lens", "initial_h"] + (["initial_c", "P"] if op == "LSTM" else [])
    names = [name if name in arrays else "" for name in order]
    while not names[-1]:
        names.pop()
    outputs = ["Y", "Y_h"] + (["Y_c"] if op == "LSTM" else [])
    node = helper.make_node(op, names, outputs, name="cell", hidden_size=arrays["R"].shape[-1], **attributes)
    constants = {n: a for n, a in arrays.items() if fixed and n in ("W", "R", "B", "P")}
    inputs = {n: a for n, a in arrays.items() if n not in constants}
    return graph_model([node], inputs, outputs, constants, opset), inputs
