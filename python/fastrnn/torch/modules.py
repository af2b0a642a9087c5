"""RNN, LSTM and GRU: torch.nn's modules with another forward."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.fx import Proxy
from torch.nn.utils.rnn import PackedSequence

from .autograd import Layer, Recurrence, array, intercepted, run
from .packed import Places, pack, pad
from .packing import Frozen

_PLAIN = (Tensor, nn.Parameter)


class Kernels(nn.RNNBase):
    """What the three have in common: `forward` on fastrnn's kernels.

    Parameters, their names and initialisation, checks, repr, saving are those of torch.nn.RNNBase. What the kernels are
    not for (another device or dtype than float32 and float64 on the CPU, autocast, an empty batch, tensor subclasses,
    tracing, torch.func, forward-mode derivatives, arguments that are errors) goes to torch.nn's own forward.
    """

    _cell: ClassVar[str]
    _frozen: Frozen | None = None

    def forward(self, input: Any, hx: Any = None) -> Any:
        """As that of torch.nn: `input` (T, B, I), (B, T, I) with batch_first, (T, I) or a PackedSequence."""
        weights = self.all_weights
        if isinstance(input, Proxy) or isinstance(weights[0][0], Proxy):
            # torch.nn's forward would fail as well, and leave the proxies in the module
            expected = "tensors (fastrnn.torch.restore(model) before torch.fx, for which torch.nn's layers are leaves)"
            raise TypeError(f"[{type(self).__name__}] input: expected {expected}, got a Proxy of torch.fx")
        states = _states(hx)
        if not _suits(self, input, hx, states, weights):
            if isinstance(input, PackedSequence) and not self.proj_size:
                _check_packed(self, input, states)
            return super().forward(input, hx)
        return _outside_compilation(_forward)(self, input, states, weights)

    def __prepare_scriptable__(self) -> nn.Module:
        """torch.jit.script compiles torch.nn's own forward."""
        from .replace import restore

        return restore(self)


class RNN(Kernels, nn.RNN):
    """torch.nn.RNN on fastrnn's kernels; the same arguments, parameters and results."""

    _cell = "rnn"

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh", bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, device: Any = None,
        dtype: Any = None,
    ) -> None:  # fmt: skip
        nn.RNN.__init__(
            self, input_size, hidden_size, num_layers=num_layers, nonlinearity=nonlinearity, bias=bias,
            batch_first=batch_first, dropout=dropout, bidirectional=bidirectional, device=device, dtype=dtype,
        )  # fmt: skip


class LSTM(Kernels, nn.LSTM):
    """torch.nn.LSTM on fastrnn's kernels; the same arguments, parameters and results.

    Raises:
        ValueError: proj_size other than 0, which the kernels do not have.
    """

    _cell = "lstm"

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0, device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        if proj_size != 0:
            raise ValueError(f"[LSTM] proj_size: expected 0 (use torch.nn.LSTM for projections), got {proj_size!r}")
        nn.LSTM.__init__(
            self, input_size, hidden_size, num_layers=num_layers, bias=bias, batch_first=batch_first, dropout=dropout,
            bidirectional=bidirectional, device=device, dtype=dtype,
        )  # fmt: skip


class GRU(Kernels, nn.GRU):
    """torch.nn.GRU on fastrnn's kernels; the same arguments, parameters and results."""

    _cell = "gru"

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        nn.GRU.__init__(
            self, input_size, hidden_size, num_layers=num_layers, bias=bias, batch_first=batch_first, dropout=dropout,
            bidirectional=bidirectional, device=device, dtype=dtype,
        )  # fmt: skip


# ---- what the kernels are for -------------------------------------------------------------------------------------


def _states(hx: Any) -> list[Any]:
    if hx is None:
        return []
    return list(hx) if isinstance(hx, (tuple, list)) else [hx]


def _suits(module: Kernels, input: Any, hx: Any, states: list[Any], weights: Sequence[Sequence[Tensor]]) -> bool:
    packed = isinstance(input, PackedSequence)
    x = input.data if packed else input
    first = weights[0][0]
    tensors = [x, *states, *(w for given in weights for w in given)]
    if intercepted():
        return False
    if not all(type(t) in _PLAIN and t.is_cpu and t.layout is torch.strided for t in tensors):
        return False
    if (
        any(t.dtype is not first.dtype for t in tensors)
        or first.dtype not in (torch.float32, torch.float64)
        or x.dim() not in ((2,) if packed else (2, 3))
        or x.numel() == 0
        or x.shape[-1] != module.input_size
        or module.proj_size
        or torch.is_autocast_enabled("cpu")
    ):
        return False
    if not states:
        return hx is None
    count = 2 if module._cell == "lstm" else 1
    if len(states) != count or isinstance(hx, (tuple, list)) != (count == 2):
        return False
    directions = module.num_layers * (2 if module.bidirectional else 1)
    if packed:
        wanted: tuple[int, ...] = (directions, int(input.batch_sizes[0]), module.hidden_size)
    elif x.dim() == 2:
        wanted = (directions, module.hidden_size)
    else:
        wanted = (directions, x.shape[0 if module.batch_first else 1], module.hidden_size)
    return all(tuple(state.shape) == wanted for state in states)


def _check_packed(module: Kernels, input: PackedSequence, states: list[Tensor]) -> None:
    """The shapes that torch.nn.LSTM does not look at where the input is packed. Raises its RuntimeError."""
    module.check_input(input.data, input.batch_sizes)
    for state in (state for state in states if isinstance(state, Tensor)):
        module.check_hidden_size(state, module.get_expected_hidden_size(input.data, input.batch_sizes))


# ---- running ------------------------------------------------------------------------------------------------------


def _outside_compilation(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` as torch.compile leaves it: a break in the graph. The compiler takes seconds to import, and as long as
    nobody has, nothing is being compiled."""
    return _disabled(function) if "torch._dynamo" in sys.modules else function


@functools.cache
def _disabled(function: Callable[..., Any]) -> Callable[..., Any]:
    disabled: Callable[..., Any] = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
    return disabled


def _forward(module: Kernels, input: Any, states: list[Tensor], weights: list[list[Tensor]]) -> Any:
    if isinstance(input, PackedSequence):
        order, back = input.sorted_indices, input.unsorted_indices
        if order is not None:
            states = [state.index_select(1, order) for state in states]
        places = Places.of(input.batch_sizes, len(input.data))
        output, finals = _stack_of_layers(module, pad(input.data, places), states, weights, False, places)
        data = pack(output, places)
        if back is not None:
            finals = [final.index_select(1, back) for final in finals]
        return PackedSequence(data, input.batch_sizes, order, back), _hidden(module, finals)
    axis = 0 if module.batch_first else 1
    if input.dim() == 3:
        output, finals = _stack_of_layers(module, input, states, weights, module.batch_first, None)
        return output, _hidden(module, finals)
    states = [state.unsqueeze(1) for state in states]
    output, finals = _stack_of_layers(module, input.unsqueeze(axis), states, weights, module.batch_first, None)
    return output.squeeze(axis), _hidden(module, [final.squeeze(1) for final in finals])


def _hidden(module: Kernels, finals: list[Tensor]) -> Any:
    return tuple(finals) if module._cell == "lstm" else finals[0]


def _stack_of_layers(
    module: Kernels,
    x: Tensor,
    states: list[Tensor],
    weights: list[list[Tensor]],
    batch_first: bool,
    places: Places | None,
) -> tuple[Tensor, list[Tensor]]:
    """The last layer's output, and the final states (L*D, B, H) of all."""
    directions = 2 if module.bidirectional else 1
    layer = Layer(
        module._cell, getattr(module, "nonlinearity", None), module.hidden_size, directions, batch_first,
        None if places is None else places.lengths,
    )  # fmt: skip
    tensors = [x, *states, *(w for given in weights for w in given)]
    differentiable = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    given: Sequence[Sequence[Any]] = weights
    if not differentiable:
        if module._frozen is not None:
            given = module._frozen.weights(module._cell, weights)
        else:
            given = [[array(w) for w in one] for one in weights]
    finals = []
    for start in range(0, len(weights), directions):
        if start and module.training and module.dropout:
            x = x * _noise(module.dropout, x, batch_first, places)
        part, initial = given[start : start + directions], [state[start : start + directions] for state in states]
        if differentiable:
            flat = [w for one in part for w in one]
            x, *final = Recurrence.apply(layer, len(initial), x, *initial, *flat)  # type: ignore[no-untyped-call]
        else:
            (x, *final), _ = run(layer, x, initial, part, keep=False)
        finals.append(final)
    return x, [parts[0] if len(parts) == 1 else torch.cat(parts) for parts in zip(*finals, strict=True)]


def _noise(rate: float, x: Tensor, batch_first: bool, places: Places | None) -> Tensor:
    """Dropout's factors for x, drawn as torch.nn draws them (time first, a PackedSequence without its padding), so that
    a seed gives the same ones."""
    if rate == 1:
        return torch.zeros((), dtype=x.dtype, device=x.device)
    if places is not None:
        drawn = _kept((len(places.rows), x.shape[2]), rate, x)
        return pad(drawn, places)
    first, second = (x.shape[1], x.shape[0]) if batch_first else x.shape[:2]
    noise = _kept((first, second, x.shape[2]), rate, x)
    return noise.transpose(0, 1) if batch_first else noise


def _kept(shape: tuple[int, ...], rate: float, like: Tensor) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, device=like.device).bernoulli_(1 - rate).div_(1 - rate)
