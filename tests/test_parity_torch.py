"""functional and reference against PyTorch: outputs and every gradient, random weights, float64 and float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastrnn.reference
from fastrnn import functional
from rnn_cases import Case, assert_close, draw, run

torch = pytest.importorskip("torch")

IMPLEMENTATIONS = {"functional": functional, "reference": fastrnn.reference}
TOLERANCE = {np.float64: 1e-11, np.float32: 2e-5}
both = pytest.mark.parametrize("F", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS.keys())
precisions = pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda d: d.__name__)


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def leaf(array: Any) -> Any:
    return torch.tensor(np.ascontiguousarray(array), requires_grad=True)


def module(cell: str, arrays: list[dict[str, Any]], nonlinearity: str = "tanh") -> Any:
    """A one-layer torch module, of two directions if there are two sets of weights."""
    first = arrays[0]
    H, I = first["weight_hh"].shape[1], first["weight_ih"].shape[1]
    kind = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell]
    options = {"nonlinearity": nonlinearity} if cell == "rnn" else {}
    made = kind(I, H, batch_first=True, bidirectional=len(arrays) == 2, bias=first["bias_ih"] is not None, **options)
    made = made.to(torch.float64 if first["x"].dtype == np.float64 else torch.float32)
    with torch.no_grad():
        for suffix, direction in zip(("", "_reverse"), arrays, strict=False):
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                if direction[name] is not None:
                    getattr(made, f"{name}_l0{suffix}").copy_(torch.tensor(direction[name]))
    return made


def run_torch(cell: str, cases: list[Case], nonlinearity: str = "tanh", lengths: Any = None) -> list[dict[str, Any]]:
    """All results of each direction, by our names; grad_x of the sum stands in the first."""
    made = module(cell, [c.arrays for c in cases], nonlinearity)
    H = cases[0].arrays["h0"].shape[1]
    x = leaf(cases[0].arrays["x"])
    state = [leaf(np.stack([c.arrays[k] for c in cases])) for k in ("h0", "c0") if k in cases[0].arrays]
    given = x
    if lengths is not None:
        given = torch.nn.utils.rnn.pack_padded_sequence(
            x, torch.tensor(lengths), batch_first=True, enforce_sorted=False
        )
    output, last = made(given, tuple(state) if cell == "lstm" else state[0])
    if lengths is not None:
        output, _ = torch.nn.utils.rnn.pad_packed_sequence(output, batch_first=True, total_length=x.shape[1])
    lasts = dict(zip(("h_n", "c_n"), last if cell == "lstm" else [last], strict=False))

    def upstream(name: str) -> list[Any]:
        return [torch.tensor(c.upstream["grad_" + name]) for c in cases]

    loss = (output * torch.cat(upstream("output"), dim=2)).sum()
    for name, value in lasts.items():
        loss = loss + (value * torch.stack(upstream(name))).sum()
    loss.backward()

    results = []
    for d, suffix in zip(range(len(cases)), ("", "_reverse"), strict=False):
        result = {"output": output[:, :, d * H : (d + 1) * H], **{k: v[d] for k, v in lasts.items()}}
        result["grad_x"] = x.grad
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            parameter = getattr(made, f"{name}_l0{suffix}", None)
            result["grad_" + name] = None if parameter is None else parameter.grad
        for name, tensor in zip(("h0", "c0"), state, strict=False):
            result["grad_" + name] = tensor.grad[d]
        results.append({k: None if v is None else v.detach().numpy() for k, v in result.items()})
    return results


@both
@precisions
@pytest.mark.parametrize("lengths", [None, [5, 1, 9, 3]], ids=["full", "ragged"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("cell", ["rnn", "relu", "lstm", "gru"])
def test_one_direction(F: Any, cell: str, bias: bool, lengths: Any, dtype: Any) -> None:
    nonlinearity = "relu" if cell == "relu" else "tanh"
    cell = "rnn" if cell == "relu" else cell
    case = draw(cell, np.random.default_rng(1), B=4, T=9, I=5, H=19, dtype=dtype, bias=bias)
    (expected,) = run_torch(cell, [case], nonlinearity, lengths)
    case = case.with_options(lengths=None if lengths is None else np.array(lengths))
    if cell == "rnn":
        case = case.with_options(activation=nonlinearity)
    assert_close(run(F, case), expected, TOLERANCE[dtype])


@both
@precisions
@pytest.mark.parametrize("lengths", [None, [5, 1, 9, 3]], ids=["full", "ragged"])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_two_directions(F: Any, cell: str, lengths: Any, dtype: Any) -> None:
    rng = np.random.default_rng(2)
    forwards = draw(cell, rng, B=4, T=9, I=3, H=7, dtype=dtype)
    backwards = draw(cell, rng, B=4, T=9, I=3, H=7, dtype=dtype).with_arrays(x=forwards.arrays["x"])
    expected = run_torch(cell, [forwards, backwards], lengths=lengths)
    options = {"lengths": None if lengths is None else np.array(lengths)}
    actual = [run(F, forwards.with_options(**options)), run(F, backwards.with_options(**options, reverse=True))]
    actual[0]["grad_x"] = actual[1]["grad_x"] = actual[0]["grad_x"] + actual[1]["grad_x"]
    for direction in range(2):
        assert_close(actual[direction], expected[direction], TOLERANCE[dtype], f"direction {direction}")


def compare(F_result: Any, torch_result: Any, dtype: Any, what: str = "", tolerance: float = 0.0) -> None:
    expected = torch_result.detach().numpy()
    assert_close({what: F_result}, {what: expected}, max(tolerance, TOLERANCE[dtype]))


TORCH_ACTIVATIONS: dict[Any, Any] = {
    "linear": lambda t: t,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "elu": torch.nn.functional.elu,
    ("elu", 0.4): lambda t: torch.nn.functional.elu(t, 0.4),
    ("leaky_relu", 0.1): lambda t: torch.nn.functional.leaky_relu(t, 0.1),
    "hard_sigmoid": torch.nn.functional.hardsigmoid,
    "softsign": torch.nn.functional.softsign,
    "softplus": torch.nn.functional.softplus,
    ("thresholded_relu", 0.5): lambda t: torch.nn.functional.threshold(t, 0.5, 0.0),
    "selu": torch.selu,
    "gelu": torch.nn.functional.gelu,
    "silu": torch.nn.functional.silu,
    "exponential": torch.exp,
}


@both
@precisions
@pytest.mark.parametrize("spec", TORCH_ACTIVATIONS, ids=str)
def test_activation(F: Any, spec: Any, dtype: Any) -> None:
    rng = np.random.default_rng(1)
    x, grad = (2 * rng.normal(size=(7, 37))).astype(dtype), rng.normal(size=(7, 37)).astype(dtype)
    t = leaf(x)
    y = TORCH_ACTIVATIONS[spec](t)
    y.backward(torch.tensor(grad))
    loose = 1e-7 if spec == "hard_sigmoid" else 0.0  # torch's backward has 1/6 in float32 even for float64
    compare(F.activation(x, spec), y, dtype, "y", loose)
    compare(F.activation_backward(x, grad, spec), t.grad, dtype, "grad_x", loose)


@both
@precisions
@pytest.mark.parametrize("activation", ["linear", "relu", "sigmoid"])
def test_linear(F: Any, activation: str, dtype: Any) -> None:
    rng = np.random.default_rng(1)
    x, w, b, g = (rng.normal(size=s).astype(dtype) for s in ((3, 5, 21), (18, 21), (18,), (3, 5, 18)))
    tx, tw, tb = leaf(x), leaf(w), leaf(b)
    ty = TORCH_ACTIVATIONS[activation](torch.nn.functional.linear(tx, tw, tb))
    ty.backward(torch.tensor(g))
    y = F.linear(x, w, b, activation=activation)
    compare(y, ty, dtype, "y")
    for got, want in zip(F.linear_backward(x, w, y, g, activation=activation), (tx, tw, tb), strict=True):
        compare(got, want.grad, dtype)


@both
@precisions
@pytest.mark.parametrize("padding", ["valid", "same", "causal"])
@pytest.mark.parametrize(("stride", "dilation", "K"), [(1, 1, 7), (1, 2, 3), (2, 1, 4), (3, 2, 2), (1, 1, 1)])
def test_conv1d(F: Any, stride: int, dilation: int, K: int, padding: Any, dtype: Any) -> None:
    rng = np.random.default_rng(1)
    length, channels, filters = 23, 5, 9
    x, w, b = (rng.normal(size=s).astype(dtype) for s in ((3, length, channels), (filters, channels, K), (filters,)))
    span = (K - 1) * dilation + 1
    total = {"valid": 0, "causal": span - 1}.get(padding, max((-(-length // stride) - 1) * stride + span - length, 0))
    left = total if padding == "causal" else total // 2
    tx, tw, tb = leaf(x), leaf(w), leaf(b)
    padded = torch.nn.functional.pad(tx.transpose(1, 2), (left, total - left))
    ty = torch.relu(torch.nn.functional.conv1d(padded, tw, tb, stride=stride, dilation=dilation)).transpose(1, 2)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "activation": "relu"}
    y = F.conv1d(x, w, b, **options)
    compare(y, ty, dtype, "y")
    g = rng.normal(size=y.shape).astype(dtype)
    ty.backward(torch.tensor(g))
    for got, want in zip(F.conv1d_backward(x, w, y, g, **options), (tx, tw, tb), strict=True):
        compare(got, want.grad, dtype)


@both
@precisions
def test_embedding(F: Any, dtype: Any) -> None:
    rng = np.random.default_rng(1)
    ids, w = rng.integers(0, 11, size=(4, 30)), rng.normal(size=(11, 17)).astype(dtype)
    g = rng.normal(size=(4, 30, 17)).astype(dtype)
    tw = leaf(w)
    ty = torch.nn.functional.embedding(torch.tensor(ids), tw)
    ty.backward(torch.tensor(g))
    compare(F.embedding(ids, w), ty, dtype, "y")
    compare(F.embedding_backward(ids, g, 11), tw.grad, dtype, "grad")


@both
@precisions
@pytest.mark.parametrize(("pool_size", "stride"), [(5, None), (3, 2), (2, 3)])
def test_local_pooling(F: Any, pool_size: int, stride: int | None, dtype: Any) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(3, 23, 10)).astype(dtype)
    for pool in ("max", "avg"):
        tx = leaf(x)
        t_pool = torch.nn.functional.max_pool1d if pool == "max" else torch.nn.functional.avg_pool1d
        ty = t_pool(tx.transpose(1, 2), pool_size, stride).transpose(1, 2)
        g = rng.normal(size=tuple(ty.shape)).astype(dtype)
        ty.backward(torch.tensor(g))
        if pool == "max":
            y, indices = F.max_pool1d(x, pool_size, stride)
            grad = F.max_pool1d_backward(indices, g, 23)
        else:
            y = F.avg_pool1d(x, pool_size, stride)
            grad = F.avg_pool1d_backward(g, 23, pool_size, stride)
        compare(y, ty, dtype, pool)
        compare(grad, tx.grad, dtype, pool)


@both
@precisions
def test_softmax_and_attention(F: Any, dtype: Any) -> None:
    rng = np.random.default_rng(1)
    x, scores, g = (rng.normal(size=s).astype(dtype) for s in ((3, 13, 9), (3, 13), (3, 9)))
    mask = rng.random((3, 13)) < 0.6
    tx, ts = leaf(x), leaf(scores)
    tw = torch.softmax(ts.masked_fill(~torch.tensor(mask), -torch.inf), dim=1)
    ty = (tw[:, :, None] * tx).sum(dim=1)
    ty.backward(torch.tensor(g))
    y, w = F.attention_pool(x, scores, mask)
    compare(y, ty, dtype, "y")
    compare(w, tw, dtype, "weights")
    compare(F.softmax(scores, mask), tw, dtype, "softmax")
    for got, want in zip(F.attention_pool_backward(x, w, g), (tx, ts), strict=True):
        compare(got, want.grad, dtype)


@both
@precisions
def test_optimizers_where_the_formulas_agree(F: Any, dtype: Any) -> None:
    """SGD with momentum at a constant rate; RMSprop and Adam with eps too small to matter (Keras puts it elsewhere)."""
    rng = np.random.default_rng(1)
    start, gradients = rng.normal(size=83).astype(dtype), rng.normal(size=(4, 83)).astype(dtype)

    def zeros() -> Any:
        return np.zeros(83, dtype)

    def follow(make: Any, update: Any) -> None:
        p, t = start.copy(), leaf(start)
        optimizer = make([t])
        for step, gradient in enumerate(gradients, 1):
            t.grad = torch.tensor(gradient)
            optimizer.step()
            update(p, gradient, step)
        compare(p, t, dtype)

    optim = torch.optim
    for nesterov in (False, True):
        v = zeros()
        follow(
            lambda p, n=nesterov: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=n),
            lambda p, g, _, n=nesterov, v=v: F.sgd_update(p, g, v, lr=0.1, momentum=0.9, nesterov=n, weight_decay=0.0),
        )
    sq, mom, avg = zeros(), zeros(), zeros()
    follow(
        lambda p: optim.RMSprop(p, lr=0.01, alpha=0.9, momentum=0.5, eps=1e-30, centered=False),
        lambda p, g, _: F.rmsprop_update(
            p, g, sq, mom, None, lr=0.01, rho=0.9, momentum=0.5, eps=1e-30, weight_decay=0.0
        ),
    )
    sq2 = zeros()
    follow(
        lambda p: optim.RMSprop(p, lr=0.01, alpha=0.5, eps=1e-30, centered=True),
        lambda p, g, _: F.rmsprop_update(
            p, g, sq2, None, avg, lr=0.01, rho=0.5, momentum=0.0, eps=1e-30, weight_decay=0.0
        ),
    )
    for amsgrad in (False, True):
        m, s = zeros(), zeros()
        vhat = zeros() if amsgrad else None
        follow(
            lambda p, a=amsgrad: optim.AdamW(p, lr=0.01, betas=(0.9, 0.999), eps=1e-30, amsgrad=a, weight_decay=0.03),
            lambda p, g, step, m=m, s=s, vhat=vhat: F.adam_update(
                p, g, m, s, vhat, lr=0.01, beta1=0.9, beta2=0.999, eps=1e-30, step=step, weight_decay=0.03
            ),
        )
