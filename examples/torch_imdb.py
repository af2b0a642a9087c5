"""Sentiment of the IMDb reviews with a bidirectional LSTM, in plain PyTorch: `python examples/torch_imdb.py`.

`--accelerate` adds one line, fastrnn.torch.accelerate(model); nothing else changes. The data come from
fastrnn.datasets (set FASTRNN_DATA where the corpus cannot be downloaded). `--lengths` packs the reviews by their
lengths instead of running over the padding.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from fastrnn import datasets

VOCABULARY, MAXLEN, BATCH = 10_000, 500, 128


class Classifier(nn.Module):
    def __init__(self, packed: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 32)
        self.lstm = nn.LSTM(32, 32, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(64, 1)
        self.packed = packed

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embedding(ids)
        if self.packed:
            lengths = (ids != 0).sum(1).clamp(min=1)
            x = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        output, _ = self.lstm(x)
        if self.packed:
            output, _ = pad_packed_sequence(output, batch_first=True)
        return self.linear(output.amax(dim=1)).squeeze(1)


def load(packed: bool) -> list[torch.utils.data.TensorDataset]:
    parts = datasets.imdb.load_data(num_words=VOCABULARY)
    padding = "post" if packed else "pre"
    arrays = [(datasets.batching.pad_sequences(x, maxlen=MAXLEN, padding=padding), y) for x, y in parts]
    return [torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y).float()) for x, y in arrays]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accelerate", action="store_true", help="run the LSTM on fastrnn's kernels")
    parser.add_argument("--lengths", action="store_true", help="pack the reviews by their lengths")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batches", type=int, help="stop an epoch after so many batches, for timing; no test then")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    torch.manual_seed(arguments.seed)
    train, test = load(arguments.lengths)
    model = Classifier(arguments.lengths)
    if arguments.accelerate:
        import fastrnn.torch

        fastrnn.torch.accelerate(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    criterion = nn.BCEWithLogitsLoss()

    loader = torch.utils.data.DataLoader(train, BATCH, shuffle=True)
    for epoch in range(arguments.epochs):
        model.train()
        total, count, start = 0.0, 0, time.perf_counter()
        for ids, labels in loader:
            optimizer.zero_grad()
            loss = criterion(model(ids), labels)
            loss.backward()
            optimizer.step()
            total, count = total + loss.item(), count + 1
            if count == arguments.batches:
                break
        seconds = time.perf_counter() - start
        line = f"epoch {epoch + 1}: loss {total / count:.4f}, {seconds:.1f} s for {count} batches of {len(loader)}"
        if count < len(loader):
            print(f"{line}, {seconds / count * len(loader):.1f} s per epoch", flush=True)
            continue
        model.eval()
        with torch.no_grad():
            batches = torch.utils.data.DataLoader(test, BATCH)
            right = sum(int(((model(ids) > 0) == (labels > 0.5)).sum()) for ids, labels in batches)
        print(f"{line}, test accuracy {right / len(test):.4f}", flush=True)


if __name__ == "__main__":
    main()
