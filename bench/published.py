"""Shapes that others publish figures for: DeepBench's recurrent layers and those of oneDNN's benchdnn.

As listed in baidu-research/DeepBench code/kernels/rnn_problems.h (inputs = units) and oneapi-src/oneDNN
tests/benchdnn/inputs/rnn/shapes_inference and shapes_training. Left out: 4096 units (the weights do not fit ten
processes), stacks of several layers, and cells whose state is wider than their output. Of the same layer at several
lengths only the longest is taken. A call of more than MOST_GFLOP is cut to fewer steps: a second or so, and steps
cost the same each (but for the first, which has no h to multiply: of sixteen steps 3 %). There is no initial state.
"""

from __future__ import annotations

from bench.cases import Layer

MOST_GFLOP = 150.0

# cell, units, batches, steps
_DEEPBENCH_TRAINING = (
    ("rnn", 1760, (16, 32, 64, 128), 50),
    ("rnn", 2048, (16, 32, 64, 128), 50),
    ("rnn", 2560, (16, 32, 64, 128), 50),
    ("lstm", 256, (16, 32, 64), 150),
    ("lstm", 512, (16, 32, 64, 128), 25),
    ("lstm", 1024, (16, 32, 64, 128), 25),
    ("lstm", 1536, (8, 16, 32), 50),
    ("lstm", 2048, (16, 32, 64, 128), 25),
    ("gru", 512, (32,), 1),
    ("gru", 1024, (32, 64), 1500),
    ("gru", 1536, (32,), 1500),
    ("gru", 2048, (32,), 1500),
    ("gru", 2560, (32,), 1500),
    ("gru", 2816, (32,), 750),
)
_DEEPBENCH_INFERENCE = (
    ("rnn", 32, (1,), 672),
    ("rnn", 64, (1,), 96),
    ("lstm", 256, (1, 2, 4), 150),
    ("lstm", 512, (1, 2, 4), 25),
    ("lstm", 1024, (1, 2, 4), 25),
    ("lstm", 1536, (1, 2, 4), 50),
    ("lstm", 2048, (1, 2, 4), 25),
    ("gru", 512, (1, 2, 4), 1),
    ("gru", 1024, (1, 2, 4), 1500),
    ("gru", 1536, (1, 2, 4), 1500),
    ("gru", 2048, (1, 2, 4), 1500),
    ("gru", 2560, (1, 2, 4), 1500),
    ("gru", 2816, (1, 2, 4), 1500),
)
# B, T, I, H
_ONEDNN_INFERENCE = (
    (1, 30, 512, 512), (1, 50, 1760, 1760), (1, 100, 760, 760), (1, 200, 1760, 1760), (1, 50, 500, 500),
    (1, 629, 128, 128), (1, 10, 512, 128),
)  # fmt: skip
_ONEDNN_TRAINING = (
    (128, 1, 512, 512), (32, 200, 1760, 1760), (64, 50, 500, 500), (128, 952, 128, 128), (32, 10, 512, 128),
)  # fmt: skip


def _cut(cell: str, shape: tuple[int, int, int, int], train: bool) -> tuple[Layer, str]:
    """The problem, and what its name has to say about it."""
    B, T, I, H = shape
    steps = max(1, min(T, int(T * MOST_GFLOP / Layer(cell, shape, train).gflop)))
    return Layer(cell, (B, steps, I, H), train), "" if steps == T else f" ({steps} of {T} steps)"


def deepbench() -> list[tuple[Layer, str]]:
    found = []
    for rows, trainings in ((_DEEPBENCH_TRAINING, (False, True)), (_DEEPBENCH_INFERENCE, (False,))):
        for cell, units, batches, steps in rows:
            found += [_cut(cell, (B, steps, units, units), train) for B in batches for train in trainings]
    return found


def onednn() -> list[tuple[Layer, str]]:
    cells = ("rnn", "lstm", "gru")
    return [_cut(cell, shape, False) for shape in (*_ONEDNN_INFERENCE, *_ONEDNN_TRAINING) for cell in cells] + [
        _cut(cell, shape, True) for shape in _ONEDNN_TRAINING for cell in cells
    ]
