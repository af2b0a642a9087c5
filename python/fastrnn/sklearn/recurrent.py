"""RNNClassifier and RNNRegressor: recurrent layers and one dense layer on their last output."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import RegressorMixin  # type: ignore[import-untyped]
from sklearn.utils.validation import check_is_fitted  # type: ignore[import-untyped]

from .. import layers
from ..layers.base import Array, Layer
from ..models import Sequential
from ..training import checks
from . import sequences
from .training import Trained, TrainedClassifier

_CELLS = {"rnn": layers.SimpleRNN, "lstm": layers.LSTM, "gru": layers.GRU}

_PARAMETERS = """

    Parameters
    ----------
    cell : {{"rnn", "lstm", "gru"}}, default="gru"
    units : int, default=32
        Width of each recurrent layer (of each direction, if bidirectional).
    num_layers : int, default=1
        Recurrent layers on top of each other.
    bidirectional : bool, default=False
        Read the sequences in both directions and join the outputs.
    dropout : float in [0, 1), default=0.0
        On the output of each recurrent layer.
    recurrent_dropout : float in [0, 1), default=0.0
        On the state inside the recurrent layers.
    epochs : int, default=50
    batch_size : int or "auto", default="auto"
        "auto" is min(32, n_samples).
    learning_rate : float, default=0.01
        Of an optimizer given by name.
    optimizer : str or fastrnn.optimizers.Optimizer, default="adam"
        An Optimizer object brings its own rate; it is copied, never changed.
{loss}    early_stopping : bool, default=False
        Keep `validation_fraction` of the samples apart, stop when their loss has not improved for `patience` epochs,
        and take the weights of the best epoch.
    validation_fraction : float in (0, 1), default=0.1
    patience : int, default=5
    step_features : int, default=1
        Features of a step in 2-D input.
    dtype : {{"auto", "float32", "float64"}}, default="auto"
        Precision of the network. "auto" is that of X in `fit`: float32 for a float32 array, float64 for anything else.
        float32 takes half the memory, and twice as many of its numbers fit a vector.
{weight}    random_state : int, RandomState or None, default=None
        Initial weights, order of the samples, dropout, validation split.
    verbose : int, default=0
        As in `Sequential.fit`.

    X is an array (n_samples, T, I) of T steps with I features; or a table (n_samples, T * step_features), whose columns
    are the steps one after the other (T steps of one number, unless step_features says otherwise); or a list (or object
    array) of sequences of unequal length, (T_i, I) or (T_i,) each. Where lengths differ, a sequence ends where its own
    steps end: padding is neither computed nor seen.

    Attributes
    ----------
    model_ : fastrnn.models.Sequential
        The trained network: Masking, recurrent layers, Dense. `model_.save("m.safetensors")` writes it.
{attributes}    n_features_in_ : int
        Columns of the table, or I.
    feature_names_in_ : ndarray of str
        Only if X was a DataFrame with such column names.
    n_iter_ : int
        Epochs run.
    history_ : dict of lists
        "loss", and with early stopping "val_loss", per epoch.
"""


class _Recurrent(Trained):
    """The network and the reading of X, the same for both."""

    def _read(self, X: Any, *, fitting: bool) -> Array:
        return sequences.read(self, X, fitting=fitting)

    def _build(self, X: Array, outputs: int, activation: str | None) -> Sequential:
        op = type(self).__name__
        if self.cell not in _CELLS:
            raise ValueError(f"[{op}] cell: expected one of {', '.join(_CELLS)}, got {self.cell!r}")
        count = checks.integer(op, "num_layers", self.num_layers, 1)
        dtype = X.dtype
        both = checks.boolean(op, "bidirectional", self.bidirectional)
        stack: list[Layer] = [layers.Masking(sequences.PADDING, name="masking", dtype=dtype)]
        for i in range(1, count + 1):
            recurrent: Layer = _CELLS[self.cell](
                self.units, return_sequences=i < count, recurrent_dropout=self.recurrent_dropout, dtype=dtype,
                name=f"{self.cell}_{i}",
            )  # fmt: skip
            stack.append(layers.Bidirectional(recurrent, name=f"bidirectional_{i}") if both else recurrent)
            if self.dropout:
                stack.append(layers.Dropout(self.dropout, name=f"dropout_{i}", dtype=dtype))
        stack.append(layers.Dense(outputs, activation=activation, name="dense", dtype=dtype))
        model = Sequential(stack, name=op)
        model.build((None, None, X.shape[2]))
        return model

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


class RNNClassifier(_Recurrent, TrainedClassifier):
    __doc__ = "Classifies sequences: recurrent layers, then one dense layer on the last output." + _PARAMETERS.format(
        loss="",
        weight="""    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, as elsewhere in scikit-learn.
""",
        attributes="    classes_ : ndarray of shape (n_classes,)\n",
    )

    def __init__(
        self,
        cell: str = "gru",
        units: int = 32,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        epochs: int = 50,
        batch_size: int | str = "auto",
        learning_rate: float = 0.01,
        optimizer: Any = "adam",
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 5,
        step_features: int = 1,
        dtype: str = "auto",
        class_weight: Any = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.cell = cell
        self.units = units
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.dropout = dropout
        self.recurrent_dropout = recurrent_dropout
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.optimizer = optimizer
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.step_features = step_features
        self.dtype = dtype
        self.class_weight = class_weight
        self.random_state = random_state
        self.verbose = verbose


class RNNRegressor(RegressorMixin, _Recurrent):  # type: ignore[misc]
    __doc__ = "Numbers from sequences: recurrent layers, then one dense layer on the last output." + _PARAMETERS.format(
        loss="""    loss : str, default="mse"
        A loss of `fastrnn.losses`: "mse", "mae", "huber", ... It sees the targets brought to mean 0 and deviation 1;
        `model_` and `predict` give them in their own units.
""",
        weight="",
        attributes="",
    )

    def __init__(
        self,
        cell: str = "gru",
        units: int = 32,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        epochs: int = 50,
        batch_size: int | str = "auto",
        learning_rate: float = 0.01,
        optimizer: Any = "adam",
        loss: str = "mse",
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 5,
        step_features: int = 1,
        dtype: str = "auto",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.cell = cell
        self.units = units
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.dropout = dropout
        self.recurrent_dropout = recurrent_dropout
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.optimizer = optimizer
        self.loss = loss
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.step_features = step_features
        self.dtype = dtype
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> RNNRegressor:
        """Train on X with targets y, (n_samples,) or (n_samples, n_outputs); sample_weight (n_samples,) weighs each
        sample's loss. Returns self."""
        array = self._read(X, fitting=True)
        y = self._check_y(array, y, multi_output=True, y_numeric=True).astype(np.float64)
        weight = self._weights(array, sample_weight)
        if weight is not None:
            keep = weight > 0
            array, y, weight = array[keep], y[keep], weight[keep]
        self._flat = y.ndim == 1
        y = y.reshape(len(y), -1)
        mean = np.average(y, axis=0, weights=weight)
        scale = np.sqrt(np.average((y - mean) ** 2, axis=0, weights=weight))
        scale[scale == 0] = 1.0
        y = (y - mean) / scale
        self._train(lambda: self._build(array, y.shape[1], None), array, y, weight, self.loss, None)
        kernel, bias = self.model_.layers[-1].weights
        # float64, which the model may not be: targets far from 0 (times, say) differ in digits that float32 has not
        offset = bias.value.astype(np.float64) * scale + mean
        with np.errstate(over="ignore"):
            folded = (kernel.value * scale).astype(kernel.value.dtype), offset.astype(bias.value.dtype)
        if not all(np.isfinite(value).all() for value in folded):
            raise ValueError(f"[RNNRegressor] y: expected numbers that {bias.value.dtype} can hold, got larger ones")
        kernel.assign(folded[0])
        bias.assign(folded[1])
        self._offset = offset
        return self

    def predict(self, X: Any) -> Array:
        """The targets of each sample, of the shape of y, float64."""
        check_is_fitted(self)
        y = self._outputs(self._read(X, fitting=False), last_bias=False).astype(np.float64) + self._offset
        return y[:, 0] if self._flat else y

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
