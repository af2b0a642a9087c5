"""What the tests of fastrnn.torch share: a module of torch.nn and ours with the same weights, all that comes out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

import fastrnn.torch as ft

I, H, B, T = 5, 6, 4, 7
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5}
LENGTHS = torch.tensor([3, 7, 1, 6])
CELLS = ("RNN", "LSTM", "GRU")
cells = pytest.mark.parametrize("cell", CELLS)


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    """PyTorch's threads cost more on tensors as small as these than they save."""
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
