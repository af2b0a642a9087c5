"""What bfloat16 and int8 cost in accuracy and gain in time: `python -m bench.precision`.

Accuracy: models of the zoo are trained on IMDb as `fastrnn train` does, but shorter, and the test half is then
evaluated with the recurrent layers in each precision; all else is float32. Test accuracy is compared between precisions
and nothing is chosen by it. Time: one row (B = 1), weights packed before, precisions taking turns in one process, in
rounds that are repeated where the machine was not in its usual state (bench/watch.py).
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from typing import Any

import numpy as np

from bench.watch import PATIENCE, Watch
from fastrnn import datasets, experiment, runtime, zoo
from fastrnn import functional as F
from fastrnn.datasets.text import TextEncoder
from fastrnn.functional.recurrent import PRECISIONS

ROUND = 20  # turns between two looks at the machine
GATES = {"lstm": 4, "gru": 3, "rnn": 1}


def accuracy(model_name: str, cell: str, corpus: Any, epochs: int, maxlen: int, seed: int) -> dict[str, Any]:
    settings = zoo.settings(model_name, corpus.name, epochs=epochs, maxlen=maxlen)
    model, result = experiment.run(model_name, cell, corpus, settings, seed=seed, verbose=0)
    encoder = TextEncoder(corpus.data.vocabulary.words, settings.vocabulary, settings.maxlen)
    x, y = encoder.encode_ranks(corpus.data.test, corpus.data.vocabulary), corpus.data.test_labels
    answers = {}
    for precision in PRECISIONS:
        frozen = model.freeze(None if precision == "float32" else precision)
        answers[precision] = np.asarray(frozen.predict(x, batch_size=512)).reshape(-1)
    row = {
        "model": model_name, "cell": cell, "seed": seed,
        "layers": result.test_accuracy,  # of the model as it is, not packed
        "accuracy": {p: float(np.mean((a > 0.5) == y)) for p, a in answers.items()},
        "largest_change": {p: float(np.abs(a - answers["float32"]).max()) for p, a in answers.items()},
        "decided_otherwise": {p: int(np.sum((a > 0.5) != (answers["float32"] > 0.5))) for p, a in answers.items()},
    }  # fmt: skip
    cells = " ".join(f"{p} {100 * row['accuracy'][p]:.2f}" for p in PRECISIONS)
    others = " ".join(f"{p} {row['decided_otherwise'][p]}" for p in PRECISIONS[1:])
    title = f"{model_name:>14} {cell:>5} seed {seed}"
    print(f"{title}  test accuracy % {cells}   of {len(y)} decided otherwise: {others}", flush=True)
    return row


def summary(trained: list[dict[str, Any]]) -> None:
    """What a precision costs on average over trainings, in points, and how sure that is."""
    for precision in PRECISIONS[1:]:
        costs = [100 * (row["accuracy"]["float32"] - row["accuracy"][precision]) for row in trained]
        error = np.std(costs, ddof=1) / len(costs) ** 0.5
        print(f"{precision:>20} costs {np.mean(costs):.3f} points on average, standard error {error:.3f}", flush=True)


def timing(watch: Watch, cell: str, T: int, H: int, threads: int, repeats: int) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    G = GATES[cell]
    shapes, scale = ((1, T, H), (G * H, H), (G * H, H), (G * H,)), (1.0, H**-0.5, H**-0.5, 0.1)
    x, w_ih, w_hh, bias = ((rng.normal(size=s) * f).astype(np.float32) for s, f in zip(shapes, scale, strict=True))
    ready = {p: F.pack_weights(cell, w_ih, w_hh, bias, bias, precision=p) for p in PRECISIONS}
    function, seconds = getattr(F, cell), {p: np.empty(repeats) for p in PRECISIONS}

    def turns(first: int) -> None:
        with runtime.num_threads(threads):
            for n in range(first, min(first + ROUND, repeats)):
                for precision, weights in ready.items():
                    function(x, weights)  # brings them into the cache
                    begin = time.perf_counter()
                    function(x, weights)
                    seconds[precision][n] = time.perf_counter() - begin

    unusual, patience = 0, PATIENCE
    for first in range(0, repeats, ROUND):
        _, usual, patience = watch.steady(lambda first=first: turns(first), patience)  # type: ignore[misc]
        unusual += not usual
    row = {
        "cell": cell, "T": T, "H": H, "threads": threads, "unusual_rounds": unusual,
        "median_ms": {p: 1e3 * float(np.median(s)) for p, s in seconds.items()},
        "min_ms": {p: 1e3 * float(s.min()) for p, s in seconds.items()},
    }  # fmt: skip
    for kind in ("median_ms", "min_ms"):
        times = row[kind]
        cells = " ".join(f"{p} {t:7.3f} ({times['float32'] / t:4.2f}x)" for p, t in times.items())
        print(f"{cell:>5} T={T} I=H={H} threads={threads} {kind:>9}: {cells}", flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--maxlen", type=int, default=200)
    parser.add_argument("--models", nargs="*", default=["basic", "bidirectional"], choices=zoo.MODELS)
    parser.add_argument("--cells", nargs="*", default=["lstm", "gru"], choices=zoo.CELLS)
    parser.add_argument("--seeds", nargs="*", type=int, default=[1], help="one training each")
    parser.add_argument("--limit", type=int, help="reviews of each half")
    parser.add_argument("--sizes", nargs="*", type=int, default=[256, 512])
    parser.add_argument("--threads", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--json", help="file for the figures")
    given = parser.parse_args()
    print(runtime.info())
    watch = Watch(lambda: (runtime.measure_peak() * 1e-9, runtime.measure_meeting()))
    times = [
        timing(watch, cell, 50 if H >= 512 else 100, H, threads, given.repeats)
        for threads in given.threads
        for H in given.sizes
        for cell in GATES
    ]
    rows = []
    if given.models:
        corpus = datasets.load("auto")
        corpus = corpus if given.limit is None else corpus.limited(given.limit)
        print(f"{corpus.title}, {given.epochs} epochs, {given.maxlen} tokens")
        for model, cell in itertools.product(given.models, given.cells):
            trained = [accuracy(model, cell, corpus, given.epochs, given.maxlen, seed) for seed in given.seeds]
            rows += trained
            if len(trained) > 1:
                summary(trained)
    if given.json:
        with open(given.json, "w", encoding="utf-8") as file:
            json.dump({"runtime": runtime.info(), "times": times, "accuracy": rows}, file, indent=1)


if __name__ == "__main__":
    main()
