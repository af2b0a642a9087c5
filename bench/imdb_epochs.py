"""Seconds per training epoch on the IMDb workload, fastrnn and PyTorch in turn: `python -m bench.imdb_epochs`.

The work: 25,000 reviews, vocabulary 10,000, padded to 500 tokens (all 500 steps are computed by both), embedding 32, 32
units, batches of 128, Adam. stacked = two recurrent layers; hybrid = Conv1D(32, 7, relu) + MaxPooling1D(5) + recurrent;
every model ends in Dense(1). The two libraries take turns of five batches in one process with the same number of
threads, and the mean loss of both is printed: they learn the same thing from the same data in the same order.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from fastrnn import datasets, layers, models, runtime
from fastrnn.utils import set_random_seed

MODELS = ("basic", "stacked", "bidirectional", "hybrid")
CELLS = ("rnn", "lstm", "gru")
VOCABULARY, MAXLEN, EMBEDDING, UNITS, BATCH = 10_000, 500, 32, 32, 128
TURN = 5  # batches that a library runs before the other has its turn


def corpus() -> tuple[np.ndarray, np.ndarray]:
    """The padded training reviews (25000, 500) and their labels; random ids of that shape without the corpus."""
    try:
        (x, y), _ = datasets.imdb.load_data(num_words=VOCABULARY)
    except (OSError, ValueError) as error:
        print(f"IMDb is not here ({error}): random ids instead, the work is the same.")
        rng = np.random.default_rng(0)
        return rng.integers(1, VOCABULARY, (25_000, MAXLEN)), rng.integers(0, 2, 25_000)
    return datasets.batching.pad_sequences(x, maxlen=MAXLEN), np.asarray(y)


def fastrnn_step(model: str, cell: str) -> Callable[[np.ndarray, np.ndarray], float]:
    recurrent = {"rnn": layers.SimpleRNN, "lstm": layers.LSTM, "gru": layers.GRU}[cell]
    stack: list[Any] = [layers.Embedding(VOCABULARY, EMBEDDING, input_shape=(MAXLEN,))]
    if model == "stacked":
        stack += [recurrent(UNITS, return_sequences=True)]
    if model == "hybrid":
        stack += [layers.Conv1D(UNITS, 7, activation="relu"), layers.MaxPooling1D(5)]
    stack += [layers.Bidirectional(recurrent(UNITS)) if model == "bidirectional" else recurrent(UNITS)]
    network = models.Sequential([*stack, layers.Dense(1, activation="sigmoid")])
    network.compile(optimizer="adam", loss="binary_crossentropy")

    def step(x: np.ndarray, y: np.ndarray) -> float:
        loss = network.train_on_batch(x, y)
        return float(loss[0] if isinstance(loss, (list, tuple)) else loss)

    return step


def torch_step(model: str, cell: str) -> Callable[[np.ndarray, np.ndarray], float]:
    import torch
    from torch import nn

    recurrent = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[cell]

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(VOCABULARY, EMBEDDING)
            self.conv = nn.Conv1d(EMBEDDING, UNITS, 7) if model == "hybrid" else None
            self.recurrent = recurrent(
                EMBEDDING, UNITS, batch_first=True, num_layers=2 if model == "stacked" else 1,
                bidirectional=model == "bidirectional",
            )  # fmt: skip
            self.dense = nn.Linear(UNITS * (2 if model == "bidirectional" else 1), 1)

        def forward(self, ids: Any) -> Any:
            x = self.embedding(ids)
            if self.conv is not None:
                x = nn.functional.max_pool1d(torch.relu(self.conv(x.transpose(1, 2))), 5).transpose(1, 2)
            state = self.recurrent(x)[1]
            h_n = state[0] if cell == "lstm" else state
            last = torch.cat([h_n[0], h_n[1]], dim=1) if model == "bidirectional" else h_n[-1]
            return self.dense(last)[:, 0]

    network = Network()
    optimizer = torch.optim.Adam(network.parameters())
    criterion = nn.BCEWithLogitsLoss()

    def step(x: np.ndarray, y: np.ndarray) -> float:
        optimizer.zero_grad()
        loss = criterion(network(torch.from_numpy(x)), torch.from_numpy(y))
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def measure(model: str, cell: str, x: np.ndarray, y: np.ndarray, batches: int, peer: bool) -> dict[str, Any]:
    """Median seconds per batch of each library times the batches of an epoch, and the mean losses."""
    order = np.random.default_rng(1).permutation(len(x))
    steps = {"fastrnn": fastrnn_step(model, cell)}
    if peer:
        steps["torch"] = torch_step(model, cell)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    losses: dict[str, list[float]] = {name: [] for name in steps}
    for first in range(0, batches, TURN):
        for name, step in steps.items():
            for i in range(first - 1, first + TURN):  # the first of a turn warms the caches and is not counted
                rows = order[(i % batches * BATCH) % len(x) :][:BATCH]
                bx, by = x[rows].astype(np.int64), y[rows].astype(np.float32)
                start = time.perf_counter()
                loss = step(bx, by)
                if i >= first:
                    seconds[name].append(time.perf_counter() - start)
                    losses[name].append(loss)
    epoch = {name: float(np.median(s)) * -(-len(x) // BATCH) for name, s in seconds.items()}
    return {
        "model": model,
        "cell": cell,
        "epoch_seconds": epoch,
        "loss": {name: float(np.mean(values)) for name, values in losses.items()},
        "ratio": epoch["torch"] / epoch["fastrnn"] if peer else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=40, help="batches to time of each library (an epoch has 196)")
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--cells", nargs="+", default=CELLS, choices=CELLS)
    parser.add_argument("--no-torch", action="store_true", help="time fastrnn alone")
    parser.add_argument("--json", metavar="FILE", help="write the figures here")
    arguments = parser.parse_args()
    set_random_seed(1)
    if not arguments.no_torch:
        import torch

        torch.manual_seed(1)
        torch.set_num_threads(runtime.get_num_threads())
    x, y = corpus()
    print(f"{runtime.info()['isa']}, {runtime.get_num_threads()} threads, medians of {arguments.batches} batches")
    print(f"{'model':14} {'cell':5} {'fastrnn s':>10} {'torch s':>10} {'ratio':>6}   loss fastrnn / torch")
    results = []
    for model in arguments.models:
        for cell in arguments.cells:
            r = measure(model, cell, x, y, arguments.batches, not arguments.no_torch)
            results.append(r)
            t, loss = r["epoch_seconds"], r["loss"]
            line = f"{model:14} {cell:5} {t['fastrnn']:10.2f}"
            if "torch" in t:
                line += f" {t['torch']:10.2f} {r['ratio']:6.2f}   {loss['fastrnn']:.4f} / {loss['torch']:.4f}"
            print(line, flush=True)
    ratios = [r["ratio"] for r in results if r["ratio"]]
    if ratios:
        print(f"least ratio {min(ratios):.2f}, geometric mean {np.exp(np.mean(np.log(ratios))):.2f}")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"runtime": runtime.info(), "batches": arguments.batches, "results": results}, file, indent=1)


if __name__ == "__main__":
    main()
