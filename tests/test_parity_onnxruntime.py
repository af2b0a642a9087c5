"""functional and reference against ONNX Runtime: one RNN, LSTM or GRU node, random weights, every direction, lengths,
both GRU forms, activations with and without parameters. ONNX's gate orders are written out here on purpose: the test
does not use the package's own conversions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastrnn.reference
from fastrnn import functional
from rnn_cases import CELLS, Case, assert_close, draw, forward

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

IMPLEMENTATIONS = {"functional": functional, "reference": fastrnn.reference}
both = pytest.mark.parametrize("F", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS.keys())

GATES = {"rnn": ["h"], "lstm": ["i", "f", "g", "o"], "gru": ["r", "z", "n"], "gru_before": ["r", "z", "n"]}
ONNX_GATES = {"rnn": ["h"], "lstm": ["i", "o", "f", "g"], "gru": ["z", "r", "n"], "gru_before": ["z", "r", "n"]}
T, B, I, H = 7, 4, 3, 9


def to_onnx_order(cell: str, array: Any) -> Any:
    blocks = dict(zip(GATES[cell], np.split(array, len(GATES[cell])), strict=True))
    return np.concatenate([blocks[g] for g in ONNX_GATES[cell]])


def run_onnx(cases: list[Case], direction: str, lengths: Any, **attributes: Any) -> list[dict[str, Any]]:
    """Results by direction, time-major."""
    cell = cases[0].cell
    names = ["X", "W", "R", "B", "sequence_lens", "initial_h"] + (["initial_c"] if cell == "lstm" else [])
    inputs: dict[str, Any] = {
        "X": cases[0].arrays["x"],
        "W": np.stack([to_onnx_order(cell, c.arrays["weight_ih"]) for c in cases]),
        "R": np.stack([to_onnx_order(cell, c.arrays["weight_hh"]) for c in cases]),
        "B": np.stack(
            [np.concatenate([to_onnx_order(cell, c.arrays[n]) for n in ("bias_ih", "bias_hh")]) for c in cases]
        ),
        "sequence_lens": np.full(B, T, np.int32) if lengths is None else np.asarray(lengths, np.int32),
        "initial_h": np.stack([c.arrays["h0"] for c in cases]),
    }
    if cell == "lstm":
        inputs["initial_c"] = np.stack([c.arrays["c0"] for c in cases])
    outputs = ["Y", "Y_h"] + (["Y_c"] if cell == "lstm" else [])
    kind = {"rnn": "RNN", "lstm": "LSTM"}.get(cell, "GRU")
    if kind == "GRU":
        attributes["linear_before_reset"] = int(cell == "gru")
    node = onnx.helper.make_node(kind, names, outputs, hidden_size=H, direction=direction, **attributes)
    types = {np.dtype(np.float32): onnx.TensorProto.FLOAT, np.dtype(np.int32): onnx.TensorProto.INT32}
    graph = onnx.helper.make_graph(
        [node],
        "one",
        [onnx.helper.make_tensor_value_info(n, types[a.dtype], a.shape) for n, a in inputs.items()],
        [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in outputs],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 14)], ir_version=8)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    values = session.run(outputs, inputs)
    results = []
    for d in range(len(cases)):
        result = {"output": values[0][:, d], "h_n": values[1][d]}
        if cell == "lstm":
            result["c_n"] = values[2][d]
        results.append(result)
    return results


def make(cell: str, seed: int, **options: Any) -> Case:
    rng = np.random.default_rng(seed)
    return draw(cell, rng, B=B, T=T, I=I, H=H, dtype=np.float32, batch_first=False, **options)


@both
@pytest.mark.parametrize("lengths", [None, [3, 7, 1, 5]], ids=["full", "ragged"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("cell", CELLS)
def test_directions_and_lengths(F: Any, cell: str, direction: str, lengths: Any) -> None:
    first = make(cell, 1, lengths=None if lengths is None else np.array(lengths))
    cases = [first.with_options(reverse=direction == "reverse")]
    if direction == "bidirectional":
        cases.append(make(cell, 2, lengths=first.options["lengths"], reverse=True).with_arrays(x=first.arrays["x"]))
    expected = run_onnx(cases, direction, lengths)
    for case, want in zip(cases, expected, strict=True):
        actual, _ = forward(F, case)
        assert_close(actual, want, 5e-6)


# our specification -> ONNX name, alpha, beta
ACTIVATIONS: dict[Any, tuple[str, float | None, float | None]] = {
    "linear": ("Affine", 1.0, 0.0),
    "tanh": ("Tanh", None, None),
    "sigmoid": ("Sigmoid", None, None),
    "relu": ("Relu", None, None),
    ("hard_sigmoid", 0.2, 0.5): ("HardSigmoid", 0.2, 0.5),
    ("hard_sigmoid", 0.3, 0.4): ("HardSigmoid", 0.3, 0.4),
    ("elu", 0.7): ("Elu", 0.7, None),
    ("leaky_relu", 0.05): ("LeakyRelu", 0.05, None),
    ("scaled_tanh", 1.2, 0.8): ("ScaledTanh", 1.2, 0.8),
    ("affine", 0.6, 0.1): ("Affine", 0.6, 0.1),
    ("thresholded_relu", 0.4): ("ThresholdedRelu", 0.4, None),
    "softsign": ("Softsign", None, None),
    "softplus": ("Softplus", None, None),
}


def attributes_for(specs: list[Any]) -> dict[str, Any]:
    rows = [ACTIVATIONS[s] for s in specs]
    # ONNX Runtime reads one alpha and one beta per activation that takes one, in order.
    return {
        "activations": [r[0] for r in rows],
        "activation_alpha": [r[1] for r in rows if r[1] is not None],
        "activation_beta": [r[2] for r in rows if r[2] is not None],
    }


@both
@pytest.mark.parametrize("spec", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_activations(F: Any, cell: str, spec: Any) -> None:
    slots = {"rnn": ["activation"], "lstm": ["recurrent_activation", "activation", "output_activation"]}
    names = slots.get(cell, ["recurrent_activation", "activation"])
    usual = {"recurrent_activation": "sigmoid", "activation": "tanh", "output_activation": "tanh"}
    for slot in names:
        specs = {name: usual[name] for name in names} | {slot: spec}
        case = make(cell, 3, scale=0.3, **specs)  # softplus as a gate must not explode
        attributes = {k: v for k, v in attributes_for([specs[n] for n in names]).items() if v}
        (expected,) = run_onnx([case], "forward", None, **attributes)
        actual, _ = forward(F, case)
        assert_close(actual, expected, 1e-5, f"{slot}={spec}")
