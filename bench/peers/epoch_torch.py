"""The IMDb models in PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from bench import epochs
from bench.cases import Array
from bench.epochs import EMBEDDING, POOL, UNITS, VOCABULARY, WINDOW, Epoch
from bench.peers import Call
from bench.peers.epoch_keras_style import steps


class Network(nn.Module):
    def __init__(self, problem: Epoch) -> None:
        super().__init__()
        self.cell, self.model = problem.cell, problem.model
        self.embedding = nn.Embedding(VOCABULARY, EMBEDDING)
        self.conv = nn.Conv1d(EMBEDDING, UNITS, WINDOW) if self.model == "hybrid" else None
        self.recurrent = getattr(nn, self.cell.upper())(
            EMBEDDING, UNITS, batch_first=True, num_layers=2 if self.model == "stacked" else 1,
            bidirectional=self.model == "bidirectional",
        )  # fmt: skip
        self.dense = nn.Linear(problem.dense[0].shape[1], 1)
        conv = problem.convolution if self.model == "hybrid" else ()
        layers = [value for layer in problem.recurrent for value in layer]
        values = (problem.embedding, *conv, *layers, *problem.dense)
        with torch.no_grad():
            for parameter, value in zip(self.parameters(), values, strict=True):
                parameter.copy_(torch.from_numpy(value))
        if self.cell != "gru":  # one bias to train, as in Keras
            for name, parameter in self.recurrent.named_parameters():
                parameter.requires_grad_(not name.startswith("bias_hh"))

    def forward(self, ids: Any) -> Any:
        x = self.embedding(ids)
        if self.conv is not None:
            x = nn.functional.max_pool1d(torch.relu(self.conv(x.transpose(1, 2))), POOL).transpose(1, 2)
        state = self.recurrent(x)[1]
        h_n = state[0] if self.cell == "lstm" else state
        last = torch.cat([h_n[0], h_n[1]], dim=1) if self.model == "bidirectional" else h_n[-1]
        return self.dense(last)


def epoch(problem: Epoch) -> Iterator[Call]:
    network = Network(problem)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, epochs.RATE, (epochs.BETA1, epochs.BETA2), epochs.EPSILON)
    criterion = nn.BCEWithLogitsLoss()

    updates = 0

    def step(x: Array, y: Array) -> float:
        nonlocal updates
        updates += 1
        # PyTorch adds epsilon after the correction of the bias, Keras before: this makes them the same formula
        optimizer.param_groups[0]["eps"] = epochs.EPSILON / (1 - epochs.BETA2**updates) ** 0.5
        optimizer.zero_grad()
        loss = criterion(network(torch.from_numpy(x)), torch.from_numpy(y))
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    yield steps(problem, step)
