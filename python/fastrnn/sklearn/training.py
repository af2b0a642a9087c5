"""What the estimators share: their training (weights, validation, seeds), and labels in and out for the classifiers."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin  # type: ignore[import-untyped]
from sklearn.model_selection import train_test_split  # type: ignore[import-untyped]
from sklearn.utils import check_random_state, compute_sample_weight  # type: ignore[import-untyped]
from sklearn.utils.multiclass import check_classification_targets  # type: ignore[import-untyped]
from sklearn.utils.validation import (  # type: ignore[import-untyped]
    _check_sample_weight,
    check_is_fitted,
    check_X_y,
)

from .. import initializers, optimizers
from ..layers.base import Array
from ..models import Sequential
from ..training import checks
from ..training.callbacks import EarlyStopping
from ..training.optimizer import Optimizer

_PREDICTION_BATCH = 256  # larger ones gain nothing, and take memory


class Trained(BaseEstimator):  # type: ignore[misc]
    """Trains a Sequential on checked arrays. Subclasses have the parameters used here, and build the model."""

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def _check_y(self, X: Any, y: Any, **options: Any) -> Array:
        """scikit-learn's checks of y, and that it has as many rows as X."""
        stand_in = np.zeros((len(X), 1))
        checked: Array = check_X_y(stand_in, y, estimator=self, **options)[1]
        return checked

    def _weights(self, X: Any, sample_weight: Any) -> Array | None:
        """Sample weights as float64, or None."""
        if sample_weight is None:
            return None
        weight: Array = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if not weight.any():
            raise ValueError("Sample weights must contain at least one non-zero number.")
        return weight

    def _train(self, model: Any, X: Array, y: Array, weight: Array | None, loss: str, strata: Array | None) -> None:
        """Fit the model that `model()` returns. `strata` keeps classes in proportion in the validation set.

        Sets `model_`, `n_iter_` and `history_`. Everything random follows from `random_state`, whatever other threads
        do.
        """
        op = type(self).__name__
        early = checks.boolean(op, "early_stopping", self.early_stopping)
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        options: dict[str, Any] = {}
        parts = [X, y] if weight is None else [X, y, weight]
        if early:
            fraction = checks.number(op, "validation_fraction", self.validation_fraction, "positive")
            if fraction >= 1 or fraction * len(X) > len(X) - 1:
                expected = "a fraction that leaves samples for training"
                raise ValueError(f"[{op}] validation_fraction: expected {expected}, got {fraction} of {len(X)}")
            if strata is not None:
                counts = np.bincount(strata)
                counts = counts[counts > 0]
                if counts.min() < 2 or min(fraction, 1 - fraction) * len(X) < len(counts):
                    strata = None  # too few samples to have every class on both sides
            halves = train_test_split(*parts, test_size=fraction, random_state=seed, stratify=strata)
            parts = halves[::2]
            options["validation_data"] = tuple(halves[1::2])
            options["callbacks"] = [EarlyStopping(patience=self.patience, restore_best_weights=True)]
        if len(parts) == 3:
            # of mean 1, so that a weight of 0 is the same as no sample, and 2 the same as the sample twice
            parts[2] = parts[2] / parts[2].mean()
            options["sample_weight"] = parts[2]
        size = min(32, len(parts[0])) if self.batch_size == "auto" else self.batch_size
        epochs = checks.integer(op, "epochs", self.epochs, 1)
        with initializers.own_generator(seed):
            trained = model()
            trained.compile(optimizer=self._optimizer(), loss=loss)
            history = trained.fit(
                parts[0], parts[1], batch_size=size, epochs=epochs, verbose=self.verbose, **options
            )  # fmt: skip
            # without optimizer, gradients and history: what is kept (and pickled) is the model alone
            self.model_ = Sequential.from_config(trained.get_config())
            self.model_.set_weights(trained.get_weights())
        self.history_ = history.history
        self.n_iter_ = len(history.epoch)

    def _optimizer(self) -> Optimizer:
        if isinstance(self.optimizer, Optimizer):  # a parameter stays as it was given
            return type(self.optimizer).from_config(self.optimizer.get_config())
        given: Optimizer = optimizers.get(self.optimizer)
        given.learning_rate = checks.number(type(self).__name__, "learning_rate", self.learning_rate, "positive")
        return given

    def _outputs(self, X: Array, *, last_bias: bool = True) -> Array:
        """The model's outputs, with or without the bias of its last layer. The layers keep their last mask, so each
        call runs copies of them: threads may share the estimator."""
        model = copy.copy(self.model_)
        model.layers = [copy.copy(layer) for layer in model.layers]
        if not last_bias:
            last: Any = model.layers[-1]
            last.bias = None
        outputs: Array = model.predict(X, batch_size=_PREDICTION_BATCH, verbose=0)
        return outputs


class TrainedClassifier(ClassifierMixin, Trained):  # type: ignore[misc]
    """Labels of any kind to class indices and back. Subclasses read X in `_read(X, fitting=)`."""

    def _read(self, X: Any, *, fitting: bool) -> Array:
        raise NotImplementedError

    def _build(self, X: Array, outputs: int, activation: str) -> Sequential:
        raise NotImplementedError

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train on X with labels y (n_samples,); sample_weight (n_samples,) weighs each sample's loss. Returns self."""
        op = type(self).__name__
        array = self._read(X, fitting=True)
        y = self._check_y(array, y)
        check_classification_targets(y)
        weight = self._weights(array, sample_weight)
        if self.class_weight is not None:
            balance = compute_sample_weight(self.class_weight, y)
            if not np.all(np.isfinite(balance) & (balance >= 0)):
                raise ValueError(f"[{op}] class_weight: expected finite numbers >= 0, got {self.class_weight!r}")
            weight = balance if weight is None else weight * balance
        classes, index = np.unique(y, return_inverse=True)
        if weight is not None:
            keep = weight > 0
            array, index, weight = array[keep], index[keep], weight[keep]
        present = len(np.unique(index))
        if present < 2:
            raise ValueError(
                f"[{op}] y: expected samples of at least 2 classes with a weight above 0, got {present} class"
            )
        binary = len(classes) == 2
        outputs, activation = (1, "sigmoid") if binary else (len(classes), "softmax")
        loss = "binary_crossentropy" if binary else "sparse_categorical_crossentropy"
        self._train(lambda: self._build(array, outputs, activation), array, index, weight, loss, index)
        self.classes_ = classes  # after training: a fit that fails leaves those of the model that is there
        return self

    def predict_proba(self, X: Any) -> Array:
        """Probabilities (n_samples, n_classes) in the order of `classes_`, of the network's dtype."""
        check_is_fitted(self)
        p = self._outputs(self._read(X, fitting=False))
        return np.hstack([1 - p, p]) if len(self.classes_) == 2 else p

    def predict_log_proba(self, X: Any) -> Array:
        """Their logarithms; that of 0 is -inf."""
        p = self.predict_proba(X)
        with np.errstate(divide="ignore"):
            logarithms: Array = np.log(p)
        return logarithms

    def predict(self, X: Any) -> Array:
        """The most probable label of each sample, (n_samples,)."""
        index = self.predict_proba(X).argmax(axis=1)
        labels: Array = self.classes_[index]
        return labels
