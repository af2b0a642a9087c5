"""Weights packed once for many calls without gradients, on request: `freeze` and `unfreeze`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from .. import functional as F
from ..functional.recurrent import PRECISIONS
from .autograd import array

M = TypeVar("M", bound=nn.Module)


class Frozen:
    """The packed weights of one module, made anew when a weight is another tensor, has moved or counted a change."""

    def __init__(self, precision: str | None) -> None:
        self.precision = precision
        self._seen: list[tuple[Tensor, Tensor, int]] = []  # the weight, its memory at that time, its version
        self._packed: list[tuple[Any, ...]] = []

    def weights(self, cell: str, weights: Sequence[Sequence[Tensor]]) -> list[tuple[Any, ...]]:
        """What the forward functions take for each of `weights`."""
        flat = [w for given in weights for w in given]
        if len(flat) != len(self._seen) or any(
            w is not seen or w.data_ptr() != memory.data_ptr() or w.is_inference() or w._version != version
            for w, (seen, memory, version) in zip(flat, self._seen, strict=True)
        ):
            arrays = [[array(w) for w in given] for given in weights]
            self._packed = [(F.pack_weights(cell, *given, precision=self.precision),) for given in arrays]
            # inference tensors count no changes: those are packed at each call
            self._seen = [] if any(w.is_inference() for w in flat) else [(w, w.detach(), w._version) for w in flat]
        return self._packed

    def __reduce__(self) -> tuple[Any, ...]:
        return Frozen, (self.precision,)  # a copy packs its own weights


def freeze(model: M, precision: str | None = None) -> M:
    """Pack the recurrent weights of `model` once instead of at each call, for prediction. Returns `model`.

    Pays for few rows and steps, where packing costs as much as the call. Calls that need gradients are as before, with
    the weights themselves. The weights are packed again when PyTorch has counted a change (an optimizer,
    ``load_state_dict``, ``copy_`` ...). Changes that it does not count, through `.data` or a NumPy view, need another
    `freeze`. Weights made in inference mode, whose changes it never counts, are packed at each call as without.

    Args:
        model: a module with layers of this package in it, or one of them.
        precision: None (that of the weights), "bfloat16" or "int8", of float32 modules; see
            `fastrnn.functional.pack_weights`.

    Raises:
        TypeError: not a module. ValueError: no such layer in it (`accelerate` it first), or an unsuitable precision.
    """
    if precision not in (None, *PRECISIONS):
        known = ", ".join(map(repr, PRECISIONS))
        raise ValueError(f"[freeze] precision: expected None or one of {known}, got {precision!r}")
    found = _layers("freeze", model)
    frozen = [Frozen(precision) for _ in found]
    with torch.no_grad():
        for module, packs in zip(found, frozen, strict=True):
            if module.all_weights[0][0].is_cpu:  # elsewhere torch's own kernels run
                packs.weights(module._cell, module.all_weights)
    for module, packs in zip(found, frozen, strict=True):
        module._frozen = packs
    return model


def unfreeze(model: M) -> M:
    """Undo `freeze`. Returns `model`."""
    for module in _layers("unfreeze", model):
        module._frozen = None
    return model


def _layers(op: str, model: nn.Module) -> list[Any]:
    from .modules import Kernels

    if not isinstance(model, nn.Module):
        raise TypeError(f"[{op}] model: expected a torch.nn.Module, got {type(model).__name__}")
    found = [module for module in model.modules() if isinstance(module, Kernels)]
    if not found:
        words = "a module with a layer of fastrnn.torch in it (see accelerate)"
        raise ValueError(f"[{op}] model: expected {words}, got {type(model).__name__} without one")
    return found
