"""One LSTM layer in PyTorch and with fastrnn.torch, per call: `python -m bench.torch_modules`.

Prediction in eval and inference mode; forward and backward of the sum of the output, for the input and the weights.
Both take turns in one process, on the same threads; medians of the turns' best calls. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn

import fastrnn.torch

SHAPES = ((1, 1, 64), (1, 10, 64), (32, 50, 64), (1, 1, 256))  # rows, steps, inputs and units


def prediction(module: nn.Module, x: Tensor) -> Callable[[], None]:
    def call() -> None:
        with torch.inference_mode():
            module(x)

    return call


def training(module: nn.Module, x: Tensor) -> Callable[[], None]:
    def call() -> None:
        module.zero_grad(set_to_none=True)
        module(x.detach().requires_grad_())[0].sum().backward()

    return call


def ways(rows: int, steps: int, units: int) -> dict[str, Callable[[], None]]:
    model = nn.Sequential(nn.LSTM(units, units, batch_first=True))
    accelerated, frozen = (fastrnn.torch.accelerate(copy.deepcopy(model)) for _ in range(2))
    x = torch.randn(rows, steps, units)
    fastrnn.torch.freeze(frozen.eval())
    calls = {
        "prediction: PyTorch": prediction(copy.deepcopy(model).eval(), x),
        "accelerated": prediction(copy.deepcopy(accelerated).eval(), x),
        "frozen": prediction(frozen, x),
        "forward and backward: PyTorch": training(model, x),
        "accelerated ": training(accelerated, x),
    }
    torch.testing.assert_close(accelerated(x)[0], model(x)[0], rtol=0, atol=2e-6)
    return calls


def microseconds(calls: dict[str, Callable[[], None]], seconds: float) -> dict[str, float]:
    turns: dict[str, list[float]] = {name: [] for name in calls}
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop or not all(turns.values()):
        for name, call in calls.items():
            best = float("inf")
            for _ in range(10):
                start = time.perf_counter()
                call()
                best = min(best, time.perf_counter() - start)
            turns[name].append(1e6 * best)
    return {name: median(times) for name, times in turns.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5, help="for each row of the table")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads, fastrnn on {fastrnn.runtime.isa()}\n")
    for i, shape in enumerate(SHAPES):
        times = microseconds(ways(*shape), arguments.seconds)
        if i == 0:
            print("| rows × steps, units | " + " | ".join(name.strip() for name in times) + " |\n" + "|---" * 6 + "|")
        print(f"| {shape[0]} × {shape[1]}, {shape[2]} | " + " | ".join(f"{t:.0f}" for t in times.values()) + " |")


if __name__ == "__main__":
    main()
