"""The oracle checked on its own: equations by hand, float64 gradient checks of every argument, and its invariants."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastrnn import activations
from fastrnn import reference as ref
from rnn_cases import (
    ARGUMENTS,
    CELLS,
    Case,
    assert_close,
    backward,
    draw,
    draw_lengths,
    draw_mask,
    draw_recurrent_mask,
    forward,
    run,
)

B, T, I, H = 3, 4, 2, 3


def numeric_gradient(loss: Callable[[], float], array: Any, step: float = 1e-6) -> Any:
    """Central differences of loss() by each element of `array`, which is changed in place and put back."""
    gradient = np.zeros(array.shape)
    for index in np.ndindex(array.shape):
        kept = array[index]
        array[index] = kept + step
        above = loss()
        array[index] = kept - step
        below = loss()
        array[index] = kept
        gradient[index] = (above - below) / (2 * step)
    return gradient


def check_case(case: Case) -> None:
    def loss() -> float:
        values, _ = forward(ref, case)
        total = 0.0
        for name, value in values.items():
            weight = case.upstream.get("grad_" + name)
            if value is not None and weight is not None:
                total += float((value * weight).sum())
        return total

    _, workspace = forward(ref, case, workspace=True)
    gradients = backward(ref, case, workspace)
    for name in ARGUMENTS:
        array = case.arrays.get(name)
        if array is None:
            assert gradients.get("grad_" + name) is None, name
            continue
        expected = numeric_gradient(loss, array)
        scale = max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(gradients["grad_" + name], expected, rtol=0, atol=2e-8 * scale, err_msg=name)


OPTIONS: dict[str, Callable[[np.random.Generator], dict[str, Any]]] = {
    "plain": lambda rng: {},
    "reverse": lambda rng: {"reverse": True},
    "lengths": lambda rng: {"lengths": draw_lengths(rng, B, T)},
    "lengths-reverse": lambda rng: {"lengths": draw_lengths(rng, B, T), "reverse": True},
    "mask": lambda rng: {"mask": draw_mask(rng, B, T)},
    "mask-reverse-time-major": lambda rng: {"mask": draw_mask(rng, B, T), "reverse": True, "batch_first": False},
    "time-major": lambda rng: {"batch_first": False},
    "recurrent-mask": lambda rng: {"recurrent_mask": draw_recurrent_mask(rng, B, H, np.float64)},
    "recurrent-mask-lengths-reverse": lambda rng: {
        "recurrent_mask": draw_recurrent_mask(rng, B, H, np.float64),
        "lengths": draw_lengths(rng, B, T),
        "reverse": True,
    },
    "last-only": lambda rng: {"return_sequences": False},
    "bare": lambda rng: {"bias": False, "initial": False},
}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_by_option(cell: str, options: str) -> None:
    rng = np.random.default_rng(11)
    case = draw(cell, rng, B=B, T=T, I=I, H=H, **OPTIONS[options](rng))
    if options == "last-only":
        case.upstream["grad_output"] = None
    check_case(case)


SPECS = [*activations.NAMES, ("hard_sigmoid", 0.2, 0.4), ("elu", 0.6), ("scaled_tanh", 1.3, 0.7), ("affine", 0.4, 0.1)]


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_by_activation(cell: str, spec: Any) -> None:
    slots = {"rnn": ["activation"], "lstm": ["activation", "recurrent_activation", "output_activation"]}
    rng = np.random.default_rng(5)
    for slot in slots.get(cell, ["activation", "recurrent_activation"]):
        check_case(draw(cell, rng, B=2, T=3, I=1, H=2, scale=0.7, **{slot: spec}))


@pytest.mark.parametrize("cell", CELLS)
def test_each_upstream_gradient_alone(cell: str) -> None:
    rng = np.random.default_rng(3)
    case = draw(cell, rng, B=2, T=3, I=2, H=2, lengths=np.array([2, 3]))
    parts = [run(ref, case.with_upstream(**{k: None for k in case.upstream if k != name})) for name in case.upstream]
    together = run(ref, case)
    for name in (n for n in together if n.startswith("grad_")):
        np.testing.assert_allclose(sum(p[name] for p in parts), together[name], rtol=1e-12, atol=1e-13, err_msg=name)
    nothing = run(ref, case.with_upstream(**dict.fromkeys(case.upstream)))
    assert all(not value.any() for name, value in nothing.items() if name.startswith("grad_"))


def test_need_grad_x() -> None:
    case = draw("gru", np.random.default_rng(0))
    with_x, without = run(ref, case), run(ref, case, need_grad_x=False)
    assert without.pop("grad_x") is None and with_x.pop("grad_x") is not None
    assert_close(without, with_x, 0.0)


# --- the equations written out for one unit at a time, without matrices --------------------------------------------


def sigmoid(a: float) -> float:
    return 1 / (1 + math.exp(-a))


def step_by_hand(case: Case, b: int, t: int, h: list[float], c: list[float]) -> tuple[list[float], list[float]]:
    a = case.arrays
    units = len(h)

    def product(gate: int, u: int, vector: list[float]) -> float:
        row = gate * units + u
        return float(sum(a["weight_hh"][row, k] * vector[k] for k in range(units)) + a["bias_hh"][row])

    def given(gate: int, u: int) -> float:
        row = gate * units + u
        x = a["x"][b, t]
        return float(sum(a["weight_ih"][row, k] * x[k] for k in range(len(x))) + a["bias_ih"][row])

    if case.cell == "rnn":
        return [math.tanh(given(0, u) + product(0, u, h)) for u in range(units)], c
    if case.cell == "lstm":
        i, f, g, o = ([given(n, u) + product(n, u, h) for u in range(units)] for n in range(4))
        new_c = [sigmoid(f[u]) * c[u] + sigmoid(i[u]) * math.tanh(g[u]) for u in range(units)]
        return [sigmoid(o[u]) * math.tanh(new_c[u]) for u in range(units)], new_c
    r = [sigmoid(given(0, u) + product(0, u, h)) for u in range(units)]
    z = [sigmoid(given(1, u) + product(1, u, h)) for u in range(units)]
    if case.cell == "gru":
        n = [math.tanh(given(2, u) + r[u] * product(2, u, h)) for u in range(units)]
    else:
        reset = [r[u] * h[u] for u in range(units)]
        n = [math.tanh(given(2, u) + product(2, u, reset)) for u in range(units)]
    return [(1 - z[u]) * n[u] + z[u] * h[u] for u in range(units)], c


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_equations_by_hand(cell: str, reverse: bool) -> None:
    case = draw(cell, np.random.default_rng(7), reverse=reverse, lengths=np.array([4, 0, 2]))
    output = np.zeros((B, T, H))
    h_n, c_n = case.arrays["h0"].copy(), case.arrays.get("c0", case.arrays["h0"]).copy()
    for b, length in enumerate([4, 0, 2]):
        for t in reversed(range(length)) if reverse else range(length):
            h_n[b], c_n[b] = step_by_hand(case, b, t, list(h_n[b]), list(c_n[b]))
            output[b, t] = h_n[b]
    values, _ = forward(ref, case)
    expected = {"output": output, "h_n": h_n, "c_n": c_n}
    assert_close(values, {k: expected[k] for k in values}, 1e-13)


@pytest.mark.parametrize("cell", CELLS)
def test_recurrent_mask_by_steps(cell: str) -> None:
    """One step at a time with the state multiplied by the caller: recurrent_mask does the same inside, except that the
    z h of a GRU takes the state as it is (keras.layers.GRUCell: the mask drops inputs of the recurrent kernel)."""
    rng = np.random.default_rng(2)
    keep = draw_recurrent_mask(rng, B, H, np.float64)
    case = draw(cell, rng)
    a = case.arrays
    state = {k: a[k] for k in ("h0", "c0") if k in a}
    outputs = []
    for t in range(T):
        h = state["h0"]
        values, _ = forward(ref, case.with_arrays(x=a["x"][:, t : t + 1], **{**state, "h0": h * keep}))
        state = {k: values[k[0] + "_n"] for k in state}
        if cell.startswith("gru"):
            rows = slice(H, 2 * H)  # z
            pre = a["x"][:, t] @ a["weight_ih"][rows].T + a["bias_ih"][rows] + a["bias_hh"][rows]
            z = 1 / (1 + np.exp(-(pre + (h * keep) @ a["weight_hh"][rows].T)))
            state["h0"] = state["h0"] + z * (h - h * keep)
        outputs.append(state["h0"])
    values, _ = forward(ref, case.with_options(recurrent_mask=keep))
    np.testing.assert_allclose(values["output"], np.stack(outputs, axis=1), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(values["h_n"], state["h0"], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("cell", CELLS)
def test_padding_is_never_read(cell: str) -> None:
    rng = np.random.default_rng(4)
    case = draw(cell, rng, mask=draw_mask(rng, B, T))
    poisoned = case.arrays["x"].copy()
    poisoned[~case.options["mask"]] = np.nan
    upstream = case.upstream["grad_output"].copy()
    upstream[~case.options["mask"]] = np.nan
    assert_close(run(ref, case.with_arrays(x=poisoned).with_upstream(grad_output=upstream)), run(ref, case), 0.0)


# --- the other operations ------------------------------------------------------------------------------------------


def check_op(forward: Callable[..., Any], gradients: tuple[Any, ...], arrays: tuple[Any, ...], grad_y: Any) -> None:
    for array, gradient in zip(arrays, gradients, strict=True):
        expected = numeric_gradient(lambda: float((forward(*arrays) * grad_y).sum()), array)
        assert gradient.shape == array.shape
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=3e-8 * max(1.0, float(np.abs(expected).max())))


@pytest.mark.parametrize("spec", sorted(activations.FUSED))
@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 3), (3,)], ids=str)
def test_linear(shape: tuple[int, ...], spec: str) -> None:
    rng = np.random.default_rng(1)
    x, weight, bias = rng.normal(size=shape), rng.normal(size=(5, 3)), rng.normal(size=5)
    y = ref.linear(x, weight, bias, activation=spec)
    grad_y = rng.normal(size=y.shape)
    assert y.shape == (*shape[:-1], 5)
    gradients = ref.linear_backward(x, weight, y, grad_y, activation=spec)
    check_op(lambda *a: ref.linear(*a, activation=spec), gradients, (x, weight, bias), grad_y)
    skipped = ref.linear_backward(x, weight, y, grad_y, activation=spec, need_grad_x=False, has_bias=False)
    assert skipped[0] is None and skipped[2] is None


@pytest.mark.parametrize("spec", ["gelu", "silu", "leaky_relu", "affine"])
def test_not_every_activation_is_fused(spec: Any) -> None:
    x, w = np.ones((2, 3)), np.ones((4, 3))
    with pytest.raises(ValueError, match=r"^\[linear\] activation: expected"):
        ref.linear(x, w, activation=spec)
    with pytest.raises(ValueError, match=r"^\[conv1d\] activation: expected"):
        ref.conv1d(np.ones((1, 2, 3)), np.ones((4, 3, 1)), activation=spec)


CONVOLUTIONS = [
    (padding, stride, dilation, k)
    for padding in ("valid", "same", "causal")
    for stride, dilation, k in ((1, 1, 1), (1, 1, 3), (2, 1, 3), (1, 2, 2), (3, 1, 2), (2, 2, 3), (1, 1, 4))
]


@pytest.mark.parametrize(("padding", "stride", "dilation", "K"), CONVOLUTIONS)
def test_conv1d(padding: Any, stride: int, dilation: int, K: int) -> None:
    rng = np.random.default_rng(1)
    x, weight, bias = rng.normal(size=(2, 7, 3)), rng.normal(size=(4, 3, K)), rng.normal(size=4)
    options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "activation": "tanh"}
    y = ref.conv1d(x, weight, bias, **options)

    # by definition, one output at a time
    span = (K - 1) * dilation + 1
    outputs = {"valid": (7 - span) // stride + 1}.get(padding, math.ceil(7 / stride))
    total = {"valid": 0, "causal": span - 1}.get(padding, max((outputs - 1) * stride + span - 7, 0))
    left = total // 2 if padding == "same" else total
    assert y.shape == (2, outputs, 4)
    for b, t, f in np.ndindex(y.shape):
        a = bias[f]
        for k in range(K):
            position = t * stride + k * dilation - left
            if 0 <= position < 7:
                a += x[b, position] @ weight[f, :, k]
        assert y[b, t, f] == pytest.approx(math.tanh(a), abs=1e-13)

    grad_y = rng.normal(size=y.shape)
    gradients = ref.conv1d_backward(x, weight, y, grad_y, **options)
    check_op(lambda *a: ref.conv1d(*a, **options), gradients, (x, weight, bias), grad_y)


def test_causal_sees_no_future() -> None:
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(1, 6, 2)), rng.normal(size=(3, 2, 3))
    y = ref.conv1d(x, weight, padding="causal", dilation=2)
    x[:, 4:] = 9.0
    changed = ref.conv1d(x, weight, padding="causal", dilation=2)
    np.testing.assert_array_equal(changed[:, :4], y[:, :4])
    assert (changed[:, 4:] != y[:, 4:]).all()


POOLS = [(p, s, padding) for p, s in ((1, None), (2, None), (3, None), (3, 1), (2, 3)) for padding in ("valid", "same")]


@pytest.mark.parametrize(("pool_size", "stride", "padding"), POOLS)
def test_local_pooling(pool_size: int, stride: int | None, padding: str) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2, 8, 3)) - 5  # all negative: zeros of the padding must not win
    y, indices = ref.max_pool1d(x, pool_size, stride, padding)
    assert indices.dtype == np.int32
    grad_y = rng.normal(size=y.shape)
    s = stride or pool_size
    outputs = (8 - pool_size) // s + 1 if padding == "valid" else math.ceil(8 / s)
    left = 0 if padding == "valid" else max((outputs - 1) * s + pool_size - 8, 0) // 2
    assert y.shape == (2, outputs, 3)
    mean = ref.avg_pool1d(x, pool_size, stride, padding)
    for t in range(outputs):
        window = x[:, [k for k in range(t * s - left, t * s - left + pool_size) if 0 <= k < 8]]
        np.testing.assert_array_equal(y[:, t], window.max(axis=1))
        np.testing.assert_allclose(mean[:, t], window.mean(axis=1), rtol=1e-14)
    np.testing.assert_array_equal(np.take_along_axis(x, indices, axis=1), y)

    grad_max = ref.max_pool1d_backward(indices, grad_y, 8)
    check_op(lambda a: ref.max_pool1d(a, pool_size, stride, padding)[0], (grad_max,), (x,), grad_y)
    grad_mean = ref.avg_pool1d_backward(grad_y, 8, pool_size, stride, padding)
    check_op(lambda a: ref.avg_pool1d(a, pool_size, stride, padding), (grad_mean,), (x,), grad_y)


@pytest.mark.parametrize("masked", [False, True])
def test_global_pooling(masked: bool) -> None:
    rng = np.random.default_rng(1)
    x, grad_y = rng.normal(size=(3, 5, 2)) - 5, rng.normal(size=(3, 2))
    mask = np.array([[0, 1, 1, 0, 1], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0]], bool) if masked else None
    y, indices = ref.global_max_pool1d(x, mask)
    mean = ref.global_avg_pool1d(x, mask)
    for b in range(3):
        valid = x[b] if mask is None else x[b][mask[b]]
        np.testing.assert_array_equal(y[b], valid.max(axis=0) if len(valid) else 0)
        np.testing.assert_allclose(mean[b], valid.mean(axis=0) if len(valid) else 0, rtol=1e-14)
    if masked:
        assert (indices[1] == -1).all()
        poisoned = np.where(mask[:, :, None], x, np.nan)  # type: ignore[index]
        np.testing.assert_array_equal(ref.global_max_pool1d(poisoned, mask)[0], y)
        np.testing.assert_array_equal(ref.global_avg_pool1d(poisoned, mask), mean)
    grad_max = ref.global_max_pool1d_backward(indices, grad_y, 5)
    check_op(lambda a: ref.global_max_pool1d(a, mask)[0], (grad_max,), (x,), grad_y)
    grad_mean = ref.global_avg_pool1d_backward(grad_y, 5, mask)
    check_op(lambda a: ref.global_avg_pool1d(a, mask), (grad_mean,), (x,), grad_y)


def test_embedding() -> None:
    rng = np.random.default_rng(1)
    ids = np.array([[3, 0, 3], [1, 3, 0]])
    weight, grad_y = rng.normal(size=(5, 2)), rng.normal(size=(2, 3, 2))
    np.testing.assert_array_equal(ref.embedding(ids, weight)[0, 1], weight[0])
    check_op(lambda w: ref.embedding(ids, w), (ref.embedding_backward(ids, grad_y, 5),), (weight,), grad_y)
    for bad in (-1, 5):
        with pytest.raises(ValueError, match=r"^\[embedding\] ids: expected values in \[0, 5\), got"):
            ref.embedding(np.array([bad]), weight)


@pytest.mark.parametrize("masked", [False, True])
def test_softmax_and_attention(masked: bool) -> None:
    rng = np.random.default_rng(1)
    x, scores = rng.normal(size=(3, 4, 2)), 3 * rng.normal(size=(3, 4))
    mask = np.array([[1, 0, 1, 1], [0, 0, 0, 0], [0, 0, 1, 0]], bool) if masked else None
    weights = ref.softmax(scores, mask)
    for b in range(3):
        e = [math.exp(s) if mask is None or mask[b, t] else 0.0 for t, s in enumerate(scores[b])]
        np.testing.assert_allclose(weights[b], np.array(e) / (sum(e) or 1), rtol=1e-13)
    grad = rng.normal(size=(3, 4))
    check_op(lambda s: ref.softmax(s, mask), (ref.softmax_backward(weights, grad),), (scores,), grad)
    assert np.isfinite(ref.softmax(np.array([[1000.0, -1000.0]]))).all()

    y, w = ref.attention_pool(x, scores, mask)
    np.testing.assert_array_equal(w, weights)
    np.testing.assert_allclose(y, (x * weights[:, :, None]).sum(axis=1), rtol=1e-13)
    grad_y = rng.normal(size=(3, 2))
    gradients = ref.attention_pool_backward(x, w, grad_y)
    check_op(lambda *a: ref.attention_pool(*a, mask)[0], gradients, (x, scores), grad_y)


def test_hold_last() -> None:
    rng = np.random.default_rng(1)
    y, grad_y = rng.normal(size=(3, 5, 2)), rng.normal(size=(3, 5, 2))
    mask = np.array([[0, 1, 0, 0, 1], [0, 0, 0, 0, 0], [1, 1, 0, 1, 0]], bool)
    held = ref.hold_last(y, mask)
    np.testing.assert_array_equal(held[0], [np.zeros(2), y[0, 1], y[0, 1], y[0, 1], y[0, 4]])
    np.testing.assert_array_equal(held[2], y[2, [0, 1, 1, 3, 3]])
    assert not held[1].any()
    check_op(lambda a: ref.hold_last(a, mask), (ref.hold_last_backward(grad_y, mask),), (y,), grad_y)


def test_dropout() -> None:
    x = np.ones((40, 50, 20), np.float32)
    y = ref.dropout(x, 0.3, seed=7)
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.7)}
    assert (y == 0).mean() == pytest.approx(0.3, abs=0.01)
    np.testing.assert_array_equal(y, ref.dropout(x, 0.3, seed=7))
    assert (y != ref.dropout(x, 0.3, seed=8)).any()
    np.testing.assert_array_equal(y, ref.dropout_mask(x.shape, 0.3, 7, np.float32))
    spatial = ref.dropout(x, 0.5, seed=1, broadcast_axes=(1,))
    np.testing.assert_array_equal(spatial, np.broadcast_to(spatial[:, :1], x.shape))
    assert 0.4 < (spatial[:, 0] == 0).mean() < 0.6
    np.testing.assert_array_equal(ref.dropout(x, 0.0, seed=1), x)


# --- optimisers: two steps of Keras's formulas with numbers worked out in plain Python --------------------------------


def test_sgd_by_hand() -> None:
    p, v = np.array([1.0]), np.array([0.5])
    ref.sgd_update(p, np.array([2.0]), v, lr=0.1, momentum=0.9, nesterov=False, weight_decay=0.5)
    assert v[0] == pytest.approx(0.9 * 0.5 - 0.2) and p[0] == pytest.approx(1 - 0.05 + 0.25)
    p, v = np.array([1.0]), np.array([0.5])
    ref.sgd_update(p, np.array([2.0]), v, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.0)
    assert v[0] == pytest.approx(0.25) and p[0] == pytest.approx(1 + 0.9 * 0.25 - 0.2)
    p = np.array([1.0])
    ref.sgd_update(p, np.array([2.0]), None, lr=0.1, momentum=0.0, nesterov=False, weight_decay=0.0)
    assert p[0] == pytest.approx(0.8)


def test_rmsprop_by_hand() -> None:
    p, sq, mom, avg = (np.array([value]) for value in (1.0, 4.0, 0.3, 1.0))
    options = {"lr": 0.1, "rho": 0.9, "momentum": 0.5, "eps": 0.01, "weight_decay": 0.0}
    ref.rmsprop_update(p, np.array([2.0]), sq, mom, avg, **options)
    assert sq[0] == pytest.approx(4.0) and avg[0] == pytest.approx(1.1)
    step = 0.5 * 0.3 + 0.2 / math.sqrt(4.0 - 1.21 + 0.01)
    assert mom[0] == pytest.approx(step) and p[0] == pytest.approx(1 - step)
    p = np.array([1.0])
    ref.rmsprop_update(p, np.array([2.0]), sq, None, None, **{**options, "momentum": 0.0, "weight_decay": 0.5})
    assert p[0] == pytest.approx(0.95 - 0.2 / math.sqrt(4.01))


def test_adam_by_hand() -> None:
    p, m, v, vhat = (np.array([value]) for value in (1.0, 0.2, 0.05, 1.0))
    options = {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 0.01, "step": 3}
    ref.adam_update(p, np.array([2.0]), m, v, None, weight_decay=0.5, **options)
    assert m[0] == pytest.approx(0.38) and v[0] == pytest.approx(0.0895)
    alpha = 0.1 * math.sqrt(1 - 0.99**3) / (1 - 0.9**3)
    assert p[0] == pytest.approx(0.95 - alpha * 0.38 / (math.sqrt(0.0895) + 0.01))
    p, m, v = np.array([1.0]), np.array([0.2]), np.array([0.05])
    ref.adam_update(p, np.array([2.0]), m, v, vhat, weight_decay=0.0, **options)
    assert vhat[0] == 1.0 and p[0] == pytest.approx(1 - alpha * 0.38 / 1.01)


def test_updates_are_in_place_on_views() -> None:
    big = np.zeros((4, 6))
    view = big[::2, 1:3]
    ref.sgd_update(view, np.ones((2, 2)), None, lr=1.0)
    assert (big[::2, 1:3] == -1).all() and big.sum() == -4
