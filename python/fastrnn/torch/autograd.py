"""One recurrent layer, of one or two directions, on tensors: its forward and its place in the autograd graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.autograd import Function, forward_ad

from .. import functional as F

Array: TypeAlias = npt.NDArray[Any]

_FORWARD: dict[str, Any] = {"rnn": F.rnn, "lstm": F.lstm, "gru": F.gru}
_BACKWARD: dict[str, Any] = {"rnn": F.rnn_backward, "lstm": F.lstm_backward, "gru": F.gru_backward}

# Does the backward pass under way keep the graph? Where this PyTorch cannot say, workspaces live as long as the graph.
keeps_graph: Any = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", lambda: True)

_dispatch_modes: Any = getattr(torch._C, "_len_torch_dispatch_stack", lambda: 0)
_functorch: Any = getattr(torch._C, "_are_functorch_transforms_active", lambda: False)


def intercepted() -> bool:
    """Is somebody writing operations down (jit), transforming them (torch.func, forward-mode derivatives) or looking at
    each (dispatch modes)? The kernels are none that they could see."""
    tracing = torch._C._get_tracing_state() is not None
    return bool(tracing or _functorch() or _dispatch_modes() or forward_ad._current_level >= 0)


def version(x: Tensor) -> int | None:
    """Counts changes in place; None where PyTorch does not."""
    return None if x.is_inference() else x._version


def check_unchanged(op: str, x: Tensor, then: int | None) -> None:
    """Raises where x is not as it was. Autograd does not notice where hooks save a copy of x, as those of
    torch.utils.checkpoint do."""
    if then is not None and x._version != then:
        expected = "the input as it was in forward"
        raise RuntimeError(f"[{op}] x: expected {expected}, got it modified by an inplace operation")


class Layer(NamedTuple):
    """What a call of one layer is besides its tensors."""

    cell: str  # "rnn", "lstm" or "gru"
    activation: str | None  # of an rnn
    hidden_size: int
    directions: int
    batch_first: bool
    lengths: Array | None  # (B,) valid steps; None: all


def array(tensor: Tensor) -> Array:
    """The tensor's memory (a copy only where that holds conjugated or negated values)."""
    shared: Array = tensor.numpy(force=True)
    return shared


def run(
    layer: Layer, x: Tensor, states: Sequence[Tensor], weights: Sequence[Sequence[Any]], keep: bool
) -> tuple[tuple[Tensor, ...], list[Any]]:
    """(output, h_n) or (output, h_n, c_n), and with `keep` a workspace for each direction.

    x (T, B, I) or (B, T, I); states: nothing, h0 (D, B, H), or h0 and c0; weights of each direction as the functions of
    `functional` take them, arrays or packed. Output (T, B, D*H) or (B, T, D*H), final states (D, B, H).
    """
    size = layer.hidden_size
    output = torch.empty((*x.shape[:2], layer.directions * size), dtype=x.dtype, device=x.device)
    inputs, outputs, initial = array(x), array(output), [array(state) for state in states]
    options: dict[str, Any] = {"lengths": layer.lengths, "batch_first": layer.batch_first, "return_workspace": keep}
    if layer.activation is not None:
        options["activation"] = layer.activation
    names = ("h0", "c0")[: len(initial)]
    finals, workspaces = [], []
    for d, given in enumerate(weights):
        for name, state in zip(names, initial, strict=True):
            options[name] = state[d]
        out = outputs[..., d * size : (d + 1) * size]
        _, final, *kept = _FORWARD[layer.cell](inputs, *given, reverse=d == 1, out=out, **options)
        finals.append(final if layer.cell == "lstm" else (final,))
        workspaces += kept
    return (output, *(_stack(parts) for parts in zip(*finals, strict=True))), workspaces


def _stack(parts: Sequence[Array]) -> Tensor:
    return torch.from_numpy(parts[0][None] if len(parts) == 1 else np.stack(parts))


class Recurrence(Function):
    """`run` with gradients of x, the initial states and the weights.

    Only x has to stay as it was until backward: the workspaces refer to its memory, and hold a copy of the weights in
    the kernels' order.
    """

    @staticmethod
    def forward(ctx: Any, layer: Layer, state_count: int, x: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        states, parameters = tensors[:state_count], [array(p) for p in tensors[state_count:]]
        each = len(parameters) // layer.directions
        weights = [parameters[d * each : (d + 1) * each] for d in range(layer.directions)]
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x)
        ctx.inputs = (x, *tensors)  # not saved: weights may change before backward
        ctx.version = version(x)
        results, ctx.workspaces = run(layer, x, states, weights, keep=True)
        ctx.layer, ctx.state_count, ctx.weight_count = layer, state_count, each
        return results

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        _ = ctx.saved_tensors  # raises if x was changed in place, or the graph was freed
        layer: Layer = ctx.layer
        check_unchanged(f"{layer.cell}_backward", ctx.inputs[0], ctx.version)
        workspaces, inputs = ctx.workspaces, ctx.inputs
        if not keeps_graph():
            ctx.workspaces = ctx.inputs = None
        _, _, need_x, *need = ctx.needs_input_grad
        size = layer.hidden_size
        upstream = [None if g is None else array(g) for g in grads]
        each = []
        for d, workspace in enumerate(workspaces):
            output = None if upstream[0] is None else upstream[0][..., d * size : (d + 1) * size]
            finals = [None if g is None else g[d] for g in upstream[1:]]
            each.append(_BACKWARD[layer.cell](workspace, output, *finals, need_grad_x=need_x))
        workspaces = None

        grad_x = None
        if need_x:
            grad_x = torch.from_numpy(each[0].grad_x)
            for other in each[1:]:
                grad_x += torch.from_numpy(other.grad_x)
        state_names = ("grad_h0", "grad_c0")[: ctx.state_count]
        state_grads = [_stack([getattr(g, name) for g in each]) for name in state_names]
        weight_grads = [torch.from_numpy(g) for one in each for g in one[1 : 1 + ctx.weight_count]]
        rest = [g if needed else None for g, needed in zip([*state_grads, *weight_grads], need, strict=True)]
        result = [grad_x, *rest]
        if torch.is_grad_enabled():  # create_graph=True
            result = _differentiated_once(layer.cell, result, [*inputs, *(g for g in grads if g is not None)])
        return (None, None, *result)


def _differentiated_once(cell: str, grads: list[Tensor | None], sources: list[Tensor]) -> list[Tensor | None]:
    """The same gradients, which raise where somebody differentiates them by anything that they depend on: without that
    they would count as constants, and a gradient penalty would silently be left out."""
    there = [g for g in grads if g is not None]
    guarded = iter(_Once.apply(cell, len(there), *there, *sources))  # type: ignore[no-untyped-call]
    return [None if g is None else next(guarded) for g in grads]


class _Once(Function):
    @staticmethod
    def forward(ctx: Any, cell: str, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.cell = cell
        return tuple(g.view_as(g) for g in tensors[:count])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise RuntimeError(
            f"[{ctx.cell}_backward] create_graph: expected gradients that are not differentiated again, got a second "
            "derivative, which fastrnn's kernels do not have; fastrnn.torch.restore(model) puts torch.nn's layers back"
        )
