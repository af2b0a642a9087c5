"""fastrnn.torch in the autograd graph: memory, what is kept, changes in place, second derivatives."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

import fastrnn.torch as ft  # noqa: E402
from torch_tools import B, H, I, T, assert_same, cells, on_kernels, one_thread, pair, states  # noqa: E402, F401


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
