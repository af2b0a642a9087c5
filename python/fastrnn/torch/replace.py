"""accelerate and restore: another class for the recurrent modules inside an existing model.

A module keeps its identity, and with it parameters, hooks, flags, and whoever refers to it: only its class changes, as
torch.nn.utils.parametrize does it.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.utils import parametrize

from .modules import GRU, LSTM, RNN, Kernels

M = TypeVar("M", bound=nn.Module)

_FAST: dict[type[nn.Module], type[nn.Module]] = {nn.RNN: RNN, nn.LSTM: LSTM, nn.GRU: GRU}
_KINDS = (nn.RNN, nn.LSTM, nn.GRU)
_PLAIN = {fast: plain for plain, fast in _FAST.items()}


def accelerate(model: M, *, strict: bool = False) -> M:
    """Let every torch.nn.RNN, LSTM and GRU in `model`, itself included, run on fastrnn's kernels. Returns `model`.

    In place: the modules become instances of `fastrnn.torch.RNN`, `LSTM` and `GRU`, with the same Parameter objects, so
    an optimizer made before goes on. Subclasses are replaced as well (their super().forward is then fastrnn's), and
    parametrized modules. What cannot be replaced stays as it is, and a warning names it with the reason: projections,
    another device or dtype than float32 and float64 on the CPU, scripted or quantized modules, a forward set on the
    instance.

    Args:
        model: any torch.nn.Module.
        strict: raise instead of warning, before anything is replaced.

    Raises:
        TypeError: not a module. ValueError: no recurrent module in it, or none that could be replaced.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"[accelerate] model: expected a torch.nn.Module, got {type(model).__name__}")
    if not isinstance(strict, bool):
        raise TypeError(f"[accelerate] strict: expected True or False, got {strict!r}")
    found: list[tuple[nn.Module, type]] = []
    done, refused = 0, []
    for name, module in model.named_modules():
        reason = _reason(module)
        if isinstance(module, Kernels):
            done += 1
        elif reason:
            refused.append(f"{name or 'model'} ({_kind(module)}): {reason}")
        elif isinstance(module, _KINDS):
            try:
                found.append((module, _fast_class(module, type(module))))
            except Exception as error:  # __init_subclass__ and the like of a user's class
                refused.append(f"{name or 'model'} ({_kind(module)}): expected a class to derive from, got {error!r}")
    if not found and not done and not refused:
        words = "a module with a torch.nn.RNN, LSTM or GRU in it"
        raise ValueError(f"[accelerate] model: expected {words}, got {type(model).__name__} without one")
    if refused and (strict or not (found or done)):
        raise ValueError(f"[accelerate] {'; '.join(refused)}")
    for module, fast in found:
        _become(module, fast)
    if refused:
        warnings.warn(f"[accelerate] left as they are: {'; '.join(refused)}", stacklevel=2)
    return model


def restore(model: M) -> M:
    """Undo `accelerate`: every recurrent module of this package in `model` is torch.nn's again. Returns `model`.

    Parameters are the same objects with their present values. Modules made as `fastrnn.torch.LSTM` and so on become
    torch.nn's as well.

    Raises:
        TypeError: not a module. ValueError: a class of your own that derives from this package's.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"[restore] model: expected a torch.nn.Module, got {type(model).__name__}")
    classes = []
    for name, module in model.named_modules():
        if isinstance(module, Kernels):
            plain = _plain_class(module, type(module))
            if plain is None:
                words = f"a module that accelerate replaced, got a {type(module).__name__} derived from fastrnn.torch"
                raise ValueError(f"[restore] {name or 'model'}: expected {words}")
            classes.append((module, plain))
    for module, plain in classes:
        module.__dict__.pop("_frozen", None)
        _become(module, plain)
    return model


def _become(module: nn.Module, cls: type) -> None:
    """Past a __setattr__ of a user's class: one that raises would leave half a model replaced."""
    object.__setattr__(module, "__class__", cls)


def _kind(module: nn.Module) -> str:
    return str(getattr(module, "original_name", type(module).__name__))


def _reason(module: nn.Module) -> str | None:
    """Why a recurrent module cannot be replaced."""
    if _kind(module) in ("RNN", "LSTM", "GRU"):
        if isinstance(module, torch.jit.ScriptModule):
            return "expected a module in Python, got a scripted one"
        if type(module).__module__.startswith("torch.ao."):
            return "expected float weights, got a quantized module"
    if not isinstance(module, _KINDS) or isinstance(module, Kernels):
        return None
    if getattr(module, "proj_size", 0):
        return f"expected proj_size=0, got {module.proj_size}"
    if "forward" in module.__dict__:
        return "expected the forward of its class, got one set on the instance"
    for parameter in module.parameters():
        if not parameter.is_cpu:
            return f"expected weights on the CPU, got {parameter.device}"
        if parameter.dtype not in (torch.float32, torch.float64):
            return f"expected float32 or float64 weights, got {str(parameter.dtype).removeprefix('torch.')}"
    return None


# ---- classes ------------------------------------------------------------------------------------------------------


def _fast_class(module: nn.Module, cls: type) -> type:
    if cls in _FAST:
        return _FAST[cls]
    if _made_by_parametrize(module, cls):
        return _on_another_base(cls, _fast_class(module, cls.__bases__[0]))
    return _with_kernels(cls)


def _plain_class(module: nn.Module, cls: type) -> type | None:
    if cls in _PLAIN:
        return _PLAIN[cls]
    if _made_by_parametrize(module, cls):
        base = _plain_class(module, cls.__bases__[0])
        return None if base is None else _on_another_base(cls, base)
    return getattr(cls, "_accelerated_from", None) if "_accelerated_from" in cls.__dict__ else None


def _made_by_parametrize(module: nn.Module, cls: type) -> bool:
    """Whether cls is the class that parametrize put on top of the module's own."""
    return parametrize.is_parametrized(module) and cls is type(module)


def _on_another_base(cls: type, base: type) -> type:
    """The class of a parametrized module over `base`. Removing the parametrizations then leaves `base`."""
    body = {name: value for name, value in cls.__dict__.items() if name not in ("__dict__", "__weakref__")}
    return type(f"Parametrized{base.__name__}", (base,), body)


@functools.cache
def _with_kernels(cls: type) -> type:
    """A user's subclass of torch.nn.LSTM, say, whose super() is fastrnn's LSTM."""
    fast = next(_FAST[base] for base in cls.__mro__ if base in _FAST)
    body: dict[str, Any] = {
        "__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__,
        "_accelerated_from": cls, "__reduce_ex__": _reduce,
    }  # fmt: skip
    return type(cls.__name__, (cls, fast), body)


def _reduce(self: Any, protocol: Any) -> tuple[Any, ...]:
    return _blank, (type(self)._accelerated_from,), self.__getstate__()


def _blank(cls: type) -> Any:
    fast: Any = _with_kernels(cls)
    return fast.__new__(fast)
