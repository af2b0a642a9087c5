"""PyTorch's recurrent modules on fastrnn's kernels: the same constructors, parameters and results on the CPU.

    accelerate(model)       every torch.nn.RNN, LSTM and GRU in an existing module, in place; `restore` puts them back
    RNN, LSTM, GRU          subclasses of torch.nn's
    freeze(model)           weights packed once for many calls without gradients; `unfreeze`
    to_layers, from_layers  to the layers of `fastrnn.layers` and back

Tensors are shared with the kernels, not copied. Nothing here is compiled against PyTorch.
"""

from __future__ import annotations

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError("[fastrnn.torch] needs PyTorch: pip install 'fastrnn[torch]'.") from error

from .convert import from_layers, to_layers
from .modules import GRU, LSTM, RNN
from .packing import freeze, unfreeze
from .replace import accelerate, restore

__all__ = ["GRU", "LSTM", "RNN", "accelerate", "freeze", "from_layers", "restore", "to_layers", "unfreeze"]
