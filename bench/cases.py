"""The cases of the kernel benchmark and what each library has to compute in them. No timing here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn import functional, reference

Array = npt.NDArray[Any]
GATES = {"rnn": 1, "lstm": 4, "gru": 3}
# (B, T, I, H): one row, small and large batches, the IMDb layer, what a framework's documentation uses
SMALL = ((1, 100, 64, 64), (32, 100, 1, 50), (128, 100, 32, 32), (64, 50, 128, 128))
FULL = (
    (1, 100, 64, 64), (1, 100, 128, 128), (1, 100, 256, 256), (1, 50, 512, 512), (32, 10, 1, 50), (32, 100, 1, 50),
    (32, 200, 128, 64), (64, 200, 128, 128), (128, 100, 256, 256), (32, 50, 512, 512), (64, 25, 1024, 1024),
)  # fmt: skip


@dataclass
class Problem:
    """Random inputs of one case, and the answer of the NumPy reference."""

    cell: str
    shape: tuple[int, int, int, int]
    arguments: list[Array] = field(init=False)
    grad_output: Array = field(init=False)

    def __post_init__(self) -> None:
        B, T, I, H = self.shape
        G = GATES[self.cell]
        rng = np.random.default_rng(7)
        shapes = ((B, T, I), (G * H, I), (G * H, H), (G * H,), (G * H,))
        scale = (1.0, I**-0.5, H**-0.5, 0.1, 0.1)
        self.arguments = [
            (rng.standard_normal(shape) * s).astype(np.float32) for shape, s in zip(shapes, scale, strict=True)
        ]
        self.grad_output = rng.standard_normal((B, T, H)).astype(np.float32)

    @property
    def gflop(self) -> float:
        """Of the forward pass; training is three times that."""
        B, T, I, H = self.shape
        return 2e-9 * T * B * GATES[self.cell] * H * (I + H)


def numpy_like(module: Any, problem: Problem, train: bool) -> Callable[[], list[Array]]:
    """fastrnn.functional or fastrnn.reference."""
    forward = getattr(module, problem.cell)
    backward = getattr(module, problem.cell + "_backward")

    def run() -> list[Array]:
        if not train:
            return [forward(*problem.arguments)[0]]
        output, _, workspace = forward(*problem.arguments, return_workspace=True)
        grads = backward(workspace, problem.grad_output)
        return [output, grads.grad_x, grads.grad_weight_ih, grads.grad_weight_hh, grads.grad_bias_ih]

    return run


def torch_like(problem: Problem, train: bool) -> Callable[[], list[Array]]:
    """torch.nn, in inference mode where nothing is trained."""
    import torch

    _, _, I, H = problem.shape
    layer = getattr(torch.nn, problem.cell.upper())(I, H, batch_first=True)
    with torch.no_grad():
        for parameter, value in zip(layer.parameters(), problem.arguments[1:], strict=True):
            parameter.copy_(torch.from_numpy(value))
    x = torch.from_numpy(problem.arguments[0]).requires_grad_(train)
    grad_output = torch.from_numpy(problem.grad_output)

    def run() -> list[Array]:
        if not train:
            with torch.inference_mode():
                return [layer(x)[0].numpy()]
        x.grad = None
        layer.zero_grad()
        output, _ = layer(x)
        output.backward(grad_output)
        grads = [x.grad, layer.weight_ih_l0.grad, layer.weight_hh_l0.grad, layer.bias_ih_l0.grad]
        return [output.detach().numpy(), *(g.numpy() for g in grads)]

    return run


def runner(library: str, problem: Problem, train: bool) -> Callable[[], list[Array]]:
    """The call to time: returns the output and, when training, the gradients of x, both weights and the bias."""
    if library == "torch":
        return torch_like(problem, train)
    return numpy_like({"fastrnn": functional, "numpy": reference}[library], problem, train)
