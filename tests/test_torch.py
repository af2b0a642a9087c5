"""fastrnn.torch against torch.nn: results, gradients, dropout, packed sequences, saving, refusals."""

from __future__ import annotations

import copy
import itertools
import pickle
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence  # noqa: E402

import fastrnn.torch as ft  # noqa: E402

I, H, B, T = 5, 6, 4, 7
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5}
LENGTHS = torch.tensor([3, 7, 1, 6])
CELLS = ("RNN", "LSTM", "GRU")
cells = pytest.mark.parametrize("cell", CELLS)


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pair(cell: str, dtype: Any = torch.float64, **options: Any) -> tuple[Any, Any]:
    """torch.nn's module and ours, with the same weights, made larger so that gates leave their linear range."""
    options = {"input_size": I, "hidden_size": H, "dtype": dtype, **options}
    torch.manual_seed(1)
    theirs = getattr(nn, cell)(**options)
    with torch.no_grad():
        for p in theirs.parameters():
            p.mul_(2)
    ours = getattr(ft, cell)(**options)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def states(cell: str, module: Any, batch: int | None = B, dtype: Any = torch.float64) -> Any:
    count = module.num_layers * (2 if module.bidirectional else 1)
    shape = (count, H) if batch is None else (count, batch, H)
    made = [torch.randn(shape, dtype=dtype, requires_grad=True) for _ in range(2)]
    return tuple(made) if cell == "LSTM" else made[0]


def flat(result: Any) -> list[Any]:
    """The tensors of (output, h_n) or (output, (h_n, c_n))."""
    output, last = result
    output = output.data if isinstance(output, PackedSequence) else output
    return [output, *(last if isinstance(last, tuple) else [last])]


def everything(module: Any, x: Any, hx: Any = None) -> dict[str, Any]:
    """Results and all gradients of a random weighting of the results."""
    module.zero_grad()
    leaf = x.detach().clone().requires_grad_()
    given = leaf if module.__dict__.get("given") is None else module.given(leaf)
    results = flat(module(given, hx))
    generator = torch.Generator().manual_seed(5)
    loss = sum((r * torch.randn(r.shape, dtype=r.dtype, generator=generator)).sum() for r in results)
    hx_leaves = [] if hx is None else list(hx) if isinstance(hx, tuple) else [hx]
    for leaf_state in hx_leaves:
        leaf_state.grad = None
    loss.backward()
    found = {f"result {i}": r.detach() for i, r in enumerate(results)}
    found["x"] = leaf.grad
    found |= {f"state {i}": s.grad.clone() for i, s in enumerate(hx_leaves)}
    return found | {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def assert_same(ours: dict[str, Any], theirs: dict[str, Any], tolerance: float) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert ours[name].shape == value.shape, name
        scale = max(1.0, float(value.abs().max()))
        assert float((ours[name] - value).abs().max()) <= tolerance * scale, name


def on_kernels(monkeypatch: Any) -> None:
    """From here on torch.nn's forward raises when one of our modules would fall back on it."""

    def refuse(plain: Any) -> Any:
        original = plain.forward

        def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
            assert not isinstance(self, ft.modules.Kernels), "fell back on torch.nn"
            return original(self, *args, **kwargs)

        return forward

    for plain in (nn.RNN, nn.LSTM, nn.GRU):
        monkeypatch.setattr(plain, "forward", refuse(plain))


# ---- results and gradients ----------------------------------------------------------------------------------------


@cells
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_parity(
    monkeypatch: Any, cell: str, layers: int, bidirectional: bool, bias: bool, batch_first: bool, dtype: Any
) -> None:
    theirs, ours = pair(cell, dtype, num_layers=layers, bidirectional=bidirectional, bias=bias, batch_first=batch_first)
    on_kernels(monkeypatch)
    x = torch.randn((B, T, I) if batch_first else (T, B, I), dtype=dtype)
    for hx in (None, states(cell, theirs, dtype=dtype)):
        assert_same(everything(ours, x, hx), everything(theirs, x, hx), TOLERANCE[dtype])
        with torch.no_grad():
            mine = dict(enumerate(flat(ours(x, hx))))
            assert_same(mine, dict(enumerate(flat(theirs(x, hx)))), TOLERANCE[dtype])


@cells
@pytest.mark.parametrize("batch_first", [False, True])
def test_unbatched(monkeypatch: Any, cell: str, batch_first: bool) -> None:
    theirs, ours = pair(cell, num_layers=2, bidirectional=True, batch_first=batch_first)
    on_kernels(monkeypatch)
    x = torch.randn(T, I, dtype=torch.float64)
    for hx in (None, states(cell, theirs, batch=None)):
        assert_same(everything(ours, x, hx), everything(theirs, x, hx), 1e-12)


def test_relu(monkeypatch: Any) -> None:
    theirs, ours = pair("RNN", nonlinearity="relu", num_layers=2)
    on_kernels(monkeypatch)
    x = torch.randn(T, B, I, dtype=torch.float64)
    assert_same(everything(ours, x), everything(theirs, x), 1e-12)


@cells
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("with_state", [False, True])
def test_packed_sequence(monkeypatch: Any, cell: str, batch_first: bool, with_state: bool) -> None:
    theirs, ours = pair(cell, num_layers=2, bidirectional=True, batch_first=batch_first)
    on_kernels(monkeypatch)
    x = torch.randn((B, T, I) if batch_first else (T, B, I), dtype=torch.float64)
    hx = states(cell, theirs) if with_state else None

    def given(x: Any) -> Any:
        return pack_padded_sequence(x, LENGTHS, batch_first=batch_first, enforce_sorted=False)

    theirs.given = ours.given = given
    assert_same(everything(ours, x, hx), everything(theirs, x, hx), 1e-12)
    one, other = ours(given(x), hx)[0], theirs(given(x), hx)[0]
    assert isinstance(one, PackedSequence)
    for name in ("batch_sizes", "sorted_indices", "unsorted_indices"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


def test_sorted_packed_sequence_without_indices(monkeypatch: Any) -> None:
    theirs, ours = pair("GRU")
    on_kernels(monkeypatch)
    packed = pack_sequence([torch.randn(n, I, dtype=torch.float64) for n in (5, 3, 3, 1)])
    (mine, h_mine), (other, h_other) = ours(packed), theirs(packed)
    assert mine.sorted_indices is None and mine.unsorted_indices is None
    torch.testing.assert_close(mine.data, other.data, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(h_mine, h_other, rtol=1e-12, atol=1e-12)


@cells
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_gradcheck(monkeypatch: Any, cell: str, bidirectional: bool, bias: bool) -> None:
    _, ours = pair(cell, input_size=2, hidden_size=3, bidirectional=bidirectional, bias=bias)
    on_kernels(monkeypatch)
    names = [name for name, _ in ours.named_parameters()]
    directions = 2 if bidirectional else 1
    hx = [torch.randn(directions, 2, 3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    hx = hx if cell == "LSTM" else hx[:1]
    x = torch.randn(4, 2, 2, dtype=torch.float64, requires_grad=True)

    def call(x: Any, *tensors: Any) -> tuple[Any, ...]:
        hx, weights = tensors[: -len(names)], tensors[-len(names) :]
        state = tuple(hx) if cell == "LSTM" else hx[0]
        made = torch.func.functional_call(ours, dict(zip(names, weights, strict=True)), (x, state))
        return tuple(flat(made))

    assert torch.autograd.gradcheck(call, (x, *hx, *(p.detach().requires_grad_() for p in ours.parameters())))


def test_gradcheck_through_packing() -> None:
    sequence = pack_padded_sequence(torch.zeros(T, B, 1), LENGTHS, enforce_sorted=False)
    places = ft.packed.Places.of(sequence.batch_sizes, len(sequence.data))
    data = torch.randn(int(LENGTHS.sum()), 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda d: ft.packed.pad(d, places), data)
    assert torch.equal(ft.packed.pack(ft.packed.pad(data, places), places), data)


@cells
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("rate", [0.4, 1.0])
def test_dropout_draws_what_torch_draws(
    monkeypatch: Any, cell: str, batch_first: bool, packed: bool, rate: float
) -> None:
    theirs, ours = pair(cell, num_layers=3, bidirectional=True, batch_first=batch_first, dropout=rate)
    on_kernels(monkeypatch)
    if packed:
        theirs.given = ours.given = lambda x: pack_padded_sequence(
            x, LENGTHS, batch_first=batch_first, enforce_sorted=False
        )
    x = torch.randn((B, T, I) if batch_first else (T, B, I), dtype=torch.float64)
    found = []
    for module in (ours, theirs):
        torch.manual_seed(3)
        found.append(everything(module, x))
    assert_same(*found, 1e-12)
    ours.eval(), theirs.eval()
    assert_same(everything(ours, x), everything(theirs, x), 1e-12)
    assert not torch.equal(everything(ours, x)["result 0"], found[0]["result 0"])


@cells
def test_a_seed_gives_the_same_weights(cell: str) -> None:
    made = []
    for module in (nn, ft):
        torch.manual_seed(11)
        made.append(getattr(module, cell)(3, 4, 2, bidirectional=True))
    assert list(made[0].state_dict()) == list(made[1].state_dict())
    assert all(torch.equal(a, b) for a, b in zip(*(m.parameters() for m in made), strict=True))


# ---- arrays and the graph -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", ["transposed", "strided", "expanded", "flipped_features"])
def test_inputs_of_any_strides(monkeypatch: Any, view: str) -> None:
    theirs, ours = pair("LSTM")
    on_kernels(monkeypatch)
    x = {
        "transposed": torch.randn(B, T, I, dtype=torch.float64).transpose(0, 1),
        "strided": torch.randn(T, B, 2 * I, dtype=torch.float64)[..., ::2],
        "expanded": torch.randn(1, 1, I, dtype=torch.float64).expand(T, B, I),
        "flipped_features": torch.randn(I, B, T, dtype=torch.float64).permute(2, 1, 0),
    }[view]
    torch.testing.assert_close(ours(x)[0], theirs(x)[0], rtol=1e-12, atol=1e-12)


def test_upstream_gradients_of_any_strides() -> None:
    theirs, ours = pair("GRU", bidirectional=True)
    x = torch.randn(T, B, I, dtype=torch.float64)
    grads = []
    for module in (ours, theirs):
        module.zero_grad()
        module(x)[0].sum().backward()  # an expanded scalar
        module(x)[0].permute(2, 1, 0).contiguous().pow(2).sum().backward()  # a transposed one
        grads.append({name: p.grad for name, p in module.named_parameters()})
    assert_same(*grads, 1e-12)


def test_memory_is_shared() -> None:
    x = torch.randn(T, B, I)
    assert ft.autograd.array(x).__array_interface__["data"][0] == x.data_ptr()
    _, ours = pair("LSTM", torch.float32)
    output, (h_n, c_n) = ours(x)
    for tensor in (output, h_n, c_n):
        assert ft.autograd.array(tensor.detach()).__array_interface__["data"][0] == tensor.data_ptr()


@cells
def test_only_the_gradients_asked_for(cell: str) -> None:
    for frozen in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
        theirs, ours = pair(cell, bidirectional=True)
        for module in (theirs, ours):
            getattr(module, frozen).requires_grad_(False)
        x = torch.randn(T, B, I, dtype=torch.float64)
        for module in (ours, theirs):
            (module(x)[0] ** 2).sum().backward()
        assert getattr(ours, frozen).grad is None
        grads = [{n: p.grad for n, p in m.named_parameters() if p.grad is not None} for m in (ours, theirs)]
        assert len(grads[0]) == 7
        assert_same(*grads, 1e-12)


def test_gradient_of_x_alone_and_of_the_state_alone() -> None:
    theirs, ours = pair("LSTM")
    for module in (theirs, ours):
        module.requires_grad_(False)
    x = torch.randn(T, B, I, dtype=torch.float64)
    assert not ours(x)[0].requires_grad
    hx = states("LSTM", ours)
    hx = (hx[0].detach(), hx[1])
    grads = [torch.autograd.grad(m(x, hx)[0].pow(2).sum(), hx[1])[0] for m in (ours, theirs)]
    torch.testing.assert_close(*grads, rtol=1e-12, atol=1e-12)
    x.requires_grad_()
    grads = [torch.autograd.grad(m(x)[1][1].sum(), x)[0] for m in (ours, theirs)]
    torch.testing.assert_close(*grads, rtol=1e-12, atol=1e-12)


def test_no_workspace_without_gradients(monkeypatch: Any) -> None:
    _, ours = pair("LSTM", num_layers=2)
    kept: list[bool] = []
    monkeypatch.setattr(ft.modules, "run", lambda *a, keep: (kept.append(keep), ft.autograd.run(*a, keep=keep))[1])
    monkeypatch.setattr(ft.modules.Recurrence, "apply", lambda *a: pytest.fail("recorded a graph"))
    x = torch.randn(T, B, I, dtype=torch.float64)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert not ours(x)[0].requires_grad
    assert kept == [False] * 4


def test_inference_tensors() -> None:
    theirs, ours = pair("GRU")
    with torch.inference_mode():
        x = torch.randn(T, B, I, dtype=torch.float64)
        torch.testing.assert_close(ours(x)[0], theirs(x)[0], rtol=1e-12, atol=1e-12)
        ft.freeze(ours)
        torch.testing.assert_close(ours(x)[0], theirs(x)[0], rtol=1e-12, atol=1e-12)


def test_frozen_inference_tensors_follow_every_change() -> None:
    with torch.inference_mode():
        ours, other = ft.LSTM(3, 4), ft.LSTM(3, 4)
        x = torch.randn(2, 2, 3)
        ft.freeze(ours)(x)
        ours.load_state_dict(other.state_dict())
        torch.testing.assert_close(ours(x)[0], other(x)[0])
        for module in (ours, other):
            module.weight_hh_l0.mul_(2)
        torch.testing.assert_close(ours(x)[0], other(x)[0])


def test_input_changed_before_backward_is_noticed() -> None:
    _, ours = pair("GRU")
    x = torch.randn(T, B, I, dtype=torch.float64)
    output = ours(x)[0]
    x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


def test_output_may_be_changed_before_backward() -> None:
    theirs, ours = pair("LSTM", bidirectional=True)
    grads = []
    for module, change in ((ours, True), (theirs, False)):
        output = module(torch.linspace(-1, 1, T * B * I, dtype=torch.float64).reshape(T, B, I))[0]
        output = output.mul_(3) if change else output * 3
        (output * torch.arange(2 * H)).sum().backward()
        grads.append({name: p.grad for name, p in module.named_parameters()})
    assert_same(*grads, 1e-12)


def test_backward_twice() -> None:
    _, ours = pair("LSTM")
    x = torch.randn(T, B, I, dtype=torch.float64)
    loss = ours(x)[0].pow(2).sum()
    loss.backward(retain_graph=True)
    first = ours.weight_hh_l0.grad.clone()
    loss.backward()
    torch.testing.assert_close(ours.weight_hh_l0.grad, 2 * first)
    with pytest.raises(RuntimeError, match="a second time"):
        loss.backward()


def test_workspace_is_freed_with_the_graph() -> None:
    _, ours = pair("LSTM")
    output = ours(torch.randn(T, B, I, dtype=torch.float64))[0]
    node = output.grad_fn
    output.sum().backward()
    if ft.autograd.keeps_graph.__module__ != "torch._C._autograd":
        pytest.skip("this PyTorch does not say whether it keeps the graph")
    assert node.workspaces is None


def test_second_derivative_raises_rather_than_being_left_out() -> None:
    _, ours = pair("GRU")
    x = torch.randn(T, B, I, dtype=torch.float64, requires_grad=True)
    output = ours(x)[0].sum()
    (grad,) = torch.autograd.grad(output, x, create_graph=True)
    plain = torch.autograd.grad(ours(x)[0].sum(), x)[0]
    assert torch.equal(grad, plain)
    with pytest.raises(RuntimeError, match=r"second derivative.*restore"):
        (output + grad.pow(2).sum()).backward()


def _penalty(module: Any, x: Any) -> Any:
    x.requires_grad_()
    output = module(x)[0].sum()
    (grad,) = torch.autograd.grad(output, x, create_graph=True)
    return output + 10 * grad.pow(2).sum()


def _inner_step(module: Any, x: Any) -> Any:
    parameters = dict(module.named_parameters())
    grads = torch.autograd.grad(module(x)[0].pow(2).sum(), list(parameters.values()), create_graph=True)
    return sum(g.pow(2).sum() for g in grads)


SECOND = {
    "grad of a penalty": lambda m, x: torch.autograd.grad(_penalty(m, x), list(m.parameters())),
    "backward with inputs": lambda m, x: _penalty(m, x).backward(inputs=list(m.parameters())),
    "a step within a step": lambda m, x: torch.autograd.grad(_inner_step(m, x), m.weight_hh_l0),
    "hvp": lambda m, x: torch.autograd.functional.hvp(lambda z: m(z)[0].pow(2).sum(), x, torch.ones_like(x)),
    "vhp": lambda m, x: torch.autograd.functional.vhp(lambda z: m(z)[0].pow(2).sum(), x, torch.ones_like(x)),
    "jvp": lambda m, x: torch.autograd.functional.jvp(lambda z: m(z)[0].pow(2).sum(), x, torch.ones_like(x)),
    "hessian": lambda m, x: torch.autograd.functional.hessian(lambda z: m(z)[0].pow(2).sum(), x),
}


@pytest.mark.parametrize("kind", SECOND)
@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_every_way_to_a_second_derivative_raises(name: str, kind: str) -> None:
    _, ours = pair(name)
    with pytest.raises(RuntimeError, match="second derivative"):
        SECOND[kind](ours, torch.randn(3, 2, I, dtype=torch.float64))


def test_input_changed_behind_hooks_that_save_a_copy() -> None:
    from torch.utils.checkpoint import checkpoint

    _, ours = pair("LSTM")

    def change_later(z: Any) -> Any:
        z = z * 1.0
        output = ours(z)[0]
        z.mul_(3)
        return output

    x = torch.randn(T, B, I, dtype=torch.float64, requires_grad=True)
    with pytest.raises(RuntimeError, match="x: expected the input as it was in forward"):
        checkpoint(change_later, x, use_reentrant=False).sum().backward()
    given = torch.randn(T, B, I, dtype=torch.float64)
    with torch.autograd.graph.saved_tensors_hooks(torch.clone, lambda t: t):
        output = ours(given)[0].sum()
    given.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.backward()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.5, 1.0])
def test_default_device_elsewhere(dropout: float, packed: bool) -> None:
    theirs, ours = pair("GRU", num_layers=2, dropout=dropout)
    x = torch.randn(T, B, I, dtype=torch.float64)
    given = pack_padded_sequence(x, LENGTHS, enforce_sorted=False) if packed else x
    results = []
    for module in (theirs, ours):
        torch.manual_seed(3)
        with torch.device("meta"):
            output = module(given)[0]
        results.append(output.data if packed else output)
    torch.testing.assert_close(*results)


def test_batch_sizes_that_do_not_fit() -> None:
    _, ours = pair("LSTM")
    data = torch.randn(5, I, dtype=torch.float64)
    zeros = torch.zeros(1, 3, H, dtype=torch.float64)
    for sizes in ([2, 1, 2], [3, 1], [3, 3], [3, 3, -1], []):
        given = PackedSequence(data, torch.tensor(sizes, dtype=torch.int64))
        for hx in (None, (zeros, zeros)) if sizes[:1] == [3] else (None,):
            with pytest.raises(
                ValueError, match=r"\[PackedSequence\] input: expected batch_sizes that never grow.* got \["
            ):
                ours(given, hx)


def test_checkpointing_by_torch() -> None:
    from torch.utils.checkpoint import checkpoint

    theirs, ours = pair("LSTM", num_layers=2, dropout=0.5)
    grads = []
    for module in (ours, theirs):
        torch.manual_seed(2)
        x = torch.ones(T, B, I, dtype=torch.float64, requires_grad=True)
        checkpoint(lambda v, m=module: m(v)[0], x, use_reentrant=False).sum().backward()
        grads.append({"x": x.grad})
    assert_same(*grads, 1e-12)


# ---- module ---------------------------------------------------------------------------------------------------------


@cells
def test_state_dict_goes_both_ways(cell: str) -> None:
    theirs, ours = pair(cell, num_layers=2, bidirectional=True)
    with torch.no_grad():
        for p in ours.parameters():
            p.add_(torch.randn_like(p))
    assert theirs.load_state_dict(ours.state_dict()) == ours.load_state_dict(theirs.state_dict())
    x = torch.randn(T, B, I, dtype=torch.float64)
    torch.testing.assert_close(ours(x)[0], theirs(x)[0], rtol=1e-12, atol=1e-12)


@cells
def test_it_is_a_module_of_torch(cell: str) -> None:
    options: dict[str, Any] = dict(num_layers=2, bias=False, batch_first=True, dropout=0.5, bidirectional=True)
    theirs, ours = pair(cell, **options)
    assert isinstance(ours, getattr(nn, cell))
    assert repr(ours) == repr(theirs)
    assert ours.flatten_parameters() is None
    positional = getattr(ft, cell)(3, 4, 2, *(["relu"] if cell == "RNN" else []), False, True)
    assert repr(positional) == repr(getattr(nn, cell)(3, 4, 2, *(["relu"] if cell == "RNN" else []), False, True))


@cells
@pytest.mark.parametrize("way", [copy.deepcopy, copy.copy, lambda m: pickle.loads(pickle.dumps(m))])
@pytest.mark.parametrize("freeze", [False, True])
def test_copies(cell: str, way: Any, freeze: bool) -> None:
    _, ours = pair(cell, num_layers=2)
    x = torch.randn(T, B, I, dtype=torch.float64)
    with torch.no_grad():
        expected = (ft.freeze(ours) if freeze else ours)(x)[0]
        made = way(ours)
        assert type(made) is type(ours)
        assert torch.equal(made(x)[0], expected)
    made(x)[0].sum().backward()


def test_other_devices_and_dtypes_run_on_torch() -> None:
    half = ft.LSTM(I, H, dtype=torch.bfloat16)
    assert half(torch.zeros(T, B, I, dtype=torch.bfloat16))[0].dtype == torch.bfloat16
    assert ft.GRU(I, H, device="meta")(torch.zeros(T, B, I, device="meta"))[0].shape == (T, B, H)
    theirs, ours = pair("LSTM", torch.float32)
    x = torch.randn(T, B, I)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ours(x)[0], theirs(x)[0])
    assert ours(torch.zeros(T, 0, I))[0].shape == (T, 0, H)


def test_transforms_of_torch_func_run_on_torch() -> None:
    theirs, ours = pair("GRU")
    x = torch.randn(T, B, I, dtype=torch.float64)
    losses = [lambda x, m=module: m(x)[0].pow(2).sum() for module in (ours, theirs)]
    torch.testing.assert_close(*(torch.func.grad(loss)(x) for loss in losses), rtol=1e-12, atol=1e-12)
    along = torch.ones_like(x)
    with torch.no_grad():
        tangents = [torch.func.jvp(loss, (x,), (along,))[1] for loss in losses]
    assert float(tangents[0]) != 0
    torch.testing.assert_close(*tangents, rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore")
def test_tracing_scripting_and_exporting_give_torch() -> None:
    for cell in CELLS:
        theirs, ours = pair(cell, torch.float32)
        x = torch.randn(T, B, I)
        expected = theirs(x)[0]
        for made in (
            torch.jit.trace(ours, x, check_trace=False),
            torch.export.export(ours, (x,)).module(),
            torch.jit.script(nn.Sequential(copy.deepcopy(ours)))[0],
        ):
            torch.testing.assert_close(made(x)[0], expected)


@cells
def test_fx_is_refused_before_anything_is_changed(cell: str) -> None:
    _, ours = pair(cell)
    model = nn.Sequential(ours)
    with pytest.raises(TypeError, match=rf"\[{cell}\] input: expected tensors .*restore.* got a Proxy of torch.fx"):
        torch.fx.symbolic_trace(model)
    assert all(isinstance(w, nn.Parameter) for w in ours._flat_weights)
    x = torch.randn(T, B, I, dtype=torch.float64)
    expected = model(x)[0]
    torch.testing.assert_close(torch.fx.symbolic_trace(ft.restore(model))(x)[0], expected, rtol=1e-12, atol=1e-12)


ERRORS = {
    "rank": lambda m: m(torch.zeros(2, 3, 4, I)),
    "features": lambda m: m(torch.zeros(T, B, I + 1)),
    "dtype": lambda m: m(torch.zeros(T, B, I, dtype=torch.float64)),
    "integers": lambda m: m(torch.zeros(T, B, I, dtype=torch.int64)),
    "steps": lambda m: m(torch.zeros(0, B, I)),
    "state shape": lambda m: m(torch.zeros(T, B, I), (torch.zeros(1, B + 1, H),) * 2),
    "state rank": lambda m: m(torch.zeros(T, I), (torch.zeros(1, 1, H),) * 2),
    "one state": lambda m: m(torch.zeros(T, B, I), (torch.zeros(1, B, H),)),
    "cell shape": lambda m: m(torch.zeros(T, B, I), (torch.zeros(1, B, H), torch.zeros(2, B, H))),
    "state dtype": lambda m: m(torch.zeros(T, B, I), (torch.zeros(1, B, H, dtype=torch.float64),) * 2),
    "not a tensor": lambda m: m(np.zeros((T, B, I), np.float32)),
}


@pytest.mark.parametrize("wrong", ERRORS)
def test_errors_are_those_of_torch(wrong: str) -> None:
    theirs, ours = pair("LSTM", torch.float32)
    found = []
    for module in (theirs, ours):
        with pytest.raises(Exception) as error:
            ERRORS[wrong](module)
        found.append((type(error.value), str(error.value)))
    assert found[0] == found[1]


@cells
def test_packed_shapes_are_checked(cell: str) -> None:  # torch.nn.LSTM does not
    _, ours = pair(cell, torch.float32)
    with pytest.raises(RuntimeError, match=f"Expected {I}, got {I + 1}"):
        ours(pack_sequence([torch.zeros(3, I + 1)]))
    for shape in ((1, 1, H + 1), (2, 1, H), (1, 2, H)):
        state = torch.zeros(shape)
        with pytest.raises(RuntimeError, match="Expected hidden"):
            ours(pack_sequence([torch.zeros(3, I)]), (state, state) if cell == "LSTM" else state)


def test_constructor_refuses() -> None:
    with pytest.raises(ValueError, match=r"\[LSTM\] proj_size: expected 0 .* got 2"):
        ft.LSTM(I, H, proj_size=2)
    with pytest.raises(ValueError, match="nonlinearity"):
        ft.RNN(I, H, nonlinearity="gelu")
    with pytest.raises(ValueError, match="hidden_size"):
        ft.GRU(I, 0)


def test_without_pytorch_one_sentence() -> None:
    import subprocess
    import sys

    code = "import sys; sys.modules['torch'] = None; import fastrnn; from fastrnn import *; fastrnn.torch"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip().endswith("ImportError: [fastrnn.torch] needs PyTorch: pip install 'fastrnn[torch]'.")


# ---- freeze ---------------------------------------------------------------------------------------------------------


def test_freeze_packs_once_and_follows_counted_changes(monkeypatch: Any) -> None:
    theirs, ours = pair("LSTM", bidirectional=True, num_layers=2)
    model = nn.ModuleDict({"a": ours})
    packed: list[str] = []
    original = ft.packing.F.pack_weights
    monkeypatch.setattr(
        ft.packing.F, "pack_weights", lambda cell, *a, **k: (packed.append(cell), original(cell, *a, **k))[1]
    )
    assert ft.freeze(model) is model
    assert len(packed) == 4
    x = torch.randn(T, B, I, dtype=torch.float64)

    def check(times: int) -> None:
        for _ in range(2):
            with torch.no_grad():
                torch.testing.assert_close(ours(x)[0], theirs(x)[0], rtol=1e-12, atol=1e-12)
        assert len(packed) == 4 * times

    check(1)
    optimizer = torch.optim.SGD([*ours.parameters(), *theirs.parameters()], 0.1)
    for module in (ours, theirs):  # gradients come from the weights themselves
        module(x)[0].pow(2).sum().backward()
    optimizer.step()
    check(2)
    for module in (ours, theirs):
        module.load_state_dict({k: v * 1.5 for k, v in theirs.state_dict().items()})
    check(3)
    for module in (ours, theirs):
        module.bias_ih_l0 = nn.Parameter(torch.ones(4 * H, dtype=torch.float64))
    check(4)
    for module in (ours, theirs):
        module.weight_ih_l0.data = torch.ones(4 * H, I, dtype=torch.float64)
    check(5)
    assert ft.unfreeze(model) is model
    check(5)


def test_freeze_in_reduced_precision() -> None:
    _, ours = pair("LSTM", torch.float32)
    x = torch.randn(T, B, I)
    with torch.no_grad():
        exact = ours(x)[0]
        rounded = ft.freeze(ours, "bfloat16")(x)[0]
        assert 0 < float((rounded - exact).abs().max()) < 2e-2
    _, double = pair("LSTM")
    with pytest.raises((TypeError, ValueError), match="float32 for int8, got float64"):
        ft.freeze(double, "int8")
    with pytest.raises(ValueError, match=r"\[freeze\] precision: expected None or one of .*, got 'nonsense'"):
        ft.freeze(ft.LSTM(2, 3, device="meta"), "nonsense")
    with pytest.raises(ValueError, match=r"\[freeze\] model: expected a module with a layer of fastrnn.torch"):
        ft.freeze(nn.LSTM(2, 3))
    with pytest.raises(TypeError, match=r"\[freeze\] model: expected a torch.nn.Module, got int"):
        ft.freeze(3)


# ---- layers ---------------------------------------------------------------------------------------------------------


@cells
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_layers_and_back(cell: str, layers: int, bidirectional: bool, bias: bool, dtype: Any) -> None:
    theirs, _ = pair(cell, dtype, num_layers=layers, bidirectional=bidirectional, bias=bias, batch_first=True)
    x = torch.randn(B, T, I, dtype=dtype)
    expected, last = theirs(x)
    last = last[0] if cell == "LSTM" else last
    tolerance = 1e-12 if dtype is torch.float64 else 1e-6
    y: Any = x.numpy()
    made = ft.to_layers(theirs)
    for layer in made:
        y = layer(y)
    assert y.dtype == x.numpy().dtype
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=0, atol=tolerance)

    y = x.numpy()
    for layer in ft.to_layers(theirs, return_sequences=False):
        y = layer(y)
    final = torch.cat([last[-2], last[-1]], 1) if bidirectional else last[-1]
    np.testing.assert_allclose(y, final.detach().numpy(), rtol=0, atol=tolerance)

    back = ft.restore(ft.from_layers(made))
    assert type(back) is type(theirs) and repr(back) == repr(theirs)
    torch.testing.assert_close(back(x)[0], expected, rtol=0, atol=tolerance)
    for (name, one), other in zip(theirs.named_parameters(), back.parameters(), strict=True):
        if "bias" not in name or cell == "GRU":
            assert torch.equal(one, other), name


def test_dropout_between_layers_goes_along() -> None:
    module = nn.GRU(3, 4, 3, batch_first=True, dropout=0.25)
    made = ft.to_layers(module)
    assert [type(layer).__name__ for layer in made] == ["GRU", "Dropout", "GRU", "Dropout", "GRU"]
    assert ft.from_layers(made).dropout == 0.25


def built(kind: str, **options: Any) -> Any:
    import fastrnn.layers as L

    layer = getattr(L, kind)(4, **{"return_sequences": True, **options})
    layer.build((2, 5, 4))
    return layer


def test_layers_that_pytorch_has_not_are_named() -> None:
    import fastrnn.layers as L

    refused = {
        "activation='tanh', got 'relu'": [built("LSTM", activation="relu")],
        "recurrent_activation='sigmoid', got 'hard_sigmoid'": [built("GRU", recurrent_activation="hard_sigmoid")],
        "reset_after=True, got False": [built("GRU", reset_after=False)],
        "go_backwards=False, got True": [built("LSTM", go_backwards=True)],
        "dropout=0, got 0.5": [built("LSTM", dropout=0.5)],
        "recurrent_dropout=0, got 0.5": [built("LSTM", recurrent_dropout=0.5)],
        r"layers\[0\].*return_sequences=True, got False": [built("LSTM", return_sequences=False), built("LSTM")],
        r"layers\[1\].*cell='lstm', got 'gru'": [built("LSTM"), built("GRU")],
        r"layers\[1\].*use_bias=True, got False": [built("LSTM"), built("LSTM", use_bias=False)],
        "a built layer": [L.LSTM(4)],
        "at least one recurrent layer": [],
        "got Dense": [L.Dense(3)],
        "dropout between two": [built("LSTM"), L.Dropout(0.5)],
        "one rate": [built("LSTM"), L.Dropout(0.5), built("LSTM"), built("LSTM")],
        r"layers\[1\].*1 direction": [built("LSTM"), bidirectional := L.Bidirectional(L.LSTM(4))],
        "got SpatialDropout1D": [built("LSTM"), L.SpatialDropout1D(0.5), built("LSTM")],
        "noise_shape=None": [built("LSTM"), L.Dropout(0.5, noise_shape=(None, 1, None)), built("LSTM")],
        "return_state=False, got True": [built("LSTM", return_state=True)],
        "merge_mode='concat', got 'sum'": [summed := L.Bidirectional(L.LSTM(4), merge_mode="sum")],
    }
    for layer in (bidirectional, summed):
        layer.build((2, 5, 4))
    for words, layers in refused.items():
        with pytest.raises((TypeError, ValueError), match=r"\[from_layers\].*" + words):
            ft.from_layers(layers)
    with pytest.raises(TypeError, match=r"\[to_layers\] module: expected a torch.nn.RNN, LSTM or GRU, got Linear"):
        ft.to_layers(nn.Linear(2, 3))
    with pytest.raises(ValueError, match="proj_size=0, got 2"):
        ft.to_layers(nn.LSTM(2, 3, proj_size=2))
    with pytest.raises(ValueError, match="got bfloat16"):
        ft.to_layers(nn.LSTM(2, 3, dtype=torch.bfloat16))


def test_layers_and_the_meta_device() -> None:
    with pytest.raises(ValueError, match=r"\[to_layers\] module: expected weights with values, got .* device meta"):
        ft.to_layers(nn.LSTM(2, 3, device="meta"))
    layer = built("LSTM")
    with torch.device("meta"):
        module = ft.from_layers(layer)
    x = torch.randn(2, 5, 4)
    np.testing.assert_allclose(module(x)[0].detach().numpy(), layer(x.numpy()), rtol=0, atol=1e-6)


def test_results_do_not_depend_on_threads() -> None:
    from fastrnn import runtime

    _, ours = pair("LSTM", torch.float32, bidirectional=True)
    x = torch.randn(T, 64, I)
    found = []
    for threads, torch_threads in itertools.product((1, 2), repeat=2):
        before = torch.get_num_threads()
        torch.set_num_threads(torch_threads)
        with runtime.num_threads(threads):
            found.append(everything(ours, x)["result 0"])
        torch.set_num_threads(before)
    assert all(torch.equal(found[0], other) for other in found[1:])
