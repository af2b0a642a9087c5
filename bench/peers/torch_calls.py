"""PyTorch: torch.nn modules, in eval and inference mode where nothing is trained (oneDNN is picked by itself)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from bench import cases
from bench.cases import Array
from bench.peers import Call
from bench.peers.epoch_torch import epoch as epoch

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def _calls(
    module: Any, parameters: list[Any], problem: Any, x: Any, grad: Array, output: Callable[[Any], Any], name: str = ""
) -> Call:
    grad_output = torch.from_numpy(grad)
    inputs = [x, *parameters] if x.is_floating_point() else parameters

    def inference() -> Any:
        with torch.inference_mode():
            return output(module(x))

    def training() -> Any:
        for tensor in inputs:
            tensor.grad = None
        y = output(module(x))
        y.backward(grad_output)
        return [y.detach(), *(tensor.grad for tensor in inputs)]

    if not problem.train:
        module.eval()
        return Call(inference, lambda y: [y.numpy()], name)
    x.requires_grad_(x.is_floating_point())
    return Call(training, lambda result: [tensor.numpy() for tensor in result], name)


def _load(parameters: list[Any], values: tuple[Array, ...]) -> None:
    with torch.no_grad():
        for parameter, value in zip(parameters, values, strict=True):
            parameter.copy_(torch.from_numpy(value))


def layer(problem: cases.Layer) -> list[Call]:
    _, _, I, H = problem.shape
    calls = []
    for batch_first in (True, False):
        module = getattr(nn, problem.cell.upper())(I, H, batch_first=batch_first)
        _load(list(module.parameters()), problem.weights)
        wanted = [module.weight_ih_l0, module.weight_hh_l0, module.bias_ih_l0]
        x, grad = problem.x, problem.grad_output
        if not batch_first:
            x, grad = (a.swapaxes(0, 1).copy() for a in (x, grad))
        call = _calls(module, wanted, problem, torch.from_numpy(x), grad, lambda result: result[0],
                      "batch first" if batch_first else "time first")  # fmt: skip
        if not batch_first:
            call = Call(call.run, _batch_first(call), call.name)
        calls.append(call)
    return calls


def _batch_first(call: Call) -> Callable[[Any], list[Array]]:
    def answer(result: Any) -> list[Array]:
        return [a.swapaxes(0, 1) if a.ndim == 3 else a for a in call.answer(result)]

    return answer


def stream(problem: cases.Stream) -> list[Call]:
    """The module of one step, and the one of sequences on a sequence of one step."""
    I, H = problem.shape
    cell = getattr(nn, problem.cell.upper() + "Cell")(I, H).eval()
    layer = getattr(nn, problem.cell.upper())(I, H).eval()
    x = torch.from_numpy(problem.x)
    calls = []
    for module, given, name in ((cell, x[None], "cell"), (layer, x[None, None], "sequence")):
        _load(list(module.parameters()), problem.weights)
        calls.append(Call(_advance(module, given), _last_h, name, problem.steps))
    return calls


def _advance(module: Any, x: Any) -> Callable[[], Any]:
    """A cell returns the new state, a layer the output and the new state."""
    state, last = None, slice(None) if x.ndim == 2 else 1

    @torch.inference_mode()
    def run() -> Any:
        nonlocal state
        result = module(x, state)
        state = result if last != 1 else result[1]
        return state

    return run


def _last_h(state: Any) -> list[Array]:
    return [(state[0] if isinstance(state, tuple) else state).numpy().ravel()]


def conv1d(problem: cases.Conv1D) -> list[Call]:
    """PyTorch's layout is (B, C, T): it gets its input so, and the answer is transposed outside the timing."""
    _, _, C, F, K = problem.shape
    module = nn.Sequential(nn.Conv1d(C, F, K), nn.ReLU())
    _load(list(module.parameters()), problem.weights)
    x = torch.from_numpy(problem.x.swapaxes(1, 2).copy())
    call = _calls(module, list(module.parameters()), problem, x, problem.grad_output.swapaxes(1, 2).copy(), lambda y: y)

    def answer(result: Any) -> list[Array]:
        arrays = call.answer(result)
        return [a.swapaxes(1, 2) if i < 2 else a for i, a in enumerate(arrays)]

    return [Call(call.run, answer)]


def dense(problem: cases.Dense) -> list[Call]:
    _, I, O = problem.shape
    module = nn.Sequential(nn.Linear(I, O), nn.Tanh())
    _load(list(module.parameters()), problem.weights)
    x = torch.from_numpy(problem.x.copy())
    return [_calls(module, list(module.parameters()), problem, x, problem.grad_output, lambda y: y)]


def embedding(problem: cases.Embedding) -> list[Call]:
    module = nn.Embedding(*problem.shape[2:])
    _load(list(module.parameters()), (problem.weight,))
    ids = torch.from_numpy(problem.ids)
    return [_calls(module, list(module.parameters()), problem, ids, problem.grad_output, lambda y: y)]


def adam(problem: cases.Adam) -> list[Call]:
    """The fused implementation, and the one over lists of tensors that is the default."""
    calls = []
    for name, options in (("fused", {"fused": True}), ("foreach", {"foreach": True})):
        p = nn.Parameter(torch.from_numpy(problem.parameter.copy()))
        p.grad = torch.from_numpy(problem.gradient)
        optimizer = torch.optim.Adam([p], lr=problem.rate, betas=(problem.beta1, problem.beta2), eps=problem.epsilon,
                                     **options)  # fmt: skip
        calls.append(Call(_step(optimizer, p), lambda p: [p.detach().numpy()], name, problem.updates))
    return calls


def _step(optimizer: Any, p: Any) -> Callable[[], Any]:
    def run() -> Any:
        optimizer.step()
        return p

    return run
