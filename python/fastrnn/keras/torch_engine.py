"""Keras's torch backend: tensors share memory with the arrays the kernels take, gradients come from the kernels."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from ..torch.autograd import check_unchanged, intercepted, keeps_graph, version
from .engines import Engine, Unsupported
from .recurrence import Array, Recurrence

# Any, so that the types check alike with and without PyTorch installed.
torch: Any = importlib.import_module("torch")


class TorchEngine(Engine):
    """Keras's torch backend."""

    def run(self, *args: Any) -> tuple[Any, list[Any]]:
        if intercepted() or torch.compiler.is_compiling():
            raise Unsupported("a traced or transformed call")
        return super().run(*args)

    def _tensor(self, what: str, value: Any) -> Any:
        tensor = self._convert(value)
        # not one of a subclass that stands for something else (fake, functional, distributed ...)
        if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
            raise Unsupported(f"{what} of type {type(tensor).__name__}")
        if tensor.device.type != "cpu" or tensor.layout != torch.strided:
            raise Unsupported(f"{what} on {tensor.device.type} ({tensor.layout})")
        return tensor

    def _cast(self, tensor: Any, dtype: Any) -> Any:
        return tensor.to(dtype)

    def _apply(self, recurrence: Recurrence, given: list[Any], constants: tuple[Array | None, Array | None]) -> Any:
        if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in given):
            return _Function.apply(recurrence, constants, *given)
        return _forward(recurrence, constants, given, False)[0]


def _forward(
    recurrence: Recurrence, constants: tuple[Array | None, Array | None], given: Sequence[Any], training: bool
) -> Any:
    arrays: list[Any] = [None if t is None else t.detach().numpy() for t in given]
    y, finals, saved = recurrence.forward(arrays[0], tuple(arrays[1:4]), arrays[4:], *constants, training)
    return tuple(torch.from_numpy(array) for array in (y, *finals)), saved


class _Function(torch.autograd.Function):  # type: ignore[misc]
    """`Recurrence` for autograd. Differentiable once."""

    @staticmethod
    def forward(ctx: Any, recurrence: Recurrence, constants: tuple[Array | None, Array | None], *given: Any) -> Any:
        results, saved = _forward(recurrence, constants, given, True)
        ctx.recurrence, ctx.saved = recurrence, saved
        # The workspace refers to x: this lets torch notice if x is changed before backward.
        ctx.save_for_backward(given[0])
        ctx.x, ctx.version = given[0], version(given[0])
        ctx.set_materialize_grads(False)
        return results

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        # torch's once_differentiable would only notice where grads themselves depend on something
        if torch.is_grad_enabled():
            words = "expected create_graph=False (second derivatives are not implemented), got True"
            raise RuntimeError(f"[fastrnn.keras] backward: {words}; take the hooks out with fastrnn.keras.unpatch()")
        _ = ctx.saved_tensors  # torch's complaint if x has been changed, or the graph freed
        check_unchanged("fastrnn.keras", ctx.x, ctx.version)
        arrays: list[Array | None] = [None if g is None else g.numpy() for g in grads]
        saved = ctx.saved
        if not keeps_graph():
            ctx.saved = ctx.x = None
        gradients = ctx.recurrence.backward(saved, arrays[0], arrays[1:], ctx.needs_input_grad[2])
        return None, None, *(None if g is None else torch.from_numpy(g) for g in gradients)
