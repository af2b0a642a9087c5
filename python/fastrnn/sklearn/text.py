"""TextClassifier: raw texts, a vocabulary, one of the zoo's models."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import layers, zoo
from ..datasets.text import TextEncoder, rank_words
from ..layers.base import Array
from ..models import Sequential
from ..training import checks
from .training import TrainedClassifier


class TextClassifier(TrainedClassifier):
    """Classifies raw texts: words by frequency, an embedding, and one of the models of `fastrnn.zoo`.

    Parameters
    ----------
    model : {"basic", "stacked", "bidirectional", "hybrid", "attention"}, default="basic"
        One recurrent layer; two; one in each direction; a convolution before it; a learned mean over its outputs.
    cell : {"rnn", "lstm", "gru"}, default="lstm"
    max_words : int, default=20000
        Size of the vocabulary: padding, start, unknown, and the most frequent words.
    max_length : int, default=400
        Words of a text that are read, its last ones, with the start mark.
    embedding_dim : int, default=64
    units : int, default=64
        Width of the recurrent layers.
    dropout : float in [0, 1), default=0.2
        On the embedding (whole channels) and before the last layer.
    epochs : int, default=10
    batch_size : int or "auto", default=32
        "auto" is min(32, n_samples).
    learning_rate : float, default=0.002
        Of an optimizer given by name.
    optimizer : str or fastrnn.optimizers.Optimizer, default="adam"
        An Optimizer object brings its own rate; it is copied, never changed.
    early_stopping : bool, default=False
        Keep `validation_fraction` of the texts apart, stop when their loss has not improved for `patience` epochs, and
        take the weights of the best epoch.
    validation_fraction : float in (0, 1), default=0.1
    patience : int, default=3
    class_weight : dict, "balanced" or None, default=None
    random_state : int, RandomState or None, default=None
    verbose : int, default=0
        As in `Sequential.fit`.

    X is a list, array or pandas Series of str. Texts are split as `fastrnn.datasets.text.tokenise` does it: lower case,
    at blanks and punctuation. A text without a known word is classified by its unknown ones.

    Attributes
    ----------
    model_ : fastrnn.models.Sequential
    encoder_ : fastrnn.datasets.text.TextEncoder
        From texts to the ids that `model_` takes.
    vocabulary_ : dict of str to int
        The id of each word.
    classes_ : ndarray of shape (n_classes,)
    n_iter_ : int
        Epochs run.
    history_ : dict of lists
        "loss", and with early stopping "val_loss", per epoch.
    """

    def __init__(
        self,
        model: str = "basic",
        cell: str = "lstm",
        max_words: int = 20_000,
        max_length: int = 400,
        embedding_dim: int = 64,
        units: int = 64,
        dropout: float = 0.2,
        epochs: int = 10,
        batch_size: int | str = 32,
        learning_rate: float = 0.002,
        optimizer: Any = "adam",
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 3,
        class_weight: Any = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.model = model
        self.cell = cell
        self.max_words = max_words
        self.max_length = max_length
        self.embedding_dim = embedding_dim
        self.units = units
        self.dropout = dropout
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.optimizer = optimizer
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.class_weight = class_weight
        self.random_state = random_state
        self.verbose = verbose

    @property
    def vocabulary_(self) -> dict[str, int]:
        shift = TextEncoder.INDEX_FROM
        return {word: rank + shift for word, rank in self.encoder_.vocabulary.word_index.items()}

    def _read(self, X: Any, *, fitting: bool) -> Array:
        texts = _texts(X)
        if fitting:
            op = type(self).__name__
            size = checks.integer(op, "max_words", self.max_words, TextEncoder.INDEX_FROM + 2)
            longest = checks.integer(op, "max_length", self.max_length, 1)
            words, ranks, _ = rank_words((text.encode("utf-8", "replace") for text in texts), ())
            if not words:
                raise ValueError(f"[{op}] X: expected texts with words, got none in {len(texts)} texts")
            self.encoder_ = TextEncoder(words, size, min(longest, int(ranks.lengths.max()) + 1))
        return self.encoder_.encode(texts)

    def _build(self, X: Array, outputs: int, activation: str) -> Sequential:
        network = zoo.build(
            self.model, self.cell, vocabulary=self.encoder_.num_words, maxlen=self.encoder_.maxlen,
            embedding=self.embedding_dim, units=self.units, dropout=self.dropout,
        )  # fmt: skip
        network.pop()
        network.add(layers.Dense(outputs, activation=activation, name="dense"))
        return network

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        return tags


def _texts(X: Any) -> list[str]:
    """The texts of a list, array or Series."""
    op = "TextClassifier"
    if isinstance(X, (str, bytes)) or not hasattr(X, "__len__") or not hasattr(X, "__iter__"):
        raise TypeError(f"[{op}] X: expected a list, array or Series of texts, got {type(X).__name__}")
    if getattr(X, "ndim", 1) != 1:
        raise ValueError(f"[{op}] X: expected one axis of texts (n_samples,), got shape {X.shape}")
    texts = [str(text) if isinstance(text, np.str_) else text for text in X]
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"[{op}] X[{i}]: expected a str, got {type(text).__name__} {text!r}")
    if not texts:
        raise ValueError(f"[{op}] X: expected at least one text, got none")
    return texts
