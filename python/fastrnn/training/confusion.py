"""Metrics made of counts of true and false positives and negatives: precision, recall, F1, AUC."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import checks
from .loss import EPSILON, Array, as_float, match, position_weights
from .metric import Metric


def _pairs(metric: Metric, y_true: Any, y_pred: Any, sample_weight: Any) -> tuple[Array, Array, Array | None]:
    """Targets and outputs of the same shape (..., C), and weights (..., 1) or None."""
    y_pred = as_float(y_pred)
    y_true = match(f"[{metric.name}] y_true", np.asarray(y_true), y_pred.shape)
    weights = position_weights(y_pred.shape[:-1], np.float64, sample_weight, None)
    return y_true, y_pred, None if weights is None else weights[..., None]


def _total(where: Array, weights: Array | None) -> float:
    return float(np.count_nonzero(where)) if weights is None else float((where * weights).sum())


class _Counts(Metric):
    """Counts at one or more thresholds (0.5 by default), of all outputs or those of one `class_id`."""

    _own = ("thresholds", "class_id")

    def __init__(
        self,
        thresholds: Any = None,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
        top_k: None = None,
    ) -> None:
        op = type(self).__name__
        if top_k is not None:
            raise ValueError(f"[{op}] top_k: expected None, got {top_k!r}")
        self.thresholds = thresholds
        given = [0.5] if thresholds is None else thresholds if isinstance(thresholds, (list, tuple)) else [thresholds]
        self._thresholds = [checks.number(op, "thresholds", t, "unit") for t in given]
        self.class_id = None if class_id is None else checks.integer(op, "class_id", class_id, 0)
        super().__init__(name, dtype)
        self.reset_state()

    def reset_state(self) -> None:
        # rows: true positives, false positives, false negatives, true negatives
        self.counts: Array = np.zeros((4, len(self._thresholds)))

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        y, p, w = _pairs(self, y_true, y_pred, sample_weight)
        if self.class_id is not None:
            y, p = y[..., self.class_id, None], p[..., self.class_id, None]
        positive = y > 0.5
        for k, threshold in enumerate(self._thresholds):
            chosen = p > threshold
            self.counts[:, k] += (
                _total(positive & chosen, w),
                _total(~positive & chosen, w),
                _total(positive & ~chosen, w),
                _total(~positive & ~chosen, w),
            )

    def _figure(self) -> Array:
        raise NotImplementedError

    def result(self) -> Any:
        figure = self._figure()
        return figure if isinstance(self.thresholds, (list, tuple)) else float(figure[0])


def _ratio(a: Array, b: Array) -> Array:
    """a / b, and 0 where b is 0."""
    return np.divide(a, b, out=np.zeros_like(a), where=b != 0)


class Precision(_Counts):
    """Of the outputs above the threshold, how many are right."""

    def _figure(self) -> Array:
        return _ratio(self.counts[0], self.counts[0] + self.counts[1])


class Recall(_Counts):
    """Of the positive targets, how many are found."""

    def _figure(self) -> Array:
        return _ratio(self.counts[0], self.counts[0] + self.counts[2])


class TruePositives(_Counts):
    """The number of positive targets whose output is above the threshold."""

    def _figure(self) -> Array:
        return np.asarray(self.counts[0])


class FalsePositives(_Counts):
    """The number of negative targets whose output is above the threshold."""

    def _figure(self) -> Array:
        return np.asarray(self.counts[1])


class FalseNegatives(_Counts):
    """The number of positive targets whose output is not above the threshold."""

    def _figure(self) -> Array:
        return np.asarray(self.counts[2])


class TrueNegatives(_Counts):
    """The number of negative targets whose output is not above the threshold."""

    def _figure(self) -> Array:
        return np.asarray(self.counts[3])


class F1Score(Metric):
    """2·precision·recall / (precision + recall); `average` None (each class), "micro", "macro" or "weighted".

    Without `threshold` the largest output is the answer; with a single output it is 0.5 (Keras's F1Score would take
    every sample for positive there).
    """

    _own = ("average", "threshold")

    def __init__(
        self, average: str | None = None, threshold: float | None = None, name: str | None = None, dtype: Any = None
    ) -> None:
        if average not in (None, "micro", "macro", "weighted"):
            raise ValueError(f"[F1Score] average: expected None, 'micro', 'macro' or 'weighted', got {average!r}")
        self.average = average
        self.threshold = None if threshold is None else checks.number("F1Score", "threshold", threshold)
        super().__init__(name, dtype)
        self.reset_state()

    def reset_state(self) -> None:
        self.counts: Array | None = None  # (3, C): true positives, false positives, false negatives

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        p, y = as_float(y_pred), np.asarray(y_true)
        classes = p.shape[-1]
        if classes > 1 and y.dtype.kind in "iu" and y.shape in (p.shape[:-1], (*p.shape[:-1], 1)):
            y = np.eye(classes)[y.reshape(p.shape[:-1])]
        y, p, w = _pairs(self, y, p, sample_weight)
        if self.threshold is None and classes > 1:
            chosen = np.arange(classes) == p.argmax(-1)[..., None]
        else:
            chosen = p > (0.5 if self.threshold is None else self.threshold)
        positive = y > 0.5
        weights = np.ones((*p.shape[:-1], 1)) if w is None else w
        axes = tuple(range(p.ndim - 1))
        counts = np.stack(
            [(where * weights).sum(axes) for where in (positive & chosen, ~positive & chosen, positive & ~chosen)]
        )
        self.counts = counts if self.counts is None else self.counts + counts

    def result(self) -> Any:
        if self.counts is None:
            return 0.0
        tp, fp, fn = self.counts.sum(axis=1, keepdims=True) if self.average == "micro" else self.counts
        scores = _ratio(2 * tp, 2 * tp + fp + fn)
        if self.average == "weighted":
            return float(_ratio((scores * (tp + fn)).sum(keepdims=True), (tp + fn).sum(keepdims=True))[0])
        if self.average is None and scores.size > 1:
            return scores
        return float(scores.mean())


class AUC(Metric):
    """Area under the ROC (or PR) curve from counts at `num_thresholds` even thresholds, as Keras computes it."""

    _own = ("num_thresholds", "curve", "from_logits")

    def __init__(
        self,
        num_thresholds: int = 200,
        curve: str = "ROC",
        summation_method: str = "interpolation",
        name: str | None = None,
        dtype: Any = None,
        from_logits: bool = False,
    ) -> None:
        self.num_thresholds = checks.integer("AUC", "num_thresholds", num_thresholds, 3)
        if curve not in ("ROC", "PR"):
            raise ValueError(f"[AUC] curve: expected 'ROC' or 'PR', got {curve!r}")
        if summation_method != "interpolation":
            raise ValueError(f"[AUC] summation_method: expected 'interpolation', got {summation_method!r}")
        self.curve = curve
        self.from_logits = bool(from_logits)
        super().__init__(name, dtype)
        self.reset_state()

    def reset_state(self) -> None:
        # per bucket between thresholds; rows: positive and negative targets
        self.buckets = np.zeros((2, self.num_thresholds))

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        y, p, w = _pairs(self, y_true, y_pred, sample_weight)
        if self.from_logits:
            p = 0.5 * (1.0 + np.tanh(0.5 * p))
        if p.size and not (p.min() >= 0.0 and p.max() <= 1.0):
            raise ValueError(f"[{self.name}] y_pred: expected probabilities from 0 to 1, got {p.min()} to {p.max()}")
        # how many thresholds lie below the output; the first lies below 0 and the last above 1
        index = np.clip(np.ceil(p * (self.num_thresholds - 1)).astype(np.int64), 1, self.num_thresholds - 1)
        weights = None if w is None else np.broadcast_to(w, p.shape)
        positive = y > 0.5
        for row, chosen in enumerate((positive, ~positive)):
            part = None if weights is None else weights[chosen]
            self.buckets[row] += np.bincount(index[chosen], part, minlength=self.num_thresholds)

    def result(self) -> float:
        above = self.buckets[:, ::-1].cumsum(axis=1)[:, ::-1]
        # counts above threshold k are those of buckets k + 1 and up; nothing is above the last
        tp, fp = np.concatenate([above[:, 1:], np.zeros((2, 1))], axis=1)
        positives, negatives = self.buckets.sum(axis=1)
        if self.curve == "ROC":
            tpr, fpr = tp / max(positives, EPSILON), fp / max(negatives, EPSILON)
            return float(((fpr[:-1] - fpr[1:]) * (tpr[:-1] + tpr[1:])).sum() / 2)
        # Davis & Goadrich 2006: true positives are interpolated, not precision
        chosen = tp + fp
        d_tp, d_chosen = tp[:-1] - tp[1:], chosen[:-1] - chosen[1:]
        slope = _ratio(d_tp, d_chosen)
        intercept = tp[1:] - slope * chosen[1:]
        both = (chosen[:-1] > 0) & (chosen[1:] > 0)
        ratio = np.divide(chosen[:-1], chosen[1:], out=np.ones_like(slope), where=both)
        return float((slope * (d_tp + intercept * np.log(ratio))).sum() / max(positives, EPSILON))
