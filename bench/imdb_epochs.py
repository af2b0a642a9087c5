"""Seconds per training epoch on IMDb, fastrnn, PyTorch and Keras on TensorFlow in turn: `python -m
bench.imdb_epochs`.

The work is that of bench/epochs.py: 25,000 reviews, vocabulary 10,000, padded to 500 tokens, all 500 steps computed
by everybody, 196 batches of 128. The libraries sit in processes of their own and take turns of a few batches; each
runs with one thread and with all, and the better counts. The losses of the first batches are compared with the NumPy
reference. "Padding skipped" is fastrnn as a user would run it: with mask_zero=True, which the hybrid model (Conv1D
reads the padding) has no use for.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from datetime import date
from typing import Any

import numpy as np

from bench.cases import GATES, Array
from bench.epochs import BATCHES, MAXLEN, MODELS, VOCABULARY, Epoch
from bench.peers import able
from bench.pool import Pool, interleave
from fastrnn import datasets, runtime

TOLERANCE = 2e-5  # of the losses


def corpus() -> tuple[Array, Array] | None:
    """The padded training reviews (25000, 500) and their labels."""
    try:
        (x, y), _ = datasets.imdb.load_data(num_words=VOCABULARY)
    except (OSError, ValueError) as error:
        print(f"IMDb is not here ({error}): random ids instead. The work is the same, but nothing is padding.")
        return None
    return datasets.batching.pad_sequences(x, maxlen=MAXLEN), np.asarray(y)


def measure(pool: Pool, model: str, cell: str, file: str, budget: float) -> dict[str, Any]:
    """Median seconds per batch of each library times the batches of an epoch."""
    problem = Epoch(model, cell, file)
    results = interleave(pool, problem, able(problem), budget)
    for library, result in results.items():
        if result.error > TOLERANCE:
            raise ArithmeticError(f"{library}, {model} {cell}: losses differ from the reference by {result.error:.1e}")
    seconds = {name: float(np.median(result.samples)) * BATCHES for name, result in results.items()}
    if file and model != "hybrid":
        skipped = interleave(pool, Epoch(model, cell, file, skip_padding=True), ["fastrnn"], budget / 4)["fastrnn"]
        seconds["padding skipped"] = float(np.median(skipped.samples)) * BATCHES
    peers = [seconds[name] for name in results if name != "fastrnn"]
    return {
        "model": model,
        "cell": cell,
        "epoch_seconds": seconds,
        "batches": {name: len(result.samples) for name, result in results.items()},
        "threads": {name: result.threads for name, result in results.items()},
        "way": {name: result.way for name, result in results.items()},
        "ratio": min(peers) / seconds["fastrnn"] if peers else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=float, default=8.0, help="seconds per model and cell, all libraries together")
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--cells", nargs="+", default=tuple(GATES), choices=tuple(GATES))
    parser.add_argument("--json", metavar="FILE", help="write the figures here, for bench.report")
    arguments = parser.parse_args()
    names = [*able(Epoch("basic", "rnn")), "padding skipped"]
    results = []
    with tempfile.TemporaryDirectory() as folder:
        file, data = "", corpus()
        if data is not None:
            file = os.path.join(folder, "corpus.npz")
            np.savez(file, x=data[0], y=data[1])
        print(f"{runtime.info()['isa']}, at most {runtime.get_num_threads()} threads, seconds per epoch")
        print(f"{'model':14} {'cell':5}" + "".join(f" {name:>15}" for name in names) + f" {'ratio':>6}")
        pool = Pool()
        for model in arguments.models:
            for cell in arguments.cells:
                r = measure(pool, model, cell, file, arguments.budget)
                results.append(r)
                line = f"{model:14} {cell:5}"
                line += "".join(f" {r['epoch_seconds'].get(name, np.nan):15.2f}" for name in names)
                print(line + (f" {r['ratio']:6.2f}" if r["ratio"] else ""), flush=True)
        versions = {name: pool.get(name, runtime.get_num_threads()).ask("versions") for name in names[:-1]}
        pool.close()
    ratios = [r["ratio"] for r in results if r["ratio"]]
    if ratios:
        print(f"least ratio {min(ratios):.2f}, geometric mean {np.exp(np.mean(np.log(ratios))):.2f}")
    if arguments.json:
        record = {"runtime": runtime.info(), "versions": versions, "date": date.today().isoformat(), "results": results}
        with open(arguments.json, "w", encoding="utf-8") as out:
            json.dump(record, out, indent=1)


if __name__ == "__main__":
    main()
